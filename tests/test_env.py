"""The one environment interface.

This file also serves as a user's own module, for PettingZoo (see `Departures` and `parallel_env`)
and for Gymnasium (see `Answers`).
"""

import os
import random
import signal
import subprocess
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Tuple
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from pettingzoo import ParallelEnv

from cleanmarl.env import EnvFault, TeamEnv, make_env, make_vector_env
from cleanmarl.env.lbf import options_of
from cleanmarl.env.vector import SeedsAll, replay

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

INSTALLED = find_spec("smaclite") is not None  # the original

LBF = ("lbf", "Foraging-8x8-2p-3f-v3")
SPREAD = ("pz", "simple_spread_v3")
# two agents that see 3 and 11 numbers and choose among 3 and 5
LISTENER = ("pz", "simple_speaker_listener_v4")
PURSUIT = ("pz", "pursuit_v5", "sisl")
BATTLE = ("smaclite", "3m")
MEETING = ("gym", "tests.games.meeting:Meeting-v0")
FORAGING = ("gym", "lbforaging:Foraging-8x8-2p-3f-v3")
ANSWERS = ("gym", "tests.test_env:Answers-v0")
OWN = ("pz", "test_env", "tests")
UPSTREAM = ("smaclite-upstream", "3m")
TASKS = [
    LBF,
    ("lbf", "Foraging-2s-10x10-4p-2f-coop-v3"),
    SPREAD,
    LISTENER,
    ("pz", "simple_tag_v3"),
    PURSUIT,
    ("pz", "knights_archers_zombies_v11", "butterfly"),
    OWN,
    MEETING,
    ANSWERS,
    UPSTREAM,
    BATTLE,
]

# check_env on unbounded boxes and the missing spec
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
every_task = pytest.mark.parametrize("task", TASKS, ids=lambda task: task[1])


class Departures(ParallelEnv):
    """Agents leave as `ends` says: at which step, terminated or truncated.

    They observe the step, and earn 1 and 2 at each step.
    """

    metadata: ClassVar[dict] = {"name": "departures"}
    possible_agents: ClassVar[list] = ["small", "large"]

    def __init__(self, ends, infos):
        self.ends, self.infos = ends, infos

    def observation_space(self, agent):
        return Box(0, 99, (1,) if agent == "small" else (2, 2))

    def action_space(self, agent):
        return Discrete(2) if agent == "small" else Discrete(3, start=5)

    def reset(self, seed=None, options=None):
        self.agents, self.steps = list(self.possible_agents), 0
        self.noise = np.random.default_rng(seed).uniform(1, 9)
        return self._observations(), {agent: self._first_info(agent) for agent in self.agents}

    def step(self, actions):
        self.steps, self.actions = self.steps + 1, actions
        ways = {}
        for agent in self.agents:
            step, way = self.ends[agent]
            ways[agent] = way if step == self.steps else "stays"
        terminated = {agent: way in ("ends", "both") for agent, way in ways.items()}
        truncated = {agent: way in ("cut", "both") for agent, way in ways.items()}
        observations = self._observations()
        infos = self.infos[min(self.steps, len(self.infos)) - 1]
        rewards = {agent: 1 + self.possible_agents.index(agent) for agent in self.agents}
        self.agents = [agent for agent in self.agents if ways[agent] == "stays"]
        return observations, rewards, terminated, truncated, infos

    def _first_info(self, agent):
        """A mask that allows everything, if the agent has masks later."""
        masked = "action_mask" in self.infos[0].get(agent, {})
        return {"action_mask": np.ones(self.action_space(agent).n)} if masked else {}

    def _observations(self):
        seen = self.steps + self.noise
        views = {agent: self.observation_space(agent) for agent in self.agents}
        return {agent: np.full(view.shape, seen, np.float32) for agent, view in views.items()}


def parallel_env(small=(30, "ends"), large=(30, "ends"), infos=({},)):
    """`infos`: the infos after each step; the last ones repeat."""
    return Departures({"small": small, "large": large}, infos)


TWO = Discrete(2)
PUSH = Box(-1, 1, (2,))


class Answers(gymnasium.Env):
    """Two agents; every step returns `answer`: rewards, terminated, truncated, info."""

    observation_space = Tuple((Box(0, 9, (2, 2)), Discrete(3)))
    action_space = Tuple((Discrete(2), Discrete(3)))

    def __init__(self, choices=None, answer=([1, 2], False, False, {})):
        self.action_space = choices or self.action_space
        self.answer = answer

    def reset(self, seed=None, options=None):
        self.steps = 0
        masked = "action_mask" in self.answer[3]
        return self.observation(), {"action_mask": [[1, 1], [1, 1, 1]]} if masked else {}

    def step(self, actions):
        self.steps += 1
        self.actions = actions
        return self.observation(), *self.answer

    def observation(self):
        return np.full((2, 2), self.steps % 9), self.steps % 3


gymnasium.register("Answers-v0", Answers)


class FakeSMAClite(gymnasium.Env):
    """The parts of the original that the adapter uses: attributes, calls, global generators."""

    metadata: ClassVar[dict] = {"render_modes": ["human"], "render_fps": 60}
    n_agents, n_actions, obs_size, state_size = 3, 9, 5, 4
    observation_space, action_space = Box(0, 1, (1,)), Discrete(1)

    def __init__(self, seed=None):
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)
        self.last_actions = [0, 0, 0]

    def reset(self, seed=None, options=None):
        self.steps = 0
        return self._observations(), {}

    def step(self, actions):
        assert all(type(action) is int for action in actions)
        self.steps, self.last_actions = self.steps + 1, actions
        return self._observations(), 0.5, self.steps == 90, False, {"battle_won": self.steps == 90}

    def get_avail_actions(self):
        dead, alive = np.eye(self.n_actions)[0], np.array([0, 1, 1, 1, 1, 1, 0, 0, 0])
        return [alive, alive, dead if self.steps > 2 else alive]

    def get_state(self):
        return np.array([self.steps, *self.last_actions])

    def _observations(self):
        return tuple(np.array([random.random() for _ in range(5)]) for _ in range(3))


