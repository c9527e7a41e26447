"""Suites: lists of tasks in TOML files, trained by one command and shown in one table.

A suite of the package is named by a word: `field` is `suites/field.toml`. Its tables are

    [arguments]  # of all tasks: how their runs are measured
    num_eval_ep = 32

    [[tasks]]  # as many as you like
    family = "foraging"
    envs = ["lbf:Foraging-8x8-2p-3f-v3", "lbf:Foraging-15x15-4p-3f-v3"]
    script = "qmix_lstm"
    total_timesteps = 2_000_000

A wrong suite raises ValueError with a message of one line that names the file and the key.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from cleanmarl.battle.reading import (
    check,
    check_keys,
    check_known,
    expect,
    nearest,
    read_list,
    read_names,
    read_number,
)
from cleanmarl.env.names import unknown
from cleanmarl.env.tasks import read_task
from cleanmarl.training.arguments import read_options, title_of

SUITES = Path(__file__).with_name("suites")
FIELDS = ("family", "envs", "script", "total_timesteps", "seeds", "arguments", "package")
# Arguments of the scripts that change what is measured, and not what is learned
MEASURED = {"num_eval_ep", "eval_steps", "log_every"}


@dataclass(frozen=True)
class SuiteTask:
    """An environment, and the script, the seeds and the arguments to train in it."""

    env: str
    """as for --envs"""
    script: str = "qmix"
    """as for --scripts"""
    seeds: tuple[int, ...] = (1, 2, 3)
    family: str = ""
    """name of a group of tasks"""
    arguments: dict = field(default_factory=dict)
    """arguments of the script that are not its defaults, by name"""
    shared: dict = field(default_factory=dict)
    """those of the whole suite; `arguments` win over them"""
    package: str = ""
    """a package that the environment needs and that this project does not install"""
    file: str = ""
    """the suite, for messages"""
    where: str = ""
    """its table in the suite, for messages"""

    @property
    def all_arguments(self) -> dict:
        return self.shared | self.arguments

    @property
    def places(self) -> dict[str, dict]:
        """Where the suite gives arguments -> these arguments."""
        return {f"{self.file}: arguments": self.shared, f"{self.where}.arguments": self.arguments}

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells its environment from others, see `key_of`."""
        task = read_task(self.env)
        return key_of(task.env_type, task.env_name, task.env_family, read_options(task.options))

    @property
    def title(self) -> str:
        """Name of the environment in tables and figures."""
        return title_of_env(self.env)

    @property
    def script_name(self) -> str:
        """File name of the script, without .py."""
        is_file = self.script.endswith(".py")
        return Path(self.script).stem if is_file else self.script.rpartition(".")[2]


def key_of(env_type: str, env_name: str, env_family: str, env_options: dict) -> tuple:
    """What tells environments apart: type, family, and name with options."""
    family = (env_family or "mpe") if env_type == "pz" else ""
    return env_type, family, title_of(env_name, env_options)


def title_of_env(text: str) -> str:
    """The title of an environment from its word, such as "pz:simple_spread_v3 N=5"."""
    task = read_task(text)
    return title_of(task.env_name, read_options(task.options))


