"""StarCraft II itself, for those who own it: SMAC's and SMACv2's own PettingZoo interfaces.

This was tested without the game: SMAC's and SMACv2's public code ran on a stand-in for the game,
and the tests use a stand-in package with the same interface.

The interfaces of both packages are older than PettingZoo's of today. `StarCraft2` mends them:

- a battle that reaches its time limit is truncated, not terminated
- the last infos have `battle_won`
- SMAC gives the team's reward to every agent; here the agents share it, so it counts once
- `capability_config` of SMACv2 draws teams and positions, as SMACv2's own experiments do

The game takes a seed only when it starts, as the option `seed`: `reset` cannot repeat a battle.
"""

import copy
import importlib
import inspect
import random
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv
from pettingzoo.utils import conversions

from cleanmarl.env.names import find, module_here, unknown

# No release of them is on PyPI, where `smac` is another package
FAMILIES = {f"{name}.env.pettingzoo": name for name in ("smac", "smacv2")}
MODULE = "StarCraft2PZEnv"


class StarCraft2(ParallelEnv):
    """A battle of SMAC or SMACv2; dead units leave. `game` is what their `parallel_env` gives."""

    metadata: ClassVar[dict] = {"name": "StarCraft II", "render_modes": ["rgb_array"]}

    def __init__(self, game: ParallelEnv, max_cycles: int | None, render_mode: str | None):
        self._game = game
        self._battle = game.env  # SMAC's StarCraft2Env, or SMACv2's wrapper of it
        self._core = core = getattr(game.env, "env", game.env)
        self.render_mode = render_mode
        self.max_cycles = max_cycles or getattr(core, "episode_limit", game.max_cycles)
        core.episode_limit = game.max_cycles = self.max_cycles
        if "team_gen" in getattr(core, "capability_config", {}):
            # The names are the types of the first team, but every episode has another team.
            names = [f"unit_{number}" for number in range(len(game.possible_agents))]
            game.agents_id = dict(zip(names, game.agents_id.values(), strict=True))
            game.action_spaces = dict(zip(names, game.action_spaces.values(), strict=True))
            game.possible_agents = names
        self.possible_agents = list(game.possible_agents)
        n_actions = {agent: int(game.action_spaces[agent].n) for agent in self.possible_agents}
        view = Box(-np.inf, np.inf, (game.env.get_obs_size(),))
        self.action_spaces = {agent: Discrete(n) for agent, n in n_actions.items()}
        self.observation_spaces = {
            agent: Dict(observation=view, action_mask=Box(0, 1, (n,), np.int8))
            for agent, n in n_actions.items()
        }
        self.state_space = Box(-np.inf, np.inf, self.state().shape)
        # The PettingZoo interface keeps the answers of `core` to itself.
        core_step = core.step

        def step(actions):
            self._answer = core_step(actions)
            return self._answer

        core.step = step

    def observation_space(self, agent):
        return self.observation_spaces[agent]

    def action_space(self, agent):
        return self.action_spaces[agent]

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
        truncations = {agent: cut and agent in living for agent in acting}
        infos = {agent: {"battle_won": won} if ended or cut else {} for agent in acting}
        return observations, rewards, terminations, truncations, infos

    def state(self):
        return np.asarray(self._battle.get_state(), np.float32)

    def render(self):
        # The colours of pysc2 need the shuffle of Python 3.10, with a second argument.
        with temporarily(vars(random), shuffle=lambda items, _: random.Random(0).shuffle(items)):
            return self._battle.render(mode="rgb_array")

    def close(self):
        self._game.close()


def load(env_name: str, env_family: str) -> SimpleNamespace:
    """Import SMAC or SMACv2; the answer has `parallel_env(max_cycles, render_mode, **options)`.

    Raises ValueError for another name, ImportError if the package is missing.
    """
    if env_name != MODULE:
        wanted = f"--env-name {MODULE}, and the map among the options: --env-options map_name=3m"
        raise ValueError(f"{env_family} needs {wanted}")
    package = FAMILIES[env_family]
    if module_here(env_family) is None:
        source = f"pip install git+https://github.com/oxwhirl/{package}.git"
        raise ImportError(f"{env_family} needs StarCraft II and {package.upper()}: {source}")
    old_gym = {"gym": gymnasium, "gym.utils": gymnasium.utils}
    old_name = {"from_parallel_wrapper": conversions.parallel_to_aec}
    with temporarily(sys.modules, **old_gym), temporarily(vars(conversions), **old_name):
        module = importlib.import_module(f"{env_family}.{MODULE}")

    def parallel_env(max_cycles=None, render_mode=None, **options):
        return opened(module, package, max_cycles, render_mode, copy.deepcopy(options))

    return SimpleNamespace(parallel_env=parallel_env, __name__=module.__name__)


def opened(
    module: ModuleType, package: str, max_cycles: int | None, render_mode: str | None, options: dict
) -> StarCraft2:
    """Start the game. Raises ValueError for wrong options, before it starts."""
    env = importlib.import_module(f"{package}.env")
    known = inspect.signature(env.StarCraft2Env).parameters
    for name in options:
        if name not in known:
            raise ValueError(unknown(f"option of {package.upper()}", name, list(known)))
    map_name = options.get("map_name", "8m")
    maps = importlib.import_module(f"{package}.env.starcraft2.maps.smac_maps")
    find(f"map of {package.upper()}", map_name, maps.get_smac_map_registry())
    config = options.get("capability_config", {})
    if "10gen" in map_name and "team_gen" not in config:
        raise ValueError(f"the map {map_name} is empty: give its teams, in capability_config")
    if not config:
        return StarCraft2(module.parallel_env(**options), max_cycles, render_mode)
    with temporarily(vars(module), StarCraft2Env=env.StarCraftCapabilityEnvWrapper):
        return StarCraft2(module.parallel_env(**options), max_cycles, render_mode)


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
