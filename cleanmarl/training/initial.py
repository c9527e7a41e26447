"""With what a run begins: warnings, networks of another run, changed arguments of a resumed one."""

import ast
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from cleanmarl.teams import path_of
from cleanmarl.training.arguments import as_words, changed, option, own_modules, with_newer
from cleanmarl.training.checkpoint import (
    file_of,
    load_model,
    read_json,
    read_model,
    read_team,
    sizes_of,
)
from cleanmarl.training.errors import Refused, warn
from cleanmarl.training.memory import notes_on
from cleanmarl.training.scaling import keep_scales, with_scales
from cleanmarl.training.session import file_of as file_of_script
from cleanmarl.training.session import warn_if_changed

AGENTS = ("agent", "target_agent")  # networks of the agents in `Networks`
APPLIED = ("env_name", "resume", "seed")  # arguments that work whatever a script does
IDLE = {  # what has no effect beside another argument
    ("mixer", "vdn"): ("hyper_dim", "hypernet_layers"),
    ("optimizer", "SGD"): ("optimizer_eps", "beta2"),
}
SHAPED_BY = ("agent_ids", "clock", "hidden_dim", "num_layers", "rnn", "last_action")


def warn_about(args, env):
    """Warn of what may go wrong in this environment, before training in it."""
    if run := args.resume or args.evaluate or getattr(args, "init_from", ""):
        check_order(path_of(run), env.unwrapped)
    if args.evaluate:
        with suppress(Refused):  # some runs have no team.json
            warn_if_changed(read_team(path_of(run)), file_of_script(type(args)))
    if args.evaluate or args.resume:
        return  # it was said when the training began
    for note in notes_on(env, args.buffer_size) + unread(type(args)) + idle(args):
        warn(note)
    env = env.unwrapped
    limited, clock = env.time_limit is not None, getattr(env, "clock", False)
    if not hasattr(args, "bootstrap_truncated"):
        return  # a copy decides on its own
    if limited and clock and args.bootstrap_truncated:
        warn("agents see the time left, so the limit is an end: leave --bootstrap-truncated out")
    if limited and not (clock or args.bootstrap_truncated):
        warn("the time limit is an end, which agents do not see: add --bootstrap-truncated")


def idle(args) -> list[str]:
    """Arguments that were given, but have no effect beside another one, in sentences."""
    changes = {one.name for one in fields(args) if getattr(args, one.name) != one.default}
    found = []
    for (name, value), others in IDLE.items():
        if getattr(args, name, None) == value:
            given = [as_given(one, getattr(args, one)) for one in others if one in changes]
            found += [f"{words} has no effect with {as_given(name, value)}" for words in given]
    return found


def check_definitions(Args: type):
    """Raise Refused if a network of the script, or its `act`, was replaced from outside.

    Teams of the run would act by the script's own. Warns of a network that has the name of the
    script's, but is not used.
    """
    script, own, main = file_of_script(Args), sys.modules[Args.__module__], sys.modules["__main__"]
    defined = set()
    with suppress(OSError, SyntaxError):
        tree = ast.parse(script.read_bytes()).body
        defined = {one.name for one in tree if isinstance(one, ast.ClassDef | ast.FunctionDef)}
    for name in defined & vars(own).keys():
        value = getattr(own, name)
        is_network = isinstance(value, type) and issubclass(value, nn.Module)
        if not (is_network or name == "act"):
            continue
        remedy = f"copy {script.name} and edit the copy"
        if getattr(value, "__module__", own.__name__) != own.__name__:
            raise Refused(f"{name} of {script.name} was replaced, but teams act by it: {remedy}")
        other = vars(main).get(name)
        is_theirs = isinstance(other, type) and other.__module__ == "__main__"
        if is_network and is_theirs and main is not own:
            warn(f"{name} of your program is not used: {remedy}")


