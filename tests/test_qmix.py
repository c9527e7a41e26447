"""QMIX in `qmix.py`: mixer, targets, loss, buffer, exploration, and whole trainings."""

import itertools
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cleanmarl import qmix
from cleanmarl.qmix import EpisodeBuffer, Networks, QMixer, VDNMixer, td_target
from cleanmarl.training import acting
from tests import helpers
from tests.helpers import (
    LBF,
    SPREAD,
    TWO_STEPS,
    actions_of,
    equal_weights,
    numbered_episode,
    properties,
    random_availability,
    scalars,
    seeds,
    values_of,
    weights,
)

SIZES = SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7)


def small_args(**options) -> qmix.Args:
    return helpers.small_args("qmix", **options)


def trained(folder: Path, **options) -> Path:
    return helpers.trained("qmix", folder, **options)


def random_networks(seed, n_agents=2, n_actions=3, **options) -> Networks:
    """Networks in double precision, with weights of very different sizes.

    The target networks are not their copies.
    """
    env = SimpleNamespace(n_agents=n_agents, n_actions=n_actions, obs_size=5, state_size=7)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    networks = Networks(small_args(**options), env)
    torch.set_default_dtype(torch.float32)
    for parameter in networks.parameters():
        scale = 10 ** torch.empty(()).uniform_(-1, 1)
        parameter.detach().copy_(torch.randn_like(parameter) * scale)
    return networks


def random_batch(lengths, n_agents=2, n_actions=3) -> dict[str, torch.Tensor]:
    """Episodes with random contents, each of which is terminated or truncated at its end."""
    n = sum(lengths)
    last = torch.tensor(lengths).cumsum(0) - 1
    batch = {"lengths": torch.tensor(lengths), "reward": torch.randn(n)}
    batch["terminated"] = torch.zeros(n)
    batch["terminated"][last] = torch.randint(2, last.shape).float()
    batch["actions"] = torch.randint(n_actions, (n, n_agents))
    rows = n + len(lengths)  # an episode has one observation more than steps
    batch["obs"] = torch.randn(rows, n_agents, 5)
    batch["state"] = torch.randn(rows, 7)
    batch["avail_actions"] = random_availability(rows, n_agents, n_actions)
    return batch


def in_double_precision(batch) -> dict[str, torch.Tensor]:
    return {k: part.double() if part.is_floating_point() else part for k, part in batch.items()}


def rows_of_steps(lengths) -> list[int]:
    """The row in a batch of the observation before each step."""
    rows = []
    first = 0
    for length in lengths:
        rows += range(first, first + length)
        first += length + 1
    return rows


def joint_actions(available) -> list[tuple[int, ...]]:
    """All combinations of the agents' available actions."""
    return list(itertools.product(*(np.flatnonzero(row) for row in np.asarray(available))))


def assert_equal(actual, expected):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-5)


# The mixer


@properties
@given(seeds, st.integers(1, 5), st.sampled_from([1, 2]))
def test_q_tot_never_falls_when_an_agents_value_rises(seed, n_agents, hypernet_layers):
    mixer = random_networks(seed, n_agents, hypernet_layers=hypernet_layers).mixer
    q = (10 * torch.randn(50, n_agents).double()).requires_grad_()
    mixer(q, torch.randn(50, 7).double()).sum().backward()
    assert (q.grad >= 0).all()
    assert (q.grad > 0).any()


@properties
@given(seeds, st.integers(2, 3), st.integers(2, 4), st.sampled_from([1, 2]))
def test_the_agents_own_best_available_actions_are_the_best_joint_action(
    seed, n_agents, n_actions, hypernet_layers
):
    networks = random_networks(seed, n_agents, n_actions, hypernet_layers=hypernet_layers)
    q = networks.agent(torch.randn(n_agents, 5).double()).detach()
    state = torch.randn(1, 7).double()
    available = random_availability(n_agents, n_actions)
    observation = {"obs": None, "avail_actions": available.numpy()}
    own = tuple(qmix.act(lambda obs: q.numpy(), observation, 0.0, np.random.default_rng(0)))

    agents = torch.arange(n_agents)
    values = {}
    for actions in joint_actions(available):
        chosen = q[agents, torch.tensor(actions)]
        values[actions] = networks.mixer(chosen[None], state).item()
    assert own in values
    # Another joint action may be as good, where the ELU is flat, but none is better
    best = max(values.values())
    assert values[own] >= best - 1e-9 * (1 + abs(best))


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_q_tot_is_equation_6_of_the_paper(hypernet_layers):
    """Q_tot = |W2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), for one state at a time."""
    mixer = random_networks(0, n_agents=3, hypernet_layers=hypernet_layers).mixer
    q = torch.randn(6, 3).double()
    states = torch.randn(6, 7).double()
    q_tot = mixer(q, states)
    for n, state in enumerate(states):
        w1 = mixer.w1(state).abs().reshape(3, 8)
        hidden = nn.functional.elu(w1.T @ q[n] + mixer.b1(state))
        expected = mixer.w2(state).abs() @ hidden + mixer.b2(state).squeeze()
        torch.testing.assert_close(q_tot[n], expected)


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_hypernetworks_have_the_layers_of_the_paper_or_two(hypernet_layers):
    mixer = QMixer(small_args(hypernet_layers=hypernet_layers), SIZES)
    layers = {}
    for name in ("w1", "b1", "w2", "b2"):
        modules = getattr(mixer, name).modules()
        layers[name] = sum(isinstance(module, nn.Linear) for module in modules)
    assert layers == {"w1": hypernet_layers, "b1": 1, "w2": hypernet_layers, "b2": 2}


@properties
@given(seeds)
def test_q_tot_of_a_new_mixer_is_near_0_if_all_values_are_0(seed):
    torch.manual_seed(seed)
    mixer = QMixer(qmix.Args(), SIZES)
    q_tot = mixer(torch.zeros(64, 2), torch.randn(64, 7))
    assert q_tot.abs().max() < 4


