"""Finished runs: read evaluations from the run folders, and keep them in small JSON files."""

import json
import logging
import sys
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleanmarl.training.arguments import title_of
from cleanmarl.training.checkpoint import write_atomically

# The metric of a run: the first of these that its evaluations have
METRICS = {
    "eval/battle_won": "win rate",
    "eval/success": "success rate",
    "eval/ep_reward": "reward",
}
TAGS = {name: tag for tag, name in METRICS.items()}
RATES = ("eval/battle_won", "eval/success")  # a run that reports none has a rate of 0
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
    evaluations: dict[str, list] | None = None
    """each metric `eval/...` -> [n] values, None where it was not reported; None as for `q_tot`"""
    began_with: dict | None = None
    """arguments that changed when the run was made longer, as they were before; else None"""
    version: str = ""
    """version of this package; empty in records that were made without it"""

    @property
    def env(self) -> str:
        """Name of the environment, without its module or folder, and its options."""
        return title_of(self.args["env_name"], self.args.get("env_options", {}))

    @property
    def seed(self) -> int:
        return self.args["seed"]

    @property
    def last_step(self) -> int:
        return int(self.steps[-1])

    @property
    def tags(self) -> set[str]:
        """Names of the metrics that the record holds, for example eval/ep_reward."""
        return {TAGS.get(self.metric, self.metric), *(self.evaluations or ())}

    def measured_by(self, tag: str) -> "Record | None":
        """The same run with another metric; None if it has none.

        Where a win or success rate was not reported, it is 0. Of other metrics, the evaluations
        that did not report them are left out.
        """
        name = METRICS.get(tag, tag)
        if name == self.metric:
            return self
        given = (self.evaluations or {}).get(tag, [None] * len(self.steps))
        values = np.array(given, float)  # None becomes nan
        if tag in RATES:
            values = np.nan_to_num(values)
        there = np.isfinite(values)
        if not there.any():
            return None
        evaluated = {"steps": self.steps[there], "seconds": self.seconds[there]}
        return replace(self, metric=name, values=values[there], **evaluated)

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


class Unfinished(Exception):
    """A run that has not reached its last step, or was not evaluated there."""


class LeftOut(NamedTuple):
    """A run that is not drawn."""

    env: str
    """name of the environment, as in `Record`"""
    seed: int
    reason: str


def read_run(folder: Path) -> Record:
    """The record of a run folder.

    Raises Unfinished, and ValueError with a message of one line if a file is damaged.
    """
    args = read_args(folder / "args.json")
    session = read_session(folder / "run.json")
    events = read_events(folder)
    tags = events.Tags()["scalars"]
    evaluations = events.Scalars("eval/ep_reward") if "eval/ep_reward" in tags else []
    if not evaluations or evaluations[-1].step < args["total_timesteps"]:
        raise Unfinished(f"{folder} is not finished")
    steps = [event.step for event in evaluations]
    found = {tag: reported(events, tag, steps) for tag in tags if tag.startswith("eval/")}
    tag = next(tag for tag in METRICS if tag in found)
    values = [value or 0 for value in found[tag]]  # no success reported: none
    q_tot = [event.value for event in events.Scalars(Q_TOT)] if Q_TOT in tags else []
    q_tot = [value for value in q_tot if np.isfinite(value)]
    return Record(
        command=session["command"],
        commit=session["commit"],
        versions=session["versions"],
        machine=session["machine"],
        script=session.get("script") or script_in(folder),
        args=args,
        metric=METRICS[tag],
        steps=np.array(steps),
        seconds=times(events, evaluations).round(1),
        values=np.array(values),
        q_tot=[round(min(q_tot), 4), round(max(q_tot), 4)] if q_tot else None,
        evaluations=found,
        version=str(session.get("version", "")),
    )


def reported(events, tag: str, steps: list[int]) -> list[float | None]:
    """The values of a metric at some steps; None where there is none, or none that is finite."""
    values = {event.step: event.value for event in events.Scalars(tag)}
    found = [values.get(step, np.nan) for step in steps]
    return [round(value, 4) if np.isfinite(value) else None for value in found]


