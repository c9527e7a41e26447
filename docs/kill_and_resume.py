"""Kill trainings at random moments, resume them until they end, compare them with undisturbed ones:

    python docs/kill_and_resume.py --kills 20

Every second kill hits while files are written. Exit status 1 if a weight, a state of the optimizer,
an episode of the replay buffer or a point of a curve differs.
"""

import argparse
import importlib
import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tqdm import tqdm

from cleanmarl import checkpoint, run
from cleanmarl.checkpoint import load_checkpoint

TRAINING = "--env-name 3m --total-timesteps 1500 --hidden-dim 8 --hyper-dim 8 --batch-size 4"
TRAINING += " --buffer-size 12 --num-eval-ep 1 --eval-steps 7 --log-every 3 --checkpoint-every 5"
TRAINING += " --torch-threads 1"


def train(script: str, folder: Path, arguments: list[str], kind: str = "any", moment: int = 0):
    """Run a script, in a process that dies at event number `moment`, if not 0, of a kind.

    An event is a call or a return of a function of the script, of run.py or of checkpoint.py, or
    of one in C that they call. Kinds: "any", or "writing" for those within a function that writes.
    """
    module = importlib.import_module(f"cleanmarl.{script}")
    files = {module.__file__, run.__file__, checkpoint.__file__}
    events = {"any": 0, "writing": 0}

    def watch(frame, *_):
        if frame.f_code.co_filename not in files:
            return
        name = frame.f_code.co_name
        events["any"] += 1
        events["writing"] += name == "save" or name.startswith("write_")
        if moment and events[kind] == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    os.chdir(folder)
    for stream in (1, 2):
        os.dup2(os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    # tqdm's own lock is one of the system's, which a killed process leaves behind
    tqdm.set_lock(threading.RLock())
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
    slow_to_import = ["cleanmarl.qmix_multienvs", "cleanmarl.battle", "torch._dynamo"]
    context.set_forkserver_preload(slow_to_import)
    process = context.Process(target=train, args=(script, folder, *args))
    process.start()
    process.join()
    if process.exitcode not in (0, -signal.SIGKILL):
        output = (folder / "output.txt").read_text()[-2000:]
        raise RuntimeError(f"exit status {process.exitcode}:\n{output}")
    return process.exitcode == 0


def leaves(value, name: str = "") -> dict[str, str]:
    """What a structure of dicts and lists holds, each under the names that lead to it."""
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        parts = [leaves(part, f"{name}/{key}") for key, part in value.items()]
        return {path: leaf for part in parts for path, leaf in part.items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        array = np.asarray(value)
        value = (array.dtype, array.shape, sha256(array.tobytes()).hexdigest())
    return {name: repr(value)}


def results(folder: Path, script: str) -> dict[str, str]:
    """What a training has come to: its last checkpoint with the replay buffer, and its curves.

    What depends on the time that it took is left out.
    """
    saved = load_checkpoint(folder, script, with_episodes=True)
    found = {name: saved[name] for name in ("networks", "optimizer", "progress")}
    found |= {"episodes": saved["episodes"][-saved["args"]["buffer_size"] :]}
    found |= {"best_score": saved["run"]["best_score"], "collector": saved.get("collector")}
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each resumption
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    for name in set(events.Tags()["scalars"]) - {"charts/SPS"}:
        found[name] = [f"{event.step}: {event.value}" for event in events.Scalars(name)]
    return leaves(found)


def differences(one: Path, other: Path, script: str) -> list[str]:
    """Names of what is not the same, bit for bit, in the run folders of two trainings."""
    one, other = results(one, script), results(other, script)
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def check(script: str, kills: int, seed: int, folder: Path) -> list[str]:
    """Kill trainings of a script `kills` times; the names of what differs from an undisturbed one.

    Where a training ends before all kills are done, another one begins.
    """
    rng = random.Random(seed)
    undisturbed = folder / f"{script}-undisturbed"
    undisturbed.mkdir()
    ends(script, undisturbed, TRAINING.split())
    events = json.loads((undisturbed / "events.json").read_text())
    (wanted,) = undisturbed.glob("runs/*")
    killed = 0
    differ = set()
    while killed < kills:
        disturbed = folder / f"{script}-{killed}"
        disturbed.mkdir()
        saved, over = [], False
        while not over:
            arguments = ["--resume", str(saved[0].parent)] if saved else TRAINING.split()
            kind = ("any", "writing")[killed % 2]
            moment = rng.randint(1, events[kind] // 2) if killed < kills else 0
            over = ends(script, disturbed, arguments, kind, moment)
            saved = [*disturbed.glob("runs/*/checkpoint.pt")]
            saved += disturbed.glob("runs/*/checkpoint.old")
            if not saved:
                shutil.rmtree(disturbed / "runs", ignore_errors=True)
            if not over:
                killed += 1
                event = f"event {moment} of {events[kind]}{' of writing' * (kind == 'writing')}"
                after = saved[0].name if saved else "the start"
                print(f"{script}: kill {killed} at {event}, resumed from {after}", flush=True)
        differ |= set(differences(saved[0].parent, wanted, script))
    return sorted(differ)


def main():
    look = {"description": __doc__.partition("\n")[0].rstrip(":")}
    parser = argparse.ArgumentParser(**look)
    parser.add_argument("--kills", type=int, default=20, help="how often each script is killed")
    parser.add_argument("--scripts", nargs="+", default=["qmix", "qmix_multienvs"])
    parser.add_argument("--seed", type=int, default=1, help="the moments are derived from it")
    args = parser.parse_args()
    differ = {}
    with tempfile.TemporaryDirectory() as folder:
        for script in args.scripts:
            differ[script] = check(script, args.kills, args.seed, Path(folder))
    for script, names in differ.items():
        same = "the same weights, episodes and curves, bit for bit"
        print(f"{script}: {'different: ' + ', '.join(names) if names else same}")
    sys.exit(any(differ.values()))


if __name__ == "__main__":
    main()
