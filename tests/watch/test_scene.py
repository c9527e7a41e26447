"""The scene: what is drawn, and where."""

import re

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cleanmarl.errors import Refused
from cleanmarl.watch.episodes import play
from cleanmarl.watch.field import finder, recorded
from cleanmarl.watch.page import page
from cleanmarl.watch.scene import film, reason
from cleanmarl.watch.trained import load
from tests.watch.browser import array, number, press, resize, state, text, wait, width

LABELS = """
const { t, agent } = watch.state;
return watch.stage.scenes.map((scene) => {
  const { width, height } = scene.shown;
  const labels = scene.labels(scene.shown, t, agent);
  return [width, height, labels.map(({ item, x, y, wide, tall }) =>
    [item.agent ?? -1, item.number, x - wide / 2, x + wide / 2, y - tall / 2, y + tall / 2])];
})[0];
"""


def labels(browser) -> list[list[float]]:
    """The labels of the scene: agent (-1: none), number, left, right, top, bottom."""
    wide, tall, found = browser.execute_script(LABELS)
    for _, _, left, right, top, bottom in found:
        assert 0 <= left < right <= wide and 0 <= top < bottom <= tall
    return found


@pytest.mark.parametrize("name", ["team:corridor", "team:MMM", "foraging", "spread"])
@pytest.mark.parametrize(("pixels", "height"), [(1280, 900), (390, 844)])
def test_no_agents_number_is_hidden_in_a_crowd(opened, name, pixels, height):
    browser = opened(name, "#episode=best&t=0")
    resize(browser, pixels, height)
    try:
        for t in range(0, len(array(browser, "q_tot")), 3):
            browser.execute_script(f"location.hash = '#episode=best&t={t}&agent=0'")
            wait(browser, f"watch.state.t === {t}")
            found = labels(browser)
            alive = "return watch.stage.scenes[0].units?.flatMap((unit, u) =>"
            alive += f"unit.ally && watch.stage.scenes[0].alive({t}, u) ? [unit.index] : [])"
            wanted = browser.execute_script(alive)
            if wanted is None:
                wanted = range(array(browser, "chosen").shape[1])
            assert sorted(one[0] for one in found if one[0] >= 0) == list(wanted)
            for i, one in enumerate(found):
                for other in found[:i]:
                    apart = one[2] > other[3] or other[2] > one[3]
                    assert apart or one[4] > other[5] or other[4] > one[5]
    finally:
        width(browser, 1280, 800)


def test_ten_agents_have_ten_colours_none_near_the_enemys(opened):
    browser = opened("team:MMM", "#t=0")
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        script = """
            const style = getComputedStyle(document.documentElement);
            const names = ["enemy", ...Array.from({ length: 10 }, (_, i) => `agent-${i}`)];
            return names.map((name) => style.getPropertyValue(`--${name}`).trim());
        """
        places = [oklab(colour) for colour in browser.execute_script(script)]
        for i, one in enumerate(places):
            for k, other in enumerate(places[:i]):
                assert np.linalg.norm(one - other) > (0.14 if k == 0 else 0.08)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chips = (
        "return [...document.querySelectorAll('#agents .chip')].map((one) => one.style.background)"
    )
    assert browser.execute_script(chips) == [f"var(--agent-{i})" for i in range(10)]


