"""The games of the benchmark: payoffs, masks, and the values that a team should learn."""

import importlib
from functools import partial
from itertools import product

import numpy as np
import pytest

from cleanmarl.env import make_env
from cleanmarl.env.check import check

FAMILY = "cleanmarl.benchmark.games"
GAMMA = 0.99

THREE = [[[[1, 2], [2, 4]], [[2, 4], [4, 20]]], [[[7, 7], [7, 7]], [[7, 7], [7, 7]]]]
"""two rooms of three players, of whom the first chooses the room"""
UNEQUAL = [[[5, 5, 5], [5, 5, 5]], [[1, 2, 4], [2, 5, 12]]]
ROOMS = {
    "default": {},
    "paper": {"rooms": [[[7, 7], [7, 7]], [[0, 1], [1, 8]]], "chooser": False, "wait": False},
    "no masks": {"masks": False},
    "three players": {"rooms": THREE, "chooser": False, "gaps": 0},
    "unequal": {"rooms": UNEQUAL, "gaps": 2},
    "unequal, no masks": {"rooms": UNEQUAL, "chooser": False, "masks": False, "gaps": 2},
    "all cost, no waiting": {"rooms": [[[-2, -2], [-2, -1]]], "wait": False},
    "all cost": {"rooms": [[[-2, -2], [-2, -1]]]},
    "four rooms": {"rooms": np.arange(16).reshape(4, 2, 2).tolist(), "chooser": False},
}
every_rooms_game = pytest.mark.parametrize("options", ROOMS.values(), ids=ROOMS)

GAMES = [
    ("climbing_game", {}),
    *(("penalty_game", {"k": k}) for k in (0, -25, -50, -75, -100)),
    ("matrix_game", {"payoffs": [[[1, 2, 3], [4, 5, 6]]], "max_cycles": 3}),
    ("two_step_game", {}),
    *(("rooms_game", options) for options in ROOMS.values()),
    ("tag", {}),
    ("tag", {"num_good": 2, "num_adversaries": 2, "errs": 0.0}),
    ("world_comm", {}),
]
every_game = pytest.mark.parametrize(("name", "options"), GAMES)


def game(name: str, **options):
    return importlib.import_module(f"{FAMILY}.{name}").parallel_env(**options)


def opened(name: str, **options):
    return make_env("pz", name, FAMILY, **options)


def earn(env, *joint_actions: tuple) -> list[float]:
    """The rewards of one episode."""
    env.reset(seed=0)
    return [env.step(np.array(actions))[1] for actions in joint_actions]


@every_game
def test_every_game_passes_the_check(name, options):
    report, _ = check(partial(opened, name, **options), 1)
    assert not report.problems