def read_suite(word: str) -> list[SuiteTask]:
    """The tasks of a suite of the package (`field`) or of a file (`mine.toml`), by family.

    Raises ValueError.
    """
    own = word.endswith(".toml")
    file, path = (word, Path(word)) if own else (f"{word}.toml", SUITES / f"{word}.toml")
    if not path.is_file():
        known = sorted(suite.stem for suite in SUITES.glob("*.toml"))
        hint = f"give {', '.join(known)}, or a TOML file such as mine.toml"
        raise ValueError(f"there is no suite {word!r}; {nearest(word, known, hint)}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML or of Unicode
        raise ValueError(f"{file}: {error}") from None
    for name in content:
        check_known(name, f"{file}: {name}", "field", ["arguments", "tasks"])
    shared = read_table(content.get("arguments", {}), f"{file}: arguments")
    entries = read_list(content.get("tasks", []), f"{file}: tasks", "tables [[tasks]]")
    check(len(entries) > 0, f"{file}: tasks", "a suite needs a task, [[tasks]]")
    tasks = {}
    for i, entry in enumerate(entries):
        for task in read_entry(entry, shared, file, f"{file}: tasks[{i}]"):
            name = (task.script, *task.key)
            twice = f"{task.env} is there twice with {task.script}"
            check(name not in tasks, f"{task.where}.envs", twice)
            tasks[name] = task
    order = list(dict.fromkeys(task.family for task in tasks.values()))
    return sorted(tasks.values(), key=lambda task: order.index(task.family))


def read_table(value, where: str) -> dict:
    expect(isinstance(value, dict), where, "a table of arguments, such as gamma = 0.9", value)
    return value


def read_entry(entry, shared: dict, file: str, where: str) -> list[SuiteTask]:
    """The tasks of one table [[tasks]]. Raises ValueError."""
    check_keys(entry, where, list(FIELDS), required=("family", "envs"))
    family = read_word(entry["family"], f"{where}.family")
    arguments = dict(read_table(entry.get("arguments", {}), f"{where}.arguments"))
    if "total_timesteps" in entry:
        place = f"{where}.total_timesteps"
        check("total_timesteps" not in arguments, place, "is in arguments, too")
        whole = {"low": 1, "high": 2**31 - 1, "whole": True}
        arguments["total_timesteps"] = read_number(entry["total_timesteps"], place, **whole)
    script = entry.get("script", SuiteTask.script)
    expect(isinstance(script, str), f"{where}.script", "a name or a path", script)
    package = read_word(entry["package"], f"{where}.package") if "package" in entry else ""
    seeds = read_seeds(entry.get("seeds", SuiteTask.seeds), f"{where}.seeds")
    place = f"{where}.envs"
    envs = read_names(entry["envs"], place)
    check(len(envs) > 0, place, "give an environment")
    for env in envs:
        try:
            title_of_env(env)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    own = (script, seeds, family, arguments, shared, package, file, where)
    return [SuiteTask(env, *own) for env in envs]


def read_word(value, where: str) -> str:
    ok = isinstance(value, str) and re.fullmatch(r"\w+", value)
    expect(ok, where, "a word of letters, digits and _", value)
    return value


def read_seeds(value, where: str) -> tuple[int, ...]:
    wanted = "a list of seeds, each once"
    for i, seed in enumerate(read_list(value, where, wanted)):
        read_number(seed, f"{where}[{i}]", high=2**63 - 1, whole=True)
    expect(0 < len(value) == len(set(value)), where, wanted, value)
    return tuple(value)


def choose_tasks(
    suite: str,
    families: Sequence[str] = (),
    envs: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[SuiteTask]:
    """The tasks of a suite; if they are given, only of these families and environments.

    Given seeds replace those of the suite. Raises ValueError.
    """
    tasks = read_suite(suite)
    known = list(dict.fromkeys(task.family for task in tasks))
    for family in families:
        if family not in known:
            raise ValueError(unknown(f"family of {suite}", family, known))
    tasks = [task for task in tasks if task.family in (families or known)]
    known = list(dict.fromkeys(task.title for task in tasks))
    titles = [title_of_env(env) for env in envs]
    for title in titles:
        if title not in known:
            raise ValueError(unknown(f"task of {suite}", title, known))
    tasks = [task for task in tasks if task.title in (titles or known)]
    return [replace(task, seeds=tuple(seeds) or task.seeds) for task in tasks]


def check_packages(tasks: Sequence[SuiteTask]):
    """Raise ValueError if a package of a task is not installed; the message names the remedies."""
    lacking = [task for task in tasks if task.package and find_spec(task.package) is None]
    if not lacking:
        return
    names = " ".join(dict.fromkeys(task.package for task in lacking))
    families = list(dict.fromkeys(task.family for task in lacking))
    remedy = f"which is not installed: pip install {names}"
    text = f"tasks of {' and '.join(families)} need {names}, {remedy}"
    others = dict.fromkeys(task.family for task in tasks if task.family not in families)
    if others:
        text += f"; to train the rest, give --families {' '.join(others)}"
    raise ValueError(text)
