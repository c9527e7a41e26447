"""Battles as Gymnasium environments: one, many, and your own scenarios."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from cleanmarl.battle import BattleEnv, BattleVectorEnv, ScenarioError, compiled
from cleanmarl.battle.world import seen_of


def random_actions(observation: dict, rng: np.random.Generator) -> np.ndarray:
    """One uniformly random available action per agent."""
    avail_actions = observation["avail_actions"]
    return (rng.random(avail_actions.shape) * avail_actions).argmax(-1)


def episode(env, seed, rng_seed: int = 0, steps: int = 200) -> list:
    """Everything that an environment returns in an episode of random actions."""
    rng = np.random.default_rng(rng_seed)
    observation, info = env.reset(seed=seed)
    returned = [(observation, info)]
    for _ in range(steps):
        returned.append(env.step(random_actions(observation, rng)))
        observation, _, terminated, truncated, _ = returned[-1]
        if terminated or truncated:
            break
    return returned


def equal(a, b) -> bool:
    """Whether two returned values are the same, arrays and their types included."""
    if isinstance(a, dict):
        return (
            isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return all(map(equal, a, b)) if a.dtype == object else np.array_equal(a, b)
    return type(a) is type(b) and a == b


# One battle


@pytest.mark.filterwarnings("ignore:.*A Box observation space m.*imum value is:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Not able to test alternative render modes:UserWarning")
@pytest.mark.parametrize(
    "map_name", ["3m", "MMM", "2s3z", "2s_vs_1sc", "corridor", "2c_vs_64zg", "terran_5_vs_6"]
)
def test_gymnasium_finds_nothing_wrong(map_name):
    check_env(BattleEnv(map_name), skip_render_check=True)


@pytest.mark.parametrize("agent_ids", [False, True])
@pytest.mark.parametrize("map_name", ["3m", "MMM", "bane_vs_bane", "zerg_5_vs_5"])
def test_observations_lie_in_their_space(map_name, agent_ids):
    env = BattleEnv(map_name, agent_ids=agent_ids, time_limit=30)
    for observation, *_ in episode(env, seed=1):
        assert env.observation_space.contains(observation)
        assert observation["obs"].shape == (env.n_agents, env.obs_size)
        assert observation["state"].shape == (env.state_size,)
        assert observation["avail_actions"].shape == (env.n_agents, env.n_actions)
        assert (observation["avail_actions"].sum(axis=1) > 0).all()


def test_a_step_returns_plain_numbers():
    env = BattleEnv("3m")
    _, info = env.reset(seed=0)
    assert info == {}
    _, reward, terminated, truncated, info = env.step([1, 1, 1])
    assert (type(reward), type(terminated), type(truncated), info) == (float, bool, bool, {})


def test_gymnasium_makes_every_map_by_its_name():
    env = gymnasium.make("cleanmarl/3m-v0", disable_env_checker=True)
    assert isinstance(env.unwrapped, BattleEnv) and env.unwrapped.map_name == "3m"
    assert "cleanmarl/27m_vs_30m-v0" in gymnasium.registry
    assert "cleanmarl/terran_20_vs_23-v0" in gymnasium.registry
    env = gymnasium.make("cleanmarl/MMM-v0", disable_env_checker=True, agent_ids=True)
    assert env.unwrapped.obs_size == 160 + 10


def test_gymnasium_makes_vectors_of_battles():
    envs = gymnasium.make_vec("cleanmarl/3m-v0", num_envs=3)
    assert isinstance(envs.unwrapped, BattleVectorEnv)
    observation, _ = envs.reset(seed=0)
    assert observation["obs"].shape == (3, 3, 30)
    observation, rewards, *_ = envs.step(np.ones((3, 3), int))
    assert observation["state"].shape == (3, 48) and rewards.shape == (3,)


@pytest.mark.parametrize("map_name", ["3m", "MMM", "so_many_baneling"])
def test_the_same_seed_and_actions_give_the_same_episode(map_name):
    env = BattleEnv(map_name)
    first = episode(env, seed=3)
    assert equal(first, episode(env, seed=3))
    assert equal(first, episode(BattleEnv(map_name), seed=3))


def test_different_seeds_give_different_episodes():
    def fight(env, seed) -> list[float]:
        """Rewards of a battle in which all agents attack what they can."""
        observation, _ = env.reset(seed=seed)
        rewards, over = [], False
        while not over:
            east = np.full(env.n_agents, 4)
            mask = observation["avail_actions"]
            in_reach, first = mask[:, 6:].any(axis=1), 6 + mask[:, 6:].argmax(axis=1)
            actions = np.where(in_reach, first, mask.argmax(axis=1))
            can_go_on = mask[np.arange(env.n_agents), east]
            actions = np.where(can_go_on & ~in_reach, east, actions)
            observation, reward, terminated, truncated, _ = env.step(actions)
            rewards.append(reward)
            over = terminated or truncated
        return rewards

    env = BattleEnv("8m")
    assert len({tuple(fight(env, seed)) for seed in range(8)}) > 1


def test_a_reset_without_a_seed_continues_the_random_stream():
    runs = []
    for _ in range(2):
        env = BattleEnv("so_many_baneling")
        runs.append([episode(env, seed) for seed in (5, None, None)])
    assert equal(runs[0], runs[1])


def test_returned_arrays_do_not_change_later():
    env = BattleEnv("3m")
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    for _ in range(5):
        kept = copy.deepcopy(observation)
        new, *_ = env.step(random_actions(observation, rng))
        assert equal(observation, kept)
        assert not any(np.shares_memory(observation[key], new[key]) for key in new)
        observation = new


def test_the_state_forgets_the_last_actions_at_a_reset():
    env = BattleEnv("3m")
    start, _ = env.reset(seed=0)
    env.step([2, 3, 4])
    again, _ = env.reset(seed=1)
    assert equal(start, again)
    assert not again["state"][-27:].any()


def test_a_battle_writes_only_into_its_own_arrays():
    # The last healers are nobody's targets, so masks are shorter than the list of allies.
    allies = {"side": "ally", "at": [8, 16], "units": {"MARINE": 1, "MEDIVAC": 2}}
    enemies = {"side": "enemy", "at": [24, 16], "units": {"ZERGLING": 1}}
    env = BattleEnv(map_file={"groups": [allies, enemies]})
    env.reset(seed=0)
    seen = seen_of(env.world.rules[0], 2)
    for array in seen:
        array[:] = 7
    compiled.look(env.world, env.units, env.battles, seen)
    assert all((array[1] == 7).all() for array in seen)


def test_the_clock_is_the_share_of_time_left_also_for_the_dead():
    plain, env = (BattleEnv("3m", agent_ids=True, clock=clock) for clock in (False, True))
    assert (env.obs_size, env.state_size) == (plain.obs_size + 1, plain.state_size + 1)
    (known, _), (seen, _) = plain.reset(seed=0), env.reset(seed=0)
    over, steps = False, 0
    while not over:
        left = np.float32(1 - steps / 60)
        np.testing.assert_array_equal(seen["obs"][:, -1], left)
        np.testing.assert_array_equal(seen["obs"][:, :-1], known["obs"])
        np.testing.assert_array_equal(seen["state"], [*known["state"], left])
        stops = seen["avail_actions"].argmax(axis=1)  # the living stop, the dead do nothing
        known, *_ = plain.step(stops)
        seen, _, terminated, truncated, _ = env.step(stops)
        steps, over = steps + 1, terminated or truncated
    assert steps > 10


def test_agent_ids_are_appended_to_every_observation():
    plain, with_ids = (BattleEnv("3m", agent_ids=agent_ids) for agent_ids in (False, True))
    assert with_ids.obs_size == plain.obs_size + 3
    for one, other in zip(episode(plain, seed=2), episode(with_ids, seed=2), strict=True):
        assert np.array_equal(other[0]["obs"], np.hstack([one[0]["obs"], np.eye(3)]))
        assert np.array_equal(other[0]["state"], one[0]["state"])


def test_a_step_accepts_exactly_the_actions_of_the_mask():
    env = BattleEnv("MMM")
    rng = np.random.default_rng(4)
    observation, _ = env.reset(seed=4)
    for _ in range(25):
        observation, *_ = env.step(random_actions(observation, rng))
    assert not observation["avail_actions"][:, 1].all()  # some are dead
    usual = random_actions(observation, rng)
    for agent in range(env.n_agents):
        for action in range(-1, env.n_actions + 1):
            actions = usual.copy()
            actions[agent] = action
            trial = copy.deepcopy(env)
            if 0 <= action < env.n_actions and observation["avail_actions"][agent, action]:
                trial.step(actions)
            else:
                message = f"agent {agent}: action {action} is not available"
                with pytest.raises(ValueError, match=message):
                    trial.step(actions)


@pytest.mark.parametrize(
    "make", [BattleEnv, lambda *args, **options: BattleVectorEnv(*args, 3, **options)]
)
def test_actions_sampled_from_the_space_are_available(make):
    env = make("MMM", time_limit=30)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(100):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        actions = env.action_space.sample()
        assert np.take_along_axis(observation["avail_actions"], actions[..., None], -1).all()
        if env.action_space.shape == (10,) and (terminated or truncated):
            env.reset()


def test_sampling_repeats_with_its_seed_and_takes_masks():
    space = BattleEnv("3m").action_space
    draws = []
    for _ in range(2):
        space.seed(5)
        draws.append([space.sample().tolist() for _ in range(20)])
    assert draws[0] == draws[1]
    assert {action for draw in draws[0] for action in draw} == {1, 2, 3, 4, 5}
    only_stop = tuple(np.eye(9, dtype=np.int8)[[1, 1, 1]])
    assert space.sample(mask=only_stop).tolist() == [1, 1, 1]


def test_an_unavailable_action_is_named_and_changes_nothing():
    env, untouched = BattleEnv("3m"), BattleEnv("3m")
    for e in (env, untouched):
        e.reset(seed=7)
        e.step([4, 4, 4])
    message = r"agent 1: action 6 is not available; available are \[1, 2, 3, 4, 5\]"
    with pytest.raises(ValueError, match=message):
        env.step([2, 6, 2])
    with pytest.raises(ValueError, match="agent 2: action 0"):
        env.step([2, 2, 0])
    assert equal(env.step([2, 3, 1]), untouched.step([2, 3, 1]))


@pytest.mark.parametrize(
    "actions",
    [[1, 1], [1, 1, 1, 1], 1, [], [1.0, 1.0, 1.0], [True, True, True], ["1", "1", "1"], None],
)
def test_actions_of_the_wrong_number_or_type_are_refused(actions):
    env = BattleEnv("3m")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="expected 3 whole numbers as actions"):
        env.step(actions)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.int64])
def test_actions_of_any_integer_type_are_taken(dtype):
    env = BattleEnv("3m")
    env.reset(seed=0)
    env.step(np.array([1, 2, 3], dtype))


def test_a_battle_begins_and_ends_with_reset():
    env = BattleEnv("3m", time_limit=2)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step([1, 1, 1])
    env.reset(seed=0)
    env.step([1, 1, 1])
    *_, terminated, truncated, info = env.step([1, 1, 1])
    assert (terminated, truncated, info) == (False, True, {"battle_won": False})
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step([1, 1, 1])
    env.reset()
    env.step([1, 1, 1])


def test_the_time_limit_is_the_maps_own_unless_given():
    assert BattleEnv("3m").time_limit == 60
    assert BattleEnv("3m", time_limit=5).time_limit == 5
    for limit in (0, -1, 1.5, float("nan"), 10**9):
        message = f"time_limit: expected a whole number from 1 to 1000000, got {limit}"
        with pytest.raises(ScenarioError, match=message):
            BattleEnv("3m", time_limit=limit)


def test_a_lost_battle_is_terminated_and_not_won():
    env = BattleEnv("3m", time_limit=200)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        stop = np.where(observation["avail_actions"][:, 0], 0, 1)
        observation, _, over, _, info = env.step(stop)
    assert info == {"battle_won": False}
    assert not observation["obs"].any()


def test_upstream_walls_are_the_default():
    def south_of_11(**walls):
        allies = {"side": "ally", "at": [9, 11], "units": {"MARINE": 1}}
        scenario = {**SCENARIO, "groups": [allies, ENEMIES]}
        env = BattleEnv(map_file=scenario, **walls)
        env.reset(seed=0)
        env.step([3])
        return env.step([3])[0]["state"][3] * 32 + 16

    assert south_of_11() == south_of_11(walls="upstream") == pytest.approx(9.068, abs=1e-3)
    assert south_of_11(walls="published") == pytest.approx(9.310, abs=1e-3)
    with pytest.raises(ScenarioError, match="walls must be one of upstream, published, got 'none'"):
        BattleEnv("3m", walls="none")


def test_the_error_for_an_unknown_map_gives_the_nearest_names():
    with pytest.raises(ScenarioError, match=r"unknown map '2s3x'; did you mean .*2s3z"):
        BattleEnv("2s3x")
    with pytest.raises(ScenarioError, match=r"unknown map '\?'; known are 3m, 8m"):
        BattleEnv("?")


# Battles of your own

ALLIES = {"side": "ally", "at": [9, 16], "units": {"MARINE": 2}}
ENEMIES = {"side": "enemy", "at": [23, 16], "units": {"ZEALOT": 1}}
SCENARIO = {"terrain": "SIMPLE", "attack_point": [9, 16], "groups": [ALLIES, ENEMIES]}

MINE = """
size = [20, 12]
walls = [[0, 0, 20, 2], [9, 5, 11, 8]]
episode_limit = 40
attack_point = [3, 6.5]