@properties
@given(seeds)
def test_vdn_is_the_sum_of_the_agents_values(seed):
    torch.manual_seed(seed)
    q = torch.randn(8, 3)
    torch.testing.assert_close(VDNMixer()(q, torch.randn(8, 4)), q[:, 0] + q[:, 1] + q[:, 2])


# The agent network


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_agent_network_has_num_layers_hidden_layers_after_the_first(num_layers):
    agent = qmix.AgentNetwork(small_args(num_layers=num_layers), SIZES)
    layers = [module for module in agent.modules() if isinstance(module, nn.Linear)]
    assert [layer.in_features for layer in layers] == [5] + [8] * (num_layers + 1)
    assert [layer.out_features for layer in layers] == [8] * (num_layers + 1) + [3]
    assert agent(torch.zeros(6, 2, 5)).shape == (6, 2, 3)


def test_a_new_agent_values_all_actions_at_0():
    assert not qmix.AgentNetwork(small_args(), SIZES)(torch.randn(10, 5)).any()


# The TD target


def greedy(next_q_tot):
    """Q_tot of the actions taken if all are the best ones; that of first ones does not matter."""
    return torch.cat((torch.tensor([1e3]), torch.as_tensor(next_q_tot)[:-1].float()))


def targets(reward, terminated, next_q_tot, lengths, gamma, td_lambda, q_tot=None):
    q_tot = greedy(next_q_tot) if q_tot is None else q_tot
    columns = (reward, terminated, q_tot, next_q_tot)
    columns = [torch.as_tensor(column, dtype=torch.float32) for column in columns]
    return td_target(*columns, torch.tensor(lengths), gamma, td_lambda)


def test_the_one_step_target_bootstraps_through_truncation_and_not_through_termination():
    # Two episodes of two steps: the first is truncated, the second terminates
    target = targets([1, 2, 3, 4], [0, 0, 0, 1], [10, 20, 30, 40], [2, 2], 0.5, 0)
    assert_equal(target, [1 + 0.5 * 10, 2 + 0.5 * 20, 3 + 0.5 * 30, 4])


def test_the_lambda_return_of_an_episode_that_terminates():
    # From the end: G_2 = 4; G_1 = 2 + 0.5 (0.75 * 20 + 0.25 * 4) = 10;
    # G_0 = 1 + 0.5 (0.75 * 10 + 0.25 * 10) = 6
    assert_equal(targets([1, 2, 4], [0, 0, 1], [10, 20, 99], [3], 0.5, 0.25), [6, 10, 4])


def test_the_lambda_return_of_an_episode_that_is_truncated():
    # From the end: G_2 = 4 + 0.5 * 24 = 16; G_1 = 2 + 0.5 (0.75 * 20 + 0.25 * 16) = 11.5;
    # G_0 = 1 + 0.5 (0.75 * 10 + 0.25 * 11.5) = 6.1875
    assert_equal(targets([1, 2, 4], [0, 0, 0], [10, 20, 24], [3], 0.5, 0.25), [6.1875, 11.5, 16])


def test_a_bad_action_is_not_held_against_the_actions_before_it():
    # The best second action is worth 8, so the first one is worth 0.5 * 8. A bad one pays 2:
    # its value is known (2), so the first target stays; if it is thought to be 1, the
    # difference of 1 counts by gamma lambda = 0.25.
    for known, first in ((2, 4), (1, 4.25)):
        assert_equal(targets([0, 2], [0, 1], [8, 99], [2], 0.5, 0.5, [3, known]), [first, 2])


def test_lambda_1_is_the_discounted_return_plus_the_value_at_truncation():
    # Q_tot of the steps between (99) does not matter
    target = targets([1, 2, 4, 8, 16], [0, 0, 1, 0, 0], [99, 99, 99, 99, 32], [3, 2], 0.5, 1)
    assert_equal(target, [1 + 2 / 2 + 4 / 4, 2 + 4 / 2, 4, 8 + 16 / 2 + 32 / 4, 16 + 32 / 2])


lengths_of_episodes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@properties
@given(seeds, lengths_of_episodes, st.floats(0, 1), st.floats(0, 1))
def test_the_target_is_its_backward_recursion_on_episodes_of_all_lengths(
    seed, lengths, gamma, td_lambda
):
    torch.manual_seed(seed)
    batch = random_batch(lengths)
    reward = batch["reward"]
    terminated = batch["terminated"]
    q_tot, value = torch.randn(2, sum(lengths))
    expected = torch.zeros(sum(lengths))
    end = sum(lengths)
    for length in reversed(lengths):
        for t in reversed(range(end - length, end)):
            future = value[t]
            if t < end - 1:
                future = value[t] + td_lambda * (expected[t + 1] - q_tot[t + 1])
            expected[t] = reward[t] + gamma * (1 - terminated[t]) * future
        end -= length
    actual = td_target(reward, terminated, q_tot, value, batch["lengths"], gamma, td_lambda)
    assert_equal(actual, expected)


@properties
@given(seeds, lengths_of_episodes, st.floats(0, 1))
def test_an_episodes_target_does_not_depend_on_the_others_in_the_batch(seed, lengths, td_lambda):
    torch.manual_seed(seed)
    batch = random_batch(lengths)
    columns = (batch["reward"], batch["terminated"], *torch.randn(2, sum(lengths)))
    together = td_target(*columns, batch["lengths"], 0.9, td_lambda)
    split = zip(*(column.split(lengths) for column in columns), strict=True)
    alone = [td_target(*one, torch.tensor([len(one[0])]), 0.9, td_lambda) for one in split]
    assert_equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("gamma", "td_lambda"), [(1e-30, 1.0), (1.0, 1e-30), (1e-15, 1e-15), (0.0, 0.9)]
)
def test_a_tiny_weight_of_the_future_stays_finite_over_a_long_episode(gamma, td_lambda):
    torch.manual_seed(0)
    batch = random_batch([200])
    columns = (batch["reward"], batch["terminated"], *torch.randn(2, 200), batch["lengths"])
    target = td_target(*columns, gamma, td_lambda)
    assert_equal(target, td_target(*columns, gamma, 0))