@pytest.mark.parametrize(
    ("name", "options", "payoffs"),
    [
        ("climbing_game", {}, [[11, -30, 0], [-30, 7, 0], [0, 6, 5]]),
        ("penalty_game", {}, [[-100, 0, 10], [0, 2, 0], [10, 0, -100]]),
        ("penalty_game", {"k": -25}, [[-25, 0, 10], [0, 2, 0], [10, 0, -25]]),
        ("matrix_game", {"payoffs": [[1, 2, 3], [4, 5, 6]]}, [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_a_matrix_game_pays_the_team_what_its_table_says(name, options, payoffs):
    env = opened(name, **options)
    for joint in np.ndindex(*np.shape(payoffs)):
        assert earn(env, joint) == [pytest.approx(np.array(payoffs)[joint])]


def test_a_matrix_game_looks_the_same_for_25_steps_and_is_then_truncated():
    env = opened("climbing_game")
    env.reset(seed=0)
    for step in range(25):
        observation, _, terminated, truncated, _ = env.step([0, 0])
        assert (observation["obs"][:, 0] == 1).all()  # then agent ids and the time left
        assert not terminated and truncated == (step == 24)


@pytest.mark.parametrize(("name", "best"), [("climbing_game", 275), ("penalty_game", 250)])
def test_the_best_returns_are_those_of_25_steps(name, best):
    assert game(name).optimum == best


def test_values_of_a_matrix_game_count_the_steps_that_are_left():
    climbing = game("climbing_game")
    (last,) = climbing.exact_values(GAMMA, steps_left=1).values()
    assert last.tolist() == climbing.payoffs.tolist()
    (two_left,) = climbing.exact_values(GAMMA, steps_left=2).values()
    assert two_left == pytest.approx(climbing.payoffs + GAMMA * 11)
    (forever,) = climbing.exact_values(GAMMA).values()
    assert forever.max() == pytest.approx(11 / (1 - GAMMA))


def test_the_two_step_game_has_the_papers_payoffs_and_values():
    env = opened("two_step_game")
    for first, second in product(range(2), repeat=2):
        assert earn(env, (0, 1), (first, second)) == [0, 7]
        assert earn(env, (1, 0), (first, second)) == [0, [[0, 1], [1, 8]][first][second]]
    values = game("two_step_game").exact_values(GAMMA)["hall"]
    assert values == pytest.approx(np.array([[6.93, 6.93], [7.92, 7.92]]))
    assert game("two_step_game").optimum == 8


@every_rooms_game
def test_values_of_rooms_are_what_available_joint_actions_pay(options):
    rooms, env = game("rooms_game", **options), opened("rooms_game", **options)
    for state, values in rooms.exact_values(GAMMA).items():
        if state == "hall":
            continue
        for joint in np.ndindex(values.shape):
            env.reset(seed=0)
            for actions in rooms.way_to(state):
                observation, *_ = env.step(actions)
            available = observation["avail_actions"][range(len(joint)), joint].all()
            assert np.isnan(values[joint]) == (not available)
            if available:
                _, reward, terminated, *_ = env.step(joint)
                assert reward == pytest.approx(values[joint]) and terminated


@every_rooms_game
def test_values_of_the_hall_are_discounted_values_of_what_follows(options):
    rooms, env = game("rooms_game", **options), opened("rooms_game", **options)
    values = rooms.exact_values(GAMMA)
    for joint in np.argwhere(~np.isnan(values["hall"])):
        env.reset(seed=0)
        seen = env.step(joint)[0]["obs"][0, : len(rooms.states)]
        state = rooms.states[seen.argmax()]
        best = GAMMA * np.nanmax(values[state])
        assert values["hall"][tuple(joint)] == pytest.approx(best)


def test_who_can_wait_need_not_enter_a_room_that_costs():
    costly = [[[-2, -2], [-2, -1]]]
    rooms = game("rooms_game", rooms=costly)
    assert rooms.optimum == 0 and np.nanmax(rooms.exact_values(GAMMA)["hall"]) == 0
    assert game("rooms_game", rooms=costly, wait=False).optimum == -1


@every_rooms_game
def test_the_optimum_of_rooms_is_the_return_of_the_best_joint_actions(options):
    rooms, env = game("rooms_game", **options), opened("rooms_game", **options)
    env.reset(seed=0)
    values, earned, state, over = rooms.exact_values(GAMMA), 0, "hall", False
    while not over:
        joint = np.unravel_index(np.nanargmax(values[state]), values[state].shape)
        observation, reward, terminated, truncated, _ = env.step(np.array(joint))
        state = rooms.states[observation["obs"][0, : len(rooms.states)].argmax()]
        earned += reward
        over = terminated or truncated
    assert earned == pytest.approx(rooms.optimum)


def test_who_waits_in_the_hall_is_truncated_at_the_time_limit():
    env = opened("rooms_game", max_cycles=3)
    env.reset(seed=0)
    ends = [env.step([2, 0, 1])[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_agents_in_rooms_have_only_the_actions_that_make_a_difference():
    env = opened("rooms_game")  # three choices, two, and two with gaps before them
    observation, _ = env.reset(seed=0)
    assert observation["avail_actions"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    observation, *_ = env.step([0, 0, 1])
    assert observation["avail_actions"].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]]


def test_without_masks_all_actions_are_always_available():
    env = opened("rooms_game", rooms=UNEQUAL, masks=False, gaps=1)
    sizes = [3, 2, 6]
    for actions in ([0, 0, 0], [2, 1, 5]):
        observation, _ = env.reset(seed=0)
        assert observation["avail_actions"].sum(-1).tolist() == sizes
        observation, *_ = env.step(actions)
        assert observation["avail_actions"].sum(-1).tolist() == sizes


def added(table: np.ndarray) -> np.ndarray:
    """What two agents' next actions add together beyond what they add alone, for each pair."""
    pairs = [
        np.diff(np.diff(table, axis=one), axis=other)
        for one in range(table.ndim)
        for other in range(one)
    ]
    return np.concatenate([pair.ravel() for pair in pairs])


@pytest.mark.parametrize("name", ["rooms_game", "two_step_game"])
def test_default_payoffs_are_no_sum_but_a_mixer_can_represent_them(name):
    payoffs = game(name).payoffs
    for table in payoffs:
        assert all((np.diff(table, axis=axis) >= 0).all() for axis in range(table.ndim))
        assert (added(table) >= 0).all()
    assert added(payoffs[-1]).max() > 0


# Predators and their prey


def chased(seed: int, **options) -> list[float]:
    """The prey's distance to its nearest predator at each step, while the predators stand still."""
    env = game("tag", **options)
    env.reset(seed=seed)
    (prey,) = env.prey
    distances = []
    while env.agents:
        env.step(dict.fromkeys(env.agents, 0))
        gaps = [np.linalg.norm(prey.state.p_pos - one.state.p_pos) for one in env.predators]
        distances.append(min(gaps))
    return distances


@pytest.mark.parametrize("name", ["tag", "world_comm"])
def test_the_team_consists_of_predators_only(name):
    env = opened(name)
    assert all("adversary" in agent for agent in env.agent_names)


def test_the_prey_keeps_its_distance():
    for seed in range(10):
        distances = chased(seed, errs=0)
        assert len(distances) == 25
        assert distances[-1] > max(distances[0], 0.5)


def test_prey_that_errs_keeps_less_distance():
    distances = {errs: [chased(seed, errs=errs)[-1] for seed in range(10)] for errs in (0, 1)}
    assert np.mean(distances[1]) < np.mean(distances[0]) - 0.2


def test_the_prey_stays_in_the_field():
    env = game("tag", num_good=2, errs=0)
    for seed in range(10):
        env.reset(seed=seed)
        while env.agents:
            env.step(dict.fromkeys(env.agents, 0))
        assert max(np.abs(prey.state.p_pos).max() for prey in env.prey) < 1


def test_the_seed_decides_when_the_prey_errs():
    one, same, other = chased(1, errs=0.5), chased(1, errs=0.5), chased(2, errs=0.5)
    assert one == same != other


def test_predators_that_touch_the_prey_all_earn_10():
    env = opened("tag", num_obstacles=0)
    env.reset(seed=0)
    chase = env.unwrapped._env
    (prey,) = chase.prey
    for predator, place in zip(chase.predators, ([0, 0], [1, 1], [1, -1]), strict=True):
        predator.state.p_pos = np.array(place, float)
    prey.state.p_pos = np.array([0.01, 0])
    assert env.step([0, 0, 0])[1] == 30


# Overcooked, if its package is installed

UP, DOWN, RIGHT, LEFT, STAY, INTERACT = range(6)
ONION = [LEFT, INTERACT, RIGHT, UP, INTERACT]
DISH = [LEFT, DOWN, DOWN, INTERACT, UP, RIGHT, UP]
SERVED = [UP, *ONION, *ONION, *ONION, *DISH, *[STAY] * 13, INTERACT, DOWN, RIGHT, DOWN, INTERACT]


def cook(**options) -> tuple[list[float], dict]:
    """The first cook serves a soup in the cramped room: rewards, and the last info."""
    env = opened("kitchen", **options)
    env.reset(seed=0)
    answers = [env.step([action, STAY]) for action in SERVED]
    return [reward for _, reward, *_ in answers], answers[-1][-1]


@pytest.fixture
def overcooked():
    return pytest.importorskip("overcooked")


def test_a_soup_of_three_onions_pays_20(overcooked):
    rewards, info = cook()
    assert rewards == [0] * (len(SERVED) - 1) + [20]
    assert info["is_success"]


def test_with_shaping_steps_on_the_way_to_a_soup_pay_too(overcooked):
    rewards, _ = cook(shaping=1)
    assert [reward for reward in rewards if reward] == [3, 3, 3, 3, 5, 20]
    assert sum(cook(shaping=0.5)[0]) == 20 + 17 / 2


@pytest.mark.parametrize("layout", ["cramped_room", "counter_circuit_o_1order"])
def test_kitchens_pass_the_check(layout, overcooked):
    report, env = check(partial(opened, "kitchen", layout=layout), 1)
    assert not report.problems
    assert env.time_limit == 400


def test_an_unknown_kitchen_is_refused_with_the_nearest_one(overcooked):
    with pytest.raises(ValueError, match=r"unknown layout 'cramped_rom'.* cramped_room"):
        opened("kitchen", layout="cramped_rom")


# What is refused


@pytest.mark.parametrize(
    ("name", "options", "named"),
    [
        ("matrix_game", {"payoffs": [[1, 2], [3]]}, "rows of equal length"),
        ("matrix_game", {"payoffs": []}, "tables of numbers"),
        ("matrix_game", {"payoffs": ["a"]}, "tables of numbers"),
        ("penalty_game", {"k": 25}, "k is the penalty, at most 0"),
        ("rooms_game", {"rooms": [1, 2]}, "a list of payoff tables"),
        ("rooms_game", {"gaps": -1}, "gaps must be at least 0"),
        ("rooms_game", {"max_cycles": 1}, "max_cycles must be at least 2"),
        ("rooms_game", {"romos": 1}, "unknown option of .*'romos'.* rooms"),
        ("tag", {"errs": 2}, "errs is a probability"),
        ("tag", {"num_adversaries": 0}, "num_adversaries must be at least 1"),
        ("world_comm", {"num_good": 0}, "num_good must be at least 1"),
    ],
)
def test_wrong_options_are_refused_by_name(name, options, named):
    with pytest.raises(ValueError, match=named):
        opened(name, **options)