[[groups]]
side = "ally"
at = [3.5, 6.5]
units = { SNIPER = 1, ROCK = 2 }

[[groups]]
side = "ally"
at = [3, 9]
units = { MEDIVAC = 1 }

[[groups]]
side = "enemy"
at = [16, 6]
units = { ZERGLING = 4 }

[units.SNIPER]
like = "MARINE"
range = 9
damage = 20

[units.ROCK]
hp = 500
shield = 5
armor = 3
attack = "standard"
cooldown = 2
range = 0.1
speed = 0.5
radius = 0.8
damage = 1
"""


def test_your_own_battle_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    env = BattleEnv(map_file=path)
    assert (env.map_name, env.time_limit) == ("mine.toml", 40)
    assert (env.n_agents, env.n_actions) == (4, 6 + 4)
    assert BattleEnv(map_file=str(path)).obs_size == env.obs_size
    units, blocked = env.start.units, env.scenario.blocked
    assert blocked.shape == (12, 20) and blocked.sum() == 20 * 2 + 2 * 3
    assert units["hp"].tolist() == [45, 500, 500, 150, 35, 35, 35, 35]
    assert units["range"].tolist()[:2] == [9, 0.1]
    assert units["speed"].tolist()[:2] == [3.15, 0.5]  # the first is a marine's
    for observation, *_ in episode(env, seed=0):
        assert env.observation_space["state"].contains(observation["state"])


def test_your_own_statistics_decide_the_battle(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    env = BattleEnv(map_file=path)
    env.reset(seed=0)
    env.units[0]["x"][4] = env.units[0]["x"][0] + 5.9
    env.step([6, 1, 1, 1])
    assert env.units[0]["hp"][4] == pytest.approx(35 - 20 + 0.38 / 2, abs=0.05)


def test_your_own_units_may_replace_known_ones():
    scenario = {**SCENARIO, "units": {"MARINE": {"like": "MARINE", "hp": 1}}}
    assert BattleEnv(map_file=scenario).start.units["hp"].tolist() == [1, 1, 100]


def test_a_scenario_with_the_content_of_a_map_is_that_map():
    groups = [
        {"side": side, "at": [x, 16], "units": {"MARINE": 3}}
        for side, x in (("ally", 9), ("enemy", 23))
    ]
    scenario = {"terrain": "SIMPLE", "attack_point": [9, 16], "groups": groups, "episode_limit": 60}
    assert equal(episode(BattleEnv(map_file=scenario), seed=1), episode(BattleEnv("3m"), seed=1))


# Many battles

MODES = list(AutoresetMode)


def both(map_name: str, num_envs: int, mode: AutoresetMode, **options):
    """A `BattleVectorEnv` and Gymnasium's vector of `BattleEnv`s."""
    envs = BattleVectorEnv(map_name, num_envs, autoreset_mode=mode, **options)
    options.pop("num_threads", None)
    singles = [lambda: BattleEnv(map_name, **options)] * num_envs
    return envs, SyncVectorEnv(singles, autoreset_mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("map_name", "steps"),
    [("3m", 300), ("so_many_baneling", 150), ("MMM", 150), ("terran_5_vs_6", 150)],
)
def test_a_vector_of_battles_equals_gymnasiums_vector(map_name, steps, mode):
    ours, gymnasiums = both(map_name, 4, mode, time_limit=14, agent_ids=True, clock=True)
    assert ours.observation_space == gymnasiums.observation_space
    assert ours.single_action_space == gymnasiums.single_action_space
    assert ours.metadata["autoreset_mode"] == gymnasiums.metadata["autoreset_mode"]
    rng = np.random.default_rng(1)
    returned = ours.reset(seed=11)
    assert equal(returned, gymnasiums.reset(seed=11))
    ended = 0
    for _ in range(steps):
        actions = random_actions(returned[0], rng)
        if rng.random() < 0.1:  # so that battles end at different times
            lazy = returned[0]["avail_actions"][..., 1].astype(bool)
            actions = np.where(lazy, 1, actions)
        returned = ours.step(actions)
        assert equal(returned, gymnasiums.step(actions))
        over = returned[2] | returned[3]
        ended += over.sum()
        if mode == AutoresetMode.DISABLED and over.any():
            seeds = rng.integers(100, size=4).tolist() if rng.random() < 0.5 else None
            returned = ours.reset(seed=seeds, options={"reset_mask": over})
            assert equal(returned, gymnasiums.reset(seed=seeds, options={"reset_mask": over}))
    assert ended >= 4 * (steps // 15)


@pytest.mark.parametrize("mode", MODES)
def test_seeds_may_be_given_per_battle(mode):
    ours, gymnasiums = both("so_many_baneling", 3, mode, time_limit=9)
    for seed in (5, [7, 7, 9], None, [1, None, 3]):
        returned = ours.reset(seed=seed)
        assert equal(returned, gymnasiums.reset(seed=seed))
        if seed == [7, 7, 9]:
            assert equal(returned, ours.reset(seed=np.array(seed)))
        rng = np.random.default_rng(2)
        for _ in range(9):
            actions = random_actions(returned[0], rng)
            returned = ours.step(actions)
            assert equal(returned, gymnasiums.step(actions))
    with pytest.raises(ValueError, match="expected 3 seeds, got 2"):
        ours.reset(seed=[1, 2])
    for wrong in (-1, 1.5):
        with pytest.raises(ValueError, match=f"from 0 on as seeds, got {wrong}"):
            ours.reset(seed=[1, wrong, 2])


def test_with_same_step_autoreset_the_last_observation_is_in_the_infos():
    envs = BattleVectorEnv("3m", 2, time_limit=2, autoreset_mode="SameStep")
    start, _ = envs.reset(seed=0)
    envs.step(np.full((2, 3), 2))
    observation, _, terminated, truncated, infos = envs.step(np.full((2, 3), 2))
    assert truncated.all() and not terminated.any()
    assert equal(observation, start)
    assert infos["_final_obs"].all()
    assert infos["final_info"]["battle_won"].tolist() == [False, False]
    assert infos["final_obs"][1]["state"][3] * 32 == pytest.approx(-0.4 + 2 * 1.575, abs=1e-4)


def test_without_autoreset_a_battle_that_is_over_waits_for_its_reset():
    envs = BattleVectorEnv("3m", 2, time_limit=1, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    envs.step(np.ones((2, 3), int))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[0, 1\]"):
        envs.step(np.ones((2, 3), int))
    envs.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"\[1\]"):
        envs.step(np.ones((2, 3), int))
    with pytest.raises(ValueError, match=r"reset_mask.* must have shape \(2,\)"):
        envs.reset(options={"reset_mask": np.array([True])})


@pytest.mark.parametrize("num_threads", [2, 3, 8, 50])
def test_results_do_not_depend_on_the_number_of_threads(num_threads):
    runs = []
    for threads in (1, num_threads):
        envs = BattleVectorEnv("2s3z", 7, time_limit=20, num_threads=threads)
        rng = np.random.default_rng(3)
        returned = [envs.reset(seed=3)]
        for _ in range(60):
            returned.append(envs.step(random_actions(returned[-1][0], rng)))
        runs.append(returned)
        envs.close()
    assert equal(runs[0], runs[1])


@pytest.mark.parametrize("num_threads", [1, 3])
def test_an_unavailable_action_names_the_battle(num_threads):
    envs = BattleVectorEnv("3m", 3, num_threads=num_threads)
    envs.reset(seed=0)
    actions = np.ones((3, 3), int)
    actions[1, 2] = 7
    with pytest.raises(ValueError, match="battle 1, agent 2: action 7 is not available"):
        envs.step(actions)


def test_an_unavailable_action_changes_no_battle():
    for num_threads in (1, 3):
        envs, untouched = (BattleVectorEnv("3m", 3, num_threads=num_threads) for _ in range(2))
        envs.reset(seed=0), untouched.reset(seed=0)
        actions = np.full((3, 3), 2)
        actions[1, 2] = 7
        with pytest.raises(ValueError, match="not available"):
            envs.step(actions)
        assert equal(envs.step(np.full((3, 3), 4)), untouched.step(np.full((3, 3), 4)))


def test_vectors_refuse_impossible_numbers():
    for name in ("num_envs", "num_threads"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            BattleVectorEnv("3m", **{name: 0})
    with pytest.raises(ValueError, match="expected 2 x 3 whole numbers"):
        envs = BattleVectorEnv("3m", 2)
        envs.reset(seed=0)
        envs.step([1, 1, 1])


def test_a_pickled_battle_continues_like_the_original():
    env = BattleEnv("3m")
    env.reset(seed=0)
    copied = pickle.loads(pickle.dumps(env))
    for _ in range(3):
        assert equal(env.step([5, 5, 5]), copied.step([5, 5, 5]))
    env.reset(), copied.step([1, 1, 1])
    assert (env.units != copied.units).any()
