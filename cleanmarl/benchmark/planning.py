"""Which runs a sweep has: `plan` lists them, from the words of its command or from a suite."""

import contextlib
import itertools
import json
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

from cleanmarl.battle.reading import check_known, nearest
from cleanmarl.benchmark.records import read_args, read_record
from cleanmarl.benchmark.suite import SuiteTask, check_packages, choose_tasks
from cleanmarl.benchmark.task import EXPLORES, Task, checkpoints, read_began
from cleanmarl.env.tasks import read_task
from cleanmarl.teams import PREFIX
from cleanmarl.training.arguments import FREE, check, load_file, option, parse, script_of, title_of
from cleanmarl.training.errors import Refused, refuse_on_error

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
# The sweep sets these arguments of the scripts itself.
OWN = {"env_type", "env_name", "env_family", "env_options", "seed", "torch_threads"}
OWN |= {"resume", "evaluate", "which"}
# Runs of one curve may differ in these arguments.
SAME_CURVE = FREE - {"total_timesteps", "device"}


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
    if getattr(args, "init_from", "") and not args.init_from.startswith(PREFIX):
        words += ["--init-from", str(Path(args.init_from).resolve())]  # runs have other folders
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
        names = sorted(n for n in known - same if found[n] != as_json(task.args[n]))
        if names:
            there = " ".join(f"{option(name)} {found[name]}" for name in names)
            here = " ".join(f"{option(name)} {task.args[name]}" for name in names)
            differ = f"the run in {task.folder} has {there}, not {here}"
            raise ValueError(f"{differ}: remove it or choose other --runs")


def as_json(value):
    """A value as it is read from a file: tuples are lists there."""
    return json.loads(json.dumps(value))


def check_longer(task: Task, steps: int):
    """Raise ValueError if a run that was planned with some steps cannot be made longer."""
    if not checkpoints(task.folder):
        reason = f"the run in {task.folder} has {steps} steps and no checkpoint to make it longer"
        what = task.record if task.record.exists() else "it"
        raise ValueError(f"{reason}: remove {what} or choose other --runs")
