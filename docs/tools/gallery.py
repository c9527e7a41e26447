"""Train the teams of the gallery in docs/watch.md, and write their pages.

    python docs/tools/gallery.py --runs gallery

Teams that are already in --runs are not trained again. The picture of the page needs Chromium.
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

from cleanmarl.training.checkpoint import write_atomically

ROOT = Path(__file__).parents[2]
TEAMS = {
    "3m": "qmix --env-name 3m --total-timesteps 200000 --buffer-size 1000 --td-lambda 0.6",
    "MMM": "qmix --env-name MMM --total-timesteps 400000 --buffer-size 1000 --td-lambda 0.6",
    "corridor": "qmix --env-name corridor --total-timesteps 500000 --buffer-size 1000 "
    "--td-lambda 0.6",
    "foraging": "qmix --env-type lbf --env-name Foraging-8x8-2p-3f-v3 --total-timesteps 300000",
}
MOMENT = "MMM", "#episode=median&t=12&agent=7"
"""page and address of the picture"""


@dataclass
class Args:
    runs: Path = Path("gallery")
    """folder to train in"""
    out: Path = ROOT / "docs"
    """folder of the documentation"""
    teams: tuple[Literal[*TEAMS], ...] = tuple(TEAMS)
    """teams to train"""


def run(folder: Path, *words: str):
    """Run a module of the project in a folder. Raises CalledProcessError."""
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", *words], cwd=folder, env=settings, check=True)


def train(command: str, folder: Path) -> Path:
    """The run folder of a team; train the team if the folder is missing."""
    if not list(folder.glob("runs/*/model.pt")):
        folder.mkdir(parents=True, exist_ok=True)
        script, *options = command.split()
        run(folder, f"cleanmarl.{script}", *options, "--no-checkpoint-buffer")
    (found,) = (path.parent for path in folder.glob("runs/*/model.pt"))
    return found


def photograph(page: Path, address: str) -> bytes:
    """Take a picture of a page at a moment: a PNG file, 1280 pixels wide, 256 colours."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(word)
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
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
    for name in args.teams:
        folder = train(TEAMS[name], args.runs.resolve() / name)
        run(folder.parent, "cleanmarl.watch", str(folder), "--out", str(pages / f"{name}.html"))
    name, address = MOMENT
    if name in args.teams:
        picture = args.out / "images" / "watch.png"
        picture.parent.mkdir(exist_ok=True)
        write_atomically(picture, photograph(pages / f"{name}.html", address))
        print(picture)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
