"""Write the pages of the gallery in docs/watch.md from the teams in docs/results/teams.

    python docs/tools/gallery.py

Nothing is trained. The picture of the page needs Chromium.
"""

import io
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from PIL import Image

from cleanmarl.teams import path_of
from cleanmarl.training.checkpoint import write_atomically
from cleanmarl.training.errors import one_line_errors

ROOT = Path(__file__).parents[2]
PAGES = {
    "3m": "team:3m",
    "MMM": "team:MMM",
    "MMM_vdn": "team:MMM-vdn",
    "MMM_both": "team:MMM team:MMM-vdn",
    "corridor": "team:corridor",
    "recurrent": "team:2s3z-qmix_lstm",
    "random": "team:protoss_5_vs_5",
    "foraging": "team:Foraging-8x8-2p-3f-v3",
}
"""page, and one team or two; a page shows the best networks"""
MOMENT = "MMM", "#episode=median&t=12&agent=7"
"""page and address of the picture"""


@dataclass
class Args:
    out: Path = ROOT / "docs"
    """folder of the documentation"""
    pages: tuple[Literal[*PAGES], ...] = tuple(PAGES)
    """pages to write"""


def run(*words: str):
    """Run a module of the project. Raises CalledProcessError."""
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *words], env=settings, check=True)


def photograph(page: Path, address: str) -> bytes:
    """Take a picture of a page at a moment: a PNG file, 1280 pixels wide, 256 colours."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(word)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    no_tour = "localStorage.setItem('cleanmarl-watch-tour', 'seen')"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": no_tour})
    browser.get(page.as_uri() + address)
    browser.execute_async_script(
        "const done = arguments[0];"
        "const look = () => document.body.dataset.ready ? done() : setTimeout(look, 20); look()"
    )
    picture = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    browser.quit()
    file = io.BytesIO()
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(file, "PNG", optimize=True)
    return file.getvalue()


def main(args: Args):
    pages = args.out.resolve() / "_static" / "watch"
    pages.mkdir(parents=True, exist_ok=True)
    # Every name is looked up first: a wrong one is an error before any page
    teams = {name: list(map(path_of, PAGES[name].split())) for name in args.pages}
    for name, folders in teams.items():
        words = ("--which", "best", "--out", str(pages / f"{name}.html"))
        run("cleanmarl.watch", *map(str, folders), *words)
    name, address = MOMENT
    if name in args.pages:
        picture = args.out / "images" / "watch.png"
        picture.parent.mkdir(exist_ok=True)
        write_atomically(picture, photograph(pages / f"{name}.html", address))
        print(picture)


if __name__ == "__main__":
    with one_line_errors("gallery"):
        main(tyro.cli(Args, description=__doc__))
