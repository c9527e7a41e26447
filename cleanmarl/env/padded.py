"""What PettingZoo's and Gymnasium's environments share: each agent has its own spaces."""

import numpy as np
from gymnasium.spaces import Discrete, Space, flatdim, flatten

from cleanmarl.env.team import TeamEnv


class PaddedTeam(TeamEnv):
    """A team of named agents, each with its own spaces.

    Observations are flattened and zero-padded to the longest. Actions that an agent lacks are
    unavailable to it.

    Args:
        env: the environment that `render` and `close` call
        views: observation space of each agent
        choices: action space of each agent
        team: `agent_ids`, `time_limit`, `reward_aggr` and `render_mode` of `TeamEnv`

    Raises:
        ValueError: actions are not Discrete, or observations cannot be flattened
    """

    def __init__(self, env, views: dict[str, Space], choices: dict[str, Space], **team):
        for agent, space in choices.items():
            if not isinstance(space, Discrete):
                raise ValueError(f"QMIX needs Discrete actions, but those of {agent} are {space}")
        self._env = env
        self._views = views
        self._choices = choices
        self._size = max(map(flatdim, views.values()))
        self._masked: set[str] = set()  # agents that have had a mask in this episode
        self.metadata = self.metadata | env.metadata
        counts = np.array([[space.n] for space in choices.values()])
        n_actions = int(counts.max())
        super().__init__(
            n_agents=len(choices),
            n_actions=n_actions,
            obs_size=self._size,
            avail_at_start=(np.arange(n_actions) < counts).astype(np.int8),
            **team,
        )

    def observe_agents(self, seen: dict, masks: dict | None) -> dict[str, np.ndarray]:
        """The team's observation, made from the observations of its agents.

        Args:
            seen: observation of each agent; an agent without one has left: it sees zeros, and can
                only take action 0
            masks: mask of each agent, 1 where an action is available; without a mask, all its
                actions are available. None: the task has ended, and masks do not matter

        Raises:
            ValueError: a mask has the wrong shape, allows no action, or is missing although the
                agent had one earlier in the episode
        """
        obs = np.zeros((self.n_agents, self._size), np.float32)
        avail_actions = np.zeros((self.n_agents, self.n_actions), np.int8)
        for row, (agent, view) in enumerate(self._views.items()):
            if agent not in seen:
                avail_actions[row, 0] = 1
                continue
            vector = flatten(view, seen[agent])
            obs[row, : len(vector)] = vector
            avail_actions[row, : self._choices[agent].n] = 1
            if masks is not None:
                self._mask(avail_actions[row], agent, masks.get(agent))
        return self.observe(obs, avail_actions)

    def _mask(self, available: np.ndarray, agent: str, mask):
        """Apply an agent's mask to its row `available`."""
        if mask is None and agent in self._masked:
            missing = f"{agent} had an action_mask, but has none after this step"
            raise ValueError(f"{missing}: it needs one after every step, also at the time limit")
        if mask is None:
            return
        self._masked.add(agent)
        count = int(self._choices[agent].n)
        mask = np.asarray(mask)
        if mask.shape != (count,):
            wanted = f"must have {count} numbers, one per action"
            raise ValueError(f"the action_mask of {agent} {wanted}, got shape {mask.shape}")
        if not mask.any():
            raise ValueError(f"the action_mask of {agent} allows no action")
        available[:count] = mask != 0

    def render(self) -> np.ndarray | None:
        return self._env.render() if self.render_mode else None

    def close(self):
        self._env.close()
