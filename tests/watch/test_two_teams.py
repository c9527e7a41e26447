"""The page of two teams."""

from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cleanmarl.errors import Refused
from cleanmarl.watch.compare import check_starts, comparable, telling
from cleanmarl.watch.episodes import Episode, play
from cleanmarl.watch.page import compared, page
from cleanmarl.watch.trained import load, named
from tests.helpers import trained
from tests.watch.browser import press, resize, state, text, wait, width
from tests.watch.runs import episode_of, moving_about, refused


def test_two_teams_play_the_same_episodes(runs):
    one, other = load(runs("battle"), "last", 3), load(runs("sum"), "last", 3)
    other.args.seed = 7  # the first team's seed counts
    first, second = compared(one, other)["teams"]
    assert first["script"] == "qmix" and second["script"] == "qmix_multienvs"
    assert [episode["name"] for episode in first["episodes"]]
    for mine, yours in zip(first["episodes"], second["episodes"], strict=True):
        assert (mine["name"], mine["seed"]) == (yours["name"], yours["seed"])
        for part in ("x", "y", "hp"):
            moving = mine["scene"]["moving"][part], yours["scene"]["moving"][part]
            assert np.array_equal(moving[0][0], moving[1][0])


def played(*rewards: float) -> tuple:
    episodes = [episode_of(reward, action=int(reward) % 3) for reward in rewards]
    return episodes, [{"ep_reward": reward} for reward in rewards]


def test_of_two_teams_the_episodes_in_which_one_is_ahead_are_shown():
    assert telling(played(5, 1, 3), played(1, 5, 3)) == {"0": 0, "2": 2, "1": 1}
    assert telling(played(5, 5, 5), played(5, 5, 5)) == {"0": 0}
    assert telling(played(5, 5), played(5, 4)) == {"1": 1, "0": 0}


def test_teams_of_other_environments_cannot_be_compared(runs):
    one, other = load(runs("battle"), "last", 1), load(runs("shields"), "last", 1)
    with pytest.raises(Refused, match="one environment, got 3m and 2s3z"):
        comparable(one, other)


def test_teams_whose_episodes_begin_otherwise_cannot_be_compared(runs):
    teams = [load(runs("battle"), "last", 1)] * 2
    start = play(teams[0])[0][0].observations[0]
    fewer = {name: part[:2] for name, part in start.items()}
    with pytest.raises(Refused, match="got 3 agents with 9 actions and 2 agents"):
        check_starts(teams, Episode(0, [start]), Episode(0, [fewer]))
    moved = start | {"obs": start["obs"] + 1}
    for other in (Episode(0, [moved]), Episode(1, [start])):
        with pytest.raises(Refused, match="do not begin alike"):
            check_starts(teams, Episode(0, [start]), other)
    check_starts(teams, Episode(0, [start]), Episode(0, [start]))


def test_a_team_that_sees_no_ids_is_compared_with_one_that_does(tmp_path, runs):
    options = {"env_name": "3m", "agent_ids": False, "clock": False}
    other = load(trained("qmix", tmp_path / "run", **options), "last", 2)
    assert len(page(load(runs("battle"), "last", 2), other)) > 1000


def test_an_at_sign_names_the_networks_of_a_run(tmp_path):
    assert named(Path("run"), "last") == (Path("run"), "last")
    assert named(Path("run@best"), "last") == (Path("run"), "best")
    assert named(Path("team:3m@last"), "best") == (Path("team:3m"), "last")
    assert named(Path("a@b/run@20000"), "last") == (Path("a@b/run"), 20000)
    (tmp_path / "run@best").mkdir()
    assert named(tmp_path / "run@best", "last") == (tmp_path / "run@best", "last")
    with pytest.raises(Refused, match="run@worst: expected RUN@best, RUN@last or RUN@STEP"):
        named(Path("run@worst"), "last")


def test_the_page_of_two_runs_has_its_own_name(runs, watch):
    folder = runs("no scene")
    status, out, _ = watch(f"{folder}@best", f"{folder}@last", "--episodes", 1)
    assert (status, out.strip()) == (0, str(folder / "compare.html"))
    refused(watch(folder, f"{folder}@7", "--episodes", 1), "no networks of step 7")
    refused(watch(folder, runs("battle"), "--episodes", 1), "one environment")


def test_a_page_of_two_teams_is_small_even_if_episodes_are_long(tmp_path):
    options = {"total_timesteps": 10, "time_limit": 150, "hidden_dim": 64, "hyper_dim": 64}
    folder = trained("qmix", tmp_path / "run", env_name="MMM", **options)
    one, other = load(folder, "last", 3), load(folder, "last", 3)
    one.script.act = other.script.act = moving_about
    assert len(page(one, other)) < 16e6


BOTH = "battle and sum"


def test_two_teams_are_on_one_page_without_an_error(opened):
    browser = opened(BOTH)
    assert [entry for entry in browser.get_log("browser")] == []
    header = text(browser, "about")
    assert "A: qmix, mixer qmix" in header and "B: qmix_multienvs, mixer vdn" in header
    assert "mixer qmix vdn" in text(browser, "run")


@pytest.mark.parametrize(("pixels", "height"), [(1280, 800), (390, 844)])
def test_two_scenes_are_side_by_side_or_on_a_phone_one_above_the_other(opened, pixels, height):
    browser = opened(BOTH)
    resize(browser, pixels, height)
    one, other = (browser.find_element(By.ID, name).rect for name in ("scene", "scene-b"))
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    width(browser, 1280, 800)
    assert wide <= pixels
    if pixels > 500:
        assert one["y"] == other["y"] and one["x"] + one["width"] <= other["x"]
    else:
        assert one["x"] == other["x"] and one["y"] + one["height"] <= other["y"]