@pytest.fixture(autouse=True)
def upstream(monkeypatch):
    """A stand-in for the package `smaclite`, for `import` and `gymnasium.make`."""
    if not INSTALLED:
        monkeypatch.setitem(sys.modules, "smaclite", ModuleType("smaclite"))
        for name in ("3m", "custom"):
            spec = EnvSpec(f"smaclite/{name}-v0", entry_point=FakeSMAClite)
            monkeypatch.setitem(gymnasium.registry, spec.id, spec)


def play(env, seed, max_steps=60):
    """All observations and outcomes of an episode; its actions depend only on the seed."""
    choose = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    episode, over = [(observation,)], False
    while not over and len(episode) <= max_steps:
        legal = map(np.flatnonzero, observation["avail_actions"])
        actions = [choose.choice(some) for some in legal]
        observation, reward, terminated, truncated, info = env.step(actions)
        episode.append((observation, reward, terminated, truncated, info))
        over = terminated or truncated
    return episode


def assert_same(episode, other):
    np.testing.assert_equal(other, episode)


@every_task
def test_every_environment_passes_gymnasiums_checker(task):
    env = make_env(*task)
    if task == MEETING:  # its seed determines the first masks; the checker draws, then resets
        observation, _ = env.reset(seed=123)
        env.action_space.at_start = observation["avail_actions"]
    check_env(env, skip_render_check=True)


@every_task
def test_observations_lie_in_their_space_and_sizes_are_as_announced(task):
    env = make_env(*task)
    for observation, *_ in play(env, seed=0):
        assert env.observation_space.contains(observation)
    assert observation["obs"].shape == (env.n_agents, env.obs_size)
    assert observation["state"].shape == (env.state_size,)
    assert observation["avail_actions"].shape == (env.n_agents, env.n_actions)
    assert list(env.action_space.nvec) == [env.n_actions] * env.n_agents


@every_task
def test_a_seeded_reset_determines_the_episode_whatever_was_played_before(task):
    used, fresh = make_env(*task), make_env(*task)
    play(used, seed=1)
    assert_same(play(used, seed=2), play(fresh, seed=2))


@every_task
def test_a_seeded_reset_determines_the_unseeded_ones_after_it(task):
    first, second = make_env(*task), make_env(*task)
    for env in (first, second):
        env.reset(seed=4)
    assert_same(first.reset(), second.reset())


@every_task
def test_sample_draws_available_actions_only(task):
    env = make_env(*task)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            env.reset()


@every_task
def test_sample_without_a_seed_draws_available_actions_only(task):
    env = make_env(*task)
    observation, _ = env.reset(seed=0)
    for _ in range(2):
        actions = env.action_space.sample()[:, None]
        assert np.take_along_axis(observation["avail_actions"], actions, axis=1).all()


@every_task
def test_an_unavailable_action_is_an_error_that_names_agent_and_action(task):
    env = make_env(*task)
    env.reset(seed=0)
    legal = [np.flatnonzero(available)[0] for available in env.reset(seed=0)[0]["avail_actions"]]
    name = env.unwrapped.agent_names[1]
    for action in (env.n_actions, -1):
        with pytest.raises(ValueError, match=rf"(agent 1|{name})\b.* action {action}\b"):
            env.step([legal[0], action, *legal[2:]])


@pytest.mark.parametrize("task", [LBF, SPREAD, LISTENER, UPSTREAM], ids=lambda task: task[1])
def test_agent_ids_are_appended_to_observations_but_not_to_the_state(task):
    with_ids, _ = make_env(*task, agent_ids=True, clock=False).reset(seed=0)
    without, _ = make_env(*task, agent_ids=False, clock=False).reset(seed=0)
    n_agents = len(without["obs"])
    np.testing.assert_array_equal(with_ids["obs"][:, :-n_agents], without["obs"])
    np.testing.assert_array_equal(with_ids["obs"][:, -n_agents:], np.eye(n_agents))
    np.testing.assert_array_equal(with_ids["state"], without["state"])


@pytest.mark.parametrize("agent_ids", [True, False], ids=["ids", "no ids"])
@every_task
def test_the_clock_is_the_share_of_time_left_in_observations_and_state(task, agent_ids):
    env = make_env(*task, agent_ids=agent_ids, time_limit=8)
    plain = make_env(*task, agent_ids=agent_ids, clock=False, time_limit=8)
    assert (env.obs_size, env.state_size) == (plain.obs_size + 1, plain.state_size + 1)
    for step, (with_clock, without) in enumerate(zip(play(env, 0), play(plain, 0), strict=True)):
        (seen, *_), (known, *_) = with_clock, without
        full = 255 if env.observation_space["obs"].dtype == np.uint8 else 1
        left = seen["obs"].dtype.type(full * (1 - step / 8))
        np.testing.assert_array_equal(seen["obs"][:, :-1], known["obs"])
        np.testing.assert_array_equal(seen["obs"][:, -1], left)
        np.testing.assert_array_equal(seen["state"][:-1], known["state"])
        np.testing.assert_allclose(seen["state"][-1], left)


def test_there_is_no_clock_without_a_known_time_limit():
    env = make_env(*OWN, small=(2, "ends"), large=(2, "cut"))
    assert env.time_limit is None
    assert not env.clock
    assert env.obs_size == make_env(*OWN, clock=False).obs_size


@pytest.mark.parametrize("task", [LBF, SPREAD, LISTENER], ids=lambda task: task[1])
def test_without_the_tasks_own_state_all_observations_are_the_state(task):
    observation, _ = make_env(*task, agent_ids=False, clock=False, env_state=False).reset(seed=0)
    np.testing.assert_array_equal(observation["state"], observation["obs"].ravel())


