"""The first minute on a page: its tour, names and numbers."""

import re

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cleanmarl.training.results import means
from tests.helpers import ROOT
from tests.watch.browser import (
    array,
    number,
    press,
    resize,
    state,
    text,
    wait,
    width,
    without_storage,
)


def test_a_tour_of_three_steps_is_shown_once_and_comes_back(opened):
    browser = opened("battle")
    without_storage(browser, "localStorage.clear()", browser.current_url)
    tour = browser.find_element(By.ID, "tour")
    titles = set()
    for step in (1, 2, 3):
        assert text(browser, "tour-place") == f"{step} of 3"
        assert len(browser.find_elements(By.CLASS_NAME, "pointed")) == 1
        titles.add(text(browser, "tour-title"))
        browser.find_element(By.ID, "tour-next").click()
    assert len(titles) == 3 and not tour.is_displayed()
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
    assert not browser.find_element(By.ID, "tour").is_displayed()
    browser.find_element(By.ID, "help").click()
    assert text(browser, "tour-place") == "1 of 3"
    press(browser, Keys.ESCAPE)
    assert not browser.find_element(By.ID, "tour").is_displayed()
    assert browser.switch_to.active_element.get_attribute("id") == "help"


def test_a_browser_that_stores_nothing_shows_the_tour_and_the_page(opened):
    browser = opened("battle")
    forbid = "Object.defineProperty(window, 'localStorage', { get() { throw Error('no') } })"
    without_storage(browser, forbid, browser.current_url)
    assert browser.get_log("browser") == []
    assert text(browser, "tour-place") == "1 of 3"
    browser.find_element(By.ID, "tour-close").click()
    press(browser, Keys.ARROW_RIGHT)
    assert state(browser)["t"] == 1


@pytest.mark.parametrize("name", ["battle", "foraging", "sum"])
def test_all_axes_and_columns_have_names(opened, name):
    browser = opened(name, "#t=1")
    for chart, value in (("value", "Q_tot and discounted return"), ("who", "weight")):
        said = text(browser, f"{chart}-chart")
        assert "step of the episode" in said and value in said
    assert "reward" in text(browser, "lanes") and "step" in text(browser, "lanes")
    for table in ("agents", "actions"):
        heads = browser.find_elements(By.CSS_SELECTOR, f"#{table} thead th")
        assert all(head.text.strip() for head in heads)
    assert "Weight:" in text(browser, "team-hint")


@pytest.mark.parametrize("name", ["battle", "shields"])
def test_printed_numbers_agree_with_each_other(opened, name):
    browser = opened(name, "#t=0")
    verdict = r"Q_tot (.+), the discounted return that followed (\S+): .+ by (\S+)\."
    for _ in range(len(array(browser, "q_tot"))):
        found = re.search(verdict, text(browser, "value-now"))
        if found:
            q_tot, came, gap = map(number, found.groups())
            assert abs(q_tot - came) == pytest.approx(gap, abs=1e-9)
        total = number(browser.find_element(By.CSS_SELECTOR, ".taken td:nth-child(4)").text)
        for row in browser.find_elements(By.CSS_SELECTOR, "#actions .may"):
            then, change = (row.find_element(By.CSS_SELECTOR, f"td:nth-child({k})") for k in (4, 5))
            assert number(then.text) - total == pytest.approx(number(change.text), abs=1e-9)
        press(browser, Keys.ARROW_RIGHT)


def test_episodes_that_are_alike_have_no_interval(opened):
    browser = opened("no scene")
    assert "all alike" in text(browser, "about")
    assert "95% interval" not in text(browser, "run")
    assert "count as one" in text(browser, "run")


def test_episodes_that_differ_have_an_interval(browser):
    browser.get((ROOT / "docs/_static/watch/MMM.html").as_uri())  # rewards of its episodes differ
    wait(browser, "document.body.dataset.ready")
    assert "95% interval" in text(browser, "run")


def test_means_of_episodes_that_are_alike_have_no_interval():
    one = {"ep_reward": 2.0, "ep_length": 3, "battle_won": True}
    assert means([one] * 32)["battle_won"] == {"mean": 1.0}
    assert means([one, one | {"ep_length": 4}])["battle_won"].keys() == {"mean", "low", "high"}


EDGES = """
const edge = (name) => document.querySelector(name).getBoundingClientRect();
const place = document.querySelector("#team .scroll");
return [edge("#agents thead th:last-child").right, place.getBoundingClientRect().right,
        edge("#agents tbody .weighs").right, place.scrollWidth - place.clientWidth];
"""


@pytest.mark.parametrize("name", ["team:MMM", "team:corridor", "battle and sum"])
@pytest.mark.parametrize("pixels", [1280, 1100, 900])
def test_the_column_of_the_weights_is_whole(opened, name, pixels):
    browser = opened(name, "#t=8")
    width(browser, pixels, 800)
    head, place, cell, hidden = browser.execute_script(EDGES)
    width(browser, 1280, 800)
    assert head <= place + 1 and cell <= place + 1 and hidden <= 0


def test_a_wide_table_shows_that_it_scrolls(opened):
    browser = opened("team:MMM")
    more = "return document.querySelector('#run .scroll').dataset.more"
    assert browser.execute_script(more) == "right"
    script = "const place = document.querySelector('#run .scroll'); place.scrollLeft = 1e4"
    browser.execute_script(script)
    wait(browser, "document.querySelector('#run .scroll').dataset.more === 'left'")
    browser.execute_script("document.querySelector('#run .scroll').scrollLeft = 40")
    wait(browser, "document.querySelector('#run .scroll').dataset.more === 'left right'")
    assert browser.execute_script(more.replace("#run", "#team")) == "none"


@pytest.mark.parametrize("name", ["team:MMM", "foraging", "battle and sum"])
@pytest.mark.parametrize(("pixels", "height"), [(1280, 900), (900, 900), (390, 844)])
def test_the_scene_stays_in_view_while_the_panels_scroll(opened, name, pixels, height):
    browser = opened(name)
    resize(browser, pixels, height)
    browser.execute_script("scrollTo(0, document.querySelector('footer').offsetTop - innerHeight)")
    scenes = "return [...document.querySelectorAll('.scene')].map((one) => one.clientHeight)"
    sizes = browser.execute_script(scenes)
    place = "return document.getElementById('stage').getBoundingClientRect().toJSON()"
    stage = browser.execute_script(place)
    width(browser, 1280, 800)
    assert stage["top"] == pytest.approx(0, abs=1) and min(sizes) > 100
    assert stage["bottom"] < 0.6 * height
