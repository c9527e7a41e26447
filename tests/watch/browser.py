"""What tests do in a browser."""

import time

import numpy as np
from selenium.webdriver.common.by import By


def on_each_page(browser, script: str) -> str:
    """Run a script when a page opens, before the page's own; returns its identifier."""
    options = {"source": f"try {{ {script} }} catch {{ }}"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", options)
    return added["identifier"]


def wait(browser, condition: str):
    end = time.monotonic() + 30  # on a busy machine
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def width(browser, pixels: int, height: int, mobile: bool = False):
    metrics = {"width": pixels, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def resize(browser, pixels: int, height: int):
    """Open the page again in another window; less than 500 pixels are a phone's."""
    width(browser, pixels, height, mobile=pixels < 500)
    browser.refresh()
    wait(browser, "document.body.dataset.ready")


def press(browser, *keys: str):
    for key in keys:
        wait(browser, "document.activeElement.checkVisibility()")  # what was hidden loses the focus
        browser.switch_to.active_element.send_keys(key)


def state(browser) -> dict:
    return browser.execute_script("return { ...watch.state }")


def text(browser, name: str) -> str:
    return browser.find_element(By.ID, name).text


def array(browser, name: str) -> np.ndarray:
    """An array of the best episode, as the page holds it."""
    script = f"const a = watch.episodes.at(-1).{name}; return [Array.from(a.values), a.shape]"
    values, shape = browser.execute_script(script)
    return np.array(values).reshape(shape)


def without_storage(browser, script: str, file: str):
    """Open a page as a browser does that has not seen it; a script runs before the page's."""
    identifier = on_each_page(browser, script)
    browser.get("about:blank")
    browser.get(file)
    wait(browser, "document.body.dataset.ready")
    options = {"identifier": identifier}
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", options)


def number(text: str) -> float:
    """A number as the page prints it, with a true minus sign."""
    return float(text.replace("\u2212", "-"))
