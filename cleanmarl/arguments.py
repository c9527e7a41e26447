"""The command line of a script, made from its `Args`; also --resume and --evaluate.

A field `gamma: Fraction = 0.99` becomes the option `--gamma`. The docstring below a field is its
help text. A comment above a field is the title of the group that begins there.
"""

import argparse
import difflib
import importlib.util
import inspect
import re
import sys
import typing
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import torch

from cleanmarl.checkpoint import Refused, load_checkpoint

# Arguments that may change when a run is resumed. (More total_timesteps also prolong exploration.)
FREE = {"total_timesteps", "checkpoint_every", "checkpoint_buffer", "device", "torch_threads"}
FREE |= {"save_model", "capture_video", "use_wnb", "wnb_project", "wnb_entity"}
FREE |= {"resume", "evaluate", "which", "list_envs"}


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


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def script_of(Args: type) -> str:
    return Path(inspect.getfile(Args)).stem


def load_file(path: Path) -> ModuleType:
    """Load a script as a module; the script can import modules from its own folder.

    Raises ImportError if the file is not a Python file, and any error that the script raises.
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
    except BaseException:
        del sys.modules[name]
        raise
    return module


def short_name(env_name: str) -> str:
    """An environment's name without its module or folder."""
    return Path(env_name.rpartition(":")[2]).name.removesuffix(".toml")


def read(kind, text: str):
    """Convert a word to a value of type `kind`. Raises ArgumentTypeError."""
    choices = (True, False) if kind is bool else typing.get_args(kind)
    if type(None) in choices:  # int | None
        return None if text.lower() == "none" else read(choices[0], text)
    for choice in choices:
        if text.lower() == str(choice).lower():
            return choice
    with suppress(ValueError, OverflowError):
        if kind is int and float(text).is_integer():  # 2e5
            return int(text) if text.strip("+-").isdecimal() else int(float(text))
        if kind in (float, str):
            return kind(text)
    wanted = f"one of {', '.join(map(str, choices))}" if choices else "a number"
    wanted = "a whole number" if kind is int else wanted
    raise argparse.ArgumentTypeError(f"must be {wanted}, got {text}")


def check(args):
    """Raise Refused if an argument has a wrong type or is out of its bounds."""
    hints = typing.get_type_hints(type(args), include_extras=True)
    for name, kind in typing.get_type_hints(type(args)).items():
        value = getattr(args, name)
        try:
            if read(kind, str(value)) != value:  # "1" where 1 is wanted
                raise argparse.ArgumentTypeError(f"cannot be {value!r}")
        except argparse.ArgumentTypeError as error:
            raise Refused(f"{option(name)} {error}") from None
        for bounds in getattr(hints[name], "__metadata__", ()):
            high = getattr(args, str(bounds.high), bounds.high)
            if value is not None and not bounds.low <= value <= high:
                raise Refused(f"{option(name)} must be from {bounds.low} to {high}, got {value}")
    available = {"cpu": True, "cuda": torch.cuda.is_available()}
    available["mps"] = torch.backends.mps.is_available()
    if not available.get(args.device):
        here = ", ".join(name for name in available if available[name])
        raise Refused(f"--device must be available here ({here}), got {args.device}")


def metavar(kind) -> str:
    """The placeholder for a value in `--help`."""
    words = [word for word in typing.get_args(kind) if isinstance(word, str)]
    return "{" + ",".join(words) + "}" if words else "WORD" if kind is str else "NUMBER"


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        if message.startswith("argument "):  # argument --device: must be ...
            message = message.removeprefix("argument ").replace(": ", " ", 1)
        raise Refused(message)


def titles_and_meanings(Args: type) -> dict[str, tuple[str, str]]:
    """For each field of `Args`: the comment above its group, and the docstring below the field."""
    pattern = r'^    (?:# (.+)|(\w+): .+(?:\n    """((?:.|\n)+?)""")?)$'
    found, title = {}, "Arguments"
    for comment, name, meaning in re.findall(pattern, inspect.getsource(Args), re.MULTILINE):
        title = comment or title
        found[name] = (title, meaning)
    return found


def make_parser(Args: type, description: str, default) -> Parser:
    """An option for each field of `Args`, in groups."""
    names = {"prog": f"{script_of(Args)}.py", "usage": "%(prog)s [arguments]"}
    names["description"] = description.partition("\n")[0]
    parser = Parser(**names, allow_abbrev=False)
    about, groups = titles_and_meanings(Args), {}
    for name, kind in typing.get_type_hints(Args).items():
        title, meaning = about.get(name, ("Arguments", ""))
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        value = getattr(default, name)
        shown = "" if value == "" else f" (default: {value})"
        how = {"default": value, "help": f"{meaning}{shown}".replace("%", "%%")}
        if kind is bool:
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"type": partial(read, kind), "metavar": metavar(kind)}
        groups[title].add_argument(option(name), **how)
    return parser


def parse(Args: type, description: str, words: list[str], default):
    """Parse a command line. Raises Refused; exits after --help."""
    words = [re.sub(r"^--[^=]+", lambda name: name[0].replace("_", "-"), word) for word in words]
    found, unknown = make_parser(Args, description, default).parse_known_args(words)
    if not unknown:
        return Args(**vars(found))
    word, options = unknown[0].partition("=")[0], [option(known.name) for known in fields(Args)]
    near = [o for o in options if "".join(re.findall(r"-(\w)", o)) == word.lstrip("-")]  # --lr
    near += difflib.get_close_matches(word, options)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    raise Refused(f"unknown argument {word}{meant}")


def check_resumed(args, own):
    """Raise Refused if `args` would change the training of a run with the arguments `own`."""
    if args.evaluate:
        raise Refused("give either --resume or --evaluate, not both")
    changed = [n for n, value in asdict(own).items() if value != getattr(args, n) and n not in FREE]
    if changed:
        values = ", ".join(f"{option(name)} {getattr(own, name)}" for name in changed)
        raise Refused(f"a resumed run keeps its own arguments: {values}")
    if args.total_timesteps < own.total_timesteps:
        least = own.total_timesteps
        raise Refused(f"--total-timesteps of a resumed run must be at least its own, {least}")


def parse_args(Args: type, description: str) -> tuple[Any, dict | None]:
    """The arguments of the command line; with --resume or --evaluate also the run's checkpoint.

    With a checkpoint, the run's own arguments are the defaults. Raises Refused; exits after
    --help.
    """
    words, saved = sys.argv[1:], None
    args = parse(Args, description, words, Args())
    if args.resume or args.evaluate:
        folder = Path(args.resume or args.evaluate)
        with_episodes = bool(args.resume) and args.checkpoint_buffer
        saved = load_checkpoint(folder, script_of(Args), with_episodes)
        own = saved["args"] | {"resume": "", "evaluate": ""}
        if differ := own.keys() ^ {known.name for known in fields(Args)}:
            names = ", ".join(map(option, sorted(differ)))
            raise Refused(f"{folder} and this script have different arguments: {names}")
        check(Args(**own | {"device": "cpu"}))  # this machine may lack the run's device
        args = parse(Args, description, words, Args(**own))
        if args.resume:
            check_resumed(args, Args(**own))
    check(args)
    return args, saved
