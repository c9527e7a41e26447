"""Fixtures for tests of the page of a trained team."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from selenium import webdriver

from cleanmarl.watch.page import page
from cleanmarl.watch.trained import load
from tests.helpers import trained
from tests.watch.browser import on_each_page, wait, width
from tests.watch.runs import RUNS, make_random


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """`runs(name)`: the folder of a run, which the first call trains."""
    folder = tmp_path_factory.mktemp("runs")

    def find(name: str) -> Path:
        script, options = RUNS[name]
        known = folder / name
        if not known.exists():
            trained(script, known, **options)
            if name in ("foraging", "spread"):
                make_random(known / "model.pt")
        return known

    return find


@pytest.fixture
def watch(monkeypatch, capsys):
    """`watch(*words)`: exit status, output and errors of `python -m cleanmarl.watch`."""

    def call(*words) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["watch", *map(str, words)])
        capsys.readouterr()
        try:
            runpy.run_module("cleanmarl.watch", run_name="__main__")
            status = 0
        except SystemExit as end:
            status = end.code
        return status or 0, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def browser():
    """Chromium without a window and without a network."""
    driver = shutil.which("chromedriver")
    assert driver, "these tests need Chromium: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    found.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    found.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    on_each_page(found, "localStorage.setItem('cleanmarl-watch-tour', 'seen')")
    yield found
    found.quit()


@pytest.fixture(scope="session")
def opened(browser, runs, tmp_path_factory):
    """`opened(name, place)`: the browser with the page of a run, at an address.

    "battle and sum" is the page of two runs, and "team:MMM" that of a published team.
    """
    folder = tmp_path_factory.mktemp("pages")
    width(browser, 1280, 800)

    def loaded(name: str):
        return load(Path(name) if name.startswith("team:") else runs(name), "last", 3)

    def open_page(name: str, place: str = ""):
        file = folder / f"{name.replace(':', '_')}.html"
        if not file.exists():
            file.write_text(page(*map(loaded, name.split(" and "))))
        browser.get("about:blank")
        browser.get(file.as_uri() + place)
        wait(browser, "document.body.dataset.ready")
        return browser

    return open_page
