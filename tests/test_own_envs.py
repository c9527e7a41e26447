"""Environments as people write them: what is read, and what is refused in one line.

This file also serves as a user's own module: `parallel_env` opens `Robots`, and "Pair-v0" is a
`Pair`. A test gives the attributes and methods that differ.
"""

import sys
from collections import defaultdict
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Text, Tuple
from gymnasium.wrappers import TimeLimit
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.utils import BaseParallelWrapper

from cleanmarl.env import EnvFault, TeamEnv, make_env

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # of Gymnasium and PettingZoo

VIEW = np.array([0.25, 0.5], np.float32)
ONE = Box(0, 1, (2,), np.float32)
MASK = [0, 1, 1]
ALL = [1, 1, 1]
PICTURE = Box(0, 255, (2, 2, 3), np.uint8)


class Robots(ParallelEnv):
    """Red and blue see two numbers and choose among three actions; time is up after three steps."""

    metadata: ClassVar[dict] = {"name": "robots"}
    possible_agents: ClassVar[list] = ["red", "blue"]
    steps = 0

    def observation_space(self, agent):
        return ONE

    def action_space(self, agent):
        return Discrete(3)

    def see(self, agent):
        return VIEW

    def info(self, agent):
        return {}

    def reward(self, agent):
        return 1.0

    def ended(self, agent):
        return False

    def cut(self, agent):
        return self.steps == 3

    def at_reset(self, observations, infos):
        return observations, infos

    def at_step(self, observations, rewards, terminations, truncations, infos):
        return observations, rewards, terminations, truncations, infos

    def reset(self, seed=None, options=None):
        self.steps = 0
        self.agents = list(self.possible_agents)
        return self.at_reset(*map(self.everyone, (self.see, self.info)))

    def step(self, actions):
        self.steps += 1
        self.actions = actions
        answers = map(self.everyone, (self.see, self.reward, self.ended, self.cut, self.info))
        observations, rewards, terminations, truncations, infos = answers
        self.agents = [a for a in self.agents if not (terminations[a] or truncations[a])]
        return self.at_step(observations, rewards, terminations, truncations, infos)

    def everyone(self, of):
        return {agent: of(agent) for agent in self.agents}


def parallel_env(base=Robots, **parts):
    return type(base.__name__, (base,), parts)()


class Pair(gymnasium.Env):
    """Two agents see two numbers and choose among three actions."""

    observation_space = Tuple([ONE, ONE])
    action_space = Tuple([Discrete(3), Discrete(3)])
    seen = (VIEW, VIEW)
    rewards = (1, 1)
    ended = False
    cut = False
    steps = 0

    def info(self):
        return {}

    def reset(self, seed=None, options=None):
        self.steps = 0
        return self.seen, self.info()

    def step(self, actions):
        self.steps += 1
        self.actions = actions
        return self.seen, self.rewards, self.ended, self.cut, self.info()


def pair(base=Pair, **parts):
    return type(base.__name__, (base,), parts)()


gymnasium.register("Pair-v0", pair, max_episode_steps=3)


class DictPair(Pair):
    """The same with dicts by agent."""

    observation_space = Dict(red=ONE, blue=ONE)
    action_space = Dict(red=Discrete(3), blue=Discrete(3))
    seen: ClassVar[dict] = {"red": VIEW, "blue": VIEW}
    rewards: ClassVar[dict] = {"red": 1, "blue": 1}


class Turns(AECEnv):
    """Red and blue act in turn, and both see how many turns there were; six turns."""

    metadata: ClassVar[dict] = {"name": "turns", "is_parallelizable": True}
    possible_agents: ClassVar[list] = ["red", "blue"]
    render_mode = None

    def observation_space(self, agent):
        return Discrete(7)

    def action_space(self, agent):
        return Discrete(2)

    def observe(self, agent):
        return self.turns

    def reset(self, seed=None, options=None):
        self.turns = 0
        self.agents = list(self.possible_agents)
        self.rewards = self.all(0)
        self._cumulative_rewards = self.all(0)
        self.terminations = self.all(False)
        self.truncations = self.all(False)
        self.infos = {agent: {} for agent in self.agents}
        self.agent_selection = "red"

    def step(self, action):
        if self.terminations[self.agent_selection]:
            self._was_dead_step(action)
            return
        self.turns += 1
        self.rewards = self.all(action if self.turns % 2 == 0 else 0)
        self.terminations = self.all(self.turns == 6)
        self.agent_selection = ("red", "blue")[self.turns % 2]

    def all(self, value):
        return dict.fromkeys(self.agents, value)


def robots(**parts):
    return make_env("pz", "test_own_envs", "tests", agent_ids=False, clock=False, **parts)


def pairs(**parts):
    return make_env("gym", "tests.test_own_envs:Pair-v0", agent_ids=False, clock=False, **parts)


def first(env):
    """The first observation."""
    return env.reset(seed=0)[0]


def episode(env) -> list[tuple]:
    """(observation, reward, terminated, truncated) of each step; agents do their first actions."""
    observation = first(env)
    over = False
    steps = []
    while not over and len(steps) < 10:
        actions = observation["avail_actions"].argmax(axis=1)
        observation, reward, terminated, truncated, _ = env.step(actions)
        steps.append((observation, reward, terminated, truncated))
        over = terminated or truncated
    return steps


def assert_refused(pattern: str, opener, **parts):
    """One line refuses an environment, at the latest in its first episode."""
    with pytest.raises(ValueError, match=pattern) as error:
        episode(opener(**parts))
    assert not getattr(error.value, "__notes__", ())
    assert "\n" not in str(error.value)


def cases(**known: tuple):
    """A test of `given` and `expected` for each entry; its name says what is special."""
    return pytest.mark.parametrize(("given", "expected"), known.values(), ids=list(known))


def each(**known):
    """The same without `expected`."""
    return pytest.mark.parametrize("given", known.values(), ids=list(known))


def always(value):
    """A method of an agent with the same answer."""
    return lambda env, agent: value


def only_red(value, otherwise):
    return lambda env, agent: value if agent == "red" else otherwise


def late(value, otherwise=None, step=1):
    """A method that has this answer at one step only."""
    return lambda env, agent: value if env.steps == step else otherwise


# Masks


def view_with(mask, **others):
    return {"observation": VIEW, "action_mask": mask} | others


MASKED = Dict(observation=ONE, action_mask=MultiBinary(3))
DEEP = Dict(place=ONE, load=Discrete(2))
DEEP_VIEW = {"place": VIEW, "load": 1}


@each(
    in_the_info={"info": always({"action_mask": MASK})},
    as_an_array={"info": always({"action_mask": np.array(MASK, np.int8)})},
    as_floats={"info": always({"action_mask": np.array(MASK, float)})},
    as_bools={"info": always({"action_mask": [False, True, True]})},
    in_observation_and_space={"observation_space": always(MASKED), "see": always(view_with(MASK))},
    in_the_observation_not_in_its_space={"see": always(view_with(MASK))},
    beside_an_observation_called_obs={"see": always({"obs": VIEW, "action_mask": MASK})},
    in_space_and_info={
        "observation_space": always(MASKED),
        "see": always({"observation": VIEW}),
        "info": always({"action_mask": MASK}),
    },
    beside_entries_of_the_observation={
        "observation_space": always(Dict(action_mask=MultiBinary(3), a=Discrete(2), b=ONE)),
        "see": always({"action_mask": MASK, "a": 1, "b": VIEW}),
    },
    beside_a_dict={
        "observation_space": always(Dict(observation=DEEP, action_mask=MultiBinary(3))),
        "see": always({"observation": DEEP_VIEW, "action_mask": MASK}),
    },
    beside_a_dict_not_in_the_space={
        "observation_space": always(DEEP),
        "see": always({"observation": DEEP_VIEW, "action_mask": MASK}),
    },
    in_a_dict_not_in_the_space={
        "observation_space": always(DEEP),
        "see": always(DEEP_VIEW | {"action_mask": MASK}),
    },
)
def test_a_mask_is_applied_and_not_observed(given):
    env = robots(**given)
    assert first(env)["avail_actions"].tolist() == [MASK, MASK]
    for observation, *_ in episode(env):
        assert observation["avail_actions"].tolist() == [MASK, MASK]
        assert observation["obs"].shape in ((2, 2), (2, 4))