def test_the_target_of_a_very_long_episode_needs_no_matrix_of_all_pairs_of_its_steps():
    # Such a matrix would take 40 GB
    steps = 100_000
    torch.manual_seed(0)
    batch = random_batch([steps])
    value = torch.randn(steps)
    columns = (batch["reward"], batch["terminated"], greedy(value), value)
    expected = (batch["reward"] + 0.99 * (1 - batch["terminated"]) * value).tolist()
    for t in reversed(range(steps - 1)):
        future = 0.1 * value[t].item() + 0.9 * expected[t + 1]
        expected[t] = batch["reward"][t].item() + 0.99 * future
    assert_equal(td_target(*columns, batch["lengths"], 0.99, 0.9), expected)


# The loss


class Scale(nn.Module):
    """An agent whose action values are its observation times one weight."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, obs):
        return obs * self.weight


def scaled_networks(weight=1.0, target_weight=10.0):
    """The agents' values are multiples of their observations; Q_tot is the sum of the values."""
    agents = {"agent": Scale(weight), "target_agent": Scale(target_weight)}
    return SimpleNamespace(**agents, mixer=VDNMixer(), target_mixer=VDNMixer())


def batch_of_two(**changes) -> dict[str, torch.Tensor]:
    """An episode of one step that was truncated, and one that terminated."""
    batch = {"obs": [[[1, 2], [3, 4]], [[1, 3], [5, 2]], [[5, 6], [7, 8]], [[9, 9], [9, 9]]]}
    batch |= {"reward": [1, 2], "terminated": [0, 1], "state": [[0]] * 4}
    batch = {k: torch.tensor(part, dtype=torch.float32) for k, part in (batch | changes).items()}
    batch["actions"] = torch.tensor([[0, 1], [1, 0]])
    batch["lengths"] = torch.tensor([1, 1])
    batch["avail_actions"] = torch.ones(4, 2, 2, dtype=torch.int8)
    return batch


def loss_of(batch, networks=None, **options) -> torch.Tensor:
    args = small_args(gamma=0.5, **options)
    return qmix.qmix_loss(networks or scaled_networks(), batch, args)[0]


def test_the_loss_is_the_mean_squared_td_error():
    # Q_tot: 1 + 4 and 6 + 7. Targets: 1 + 0.5 * 10 * (3 + 5) = 41, and 2 at the end
    assert_equal(loss_of(batch_of_two()), (36**2 + 11**2) / 2)


def test_unavailable_next_actions_are_never_chosen():
    batch = batch_of_two()
    batch["avail_actions"][1] = torch.tensor([[1, 0], [0, 1]])  # of values 1 and 2
    assert_equal(loss_of(batch), ((1 + 0.5 * 10 * (1 + 2) - 5) ** 2 + 11**2) / 2)


def test_available_next_actions_with_negative_values_go_before_unavailable_ones():
    batch = batch_of_two()
    batch["obs"][1] = torch.tensor([[-1, -3], [-5, -2]])
    batch["avail_actions"][1] = torch.tensor([[0, 1], [1, 0]])
    assert_equal(loss_of(batch), ((1 + 0.5 * 10 * (-3 - 5) - 5) ** 2 + 11**2) / 2)


@pytest.mark.parametrize(("double_q", "next_q_tot"), [(False, -1 - 2), (True, -3 - 5)])
def test_with_double_q_the_network_chooses_and_the_target_network_evaluates(double_q, next_q_tot):
    # The network prefers large values (3 and 5), the target network, of weight -1, small ones
    loss = loss_of(batch_of_two(), scaled_networks(1.0, -1.0), double_q=double_q)
    assert_equal(loss, ((1 + 0.5 * next_q_tot - 5) ** 2 + 11**2) / 2)


def test_double_q_chooses_only_available_actions():
    batch = batch_of_two()
    batch["avail_actions"][1] = torch.tensor([[1, 0], [0, 1]])
    loss = loss_of(batch, scaled_networks(1.0, -1.0), double_q=True)
    assert_equal(loss, ((1 + 0.5 * (-1 - 2) - 5) ** 2 + 11**2) / 2)


def test_normalize_reward_standardises_the_rewards_of_the_batch():
    # Rewards 1 and 2 become -1 and 1
    loss = loss_of(batch_of_two(), normalize_reward=True)
    assert_equal(loss, ((-1 + 0.5 * 10 * (3 + 5) - 5) ** 2 + (1 - 13) ** 2) / 2)


def test_normalize_reward_survives_rewards_that_are_all_the_same():
    loss = loss_of(batch_of_two(reward=[3, 3]), normalize_reward=True)
    assert_equal(loss, ((0.5 * 10 * (3 + 5) - 5) ** 2 + 13**2) / 2)


@pytest.mark.parametrize("td_lambda", [0.0, 0.5])
@pytest.mark.parametrize("double_q", [False, True])
def test_no_gradient_reaches_the_targets(double_q, td_lambda):
    networks = scaled_networks()
    loss_of(batch_of_two(), networks, double_q=double_q, td_lambda=td_lambda).backward()
    # The derivative of w Q - target by w is Q alone. Errors 5 - 41 and 13 - 2
    assert_equal(networks.agent.weight.grad, [(2 * -36 * 5 + 2 * 11 * 13) / 2])
    assert networks.target_agent.weight.grad is None


@properties
@given(seeds, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(["qmix", "vdn"]))
def test_the_loss_equals_that_of_a_search_over_all_joint_next_actions(seed, lengths, mixer):
    networks = random_networks(seed, mixer=mixer)
    batch = in_double_precision(random_batch(lengths))
    agents = torch.arange(2)
    errors = []
    with torch.no_grad():
        for n, row in enumerate(rows_of_steps(lengths)):
            next_q = networks.target_agent(batch["obs"][row + 1])
            values = []
            for actions in joint_actions(batch["avail_actions"][row + 1]):
                chosen = next_q[agents, torch.tensor(actions)]
                values.append(networks.target_mixer(chosen[None], batch["state"][[row + 1]]))
            target = batch["reward"][n] + 0.9 * (1 - batch["terminated"][n]) * max(values)
            q = networks.agent(batch["obs"][row])[agents, batch["actions"][n]]
            errors.append(target - networks.mixer(q[None], batch["state"][[row]]))
    loss, _ = qmix.qmix_loss(networks, batch, small_args(mixer=mixer, gamma=0.9))
    assert_equal(loss / torch.stack(errors).square().mean(), 1.0)


