"""The pages and pictures that are published."""

import re
import runpy
import sys

import pytest

from cleanmarl import teams
from cleanmarl.errors import Refused
from docs.tools import collect_teams, gallery
from tests.helpers import ROOT, TWO_STEPS, trained
from tests.watch.browser import wait


def in_this_process(module: str, *arguments: str):
    """Run a module of the project as the program does, but in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        patch.setattr(sys, "argv", [module, *arguments])
        runpy.run_module(module, run_name="__main__", alter_sys=True)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_gallerys_program_writes_the_page_of_a_published_team(tmp_path, monkeypatch):
    monkeypatch.setattr(teams, "TEAMS", tmp_path / "teams")
    monkeypatch.setattr(collect_teams, "PAGE", tmp_path / "teams.md")
    (tmp_path / "teams.md").touch()
    trained("qmix", tmp_path / "runs/run", **TWO_STEPS)
    collect_teams.main(collect_teams.Args(runs=(tmp_path / "runs",), episodes=1))
    known = {"game": "team:two_step_game", "lost": "team:another_game"}
    monkeypatch.setattr(gallery, "PAGES", known)
    monkeypatch.setattr(gallery, "run", in_this_process)
    with pytest.raises(Refused, match="there is no team 'another_game'"):
        gallery.main(gallery.Args(out=tmp_path, pages=("game", "lost")))
    assert not list(tmp_path.rglob("*.html"))
    gallery.main(gallery.Args(out=tmp_path, pages=("game",)))
    (page,) = tmp_path.rglob("*.html")
    assert page == tmp_path / "_static/watch/game.html"
    assert "Q_tot" in page.read_text()


LINKS = [
    (page, link)
    for page in sorted((ROOT / "docs").glob("*.md"))
    for link in re.findall(r'href="(_static/watch/[^"]+)"', page.read_text())
]


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda part: getattr(part, "name", part))
def test_links_to_the_gallery_lead_to_existing_moments(browser, page, link):
    path, _, moment = link.partition("#")
    file = page.parent / path
    assert file.stat().st_size < 1e6
    browser.get("about:blank")
    browser.get(f"{file.as_uri()}#{moment}")
    wait(browser, "document.body.dataset.ready")
    found = browser.execute_script(
        "const { episodes } = watch.teams?.[0] ?? watch;"
        "return [episodes[watch.state.episode].name, watch.state.t, watch.state.agent]"
    )
    wanted = dict(part.split("=") for part in moment.split("&")) if moment else {}
    for name, value in zip(("episode", "t", "agent"), found, strict=True):
        assert wanted.get(name, str(value)) == str(value)


def test_the_picture_of_the_readme_is_small():
    assert (ROOT / "docs" / "images" / "watch.png").stat().st_size < 150e3