def oklab(colour: str) -> np.ndarray:
    """A colour #rrggbb in the space of Ottosson (2020), in which distances are perceived alike."""
    rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = np.array(
        [[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]
    )
    lab = np.array(
        [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    )
    return lab @ np.cbrt(lms @ rgb)


MIDDLE = """
const scene = watch.stage.scenes[0];
const u = scene.numberOf(true, watch.state.agent);
const [x, y] = scene.place(scene.shown, watch.state.t, u);
return [x - scene.shown.width / 2, y - scene.shown.height / 2];
"""

WHEEL = """
const scene = document.getElementById("scene");
scene.dispatchEvent(new WheelEvent("wheel", { deltaY: arguments[0], cancelable: true }));
return watch.stage.lens.zoom;
"""

PINCH = """
const scene = document.getElementById("scene");
const touch = (kind, pointerId, clientX) =>
  scene.dispatchEvent(new PointerEvent(kind, { pointerId, clientX, clientY: 100 }));
touch("pointerdown", 1, 100);
touch("pointerdown", 2, 150);
touch("pointermove", 2, 250);
touch("pointerup", 1, 100);
touch("pointerup", 2, 250);
return watch.stage.lens.zoom;
"""


def test_the_wheel_zooms_and_the_chosen_agent_is_followed(opened):
    browser = opened("battle", "#t=0&agent=1")
    assert browser.execute_script(WHEEL, 100) == 1  # all is shown: the page scrolls
    assert browser.execute_script(WHEEL, -400) > 2
    for _ in range(4):
        assert browser.execute_script(MIDDLE) == pytest.approx([0, 0], abs=1)
        press(browser, Keys.ARROW_RIGHT)
    press(browser, "n")
    assert browser.execute_script(MIDDLE) == pytest.approx([0, 0], abs=1)
    browser.find_element(By.CSS_SELECTOR, ".lens button:last-child").click()
    assert browser.execute_script("return watch.stage.lens.zoom") == 1


def test_two_fingers_zoom(opened):
    browser = opened("foraging", "#t=0")
    assert browser.execute_script(PINCH) == pytest.approx(3)


def test_an_enemy_that_is_clicked_is_followed(opened):
    browser = opened("battle", "#t=0&agent=1")
    script = """
        const scene = watch.stage.scenes[0];
        const u = scene.units.findIndex((unit) => !unit.ally);
        const [x, y] = scene.place(scene.shown, 0, u);
        const box = scene.canvas.getBoundingClientRect();
        const place = { clientX: box.left + x, clientY: box.top + y };
        scene.canvas.dispatchEvent(new MouseEvent("click", place));
        return [u, scene.followed];
    """
    enemy, followed = browser.execute_script(script)
    assert enemy == followed and state(browser)["agent"] == 1


@pytest.mark.parametrize("name", ["foraging", "spread"])
def test_things_are_drawn_where_the_environment_says(runs, name):
    run = load(runs(name), "last", 1)
    episode = play(run)[0][0]
    scene = film(run, episode)
    env = run.script.open_env(run.args)
    env.reset(seed=episode.seed)
    task = env.unwrapped._env.unwrapped
    for t, actions in enumerate([None, *episode.actions]):
        if actions is not None:
            env.step(actions)
        for place, thing in enumerate(scene["things"]):
            x, y = (scene["moving"][part][t, place] for part in "xy")
            if name == "spread":
                entities = getattr(task.world, f"{thing['kind']}s")
                assert (x, y) == pytest.approx(entities[thing["number"]].state.p_pos, abs=1e-6)
            elif thing["kind"] == "agent":
                player = task.players[thing["number"]]
                rows = task.field.shape[0]
                assert (rows - y - 0.5, x - 0.5) == player.position
                assert scene["moving"]["level"][t, place] == player.level
            elif scene["moving"]["there"][t, place]:
                rows = task.field.shape[0]
                assert task.field[int(rows - y), int(x)] == scene["moving"]["level"][t, place]
    env.close()


class Warehouse:
    """What RWARE has: places of agents, shelves and goals."""

    class Agent:
        def __init__(self, x, y, turn):
            self.x, self.y, self.dir = x, y, type("Direction", (), {"name": turn})

    def __init__(self):
        self.unwrapped = self
        self.grid_size, self.sensor_range = (4, 6), 1
        self.agents = [self.Agent(0, 3, "UP"), self.Agent(5, 0, "LEFT")]
        self.shelfs = [self.Agent(2, 1, "UP")]
        self.request_queue, self.goals = list(self.shelfs), [(3, 3)]


def test_a_warehouse_is_drawn_without_a_display():
    found = finder(type("Team", (), {"unwrapped": type("Inner", (), {"_env": Warehouse()})}))()
    scene = recorded([found])
    assert scene["field"] == {"box": [0, 0, 6, 4], "grid": True, "sight": 1}
    kinds = [thing["kind"] for thing in scene["things"]]
    assert kinds == ["goal", "shelf", "agent", "agent"]
    assert scene["moving"]["x"][0].tolist() == [3.5, 2.5, 0.5, 5.5]
    assert scene["moving"]["y"][0].tolist() == [0.5, 2.5, 0.5, 3.5]
    assert scene["moving"]["turn"][0].tolist() == [0, 0, 1, 4]


def test_the_users_grid_world_is_drawn_from_its_positions():
    agent = {"kind": "agent", "number": 0, "row": 0, "column": 2}
    things = [agent, {"kind": "door", "number": 1, "row": 4, "column": 0}]
    positions = {"size": (5, 3), "sight": 2, "things": things}
    own = type("Team", (), {"positions": staticmethod(lambda: positions)})
    scene = recorded([finder(type("Env", (), {"unwrapped": own}))()])
    assert scene["field"] == {"box": [0, 0, 3, 5], "grid": True, "sight": 2}
    assert scene["things"] == [{"kind": "agent", "number": 0}, {"kind": "door", "number": 1}]
    assert scene["moving"]["y"][0].tolist() == [4.5, 0.5]


@pytest.mark.parametrize("thing", [{"row": 0}, {"kind": "agent", "number": "a"}, 3])
def test_positions_that_cannot_be_read_are_refused(thing):
    own = type("Team", (), {"positions": staticmethod(lambda: {"size": (5, 3), "things": [thing]})})
    says = r"positions\(\) must return .* got the thing " + re.escape(repr(thing))
    with pytest.raises(Refused, match=says):
        finder(type("Env", (), {"unwrapped": own}))()


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        (lambda: [1, 2], "returns [1, 2], not "),
        (lambda: {"shape": (5, 3), "things": []}, "not "),
        (lambda: [][1], "fails: IndexError"),
    ],
)
def test_a_method_of_the_same_name_is_not_used_and_a_line_says_so(capsys, positions, says):
    own = type("Team", (), {"positions": staticmethod(positions)})
    for _ in range(2):
        assert finder(type("Env", (), {"unwrapped": own})) is None
    said = capsys.readouterr().err
    assert said.count("positions() of the environment") == 1
    assert says in said


