"""The page of a trained team: its numbers are the networks', and a browser shows them."""

import base64
import csv
import io
import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from cleanmarl import teams
from cleanmarl.battle import BattleEnv, map_names
from cleanmarl.battle.names import action_names
from cleanmarl.battle.world import HEAL
from cleanmarl.errors import Refused
from cleanmarl.training.results import means
from cleanmarl.watch.compare import check_starts, comparable, telling
from cleanmarl.watch.episodes import Episode, places, play
from cleanmarl.watch.explain import discounted, explain
from cleanmarl.watch.field import finder, recorded
from cleanmarl.watch.page import compared, page
from cleanmarl.watch.scene import film, reason, words
from cleanmarl.watch.trained import load, named
from docs.tools import collect_teams, gallery
from tests.helpers import LBF, MODULES, ROOT, SOURCES, TWO_STEPS, every_script, trained

SPREAD = {"env_type": "pz", "env_family": "mpe", "env_name": "simple_spread_v3"}
SPREAD |= {"total_timesteps": 60}
# Runs to watch: a script and its arguments
RUNS = {
    "battle": ("qmix", {"env_name": "3m", "total_timesteps": 1200, "td_lambda": 0.9}),
    "shields": ("qmix_lstm", {"env_name": "2s3z", "time_limit": 20, "rnn": "lstm"}),
    "sum": ("qmix_multienvs", {"env_name": "3m", "time_limit": 20, "mixer": "vdn"}),
    "foraging": ("qmix_memefficient", LBF | {"time_limit": 12}),
    "spread": ("qmix", SPREAD | {"time_limit": 12}),
    "no scene": ("qmix", TWO_STEPS),
    "random": ("qmix", {"env_name": "terran_4_vs_4", "time_limit": 20}),
    "own": ("qmix", {"env_type": "pz", "env_family": "tests.games", "env_name": "faulty"}),
}


@pytest.fixture(scope="module")
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


def make_random(path: Path):
    """Give networks other weights, so that their agents move about."""
    torch.manual_seed(1)
    model = torch.load(path, weights_only=True)
    for part in ("target_agent", "target_mixer"):
        for weights in model[part].values():
            weights.normal_()
    torch.save(model, path)


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


def thoughts(folder: Path, number: int = 0) -> tuple:
    """A run, the arrays of one of its episodes, and its networks' values."""
    run = load(folder, "last", number + 1)
    episode = play(run)[0][number].arrays()
    return run, episode, explain(run, episode)


# Values of the networks


@pytest.mark.parametrize("name", RUNS)
def test_the_values_of_an_episode_are_those_by_which_the_agents_acted(runs, name):
    _, episode, found = thoughts(runs(name))
    available = episode["avail_actions"][: len(episode["actions"])]
    greedy = np.where(available, found["q"], -np.inf).argmax(-1)
    assert np.array_equal(greedy, episode["actions"])


