"""What PettingZoo's and Gymnasium's environments share: each agent has its own spaces."""

import re
from collections.abc import Mapping

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space, flatdim

from cleanmarl.env.team import TeamEnv
from cleanmarl.env.values import check_space, mask_of, shown, vector_of
from cleanmarl.errors import EnvFault

MASK = "action_mask"
# Other names of masks that people use
LIKE_MASK = re.compile(r"(avail|legal|valid|allowed|feasible|possible)\w*(action|move)|mask")
MASK_METHODS = ("action_masks", "get_avail_actions", "get_avail_agent_actions", "legal_actions")


class PaddedTeam(TeamEnv):
    """A team of named agents, each with its own spaces.

    Observations are flattened and zero-padded to the longest. Actions that an agent lacks are
    unavailable to it. An observation may be a dict of the observation itself and its
    "action_mask".

    Args:
        env: the environment that `render` and `close` call
        title: what messages call it
        views: observation space of each agent
        choices: action space of each agent
        team: `agent_ids`, `env_state`, `time_limit`, `reward_aggr` and `render_mode` of `TeamEnv`;
            if the task has a state, its `state_size` and dtype

    Raises:
        ValueError: actions are not Discrete, or observations cannot be flattened
    """

    def __init__(
        self,
        env,
        title: str,
        views: dict[str, Space],
        choices: dict[str, Space],
        state_dtype=np.float32,
        **team,
    ):
        for agent, space in choices.items():
            check_space(space, f"the action space of {agent}")
            if not isinstance(space, Discrete):
                raise ValueError(f"QMIX needs Discrete actions, but those of {agent} are {space}")
        self._env = env
        self._choices = choices
        self._views = {
            agent: without_mask(check_space(view, f"the observation space of {agent}"), agent)
            for agent, view in views.items()
        }
        # If nobody observes anything, everyone observes a 0
        self._size = max(1, *map(flatdim, self._views.values()))
        self._masked: dict[str, bool] = {}  # whether an agent has masks in this episode
        self._plain: set[str] = set()  # entries of infos that are no masks
        self.metadata = self.metadata | (getattr(env, "metadata", None) or {})
        counts = np.array([[space.n] for space in choices.values()])
        n_actions = int(counts.max())
        bytes_only = all(
            isinstance(view, Box) and view.dtype == np.uint8 for view in self._views.values()
        )
        super().__init__(
            n_agents=len(choices),
            n_actions=n_actions,
            obs_size=self._size,
            avail_at_start=(np.arange(n_actions) < counts).astype(np.int8),
            dtypes=(np.uint8 if bytes_only else np.float32, state_dtype),
            **team,
        )
        self.title = title
        self.agent_names = [str(agent) for agent in choices]
        self.read_names()

    def read_names(self):
        """Take names of actions and of observations from the environment, where it has them."""
        actions = self.own("action_names")
        for row, (agent, space) in enumerate(self._choices.items()):
            if names := names_of(actions, agent, row, int(space.n)):
                lacking = ["no action"] * (self.n_actions - len(names))
                self.action_names[row : row + 1] = [names + lacking]
        entries = self.own("observation_names")
        found = [
            names_of(entries, agent, row, flatdim(view))
            for row, (agent, view) in enumerate(self._views.items())
        ]
        if any(found):
            unnamed = [f"entry {i}" for i in range(self._size)]
            self.observation_names = [(names or []) + unnamed[len(names or []) :] for names in found]

    def own(self, name: str):
        """An attribute of the environment, or an entry of its metadata; None if it has neither."""
        core = self._env.unwrapped
        return getattr(core, name, None) or self.metadata.get(name)

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
        avail_actions = np.zeros((self.n_agents, self.n_actions), np.int8)
        for row, (agent, view) in enumerate(self._views.items()):
            if agent not in seen:
                avail_actions[row, 0] = 1
                continue
            value, mask = split(seen[agent], view, agent)
            vector = vector_of(view, value, f"{agent}'s observation")
            obs[row, : len(vector)] = vector
            avail_actions[row, : self._choices[agent].n] = 1
            if not terminated:
                self._mask(avail_actions[row], agent, mask, masks.get(agent))
        return self.observe(obs, avail_actions, state)

    def _mask(self, available: np.ndarray, agent: str, inside, beside):
        """Apply an agent's mask, from its observation or its info, to its row `available`."""
        mask = beside if inside is None else inside
        masked = mask is not None
        if self._masked.setdefault(agent, masked) != masked:
            now = "has an action_mask, but had none" if masked else "had an action_mask, but has none"
            needs = "it needs one after reset and after every step, also at the time limit"
            raise EnvFault(f"{agent} {now}: {needs}")
        if not masked:
            return
        count = int(self._choices[agent].n)
        allowed = mask_of(mask, count, f"the action_mask of {agent}")
        if inside is not None and beside is not None and not np.array_equal(inside, beside):
            raise EnvFault(f"{agent} has one action_mask in its observation, another in its info")
        available[:count] = allowed

    def check_info(self, info, agent: str) -> Mapping:
        """An agent's info, which must not hide masks under another name."""
        if not isinstance(info, Mapping):
            raise EnvFault(f"the info of {agent} must be a dict, got {shown(info)}; {{}} is enough")
        for name in info.keys() - self._plain:
            if is_like_mask(name, info[name]):
                raise EnvFault(rename(f"the info of {agent}", name))
            self._plain.add(name)
        return info

    def expect_masks(self):
        """After a reset: masks must not be left in a method of the environment."""
        for name in MASK_METHODS:
            if hasattr(self._env.unwrapped, name) and not any(self._masked.values()):
                answer = "put its answer into the infos of reset() and step(), as action_mask"
                raise EnvFault(f"the environment has {name}(), but its infos have no mask: {answer}")

    def render(self) -> np.ndarray | None:
        return self._env.render() if self.render_mode else None

    def close(self):
        self._env.close()