@pytest.mark.parametrize("task", [LBF, SPREAD, OWN], ids=lambda task: task[1])
def test_the_team_reward_is_a_float_the_sum_or_the_mean_over_agents(task):
    summed, mean = (make_env(*task, reward_aggr=aggr) for aggr in ("sum", "mean"))
    episodes = zip(play(summed, 0)[1:], play(mean, 0)[1:], strict=True)
    for (_, total, *_), (_, average, *_) in episodes:
        assert type(total) is type(average) is float
        assert average == total / summed.n_agents
    if task == OWN:
        assert total == 1 + 2


@pytest.mark.parametrize(("task", "limit"), [(LBF, 50), (SPREAD, 25), (UPSTREAM, 60), (BATTLE, 60)])
@pytest.mark.parametrize("time_limit", [None, 3, 70])
def test_reaching_the_time_limit_is_truncation(task, limit, time_limit):
    env = make_env(*task, time_limit=time_limit)
    assert env.time_limit == (time_limit or limit)
    observation, _ = env.reset(seed=0)
    for step in range(1, env.time_limit + 1):
        # no-op or, for living units of SMAClite, stop
        idle = np.argmax(observation["avail_actions"], axis=1)
        observation, _, terminated, truncated, _ = env.step(idle)
        if terminated:
            assert task[0] == "smaclite"  # the enemies win
            break
        assert truncated == (step == env.time_limit)


@pytest.mark.parametrize("time_limit", [2, 50])
def test_lbf_terminates_when_all_food_is_collected_even_in_the_last_step(time_limit):
    env = make_env(*LBF, time_limit=time_limit)
    env.reset(seed=0)
    game = env._env
    game.field[:] = 0
    game.field[3, 3] = 1
    game.players[0].position, game.players[1].position = (3, 2), (7, 7)
    game._gen_valid_moves()
    _, reward, terminated, truncated, _ = env.step([0, 0])
    assert (reward, terminated, truncated) == (0, False, False)
    _, reward, terminated, truncated, _ = env.step([5, 0])
    assert reward > 0
    assert (terminated, truncated) == (True, False)


@pytest.mark.parametrize(
    ("small", "large", "terminated", "truncated"),
    [
        ((2, "ends"), (2, "ends"), True, False),
        ((2, "cut"), (2, "cut"), False, True),
        ((2, "ends"), (2, "cut"), False, True),
        ((2, "both"), (2, "both"), True, False),
        ((1, "cut"), (2, "ends"), True, False),
        ((1, "ends"), (2, "cut"), False, True),
        ((1, "ends"), (3, "ends"), False, False),
    ],
)
def test_pettingzoo_is_truncated_if_an_agent_is_truncated_in_the_last_step(
    small, large, terminated, truncated
):
    env = make_env(*OWN, small=small, large=large)
    env.reset(seed=0)
    assert env.step([0, 0])[2:4] == (False, False)
    assert env.step([0, 0])[2:4] == (terminated, truncated)


def test_smaller_observations_are_padded_and_missing_actions_unavailable():
    env = make_env(*LISTENER, agent_ids=False, clock=False)
    observation, _ = env.reset(seed=0)
    speaker, listener = observation["obs"]
    assert speaker[:3].any()
    assert not speaker[3:].any()
    assert listener.shape == (11,)
    assert observation["avail_actions"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_an_agent_that_has_left_sees_zeros_has_only_action_0_and_earns_nothing():
    env = make_env(*OWN, agent_ids=False, clock=False, small=(1, "ends"), large=(3, "ends"))
    env.reset(seed=0)
    observation, reward, *_ = env.step([1, 2])
    assert reward == 1 + 2
    assert not observation["obs"][0].any()
    assert observation["obs"][1].all()
    assert observation["avail_actions"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert env.step([0, 2])[1] == 2
    assert env._env.actions == {"large": 5 + 2}  # actions count from the start of their space
    with pytest.raises(ValueError, match="small"):
        env.step([1, 0])


def test_at_truncation_agents_are_shown_as_if_they_still_played():
    env = make_env(*OWN, agent_ids=False, clock=False, small=(2, "ends"), large=(2, "cut"))
    env.reset(seed=0)
    env.step([0, 0])
    observation, _, terminated, truncated, _ = env.step([0, 0])
    assert (terminated, truncated) == (False, True)
    assert observation["obs"].any(axis=1).tolist() == [False, True]
    assert observation["avail_actions"].tolist() == [[1, 0, 0], [1, 1, 1]]


def masks(**of_agents) -> dict:
    """The infos of agents with these masks."""
    return {agent: {"action_mask": np.array(mask)} for agent, mask in of_agents.items()}


def test_an_action_mask_makes_actions_unavailable():
    env = make_env(*OWN, infos=[masks(small=[0, 1], large=[1, 0, 1])])
    env.reset(seed=0)
    assert env.step([0, 0])[0]["avail_actions"].tolist() == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([1, 1], "action_mask of large must be a 0 or a 1 for each of 3 actions"),
        ([[1, 1, 1]], "action_mask of large must be a 0 or a 1 for each of 3 actions"),
        (1, "action_mask of large must be a 0 or a 1 for each of 3 actions"),
        ([0, 0, 0], "action_mask of large allows no action"),
    ],
)
def test_an_action_mask_that_does_not_fit_is_an_error_that_names_the_agent(mask, message):
    env = make_env(*OWN, infos=[masks(small=[1, 1], large=mask)])
    env.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        env.step([0, 0])


def test_a_truncated_agent_needs_its_mask_in_the_last_step_too():
    infos = [masks(small=[1, 1], large=[0, 0, 1]), masks(small=[1, 1])]
    env = make_env(*OWN, small=(2, "cut"), large=(2, "cut"), infos=infos)
    env.reset(seed=0)
    env.step([0, 0])
    with pytest.raises(ValueError, match="large had an action_mask, but has none"):
        env.step([0, 2])


@pytest.mark.parametrize("last", [{}, masks(small=[0, 0], large=[0, 0, 0])])
def test_nobody_needs_a_mask_when_the_task_has_ended(last):
    infos = [masks(small=[1, 1], large=[0, 0, 1]), last]
    env = make_env(*OWN, small=(2, "ends"), large=(2, "ends"), infos=infos)
    for _ in range(2):
        env.reset(seed=0)
        env.step([0, 0])
        observation, _, terminated, *_ = env.step([0, 2])
        assert terminated
        assert observation["avail_actions"].any(axis=1).all()


