"""Networks divide what they see by the largest size that it had in the first batch."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cleanmarl import load_team
from cleanmarl.entries import hard_to_learn
from cleanmarl.training import Progress, Refused, ScaledLinear, acting, scale_eps, set_scales
from cleanmarl.training.acting import checked
from cleanmarl.training.checkpoint import load_checkpoint
from cleanmarl.training.scaling import ScaleCheck
from tests.helpers import LBF, MODULES, TWO_STEPS, every_script, small_args, trained, weights

SIZES = SimpleNamespace(n_agents=2, n_actions=3, obs_size=3, state_size=2)
FIRST = {script: "layers.0" for script in MODULES} | {"qmix_lstm": "encoder.0"}
OF_STATE = ("w1.0", "b1", "w2.0", "b2.0")  # layers of the mixer that see the state


def of_obs(script: str) -> list[str]:
    """The scales of what agents see."""
    return [f"{part}.{FIRST[script]}.scale" for part in ("agent", "target_agent")]


def of_state() -> list[str]:
    """The scales of what mixers see."""
    return [f"{part}.{layer}.scale" for part in ("mixer", "target_mixer") for layer in OF_STATE]


def networks_of(script: str, **options):
    return MODULES[script].Networks(small_args(script, **options), SIZES)


def batch_of(obs, state) -> dict[str, torch.Tensor]:
    batch = {"obs": torch.tensor(obs), "state": torch.tensor(state)}
    return batch | {"avail_actions": torch.ones(len(obs), 2, SIZES.n_actions)}


@every_script
def test_the_scale_of_a_large_entry_is_its_largest_size(script):
    networks = networks_of(script, **{"last_action": False} if script == "qmix_lstm" else {})
    obs = [[[0.5, -8.0, 3.0], [0.0, 2.0, 0.0]], [[0.0, 1.0, 0.0], [0.0, 0.0, -4.0]]]
    set_scales(networks, batch_of(obs, [[0.0, 7.0], [-9.0, 3.0]]))
    for name in of_obs(script):
        assert networks.get_buffer(name).tolist() == [1, 8, 4]
    for name in of_state():
        assert networks.get_buffer(name).tolist() == [9, 7]


def test_tiny_entries_have_a_scale_but_not_noise_and_what_is_always_0():
    networks = networks_of("qmix")
    set_scales(networks, batch_of([[[0.002, 1e-7, 0.0], [-0.004, 0.0, 0.0]]], [[0.01, 1e-5]]))
    for name in of_obs("qmix"):
        assert networks.get_buffer(name).tolist() == pytest.approx([0.004, 1, 1])
    for name in of_state():
        assert networks.get_buffer(name).tolist() == pytest.approx([1, 0.001])  # not 1e-5


def test_the_last_action_of_a_recurrent_agent_keeps_its_scale():
    networks = networks_of("qmix_lstm", last_action=True)
    set_scales(networks, batch_of([[[5.0, 5.0, 5.0]] * 2], [[0.0, 0.0]]))
    assert networks.agent.encoder[0].scale.tolist() == [5, 5, 5, 1, 1, 1]


def test_a_sum_has_no_scale_of_the_state():
    networks = networks_of("qmix", mixer="vdn")
    set_scales(networks, batch_of([[[5.0, 5.0, 5.0]] * 2], [[6.0, 6.0]]))
    assert [name for name, _ in networks.named_buffers()] == of_obs("qmix")


@every_script
def test_a_unit_ten_times_smaller_gives_the_same_values(script):
    networks = networks_of(script)
    for parameter in networks.parameters():
        parameter.data = torch.randn_like(parameter)
    size = networks.get_buffer(of_obs(script)[0]).numel()
    obs, state, q = torch.randn(4, 2, size), torch.randn(4, 2), torch.randn(4, 2)
    before = networks.agent(obs), networks.mixer(q, state), networks.mixer.weights(state)
    for buffer in networks.buffers():
        buffer.fill_(10)
    after = (
        networks.agent(10 * obs),
        networks.mixer(q, 10 * state),
        networks.mixer.weights(10 * state),
    )
    torch.testing.assert_close(after, before)


@every_script
def test_a_training_finds_the_size_of_a_field(tmp_path, script):
    found = weights(trained(script, tmp_path / "run", total_timesteps=150, **LBF))
    for name in (*of_obs(script), *of_state()):
        assert 4 <= found[name].max() <= 8  # 8 x 8 places
        assert found[name].min() == 1
    assert torch.equal(*(found[name] for name in of_obs(script)))


@every_script
def test_battles_are_seen_as_they_are(tmp_path, script):
    found = weights(trained(script, tmp_path / "run", total_timesteps=150, env_name="3m"))
    for name in (*of_obs(script), *of_state()):
        assert (found[name] == 1).all()


@every_script
def test_numpy_acts_with_scales(script):
    networks = networks_of(script)
    for parameter in networks.parameters():
        parameter.data = torch.randn_like(parameter)
    for buffer in networks.buffers():
        buffer.uniform_(1, 9)
    size = networks.get_buffer(of_obs(script)[0]).numel()
    inputs = [10 * torch.randn(1, 2, size)] + [None] * (script == "qmix_lstm")
    expected = networks.agent(*inputs)
    values = acting(networks.agent)(*(one if one is None else one.numpy() for one in inputs))
    if script == "qmix_lstm":
        expected, values = expected[0], values[0]
    np.testing.assert_allclose(values, expected.detach().numpy(), rtol=1e-4, atol=1e-5)
    (kinds,) = checked[networks.agent].values()
    assert all(kinds.values())  # in NumPy


def test_scales_stay_when_a_team_is_trained_further(tmp_path):
    team = trained("qmix", tmp_path / "team", total_timesteps=150, **LBF)
    further = {"init_from": str(team), "total_timesteps": 300, "seed": 5}
    name = of_obs("qmix")[0]
    assert not torch.equal(*(weights(one)[name] for one in (team, other_seed(tmp_path))))
    found = weights(trained("qmix", tmp_path / "further", **further, **LBF))
    for name in (*of_obs("qmix"), *of_state()):
        assert torch.equal(found[name], weights(team)[name])


def other_seed(folder: Path) -> Path:
    return trained("qmix", folder / "other", total_timesteps=150, seed=5, **LBF)


@every_script
def test_what_is_hardly_learned_is_named_once(capsys, script):
    networks = networks_of(script, **{"last_action": False} if script == "qmix_lstm" else {})
    obs = [[[0.5, 99.0, 300.0], [0.0, 101.0, 310.0]], [[0.9, 100.0, 300.0], [0.0, 0.0, 0.0]]]
    set_scales(networks, batch_of(obs, [[0.99, -50.0], [1.0, -51.0]]))
    assert capsys.readouterr().err == (
        "warning: observations: entry 1 lies between 99 and 101: "
        "subtract 100, or the difference is hardly learned\n"
    )
    set_scales(networks, batch_of([[[0.5, 9.0, 1.0]] * 2] * 2, [[0.99, -50.0], [1.0, -51.0]]))
    says = "warning: states: entry 1 lies between -51 and -50: subtract -50.5, or"
    assert capsys.readouterr().err.startswith(says)


def test_values_beside_which_the_others_are_small_are_named():
    often = np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-9999.0, 5.0]])
    assert hard_to_learn(often) == (
        "entry 0 reaches -9999, and its other values are within 100 of 0: "
        "replace the large value, or the others are hardly learned"
    )


def test_of_a_large_batch_some_rows_are_enough():
    seen = np.tile([[0.5, 99.0], [0.5, 101.0]], (20_000, 1))
    assert hard_to_learn(seen).startswith("entry 1 lies between 99 and 101: subtract 100")


@pytest.mark.parametrize(
    "seen",
    [
        [[0.0, 0.0], [0.0, 0.0]],  # nothing
        [[50.0, 0.99], [50.0, 1.0]],  # a constant; the clock of short episodes
        [[0.0, 0.0], [50.0, 2.0], [51.0, 3.0], [0.0, 90.0]],  # mostly 0
        [[9.0, 10.0], [-9.0, 12.0]],
        [[0.01, 0.0], [0.02, 5.0], [1.0, 5.0], [2.8, 0.0]],  # mostly small, but not only
    ],
)
def test_entries_that_can_be_learned_are_not_mentioned(seen):
    assert hard_to_learn(np.array(seen)) == ""


@pytest.mark.parametrize(("part", "what"), [("agent", "obs"), ("mixer", "state")])
def test_a_layer_that_sees_something_else_is_refused(part, what):
    networks = networks_of("qmix")
    getattr(networks, part).hidden = ScaledLinear(60, 60)
    says = f"{part}.hidden is a ScaledLinear of 60 inputs, but {what} has"
    with pytest.raises(Refused, match=says):
        set_scales(networks, batch_of([[[5.0, 5.0, 5.0]] * 2], [[6.0, 6.0]]))


# Runs that were made without scales


@pytest.fixture
def older(tmp_path) -> Path:
    """A run whose networks were saved without scales."""
    folder = trained("qmix", tmp_path / "run", **TWO_STEPS)
    for name in ("model.pt", "best.pt"):
        model = torch.load(folder / name, weights_only=True)
        for part in model.values():
            if isinstance(part, dict):
                for scale in [key for key in part if key.endswith("scale")]:
                    del part[scale]
        torch.save(model, folder / name)
    return folder


def test_an_older_team_acts_as_before(older, tmp_path):
    newer = shutil.copytree(older, tmp_path / "newer")
    trained("qmix", tmp_path / "again", **TWO_STEPS)
    shutil.copy(tmp_path / "again" / "model.pt", newer / "model.pt")
    teams = [load_team(folder, "last") for folder in (older, newer)]
    obs = np.random.default_rng(0).random((5, teams[0].n_agents, teams[0].obs_size))
    assert np.array_equal(teams[0].act(obs), teams[1].act(obs))
    assert np.array_equal(teams[0].q_values, teams[1].q_values)


def test_an_older_team_can_be_trained_further(older, tmp_path):
    found = weights(trained("qmix", tmp_path / "further", init_from=str(older), **TWO_STEPS))
    for name in (*of_obs("qmix"), *of_state()):
        assert (found[name] == 1).all()


# Entries that grow later


def agents(*scale: float):
    layer = ScaledLinear(len(scale), 1)
    layer.scale.copy_(torch.tensor(scale))
    return SimpleNamespace(agent=layer)


def episodes(obs) -> list[dict]:
    return [{"obs": np.array(obs, np.float32)}]


def test_an_entry_that_outgrows_its_scale_is_named_once(capsys):
    check = ScaleCheck(agents(1.0, 4.0), episodes([[[1, 2], [-1, 0]], [[1, -200], [2, 3]]]))
    check.look()
    check.look()
    said = capsys.readouterr().err
    assert said.count("entry 1 of an observation is 200, 50 times its scale") == 1


@pytest.mark.parametrize("network", [agents(10.0, 10.0), SimpleNamespace(), agents(1.0, 10.0)])
@pytest.mark.parametrize("stored", [episodes([[[1, 200]]]), [{"packed": 1}], []])
def test_other_entries_are_not_mentioned(capsys, network, stored):
    ScaleCheck(network, stored).look()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs", "qmix_lstm"])
def test_a_training_says_that_observations_grow(tmp_path, capsys, script):
    growing = {"env_type": "pz", "env_family": "tests.games", "env_name": "growing_game"}
    trained(script, tmp_path / "run", log_every=2, total_timesteps=200, **growing)
    assert capsys.readouterr().err.count("times its scale from the first batch") == 1


def test_agents_that_have_ended_hide_no_entry_that_is_hardly_learned():
    here = [[1000.0, 1.0, 0.0, 0.9], [1005.0, 0.0, 1.0, 0.8]]
    ended = [[0.0, 1.0, 0.0, 0.7], [0.0, 0.0, 1.0, 0.7]]  # with its id and the clock
    assert hard_to_learn(np.array(here + ended)).startswith("entry 0 lies between 1000 and 1005")


def test_a_layer_of_the_state_outside_of_the_mixer_has_a_scale():
    networks = networks_of("qmix")
    networks.central = ScaledLinear(2, 1)
    set_scales(networks, batch_of([[[0.5, 0.0, 1.0]] * 2] * 2, [[0.5, -50.0], [1.0, -30.0]]))
    assert networks.central.scale.tolist() == [1, 50]


# The optimizer's eps


def eps_after(optimizer, *rewards: float, **options) -> float | None:
    """eps after episodes with these rewards."""
    progress = Progress()
    for reward in rewards:
        progress.add({"ep_reward": reward})
        scale_eps(optimizer, small_args("qmix", **options), progress)
    return optimizer.param_groups[0].get("eps")


def optimizer_of(name: str = "Adam", **options):
    return getattr(torch.optim, name)([torch.zeros(1)], lr=0.1, **options)


@pytest.mark.parametrize(
    ("rewards", "share"),
    [([0], 1), ([1], 0.2), ([-2], 0.4), ([0, 5], 1), ([500], 1), ([3, 2], 0.6)],
)
def test_eps_is_in_proportion_to_the_largest_reward_up_to_5(rewards, share):
    assert eps_after(optimizer_of(eps=0.5), *rewards) == pytest.approx(0.5 * share)


def test_standardised_rewards_keep_all_of_eps():
    assert eps_after(optimizer_of(eps=0.5), 1, normalize_reward=True) == 0.5


def test_an_optimizer_may_have_no_eps_or_two():
    assert eps_after(optimizer_of("SGD"), 1) is None
    assert eps_after(optimizer_of("Adafactor"), 1) == (None, 1e-3)


@every_script
def test_a_training_has_the_eps_of_its_largest_reward(tmp_path, script):
    options = TWO_STEPS | {"env_name": "cue_game", "optimizer_eps": 0.5}
    folder = trained(script, tmp_path / "run", **options)
    saved = load_checkpoint(folder, script)
    largest = saved["progress"]["largest_reward"]
    (group,) = saved["optimizer"]["param_groups"]
    assert 0 < largest < 5
    assert group["eps"] == pytest.approx(0.5 * largest / 5)
