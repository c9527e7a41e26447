"""A trained team is trained further: by a new run that begins with it, or by a longer run."""

import functools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cleanmarl.training import Refused
from cleanmarl.training.arguments import FIXED, FREE
from cleanmarl.training.checkpoint import load_checkpoint
from cleanmarl.training.initial import apply_changes, check_alike, check_order, init_from
from cleanmarl.training.scaling import scaled_layers
from tests.helpers import (
    LBF,
    MODULES,
    TWO_STEPS,
    equal_weights,
    every_script,
    scalars,
    small_args,
    trained,
    values_of,
)

# An episode of the two-step game has two steps
SHORT = TWO_STEPS | {"total_timesteps": 40, "log_every": 1, "eval_steps": 4}
NETWORKS = ("agent", "mixer", "target_agent", "target_mixer")


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """`team(script, **options)`: the folder of a finished run, which no test may change."""

    def train(script: str, **options) -> Path:
        return trained(script, tmp_path_factory.mktemp(script) / "run", **SHORT | options)

    return functools.cache(train)


@pytest.fixture
def copied(team, tmp_path):
    """`copied(script, **options)`: a copy of such a folder, which a test may change."""
    return lambda script, **options: shutil.copytree(team(script, **options), tmp_path / "run")


def begun(script: str, folder: Path, **options):
    """The networks with which a new run begins, from the run in a folder."""
    args = small_args(script, **SHORT | {"init_from": str(folder)} | options)
    found = MODULES[script].set_up(args)
    return next(part for part in found if isinstance(part, torch.nn.Module))


def fresh(script: str, **options):
    """The networks with which a run begins that begins anew."""
    return begun(script, "", **options | {"init_from": ""})


def same(network, saved: dict) -> bool:
    own = network.state_dict()
    return own.keys() == saved.keys() and all(torch.equal(own[n], saved[n]) for n in own)


def resumed(script: str, folder: Path, **options):
    """Resume a run; `options` change its arguments."""
    own = load_checkpoint(folder, script)["args"]
    MODULES[script].train(MODULES[script].Args(**own | {"resume": str(folder)} | options))


def own_args(folder: Path) -> dict:
    return json.loads((folder / "args.json").read_text())


def sessions(folder: Path) -> list[dict]:
    return json.loads((folder / "run.json").read_text())


# A new run with the networks of another


@every_script
@pytest.mark.parametrize("which", ["last", "best"])
def test_a_new_run_begins_with_all_networks_of_another(team, script, which):
    networks = begun(script, team(script), which=which, seed=7)
    saved = torch.load(team(script) / ("best.pt" if which == "best" else "model.pt"))
    assert all(same(getattr(networks, name), saved[name]) for name in NETWORKS)


@every_script
def test_the_last_networks_are_taken_where_none_are_chosen(team, script):
    saved = torch.load(team(script) / "model.pt")
    assert same(begun(script, team(script)).agent, saved["agent"])


@every_script
def test_a_run_that_begins_with_a_team_learns(team, script, tmp_path):
    options = SHORT | {"init_from": str(team(script)), "learning_rate": 0.1}
    folder = trained(script, tmp_path / "further", **options)
    assert not equal_weights(team(script), folder)
    assert scalars(folder)["train/num_updates"][-1][1] > 10


def test_a_new_run_has_its_own_arguments_and_keeps_the_name_of_the_first(team, tmp_path):
    options = SHORT | {"init_from": str(team("qmix")), "learning_rate": 0.1, "gamma": 0.5}
    folder = trained("qmix", tmp_path / "further", **options)
    args = own_args(folder)
    assert args["init_from"] == str(team("qmix"))
    assert (args["learning_rate"], args["gamma"]) == (0.1, 0.5)
    assert scalars(folder)["rollout/num_episodes"][0] == (2, 1)


@pytest.mark.parametrize("other", ["qmix_memefficient", "qmix_multienvs"])
def test_scripts_with_the_same_network_begin_with_each_others_teams(team, other):
    saved = torch.load(team("qmix") / "model.pt")
    assert same(begun(other, team("qmix")).agent, saved["agent"])


@every_script
def test_with_another_mixer_the_agents_alone_are_taken_and_it_is_said(team, script, capsys):
    networks = begun(script, team(script), hyper_dim=9)
    warning = capsys.readouterr().err
    assert "mixer" in warning
    assert "only the agent network" in warning
    assert len(warning.splitlines()) == 1
    saved = torch.load(team(script) / "model.pt")
    assert same(networks.agent, saved["agent"])
    assert same(networks.target_agent, saved["target_agent"])
    expected = fresh(script, hyper_dim=9).mixer.state_dict()
    assert same(networks.mixer, expected)


