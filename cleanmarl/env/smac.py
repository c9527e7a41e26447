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
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv
from pettingzoo.utils import conversions

from cleanmarl.env.names import module_here, unknown

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
        self.max_cycles = max_cycles or core.episode_limit
        core.episode_limit = game.max_cycles = self.max_cycles
        self.possible_agents = list(game.possible_agents)
        n_actions = {agent: int(game.action_spaces[agent].n) for agent in self.possible_agents}
        # Their get_obs_size() forgets obs_timestep_number.
        view = Box(-np.inf, np.inf, np.shape(game.env.get_obs_agent(0)))
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
    """Import SMAC or SMACv2; the answer has `parallel_env`.

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
    if package == "smacv2":
        module.smac_parallel_env._init_agents = named
    return SimpleNamespace(parallel_env=partial(start, module, package), __name__=module.__name__)


def start(module: ModuleType, package: str, max_cycles=None, render_mode=None, **options):
    """Start the game. Raises ValueError for wrong options, before it starts."""
    make = module.StarCraft2Env
    known = inspect.signature(make).parameters
    for name in options:
        if name not in known:
            raise ValueError(unknown(f"option of {package}", name, list(known)))
    map_name = options.get("map_name")
    if config := options.get("capability_config"):
        make = importlib.import_module(f"{package}.env").StarCraftCapabilityEnvWrapper
        options["capability_config"] = copy.deepcopy(config)  # SMACv2 writes into it
    elif str(map_name).startswith("10gen"):
        raise ValueError(f"the map {map_name} has no units of its own: give a capability_config")
    try:
        battle = make(**options)
    except KeyError as error:
        if error.args != (map_name,):
            raise
        names = f"python -m {package}.bin.map_list prints all"
        raise ValueError(f"{package} has no map {map_name!r}; {names}") from None
    with temporarily(vars(module), StarCraft2Env=lambda **_: battle):
        return StarCraft2(module.parallel_env(**options), max_cycles, render_mode)


def named(game) -> tuple[list[str], dict]:
    """Names and action spaces of SMACv2's units.

    SMACv2 names them by the types of its first team, but has a new team in every episode, and
    does not know its own marines.
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
