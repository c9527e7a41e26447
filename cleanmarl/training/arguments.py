"""The command line of a script, made from its `Args` by tyro; also --resume and --evaluate.

A field `gamma: Fraction = 0.99` becomes the option `--gamma`. The docstring below a field is its
help text.
"""

import ast
import importlib.util
import inspect
import json
import math
import re
import sys
import tomllib
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Literal

import torch
import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from cleanmarl.teams import path_of
from cleanmarl.training.checkpoint import (
    load_checkpoint,
    plain,
    read_json,
    read_sessions,
    read_team,
)
from cleanmarl.training.errors import Refused, reader_may_leave, refuse_on_error
from cleanmarl.training.sources import check_scenario

# Arguments that may change when a run is resumed, because it stays the same experiment
FREE = {"total_timesteps", "checkpoint_every", "checkpoint_buffer", "device", "torch_threads"}
FREE |= {"save_model", "keep_models", "capture_video", "use_wnb", "wnb_project", "wnb_entity"}
FREE |= {"resume", "evaluate", "which"}
# Arguments that a resumed run keeps. Its episodes would mean something else:
FIXED = {"env_type", "env_name", "env_family", "env_options", "env_state", "agent_ids", "clock"}
FIXED |= {"time_limit", "bootstrap_truncated", "seed"}
# What it has learned would mean something else, or it began before:
FIXED |= {"normalize_reward", "last_action", "init_from"}
# Its networks, its optimizer or its environments would not fit its checkpoint:
FIXED |= {"hidden_dim", "num_layers", "rnn", "mixer", "hyper_dim", "hypernet_layers"}
FIXED |= {"optimizer", "num_envs"}


PLAIN = bool | int | float | str  # values of a field


@dataclass(frozen=True)
class Between:
    """Bounds of an argument, as part of its type: `Annotated[int, Between(1, 9)]`."""

    low: float
    high: float | str  # a number, or the argument that this one must not exceed


Count = Annotated[int, Between(1, 2**31 - 1)]
Fraction = Annotated[float, Between(0, 1)]
Rate = Annotated[float, Between(1e-12, 1e3)]
Seed = Annotated[int, Between(0, 2**63 - 1)]
Units = Annotated[int, Between(1, 4096)]
Optimizer = Literal["Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD"]


def alias(name: str):
    """Another name of an option, as part of the field's type: `Annotated[Rate, alias("--lr")]`."""
    return tyro.conf.arg(aliases=[name])


def read_options(words: Sequence[str]) -> dict:
    """Options of a task: ["N=5", "map_name=3m"]. Values are TOML's, else plain text.

    Raises ValueError.
    """
    options = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"an option must be like N=5, got {word!r}")
        if name in options:
            raise ValueError(f"the option {name} is given twice")
        options[name] = read_value(text)
    return options


def read_value(text: str):
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
        json.dumps(value)  # args.json cannot hold a date
        return value
    except (tomllib.TOMLDecodeError, TypeError, ValueError):
        return text


def option_words(options: dict) -> list[str]:
    """The words that `read_options` reads as these options."""
    words = []
    for name, value in options.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if isinstance(value, str) and read_value(text) != text:
            text = json.dumps(value)  # quoted: it looks like a number
        words.append(f"{name}={text}")
    return words


Options = Annotated[
    dict,
    PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE ...",
        instance_from_str=read_options,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=option_words,
    ),
]

number_rules = ConstructorRegistry()


@number_rules.primitive_rule
def number_rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """How tyro reads numbers: 2e5 is a whole number, too."""
    if info.type not in (int, float):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT" if info.type is int else "FLOAT",
        instance_from_str=lambda words: read_number(info.type, words[0]),
        is_instance=lambda value: isinstance(value, info.type),
        str_from_instance=lambda value: [str(value)],
    )


def read_number(kind: type, word: str) -> int | float:
    """A number from a command line. Raises ValueError."""
    wanted = "a whole number" if kind is int else "a number"
    if not word.isascii():  # Python reads other digits, too
        raise ValueError(f"must be {wanted} in the digits 0 to 9, got {word}")
    try:
        if kind is float or word.strip("+-").isdecimal():
            return kind(word)
        if float(word).is_integer():  # 2e5
            return int(float(word))
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"must be {wanted}, got {word[:100]}")


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def script_of(Args: type) -> str:
    return Path(inspect.getfile(Args)).stem


