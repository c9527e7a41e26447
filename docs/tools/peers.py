"""Compare the speed with SMAClite's and CleanMARL's, side by side on this machine.

    git clone https://github.com/uoe-agents/smaclite
    git clone https://github.com/AmineAndam04/cleanmarl peer
    pip install pygame scikit-learn Rtree
    python docs/tools/peers.py --smaclite smaclite --cleanmarl peer

Each project plays random battles, then trains with its `qmix.py` and default arguments. The
programs take turns. A turn lasts `--seconds`; the steps of its second half count. Printed are
medians over the turns, and how many times as fast this project is.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

HERE = Path(__file__).resolve().parents[2]


@dataclass
class Args:
    smaclite: Path
    """a checkout of SMAClite"""
    cleanmarl: Path
    """a checkout of CleanMARL"""
    maps: tuple[str, ...] = ("2s3z", "MMM", "corridor")
    """maps that both have"""
    seconds: float = 30
    """length of a turn"""
    turns: int = 3
    """turns of each program"""


# Runs in each project: a program whose steps of the environment are counted
COUNTED = """
import importlib, os, runpy, sys, time
module, name, seconds, program, *arguments = sys.argv[1:]
env = getattr(importlib.import_module(module), name)
step, times = env.step, []

def counted(self, actions):
    times.append(time.perf_counter())
    if len(times) == 1:
        return step(self, actions)  # it may compile
    began, now = times[1], times[-1]
    if now - began > float(seconds):
        middle = (began + now) / 2
        print(sum(t > middle for t in times) / (now - middle), flush=True)
        os._exit(0)
    return step(self, actions)

env.step = counted
sys.argv = [program, *arguments]
sys.path[0] = os.path.dirname(program)
runpy.run_path(program, run_name="__main__")
"""

PLAY = """
import sys
import numpy as np
{make}
rng = np.random.default_rng(0)
while True:
    seen, _ = env.reset()
    over = False
    while not over:
        available = np.array({available})
        actions = (rng.random(available.shape) * available).argmax(-1)
        seen, _, terminated, truncated, _ = env.step({actions})
        over = terminated or truncated
"""
OURS = PLAY.format(
    make="from cleanmarl.battle import BattleEnv\nenv = BattleEnv(sys.argv[1])",
    available="seen['avail_actions']",
    actions="actions",
)
THEIRS = PLAY.format(
    make="import gymnasium, smaclite\nenv = gymnasium.make(f'smaclite/{sys.argv[1]}-v0').unwrapped",
    available="env.get_avail_actions()",
    actions="actions.tolist()",
)


def rate(paths: list[Path], counted: tuple[str, str], seconds: float, *program: str) -> float:
    """Steps a second of a program whose modules are found in `paths`."""
    known = {"PYTHONPATH": os.pathsep.join([*map(str, paths), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-c", COUNTED, *counted, str(seconds), *program]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("ours.py", OURS), ("theirs.py", THEIRS)):
            Path(folder, name).write_text(text)
        words = [word.replace("FOLDER", folder) for word in words]
        done = subprocess.run(
            words, cwd=folder, env=os.environ | known, capture_output=True, text=True
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main(args: Args):
    smaclite, cleanmarl = args.smaclite.resolve(), args.cleanmarl.resolve()
    here = ([HERE], ("cleanmarl.battle", "BattleEnv"))
    there = ([smaclite], ("smaclite.env.smaclite", "SMACliteEnv"))
    print("| | map | this project | the other | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for what, ours, theirs in (
        ("battles, SMAClite", "FOLDER/ours.py {}", "FOLDER/theirs.py {}"),
        (
            "training, CleanMARL",
            f"{HERE}/cleanmarl/qmix.py --env-name {{}}",
            f"{cleanmarl}/cleanmarl/qmix.py --env_type smaclite --env_name {{}}",
        ),
    ):
        for name in args.maps:
            rates = [], []
            for _ in range(args.turns):
                program = ours.format(name).split()
                rates[0].append(rate(*here, args.seconds, *program))
                program = theirs.format(name).split()
                rates[1].append(rate(*there, args.seconds, *program))
            mine, other = map(statistics.median, rates)
            print(f"| {what} | {name} | {mine:,.0f} | {other:,.0f} | {mine / other:.0f} |")


if __name__ == "__main__":
    main(tyro.cli(Args))
