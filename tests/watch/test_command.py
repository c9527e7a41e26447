"""`python -m cleanmarl.watch`."""

import json
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cleanmarl.watch.episodes import play
from cleanmarl.watch.page import page
from cleanmarl.watch.scene import film, words
from cleanmarl.watch.trained import load
from tests.helpers import ROOT, SOURCES, TWO_STEPS, trained
from tests.watch.runs import moving_about, refused, thoughts


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
