"""Train a suite, or every combination of scripts, environments, variants and seeds, on Ray.

`plan` lists the runs, `train` does one run, `sweep` lets Ray do all.
"""

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from cleanmarl.battle.reading import check_known, nearest
from cleanmarl.benchmark.records import (
    METRICS,
    Record,
    Unfinished,
    read_args,
    read_record,
    read_run,
    read_session,
    write_record,
)
from cleanmarl.benchmark.suite import SuiteTask, check_packages, choose_tasks
from cleanmarl.env.tasks import read_task
from cleanmarl.training.arguments import (
    FREE,
    check,
    load_file,
    option,
    parse,
    script_of,
    title_of,
)
from cleanmarl.training.checkpoint import write_atomically
from cleanmarl.training.errors import Refused, refuse_on_error, warn
from cleanmarl.training.kept import kept_steps, name_of
from cleanmarl.training.sources import digest_of

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
# The sweep sets these arguments of the scripts itself.
OWN = {"env_type", "env_name", "env_family", "env_options", "seed", "torch_threads"}
OWN |= {"resume", "evaluate", "which"}
# Files of a run folder that make its team, see `keep`.
OF_TEAM = ("args.json", "team.json", "best.pt", "model.pt")
EXPLORES = "exploration_fraction"
LONGER = {"total_timesteps", EXPLORES}  # arguments that change if a run is made longer
# Runs of one curve may differ in these arguments.
SAME_CURVE = FREE - {"total_timesteps", "device"}


@dataclass
class Task:
    """One run: the command line of a script, and its folder."""

    title: str
    folder: Path
    command: list[str]
    """the words after `python`"""
    args: dict
    """all arguments of the script"""

    @property
    def finished(self) -> bool:
        """Whether the run has a record of as many steps, or more. Raises ValueError."""
        if not self.record.exists():
            return False
        done = read_record(self.record).args["total_timesteps"]
        return done >= self.args.get("total_timesteps", 0)

    @property
    def record(self) -> Path:
        """The file that `keep` writes when the run is finished."""
        return self.folder.with_name(self.folder.name + ".json")

    @property
    def began(self) -> Path:
        """The file of `keep_beginning`."""
        return self.folder / "began.json"

    @property
    def team(self) -> Path:
        """The folder beside the record in which `keep` puts the trained team."""
        return self.folder.with_name(self.folder.name + ".team")


def need(name: str) -> ModuleType:
    """Import a package of the extra `benchmark`. Raises ImportError that says how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f'{error.name} is missing: pip install -e ".[benchmark]"') from error


# Which runs


def load_script(word: str) -> tuple[ModuleType, list[str]]:
    """A script as a module, and the words that run it with Python. Raises ValueError.

    `word` is one of the four scripts (qmix), a path (./my_qmix.py) or a module (my_lab.my_qmix).
    """
    path = Path(word).resolve()
    if (word.endswith(".py") or "/" in word) and not path.is_file():
        raise ValueError(f"there is no script {word}")
    try:
        if word.endswith(".py"):
            module, program = load_file(path), [str(path)]
        else:
            name = f"cleanmarl.{word}" if word in SCRIPTS else word
            module, program = import_module(name), ["-m", name]
    except ModuleNotFoundError as error:
        if not word.startswith(str(error.name)):
            raise ValueError(f"{word} needs {error.name}, which is not installed") from None
        known = f"give {', '.join(SCRIPTS)}, a path such as ./my_qmix.py, or a module"
        raise ValueError(f"there is no script {word!r}; {nearest(word, SCRIPTS, known)}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"the script {word} cannot be imported: {reason}") from None
    for name in ("Args", "open_env", "main"):
        if not hasattr(module, name):
            raise ValueError(f"{word} is not a copy of a script: it has no {name}")
    return module, program


def read_env(text: str) -> list[str]:
    """A script's arguments for a task: 3m, mine.toml, lbf:NAME, "pz:FAMILY:NAME N=5", ..."""
    task = read_task(text)
    name = task.env_name
    if name.endswith(".toml"):
        name = str(Path(name).resolve())
    words = ["--env-type", task.env_type, "--env-name", name]
    if task.env_family:
        words += ["--env-family", task.env_family]
    if task.options:
        words += ["--env-options", *task.options]
    return words