# (what `infos` say after the first and the second step, info["is_success"] after the second)
SUCCESSES = [
    ([{}, {"large": {"is_success": True}}], True),
    ([{}, {"small": {"is_success": True}, "large": {"is_success": False}}], False),
    ([{"small": {"is_success": True}}, {"large": {"is_success": True}}], True),
    ([{"small": {"is_success": False}}, {"large": {"is_success": True}}], False),
    ([{"large": {"is_success": False}}, {"large": {"is_success": True}}], True),
]


@pytest.mark.parametrize(("infos", "expected"), SUCCESSES)
def test_a_team_succeeds_if_all_agents_that_report_success_succeed(infos, expected):
    env = make_env(*OWN, small=(1, "ends"), large=(2, "ends"), infos=infos)
    for _ in range(2):  # an episode's reports do not count in the next one
        env.reset(seed=0)
        env.step([0, 0])
        *_, info = env.step([0, 0])
        assert info == {"is_success": expected}


def module_with(parallel_env, raw_env=None) -> ModuleType:
    """A module of a package of environments."""
    module = ModuleType("makers")
    module.parallel_env = parallel_env
    if raw_env:
        module.raw_env = raw_env
    return module


@pytest.fixture
def opened_with(monkeypatch):
    """`opened_with(parallel_env, raw_env, **options)`: the arguments that an environment gets."""

    def call(parallel_env, raw_env=None, **options):
        module = module_with(parallel_env, raw_env)
        monkeypatch.setattr("cleanmarl.env.pz.load", lambda *_: module)
        return make_env("pz", "makers", "tests", **options)

    return call


def test_an_environment_that_takes_max_cycles_gets_the_time_limit(opened_with):
    given = []

    def named(max_cycles=25):
        given.append(max_cycles)
        return parallel_env()

    def passed_on(**options):
        return named(**options)

    for makers in ([named], [passed_on], [passed_on, named]):
        assert opened_with(*makers, time_limit=7).time_limit == 7
        opened_with(*makers)
    assert given == 3 * [7, 25]


def test_an_environment_without_max_cycles_is_truncated_at_the_time_limit_too(opened_with):
    def passed_on(**options):
        return parallel_env(**options)

    for makers in ([parallel_env], [passed_on, parallel_env]):
        env = opened_with(*makers, time_limit=2)
        env.reset(seed=0)
        assert env.step([0, 0])[2:4] == (False, False)
        assert env.step([0, 0])[2:4] == (False, True)


def test_an_error_in_the_users_environment_is_not_hidden(opened_with):
    def broken(max_cycles=25):
        if max_cycles == 7:
            raise TypeError("of the user")
        return parallel_env()

    with pytest.raises(TypeError, match="of the user"):
        opened_with(broken, time_limit=7)


def answered(rewards=0, terminated=False, truncated=False, info=None, **options):
    """The first step of `Answers`."""
    env = make_env(*ANSWERS, answer=(rewards, terminated, truncated, info or {}), **options)
    env.reset(seed=0)
    return env.step([1, 0])


def test_observations_of_gymnasiums_tuples_are_flattened_and_padded():
    env = make_env(*ANSWERS, agent_ids=False, clock=False)
    env.reset(seed=0)
    observation, *_ = env.step([1, 2])
    assert observation["obs"].tolist() == [[1, 1, 1, 1], [0, 1, 0, 0]]
    assert observation["avail_actions"].tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize("choices", [Tuple((TWO, Discrete(3, start=-1))), MultiDiscrete([2, 3])])
def test_gymnasiums_environments_get_actions_of_their_action_space(choices):
    env = make_env(*ANSWERS, choices=choices)
    env.reset(seed=0)
    for second in range(3):
        env.step([1, second])
        assert choices.contains(env.unwrapped._env.unwrapped.actions)


@pytest.mark.parametrize(
    ("rewards", "aggr", "expected"),
    [([1, 2], "sum", 3), ([1, 2], "mean", 1.5), (4, "sum", 4), (np.float32(4), "mean", 4)],
)
def test_a_single_number_is_the_reward_of_the_team(rewards, aggr, expected):
    reward = answered(rewards=rewards, reward_aggr=aggr)[1]
    assert type(reward) is float
    assert reward == expected


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (False, False, (False, False)),
        (True, False, (True, False)),
        (False, True, (False, True)),
        (True, True, (True, False)),
        ([True, False], [False, False], (False, False)),
        ([True, True], [False, False], (True, False)),
        ([True, False], [False, True], (False, True)),
        ([True, False], True, (False, True)),
    ],
)
def test_an_episode_of_gymnasium_is_over_when_it_is_over_for_all_agents(
    terminated, truncated, expected
):
    assert answered(terminated=terminated, truncated=truncated)[2:4] == expected


@pytest.mark.parametrize(
    ("said", "expected"), [(True, True), (np.float32(0), False), ([True, False], False)]
)
def test_an_episode_of_gymnasium_is_a_success_if_all_agents_succeed(said, expected):
    assert answered(info={"is_success": said, "other": 1})[-1] == {"is_success": expected}