# The update


def movement(networks, clip_gradients) -> tuple[float, dict]:
    """How far one step of gradient descent moves the weights, and what the update returns."""
    before = nn.utils.parameters_to_vector(networks.learned()).detach()
    optimizer = torch.optim.SGD(networks.learned(), lr=1.0)
    torch.manual_seed(0)
    batch = in_double_precision(random_batch([3, 4]))
    args = small_args(clip_gradients=clip_gradients)
    learning = qmix.update(networks, optimizer, batch, args)
    after = nn.utils.parameters_to_vector(networks.learned()).detach()
    return (after - before).norm().item(), learning


def test_clip_gradients_bounds_the_norm_of_the_gradient():
    norm, learning = movement(random_networks(0), clip_gradients=0.25)
    assert norm == pytest.approx(0.25, rel=1e-4)
    assert learning["train/grads"] > 0.25


def test_clip_gradients_does_not_change_a_smaller_gradient():
    norm, learning = movement(random_networks(0), clip_gradients=1e12)
    assert norm == pytest.approx(learning["train/grads"], rel=1e-6)


@pytest.mark.parametrize("clip_gradients", [0, -1])
def test_clip_gradients_of_0_or_less_is_no_limit(clip_gradients):
    unlimited, _ = movement(random_networks(0), clip_gradients=1e12)
    assert movement(random_networks(0), clip_gradients)[0] == unlimited


def test_an_update_changes_the_networks_and_not_the_targets():
    networks = random_networks(0)
    before = deepcopy(dict(networks.named_parameters()))
    movement(networks, clip_gradients=-1)
    for name, value in networks.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("target_"), name


def test_an_update_returns_the_loss_before_it():
    networks = random_networks(0)
    torch.manual_seed(0)
    batch = in_double_precision(random_batch([3, 4]))
    loss = qmix.qmix_loss(networks, batch, small_args())[0].item()
    assert movement(networks, clip_gradients=-1)[1]["train/loss"] == pytest.approx(loss)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_an_error(value):
    networks = Networks(small_args(), SIZES)
    optimizer = torch.optim.SGD(networks.learned(), lr=1.0)
    batch = random_batch([3])
    batch["reward"][1] = value
    with pytest.raises(FloatingPointError):
        qmix.update(networks, optimizer, batch, small_args())


def test_updates_reduce_the_loss_of_a_batch():
    torch.manual_seed(0)
    networks = Networks(small_args(), SIZES)
    optimizer = torch.optim.Adam(networks.learned(), lr=0.01)
    batch = random_batch([3, 4])
    losses = [
        qmix.update(networks, optimizer, batch, small_args())["train/loss"] for _ in range(100)
    ]
    assert losses[-1] < 0.2 * losses[0]


# The target networks


def test_the_targets_begin_as_copies_of_the_networks():
    networks = Networks(small_args(), SIZES)
    state = networks.state_dict()
    for name, value in state.items():
        if not name.startswith("target_"):
            assert torch.equal(state[f"target_{name}"], value), name


@properties
@given(seeds, st.floats(0, 1))
def test_the_targets_take_a_step_of_size_polyak_towards_the_networks(seed, polyak):
    networks = random_networks(seed)
    before = deepcopy(networks.state_dict())
    networks.update_targets(polyak)
    for name, target in networks.state_dict().items():
        if name.startswith("target_"):
            network = before[name.removeprefix("target_")]
            expected = polyak * network + (1 - polyak) * before[name]
            torch.testing.assert_close(target, expected)


def test_polyak_1_copies_the_networks():
    networks = random_networks(0)
    networks.update_targets(1)
    state = networks.state_dict()
    for name, value in state.items():
        if not name.startswith("target_"):
            assert torch.equal(state[f"target_{name}"], value), name


def test_the_target_networks_are_not_learned():
    networks = random_networks(0)
    for name, parameter in networks.named_parameters():
        is_learned = any(one is parameter for one in networks.learned())
        is_target = name.startswith("target_")
        assert is_learned == parameter.requires_grad == (not is_target), name


# The buffer


def filled(capacity: int, lengths: list[int]) -> EpisodeBuffer:
    buffer = EpisodeBuffer(capacity)
    for number, length in enumerate(lengths):
        buffer.store(numbered_episode(number, length))
    return buffer


def test_a_full_buffer_drops_its_oldest_episodes():
    buffer = filled(3, [1] * 5)
    args = small_args(batch_size=1)
    sampled = {reward for n in range(30) for reward in buffer.sample(args, n)["reward"].tolist()}
    assert sampled == {200, 300, 400}


