"""What a run sends to Weights & Biases, and that a fault there ends no training."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from cleanmarl import load_team, qmix
from cleanmarl.training.checkpoint import read_model
from cleanmarl.training.session import made_with
from cleanmarl.training.wnb import group_of
from tests.helpers import ROOT, TWO_STEPS, small_args


class FakeWandb:
    """The module wandb, and its run, which record their calls."""

    def __init__(self):
        self.opened, self.logged, self.teams, self.exit_code = {}, [], [], None

    def init(self, **options):
        self.opened = options
        return self

    def define_metric(self, name, step_metric):
        self.axis = {name: step_metric}

    def log(self, scalars):
        self.logged.append(scalars)

    def log_artifact(self, team, aliases):
        self.teams.append(team)

    def finish(self, exit_code):
        self.exit_code = exit_code

    def Video(self, path, format):
        assert Path(path).read_bytes().startswith(b"GIF")
        return f"the {format}"

    def Artifact(self, name, type, metadata):
        files = {}

        def add_file(path):
            files[Path(path).name] = Path(path).read_bytes()

        about = {"name": name, "type": type, "files": files, "metadata": metadata}
        return SimpleNamespace(add_file=add_file, **about)


def broken(*args, **options):
    raise ConnectionError("no network")


def trained_with(wandb, folder, monkeypatch, **options) -> dict[str, float]:
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    small = TWO_STEPS | {"total_timesteps": 20, "batch_size": 2, "log_every": 1, "use_wnb": True}
    return qmix.train(qmix.Args(**small | options), folder=folder / "run")


def test_weights_and_biases_gets_the_scalars_and_the_arguments(tmp_path, monkeypatch):
    fake = FakeWandb()
    trained_with(fake, tmp_path, monkeypatch, wnb_project="qmix", wnb_entity="me", seed=3)
    opened = fake.opened
    assert (opened["project"], opened["entity"], opened["config"]["seed"]) == ("qmix", "me", 3)
    assert fake.axis == {"*": "step"}
    steps = [scalars["step"] for scalars in fake.logged]
    assert steps == sorted(steps) and steps[-1] == 20
    names = {name for scalars in fake.logged for name in scalars}
    assert {"rollout/ep_reward", "train/loss", "eval/ep_reward", "charts/SPS"} <= names
    assert fake.exit_code == 0


def test_weights_and_biases_gets_name_group_tags_script_and_commit(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_RUN_GROUP", raising=False)
    fake = FakeWandb()
    trained_with(fake, tmp_path, monkeypatch)
    assert fake.opened["name"] == "run"
    words = "--total-timesteps 20 --batch-size 2 --log-every 1"
    assert fake.opened["group"] == f"pz two_step_game qmix {words}"
    assert fake.opened["tags"] == ["pz", "two_step_game", "qmix"]
    config = fake.opened["config"]
    assert (config["script"], config["commit"]) == ("qmix", made_with()["commit"])
    monkeypatch.setenv("WANDB_RUN_GROUP", "mine")
    trained_with(fake, tmp_path, monkeypatch)
    assert fake.opened["group"] is None  # wandb reads the variable


def test_weights_and_biases_writes_into_the_run_folder_wherever_its_own_process_began(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    fake = FakeWandb()
    trained_with(fake, Path("here"), monkeypatch)
    assert fake.opened["dir"] == str(tmp_path / "here/run")


def test_runs_are_grouped_by_environment_script_and_variant():
    one = small_args("qmix", **TWO_STEPS, seed=1)
    same = ({"seed": 2}, {"use_wnb": True, "wnb_project": "mine"}, {"checkpoint_every": 7})
    assert {group_of(replace(one, **options)) for options in same} == {group_of(one)}
    others = ({"gamma": 0.5}, {"double_q": True}, {"env_options": {"N": 5}}, {"env_name": "x"})
    groups = {group_of(replace(one, **options)) for options in ({}, *others)}
    assert len({*groups, group_of(small_args("qmix_lstm", **TWO_STEPS))}) == 6


def test_the_name_of_a_group_has_at_most_128_characters():
    long = [qmix.Args(env_name="x" * 200, gamma=gamma) for gamma in (0.5, 0.6)]
    first, second = map(group_of, long)
    assert len(first) == len(second) == 128
    assert first != second


def test_weights_and_biases_gets_the_episode_and_the_best_team(tmp_path, monkeypatch):
    fake = FakeWandb()
    battle = {"env_type": "smaclite", "env_name": "3m", "time_limit": 5}
    trained_with(fake, tmp_path, monkeypatch, capture_video=True, **battle)
    assert fake.logged[-1] == {"episode": "the gif", "step": 20}
    (team,) = fake.teams
    assert (team.name, team.type) == ("run", "model")
    assert team.metadata == {"step": read_model(tmp_path / "run" / "best.pt")["step"]}
    (tmp_path / "artifact").mkdir()
    for name, content in team.files.items():
        (tmp_path / "artifact" / name).write_bytes(content)
    assert load_team(tmp_path / "artifact").step == team.metadata["step"]


def test_a_run_that_failed_has_failed_in_weights_and_biases(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setattr(qmix, "update", broken)
    with pytest.raises(ConnectionError):
        trained_with(fake, tmp_path, monkeypatch)
    assert (fake.exit_code, fake.teams) == (1, [])


def failing(method: str, after: int = 0) -> FakeWandb:
    """A module whose `method` fails from its call number `after` on."""
    fake, calls = FakeWandb(), []
    work = getattr(fake, method)

    def fail(*args, **options):
        calls.append(args)
        return broken() if len(calls) > after else work(*args, **options)

    setattr(fake, method, fail)
    return fake


FAULTS = {
    "import": None,
    "init": failing("init"),
    "log": failing("log"),
    "a later log": failing("log", after=4),
    "no artifacts": failing("Artifact"),
    "artifact": failing("log_artifact"),
    "finish": failing("finish"),
}


@pytest.mark.parametrize("wandb", FAULTS.values(), ids=FAULTS)
def test_a_failing_weights_and_biases_warns_once_and_the_training_continues(
    tmp_path, monkeypatch, capsys, wandb
):
    assert trained_with(wandb, tmp_path, monkeypatch)["eval/ep_length"] == 2
    out, err = capsys.readouterr()
    assert err.count("warning: ") == 1
    assert out.startswith("done after 20 steps")
    assert (tmp_path / "run" / "model.pt").exists()


def test_a_video_that_weights_and_biases_does_not_take_is_a_warning(tmp_path, monkeypatch, capsys):
    battle = {"env_type": "smaclite", "env_name": "3m", "time_limit": 5, "capture_video": True}
    fake = failing("Video")
    trained_with(fake, tmp_path, monkeypatch, **battle)
    assert "warning: no video in Weights & Biases: no network\n" in capsys.readouterr().err
    assert len(fake.teams) == 1


SHORT = "--total-timesteps 100 --time-limit 5 --log-every 1 --batch-size 2 --num-eval-ep 1"


def test_weights_and_biases_offline_writes_into_the_run_folder(tmp_path):
    words = [sys.executable, str(ROOT / "cleanmarl/qmix.py"), "--use-wnb", "--capture-video"]
    names = ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
    settings = os.environ | dict.fromkeys(names, str(tmp_path / "home"))
    settings |= {"WANDB_MODE": "offline"}
    options = {"cwd": tmp_path, "env": settings, "capture_output": True, "text": True}
    done = subprocess.run([*words, *SHORT.split()], timeout=120, **options)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr
    assert "done after" in done.stdout
    (folder,) = tmp_path.glob("runs/*/wandb/offline-run-*")
    (data,) = folder.glob("*.wandb")
    assert b"smaclite 3m qmix --time-limit 5" in data.read_bytes()
    assert len(list(folder.glob("files/media/videos/episode_*.gif"))) == 1
    (run,) = tmp_path.glob("runs/*")
    assert f"{run.name}".encode() in data.read_bytes()