@pytest.mark.parametrize("name", RUNS)
def test_what_if_is_the_mixers_output_for_each_changed_value(runs, name):
    run, episode, found = thoughts(runs(name))
    state = torch.from_numpy(episode["state"])
    available = np.argwhere(episode["avail_actions"][: len(found["q"])])
    for t, agent, action in np.random.default_rng(1).choice(available, 20):
        q = [found["q"][t, i, taken] for i, taken in enumerate(episode["actions"][t])]
        q[agent] = found["q"][t, agent, action]
        with torch.no_grad():
            q_tot = run.networks.target_mixer(torch.tensor(q)[None], state[t : t + 1]).item()
        assert found["what_if"][t, agent, action] == pytest.approx(q_tot, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_what_if_of_the_action_that_was_taken_is_q_tot(runs, name):
    _, episode, found = thoughts(runs(name))
    taken = np.take_along_axis(found["what_if"], episode["actions"][..., None], -1)[..., 0]
    np.testing.assert_allclose(taken, found["q_tot"][:, None].repeat(taken.shape[1], 1), rtol=1e-4)


def test_an_agents_weight_is_how_q_tot_rises_with_its_value(runs):
    run, episode, found = thoughts(runs("battle"))
    mixer = run.networks.target_mixer.double()
    q = np.take_along_axis(found["q"], episode["actions"][..., None], -1)[..., 0]
    q = torch.from_numpy(q).double()
    state = torch.from_numpy(episode["state"][: len(q)]).double()
    with torch.no_grad():
        for agent in range(q.shape[1]):
            more, less = q.clone(), q.clone()
            more[:, agent] += 1e-5
            less[:, agent] -= 1e-5
            rise = (mixer(more, state) - mixer(less, state)) / 2e-5
            np.testing.assert_allclose(found["slope"][:, agent], rise, rtol=1e-2, atol=1e-4)


def test_the_weights_of_a_sum_are_1(runs):
    _, _, found = thoughts(runs("sum"))
    assert (found["slope"] == 1).all()
    assert "w1" not in found


def test_the_mixing_weights_are_those_with_which_the_mixer_mixes(runs):
    run, episode, found = thoughts(runs("battle"))
    mixer = run.networks.target_mixer
    state = torch.from_numpy(episode["state"][: len(episode["actions"])])
    q = np.take_along_axis(found["q"], episode["actions"][..., None], -1)
    with torch.no_grad():
        hidden = torch.nn.functional.elu(
            torch.from_numpy((q * found["w1"]).sum(1)) + mixer.b1(state)
        )
        q_tot = (hidden * torch.from_numpy(found["w2"])).sum(-1) + mixer.b2(state)[:, 0]
    np.testing.assert_allclose(q_tot, found["q_tot"], rtol=1e-4, atol=1e-5)


def test_returns_are_discounted():
    assert discounted(np.array([1.0, 0.0, 4.0]), 0.5).tolist() == [2.0, 2.0, 4.0]


# Which episodes


def episode_of(*rewards: float, action: int = 0) -> Episode:
    seen = {"obs": np.zeros((1, 2)), "state": np.zeros(2), "avail_actions": np.ones((1, 3))}
    steps = len(rewards)
    return Episode(0, [seen] * (steps + 1), [np.array([action])] * steps, list(rewards))


def shown(*episodes: Episode) -> dict[str, int]:
    return places(episodes, [{"ep_reward": sum(one.rewards)} for one in episodes])


def test_worst_median_and_best_are_found_by_their_reward():
    episodes = [episode_of(reward) for reward in (3, 1, 2, 5, 4)]
    assert shown(*episodes) == {"worst": 1, "median": 0, "best": 3}


def test_an_episode_equal_to_the_best_is_not_shown_twice():
    assert shown(episode_of(1.0), episode_of(1.0)) == {"best": 1}
    other = episode_of(1.0, action=1)
    assert shown(other, episode_of(1.0), episode_of(1.0)) == {"worst": 0, "best": 2}
    assert shown(other, other, episode_of(1.0)) == {"worst": 0, "best": 2}


@every_script
def test_the_episodes_are_those_that_evaluate_plays(tmp_path, monkeypatch, capsys, script):
    folder = trained(script, tmp_path / "run", **LBF, time_limit=8)
    module = MODULES[script]
    monkeypatch.setattr(
        sys, "argv", [f"{script}.py", "--evaluate", str(folder), "--num-eval-ep", "3"]
    )
    module.main()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    episodes, _ = play(load(folder, "last", 3))
    assert evaluation["episodes"] == len(episodes)
    assert evaluation["ep_reward"]["mean"] == np.mean([sum(one.rewards) for one in episodes])


# Names


@pytest.mark.parametrize("name", [*map_names(), "terran_5_vs_6", "protoss_3_vs_2"])
def test_every_entry_of_an_observation_and_every_action_has_a_name(name):
    env = BattleEnv(name, agent_ids=False)
    for names in env.observation_names:
        assert len(names) == len(set(names)) == env.obs_size
    for heals in (False, True):
        assert len(action_names(env.scenario, heals, env.n_actions)) == env.n_actions


@pytest.mark.parametrize("name", ["3m", "2s3z", "MMM", "terran_5_vs_6"])
def test_the_names_describe_the_entries(name):
    env = BattleEnv(name, agent_ids=False)
    observation, _ = env.reset(seed=1)
    env.action_space.seed(1)
    compared = 0
    over = False
    while not over:
        units = env.units[0]
        kinds = [kind.lower().replace("_", " ") for kind in env.scenario.kinds]
        for agent, obs in enumerate(observation["obs"]):
            seen = dict(zip(env.observation_names[agent], obs, strict=True))
            (own,) = units[units["is_ally"] & (units["index"] == agent)]
            if not own["alive"]:
                continue
            assert seen["itself: health"] == pytest.approx(own["hp"] / own["max_hp"])
            for unit in units:
                who = f"{'ally' if unit['is_ally'] else 'enemy'} {unit['index']}"
                if f"{who}: distance" not in seen or seen[f"{who}: distance"] == 0:
                    continue
                away = np.hypot(unit["x"] - own["x"], unit["y"] - own["y"]) / 9
                assert seen[f"{who}: distance"] == pytest.approx(away, rel=1e-4)
                assert seen[f"{who}: to the east"] == pytest.approx((unit["x"] - own["x"]) / 9)
                assert seen[f"{who}: to the north"] == pytest.approx((unit["y"] - own["y"]) / 9)
                assert seen[f"{who}: health"] == pytest.approx(unit["hp"] / unit["max_hp"])
                if unit["max_shield"]:
                    shield = unit["shield"] / unit["max_shield"]
                    assert seen[f"{who}: shield"] == pytest.approx(shield)
                if env.scenario.unit_types:
                    assert seen[f"{who}: is {kinds[unit['kind']]}"] == 1
                compared += 1
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated
    assert compared > 100


def test_an_action_does_what_its_name_says():
    env = BattleEnv("MMM")
    env.reset(seed=1)
    heals = {unit["index"]: unit["attack"] == HEAL for unit in env.units[0] if unit["is_ally"]}
    names = [action_names(env.scenario, heals[i], env.n_actions) for i in range(env.n_agents)]
    before = env.units[0].copy()
    env.step(np.array([own.index("north") for own in names]))
    after = env.units[0].copy()
    allies = before["is_ally"]
    assert (after["y"][allies] > before["y"][allies]).all()
    medic = next(i for i, heal in heals.items() if heal)
    assert names[medic][6] == "heal ally 0" and names[medic - 1][6] == "attack enemy 0"


# The command


def test_the_page_is_written_to_the_folder_of_the_run_and_named(runs, watch):
    folder = runs("battle")
    status, out, err = watch(folder, "--episodes", 2)
    assert (status, out.strip(), err) == (0, str(folder / "watch.html"), "")
    assert (folder / "watch.html").read_text().startswith("<!doctype html>")


def test_each_episode_of_random_battles_is_shown_with_its_own_army(runs):
    run = load(runs("random"), "last", 6)
    armies = set()
    for episode in play(run)[0]:
        agents = words(run, episode)["agents"]
        units = film(run, episode)["units"]
        kinds = [unit["kind"] for unit in units if unit["ally"]]
        assert agents == [f"{kind} {i}" for i, kind in enumerate(kinds)]
        armies.add(tuple(kinds))
    assert len(armies) > 2


def test_names_of_the_users_environment_are_on_the_page(tmp_path):
    task = {"env_type": "pz", "env_family": "tests.games", "env_name": "faulty"}
    run = load(trained("qmix", tmp_path / "run", **task, env_options={"pixels": 2}), "last", 1)
    found = words(run, play(run)[0][0])
    assert found["agents"] == ["red", "blue"]
    assert found["actions"] == [["wait", "go"]] * 2
    ids = ["number: is agent 0", "number: is agent 1"]
    assert found["observation"] == [["part 0", "part 1", *ids]] * 2


def test_the_page_can_be_written_elsewhere(runs, watch, tmp_path):
    status, out, _ = watch(runs("sum"), "--episodes", 1, "--out", tmp_path / "team.html")
    assert (status, out.strip()) == (0, str(tmp_path / "team.html"))
    assert (tmp_path / "team.html").is_file()


def test_the_best_or_the_last_networks_are_watched(runs):
    folder = runs("battle")
    best, last = (load(folder, which, 1) for which in ("best", "last"))
    assert best.step <= last.step
    saved = torch.load(folder / "best.pt", weights_only=True)
    assert best.step == saved["step"]
    for name, weights in best.networks.target_mixer.state_dict().items():
        assert torch.equal(weights, saved["target_mixer"][name])


def test_a_copy_of_a_script_is_watched_like_the_original(tmp_path, monkeypatch, watch):
    copy = tmp_path / "elsewhere" / "my_qmix.py"
    copy.parent.mkdir()
    copy.write_text(SOURCES["qmix"].replace("return q.sum(-1)", "return 2 * q.sum(-1)"))
    monkeypatch.chdir(tmp_path)
    words = ["--env-name", "3m", "--total-timesteps", "20", "--time-limit", "5", "--mixer", "vdn"]
    small = ["--batch-size", "2", "--buffer-size", "4", "--num-eval-ep", "1", "--hidden-dim", "8"]
    monkeypatch.setattr(sys, "argv", [str(copy), *words, *small])
    runpy.run_path(str(copy), run_name="__main__")
    (folder,) = (tmp_path / "runs").iterdir()
    assert watch(folder, "--episodes", 1)[0] == 0
    run, _, found = thoughts(folder)
    assert Path(run.script.__file__) == copy
    assert (found["slope"] == 2).all()


def refused(answer: tuple[int, str, str], *parts: str):
    status, out, err = answer
    assert (status, out) == (2, "")
    assert err.startswith("watch: error: ") and err.count("\n") == 1
    for part in parts:
        assert part in err


def test_a_folder_that_is_no_run_is_refused(watch, tmp_path):
    refused(watch(tmp_path), "args.json", "expected the folder of a run")
    refused(watch(tmp_path / "nothing"), "expected the folder of a run")
    (tmp_path / "args.json").write_text("[]")
    refused(watch(tmp_path), "args.json", "expected the folder of a run")
    (tmp_path / "args.json").unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_networks_is_refused(watch, tmp_path):
    folder = trained("qmix", tmp_path / "run", **TWO_STEPS, save_model=False)
    refused(watch(folder), "model.pt is missing")
    assert not (folder / "watch.html").exists()


def test_a_run_whose_script_is_gone_is_watched_with_the_option_script(watch, tmp_path):
    folder = trained("qmix", tmp_path / "run", **TWO_STEPS)
    sessions = json.loads((folder / "run.json").read_text())
    script = sessions[-1]["script_file"]
    sessions[-1]["script_file"] = str(tmp_path / "gone.py")
    (folder / "run.json").write_text(json.dumps(sessions))
    refused(watch(folder), "gone.py", "--script")
    assert watch(folder, "--episodes", 1, "--script", script)[0] == 0


def test_a_run_of_another_clone_is_watched_with_the_script_of_this_one(tmp_path):
    folder = trained("qmix", tmp_path / "run", **TWO_STEPS)
    sessions = json.loads((folder / "run.json").read_text())
    sessions[-1]["script_file"] = "/elsewhere/cleanmarl/qmix.py"
    (folder / "run.json").write_text(json.dumps(sessions))
    assert Path(load(folder, "last", 1).script.__file__) == ROOT / "cleanmarl" / "qmix.py"


def test_a_script_without_the_needed_functions_is_refused(watch, runs, tmp_path):
    copy = tmp_path / "old.py"
    copy.write_text(SOURCES["qmix"].replace("def action_values", "def others"))
    refused(watch(runs("no scene"), "--script", copy), "old.py has no action_values")
    copy.write_text("import nothing_of_this_name")
    refused(watch(runs("no scene"), "--script", copy), "nothing_of_this_name")


def test_a_page_of_no_episodes_is_refused(watch, runs):
    refused(watch(runs("no scene"), "--episodes", 0), "--episodes must be at least 1, got 0")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "required"),
        ("run --episodes many", "--episodes"),
        ("run --which all", "--which"),
        ("run --wich best", "--which"),
    ],
)
def test_words_that_cannot_be_read_are_refused(watch, words, says):
    status, out, err = watch(*words.split())
    assert (status, out) == (2, "")
    assert says in err and "Traceback" not in err


