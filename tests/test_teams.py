"""Published teams: their names, their list, and the program that collects them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cleanmarl import teams, training
from cleanmarl.benchmark.task import Task, keep
from cleanmarl.training.checkpoint import load_model
from docs.tools import collect_teams
from tests.helpers import MODULES, ROOT, TWO_STEPS, small_args, trained

RANDOM = {"env_name": "terran_3_vs_3", "total_timesteps": 60, "eval_steps": 1}


def of_sweep(folder: Path, script: str, variant: str = "", **options) -> Path:
    """A finished run of a sweep with its record and its team; returns the run's folder."""
    args = small_args(script, **options)
    words = [args.env_type, args.env_name, script, *variant.split(), str(args.seed)]
    place = folder / "__".join(words)
    run = trained(script, place / "runs/run", **options)
    (place / "log.txt").touch()
    task = Task(place.name, place, ["-m", f"cleanmarl.{script}"], vars(args))
    assert keep(task) == 0
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A sweep with five runs, and a run of its own."""
    root = tmp_path_factory.mktemp("runs")
    for seed in (2, 10):
        of_sweep(root / "sweep", "qmix", **TWO_STEPS, seed=seed)
    of_sweep(root / "sweep", "qmix_lstm", **TWO_STEPS)
    of_sweep(root / "sweep", "qmix", "mixer=vdn", **TWO_STEPS, mixer="vdn")
    of_sweep(root / "sweep", "qmix", "mixer=qmix td_lambda=1", **TWO_STEPS, td_lambda=1.0)
    trained("qmix", root / "alone", **RANDOM)
    return root


@pytest.fixture
def published(tmp_path, monkeypatch):
    """An empty place for teams, and an empty page."""
    monkeypatch.setattr(teams, "TEAMS", tmp_path / "docs/results/teams")
    monkeypatch.setattr(collect_teams, "PAGE", tmp_path / "teams.md")
    head = f"|{'|'.join(teams.COLUMNS)}|\n"
    (tmp_path / "teams.md").write_text(f"above\n\n{head}| old |\n\nbelow\n")
    return teams.TEAMS


def collect(*runs: Path, **options):
    collect_teams.main(collect_teams.Args(runs=runs, **{"episodes": 2} | options))


NAMES = ["terran_3_vs_3-1", "two_step_game-2", "two_step_game-10", "two_step_game-qmix_lstm-1"]
NAMES += ["two_step_game-td_lambda=1-1", "two_step_game-vdn-1"]


def test_teams_of_sweeps_and_runs_are_published_by_name(runs, published, tmp_path, capsys):
    collect(runs / "sweep", runs / "alone")
    assert teams.team_names() == NAMES
    files = {path.name for path in (published / "two_step_game-2").iterdir()}
    assert files == {"args.json", "team.json", "best.pt", "evaluation.json"}
    page = (tmp_path / "teams.md").read_text()
    assert page.startswith("above\n") and page.endswith("\n\nbelow\n") and "old" not in page
    assert [f"|`{name}`|" in page for name in NAMES] == [True] * len(NAMES)
    assert "6 teams" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["two_step_game-2", "two_step_game-qmix_lstm-1"])
def test_a_published_team_plays_as_the_run_did(runs, published, name):
    collect(runs)
    folder = published / name
    about = json.loads((folder / "team.json").read_text())
    saved = json.loads((folder / "args.json").read_text())
    module = MODULES[about["script"]]
    args = module.Args(**saved | {"num_eval_ep": 2})
    (run,) = (runs / "sweep").glob(f"*__{about['script']}__{args.seed}/runs/run")
    played = []
    for source in (run, folder):
        env = module.open_env(args)
        networks = module.Networks(args, env)
        load_model(source, "best", target_agent=networks.target_agent)
        played.append(module.evaluate(env, networks.target_agent, args, "test"))
    assert played[0] == played[1]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert [one["ep_reward"] for one in evaluation["per_episode"]] == [
        one["ep_reward"] for one in played[0]
    ]


def test_a_published_team_has_all_networks_in_half_the_size(runs, published):
    collect(runs)
    (run,) = (runs / "sweep").glob("*__qmix__2/runs/run")
    own, copied = (
        torch.load(folder / "best.pt", weights_only=True)
        for folder in (run, published / "two_step_game-2")
    )
    assert copied.keys() == own.keys() and copied["step"] == own["step"]
    for name in ("agent", "mixer"):
        for key, value in own[f"target_{name}"].items():
            assert torch.equal(copied[name][key], value)
            assert torch.equal(copied[f"target_{name}"][key], value)
    module = MODULES["qmix"]
    args = module.Args(env_name="MMM")
    weights = {n: net.state_dict() for n, net in networks_of(module, args).named_children()}
    path = published / "whole.pt"
    path.write_bytes(collect_teams.to_bytes(weights | {"step": 1}))
    assert len(collect_teams.targets(path)) < 0.6 * path.stat().st_size


def networks_of(module, args):
    return module.Networks(args, module.open_env(args))


def test_a_published_team_names_no_folder_of_the_machine_that_made_it(runs, published, tmp_path):
    collect(runs)
    for path in published.rglob("*.json"):
        assert not any(str(place) in path.read_text() for place in (ROOT, runs, Path.home()))


def test_a_team_is_replaced_by_one_of_the_same_name(runs, published):
    collect(runs / "alone")
    (published / "terran_3_vs_3-1/best.pt").write_bytes(b"")
    collect(runs / "alone")
    assert (published / "terran_3_vs_3-1/best.pt").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": (1,)}, "two_step_game-2: its seed is not in --seeds"),
        ({"largest": 0.001}, "two_step_game-2: it takes 0.0 MB, more than --largest"),
    ],
)
def test_teams_are_left_out_with_a_reason(runs, published, capsys, options, says):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teams, "table", lambda: [teams.COLUMNS])
        collect(runs / "sweep", **options)
    assert f"left out: {says}" in capsys.readouterr().err


def test_runs_that_are_not_finished_are_left_out(runs, published, tmp_path, capsys):
    shutil.copytree(runs / "alone", tmp_path / "stopped")
    sessions = json.loads((tmp_path / "stopped/run.json").read_text())
    sessions[-1]["ending"] = "stopped"
    (tmp_path / "stopped/run.json").write_text(json.dumps(sessions))
    with pytest.raises(training.Refused, match="no trained teams"):
        collect(tmp_path / "stopped")
    assert "left out: stopped: its run is not finished" in capsys.readouterr().err


def test_two_teams_of_one_name_and_too_large_collections_are_refused(
    runs, published, tmp_path, monkeypatch
):
    shutil.copytree(runs / "alone", tmp_path / "again")
    with pytest.raises(training.Refused, match="two teams would be terran_3_vs_3-1"):
        collect(runs / "alone", tmp_path / "again")
    monkeypatch.setattr(collect_teams, "ROOM", 1e3)
    with pytest.raises(training.Refused, match="all teams would take"):
        collect(runs / "alone")
    assert not published.exists()


# Names


def named(folder: Path, *names: str):
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "evaluation.json").write_text("{}")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("team:3m", "3m-2"),
        ("team:3m-10", "3m-10"),
        ("team:3m-qmix_lstm", "3m-qmix_lstm-1"),
        ("team:Foraging-8x8-2p-3f-v3", "Foraging-8x8-2p-3f-v3-1"),
    ],
)
def test_a_team_without_a_seed_is_the_first_one(published, text, name):
    named(published, "3m-10", "3m-2", "3m-qmix_lstm-1", "Foraging-8x8-2p-3f-v3-1", "8m-1")
    assert teams.path_of(text) == published / name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("team:3n", "there is no team '3n'; did you mean team:3m"),
        ("team:MMM2", "did you mean team:MMM2-qmix_lstm?"),
        ("team:3m-3", "did you mean team:3m-2"),
        ("team:zzz", "python -m cleanmarl.teams lists all"),
        ("team:../teams/3m-2", "there is no team"),
        ("team:", "there is no team ''"),
    ],
)
def test_an_unknown_team_is_refused_with_the_nearest_names(published, text, says):
    named(published, "3m-2", "MMM2-qmix_lstm-1")
    with pytest.raises(training.Refused) as refused:
        teams.path_of(text)
    assert says in str(refused.value)


def test_other_text_is_the_path_of_a_folder(published):
    assert teams.path_of("runs/3m") == teams.path_of(Path("runs/3m")) == Path("runs/3m")


def test_an_installation_without_teams_says_so(published, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["teams"])
    with pytest.raises(SystemExit) as end:
        teams.main()
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert "there are no trained teams in this installation" in err


def test_the_list_has_a_line_for_each_team(runs, published, monkeypatch, capsys):
    collect(runs)
    monkeypatch.setattr(sys, "argv", ["teams"])
    capsys.readouterr()
    teams.main()
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "name"
    assert [line.split()[0] for line in lines] == NAMES
    assert "win rate" in lines[0] and "reward" in lines[1]
    assert "pz:tests.games:two_step_game" in lines[1]


def test_names_are_resolved_without_loading_pytorch():
    program = (
        "import sys, cleanmarl.teams; print(any(n in sys.modules for n in ('torch', 'numpy')))"
    )
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True)
    assert done.stdout == b"False\n"


@pytest.mark.parametrize(
    ("args", "task"),
    [
        ({"env_type": "smaclite", "env_name": "3m"}, "3m"),
        ({"env_type": "lbf", "env_name": "F-v3"}, "lbf:F-v3"),
        ({"env_type": "pz", "env_name": "s", "env_family": "mpe"}, "pz:s"),
        (
            {"env_type": "pz", "env_name": "p", "env_family": "sisl", "env_options": {"N": 5}},
            "pz:sisl:p N=5",
        ),
    ],
)
def test_tasks_are_named_as_for_sweeps(args, task):
    assert teams.task_of(args) == task


def names_here() -> list[str]:
    """Some of the published teams, the smallest ones."""
    paths = (ROOT / "docs/results/teams").glob("*/best.pt")
    return [path.parent.name for path in sorted(paths, key=lambda one: one.stat().st_size)[:4]]


def rounded(value):
    """The same content. From Python 3.12 on, `sum` of the rewards has other last digits."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 9) if isinstance(value, float) else value


@pytest.mark.parametrize("name", names_here())
def test_a_published_team_reaches_its_published_result(name):
    folder = ROOT / "docs/results/teams" / name
    script = json.loads((folder / "team.json").read_text())["script"]
    expected = json.loads((folder / "evaluation.json").read_text())
    actual = collect_teams.evaluate(folder, script, expected["episodes"])
    assert rounded(actual) == rounded(expected)


def test_all_published_teams_take_at_most_40_megabytes():
    paths = (ROOT / "docs/results/teams").glob("*/*")
    assert sum(path.stat().st_size for path in paths) <= collect_teams.ROOM