def field_name(word: str, aliases: dict[str, str]) -> str:
    """The field of an option: --learning-rate and --lr are learning_rate."""
    name = word.strip().lstrip("-").replace("-", "_")
    return aliases.get(name, name)


def aliases_of(Args: type) -> dict[str, str]:
    """Other names of a script's arguments -> their fields, for example lr -> learning_rate."""
    found = {}
    for name, hint in typing.get_type_hints(Args, include_extras=True).items():
        for note in getattr(hint, "__metadata__", ()):
            for alias in getattr(note, "aliases", None) or ():
                found[field_name(alias, {})] = name
    return found


def read_variants(words: Sequence[str], aliases: dict[str, str]) -> dict[str, list[str]]:
    """The values of some arguments, by name: ["td_lambda=0 0.6", "mixer=qmix vdn"].

    Raises ValueError.
    """
    values = {}
    for word in words:
        name, _, given = word.partition("=")
        name = field_name(name, aliases)
        if not name or not given.split():
            raise ValueError(f'a variant must be like "td_lambda=0 0.6 0.9", got {word!r}')
        if name in OWN:
            raise ValueError(f"{name} cannot be varied: the sweep sets it, see run --help")
        if name in values:
            raise ValueError(f"there are two variants of {name}: write all its values in one")
        values[name] = given.split()
    return values


def combinations(values: dict[str, list[str]], Args: type) -> list[dict[str, str]]:
    """All combinations of the values of those arguments that a script has."""
    own = {field.name for field in fields(Args)}
    names = [name for name in values if name in own]
    chosen = itertools.product(*(values[name] for name in names))
    return [dict(zip(names, one, strict=True)) for one in chosen]


def check_varied(names: Sequence[str], scripts: Sequence[ModuleType]):
    """Raise ValueError if no script has one of the arguments to vary."""
    known = {option(field.name): None for script in scripts for field in fields(script.Args)}
    for name in names:
        if option(name) not in known:
            raise ValueError(f"no script has {option(name)}; {nearest(option(name), list(known))}")


def words_of(Args: type, variant: dict[str, str]) -> list[str]:
    """The command line of a variant. Raises ValueError."""
    words = []
    hints = typing.get_type_hints(Args)
    for name, value in variant.items():
        if hints.get(name) is not bool:
            words += [option(name), value]
        elif value.lower() in ("true", "false"):
            words.append(option(name if value.lower() == "true" else f"no_{name}"))
        else:
            raise ValueError(f"{name} must be True or False, got {value}")
    return words


def names_in(passed: Sequence[str], aliases: dict[str, str]) -> dict[str, str]:
    """The fields that are set by some words, and by which: gamma -> --gamma."""
    options = [word for word in passed if word.startswith("--")]
    names = [field_name(word.partition("=")[0], aliases) for word in options]
    return dict(zip([name.removeprefix("no_") for name in names], options, strict=True))


def check_passed(passed: Sequence[str], varied: Sequence[str], aliases: dict[str, str]):
    """Raise ValueError if the sweep itself sets one of the arguments passed to the scripts."""
    for name, word in names_in(passed, aliases).items():
        if name in OWN:
            reason = "cannot be passed on to the scripts: the sweep sets it, see run --help"
            raise ValueError(f"{word} {reason}")
        if name in varied:
            raise ValueError(f"{word} is given twice: as a variant, and after --")


@contextlib.contextmanager
def naming(task: SuiteTask, key: str = ""):
    """If a task is of a suite, begin the messages of errors with its place there."""
    try:
        yield
    except (ValueError, ImportError) as error:
        if not task.where:
            raise
        raise ValueError(f"{task.where}{key}: {error}") from error


