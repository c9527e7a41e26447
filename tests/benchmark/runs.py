"""Runs made up for tests: their folders, records and tables."""

import csv
import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from cleanmarl.benchmark import records
from cleanmarl.benchmark.task import Task


def write_run(
    folder: Path, script: str, env: str, seed: int, values: list, won=True, q_tot=(), **args
):
    """A run folder with an evaluation and a speed every 100 steps, which take a second."""
    kind = "smaclite" if won else "lbf"
    run = folder / f"{kind}__{env}__{script}__{seed}__20260101-000000"
    run.mkdir(parents=True)
    own = {"env_type": kind, "env_name": env, "env_family": "mpe", "seed": seed}
    own |= {"total_timesteps": 100 * len(values), "mixer": "qmix", "resume": ""}
    (run / "args.json").write_text(json.dumps(own | args))
    session = {"command": "python qmix.py", "commit": "1234567", "script": script}
    session |= {"versions": "torch 2", "machine": "2 cores"}
    (run / "run.json").write_text(json.dumps([session]))
    with SummaryWriter(str(run)) as writer:
        for i, value in enumerate(values, 1):
            writer.add_scalar("eval/ep_reward", value, 100 * i)
            if won:
                writer.add_scalar("eval/battle_won", value, 100 * i)
            writer.add_scalar("charts/SPS", 100, 100 * i)
        for i, value in enumerate(q_tot, 1):
            writer.add_scalar("train/q_tot", value, 10 * i)


def rows(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def write_record(path: Path, record: records.Record):
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write_record(path, record)


def task_of(folder: Path, *command: str) -> Task:
    folder.mkdir(parents=True, exist_ok=True)
    return Task(folder.name, folder, list(command), {"device": "cpu"})