PRESSES_CTRL_C = """
import os, runpy, signal, sys

class Presses:
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Presses())
runpy.run_module(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize("module", ["cleanmarl.watch", "cleanmarl.benchmark"])
def test_ctrl_c_while_a_command_starts_shows_no_traceback(module):
    command = [sys.executable, "-c", PRESSES_CTRL_C, module]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_file_that_cannot_be_written_is_refused(watch, runs, tmp_path):
    refused(
        watch(runs("no scene"), "--episodes", 1, "--out", tmp_path / "no" / "page.html"),
        "page.html",
    )


def test_an_environment_that_cannot_be_drawn_has_a_page_without_a_scene(watch, runs, tmp_path):
    status, _, err = watch(runs("no scene"), "--episodes", 3, "--out", tmp_path / "page.html")
    assert status == 0
    assert err.startswith("warning: the page has no scene") and err.count("\n") == 1


@pytest.mark.parametrize(("name", "limit"), [("3m", 2e6), ("MMM", 8e6)])
def test_a_page_is_small_even_if_episodes_are_long(tmp_path, name, limit):
    options = {"total_timesteps": 10, "time_limit": 150, "hidden_dim": 64, "hyper_dim": 64}
    run = load(trained("qmix", tmp_path / "run", env_name=name, **options), "last", 3)
    run.script.act = moving_about
    assert len(page(run)) < limit


def moving_about(q_values, observation: dict, epsilon: float, rng) -> np.ndarray:
    """Actions that do not fight: the episode lasts, and its numbers vary."""
    mask = np.array(observation["avail_actions"], float)
    mask[:, 6:] = 0
    return (mask * rng.random(mask.shape)).argmax(-1)


# In a browser


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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


def on_each_page(browser, script: str) -> str:
    """Run a script when a page opens, before the page's own; returns its identifier."""
    options = {"source": f"try {{ {script} }} catch {{ }}"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", options)
    return added["identifier"]


def wait(browser, condition: str):
    end = time.monotonic() + 10
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def width(browser, pixels: int, height: int, mobile: bool = False):
    metrics = {"width": pixels, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


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
            assert float(value.replace("\u2212", "-")) == pytest.approx(q[j], abs=0.006)
            assert float(total.replace("\u2212", "-")) == pytest.approx(what_if[j], abs=0.006)
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
    width(browser, pixels, height, mobile=pixels < 500)
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
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


# The scene


LABELS = """
const { t, agent } = watch.state;
return watch.stage.scenes.map((scene) => {
  const { width, height } = scene.shown;
  const labels = scene.labels(scene.shown, t, agent);
  return [width, height, labels.map(({ item, x, y, wide, tall }) =>
    [item.agent ?? -1, item.number, x - wide / 2, x + wide / 2, y - tall / 2, y + tall / 2])];
})[0];
"""


def labels(browser) -> list[list[float]]:
    """The labels of the scene: agent (-1: none), number, left, right, top, bottom."""
    wide, tall, found = browser.execute_script(LABELS)
    for _, _, left, right, top, bottom in found:
        assert 0 <= left < right <= wide and 0 <= top < bottom <= tall
    return found


@pytest.mark.parametrize("name", ["team:corridor", "team:MMM", "foraging", "spread"])
@pytest.mark.parametrize(("pixels", "height"), [(1280, 900), (390, 844)])
def test_no_agents_number_is_hidden_in_a_crowd(opened, name, pixels, height):
    browser = opened(name, "#episode=best&t=0")
    width(browser, pixels, height, mobile=pixels < 500)
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
    try:
        for t in range(0, len(array(browser, "q_tot")), 3):
            browser.execute_script(f"location.hash = '#episode=best&t={t}&agent=0'")
            wait(browser, f"watch.state.t === {t}")
            found = labels(browser)
            alive = "return watch.stage.scenes[0].units?.flatMap((unit, u) =>"
            alive += f"unit.ally && watch.stage.scenes[0].alive({t}, u) ? [unit.index] : [])"
            wanted = browser.execute_script(alive)
            if wanted is None:
                wanted = range(array(browser, "chosen").shape[1])
            assert sorted(one[0] for one in found if one[0] >= 0) == list(wanted)
            for i, one in enumerate(found):
                for other in found[:i]:
                    apart = one[2] > other[3] or other[2] > one[3]
                    assert apart or one[4] > other[5] or other[4] > one[5]
    finally:
        width(browser, 1280, 800)


def test_ten_agents_have_ten_colours_none_near_the_enemys(opened):
    browser = opened("team:MMM", "#t=0")
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        script = """
            const style = getComputedStyle(document.documentElement);
            const names = ["enemy", ...Array.from({ length: 10 }, (_, i) => `agent-${i}`)];
            return names.map((name) => style.getPropertyValue(`--${name}`).trim());
        """
        places = [oklab(colour) for colour in browser.execute_script(script)]
        for i, one in enumerate(places):
            for k, other in enumerate(places[:i]):
                assert np.linalg.norm(one - other) > (0.14 if k == 0 else 0.08)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chips = (
        "return [...document.querySelectorAll('#agents .chip')].map((one) => one.style.background)"
    )
    assert browser.execute_script(chips) == [f"var(--agent-{i})" for i in range(10)]


def oklab(colour: str) -> np.ndarray:
    """A colour #rrggbb in the space of Ottosson (2020), in which distances are perceived alike."""
    rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    rgb = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    lms = np.array(
        [[0.41222, 0.53633, 0.05145], [0.2119, 0.6807, 0.1074], [0.0883, 0.28172, 0.62998]]
    )
    lab = np.array(
        [[0.21045, 0.79362, -0.00407], [1.978, -2.42859, 0.45059], [0.0259, 0.78277, -0.80868]]
    )
    return lab @ np.cbrt(lms @ rgb)


MIDDLE = """
const scene = watch.stage.scenes[0];
const u = scene.numberOf(true, watch.state.agent);
const [x, y] = scene.place(scene.shown, watch.state.t, u);
return [x - scene.shown.width / 2, y - scene.shown.height / 2];
"""
WHEEL = """
const scene = document.getElementById("scene");
scene.dispatchEvent(new WheelEvent("wheel", { deltaY: arguments[0], cancelable: true }));
return watch.stage.lens.zoom;
"""
PINCH = """
const scene = document.getElementById("scene");
const touch = (kind, pointerId, clientX) =>
  scene.dispatchEvent(new PointerEvent(kind, { pointerId, clientX, clientY: 100 }));
touch("pointerdown", 1, 100);
touch("pointerdown", 2, 150);
touch("pointermove", 2, 250);
touch("pointerup", 1, 100);
touch("pointerup", 2, 250);
return watch.stage.lens.zoom;
"""


def test_the_wheel_zooms_and_the_chosen_agent_is_followed(opened):
    browser = opened("battle", "#t=0&agent=1")
    assert browser.execute_script(WHEEL, 100) == 1  # all is shown: the page scrolls
    assert browser.execute_script(WHEEL, -400) > 2
    for _ in range(4):
        assert browser.execute_script(MIDDLE) == pytest.approx([0, 0], abs=1)
        press(browser, Keys.ARROW_RIGHT)
    press(browser, "n")
    assert browser.execute_script(MIDDLE) == pytest.approx([0, 0], abs=1)
    browser.find_element(By.CSS_SELECTOR, ".lens button:last-child").click()
    assert browser.execute_script("return watch.stage.lens.zoom") == 1


def test_two_fingers_zoom(opened):
    browser = opened("foraging", "#t=0")
    assert browser.execute_script(PINCH) == pytest.approx(3)


def test_an_enemy_that_is_clicked_is_followed(opened):
    browser = opened("battle", "#t=0&agent=1")
    script = """
        const scene = watch.stage.scenes[0];
        const u = scene.units.findIndex((unit) => !unit.ally);
        const [x, y] = scene.place(scene.shown, 0, u);
        const box = scene.canvas.getBoundingClientRect();
        const place = { clientX: box.left + x, clientY: box.top + y };
        scene.canvas.dispatchEvent(new MouseEvent("click", place));
        return [u, scene.followed];
    """
    enemy, followed = browser.execute_script(script)
    assert enemy == followed and state(browser)["agent"] == 1


@pytest.mark.parametrize("name", ["foraging", "spread"])
def test_things_are_drawn_where_the_environment_says(runs, name):
    run = load(runs(name), "last", 1)
    episode = play(run)[0][0]
    scene = film(run, episode)
    env = run.script.open_env(run.args)
    env.reset(seed=episode.seed)
    task = env.unwrapped._env.unwrapped
    for t, actions in enumerate([None, *episode.actions]):
        if actions is not None:
            env.step(actions)
        for place, thing in enumerate(scene["things"]):
            x, y = (scene["moving"][part][t, place] for part in "xy")
            if name == "spread":
                entities = getattr(task.world, f"{thing['kind']}s")
                assert (x, y) == pytest.approx(entities[thing["number"]].state.p_pos, abs=1e-6)
            elif thing["kind"] == "agent":
                player = task.players[thing["number"]]
                rows = task.field.shape[0]
                assert (rows - y - 0.5, x - 0.5) == player.position
                assert scene["moving"]["level"][t, place] == player.level
            elif scene["moving"]["there"][t, place]:
                rows = task.field.shape[0]
                assert task.field[int(rows - y), int(x)] == scene["moving"]["level"][t, place]
    env.close()


class Warehouse:
    """What RWARE has: places of agents, shelves and goals."""

    class Agent:
        def __init__(self, x, y, turn):
            self.x, self.y, self.dir = x, y, type("Direction", (), {"name": turn})

    def __init__(self):
        self.unwrapped = self
        self.grid_size, self.sensor_range = (4, 6), 1
        self.agents = [self.Agent(0, 3, "UP"), self.Agent(5, 0, "LEFT")]
        self.shelfs = [self.Agent(2, 1, "UP")]
        self.request_queue, self.goals = list(self.shelfs), [(3, 3)]


def test_a_warehouse_is_drawn_without_a_display():
    found = finder(type("Team", (), {"unwrapped": type("Inner", (), {"_env": Warehouse()})}))()
    scene = recorded([found])
    assert scene["field"] == {"box": [0, 0, 6, 4], "grid": True, "sight": 1}
    kinds = [thing["kind"] for thing in scene["things"]]
    assert kinds == ["goal", "shelf", "agent", "agent"]
    assert scene["moving"]["x"][0].tolist() == [3.5, 2.5, 0.5, 5.5]
    assert scene["moving"]["y"][0].tolist() == [0.5, 2.5, 0.5, 3.5]
    assert scene["moving"]["turn"][0].tolist() == [0, 0, 1, 4]


def test_the_users_grid_world_is_drawn_from_its_positions():
    agent = {"kind": "agent", "number": 0, "row": 0, "column": 2}
    things = [agent, {"kind": "door", "number": 1, "row": 4, "column": 0}]
    positions = {"size": (5, 3), "sight": 2, "things": things}
    own = type("Team", (), {"positions": staticmethod(lambda: positions)})
    scene = recorded([finder(type("Env", (), {"unwrapped": own}))()])
    assert scene["field"] == {"box": [0, 0, 3, 5], "grid": True, "sight": 2}
    assert scene["things"] == [{"kind": "agent", "number": 0}, {"kind": "door", "number": 1}]
    assert scene["moving"]["y"][0].tolist() == [4.5, 0.5]


@pytest.mark.parametrize("thing", [{"row": 0}, {"kind": "agent", "number": "a"}, 3])
def test_positions_that_cannot_be_read_are_refused(thing):
    own = type("Team", (), {"positions": staticmethod(lambda: {"size": (5, 3), "things": [thing]})})
    says = r"positions\(\) must return .* got the thing " + re.escape(repr(thing))
    with pytest.raises(Refused, match=says):
        finder(type("Env", (), {"unwrapped": own}))()


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        (lambda: [1, 2], "returns [1, 2], not "),
        (lambda: {"shape": (5, 3), "things": []}, "not "),
        (lambda: [][1], "fails: IndexError"),
    ],
)
def test_a_method_of_the_same_name_is_not_used_and_a_line_says_so(capsys, positions, says):
    own = type("Team", (), {"positions": staticmethod(positions)})
    for _ in range(2):
        assert finder(type("Env", (), {"unwrapped": own})) is None
    said = capsys.readouterr().err
    assert said.count("positions() of the environment") == 1
    assert says in said


