"""`fast.py` computes the same as plain PyTorch, and fails if a script breaks its assumptions."""

from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cleanmarl import qmix, qmix_lstm
from cleanmarl.qmix import Networks
from cleanmarl.training.acting import (
    as_vector,
    check_vectors,
    in_numpy,
    make_optimizer,
    recurrent_in_numpy,
)
from tests.helpers import properties, seeds, small_args

SIZES = SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7)


def new_networks(**options) -> Networks:
    torch.manual_seed(0)
    return Networks(small_args("qmix", **options), SIZES)


def network(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), *layers, nn.Linear(8, 3))


# Networks as functions of arrays


@properties
@given(seeds, st.integers(0, 3), st.integers(1, 9))
def test_in_numpy_computes_the_same_as_the_network(seed, num_layers, rows):
    torch.manual_seed(seed)
    agent = qmix.AgentNetwork(small_args("qmix", num_layers=num_layers), SIZES)
    nn.init.normal_(agent[-1].weight)
    obs = torch.randn(rows, 5)
    q = in_numpy(agent)(obs.numpy())
    assert q.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(q), agent(obs).detach())


def test_in_numpy_takes_any_number_of_leading_dimensions():
    agent = network(nn.ReLU())
    obs = torch.randn(4, 2, 5)
    torch.testing.assert_close(torch.from_numpy(in_numpy(agent)(obs.numpy())), agent(obs).detach())


def test_in_numpy_has_the_weights_that_an_optimizer_has_changed():
    networks = new_networks()
    obs = torch.randn(4, 5)
    networks.theta.detach().normal_()
    expected = networks.agent(obs).detach()
    torch.testing.assert_close(torch.from_numpy(in_numpy(networks.agent)(obs.numpy())), expected)


@pytest.mark.parametrize(
    "layer",
    [nn.Tanh(), nn.LayerNorm(8), nn.Dropout(), nn.Sequential(nn.ReLU())],
    ids=lambda layer: type(layer).__name__,
)
def test_in_numpy_refuses_a_layer_that_it_does_not_support(layer):
    with pytest.raises(TypeError, match="Linear and ReLU"):
        in_numpy(network(layer))


class Dueling(qmix.AgentNetwork):
    def forward(self, obs):
        q = super().forward(obs)
        return q - q.mean(-1, keepdim=True)


def test_in_numpy_refuses_a_network_with_another_forward():
    with pytest.raises(TypeError, match="forward"):
        in_numpy(Dueling(small_args("qmix"), SIZES))


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def test_in_numpy_refuses_a_layer_derived_from_one_that_it_supports():
    with pytest.raises(TypeError, match="Linear and ReLU"):
        in_numpy(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), Scaled(8, 3)))


# Recurrent networks as functions of arrays


def recurrent_agent(**options) -> qmix_lstm.AgentNetwork:
    agent = qmix_lstm.AgentNetwork(small_args("qmix_lstm", **options), SIZES)
    nn.init.normal_(agent.head.weight)
    return agent


@properties
@given(seeds, st.sampled_from(["lstm", "gru"]), st.integers(1, 3), st.integers(1, 9))
def test_recurrent_in_numpy_gives_what_the_network_gives(seed, rnn, num_layers, rows):
    torch.manual_seed(seed)
    agent = recurrent_agent(rnn=rnn, num_layers=num_layers)
    inputs = torch.randn(6, rows, 8)
    expected = agent(inputs)[0].detach()
    in_arrays = recurrent_in_numpy(agent)
    at_once, _ = in_arrays(inputs.numpy())
    assert at_once.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(at_once), expected, rtol=1e-4, atol=1e-5)
    hidden = None
    for step, q in zip(inputs, expected, strict=True):
        values, hidden = in_arrays(step[None].numpy(), hidden)
        torch.testing.assert_close(torch.from_numpy(values[0]), q, rtol=1e-4, atol=1e-5)


def test_recurrent_in_numpy_runs_the_networks_own_forward():
    class Twice(qmix_lstm.AgentNetwork):
        def forward(self, inputs, hidden=None):
            outputs, hidden = self.rnn(self.encoder(inputs), hidden)
            return 2 * self.head(outputs), hidden

    agent = Twice(small_args("qmix_lstm"), SIZES)
    inputs = torch.randn(1, 2, 8)
    values, _ = recurrent_in_numpy(agent)(inputs.numpy())
    torch.testing.assert_close(torch.from_numpy(values), agent(inputs)[0].detach())


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoder", nn.Sequential(nn.Linear(8, 8), nn.Tanh())),
        ("head", nn.Tanh()),
        ("rnn", nn.RNN(8, 8)),
        ("rnn", nn.LSTM(8, 8, batch_first=True)),
        ("rnn", nn.LSTM(8, 8, bidirectional=True)),
        ("rnn", nn.LSTM(8, 8, proj_size=4)),
        ("rnn", nn.GRU(8, 8, 2, dropout=0.5)),
        ("rnn", nn.GRU(8, 8, bias=False)),
    ],
)
def test_recurrent_in_numpy_refuses_a_layer_that_it_does_not_know(name, layer):
    agent = recurrent_agent()
    setattr(agent, name, layer)
    with pytest.raises(TypeError, match="in_numpy"):
        recurrent_in_numpy(agent)


