"""Kill trainings at random moments, resume them until they end, and compare them with one that nothing disturbed:

    python docs/kill_and_resume.py --kills 20

Every second kill hits while files are written. Exit status 1 if a weight, a state of the optimizer or a metric differs.
"""

import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

TRAINING = "--env-name 3m --total-timesteps 1500 --hidden-dim 8 --hyper-dim 8 --batch-size 4 --buffer-size 12"
TRAINING += " --num-eval-ep 1 --eval-steps 7 --log-every 3 --checkpoint-every 5 --torch-threads 1"


@dataclass
class Args:
    kills: int = 20
    """how often each script is killed"""
    scripts: tuple[str, ...] = ("qmix", "qmix_multienvs")
    """scripts to kill"""
    seed: int = 1
    """the moments are derived from it"""


def train(script: str, folder: Path, arguments: list[str], kind: str = "any", moment: int = 0):
    """Run a script, in a process of its own that dies at event number `moment`, if not 0, of a kind: any or writing.

    An event is a call or a return of one of its functions, or of one in C that it calls.
    """
    module, events = importlib.import_module(f"cleanmarl.{script}"), {"any": 0, "writing": 0}

    def watch(frame, *_):
        if frame.f_code.co_filename == module.__file__:
            events["any"] += 1
            events["writing"] += frame.f_code.co_name in ("save", "write_atomically")
            if moment and events[kind] == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    tqdm.set_lock(threading.RLock())  # its own is one of the system's, which a killed process leaves behind
    sys.argv = [f"{script}.py", *arguments]
    sys.setprofile(watch)
    try:
        module.main()
    finally:
        sys.setprofile(None)
        Path("events.json").write_text(json.dumps(events))


def ends(script: str, folder: Path, *args) -> bool:
    """Whether `train` came to its end, or was killed. Raises RuntimeError where it failed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cleanmarl.qmix_multienvs", "cleanmarl.battle", "torch._dynamo"])  # slow to import
    process = context.Process(target=train, args=(script, folder, *args))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"exit status {process.exitcode}:\n{(folder / 'output.txt').read_text()[-2000:]}")
    return process.exitcode == 0


def leaves(value, name: str = "") -> dict[str, str]:
    value = dict(enumerate(value)) if isinstance(value, list) else value
    if isinstance(value, dict):
        return {path: leaf for key, part in value.items() for path, leaf in leaves(part, f"{name}/{key}").items()}
    return {name: repr(value.tolist() if torch.is_tensor(value) else value)}


def results(run_folder: Path) -> dict[str, str]:
    """What a training has come to, its last checkpoint and its curves, but for what depends on the time it took."""
    saved = torch.load(BytesIO((run_folder / "checkpoint.pt").read_bytes()[32:]), weights_only=True)
    del saved["args"], saved["progress"]["seconds"], saved["progress"]["curves"]
    events = EventAccumulator(str(run_folder), size_guidance={"scalars": 0}).Reload()
    for name in set(events.Tags()["scalars"]) - {"charts/SPS"}:
        saved[name] = tuple(sorted((event.step, event.value) for event in events.Scalars(name)))
    return leaves(saved)


def differences(one: Path, other: Path) -> list[str]:
    """Names of what is not the same, bit for bit, in two run folders."""
    one, other = results(one), results(other)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def check(script: str, kills: int, seed: int, folder: Path) -> list[str]:
    """Kill trainings of a script, `kills` times in all; returns the names of what differs from the undisturbed one."""
    rng, killed, differ, undisturbed = random.Random(seed), 0, set(), folder / f"{script}-undisturbed"
    undisturbed.mkdir()
    ends(script, undisturbed, TRAINING.split())
    events = json.loads((undisturbed / "events.json").read_text())
    while killed < kills:
        disturbed, saved, over = folder / f"{script}-{killed}", [], False
        disturbed.mkdir()
        while not over:
            arguments = ["--resume", str(saved[0].parent)] if saved else TRAINING.split()
            kind = ("any", "writing")[killed % 2]
            moment = rng.randint(1, events[kind] // 2) if killed < kills else 0
            over = ends(script, disturbed, arguments, kind, moment)
            saved = [*disturbed.glob("runs/*/checkpoint.pt"), *disturbed.glob("runs/*/checkpoint.old")]
            if not saved:
                shutil.rmtree(disturbed / "runs", ignore_errors=True)
            if not over:
                killed += 1
                event = f"event {moment} of {events[kind]}{' while writing' if kind == 'writing' else ''}"
                goes_on = f"goes on from {saved[0].name if saved else 'the start'}"
                print(f"{script}: kill {killed} at {event}, {goes_on}", flush=True)
        differ |= set(differences(saved[0].parent, next(undisturbed.glob("runs/*"))))
    return sorted(differ)


def main(args: Args):
    with tempfile.TemporaryDirectory() as folder:
        differ = {script: check(script, args.kills, args.seed, Path(folder)) for script in args.scripts}
    for script, names in differ.items():
        verdict = f"different: {', '.join(names)}" if names else "the same weights and metrics, bit for bit"
        print(f"{script}: {verdict}")
    sys.exit(any(differ.values()))


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