def of_both(browser, name: str) -> list[np.ndarray]:
    """An array of the episode that is shown, of both teams."""
    script = f"""return watch.teams.map(({{ episodes }}) => {{
        const a = episodes[watch.state.episode].{name};
        return [Array.from(a.values), a.shape];
    }})"""
    return [np.array(values).reshape(shape) for values, shape in browser.execute_script(script)]


def test_two_teams_have_one_clock(opened):
    browser = opened(BOTH, "#t=0")
    lengths = [len(one) for one in of_both(browser, "q_tot")]
    press(browser, Keys.ARROW_RIGHT)
    for name in ("scene", "scene-b"):
        said = browser.find_element(By.ID, name).get_attribute("aria-label")
        assert f"step 1 of {max(lengths)}" in said
    press(browser, "e")
    assert state(browser)["t"] == max(lengths)
    now = text(browser, "now")
    assert f"after {lengths[0]} steps" in now and f"after {lengths[1]} steps" in now


def test_the_first_step_at_which_their_choices_part_is_marked_and_reached(opened):
    browser = opened(BOTH, "#t=0")
    one, other = of_both(browser, "chosen")
    shorter = min(len(one), len(other))
    apart = int((one[:shorter] != other[:shorter]).any(1).argmax())
    browser.find_element(By.CSS_SELECTOR, "#parting button").click()
    assert state(browser)["t"] == apart
    assert f"step {apart}" in text(browser, "parting")
    mark = browser.find_element(By.CSS_SELECTOR, "#events .parting")
    assert f"step {apart}" in mark.get_attribute("textContent")


def test_teams_that_choose_alike_do_not_part(opened):
    browser = opened("battle and battle")
    assert "same actions" in text(browser, "parting")
    assert not browser.find_elements(By.CSS_SELECTOR, "#events .parting")


def test_the_values_of_two_teams_are_in_one_chart(opened):
    browser = opened(BOTH, "#t=2&agent=1")
    (chart,) = browser.find_elements(By.CSS_SELECTOR, "#value-chart svg")
    names = {one.text for one in chart.find_elements(By.CLASS_NAME, "name")}
    kinds = ("Q_tot", "return", "agent 1")
    assert names == {f"{team} {kind}" for team in "AB" for kind in kinds}
    said = text(browser, "value-now")
    for team, q_tot in zip("AB", of_both(browser, "q_tot"), strict=True):
        assert f"{team}: Q_tot {q_tot[2]:.2f}".replace("-", "\u2212") in said


def test_the_panels_show_the_team_that_is_chosen(opened):
    browser = opened(BOTH, "#t=3&agent=1")
    weights = of_both(browser, "slope")
    shown = [one.text for one in browser.find_elements(By.CSS_SELECTOR, ".weighs .number")]
    assert shown == [f"{weight:.2f}" for weight in weights[0][3]]
    browser.find_elements(By.CSS_SELECTOR, "button.team")[1].click()
    assert "team=B" in browser.current_url
    assert "plain sum" in text(browser, "who-hint")
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
    assert state(browser)["team"] == 1
    other = browser.find_elements(By.CSS_SELECTOR, "#agents .other")[0].text
    assert other.startswith("A: ")
    press(browser, "t")
    assert state(browser)["team"] == 0


def test_what_a_run_says_is_never_read_as_html(browser, runs, tmp_path):
    harm = '</script><img src=x onerror="document.body.dataset.harm = 1">'
    run = load(runs("no scene"), "last", 1)
    session = dict.fromkeys(("command", "commit", "version", "versions"), harm)
    run = run._replace(session=session)
    run = run._replace(saved=run.saved | {"mixer": harm, "device": harm})
    other = run._replace(saved=run.saved | {"mixer": f"{harm} 2"})
    for name, runs_of_page in (("one", [run]), ("two", [run, other])):
        file = tmp_path / f"{name}.html"
        file.write_text(page(*runs_of_page))
        browser.get(file.as_uri())
        wait(browser, "document.body.dataset.ready")
        assert "onerror" in browser.find_element(By.ID, "run").get_attribute("textContent")
        assert not browser.find_elements(By.TAG_NAME, "img")
        assert browser.execute_script("return document.body.dataset.harm") is None


@pytest.mark.parametrize(
    ("session", "says"),
    [
        ({"commit": "1234567", "version": "0.1.0"}, "Commit 1234567."),
        ({"commit": "", "version": "0.1.0", "package": "0.0.9"}, "CleanMARL-QMIX version 0.1.0."),
        ({"package": "0.0.9"}, "CleanMARL-QMIX version 0.0.9."),  # an older run, a published team
        ({}, "Commit unknown."),
    ],
)
def test_the_page_has_the_commit_or_else_the_version(browser, runs, tmp_path, session, says):
    file = tmp_path / "page.html"
    file.write_text(page(load(runs("no scene"), "last", 1)._replace(session=session)))
    browser.get(file.as_uri())
    wait(browser, "document.body.dataset.ready")
    made = "return document.evaluate(\"//h3[.='Made with']/following::p[1]\", document, null, 2)"
    assert browser.execute_script(f"{made}.stringValue").strip() == says