@pytest.mark.parametrize("mixers", [("qmix", "vdn"), ("vdn", "qmix")])
def test_qmix_and_vdn_begin_with_each_others_agents(team, mixers, capsys):
    first, then = mixers
    networks = begun("qmix", team("qmix", mixer=first), mixer=then)
    assert "only the agent network" in capsys.readouterr().err
    saved = torch.load(team("qmix", mixer=first) / "model.pt")
    assert same(networks.agent, saved["agent"])


MISFITS = {
    "another task": (LBF, r"it has 6 inputs and 2 outputs, not \d+ inputs and 6 outputs"),
    "without ids": ({"agent_ids": False}, "it was trained with --agent-ids"),
    "wider": ({"hidden_dim": 9}, "other layers; it was trained with --hidden-dim 8"),
    "deeper": ({"num_layers": 2}, "other layers; it was trained with --num-layers 1"),
}


@pytest.mark.parametrize("misfit", MISFITS.values(), ids=MISFITS)
def test_a_team_that_does_not_fit_is_refused_in_one_line(team, misfit):
    options, reason = misfit
    with pytest.raises(Refused, match=reason) as refused:
        begun("qmix", team("qmix"), **options)
    assert "\n" not in str(refused.value)


def test_a_team_without_a_clock_is_refused_with_the_word_that_helps(team):
    with pytest.raises(Refused, match=r"it was trained with --no-clock$"):
        begun("qmix", team("qmix", clock=False))


def test_a_recurrent_team_does_not_fit_a_network_without_memory(team):
    with pytest.raises(Refused, match="does not fit here"):
        begun("qmix", team("qmix_lstm", last_action=False))


def test_another_kind_of_recurrent_layer_is_named(team):
    with pytest.raises(Refused, match="--rnn lstm"):
        begun("qmix_lstm", team("qmix_lstm"), rnn="gru")


def test_networks_without_the_arguments_of_their_run_are_enough(team, tmp_path):
    shutil.copy(team("qmix") / "model.pt", tmp_path)
    assert same(begun("qmix", tmp_path).agent, torch.load(tmp_path / "model.pt")["agent"])
    with pytest.raises(Refused, match="other layers"):
        begun("qmix", tmp_path, hidden_dim=9)


def test_a_folder_without_networks_is_refused(tmp_path):
    with pytest.raises(Refused, match=r"model.pt is missing"):
        begun("qmix", tmp_path)


def test_damaged_networks_are_refused(copied):
    folder = copied("qmix")
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(Refused, match=r"model.pt is damaged"):
        begun("qmix", folder)


@pytest.mark.parametrize("purpose", ["--resume", "--evaluate"])
def test_a_run_that_exists_does_not_begin_with_another(copied, team, command, purpose):
    copied("qmix")
    status, _, err = command("qmix", purpose, "run", "--init-from", str(team("qmix")))
    assert status == 2
    assert "--init-from" in err
    assert len(err.splitlines()) == 1


@every_script
def test_a_run_that_began_with_a_team_is_resumed_and_evaluated_without_it(
    team, script, tmp_path, command
):
    first = shutil.copytree(team(script), tmp_path / "first")
    folder = trained(script, tmp_path / "further", **SHORT | {"init_from": str(first)})
    shutil.rmtree(first)
    more = ["--resume", "further", "--total-timesteps", "60"]
    for words in (more, ["--evaluate", "further"]):
        status, _, err = command(script, *words)
        assert status == 0, err
    assert own_args(folder)["init_from"] == str(first)


def test_a_run_from_before_the_argument_is_resumed(copied, monkeypatch):
    folder = copied("qmix")
    saved = load_checkpoint(folder, "qmix")
    del saved["args"]["init_from"]
    monkeypatch.setattr("cleanmarl.training.arguments.load_checkpoint", lambda *_: saved)
    args = small_args("qmix", **SHORT | {"resume": str(folder), "total_timesteps": 60})
    assert MODULES["qmix"].train(args)["rollout/num_episodes"] == 30


# A longer run


def epsilons(folder: Path) -> dict[int, float]:
    return dict(scalars(folder)["rollout/epsilon"])


