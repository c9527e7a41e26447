"""The interface of all environments here: a team of agents with one reward."""

from collections.abc import Sequence
from contextlib import contextmanager
from math import isfinite
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary

from cleanmarl.env.names import find, is_ours
from cleanmarl.env.spaces import JointActions
from cleanmarl.env.values import MOST, array_of, dict_of, flag_of, number_of, shown
from cleanmarl.errors import EnvFault

# The clock at the start of an episode
FULL = {np.float32: 1, np.uint8: 255}
KEYS = {"obs", "state", "avail_actions"}
# Attributes that a subclass must leave as they are
OWN = ("n_agents", "n_actions", "obs_size", "state_size", "agent_ids", "clock")
OWN += ("observation_space", "action_space")
REPORTS = ("is_success", "battle_won")
FIVE = "observation, rewards, terminated, truncated, info"


class TeamEnv(gymnasium.Env):
    """A team of `n_agents` agents, each with `n_actions` actions, and one reward.

    An observation is a dict of

    - `obs`: [n_agents, obs_size], what each agent sees, with `agent_ids` its one-hot id and with
      `clock` the share of time left
    - `state`: [state_size], for training only: the task's own state or, if it has none, the
      observations of all agents without ids; with `clock` also the share of time left
    - `avail_actions`: int8 [n_agents, n_actions], 1 where the agent can take the action

    `obs` and `state` are float32, or uint8 if the task declares bytes, as for pictures.

    `reset` and `step` are Gymnasium's. `terminated` says that the task has ended, `truncated` that
    the time limit was reached; never both. `reset(seed=...)` determines all episodes until the
    next `reset` with a seed.

    To write your own environment, derive from this class, pass its sizes to the constructor, and
    define `start` and `advance`. If it can be drawn, also define Gymnasium's `metadata` and
    `render`. If its agents, actions or entries of observations have names, set the attributes
    below.

    Args:
        n_agents: agents of the team
        n_actions: actions of each agent
        obs_size: length of an agent's observation, without its id
        state_size: length of the state; None if the task has no state of its own
        avail_at_start: [n_agents, n_actions], not 0 where an action is available at the start of
            every episode; None if all are. `action_space.sample()` draws from these before the
            first reset
        agent_ids: append a one-hot agent id to each observation
        clock: append the share of time left to each observation and to the state, if `time_limit`
            is known
        env_state: whether the state is the task's own; otherwise it is the observations
        time_limit: steps after which an episode is truncated; None if no limit is known
        reward_aggr: the team's reward is the "sum" or "mean" of the agents' rewards
        render_mode: None, or one of metadata["render_modes"]
        dtypes: types of `obs` and of `state`, np.float32 or np.uint8

    Attributes:
        title: what messages call this environment
        agent_names: a name for each agent, [n_agents]
        action_names: a name for each action of each agent, [n_agents][n_actions]
        observation_names: a name for each entry of each agent's observation without ids,
            [n_agents][obs_size]; None if they have no names
        notes: what a user should know before training, in sentences

    Raises:
        ValueError: a size, `reward_aggr` or `render_mode` is wrong
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
        clock: bool = True,
        env_state: bool = True,
        time_limit: int | None = None,
        reward_aggr: str = "sum",
        render_mode: str | None = None,
        dtypes: tuple = (np.float32, np.float32),
    ):
        self.metadata = TeamEnv.metadata | self.metadata
        known = self.metadata["render_modes"]
        if render_mode not in (None, *known):
            raise ValueError(f"render_mode {render_mode!r} is not among {known}")
        if min(n_agents, n_actions, obs_size) < 1:
            sizes = f"n_agents {n_agents}, n_actions {n_actions}, obs_size {obs_size}"
            raise ValueError(f"a team needs agents that act and observe, got {sizes}")
        if not set(dtypes) <= FULL.keys():
            raise ValueError(f"dtypes must be np.float32 or np.uint8, got {dtypes}")
        # A subclass may have _steps and the like of its own, so here they have two underscores
        divisors = {"sum": 1, "mean": n_agents}
        self.agent_rewards: list[float] = []  # of the last step; empty if the team has one
        self.__reward_divisor = find("reward_aggr", reward_aggr, divisors)
        self.render_mode = render_mode
        self.time_limit = time_limit
        self.title = type(self).__name__
        self.notes: list[str] = []
        self.agent_names = [f"agent {i}" for i in range(n_agents)]
        self.action_names = [[f"action {j}" for j in range(n_actions)]] * n_agents
        self.observation_names: list[list[str]] | None = None

        self._obs_dtype, self._state_dtype = dtypes
        self.agent_ids = agent_ids
        self.clock = clock and time_limit is not None
        ids = np.eye(n_agents, n_agents if agent_ids else 0)
        # What follows an agent's observation: its id, and the time left, which `observe` writes
        self.__added = np.pad(ids, ((0, 0), (0, int(self.clock)))).astype(self._obs_dtype)
        self.__seen_shape = (n_agents, obs_size)
        self._state_shape = (state_size or 0,)
        lengths = {"obs": n_agents * obs_size, "state": state_size or 0}
        self.__ones = {what: np.ones(length, np.float32) for what, length in lengths.items()}
        self._has_state = bool(env_state and state_size)
        self.__episode = self.__steps = 0
        self.n_agents = n_agents
        self.n_actions = n_actions
        self.obs_size = obs_size + self.__added.shape[1]
        self.state_size = state_size if self._has_state else n_agents * obs_size
        self.state_size += self.clock
        if not self._has_state:
            self._state_dtype = self._obs_dtype
        self.observation_space = Dict(
            obs=numbers(self._obs_dtype, (n_agents, self.obs_size)),
            state=numbers(self._state_dtype, (self.state_size,)),
            avail_actions=MultiBinary((n_agents, n_actions)),
        )
        if avail_at_start is None:
            avail_at_start = np.ones((n_agents, n_actions), np.int8)
        self.action_space = JointActions(avail_at_start)
        self.__own = {name: getattr(self, name) for name in OWN}

    def start(self, seed: int) -> dict[str, np.ndarray]:
        """Begin an episode, which the seed alone must determine.

        Returns the first observation, made by `observe`.
        """
        raise EnvFault(f"{type(self).__name__} must define start(self, seed)")

    def advance(self, actions: list[int]) -> tuple[dict, float | Sequence[float], bool, bool, dict]:
        """One step. `actions` has one number for each agent; `step` has checked them.

        Returns five things:

        - observation: made by `observe`
        - rewards: one for each agent, or one number for the team
        - terminated: whether the task has ended
        - truncated: whether the task's own time limit is reached; `step` handles `time_limit`
        - info: a dict; in it `is_success`, if known: whether the episode is a success so far.
            The latest report counts
        """
        raise EnvFault(f"{type(self).__name__} must define advance(self, actions)")

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

        Raises EnvFault if a shape is wrong, or a number is not finite or not of the declared type.
        """
        obs = self._numbers(obs, self.__seen_shape, self._obs_dtype, "obs")
        if state is not None and self._state_shape == (0,):
            raise EnvFault("a state is given, but no state_size is declared")
        if not self._has_state:
            state = obs.flatten()
        elif state is None:
            size = self._state_shape[0]
            raise EnvFault(f"a state of {size} numbers is declared, but none is given")
        else:
            state = self._numbers(state, self._state_shape, self._state_dtype, "state")
        if avail_actions is None:
            avail_actions = np.ones((self.n_agents, self.n_actions), bool)
        given = array_of(avail_actions, "avail_actions")
        if given.shape != (self.n_agents, self.n_actions):
            declared = f"{self.n_agents} agents with {self.n_actions} actions"
            raise EnvFault(f"avail_actions has shape {given.shape} for {declared}")
        if given.dtype != bool and (strange := given[(given != 0) & (given != 1)]).size:
            raise EnvFault(f"avail_actions must be 0 or 1, got {strange[0]}")
        avail_actions = given.astype(np.int8)
        self.__available = self.action_space.available = avail_actions
        if self.clock:
            left = 1 - self.__steps / self.time_limit
            self.__added[:, -1] = left * FULL[self._obs_dtype]
            state = np.append(state, state.dtype.type(left * FULL[self._state_dtype]))
        obs = np.concatenate((obs, self.__added), axis=1)
        return {"obs": obs, "state": state, "avail_actions": avail_actions}

    def _numbers(self, values, shape: tuple, dtype, what: str) -> np.ndarray:
        """A copy of numbers, checked."""
        try:
            with np.errstate(invalid="ignore"):  # a NaN that is no byte is told below
                array = np.array(values, dtype)
        except (ValueError, TypeError, OverflowError):
            array = array_of(values, what)  # says what is wrong
        if array.shape != shape:
            raise EnvFault(f"{what} has shape {array.shape}, but {shape} is declared")
        if dtype is np.uint8 and getattr(values, "dtype", None) != np.uint8:
            given = np.asarray(values)
            with np.errstate(invalid="ignore"):
                strange = given[given != given.astype(np.uint8)]
            if strange.size:
                raise EnvFault(f"{what} contains {strange[0]}, but bytes are declared (dtypes)")
        # The sum is finite if all numbers are; np.isfinite takes longer, and decides
        total = array.ravel().dot(self.__ones[what]) if dtype is np.float32 else 0
        if not isfinite(total) and not np.isfinite(array).all():
            place = np.argwhere(~np.isfinite(array))[0].tolist()
            raise EnvFault(f"{self._entry(what, place)} is {array[tuple(place)]}")
        return array

    def _entry(self, what: str, place: list[int]) -> str:
        """An entry of an observation or a state, in words."""
        if what == "state":
            return f"entry {place[0]} of the state"
        agent, number = place
        names = self.observation_names
        entry = f" ({names[agent][number]})" if names else ""
        return f"{self.agent_names[agent]}'s observation: entry {number}{entry}"

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Start an episode. Raises EnvFault if the task does not answer as it declares."""
        super().reset(seed=seed)
        if seed is None:
            # Every episode gets a seed, so nothing depends on a task's own random streams.
            seed = int(self.np_random.integers(2**31))
        self.__steps = 0
        self.__episode += 1
        self.__seed = seed
        self.__success = {}
        with self._located("reset"):
            first = self.__episode == 1
            if first:
                self.check_attributes()
            observation = self._made_by_observe(self.start(seed), "start")
            if first:
                self.check_attributes()
        return observation, {}

    def step(self, actions: np.ndarray) -> tuple[dict, float, bool, bool, dict]:
        """Take actions, integers [n_agents].

        Raises:
            ValueError: an action is not available to its agent
            EnvFault: the task does not answer as it declares
        """
        actions = np.asarray(actions).tolist()
        for agent, (action, available) in enumerate(zip(actions, self.__available, strict=True)):
            if not (0 <= action < self.n_actions and available[action]):
                raise self._refusal(agent, action)
        self.__steps += 1
        with self._located("step"):
            answer = self.advance(actions)
            if not isinstance(answer, tuple | list) or len(answer) != 5:
                count = len(answer) if isinstance(answer, tuple | list) else shown(answer)
                raise EnvFault(f"advance() must return {FIVE}; got {count}")
            observation, rewards, terminated, truncated, info = answer
            self._made_by_observe(observation, "advance")
            dict_of(info, "the info of advance()")
            for name in REPORTS:
                if name in info:
                    self.__success[name] = flag_of(info[name], name)
            reward = self._team_reward(rewards)
            if not (terminated is False is truncated):
                terminated = flag_of(terminated, "terminated")
                truncated = flag_of(truncated, "truncated")
        over_time = self.__steps == self.time_limit
        truncated = (truncated or over_time) and not terminated
        if not self.__success.keys() <= info.keys():  # an earlier step has reported it
            info = info | self.__success
        return observation, reward, terminated, truncated, info

    def _made_by_observe(self, observation, call: str) -> dict[str, np.ndarray]:
        """What the task has returned. Raises EnvFault if `observe` has not made it."""
        is_made = isinstance(observation, dict) and observation.keys() == KEYS
        if not is_made or np.shape(observation["obs"]) != (self.n_agents, self.obs_size):
            given = list(observation) if isinstance(observation, dict) else shown(observation)
            raise EnvFault(f"{call}() must return what self.observe() makes, got {given}")
        return observation

    def check_attributes(self):
        """Raise EnvFault if a subclass has changed what is TeamEnv's, or has too few names."""
        for name, value in self.__own.items():
            if getattr(self, name) is not value:
                kind = type(self).__name__
                raise EnvFault(f"{kind} has changed self.{name}, which TeamEnv sets: rename yours")
        if not isinstance(self.notes, list):
            raise EnvFault(f"notes must be a list of sentences, got {shown(self.notes)}")
        n_agents, obs_size = self.__seen_shape
        if len(self.agent_names) != n_agents:
            raise EnvFault(f"agent_names must be a list of {n_agents} names")
        sizes = {"action_names": self.n_actions, "observation_names": obs_size}
        for what, size in sizes.items():
            names = getattr(self, what)
            counts = [len(one) if isinstance(one, list | tuple) else 0 for one in names or []]
            if names is not None and counts != [size] * n_agents:
                raise EnvFault(f"{what} must be {n_agents} lists of {size} names, one an agent")

    def _refusal(self, agent: int, action: int) -> ValueError:
        who, names = self.agent_names[agent], self.action_names[agent]
        legal = np.flatnonzero(self.__available[agent]).tolist()
        if not legal:
            remedy = "leave at least one, for example to do nothing"
            fault = EnvFault(f"avail_actions allows {who} no action: {remedy}")
            self._locate(fault, "step" if self.__steps else "reset")
            return fault
        named = f" ({names[action]})" if 0 <= action < self.n_actions else ""
        return ValueError(f"{who} cannot do action {action}{named}, only {legal}")

    def _team_reward(self, rewards: float | Sequence[float]) -> float:
        """The team's reward; `rewards` is one number for all, or one for each agent."""
        self.agent_rewards.clear()
        several = isinstance(rewards, list) or np.ndim(rewards) > 0
        if not several or len(rewards) == 1 != self.n_agents:
            return number_of(rewards, "the reward")
        if len(rewards) != self.n_agents:
            wanted = f"one for each of {self.n_agents} agents, or one for the team"
            raise EnvFault(f"there are {len(rewards)} rewards, but there must be {wanted}")
        total = 0.0
        for agent, reward in enumerate(rewards):
            if not (isinstance(reward, float | int) and abs(reward) < MOST):
                reward = number_of(reward, f"{self.agent_names[agent]}'s reward")
            self.agent_rewards.append(reward)
            total += reward
        return total / self.__reward_divisor

    @contextmanager
    def _located(self, call: str):
        """Add to errors where they happened."""
        try:
            yield
        except SystemExit as end:  # of a simulator whose window was closed, for example
            fault = EnvFault(f"{call}() has called sys.exit({end.code!r})")
            self._locate(fault, call)
            raise fault from None
        except Exception as error:
            self._locate(error, call)
            raise

    def _locate(self, error: Exception, call: str):
        """Add to an error where it happened."""
        where = f"episode {self.__episode} (seed {self.__seed})"
        where += f", step {self.__steps}" if call == "step" else ", at its reset"
        if isinstance(error, EnvFault):
            error.args = (f"{self.title}, {where}: {error}",)
        elif not is_ours(error):
            error.add_note(f"{call}() of {self.title} failed in {where}")


def numbers(dtype, shape: tuple[int, ...]) -> Box:
    """The space of numbers, or of bytes."""
    bounds = (0, 255) if dtype == np.uint8 else (-np.inf, np.inf)
    return Box(*bounds, shape, dtype)