def load_file(path: Path) -> ModuleType:
    """Load a script as a module; the script can import modules from its own folder.

    Raises ImportError if the file is not a Python file, or if it gets another module than the one
    in its folder, and any error that the script raises.
    """
    path = path.resolve()
    name = f"script {path}"  # no other module can have this name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
        check_own_modules(path)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def own_modules(script: Path) -> dict[str, Path]:
    """The modules in a script's folder that it imports: name -> file."""
    found = {}
    for node in ast.walk(ast.parse(script.read_bytes())):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in {name.partition(".")[0] for name in names} - {"cleanmarl"}:
            for file in (script.parent / f"{name}.py", script.parent / name / "__init__.py"):
                if file.is_file():
                    found[name] = file
    return found


def check_own_modules(script: Path):
    """Raise ImportError if a script has imported another module than that in its folder."""
    for name, file in own_modules(script).items():
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded and Path(loaded).resolve() != file.resolve():
            raise ImportError(f"it imports {file}, but gets {loaded}: give one another name")


def short_name(env_name: str) -> str:
    """An environment's name without its module or folder."""
    return Path(env_name.rpartition(":")[2]).name.removesuffix(".toml")


def title_of(env_name: str, env_options: dict) -> str:
    """An environment's short name and, if they are short, its options."""
    name = short_name(env_name)
    text = "-".join([name, *option_words(env_options)])
    return text if len(text) <= len(name) + 30 and re.fullmatch(r"[\w.=+-]+", text) else name


def parse(kind: type, words: Sequence[str], **options):
    """A dataclass from a command line, by tyro; `options` are those of `tyro.cli`.

    If the command line is wrong, it prints why and exits with status 2.
    """
    with reader_may_leave(sys.stdout):  # --help | head
        return tyro.cli(kind, args=list(words), registry=number_rules, **options)
    sys.exit()


def parse_args(Args: type, description: str):
    """The arguments of the command line, checked; a run's own ones with --resume or --evaluate.

    Raises Refused; exits after --help, or if tyro cannot read the command line.
    """
    words = sys.argv[1:]
    about = {"prog": f"{script_of(Args)}.py", "description": description.partition("\n")[0]}
    check_fields(Args)
    args = parse(Args, words, **about)
    if args.resume or args.evaluate:
        own = own_arguments(Args, Path(args.resume or args.evaluate), bool(args.resume))
        args = parse(Args, words, default=own, **about)
        if getattr(args, "init_from", "") != getattr(own, "init_from", ""):
            purpose = "--resume" if args.resume else "--evaluate"
            raise Refused(f"--init-from begins a new run: leave it out with {purpose}")
        if args.env_name == own.env_name:
            check_scenario(path_of(args.resume or args.evaluate), args)
    check(args)
    return args


@refuse_on_error()
def own_arguments(Args: type, folder: Path, resume: bool = True):
    """The arguments with which a run was trained, as the script's `Args`. Raises Refused.

    To resume, they are those of its checkpoint; to evaluate, args.json is enough.
    """
    folder = path_of(folder)
    saved = load_checkpoint(folder, script_of(Args))["args"] if resume else sent(Args, folder)
    own = saved | {"resume": "", "evaluate": "", "which": "last"}  # not with what it began
    if not resume and not (folder / "model.pt").exists():
        own["which"] = "best"  # all that was sent
    own = with_newer(Args, own)
    if differ := own.keys() ^ {known.name for known in fields(Args)}:
        names = ", ".join(map(option, sorted(differ)[:8]))
        raise Refused(f"{folder} and this script have different arguments: {names}")
    check_types(Args(**own))
    check(Args(**own | {"device": "cpu"}))  # this machine may lack the run's device
    return Args(**own)


def sent(Args: type, folder: Path) -> dict:
    """The arguments of a team that may have no checkpoint. Raises Refused."""
    saved = read_json(folder / "args.json")
    made_by = script_of(Args)
    if (folder / "team.json").exists():
        made_by = read_team(folder).get("script")
    elif (folder / "run.json").exists():
        made_by = read_sessions(folder)[-1].get("script")
    if made_by != script_of(Args):
        raise Refused(f"{folder} is from {made_by}.py, not from {script_of(Args)}.py")
    return saved


def with_newer(Args: type, own: dict) -> dict:
    """A run's own arguments, and those that a script had not yet when the run was made."""
    newer = {
        "init_from": "",
        "clock": False,
        "keep_models": 0,
        "steps_per_update": 2**31 - 1,
        "optimizer_eps": 1e-8,
        "beta2": 0.99,
    }
    known = {one.name: one.default for one in fields(Args)}
    found = {name: value for name, value in newer.items() if name in known} | own
    for name, value in found.items():
        if isinstance(value, list) and isinstance(known.get(name), tuple):
            found[name] = tuple(value)  # JSON has lists only
    return found


# Options of the environment that are no options of a task
WITH_ARGUMENT = ("agent_ids", "clock", "env_state", "time_limit", "num_envs")
SET_BY_SCRIPT = ("render_mode", "autoreset_mode", "env_type", "env_name", "env_family")


