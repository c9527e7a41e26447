"""What a script gives to its optimizer is learned, and so is what a reader adds to the script.

An edit that is not learned is refused in one line. Acting computes what learning computes.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from cleanmarl import load_team, qmix
from cleanmarl.training import Refused, acting
from cleanmarl.training.arguments import load_file
from cleanmarl.training.initial import unread
from cleanmarl.training.mixing import warn_of_curve
from tests.helpers import (
    MODULES,
    OWN,
    SMALL,
    SOURCES,
    TWO_STEPS,
    every_script,
    run_program,
    small_args,
    trained,
    values_of,
)

CONFIGURATIONS = {
    "defaults": {},
    "vdn": {"mixer": "vdn"},
    "hypernetworks_of_two_layers": {"hypernet_layers": 2},
    "two_layers": {"num_layers": 2},
}
NOT_RECURRENT = {"no_layers": {"num_layers": 0}}
RECURRENT = {"gru": {"rnn": "gru"}, "obs_only": {"last_action": False}}


def configurations() -> list:
    """Scripts and their options."""
    found = []
    for script in MODULES:
        own = RECURRENT if script == "qmix_lstm" else NOT_RECURRENT
        for name, options in (CONFIGURATIONS | own).items():
            found.append(pytest.param(script, options, id=f"{script}-{name}"))
    return found


every_configuration = pytest.mark.parametrize(("script", "options"), configurations())


@pytest.fixture
def edited(tmp_path, monkeypatch) -> Callable:
    """`edited(script, (old, new), ...)`: a copy of a script with these changes, as a module."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # loading a file adds its folder

    def make(script: str, *changes: tuple[str, str]) -> ModuleType:
        source = SOURCES[script]
        for old, new in changes:
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        path = tmp_path / f"edited_{script}.py"
        path.write_text(source)
        return load_file(path)

    return make


def args_of(module: ModuleType, script: str, **options):
    return module.Args(**SMALL | OWN.get(script, {}) | options)


def losses_of(module: ModuleType, script: str, folder: Path, **options) -> list[float]:
    """Train on a game of two steps; returns the loss of each update."""
    args = args_of(module, script, log_every=1, **TWO_STEPS | options)
    module.train(args, folder=folder)
    losses = values_of(folder, "train/loss")
    assert len(losses) >= 10
    return losses


def random_weights(networks: nn.Module):
    """Give all networks random weights: with those of new networks, values are 0."""
    torch.manual_seed(1)
    for parameter in networks.parameters():
        parameter.data.normal_(std=0.5)


def recorded(values: Callable, seen: list) -> Callable:
    """The same function of arrays; it appends the values of all actions to `seen`."""

    def function(*inputs):
        outputs = values(*inputs)
        seen.append(outputs[0][0] if isinstance(outputs, tuple) else outputs)
        return outputs

    return function


def acting_and_learning(module: ModuleType, args) -> tuple[np.ndarray, np.ndarray]:
    """The values of an episode's actions in acting, and in learning, with random weights."""
    *envs, networks, _ = module.set_up(args)
    random_weights(networks)
    seen = []
    values = recorded(acting(networks.agent), seen)
    rng = np.random.default_rng(0)
    episode, _ = module.play_episode(envs[0], values, lambda t: 0.5, 0, rng, args)
    batch = {key: torch.from_numpy(array) for key, array in episode.items()}
    if hasattr(module, "run_agents"):
        batch["lengths"] = torch.tensor([len(episode["reward"])])
        inputs = module.agent_inputs(batch, args)
        learning = module.run_agents(networks.agent, inputs, batch["lengths"], args.tbptt)
    else:
        learning = networks.agent(batch["obs"])
    assert learning.requires_grad
    return np.array(seen), learning.detach().numpy()[:-1]


# The scripts as they are


@every_configuration
def test_every_parameter_of_the_optimizer_has_a_gradient_and_moves(script, options):
    module = MODULES[script]
    args = args_of(module, script, env_name="3m", **options)
    *envs, networks, optimizer = module.set_up(args)
    buffer = module.EpisodeBuffer(args.buffer_size)
    for number in range(4):
        rng = np.random.default_rng(number)
        values = acting(networks.agent)
        played = module.play_episode(envs[0], values, lambda t: 1.0, number, rng, args)
        buffer.store(played[0])
    before = {name: one.detach().clone() for name, one in networks.named_parameters()}
    for number in range(5):
        module.update(networks, optimizer, buffer.sample(args, number), args)

    given = {id(one) for group in optimizer.param_groups for one in group["params"]}
    for name, parameter in networks.named_parameters():
        is_learned = not name.startswith("target_")
        assert (id(parameter) in given) == is_learned, name
        assert (parameter.grad is not None) == is_learned, name
        assert torch.equal(parameter, before[name]) != is_learned, name


@every_configuration
def test_acting_computes_what_learning_computes(script, options):
    module = MODULES[script]
    args = args_of(module, script, env_name="3m", **options)
    in_acting, in_learning = acting_and_learning(module, args)
    assert len(in_acting) > 10  # more than one piece of the recurrent script
    assert np.std(in_acting) > 0.01
    np.testing.assert_allclose(in_acting, in_learning, rtol=1e-4, atol=1e-5)


# What a reader adds is learned

LAST_LINE = {script: "        self.layers = nn.Sequential(*layers)\n" for script in MODULES}
LAST_LINE["qmix_lstm"] = "        self.head = layer_init(nn.Linear(dim, env.n_actions), 0)\n"
RETURN = {script: "        return self.layers(obs)\n" for script in MODULES}
RETURN["qmix_lstm"] = "        return self.head(outputs), hidden\n"
DUELING = ["q = self.value(features) + q - q.mean(-1, keepdim=True)"]


