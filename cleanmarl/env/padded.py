"""What PettingZoo's and Gymnasium's environments share: each agent has its own spaces."""

from collections.abc import Mapping
from contextlib import suppress
from inspect import getattr_static, signature
from types import FunctionType

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space, flatdim

from cleanmarl.env.masks import MASK, METHOD, refuse_elsewhere, split, without_mask
from cleanmarl.env.team import TeamEnv
from cleanmarl.env.values import check_space, dict_of, mask_of, shown, vector_of
from cleanmarl.errors import EnvFault

LISTS = (list, tuple, np.ndarray)
STATE = "state"  # in an observation, it is RLlib's and MARLlib's name of the state
MASK_WHEN = "give one after reset and after every step, also at the time limit"


class PaddedTeam(TeamEnv):
    """A team of named agents, each with its own spaces.

    Observations are flattened and zero-padded to the longest. Actions that an agent lacks are
    unavailable to it. An observation may be a dict of the observation itself and its
    "action_mask".

    `own_actions` is the number of actions of each agent, [n_agents].

    Args:
        env: the environment that `render` and `close` call
        title: what messages call it
        views: observation space of each agent
        choices: action space of each agent
        state_space: space of the task's own states, None if it has none
        team: `agent_ids`, `env_state`, `time_limit`, `reward_aggr` and `render_mode` of `TeamEnv`

    Raises:
        ValueError: actions are not Discrete, or names do not fit
        EnvFault: a space cannot be read
    """

    sorts_agents = False  # whether agents may stand in another order than the user's
    # Methods that may give a state, but are not called
    unread_states = ("get_state", "global_state", "get_global_state")
    refuses_methods = True  # whether masks must not be left in a method of the environment

    def __init__(
        self,
        env,
        title: str,
        views: dict[str, Space],
        choices: dict[str, Space],
        state_space: Space | None = None,
        **team,
    ):
        self._env = env
        self._names = {agent: name_of(agent) for agent in choices}
        self._masked: dict[str, bool] = {}  # whether an agent has masks in this episode
        self.read_choices(choices)
        self.read_views(views)
        self.metadata = self.metadata | dict_of(getattr(env, "metadata", None) or {}, "metadata")
        n_actions = max(self._counts.values())
        own_actions = [np.arange(n_actions) < count for count in self._counts.values()]
        self._own_actions = np.array(own_actions, np.int8)
        super().__init__(
            n_agents=len(choices),
            n_actions=n_actions,
            obs_size=self._size,
            state_size=None if state_space is None else flatdim(state_space),
            avail_at_start=self._own_actions,
            dtypes=(dtype_of(*self._views.values()), dtype_of(state_space)),
            **team,
        )
        self.title = title
        if any(isinstance(view, Dict) and STATE in view.spaces for view in self._views.values()):
            what = f"agents observe the entry {STATE!r}, too"
            self.notes.append(f"{what}: if only the mixer should, give it by the method state()")
        if state_space is None and team.get("env_state", True):
            self.note_states()
        self.agent_names = list(self._names.values())
        self.read_names()

    def note_states(self):
        """Note a state that the environment may have, but that is not read."""
        own = self._env.unwrapped
        for name in self.unread_states:
            if callable(getattr(own, name, None)):
                instead = "the mixer sees the observations of all agents"
                remedy = "PettingZoo's state() and a TeamEnv's state are read"
                self.notes.append(f"{name}() is not called, {instead}: {remedy}")

    def read_choices(self, choices: dict[str, Space]):
        """Keep the action space and the number of actions of each agent."""
        for agent, space in choices.items():
            check_space(space, f"the action space of {self._names[agent]}")
            if not isinstance(space, Discrete):
                given = f"those of {self._names[agent]} are {shown(space)}"
                remedy = "number the ones that agents may choose"
                raise ValueError(f"QMIX needs Discrete actions, but {given}: {remedy}")
        self._choices = choices
        self._counts = {agent: int(space.n) for agent, space in choices.items()}
        self.own_actions = list(self._counts.values())

    def read_views(self, views: dict[str, Space]):
        """Keep the space of what each agent sees, without its mask."""
        self._views: dict[str, Space] = {}
        self._declared: set[str] = set()  # the agents whose observation space has a mask
        for agent, view in views.items():
            check_space(view, f"the observation space of {self._names[agent]}")
            seen = without_mask(view, set(self._counts.values()), self._names[agent])
            self._views[agent] = seen
            if seen is not view:
                self._declared.add(agent)
        # If nobody observes anything, everyone observes a 0
        self._size = max(1, *map(flatdim, self._views.values()))

    def read_names(self):
        """Take names of actions and of observations from the environment, where it has them."""
        names = self.own_names("action_names", self._counts)
        for row, (agent, count) in enumerate(self._counts.items()):
            own = names.get(agent, self.action_names[row][:count])
            self.action_names[row] = own + ["no action"] * (self.n_actions - count)
        sizes = {agent: flatdim(view) for agent, view in self._views.items()}
        names = self.own_names("observation_names", sizes)
        if names:
            unnamed = [f"entry {i}" for i in range(self._size)]
            found = [names.get(agent, []) for agent in sizes]
            self.observation_names = [some + unnamed[len(some) :] for some in found]

    def own_names(self, what: str, counts: dict[str, int]) -> dict[str, list[str]]:
        """Names by agent: an attribute of the environment, or an entry of its metadata.

        They are a list for all agents, a dict with a name for each number, a list of lists, or a
        dict by agent. Raises ValueError if there are too many or too few.
        """
        given = getattr(self._env.unwrapped, what, None)
        if given is None:
            given = self.metadata.get(what)
        if given is None:
            return {}
        given = names_by_agent(given, list(counts), what, self.sorts_agents)
        if strange := [agent for agent in given if agent not in counts]:
            raise ValueError(f"{what} has {strange[0]!r}, which is no agent")
        for agent, names in given.items():
            if not isinstance(names, LISTS) or len(names) != counts[agent]:
                wanted = f"a list of {counts[agent]} names for {self._names[agent]}"
                raise ValueError(f"{what} must have {wanted}, got {shown(names)}")
        return {agent: [str(name) for name in names] for agent, names in given.items()}

    def begin(self):
        """Forget the episode before."""
        self._masked.clear()

    def observe_agents(
        self, seen: dict, masks: dict, state=None, terminated: bool = False
    ) -> dict[str, np.ndarray]:
        """The team's observation, made from the observations of its agents.

        Args:
            seen: observation of each agent; an agent without one has left: it sees zeros, and can
                only take action 0
            masks: mask of each agent, 1 where an action is available, None without a mask
            state: the task's own state
            terminated: the task has ended, so masks do not matter

        Raises:
            EnvFault: an observation or a mask is not as declared, or a mask is missing
        """
        obs = np.zeros((self.n_agents, self._size), self._obs_dtype)
        avail_actions = self._own_actions.copy()
        for row, (agent, view) in enumerate(self._views.items()):
            if agent not in seen:
                avail_actions[row, 1:] = 0
                continue
            value, mask = seen[agent], None
            if not is_as_declared(value, view):
                value, mask = split(value, view, self._names[agent])
                value = vector_of(view, value, f"{self._names[agent]}'s observation")
            obs[row, : value.size] = value.ravel()
            beside = masks.get(agent)
            never_masked = mask is None is beside and self._masked.get(agent) is False
            if not (terminated or never_masked):
                self.apply_mask(avail_actions[row], agent, mask, beside)
        return self.observe(obs, avail_actions, state)

    def apply_mask(self, available: np.ndarray, agent: str, inside, beside):
        """Apply an agent's mask, from its observation or its info, to its row `available`."""
        name = self._names[agent]
        mask = beside if inside is None else inside
        masked = mask is not None
        if not masked and agent in self._declared:
            raise EnvFault(f"{name} has no {MASK}, but its space has one: {MASK_WHEN}")
        if self._masked.setdefault(agent, masked) != masked:
            change = f"had an {MASK}, but has none now"
            if masked:
                change = f"has an {MASK} now, but had none"
            raise EnvFault(f"{name} {change}: {MASK_WHEN}")
        if not masked:
            return
        count = self._counts[agent]
        allowed = mask_of(mask, count, f"the {MASK} of {name}")
        if inside is not None and beside is not None and not np.array_equal(inside, beside):
            both = f"one {MASK} in its observation, another in its info"
            raise EnvFault(f"{name} has {both}: make them equal, or give only one")
        available[:count] = allowed

    def check_info(self, info, name: str) -> Mapping:
        """An info, which must not hide masks under another name."""
        if dict_of(info, f"the info of {name}"):
            refuse_elsewhere(info, f"the info of {name}")
        return info

    def expect_masks(self):
        """After a reset: masks must not be left in a method of the environment."""
        if any(self._masked.values()) or not self.refuses_methods:
            return
        env, inside = self._env, self._env.unwrapped
        found = {name: getattr_static(inside, name) for name in dir(inside)}
        while env is not inside and hasattr(env, "env"):
            found |= vars(type(env))
            env = env.env
        for name in sorted(found):
            if METHOD.fullmatch(name) and isinstance(found[name], FunctionType | property):
                answer = f"put its answer into the infos of reset() and step(), as {MASK!r}"
                fault = f"the environment has {name}, but its infos have no mask: {answer}"
                remedy = f"rename what is no mask, or let a wrapper say {name} = None"
                raise EnvFault(f"{fault}; {remedy}")

    def render(self) -> np.ndarray | None:
        if not self.render_mode:
            return None
        draw = self._env.unwrapped.render
        if "mode" in signature(draw).parameters:  # as in the old package gym
            return draw(mode=self.render_mode)
        return self._env.render()

    def close(self):
        with suppress(SystemExit):  # as at the end of an example with pygame
            self._env.close()