def unread(Args: type) -> list[str]:
    """Arguments that a copy of a script has, but does not read, in sentences."""
    script = file_of_script(Args)
    bases = [file_of_script(kind) for kind in Args.__mro__ if is_dataclass(kind)]
    with suppress(OSError):
        own = text_of([*bases, *own_modules(script).values()])
        names = [one.name for one in fields(Args) if not is_read(one.name, own)]
        return [f"{script.name} does not read args.{name}" for name in names]
    return []


def is_read(name: str, own: str) -> bool:
    """Whether an argument is read by a script with the text `own`, or by the code of all scripts.

    What the project's scripts read, this code does not apply, though it may mention it.
    """
    reads = rf"(\.|[\"']){name}\b"
    if name in ("optimizer_eps", "beta2"):
        reads += r"|\boptimizer_options\("
    if re.search(reads, own):
        return True
    here = Path(__file__).parents[1]
    scripts = text_of(here.glob("qmix*.py"))
    shared = text_of([*here.glob("training/*.py"), here / "env" / "__init__.py"])
    is_scripts_own = re.search(reads, scripts) and name not in APPLIED
    return bool(re.search(reads, shared) and not is_scripts_own)


def text_of(files: Iterable[Path]) -> str:
    return "".join(path.read_text() for path in files)


def check_order(run: Path, env):
    """Raise Refused if agents stand in another order than in a run: it has learned by their ids."""
    now, before = getattr(env, "agent_names", None), None
    with suppress(Refused):  # some runs have no team.json
        before = read_team(run)["agent_names"]
    if now and before and now != before and sorted(now) == sorted(before):
        refuse_order(now, before)


def check_alike(env, others):
    """Raise Refused if environments have their agents in different orders."""
    one = getattr(env.unwrapped, "agent_names", None)
    other = getattr(others, "agent_names", None)
    if one and other and list(one) != list(other):
        refuse_order(one, other)


def refuse_order(one: list[str], other: list[str]):
    orders = f"agents are {', '.join(one)} in one process, but {', '.join(other)} in another"
    raise Refused(f"{orders}: give possible_agents an order, as in sorted(...)")


def init_from(args, networks: torch.nn.Module):
    """Load the networks of the run `args.init_from`, if there is one, for a new run.

    `args.which` chooses the "best", the "last" or those kept at a step. If only the mixer does not
    fit, for example because the state has another size, the agents' networks are loaded and a
    warning says so. Raises Refused.
    """
    if not args.init_from or args.evaluate:
        return
    if args.resume:
        return keep_scales_again(args, networks)
    folder = path_of(args.init_from)
    model = read_model(folder / file_of(args.init_from, args.which))
    parts = dict(networks.named_children())
    misfits = [name for name, part in parts.items() if not fits(model.get(name), part)]
    for name in misfits:
        if name in AGENTS:
            reason = misfit(folder, args, model.get(name), parts[name])
            raise Refused(f"the {name} of {folder} does not fit here: {reason}")
    if misfits:
        warn(f"the {misfits[0]} of {folder} does not fit here: only the agent network is taken")
    taken = that_fit(model, networks)
    load_model(args.init_from, args.which, **taken)
    keep_scales(taken)


def keep_scales_again(args, networks: torch.nn.Module):
    """Keep the scales of another run's networks when the run that began with them is resumed."""
    taken = networks
    with suppress(Refused):  # the other run may be gone
        model = read_model(path_of(args.init_from) / file_of(args.init_from, args.which))
        taken = that_fit(model, networks)
    keep_scales(taken)


def that_fit(model: dict, networks: torch.nn.Module) -> nn.ModuleDict:
    """The networks that begin as another run's: all, or the agents' alone if one does not fit."""
    parts = dict(networks.named_children())
    if not all(fits(model.get(name), part) for name, part in parts.items()):
        parts = {name: part for name, part in parts.items() if name in AGENTS}
    return nn.ModuleDict(parts)


def fits(weights: dict | None, network: torch.nn.Module) -> bool:
    """Whether the weights have the names and shapes of the network's own."""
    return weights is not None and shapes(with_scales(weights, network)) == shapes(
        network.state_dict()
    )


