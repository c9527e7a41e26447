"""PettingZoo's environments: mpe (package `mpe2`), sisl, butterfly, and your own."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType

import gymnasium
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils.conversions import aec_to_parallel

from cleanmarl.env import smac
from cleanmarl.env.names import calling, find, is_ours, module_here, unexpected, unknown
from cleanmarl.env.parallel import ParallelTeam

FAMILIES = {"mpe": "mpe2", "sisl": "pettingzoo.sisl", "butterfly": "pettingzoo.butterfly"}
# Modules of mpe in which agents compete
OPPOSED = ("simple_adversary", "simple_crypto", "simple_push", "simple_tag", "simple_world_comm")
MAKERS = ("parallel_env", "env", "raw_env")
AEC_REMEDY = (
    "is turn-based (an AEC environment); if its agents can act at the same time, return "
    "pettingzoo.utils.conversions.aec_to_parallel(env), which needs "
    'metadata["is_parallelizable"] = True'
)


class PettingZooTeam(ParallelTeam):
    """`parallel_env(**options)` of the module `env_name`; `time_limit` is its `max_cycles`.

    A module without `parallel_env` may have `env` or `raw_env` of an AEC environment, whose agents
    can act at the same time. A `parallel_env` without `max_cycles` is called without it.
    """

    def __init__(
        self, env_name: str, env_family: str, options: dict, *, time_limit: int | None, **team
    ):
        title = f"{env_family}:{env_name}"
        with calling("importing", title):
            module = load(env_name, env_family)
        if env_family == "mpe":
            team["env_state"] = False  # their state() repeats the agents' observations
        extra = {"max_cycles": time_limit, "render_mode": team["render_mode"]}
        with calling("opening", title):
            env = parallel(opened(module, title, options, extra), title)
            if time_limit is None:
                time_limit = limit_of(env.unwrapped)
            super().__init__(env, title, time_limit=time_limit, **team)
        self.notes += getattr(env, "notes", ())
        if env_family == "mpe" and env_name.startswith(OPPOSED):
            remedy = "let a fixed rule play the other side"
            self.notes.append(f"agents compete in {env_name}, but QMIX trains one team: {remedy}")


def limit_of(env) -> int | None:
    """The attribute `max_cycles`; some environments of sisl and butterfly wrap the one with it."""
    for layer in (env, getattr(env, "env", None)):
        known = getattr(layer, "max_cycles", None)
        if isinstance(known, int) and known > 0:
            return known
    return None


def opened(module: ModuleType, title: str, options: dict, extra: dict):
    """Make an environment with the user's options, and with those of `extra` that it takes."""
    make = maker(module)
    known, others = options_of(module)
    extra = {name: value for name, value in extra.items() if value and (name in known or others)}
    while True:
        try:
            return make(**extra | options)
        except TypeError as error:
            name = unexpected(error, extra | options)
            if name in options:
                hint = "" if known else "it has none"
                raise ValueError(unknown(f"option of {title}", name, known, hint)) from None
            if name in extra:
                del extra[name]  # **kwargs that end at a constructor without it
            elif is_ours(error):  # the call itself has failed
                remedy = "give options by --env-options NAME=VALUE"
                raise ValueError(f"{title} cannot be opened: {error}; {remedy}") from None
            else:
                raise


def maker(module: ModuleType) -> Callable:
    """The function that makes the environment. Raises ValueError."""
    for name in MAKERS:
        if callable(getattr(module, name, None)):
            return getattr(module, name)
    own = [
        kind.__name__
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__
    ]
    example = own[-1] if own else "MyEnvironment"
    remedy = f"define it, there or in a module of your own: def parallel_env(): return {example}()"
    raise ValueError(f"the module {module.__name__} has no function parallel_env: {remedy}")


def parallel(env, title: str) -> ParallelEnv:
    """The environment with PettingZoo's parallel interface. Raises ValueError."""
    if isinstance(env, AECEnv):
        if not (getattr(env, "metadata", None) or {}).get("is_parallelizable"):
            raise ValueError(f"{title} {AEC_REMEDY}")
        env = aec_to_parallel(env)
    if isinstance(env, ParallelEnv):
        return env
    kind = type(env).__name__
    if isinstance(env, type):
        reason = f"returns the class {env.__name__}: return {env.__name__}()"
    elif env is None:
        reason = "returns nothing: return the environment"
    elif isinstance(env, gymnasium.Env):
        reason = f"returns {kind}, an environment of Gymnasium: use --env-type gym"
    else:
        reason = f"returns {kind}, which must be derived from pettingzoo.ParallelEnv"
    raise ValueError(f"parallel_env() of {title} {reason}")


def options_of(module: ModuleType) -> tuple[list[str], bool]:
    """The options of an environment, and whether there may be others.

    PettingZoo's own `parallel_env` passes all its arguments to `raw_env`.
    """
    names = []
    for maker_name in MAKERS:
        make = getattr(module, maker_name, None)
        if callable(make):
            known = inspect.signature(make).parameters.values()
            names += [one.name for one in known if one.kind is not one.VAR_KEYWORD]
            if all(one.kind is not one.VAR_KEYWORD for one in known):
                return names, False
    return names, True


def modules_of(package: str) -> dict[str, str]:
    """Name -> path of each module of a package that may be an environment. Raises ValueError."""
    own = package not in FAMILIES.values()
    home = module_here(package) if own else importlib.import_module(package)
    if home is None:
        known = ", ".join(FAMILIES)
        remedy = "start in the folder that contains your package, or install it"
        if not package.replace(".", "").isidentifier():
            remedy = "name the folder with letters, digits and _ only"
        raise ValueError(f"env_family must be {known} or a package, not {package!r}: {remedy}")
    if not hasattr(home, "__path__"):
        what = f"a package of environments, not the module {package!r}"
        raise ValueError(f"env_family must be {what}")
    found = {}
    for module in pkgutil.iter_modules(home.__path__):
        inner = module.ispkg or module.name in ("_utils", "all_modules")
        if own or not inner:
            found[module.name] = f"{package}.{module.name}"
    return found


def load(env_name: str, env_family: str) -> ModuleType:
    """Import the module of an environment. Raises ValueError."""
    if env_family in smac.FAMILIES:
        return smac.load(env_name, env_family)
    package = FAMILIES.get(env_family, env_family)
    known = modules_of(package)
    what, hint = f"{env_family} environment", ""
    if env_family not in FAMILIES:
        what = f"environment of {package} ({importlib.import_module(package).__path__[0]})"
        hint = f"it has {', '.join(known) or 'no modules'}"
    path = find(what, env_name, known, hint)
    return importlib.import_module(path)
