"""Pictures of battles: their size, their content, and when there are any."""

import gymnasium as gym
import numpy as np
import pytest

from cleanmarl.battle.env import BattleEnv
from cleanmarl.battle.render import ALLY, ENEMY, HEALING, SHIELD, draw
from cleanmarl.battle.scenario import load_map, load_scenario, map_names
from cleanmarl.battle.world import build


def units_of(scenario):
    return build(scenario, walls="upstream", time_limit=1, agent_ids=False)[1].units


def shows(frame, colour):
    return (frame == np.array(colour, np.uint8)).all(-1).any()


def test_frames_of_an_episode_are_rgb_pictures_of_one_size():
    env = BattleEnv("3m", render_mode="rgb_array", time_limit=20)
    rng = np.random.default_rng(0)
    seen, _ = env.reset(seed=0)
    frames, over = [env.render()], False
    while not over:
        actions = [rng.choice(np.flatnonzero(available)) for available in seen["avail_actions"]]
        seen, _, terminated, truncated, _ = env.step(np.array(actions))
        frames.append(env.render())
        over = terminated or truncated
    assert {frame.shape for frame in frames} == {frames[0].shape}
    assert frames[0].ndim == 3 and frames[0].shape[2] == 3 and frames[0].dtype == np.uint8


@pytest.mark.parametrize("name", map_names())
def test_every_map_is_drawn_with_both_sides_on_it(name):
    scenario = load_map(name)
    frame = draw(scenario, units_of(scenario), 0)
    height, width, _ = frame.shape
    assert 400 <= width <= 640 and 300 <= height <= 600
    assert shows(frame, ALLY) and shows(frame, ENEMY)


def test_the_picture_changes_only_when_a_unit_moves():
    scenario = load_map("3m")
    units = units_of(scenario)
    before = draw(scenario, units, 0)
    assert (draw(scenario, units, 0) == before).all()
    units["x"][0] += 0.5
    assert (draw(scenario, units, 0) != before).any()


def test_north_is_up():
    scenario = load_map("3m")
    units = units_of(scenario)
    units["alive"] = ~units["is_ally"]
    units["alive"][0] = True

    def row(y):
        units["y"][0] = y
        frame = draw(scenario, units, 0)[40:]  # below the caption
        return np.argwhere((frame == ALLY).all(-1))[:, 0].mean()

    assert row(20) < row(12)


@pytest.mark.parametrize("side, colour", [(True, ALLY), (False, ENEMY)])
def test_the_colour_of_a_side_vanishes_with_its_last_unit(side, colour):
    scenario = load_map("2s3z")
    units = units_of(scenario)
    units["alive"][units["is_ally"] == side] = False
    frame = draw(scenario, units, 0)
    assert not shows(frame, colour)
    assert shows(frame, ENEMY if side else ALLY)


def test_health_and_shields_are_shown():
    scenario = load_map("2s3z")
    units = units_of(scenario)
    full = draw(scenario, units, 0)
    units["shield"] = 0
    bare = draw(scenario, units, 0)
    units["hp"] /= 2
    assert shows(full, SHIELD) and not shows(bare, SHIELD)
    assert (draw(scenario, units, 0) != bare).any()


def test_a_line_leads_to_the_target_in_reach_and_healing_has_its_own_colour():
    scenario = load_map("MMM")
    units = units_of(scenario)
    medic, patient = 0, 1
    units["x"][medic], units["y"][medic] = 12, 12
    units["x"][patient], units["y"][patient] = 16, 12
    units["target"][medic] = patient

    def greenness():
        red, green, blue = draw(scenario, units, 0).astype(int).reshape(-1, 3).T
        return (green - np.maximum(red, blue)).max()

    assert greenness() > (HEALING[1] - max(HEALING[0], HEALING[2])) / 2
    units["x"][patient] = 25
    assert greenness() <= 5


def test_your_own_kinds_and_maps_of_any_size_are_drawn():
    unit = {"hp": 1, "attack": "standard", "cooldown": 1, "range": 1, "speed": 1, "radius": 0.1}
    unit["damage"] = 1
    for size in ([2, 1], [256, 40], [40, 256]):
        group = {"at": [0.5, 0.5], "units": {"my_own": 1}}
        groups = [{"side": side, **group} for side in ("ally", "enemy")]
        table = {"size": size, "attack_point": [0, 0], "groups": groups, "units": {"my_own": unit}}
        scenario = load_scenario(table)
        height, width, _ = draw(scenario, units_of(scenario), 0).shape
        assert width <= 640 and height <= 600


def test_ground_out_of_reach_is_cropped():
    def shape(walls):
        group = {"at": [2, 2], "units": {"MARINE": 1}}
        groups = [{"side": side, **group} for side in ("ally", "enemy")]
        table = {"size": [20, 9], "walls": walls, "attack_point": [0, 0], "groups": groups}
        scenario = load_scenario(table)
        return draw(scenario, units_of(scenario), 0).shape

    assert shape([[9, 0, 10, 9]]) == shape([[9, 0, 20, 9]]) != shape([])


def test_without_a_render_mode_there_is_no_picture():
    env = BattleEnv("3m")
    env.reset(seed=0)
    assert env.render() is None


def test_an_unknown_render_mode_is_an_error():
    with pytest.raises(gym.error.UnsupportedMode, match="human"):
        BattleEnv("3m", render_mode="human")


def test_drawing_does_not_change_the_battle():
    env = BattleEnv("MMM")
    before = env.units.copy()
    draw(env.scenario, env.units[0], 0)
    assert (env.units == before).all()