def test_gymnasium_must_give_a_mask_for_each_agent():
    observation, *_ = answered(info={"action_mask": [[0, 1], [1, 0, 1]]})
    assert observation["avail_actions"].tolist() == [[0, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match="action_mask must be a list with one entry for each"):
        answered(info={"action_mask": [[0, 1]]})
    with pytest.raises(ValueError, match="action_mask of agent 1 allows no action"):
        answered(info={"action_mask": [[0, 1], [0, 0, 0]]})


@pytest.mark.parametrize(("time_limit", "expected"), [(None, 8), (3, 3), (20, 20)])
def test_the_time_limit_of_gymnasiums_environments_is_that_of_their_registration(
    time_limit, expected
):
    env = make_env(*MEETING, time_limit=time_limit)
    assert env.time_limit == expected
    env.reset(seed=0)
    for step in range(1, expected + 1):
        _, _, terminated, truncated, info = env.step([1, 1])  # both stay
        assert (terminated, truncated) == (False, step == expected)
    assert info == {"is_success": False}


def test_two_agents_that_meet_have_succeeded():
    env = make_env(*MEETING)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        first, second = observation["obs"][0, :2]
        towards = 2 if first < second else 0
        observation, reward, terminated, truncated, info = env.step([towards, 1])
        over = terminated or truncated
    assert (reward, terminated, truncated, info) == (1, True, False, {"is_success": True})


def test_a_game_of_gymnasium_is_the_game_of_its_package():
    theirs, ours = (
        make_env(*FORAGING, agent_ids=False),
        make_env(*LBF, agent_ids=False, clock=False),
    )
    observation, _ = theirs.reset(seed=1)
    expected, _ = ours.reset(seed=1)
    over = False
    while not over:
        np.testing.assert_array_equal(observation["obs"], expected["obs"])
        actions = expected["avail_actions"].cumsum(axis=1).argmax(axis=1)  # the last available ones
        observation, reward, terminated, truncated, _ = theirs.step(actions)
        expected, same_reward, *_ = ours.step(actions)
        assert reward == same_reward
        over = terminated or truncated


@pytest.mark.parametrize(
    ("name", "sizes", "options"),
    [
        ("Foraging-15x15-4p-5f-v3", (4, 27), {"sight": 15, "force_coop": False}),
        ("Foraging-3s-9x7-2p-1f-coop-v3", (2, 9), {"sight": 3, "force_coop": True}),
        ("Foraging-grid-2s-8x8-2p-3f-v3", (2, 3 * 5 * 5), {"_grid_observation": True}),
        ("Foraging-8x8-2p-3f-ind-pen-v3", (2, 15), {"penalty": 0.1}),
    ],
)
def test_every_name_of_foragings_pattern_can_be_opened(name, sizes, options):
    env = make_env("lbf", name, agent_ids=False, clock=False)
    assert (env.n_agents, env.obs_size) == sizes
    assert {option: getattr(env._env, option) for option in options} == options
    play(env, seed=1)


def test_registered_names_of_foraging_have_the_options_of_their_package():
    import lbforaging  # noqa: F401 (it registers the names)

    names = [name for name in gymnasium.registry if name.startswith("Foraging")]
    assert len(names) > 900
    for name in names:
        assert options_of(name) == gymnasium.registry[name].kwargs


def test_foraging_under_gymnasium_is_told_of_its_masks():
    (note,) = make_env(*FORAGING).notes
    assert "--env-type lbf" in note


@pytest.mark.parametrize(
    ("name", "compete"), [("simple_tag_v3", True), ("simple_spread_v3", False)]
)
def test_agents_of_mpe_that_compete_are_named(name, compete):
    says = f"agents compete in {name}, but QMIX trains one team"
    assert any(says in note for note in make_env("pz", name).notes) == compete


class Countdown(TeamEnv):
    """An environment written as the docstring of `TeamEnv` says."""

    def __init__(self, **team):
        sizes = {"n_agents": 2, "n_actions": 3, "obs_size": 1, "state_size": 2}
        first_actions = np.array([[1, 1, 1], [1, 1, 0]])
        super().__init__(**sizes, avail_at_start=first_actions, **team)

    def start(self, seed):
        self.left = self.first = 2 + seed % 3
        return self.see()

    def advance(self, actions):
        self.left -= 1
        return self.see(), actions, self.left == 0, False, {}

    def see(self):
        avail_actions = [[1, 1, 1], [self.left > 1, 1, 0]]
        return self.observe([[self.left], [-1]], avail_actions, state=[self.left, self.first])


def test_your_own_team_passes_gymnasiums_checker():
    check_env(Countdown(), skip_render_check=True)


def test_your_own_team_returns_its_observations_and_rewards():
    env = Countdown(time_limit=3, reward_aggr="mean", clock=False)
    assert (env.n_agents, env.n_actions, env.obs_size, env.state_size) == (2, 3, 3, 2)
    observation, info = env.reset(seed=2)
    assert observation["obs"].tolist() == [[4, 1, 0], [-1, 0, 1]]
    assert observation["state"].tolist() == [4, 4]
    assert info == {}
    assert env.step([2, 1])[1:4] == (1.5, False, False)
    assert env.step([1, 1])[1:4] == (1, False, False)
    assert env.step([0, 0])[1:4] == (0, False, True)


def test_a_mask_of_your_own_team_that_allows_nothing_is_a_fault_that_names_the_agent():
    env = Countdown()
    env.reset(seed=2)
    env.see = lambda: env.observe([[0], [0]], [[1, 1, 1], [0, 0, 0]], [0, 0])
    env.step([0, 0])
    with pytest.raises(EnvFault, match=r"Countdown, .* step 1: avail_actions allows agent 1 no"):
        env.step([0, 0])


class Faulty(TeamEnv):
    """Declares something, and answers with `parts` of an observation or with `answer`."""

    def __init__(self, parts=None, answer=None, declared=None, names=None):
        super().__init__(n_agents=2, n_actions=2, obs_size=1, **declared or {})
        self.parts, self.answer = parts or {}, answer
        for name, value in (names or {}).items():
            setattr(self, name, value)

    def start(self, seed):
        return self.observe(**{"obs": [[0], [1]]} | self.parts)

    def advance(self, actions):
        five = (self.start(0), 0.0, False, False, {})
        return five if self.answer is None else self.answer(*five)


BYTES = {"dtypes": (np.uint8, np.uint8)}
FAULTS = {
    "a state of no size": ({"parts": {"state": [1]}}, "a state is given, but no state_size"),
    "a mask of parts": ({"parts": {"avail_actions": [[1, 1], [0.4, 1]]}}, "0 or 1, got 0.4"),
    "a mask below 0": ({"parts": {"avail_actions": [[1, 1], [-1, 1]]}}, "0 or 1, got -1"),
    "a large mask": ({"parts": {"avail_actions": [[1, 256], [1, 1]]}}, "0 or 1, got 256"),
    "a mask of nan": ({"parts": {"avail_actions": [[1, 1], [1, np.nan]]}}, "0 or 1, got nan"),
    "ragged masks": ({"parts": {"avail_actions": [[1, 1], [1]]}}, "rows of different lengths"),
    "parts of bytes": ({"declared": BYTES, "parts": {"obs": [[0.7], [1]]}}, "obs contains 0.7"),
    "bytes below 0": ({"declared": BYTES, "parts": {"obs": [[-3], [1]]}}, "obs contains -3"),
    "nan as a byte": ({"declared": BYTES, "parts": {"obs": [[np.nan], [1]]}}, "obs contains nan"),
    "too large bytes": ({"declared": BYTES, "parts": {"obs": [[300], [1]]}}, "obs contains 300"),
    "a changed size": ({"names": {"obs_size": 2}}, "has changed self.obs_size, which TeamEnv sets"),
    "a changed clock": ({"names": {"clock": None}}, "has changed self.clock"),
    "a note as text": ({"names": {"notes": "a note"}}, "notes must be a list of sentences"),
    "a huge reward": (
        {"answer": lambda seen, reward, *rest: (seen, 1e30, *rest)},
        "the reward is 1e.30: it must be finite and below",
    ),
    "few names": ({"names": {"agent_names": ["one"]}}, "agent_names must be a list of 2 names"),
    "names for all": ({"names": {"action_names": ["a", "b"]}}, "must be 2 lists of 2 names"),
    "four values": ({"answer": lambda *five: five[:4]}, "truncated, info; got 4"),
    "no values": ({"answer": lambda *five: "none"}, "truncated, info; got 'none'"),
    "a raw array": ({"answer": lambda seen, *rest: (np.ones(2), *rest)}, r"what self\.observe"),
    "its own dict": (
        {"answer": lambda seen, *rest: (seen | {"obs": [[0], [1]]}, *rest)},
        r"advance\(\) must return what self\.observe\(\) makes",
    ),
    "no info": (
        {"answer": lambda *five: (*five[:4], None)},
        "the info of advance.* must be a dict",
    ),
    "successes": (
        {"answer": lambda *five: (*five[:4], {"is_success": [True, False]})},
        r"is_success must be True or False, got \[True, False\]",
    ),
}


@pytest.mark.parametrize(("options", "message"), FAULTS.values(), ids=FAULTS)
def test_what_your_own_team_does_not_declare_is_a_fault(options, message):
    env = Faulty(**options)
    with pytest.raises(EnvFault, match=rf"^Faulty, episode 1 \(seed 3\).*{message}"):
        env.reset(seed=3)
        env.step([0, 1])


@pytest.mark.parametrize("given", [np.array([[7], [255]], np.uint8), [[7], [255.0]]])
def test_bytes_of_any_type_are_bytes(given):
    env = Faulty(parts={"obs": given}, declared=BYTES)
    assert env.reset()[0]["obs"][:, 0].tolist() == [7, 255]


def test_a_team_without_start_says_what_to_define():
    env = TeamEnv(n_agents=1, n_actions=2, obs_size=1)
    with pytest.raises(EnvFault, match=r"TeamEnv must define start\(self, seed\)"):
        env.reset(seed=0)


def test_other_types_than_numbers_and_bytes_are_refused():
    with pytest.raises(ValueError, match=r"dtypes must be np\.float32 or np\.uint8"):
        Faulty(declared={"dtypes": (np.float64, np.float32)})


def test_a_task_that_ends_in_its_last_step_is_terminated_and_not_truncated():
    env = Countdown(time_limit=4)
    env.reset(seed=2)
    for _ in range(3):
        env.step([0, 1])
    assert env.step([0, 1])[2:4] == (True, False)


def test_images_are_flattened():
    env = make_env("pz", "pursuit_v5", "sisl")
    assert (env.obs_size, env.time_limit) == (7 * 7 * 3 + env.n_agents + 1, 500)


@pytest.mark.parametrize("task", [LBF, SPREAD, PURSUIT], ids=lambda task: task[1])
def test_render_gives_an_image(task):
    env = make_env(*task, render_mode="rgb_array")
    env.reset(seed=0)
    try:
        image = env.render()
    except ImportError as error:  # without a screen, pyglet needs EGL
        pytest.skip(str(error))
    assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
    assert env.metadata["render_fps"] > 0
    env.close()


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (("smacklite", "3m"), {}, "env_type.* smaclite, smaclite-upstream, lbf, pz or gym"),
        (("smaclite", "3mm"), {}, "'3mm'.* 3m"),
        (("smaclite-upstream", "3n"), {}, "'3n'.* 3m"),
        (("lbf", "Foraging-8x8-2p-3f-v2"), {}, "'Foraging-8x8-2p-3f-v2'.* Foraging-8x8-2p-3f-v3"),
        (("pz", "simple_sprad_v3"), {}, "'simple_sprad_v3'.* simple_spread_v3"),
        (("pz", "pursuit_v4", "sisl"), {}, "'pursuit_v4'.* pursuit_v5"),
        (("pz", "tset_env", "tests"), {}, "'tset_env'.* test_env"),
        (("pz", "chess", "tests.games"), {}, "'chess'; it has cue_game, dice_game, "),
        (("pz", "simple_spread_v3", "mpee"), {}, "env_family.* mpe, sisl, .*not 'mpee': start"),
        (("pz", "game", "my.envs"), {}, "env_family.* mpe, sisl, .*package, not 'my.envs'"),
        (("pz", "game", ""), {}, "env_family.* mpe, sisl, .*package, not ''"),
        (("pz", "game", ".name"), {}, "env_family.* mpe, sisl, .*package, not '.name'"),
        (("lbf", "3m"), {}, "'3m'.* names are like Foraging"),
        (("pz", "3m"), {}, "'3m'.* simple_.*cleanmarl.env list"),
        (SPREAD, {"continuous_actions": True}, "Discrete.* agent_0 are Box"),
        (("gym", "tests.games.meeting:Meting-v0"), {}, "'Meting-v0'.* Meeting-v0"),
        (("gym", "3m"), {}, "'3m'; write MODULE:ID, for example rware:"),
        (("gym", "json:CartPoles-v1"), {}, "json does not register it; perhaps a module inside"),
        (("gym", "rwar:rware-tiny-2ag-v2"), {}, "rwar:rware-.* no module 'rwar'"),
        (("gym", ".games:Meeting-v0"), {}, "no module '.games'"),
        (("gym", "CartPole-v1"), {}, "Tuple of observations.* CartPole-v1 has Box.* and Discrete"),
        (("gym", "Blackjack-v1"), {}, "Tuple of actions.* Blackjack-v1 has Tuple.* and Discrete"),
        (("gym", "Pendulum-v1"), {}, "Tuple of actions.* Pendulum-v1 has Box.* and Box"),
        (ANSWERS, {"choices": Tuple((TWO, PUSH))}, "Discrete actions.* agent 1 are Box"),
        (ANSWERS, {"choices": Tuple((TWO,))}, "one for each agent.* Tuple.* Tuple"),
        (LBF, {"players": "two"}, "foraging cannot be opened with these options"),
        (LBF, {"player": 2}, "unknown option of LBF 'player'; did you mean players"),
        (BATTLE, {"wall": "upstream"}, "battles have the option walls .*only, not wall"),
        (LBF, {"reward_aggr": "max"}, "reward_aggr 'max'.* mean"),
        (LBF, {"time_limit": 0}, "time_limit must be at least 1"),
        (LBF, {"render_mode": "human"}, "render_mode 'human'.*'rgb_array'"),
    ],
)
@pytest.mark.parametrize("make", [make_env, make_vector_env])
def test_an_unknown_name_is_an_error_that_gives_known_ones(make, task, options, message):
    with pytest.raises(ValueError, match=message) as error:
        make(*task, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "package", "source"),
    [
        (LBF, "lbforaging", "lbforaging"),
        (SPREAD, "mpe2", "mpe2"),
        (UPSTREAM, "smaclite", r"git\+https://github.com/uoe-agents/smaclite"),
    ],
)
def test_a_missing_package_is_an_error_that_says_how_to_install_it(
    monkeypatch, task, package, source
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"{task[0]} .*needs {package}: pip install {source}$"):
        make_env(*task)