def test_a_mask_in_the_observation_leaves_what_is_seen():
    assert first(robots(see=always(view_with(MASK))))["obs"].tolist() == [VIEW.tolist()] * 2


@each(
    a_list={"info": lambda env: {"action_mask": [MASK, ALL]}},
    an_array={"info": lambda env: {"action_mask": np.array([MASK, ALL])}},
    of_one_agent={"info": lambda env: {"action_mask": [MASK, None]}},
    in_the_observations={
        "observation_space": Tuple([MASKED, MASKED]),
        "seen": (view_with(MASK), view_with(ALL)),
    },
    in_the_observations_not_in_the_space={"seen": (view_with(MASK), view_with(ALL))},
    dicts_by_agent={
        "base": DictPair,
        "info": lambda env: {"red": {"action_mask": MASK}, "blue": {"action_mask": ALL}},
    },
    a_dict_by_agent={
        "base": DictPair,
        "info": lambda env: {"action_mask": {"red": MASK, "blue": ALL}},
    },
    a_dict_of_one_agent={"base": DictPair, "info": lambda env: {"action_mask": {"red": MASK}}},
    in_a_dict_of_observations={
        "base": DictPair,
        "observation_space": Dict(red=MASKED, blue=MASKED),
        "seen": {"red": view_with(MASK), "blue": view_with(ALL)},
    },
)
def test_a_mask_of_gymnasium_is_applied(given):
    env = pairs(**given)
    rows = dict(zip(env.agent_names, first(env)["avail_actions"].tolist(), strict=True))
    assert rows in ({"agent 0": MASK, "agent 1": ALL}, {"red": MASK, "blue": ALL})


def test_some_agents_may_have_masks_and_others_none():
    env = robots(info=only_red({"action_mask": MASK}, {}))
    assert first(env)["avail_actions"].tolist() == [MASK, ALL]
    assert all(step[0]["avail_actions"].tolist() == [MASK, ALL] for step in episode(env))


WANTED = "action_mask of red must be a 0 or a 1 for each of 3 actions, got "


@cases(
    too_short=({"action_mask": [1, 1]}, WANTED + r"shape \(2,\)"),
    too_long=({"action_mask": [1, 1, 1, 1]}, WANTED + r"shape \(4,\)"),
    with_two_dimensions=({"action_mask": [ALL]}, WANTED + r"shape \(1, 3\)"),
    indices=({"action_mask": [0, 1, 2]}, WANTED + r"\[0, 1, 2\]"),
    fractions=({"action_mask": [0.5, 0, 1]}, WANTED + r"\[0.5, 0, 1\]"),
    a_dict=({"action_mask": {"left": 1}}, WANTED + "{'left': 1}"),
    a_string=({"action_mask": "all"}, WANTED + "'all'"),
    a_number=({"action_mask": 1}, WANTED + r"shape \(\)"),
    all_zeros=({"action_mask": [0, 0, 0]}, "action_mask of red allows no action"),
    avail_actions=({"avail_actions": MASK}, "info of red has 'avail_actions'.*action_mask"),
    legal_moves_indices=({"legal_moves": [1, 2]}, "info of red has 'legal_moves'"),
    legal_moves_one_index=({"legal_moves": [1]}, "info of red has 'legal_moves'"),
    available_actions=({"available_actions": {1, 2}}, "info of red has 'available_actions'"),
    valid_actions=({"valid_actions": (1, 2)}, "info of red has 'valid_actions'"),
    actionMask=({"actionMask": MASK}, "info of red has 'actionMask'"),
    action_masks=({"action_masks": np.ones(3)}, "info of red has 'action_masks'"),
    moves_allowed=({"moves_allowed": MASK}, "info of red has 'moves_allowed'"),
    mask=({"mask": MASK}, "info of red has 'mask'"),
    illegal_actions=({"illegal_actions": [0]}, "info of red has 'illegal_actions'"),
    inside_another_entry=(
        {"extra": {"action_mask": MASK}},
        "info of red has 'action_mask' inside 'extra'",
    ),
)
def test_a_mask_that_cannot_be_read_is_refused_by_name(given, expected):
    assert_refused(expected, robots, info=only_red(given, {}))


@cases(
    in_steps_only=(
        {"info": lambda env, agent: {"action_mask": MASK} if env.steps else {}},
        "step 1: red has an action_mask now, but had none: .* after reset",
    ),
    in_the_reset_only=(
        {"info": lambda env, agent: {} if env.steps else {"action_mask": MASK}},
        "step 1: red had an action_mask, but has none now",
    ),
    not_at_the_time_limit=(
        {"info": lambda env, agent: {} if env.steps == 3 else {"action_mask": MASK}},
        "step 3: red had an action_mask.*also at the time limit",
    ),
    declared_but_never_given=(
        {"observation_space": always(MASKED), "see": always({"observation": VIEW})},
        "red has no action_mask, but its space has one",
    ),
    declared_but_the_observation_is_bare=(
        {"observation_space": always(MASKED)},
        "red has no action_mask, but its space has one",
    ),
    two_that_differ=(
        {"see": always(view_with(MASK)), "info": always({"action_mask": ALL})},
        "red has one action_mask in its observation, another in its info",
    ),
    first_None_then_legal_moves=(
        {"info": lambda env, agent: {"legal_moves": [1] if env.steps else None}},
        "step 1: the info of red has 'legal_moves'",
    ),
    legal_moves_beside_the_observation=(
        {"see": always({"observation": VIEW, "legal_moves": MASK})},
        "the observation of red has 'legal_moves'",
    ),
    valid_actions_in_the_space=(
        {
            "observation_space": always(Dict(observation=ONE, valid_actions=MultiBinary(3))),
            "see": always({"observation": VIEW, "valid_actions": MASK}),
        },
        "observation space of red has 'valid_actions', which would be observed",
    ),
    deep_in_the_space=(
        {"observation_space": always(Dict(a=Dict(action_mask=MultiBinary(3))))},
        "observation space of red has 'action_mask', which would be observed",
    ),
    of_all_agents_in_infos=(
        {"at_reset": lambda env, seen, infos: (seen, {"action_mask": [MASK, MASK]})},
        "infos has 'action_mask', but each agent's info needs its own",
    ),
    infos_with_avail_actions=(
        {"at_reset": lambda env, seen, infos: (seen, {"avail_actions": {"red": MASK}})},
        "infos has 'avail_actions', which is not read",
    ),
    a_method_of_MaskablePPO=(
        {"action_masks": lambda env: MASK},
        "the environment has action_masks, but its infos have no mask: put its answer into",
    ),
    a_method_of_PyMARL=(
        {"get_avail_actions": lambda env: MASK},
        "the environment has get_avail_actions",
    ),
)
def test_a_mask_in_the_wrong_place_is_refused(given, expected):
    assert_refused(expected, robots, **given)


