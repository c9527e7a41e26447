"""Finished runs: read evaluations from the run folders, and keep them in small JSON files."""

import json
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from cleanmarl.training.arguments import title_of
from cleanmarl.training.checkpoint import write_atomically

# The metric of a run: the first of these that its evaluations have
METRICS = {
    "eval/battle_won": "win rate",
    "eval/success": "success rate",
    "eval/ep_reward": "reward",
}
Q_TOT = "train/q_tot"
WON = 0.95  # least win rate of a winning team
IN_A_ROW = 3  # evaluations in a row that need this win rate


@dataclass
class Record:
    """A finished run: its command, versions, arguments and evaluations."""

    command: str
    commit: str
    versions: str
    machine: str
    script: str
    """file name of the script, without .py"""
    args: dict
    """all arguments of the script"""
    metric: str
    """win rate, success rate or reward"""
    steps: np.ndarray
    """[n] environment steps at each evaluation"""
    seconds: np.ndarray
    """[n] training time until each evaluation, without interruptions"""
    values: np.ndarray
    """[n] mean over the greedy episodes of each evaluation"""
    q_tot: list[float] | None = None
    """lowest and highest `train/q_tot`; None in records that were made without it"""

    @property
    def env(self) -> str:
        """Name of the environment, without its module or folder, and its options."""
        return title_of(self.args["env_name"], self.args.get("env_options", {}))

    @property
    def seed(self) -> int:
        return self.args["seed"]

    def until_won(self) -> tuple[float, float]:
        """Steps and seconds until the team wins; both are infinite if it never does.

        A team wins at the third evaluation in a row with a win rate of at least 0.95.
        """
        in_a_row = 0
        for i, value in enumerate(self.values):
            in_a_row = in_a_row + 1 if value >= WON else 0
            if in_a_row == IN_A_ROW:
                return self.steps[i], self.seconds[i]
        return np.inf, np.inf


def read_run(folder: Path) -> Record | None:
    """The record of a run folder; if the run is not finished, print a line and return None."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    args = json.loads((folder / "args.json").read_text())
    session = json.loads((folder / "run.json").read_text())[-1]
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    evaluations = events.Scalars("eval/ep_reward") if "eval/ep_reward" in tags else []
    if not evaluations or evaluations[-1].step < args["total_timesteps"]:
        print(f"left out, because it is not finished: {folder}", file=sys.stderr)
        return None
    steps = [event.step for event in evaluations]
    tag = next(tag for tag in METRICS if tag in tags)
    reported = {event.step: event.value for event in events.Scalars(tag)}
    values = np.array([reported.get(step, 0) for step in steps])  # no success reported: none
    q_tot = [event.value for event in events.Scalars(Q_TOT)] if Q_TOT in tags else []
    return Record(
        command=session["command"],
        commit=session["commit"],
        versions=session["versions"],
        machine=session["machine"],
        script=session.get("script") or folder.name.split("__")[2],
        args=args,
        metric=METRICS[tag],
        steps=np.array(steps),
        seconds=times(events, evaluations).round(1),
        values=values.round(4),
        q_tot=[round(min(q_tot), 4), round(max(q_tot), 4)] if q_tot else None,
    )


def times(events, evaluations: list) -> np.ndarray:
    """Seconds of training until each evaluation [n], without interruptions."""
    steps = [event.step for event in evaluations]
    if "charts/SPS" not in events.Tags()["scalars"]:  # a short run, or a script that logs none
        clock = np.array([event.wall_time for event in evaluations])
        return clock - events.FirstEventTimestamp()
    speeds = events.Scalars("charts/SPS")
    logged = [event.step for event in speeds]
    seconds = [event.step / event.value for event in speeds]
    return np.interp(steps, [0, *logged], [0, *seconds])


def write_record(path: Path, record: Record):
    """Write a record, one line per field."""
    lines = []
    for name, value in vars(record).items():
        lines.append(f'"{name}": {json.dumps(value, default=np.ndarray.tolist)}')
    write_atomically(path, "{{\n{}\n}}\n".format(",\n".join(lines)).encode())


def read_record(path: Path) -> Record:
    """Read a record. Raises ValueError, with a message of one line, if the file is not a record."""
    try:
        found = json.loads(path.read_text())
        given = [one.name for one in fields(Record) if one.name in found or one.default is MISSING]
        values = {name: found[name] for name in given}
        for name in ("steps", "seconds", "values"):
            values[name] = np.array(values[name])
        return Record(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a run: {error!r}") from None


def read_all(folder: Path) -> list[Record]:
    """All finished runs in a folder, at any depth: records, and run folders without a record."""
    files = sorted(folder.rglob("*__*__*__*.json"))
    records = [read_record(path) for path in files]
    recorded = {path.with_suffix("") for path in files}
    for path in sorted(folder.rglob("args.json")):
        begun = path.with_name("run.json").is_file()  # a run writes it after args.json
        if begun and recorded.isdisjoint(path.parents):
            records.append(read_run(path.parent))
    return [record for record in records if record]