@pytest.mark.parametrize("call", [torch.relu, lambda x: x.unsqueeze(0)])
def test_recurrent_in_numpy_says_so_if_forward_needs_tensors(call):
    class Own(qmix_lstm.AgentNetwork):
        def forward(self, inputs, hidden=None):
            return call(inputs), hidden

    in_arrays = recurrent_in_numpy(Own(small_args("qmix_lstm"), SIZES))
    with pytest.raises(TypeError, match="act with the network itself"):
        in_arrays(np.zeros((1, 2, 8), np.float32))


def test_recurrent_in_numpy_refuses_parameters_outside_of_layers():
    agent = recurrent_agent()
    agent.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(TypeError, match="parameters"):
        recurrent_in_numpy(agent)


# Parameters in one vector


def test_the_vector_is_all_parameters_end_to_end():
    one = network()
    other = nn.Linear(2, 2)
    expected = nn.utils.parameters_to_vector([*one.parameters(), *other.parameters()])
    assert torch.equal(as_vector(one, other), expected)


def test_a_change_of_the_vector_changes_the_networks_and_vice_versa():
    layer = nn.Linear(2, 2)
    theta = as_vector(layer)
    theta.detach().fill_(3)
    assert (layer.weight == 3).all()
    assert (layer.bias == 3).all()
    layer.bias.detach().fill_(5)
    assert theta.tolist() == [3] * 4 + [5] * 2


def test_gradients_of_the_networks_are_parts_of_the_vectors():
    layer = nn.Linear(2, 1)
    theta = as_vector(layer)
    layer(torch.tensor([[2.0, 3.0]])).sum().backward()
    assert theta.grad.tolist() == [2, 3, 1]


@pytest.mark.parametrize("name", get_args(qmix.Optimizer))
def test_an_optimizer_of_the_vector_learns_the_same_as_one_of_the_parameters(name):
    plain = network(nn.ReLU())
    vector = network(nn.ReLU())
    vector.load_state_dict(plain.state_dict())
    theta = as_vector(vector)
    inputs = torch.randn(16, 5)
    steps = [
        (plain, getattr(torch.optim, name)(plain.parameters(), lr=0.01), plain.zero_grad),
        (vector, make_optimizer(name, theta, 0.01), theta.grad.zero_),
    ]
    for learner, optimizer, zero_gradients in steps:
        for _ in range(5):
            zero_gradients()
            learner(inputs).square().mean().backward()
            optimizer.step()
    for parameter, expected in zip(vector.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, expected)


@pytest.mark.parametrize("name", get_args(qmix.Optimizer))
def test_make_optimizer_makes_the_one_of_that_name_with_the_learning_rate(name):
    optimizer = make_optimizer(name, new_networks().theta, 0.125)
    assert type(optimizer) is getattr(torch.optim, name)
    assert optimizer.param_groups[0]["lr"] == 0.125


# What breaks the vectors


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_check_vectors_accepts_the_networks_of_a_script(mixer):
    check_vectors(new_networks(mixer=mixer))


def test_check_vectors_refuses_networks_that_were_moved():
    networks = new_networks()
    networks.double()
    with pytest.raises(RuntimeError, match="as_vector"):
        check_vectors(networks)


def test_check_vectors_refuses_a_network_that_was_replaced():
    networks = new_networks()
    networks.agent = qmix.AgentNetwork(small_args("qmix"), SIZES)
    with pytest.raises(RuntimeError, match=r"agent.*as_vector"):
        check_vectors(networks)


def test_check_vectors_refuses_a_network_that_was_added():
    networks = new_networks()
    networks.critic = nn.Linear(7, 1)
    with pytest.raises(RuntimeError, match=r"critic.*as_vector"):
        check_vectors(networks)


def test_check_vectors_refuses_a_target_network_that_was_replaced():
    networks = new_networks()
    networks.target_mixer = qmix.QMixer(small_args("qmix"), SIZES).requires_grad_(False)
    with pytest.raises(RuntimeError, match=r"target_mixer.*as_vector"):
        check_vectors(networks)


def test_check_vectors_refuses_targets_in_another_order():
    networks = new_networks()
    targets = (networks.target_mixer, networks.target_agent)
    networks.target_theta = as_vector(*targets).detach()
    with pytest.raises(RuntimeError, match="different orders"):
        check_vectors(networks)


def test_check_vectors_refuses_a_target_that_follows_another_network():
    """Two networks of the same size, and targets whose names are exchanged."""
    networks = nn.Module()
    for name in ("one", "other"):
        networks.add_module(name, nn.Linear(2, 2))
        networks.add_module(f"target_{name}", nn.Linear(2, 2).requires_grad_(False))
    networks.theta = as_vector(networks.one, networks.other)
    networks.target_theta = as_vector(networks.target_other, networks.target_one).detach()
    with pytest.raises(RuntimeError, match="different orders"):
        check_vectors(networks)


def test_check_vectors_refuses_a_network_without_a_target():
    networks = new_networks()
    networks.critic = nn.Linear(7, 1)
    networks.theta = as_vector(networks.agent, networks.mixer, networks.critic)
    with pytest.raises(RuntimeError, match="different orders"):
        check_vectors(networks)


def test_in_numpy_refuses_a_layer_without_a_bias():
    with pytest.raises(TypeError, match="bias"):
        in_numpy(nn.Sequential(nn.Linear(5, 3, bias=False)))