@properties
@given(st.integers(0, 10**6), st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_a_sample_is_whole_different_episodes_end_to_end(number, lengths, data):
    batch_size = data.draw(st.integers(1, len(lengths)))
    batch = filled(10, lengths).sample(small_args(batch_size=batch_size), number)
    assert len(batch["lengths"]) == batch_size
    parts = {}
    for key in numbered_episode(0, 1):
        steps = key in ("actions", "reward", "terminated")
        parts[key] = batch[key].split((batch["lengths"] + (0 if steps else 1)).tolist())
    chosen = [int(reward[0]) // 100 for reward in parts["reward"]]
    for place, number in enumerate(chosen):
        for key, array in numbered_episode(number, lengths[number]).items():
            assert np.array_equal(parts[key][place], array), key
    assert len(set(chosen)) == batch_size


@pytest.mark.parametrize("mean_age", [np.inf, 2.0])
def test_the_newer_an_episode_the_more_often_it_is_sampled(mean_age):
    buffer = filled(5, [1] * 5)
    args = small_args(batch_size=1, mean_age=mean_age)
    drawn = torch.cat([buffer.sample(args, number)["reward"] for number in range(4000)]) / 100
    weight = np.exp(-np.arange(4, -1, -1) / mean_age)
    expected = weight / weight.sum()
    assert torch.bincount(drawn.int()) / 4000 == pytest.approx(expected, abs=0.03)


def test_mean_age_is_the_mean_age_in_a_large_buffer():
    buffer = filled(500, [1] * 500)
    args = small_args(batch_size=4, mean_age=50)
    drawn = torch.cat([buffer.sample(args, number)["reward"] for number in range(1000)]) / 100
    assert float(499 - drawn.mean()) == pytest.approx(50, rel=0.05)


def test_a_batch_is_determined_by_the_seed_and_its_number():
    buffer = filled(20, [2] * 20)

    def sampled(number: int, seed: int) -> tuple:
        args = small_args(batch_size=5, seed=seed)
        return tuple(buffer.sample(args, number)["reward"].tolist())

    assert sampled(0, 1) == sampled(0, 1)
    assert len({sampled(0, 1), sampled(1, 1), sampled(0, 2)}) == 3


def test_changing_a_batch_does_not_change_the_buffer():
    buffer = filled(5, [2] * 5)
    batch = buffer.sample(small_args(), 0)
    for part in batch.values():
        part.fill_(-1)
    assert (buffer.sample(small_args(), 0)["obs"] >= 0).all()


def collected(number: int = 0, **options):
    """The environment, and an episode of untrained agents in it."""
    args = small_args(**options)
    env = qmix.open_env(args)
    torch.manual_seed(0)
    agent = Networks(args, env).agent
    return env, qmix.collect_episode(env, agent, args, number, 0)[0]


def test_shapes_and_dtypes_of_a_batch_of_battles():
    env, episode = collected(env_name="3m")
    buffer = EpisodeBuffer(2)
    buffer.store(episode)
    buffer.store(episode)
    n = 2 * len(episode["reward"])
    batch = buffer.sample(small_args(), 0)
    assert {key: (tuple(part.shape), part.dtype) for key, part in batch.items()} == {
        "obs": ((n + 2, env.n_agents, env.obs_size), torch.float32),
        "state": ((n + 2, env.state_size), torch.float32),
        "avail_actions": ((n + 2, env.n_agents, env.n_actions), torch.int8),
        "actions": ((n, env.n_agents), torch.int64),
        "reward": ((n,), torch.float32),
        "terminated": ((n,), torch.float32),
        "lengths": ((2,), torch.int64),
    }


# Collecting


def test_an_episode_has_a_row_per_step_and_one_more_observation():
    _, episode = collected(env_name="3m", time_limit=5)
    rows = {"actions": 5, "reward": 5, "terminated": 5, "obs": 6, "state": 6, "avail_actions": 6}
    assert {key: len(array) for key, array in episode.items()} == rows


def test_the_actions_of_an_episode_were_available():
    _, episode = collected(env_name="3m")
    actions = episode["actions"][..., None]
    assert np.take_along_axis(episode["avail_actions"][:-1], actions, axis=-1).all()


def test_a_terminated_episode_is_marked_at_its_last_step():
    _, episode = collected(**TWO_STEPS)
    assert episode["terminated"].tolist() == [0, 1]


@pytest.mark.parametrize("bootstraps", [True, False])
def test_a_truncated_episode_is_stored_as_terminated_only_without_bootstrap_truncated(bootstraps):
    _, episode = collected(env_name="3m", time_limit=5, bootstrap_truncated=bootstraps)
    assert episode["terminated"].tolist() == [0, 0, 0, 0, not bootstraps]


def test_an_episode_is_determined_by_the_seed_and_its_number():
    def played(seed: int, number: int) -> tuple[bytes, bytes]:
        _, episode = collected(number, env_name="3m", seed=seed)
        return episode["obs"].tobytes(), episode["actions"].tobytes()

    assert played(1, 0) == played(1, 0)
    assert len({played(1, 0), played(1, 1), played(2, 0)}) == 3


def test_a_greedy_episode_takes_the_best_available_actions_of_the_network():
    args = small_args(env_name="3m")
    env = qmix.open_env(args)
    agent = random_networks(0, env.n_agents, env.n_actions).agent.float()
    agent.layers[0] = nn.Linear(env.obs_size, args.hidden_dim)
    rng = np.random.default_rng(0)
    episode, _ = qmix.play_episode(env, acting(agent), lambda t: 0.0, 0, rng, args)
    q = agent(torch.from_numpy(episode["obs"][:-1])).detach().numpy()
    best = np.where(episode["avail_actions"][:-1], q, -np.inf).argmax(-1)
    assert np.array_equal(episode["actions"], best)


def test_epsilon_falls_within_an_episode():
    options = {"total_timesteps": 3, "exploration_fraction": 1, "start_e": 1, "end_e": 0}
    args = small_args(**options, **SPREAD)
    env = qmix.open_env(args)
    agent = Networks(args, env).agent
    episode, _ = qmix.collect_episode(env, agent, args, 0, 0)
    assert len(np.unique(episode["actions"][:3])) > 1
    # An untrained agent always prefers one action
    assert len(np.unique(episode["actions"][3:])) == 1


def test_a_share_of_the_training_episodes_is_greedy():
    options = {"start_e": 1, "end_e": 1, "greedy_episodes": 0.3, "time_limit": 5}
    args = small_args(**options, **SPREAD)
    env = qmix.open_env(args)
    agent = Networks(args, env).agent
    played = [qmix.collect_episode(env, agent, args, i, 0)[0] for i in range(200)]
    greedy = [len(np.unique(episode["actions"])) == 1 for episode in played]
    # five standard deviations at most
    assert np.mean(greedy) == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / 200) ** 0.5)


# Exploration