def with_value(script: str, lines: list[str]) -> list[tuple[str, str]]:
    """Changes that add the layer `value` to the agent network, and these lines to `forward`."""
    layer = "        self.value = layer_init(nn.Linear(dim, 1), 0)\n"
    if script == "qmix_lstm":
        body = ["features = outputs", "q = self.head(features)", *lines, "return q, hidden"]
    else:
        body = ["features = self.layers[:-1](obs)", "q = self.layers(obs)", *lines, "return q"]
    indented = "".join(f"        {line}\n" for line in body)
    return [(LAST_LINE[script], LAST_LINE[script] + layer), (RETURN[script], indented)]


@every_script
def test_a_dueling_head_is_learned(tmp_path, edited, script):
    losses_of(edited(script, *with_value(script, DUELING)), script, tmp_path / "run")
    agent = torch.load(tmp_path / "run" / "model.pt", weights_only=True)["agent"]
    for name in ("value.weight", "value.bias"):
        assert agent[name].any(), name  # they began at 0


@every_script
def test_a_dueling_head_acts_as_it_learns(edited, script):
    module = edited(script, *with_value(script, DUELING))
    in_acting, in_learning = acting_and_learning(module, args_of(module, script, env_name="3m"))
    np.testing.assert_allclose(in_acting, in_learning, rtol=1e-4, atol=1e-5)


# What is not learned is refused

UNLEARNED = {
    "unused": [],
    "only_in_acting": ["if not torch.is_grad_enabled():", "    q = q + self.value(features)"],
    "without_gradients": ["with torch.no_grad():", "    v = self.value(features)", "q = q + v"],
    "detached": ["q = q + self.value(features).detach()"],
}


@every_script
@pytest.mark.parametrize("lines", UNLEARNED.values(), ids=UNLEARNED)
def test_a_layer_that_no_gradient_reaches_is_refused(tmp_path, edited, script, lines):
    module = edited(script, *with_value(script, lines))
    with pytest.raises(Refused, match=r"agent\.value\.weight, agent\.value\.bias"):
        losses_of(module, script, tmp_path / "run")


BACKWARD = "    loss.backward()\n"
ZERO_GRAD = "    optimizer.zero_grad()\n"
STEP = "    optimizer.step()\n"
Q_TOT = "    q_tot = networks.mixer(taken_q, state)  # [N]\n"
TO_DEVICE = "        self.to(args.device)\n"


@every_script
def test_an_update_without_backward_is_refused(tmp_path, edited, script):
    module = edited(script, (BACKWARD, ""))
    with pytest.raises(Refused, match=r"no parameter has a gradient .* loss\.backward\(\)"):
        losses_of(module, script, tmp_path / "run")


@every_script
def test_zero_grad_between_backward_and_step_is_refused(tmp_path, edited, script):
    module = edited(script, (ZERO_GRAD, ""), (STEP, ZERO_GRAD + STEP))
    with pytest.raises(Refused, match=r"no parameter has a gradient .* zero_grad\(\)"):
        losses_of(module, script, tmp_path / "run")


@every_script
def test_gradients_that_add_up_are_refused(tmp_path, edited, script):
    module = edited(script, (ZERO_GRAD, ""))
    with pytest.raises(Refused, match=r"added up.*zero_grad\(\)"):
        losses_of(module, script, tmp_path / "run")


def test_gradients_may_be_set_to_zero_after_the_step(tmp_path, edited):
    module = edited("qmix", (ZERO_GRAD, ""), (STEP, f"{STEP}{ZERO_GRAD}"))
    assert_same_losses(tmp_path, "qmix", module)


@every_script
def test_an_update_without_a_step_is_refused(tmp_path, edited, script):
    module = edited(script, (STEP, ""))
    with pytest.raises(Refused, match=r"no optimizer\.step\(\)"):
        losses_of(module, script, tmp_path / "run", total_timesteps=300)


def test_a_short_training_without_a_step_is_told_at_its_end(tmp_path, edited, capsys):
    losses_of(edited("qmix", (STEP, "")), "qmix", tmp_path / "run")
    assert "no optimizer.step(): nothing is learned" in capsys.readouterr().err


@pytest.mark.parametrize("number", [4, 50])
def test_gradients_may_be_accumulated_over_some_updates(tmp_path, edited, capsys, number):
    lines = (
        "    args.count = getattr(args, 'count', 0) + 1\n"
        f"    if args.count % {number} == 0:\n"
        "        optimizer.step()\n        optimizer.zero_grad()\n"
    )
    module = edited("qmix", (ZERO_GRAD, ""), (STEP, lines))
    losses_of(module, "qmix", tmp_path / "run", total_timesteps=150)
    assert "warning" not in capsys.readouterr().err


def test_a_resumed_run_may_log_before_its_first_update(tmp_path):
    options = {"train_freq": 4, "log_every": 1} | TWO_STEPS
    folder = trained("qmix", tmp_path / "run", total_timesteps=20, **options)
    more = small_args("qmix", total_timesteps=40, resume=str(folder), **options)
    MODULES["qmix"].train(more)
    assert values_of(folder, "train/num_updates")[-1] == 5


@every_script
def test_a_network_in_the_loss_that_the_optimizer_does_not_learn_is_refused(
    tmp_path, edited, script
):
    layer = "        self.bias = nn.Linear(env.state_size, 1)\n"
    added = '    q_tot = q_tot + networks.bias(batch["state"][obs_row]).squeeze(-1)\n'
    changes = [(TO_DEVICE, layer + TO_DEVICE), (Q_TOT, Q_TOT + added)]
    with pytest.raises(Refused, match=r"learns bias\.weight, bias\.bias"):
        losses_of(edited(script, *changes), script, tmp_path / "run")


HIDDEN = {
    "layers_in_a_list": ("self.more = [nn.Linear(dim, dim)]", r"agent\.more"),
    "a_plain_tensor": ("self.scale = torch.ones(1, requires_grad=True)", r"agent\.scale"),
}


