"""Your own scenarios: which are read, and which are refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cleanmarl.battle import BattleEnv, ScenarioError
from cleanmarl.battle.scenario import load_map, load_scenario, map_names

BOTH = {"side": "both", "number": [3, 4], "units": {"ZEALOT": 0.5, "STALKER": 0.5}}
BOTH |= {"places": {"reflected": 1, "surrounded": 1}}
ALLIES = {"side": "ally", "at": [9, 16], "units": {"MARINE": 2}}
ENEMIES = {"side": "enemy", "at": [23, 16], "units": {"ZEALOT": 1}}
SCENARIO = {"terrain": "SIMPLE", "attack_point": [9, 16], "groups": [ALLIES, ENEMIES]}

NAN, INF = float("nan"), float("inf")


def without(table: dict, key: str) -> dict:
    return {name: value for name, value in table.items() if name != key}


OWN_GROUND = without(SCENARIO, "terrain")


def with_unit(**fields) -> dict:
    return {**SCENARIO, "units": {"OWN": {"like": "MARINE", **fields}}}


def with_group(**fields) -> dict:
    return {**SCENARIO, "groups": [{**ALLIES, **fields}, ENEMIES]}


def with_drawn(**fields) -> dict:
    """Random battles, without the fields that are None."""
    group = {key: value for key, value in {**BOTH, **fields}.items() if value is not None}
    return {"groups": [group]}


def fight(allies: dict, enemies: dict, walls=(), **kinds) -> dict:
    """Allies at (3, 5) against enemies at (12, 5) of an open map of 16 x 10 cells."""
    groups = [
        {"side": "ally", "at": [3, 5], "units": allies},
        {"side": "enemy", "at": [12, 5], "units": enemies},
    ]
    return {
        "size": [16, 10],
        "walls": list(walls),
        "attack_point": [3, 5],
        "groups": groups,
        "units": kinds,
    }


def refused(scenario, message: str):
    with pytest.raises(ScenarioError, match=f"^scenario: {message}") as error:
        load_scenario(scenario)
    assert "\n" not in str(error.value)


MALFORMED = [
    (without(SCENARIO, "groups"), "groups: missing"),
    ({**SCENARIO, "atack_point": [1, 1]}, r"atack_point: unknown field; did you mean attack_point"),
    ({**SCENARIO, "attack_point": [1]}, "attack_point: expected 2 numbers"),
    ({**SCENARIO, "attack_point": [1, "x"]}, r"attack_point\[1\]: expected a number .*, got 'x'"),
    ({**SCENARIO, "attack_point": 3}, "attack_point: expected 2 numbers, got 3"),
    ({**SCENARIO, "episode_limit": 0}, "episode_limit: expected a whole number from 1 to .* got 0"),
    ({**SCENARIO, "episode_limit": 1.5}, "episode_limit: expected a whole number .*, got 1.5"),
    ({**SCENARIO, "episode_limit": True}, "episode_limit: expected a whole number .*, got True"),
    ({**SCENARIO, "terrain": "SIMPEL"}, "terrain: unknown .*did you mean SIMPLE"),
    ({**SCENARIO, "terrain": 5}, "terrain: unknown"),
    ({**SCENARIO, "terrain": ["SIMPLE"]}, "terrain: unknown"),
    ({**SCENARIO, "walls": []}, "terrain: give either terrain, or size and walls"),
    ({**OWN_GROUND, "size": [32]}, "size: expected 2 numbers"),
    ({**OWN_GROUND, "size": [32, 0]}, r"size\[1\]: expected a whole number from 1 to 256, got 0"),
    ({**OWN_GROUND, "walls": [[0, 0, 33, 1]]}, r"walls\[0\]: not a rectangle inside 32 x 32"),
    ({**OWN_GROUND, "walls": [[0, 0, 1, 1], [5, 5, 5, 6]]}, r"walls\[1\]: not a rectangle inside"),
    ({**OWN_GROUND, "walls": [[0, 0, 1]]}, r"walls\[0\]: expected 4 numbers"),
    ({**OWN_GROUND, "walls": [[0, 0, 1.5, 2]]}, r"walls\[0\]\[2\]: expected a whole number"),
    ({**OWN_GROUND, "walls": 7}, "walls: expected a list"),
    ({**SCENARIO, "groups": {}}, "groups: expected a list of groups"),
    ({**SCENARIO, "groups": [3]}, r"groups\[0\]: expected a table"),
    ({**SCENARIO, "groups": []}, "groups: there is no group of side 'ally'"),
    ({**SCENARIO, "groups": [ALLIES]}, "groups: there is no group of side 'enemy'"),
    ({**SCENARIO, "groups": [ENEMIES]}, "groups: there is no group of side 'ally'"),
    (
        with_group(side="allies"),
        r"groups\[0\].side: expected one of ally, enemy, both, got 'allies'",
    ),
    (with_group(sides="ally"), r"groups\[0\].sides: unknown field; did you mean side"),
    (with_group(at=[9]), r"groups\[0\].at: expected 2 numbers"),
    (with_group(at=[9, None]), r"groups\[0\].at\[1\]: expected a number"),
    (with_group(at=np.zeros((2, 2))), r"groups\[0\].at: expected 2 numbers, got array"),
    (with_group(units={}), r"groups\[0\].units: expected a table of kind = count"),
    (with_group(units=["MARINE"]), r"groups\[0\].units: expected a table of kind = count"),
    (with_group(units={"MARIN": 3}), r"groups\[0\].units.MARIN: unknown unit; did you mean MARINE"),
    (with_group(units={"MARINE": 0}), r"groups\[0\].units.MARINE: expected a whole .*, got 0"),
    (with_group(units={"MARINE": 2.5}), r"groups\[0\].units.MARINE: expected a whole .*, got 2.5"),
    ({**SCENARIO, "groups": [without(ALLIES, "at"), ENEMIES]}, r"groups\[0\].at: missing"),
    (with_group(number=0), r"groups\[0\].number: expected a whole number from 1 to 100, got 0"),
    (with_group(number=[1, 2]), r"groups\[0\].number: expected a whole number"),
    (with_group(numbr=3), r"groups\[0\].numbr: unknown field; did you mean number"),
    (with_group(not_alone=["MARINE"]), r"groups\[0\].not_alone: only with number"),
    (with_group(places={"reflected": 1}), r"groups\[0\].places: only with side = \"both\""),
    (with_group(number=2, units={"MARINE": 0}), r"groups\[0\].units.MARINE: .* 0.001 to .*, got 0"),
    (with_group(number=2, units={"MARIN": 1}), r"groups\[0\].units.MARIN: unknown unit; did you"),
    (with_group(number=2, at=[9, 3]), r"groups\[0\].at: \(9.00, 3.00\) is in a wall"),
    (with_drawn(number=3), r"groups\[0\].number: expected 2 numbers, got 3"),
    (with_drawn(number=[3, 0]), r"groups\[0\].number\[1\]: expected a whole .* got 0"),
    (
        with_drawn(number=[90, 9], units={"COLOSSUS": 1}),
        r"groups\[0\]: this map has room for \d+ units of a side, not for 90",
    ),
    (with_drawn(units={}), r"groups\[0\].units: expected a table of unit = weight"),
    (with_drawn(units={"ZEALOT": 0}), r"groups\[0\].units.ZEALOT: expected a number from 0.001"),
    (with_drawn(places={}), r"groups\[0\].places: expected a table of place = weight"),
    (with_drawn(places={"reflect": 1}), r"groups\[0\].places.reflect: .*did you mean reflected"),
    (with_drawn(places=None), r"groups\[0\].at: missing"),
    (with_drawn(at=[[1, 1], [2, 2]]), r"groups\[0\].places: give either at or places"),
    (with_drawn(places=None, at=[1, 1]), r"groups\[0\].at\[0\]: expected 2 numbers, got 1"),
    (with_drawn(places=None, at=[[1, 1], [9]]), r"groups\[0\].at\[1\]: expected 2 numbers"),
    (with_drawn(places=None, at=[[1, 1], [40, 2]]), r"groups\[0\].at\[1\]: .*is off the map"),
    (with_drawn(not_alone="ZEALOT"), r"groups\[0\].not_alone: expected a list of names"),
    (with_drawn(not_alone=["ZEALT"]), r"groups\[0\].not_alone: .*did you mean ZEALOT"),
    (with_drawn(not_alone=["ZEALOT", "STALKER"]), r"groups\[0\].not_alone: some kind must be able"),
    ({**with_drawn(), "walls": [[9, 0, 10, 32]]}, r"groups\[0\]: walls divide the map"),
    (
        {**with_drawn(places=None, at=[[1, 1], [2, 2]]), "walls": [[9, 0, 10, 32]]},
        r"groups\[0\]: walls divide the map",
    ),
    ({**SCENARIO, "units": []}, "units: expected a table of unit kinds"),
    ({**SCENARIO, "units": {"OWN": 3}}, "units.OWN: expected a table"),
    ({**SCENARIO, "units": {"OWN": {"hp": 3}}}, "units.OWN.attack: missing"),
    (with_unit(like="MARIN"), "units.OWN.like: unknown unit; did you mean MARINE"),
    (with_unit(hitpoints=3), "units.OWN.hitpoints: unknown field"),
    (with_unit(hp=0), "units.OWN.hp: expected a number from 0.01 to 10000, got 0"),
    (with_unit(hp="many"), "units.OWN.hp: expected a number .*, got 'many'"),
    (with_unit(radius=0), "units.OWN.radius: expected a number from 0.01 to 2, got 0"),
    (with_unit(speed=-1), "units.OWN.speed: expected a number from 0 to 10000, got -1"),
    (with_unit(attacks=0), "units.OWN.attacks: expected a whole number from 1 to 100, got 0"),
    (with_unit(attacks=1.5), "units.OWN.attacks: expected a whole number"),
    (with_unit(cooldown=0), "units.OWN.cooldown: expected a number from 0.01 to 10000, got 0"),
    (with_unit(attack="bite"), "units.OWN.attack: expected one of standard, .*, heal, got 'bite'"),
    (with_unit(attack=["heal"]), "units.OWN.attack: expected one of"),
    (with_unit(plane="SEA"), "units.OWN.plane: expected one of GROUND, AIR, got 'SEA'"),
    (with_unit(targets="GROUND"), "units.OWN.targets: expected a list of names"),
    (with_unit(targets=["SEA"]), "units.OWN.targets: expected one of GROUND, AIR, got 'SEA'"),
    (with_unit(attributes=[1]), "units.OWN.attributes: expected a list of names"),
    (with_unit(bonus=3), "units.OWN.bonus: expected a table"),
    (with_unit(bonus={"LIGHT": "x"}), "units.OWN.bonus.LIGHT: expected a number .*, got 'x'"),
    (with_unit(bonus={"LIGHT": -3}), "units.OWN.bonus.LIGHT: expected a number from 0 .*, got -3"),
    (with_unit(beam=[1]), "units.OWN.beam: expected 2 numbers"),
    (with_unit(energy=9, energy_start=10), "units.OWN.energy_start: expected .* 0 to 9, got 10"),
]


@pytest.mark.parametrize(
    ("scenario", "message"), MALFORMED, ids=[message for _, message in MALFORMED]
)
def test_a_malformed_scenario_is_refused_with_the_name_of_the_field(scenario, message):
    refused(scenario, message)


STATISTICS = ["hp", "cooldown", "range", "speed", "radius", "damage", "attacks", "armor", "shield"]
STATISTICS += ["hp_regen", "energy", "energy_start", "scan_range", "splash_radius"]
TABLES = {
    f"units.OWN.{name}": lambda value, name=name: with_unit(**{name: value}) for name in STATISTICS
}
TABLES |= {
    "units.OWN.beam[0]": lambda value: with_unit(beam=[value, 1]),
    "units.OWN.bonus.LIGHT": lambda value: with_unit(bonus={"LIGHT": value}),
    "episode_limit": lambda value: {**SCENARIO, "episode_limit": value},
    "attack_point[0]": lambda value: {**SCENARIO, "attack_point": [value, 16]},
    "size[1]": lambda value: {**OWN_GROUND, "size": [32, value]},
    "walls[0][2]": lambda value: {**OWN_GROUND, "walls": [[0, 0, value, 1]]},
    "groups[0].at[1]": lambda value: with_group(at=[9, value]),
    "groups[0].units.MARINE": lambda value: with_group(units={"MARINE": value}),
    "groups[0].number[0]": lambda value: with_drawn(number=[value, 1]),
    "groups[0].units.ZEALOT": lambda value: with_drawn(units={"ZEALOT": value}),
    "groups[0].places.reflected": lambda value: with_drawn(places={"reflected": value}),
}


@pytest.mark.parametrize("field", TABLES)
def test_no_number_may_be_infinite_huge_or_negative(field):
    for value in (NAN, INF, -INF, 1e300, 10**400, 10**5000, -1):
        with pytest.raises(ScenarioError) as error:
            load_scenario(TABLES[field](value))
        assert str(error.value).startswith(f"scenario: {field}: expected a")
        assert "\n" not in str(error.value)


# Whether the battle can be fought


@pytest.mark.parametrize(
    ("at", "problem"),
    [
        ([9, 3], r"a MARINE of this group would start at \(8.62, 2.98\), in a wall"),
        ([31.9, 16], r"a MARINE of this group would start at \(32.33, 15.97\), off the map"),
        ([9, 24.3], "a MARINE .* in a wall"),
        ([40, 16], "a MARINE .* off the map of 32 x 32 cells"),
        ([0.2, 16], "a MARINE .* off the map"),
    ],
)
def test_a_group_whose_units_would_stand_in_a_wall_or_off_the_map_is_refused(at, problem):
    refused(with_group(at=at), rf"groups\[0\].at: {problem}")


def test_a_group_that_is_too_large_for_its_place_is_refused():
    # 64 zerglings stand in a square of 6.4 cells.
    load_scenario(with_group(units={"ZERGLING": 64}))
    near_the_wall = with_group(units={"ZERGLING": 64}, at=[9, 10])
    refused(near_the_wall, r"groups\[0\].at: a ZERGLING .* in a wall")


def test_flyers_may_start_over_walls_but_not_off_the_map():
    def medivac_at(*at):
        return {
            **SCENARIO,
            "groups": [ALLIES, ENEMIES, {**ENEMIES, "at": at, "units": {"MEDIVAC": 1}}],
        }

    load_scenario(medivac_at(20, 3))
    refused(medivac_at(20, 40), r"groups\[2\].at: a MEDIVAC .* off the map")


@pytest.mark.parametrize(
    ("place", "problem"),
    [([9, 3], "in a wall"), ([9, 32], "off the map"), ([32, 16], "off the map")],
)
def test_an_attack_point_in_a_wall_or_off_the_map_is_refused(place, problem):
    refused({**SCENARIO, "attack_point": place}, f"attack_point: it is {problem}")


def test_a_side_has_at_most_100_units():
    load_scenario(with_group(units={"MARINE": 100}))
    refused(with_group(units={"MARINE": 101}), r"groups\[0\].units.MARINE: .* from 1 to 100")
    groups = [ALLIES, {**ENEMIES, "units": {"ZEALOT": 60}}, {**ENEMIES, "units": {"MARINE": 41}}]
    message = "groups: expected at most 100 units of side 'enemy', got 101"
    refused({**SCENARIO, "groups": groups}, message)


HARMLESS = [
    fight({"MEDIVAC": 3}, {"MARINE": 3}),
    fight({"ZEALOT": 3}, {"MEDIVAC": 1}),
    fight({"OWN": 3}, {"MARINE": 1}, OWN={"like": "MARINE", "damage": 0}),
    fight({"OWN": 3}, {"MARAUDER": 1}, OWN={"like": "MARINE", "damage": 1}),
    fight({"OWN": 3}, {"MARINE": 1}, OWN={"like": "MARINE", "targets": []}),
]


@pytest.mark.parametrize("scenario", HARMLESS)
def test_allies_that_can_hurt_no_enemy_are_refused(scenario):
    refused(scenario, "groups: no ally can hurt an enemy")


def test_one_ally_that_can_hurt_one_enemy_is_enough():
    load_scenario(fight({"MEDIVAC": 3, "MARINE": 1}, {"MEDIVAC": 1}))
    load_scenario(fight({"ZEALOT": 3}, {"MEDIVAC": 1, "ZERGLING": 1}))
    # Armor does not protect shields.
    weak = {"like": "MARINE", "damage": 1}
    load_scenario(fight({"OWN": 3}, {"STALKER": 1}, OWN=weak))
    strong_for_one = {"like": "MARINE", "damage": 0, "bonus": {"ARMORED": 3}}
    load_scenario(fight({"OWN": 3}, {"MARAUDER": 1}, OWN=strong_for_one))


ACROSS = [6, 0, 9, 10]  # a wall three cells thick from the south to the north


def test_walls_between_the_sides_are_refused():
    message = "groups: no ally can reach an enemy that it can hurt: see walls"
    refused(fight({"ZEALOT": 2}, {"ZERGLING": 2}, [ACROSS]), message)
    load_scenario(fight({"ZEALOT": 2}, {"ZERGLING": 2}, [[6, 0, 9, 9]]))


def test_units_that_shoot_or_fly_over_the_wall_may_fight():
    load_scenario(fight({"MARINE": 2}, {"ZERGLING": 2}, [ACROSS]))
    flyer = {"like": "ZEALOT", "plane": "AIR"}
    load_scenario(fight({"OWN": 2}, {"ZERGLING": 2}, [ACROSS], OWN=flyer))


def test_immobile_units_out_of_each_others_range_are_refused():
    scenario = fight({"SPINE_CRAWLER": 1}, {"OWN": 1}, OWN={"like": "MARINE", "speed": 0})
    refused(scenario, "groups: no ally can reach an enemy that it can hurt: see walls, speed")
    load_scenario(fight({"SPINE_CRAWLER": 1}, {"MARINE": 1}))


def test_an_explosion_must_reach_its_target():
    own = {"like": "BANELING", "splash_radius": 0.5}
    refused(
        fight({"OWN": 2}, {"MARINE": 2}, OWN=own),
        "units.OWN.splash_radius: expected a number from 0.625 to 10000, got 0.5",
    )


@pytest.mark.parametrize("map_name", map_names())
def test_units_of_the_packages_maps_start_on_free_ground(map_name):
    scenario = load_map(map_name)
    for group in scenario.groups:
        for kind, x, y in scenario.members_of(group):
            assert kind.plane == "AIR" or not scenario.blocked[int(y), int(x)]


# Any scenario

SPECIAL = [NAN, INF, -1, 0, 1e-300, 0.01, 1e4, 1e300, True, None, "1"]


def mostly(usual):
    """`usual`, and sometimes a value that may be wrong."""
    return st.integers(0, 199).flatmap(lambda n: usual if n else st.sampled_from(SPECIAL))


def quantity(high: float):
    return mostly(st.floats(0, high) | st.integers(1, math.ceil(high)) | st.just(high))


STATISTIC = {name: quantity(50) for name in STATISTICS}
STATISTIC |= {"attacks": mostly(st.integers(1, 5)), "radius": quantity(2), "speed": quantity(10000)}


def chosen(draw, options: dict) -> dict:
    """Some of the fields."""
    names = draw(st.lists(st.sampled_from(list(options)), unique=True, max_size=5))
    return {name: draw(options[name]) for name in names}


@st.composite
def scenarios(draw) -> dict:
    size = draw(st.tuples(st.integers(6, 14), st.integers(6, 14)))
    place = st.tuples(*(mostly(st.floats(1, length - 1)) for length in size)).map(list)
    corner = st.tuples(*(st.integers(0, length - 1) for length in size))
    walls = []
    for x, y in draw(st.lists(corner, max_size=3)):
        width, height = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        walls.append([x, y, min(x + width, size[0]), min(y + height, size[1])])
    own = chosen(draw, STATISTIC) | chosen(
        draw,
        {
            "attack": st.sampled_from(["standard", "kamikaze", "laser", "heal"]),
            "plane": st.sampled_from(["GROUND", "AIR"]),
            "targets": st.sampled_from([[], ["GROUND"], ["AIR"], ["GROUND", "AIR"]]),
            "beam": st.tuples(quantity(5), quantity(5)).map(list),
            "bonus": st.dictionaries(st.sampled_from(["LIGHT", "ARMORED"]), quantity(20)),
        },
    )
    kinds = ["OWN", "OWN", "MARINE", "MEDIVAC", "COLOSSUS", "BANELING", "STALKER"]
    like = draw(st.sampled_from(kinds[2:]))
    units = st.dictionaries(
        st.sampled_from(kinds), mostly(st.integers(1, 3)), min_size=1, max_size=2
    )
    sides = ["ally", "enemy", *draw(st.lists(st.sampled_from(["ally", "enemy"]), max_size=2))]
    groups = [{"side": side, "at": draw(place), "units": draw(units)} for side in sides]
    weight = mostly(st.floats(0.001, 1))
    weights = st.dictionaries(st.sampled_from(kinds), weight, min_size=1, max_size=3)
    places = st.dictionaries(st.sampled_from(["reflected", "surrounded"]), weight, min_size=1)
    few = mostly(st.integers(1, 3))
    for group in groups[2:]:
        if draw(st.booleans()):
            group |= {"number": draw(few), "units": draw(weights)}
    if draw(st.booleans()):
        group = {"side": "both", "number": [draw(few), draw(few)], "units": draw(weights)}
        groups.append(group | {"places": draw(places)})
    return {
        "size": list(size),
        "walls": walls,
        "attack_point": draw(place),
        "groups": draw(st.permutations(groups)),
        "units": {"OWN": {"like": like, **own}},
    }


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(scenarios(), st.sampled_from(["upstream", "published"]), st.booleans())
def test_every_accepted_scenario_can_be_played(scenario, walls, agent_ids):
    try:
        env = BattleEnv(map_file=scenario, walls=walls, agent_ids=agent_ids)
    except ScenarioError as error:
        assert "\n" not in str(error)
        return
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(20):
        assert env.observation_space.contains(observation)
        assert all(np.isfinite(array).all() for array in observation.values())
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert math.isfinite(reward)
        if terminated or truncated:
            observation, _ = env.reset()


# Files

BRIDGE = """
size = [24, 20]
walls = [[10, 0, 14, 8], [10, 12, 14, 20]]
attack_point = [4, 10]
groups = [
  { side = "ally", at = [5, 10], units = { MARINE = 4, GUARD = 1 } },
  { side = "enemy", at = [19, 10], units = { ZERGLING = 10 } },
]