def loaded_after(code: str) -> set[str]:
    """Names of the modules that a program has loaded at its end."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_module_imports_no_environment():
    loaded = loaded_after("import cleanmarl.env")
    assert "gymnasium" in loaded
    heavy = {"lbforaging", "pettingzoo", "mpe2", "pygame", "smaclite", "torch"}
    assert not heavy & loaded


ENGINE = {"numba", "cleanmarl.battle.battles"}


@pytest.mark.parametrize(
    "code",
    [
        "import cleanmarl.env",
        "import cleanmarl.battle",
        f"from cleanmarl.env import make_env; make_env(*{LBF})",
        f"from cleanmarl.env import make_env; make_env(*{MEETING})",
    ],
)
def test_the_engine_is_not_loaded_until_a_battle_is_opened(code):
    assert not ENGINE & loaded_after(code)


def test_a_battle_loads_the_engine():
    make_env(*BATTLE)
    assert sys.modules.keys() >= ENGINE


def test_gymnasium_knows_the_battles_after_an_import():
    loaded_after("import cleanmarl.battle, gymnasium; gymnasium.spec('cleanmarl/2s3z-v0')")


def test_opening_environments_does_not_lengthen_the_path():
    make_env(*OWN)
    before = list(sys.path)
    make_env(*OWN)
    assert sys.path == before


@pytest.mark.parametrize("task", [LBF, SPREAD, BATTLE], ids=lambda task: task[1])
def test_a_vector_environment_steps_like_single_ones_and_resets_in_the_same_step(task):
    singles = [make_env(*task, time_limit=4) for _ in range(2)]
    envs = make_vector_env(*task, num_envs=2, time_limit=4)
    for name in ("n_agents", "n_actions", "obs_size", "state_size", "time_limit"):
        assert getattr(envs, name) == getattr(singles[0], name)
    observations, _ = envs.reset(seed=3)
    expected = [env.reset(seed=3 + i)[0] for i, env in enumerate(singles)]
    for step in range(1, 11):
        backwards = observations["avail_actions"][:, :, ::-1]
        actions = envs.n_actions - 1 - backwards.argmax(axis=2)  # the last ones available
        observations, rewards, _, truncated, infos = envs.step(actions)
        for i, env in enumerate(singles):
            expected[i], reward, *_ = env.step(actions[i])
            assert rewards[i] == pytest.approx(reward, abs=1e-6)
            assert truncated[i] == (step % 4 == 0)
            if truncated[i]:
                np.testing.assert_equal(infos["final_obs"][i], expected[i])
                expected[i], _ = env.reset()
            seen = {name: value[i] for name, value in observations.items()}
            np.testing.assert_equal(seen, expected[i])
    envs.close()


def test_a_vector_environment_names_the_environment_whose_process_was_killed():
    envs = make_vector_env(*LBF, num_envs=3)
    envs.reset(seed=[4, 5, 6])
    os.kill(envs.processes[1].pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"environment 1\b.* seed 5\b.* died"):
        envs.step(np.zeros((3, 2), int))


def some_actions(observation) -> np.ndarray:
    """Actions [num_envs, n_agents] that are available: the last ones, which change the state."""
    available = observation["avail_actions"]
    return available.shape[-1] - 1 - available[..., ::-1].argmax(-1)


def episodes_under_way(envs):
    """Play 5, 2 and 0 steps: the last observation, and the observations and steps of each."""
    begun = {0: [True, True, True], 3: [False, True, False], 5: [False, False, True]}
    observed, steps = [[], [], []], [[], [], []]
    for step in range(6):
        if step in begun:
            where = np.array(begun[step])
            observation, _ = envs.reset(seed=[7, 8, 9], options={"reset_mask": where})
            for i in np.flatnonzero(where):
                observed[i], steps[i] = [of(observation, i)], []
        if step < 5:
            actions = some_actions(observation)
            observation, reward, *_ = envs.step(actions)
            for i in range(3):
                observed[i].append(of(observation, i))
                steps[i].append((actions[i], reward[i].item()))
    return observation, observed, steps


def of(observation, i: int) -> dict:
    return {key: rows[i].copy() for key, rows in observation.items()}


def open_three(task):
    return make_vector_env(*task, num_envs=3, autoreset_mode=AutoresetMode.DISABLED)


@pytest.fixture(params=[BATTLE, LBF], ids=lambda task: task[1])
def replayed(request):
    """Environments with their episodes, and others in which `replay` repeated the episodes."""
    undisturbed, others = open_three(request.param), open_three(request.param)
    played = episodes_under_way(undisturbed)
    taken = [[actions.tolist() for actions, _ in steps] for steps in played[2]]
    assert [len(actions) for actions in taken] == [5, 2, 0]
    yield undisturbed, played, others, replay(others, [7, 8, 9], taken)
    undisturbed.close()
    others.close()


def test_replay_returns_what_was_observed_and_earned(replayed):
    _, (observation, observed, steps), _, (again, observed_again, steps_again) = replayed
    for i in (0, 1):
        np.testing.assert_equal(observed_again[i], observed[i])
        np.testing.assert_equal(steps_again[i], steps[i])
        np.testing.assert_equal(of(again, i), of(observation, i))


def test_replay_leaves_an_environment_without_steps_to_the_next_reset(replayed):
    *_, (_, observed, steps) = replayed
    assert observed[2] == steps[2] == []


def test_replayed_environments_continue_like_undisturbed_ones(replayed):
    undisturbed, (observation, *_), others, _ = replayed
    last = np.array([False, False, True])
    others.reset(seed=[7, 8, 9], options={"reset_mask": last})
    for _ in range(4):
        actions = some_actions(observation)
        observation, reward, *_ = undisturbed.step(actions)
        again, reward_again, *_ = others.step(actions)
        np.testing.assert_equal(again, observation)
        np.testing.assert_array_equal(reward_again, reward)


@pytest.mark.parametrize("task", [BATTLE, LBF], ids=lambda task: task[1])
def test_replay_refuses_an_action_that_is_no_longer_available(task):
    envs = open_three(task)
    observation, _ = envs.reset(seed=[7, 8, 9])
    legal = some_actions(observation)[0].tolist()
    impossible = [envs.n_actions - 1] * envs.n_agents  # there is nothing to attack or load yet
    with pytest.raises(ValueError, match="no longer available"):
        replay(envs, [7, 8, 9], [[legal, impossible], [], []])
    envs.close()


def test_replay_refuses_an_episode_that_ends_early():
    mode = AutoresetMode.DISABLED
    envs = make_vector_env(*BATTLE, num_envs=1, time_limit=2, autoreset_mode=mode)
    stop = [1] * envs.n_agents
    with pytest.raises(ValueError, match="ends early"):
        replay(envs, [7], [[stop, stop, stop]])


def test_a_scenario_file_makes_a_battle(tmp_path):
    scenario = tmp_path / "mine.toml"
    scenario.write_text("""
        terrain = "SIMPLE"
        episode_limit = 7
        attack_point = [9, 16]
        groups = [
          { side = "ally", at = [9, 16], units = { MARINE = 2 } },
          { side = "enemy", at = [23, 16], units = { MARINE = 1 } },
        ]""")
    env = make_env("smaclite", str(scenario))
    assert (env.n_agents, env.time_limit) == (2, 7)
    envs = make_vector_env("smaclite", str(scenario), num_envs=2, agent_ids=False, clock=False)
    assert envs.obs_size == env.obs_size - env.n_agents - 1


def test_the_original_gets_its_own_randomness_and_leaves_the_callers_alone():
    env = make_env(*UPSTREAM)
    expected = play(env, seed=1)
    random.seed(5)
    np.random.seed(5)
    callers = random.getstate(), np.random.get_state()
    episode = play(env, seed=1)
    np.testing.assert_equal((random.getstate(), np.random.get_state()), callers)
    assert_same(episode, expected)


def test_the_original_has_the_time_limit_of_smac_on_smacs_maps_only():
    assert make_env(*UPSTREAM).time_limit == 60
    assert make_env("smaclite-upstream", "custom").time_limit is None


@pytest.mark.skipif(INSTALLED, reason="a test of the stand-in for the original")
def test_the_original_terminates_and_says_who_won():
    *_, last = play(make_env(*UPSTREAM, time_limit=90), 0, max_steps=90)
    observation, reward, terminated, truncated, info = last
    assert (reward, terminated, truncated, info) == (0.5, True, False, {"battle_won": True})
    assert observation["avail_actions"][2].tolist() == [1] + 8 * [0]


@pytest.mark.skipif(not INSTALLED, reason="SMAClite itself is not installed (nor on the index)")
def test_the_original_and_the_engine_have_the_same_interface():
    original, engine = make_env("smaclite-upstream", "2s3z"), make_env("smaclite", "2s3z")
    for name in ("n_agents", "n_actions", "obs_size", "state_size", "time_limit"):
        assert getattr(original, name) == getattr(engine, name)
    play(original, seed=0)


def test_in_a_process_of_its_own_an_environment_seeds_all_random_numbers():
    env = SeedsAll(make_env("pz", "two_step_game", "tests.games"))

    def drawn(seed) -> tuple:
        env.reset(seed=seed)
        return random.random(), np.random.random(), torch.rand(1).item()

    assert drawn(3) == drawn(3)
    assert not set(drawn(3)) & set(drawn(4))