@every_script
@pytest.mark.parametrize(("line", "name"), HIDDEN.values(), ids=HIDDEN)
def test_weights_that_pytorch_does_not_find_are_refused(tmp_path, edited, script, line, name):
    module = edited(script, (LAST_LINE[script], f"{LAST_LINE[script]}        {line}\n"))
    with pytest.raises(Refused, match=rf"learns {name}.*nn\.ModuleList"):
        losses_of(module, script, tmp_path / "run")


def test_a_list_of_layers_that_the_network_has_elsewhere_is_fine(tmp_path, edited):
    line = "        self.linears = [one for one in layers if isinstance(one, nn.Linear)]\n"
    module = edited("qmix", (LAST_LINE["qmix"], LAST_LINE["qmix"] + line))
    assert_same_losses(tmp_path, "qmix", module)


def test_weights_that_never_change_are_named_at_the_end(tmp_path, edited, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    module = edited("qmix", (STEP, f"    optimizer.zero_grad(False)\n{STEP}"))
    losses_of(module, "qmix", tmp_path / "run")
    assert "agent.layers.0.weight" in capsys.readouterr().err


def test_targets_that_never_follow_are_told_at_the_end(tmp_path, edited, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    module = edited("qmix", ("            target.lerp_(parameter, polyak)\n", "            pass\n"))
    losses_of(module, "qmix", tmp_path / "run")
    told = capsys.readouterr().err
    assert "the target_agent did not change in" in told
    assert "the target_mixer did not change in" in told


TARGET = "        self.target_agent = deepcopy(self.agent).requires_grad_(False).eval()\n"
LISTED = "        self._more = [nn.Linear(env.obs_size, env.n_actions)]\n"
NEEDS_COPY = "target_agent is no copy, but is learned itself"


@every_script
def test_a_layer_in_a_list_with_a_private_name_is_refused(tmp_path, edited, script):
    module = edited(script, (LAST_LINE[script], LAST_LINE[script] + LISTED))
    with pytest.raises(Refused, match=r"no optimizer learns agent\._more, target_agent\._more"):
        losses_of(module, script, tmp_path / "run")


def test_a_layer_that_no_network_holds_is_told(tmp_path, edited, capsys):
    begin = "class AgentNetwork(nn.Module):\n"
    layer = "class More:\n    layer = nn.Linear(8, 2)\n\n\n"
    module = edited(
        "qmix",
        (begin, layer + begin),
        (
            RETURN["qmix"],
            "        h = self.layers[:-1](obs)\n"
            "        return self.layers[-1](h) + More.layer(h)\n",
        ),
    )
    losses_of(module, "qmix", tmp_path / "run")
    assert "no optimizer learns Linear.weight, Linear.bias: hold them" in capsys.readouterr().err


@every_script
def test_a_target_that_is_no_copy_is_refused(tmp_path, edited, script):
    module = edited(script, (TARGET, "        self.target_agent = self.agent\n"))
    with pytest.raises(Refused, match=NEEDS_COPY):
        losses_of(module, script, tmp_path / "run")


def test_frozen_agents_are_told(tmp_path, edited, capsys):
    frozen = "        self.target_agent = deepcopy(self.agent.requires_grad_(False)).eval()\n"
    losses_of(edited("qmix", (TARGET, frozen)), "qmix", tmp_path / "run")
    told = capsys.readouterr().err
    assert "an optimizer has agent.layers.0.weight" in told
    assert "but requires_grad is False: not learned" in told


def test_a_layer_that_is_replaced_during_the_training_is_told(tmp_path, edited, capsys):
    new = "    if progress.num_updates == 9:\n        old = networks.agent.layers[-1]\n"
    new += "        networks.agent.layers[-1] = nn.Linear(old.in_features, old.out_features)\n"
    added = "    progress.num_updates += 1\n"
    losses_of(edited("qmix", (added, added + new)), "qmix", tmp_path / "run")
    assert "no optimizer learns agent.layers.4.weight" in capsys.readouterr().err


def test_one_target_that_does_not_follow_is_told(tmp_path, edited, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    line = "[*self.target_agent.parameters(), *self.target_mixer.parameters()]"
    loop = "        for target, parameter in zip(self._targets, self._learned, strict=True):\n"
    some = "        for target, parameter in zip(self._targets, self._learned, strict=False):\n"
    only = "[*self.target_agent.parameters()]"
    losses_of(edited("qmix", (line, only), (loop, some)), "qmix", tmp_path / "run")
    told = capsys.readouterr().err
    assert "the target_mixer did not change" in told
    assert "the target_agent did not change" not in told


def test_a_buffer_that_targets_do_not_follow_is_told(tmp_path, edited, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    buffer = '        self.register_buffer("seen", torch.zeros(()))\n'
    count = "        if torch.is_grad_enabled():\n            self.seen += 1\n"
    changes = [
        (LAST_LINE["qmix"], LAST_LINE["qmix"] + buffer),
        (RETURN["qmix"], count + RETURN["qmix"]),
    ]
    losses_of(edited("qmix", *changes), "qmix", tmp_path / "run")
    assert "agent.seen has changed, but target_agent.seen has not" in capsys.readouterr().err


def test_what_the_state_lacks_is_told(tmp_path, edited, capsys):
    state = 'state = {"networks": networks, "optimizer": optimizer, "progress": progress}'
    losses_of(
        edited("qmix", (state, state.replace('"optimizer": optimizer, ', ""))),
        "qmix",
        tmp_path / "a",
    )
    assert "`state` has no optimizer" in capsys.readouterr().err
    line = "    buffer = EpisodeBuffer(args.buffer_size)\n"
    schedule = "    torch.optim.lr_scheduler.LinearLR(optimizer)\n"
    losses_of(edited("qmix", (line, line + schedule)), "qmix", tmp_path / "b")
    assert "`state` has no learning rate scheduler" in capsys.readouterr().err


def test_a_training_without_updates_is_told(tmp_path, edited, capsys):
    due = "if progress.num_episodes % args.train_freq == 0:"
    module = edited("qmix", (due, due.replace("== 0", "== 1")))
    module.train(args_of(module, "qmix", **TWO_STEPS), folder=tmp_path / "run")
    assert "20 episodes are stored, but no update was made" in capsys.readouterr().err


def test_a_batch_that_is_larger_than_all_episodes_is_told(tmp_path, capsys):
    options = TWO_STEPS | {"total_timesteps": 200, "eval_steps": 5, "log_every": 1}
    qmix.train(qmix.Args(**options, batch_size=200), tmp_path / "run")
    said = capsys.readouterr().err
    few = "100 episodes are stored, fewer than --batch-size 200: no update was made"
    assert said.count("warning: ") == said.count(few) == 1


@every_script
def test_stored_episodes_cannot_be_changed(tmp_path, edited, script):
    line = "        return {k: torch.from_numpy(v).to(args.device) for k, v in batch.items()}\n"
    change = '        self.episodes[0]["reward"] += 1\n'
    with pytest.raises(ValueError, match="read-only"):
        losses_of(edited(script, (line, change + line)), script, tmp_path / "run")


@every_script
def test_targets_play_without_dropout(tmp_path, edited, script):
    layer = "        self.drop = nn.Dropout(0.5)\n"
    module = edited(script, (LAST_LINE[script], LAST_LINE[script] + layer))
    networks = module.set_up(args_of(module, script, **TWO_STEPS))[1]
    assert networks.agent.training
    assert not networks.target_agent.drop.training


# What acts is what learns

MIXING = {
    "features": ("qmix", "h = self.layers(obs)\n        return h + h.mean(1, keepdim=True)"),
    "environments": (
        "qmix_multienvs",
        "h = self.layers(obs)\n        return h + h.mean(1, keepdim=True)",
    ),
    "rows": (
        "qmix_lstm",
        "h = self.head(outputs)\n        return h + h.mean(1, keepdim=True), hidden",
    ),
}
OF_ONE_STEP = {
    "agents": ("qmix", "h = self.layers(obs)\n        return h + h.mean(-2, keepdim=True)"),
    "all": ("qmix_multienvs", "h = self.layers(obs)\n        return h + h.mean(-2, keepdim=True)"),
    "rows": (
        "qmix_lstm",
        "h = self.head(outputs)\n        team = h.view(len(h), -1, 2, h.shape[-1])\n"
        "        return h + (0 * team + team.mean(2, keepdim=True)).view(h.shape), hidden",
    ),
}


@pytest.mark.parametrize(("script", "lines"), MIXING.values(), ids=MIXING)
def test_agents_that_mix_over_a_batch_are_refused(tmp_path, edited, script, lines):
    module = edited(script, (RETURN[script], f"        {lines}\n"))
    with pytest.raises(Refused, match="depend on the other steps of a batch"):
        losses_of(module, script, tmp_path / "run")


@pytest.mark.parametrize(("script", "lines"), OF_ONE_STEP.values(), ids=OF_ONE_STEP)
def test_agents_may_mix_over_the_agents_of_a_step(tmp_path, edited, script, lines):
    module = edited(script, (RETURN[script], f"        {lines}\n"))
    losses_of(module, script, tmp_path / "run")


# Mixers

HIDDEN = "        hidden = F.elu(weighted + self.b1(state))\n"
NO_MIXING = {
    "a mean": "        hidden = hidden - hidden.mean(0)\n",
    "attention": "        hidden = (hidden @ hidden.T).softmax(-1) @ hidden\n",
    "the order": "        hidden = hidden.flip(0)\n",
}


@pytest.mark.parametrize("line", NO_MIXING.values(), ids=NO_MIXING)
def test_a_mixer_of_several_transitions_is_refused(tmp_path, edited, line):
    module = edited("qmix", (HIDDEN, HIDDEN + line))
    with pytest.raises(Refused, match="depends on the other transitions of the batch"):
        losses_of(module, "qmix", tmp_path / "run")


@every_script
def test_a_mixer_that_is_not_monotonic_is_told_once(tmp_path, edited, capsys, script):
    module = edited(script, ("self.w1(state).abs()", "self.w1(state)"))
    losses_of(module, script, tmp_path / "run")
    assert capsys.readouterr().err.count("the mixer is not monotonic") == 1


def test_a_mixer_that_training_makes_non_monotonic_is_told(tmp_path, edited, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    sign = "        self.num_calls += 1\n        sign = 1 if self.num_calls < 8 else -1\n"
    module = edited(
        "qmix",
        ("        self.b2 = hyper", "        self.num_calls = 0\n        self.b2 = hyper"),
        ("        w1 = self.w1(state).abs()", f"{sign}        w1 = sign * self.w1(state).abs()"),
    )
    losses_of(module, "qmix", tmp_path / "run")
    assert capsys.readouterr().err.count("the mixer is not monotonic") == 1


BATCH_NORM = "        self.norm = nn.BatchNorm1d(dim)\n"
MIXERS = {
    "softmax": [("self.w1(state).abs()", "self.w1(state).softmax(-1)")],
    "batch norm": [
        ("        self.b2 = hyper", f"{BATCH_NORM}        self.b2 = hyper"),
        (HIDDEN, HIDDEN + "        hidden = self.norm(hidden)\n"),
    ],
    "dropout": [(HIDDEN, HIDDEN + "        hidden = F.dropout(hidden, 0.1, self.training)\n")],
    "squeeze": [("self.b2(state).squeeze(-1)", "self.b2(state).squeeze()")],
    "noise": [(HIDDEN, HIDDEN + "        hidden = hidden + torch.rand_like(hidden)\n")],
}


@pytest.mark.parametrize("changes", MIXERS.values(), ids=MIXERS)
def test_other_mixers_are_fine(tmp_path, edited, capsys, changes):
    losses_of(edited("qmix", *changes), "qmix", tmp_path / "run")
    assert "mixer is" not in capsys.readouterr().err


LOSS = "    return F.mse_loss(q_tot, target), q_tot.detach()\n"
COLUMN = "    q_tot = q_tot.unsqueeze(-1)\n"
MEANS_OF_ALL = {
    "Q_tot": COLUMN + "    return ((q_tot - target) ** 2).mean(), q_tot.detach()\n",
    "targets": "    return ((q_tot - target.unsqueeze(-1)) ** 2).mean(), q_tot.detach()\n",
    "weighted": f"{COLUMN}    error = (q_tot - target) ** 2\n"
    "    weight = torch.where(q_tot < target, 1.0, 0.1)\n"
    "    return (weight * error).mean(), q_tot.detach()\n",
}
OWN_TARGETS = {
    "vectors": "    return ((q_tot - target) ** 2).mean(), q_tot.detach()\n",
    "columns": f"{COLUMN}    target = target.unsqueeze(-1)\n{LOSS}",
    "Huber": "    return F.huber_loss(q_tot, target), q_tot.detach()\n",
}
SPREAD = {"env_family": "mpe", "env_name": "simple_spread_v3", "total_timesteps": 1500}
OF_ALL = "each Q_tot learns the average of all targets"


@pytest.mark.parametrize("lines", MEANS_OF_ALL.values(), ids=MEANS_OF_ALL)
def test_a_loss_of_a_column_and_a_vector_is_told_once(tmp_path, edited, capsys, lines):
    losses_of(edited("qmix", (LOSS, lines)), "qmix", tmp_path / "run", **SPREAD)
    assert capsys.readouterr().err.count(OF_ALL) == 1


@pytest.mark.parametrize("lines", OWN_TARGETS.values(), ids=OWN_TARGETS)
def test_a_loss_of_each_transitions_own_target_is_fine(tmp_path, edited, capsys, lines):
    losses_of(edited("qmix", (LOSS, lines)), "qmix", tmp_path / "run", **SPREAD)
    assert OF_ALL not in capsys.readouterr().err


@pytest.mark.parametrize(("different", "told"), [(20, False), (200, True)])
def test_few_different_values_show_nothing_of_the_targets(capsys, different, told):
    q_tot = np.repeat(np.linspace(-1, 1, different), 10)  # 20 in a payoff table, for example
    warn_of_curve(q_tot, gradient=2 * q_tot)
    assert (OF_ALL in capsys.readouterr().err) == told


STATE = '"progress": progress}'
NOT_SAVED = {
    "a number": ('"progress": progress, "mine": 0.5}', "a dataclass, or an object with state_dict"),
    "an array": ('"progress": progress, "mine": Args(seed=np.zeros(2))}', "but no ndarray"),
    "an enum": ('"progress": progress, "mine": Args(seed=Mine.A)}', "but no Mine"),
}


@pytest.mark.parametrize(("state", "reason"), NOT_SAVED.values(), ids=NOT_SAVED)
def test_what_cannot_be_saved_is_refused_before_the_training(tmp_path, edited, state, reason):
    module = edited("qmix", (STATE, state))
    module.Mine = StrEnum("Mine", ["A"])
    with pytest.raises(Refused, match=reason):
        losses_of(module, "qmix", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_part_of_the_state_that_can_no_longer_be_saved_is_named(tmp_path, edited):
    line = "        run.save()\n        if args.capture_video"
    module = edited("qmix", (line, f"        progress.num_updates = np.zeros(2)\n{line}"))
    with pytest.raises(ValueError, match=r'state\["progress"\]: .* but no ndarray'):
        losses_of(module, "qmix", tmp_path / "run")


def test_an_enum_is_no_argument(tmp_path, edited):
    module = edited("qmix", ("    gamma: Fraction", "    kind: str = 'a'\n    gamma: Fraction"))
    kind = StrEnum("Kind", {"A": "a"}).A
    with pytest.raises(Refused, match="--kind is a Kind, which is no JSON: make it a str"):
        losses_of(module, "qmix", tmp_path / "run", kind=kind)


def test_arguments_that_a_copy_does_not_need_may_be_left_out(tmp_path, edited):
    source = SOURCES["qmix"]
    changes = []
    for name in ("normalize_reward", "bootstrap_truncated", "agent_ids"):
        begin = source.index(f"    {name}: bool")
        end = source.index("\n", source.index('"""', begin)) + 1
        changes.append((source[begin:end], ""))
    changes.append(("if args.normalize_reward:", "if False:"))
    changes.append(("(truncated and not args.bootstrap_truncated)", "truncated"))
    module = edited("qmix", *changes)
    losses_of(module, "qmix", tmp_path / "run")
    assert "agent_ids" not in json.loads((tmp_path / "run/args.json").read_text())
    assert load_team(tmp_path / "run", script=module.__file__).n_agents == 2


def test_a_batch_norm_of_the_agents_is_told(tmp_path, edited, capsys):
    layers = "layers = [training.ScaledLinear(env.obs_size, dim), nn.ReLU()]"
    norm = f"{layers}\n        layers += [nn.BatchNorm1d(dim)]"
    rows = "        return self.layers(obs)\n"
    flat = "        return self.layers(obs.flatten(0, -2)).unflatten(0, obs.shape[:-1])\n"
    losses_of(edited("qmix", (layers, norm), (rows, flat)), "qmix", tmp_path / "run")
    assert "a BatchNorm1d normalises a step's few agents when they act" in capsys.readouterr().err


def test_a_field_of_args_without_a_type_is_refused(tmp_path, edited):
    module = edited(
        "qmix", ("    gamma: Fraction = 0.99\n", "    gamma: Fraction = 0.99\n    mine = 1\n")
    )
    with pytest.raises(Refused, match="needs a type, for example mine: int = 1"):
        losses_of(module, "qmix", tmp_path / "run")


def test_a_default_that_is_changed_in_a_subclass_needs_its_type_again(tmp_path):
    @dataclass
    class Args(qmix.Args):
        gamma = 0.9

    with pytest.raises(Refused, match=r"needs a type, for example gamma: float = 0\.9"):
        qmix.train(Args(total_timesteps=60), tmp_path / "run")


def test_a_run_that_an_edited_script_resumes_says_so(tmp_path, edited, capsys):
    losses_of(edited("qmix"), "qmix", tmp_path / "run")
    for changes, told in (((), 0), (((STEP, f"{STEP}    # edited\n"),), 1), ((), 1)):
        module = edited("qmix", *changes)
        own = json.loads((tmp_path / "run" / "args.json").read_text())
        module.train(module.Args(**own | {"resume": str(tmp_path / "run")}))
        text = "edited_qmix.py has changed since the run was trained with it"
        assert capsys.readouterr().err.count(text) == told


def test_no_weight_of_a_training_is_named_as_unchanged(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    losses_of(MODULES["qmix"], "qmix", tmp_path / "run")
    assert "warning" not in capsys.readouterr().err


@every_script
def test_a_refused_edit_is_told_in_one_line(tmp_path, monkeypatch, edited, script):
    module = edited(script, *with_value(script, []))
    monkeypatch.chdir(tmp_path)
    options = "--env-name 3m --time-limit 5 --batch-size 2 --total-timesteps 50"
    status, _, err = run_program(module.__file__, *options.split())
    assert status == 2
    told = [line for line in err.splitlines() if "error" in line]
    assert len(told) == 1
    assert "agent.value.weight" in told[0]
    assert "Traceback" not in err


# What readers of CleanRL write


def assert_same_losses(tmp_path: Path, script: str, module: ModuleType, rel=0.0, **options):
    """The edited script learns what the original learns with these options."""
    losses = losses_of(module, script, tmp_path / "edited")
    expected = losses_of(MODULES[script], script, tmp_path / "original", **options)
    assert losses == pytest.approx(expected, rel=rel, abs=0)


@every_script
def test_zero_grad_of_the_networks_works(tmp_path, edited, script):
    module = edited(script, (ZERO_GRAD, "    networks.zero_grad()\n"))
    assert_same_losses(tmp_path, script, module)


@every_script
def test_the_gradient_of_all_parameters_of_the_networks_can_be_clipped(tmp_path, edited, script):
    line = "    norm = nn.utils.clip_grad_norm_(networks.learned(), limit)\n"
    new = "    norm = nn.utils.clip_grad_norm_(networks.parameters(), 0.5)\n"
    assert_same_losses(tmp_path, script, edited(script, (line, new)), clip_gradients=0.5)


@every_script
def test_an_optimizer_of_pytorch_works_as_it_is(tmp_path, edited, script):
    end = "lr=args.learning_rate, **training.optimizer_options(args))\n"
    line = f"    optimizer = kind(networks.learned(), {end}"
    rates = "lr=args.learning_rate, eps=args.optimizer_eps, betas=(0.9, args.beta2)"
    new = f"    optimizer = torch.optim.Adam(networks.learned(), {rates})\n"
    assert_same_losses(tmp_path, script, edited(script, (line, new)), rel=1e-4)


@every_script
def test_the_learning_rate_can_be_changed_in_the_optimizer(tmp_path, edited, script):
    line = '    optimizer.param_groups[0]["lr"] = 0.01\n'
    module = edited(script, (STEP, line + STEP))
    assert_same_losses(tmp_path, script, module, learning_rate=0.01)
    assert values_of(tmp_path / "edited", "train/loss") != losses_of(
        MODULES[script], script, tmp_path / "unchanged"
    )


NO_EFFECT = {
    "--hyper-dim 8 has no effect with --mixer vdn": {"mixer": "vdn", "hyper_dim": 8},
    "--hypernet-layers 1 has no effect with --mixer vdn": {"mixer": "vdn", "hypernet_layers": 1},
    "--optimizer-eps 0.5 has no effect with --optimizer SGD": {
        "optimizer": "SGD",
        "optimizer_eps": 0.5,
    },
    "--beta2 0.5 has no effect with --optimizer SGD": {"optimizer": "SGD", "beta2": 0.5},
}


@pytest.mark.parametrize(("told", "options"), NO_EFFECT.items(), ids=NO_EFFECT)
def test_an_argument_without_effect_beside_another_is_told(tmp_path, capsys, told, options):
    qmix.train(qmix.Args(**TWO_STEPS | {"total_timesteps": 40} | options), tmp_path / "run")
    assert capsys.readouterr().err.startswith(f"warning: {told}\n")


def test_defaults_beside_another_argument_are_not_told(tmp_path, capsys):
    options = {"mixer": "vdn", "optimizer": "SGD"}
    qmix.train(qmix.Args(**TWO_STEPS | {"total_timesteps": 40} | options), tmp_path / "run")
    assert "has no effect" not in capsys.readouterr().err


def test_an_argument_that_nothing_reads_is_told(tmp_path, edited, capsys):
    line = "    seed: Seed = 1\n"
    module = edited("qmix", (line, "    entropy: float = 0.5\n" + line))
    module.train(args_of(module, "qmix", **TWO_STEPS), folder=tmp_path / "run")
    assert capsys.readouterr().err.startswith(
        "warning: edited_qmix.py does not read args.entropy\n"
    )


NOT_READ = {
    "learning_rate": ("lr=args.learning_rate, ", ""),
    "normalize_reward": ("if args.normalize_reward:", "if False:"),
    "hidden_dim": ("dim = args.hidden_dim", "dim = 64"),
    "torch_threads": ("    torch.set_num_threads(args.torch_threads)\n", ""),
    "evaluate": ("job = evaluate_run if args.evaluate else train", "job = train"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_an_argument_that_only_scripts_apply_must_be_read(edited, name):
    module = edited("qmix", NOT_READ[name], ("Path(args.evaluate)", "Path()"))
    assert unread(module.Args) == [f"edited_qmix.py does not read args.{name}"]


def test_what_only_an_optimizer_has_must_be_given_to_it(edited):
    module = edited("qmix", (", **training.optimizer_options(args))\n", ")\n"))
    read = "edited_qmix.py does not read args."
    assert unread(module.Args) == [f"{read}optimizer_eps", f"{read}beta2"]


def test_what_a_module_of_the_users_reads_is_read(tmp_path, edited):
    (tmp_path / "sizes_of_mine.py").write_text("def units(args):\n    return args.hidden_dim\n")
    line = "from cleanmarl import training"
    changes = [("dim = args.hidden_dim", "dim = units(args)")]
    changes += [(line, f"from sizes_of_mine import units\n{line}")]
    assert unread(edited("qmix", *changes).Args) == []


@every_script
def test_a_script_reads_all_its_arguments(edited, script):
    changes = [('training.warn_on_error(f"no video of {args.env_name}")', "nullcontext()")]
    changes += [("    torch.manual_seed(args.seed)\n", ""), ("with `args.resume`", "")]
    assert unread(MODULES[script].Args) == unread(edited(script, *changes).Args) == []


def test_targets_in_train_mode_are_told_if_it_matters(tmp_path, edited, capsys):
    layer = "        self.drop = nn.Dropout(0.5)\n"
    mode = "    networks.train()\n"
    module = edited("qmix", (LAST_LINE["qmix"], LAST_LINE["qmix"] + layer), (STEP, mode + STEP))
    losses_of(module, "qmix", tmp_path / "a")
    assert "target_agent has a Dropout in train mode" in capsys.readouterr().err
    losses_of(edited("qmix", (STEP, mode + STEP)), "qmix", tmp_path / "b")
    assert "warning" not in capsys.readouterr().err


# Copies that would learn, and then act in another way

OVER_TIME = {
    "later steps": "outputs = outputs + outputs.flip(0)",
    "earlier rows": "outputs = outputs.cumsum(1)",
    "all steps": "outputs = outputs - outputs.mean(0)",
}


def test_a_target_that_computes_with_the_agents_weights_is_refused(tmp_path, edited):
    last, line = LAST_LINE["qmix"], "        self.run = lambda x: self.layers(x)\n"
    module = edited("qmix", (last, last + line), (RETURN["qmix"], "        return self.run(obs)\n"))
    with pytest.raises(Refused, match="computes with the original's weights"):
        losses_of(module, "qmix", tmp_path / "run")


@pytest.mark.parametrize("line", OVER_TIME.values(), ids=OVER_TIME)
def test_recurrent_agents_that_mix_over_time_or_rows_are_refused(tmp_path, edited, line):
    back = RETURN["qmix_lstm"]
    module = edited("qmix_lstm", (back, f"        {line}\n{back}"))
    with pytest.raises(Refused, match="depend on the other steps of a batch"):
        losses_of(module, "qmix_lstm", tmp_path / "run")


def test_a_mixer_of_earlier_transitions_is_refused(tmp_path, edited):
    module = edited("qmix", (HIDDEN, HIDDEN + "        hidden = hidden.cumsum(0)\n"))
    with pytest.raises(Refused, match="depends on the other transitions of the batch"):
        losses_of(module, "qmix", tmp_path / "run")


def test_agents_may_take_and_return_more(tmp_path, edited):
    more = "        return self.layers(obs), {'more': obs.sum(-1), 'none': None}\n"
    module = edited(
        "qmix",
        (RETURN["qmix"], more),
        ('    q = networks.agent(batch["obs"])  #', '    q, _ = networks.agent(batch["obs"])  #'),
        (
            'target_q = networks.target_agent(batch["obs"])',
            'target_q = networks.target_agent(batch["obs"])[0]',
        ),
        ('scores = values(observation["obs"])', 'scores = values(observation["obs"])[0]'),
    )
    losses_of(module, "qmix", tmp_path / "run")


def test_acting_follows_weights_and_buffers_that_change():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    network.register_buffer("unused", torch.zeros(1))
    obs = np.ones((2, 3), np.float32)
    values = acting(network)
    before = values(obs)
    optimizer = torch.optim.Adam(network.parameters(), 0.1, fused=True)
    network(torch.from_numpy(obs)).sum().backward()
    optimizer.step()
    after = values(obs)
    assert not np.allclose(before, after)
    np.testing.assert_allclose(after, network(torch.from_numpy(obs)).detach(), rtol=1e-5)


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("noise", torch.zeros(2))

    def forward(self, x):
        return self.layer(x) + self.noise


def test_acting_follows_a_buffer_that_is_replaced():
    network, obs = Noisy(), np.ones((2, 3), np.float32)
    values = acting(network)
    before = values(obs)
    network.noise = torch.ones(2)
    np.testing.assert_allclose(values(obs), before + 1, rtol=1e-5)


def test_running_means_in_numpy_and_plain_tensors_are_told(tmp_path, edited, capsys, monkeypatch):
    monkeypatch.setattr("cleanmarl.training.learned.ENOUGH", 5)
    begin, last, back = "class AgentNetwork(nn.Module):\n", LAST_LINE["qmix"], RETURN["qmix"]
    means = "class Means:\n    mean = None\n\n    def __init__(self, size):\n"
    means += "        self.mean = np.zeros(size)\n\n\n"
    layers = "        self.rms = Means(env.obs_size)\n        self.plain = torch.ones(1)\n"
    count = "        self.rms.mean = self.rms.mean + 1\n"
    module = edited("qmix", (begin, means + begin), (last, last + layers), (back, count + back))
    losses_of(module, "qmix", tmp_path / "run")
    told = capsys.readouterr().err
    assert "agent.rms.mean has changed, but is an array of NumPy" in told
    assert "agent.plain is a plain tensor, which is not saved: use register_buffer" in told


def test_an_optimizer_outside_of_state_is_told(tmp_path, edited, capsys):
    line = "    progress.num_updates += 1\n"
    more = "    for one in (1, 2):\n        MORE.step()\n"
    made = "\n\nMORE = torch.optim.SGD([torch.zeros(1, requires_grad=True)])\n"
    main = "\n\ndef main():\n"
    module = edited("qmix", (line, line + more), (main, made + main))
    losses_of(module, "qmix", tmp_path / "run")
    assert capsys.readouterr().err.count("`state` lacks an optimizer (SGD) that makes steps") == 1


@every_script
def test_an_optimizer_of_all_parameters_is_fine(tmp_path, edited, capsys, script):
    old = "optimizer = kind(networks.learned(), "
    module = edited(script, (old, "optimizer = kind(networks.parameters(), "))
    losses_of(module, script, tmp_path / "run")
    assert "warning" not in capsys.readouterr().err


def test_frozen_networks_in_a_list_are_fine(tmp_path, edited):
    frozen = "        self.teacher = [nn.Linear(2, 2).requires_grad_(False)]\n"
    module = edited("qmix", (LAST_LINE["qmix"], LAST_LINE["qmix"] + frozen))
    losses_of(module, "qmix", tmp_path / "run")


def test_a_number_in_an_episode_is_refused_before_it_is_trained(tmp_path, edited):
    line = '    episode["actions"] = np.array(actions)\n'
    module = edited("qmix", (line, line + '    episode["score"] = 1.5\n'))
    with pytest.raises(Refused, match="the score of an episode is a float: make it an array"):
        losses_of(module, "qmix", tmp_path / "run")


def test_tensors_among_metrics_are_saved_as_numbers(tmp_path, edited):
    line = '    learning["train/q_tot"] = q_tot.mean().item()\n'
    module = edited("qmix", (line, line + '    learning["train/std"] = q_tot.std()\n'))
    losses_of(module, "qmix", tmp_path / "run")
    module.train(args_of(module, "qmix", resume=str(tmp_path / "run"), **TWO_STEPS, log_every=1))


# Scripts that are not what they seem


def test_a_network_that_was_replaced_from_outside_is_refused(tmp_path, edited, monkeypatch):
    module = edited("qmix")
    monkeypatch.setattr(module, "AgentNetwork", type("Mine", (qmix.AgentNetwork,), {}))
    with pytest.raises(Refused, match=r"AgentNetwork of edited_qmix\.py was replaced"):
        losses_of(module, "qmix", tmp_path / "run")


def test_a_network_that_is_not_used_is_told(tmp_path, edited, monkeypatch, capsys):
    mine = type("AgentNetwork", (nn.Module,), {"__module__": "__main__"})
    monkeypatch.setattr(sys.modules["__main__"], "AgentNetwork", mine, raising=False)
    losses_of(edited("qmix"), "qmix", tmp_path / "run")
    assert (
        "AgentNetwork of your program is not used: copy edited_qmix.py" in capsys.readouterr().err
    )


def test_a_program_may_use_names_of_the_script_for_something_else(
    tmp_path, edited, monkeypatch, capsys
):
    for name, value in {"act": lambda obs: obs, "AgentNetwork": 3, "Networks": None}.items():
        monkeypatch.setattr(sys.modules["__main__"], name, value, raising=False)
    losses_of(edited("qmix"), "qmix", tmp_path / "run")
    assert "is not used" not in capsys.readouterr().err


def test_a_script_that_has_changed_is_told_when_its_team_acts(tmp_path, edited, capsys):
    module, run = edited("qmix"), tmp_path / "run"
    losses_of(module, "qmix", run)
    load_team(run, script=module.__file__)
    assert "has changed" not in capsys.readouterr().err
    with Path(module.__file__).open("a") as file:
        file.write("# a change\n")
    load_team(run, script=module.__file__)
    assert "edited_qmix.py has changed since the run was trained" in capsys.readouterr().err
    module.evaluate_run(args_of(module, "qmix", evaluate=str(run), **TWO_STEPS))
    assert "edited_qmix.py has changed since the run was trained" in capsys.readouterr().err


def test_a_helper_file_that_has_changed_is_told(tmp_path, edited, capsys):
    (tmp_path / "my_own_layers.py").write_text("SIZE = 1\n")
    begin = "import numpy as np\n"
    module, run = edited("qmix", (begin, f"import my_own_layers\n{begin}")), tmp_path / "run"
    losses_of(module, "qmix", run)
    (tmp_path / "my_own_layers.py").write_text("SIZE = 1  # as before\n")
    module.train(args_of(module, "qmix", resume=str(run), **TWO_STEPS, log_every=1))
    assert "edited_qmix.py has changed since the run was trained" in capsys.readouterr().err


def test_a_copy_without_ids_is_a_team(tmp_path, edited):
    ids = '    agent_ids: bool = True\n    """append a one-hot agent id to each observation"""\n'
    old = "make_env(**env_arguments(args), render"
    module = edited(
        "qmix", (ids, ""), (old, "make_env(**env_arguments(args), agent_ids=False, render")
    )
    for name, task in {"battle": {"env_name": "3m"}, "game": TWO_STEPS}.items():
        run = tmp_path / name
        module.train(args_of(module, "qmix", **task), folder=run)
        team = load_team(run, script=module.__file__)
        assert team.act(np.zeros((team.n_agents, team.obs_size))).shape == (team.n_agents,)
