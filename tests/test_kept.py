"""Networks kept over the course of a training: when, by which names, and how they are loaded."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cleanmarl
from cleanmarl import qmix
from cleanmarl.benchmark.task import keep_team
from cleanmarl.training import checkpoint
from cleanmarl.training.checkpoint import load_checkpoint
from cleanmarl.training.errors import Refused
from cleanmarl.training.kept import kept_steps, steps_to_keep
from cleanmarl.training.run import Run
from tests.helpers import (
    MODULES,
    TWO_STEPS,
    every_script,
    run_program,
    trained,
    weights,
)

# 20 episodes of 2 steps, with a checkpoint after every third
SHORT = TWO_STEPS | {"total_timesteps": 40, "checkpoint_every": 3, "keep_models": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that kept four teams; no test may change it."""
    return trained("qmix", tmp_path_factory.mktemp("runs") / "run", **SHORT)


@pytest.mark.parametrize(
    ("number", "total", "steps"),
    [(0, 100, []), (1, 100, [100]), (3, 100, [33, 66, 100]), (5, 3, [1, 2, 3])],
)
def test_the_steps_are_evenly_spaced_up_to_the_end(number, total, steps):
    args = SimpleNamespace(keep_models=number, total_timesteps=total)
    assert steps_to_keep(args) == steps


def test_a_copy_of_an_older_script_keeps_none():
    assert steps_to_keep(SimpleNamespace(total_timesteps=100)) == []


@every_script
def test_every_script_keeps_the_networks_that_acted_at_these_steps(script, tmp_path, monkeypatch):
    acted = {}  # step -> weights of the agents
    advance = Run.advance

    def look(self, step):
        agent = self.state["networks"].target_agent
        acted[step] = {name: one.clone() for name, one in agent.state_dict().items()}
        advance(self, step)

    monkeypatch.setattr(Run, "advance", look)
    folder = trained(script, tmp_path / "run", **SHORT | {"polyak": 0.5})
    assert kept_steps(folder) == [10, 20, 30, 40]
    for step in (10, 20, 30, 40):
        kept = torch.load(folder / f"models/{step}.pt", weights_only=True)
        assert kept["step"] == min(one for one in acted if one >= step)
        assert kept.keys() == {"agent", "mixer", "target_agent", "target_mixer", "step"}
        for name, one in acted[kept["step"]].items():
            assert torch.equal(kept["target_agent"][name], one)
    first, last = weights(folder, "models/10.pt"), weights(folder, "models/40.pt")
    assert not all(torch.equal(one, last[name]) for name, one in first.items())


def test_by_default_nothing_is_kept(tmp_path):
    assert not (trained("qmix", tmp_path / "run", **SHORT | {"keep_models": 0}) / "models").exists()