def script_in(folder: Path) -> str:
    """The script that the name of a run folder says. Raises ValueError."""
    parts = folder.name.split("__")
    if len(parts) < 4:
        raise ValueError(f"{folder / 'run.json'} does not name the script of the run")
    return parts[2]


def read_events(folder: Path):
    """The curves of a run. Raises ValueError."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for path in folder.glob("*tfevents*"):
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise ValueError(f"the curves in {folder} cannot be read: {path.name} is not a file")
    log = logging.getLogger("tensorboard")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of points that a resumed run has written again
    try:
        return EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    except Exception as error:  # of any kind, if a file is damaged
        raise ValueError(f"the curves in {folder} cannot be read: {error!r}") from None
    finally:
        log.setLevel(level)


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


# Files, which may be damaged


def load(path: Path, kind: type, what: str):
    """The content of a JSON file: a dict or a list. Raises ValueError."""
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise ValueError("it is not a file")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, kind):
            raise ValueError(f"it holds {'a list' if kind is dict else 'no list'}")
        return found
    except UnicodeError as error:  # its repr() has the whole file
        raise ValueError(f"{path} is not {what}: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not {what}: {error!r}") from None


def expect(ok: bool, name: str, wanted: str, value):
    if not ok:
        text = repr(value)
        raise ValueError(f"{name} must be {wanted}, got {text[:60]}")


def expect_there(names, found: dict):
    for name in names:
        if name not in found:
            raise ValueError(f"{name} is missing")


def check_args(args: dict):
    """Raise ValueError if the arguments of a run lack what every script has."""
    kinds = {"env_type": str, "env_name": str, "seed": int, "total_timesteps": int}
    kinds |= {"env_options": dict, "env_family": str, "exploration_fraction": float}
    words = {str: "a word", int: "a whole number", float: "a number", dict: "a table"}
    expect_there(("env_type", "env_name", "seed", "total_timesteps"), args)
    for name in kinds.keys() & args.keys():
        accepted = {float: (int, float)}.get(kinds[name], kinds[name])
        is_kind = isinstance(args[name], accepted) and not isinstance(args[name], bool)
        expect(is_kind, name, words[kinds[name]], args[name])
        # A name is part of figures, tables and file names
        expect(is_kind and str(args[name]).isprintable(), name, words[kinds[name]], args[name])


def read_args(path: Path) -> dict:
    """The arguments of a run, from its args.json. Raises ValueError."""
    what = "the args.json of a run"
    args = load(path, dict, what)
    try:
        check_args(args)
        return args
    except ValueError as error:
        raise ValueError(f"{path} is not {what}: {error}") from None


def read_session(path: Path) -> dict:
    """The last session of a run, from its run.json. Raises ValueError."""
    what = "the run.json of a run"
    sessions = load(path, list, what)
    try:
        session = sessions[-1] if sessions else None
        expect(isinstance(session, dict), "its last entry", "a table", session)
        for name in ("command", "commit", "versions", "machine"):
            expect(isinstance(session.get(name), str), name, "text", session.get(name))
        script = session.get("script", "")
        expect(isinstance(script, str) and script.isprintable(), "script", "a word", script)
        return session
    except ValueError as error:
        raise ValueError(f"{path} is not {what}: {error}") from None


def numbers(values, name: str, length: int | None = None, may_lack: bool = False) -> list:
    """A list of finite numbers; None may be among them if `may_lack`. Raises ValueError."""
    expect(isinstance(values, list) and len(values) > 0, name, "a list of numbers", values)
    given = [value for value in values if not (may_lack and value is None)]
    ok = all(type(value) in (int, float) and abs(value) < 1e300 for value in given)
    expect(ok, name, "a list of finite numbers", values)
    expect(length in (None, len(values)), name, f"a list of {length} numbers", values)
    return values


def check_record(found: dict):
    """Raise ValueError if the fields of a record do not hold what `Record` says."""
    expect_there([one.name for one in fields(Record) if one.default is MISSING], found)
    for name in ("command", "commit", "versions", "machine", "script", "metric"):
        expect(isinstance(found[name], str), name, "text", found[name])
    expect(found["script"].isprintable(), "script", "a word", found["script"])
    expect(found["metric"] in TAGS, "metric", f"one of {', '.join(TAGS)}", found["metric"])
    expect(isinstance(found["args"], dict), "args", "a table", found["args"])
    check_args(found["args"])
    length = len(numbers(found["steps"], "steps"))
    numbers(found["seconds"], "seconds", length)
    numbers(found["values"], "values", length)
    if found.get("q_tot") is not None:
        numbers(found["q_tot"], "q_tot", 2)
    expect(isinstance(found.get("version", ""), str), "version", "text", found.get("version"))
    for name in ("evaluations", "began_with"):
        value = found.get(name)
        expect(value is None or isinstance(value, dict), name, "a table", value)
    for tag, values in (found.get("evaluations") or {}).items():
        numbers(values, tag, length, may_lack=True)


def write_record(path: Path, record: Record):
    """Write a record, one line per field."""
    lines = []
    for name, value in vars(record).items():
        lines.append(f'"{name}": {json.dumps(value, default=np.ndarray.tolist)}')
    write_atomically(path, "{{\n{}\n}}\n".format(",\n".join(lines)).encode())


def read_record(path: Path) -> Record:
    """Read a record. Raises ValueError, with a message of one line, if the file is not a record."""
    what = "the record of a run"
    found = load(path, dict, what)
    try:
        check_record(found)
    except ValueError as error:
        raise ValueError(f"{path} is not {what}: {error}") from None
    values = {one.name: found[one.name] for one in fields(Record) if one.name in found}
    for name in ("steps", "seconds", "values"):
        values[name] = np.array(values[name])
    return Record(**values)


# All runs in a folder


def read_all(folder: Path) -> list[Record]:
    """All finished runs in a folder, see `find_all`."""
    return find_all(folder)[0]


def find_all(folder: Path) -> tuple[list[Record], list[LeftOut]]:
    """All finished runs in a folder, at any depth, and the others.

    A run has a record, or a run folder, or both. Then the record is taken, unless the run was made
    longer after it. Lines tell of the runs that are left out, or newer than their record. Raises
    ValueError if a file is damaged.
    """
    files = sorted(folder.rglob("*__*__*__*.json"))
    recorded = {path.with_suffix(""): read_record(path) for path in files}
    unrecorded, left_out = [], []
    for path in sorted(folder.rglob("args.json")):
        if not path.with_name("run.json").exists():  # a run writes it after args.json
            continue
        beside = next((parent for parent in path.parents if parent in recorded), None)
        if beside:
            recorded[beside] = newer(path.parent, recorded[beside])
            continue
        try:
            unrecorded.append(read_run(path.parent))
        except Unfinished:
            print(f"left out, because it is not finished: {path.parent}", file=sys.stderr)
            args = read_args(path)
            title = title_of(args["env_name"], args.get("env_options", {}))
            left_out.append(LeftOut(title, args["seed"], "not finished"))
    return [*recorded.values(), *unrecorded], left_out


def newer(folder: Path, record: Record) -> Record:
    """A run whose folder is there beside its record: as it is now, if it was made longer.

    A damaged folder is not newer.
    """
    with suppress(ValueError):
        if read_args(folder / "args.json")["total_timesteps"] <= record.args["total_timesteps"]:
            return record
        try:
            longer = read_run(folder)
        except Unfinished:
            text = f"drawn to step {record.last_step}, as recorded; it is being made longer"
            print(f"{text}: {folder}", file=sys.stderr)
            return record
        text = f"drawn to step {longer.last_step}, its record ends at step {record.last_step}"
        print(f"{text}: {folder}", file=sys.stderr)
        return longer
    return record
