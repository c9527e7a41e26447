"""The interface of all environments here: a team of agents with one reward."""

from collections.abc import Sequence
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary

from cleanmarl.env.names import find
from cleanmarl.env.spaces import JointActions


class TeamEnv(gymnasium.Env):
    """A team of `n_agents` agents, each with `n_actions` actions, and one reward.

    An observation is a dict of

    - `obs`: float32 [n_agents, obs_size], what each agent sees and, with `agent_ids`, its one-hot
      id
    - `state`: float32 [state_size], for training only: the task's own state or, if it has none,
      the observations of all agents without ids
    - `avail_actions`: int8 [n_agents, n_actions], 1 where the agent can take the action

    `reset` and `step` are Gymnasium's. `terminated`: the task has ended; `truncated`: the time
    limit was reached. Never both. `reset(seed=...)` determines all episodes until the next one.

    To write your own environment, derive from this class, pass its sizes to the constructor, and
    define `start` and `advance`. If it can be drawn, also define Gymnasium's `metadata` and
    `render`.

    Args:
        n_agents: agents of the team
        n_actions: actions of each agent
        obs_size: length of an agent's observation, without its id
        state_size: length of the state; None if the task has no state of its own
        avail_at_start: [n_agents, n_actions], not 0 where an action is available at the start of
            every episode; None if all are. `action_space.sample()` draws from these before the
            first reset
        agent_ids: append a one-hot agent id to each observation
        time_limit: steps after which an episode is truncated; None if no limit is known
        reward_aggr: the team's reward is the "sum" or "mean" of the agents' rewards
        render_mode: None, or one of metadata["render_modes"]

    Raises:
        ValueError: `reward_aggr` or `render_mode` is unknown
    """

    metadata: ClassVar[dict] = {"render_modes": [], "render_fps": 10}

    def __init__(
        self,
        *,
        n_agents: int,
        n_actions: int,
        obs_size: int,
        state_size: int | None = None,
        avail_at_start: np.ndarray | None = None,
        agent_ids: bool = True,
        time_limit: int | None = None,
        reward_aggr: str = "sum",
        render_mode: str | None = None,
    ):
        self.metadata = TeamEnv.metadata | self.metadata
        known = self.metadata["render_modes"]
        if render_mode not in (None, *known):
            raise ValueError(f"render_mode {render_mode!r} is not among {known}")
        divisors = {"sum": 1, "mean": n_agents}
        self._reward_divisor = find("reward_aggr", reward_aggr, divisors)
        self.render_mode = render_mode
        self.time_limit = time_limit

        self._ids = np.eye(n_agents, n_agents if agent_ids else 0, dtype=np.float32)
        self.n_agents = n_agents
        self.n_actions = n_actions
        self.obs_size = obs_size + self._ids.shape[1]
        self.state_size = state_size or n_agents * obs_size
        self.observation_space = Dict(
            obs=Box(-np.inf, np.inf, (n_agents, self.obs_size)),
            state=Box(-np.inf, np.inf, (self.state_size,)),
            avail_actions=MultiBinary((n_agents, n_actions)),
        )
        if avail_at_start is None:
            avail_at_start = np.ones((n_agents, n_actions), np.int8)
        self.action_space = JointActions(avail_at_start)

    def start(self, seed: int) -> dict[str, np.ndarray]:
        """Begin an episode. The seed alone must determine it, not the episodes before.

        Returns the first observation, made by `observe`.
        """
        raise NotImplementedError

    def advance(self, actions: list[int]) -> tuple[dict, float | Sequence[float], bool, bool, dict]:
        """One step. `actions` has one number for each agent; `step` has checked them.

        Returns:
            observation: made by `observe`
            rewards: one for each agent, or one number for the team
            terminated: whether the task has ended
            truncated: whether the task's own time limit is reached; `step` handles `time_limit`
            info: optional `is_success`, whether the episode is a success so far
        """
        raise NotImplementedError

    def observe(
        self,
        obs: np.ndarray | Sequence,
        avail_actions: np.ndarray | Sequence | None = None,
        state: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Make an observation from copies of its parts.

        Args:
            obs: [n_agents, obs_size], without ids
            avail_actions: [n_agents, n_actions], 1 where an action is available; None if all are.
                When an episode is truncated, give the actions that would be available if it
                continued: the learner bootstraps from them
            state: [state_size]; None if the task has no state of its own
        """
        obs = np.array(obs, np.float32)
        if avail_actions is None:
            avail_actions = np.ones((self.n_agents, self.n_actions))
        avail_actions = np.array(avail_actions, np.int8)
        self._available = self.action_space.available = avail_actions
        state = obs.flatten() if state is None else np.array(state, np.float32)
        obs = np.concatenate((obs, self._ids), axis=1)
        return {"obs": obs, "state": state, "avail_actions": avail_actions}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._steps = 0
        if seed is None:
            # Every episode gets a seed, so nothing depends on a task's own random streams.
            seed = int(self.np_random.integers(2**31))
        return self.start(seed), {}

    def step(self, actions: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """Take actions, integers [n_agents]. ValueError: one is not available to its agent."""
        actions = np.asarray(actions).tolist()
        for agent, (action, available) in enumerate(zip(actions, self._available, strict=True)):
            if not (0 <= action < self.n_actions and available[action]):
                legal = np.flatnonzero(available).tolist()
                raise ValueError(f"agent {agent} cannot do action {action}, only {legal}")
        observation, rewards, terminated, truncated, info = self.advance(actions)
        self._steps += 1
        over_time = self._steps == self.time_limit
        truncated = (truncated or over_time) and not terminated
        return observation, self._team_reward(rewards), terminated, truncated, info

    def _team_reward(self, rewards: float | Sequence[float]) -> float:
        if np.ndim(rewards) == 0:
            return float(rewards)
        return sum(map(float, rewards)) / self._reward_divisor