def check(args):
    """Raise Refused if an argument has a wrong type, is out of its bounds, or cannot be changed.

    A resumed run that is made longer keeps its exploration: then `exploration_fraction` changes.
    """
    check_types(args)
    check_options(args)
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available.get(args.device):
        here = ", ".join(name for name in available if available[name])
        raise Refused(f"--device must be available here ({here}), got {args.device}")
    if args.resume:
        check_resumed(args, own_arguments(type(args), Path(args.resume)))


def check_fields(Args: type):
    """Raise Refused if a field of the class has no type: then it is not read."""
    typed = inspect.get_annotations(Args)
    for name, value in vars(Args).items():
        if name not in typed and not name.startswith("_") and isinstance(value, PLAIN):
            wanted = f"{name}: {type(value).__name__} = {value!r}"
            raise Refused(f"a field of Args needs a type, for example {wanted}")


def check_types(args):
    """Raise Refused if an argument has a wrong type, or is out of its bounds."""
    check_fields(type(args))
    for name, hint in typing.get_type_hints(type(args), include_extras=True).items():
        value = getattr(args, name)
        kind, *notes = typing.get_args(hint) if hasattr(hint, "__metadata__") else [hint]
        if not fits(kind, value):
            raise Refused(f"{option(name)} must be {wanted(kind)}, got {repr(value)[:80]}")
        try:
            json.dumps(plain(value))
        except TypeError:
            kind = type(value).__name__
            raise Refused(f"{option(name)} is a {kind}, which is no JSON: make it a str") from None
        for bounds in notes:
            if isinstance(bounds, Between) and value is not None:
                check_bounds(args, name, bounds)


def check_options(args):
    """Raise Refused if an option of the task has an argument of its own."""
    for name in getattr(args, "env_options", {}):
        if name in WITH_ARGUMENT:
            raise Refused(f"--env-options {name} has its own argument: {option(name)}")
        if name in SET_BY_SCRIPT:
            raise Refused(f"--env-options {name} cannot be given: the script sets it")


def fits(kind, value) -> bool:
    """Whether a value has the type of its field; types that are not numbers or words are free."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return value in choices
    if typing.get_origin(kind) in (UnionType, typing.Union):  # int | None
        return any(fits(choice, value) for choice in choices)
    if kind in (int, float) and isinstance(value, bool):
        return False
    accepted = {int: int, float: (int, float), str: str, bool: bool, dict: dict}
    accepted[type(None)] = type(None)
    return isinstance(value, accepted.get(kind, object))


def wanted(kind) -> str:
    """What a field accepts, in words."""
    choices = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, choices))}"
    if choices:
        return " or ".join(map(wanted, choices))
    words = {int: "a whole number", float: "a number", str: "a word", bool: "True or False"}
    words[dict] = "a dict"
    return words.get(kind, "None")


def check_bounds(args, name: str, bounds: Between):
    value = getattr(args, name)
    high = getattr(args, str(bounds.high), bounds.high)
    if not bounds.low <= value <= high:
        most = f"{option(bounds.high)}, {high}" if isinstance(bounds.high, str) else high
        raise Refused(f"{option(name)} must be from {bounds.low} to {most}, got {value}")


def as_words(value) -> str:
    """A value as on the command line."""
    return " ".join(option_words(value)) if isinstance(value, dict) else str(value)


def check_resumed(args, own):
    """Raise Refused if a run with the arguments `own` cannot go on with `args`."""
    if args.evaluate:
        raise Refused("give either --resume or --evaluate, not both")
    fixed = [name for name in changed(own, args) if name in FIXED]
    if fixed:
        values = ", ".join(f"{option(name)} {as_words(getattr(own, name))}" for name in fixed)
        raise Refused(f"a resumed run keeps its own arguments: {values}")
    if args.total_timesteps < own.total_timesteps:
        least = own.total_timesteps
        raise Refused(f"--total-timesteps of a resumed run must be at least its own, {least}")
    fraction = getattr(own, "exploration_fraction", None)
    if fraction is not None and args.exploration_fraction == fraction:
        args.exploration_fraction = fraction * own.total_timesteps / args.total_timesteps


def changed(own, args) -> list[str]:
    """Names of the arguments with which a resumed run is another experiment than before."""
    names = [name for name, value in asdict(own).items() if value != getattr(args, name)]
    return [name for name in names if name not in FREE and not keeps_exploration(name, own, args)]


def keeps_exploration(name: str, own, args) -> bool:
    """Whether an argument is an exploration_fraction of another run length, but as many steps."""
    if name != "exploration_fraction":
        return False
    before = own.exploration_fraction * own.total_timesteps
    return math.isclose(before, args.exploration_fraction * args.total_timesteps)