@cases(
    too_few=(lambda env: {"action_mask": [MASK]}, "action_mask must be a list with one"),
    a_dict=(lambda env: {"action_mask": {"a": MASK}}, "action_mask must be a list.* got {"),
    a_number=(lambda env: {"action_mask": 1}, "action_mask must be a list.* got 1"),
    by_agent=(
        lambda env: {"agent 0": {"action_mask": MASK}},
        "info of the team has 'action_mask' inside 'agent 0'",
    ),
    in_a_list_of_infos=(
        lambda env: {"agents": [{"legal_actions": MASK}, {}]},
        "info of the team has 'legal_actions' inside 'agents'",
    ),
    avail_actions=(lambda env: {"avail_actions": [MASK, MASK]}, "has 'avail_actions'"),
    no_dict=(lambda env: [{}, {}], r"reset\(\) must return observations and an info"),
)
def test_a_mask_of_gymnasium_that_cannot_be_read_is_refused(given, expected):
    assert_refused(expected, pairs, info=given)


@each(
    a_count={"num_illegal_moves": 3},
    a_count_in_numpy={"num_illegal_moves": np.int64(3)},
    a_string={"valid_action": "left"},
    nothing={"legal_moves": None, "action_mask": None},
    a_large_array={"picture": np.zeros((64, 64, 3))},
    dicts_of_other_names={"distance": {"to": {"the": {"goal": [1, 2]}}}},
    lists={"path": [], "events": ["push"], "nested": [[1, 2], [3]]},
    no_report={"is_success": None},
    objects={"env": object(), 3: 4},
)
def test_other_entries_of_an_info_do_no_harm(given):
    *_, last = episode(robots(info=always(given)))
    assert last[3]
    episode(pairs(info=lambda env: given))


def test_an_entry_of_the_observation_that_is_no_number_per_action_may_be_called_mask():
    space = Dict(mask=MultiBinary(5), valid_moves=Discrete(4))
    env = robots(
        observation_space=always(space), see=always({"mask": np.ones(5), "valid_moves": 2})
    )
    assert first(env)["obs"].shape == (2, 5 + 4)


def test_an_agent_needs_no_mask_at_its_own_end():
    def info(env, agent):
        return {"action_mask": [0, 0, 0] if agent == "red" and env.steps == 1 else MASK}

    env = robots(info=info, ended=lambda env, agent: agent == "red")
    assert episode(env)[0][0]["avail_actions"].tolist() == [[1, 0, 0], MASK]


# Agents and spaces


def test_agents_join_leave_and_return():
    def at_step(env, *answers):
        env.agents = [["red"], ["red", "green"], ["green", "blue"]][env.steps - 1]
        seen, rewards, ended, _, infos = answers
        seen = {agent: VIEW for agent in env.agents}
        return seen, rewards, ended, {agent: False for agent in env.agents}, infos

    env = robots(possible_agents=["red", "blue", "green"], at_step=at_step)
    first(env)
    there = [env.step([0, 0, 0])[0]["obs"].any(axis=1).tolist() for _ in range(3)]
    assert there == [[True, False, False], [True, False, True], [False, True, True]]
    assert env._env.actions.keys() == {"red", "green"}