def drawn(q, available, epsilon: float, times: int = 4000) -> np.ndarray:
    """The agents' actions in many draws: [times, n_agents]."""
    rng = np.random.default_rng(0)
    return actions_of(
        lambda seen: qmix.act(lambda obs: obs, seen, epsilon, rng), q, available, times
    )


def test_with_epsilon_1_actions_are_uniform_over_the_available_ones():
    actions = drawn([[9, 0, 0, 0], [0, 0, 0, 9]], [[1, 1, 0, 1], [0, 1, 1, 0]], 1.0)
    frequencies = [np.bincount(agent, minlength=4) / len(agent) for agent in actions.T]
    assert frequencies[0] == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.03)
    assert frequencies[1] == pytest.approx([0, 1 / 2, 1 / 2, 0], abs=0.03)


def test_with_epsilon_0_actions_are_the_best_available_ones():
    actions = drawn([[9, 2, 5, 1], [-3, -1, -2, 7]], [[0, 1, 1, 1], [1, 0, 1, 0]], 0.0, times=20)
    assert (actions == [2, 2]).all()


def test_each_agent_explores_independently():
    # With 1000 actions, what is not the greedy action 0 is exploration
    explored = drawn(np.eye(1, 1000).repeat(2, axis=0), np.ones((2, 1000)), 0.5) > 0
    both = explored[:, 0] & explored[:, 1]
    assert explored.mean(0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert both.mean() == pytest.approx(0.25, abs=0.03)


def test_agents_that_explore_draw_different_actions():
    actions = drawn(np.zeros((2, 4)), np.ones((2, 4)), 1.0)
    assert (actions[:, 0] == actions[:, 1]).mean() == pytest.approx(1 / 4, abs=0.03)


@properties
@given(seeds, st.floats(0, 1))
def test_no_action_is_ever_unavailable(seed, epsilon):
    torch.manual_seed(seed)
    available = random_availability(3, 4).numpy()
    actions = drawn(torch.randn(3, 4), available, epsilon, times=20)
    assert available[np.arange(3), actions].all()


@pytest.mark.parametrize(
    ("step", "epsilon"), [(0, 1), (50, 0.75), (100, 0.5), (150, 0.25), (200, 0), (201, 0)]
)
def test_epsilon_falls_linearly_over_its_part_of_the_training(step, epsilon):
    args = small_args(start_e=1, end_e=0, exploration_fraction=0.2, total_timesteps=1000)
    assert qmix.linear_schedule(args, step) == pytest.approx(epsilon)


def test_with_exploration_fraction_0_epsilon_has_its_final_value_from_the_start():
    args = small_args(start_e=1, end_e=0.1, exploration_fraction=0, total_timesteps=1000)
    assert [qmix.linear_schedule(args, step) for step in (1, 10, 1000)] == pytest.approx([0.1] * 3)


# Evaluating


def test_evaluations_with_the_same_number_play_the_same_episodes():
    args = small_args(num_eval_ep=2, **SPREAD)
    env = qmix.open_env(args)
    other = qmix.open_env(args)
    agent = Networks(args, env).agent
    first = qmix.evaluate(env, agent, args, "eval", 7)
    other.reset(seed=5)
    assert qmix.evaluate(other, agent, args, "eval", 7) == first
    assert qmix.evaluate(env, agent, args, "eval", 8) != first
    assert qmix.evaluate(env, agent, args, "test") != first


def test_num_eval_ep_is_the_number_of_episodes_in_an_evaluation():
    args = small_args(num_eval_ep=4, **TWO_STEPS)
    env = qmix.open_env(args)
    assert len(qmix.evaluate(env, Networks(args, env).agent, args, "test")) == 4


# Whole trainings


def test_two_trainings_with_one_seed_end_with_the_same_weights(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(tmp_path / name, env_name="3m", total_timesteps=600, seed=seed)
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    assert not equal_weights(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("task", [{"env_name": "3m"}, LBF, SPREAD], ids=["smaclite", "lbf", "pz"])
def test_evaluation_does_not_change_the_training(tmp_path, task):
    trained(tmp_path / "often", eval_steps=1, num_eval_ep=2, total_timesteps=300, **task)
    trained(tmp_path / "seldom", eval_steps=1000, total_timesteps=300, **task)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_logging_does_not_change_the_training(tmp_path):
    trained(tmp_path / "often", log_every=1, **TWO_STEPS)
    trained(tmp_path / "seldom", log_every=1000, **TWO_STEPS)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_evaluations_do_not_play_in_the_training_environment(tmp_path, monkeypatch):
    opened = []
    seeds_of_resets = []
    open_env = qmix.open_env

    def watched(args):
        env = open_env(args)
        reset = env.reset
        own = []
        env.reset = lambda seed: own.append(seed) or reset(seed=seed)
        opened.append(env)
        seeds_of_resets.append(own)
        return env

    monkeypatch.setattr(qmix, "open_env", watched)
    trained(tmp_path / "run", total_timesteps=20, eval_steps=1, num_eval_ep=2, **TWO_STEPS)
    training, evaluation = seeds_of_resets
    assert len(training) == 10
    assert len(evaluation) == 20


def test_train_returns_the_latest_metrics(tmp_path):
    latest = qmix.train(small_args(log_every=1, **TWO_STEPS), folder=tmp_path / "run")
    logged = scalars(tmp_path / "run")
    assert latest.keys() == logged.keys()
    for name, value in latest.items():
        assert value == pytest.approx(logged[name][-1][1])


ROLLOUT = {"rollout/ep_reward", "rollout/ep_length", "rollout/epsilon", "rollout/num_episodes"}
EVALUATION = {"eval/ep_reward", "eval/std_ep_reward", "eval/ep_length"}
LEARNING = {"train/loss", "train/grads", "train/q_tot", "train/num_updates", "charts/SPS"}


def test_the_metrics_of_a_battle_have_the_documented_names(tmp_path):
    trained(tmp_path / "run", env_name="3m", total_timesteps=400, log_every=2, eval_steps=4)
    battles = {"rollout/battle_won", "eval/battle_won"}
    assert scalars(tmp_path / "run").keys() == ROLLOUT | EVALUATION | LEARNING | battles


def test_only_battles_are_won(tmp_path):
    trained(tmp_path / "run", log_every=2, eval_steps=4, **TWO_STEPS)
    assert scalars(tmp_path / "run").keys() == ROLLOUT | EVALUATION | LEARNING


def test_no_metric_is_logged_twice_at_a_step(tmp_path):
    trained(tmp_path / "run", log_every=2, eval_steps=4, **TWO_STEPS)  # and evaluates at the end
    for name, points in scalars(tmp_path / "run").items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name


def test_log_every_and_eval_steps_count_episodes(tmp_path):
    trained(tmp_path / "run", log_every=3, eval_steps=7, **TWO_STEPS)
    logged = scalars(tmp_path / "run")
    assert logged["rollout/num_episodes"] == [(2 * n, n) for n in (3, 6, 9, 12, 15, 18)]
    assert [step for step, _ in logged["eval/ep_reward"]] == [14, 28, 40]  # and at the end


def test_the_rollouts_means_are_over_the_episodes_since_the_last_log(tmp_path, monkeypatch):
    rewards = iter(range(20))
    collect = qmix.collect_episode

    def with_reward(*played):
        episode, results = collect(*played)
        return episode, results | {"ep_reward": next(rewards)}

    monkeypatch.setattr(qmix, "collect_episode", with_reward)
    folder = trained(tmp_path / "run", total_timesteps=18, log_every=3, **TWO_STEPS)
    assert values_of(folder, "rollout/ep_reward") == [1, 4, 7]
    assert values_of(folder, "rollout/ep_length") == [2, 2, 2]


def test_train_freq_counts_episodes(tmp_path):
    counts = {"batch_size": 1, "train_freq": 3, "log_every": 1}
    folder = trained(tmp_path / "run", total_timesteps=20, **counts, **TWO_STEPS)
    assert values_of(folder, "train/num_updates") == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(("steps", "updates"), [(2, 3), (3, 2), (6, 1), (7, 1)])
@pytest.mark.parametrize("script", ["qmix", "qmix_memefficient", "qmix_lstm"])
def test_a_longer_episode_makes_more_updates(script, steps, updates, tmp_path, monkeypatch):
    """An episode of six steps."""
    module = import_module(f"cleanmarl.{script}")
    moved = []
    monkeypatch.setattr(
        module.Networks, "update_targets", lambda self, polyak: moved.append(polyak)
    )
    args = module.Args(time_limit=6, total_timesteps=18, steps_per_update=steps, log_every=1)
    args.batch_size = 1
    module.train(args, tmp_path / "run")
    assert values_of(tmp_path / "run", "train/num_updates") == [updates, 2 * updates, 3 * updates]
    assert len(moved) == 3 * updates


def test_the_first_update_waits_for_a_full_batch(tmp_path):
    folder = trained(tmp_path / "run", total_timesteps=12, batch_size=4, log_every=1, **TWO_STEPS)
    assert values_of(folder, "train/num_updates") == [0, 0, 0, 1, 2, 3]


def test_target_network_update_freq_counts_episodes(tmp_path, monkeypatch):
    played = []
    moved = []
    store = EpisodeBuffer.store
    monkeypatch.setattr(
        EpisodeBuffer, "store", lambda self, one: played.append(one) or store(self, one)
    )
    monkeypatch.setattr(
        Networks, "update_targets", lambda self, polyak: moved.append((len(played), polyak))
    )
    counts = {"total_timesteps": 20, "target_network_update_freq": 4, "polyak": 0.3}
    trained(tmp_path / "run", **counts, **TWO_STEPS)
    assert moved == [(4, 0.3), (8, 0.3)]


def test_the_episode_that_reaches_total_timesteps_is_finished(tmp_path):
    folder = trained(tmp_path / "run", total_timesteps=7, log_every=1, **TWO_STEPS)
    assert scalars(folder)["rollout/num_episodes"][-1] == (8, 4)


def test_epsilon_is_logged_as_it_falls(tmp_path):
    options = {"total_timesteps": 20, "exploration_fraction": 0.5, "start_e": 1, "end_e": 0}
    folder = trained(tmp_path / "run", log_every=1, **options, **TWO_STEPS)
    expected = [0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0, 0, 0]
    assert values_of(folder, "rollout/epsilon") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", get_args(qmix.Optimizer))
def test_the_optimizer_has_the_class_the_numbers_and_the_parameters_that_were_asked(name):
    args = small_args(
        optimizer=name, learning_rate=0.125, optimizer_eps=0.25, beta2=0.75, **TWO_STEPS
    )
    *_, networks, optimizer = qmix.set_up(args)
    (group,) = optimizer.param_groups
    assert type(optimizer) is getattr(torch.optim, name)
    assert group["lr"] == 0.125
    assert group.get("eps") == (None if name == "SGD" else 0.25)
    assert group.get("betas") == ((0.9, 0.75) if "Adam" in name else None)
    assert group.get("alpha") == (0.75 if name == "RMSprop" else None)
    assert all(one is other for one, other in zip(group["params"], networks.learned(), strict=True))


@pytest.mark.parametrize(("options", "part"), [({}, 0.01), ({"optimizer_eps": 1e-8}, 1)])
def test_a_tiny_gradient_makes_a_full_step_only_with_a_small_eps(options, part):
    args = small_args(**options, **TWO_STEPS)
    *_, networks, optimizer = qmix.set_up(args)
    parameter = networks.learned()[0]
    before = parameter.detach().clone()
    parameter.grad = torch.full_like(parameter, 1e-6)
    optimizer.step()
    steps = (before - parameter).detach() / args.learning_rate
    assert steps.flatten().tolist() == pytest.approx([part] * steps.numel(), rel=0.05)


def test_where_gradients_grow_tenfold_steps_get_ten_times_as_long():
    """Those of PyTorch's Adam get 25 times as long."""
    args = small_args(**TWO_STEPS)
    *_, networks, optimizer = qmix.set_up(args)
    parameter = networks.learned()[0]
    generator = torch.Generator().manual_seed(0)
    sizes = []
    for number in range(1030):
        before = parameter.detach().clone()
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.grad = noise + (10 if number >= 1000 else 0)
        optimizer.step()
        sizes.append((parameter - before).abs().mean().item())
    assert 8 < sizes[-1] / np.mean(sizes[900:1000]) < 12


# Games: one that QMIX represents and VDN does not, and others


def learn(folder: Path, **options):
    """Train on a game: the greedy team's return, the networks and an environment."""
    args = small_args(**options, env_type="pz", env_family="tests.games", eval_steps=1000)
    greedy_return = qmix.train(args, folder=folder)["eval/ep_reward"]
    env = qmix.open_env(args)
    networks = Networks(args, env)
    networks.load_state_dict(weights(folder))
    return greedy_return, networks, env


@torch.no_grad()
def q_tot(networks: Networks, observation: dict) -> torch.Tensor:
    """Q_tot of the joint actions of two agents with two actions each: [2, 2]."""
    joint = torch.cartesian_prod(*networks.agent(torch.from_numpy(observation["obs"])))
    state = torch.from_numpy(observation["state"])
    return networks.mixer(joint, state.expand(4, -1)).view(2, 2)


def learn_two_steps(folder: Path, mixer: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Learn the two-step game from random actions: the return, and Q_tot of each state."""
    options = {"env_name": "two_step_game", "mixer": mixer, "start_e": 1, "end_e": 1}
    options |= {"total_timesteps": 4000, "train_freq": 2, "batch_size": 64, "buffer_size": 1000}
    options |= {"hidden_dim": 64, "hyper_dim": 64, "learning_rate": 0.003, "polyak": 0.05}
    greedy_return, networks, env = learn(folder, **options)
    tables = {"1": q_tot(networks, env.reset(seed=0)[0])}
    for first_action, state in enumerate(("2A", "2B")):
        env.reset(seed=0)
        tables[state] = q_tot(networks, env.step([first_action, 0])[0])
    return greedy_return, tables


def test_qmix_learns_the_two_step_games_value_of_8(tmp_path):
    greedy_return, tables = learn_two_steps(tmp_path / "run", "qmix")
    assert greedy_return == 8
    assert tables["2A"].ravel().tolist() == pytest.approx([7, 7, 7, 7], abs=0.2)
    assert tables["2B"].ravel().tolist() == pytest.approx([0, 1, 1, 8], abs=0.2)
    # gamma is 0.99
    assert tables["1"].ravel().tolist() == pytest.approx([6.93, 6.93, 7.92, 7.92], abs=0.2)


def test_vdn_settles_for_7_in_the_two_step_game(tmp_path):
    greedy_return, tables = learn_two_steps(tmp_path / "run", "vdn")
    assert greedy_return == 7
    # The sum that fits [[0, 1], [1, 8]] best, with mean 2.5, is [[-1.5, 2.5], [2.5, 6.5]]
    assert tables["2B"].ravel().tolist() == pytest.approx([-1.5, 2.5, 2.5, 6.5], abs=0.7)


def learn_rooms(**options) -> list[float]:
    """Learn the rooms game from random episodes: Q_tot of pairs of actions in the right room."""
    args = qmix.Args(env_type="pz", env_family="cleanmarl.benchmark.games", env_name="rooms_game")
    args = replace(args, batch_size=32, learning_rate=0.002, **options)
    env, networks, optimizer = qmix.set_up(args)
    buffer = EpisodeBuffer(300)
    for number in range(300):
        buffer.store(qmix.collect_episode(env, networks.agent, args, number, step=0)[0])
    for number in range(1500):
        qmix.update(networks, optimizer, buffer.sample(args, number), args)
        networks.update_targets(args.polyak)

    env.reset(seed=0)
    observation, *_ = env.step([1, 0, 1])
    q = networks.agent(torch.from_numpy(observation["obs"])).detach()
    pairs = torch.tensor([[0, 0, 1], [0, 0, 3], [0, 1, 1], [0, 1, 3]])
    chosen = q.gather(-1, pairs.T).T  # [4, n_agents]
    state = torch.from_numpy(observation["state"]).expand(4, -1)
    return networks.mixer(chosen, state).tolist()


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_a_mixer_learns_payoffs_that_are_not_a_sum(hypernet_layers):
    values = learn_rooms(hypernet_layers=hypernet_layers)
    assert values == pytest.approx([6, 7, 7, 14], abs=0.5)


@properties
@given(seeds)
def test_no_mixer_values_both_20s_of_the_nonmonotonic_game_above_both_5s(seed):
    networks = random_networks(seed, n_actions=2)
    observation = {"obs": np.random.default_rng(seed).normal(size=(2, 5))}
    observation["state"] = np.random.default_rng(seed).normal(size=7)
    values = q_tot(networks, observation)
    assert min(values[0, 1], values[1, 0]) <= max(values[0, 0], values[1, 1])


def test_with_falling_epsilon_qmix_finds_one_20_of_two_and_misvalues_the_other(tmp_path):
    options = {"env_name": "nonmonotonic_game", "total_timesteps": 2000, "num_layers": 0}
    options |= {"start_e": 1, "end_e": 0.1, "exploration_fraction": 0.5}
    options |= {"optimizer": "RMSprop", "learning_rate": 0.005, "batch_size": 32}
    options |= {
        "buffer_size": 500,
        "hidden_dim": 64,
        "target_network_update_freq": 100,
        "polyak": 1,
    }
    greedy_return, networks, env = learn(tmp_path / "run", **options)
    assert greedy_return == 20
    observation, _ = env.reset(seed=0)
    first, second = networks.agent(torch.from_numpy(observation["obs"])).argmax(-1)
    values = q_tot(networks, observation)
    assert values[first, second] == pytest.approx(20, abs=3)
    assert values[second, first] < 10  # it pays 20, too