def test_a_run_that_was_stopped_and_resumed_keeps_the_same(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        save = Run.save

        def killed(self):
            save(self)
            if self.step >= 24:
                raise KeyboardInterrupt

        patch.setattr(Run, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            trained("qmix", folder, **SHORT)
    (folder / "models" / "20.pt").unlink()  # was kept before the checkpoint, so it stays away
    own = load_checkpoint(folder, "qmix")["args"]
    qmix.train(qmix.Args(**own | {"resume": str(folder)}))
    assert kept_steps(folder) == [10, 30, 40]
    for step in kept_steps(folder):
        name = f"models/{step}.pt"
        here, there = weights(folder, name), weights(run, name)
        assert all(torch.equal(here[part], there[part]) for part in here)


def test_a_run_that_is_made_longer_keeps_what_it_has(run, tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    own = load_checkpoint(folder, "qmix")["args"]
    qmix.train(qmix.Args(**own | {"resume": str(folder), "total_timesteps": 80}))
    assert kept_steps(folder) == [10, 20, 30, 40, 60, 80]
    qmix.train(
        qmix.Args(**own | {"resume": str(folder), "total_timesteps": 100, "keep_models": 10})
    )
    assert kept_steps(folder) == [10, 20, 30, 40, 60, 80, 90, 100]


def test_a_run_of_an_older_version_can_keep_some_when_it_is_resumed(tmp_path, monkeypatch, command):
    with monkeypatch.context() as patch:  # an older version has no such argument
        patch.setattr(checkpoint, "plain", without("keep_models"))
        folder = trained("qmix", tmp_path / "run", **SHORT | {"keep_models": 0})
    assert "keep_models" not in load_checkpoint(folder, "qmix")["args"]
    words = ("--resume", str(folder), "--total-timesteps", "60", "--keep-models", "6")
    status, _, err = command("qmix", *words)
    assert status == 0, err
    assert "no longer one experiment" not in err
    assert kept_steps(folder) == [50, 60]


def test_a_run_of_an_older_version_still_makes_one_update_an_episode(
    tmp_path, monkeypatch, command
):
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "plain", without("steps_per_update"))
        folder = trained("qmix", tmp_path / "run", **SHORT)
    status, _, err = command("qmix", "--resume", str(folder), "--total-timesteps", "60")
    assert status == 0, err
    assert load_checkpoint(folder, "qmix")["args"]["steps_per_update"] == 2**31 - 1


def test_a_run_of_an_older_version_keeps_the_adam_of_pytorch(tmp_path, monkeypatch, command):
    with monkeypatch.context() as patch:
        options = {"eps": 1e-8, "fused": True}
        patch.setattr("cleanmarl.training.optimizer_options", lambda args: options)
        patch.setattr(checkpoint, "plain", without("optimizer_eps"))
        folder = trained("qmix", tmp_path / "run", **SHORT | {"optimizer_eps": 1e-8})
    status, _, err = command("qmix", "--resume", str(folder), "--total-timesteps", "60")
    assert status == 0, err
    saved = load_checkpoint(folder, "qmix")
    assert saved["args"]["optimizer_eps"] == 1e-8
    (group,) = saved["optimizer"]["param_groups"]
    assert group["initial_eps"] == 1e-8
    assert tuple(group["betas"]) == (0.9, 0.999)


def without(argument: str):
    """`checkpoint.plain` of a version that did not have the argument yet."""

    def plain(value, plain=checkpoint.plain):
        if isinstance(value, dict) and "args" in value:
            args = {name: one for name, one in value["args"].items() if name != argument}
            value = value | {"args": args}
        return plain(value)

    return plain


def test_networks_that_cannot_be_written_are_a_warning(tmp_path, capsys):
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        write = Run.write_model

        def full(self, name):
            if name == "models/20.pt":
                raise OSError(28, "No space left on device")
            write(self, name)

        patch.setattr(Run, "write_model", full)
        trained("qmix", folder, **SHORT)
    assert kept_steps(folder) == [10, 30, 40]
    assert "warning: models/20.pt is not written: [Errno 28]" in capsys.readouterr().err


# Loading them


@pytest.mark.parametrize("which", [20, np.int64(20)])
def test_a_kept_team_is_loaded_and_exported(run, which, tmp_path):
    team = cleanmarl.load_team(run, which=which)
    assert team.step == 20
    assert team.act(np.zeros((team.n_agents, team.obs_size))).shape == (2,)
    team.export(tmp_path / "team.pt2")
    assert (tmp_path / "team.pt2").exists()


@pytest.mark.parametrize(
    ("which", "says"),
    [
        (15, "has no networks of step 15, but of 10, 20, 30, 40"),
        (-1, "has no networks of step -1, but of 10, 20, 30, 40"),
        ("20", 'which must be "best", "last" or a kept step, got \'20\''),
        (True, "got True"),
        (20.0, "got 20.0"),
    ],
)
def test_a_wrong_step_is_refused_with_those_that_are_there(run, which, says):
    with pytest.raises(Refused) as refused:
        cleanmarl.load_team(run, which=which)
    assert says in str(refused.value)


def test_a_run_that_kept_nothing_says_how_to_keep_some(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT | {"keep_models": 0})
    with pytest.raises(Refused, match=r"no networks of step 15: .*--keep-models"):
        cleanmarl.load_team(folder, which=15)


def test_of_many_steps_the_nearest_are_named(tmp_path):
    (tmp_path / "models").mkdir()
    for step in range(1, 31):
        (tmp_path / f"models/{step}00.pt").touch()
    with pytest.raises(Refused) as refused:
        cleanmarl.load_team(tmp_path, which=1520)
    assert "of 1100, 1200, 1300" in str(refused.value)
    assert str(refused.value).endswith("2000 and 20 others")


@every_script
def test_kept_networks_are_evaluated_into_a_folder_of_their_own(script, tmp_path, command):
    folder = trained(script, tmp_path / "run", **SHORT)
    status, out, err = command(script, "--evaluate", str(folder), "--which", "20")
    assert status == 0, err
    file = folder / "at_20" / "evaluation.json"
    assert f"kept networks, saved at step 20: {file}" in out
    evaluation = json.loads(file.read_text())
    assert (evaluation["which"], evaluation["step"]) == (20, 20)
    assert not (folder / "evaluation.json").exists()


def test_an_evaluation_at_a_wrong_step_is_refused(run, command):
    status, out, err = command("qmix", "--evaluate", str(run), "--which", "21")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "but of 10, 20, 30, 40" in err


def test_kept_networks_are_watched(run, tmp_path):
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    words = (str(folder), "--episodes", "1", "--which")
    status, out, err = run_program("cleanmarl.watch", *words, "30")
    assert (status, out.strip()) == (0, str(folder / "watch_30.html")), err
    assert (folder / "watch_30.html").is_file()
    status, out, err = run_program("cleanmarl.watch", *words, "31")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_new_run_begins_with_kept_networks_and_is_evaluated_with_its_own(run, tmp_path, command):
    task = ["--env-type", "pz", "--env-family", "tests.games", "--env-name", "two_step_game"]
    small = ["--hidden-dim", "8", "--hyper-dim", "8", "--batch-size", "9", "--total-timesteps", "4"]
    begins = ["--init-from", str(run), "--which", "20"]
    status, _, err = command("qmix", *task, *small, *begins, "--num-eval-ep", "1")
    assert status == 0, err
    (folder,) = tmp_path.glob("runs/*")
    here, there = weights(folder), weights(run, "models/20.pt")
    name = "agent.layers.0.weight"
    assert torch.equal(here[name], there[name])  # too short to learn
    status, out, err = command("qmix", "--evaluate", str(folder))
    assert status == 0, err
    assert "last networks, saved at step 4" in out


def test_a_sweep_keeps_the_kept_networks_with_the_team(run, tmp_path):
    keep_team(run, tmp_path / "team")
    assert kept_steps(tmp_path / "team") == [10, 20, 30, 40]
    assert cleanmarl.load_team(tmp_path / "team", which=30).step == 30


@every_script
def test_how_many_are_kept_is_checked(script):
    with pytest.raises(Refused, match="--keep-models must be from 0 to 1000, got -1"):
        MODULES[script].train(MODULES[script].Args(keep_models=-1))