def test_unequal_spaces_are_padded():
    views = {"red": Discrete(2, start=5), "blue": MultiDiscrete([2, 3])}
    env = robots(
        observation_space=lambda env, agent: views[agent],
        action_space=lambda env, agent: Discrete(2, start=7) if agent == "red" else Discrete(4),
        see=lambda env, agent: 6 if agent == "red" else np.array([1, 2]),
    )
    assert first(env)["obs"].tolist() == [[0, 1, 0, 0, 0], [0, 1, 0, 0, 1]]
    assert first(env)["avail_actions"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    env.step([1, 3])
    assert env._env.actions == {"red": 8, "blue": 3}


class Late(Robots):
    """The agents are known only after a reset."""

    possible_agents = None

    def reset(self, seed=None, options=None):
        self.steps = 0
        self.agents = ["red", "blue"]
        return self.everyone(self.see), self.everyone(self.info)


def known_agents(env):
    return env.agents


@each(
    agents_known_after_a_reset={"base": Late},
    possible_agents_is_a_property={"base": Late, "possible_agents": property(known_agents)},
    a_tuple_of_agents={"possible_agents": ("red", "blue")},
    no_metadata={"metadata": None},
    spaces_in_dicts={
        "observation_space": {"red": ONE, "blue": ONE},
        "action_space": {"red": Discrete(3), "blue": Discrete(3)},
    },
    one_space_for_all={"observation_space": ONE, "action_space": Discrete(3)},
    one_Dict_for_all={"observation_space": Dict(a=ONE), "see": always({"a": VIEW})},
    observation_spaces_and_action_spaces={
        "observation_space": ParallelEnv.observation_space,
        "action_space": ParallelEnv.action_space,
        "observation_spaces": {"red": ONE, "blue": ONE},
        "action_spaces": {"red": Discrete(3), "blue": Discrete(3)},
    },
)
def test_agents_and_spaces_may_be_given_in_many_ways(given):
    env = robots(**given)
    steps = episode(env)
    assert [step[1:] for step in steps] == [(2, False, False), (2, False, False), (2, False, True)]
    assert steps[0][0]["obs"].shape == (2, 2)


@each(integers=[0, 1], integers_of_numpy=np.arange(2), a_range=range(2))
def test_agents_may_be_numbers(given):
    env = robots(possible_agents=given)
    assert env.agent_names == ["agent 0", "agent 1"]
    assert len(episode(env)) == 3


def test_an_agent_that_is_lost_with_the_list_of_agents_is_refused():
    def reset(env, seed=None, options=None):
        env.agents = env.possible_agents
        return env.everyone(env.see), env.everyone(env.info)

    def at_step(env, *answers):
        env.possible_agents.remove("red")
        env.agents = env.possible_agents
        return answers

    env = robots(reset=reset, at_step=at_step, possible_agents=["red", "blue"])
    first(env)
    env.step([0, 0])
    with pytest.raises(EnvFault, match=r"has lost 'red': .*self.agents = list"):
        first(env)


OLD_SPACE = type("Box", (Box,), {"__module__": "gym.spaces.box"})(0, 1, (2,))


@cases(
    no_agents=({"possible_agents": []}, "no agents: set possible_agents"),
    a_set_of_agents=({"possible_agents": {"red", "blue"}}, "must be a list"),
    a_name_of_agents=({"possible_agents": "red"}, "possible_agents must be a list .* got 'red'"),
    an_agent_twice=({"possible_agents": ["red", "red"]}, "an agent twice"),
    an_agent_that_was_not_announced=(
        {"at_reset": lambda env, *answer: (env.agents.append("green"), answer)[1]},
        "self.agents has 'green', which is no agent: possible_agents has only 'red', 'blue'",
    ),
    agents_not_set=(
        {"reset": lambda env, seed=None, options=None: ({}, {})},
        "no agent is there after reset.*set self.agents",
    ),
    spaces_of_gym=(
        {"observation_space": always(OLD_SPACE)},
        "observation space of red is of the old package gym: .* gymnasium",
    ),
    old_spaces_inside=(
        {"observation_space": always(Dict(a=OLD_SPACE))},
        "observation space of red is of the old package gym",
    ),
    no_space=(
        {"observation_space": always(None)},
        "observation space of red must be a space of gymnasium, got None",
    ),
    a_space_of_an_agent_lacks=(
        {"action_space": {"red": Discrete(3)}},
        r"'blue' has no action_space: define action_space\(self, agent\)",
    ),
    a_space_without_an_agent=(
        {"action_space": lambda env: Discrete(3)},
        r"must be like action_space\(self, agent\)",
    ),
    a_text=(
        {"observation_space": always(Text(3))},
        "observation space of red cannot be flattened to numbers",
    ),
    continuous_actions=(
        {"action_space": always(ONE)},
        "QMIX needs Discrete actions, but those of red are Box",
    ),
    several_actions_of_an_agent=(
        {"action_space": always(MultiDiscrete(range(2, 60)))},
        "QMIX needs Discrete actions, but those of red are MultiDiscrete",
    ),
    a_reset_without_a_seed=(
        {"reset": lambda env: None},
        r"'seed'; it must be like reset\(self, seed=None, options=None\)",
    ),
    a_step_without_actions=({"step": lambda env: None}, r"must be like step\(self, actions\)"),
)
def test_agents_and_spaces_that_cannot_be_read_are_refused(given, expected):
    assert_refused(expected, robots, **given)


# Observations


def seeing(space, value) -> dict:
    """Red sees a value, and blue another that fits the space."""
    return {"observation_space": always(space), "see": only_red(value, space.sample())}


@each(
    a_list=seeing(ONE, [0.5, 1]),
    float64=seeing(ONE, np.array([0.5, 1])),
    whole_numbers_for_floats=seeing(ONE, np.array([0, 1])),
    bools_for_floats=seeing(ONE, [True, False]),
    a_number_for_an_array_of_one=seeing(Box(0, 1, (1,)), 0.5),
    a_picture_in_int64=seeing(PICTURE, np.full((2, 2, 3), 255)),
    a_picture_in_floats_that_are_whole=seeing(PICTURE, np.full((2, 2, 3), 7.0)),
    an_array_of_one_for_Discrete=seeing(Discrete(3), np.array([2])),
    a_float_for_Discrete=seeing(Discrete(3), 2.0),
    a_list_for_MultiDiscrete=seeing(MultiDiscrete([2, 3]), [1, 2]),
    bools_for_MultiBinary=seeing(MultiBinary(2), [True, False]),
    nothing=seeing(Box(0, 1, (0,)), []),
    outside_the_bounds=seeing(ONE, [3, -3]),
    a_dict_and_a_tuple=seeing(
        Dict(a=Tuple([ONE, Discrete(2)]), b=Discrete(2)), {"b": 1, "a": [VIEW, 1]}
    ),
)
def test_observations_that_fit_are_read(given):
    assert len(episode(robots(**given))) == 3


def test_bytes_stay_bytes_if_all_agents_see_bytes():
    observation = first(robots(**seeing(PICTURE, PICTURE.sample())))
    assert observation["obs"].dtype == observation["state"].dtype == np.uint8
    mixed = robots(
        observation_space=lambda env, agent: PICTURE if agent == "red" else ONE,
        see=lambda env, agent: PICTURE.sample() if agent == "red" else VIEW,
    )
    assert first(mixed)["obs"].dtype == np.float32


NAN = float("nan")
INF = float("inf")
SHAPE = r"red's observation has shape \(%s\), but its space is Box.* correct one of them"


@cases(
    too_short=(seeing(ONE, [0.5]), SHAPE % "1,"),
    too_many_dimensions=(seeing(ONE, [[0.5, 1]]), SHAPE % "1, 2"),
    transposed=(seeing(PICTURE, np.zeros((3, 2, 2), np.uint8)), SHAPE % "3, 2, 2"),
    uneven_rows=(seeing(ONE, [[1], [1, 2]]), "red's observation .* different lengths"),
    None_inside=(seeing(ONE, [None, 1]), r"red's observation must be numbers, got \[None"),
    strings=(seeing(ONE, ["a", "b"]), r"red's observation must be numbers, got \['a'"),
    an_array_of_objects=(seeing(ONE, VIEW.astype(object)), "must be numbers, got array"),
    complex_numbers=(seeing(ONE, VIEW * 1j), "must be numbers"),
    a_dict=(seeing(ONE, {"a": VIEW, "b": VIEW}), r"red must have one entry.*\['a', 'b'\]"),
    NaN=(seeing(ONE, [0, NAN]), "at its reset: red's observation: entry 1 is nan"),
    infinity=(seeing(ONE, [INF, 0]), "red's observation: entry 0 is inf"),
    NaN_inside=(
        seeing(Dict(a=Tuple([Discrete(2), ONE])), {"a": (0, [NAN, 0])}),
        "red's observation: entry 2 is nan",
    ),
    a_fraction_in_bytes=(
        seeing(PICTURE, np.full((2, 2, 3), 0.5)),
        "red's observation contains 0.5, but its space is Box.*uint8",
    ),
    too_large_for_bytes=(seeing(PICTURE, np.full((2, 2, 3), 256)), "red.*contains 256"),
    negative_bytes=(seeing(PICTURE, np.full((2, 2, 3), -1)), "red.*contains -1"),
    NaN_in_bytes=(seeing(PICTURE, np.full((2, 2, 3), NAN)), "red.*contains nan"),
    Discrete_too_large=(
        seeing(Discrete(3), 3),
        r"red's observation is 3, but its space is Discrete\(3\)",
    ),
    Discrete_before_its_start=(seeing(Discrete(3, start=2), 1), "red's observation is 1"),
    Discrete_a_fraction=(seeing(Discrete(3), 0.5), "red's observation is 0.5"),
    Discrete_NaN=(seeing(Discrete(3), NAN), "red's observation is nan"),
    Discrete_a_vector=(seeing(Discrete(3), [0, 1, 0]), r"red.* has shape \(3,\)"),
    MultiDiscrete_too_large=(seeing(MultiDiscrete([2, 3]), [1, 3]), r"red.* is \[1, 3\]"),
    MultiBinary_too_large=(seeing(MultiBinary(2), [0, 2]), r"red's observation is \[0, 2\]"),
    an_entry_lacks=(
        seeing(DEEP, {"place": VIEW}),
        r"red's observation must have the entries \['place', 'load'\], got \['place'\]",
    ),
    an_entry_too_many=(seeing(DEEP, DEEP_VIEW | {"x": 1}), "red.* must have the entries"),
    a_wrong_entry=(
        seeing(DEEP, DEEP_VIEW | {"load": 2}),
        r"red's observation\['load'\] is 2, but its space is Discrete\(2\)",
    ),
    a_tuple_too_short=(
        seeing(Tuple([ONE, ONE]), (VIEW,)),
        "red's observation must be a tuple of 2",
    ),
)
def test_observations_that_do_not_fit_are_refused(given, expected):
    assert_refused(expected, robots, **given)


def test_a_fault_names_environment_episode_seed_and_step():
    env = robots(see=late([0, NAN], VIEW, step=2))
    first(env)
    env.reset(seed=5)
    env.step([0, 0])
    with pytest.raises(EnvFault, match=r"tests:test_own_envs, episode 2 \(seed 5\), step 2: red"):
        env.step([0, 0])


# Rewards


@cases(
    arrays_of_one=(always(np.array([1.5])), 3),
    arrays_without_dimensions=(always(np.array(1.5)), 3),
    whole_numbers=(always(np.int64(1)), 2),
    bools=(always(True), 2),
    of_different_kinds=(only_red(np.array([2.0]), 1), 3),
)
def test_rewards_may_be_numbers_of_any_kind(given, expected):
    reward = episode(robots(reward=given))[0][1]
    assert type(reward) is float
    assert reward == expected


@pytest.mark.parametrize("given", [4, 4.0, np.float32(4), np.array([4]), [1, 3], np.array([1, 3])])
def test_rewards_may_be_one_number_or_a_list(given):
    def at_step(env, seen, rewards, *others):
        return seen, given, *others

    assert episode(robots(at_step=at_step))[0][1] == 4
    assert episode(pairs(rewards=given))[0][1] == 4


def test_rewards_may_have_a_default():
    def at_step(env, seen, _, *others):
        return seen, defaultdict(lambda: 1.5), *others

    assert episode(robots(at_step=at_step))[0][1] == 3


def test_rewards_of_agents_that_have_left_count():
    def at_step(env, seen, rewards, *others):
        return seen, {"red": 1, "blue": 10}, *others

    steps = episode(robots(at_step=at_step, ended=lambda env, agent: agent == "red"))
    assert [step[1] for step in steps] == [11, 11, 11]


@cases(
    NaN=(NAN, "red's reward is nan: it must be finite"),
    infinite=(np.float32(INF), "red's reward is inf"),
    nothing=(None, "red's reward must be a number, got None"),
    a_string=("much", "red's reward must be a number, got 'much'"),
    a_list=([1, 2], r"red's reward must be a number, got \[1, 2\]"),
    a_dict=({"a": 1}, "red's reward must be a number, got {'a': 1}"),
)
def test_rewards_that_are_no_finite_numbers_are_refused(given, expected):
    assert_refused(expected, robots, reward=only_red(given, 0))


@cases(
    none_for_blue=({"red": 1}, "blue has acted, but has no reward"),
    of_a_stranger=({"red": 1, "blue": 1, "team": 1}, "rewards has 'team', which is no agent"),
    too_many_in_a_list=([1, 2, 3], "3 rewards, .* one for each of 2 agents, or one for the"),
    nothing=(None, "the reward must be a number, got None"),
)
def test_rewards_that_do_not_fit_the_agents_are_refused(given, expected):
    assert_refused(expected, robots, at_step=lambda env, seen, _, *others: (seen, given, *others))


@cases(
    a_dict=({"a": 1, "b": 1}, "rewards must be a list with one entry for each of 2 agents"),
    nothing=(None, "rewards must be a list"),
    too_few=([1, 1, 1], "3 rewards"),
    NaN=([1, NAN], "agent 1's reward is nan"),
)
def test_rewards_of_gymnasium_that_do_not_fit_are_refused(given, expected):
    assert_refused(expected, pairs, rewards=given)


# Ends


def ends_at(step: int, way: str) -> dict:
    """All agents are terminated or truncated at a step."""
    ways = {"ended": always(False), "cut": always(False)}
    return ways | {way: lambda env, agent: env.steps == step}


def without_last(env, observations, *others):
    return ({} if not env.agents else observations), *others


def none_at_last(env, observations, *others):
    return (dict.fromkeys(observations) if not env.agents else observations), *others


@pytest.mark.parametrize("last", [without_last, none_at_last])
def test_nobody_needs_an_observation_when_the_task_has_ended(last):
    steps = episode(robots(**ends_at(2, "ended"), at_step=last))
    observation, *outcome = steps[-1]
    assert (len(steps), outcome) == (2, [2.0, True, False])
    assert not observation["obs"].any()
    assert observation["avail_actions"].tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.parametrize("last", [without_last, none_at_last])
def test_an_agent_without_an_observation_at_the_time_limit_is_refused(last):
    expected = "step 2: red has no observation at the time limit: .* before self.agents = "
    assert_refused(expected, robots, **ends_at(2, "cut"), at_step=last)


def test_an_agent_that_has_ended_but_stays_in_the_list_of_agents_does_not_act():
    def at_step(env, *_):
        env.agents = ["red", "blue"]
        answers = (env.see, env.reward, env.ended, env.cut, env.info)
        return tuple(map(env.everyone, answers))

    env = robots(at_step=at_step, ended=lambda env, agent: agent == "red")
    steps = episode(env)
    assert not steps[0][0]["obs"][0].any()
    assert steps[-1][2:] == (False, True)
    assert env._env.actions.keys() == {"blue"}


def test_an_agent_that_waits_for_its_turn_without_an_observation_is_refused():
    def at_step(env, observations, *others):
        return {"blue": observations["blue"]}, *others

    assert_refused("step 1: red has no observation .*has not ended", robots, at_step=at_step)


@cases(
    rewards_only=(True, "no agent is left, but red is not terminated or truncated"),
    nothing=(False, "red has acted, but has no reward: .* make the dicts before self.agents"),
)
@pytest.mark.parametrize("way", ["ended", "cut"])
def test_dicts_that_are_all_empty_at_the_end_are_refused(given, expected, way):
    def at_step(env, seen, rewards, *others):
        if env.agents:
            return seen, rewards, *others
        return {}, rewards if given else {}, {}, {}, {}

    assert_refused(expected, robots, **ends_at(2, way), at_step=at_step)


def flags(terminations, truncations):
    """`step` answers these, at every step."""

    def at_step(env, seen, rewards, _, __, infos):
        return seen, rewards, terminations, truncations, infos

    return at_step


NOBODY = {"red": False, "blue": False}


@cases(
    bools_of_numpy=(({"red": np.True_, "blue": np.True_}, NOBODY), (True, False)),
    zeros_and_ones=(({"red": 1, "blue": 1.0}, {"red": 0, "blue": 0}), (True, False)),
    one_bool_for_all=((False, True), (False, True)),
    for_everyone=(({"__all__": False}, {"__all__": True}), (False, True)),
    for_everyone_and_for_agents=((NOBODY | {"__all__": True}, NOBODY), (True, False)),
    for_agents_only=((NOBODY, {"red": True, "blue": True, "__all__": False}), (False, True)),
    over_for_everyone_but_agents_say_that_time_is_up=(
        (NOBODY | {"__all__": True}, {"red": True, "blue": True, "__all__": True}),
        (False, True),
    ),
    one_lacks=(({"red": True}, {"blue": True}), (False, True)),
)
def test_flags_may_be_given_in_many_ways(given, expected):
    assert episode(robots(at_step=flags(*given)))[0][2:] == expected


@cases(
    a_string=({"red": "False", "blue": False}, r"\['red'\] must be True or False, got 'False'"),
    nothing=(None, "terminations must be True or False, got None"),
    None_for_red=({"red": None, "blue": False}, r"terminations\['red'\] must be True or"),
    a_list=([False, False], r"terminations must be True or False, got \[False, False\]"),
    a_number=({"red": 2, "blue": False}, r"terminations\['red'\] .* got 2"),
    of_a_stranger=(NOBODY | {"rde": True}, "terminations has 'rde', which is no agent"),
)
def test_flags_of_another_kind_are_refused(given, expected):
    assert_refused(expected, robots, at_step=flags(given, NOBODY))


@cases(
    a_dict=({"a0": False, "__all__": False}, "terminated must be a list with one entry"),
    nothing=(None, "terminated must be True or False, got None"),
    a_string=("False", "terminated must be True or False, got 'False'"),
    too_many=([False] * 3, r"terminated must be a list with one .* got \[False, False, False\]"),
    no_bools=(["no", "no"], "terminated of agent 0 must be True or False, got 'no'"),
)
def test_flags_of_gymnasium_of_another_kind_are_refused(given, expected):
    assert_refused(expected, pairs, ended=given)


@pytest.mark.parametrize("given", [np.False_, [False], [False, True], np.array([True, False])])
def test_flags_of_gymnasium_may_be_bools_or_lists(given):
    *_, last = steps = episode(pairs(ended=given))
    assert (len(steps), last[2:]) == (3, (False, True))


@cases(
    dicts=({"red": True, "blue": True}, (True, False)),
    for_everyone=({"__all__": True}, (True, False)),
    a_bool=(True, (True, False)),
)
def test_flags_of_gymnasiums_dicts_may_be_dicts(given, expected):
    assert episode(pairs(base=DictPair, ended=given))[0][2:] == expected


def test_an_agent_of_gymnasiums_dicts_that_has_ended_does_not_act():
    env = pairs(base=DictPair, ended={"red": True, "blue": False})
    steps = episode(env)
    row = env.agent_names.index("red")
    assert not steps[0][0]["obs"][row].any()
    assert env._env.unwrapped.actions.keys() == {"blue"}
    assert steps[-1][2:] == (False, True)


# Interface


@cases(
    reset_without_infos=(
        {"at_reset": lambda env, seen, infos: (seen,)},
        r"reset\(\) must return observations and in",
    ),
    reset_gives_observations=(
        {"at_reset": lambda env, seen, infos: seen},
        r"reset\(\) must return observations and infos, for example .* got a dict of 2",
    ),
    infos_None_at_reset=(
        {"at_reset": lambda env, seen, infos: (seen, None)},
        "infos must be a dict, got None; {} is enough",
    ),
    infos_None=(
        {"at_step": lambda env, *answers: (*answers[:-1], None)},
        "infos must be a dict, got None",
    ),
    infos_in_a_list=(
        {"at_step": lambda env, *answers: (*answers[:-1], [{}, {}])},
        r"infos must be a dict, got \[{}, {}\]",
    ),
    an_info_None=({"info": always(None)}, "info of red must be a dict, got None"),
    four_values=(
        {"at_step": lambda env, *answers: answers[:-1]},
        r"step\(\) must return .* got 4 values \(terminations and truncations are two dicts\)",
    ),
    nothing=({"step": lambda env, actions: None}, r"step\(\) must return .* got None"),
    observations_in_a_list=(
        {"at_reset": lambda env, seen, infos: ([VIEW, VIEW], infos)},
        "observations must be a dict, got",
    ),
)
def test_answers_of_another_form_are_refused(given, expected):
    assert_refused(expected, robots, **given)


GYM_STEP = r"step\(\) must return observations, rewards, terminated, truncated, info"


@pytest.mark.parametrize("base", [Pair, DictPair])
@cases(
    four_values=({"step": lambda env, actions: ((), 0, False, {})}, GYM_STEP),
    nothing=({"step": lambda env, actions: None}, GYM_STEP),
    reset_without_an_info=(
        {"reset": lambda env, seed=None, options=None: env.seen},
        r"reset\(\) must return observations and",
    ),
    reset_without_a_seed=(
        {"reset": lambda env: None},
        r"must be like reset\(self, seed=None, options=None\)",
    ),
    observations_of_one_agent=({"seen": [VIEW]}, "observations must be"),
    no_space=({"observation_space": None}, "observation_space must be a space of gymnasium"),
)
def test_answers_of_gymnasium_of_another_form_are_refused(given, expected, base):
    assert_refused(expected, pairs, base=base, **given)


@each(
    lists={"observation_space": [ONE, ONE], "action_space": [Discrete(3), Discrete(3)]},
    dicts={
        "base": DictPair,
        "observation_space": dict(DictPair.observation_space.spaces),
        "action_space": dict(DictPair.action_space.spaces),
    },
    a_MultiDiscrete={"action_space": MultiDiscrete([3, 3])},
)
def test_spaces_of_gymnasium_may_be_given_in_many_ways(given):
    assert [step[1] for step in episode(pairs(**given))] == [2, 2, 2]


def written(name: str, parallel_env=None, options=None, **parts):
    """Open a module that has these parts."""
    module = ModuleType(name)
    vars(module).update(parts)
    if parallel_env:
        module.parallel_env = parallel_env
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cleanmarl.env.pz.load", lambda *_: module)
        return make_env("pz", name, "games", **options or {})


class Plain:
    """Not derived from ParallelEnv."""


def needs_a_number(n):
    return Robots()


@cases(
    a_class=(lambda: Robots, r"returns the class Robots: return Robots\(\)"),
    nothing=(lambda: None, "returns nothing: return the environment"),
    another_kind=(Plain, "returns Plain, which must be derived from pettingzoo.ParallelEnv"),
    Gymnasium_s=(lambda: Pair(), "returns Pair, an environment of Gymnasium: .*env-type gym"),
    needs_arguments=(needs_a_number, "games:mine cannot be opened: .*'n'; .*--env-options"),
    turn_based=(
        lambda: type("Chess", (Turns,), {"metadata": {}})(),
        "turn-based .*aec_to_parallel.*is_parallelizable",
    ),
    turn_based_no_metadata=(
        lambda: type("Chess", (Turns,), {"metadata": None})(),
        "turn-based .*aec_to_parallel",
    ),
)
def test_a_parallel_env_that_makes_no_parallel_environment_is_refused(given, expected):
    assert_refused(expected, written, name="mine", parallel_env=given)


def test_a_module_without_parallel_env_is_refused():
    expected = r"module mine has no function parallel_env: .*return MyEnvironment\(\)"
    assert_refused(expected, written, name="mine")


@pytest.mark.parametrize("name", ["parallel_env", "env", "raw_env"])
def test_turn_based_environments_whose_agents_can_act_together_are_wrapped(name):
    env = written("mine", **{name: Turns})
    first(env)
    outcomes = [env.step([1, 1])[1:4] for _ in range(3)]
    assert outcomes == [(2, False, False), (2, False, False), (2, True, False)]


def test_an_error_of_the_users_code_keeps_its_type_and_says_where_it_came_from():
    def step(env, actions):
        return {}["no such key"]

    env = robots(step=step)
    env.reset(seed=7)
    with pytest.raises(KeyError, match="no such key") as error:
        env.step([0, 0])
    (note,) = error.value.__notes__
    assert note == "step() of tests:test_own_envs failed in episode 1 (seed 7), step 1"


@pytest.mark.parametrize("name", ["observation_space", "reset"])
def test_an_error_of_the_users_code_at_the_start_says_what_was_done(name):
    def broken(env, *arguments, **options):
        return {}["no such key"]

    with pytest.raises(KeyError) as error:
        first(robots(**{name: broken}))
    (note,) = error.value.__notes__
    assert "tests:test_own_envs" in note


def test_a_type_error_inside_the_users_code_is_not_taken_for_a_wrong_signature():
    def step(env, actions):
        return len(1, 2)

    env = robots(step=step)
    first(env)
    with pytest.raises(TypeError, match="len"):
        env.step([0, 0])


def test_an_error_in_the_users_module_says_what_was_imported(tmp_path, monkeypatch):
    package = tmp_path / "broken_games"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "mine.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ZeroDivisionError) as error:
        make_env("pz", "mine", "broken_games")
    assert error.value.__notes__ == ["importing broken_games:mine failed"]
    for name in ("broken_games", "broken_games.mine"):
        sys.modules.pop(name, None)


# Options and time limits


def with_options(size=1, speed=2):
    return Robots()


class Sized(Robots):
    """It takes one option."""

    def __init__(self, size=1):
        self.size = size


@cases(
    near_a_name=((with_options, {"sise": 3}), "unknown option of games:mine 'sise'; .*size"),
    far_from_all=((with_options, {"n": 3}), "'n'; known are size, speed"),
    none=((Robots, {"n": 3}), "'n'; it has none"),
    passed_on=((lambda **options: Sized(**options), {"n": 3}), "unknown option .*'n'"),
    passed_on_to_nobody=((lambda **options: Robots(**options), {"n": 3}), "unknown option .*'n'"),
)
def test_an_unknown_option_is_refused_and_gives_known_ones(given, expected):
    parallel_env, options = given
    assert_refused(expected, written, name="mine", parallel_env=parallel_env, options=options)


def test_an_option_reaches_the_environment():
    assert written("mine", Sized, options={"size": 7})._env.size == 7


@each(
    a_class=Sized,
    passed_on=lambda **options: Sized(**options),
    passed_on_to_nobody=lambda **options: Robots(**options),
)
def test_a_time_limit_works_without_max_cycles(given):
    env = written("mine", given, options={"time_limit": 2})
    assert [step[2:] for step in episode(env)] == [(False, False), (False, True)]


@cases(
    a_number=({"max_cycles": 7}, 7),
    no_limit=({"max_cycles": float("inf")}, None),
    another_name=({"max_steps": 7}, None),
)
def test_the_time_limit_of_an_environment_is_its_max_cycles(given, expected):
    assert robots(**given).time_limit == expected


def with_size(size=1):
    return Pair()


def with_need(size):
    return Pair()


@cases(
    near_a_name=((Sized, {"sise": 3}), "unknown option .*'sise'; .*size"),
    a_function=((with_size, {"sise": 3}), "unknown option .*'sise'; .*size"),
    needs_arguments=((with_need, {}), "needs 'size': give it by --env-options"),
    no_environment=((Sized, {}), "no environment of Gymnasium: .*--env-type pz"),
)
def test_a_gymnasium_environment_that_cannot_be_made_is_refused(given, expected, monkeypatch):
    entry_point, options = given
    spec = gymnasium.envs.registration.EnvSpec("Mine-v0", entry_point=entry_point)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    assert_refused(expected, make_env, env_type="gym", env_name="Mine-v0", **options)


# States


def state_of(*numbers, dtype=float):
    return lambda env: np.array(numbers, dtype)


@cases(
    a_method=({"state": state_of(5, 6, 7)}, [5, 6, 7]),
    a_list=({"state": lambda env: [5, 6, 7]}, [5, 6, 7]),
    rows=({"state": lambda env: [[5, 6], [7, 8]]}, [5, 6, 7, 8]),
    a_declared_one=({"state": state_of(5, 6, 7), "state_space": Box(0, 9, (3,))}, [5, 6, 7]),
    a_declared_dict=({"state": lambda env: DEEP_VIEW, "state_space": DEEP}, [*VIEW, 0, 1]),
    not_to_be_used=({"state": state_of(5, 6, 7), "env_state": False}, [*VIEW, *VIEW]),
    not_implemented=({}, [*VIEW, *VIEW]),
    nothing=({"state": lambda env: None}, [*VIEW, *VIEW]),
    an_attribute_of_the_user=({"state": np.zeros(9)}, [*VIEW, *VIEW]),
    too_large=({"state": lambda env: np.zeros((400, 300, 3))}, [*VIEW, *VIEW]),
)
def test_the_state_is_the_environments_own_if_it_has_one(given, expected):
    env = robots(**given)
    for observation in (first(env), *(step[0] for step in episode(env))):
        assert observation["state"].tolist() == expected


def test_a_large_state_is_used_if_the_observations_are_larger():
    views = {"observation_space": always(Box(0, 1, (60_000,))), "see": always(np.zeros(60_000))}
    env = robots(state=lambda env: np.zeros(110_000), **views)
    assert env.state_size == 110_000
    assert env.notes == []


@cases(
    a_picture=(np.zeros((400, 300, 3)), "state has 360,000 numbers, too many"),
    an_attribute=(np.zeros(3), "`state` is no method"),
)
def test_a_state_that_is_not_used_is_noted(given, expected):
    state = given if given.size == 3 else lambda env: given
    (note,) = robots(state=state).notes
    assert expected in note
    assert robots(state=state, env_state=False).notes == []


def test_the_state_of_a_wrapper_is_used():
    class Wrapper(BaseParallelWrapper):
        def state(self):
            return np.array([5, 6])

    assert first(written("mine", lambda: Wrapper(Robots())))["state"].tolist() == [5, 6]
    inner = type("Inner", (Robots,), {"state": state_of(7)})
    assert first(written("mine", lambda: BaseParallelWrapper(inner())))["state"].tolist() == [7]


def test_the_state_of_a_turn_based_environment_is_used():
    turns = type("Turns", (Turns,), {"state": lambda env: np.array([env.turns])})
    env = written("mine", env=turns)
    first(env)
    assert env.step([0, 0])[0]["state"].tolist() == [2]


def test_a_state_that_is_a_property_is_not_read():
    kind = type("Own", (Robots,), {"state": property(lambda env: env.nothing)})
    env = written("mine", kind)
    assert first(env)["state"].tolist() == [*VIEW, *VIEW]
    assert "`state` is no method" in env.notes[0]


def test_a_state_of_bytes_stays_bytes():
    assert first(robots(state=state_of(1, 2, dtype=np.uint8)))["state"].dtype == np.uint8


def state_of_those_left(env):
    return np.array([VIEW for _ in env.agents])


def joined_state_of_those_left(env):
    return np.concatenate([VIEW for _ in env.agents])  # an error if there are none


@pytest.mark.parametrize("state", [state_of_those_left, joined_state_of_those_left])
@pytest.mark.parametrize("max_cycles", [None, 5])
def test_a_state_of_the_agents_that_are_left_may_be_missing_at_the_end(state, max_cycles):
    make = partial(make_env, "pz", "test_own_envs", "tests", time_limit=max_cycles)
    *_, last = episode(make(state=state, **ends_at(2, "ended")))
    assert last[1:] == (2, True, False)


def test_a_state_of_the_agents_that_are_left_is_refused_at_the_time_limit():
    fault = "fails when no agent is left .*: make it from possible_agents, or do without"
    assert_refused(fault, robots, state=joined_state_of_those_left)


def test_an_error_of_a_state_is_the_users_own():
    def state(env):
        return np.zeros(2) if env.steps < 2 else 1 / 0

    with pytest.raises(ZeroDivisionError):
        episode(robots(state=state))


STATE = r"state\(\) has shape \(2,\), but its space is Box.*: correct one of them, or do without it"


@cases(
    its_size_changes=(lambda env: np.zeros(2 if env.steps else 3), STATE),
    NaN=(lambda env: np.array([0, NAN]), "entry 1 of the state is nan"),
    bytes_then_fractions=(
        lambda env: np.full(2, 0.5) if env.steps else np.zeros(2, np.uint8),
        r"state\(\) contains 0.5, but its space is Box.*--no-env-state",
    ),
    a_dict=(lambda env: {"a": 1}, r"state\(\) must be an array of numbers, .*--no-env-state"),
)
def test_a_state_that_cannot_be_read_is_refused(given, expected):
    assert_refused(expected, robots, state=given)


def test_a_state_that_is_not_as_declared_is_refused():
    assert_refused(STATE, robots, state=state_of(1, 2), state_space=Box(0, 1, (3,)))


# Names


@each(
    a_list_for_all={"action_names": ["stay", "up", "down"]},
    a_tuple={"action_names": ("stay", "up", "down")},
    an_array={"action_names": np.array(["stay", "up", "down"])},
    lists={"action_names": [["stay", "up", "down"]] * 2},
    dict_by_agent={"action_names": {"red": ["stay", "up", "down"], "blue": ["stay", "up", "down"]}},
    a_dict_by_number={"action_names": {0: "stay", 1: "up", 2: "down"}},
    metadata={"metadata": {"action_names": ["stay", "up", "down"]}},
)
def test_actions_may_have_names(given):
    assert robots(**given).action_names == [["stay", "up", "down"]] * 2


def test_parts_of_observations_may_have_names():
    assert robots(observation_names=["x", "y"]).observation_names == [["x", "y"]] * 2
    assert pairs(observation_names=[["x", "y"], ["a", "b"]]).observation_names[1] == ["a", "b"]
    some = robots(observation_names={"red": ["x", "y"]}).observation_names
    assert some == [["x", "y"], ["entry 0", "entry 1"]]


def test_names_of_unequal_agents_are_filled_up():
    names = {"red": ["stay", "go"], "blue": ["stay", "go", "lift"]}
    env = robots(action_space=lambda env, agent: Discrete(len(names[agent])), action_names=names)
    assert env.action_names == [["stay", "go", "no action"], ["stay", "go", "lift"]]
    assert env.agent_names == ["red", "blue"]


def test_messages_use_the_names():
    env = robots(observation_names=["x", "y"], see=late([0, NAN], VIEW))
    first(env)
    with pytest.raises(EnvFault, match=r"red's observation: entry 1 \(y\) is nan"):
        env.step([0, 0])
    env = robots(action_names=["stay", "up", "down"], info=always({"action_mask": MASK}))
    first(env)
    with pytest.raises(ValueError, match=r"red cannot do action 0 \(stay\), only \[1, 2\]"):
        env.step([0, 1])


@cases(
    too_few=(["stay", "up"], r"action_names must have a list of 3 names for red, got \['st"),
    too_few_lists=([["stay", "up", "down"]], "must have a list for each of 2 agents, got 1"),
    a_string=("stay", "action_names must be lists of names, or a dict by agent, got 'stay'"),
    of_a_stranger=({"green": ["stay"]}, "action_names has 'green', which is no agent"),
    numbers_of_names=({"stay": 0, "up": 1}, "action_names has 'stay', which is no agent"),
    no_list=(3, "action_names must be"),
    no_list_of_red=({"red": 3}, "action_names must have a list of 3 names for red, got 3"),
)
def test_names_that_do_not_fit_are_refused(given, expected):
    assert_refused(expected, robots, action_names=given)


gymnasium.register("Unlimited-v0", Pair)


@pytest.mark.parametrize(("own", "limit"), [(7, 7), (None, None), (0, None), ("7", None)])
def test_an_environment_of_gymnasium_may_know_its_own_time_limit(monkeypatch, own, limit):
    monkeypatch.setattr(Pair, "max_steps", own, raising=False)
    env = make_env("gym", "tests.test_own_envs:Unlimited-v0")
    assert (env.time_limit, env.clock) == (limit, limit is not None)


def test_an_attribute_env_of_another_kind_does_not_hide_the_time_limit():
    assert robots(max_cycles=7, env=object()).time_limit == 7
    assert robots(env=SimpleNamespace(max_cycles=9)).time_limit == 9


def test_an_environment_that_ends_the_program_when_it_is_closed_is_closed():
    robots(close=lambda env: sys.exit()).close()


MASK_METHODS = [
    "get_available_actions",
    "legal_moves",
    "action_masks",
    "get_valid_actions",
    "get_possible_moves",
    "get_mask",
    "compute_action_mask",
    "get_agent_avail_actions",
    "possible_actions",
]


@pytest.mark.parametrize("name", MASK_METHODS)
def test_masks_in_a_method_are_refused(name):
    assert_refused(f"the environment has {name}, but its infos", robots, **{name: always(MASK)})


def test_a_wrapper_may_say_that_a_method_is_no_mask():
    wrapper = type("Wrapper", (gymnasium.Wrapper,), {"get_available_actions": None})
    inside = type("Inside", (Pair,), {"get_available_actions": lambda env: [[0, 1], [2, 0]]})
    gymnasium.register("Methods-v0", lambda: wrapper(inside()), max_episode_steps=3)
    assert first(make_env("gym", "tests.test_own_envs:Methods-v0")) is not None


def test_names_of_actions_are_no_masks():
    assert first(robots(possible_actions=["stay", "left", "right"])) is not None


@pytest.mark.parametrize("name", ["available", "legal", "forbidden_actions", "masking"])
def test_masks_of_other_names_are_refused(name):
    assert_refused(f"the info of red has '{name}'", robots, info=always({name: MASK}))
    view = Dict({"place": ONE, name: MultiBinary(3)})
    seen = always({"place": VIEW, name: np.array(MASK, np.int8)})
    fault = f"the observation space of red has '{name}'"
    assert_refused(fault, robots, observation_space=always(view), see=seen)


def test_masks_in_a_method_of_a_wrapper_are_refused():
    wrapper = type("Masks", (gymnasium.Wrapper,), {"action_masks": lambda env: MASK})
    gymnasium.register("Masked-v0", lambda: wrapper(pair()), max_episode_steps=3)
    with pytest.raises(EnvFault, match="the environment has action_masks, but its infos"):
        first(make_env("gym", "Masked-v0"))


def test_a_team_env_is_registered_by_its_class():
    kind = type("Own", (TeamEnv,), {})
    gymnasium.register("Own-v0", lambda: kind(n_agents=1, n_actions=2, obs_size=1))
    with pytest.raises(ValueError, match="Own-v0 is a TeamEnv: register the class"):
        make_env("gym", "Own-v0")


def test_a_state_among_observations_is_noted():
    view = Dict(obs=ONE, state=ONE)
    env = robots(observation_space=always(view), see=always({"obs": VIEW, "state": VIEW}))
    assert any("agents observe the entry 'state'" in note for note in env.notes)


UNREAD = {
    "PettingZoo": (robots, {}, "get_state"),
    "Gymnasium": (pairs, {}, "state"),
    "dicts": (pairs, {"base": DictPair}, "global_state"),
}


@pytest.mark.parametrize(("make", "base", "name"), UNREAD.values(), ids=UNREAD)
def test_a_state_that_is_not_read_is_noted(make, base, name):
    env = make(**base, **{name: lambda _: VIEW})
    expected = f"{name}() is not called, the mixer sees the observations of all agents"
    assert any(note.startswith(expected) for note in env.notes)


def test_a_state_that_is_read_is_not_noted():
    both = {"state": lambda _: VIEW, "get_state": lambda _: VIEW}
    notes = robots(**both).notes + robots(env_state=False, get_state=both["get_state"]).notes
    assert not any("is not called" in note for note in notes)


def test_an_agent_of_gymnasiums_dicts_that_has_ended_must_not_go_on():
    ended = property(lambda env: {"red": env.steps == 1, "blue": False})
    assert_refused("red has ended, but is not terminated now", pairs, base=DictPair, ended=ended)


def test_names_by_number_are_refused_where_agents_are_sorted():
    names = [["a", "b", "c"], ["d", "e", "f"]]
    assert_refused("must be a dict by agent", pairs, base=DictPair, action_names=names)


def test_spaces_of_rllib_are_dicts_by_agent():
    spaces = {"observation_spaces": dict(DictPair.observation_space)}
    spaces["action_spaces"] = dict(DictPair.action_space)
    env = pairs(base=DictPair, observation_space=None, action_space=None, **spaces)
    assert len(episode(env)) == 3
    assert sorted(env.agent_names) == ["blue", "red"]


def test_the_number_of_actions_of_each_agent_is_known():
    counts = only_red(Discrete(2), Discrete(3))
    env = robots(action_space=counts)
    assert env.own_actions == [2, 3]
    assert env.action_names[0] == ["action 0", "action 1", "no action"]


def test_a_time_limit_beyond_the_environments_own_is_noted(monkeypatch):
    monkeypatch.setattr(Pair, "max_steps", 2, raising=False)
    (note,) = pairs().notes
    assert note.endswith("own is 2: if its episodes end there, add --time-limit 2")
    monkeypatch.setattr(Pair, "max_steps", 3, raising=False)
    assert pairs().notes == []


def test_the_time_limit_of_a_wrapper_is_known(monkeypatch):
    def make(**parts):
        return TimeLimit(pair(), 2)

    spec = gymnasium.envs.registration.EnvSpec("Mine-v0", entry_point=make)
    monkeypatch.setitem(gymnasium.registry, spec.id, spec)
    assert make_env("gym", "Mine-v0").time_limit == 2
    env = make_env("gym", "Mine-v0", time_limit=5)
    assert env.time_limit == 5
    assert env.notes[0].endswith("add --time-limit 2")


def test_an_import_error_without_a_name_is_the_users_own():
    def fail(env):
        raise ModuleNotFoundError("please install the simulator")

    with pytest.raises(ModuleNotFoundError, match="please install the simulator"):
        robots(__init__=fail)
