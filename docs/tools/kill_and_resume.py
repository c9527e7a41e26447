"""Kill trainings at random moments, resume them until they end, compare with undisturbed ones.

    python docs/tools/kill_and_resume.py --kills 75

Every second kill happens while files are written. The exit status is 1 if a weight, a state of the
optimizer, an episode of the replay buffer or a point of a curve differs.
"""

import importlib
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import tyro
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from cleanmarl.training import checkpoint, run
from cleanmarl.training.checkpoint import load_checkpoint

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
TRAINING = "--env-name 3m --total-timesteps 500 --hidden-dim 8 --hyper-dim 8 --batch-size 4"
TRAINING += " --buffer-size 12 --num-eval-ep 1 --eval-steps 7 --log-every 3 --checkpoint-every 5"
TRAINING += " --torch-threads 1"


@dataclass
class Args:
    kills: int = 20
    """kills of each script"""
    scripts: tuple[str, ...] = SCRIPTS
    """scripts to train with"""
    seed: int = 1
    """seed of the random moments"""


def train(script: str, folder: Path, arguments: list[str], kind: str = "any", moment: int = 0):
    """Run a script in a process that dies at event number `moment` of a kind (0: never).

    An event is a call or return of a function of the script, of run.py or of checkpoint.py, or of a
    C function that they call. Kinds: "any", or "writing" for events inside a function that writes.
    """
    module = importlib.import_module(f"cleanmarl.{script}")
    files = {module.__file__, run.__file__, checkpoint.__file__}
    events = {"any": 0, "writing": 0}

    def watch(frame, *_):
        if frame.f_code.co_filename not in files:
            return
        name = frame.f_code.co_name
        events["any"] += 1
        if name == "save" or name.startswith("write_"):
            events["writing"] += 1
        if moment and events[kind] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    # tqdm's own lock belongs to the system, and a killed process would leave it locked
    tqdm.set_lock(threading.RLock())
    sys.argv = [f"{script}.py", *arguments]
    sys.setprofile(watch)
    try:
        module.main()
    finally:
        sys.setprofile(None)
        Path("events.json").write_text(json.dumps(events))


def ends(script: str, folder: Path, *args) -> bool:
    """Whether `train` reached its end (else it was killed). Raises RuntimeError if it failed."""
    context = multiprocessing.get_context("forkserver")
    slow_to_import = [f"cleanmarl.{script}" for script in SCRIPTS]
    context.set_forkserver_preload([*slow_to_import, "cleanmarl.battle", "torch._dynamo"])
    process = context.Process(target=train, args=(script, folder, *args))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        output = (folder / "output.txt").read_text()[-2000:]
        raise RuntimeError(f"exit status {process.exitcode}:\n{output}")
    return process.exitcode == 0


def leaves(value, name: str = "") -> dict[str, str]:
    """path -> value of all leaves in a structure of dicts and lists."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        found = {}
        for key, part in value.items():
            found |= leaves(part, f"{name}/{key}")
        return found
    if isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value)
        value = (array.dtype, array.shape, sha256(array.tobytes()).hexdigest())
    return {name: repr(value)}


def results(folder: Path, script: str) -> dict[str, str]:
    """The results of a training: its last checkpoint, its replay buffer, and its curves.

    Values that depend on the training time are left out.
    """
    saved = load_checkpoint(folder, script, with_episodes=True)
    found = {name: saved[name] for name in ("networks", "optimizer", "progress")}
    found["episodes"] = saved["episodes"][-saved["args"]["buffer_size"] :]
    found["best_score"] = saved["run"]["best_score"]
    found["collector"] = saved.get("collector")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # hide a message at each resume
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    for name in set(events.Tags()["scalars"]) - {"charts/SPS"}:
        found[name] = [f"{event.step}: {event.value}" for event in events.Scalars(name)]
    return leaves(found)


def differences(one: Path, other: Path, script: str) -> list[str]:
    """Names of the results that are not equal, bit for bit, in two run folders."""
    one = results(one, script)
    other = results(other, script)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def last_checkpoint(folder: Path) -> Path | None:
    """The checkpoint from which the training in a folder can be resumed."""
    newest = [*folder.glob("runs/*/checkpoint.pt"), *folder.glob("runs/*/checkpoint.old")]
    return newest[0] if newest else None


def killed_at(script: str, folder: Path, kind: str, moment: int) -> bool:
    """Start or resume the training in a folder; returns whether it was killed at that moment."""
    saved = last_checkpoint(folder)
    arguments = ["--resume", str(saved.parent)] if saved else TRAINING.split()
    return not ends(script, folder, arguments, kind, moment)


def check(script: str, kills: int, seed: int, parent: Path) -> list[str]:
    """Kill trainings of a script `kills` times; returns what differs from an undisturbed training.

    If a training ends before all kills are done, another one starts.
    """
    rng = random.Random(seed)
    undisturbed = parent / f"{script}-undisturbed"
    undisturbed.mkdir()
    ends(script, undisturbed, TRAINING.split())
    events = json.loads((undisturbed / "events.json").read_text())
    wanted = last_checkpoint(undisturbed).parent
    killed = 0
    differ = set()
    while killed < kills:
        folder = parent / f"{script}-{killed}"
        folder.mkdir()
        over = False
        while not over:
            kind = ("any", "writing")[killed % 2]
            moment = 1 + int(rng.random() * events[kind]) if killed < kills else 0
            over = not killed_at(script, folder, kind, moment)
            if not over:
                killed += 1
                saved = last_checkpoint(folder)
                after = saved.name if saved else "the start"
                event = f"event {moment} of {events[kind]} ({kind})"
                print(f"{script}: kill {killed} at {event}, resumed from {after}", flush=True)
        differ |= set(differences(last_checkpoint(folder).parent, wanted, script))
    return sorted(differ)


def main():
    args = tyro.cli(Args, description=__doc__)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for script in args.scripts:
            different = check(script, args.kills, args.seed, Path(folder))
            same = "the same weights, episodes and curves, bit for bit"
            print(f"{script}: {'different: ' + ', '.join(different) if different else same}")
            failed = failed or bool(different)
    sys.exit(failed)


if __name__ == "__main__":
    main()
