"""Everyone can read the page: by keyboard, with large targets, in words."""

import time

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.watch.browser import press, resize, state, width


def test_play_is_reached_first_by_keyboard(opened):
    browser = opened("battle", "#t=2")
    press(browser, Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "play"
    assert browser.find_element(By.ID, "play").rect["y"] > 500  # but it stands at the bottom


def wait_until_it_stands(browser):
    """The browser scrolls smoothly, and would go on after the next key."""
    before, place = None, 0
    while place != before:
        time.sleep(0.1)
        before, place = place, browser.execute_script("return scrollY")


def press_until(browser, key, condition: str):
    """Press a key, again if need be: a browser that is busy may lose it."""
    end = time.monotonic() + 30
    while not browser.execute_script(f"return {condition}"):
        assert time.monotonic() < end, condition
        press(browser, key)
        time.sleep(0.2)


@pytest.mark.parametrize("key", [Keys.ARROW_DOWN, Keys.END])
def test_keys_that_scroll_a_page_scroll_this_one(opened, key):
    browser = opened("battle", "#t=1&agent=1")
    press_until(browser, key, "scrollY > 0")
    wait_until_it_stands(browser)
    assert (state(browser)["t"], state(browser)["agent"]) == (1, 1)
    back = {Keys.ARROW_DOWN: Keys.ARROW_UP, Keys.END: Keys.HOME}[key]
    press_until(browser, back, "scrollY === 0")
    assert (state(browser)["t"], state(browser)["agent"]) == (1, 1)


SMALL_TARGETS = """
const every = document.querySelectorAll("button, select, input, summary, #events");
return [...every].filter((one) => one.checkVisibility()).flatMap((one) => {
  const { width, height } = one.getBoundingClientRect();
  return width < 24 || height < 24 ? [`${one.outerHTML.slice(0, 80)} ${width} ${height}`] : [];
});
"""


@pytest.mark.parametrize("name", ["team:MMM", "foraging", "battle and sum"])
@pytest.mark.parametrize(("pixels", "height"), [(1280, 800), (390, 844)])
def test_targets_are_at_least_24_pixels(opened, name, pixels, height):
    browser = opened(name, "#t=2")
    resize(browser, pixels, height)
    small = browser.execute_script(SMALL_TARGETS)
    width(browser, 1280, 800)
    assert small == []


CONTRASTS = """
const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
  .getContext("2d", { willReadFrequently: true });
const rgba = (colour) => {
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  return [...pen.getImageData(0, 0, 1, 1).data];
};
const over = (top, below) =>
  [0, 1, 2].map((k) => (top[k] * top[3] + below[k] * (255 - top[3])) / 255).concat(255);
const ground = (element) => {
  const above = element.parentElement ? ground(element.parentElement) : [255, 255, 255, 255];
  return over(rgba(getComputedStyle(element).backgroundColor), above);
};
const light = (colour) => {
  const part = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const [r, g, b] = colour.map((c) => part(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const opacity = (element) =>
  Number(getComputedStyle(element).opacity) *
  (element.parentElement ? opacity(element.parentElement) : 1);
const found = [];
const check = (element, colour, behind, least, what) => {
  const ink = rgba(colour);
  ink[3] *= opacity(element);
  const value = contrast(over(ink, behind), behind);
  if (value < least) found.push(`${what} ${value.toFixed(2)} ${element.outerHTML.slice(0, 90)}`);
};
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest(":disabled, option, script, title"))
    continue;
  const style = getComputedStyle(element);
  const colour = element instanceof SVGElement ? style.fill : style.color;
  check(element, colour, ground(element), 4.5, "text");
}
for (const bar of document.querySelectorAll(".bars rect, #events rect, .dot, .line, .death")) {
  const style = getComputedStyle(bar);
  const stroked = bar.matches(".line, .death");
  check(bar, stroked ? style.stroke : style.fill, ground(bar.closest("svg")), 3, "bar");
}
for (const bar of document.querySelectorAll(".fill")) {
  check(bar, getComputedStyle(bar).backgroundColor, ground(bar.parentElement), 3, "bar");
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["team:MMM", "foraging", "battle and sum"])
def test_text_and_bars_stand_out(opened, name, scheme):
    browser = opened(name, "#episode=best&t=30&agent=1")
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    found = browser.execute_script(CONTRASTS)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert found == []


@pytest.mark.parametrize("name", ["team:MMM", "foraging", "no scene", "battle and sum"])
def test_every_picture_has_words(opened, name):
    browser = opened(name, "#t=1")
    pictures = browser.find_elements(By.CSS_SELECTOR, "canvas, svg:not([aria-hidden])")
    for picture in pictures:
        if picture.is_displayed():
            assert picture.get_attribute("role") == "img"
            assert len(picture.get_attribute("aria-label")) > 20
    if name == "foraging":
        said = browser.find_element(By.ID, "scene").get_attribute("aria-label")
        assert "agent 1: row" in said and "food 1" in said and "agent 1 takes" in said