def test_without_a_display_one_sentence_says_how_to_get_one():
    for error in (Exception('Cannot connect to "None"; no display'), ImportError("libGL missing")):
        assert reason(error).startswith("it needs a display; ") and "xvfb-run" in reason(error)
    assert reason(ValueError("no wheels\nhere")) == "no wheels here"


def test_another_environment_has_its_frames_and_a_legend(browser, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("cleanmarl.watch.scene.finder", lambda env: None)
    frames = np.random.default_rng(1).integers(0, 255, (99, 40, 60, 3), np.uint8)
    monkeypatch.setattr("cleanmarl.env.lbf.LevelBasedForaging.render", lambda env: frames[0])
    file = tmp_path / "page.html"
    file.write_text(page(load(runs("foraging"), "last", 1)))
    browser.get(file.as_uri())
    wait(browser, "document.body.dataset.ready")
    said = text(browser, "legend")
    assert "does not say which figure is which agent" in said
    assert "Agents: agent 0, agent 1" in said and "Actions: none, north" in said
    assert browser.find_element(By.ID, "scene").is_displayed()


def test_the_last_moment_shows_the_end_and_the_last_decision(opened):
    browser = opened("battle", "#t=999&agent=1")
    steps = len(array(browser, "q_tot"))
    end = browser.find_element(By.CLASS_NAME, "end").text
    assert re.fullmatch(r"(Won|Lost): \d of 3 agents and \d of 3 enemies left", end)
    assert f"The last decision, at step {steps - 1}" in text(browser, "agent-hint")
    agents = browser.find_elements(By.CSS_SELECTOR, "#agents tbody tr")
    names = browser.execute_script("return watch.episodes.at(-1).actions")
    for i, row in enumerate(agents):
        action = names[i][int(array(browser, "chosen")[-1, i])]
        assert row.find_element(By.CLASS_NAME, "does").text == action
        weight = row.find_element(By.CSS_SELECTOR, ".weighs .number").text
        assert number(weight) == pytest.approx(array(browser, "slope")[-1, i], abs=0.006)
    press(browser, Keys.ARROW_LEFT)
    assert browser.find_element(By.CLASS_NAME, "end").text == ""


# Everyone


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


@pytest.mark.parametrize("key", [Keys.ARROW_DOWN, Keys.END])
def test_keys_that_scroll_a_page_scroll_this_one(opened, key):
    browser = opened("battle", "#t=1&agent=1")
    press(browser, key)
    wait(browser, "scrollY > 0")
    wait_until_it_stands(browser)
    assert (state(browser)["t"], state(browser)["agent"]) == (1, 1)
    back = {Keys.ARROW_DOWN: Keys.ARROW_UP, Keys.END: Keys.HOME}[key]
    press(browser, back)
    wait(browser, "scrollY === 0")
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
    width(browser, pixels, height, mobile=pixels < 500)
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
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


# Take along


def test_next_surprise_leads_to_the_moments_worth_seeing(opened):
    browser = opened("team:MMM", "#episode=best&t=0&agent=0")
    q_tot, reward, gamma = (
        array(browser, "q_tot"),
        array(browser, "reward"),
        browser.execute_script("return watch.args.gamma[0]"),
    )
    td_error = np.abs(reward + gamma * np.append(q_tot[1:], 0) - q_tot)
    if browser.execute_script("return watch.episodes.at(-1).truncated"):
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


# Two teams


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
    width(browser, pixels, height, mobile=pixels < 500)
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
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


# The first minute


def without_storage(browser, script: str, file: str):
    """Open a page as a browser does that has not seen it; a script runs before the page's."""
    identifier = on_each_page(browser, script)
    browser.get("about:blank")
    browser.get(file)
    wait(browser, "document.body.dataset.ready")
    options = {"identifier": identifier}
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", options)


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


def number(text: str) -> float:
    return float(text.replace("\u2212", "-"))


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
    width(browser, pixels, height, mobile=pixels < 500)
    browser.refresh()
    wait(browser, "document.body.dataset.ready")
    browser.execute_script("scrollTo(0, document.querySelector('footer').offsetTop - innerHeight)")
    scenes = "return [...document.querySelectorAll('.scene')].map((one) => one.clientHeight)"
    sizes = browser.execute_script(scenes)
    place = "return document.getElementById('stage').getBoundingClientRect().toJSON()"
    stage = browser.execute_script(place)
    width(browser, 1280, 800)
    assert stage["top"] == pytest.approx(0, abs=1) and min(sizes) > 100
    assert stage["bottom"] < 0.6 * height


# The gallery


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