@every_script
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_a_longer_run_keeps_its_exploration(script, copied, team, fraction):
    """Epsilon falls over 10 or 40 steps, and stays at its end for the other steps."""
    options = {"exploration_fraction": fraction, "greedy_episodes": 0.0}
    folder = copied(script, **options)
    before = epsilons(team(script, **options))
    resumed(script, folder, total_timesteps=400)
    after = epsilons(folder)
    assert {step: after[step] for step in before} == before
    late = [epsilon for step, epsilon in after.items() if step > 42]
    assert late == pytest.approx([0.025] * len(late))


def test_a_run_that_is_made_longer_twice_keeps_its_exploration(copied):
    folder = copied("qmix", exploration_fraction=0.25)
    for total in (100, 130):
        resumed("qmix", folder, total_timesteps=total)
        args = own_args(folder)
        assert args["exploration_fraction"] * args["total_timesteps"] == pytest.approx(10)


def test_a_longer_run_says_when_its_exploration_ends(copied, command):
    copied("qmix", exploration_fraction=0.25)
    _, _, err = command("qmix", "--resume", "run", "--total-timesteps", "400")
    assert "exploration ends at step 10, as before: --exploration-fraction is 0.025 now" in err
    assert "no longer one experiment" not in err


def test_a_longer_run_explores_more_if_the_user_says_so(copied, command):
    folder = copied("qmix", exploration_fraction=0.25)
    words = ["--total-timesteps", "80", "--exploration-fraction", "0.75"]
    status, _, err = command("qmix", "--resume", "run", *words)
    assert status == 0, err
    assert "--exploration-fraction 0.25 -> 0.75" in err
    assert epsilons(folder)[48] == pytest.approx(1 - 0.8 * 0.975)
    assert sessions(folder)[-1]["changed"] == {"exploration_fraction": [0.25, 0.75]}


# Changed arguments


def test_no_argument_is_both_free_and_fixed():
    assert not FREE & FIXED


@every_script
def test_a_resumed_run_learns_with_its_new_learning_rate(script, copied):
    folder = copied(script)
    resumed(script, folder, total_timesteps=60, learning_rate=0.125)
    groups = load_checkpoint(folder, script)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.125]
    resumed(script, folder, total_timesteps=80)
    groups = load_checkpoint(folder, script)["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.125]


def test_a_resumed_run_learns_with_its_new_eps(copied):
    folder = copied("qmix")
    resumed("qmix", folder, total_timesteps=60, optimizer_eps=0.125)
    (group,) = load_checkpoint(folder, "qmix")["optimizer"]["param_groups"]
    assert (group["initial_eps"], group["lr"]) == (0.125, 0.0005)
    assert group["eps"] == 0.125  # an episode of the game earns 7


@pytest.mark.parametrize("kind", ["Adam", "RMSprop"])
def test_a_resumed_run_learns_with_its_new_beta2(tmp_path, kind):
    folder = trained("qmix", tmp_path / "run", **SHORT | {"optimizer": kind})
    resumed("qmix", folder, total_timesteps=60, beta2=0.5)
    (group,) = load_checkpoint(folder, "qmix")["optimizer"]["param_groups"]
    assert [*group.get("betas", (0.9, group.get("alpha")))] == [0.9, 0.5]


def test_a_schedule_goes_on_from_the_new_learning_rate(copied):
    folder = copied("qmix")
    args = small_args("qmix", **SHORT | {"resume": str(folder), "learning_rate": 0.001})
    *_, optimizer = MODULES["qmix"].set_up(args)
    optimizer.param_groups[0]["lr"] = 0.0005
    halves = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda number: 0.5**number)
    optimizer.step()
    halves.step()
    parts = {"optimizer": optimizer, "halves": halves}
    apply_changes(load_checkpoint(folder, "qmix"), args, parts)
    optimizer.step()
    halves.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.00025)


def test_a_learning_rate_that_a_schedule_has_lowered_changes_in_proportion(copied):
    folder = copied("qmix")
    args = small_args("qmix", **SHORT | {"resume": str(folder), "learning_rate": 0.001})
    *_, optimizer = MODULES["qmix"].set_up(args)
    optimizer.param_groups[0]["lr"] = 0.00025  # half of what it began with
    apply_changes(load_checkpoint(folder, "qmix"), args, {"optimizer": optimizer})
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0005)


def test_changed_arguments_are_told_in_one_line_and_recorded(copied, command):
    folder = copied("qmix")
    words = ["--total-timesteps", "60", "--learning-rate", "0.0001", "--gamma", "0.9"]
    status, _, err = command("qmix", "--resume", "run", *words)
    assert status == 0, err
    (warning,) = [line for line in err.splitlines() if "one experiment" in line]
    assert "--learning-rate 0.0005 -> 0.0001, --gamma 0.99 -> 0.9 from step 40 on" in warning
    changed = {"learning_rate": [0.0005, 0.0001], "gamma": [0.99, 0.9]}
    assert [session["changed"] for session in sessions(folder)] == [{}, changed]
    assert (own_args(folder)["learning_rate"], own_args(folder)["gamma"]) == (0.0001, 0.9)