def is_like_mask(name, value) -> bool:
    """Whether an entry is a mask under a name that is not read here."""
    several = isinstance(value, dict | set | list | tuple) or np.size(value) > 1
    return name != MASK and several and bool(LIKE_MASK.search(str(name)))


def rename(where: str, name) -> str:
    wanted = f"rename it to {MASK!r}, with a 0 or a 1 for each action"
    return f"{where} has {name!r}: if it is a mask of actions, {wanted}; if not, rename it, too"


def without_mask(view: Space, agent: str) -> Space:
    """The space of what an agent sees, from a space that may also have the mask."""
    if not isinstance(view, Dict):
        return view
    seen = {name: space for name, space in view.items() if name != MASK}
    for name, space in seen.items():
        if isinstance(space, Box) and len(space.shape) == 1 and LIKE_MASK.search(str(name)):
            raise EnvFault(rename(f"the observation space of {agent}", name))
    return next(iter(seen.values())) if MASK in view.keys() and len(seen) == 1 else Dict(seen)


def split(value, view: Space, agent: str) -> tuple:
    """An agent's observation without the mask, and the mask or None."""
    if not isinstance(value, Mapping):
        return value, None
    seen = {name: part for name, part in value.items() if name != MASK}
    if isinstance(view, Dict):
        return seen, value.get(MASK)
    # The space describes the observation only
    for name in seen:
        if len(seen) > 1 and is_like_mask(name, seen[name]):
            raise EnvFault(rename(f"the observation of {agent}", name))
    if len(seen) != 1:
        wanted = f"one entry besides {MASK!r}, since its space is {view}"
        raise EnvFault(f"the observation of {agent} must have {wanted}; it has {sorted(seen)}")
    return next(iter(seen.values())), value.get(MASK)


def names_of(given, agent, row: int, count: int) -> list[str] | None:
    """The `count` names of an agent; `given` has names for all agents, or for each one.

    Raises ValueError if there are too many or too few.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        given = given.get(agent)
    elif given and not isinstance(given[0], str):
        given = given[row]
    if given is not None and len(given) != count:
        raise ValueError(f"{agent} has {count} actions or entries, but {len(given)} names for them")
    return given and [str(name) for name in given]
