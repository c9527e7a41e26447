"""Pictures, tables, links and films of a page."""

import base64
import csv
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.watch.browser import array, press, state, text, wait, without_storage


def test_next_surprise_leads_to_the_moments_worth_seeing(opened):
    browser = opened("team:MMM", "#episode=best&t=0&agent=0")
    q_tot, reward, gamma = (
        array(browser, "q_tot"),
        array(browser, "reward"),
        browser.execute_script("return watch.args.gamma[0]"),
    )
    td_error = np.abs(reward + gamma * np.append(q_tot[1:], 0) - q_tot)
    if browser.execute_script("return watch.episodes.at(-1).bootstrapped"):
        td_error = td_error[:-1]
    change = np.where(array(browser, "avail"), array(browser, "what_if") - q_tot[:, None, None], 0)
    assert change.max() < 1e-3  # the mixer is monotonic, and the agents are greedy: no regret
    said = {}
    for _ in range(3):
        press(browser, "s")
        said[text(browser, "note").split(":")[0]] = state(browser)
    assert said["Largest TD error"]["t"] == td_error.argmax()
    t, agent, _ = np.unravel_index(change.argmin(), change.shape)
    assert (said["Choice with most at stake"]["t"], said["Choice with most at stake"]["agent"]) == (
        t,
        agent,
    )
    lost = said["First lost unit"]
    browser.execute_script(f"location.hash = '#episode=best&t={lost['t']}&agent={lost['agent']}'")
    row = browser.find_elements(By.CSS_SELECTOR, "#agents tbody tr")[lost["agent"]]
    assert "dead" in row.get_attribute("class")


CATCH_FILES = """
window.files = [];
HTMLAnchorElement.prototype.click = function () {
  const file = { name: this.download };
  window.files.push(file);
  const { href } = this;
  if (!this.download) return;
  fetch(href).then((answer) => answer.arrayBuffer()).then((bytes) => {
    file.bytes = btoa([...new Uint8Array(bytes)].map((b) => String.fromCharCode(b)).join(""));
  });
};
"""


def taken(browser, button) -> tuple[str, bytes]:
    """The name and the content of the file that a button saves."""
    browser.execute_script(CATCH_FILES)
    browser.execute_script("arguments[0].click()", button)
    wait(browser, "window.files[0]?.bytes !== undefined")
    name, content = browser.execute_script("return [files[0].name, files[0].bytes]")
    return name, base64.b64decode(content)


@pytest.mark.parametrize("name", ["battle", "foraging", "spread"])
def test_the_scene_and_the_panels_are_pictures_to_take_along(opened, name):
    browser = opened(name, "#t=2&agent=0")
    buttons = {"scene": [browser.find_element(By.ID, f"scene-{kind}") for kind in ("png", "svg")]}
    for panel in ("value", "who", "team", "agent", "mixer", "sees"):
        buttons[panel] = browser.find_elements(By.CSS_SELECTOR, f"#{panel} .takes button")[:2]
    for part, (png, svg) in buttons.items():
        file, content = taken(browser, png)
        assert file.endswith(f"_t2_{part}.png")
        picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
        assert picture.shape[1] > 300 and picture.std() > 3
        file, content = taken(browser, svg)
        assert file.endswith(f"_t2_{part}.svg")
        drawn = ElementTree.fromstring(content)
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        is_text = drawn.find("{http://www.w3.org/2000/svg}foreignObject") is not None
        assert is_text == (part in ("team", "agent", "sees"))


@pytest.mark.parametrize("name", ["battle", "foraging", "sum"])
def test_the_numbers_of_a_panel_are_a_table_to_take_along(opened, name):
    browser = opened(name, "#t=2&agent=1")
    tables = {}
    for panel in ("value", "who", "team", "agent", "mixer", "sees"):
        button = browser.find_elements(By.CSS_SELECTOR, f"#{panel} .takes button")[2]
        file, content = taken(browser, button)
        assert file.endswith(f"_{panel}.csv")
        tables[panel] = list(csv.reader(io.StringIO(content.decode())))
        assert len({len(row) for row in tables[panel]}) == 1
    q_tot = [float(row[2]) for row in tables["value"][1:]]
    np.testing.assert_allclose(q_tot, array(browser, "q_tot"), rtol=1e-6)
    slopes = np.array([row[1:] for row in tables["who"][1:]], float)
    np.testing.assert_allclose(slopes, array(browser, "slope"), rtol=1e-6)
    values = [float(row[5]) for row in tables["agent"][1:]]
    np.testing.assert_allclose(values, array(browser, "q")[:, 1].ravel(), rtol=1e-6)