def is_as_declared(value, view: Space) -> bool:
    """Whether an observation is an array of the declared shape and type, as in most steps."""
    is_array = type(value) is np.ndarray and type(view) is Box
    return is_array and value.shape == view.shape and value.dtype is view.dtype


def name_of(agent) -> str:
    """What messages call an agent."""
    return agent if isinstance(agent, str) else f"agent {agent}"


def dtype_of(*spaces: Space | None) -> type:
    """Bytes if all spaces have bytes, as pictures do."""
    if all(isinstance(space, Box) and space.dtype == np.uint8 for space in spaces):
        return np.uint8
    return np.float32


def names_by_agent(given, agents: list, what: str, sorts_agents: bool) -> Mapping:
    """Names by agent, from a list or a dict by number for all agents, or from a list of lists."""
    if isinstance(given, Mapping):
        numbers = range(len(given))
        if given.keys() != set(numbers) or not all(isinstance(given[i], str) for i in numbers):
            return given
        given = [given[i] for i in numbers]
    if not isinstance(given, LISTS):
        raise ValueError(f"{what} must be lists of names, or a dict by agent, got {shown(given)}")
    if all(isinstance(name, str) for name in given):
        return dict.fromkeys(agents, given)
    if len(given) != len(agents):
        wanted = f"a list for each of {len(agents)} agents"
        raise ValueError(f"{what} must have {wanted}, got {len(given)}")
    if sorts_agents:
        raise ValueError(f"{what} must be a dict by agent: a Dict of Gymnasium sorts its agents")
    return dict(zip(agents, given, strict=True))