def shapes(weights: dict) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def misfit(folder: Path, args, weights: dict | None, network: torch.nn.Module) -> str:
    """Why the agent network of a run does not fit."""
    there, here = sizes_of(weights or {}), sizes_of(network.state_dict())
    reason = f"it has {there}, not {here}" if there != here else "it has other layers"
    own = own_args(type(args), folder)
    names = [name for name in SHAPED_BY if own.get(name) != getattr(args, name, None)]
    words = " ".join(as_given(name, own[name]) for name in names if name in own)
    return f"{reason}; it was trained with {words}" if words else reason


def as_given(name: str, value) -> str:
    """An argument as on a command line."""
    if isinstance(value, bool):
        return option(name if value else f"no_{name}")
    return f"{option(name)} {value}"


def optimizer_options(args) -> dict:
    """Options that only some optimizers of torch.optim have: `fused`, which is faster, and others.

    A step of Adam is m / (sqrt(v) + eps), m and v averages of a gradient and of its square. With
    a small eps, the tiny errors of a task that rarely pays make full steps, and values diverge.

    PyTorch's Adam averages v over about 1,000 updates (beta2 = 0.999). Where gradients grow tenfold
    within 30, its steps get 25 times as long, and a team may forget how to win. Over 100 updates
    (0.99), as RMSprop does, they get 10 times as long. But a rare success teaches less, too.
    """
    options = {} if args.optimizer == "SGD" else {"eps": args.optimizer_eps}
    if "Adam" in args.optimizer:
        options["betas"] = (0.9, args.beta2)
    if args.optimizer == "RMSprop":
        options["alpha"] = args.beta2
    if args.optimizer in ("Adam", "AdamW", "SGD"):
        options["fused"] = True
    return options


def own_args(Args: type, folder: Path) -> dict:
    """The arguments of a run, or none if they were not sent with its networks."""
    try:
        return with_newer(Args, read_json(folder / "args.json"))
    except Refused:
        return {}


def apply_changes(saved: dict, args, state: dict) -> dict[str, list]:
    """Tell which arguments of a resumed run have changed, and give optimizers the new ones.

    `saved` is its checkpoint, `state` its parts. Returns name -> [value before, value now].
    """
    own = type(args)(**with_newer(type(args), saved["args"]))
    changes = {name: [getattr(own, name), getattr(args, name)] for name in changed(own, args)}
    if changes:
        words = [f"{option(n)} {as_words(a)} -> {as_words(b)}" for n, (a, b) in changes.items()]
        begin = f"{', '.join(words)} from step {saved['run']['step']} on"
        warn(f"{begin}: the run is no longer one experiment")
    tell_exploration(own, args, changes)
    for part in state.values():
        if isinstance(part, torch.optim.Optimizer):
            for group in part.param_groups:
                apply_to_group(group, changes)
        if isinstance(part, LRScheduler) and "learning_rate" in changes:
            before, now = changes["learning_rate"]
            part.base_lrs = [rate / before * now for rate in part.base_lrs]
    return changes


def apply_to_group(group: dict, changes: dict[str, list]):
    """Give parameters of an optimizer the changed arguments."""
    if "learning_rate" in changes:
        before, now = changes["learning_rate"]
        group["lr"] = group["lr"] / before * now  # a schedule may have lowered it
    if "optimizer_eps" in changes and "eps" in group:
        group["eps"] = group["initial_eps"] = changes["optimizer_eps"][1]
    if "beta2" in changes and "betas" in group:
        group["betas"] = (group["betas"][0], changes["beta2"][1])
    if "beta2" in changes and "alpha" in group:
        group["alpha"] = changes["beta2"][1]


def tell_exploration(own, args, changes: dict):
    """Tell if a longer run keeps the exploration that it had."""
    fraction = getattr(args, "exploration_fraction", None)
    if fraction == getattr(own, "exploration_fraction", None) or "exploration_fraction" in changes:
        return
    end = round(fraction * args.total_timesteps)
    warn(f"exploration ends at step {end}, as before: --exploration-fraction is {fraction:.6g} now")