def test_a_cell_that_begins_like_a_formula_is_text(opened):
    browser = opened("battle")
    script = "watch.episodes.at(-1).agents[0] = '=1+\"2\"'"
    browser.execute_script(script)
    button = browser.find_elements(By.CSS_SELECTOR, "#team .takes button")[2]
    assert "'=1+" in taken(browser, button)[1].decode()


def test_the_link_to_a_moment_is_copied_or_shown(opened):
    browser = opened("battle", "#t=2&agent=1")
    browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', { configurable: true, value: "
        "{ writeText: async (text) => { window.copied = text } } })"
    )
    browser.execute_script("document.getElementById('link').click()")
    wait(browser, "window.copied")
    assert browser.execute_script("return copied") == browser.current_url
    browser.execute_script(
        "Object.defineProperty(navigator, 'clipboard', { configurable: true, value: undefined })"
    )
    browser.execute_script("document.getElementById('link').click()")
    wait(browser, "document.getElementById('note').textContent.includes('t=2&agent=1')")


def test_a_loop_begins_again(opened):
    browser = opened("foraging", "#t=999")
    browser.find_element(By.ID, "loop").click()
    browser.execute_script("document.getElementById('speed').value = 20")
    browser.execute_script("location.hash = '#t=10&agent=0'")
    wait(browser, "watch.state.t === 10")
    browser.find_element(By.ID, "play").click()
    wait(browser, "watch.state.t < 5 && watch.state.t > 0")
    assert state(browser)["playing"]
    press(browser, " ")


def test_the_theme_is_switched_and_kept(opened):
    browser = opened("battle")
    shade = "return getComputedStyle(document.body).backgroundColor"
    first = browser.execute_script(shade)
    browser.find_element(By.ID, "theme").click()
    other = browser.execute_script(shade)
    assert first != other and text(browser, "theme") == "Light"
    kept = browser.execute_script("return localStorage.getItem('cleanmarl-watch-theme')")
    assert kept == "dark"
    # Chromium may forget what a page of a file has stored when it opens again
    keep = "localStorage.setItem('cleanmarl-watch-theme', 'dark')"
    without_storage(browser, keep, browser.current_url)
    assert browser.execute_script(shade) == other
    browser.find_element(By.ID, "theme").click()
    assert browser.execute_script(shade) == first
    browser.execute_script("localStorage.removeItem('cleanmarl-watch-theme')")


def test_the_presentation_has_large_type_and_ends_with_escape(opened):
    browser = opened("battle", "#t=1")
    size = "return parseFloat(getComputedStyle(document.querySelector('#agents td')).fontSize)"
    before = browser.execute_script(size)
    browser.find_element(By.ID, "present").click()
    wait(browser, "document.body.classList.contains('present')")
    assert browser.execute_script(size) > before + 3
    press(browser, Keys.ARROW_RIGHT)
    assert state(browser)["t"] == 2
    press(browser, Keys.ESCAPE)
    wait(browser, "!document.body.classList.contains('present')")


@pytest.mark.parametrize("name", ["team:MMM", "foraging"])
def test_a_moment_is_printed_on_one_page(opened, name):
    browser = opened(name, "#t=3")
    options = {"preferCSSPageSize": True, "printBackground": True}
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1


def test_an_episode_is_filmed(opened):
    browser = opened("foraging", "#t=0")
    browser.execute_script("document.getElementById('speed').value = 20")
    name, content = taken(browser, browser.find_element(By.ID, "video"))
    assert name.endswith((".webm", ".mp4")) and len(content) > 1000