def test_without_a_display_one_sentence_says_how_to_get_one():
    for error in (Exception('Cannot connect to "None"; no display'), ImportError("libGL missing")):
        assert reason(error).startswith("it needs a display; ") and "xvfb-run" in reason(error)
    assert reason(ValueError("no wheels\nhere")) == "no wheels here"


def test_another_environment_has_its_frames_and_a_legend(browser, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("cleanmarl.watch.scene.finder", lambda env: None)
    frames = np.random.default_rng(1).integers(0, 255, (99, 40, 60, 3), np.uint8)
    monkeypatch.setattr("cleanmarl.env.lbf.LevelBasedForaging.render", lambda env: frames[0])
    file = tmp_path / "page.html"
    file.write_text(page(load(runs("foraging"), "last", 1)))
    browser.get(file.as_uri())
    wait(browser, "document.body.dataset.ready")
    said = text(browser, "legend")
    assert "does not say which figure is which agent" in said
    assert "Agents: agent 0, agent 1" in said and "Actions: none, north" in said
    assert browser.find_element(By.ID, "scene").is_displayed()


def test_the_last_moment_shows_the_end_and_the_last_decision(opened):
    browser = opened("battle", "#t=999&agent=1")
    steps = len(array(browser, "q_tot"))
    end = browser.find_element(By.CLASS_NAME, "end").text
    assert re.fullmatch(r"(Won|Lost): \d of 3 agents and \d of 3 enemies left", end)
    assert f"The last decision, at step {steps - 1}" in text(browser, "agent-hint")
    agents = browser.find_elements(By.CSS_SELECTOR, "#agents tbody tr")
    names = browser.execute_script("return watch.episodes.at(-1).actions")
    for i, row in enumerate(agents):
        action = names[i][int(array(browser, "chosen")[-1, i])]
        assert row.find_element(By.CLASS_NAME, "does").text == action
        weight = row.find_element(By.CSS_SELECTOR, ".weighs .number").text
        assert number(weight) == pytest.approx(array(browser, "slope")[-1, i], abs=0.006)
    press(browser, Keys.ARROW_LEFT)
    assert browser.find_element(By.CLASS_NAME, "end").text == ""