def load_scripts(tasks: Sequence[SuiteTask]) -> dict[str, tuple[ModuleType, list[str]]]:
    """The scripts of some tasks, see `load_script`. Raises ValueError."""
    loaded = {}
    for task in tasks:
        if task.script not in loaded:
            with naming(task, ".script"):
                loaded[task.script] = load_script(task.script)
    return loaded


def own_words(task: SuiteTask, Args: type, passed: Sequence[str]) -> list[str]:
    """The command line of a task's own arguments; those that are passed come before them.

    Raises ValueError if they are not arguments of the script.
    """
    known = [field.name for field in fields(Args)]
    for where, arguments in task.places.items():
        for name in arguments:
            if name in OWN:
                raise ValueError(f"{where}.{name}: the sweep sets it, see run --help")
            check_known(name, f"{where}.{name}", f"argument of {task.script_name}.py", known)
    own = task.all_arguments
    if own:
        with naming(task):
            check(replace(Args(), **own))
    given = names_in(passed, aliases_of(Args))
    return words_of(Args, {name: str(own[name]) for name in own if name not in given})


def of_suite(suite: str, families, scripts, envs, seeds, variants) -> list[SuiteTask]:
    """The chosen tasks of a suite, with the chosen seeds. Raises ValueError."""
    for name, given in (("scripts", scripts), ("variants", variants)):
        if given:
            remedy = "copy the suite and change the copy"
            raise ValueError(f"--suite has scripts and arguments, so no --{name}: {remedy}")
    return choose_tasks(suite, families, envs, seeds)


def plan(
    scripts: Sequence[str],
    envs: Sequence[str],
    seeds: Sequence[int],
    runs: str | Path = "sweep",
    variants: Sequence[str] = (),
    passed: Sequence[str] = (),
    suite: str = "",
    families: Sequence[str] = (),
    try_envs: bool = True,
) -> list[Task]:
    """The runs of a sweep; their arguments are checked as the scripts check them.

    Parameters are the options of the command `run`; `passed` goes to every script. A suite has its
    own scripts; then `envs` and `seeds` are empty, or choose some. Each environment is opened once,
    unless `try_envs` is False. The first seeds of all tasks come first; of these, the shortest run.

    Raises ValueError with a message of one line. Arguments that a script cannot read end the
    program: tyro says why and exits with status 2.
    """
    if suite:
        wanted = of_suite(suite, families, scripts, envs, seeds, variants)
    elif families:
        raise ValueError("--families chooses tasks of a suite: give --suite, too")
    elif scripts and envs and seeds:
        wanted = [SuiteTask(env, script, tuple(seeds)) for env in envs for script in scripts]
    else:
        raise ValueError("a sweep needs a script, an environment and a seed")
    if try_envs:
        check_packages(wanted)
    loaded = load_scripts(wanted)
    aliases = {}
    for module, _ in loaded.values():
        aliases |= aliases_of(module.Args)
    values = read_variants(variants, aliases)
    check_varied(list(values), [module for module, _ in loaded.values()])
    check_passed(passed, list(values), aliases)
    tasks = {}
    for task in runs_in_order(wanted, loaded, values, passed, Path(runs), try_envs):
        if task.folder in tasks:
            both = f"{tasks[task.folder].title} and {task.title}"
            raise ValueError(f"{both} would share the folder {task.folder.name}")
        tasks[task.folder] = task
    for task in tasks.values():
        check_folder(task)
    return list(tasks.values())


