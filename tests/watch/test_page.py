"""The page in a browser: its numbers, its keys, its address."""

import re

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cleanmarl.watch.episodes import play
from cleanmarl.watch.explain import explain
from cleanmarl.watch.trained import load
from tests.watch.browser import array, number, press, resize, state, text, wait, width
from tests.watch.runs import RUNS


@pytest.mark.parametrize("name", RUNS)
def test_a_page_opens_without_an_error_and_uses_no_network(opened, name):
    browser = opened(name)
    assert [entry for entry in browser.get_log("browser")] == []
    requests = "return performance.getEntriesByType('resource').map((one) => one.name)"
    asked = [
        one for one in browser.execute_script(requests) if not one.startswith(("blob:", "data:"))
    ]
    assert asked == []


@pytest.mark.parametrize("name", ["battle", "shields", "foraging"])
def test_the_numbers_of_the_page_are_those_of_pytorch(opened, runs, name):
    browser = opened(name)
    number = browser.execute_script("return watch.episodes.at(-1).number")
    run = load(runs(name), "last", 3)
    episode = play(run)[0][number].arrays()
    found = explain(run, episode)
    for key in ("q", "q_tot", "slope", "what_if", "returns"):
        np.testing.assert_allclose(array(browser, key), found[key], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(array(browser, "obs"), episode["obs"], rtol=1e-3)
    assert np.array_equal(array(browser, "chosen"), episode["actions"])


def test_what_if_is_shown_for_each_action_of_the_chosen_agent(opened):
    browser = opened("battle", "#t=3&agent=1")
    rows = browser.find_elements(By.CSS_SELECTOR, "#actions tbody tr")
    what_if = array(browser, "what_if")[3, 1]
    q = array(browser, "q")[3, 1]
    available = array(browser, "avail")[3, 1]
    chosen = array(browser, "chosen")[3, 1]
    for j, row in enumerate(rows):
        cells = row.find_elements(By.CSS_SELECTOR, ".number")
        value, total, change = [cell.get_attribute("textContent") for cell in cells]
        if available[j]:
            assert number(value) == pytest.approx(q[j], abs=0.006)
            assert number(total) == pytest.approx(what_if[j], abs=0.006)
        else:
            assert total == "not available"
        assert (change == "chosen") == (j == chosen)


def test_it_plays_to_the_end_and_stops(opened):
    browser = opened("foraging")
    browser.execute_script("document.getElementById('speed').value = 20")
    browser.find_element(By.ID, "play").click()
    assert browser.find_element(By.ID, "play").get_attribute("aria-label") == "Pause"
    wait(browser, "watch.state.t > 2")
    wait(browser, "!watch.state.playing")
    assert state(browser)["t"] == array(browser, "q_tot").shape[0]
    assert "end, after" in text(browser, "now")


def test_space_plays_and_pauses(opened):
    browser = opened("battle")
    press(browser, " ")
    assert state(browser)["playing"]
    press(browser, " ")
    assert not state(browser)["playing"]


def test_keys_choose_the_step_the_agent_and_the_episode(opened):
    browser = opened("battle")
    steps = array(browser, "q_tot").shape[0]
    press(browser, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, "n")
    assert (state(browser)["t"], state(browser)["agent"]) == (1, 1)
    press(browser, "p", "p", "e")
    assert (state(browser)["t"], state(browser)["agent"]) == (steps, 2)
    press(browser, "b", Keys.SHIFT + Keys.ARROW_RIGHT)
    assert state(browser)["t"] == min(10, steps)


def test_brackets_change_the_episode(opened):
    browser = opened("foraging")
    count = browser.execute_script("return watch.episodes.length")
    assert count > 1
    press(browser, "[")
    wait(browser, f"watch.state.episode === {count - 2}")
    press(browser, "]")
    wait(browser, f"watch.state.episode === {count - 1}")


def test_everything_that_can_be_pressed_is_reached_by_the_tab_key(opened):
    browser = opened("battle")
    every = browser.find_elements(By.CSS_SELECTOR, "button, select, input, summary")
    wanted = {one.id for one in every if one.is_enabled() and one.is_displayed()}
    reached = set()
    for _ in range(len(every) + 12):  # tables that scroll are reached, too
        press(browser, Keys.TAB)
        reached.add(browser.switch_to.active_element.id)
    assert wanted <= reached


def test_the_address_contains_the_moment_and_leads_to_it(opened):
    browser = opened("foraging", "#episode=worst&t=4&agent=1")
    found = state(browser)
    assert (found["episode"], found["t"], found["agent"]) == (0, 4, 1)
    press(browser, Keys.ARROW_RIGHT)
    assert browser.current_url.endswith("#episode=worst&t=5&agent=1")
    browser.execute_script("location.hash = '#episode=best&t=2&agent=0'")
    wait(browser, "watch.state.t === 2")
    assert state(browser)["agent"] == 0


def test_an_address_out_of_range_leads_to_the_nearest_moment(opened):
    browser = opened("battle", "#episode=none&t=999&agent=-4")
    found = state(browser)
    assert (found["t"], found["agent"]) == (array(browser, "q_tot").shape[0], 0)


def test_the_slider_and_the_charts_go_to_a_step(opened):
    browser = opened("battle")
    steps = array(browser, "q_tot").shape[0]
    slider = browser.find_element(By.ID, "time")
    slider.send_keys(Keys.END)
    assert state(browser)["t"] == steps
    chart = browser.find_element(By.CSS_SELECTOR, "#value-chart svg")
    webdriver.ActionChains(browser).move_to_element(chart).click().perform()
    assert 0.3 * steps < state(browser)["t"] < 0.7 * steps


CLICK_EVERYWHERE = """
const scene = document.getElementById("scene");
const box = scene.getBoundingClientRect();
const chosen = new Set();
for (let x = 0; x < box.width; x += 20) {
  for (let y = 0; y < box.height; y += 20) {
    const place = { clientX: box.left + x, clientY: box.top + y };
    scene.dispatchEvent(new MouseEvent("click", place));
    chosen.add(watch.state.agent);
  }
}
return [...chosen].sort();
"""


def test_an_agent_is_chosen_in_the_table_and_in_the_scene(opened):
    browser = opened("battle")
    browser.find_elements(By.CSS_SELECTOR, "#agents button")[2].click()
    assert state(browser)["agent"] == 2
    assert text(browser, "sees-title") == "What agent 2 sees"
    found = browser.execute_script(CLICK_EVERYWHERE)
    assert found == [0, 1, 2]


@pytest.mark.parametrize("name", ["battle", "shields", "foraging"])
def test_the_scene_is_drawn_and_changes_with_the_step(opened, name):
    browser = opened(name, "#t=0")
    drawn = "return document.getElementById('scene').toDataURL()"
    first = browser.execute_script(drawn)
    press(browser, "e")
    assert len(first) > 2000
    assert browser.execute_script(drawn) != first


def test_the_scene_is_described_in_words(opened):
    browser = opened("shields", "#t=0")
    said = browser.find_element(By.ID, "scene").get_attribute("aria-label")
    assert "ally stalker 0: health 80 of 80, shield 80" in said
    assert said.count("enemy") >= 5


def test_entries_of_an_observation_have_names(opened):
    browser = opened("battle", "#t=0&agent=0")
    said = text(browser, "observation")
    assert "distance" in said and "enemy 2" in said and "itself" in said


def test_entries_of_the_users_observations_have_the_users_names(opened):
    lines = text(opened("own", "#t=3&agent=1"), "observation").splitlines()
    assert lines[:3] == ["part 0 1.00", "part 1 1.00", "part 2 1.00"]
    assert any(line.startswith("number") for line in lines[3:])


def test_the_page_of_vdn_says_why_all_weights_are_1(opened):
    browser = opened("sum")
    assert "weight is 1" in text(browser, "who-hint")
    assert "adds the agents" in text(browser, "mixer-hint")
    assert not browser.find_element(By.ID, "weights").is_displayed()


def test_a_page_without_a_scene_says_so_and_shows_the_rest(opened):
    browser = opened("no scene", "#t=0")
    assert "No scene" in text(browser, "missing")
    assert not browser.find_element(By.ID, "scene").is_displayed()
    assert "action 0" in text(browser, "actions")


def test_the_page_shows_the_run(opened):
    browser = opened("foraging")
    said = text(browser, "run")
    assert "3 greedy episodes" in said
    steps = browser.execute_script("return watch.args.total_timesteps[0]")
    assert re.search(rf"total_timesteps\s{steps}", said)


@pytest.mark.parametrize("name", ["battle", "shields", "foraging"])
@pytest.mark.parametrize(("pixels", "height"), [(1280, 800), (390, 844)])
def test_the_page_is_as_wide_as_the_screen(opened, name, pixels, height):
    browser = opened(name)
    resize(browser, pixels, height)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    width(browser, 1280, 800)
    assert wide <= pixels


def test_the_page_is_dark_if_the_reader_prefers_dark(opened):
    browser = opened("battle")
    shades = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        script = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g)"
        shades.append(sum(map(int, browser.execute_script(script))))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert shades[0] > 600 and shades[1] < 150
