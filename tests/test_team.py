"""A trained team in the user's own program, and as a program of `torch.export`."""

import json
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import cleanmarl
from cleanmarl import team as team_module
from cleanmarl import training
from cleanmarl.errors import Refused
from cleanmarl.training.arguments import load_file, own_arguments
from cleanmarl.training.checkpoint import read_model, read_sessions
from cleanmarl.watch.episodes import Recorder
from cleanmarl.watch.page import page
from cleanmarl.watch.trained import load
from tests.helpers import LBF, MODULES, ROOT, TWO_STEPS, every_script, run_program, trained

TASK = {"env_name": "3m", "total_timesteps": 200}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """`runs(script, **options)`: the folder of a short training, made once."""
    made = {}

    def make(script: str, **options) -> Path:
        key = (script, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("runs") / "run"
            made[key] = trained(script, folder, **TASK | options)
            strengthen(made[key])
        return made[key]

    return make


def strengthen(folder: Path):
    """Random weights, so that the choices of a short training differ."""
    for name in ("best.pt", "model.pt"):
        model = torch.load(folder / name, weights_only=True)
        stream = torch.Generator().manual_seed(1)
        for part in model.values():
            for weights in part.values() if isinstance(part, dict) else ():
                weights += 0.3 * torch.randn(weights.shape, generator=stream)
        torch.save(model, folder / name)


def evaluated(folder: Path, module):
    """The episodes of --evaluate with the best networks."""
    args = module.Args(**json.loads((folder / "args.json").read_text()))
    env = Recorder(module.open_env(args))
    networks = module.Networks(args, env)
    training.load_model(folder, "best", target_agent=networks.target_agent)
    module.evaluate(env, networks.target_agent, args, "test")
    return env.episodes


def choices(team, episode) -> list[np.ndarray]:
    team.reset()
    seen = episode.observations[:-1]
    return [team.act(one["obs"][:, : team.obs_size], one["avail_actions"]) for one in seen]


@every_script
@pytest.mark.parametrize(
    "options",
    [{}, {"agent_ids": False}, {"clock": False}],
    ids=["ids", "no ids", "no clock"],
)
def test_a_team_chooses_what_an_evaluation_chooses(runs, script, options):
    folder = runs(script, **options)
    team = cleanmarl.load_team(folder)
    for episode in evaluated(folder, MODULES[script]):
        np.testing.assert_array_equal(choices(team, episode), episode.actions)
    assert len({tuple(actions) for actions in episode.actions}) > 1


@pytest.mark.parametrize("options", [{"rnn": "gru"}, {"last_action": False}, {"num_layers": 2}])
def test_recurrent_teams_of_all_kinds_choose_what_an_evaluation_chooses(runs, options):
    folder = runs("qmix_lstm", **options)
    (episode, *_) = evaluated(folder, MODULES["qmix_lstm"])
    np.testing.assert_array_equal(choices(cleanmarl.load_team(folder), episode), episode.actions)


def test_a_team_of_a_copy_chooses_what_an_evaluation_chooses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (ROOT / "cleanmarl/qmix.py").read_text()
    copy = tmp_path / "my_qmix.py"
    copy.write_text(source.replace("return self.layers(obs)", "return -self.layers(obs).abs()"))
    words = ["--env-name", "3m", "--total-timesteps", "200", "--num-eval-ep", "1"]
    status, _, err = run_program(str(copy), *words)
    assert status == 0, err
    (folder,) = tmp_path.glob("runs/*")
    strengthen(folder)
    team = cleanmarl.load_team(folder)
    (episode,) = evaluated(folder, load_file(copy))
    np.testing.assert_array_equal(choices(team, episode), episode.actions)
    assert (team.q_values <= 0).all() and (team.q_values < 0).any()


@every_script
def test_many_environments_act_at_once_as_they_would_alone(runs, script):
    team = cleanmarl.load_team(runs(script))
    rng = np.random.default_rng(0)
    obs = rng.random((4, 5, team.n_agents, team.obs_size))  # [steps, batch, n_agents, obs_size]
    masks = rng.random((4, 5, team.n_agents, team.n_actions)) < 0.5
    masks[..., 0] = True
    team.reset()
    together = [team.act(*step) for step in zip(obs, masks, strict=True)]
    for i in range(5):
        team.reset()
        alone = [team.act(*step) for step in zip(obs[:, i], masks[:, i], strict=True)]
        np.testing.assert_array_equal(alone, np.array(together)[:, i])


def test_values_are_those_of_the_last_step(runs):
    team = cleanmarl.load_team(runs("qmix"))
    assert team.q_values is None
    actions = team.act(np.ones((2, team.n_agents, team.obs_size)))
    assert team.q_values.shape == (2, team.n_agents, team.n_actions)
    np.testing.assert_array_equal(team.q_values.argmax(-1), actions)
    team.reset()
    assert team.q_values is None


def test_the_time_left_counts_down_from_a_reset_or_is_given(runs):
    team = cleanmarl.load_team(runs("qmix"))
    obs = np.ones((2, 3, 30))
    team.act(obs)
    team.act(obs)
    counted = team.q_values
    team.reset()
    team.act(obs, time_left=1 - 1 / 60)
    np.testing.assert_array_equal(team.q_values, counted)
    team.act(obs, time_left=[1 - 1 / 60, 0.5])
    np.testing.assert_array_equal(team.q_values[0], counted[0])
    assert not np.array_equal(team.q_values[1], counted[1])
    with pytest.raises(ValueError, match=r"time_left must be one number or \[2\], got \(3,\)"):
        team.act(obs, time_left=[1, 1, 1])
    with pytest.raises(ValueError, match="time_left is a share, from 1 to 0"):
        team.act(obs, time_left=3)
    with pytest.raises(ValueError, match="obs must be an array"):
        team.act({"obs": obs})


def test_recurrent_agents_forget_at_a_reset(runs):
    team = cleanmarl.load_team(runs("qmix_lstm"))
    obs = np.ones((team.n_agents, team.obs_size))
    team.act(obs)
    first = team.q_values
    team.act(obs)
    assert not np.array_equal(team.q_values, first)
    team.reset()
    team.act(obs)
    np.testing.assert_array_equal(team.q_values, first)


def test_a_team_has_sizes_and_names(runs):
    team = cleanmarl.load_team(runs("qmix"))
    assert (team.n_agents, team.n_actions, team.obs_size, team.state_size) == (3, 9, 30, 49)
    assert team.agent_names == ["marine 0", "marine 1", "marine 2"]
    assert team.action_names[0][:3] == ["no-op", "stop", "north"]
    assert team.step > 0


@pytest.mark.parametrize(
    ("obs", "masks", "message"),
    [
        ((3, 33), None, r"obs must be \[..., 3, 30\], got \(3, 33\)"),
        ((2, 30), None, r"obs must be \[..., 3, 30\]"),
        ((3, 30), (3, 8), r"avail_actions must be \[3, 9\], got \(3, 8\)"),
        ((2, 3, 30), (3, 9), r"avail_actions must be \[2, 3, 9\]"),
    ],
)
def test_a_wrong_shape_is_an_error_of_one_line(runs, obs, masks, message):
    team = cleanmarl.load_team(runs("qmix"))
    with pytest.raises(ValueError, match=message):
        team.act(np.zeros(obs), masks and np.ones(masks))


@pytest.mark.parametrize("entry", [np.nan, np.inf])
def test_an_observation_that_is_not_finite_is_an_error(runs, entry):
    team = cleanmarl.load_team(runs("qmix"))
    obs = np.zeros((3, 30))
    obs[1, 2] = entry
    with pytest.raises(ValueError, match="nan or infinite"):
        team.act(obs, np.ones((3, 9)))


def test_an_agent_without_an_available_action_is_an_error(runs):
    team = cleanmarl.load_team(runs("qmix"))
    with pytest.raises(ValueError, match="no available action"):
        team.act(np.zeros((3, 30)), np.zeros((3, 9)))


def test_another_batch_needs_a_reset(runs):
    team = cleanmarl.load_team(runs("qmix_lstm"))
    team.act(np.zeros((3, 30)))
    with pytest.raises(ValueError, match=r"reset\(\)"):
        team.act(np.zeros((2, 3, 30)))


def test_loading_a_team_leaves_the_users_random_numbers_alone(runs):
    folder = runs("qmix")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    cleanmarl.load_team(folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_team_acts_without_the_package_of_its_environment(tmp_path):
    folder = trained("qmix", tmp_path / "run", **LBF, total_timesteps=100)
    code = f"""
import sys
sys.modules["lbforaging"] = sys.modules["numba"] = None
import cleanmarl, numpy
team = cleanmarl.load_team({str(folder)!r})
print(team.act(numpy.zeros((team.n_agents, team.obs_size))).shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("(2,)\n", 0), done.stderr


def sent(folder: Path, to: Path) -> Path:
    """The three files of a team that are sent by mail."""
    to.mkdir()
    for name in ("team.json", "args.json", "model.pt"):
        shutil.copy(folder / name, to)
    return to


@every_script
def test_three_files_are_enough_to_act(runs, script, tmp_path):
    folder = sent(runs(script), tmp_path / "sent")
    team = cleanmarl.load_team(folder, which="last")
    assert team.act(np.zeros((3, 30))).shape == (3,)


@every_script
def test_three_files_are_enough_to_evaluate(runs, script, tmp_path, command):
    folder = sent(runs(script), tmp_path / "sent")
    status, out, err = command(script, "--evaluate", str(folder), "--num-eval-ep", "1")
    assert status == 0, err
    assert "ep_length" in out


def test_three_files_are_enough_to_watch(runs, tmp_path):
    run = load(sent(runs("qmix"), tmp_path / "sent"), "last", 1)
    assert run.session["script"] == "qmix"
    assert page(run).startswith("<!doctype html>")


@pytest.mark.parametrize("name", ["team.json", "args.json", "best.pt"])
def test_a_missing_or_damaged_file_is_named(runs, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(runs("qmix"), folder)
    (folder / name).write_bytes(b"[1, 2]")
    with pytest.raises(Refused, match=name):
        cleanmarl.load_team(folder)
    (folder / name).unlink()
    with pytest.raises(Refused, match=name):
        cleanmarl.load_team(folder)


def test_two_scripts_whose_modules_have_one_name_are_not_confused(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    source = (ROOT / "cleanmarl/qmix.py").read_text()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_layers.py").write_text(f"NAME = {name!r}")
        line = "from cleanmarl import training"
        text = source.replace(line, f"from own_layers import NAME\n{line}", 1)
        (tmp_path / name / "mine.py").write_text(text)
    assert load_file(tmp_path / "one/mine.py").NAME == "one"
    with pytest.raises(ImportError, match=r"two/own_layers\.py, but gets .*one/own_layers\.py"):
        load_file(tmp_path / "two/mine.py")
    del sys.modules["own_layers"]


def test_act_may_have_more_parameters_with_defaults():
    def act(values, observation, epsilon, rng, tau=0.5):
        return values, tau

    assert team_module.call_act(act, "values", {}, None, None) == ("values", 0.5)
    with pytest.raises(Refused, match="takes tau; a team knows values, observation, memory"):
        team_module.call_act(lambda values, tau: 0, "values", {}, None, None)


def test_a_team_of_another_script_is_refused(runs, tmp_path):
    with pytest.raises(Refused, match="different arguments"):
        cleanmarl.load_team(runs("qmix"), script=ROOT / "cleanmarl/qmix_lstm.py")


def test_a_flipped_bit_is_found_or_changes_no_weight(runs, tmp_path):
    path = runs("qmix") / "best.pt"
    content, good = path.read_bytes(), read_model(path)
    places = np.random.default_rng(0).integers(8 * len(content), size=150)
    copy, found = tmp_path / "best.pt", 0
    for place in places.tolist():
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        copy.write_bytes(damaged)
        try:
            model = read_model(copy)
        except Refused:
            found += 1
            continue
        for name, weights in good["target_agent"].items():
            assert torch.equal(model["target_agent"][name], weights)
    assert found > 100


def test_the_weights_open_with_plain_pytorch(runs):
    path = runs("qmix") / "best.pt"
    assert zipfile.is_zipfile(path)
    assert torch.load(path, weights_only=True)["target_agent"].keys()


def program_of(team, path: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        team.export(path)
    return torch.export.load(path).module()


@pytest.mark.parametrize("clock", [True, False], ids=["clock", "no clock"])
@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_an_exported_team_chooses_the_same(runs, script, clock, tmp_path):
    team = cleanmarl.load_team(runs(script, clock=clock))
    run = program_of(team, tmp_path / "team.pt2")
    rng = np.random.default_rng(0)
    for batch in (1, 2, 7):
        obs = rng.random((batch, 3, 30), np.float32)
        masks = rng.random((batch, 3, 9)) < 0.5
        masks[..., 1] = True
        left = rng.random(batch, np.float32)
        more = (torch.from_numpy(left),) if clock else ()
        actions, values = run(torch.from_numpy(obs), torch.from_numpy(masks), *more)
        team.reset()
        np.testing.assert_array_equal(actions, team.act(obs, masks, left))
        np.testing.assert_allclose(values.detach(), team.q_values, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"rnn": "gru"}, {"last_action": False}, {"clock": False}])
@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_an_exported_recurrent_team_chooses_the_same(runs, options, tmp_path):
    team = cleanmarl.load_team(runs("qmix_lstm", **options))
    run = program_of(team, tmp_path / "team.pt2")
    parts = 1 if options.get("rnn") == "gru" else 2
    for batch in (1, 4):
        hidden = (torch.zeros(1, 3 * batch, 8),) * parts
        actions = torch.full((batch, 3), -1)
        masks = torch.ones(batch, 3, 9, dtype=torch.bool)
        team.reset()
        for step in range(3):
            obs = np.random.default_rng(step).random((batch, 3, 30), np.float32)
            left = torch.full((batch,), 1 - step / 60) if options.get("clock", True) else None
            actions, values, hidden = run(torch.from_numpy(obs), masks, left, actions, hidden)
            np.testing.assert_array_equal(actions, team.act(obs))
            np.testing.assert_allclose(values.detach(), team.q_values, atol=1e-5)


DEEP = "[" * 200_000
WRONG = ["null", "5", '"text"', "[]", "{}", "[1]", "[null]", "[[]]", '{"a": 1}', "1" * 5000, DEEP]
KINDS = [(name, text) for name in ("args.json", "run.json", "team.json") for text in WRONG]
ENTRIES = [
    ("args.json", {name: value})
    for name in ("hidden_dim", "env_options", "device")
    for value in (None, "x", [1], -1)
]
ENTRIES += [("run.json", {"script_file": value}) for value in (None, 5, [1], {"a": 1}, "\0")]
ENTRIES += [
    ("team.json", {name: value})
    for name in ("n_agents", "inputs")
    for value in (None, -1, "x", {"obs": 1})
]
ENTRIES += [("team.json", {"script": [1]}), ("team.json", {"action_names": 5})]


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return trained("qmix", tmp_path_factory.mktemp("small") / "run", **TWO_STEPS)


def damaged(folder: Path, name: str, damage: str | dict):
    """Replace a file, or change the entries of its (last) dict."""
    if isinstance(damage, dict):
        content = json.loads((folder / name).read_text())
        (content[-1] if isinstance(content, list) else content).update(damage)
        damage = json.dumps(content)
    (folder / name).write_text(damage)


@pytest.mark.parametrize(("name", "damage"), KINDS + ENTRIES, ids=lambda value: str(value)[:40])
def test_other_json_than_a_runs_is_refused_in_one_line(small_run, tmp_path, command, name, damage):
    folder = shutil.copytree(small_run, tmp_path / "run")
    damaged(folder, name, damage)
    calls = [(cleanmarl.load_team, folder), (load, folder, "last", 1)]
    calls += [(own_arguments, MODULES["qmix"].Args, folder, False), (read_if_there, folder, name)]
    said = []
    for call, *arguments in calls:
        try:
            call(*arguments)
        except Refused as error:
            said.append(str(error))
    assert said
    assert not any("\n" in line for line in said)


def read_if_there(folder: Path, name: str):
    """What resuming a run reads of its files."""
    if name == "run.json":
        read_sessions(folder)


@pytest.fixture
def stranger(small_run, tmp_path, monkeypatch):
    """`stranger(script_file)`: a folder that someone has sent; its script leaves a file if run."""
    here = tmp_path / "here"
    (here / "sent").mkdir(parents=True)
    monkeypatch.chdir(here)

    def send(script: str) -> Path:
        folder = shutil.copytree(small_run, here / "sent/run", dirs_exist_ok=True)
        source = (ROOT / "cleanmarl/qmix.py").read_text()
        path = Path(script) if script.startswith("/") else here / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source + f"\nPath({str(tmp_path / 'it ran')!r}).touch()\n")
        for name in ("team.json", "run.json"):
            damaged(folder, name, {"script_file": script})
        return folder

    return send


@pytest.mark.parametrize("where", ["{}/elsewhere/evil.py", "{}/here/sent/evil.py", "evil.py"])
def test_a_script_of_a_stranger_is_not_run_without_the_users_word(stranger, tmp_path, where):
    folder = stranger(where.format(tmp_path))
    for call in (cleanmarl.load_team, lambda folder: load(folder, "last", 1)):
        with pytest.raises(Refused, match=r"if you trust it, give --script .*evil\.py"):
            call(folder)
        assert not (tmp_path / "it ran").exists()
    script = where.format(tmp_path)
    assert cleanmarl.load_team(folder, script=script).n_agents == 2
    assert (tmp_path / "it ran").exists()
    assert team_module.load_team(folder, trust=True).n_agents == 2
    assert load(folder, "last", 1, trust=True).step == 40


def test_networks_of_the_projects_own_scripts_need_no_other_script(stranger, tmp_path, capsys):
    folder = stranger(f"{tmp_path}/other/cleanmarl/qmix.py")
    assert cleanmarl.load_team(folder).n_agents == 2
    assert load(folder, "last", 1).step == 40
    assert not (tmp_path / "it ran").exists()
    assert "made the run and differs" in capsys.readouterr().err


def test_a_link_below_the_current_folder_is_no_own_work(stranger, tmp_path):
    folder = stranger(f"{tmp_path}/elsewhere/evil.py")
    (tmp_path / "here/link").symlink_to(tmp_path / "elsewhere")
    for name in ("team.json", "run.json"):
        damaged(folder, name, {"script_file": f"{tmp_path}/here/link/evil.py"})
    with pytest.raises(Refused, match="if you trust it"):
        cleanmarl.load_team(folder)


def test_an_agent_never_takes_an_action_that_it_lacks(runs, tmp_path):
    folder = shutil.copytree(runs("qmix"), tmp_path / "run")
    about = json.loads((folder / "team.json").read_text())
    (folder / "team.json").write_text(json.dumps(about | {"own_actions": [2, 9, 1]}))
    team = cleanmarl.load_team(folder)
    obs = np.random.default_rng(0).random((50, 3, 30), np.float32)
    actions = team.act(obs)
    assert (actions[:, 0] < 2).all()
    assert (actions[:, 1] >= 2).any()
    assert (actions[:, 2] == 0).all()


def test_a_team_that_sees_bytes_has_a_clock_in_bytes(runs, tmp_path):
    folder = shutil.copytree(runs("qmix"), tmp_path / "run")
    about = json.loads((folder / "team.json").read_text())
    assert about["obs_dtype"] == "float32"
    of_floats = cleanmarl.load_team(folder)
    (folder / "team.json").write_text(json.dumps(about | {"obs_dtype": "uint8"}))
    team = cleanmarl.load_team(folder)
    obs = np.random.default_rng(0).random((3, 30), np.float32)
    team.act(obs)
    inputs = np.concatenate((obs, np.eye(3), np.full((3, 1), 255)), axis=1, dtype=np.float32)
    with torch.no_grad():
        expected = team._agent(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(team.q_values, expected, rtol=1e-4)
    act = program_of(team, tmp_path / "team.pt2")
    masks = torch.ones(1, 3, 9, dtype=torch.bool)
    _, values = act(torch.from_numpy(obs)[None], masks, torch.ones(1))
    np.testing.assert_allclose(values[0].detach(), expected, rtol=1e-4)
    of_floats.act(obs)
    assert not np.allclose(of_floats.q_values, expected)


def test_the_first_layer_need_not_see_the_whole_observation(runs, tmp_path):
    team = cleanmarl.load_team(runs("qmix"))
    inner = team._agent

    class Convolution(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.filter = torch.nn.Conv1d(1, 1, 3, padding=1)
            self.inner = inner

        def forward(self, obs):
            rows = obs.flatten(0, -2).unsqueeze(1)
            return self.inner(self.filter(rows).view(obs.shape))

    team._agent = Convolution()
    act = program_of(team, tmp_path / "team.pt2")
    obs = np.random.default_rng(0).random((2, 3, 30), np.float32)
    masks = torch.ones(2, 3, 9, dtype=torch.bool)
    actions, _ = act(torch.from_numpy(obs), masks, torch.ones(2))
    np.testing.assert_array_equal(actions, team.act(obs))
