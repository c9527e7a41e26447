"""The rules of the battles, each from the text of SMAClite's rules.

Numbers in brackets are the sections of that text.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from cleanmarl.battle import compiled
from cleanmarl.battle.scenario import Group, Scenario, load_map, load_scenario, map_names
from cleanmarl.battle.world import BATTLE, build, seen_of

STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6
TICK = 1 / 16  # seconds

KINDS = {}
for _name in map_names():
    KINDS |= load_map(_name).kinds
MARINE = KINDS["MARINE"]
KINDS["DUMMY"] = replace(MARINE, name="DUMMY", hp=1000, damage=0, speed=0, range=0, scan_range=0)
KINDS["FEATHER"] = replace(MARINE, name="FEATHER", damage=0.5)
KINDS["SNAIL"] = replace(MARINE, name="SNAIL", speed=1)


class Stage:
    """A battle whose units stand at given places; each unit is (kind, x, y).

    Allies have the first numbers. In a tick, units act in ascending order of their numbers, unless
    `turns` gives another order.
    """

    def __init__(
        self, allies, enemies, *, walls=(), attack_point=(16, 16), offset="upstream", time_limit=150
    ):
        blocked = np.zeros((32, 32), bool)
        for x0, y0, x1, y1 in walls:
            blocked[y0:y1, x0:x1] = True
        groups = [Group("ally", (x, y), {kind: 1}) for kind, x, y in allies]
        groups += [Group("enemy", (x, y), {kind: 1}) for kind, x, y in enemies]
        scenario = Scenario(
            name="stage",
            blocked=blocked,
            groups=tuple(groups),
            attack_point=attack_point,
            episode_limit=time_limit,
            kinds={kind: KINDS[kind] for kind, _, _ in (*allies, *enemies)},
        )
        self.world, start = build(scenario, walls=offset, time_limit=time_limit, agent_ids=False)
        self.rules = self.world.rules[0]
        self.n_allies = len(allies)
        self.battle = np.zeros(1, BATTLE)
        self._units = start.units[None].copy()
        self.units = self._units[0].view(np.recarray)

    @property
    def allies(self):
        return self.units[: self.n_allies]

    @property
    def enemies(self):
        return self.units[self.n_allies :]

    def order(self, *actions):
        """Orders for the coming ticks; living allies that are not mentioned stop."""
        actions = list(actions) + [STOP] * (self.n_allies - len(actions))
        compiled.order(self.world, self._units, np.array([actions]))

    def tick(self, n: int = 1, turns=None) -> float:
        """The unscaled reward of `n` ticks."""
        total = 0.0
        for _ in range(n):
            rewards = np.empty(1)
            order = np.flatnonzero(self.units.alive) if turns is None else np.array(turns)
            compiled.tick(self.world, self._units, order[None], rewards)
            total += rewards[0]
        return total

    def step(self, *actions) -> float:
        """The scaled reward of an environment step."""
        self.order(*actions)
        compiled.finish(self.world, self._units, self.battle, np.array([self.tick(8)]))
        return float(self.battle["reward"][0])

    def look(self):
        """Observations [n_agents, obs_size], state, masks [n_agents, n_actions]."""
        seen = seen_of(self.rules, 1)
        for array in seen:
            array.fill(-1)  # entries that are not written stay -1
        compiled.look(self.world, self._units, self.battle, seen)
        obs, state, avail_actions = seen
        return obs[0], state[0], avail_actions[0]

    def available(self, agent: int) -> list[int]:
        return np.flatnonzero(self.look()[2][agent]).tolist()


def outcome(stage) -> dict[str, bool]:
    return {name: bool(stage.battle[name][0]) for name in ("terminated", "truncated", "won")}


def world_of(map_name: str):
    world, start = build(load_map(map_name), walls="upstream", time_limit=1, agent_ids=False)
    return world, start.units


def distance(a, b) -> float:
    return math.hypot(float(a.x) - float(b.x), float(a.y) - float(b.y))


def heading(unit) -> tuple[float, float]:
    """Direction of the preferred velocity."""
    length = math.hypot(unit.pref_x, unit.pref_y)
    return unit.pref_x / length, unit.pref_y / length


def speed(unit) -> float:
    return math.hypot(unit.pref_x, unit.pref_y)


# Maps and terrain (3, 4, 13.4)

SIZES = """
3m 3 3 9 30 48 365 60
8m 8 8 14 80 168 640 120
25m 25 25 31 250 950 1575 150
5m_vs_6m 5 6 12 55 98 530 70
8m_vs_9m 8 9 15 85 179 695 120
10m_vs_11m 10 11 17 105 243 805 150
27m_vs_30m 27 30 36 285 1170 1850 180
MMM 10 10 16 160 290 1015 150
MMM2 10 12 18 176 322 1205 180
2s3z 5 5 11 80 120 1020 120
3s5z 8 8 14 128 216 1510 150
3s5z_vs_3s6z 8 9 15 136 230 1670 170
3s_vs_3z 3 3 9 36 54 680 150
3s_vs_4z 3 4 10 42 61 840 200
3s_vs_5z 3 5 11 48 68 1000 250
1c3s5z 9 9 15 162 270 1870 180
2m_vs_1z 2 1 7 16 26 360 150
corridor 6 24 30 156 282 1280 400
6h_vs_8z 6 8 14 78 140 1480 150
2s_vs_1sc 2 1 7 17 27 510 300
so_many_baneling 7 32 38 202 397 1480 100
bane_vs_bane 24 24 30 336 984 1260 200
2c_vs_64zg 2 64 70 332 342 3080 400
"""
SIZES = {
    name: tuple(map(int, sizes)) for name, *sizes in map(str.split, SIZES.strip().splitlines())
}


def max_reward(world, units) -> float:
    """The divisor of the reward, found by a victory without a blow, whose raw reward is 200."""
    units, battles = units[None].copy(), np.zeros(1, BATTLE)
    units["alive"] = units["is_ally"]
    compiled.finish(world, units, battles, np.zeros(1))
    return pytest.approx(200 * 20 / battles["reward"][0])


def test_there_are_the_23_maps_of_smac():
    assert sorted(map_names()) == sorted(SIZES)


@pytest.mark.parametrize("map_name", SIZES)
def test_map_has_the_sizes_of_table_13_4(map_name):
    world, units = world_of(map_name)
    names = ("n_allies", "n_enemies", "n_actions", "obs_size", "state_size")
    sizes = [world.rules[0][name] for name in names]
    others = (max_reward(world, units), load_map(map_name).episode_limit)
    assert (*sizes, *others) == SIZES[map_name]


@pytest.mark.parametrize(
    ("map_name", "unit_types", "ally_shields", "enemy_shields"),
    [
        ("3m", [], False, False),
        ("MMM", ["MARAUDER", "MARINE", "MEDIVAC"], False, False),
        ("MMM2", ["MARAUDER", "MARINE", "MEDIVAC"], False, False),
        ("2s3z", ["STALKER", "ZEALOT"], True, True),
        ("3s5z_vs_3s6z", ["STALKER", "ZEALOT"], True, True),
        ("3s_vs_5z", [], True, True),
        ("1c3s5z", ["COLOSSUS", "STALKER", "ZEALOT"], True, True),
        ("2m_vs_1z", [], False, True),
        ("corridor", [], True, False),
        ("6h_vs_8z", [], False, True),
        ("2s_vs_1sc", [], True, False),
        ("so_many_baneling", [], True, False),
        ("bane_vs_bane", ["BANELING", "ZERGLING"], False, False),
        ("2c_vs_64zg", [], True, False),
    ],
)
def test_types_and_shields_are_shown_where_smaclite_shows_them(
    map_name, unit_types, ally_shields, enemy_shields
):
    scenario = load_map(map_name)
    assert scenario.unit_types == unit_types
    assert scenario.has_shields("ally") == ally_shields
    assert scenario.has_shields("enemy") == enemy_shields


def obstacles(world) -> list[tuple]:
    """All obstacles: places off the map list all of them."""
    off_the_map = world.cells[-1]
    return world.walls[off_the_map["begin"] : off_the_map["end"]].tolist()


OBSTACLES = {"3m": 2, "3s_vs_3z": 4, "2s_vs_1sc": 16}
OBSTACLES |= {"2c_vs_64zg": 15, "bane_vs_bane": 24, "corridor": 27}


@pytest.mark.parametrize("map_name", OBSTACLES)
def test_blocked_cells_make_as_many_obstacles_as_section_4_counts(map_name):
    assert len(obstacles(world_of(map_name)[0])) == OBSTACLES[map_name]


def test_obstacles_of_the_ravine_are_found_row_by_row():
    first = [(0, 0, 32, 6), (0, 6, 3, 7), (29, 6, 32, 7), (0, 7, 2, 8), (30, 7, 32, 8)]
    first += [(0, 8, 1, 9), (31, 8, 32, 9)]
    walls = obstacles(world_of("2c_vs_64zg")[0])
    assert [tuple(wall) for wall in walls[:8]] == [*first, (4, 12, 28, 13)]


def test_obstacles_grow_over_cells_that_are_covered_already():
    cross = [(1, 0, 2, 3), (0, 1, 3, 2)]
    stage = Stage([("MARINE", 9, 9)], [("MARINE", 20, 9)], walls=cross)
    assert obstacles(stage.world) == cross


@pytest.mark.parametrize("map_name", ["2c_vs_64zg", "corridor"])
def test_the_walls_listed_for_a_cell_are_all_that_a_unit_in_it_can_meet(map_name):
    world, start = world_of(map_name)
    rng = np.random.default_rng(0)
    units = np.repeat(start[None], 300, axis=0)
    units["alive"], units["order"] = False, 0
    allies = np.flatnonzero(start["is_ally"])
    units["alive"][:, allies[0]] = True
    for axis in "xy":
        units[axis][:, allies[0]] = rng.uniform(-3, 35, 300)
        units[f"vel_{axis}"][:, allies[0]] = rng.uniform(-2, 2, 300)
    units["order"][:, allies[0]] = 1
    units["order_x"][:, allies[0]], units["order_y"][:, allies[0]] = rng.uniform(0, 32, (2, 300))
    cells = world.cells.copy()
    for field in ("begin", "end"):
        cells[field] = cells[field][-1]
    everywhere = world._replace(cells=cells)
    turns = np.full((300, len(start)), -1)
    turns[:, 0] = allies[0]
    moved = []
    for w in (world, everywhere):
        moved.append(units.copy())
        compiled.tick(w, moved[-1], turns, np.empty(300))
    assert np.array_equal(moved[0]["x"], moved[1]["x"], equal_nan=True)
    assert np.array_equal(moved[0]["y"], moved[1]["y"], equal_nan=True)
    assert (moved[0]["x"] != units["x"]).any(axis=1).mean() > 0.5


# Start (5)


def positions(units) -> np.ndarray:
    return np.stack([units["x"], units["y"]], axis=-1)


def test_three_marines_start_around_9_16():
    _, units = world_of("3m")
    expected = np.array([(8.625, 15.6), (9.425, 15.6), (8.625, 16.4)], np.float32)
    assert np.array_equal(positions(units)[:3], expected)


@pytest.mark.parametrize("map_name", ["3m", "MMM", "1c3s5z", "3s5z"])
def test_enemies_start_in_the_allied_layout_turned_by_180_degrees(map_name):
    _, units = world_of(map_name)
    allies, enemies = positions(units)[units["is_ally"]], positions(units)[~units["is_ally"]]
    np.testing.assert_allclose(enemies - (23, 16), -(allies - (9, 16)), atol=2e-6)


def test_rows_are_as_high_as_their_largest_unit_and_as_wide_as_the_widest_row():
    group = {"side": "ally", "at": [9, 16], "units": {"MARAUDER": 1, "MARINE": 3}}
    enemies = {"side": "enemy", "at": [23, 16], "units": {"MARINE": 5}}
    table = {"groups": [group, enemies], "attack_point": [9, 16]}
    _, start = build(load_scenario(table), walls="upstream", time_limit=1, agent_ids=False)
    units = start.units
    # radii 0.5625 and 0.375 in a grid of 2 x 2: height 2 * 0.9375 + 0.05, width 2 * 0.9375
    allies = [(8.625, 15.6), (9.6125, 15.6), (8.4375, 16.5875), (9.2375, 16.5875)]
    # five in a grid of 3 x 3, whose last row is empty but its gap counts:
    # height 4 * 0.375 + 2 * 0.05
    enemies = [(23.75, 16.425), (22.95, 16.425), (22.15, 16.425), (23.75, 15.625), (22.95, 15.625)]
    np.testing.assert_allclose(positions(units), allies + enemies, atol=1e-6)


def test_numbers_count_up_in_the_order_of_the_groups_and_indices_within_each_side():
    _, units = world_of("corridor")
    assert units["is_ally"].tolist() == [False] * 24 + [True] * 6
    assert units["index"].tolist() == [*range(24), *range(6)]
    _, units = world_of("2s_vs_1sc")
    assert units["index"].tolist() == [0, 0, 1]


def test_units_start_full_and_idle_with_the_start_energy():
    _, units = world_of("1c3s5z")
    assert (units["hp"] == units["max_hp"]).all() and (units["shield"] == units["max_shield"]).all()
    for name in ("vel_x", "vel_y", "cooldown", "shield_wait", "heal_pool", "attacking"):
        assert not units[name].any()
    assert (units["target"] == -1).all()
    assert world_of("MMM")[1]["energy"].tolist() == ([50] + [0] * 9) * 2


# Actions (6)


def test_a_living_agent_may_stop_and_move_but_not_idle():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 20, 16)])
    assert stage.available(0) == [STOP, NORTH, SOUTH, EAST, WEST]


def test_a_dead_agent_can_only_idle():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 12, 16)], [("MARINE", 14, 16)])
    stage.units[0].alive, stage.units[0].hp = False, 0
    assert stage.available(0) == [0]


@pytest.mark.parametrize(
    ("x", "y", "closed"),
    [
        (5.5, 9.0, []),  # one cell ahead is y = 8, just free
        (5.5, 8.9, [SOUTH]),
        (8.9, 7.0, [WEST]),
        (5.5, 5.5, [NORTH]),
        (2.0, 7.5, [EAST]),
        (1.0, 16, []),  # one cell ahead is x = 0, still on the map
        (0.9, 16, [WEST]),
        (31.0, 16, [EAST]),
        (16, 31.5, [NORTH]),
        (16, 0.5, [SOUTH]),
        (-0.5, 16, [NORTH, SOUTH, WEST]),  # off the map: only back in
        (33.5, 16, [NORTH, SOUTH, EAST, WEST]),
    ],
)
def test_moves_into_walls_and_off_the_map_are_closed(x, y, closed):
    stage = Stage([("MARINE", x, y)], [("MARINE", 20, 25)], walls=[(3, 6, 8, 8)])
    assert stage.available(0) == [a for a in (STOP, NORTH, SOUTH, EAST, WEST) if a not in closed]


def test_fighters_may_pick_living_enemies_within_6_of_their_centre():
    stage = Stage(
        [("ZEALOT", 10, 16)], [("MARINE", 16, 16), ("MARINE", 10, 20), ("MARINE", 16.001, 16)]
    )
    assert stage.available(0)[5:] == [ATTACK, ATTACK + 1]
    stage.enemies[1].alive, stage.enemies[1].hp = False, 0
    assert stage.available(0)[5:] == [ATTACK]


def test_a_marauder_may_pick_a_medivac_but_only_walks_after_it():
    stage = Stage([("MARAUDER", 10, 16)], [("MEDIVAC", 12, 16)], attack_point=(12, 16))
    assert ATTACK in stage.available(0)
    assert stage.step(ATTACK) == 0
    assert stage.enemies[0].hp == 150
    assert stage.allies[0].x > 11


def test_healers_may_pick_living_allied_fighters_within_6_hurt_or_not():
    allies = [("MARINE", 10, 16), ("MARINE", 12, 16), ("MARINE", 17, 16)]
    allies += [("MEDIVAC", 10.5, 16), ("MEDIVAC", 11, 16)]
    stage = Stage(allies, [("MARINE", 12, 17)])
    assert stage.available(3)[5:] == [ATTACK, ATTACK + 1]
    stage.allies[0].alive, stage.allies[0].hp = False, 0
    assert stage.available(3)[5:] == [ATTACK + 1]


def test_the_targets_cover_all_enemies_and_with_healers_all_fighters():
    marines = [("MARINE", x, 16) for x in (5, 7, 9)]
    enemy = [("MARINE", 20, 16)]
    assert Stage(marines, enemy).rules["n_actions"] == 6 + 1
    assert Stage([*marines, ("MEDIVAC", 11, 16)], enemy).rules["n_actions"] == 6 + 3
    assert Stage([*marines, ("MEDIVAC", 11, 16)], enemy * 4).rules["n_actions"] == 6 + 4


@pytest.mark.parametrize(
    ("action", "dx", "dy"), [(NORTH, 0, 1), (SOUTH, 0, -1), (EAST, 1, 0), (WEST, -1, 0)]
)
def test_a_move_covers_half_a_second_at_full_speed(action, dx, dy):
    stage = Stage([("MARINE", 10, 16), ("STALKER", 20, 16)], [("DUMMY", 30, 30)])
    stage.step(action, action)
    place = (10 + 1.575 * dx, 16 + 1.575 * dy)
    np.testing.assert_allclose(positions(stage.units)[0], place, atol=1e-5)
    # a stalker that is told to move 2 overshoots
    place = (20 + 2.065 * dx, 16 + 2.065 * dy)
    np.testing.assert_allclose(positions(stage.units)[1], place, atol=1e-5)


def test_a_move_order_is_a_fixed_point_2_away_from_where_the_step_began():
    stage = Stage([("STALKER", 10, 16)], [("DUMMY", 30, 30)])
    stage.order(NORTH)
    stage.tick(8)
    stage.tick()  # beyond the point at (10, 18) it turns back
    assert heading(stage.units[0]) == pytest.approx((0, -1))
    stage.units[0].x, stage.units[0].y = 13, 14
    stage.tick()
    assert heading(stage.units[0]) == pytest.approx((-0.6, 0.8))


def test_stopped_units_stand():
    stage = Stage([("MARINE", 10, 16)], [("DUMMY", 30, 30)])
    stage.step(NORTH)
    before = positions(stage.units)
    stage.step(STOP)
    assert np.array_equal(positions(stage.units), before)


def test_all_8_ticks_run_even_if_one_side_is_gone_before():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 20, 20)], [("MARINE", 14, 16)])
    stage.enemies[0].hp = 1
    stage.step(ATTACK, NORTH)
    assert not stage.enemies[0].alive
    assert stage.allies[1].y == pytest.approx(21.575)


# Attacks (11)


@pytest.mark.parametrize(
    ("kind", "ticks"),
    [
        ("MARINE", 10),
        ("MARAUDER", 18),
        ("STALKER", 22),
        ("ZEALOT", 14),
        ("COLOSSUS", 18),
        ("ZERGLING", 8),
        ("HYDRALISK", 10),
        ("SPINE_CRAWLER", 22),
    ],
)
def test_a_cooldown_of_c_seconds_means_an_attack_every_ceil_16_c_ticks(kind, ticks):
    reach = 1.4 if kind == "COLOSSUS" else 0.9
    stage = Stage([(kind, 10, 16)], [("DUMMY", 10 + reach, 16)])
    stage.units[0].x = stage.enemies[0].x - np.float32(stage.units[0].radius + 0.375)
    stage.order(ATTACK)
    at = [tick for tick in range(60) if stage.tick() > 0]
    assert at == list(range(0, 60, ticks))


@pytest.mark.parametrize(
    ("attacker", "target", "shield_loss", "hp_loss"),
    [
        ("MARINE", "MARINE", 0, 6),
        ("MARINE", "MARAUDER", 0, 5),  # armor
        ("MARAUDER", "MARINE", 0, 10),
        ("MARAUDER", "MARAUDER", 0, 19),  # bonus, armor
        ("MARAUDER", "STALKER", 20, 0),  # bonus; armor does not protect the shield
        ("STALKER", "ZEALOT", 13, 0),
        ("STALKER", "SPINE_CRAWLER", 0, 16),
        ("ZEALOT", "MARINE", 0, 16),  # two blows
        ("ZEALOT", "MARAUDER", 0, 14),  # armor against each blow
        ("ZEALOT", "ZEALOT", 16, 0),
        ("ZERGLING", "ZEALOT", 5, 0),
        ("HYDRALISK", "MARAUDER", 0, 11),
        ("SPINE_CRAWLER", "MARAUDER", 0, 29),
        ("COLOSSUS", "MARINE", 0, 30),
        ("COLOSSUS", "STALKER", 20, 0),
        ("FEATHER", "MARAUDER", 0, 0),  # less damage than armor heals nobody
    ],
)
def test_damage_of_one_attack(attacker, target, shield_loss, hp_loss):
    stage = Stage([(attacker, 10, 16)], [(target, 10.95, 16)])
    stage.order(ATTACK)
    reward = stage.tick(turns=(0,))
    enemy = stage.enemies[0]
    losses = (enemy.max_shield - enemy.shield, enemy.max_hp - enemy.hp)
    assert losses == pytest.approx((shield_loss, hp_loss))
    assert reward == pytest.approx(shield_loss + hp_loss)


def test_damage_beyond_the_shield_is_reduced_by_armor():
    stage = Stage([("ZEALOT", 10, 16)], [("ZEALOT", 11, 16)])
    stage.enemies[0].shield, stage.enemies[0].shield_wait = 10, 5
    stage.order(ATTACK)
    stage.tick()
    assert stage.enemies[0].shield == 0  # 8 of the first blow, 2 of the second
    assert stage.enemies[0].hp == 100 - (6 - 1)


def test_blows_at_a_unit_without_hp_do_nothing():
    stage = Stage([("ZEALOT", 10, 16), ("MARINE", 10, 18)], [("MARINE", 10.9, 16)])
    stage.enemies[0].hp = 5
    stage.order(ATTACK, ATTACK)
    assert stage.tick() == 5 + 10
    assert not stage.enemies[0].alive


def test_a_unit_that_lost_its_hp_before_its_turn_does_nothing():
    for first in (0, 1):
        stage = Stage([("MARINE", 10, 16)], [("MARINE", 14, 16)])
        stage.units.hp = 6
        stage.order(ATTACK)
        stage.tick(turns=(first, 1 - first))
        assert stage.units[first].hp == 6 and stage.units[first].alive
        assert not stage.units[1 - first].alive


def test_a_fighter_out_of_range_walks_and_one_in_range_stands():
    # a marine reaches 5 + 0.375 + 0.375
    stage = Stage(
        [("MARINE", 10, 16), ("MARINE", 10, 10)], [("DUMMY", 15.76, 16), ("DUMMY", 15.74, 10)]
    )
    stage.order(ATTACK, ATTACK + 1)
    assert stage.tick() == 6
    assert stage.allies[0].x > 10 and stage.allies[1].x == 10
    assert (stage.enemies[0].hp, stage.enemies[1].hp) == (1000, 994)


def test_an_order_on_a_dead_enemy_wastes_the_cooldown():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 14, 16), ("MARINE", 30, 30)])
    stage.order(ATTACK)
    stage.enemies[0].hp, stage.enemies[0].alive = 0, False
    assert stage.tick() == 0
    assert stage.allies[0].cooldown == 0.61


def test_a_unit_ordered_on_a_dead_enemy_walks_to_the_place_where_it_died():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 18, 22), ("MARINE", 30, 30)])
    stage.order(ATTACK)
    stage.enemies[0].hp, stage.enemies[0].alive = 0, False
    stage.tick()
    assert heading(stage.allies[0]) == pytest.approx((0.8, 0.6))


def test_a_dead_unit_stays_where_it_is_and_does_nothing():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 14, 16), ("MARINE", 30, 30)])
    stage.enemies[0].hp = 6
    stage.order(ATTACK)
    stage.tick(turns=(0, 1, 2))
    before = positions(stage.units)[1]
    stage.order(STOP)
    stage.tick(40)
    assert np.array_equal(positions(stage.units)[1], before) and stage.allies[0].hp == 45


# Regeneration (8.F, 11)


def test_shields_regenerate_2_per_second_after_10_seconds_without_a_hit():
    stage = Stage([("ZEALOT", 10, 16)], [("STALKER", 11.2, 16)])
    stage.order(ATTACK)
    stage.tick(turns=(0,))
    stage.order(STOP)
    enemy = stage.enemies[0]
    assert (enemy.shield, enemy.shield_wait) == (64, 10)
    stage.allies[0].x = -100
    stage.tick(159)
    assert stage.enemies[0].shield == 64
    stage.tick()
    assert stage.enemies[0].shield == 64.125
    stage.tick(16)
    assert stage.enemies[0].shield == 66.125
    stage.tick(16 * 10)
    assert stage.enemies[0].shield == 80


def test_a_hit_without_damage_still_stops_the_shields():
    stage = Stage([("FEATHER", 10, 16)], [("STALKER", 11.2, 16)])
    stage.enemies[0].shield = 0
    stage.enemies[0].shield_wait = 1
    stage.order(ATTACK)
    stage.tick(turns=(0, 1))
    assert stage.enemies[0].hp == 80
    assert stage.enemies[0].shield_wait == 10 - TICK


def test_units_without_shields_do_not_wait_for_them():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 11, 16)])
    stage.order(ATTACK)
    stage.tick()
    assert stage.enemies[0].shield_wait == 0


def test_zerglings_regenerate_hp_up_to_their_full_hp():
    stage = Stage([("ZERGLING", 10, 16)], [("DUMMY", 30, 30)])
    stage.units[0].hp = 20
    stage.tick(16)
    assert stage.units[0].hp == pytest.approx(20.38)
    stage.units[0].hp = 34.99
    stage.tick()
    assert stage.units[0].hp == 35


def test_energy_regenerates_up_to_its_maximum():
    stage = Stage([("MEDIVAC", 10, 16)], [("DUMMY", 30, 30)])
    stage.tick(16)
    assert stage.units[0].energy == 50.5625
    stage.units[0].energy = 199.99
    stage.tick()
    assert stage.units[0].energy == 200


# Healing (11)


def healing(hp: float = 20, energy: float = 50) -> Stage:
    """An allied medivac with the order to heal a marine in range."""
    stage = Stage([("MARINE", 10, 16), ("MEDIVAC", 12, 16)], [("DUMMY", 30, 30)])
    stage.allies[0].hp, stage.allies[1].energy = hp, energy
    stage.order(STOP, ATTACK)
    return stage


def test_healing_gives_9_hp_a_second_without_reward():
    stage = healing()
    assert stage.tick(16) == 0
    assert stage.allies[0].hp == 29


def test_a_unit_of_energy_heals_3_hp():
    stage = healing(energy=100)
    stage.tick(5)
    assert stage.allies[1].energy == 100 + 5 * 0.03515625 - 1
    assert stage.allies[1].heal_pool == 3 - 5 * 0.5625
    stage.tick(11)  # 9 hp in all
    assert stage.allies[1].energy == 100 + 16 * 0.03515625 - 3
    assert stage.allies[1].heal_pool == 0


def test_healing_stops_at_full_hp():
    stage = healing(hp=44.9)
    stage.tick()
    assert stage.allies[0].hp == 45
    energy = stage.allies[1].energy
    stage.tick()
    assert stage.allies[1].energy == energy + 0.03515625
    assert stage.allies[1].target == -1


def test_healing_a_new_patient_needs_5_energy():
    stage = healing(energy=4.9)
    stage.tick(2)  # 4.9 and two ticks' regeneration are still less than 5
    assert stage.allies[0].hp == 20
    stage.tick()
    assert stage.allies[0].hp == 20.5625


def test_healing_the_same_patient_continues_with_any_energy():
    stage = healing(energy=6)
    stage.tick()
    stage.allies[1].energy, stage.allies[1].heal_pool = 0.1, 0
    stage.tick()
    assert stage.allies[0].hp == pytest.approx(20.5625 + 3 * (0.1 + 0.03515625))
    assert stage.allies[1].energy == 0


def test_healers_out_of_reach_fly_to_their_patient():
    stage = Stage([("MARINE", 10, 16), ("MEDIVAC", 15.2, 16)], [("DUMMY", 30, 30)])
    stage.allies[0].hp = 20
    stage.order(STOP, ATTACK)
    stage.tick()  # reach is 4 + 0.75 + 0.375
    assert stage.allies[0].hp == 20
    stage.tick()
    assert stage.allies[0].hp > 20


def test_a_unit_can_be_healed_back_in_the_tick_in_which_it_lost_its_hp():
    for turns, survives in (((2, 1, 0), True), ((1, 2, 0), False)):
        stage = Stage([("MARINE", 10, 16), ("MEDIVAC", 12, 16)], [("MARAUDER", 14, 16)])
        stage.allies[0].hp = 5
        stage.order(STOP, ATTACK)
        stage.tick(turns=turns)
        assert stage.allies[0].alive == survives
        assert stage.allies[0].hp == (0.5625 if survives else 0)


def test_killing_an_enemy_that_was_healed_back_pays_again():
    stage = Stage([("MARAUDER", 10, 16)], [("MARINE", 14, 16), ("MEDIVAC", 16, 16)])
    stage.enemies[0].hp = 5
    stage.order(ATTACK)
    assert stage.tick(turns=(0, 1, 2)) == 5 + 10
    assert stage.enemies[0].alive
    stage.allies[0].cooldown = 0
    assert stage.tick(turns=(2, 0, 1)) == 2 * 0.5625 + 10
    assert not stage.enemies[0].alive


def test_healing_an_ally_that_is_removed_spends_energy_but_does_not_bring_it_back():
    stage = healing(hp=20)
    stage.allies[0].hp, stage.allies[0].alive = 0, False
    energy = stage.allies[1].energy
    stage.tick()
    assert stage.allies[0].hp == 0.5625
    assert stage.allies[1].energy == energy + 0.03515625 - 1
    assert stage.allies[1].target == -1
    stage.tick()
    assert stage.allies[1].target == 0  # the removed marine counts as having hp
    assert not stage.allies[0].alive and not stage.look()[0][0].any()


# Explosions (11)


def test_a_baneling_dies_and_hits_all_opponents_within_2_2_of_their_rim():
    allies = [("ZEALOT", 10.9, 16), ("ZEALOT", 10, 18.69), ("ZEALOT", 7.29, 16)]
    allies += [("MEDIVAC", 10, 13.1)]
    stage = Stage(allies, [("BANELING", 10, 16), ("ZERGLING", 9.2, 16), ("BANELING", 10, 15.2)])
    stage.order()
    reward = stage.tick(turns=(4,))
    assert [unit.shield for unit in stage.allies] == [0, 0, 50, 0]
    assert [unit.hp for unit in stage.allies] == [71, 71, 100, 150 - 79]  # armor 1
    assert not stage.enemies[0].alive
    assert (stage.enemies[1].hp, stage.enemies[2].hp) == (35, 30)  # its own side is unharmed
    assert reward == 30  # the hp that the enemy gave up, and no reward for its death


def test_an_enemy_baneling_gives_up_the_hp_that_it_has_left():
    stage = Stage([("ZEALOT", 10.9, 16)], [("BANELING", 10, 16)])
    stage.enemies[0].hp = 12
    stage.order()
    # it regenerates before it explodes
    assert stage.tick(turns=(1,)) == pytest.approx(12 + 0.38 / 16)


def test_an_allied_baneling_earns_only_what_it_destroys():
    stage = Stage(
        [("BANELING", 10, 16)], [("MARINE", 10.9, 16), ("DUMMY", 11, 17), ("DUMMY", 20, 20)]
    )
    stage.order(ATTACK)
    assert stage.tick() == 45 + 10 + 80
    assert not stage.allies[0].alive and not stage.enemies[0].alive


def test_an_explosion_searches_victims_by_their_places_at_the_start_of_the_tick():
    stage = Stage([("ZEALOT", 10.9, 16), ("ZEALOT", 10, 18.8)], [("BANELING", 10, 16)])
    stage.order(STOP, SOUTH)
    stage.tick(turns=(1, 2, 0))
    assert stage.allies[1].y < 18.7  # within reach when it happens, but not at the start
    assert (stage.allies[0].hp, stage.allies[1].hp) == (71, 100)


def test_an_explosion_hits_victims_by_their_places_when_it_happens():
    stage = Stage([("ZEALOT", 10.9, 16), ("ZEALOT", 10, 18.6)], [("BANELING", 10, 16)])
    stage.order(STOP, NORTH)
    stage.tick(turns=(1, 2, 0))
    assert stage.allies[1].hp == 100


def test_an_allied_baneling_explodes_at_a_dead_enemy():
    stage = Stage(
        [("BANELING", 10, 16), ("MARINE", 5, 5)], [("MARINE", 10.9, 16), ("DUMMY", 11, 17)]
    )
    stage.order(ATTACK)
    stage.enemies[0].hp, stage.enemies[0].alive = 0, False
    assert stage.tick() == 80
    assert not stage.allies[0].alive


# The laser (11)


def lasered(target, others, colossus=(10, 16)) -> list[float]:
    """hp lost by the target and the others in one attack of a colossus."""
    stage = Stage([("COLOSSUS", *colossus)], [("DUMMY", *place) for place in (target, *others)])
    stage.order(ATTACK)
    stage.tick()
    return (1000 - stage.enemies.hp).tolist()


HIT = 2 * (10 + 5)  # dummies are light


def test_the_laser_hits_a_beam_across_its_line_of_fire():
    # 1.3 to the side is hit; so is 0.5 behind: half the beam's depth and the radius are 0.525;
    # 0.6 behind is not
    hits = lasered(
        (15, 16), [(15, 17.3), (15, 14.7), (15.5, 16), (14.5, 16), (15.6, 16), (14.4, 16)]
    )
    assert hits == [HIT] * 5 + [0, 0]


def test_the_laser_finds_only_centres_within_half_the_diagonal_of_its_beam():
    hits = lasered((15, 16), [(15, 16 + 1.40), (15, 16 + 1.42)])
    assert hits == [HIT, HIT, 0]


def test_the_laser_turns_with_the_line_of_fire():
    hits = lasered((14, 20), [(13.1, 20.9), (14.9, 19.1), (14.5, 20.5), (13.5, 19.5)])
    assert hits == [HIT, HIT, HIT, 0, 0]


def test_the_laser_lies_east_and_west_of_a_target_due_north():
    hits = lasered((10, 21), [(11.3, 21), (8.7, 21), (10, 21.6), (10, 20.4)])
    assert hits == [HIT, HIT, HIT, 0, 0]


def test_the_laser_spares_its_own_side():
    stage = Stage([("COLOSSUS", 10, 16), ("ZEALOT", 15, 16.9)], [("DUMMY", 15, 16)])
    stage.order(ATTACK)
    stage.tick()
    assert stage.enemies[0].hp == 1000 - HIT and stage.allies[1].shield == 50


def test_the_laser_hits_nothing_if_the_target_is_at_its_own_place():
    assert lasered((10, 16), [(10.5, 16)]) == [0, 0]


def test_the_laser_at_a_dead_target_hits_units_near_the_spot():
    stage = Stage([("COLOSSUS", 10, 16)], [("DUMMY", 15, 16), ("DUMMY", 15, 17)])
    stage.order(ATTACK)
    stage.enemies[0].hp, stage.enemies[0].alive = 0, False
    assert stage.tick() == HIT


def test_the_laser_at_an_empty_spot_hits_nothing_and_uses_up_its_cooldown():
    stage = Stage([("COLOSSUS", 10, 16)], [("DUMMY", 15, 16), ("DUMMY", 15, 19)])
    stage.order(ATTACK)
    stage.enemies[0].hp, stage.enemies[0].alive = 0, False
    assert stage.tick() == 0
    assert stage.allies[0].cooldown == 1.07


# The enemies' script (9)


def test_enemies_that_see_nobody_march_to_the_attack_point():
    stage = Stage([("MARINE", 2, 2)], [("MARINE", 22, 24)], attack_point=(16, 16))
    stage.tick()
    assert heading(stage.enemies[0]) == pytest.approx((-0.6, -0.8))
    assert speed(stage.enemies[0]) == pytest.approx(3.15)


@pytest.mark.parametrize(("gap", "seen"), [(5.37, True), (5.375, False), (5.4, False)])
def test_enemies_see_as_far_as_their_scan_range_to_the_rim(gap, seen):
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 10 + gap, 16)], attack_point=(30, 16))
    stage.tick()
    assert stage.enemies[0].target == (0 if seen else -1)


def test_enemies_attack_the_nearest():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 11, 16)], [("MARINE", 14, 16)])
    stage.tick()
    assert stage.enemies[0].target == 1


def test_enemies_attack_the_lowest_number_among_equally_near():
    stage = Stage(
        [("MARINE", 14, 18), ("MARINE", 14, 14), ("MARINE", 16, 16)], [("MARINE", 14, 16)]
    )
    stage.tick()
    assert stage.enemies[0].target == 0


def test_enemies_attack_healers_first():
    stage = Stage([("MARINE", 12, 16), ("MEDIVAC", 10, 16)], [("MARINE", 14, 16)])
    stage.tick()
    assert stage.enemies[0].target == 1


def test_enemies_attack_only_planes_that_they_reach():
    stage = Stage([("MARINE", 10, 16), ("MEDIVAC", 12, 16)], [("MARAUDER", 14, 16)])
    stage.tick()
    assert stage.enemies[0].target == 0


def test_an_enemy_keeps_a_target_in_range_even_if_another_comes_nearer():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 25, 16)], [("MARINE", 14, 16)])
    stage.tick()
    stage.allies[1].x = 15
    stage.tick()
    assert stage.enemies[0].target == 0


def test_an_enemy_drops_a_target_out_of_range_for_a_nearer_one():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 12, 16)], [("ZEALOT", 14, 16)])
    stage.enemies[0].target = 0
    stage.tick()
    assert stage.enemies[0].target == 1


def test_an_enemy_does_not_drop_a_target_that_fights_it():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 12, 16)], [("ZEALOT", 14, 16)])
    stage.enemies[0].target = 0
    stage.order(ATTACK, STOP)
    stage.tick()
    assert stage.enemies[0].target == 0


def test_an_enemy_drops_a_dead_target():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 11, 16)], [("MARINE", 14, 16)])
    stage.enemies[0].target = 0
    stage.allies[0].hp, stage.allies[0].alive = 0, False
    stage.tick()
    assert stage.enemies[0].target == 1


def test_an_enemy_turns_to_an_attacker_beyond_its_sight():
    stage = Stage([("STALKER", 10, 16)], [("ZEALOT", 16.5, 16)], attack_point=(30, 16))
    stage.order(STOP)
    stage.tick()
    assert stage.enemies[0].target == -1
    stage.enemies[0].x = 16.5
    stage.order(ATTACK)
    stage.tick()
    assert stage.enemies[0].target == 0


def test_an_enemy_prefers_a_unit_in_sight_to_an_attacker_beyond_its_sight():
    stage = Stage([("STALKER", 10, 16), ("MARINE", 18, 20)], [("ZEALOT", 16.5, 16)])
    stage.order(ATTACK)
    stage.tick()
    assert stage.enemies[0].target == 1


def test_while_an_allied_healer_lives_enemies_choose_again_every_tick():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 25, 16), ("MEDIVAC", 2, 2)], [("MARINE", 14, 16)])
    stage.tick()
    assert stage.enemies[0].target == 0
    stage.allies[1].x = 15
    stage.tick()
    assert stage.enemies[0].target == 1
    stage.allies[2].x, stage.allies[2].y = 18, 16
    stage.tick()
    assert stage.enemies[0].target == 2
    stage.allies[2].x = 14  # one that has a healer as its target does not look further
    stage.tick()
    assert stage.enemies[0].target == 2


def test_an_enemy_heads_for_a_target_out_of_its_range():
    stage = Stage([("MARINE", 10, 16)], [("ZEALOT", 13, 20)])
    stage.tick()
    assert heading(stage.enemies[0]) == pytest.approx((-0.6, -0.8))
    assert speed(stage.enemies[0]) == pytest.approx(3.15)


def test_an_enemy_healer_chooses_the_lowest_hp_among_the_hurt():
    enemies = [("MARINE", 20, 16), ("MARAUDER", 20, 18), ("MARAUDER", 22, 18), ("MEDIVAC", 21, 17)]
    stage = Stage([("MARINE", 2, 2)], enemies, attack_point=(20, 16))
    stage.enemies[1].hp, stage.enemies[2].hp = 90, 60
    stage.tick()
    # the second marauder: the marine has less hp, but is not hurt
    assert stage.enemies[3].target == 3
    assert stage.enemies[2].hp == 60.5625


def test_an_enemy_healer_also_chooses_unhurt_comrades_that_fight():
    stage = Stage(
        [("MARINE", 15, 16)], [("MARINE", 20, 16), ("MARAUDER", 20, 18), ("MEDIVAC", 21, 17)]
    )
    stage.enemies[1].hp = 60
    stage.tick()
    assert stage.enemies[0].target == 0
    # it chose the marine, and gave up on it: its hp is full
    assert stage.enemies[2].prev_target == -1
    assert stage.enemies[2].target == -1
    assert stage.enemies[1].hp == 60


def test_an_enemy_healer_whose_comrades_are_well_marches():
    stage = Stage(
        [("MARINE", 2, 2)], [("MARINE", 20, 16), ("MEDIVAC", 22, 24)], attack_point=(16, 16)
    )
    stage.tick()
    assert stage.enemies[1].target == -1
    assert heading(stage.enemies[1]) == pytest.approx((-0.6, -0.8))


@pytest.mark.parametrize(
    ("comrade", "away", "pace"),
    [("MARINE", 3, 3.15), ("SNAIL", 5.7, 1), ("SNAIL", 5.8, 3.5), ("DUMMY", 3, 0)],
)
def test_an_enemy_healer_goes_no_faster_than_the_slowest_comrade_around_it(comrade, away, pace):
    # around it: 5 and the largest radius of the battle, its own 0.75
    stage = Stage(
        [("MARINE", 2, 2)], [(comrade, 20 + away, 16), ("MEDIVAC", 20, 16)], attack_point=(10, 16)
    )
    stage.tick()
    assert speed(stage.enemies[1]) == pytest.approx(pace)


def test_an_allied_healer_waits_for_nobody():
    stage = Stage([("SNAIL", 10, 16), ("MEDIVAC", 12, 16)], [("DUMMY", 30, 30)])
    stage.order(EAST, EAST)
    stage.tick()
    assert speed(stage.allies[1]) == pytest.approx(3.5)


# Collisions (10)


def test_standing_units_never_give_way():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 10.7, 16.1)], [("DUMMY", 30, 30)])
    for action in (EAST, NORTH, WEST):
        stage.step(STOP, action)
    assert tuple(positions(stage.units)[0]) == (10, 16)


def test_a_unit_that_touches_a_standing_one_head_on_stays():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 10.75, 16)], [("DUMMY", 30, 30)])
    stage.order(EAST, STOP)
    stage.tick()
    np.testing.assert_allclose(positions(stage.units)[0], (10, 16), atol=1e-6)


def test_a_unit_overlapping_a_standing_one_leaves_it_within_a_tick():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 10.65, 16)], [("DUMMY", 30, 30)])
    stage.order(EAST, STOP)
    stage.tick()
    assert stage.units[0].x == pytest.approx(9.9, abs=1e-5)


def test_two_moving_units_that_overlap_each_move_half_the_way_apart():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 10.65, 16)], [("DUMMY", 30, 30)])
    stage.order(EAST, WEST)
    stage.tick()
    assert (stage.units[0].x, stage.units[1].x) == pytest.approx((9.95, 10.7), abs=1e-5)


def gaps_on_opposite_ways(offside: float) -> list[float]:
    """Distances between two marines that walk towards each other, tick by tick."""
    stage = Stage([("MARINE", 10, 16), ("MARINE", 13, 16 + offside)], [("DUMMY", 30, 30)])
    stage.order(EAST, WEST)
    gaps = []
    for unit, x in zip(stage.allies, (16, 7), strict=True):
        unit.order_x = x
    for _ in range(24):
        stage.tick()
        gaps.append(distance(stage.units[0], stage.units[1]))
    return gaps


def test_moving_units_stop_each_other_head_on():
    gaps = gaps_on_opposite_ways(offside=0)
    assert min(gaps) > 0.75 - 2 * 3.15 * TICK  # avoidance begins at most one tick too late
    assert gaps[8:] == pytest.approx([0.75] * 16, abs=1e-5)


def test_moving_units_walk_around_each_other():
    gaps = gaps_on_opposite_ways(offside=0.3)
    assert min(gaps) > 0.7
    assert gaps[-1] > 3


def test_units_of_different_planes_do_not_meet():
    stage = Stage([("MARINE", 10, 16), ("MEDIVAC", 10.5, 16)], [("DUMMY", 30, 30)])
    stage.step(EAST, STOP)
    assert stage.units[0].x == pytest.approx(11.575)


def test_coinciding_units_part():
    stage = Stage([("MARINE", 10, 16), ("MARINE", 10, 16)], [("DUMMY", 30, 30)])
    stage.order(EAST, STOP)
    stage.tick(8)
    assert np.isfinite(positions(stage.units)).all()
    assert distance(stage.units[0], stage.units[1]) > 0.7


@pytest.mark.parametrize(("offset", "least"), [("upstream", 0.3), ("published", 0.374)])
@pytest.mark.parametrize(
    ("action", "x", "y"), [(SOUTH, 16, 21.5), (NORTH, 16, 10.5), (EAST, 10.5, 16), (WEST, 21.5, 16)]
)
def test_walls_stop_ground_units(action, x, y, offset, least):
    stage = Stage([("MARINE", x, y)], [("DUMMY", 30, 30)], walls=[(12, 12, 20, 20)], offset=offset)
    for _ in range(6):
        stage.step(action)
    outside = max(abs(stage.units[0].x - 16), abs(stage.units[0].y - 16)) - 4
    assert least <= outside < 0.6


def test_flyers_pass_over_walls():
    stage = Stage([("MEDIVAC", 16, 21.5)], [("DUMMY", 30, 30)], walls=[(12, 12, 20, 20)])
    for _ in range(6):
        stage.step(SOUTH)
    assert stage.units[0].y == pytest.approx(21.5 - 6 * 1.75, abs=1e-4)


def test_the_border_holds_nobody():
    stage = Stage([("MARINE", 1.1, 16)], [("DUMMY", 30, 30)])
    stage.step(WEST)
    assert stage.units[0].x == pytest.approx(1.1 - 1.575)
    assert stage.available(0) == [STOP, EAST]


@pytest.mark.parametrize(("offset", "y"), [("upstream", 9.068), ("published", 9.310)])
def test_a_marine_walking_south_feels_the_wall_at_8_as_section_17_1_says(offset, y):
    walls = [(0, 0, 32, 8), (0, 24, 32, 32)]
    stage = Stage([("MARINE", 9, 11)], [("DUMMY", 30, 30)], walls=walls, offset=offset)
    stage.step(SOUTH)
    stage.step(SOUTH)
    assert stage.units[0].y == pytest.approx(y, abs=5e-4)


# Reward and end (12)


def test_rewards_are_scaled_so_that_a_flawless_victory_gives_20():
    stage = Stage(
        [("MARINE", 10, 16), ("MARINE", 10, 17)], [("MARINE", 14, 16), ("STALKER", 14, 14)]
    )
    stage.allies.hp = 10_000
    total = 0.0
    for _ in range(40):
        total += stage.step(*([ATTACK] * 2 if stage.enemies[0].alive else [ATTACK + 1] * 2))
        if stage.battle["over"][0]:
            break
    assert stage.battle["won"][0]
    assert total == pytest.approx(20)


def test_victory_gives_200_a_kill_10_and_damage_its_amount():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 14, 16)])
    scale = 20 / (10 + 200 + 45)
    stage.enemies[0].hp = 10
    assert stage.step(ATTACK) == pytest.approx(6 * scale)
    assert stage.step(ATTACK) == pytest.approx((4 + 10 + 200) * scale)
    assert stage.battle["terminated"][0] and stage.battle["won"][0]


def test_losses_cost_nothing_and_a_lost_battle_is_not_won():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 14, 16)])
    stage.allies[0].hp = 6
    assert stage.step(STOP) == 0
    assert outcome(stage) == {"terminated": True, "truncated": False, "won": False}


def test_a_battle_without_survivors_is_won():
    stage = Stage([("BANELING", 10, 16)], [("MARINE", 11, 16)])
    stage.step(ATTACK)
    assert not stage.units.alive.any()
    assert stage.battle["terminated"][0] and stage.battle["won"][0]


def test_the_time_limit_truncates_a_battle_that_is_not_over():
    stage = Stage([("MARINE", 10, 16)], [("DUMMY", 30, 30)], time_limit=2)
    stage.step(STOP)
    assert not stage.battle["over"][0]
    stage.step(STOP)
    assert outcome(stage) == {"terminated": False, "truncated": True, "won": False}


def test_a_battle_that_ends_at_the_time_limit_is_terminated_not_truncated():
    stage = Stage([("MARINE", 10, 16)], [("MARINE", 14, 16)], time_limit=1)
    stage.enemies[0].hp = 1
    stage.step(ATTACK)
    assert stage.battle["terminated"][0] and not stage.battle["truncated"][0]


# Observations and state (13)


def sighted() -> Stage:
    """One enemy near and one far, with shields and types on both sides."""
    allies = [("STALKER", 10, 16), ("ZEALOT", 12, 16)]
    stage = Stage(allies, [("ZEALOT", 10, 20), ("ZEALOT", 17, 16)], walls=[(9, 14, 11, 16)])
    stage.enemies[0].hp, stage.enemies[0].shield = 50, 25
    stage.allies[1].hp, stage.allies[1].shield = 75, 0
    return stage


def test_an_agent_sees_moves_enemies_allies_and_itself():
    obs, _, _ = sighted().look()
    stalker, zealot = (1, 0), (0, 1)
    moves = (1, 0, 1, 1)
    enemies = (1, 4 / 9, 0, 4 / 9, 0.5, 0.5, *zealot), (0, 7 / 9, 7 / 9, 0, 1, 1, *zealot)
    ally = (1, 2 / 9, 2 / 9, 0, 0.75, 0, *zealot)
    expected = [*moves, *enemies[0], *enemies[1], *ally, 1, 1, *stalker]
    np.testing.assert_allclose(obs[0], expected, atol=1e-6)
    near = math.sqrt(20) / 9
    enemies = (1, near, -2 / 9, 4 / 9, 0.5, 0.5, *zealot), (1, 5 / 9, 5 / 9, 0, 1, 1, *zealot)
    ally = (1, 2 / 9, -2 / 9, 0, 1, 1, *stalker)
    expected = [1, 1, 1, 1, *enemies[0], *enemies[1], *ally, 0.75, 0, *zealot]
    np.testing.assert_allclose(obs[1], expected, atol=1e-6)


def test_an_agent_sees_units_up_to_a_distance_of_9():
    stage = Stage(
        [("MARINE", 10, 16), ("MARINE", 18.99, 16)], [("MARINE", 19, 16), ("MARINE", 19.01, 16)]
    )
    obs = stage.look()[0][0]
    np.testing.assert_allclose(obs[4:9], (0, 1, 1, 0, 1))
    assert not obs[9:14].any()
    np.testing.assert_allclose(obs[14:18], (1, 8.99 / 9, 8.99 / 9, 0), atol=1e-6)


def test_the_dead_see_nothing_and_are_not_seen():
    stage = sighted()
    for unit in (stage.allies[1], stage.enemies[0]):
        unit.hp, unit.alive = 0, False
    obs, _, _ = stage.look()
    assert not obs[1].any()
    assert not obs[0, 4:12].any() and obs[0, 12:20].any() and not obs[0, 20:28].any()


def test_an_agent_sees_its_allies_in_the_order_of_their_indices():
    stage = Stage(
        [("MARINE", 10, 16), ("MARINE", 10, 17), ("MARINE", 10, 18)], [("MARINE", 30, 30)]
    )
    obs, _, _ = stage.look()
    dy = [[round(9 * float(agent[9 + 5 * m + 3])) for m in range(2)] for agent in obs]
    assert dy == [[1, 2], [-1, 1], [-2, -1]]


def test_a_side_without_shields_has_no_shield_features():
    obs, state, _ = Stage([("ZEALOT", 10, 16)], [("MARINE", 12, 16)]).look()
    np.testing.assert_allclose(obs[0], [1, 1, 1, 1, 1, 2 / 9, 2 / 9, 0, 1, 1, 1], atol=1e-6)
    assert state.shape == (5 + 3 + 7,)


def test_a_healers_flag_of_an_enemy_says_whether_the_ally_of_that_index_is_near():
    allies = [("MARINE", 10, 16), ("MEDIVAC", 12, 16), ("MARINE", 12, 24), ("MEDIVAC", 12, 18)]
    places = [(20, 16), (15, 16), (15, 17), (19, 18), (12, 14)]
    enemies = [("MARINE", x, y) for x, y in places]
    obs, _, _ = Stage(allies, enemies).look()
    size = 5 + 2  # no shields, two types
    flags = obs[:, 4 : 4 + 5 * size : size]
    # of the first healer: a marine near; itself; a marine far away; another healer near;
    # nobody has index 4
    assert flags[1].tolist() == [1, 0, 0, 1, 0]
    # fighters see which enemies are near: 10, 5, 5.1, 9.2 and 2.8 away
    assert flags[0].tolist() == [0, 1, 1, 0, 1]


def test_the_state_shows_all_units_and_the_last_actions():
    stage = sighted()
    stage.order(NORTH, STOP)
    stage.allies[0].cooldown = 0.67
    _, state, _ = stage.look()
    stalker, zealot = (1, 0), (0, 1)
    allies = (1, 0.5, -6 / 32, 0, 1, *stalker), (0.75, 0, -4 / 32, 0, 0, *zealot)
    enemies = (0.5, -6 / 32, 4 / 32, 0.5, *zealot), (1, 1 / 32, 0, 1, *zealot)
    actions = np.eye(8)[[NORTH, STOP]].ravel()
    expected = [*allies[0], *allies[1], *enemies[0], *enemies[1], *actions]
    np.testing.assert_allclose(state, expected, atol=1e-6)


def test_the_state_shows_a_healer_with_its_energy():
    stage = Stage([("MARINE", 10, 16), ("MEDIVAC", 12, 16)], [("MARINE", 20, 16)])
    _, state, _ = stage.look()
    np.testing.assert_allclose(state[6:12], (1, 50 / 200, -4 / 32, 0, 0, 1), atol=1e-6)


def test_the_state_shows_the_dead_as_zeros_with_the_action_no_op():
    stage = sighted()
    for unit in (stage.allies[1], stage.enemies[0]):
        unit.hp, unit.alive = 0, False
    stage.order(STOP, 0)
    _, state, _ = stage.look()
    assert not state[7:14].any() and not state[14:20].any() and state[20:26].any()
    assert state[26 + 8 :].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_the_state_shows_no_actions_before_the_first_step():
    _, state, _ = sighted().look()
    assert not state[26:].any()