def runs_in_order(
    wanted: Sequence[SuiteTask],
    loaded: dict[str, tuple[ModuleType, list[str]]],
    values: dict[str, list[str]],
    passed: Sequence[str],
    runs: Path,
    try_envs: bool,
) -> list[Task]:
    """All runs: the first seeds of all tasks come first; of these, the shortest. Raises ValueError.

    Args:
        wanted: tasks
        loaded: their scripts, see `load_scripts`
        values: of the arguments to vary, see `read_variants`
        passed: arguments of all scripts
        runs: folder of the sweep
        try_envs: whether to open each environment once
    """
    rounds = []  # the place of the seed, and the run
    for task in wanted:
        module, _ = script = loaded[task.script]
        for variant in combinations(values, module.Args):
            words = own_words(task, module.Args, passed)
            words += [*words_of(module.Args, variant), *passed]
            for place, seed in enumerate(task.seeds):
                try_env = try_envs and place == 0
                run = plan_run(task, variant, seed, script, words, runs, try_env)
                rounds.append((place, run))
    rounds.sort(key=lambda one: (one[0], one[1].args["total_timesteps"]))
    return [run for _, run in rounds]


def plan_run(
    task: SuiteTask,
    variant: dict[str, str],
    seed: int,
    script: tuple[ModuleType, list[str]],
    words: Sequence[str],
    runs: Path,
    try_env: bool,
) -> Task:
    """One run; its environment is opened if `try_env`. Raises ValueError."""
    module, program = script
    words = [*read_env(task.env), "--seed", str(seed), "--torch-threads", "1", *words]
    args = read_arguments(module, words)
    if try_env:
        with naming(task, ".envs"), refuse_on_error():
            module.open_env(args).close()
    differs = [f"{name}={value}".replace("/", "-") for name, value in variant.items()]
    name = title_of(args.env_name, args.env_options)
    parts = [args.env_type, name, script_of(module.Args), *differs, str(seed)]
    title = " ".join([task.script, task.env, *differs, str(seed)])
    folder = runs.resolve() / "__".join(parts)
    return Task(title, folder, [*program, *words], asdict(args))


def read_arguments(module: ModuleType, words: list[str]):
    """A script's `Args`, checked. Raises Refused with a message of one line."""
    program = f"{script_of(module.Args)}.py"
    args = parse(module.Args, words, prog=program)
    try:
        check(args)
    except Refused as error:
        raise Refused(f"{program}: {error}") from None
    return args


def check_folder(task: Task):
    """Raise ValueError if the folder has a run with other arguments, finished or not.

    A run may have fewer steps: then it is resumed, see `resumed_words`.
    """
    begun = [read_args(path) for path in task.folder.glob("runs/*/args.json")]
    before = read_began(task)
    if task.record.exists():
        record = read_record(task.record)
        begun = [dict(record.args)]
        before |= record.began_with or {}
    same = SAME_CURVE
    for found in begun:
        if before.get(EXPLORES) is not None and before[EXPLORES] == task.args.get(EXPLORES):
            found[EXPLORES] = before[EXPLORES]
        if found["total_timesteps"] < task.args["total_timesteps"]:
            check_longer(task, found["total_timesteps"])
            same = SAME_CURVE | {"total_timesteps"}
    for found in begun:
        known = task.args.keys() & found.keys()  # the script may have new arguments
        names = sorted(n for n in known - same if found[n] != task.args[n])
        if names:
            there = " ".join(f"{option(name)} {found[name]}" for name in names)
            here = " ".join(f"{option(name)} {task.args[name]}" for name in names)
            differ = f"the run in {task.folder} has {there}, not {here}"
            raise ValueError(f"{differ}: remove it or choose other --runs")


def check_longer(task: Task, steps: int):
    """Raise ValueError if a run that was planned with some steps cannot be made longer."""
    if not checkpoints(task.folder):
        reason = f"the run in {task.folder} has {steps} steps and no checkpoint to make it longer"
        what = task.record if task.record.exists() else "it"
        raise ValueError(f"{reason}: remove {what} or choose other --runs")


