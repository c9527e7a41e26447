"""StarCraft II itself, for those who own it: the PettingZoo interfaces of SMAC and SMACv2.

This was tested with a stand-in of the same interface, not with the game. The public code of SMAC
and SMACv2 was also run, on a fake game.

Both interfaces are older than PettingZoo's of today. `StarCraft2` mends them: time limits truncate,
the last infos have `battle_won`, and the agents share the team's reward, so it counts once.
SMACv2 draws the teams and positions of its `capability_config`.
"""

import copy
import importlib
import inspect
import random
import sys
from contextlib import contextmanager
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv
from pettingzoo.utils import conversions

from cleanmarl.env.names import module_here, unexpected, unknown

# No release of them is on PyPI, where `smac` is another package
FAMILIES = {f"{name}.env.pettingzoo": name for name in ("smac", "smacv2")}
MODULE = "StarCraft2PZEnv"


class StarCraft2(ParallelEnv):
    """A battle of SMAC or SMACv2; dead units leave. `game` is what their `parallel_env` gives."""

    metadata: ClassVar[dict] = {"name": "StarCraft II", "render_modes": ["rgb_array"]}
    notes = ("the game takes a seed when it starts (option seed), not at a reset",)

    def __init__(self, game: ParallelEnv, max_cycles: int | None, render_mode: str | None):
        self._game = game
        # SMAC's StarCraft2Env, which SMACv2 may wrap
        self._core = core = getattr(game.env, "env", game.env)
        self.render_mode = render_mode
        self.max_cycles = max_cycles or getattr(core, "episode_limit", game.max_cycles)
        core.episode_limit = game.max_cycles = self.max_cycles
        self.possible_agents = list(game.possible_agents)
        n_actions = core.get_total_actions() - 1  # without the action of the dead
        # Their get_obs_size() forgets obs_timestep_number.
        seen = Box(-np.inf, np.inf, np.shape(core.get_obs_agent(0)))
        self._view = Dict(observation=seen, action_mask=Box(0, 1, (n_actions,), np.int8))
        self._choice = Discrete(n_actions)
        self.state_space = Box(-np.inf, np.inf, self.state().shape)
        # The PettingZoo interface keeps the answers of `core` to itself.
        core_step = core.step

        def step(actions):
            self._answer = core_step(actions)
            return self._answer

        core.step = step

    def observation_space(self, agent):
        return self._view

    def action_space(self, agent):
        return self._choice

    def reset(self, seed=None, options=None):
        self._core._episode_count = 1  # with 0, another game would start
        answer = self._game.reset()
        observations = answer[0] if isinstance(answer, tuple) else answer
        self.agents = list(self.possible_agents)
        return observations, {agent: {} for agent in self.agents}

    def step(self, actions):
        acting = self.agents
        observations, *_ = self._game.step(actions)
        reward, over, info = self._answer
        won = bool(info.get("battle_won"))
        # A living unit can always stop.
        living = [agent for agent in acting if observations[agent]["action_mask"].any()]
        # A battle is also lost if only Medivacs live.
        ended = won or not living or getattr(self._core, "defeat_counted", False)
        # Without a winner, time is up, or StarCraft II has failed and was restarted.
        cut = not ended and (over or not self._game.agents)
        self.agents = [] if ended or cut else living
        rewards = {agent: reward / len(acting) for agent in acting}
        terminations = {agent: ended or agent not in living for agent in acting}
        truncations = dict.fromkeys(acting, cut)
        infos = {agent: {"battle_won": won} if ended or cut else {} for agent in acting}
        return observations, rewards, terminations, truncations, infos

    def state(self):
        return np.asarray(self._core.get_state(), np.float32)

    def render(self):
        # The colours of pysc2 need the shuffle of Python 3.10, with a second argument.
        with temporarily(vars(random), shuffle=lambda items, _: random.Random(0).shuffle(items)):
            return self._core.render(mode="rgb_array")

    def close(self):
        self._game.close()


def load(env_name: str, env_family: str) -> ModuleType | SimpleNamespace:
    """Import SMAC or SMACv2, and mend its `parallel_env`.

    Raises ValueError for another name, ImportError if the package is missing.
    """
    package = FAMILIES[env_family]
    if env_name != MODULE:
        wanted = f"--env-name {MODULE}; the map is an option: --env-options map_name=3m"
        raise ValueError(f"{env_family} needs {wanted}")
    if module_here(env_family) is None:
        source = f"pip install git+https://github.com/oxwhirl/{package}.git"
        raise ImportError(f"{env_family} needs StarCraft II, and {package}: {source}")
    old_gym = {"gym": gymnasium, "gym.utils": gymnasium.utils}
    old_name = {"from_parallel_wrapper": conversions.parallel_to_aec}
    with temporarily(sys.modules, **old_gym), temporarily(vars(conversions), **old_name):
        module = importlib.import_module(f"{env_family}.{MODULE}")
    if not hasattr(module, "StarCraft2Env"):
        return module  # not the public version
    if package == "smacv2":
        module.smac_parallel_env._init_agents = name_units
    make = partial(open_battle, module, package)
    return SimpleNamespace(parallel_env=make, __name__=module.__name__)


def open_battle(module: ModuleType, package: str, max_cycles=None, render_mode=None, **options):
    """Start the game. Raises ValueError for wrong options, before it starts."""
    make = module.StarCraft2Env
    known = list(inspect.signature(make).parameters)
    map_name = options.get("map_name")
    config = options.get("capability_config") or {}
    if str(map_name).startswith("10gen") and "team_gen" not in config:
        teams = "give a capability_config with team_gen"
        raise ValueError(f"the map {map_name} has no units of its own: {teams}")
    if config:
        make = importlib.import_module(f"{package}.env").StarCraftCapabilityEnvWrapper
        options["capability_config"] = copy.deepcopy(config)  # SMACv2 writes into it
    try:
        core = make(**options)
    except (TypeError, KeyError) as error:
        if error.args == (map_name,):
            hint = f"python -m {package}.bin.map_list prints all"
            raise ValueError(f"{package} has no map {map_name!r}; {hint}") from None
        name = unexpected(error)
        if name not in options:
            raise
        raise ValueError(unknown(f"option of {package}", name, known)) from None
    with temporarily(vars(module), StarCraft2Env=lambda **_: core):
        return StarCraft2(module.parallel_env(**options), max_cycles, render_mode)


def name_units(game) -> tuple[list[str], dict]:
    """Names and action spaces of SMACv2's units, whose types change between episodes.

    SMACv2's own names are the types of its first team, and it does not know its marines.
    """
    names = [f"unit_{unit}" for unit in game.env.agents]
    game.agents_id = dict(zip(names, game.env.agents, strict=True))
    return names, dict.fromkeys(names, Discrete(game.env.get_total_actions() - 1))


@contextmanager
def temporarily(names: dict, **values):
    """Set entries of a dict, and put back what was there."""
    before = {name: names[name] for name in values if name in names}
    names.update(values)
    try:
        yield
    finally:
        for name in values:
            names.pop(name, None)
        names.update(before)
