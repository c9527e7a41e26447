"""Random battles: the draws at a reset, their frequencies, and the battles themselves."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cleanmarl.battle import BattleEnv, BattleVectorEnv, ScenarioError, random_names
from cleanmarl.battle.names import observation_names
from cleanmarl.battle.scenario import _table, load_map
from cleanmarl.battle.world import HEAL
from tests.helpers import properties, seeds

RACES = ("terran", "protoss", "zerg")
HEALER = "MEDIVAC"


def both(number, units, **fields) -> dict:
    """Your own random battles on an open map of 32 x 32 cells."""
    return {"groups": [{"side": "both", "number": number, "units": units, **fields}]}


def one_place(race: str, place: str, *number: int) -> dict:
    return {
        "groups": [_table("races")[race] | {"side": "both", "number": number, "places": {place: 1}}]
    }


def drawn(env: BattleEnv, num: int, seed: int = 0):
    """The units of `num` battles: allies and enemies, by their indices."""
    for b in range(num):
        env.reset(seed=seed if b == 0 else None)
        units = env.units[0].copy()
        yield units[units["is_ally"]], units[~units["is_ally"]]


def open_battles(of) -> BattleEnv:
    return BattleEnv(map_file=of) if isinstance(of, dict) else BattleEnv(of)


def names_of(env: BattleEnv, units: np.ndarray) -> list[str]:
    return [list(env.scenario.kinds)[kind] for kind in units["kind"]]


def as_likely(counts, probabilities) -> bool:
    """Whether counts fit these probabilities: a chi-squared test at the level 0.001.

    It uses the normal approximation of Wilson and Hilferty (1931).
    """
    counts, expected = np.array(counts), np.sum(counts) * np.array(probabilities)
    assert expected.min() > 5 and math.isclose(sum(probabilities), 1)
    df = len(counts) - 1
    statistic = ((counts - expected) ** 2 / expected).sum()
    spread = 2 / (9 * df)
    return ((statistic / df) ** (1 / 3) - (1 - spread)) / spread**0.5 < 3.09


def assert_uniform(values, low: float, high: float, bins: int = 10):
    values = np.array(values)
    assert low <= values.min() and values.max() <= high
    counts, _ = np.histogram(values, bins, (low, high))
    assert as_likely(counts, np.full(bins, 1 / bins))


def overlap(units: np.ndarray) -> bool:
    x, y, radius = (units[name].astype(float) for name in ("x", "y", "radius"))
    apart = radius[:, None] + radius
    near = (x[:, None] - x) ** 2 + (y[:, None] - y) ** 2 < apart**2
    return bool((near & ~np.eye(len(units), dtype=bool)).any())


def test_the_chi_squared_test_rejects_wrong_probabilities():
    assert as_likely([452, 449, 99], [0.45, 0.45, 0.1])
    assert not as_likely([380, 520, 100], [0.45, 0.45, 0.1])


# Names and sizes


def test_there_are_the_fifteen_scenarios_of_smacv2():
    sizes = ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
    assert set(random_names()) == {f"{race}_{size}" for race in RACES for size in sizes}


@pytest.mark.parametrize(
    "name", [*random_names(), "zerg_1_vs_1", "terran_50_vs_1", "protoss_1_vs_50"]
)
def test_the_sizes_follow_from_the_name(name):
    env = BattleEnv(name)
    race, *numbers = name.replace("vs_", "").split("_")
    n, m = map(int, numbers)
    shield = race == "protoss"
    assert (env.n_agents, env.time_limit) == (n, 200)
    assert env.n_actions == 6 + (max(n, m) if race == "terran" else m)
    of_other = 5 + shield + 3
    assert env.obs_size == 4 + (n - 1 + m) * of_other + 1 + shield + 3 + 2
    assert env.state_size == n * (7 + shield) + m * (6 + shield) + n * env.n_actions
    assert env.scenario.blocked.shape == (32, 32) and not env.scenario.blocked.any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("protos_5_vs_5", "did you mean protoss_5_vs_5"),
        ("terrran_7_vs_3", "did you mean terran_7_vs_3"),
        ("zerg_5vs5", "did you mean zerg_5_vs_5"),
        ("zerg_05_vs_5", "did you mean zerg_5_vs_5"),
        ("zerg_\N{ARABIC-INDIC DIGIT FIVE}_vs_5", "did you mean zerg_5_vs_5"),
        ("zerg_51_vs_5", "zerg_51_vs_5: expected 1 to 50 units a side, got 51"),
        ("zerg_5_vs_0", "zerg_5_vs_0: expected 1 to 50 units a side, got 0"),
        ("zerg_5_vs_" + "9" * 5000, "expected 1 to 50 units a side"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_names(name, message):
    with pytest.raises(ScenarioError, match=message) as error:
        BattleEnv(name)
    assert "\n" not in str(error.value)


# Armies


@pytest.mark.parametrize("race", RACES)
def test_kinds_are_as_frequent_as_their_weights_at_every_index(race):
    env = BattleEnv(f"{race}_5_vs_7")
    chances = _table("races")[race]["units"]
    counts = np.zeros((12, 3), int)
    for units in drawn(env, 2000):
        for u, name in enumerate(names_of(env, np.concatenate(units))):
            counts[u, list(chances).index(name)] += 1
    for u in range(10):  # the enemies' other two are checked below
        assert as_likely(counts[u], list(chances.values()))


@pytest.mark.parametrize(("race", "helper"), [("terran", "MEDIVAC"), ("zerg", "BANELING")])
def test_no_army_has_only_kinds_that_may_not_be_alone(race, helper):
    env = BattleEnv(f"{race}_2_vs_4")
    chances = _table("races")[race]["units"]
    pairs = [pair for pair in itertools.product(chances, repeat=2) if set(pair) != {helper}]
    weights = np.array([chances[one] * chances[other] for one, other in pairs])
    for of in ("allies", "further enemies"):
        found = Counter()
        for allies, enemies in drawn(env, 2000):
            found[tuple(names_of(env, allies if of == "allies" else enemies[2:]))] += 1
        assert set(found) <= set(pairs)
        assert as_likely([found[pair] for pair in pairs], weights / weights.sum())


@pytest.mark.parametrize("name", ["terran_5_vs_5", "protoss_3_vs_6", "zerg_6_vs_3"])
def test_the_enemies_are_the_same_army(name):
    for allies, enemies in drawn(BattleEnv(name), 50):
        n = min(len(allies), len(enemies))
        assert (allies["kind"][:n] == enemies["kind"][:n]).all()


@pytest.mark.parametrize("name", ["terran_4_vs_5", "protoss_5_vs_5", "zerg_5_vs_4"])
def test_drawn_units_equal_those_of_a_fixed_group(name):
    env = BattleEnv(name)
    kinds = env.scenario.kinds
    groups = [
        {"side": side, "at": [9, 16], "units": dict.fromkeys(kinds, 1)}
        for side in ("ally", "enemy")
    ]
    fixed = BattleEnv(map_file={"attack_point": [9, 16], "groups": groups}).start.units
    like = {(unit["is_ally"].item(), unit["kind"].item()): unit for unit in fixed}
    own = {"x", "y", "start_x", "start_y", "index", "order_x", "order_y"}
    for units in drawn(env, 20):
        for side in units:
            assert side["index"].tolist() == list(range(len(side)))
            for unit in side:
                other = like[unit["is_ally"].item(), unit["kind"].item()]
                assert all(
                    unit[field] == other[field] for field in unit.dtype.names if field not in own
                )


# Places


def is_reflected(allies: np.ndarray, enemies: np.ndarray) -> bool:
    n = min(len(allies), len(enemies))
    return bool((allies["x"][:n].astype(float) + enemies["x"][:n] == 32).all())


@pytest.mark.parametrize("race", RACES)
def test_places_are_reflected_in_half_of_the_battles(race):
    reflected = [is_reflected(*units) for units in drawn(BattleEnv(f"{race}_5_vs_5"), 2000)]
    assert as_likely(np.bincount(reflected), [0.5, 0.5])


def test_places_have_the_weights_of_the_scenario():
    scenario = both([3, 3], {"ZEALOT": 1}, places={"reflected": 0.3, "surrounded": 0.1})
    reflected = [is_reflected(*units) for units in drawn(BattleEnv(map_file=scenario), 2000)]
    assert as_likely(np.bincount(reflected), [0.25, 0.75])


@pytest.mark.parametrize("number", [(5, 5), (20, 23), (10, 4), (50, 50)])
@pytest.mark.parametrize("race", RACES)
def test_mirror_images_are_exact(race, number):
    n = min(number)
    for allies, enemies in drawn(open_battles(one_place(race, "reflected", *number)), 30):
        assert (allies["x"][:n].astype(float) + enemies["x"][:n] == 32).all()
        assert (allies["y"][:n] == enemies["y"][:n]).all()


def test_reflected_places_are_uniform():
    env = open_battles(one_place("zerg", "reflected", 1, 2))
    units = [np.concatenate(sides) for sides in drawn(env, 3000)]
    ally, _, other = np.array([[(u["x"], u["y"]) for u in three] for three in units]).transpose(
        1, 2, 0
    )
    assert_uniform(ally[0], 0, 15)
    assert_uniform(ally[1], 0, 32)
    assert_uniform(other[0], 16, 32)
    assert_uniform(other[1], 0, 32)


def test_surrounding_enemies_stand_on_the_diagonals_between_centre_and_corners():
    env = open_battles(one_place("zerg", "surrounded", 1, 1))
    diagonals, distances = Counter(), []
    for allies, enemies in drawn(env, 3000):
        assert (allies["x"], allies["y"]) == (16, 16)
        x, y = enemies["x"].item() - 16, enemies["y"].item() - 16
        assert abs(abs(x) - abs(y)) < 1e-4
        diagonals[x > 0, y > 0] += 1
        distances.append(abs(x))
    assert as_likely(list(diagonals.values()), [0.25] * 4)
    assert_uniform(distances, 2 - 1e-4, 16)


def test_surrounding_enemies_are_divided_among_one_to_four_groups():
    env = open_battles(both([1, 4], {"ZERGLING": 1}, places={"surrounded": 1}))
    counts = np.zeros(4, int)
    for _, enemies in drawn(env, 3000):
        quadrants = {(x > 16, y > 16) for x, y in zip(enemies["x"], enemies["y"], strict=True)}
        counts[len(quadrants) - 1] += 1
    expected = np.zeros(4)  # over all ways to divide four enemies among one to four groups
    for groups in range(1, 5):
        for chosen in itertools.product(range(groups), repeat=4):
            expected[len(set(chosen)) - 1] += 1 / 4 / groups**4
    assert as_likely(counts, expected)


@pytest.mark.parametrize("number", [(5, 5), (10, 11)])
def test_a_surrounding_enemy_stands_on_each_diagonal_equally_often(number):
    env = open_battles(both(number, {"ZERGLING": 1}, places={"surrounded": 1}))
    counts = np.zeros((number[1], 4), int)
    for _, enemies in drawn(env, 1500):
        diagonals = (enemies["x"] > 16) + 2 * (enemies["y"] > 16)
        counts[np.arange(number[1]), diagonals] += 1
    for of_enemy in counts:
        assert as_likely(of_enemy, [0.25] * 4)


@pytest.mark.parametrize("name", [*random_names(), *(f"{race}_50_vs_50" for race in RACES)])
def test_nobody_starts_off_the_map_or_inside_another(name):
    for sides in drawn(BattleEnv(name), 40):
        units = np.concatenate(sides)
        assert units["alive"].all()
        for axis in ("x", "y"):
            assert (units[axis] > 0).all() and (units[axis] < 32).all()
        assert not overlap(units)


def has_room(unit: np.void, others: np.ndarray, x: float, y: float) -> bool:
    """Whether there is a place within 1 cell of (x, y) with more than enough room for the unit."""
    step = np.arange(-1, 1.01, 0.05)
    at = np.array([(x + dx, y + dy) for dx in step for dy in step if dx**2 + dy**2 <= 0.9**2])
    on_map = ((at > 0.25) & (at < 31.75)).all(1)
    gaps = np.hypot(at[:, :1] - others["x"], at[:, 1:] - others["y"]) - others["radius"]
    return bool((on_map & (gaps > unit["radius"] + 0.2).all(1)).any())


@pytest.mark.parametrize("place", ["reflected", "surrounded"])
@pytest.mark.parametrize("race", RACES)
def test_each_unit_starts_within_1_cell_of_its_place_if_there_is_room(race, place):
    scenario = one_place(race, place, 20, 23)
    # The same battles with units so small that each stands where it was drawn.
    kinds = _table("races")[race]["units"]
    tiny = {kind: {"like": kind, "radius": 0.01} for kind in kinds}
    where = open_battles(scenario | {"units": tiny})
    env = open_battles(scenario)
    moved = 0
    for seed in range(20):
        env.reset(seed=seed)
        where.reset(seed=seed)
        units, places = env.units[0], where.units[0]
        # Groups of a surrounded battle gather where their first tiny unit stands.
        quadrant = (places["x"] > 16) + 2 * (places["y"] > 16)
        gathering = np.where(places["is_ally"], 4, quadrant)
        for u, unit in enumerate(units):
            if place == "reflected" and not unit["is_ally"] and unit["index"] < 20:
                continue  # it stands at its mirror image
            at = places[u if place == "reflected" else (gathering == gathering[u]).argmax()]
            x, y = float(at["x"]), float(at["y"])
            if math.hypot(unit["x"] - x, unit["y"] - y) > 1:
                moved += 1
                # Units placed later had to leave it this place.
                assert not has_room(unit, units[:u], x, y)
    assert moved > 0
    if place == "reflected":
        assert moved < 20


def test_enemies_march_to_the_middle_of_the_allies_places():
    for allies, enemies in drawn(BattleEnv("protoss_5_vs_6"), 20):
        for axis in ("x", "y"):
            middle = allies[axis].astype(float).mean()
            assert enemies[f"order_{axis}"] == pytest.approx(np.full(6, middle))


# Rewards, masks, observations


def attack_nearest(env: BattleEnv, mask: np.ndarray) -> np.ndarray:
    """Each agent attacks an enemy if it can, or else walks towards the nearest."""
    units = env.units[0]
    allies, enemies = units[units["is_ally"]], units[~units["is_ally"] & units["alive"]]
    actions = mask.argmax(1)
    for i, unit in enumerate(allies):
        if not unit["alive"]:
            continue
        if mask[i, 6:].any():
            actions[i] = 6 + mask[i, 6:].argmax()
            continue
        dx, dy = enemies["x"] - unit["x"], enemies["y"] - unit["y"]
        n = np.hypot(dx, dy).argmin()
        along = 4 if dx[n] > 0 else 5
        across = 2 if dy[n] > 0 else 3
        actions[i] = along if abs(dx[n]) > abs(dy[n]) else across
        if not mask[i, actions[i]]:
            actions[i] = 1
    return actions


@pytest.mark.parametrize("race", RACES)
def test_killing_all_enemies_of_a_battle_pays_20_for_every_army(race):
    env = BattleEnv(f"{race}_4_vs_5")
    armies = set()
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        units = env.units[0]
        names = names_of(env, units)
        if {"MEDIVAC", "BANELING"} & set(names):
            continue  # healed damage is paid twice, an explosion is not paid as a kill
        armies.add(tuple(sorted(names[4:])))
        units["hp"][units["is_ally"]] = units["max_hp"][units["is_ally"]] = 1e7
        units["hp_regen"] = 0
        units["shield_wait"][~units["is_ally"]] = 1e7
        total, over = 0.0, False
        while not over:
            actions = attack_nearest(env, observation["avail_actions"])
            observation, reward, over, truncated, info = env.step(actions)
            assert not truncated
            units["shield_wait"][~units["is_ally"]] = 1e7
            total += reward
        assert info["battle_won"] and total == pytest.approx(20)
    assert len(armies) > 3


def free_battle(draw) -> BattleEnv:
    race = draw(st.sampled_from(RACES))
    n, m = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    return BattleEnv(f"{race}_{n}_vs_{m}")


@st.composite
def battles(draw) -> BattleEnv:
    """Random battles after some steps."""
    env = free_battle(draw)
    observation, _ = env.reset(seed=draw(seeds))
    rng = np.random.default_rng(draw(seeds))
    for _ in range(draw(st.integers(0, 30))):
        mask = observation["avail_actions"]
        random = (rng.random(mask.shape) * mask).argmax(-1)
        actions = attack_nearest(env, mask) if rng.random() < 0.7 else random
        observation, _, terminated, _, _ = env.step(actions)
        if terminated:
            observation, _ = env.reset()
    return env, observation


@properties
@given(battles(), st.data())
def test_step_accepts_exactly_the_actions_of_the_mask(battle, data):
    env, observation = battle
    mask = observation["avail_actions"]
    assert mask.any(1).all()
    agent = data.draw(st.integers(0, env.n_agents - 1))
    action = data.draw(st.integers(-1, env.n_actions))
    actions = mask.argmax(1)
    actions[agent] = action
    before = env.units.copy()
    if 0 <= action < env.n_actions and mask[agent, action]:
        env.step(actions)
        return
    with pytest.raises(ValueError, match=f"agent {agent}: action {action} is not available"):
        env.step(actions)
    assert (env.units == before).all()


@properties
@given(battles())
def test_healers_pick_allies_and_fighters_enemies(battle):
    env, observation = battle
    units = env.units[0]
    allies, enemies = units[units["is_ally"]], units[~units["is_ally"]]
    for i, (unit, mask) in enumerate(zip(allies, observation["avail_actions"], strict=True)):
        heals = unit["attack"] == HEAL
        targets = allies if heals else enemies
        near = np.hypot(targets["x"] - unit["x"], targets["y"] - unit["y"]) <= 6
        can = near & targets["alive"] & unit["alive"]
        if heals:
            can &= targets["attack"] != HEAL
            assert not can[i]
        wanted = np.zeros(env.n_actions - 6, bool)
        wanted[: len(can)] = can[: len(wanted)]
        assert (mask[6:] == wanted).all()


@properties
@given(battles())
def test_agents_observe_their_own_type_and_place(battle):
    env, observation = battle
    units = env.units[0]
    assert env.observation_space.contains(observation)
    kinds = [kind.lower() for kind in env.scenario.kinds]
    for i, unit in enumerate(units[units["is_ally"]]):
        names = observation_names(env.scenario, i)
        seen = dict(zip(names, observation["obs"][i], strict=True))
        place = [seen["itself: place from the west"], seen["itself: place from the south"]]
        if not unit["alive"]:
            assert place == [0, 0]
            continue
        at = np.clip([unit["x"] / 32, unit["y"] / 32], 0, 1)
        assert place == pytest.approx(at)
        assert [seen[f"itself: is {kind}"] for kind in kinds] == [
            float(n == unit["kind"]) for n in range(len(kinds))
        ]


def test_agents_of_fixed_maps_do_not_observe_their_place():
    assert not any("place" in name for name in observation_names(load_map("2s3z"), 0))


def test_a_healer_heals_the_ally_whose_slot_it_picks():
    env = BattleEnv("terran_6_vs_3")
    assert env.n_actions == 6 + 6
    healed = 0
    for seed in range(40):
        observation, _ = env.reset(seed=seed)
        units = env.units[0]
        allies = np.flatnonzero(units["is_ally"])
        for i in allies[units["attack"][allies] == HEAL]:
            slots = np.flatnonzero(observation["avail_actions"][i, 6:])
            if len(slots) == 0:
                continue
            units["hp"][slots[-1]] -= 20
            units["x"][slots[-1]], units["y"][slots[-1]] = units["x"][i], units["y"][i]
            before = units["hp"][slots[-1]].item()
            actions = np.ones(6, int)
            actions[i] = 6 + slots[-1]
            env.step(actions)
            healed += units["hp"][slots[-1]] > before
            break
    assert healed > 3


# Seeds


@pytest.mark.parametrize("name", ["terran_5_vs_6", "protoss_5_vs_5", "zerg_20_vs_23"])
def test_the_same_seed_gives_the_same_battle_and_the_next_battle_differs(name):
    env, other = BattleEnv(name), BattleEnv(name)
    starts = []
    for seed in (1, None, None, 2):
        one, _ = env.reset(seed=seed)
        two, _ = other.reset(seed=seed)
        assert all((one[key] == two[key]).all() for key in one)
        starts.append(one["state"].tobytes())
    assert len(set(starts)) == 4
    again, _ = env.reset(seed=1)
    assert again["state"].tobytes() == starts[0]


def test_each_battle_of_a_vector_depends_only_on_its_seed():
    env = BattleEnv("terran_5_vs_6")
    envs = BattleVectorEnv("terran_5_vs_6", 5, autoreset_mode="NextStep")
    observations, _ = envs.reset(seed=[7, 3, 9, 3, 0])
    for b, seed in enumerate([7, 3, 9, 3, 0]):
        observation, _ = env.reset(seed=seed)
        assert all((observations[key][b] == observation[key]).all() for key in observation)


# Scenarios of your own

FIXED = {"side": "enemy", "at": [24, 16], "units": {"SPINE_CRAWLER": 1}}


def test_fixed_and_drawn_groups_may_be_mixed():
    weights = {"MARINE": 0.5, "MARAUDER": 0.5}
    groups = [
        FIXED,
        {"side": "both", "number": [3, 4], "units": weights, "places": {"reflected": 1}},
        {"side": "ally", "at": [5, 16], "number": 2, "units": {"MARINE": 0.8, "MEDIVAC": 0.2}},
        {"side": "ally", "at": [8, 20], "units": {"MEDIVAC": 1}},
    ]
    env = BattleEnv(map_file={"attack_point": [5, 16], "groups": groups})
    assert (env.n_agents, env.n_actions) == (6, 6 + 5)
    kinds = set()
    for allies, enemies in drawn(env, 40):
        assert names_of(env, enemies[:1]) == ["SPINE_CRAWLER"]
        assert (enemies["x"][0], enemies["y"][0]) == (24, 16)
        assert names_of(env, allies[5:]) == ["MEDIVAC"]
        assert (allies["kind"][:3] == enemies["kind"][1:4]).all()
        assert (np.hypot(allies["x"][3:5] - 5, allies["y"][3:5] - 16) < 2).all()
        assert (enemies["order_x"] == 5).all()
        assert not overlap(np.concatenate((allies, enemies)))
        kinds.add(tuple(names_of(env, allies)))
    assert len(kinds) > 5


def test_an_army_may_be_drawn_for_two_given_places():
    scenario = both([4, 4], {"STALKER": 1, "ZEALOT": 1}, at=[[8, 10], [24, 20]])
    for allies, enemies in drawn(BattleEnv(map_file=scenario), 20):
        assert (allies["kind"] == enemies["kind"]).all()
        assert (np.hypot(allies["x"] - 8, allies["y"] - 10) < 2.5).all()
        assert (np.hypot(enemies["x"] - 24, enemies["y"] - 20) < 2.5).all()


def test_the_places_of_a_known_army_may_be_drawn():
    group = {"side": "both", "units": {"STALKER": 2, "ZEALOT": 3}, "places": {"surrounded": 1}}
    env = BattleEnv(map_file={"groups": [group]})
    places = set()
    for sides in drawn(env, 10):
        for units in sides:
            assert names_of(env, units) == ["STALKER"] * 2 + ["ZEALOT"] * 3
        places.add(tuple(sides[1]["x"]))
    assert len(places) == 10


def test_drawn_units_do_not_start_in_walls():
    scenario = both(
        [6, 6], {"ZEALOT": 1, "COLOSSUS": 0.2}, places={"reflected": 1, "surrounded": 1}
    )
    scenario |= {"walls": [[12, 12, 20, 20], [3, 3, 9, 9]]}
    env = BattleEnv(map_file=scenario)
    for sides in drawn(env, 50):
        units = np.concatenate(sides)
        assert not env.scenario.blocked[units["y"].astype(int), units["x"].astype(int)].any()
        assert not overlap(units)


def test_units_whose_place_is_in_a_large_wall_find_room_around_it():
    scenario = both([5, 5], {"ZEALOT": 1}, places={"surrounded": 1})
    env = BattleEnv(map_file=scenario | {"size": [200, 200], "walls": [[40, 40, 160, 160]]})
    for sides in drawn(env, 3):
        units = np.concatenate(sides)
        assert not env.scenario.blocked[units["y"].astype(int), units["x"].astype(int)].any()
        assert not overlap(units)


@pytest.mark.parametrize("wall", [[0, 0, 16, 32], [16, 0, 32, 32]])
def test_each_half_of_the_map_needs_room(wall):
    scenario = both([5, 5], {"ZEALOT": 1}, places={"reflected": 1}) | {"walls": [wall]}
    with pytest.raises(ValueError, match="room for 0 units of a side, not for 5"):
        BattleEnv(map_file=scenario)


def test_enemies_of_a_fixed_scenario_may_march_to_the_middle_of_the_allies():
    allies = {"side": "ally", "at": [9, 15], "units": {"MARINE": 4}}
    env = BattleEnv(map_file={"groups": [allies, FIXED]})
    env.reset(seed=0)
    assert env.units[0]["order_x"][-1] == pytest.approx(9, abs=0.1)
    assert env.units[0]["order_y"][-1] == pytest.approx(15, abs=0.1)