def read_began(task: Task) -> dict:
    """If a run was made longer before it was finished: arguments with which it began."""
    try:
        began = json.loads(task.began.read_text())
        return began if isinstance(began, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def keep_beginning(task: Task, run: Path):
    """Before a run is made longer for the first time: write down what this changes."""
    if task.args.get(EXPLORES) is None or task.began.exists():
        return
    own = read_args(run / "args.json")
    if own["total_timesteps"] < task.args["total_timesteps"]:
        began = {name: own[name] for name in sorted(LONGER & own.keys())}
        write_atomically(task.began, json.dumps(began).encode())


# One run, in a process of Ray


def lock(log) -> bool:
    """Try to lock a log.

    The script that writes to the log inherits the lock, and keeps it if it outlives its parent.
    """
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_training(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("r+") as log:
        return not lock(log)
    return False


def follow_parent():
    """In a script's process, before the script starts: make it save and end if its parent dies.

    This works only on Linux, which then sends SIGTERM.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's processes block Ctrl-C
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def train(task: Task, python_path: str) -> int:
    """Train in the task's folder, from its last checkpoint if it has one; returns the exit status.

    Ray calls this function. If its process or machine dies, Ray calls it again on any machine.
    """
    folder = task.folder
    settings = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path}
    with contextlib.suppress(ValueError):  # raised if this is not the main thread
        # Ray cancels with SIGINT, which nohup makes processes ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "log.txt").open("a") as log:
        while not lock(log):  # a script that lost its parent is still saving
            time.sleep(0.1)
        words = list(task.command)
        if saved := checkpoints(folder):
            keep_beginning(task, saved[0].parent)
            words += resumed_words(task, saved[0].parent)
        else:
            shutil.rmtree(folder / "runs", ignore_errors=True)
        print("\n$ python", *words, file=log, flush=True)
        options = {"cwd": folder, "env": os.environ | settings, "stdout": log, "stderr": log}
        script = subprocess.Popen([sys.executable, *words], preexec_fn=follow_parent, **options)
        try:
            while script.poll() is None:
                time.sleep(0.1)
        finally:  # a stopped sweep raises KeyboardInterrupt
            script.terminate()
            script.wait()
        return script.returncode or keep(task)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of the run in a task's folder."""
    return [*folder.glob("runs/*/checkpoint.pt"), *folder.glob("runs/*/checkpoint.old")]


def resumed_words(task: Task, run: Path) -> list[str]:
    """The words that resume a task's run.

    A run that is made longer explores for as many steps as before.
    """
    words = ["--resume", str(run.relative_to(task.folder))]
    wanted = task.args.get(EXPLORES)
    own = read_args(run / "args.json") if wanted is not None else {}
    fraction = own.get(EXPLORES, wanted)
    if own and own["total_timesteps"] < task.args["total_timesteps"]:
        fraction = fraction * own["total_timesteps"] / task.args["total_timesteps"]
    return words if fraction == wanted else [*words, option(EXPLORES), str(fraction)]


def keep(task: Task) -> int:
    """Keep the team and the record of a run whose script ended with 0.

    The record comes last: a run with a record is finished. Returns 1 if the run is not finished.
    """
    for path in task.folder.glob("runs/*/args.json"):
        with contextlib.suppress(Unfinished):
            record = read_run(path.parent)
            keep_team(path.parent, task.team)
            write_record(task.record, replace(record, **told_by(task, record)))
            return 0
    with (task.folder / "log.txt").open("a") as log:
        print("the script has ended, but its run is not finished", file=log)
    return 1


def told_by(task: Task, record: Record) -> dict:
    """What a task and the older record of its run, if there is one, add to its new record."""
    # The record's command does the whole run on any machine: no --resume, no local folder.
    words = [Path(word).name if word.endswith(".py") else word for word in task.command]
    before, older = read_began(task), None
    if task.record.exists():
        older = read_record(task.record)
        before = {name: older.args[name] for name in LONGER & older.args.keys()}
    changes = {n: v for n, v in before.items() if n in LONGER and v != record.args.get(n)}
    began_with = (older and older.began_with) or changes or None
    if began_with and EXPLORES in began_with:
        words += [option(EXPLORES), str(record.args[EXPLORES])]
    return {"command": shlex.join(["python", *words]), "began_with": began_with}


def keep_team(run: Path, folder: Path):
    """Copy a run's networks, and what is needed to load them; nothing if none were saved."""
    kept = [name_of(step) for step in kept_steps(run)]
    if not (run / "best.pt").exists() and not kept:
        return
    folder.mkdir(exist_ok=True)
    for name in (*OF_TEAM, *kept):
        if (run / name).exists():
            (folder / name).parent.mkdir(exist_ok=True)
            write_atomically(folder / name, (run / name).read_bytes())


# Progress of the runs


def tail(folder: Path) -> str:
    """The last lines of a log."""
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
        return log.read().decode(errors="replace")
    return ""


def status_of(folder: Path) -> dict:
    """The progress of the run in a folder, from its status.json."""
    for path in folder.glob("runs/*/status.json"):
        # It may be removed when the run starts again, or damaged
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            status = json.loads(path.read_text())
            if status["seconds"] > 0 and status["total_timesteps"] >= 0 and status["step"] >= 0:
                return status
    return {}


def look(task: Task, state: str | None) -> tuple[str, ...]:
    """The row of a run in the table; `state` is None unless the run has ended."""
    if task.finished:
        state = "finished"
    elif state is None:
        state = "running" if is_training(task.folder) else "waiting"
    status = status_of(task.folder)
    if not status:
        return task.title, "", "", "", "", state
    speed = status["step"] / status["seconds"]
    left = ""
    if state == "running" and speed > 0:
        steps_left = max(0, status["total_timesteps"] - status["step"])
        left = tqdm.format_interval(steps_left / speed)
    evaluation = ""
    for name in [name for name in METRICS if name in status][:1]:
        evaluation = f"{METRICS[name]} {status[name]:.2f}"
    return task.title, str(status["step"]), tqdm.format_sizeof(speed), evaluation, left, state


def table(rows: list[tuple[str, ...]]):
    """The rows as a table of rich; waiting and finished runs come last."""
    from rich.table import Table

    counts = Counter(row[-1].split()[0] for row in rows)
    title = ", ".join(f"{number} {state}" for state, number in counts.items())
    drawn = Table("run", title=f"{len(rows)} runs: {title}", title_justify="left")
    for column in ("steps", "steps/s", "last evaluation", "left"):
        drawn.add_column(column, justify="right")
    drawn.add_column("state")
    later = {"waiting": 1, "finished": 2}
    for row in sorted(rows, key=lambda row: later.get(row[-1], 0)):
        drawn.add_row(*row)
    return drawn


def tell(rows: list[tuple[str, ...]], told: dict[str, tuple]):
    """Without a terminal: print a line when a state changes, and each minute for a running run."""
    for title, steps, speed, evaluation, left, state in rows:
        news = (state, state == "running" and int(time.monotonic() // 60))
        if told.get(title) != news:
            parts = {"": evaluation, " steps": steps, " steps/s": speed, " left": left}
            news_of = [part + unit for unit, part in parts.items() if part]
            print(f"{title}: {state}", *news_of, sep=", ", flush=True)
        told[title] = news


# The whole sweep


def outcome(ray, ref) -> str:
    """The state of a run that has ended."""
    try:
        status = ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return "stopped"
    except Exception as error:  # its process or machine died too often, or the disk is full
        return f"failed: {str(error).strip().splitlines()[-1]}"
    return f"failed with exit status {status}" if status else "finished"


def watch(ray, tasks: list[Task], todo: dict, signals: list[int]) -> dict[str, str]:
    """Show the progress of the runs until all have ended; returns title -> state.

    On a signal, the runs save and stop.
    """
    from rich.console import Console
    from rich.live import Live

    ended, told, console = {}, {}, Console()
    with Live(console=console) if console.is_terminal else contextlib.nullcontext() as live:
        while todo:
            if signals:  # cancel in every round: a run that is just starting misses it
                for ref in todo:
                    ray.cancel(ref)
            for ref in ray.wait(list(todo), num_returns=len(todo), timeout=1)[0]:
                task = todo.pop(ref)
                ended[task.title] = outcome(ray, ref)
                while is_training(task.folder):  # it is saving
                    time.sleep(0.1)
            rows = [look(task, ended.get(task.title)) for task in tasks]
            if live:
                live.update(table(rows))
            else:
                tell(rows, told)
    return ended


def connect(ray, address: str, cpus: int | None):
    """Start Ray on this machine, or join a cluster. Raises ConnectionError if there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves runs on a busy machine
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        options |= {"num_cpus": cpus, "include_dashboard": False}
        options["object_store_memory"] = 10**8  # the runs store nothing in it
    ray.init(address or "local", **options)


def train_all(ray, tasks: list[Task], todo: list[Task], signals: list[int]) -> dict[str, str]:
    """Let Ray do the runs in `todo`; returns title -> state of the runs that have ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    refs = {}
    remote = ray.remote(max_retries=10)(train)  # one for all, so Ray keeps their order
    for task in todo:
        task.folder.mkdir(parents=True, exist_ok=True)
        here = remote.options(num_cpus=1, num_gpus=int(task.args["device"] == "cuda"))
        refs[here.remote(task, path)] = task
    return watch(ray, tasks, refs, signals)


def check_address(address: str, cpus: int | None):
    """Raise ValueError if there is no cluster; Ray itself would retry again and again."""
    if cpus is not None and cpus < 1:
        raise ValueError(f"--cpus must be at least 1, got {cpus}")
    if address and cpus:
        raise ValueError("give either --cpus (this machine) or --address (a cluster), not both")
    if ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError as error:
            raise ValueError(f"no Ray cluster at --address {address}: {error}") from None


def changed_since(tasks: list[Task]) -> Counter:
    """Scripts that have changed since finished runs were trained by them, and how many."""
    changed = Counter()
    for path in [path for task in tasks for path in task.folder.glob("runs/*/run.json")]:
        with contextlib.suppress(ValueError, OSError):  # a finished run needs only its record
            session = read_session(path)
            file, digest = Path(session.get("script_file", "")), session.get("script_sha256")
            if digest and digest_of(file) != digest:
                changed[file.name] += 1
    return changed


def sweep(tasks: list[Task], address: str = "", cpus: int | None = None) -> int:
    """Train all runs that are not finished; returns the exit status.

    Args:
        tasks: made by `plan`
        address: of a Ray cluster, or "auto"; without it, Ray runs on this machine
        cpus: runs at the same time on this machine; None for one per core

    Raises ValueError, ImportError or OSError before anything starts.
    """
    ray, _ = need("ray"), need("rich")
    check_address(address, cpus)
    todo = [task for task in tasks if not task.finished]
    for script, number in changed_since([task for task in tasks if task.finished]).items():
        wanted = "they are not trained again: choose other --runs for that"
        warn(f"{script} has changed since {number} of the finished runs; {wanted}")
    ended, signals = {}, []
    if todo:
        connect(ray, address, cpus)
        try:
            ended = train_all(ray, tasks, todo, signals)
        finally:
            ray.shutdown()
    for task in tasks:
        if ended.get(task.title, "").startswith("failed"):
            lines = [line for line in tail(task.folder).splitlines() if line.strip()]
            title = f"\n{task.title} {ended[task.title]}; {task.folder / 'log.txt'} ends with"
            print(title, *lines[-10:], sep="\n  ")
    finished = sum(task.finished for task in tasks)
    advice = "; the same command resumes the others" if finished < len(tasks) else ""
    print(f"{finished} of {len(tasks)} runs are finished{advice}")
    if signals:
        return 128 + signals[0]
    return 0 if finished == len(tasks) else 1