[units.GUARD]  # tapfer und schön
like = "MARAUDER"
speed = 2.5
"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            BRIDGE.replace("speed =", "sped ="),
            "bridge.toml: units.GUARD.sped: unknown field; did you mean speed",
        ),
        (
            BRIDGE.replace("ZERGLING", "ZERGLINGS"),
            "bridge.toml: .*ZERGLINGS: unknown unit; did you mean ZERGLING",
        ),
        (
            BRIDGE.replace("[units.GUARD]", "[units.GUARD"),
            "bridge.toml is not a TOML file: .*line 10",
        ),
        (BRIDGE.replace("2.5", "1" * 5000), "bridge.toml is not a TOML file"),
        (BRIDGE + "armor = " + "[" * 9999, "bridge.toml is not a TOML file"),
        (
            BRIDGE.replace("2.5", "nan"),
            "bridge.toml: units.GUARD.speed: expected a number .* got nan",
        ),
        ("", "bridge.toml: groups: missing"),
        (b"\xff\xfe", "bridge.toml is not a TOML file"),
    ],
    ids=["field", "unit", "bracket", "digits", "depth", "nan", "empty", "bytes"],
)
def test_a_malformed_file_is_refused_with_its_name(tmp_path, content, message):
    path = tmp_path / "bridge.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ScenarioError, match=message) as error:
        load_scenario(path)
    assert "\n" not in str(error.value)


def test_a_file_may_hold_any_letters(tmp_path):
    path = tmp_path / "bridge.toml"
    path.write_bytes(BRIDGE.encode())
    assert load_scenario(path).kinds["GUARD"].speed == 2.5


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ScenarioError, match=r"cannot read the map file .*none\.toml: No such file"):
        load_scenario(tmp_path / "none.toml")