def test_changed_arguments_stay_when_a_run_is_resumed_again(copied, capsys):
    folder = copied("qmix")
    resumed("qmix", folder, total_timesteps=60, gamma=0.9)
    capsys.readouterr()
    resumed("qmix", folder, total_timesteps=80)
    assert "one experiment" not in capsys.readouterr().err
    assert own_args(folder)["gamma"] == 0.9
    assert sessions(folder)[-1]["changed"] == {}


def test_what_belongs_to_the_session_may_change_in_silence(copied, command):
    folder = copied("qmix")
    words = ["--checkpoint-every", "5", "--torch-threads", "2", "--which", "best"]
    status, _, err = command("qmix", "--resume", "run", "--total-timesteps", "42", *words)
    assert status == 0, err
    assert "one experiment" not in err
    assert sessions(folder)[-1]["changed"] == {}


@every_script
@pytest.mark.parametrize("size", [5, 50])
def test_a_resumed_run_may_have_another_replay_buffer(script, copied, size):
    folder = copied(script)
    resumed(script, folder, buffer_size=size, total_timesteps=160)
    episodes = load_checkpoint(folder, script, with_episodes=True)["episodes"]
    assert len(episodes) >= size
    last = values_of(folder, "train/num_updates")[-1]
    assert last > values_of(folder, "train/num_updates")[0]


CHANGES = {"batch_size": 3, "train_freq": 3, "td_lambda": 0.5, "double_q": True, "polyak": 0.5}
CHANGES |= {"target_network_update_freq": 3, "clip_gradients": 1.0, "mean_age": 20.0}
CHANGES |= {"start_e": 0.5, "end_e": 0.1, "greedy_episodes": 0.25, "num_eval_ep": 2}
CHANGES |= {"eval_steps": 3, "log_every": 2, "tbptt": 1, "n_epochs": 3}


@every_script
def test_a_run_goes_on_with_all_arguments_that_may_change(script, copied):
    folder = copied(script)
    known = own_args(folder)
    changes = {name: value for name, value in CHANGES.items() if name in known}
    resumed(script, folder, total_timesteps=80, **changes)
    assert sessions(folder)[-1]["changed"].keys() == changes.keys()
    assert sessions(folder)[-1]["ending"] == "done"


@every_script
def test_a_mixer_that_begins_anew_gets_scales(team, script, tmp_path, monkeypatch):
    options = {"init_from": str(team(script)), "hyper_dim": 9}
    seen = []
    monkeypatch.setattr("cleanmarl.training.set_scales", lambda networks, _: seen.append(networks))
    MODULES[script].train(small_args(script, **TWO_STEPS | options), folder=tmp_path / "run")
    (networks,) = seen
    again = fresh(script, hyper_dim=9)
    init_from(small_args(script, **options, resume="run"), again)
    for one in (networks, again):
        kept = {name for name, layer in scaled_layers(one).items() if layer.keeps_scale}
        assert kept
        assert all(name.startswith(("agent", "target_agent")) for name in kept)
        assert any("mixer" in name for name in scaled_layers(one))


@every_script
def test_a_resumed_run_keeps_scales_if_the_run_it_began_with_is_gone(script, tmp_path):
    networks = fresh(script)
    init_from(small_args(script, init_from=str(tmp_path / "gone"), resume="run"), networks)
    assert all(layer.keeps_scale for layer in scaled_layers(networks).values())


def test_a_run_with_agents_in_another_order_is_refused(tmp_path, monkeypatch):
    folder = trained("qmix", tmp_path / "run", **TWO_STEPS)
    env = MODULES["qmix"].open_env(small_args("qmix", **TWO_STEPS))
    check_order(folder, env)
    env.agent_names = env.agent_names[::-1]
    with pytest.raises(Refused, match="give possible_agents an order"):
        check_order(folder, env)


def test_processes_with_agents_in_another_order_are_refused():
    one, other = (SimpleNamespace(agent_names=names) for names in (["a", "b"], ["b", "a"]))
    one.unwrapped = one
    check_alike(one, one)
    with pytest.raises(Refused, match="agents are a, b in one process, but b, a in another"):
        check_alike(one, other)
