"""QMIX as `cleanmarl/qmix.py` has it: mixer, targets, loss, buffer, exploration, and whole trainings."""

import ast
import dataclasses
import inspect
import itertools
import json
import runpy
from copy import deepcopy
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from cleanmarl import qmix
from cleanmarl.qmix import Args, EpisodeBuffer, Networks, QMixer, VDNMixer, td_target

ROOT = Path(__file__).parents[1]
TWO_STEPS = {"env_type": "pz", "env_family": "tests.games", "env_name": "two_step_game"}  # every episode has 2 steps
SMALL = {"hidden_dim": 8, "hyper_dim": 8, "torch_threads": 1, "td_lambda": 0.0, "double_q": False}

torch.set_num_threads(1)
properties = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def small_args(**options) -> Args:
    return Args(**SMALL | {"total_timesteps": 40, "batch_size": 2, "buffer_size": 20} | options)


def random_networks(seed, n_agents=2, n_actions=3, **options) -> Networks:
    """Networks in double precision with weights of very different sizes, and targets that are not their copies."""
    sizes = SimpleNamespace(n_agents=n_agents, n_actions=n_actions, obs_size=5, state_size=7)
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    networks = Networks(small_args(**options), sizes)
    torch.set_default_dtype(torch.float32)
    for parameter in networks.parameters():
        parameter.detach().copy_(torch.randn_like(parameter) * 10 ** torch.empty(()).uniform_(-1, 1))
    return networks


def random_availability(*shape) -> torch.Tensor:
    """[..., n_actions] of 0 and 1, with at least one 1 for each agent."""
    available = torch.rand(shape) < 0.5
    available.scatter_(-1, torch.randint(shape[-1], (*shape[:-1], 1)), True)
    return available.to(torch.int8)


def random_batch(lengths, n_agents=2, n_actions=3) -> dict[str, torch.Tensor]:
    """Episodes with random contents, end to end, each of which ends by termination or truncation."""
    n = sum(lengths)
    last = torch.tensor(lengths).cumsum(0) - 1
    done = torch.zeros(n)
    done[last] = torch.randint(2, last.shape).float()
    batch = {"obs": torch.randn(n, n_agents, 5), "next_obs": torch.randn(n, n_agents, 5)}
    batch |= {"states": torch.randn(n, 7), "next_states": torch.randn(n, 7), "reward": torch.randn(n), "done": done}
    batch |= {"actions": torch.randint(n_actions, (n, n_agents)), "lengths": torch.tensor(lengths)}
    return batch | {"next_avail_actions": random_availability(n, n_agents, n_actions)}


def in_double_precision(batch) -> dict[str, torch.Tensor]:
    return {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}


def joint_actions(available) -> list[tuple[int, ...]]:
    """All combinations of the agents' available actions."""
    return list(itertools.product(*(np.flatnonzero(row) for row in np.asarray(available))))


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
def test_the_agents_own_best_available_actions_are_the_best_joint_action(seed, n_agents, n_actions, hypernet_layers):
    networks = random_networks(seed, n_agents, n_actions, hypernet_layers=hypernet_layers).float()
    obs, state = torch.randn(n_agents, 5), torch.randn(1, 7)
    available = random_availability(n_agents, n_actions)
    observation = {"obs": obs.numpy(), "avail_actions": available.numpy()}
    own = qmix.act(networks.agent.in_numpy(), observation, 0.0, np.random.default_rng(0))

    q = networks.agent(obs).detach().double()
    mixer = networks.mixer.double()

    def q_tot(actions):
        return mixer(q[torch.arange(n_agents), torch.tensor(actions)][None], state.double()).item()

    values = {actions: q_tot(actions) for actions in joint_actions(available)}
    assert tuple(own) in values
    # Other joint actions may be as good (agents whose weight is 0 where the ELU is flat), but none is better.
    assert values[tuple(own)] >= max(values.values()) - 1e-9 * (1 + abs(max(values.values())))


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_q_tot_is_equation_6_of_the_paper(hypernet_layers):
    """Q_tot = |W2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), for one agent at a time."""
    mixer = QMixer(n_agents=3, state_size=4, hyper_dim=5, hypernet_layers=hypernet_layers)
    q, state = torch.randn(6, 3), torch.randn(6, 4)
    with torch.no_grad():
        for n in range(6):
            w1, b1, w2, b2 = (layers(state[n]) for layers in (mixer.w1, mixer.b1, mixer.w2, mixer.b2))
            hidden = nn.functional.elu(w1.abs().reshape(3, 5).T @ q[n] + b1)
            torch.testing.assert_close(mixer(q, state)[n], w2.abs() @ hidden + b2.squeeze())


@pytest.mark.parametrize("hypernet_layers", [1, 2])
def test_hypernetworks_have_the_layers_of_the_paper_or_two(hypernet_layers):
    mixer = QMixer(n_agents=3, state_size=4, hyper_dim=5, hypernet_layers=hypernet_layers)
    layers = {
        name: sum(isinstance(module, nn.Linear) for module in getattr(mixer, name).modules())
        for name in ("w1", "b1", "w2", "b2")
    }
    assert layers == {"w1": hypernet_layers, "b1": 1, "w2": hypernet_layers, "b2": 2}


@properties
@given(seeds)
def test_vdn_is_the_sum_of_the_agents_values(seed):
    torch.manual_seed(seed)
    q = torch.randn(8, 3)
    torch.testing.assert_close(VDNMixer()(q, torch.randn(8, 4)), q[:, 0] + q[:, 1] + q[:, 2])


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_the_agent_network_has_num_layers_hidden_layers_after_the_first(num_layers):
    agent = qmix.AgentNetwork(5, 4, 8, num_layers)
    layers = [module for module in agent.modules() if isinstance(module, nn.Linear)]
    assert [layer.in_features for layer in layers] == [5] + [8] * (num_layers + 1)
    assert [layer.out_features for layer in layers] == [8] * (num_layers + 1) + [4]
    assert agent(torch.zeros(6, 2, 5)).shape == (6, 2, 4)


@properties
@given(seeds, st.integers(0, 3), st.integers(1, 9))
def test_the_agents_act_with_the_network_that_learns(seed, num_layers, rows):
    torch.manual_seed(seed)
    agent, obs = qmix.AgentNetwork(5, 4, 8, num_layers), torch.randn(rows, 5)
    nn.init.normal_(agent.layers[-1].weight)
    q = agent.in_numpy()(obs.numpy())
    assert q.dtype == np.float32
    torch.testing.assert_close(torch.from_numpy(q), agent(obs).detach())


# The TD target


def targets(reward, done, next_q_tot, lengths, gamma, td_lambda):
    columns = (torch.tensor(column, dtype=torch.float32) for column in (reward, done, next_q_tot))
    return td_target(*columns, torch.tensor(lengths), gamma, td_lambda)


def assert_equal(actual, expected):
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_the_one_step_target_bootstraps_through_truncation_and_not_through_termination():
    # Two episodes of two steps: the first is truncated, the second terminates.
    target = targets([1, 2, 3, 4], [0, 0, 0, 1], [10, 20, 30, 40], [2, 2], gamma=0.5, td_lambda=0)
    assert_equal(target, [1 + 0.5 * 10, 2 + 0.5 * 20, 3 + 0.5 * 30, 4])


def test_the_lambda_return_of_an_episode_that_terminates():
    # From the end: G_2 = 4; G_1 = 2 + 0.5 (0.75 * 20 + 0.25 * 4) = 10; G_0 = 1 + 0.5 (0.75 * 10 + 0.25 * 10) = 6.
    assert_equal(targets([1, 2, 4], [0, 0, 1], [10, 20, 99], [3], gamma=0.5, td_lambda=0.25), [6, 10, 4])


def test_the_lambda_return_of_an_episode_that_is_truncated():
    # From the end: G_2 = 4 + 0.5 * 24 = 16; G_1 = 2 + 0.5 (0.75 * 20 + 0.25 * 16) = 11.5;
    # G_0 = 1 + 0.5 (0.75 * 10 + 0.25 * 11.5) = 6.1875.
    assert_equal(targets([1, 2, 4], [0, 0, 0], [10, 20, 24], [3], gamma=0.5, td_lambda=0.25), [6.1875, 11.5, 16])


def test_lambda_1_is_the_discounted_sum_of_rewards_and_the_value_where_time_was_up():
    # Q_tot of the steps between (99) does not matter.
    target = targets([1, 2, 4, 8, 16], [0, 0, 1, 0, 0], [99, 99, 99, 99, 32], [3, 2], gamma=0.5, td_lambda=1)
    assert_equal(target, [1 + 2 / 2 + 4 / 4, 2 + 4 / 2, 4, 8 + 16 / 2 + 32 / 4, 16 + 32 / 2])


@properties
@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1))
def test_the_lambda_return_is_its_backward_recursion_on_episodes_of_all_lengths(seed, lengths, gamma, td_lambda):
    torch.manual_seed(seed)
    batch = random_batch(lengths)
    reward, done, value = batch["reward"], batch["done"], torch.randn(sum(lengths))
    expected, end = torch.zeros(sum(lengths)), sum(lengths)
    for length in reversed(lengths):
        future = value[end - 1]
        for t in reversed(range(end - length, end)):
            mixed = future if t == end - 1 else (1 - td_lambda) * value[t] + td_lambda * future
            future = expected[t] = reward[t] + gamma * (1 - done[t]) * mixed
        end -= length
    assert_equal(td_target(reward, done, value, batch["lengths"], gamma, td_lambda), expected.tolist())


@properties
@given(seeds, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.floats(0, 1))
def test_an_episodes_target_does_not_depend_on_the_others_in_the_batch(seed, lengths, td_lambda):
    torch.manual_seed(seed)
    batch = random_batch(lengths)
    columns = batch["reward"], batch["done"], torch.randn(sum(lengths))
    together = td_target(*columns, batch["lengths"], 0.9, td_lambda)
    split = zip(*(column.split(lengths) for column in columns), strict=True)
    alone = [td_target(*column, torch.tensor([len(column[0])]), 0.9, td_lambda) for column in split]
    assert_equal(together, torch.cat(alone).tolist())


# The loss


class Scale(nn.Module):
    """An agent whose action values are its observation times one weight."""

    def __init__(self, weight: float):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))

    def forward(self, obs):
        return obs * self.weight


def scaled_networks(weight=1.0, target_weight=10.0):
    """The agents' values are readable from the observations; Q_tot is their sum."""
    networks = SimpleNamespace(agent=Scale(weight), target_agent=Scale(target_weight))
    return SimpleNamespace(**vars(networks), mixer=VDNMixer(), target_mixer=VDNMixer())


def batch_of_two(**changes) -> dict[str, torch.Tensor]:
    """An episode of one step that was truncated, and one that terminated."""
    batch = {"obs": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "next_obs": [[[1, 3], [5, 2]], [[9, 9], [9, 9]]]}
    batch |= {"reward": [1, 2], "done": [0, 1], "states": [[0], [0]], "next_states": [[0], [0]]}
    batch = {key: torch.tensor(value, dtype=torch.float32) for key, value in (batch | changes).items()}
    batch |= {"actions": torch.tensor([[0, 1], [1, 0]]), "lengths": torch.tensor([1, 1])}
    return batch | {"next_avail_actions": torch.ones(2, 2, 2, dtype=torch.int8)}


def test_the_loss_is_the_mean_squared_td_error():
    # Q_tot: 1 + 4 and 6 + 7. Targets: 1 + 0.5 * 10 * (3 + 5) = 41, and 2 at the end.
    loss = qmix.qmix_loss(scaled_networks(), batch_of_two(), small_args(gamma=0.5))
    assert_equal(loss, (36**2 + 11**2) / 2)


def test_unavailable_next_actions_are_never_chosen():
    batch = batch_of_two()
    batch["next_avail_actions"][0] = torch.tensor([[1, 0], [0, 1]])  # what is left is worth 1 and 2
    loss = qmix.qmix_loss(scaled_networks(), batch, small_args(gamma=0.5))
    assert_equal(loss, ((1 + 0.5 * 10 * (1 + 2) - 5) ** 2 + 11**2) / 2)


def test_available_next_actions_of_negative_value_go_before_unavailable_ones():
    batch = batch_of_two(next_obs=[[[-1, -3], [-5, -2]], [[9, 9], [9, 9]]])
    batch["next_avail_actions"][0] = torch.tensor([[0, 1], [1, 0]])
    loss = qmix.qmix_loss(scaled_networks(), batch, small_args(gamma=0.5))
    assert_equal(loss, ((1 + 0.5 * 10 * (-3 - 5) - 5) ** 2 + 11**2) / 2)


@pytest.mark.parametrize(("double_q", "next_q_tot"), [(False, -1 - 2), (True, -3 - 5)])
def test_with_double_q_the_network_chooses_and_the_target_network_values(double_q, next_q_tot):
    # The network prefers the large values (3 and 5), the target network, with its weight of -1, the small ones (1, 2).
    loss = qmix.qmix_loss(scaled_networks(1.0, -1.0), batch_of_two(), small_args(gamma=0.5, double_q=double_q))
    assert_equal(loss, ((1 + 0.5 * next_q_tot - 5) ** 2 + 11**2) / 2)


def test_double_q_chooses_among_available_actions_too():
    batch = batch_of_two()
    batch["next_avail_actions"][0] = torch.tensor([[1, 0], [0, 1]])
    loss = qmix.qmix_loss(scaled_networks(1.0, -1.0), batch, small_args(gamma=0.5, double_q=True))
    assert_equal(loss, ((1 + 0.5 * (-1 - 2) - 5) ** 2 + 11**2) / 2)


def test_normalize_reward_standardises_the_rewards_of_the_batch():
    # Rewards 1 and 2 become -1 and 1.
    loss = qmix.qmix_loss(scaled_networks(), batch_of_two(), small_args(gamma=0.5, normalize_reward=True))
    assert_equal(loss, ((-1 + 0.5 * 10 * (3 + 5) - 5) ** 2 + (1 - 13) ** 2) / 2)


def test_normalize_reward_survives_rewards_that_are_all_the_same():
    batch = batch_of_two(reward=[3, 3])
    loss = qmix.qmix_loss(scaled_networks(), batch, small_args(gamma=0.5, normalize_reward=True))
    assert_equal(loss, ((0.5 * 10 * (3 + 5) - 5) ** 2 + 13**2) / 2)


@pytest.mark.parametrize("td_lambda", [0.0, 0.5])
@pytest.mark.parametrize("double_q", [False, True])
def test_no_gradient_reaches_the_targets(double_q, td_lambda):
    networks = scaled_networks()
    args = small_args(gamma=0.5, double_q=double_q, td_lambda=td_lambda)
    qmix.qmix_loss(networks, batch_of_two(), args).backward()
    # Of w Q - target, by w: only Q. Errors 5 - 41 and 13 - 2.
    assert_equal(networks.agent.weight.grad, [(2 * -36 * 5 + 2 * 11 * 13) / 2])
    assert networks.target_agent.weight.grad is None


def test_the_target_networks_are_not_among_what_is_learned():
    networks = random_networks(0)
    learned = [parameter.flatten() for module in (networks.agent, networks.mixer) for parameter in module.parameters()]
    assert torch.equal(networks.theta, torch.cat(learned))
    assert not any(p.requires_grad for m in (networks.target_agent, networks.target_mixer) for p in m.parameters())


@properties
@given(seeds, st.lists(st.integers(1, 4), min_size=1, max_size=3), st.sampled_from(["qmix", "vdn"]))
def test_the_loss_is_that_of_a_search_over_all_joint_next_actions(seed, lengths, mixer):
    networks, args = random_networks(seed, mixer=mixer), small_args(mixer=mixer, gamma=0.9)
    batch = in_double_precision(random_batch(lengths))
    agents, errors = torch.arange(2), []
    with torch.no_grad():
        for n in range(sum(lengths)):
            state, next_state = batch["states"][n : n + 1], batch["next_states"][n : n + 1]
            q, next_q = networks.agent(batch["obs"][n]), networks.target_agent(batch["next_obs"][n])
            choices = [torch.tensor(actions) for actions in joint_actions(batch["next_avail_actions"][n])]
            values = [networks.target_mixer(next_q[agents, choice][None], next_state) for choice in choices]
            target = batch["reward"][n] + 0.9 * (1 - batch["done"][n]) * max(values)
            errors.append(target - networks.mixer(q[agents, batch["actions"][n]][None], state))
    assert_equal(qmix.qmix_loss(networks, batch, args) / torch.stack(errors).square().mean(), 1.0)


# The update


def movement(networks, clip_gradients) -> tuple[float, dict]:
    """How far one step of gradient descent moves the weights."""
    before = deepcopy(networks)
    optimizer = torch.optim.SGD([networks.theta], lr=1.0)
    torch.manual_seed(0)
    batch = in_double_precision(random_batch([3, 4]))
    results = qmix.update(networks, optimizer, batch, small_args(clip_gradients=clip_gradients))
    return (networks.theta - before.theta).norm().item(), results


def test_clip_gradients_bounds_the_norm_of_the_gradient():
    norm, results = movement(random_networks(0), clip_gradients=0.25)
    assert norm == pytest.approx(0.25, rel=1e-4)
    assert results["train/grads"] > 0.25


def test_clip_gradients_leaves_a_smaller_gradient_as_it_is():
    norm, results = movement(random_networks(0), clip_gradients=1e12)
    assert norm == pytest.approx(results["train/grads"].item(), rel=1e-6)


@pytest.mark.parametrize("clip_gradients", [0, -1])
def test_clip_gradients_of_0_or_less_is_no_limit(clip_gradients):
    unlimited, _ = movement(random_networks(0), clip_gradients=1e12)
    assert movement(random_networks(0), clip_gradients)[0] == unlimited


def test_an_update_changes_the_networks_and_not_the_targets():
    networks = random_networks(0)
    before = deepcopy(networks)
    movement(networks, clip_gradients=-1)
    for name, parameter in networks.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)) == name.startswith("target_"), name


def test_updates_bring_the_loss_of_a_batch_down():
    args = small_args(learning_rate=0.01)
    networks = Networks(args, SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7))
    optimizer, batch = torch.optim.Adam([networks.theta], lr=args.learning_rate), random_batch([3, 4])
    losses = [qmix.update(networks, optimizer, batch, args)["train/loss"].item() for _ in range(100)]
    assert losses[-1] < 0.2 * losses[0]


@properties
@given(seeds, st.floats(0, 1))
def test_the_targets_take_a_step_of_size_polyak_towards_the_networks(seed, polyak):
    networks = random_networks(seed)
    before = deepcopy(networks)
    networks.update_targets(polyak)
    for name in ("agent", "mixer"):
        pairs = zip(getattr(networks, f"target_{name}").parameters(), getattr(networks, name).parameters(), strict=True)
        olds = getattr(before, f"target_{name}").parameters()
        for (target, parameter), old in zip(pairs, olds, strict=True):
            torch.testing.assert_close(target, polyak * parameter + (1 - polyak) * old)


def test_polyak_1_copies_the_networks():
    networks = random_networks(0)
    networks.update_targets(1)
    for kind in ("agent", "mixer"):
        targets = getattr(networks, f"target_{kind}").state_dict()
        assert all(torch.equal(targets[name], value) for name, value in getattr(networks, kind).state_dict().items())


def test_the_targets_begin_as_copies_of_the_networks():
    networks = Networks(small_args(), SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7))
    batch = random_batch([4])
    assert torch.equal(networks.agent(batch["obs"]), networks.target_agent(batch["obs"]))
    q = torch.randn(4, 2)
    assert torch.equal(networks.mixer(q, batch["states"]), networks.target_mixer(q, batch["states"]))


# The buffer


def numbered_episode(number: int, length: int) -> dict[str, np.ndarray]:
    """An episode whose transition t is marked 100 number + t."""
    marks = 100 * number + np.arange(length)
    seen = np.append(marks, marks[-1] + 1)  # and what is observed after the last step
    episode = {"obs": np.tile(seen[:, None, None], (1, 2, 3)), "states": seen[:, None], "reward": marks}
    episode = {key: value.astype(np.float32) for key, value in episode.items()}
    availability = np.ones((length + 1, 2, 4), np.int8)
    return episode | {"actions": np.zeros((length, 2), int), "done": marks * 0.0, "avail_actions": availability}


def sampled(buffer, batch_size, seed=0) -> dict[str, torch.Tensor]:
    return buffer.sample(batch_size, np.random.default_rng(seed), "cpu")


def test_a_full_buffer_drops_its_oldest_episodes():
    buffer = EpisodeBuffer(3)
    for number in range(5):
        buffer.store(numbered_episode(number, 1))
    assert {reward for seed in range(30) for reward in sampled(buffer, 1, seed)["reward"].tolist()} == {200, 300, 400}


@properties
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_a_sample_is_whole_different_episodes_end_to_end(seed, lengths, data):
    buffer = EpisodeBuffer(10)
    for number, length in enumerate(lengths):
        buffer.store(numbered_episode(number, length))
    batch_size = data.draw(st.integers(1, len(lengths)))
    batch = sampled(buffer, batch_size, seed)
    assert len(batch["lengths"]) == batch_size
    chosen = []
    parts = (batch[key].split(batch["lengths"].tolist()) for key in ("reward", "obs", "next_states"))
    for reward, obs, next_states in zip(*parts, strict=True):
        chosen.append(int(reward[0]) // 100)
        assert reward.tolist() == numbered_episode(chosen[-1], lengths[chosen[-1]])["reward"].tolist()
        assert torch.equal(obs, reward[:, None, None].expand(-1, 2, 3))
        assert torch.equal(next_states[:, 0], reward + 1)
    assert len(set(chosen)) == batch_size


def test_every_episode_is_sampled_equally_often():
    buffer = EpisodeBuffer(5)
    for number in range(5):
        buffer.store(numbered_episode(number, 1))
    rng = np.random.default_rng(0)
    drawn = torch.cat([buffer.sample(2, rng, "cpu")["reward"] for _ in range(2000)]) / 100
    assert torch.bincount(drawn.int()) / 2000 == pytest.approx(np.full(5, 0.4), abs=0.05)


def test_the_same_stream_samples_the_same_episodes_and_leaves_the_buffer_as_it_was():
    buffer = EpisodeBuffer(5)
    for number in range(5):
        buffer.store(numbered_episode(number, 2))
    first = sampled(buffer, 3)
    first["obs"].fill_(-1)
    assert torch.equal(sampled(buffer, 3)["reward"], first["reward"])
    assert (sampled(buffer, 3)["obs"] >= 0).all()


def collected(args, number=0, step=0):
    env = qmix.open_env(args)
    torch.manual_seed(0)
    agent = Networks(args, env).agent
    return env, *qmix.collect_episode(env, agent, args, number, step)


def test_shapes_and_dtypes_of_a_batch_of_battles():
    env, episode, _ = collected(small_args(env_name="3m"))
    buffer = EpisodeBuffer(2)
    buffer.store(episode)
    buffer.store(episode)
    batch, n = sampled(buffer, 2), 2 * len(episode["reward"])
    obs, state = ((n, env.n_agents, env.obs_size), torch.float32), ((n, env.state_size), torch.float32)
    scalar = (n,), torch.float32
    assert {key: (tuple(value.shape), value.dtype) for key, value in batch.items()} == {
        "obs": obs,
        "next_obs": obs,
        "states": state,
        "next_states": state,
        "actions": ((n, env.n_agents), torch.int64),
        "next_avail_actions": ((n, env.n_agents, env.n_actions), torch.int8),
        "reward": scalar,
        "done": scalar,
        "lengths": ((2,), torch.int64),
    }


# Collecting


def test_an_episode_has_a_row_per_step_and_one_more_of_what_is_observed():
    _, episode, _ = collected(small_args(env_name="3m", time_limit=5))
    rows = {"actions": 5, "reward": 5, "done": 5, "obs": 6, "states": 6, "avail_actions": 6}
    assert {key: len(array) for key, array in episode.items()} == rows


def test_the_actions_of_an_episode_were_available():
    _, episode, _ = collected(small_args(env_name="3m"))
    taken = np.take_along_axis(episode["avail_actions"][:-1], episode["actions"][..., None], axis=-1)
    assert taken.all()


def test_an_episode_that_terminates_is_done_at_its_last_step():
    _, episode, _ = collected(small_args(**TWO_STEPS))
    assert episode["done"].tolist() == [0, 1]


@pytest.mark.parametrize("bootstraps", [True, False])
def test_an_episode_that_is_truncated_is_done_only_if_the_learner_shall_not_bootstrap_there(bootstraps):
    _, episode, _ = collected(small_args(env_name="3m", time_limit=5, bootstrap_truncated=bootstraps))
    assert episode["done"].tolist() == [0, 0, 0, 0, not bootstraps]


def test_an_episode_is_determined_by_the_seed_and_its_number():
    def rewards_and_actions(seed, number):
        _, episode, _ = collected(small_args(env_name="3m", seed=seed), number)
        return episode["obs"].tobytes(), episode["actions"].tobytes()

    assert rewards_and_actions(1, 0) == rewards_and_actions(1, 0)
    assert len({rewards_and_actions(1, 0), rewards_and_actions(1, 1), rewards_and_actions(2, 0)}) == 3


def test_every_purpose_and_number_has_a_stream_of_its_own():
    keys = [(purpose, n) for purpose in ("train", "explore", "sample") for n in range(5)]
    keys += [("eval", n, i) for n in range(5) for i in range(5)] + [("test", n) for n in range(5)]
    first = [qmix.random_stream(Args(seed=seed), *key).integers(2**62) for seed in range(3) for key in keys]
    assert len(set(first)) == 3 * len(keys)


# Exploration


def actions_of(q, available, epsilon, times=4000) -> np.ndarray:
    """Many draws of the agents' actions: [times, n_agents]."""
    q, rng = np.asarray(q, np.float32), np.random.default_rng(0)
    observation = {"obs": q, "avail_actions": np.asarray(available, np.int8)}  # an agent sees its values
    return np.stack([qmix.act(lambda obs: obs, observation, epsilon, rng) for _ in range(times)])


def test_with_epsilon_1_actions_are_uniform_over_the_available_ones():
    actions = actions_of([[9, 0, 0, 0], [0, 0, 0, 9]], [[1, 1, 0, 1], [0, 1, 1, 0]], 1.0)
    frequencies = [np.bincount(agent, minlength=4) / len(agent) for agent in actions.T]
    assert frequencies[0] == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.03)
    assert frequencies[1] == pytest.approx([0, 1 / 2, 1 / 2, 0], abs=0.03)


def test_with_epsilon_0_actions_are_the_best_available_ones():
    actions = actions_of([[9, 2, 5, 1], [-3, -1, -2, 7]], [[0, 1, 1, 1], [1, 0, 1, 0]], 0.0, times=20)
    assert (actions == [2, 2]).all()


def test_each_agent_explores_on_its_own():
    # With 1000 actions, what is not the greedy action 0 is exploration.
    explored = actions_of(np.eye(1, 1000).repeat(2, axis=0), np.ones((2, 1000)), 0.5) > 0
    both = explored[:, 0] & explored[:, 1]
    assert explored.mean(0) == pytest.approx([0.5, 0.5], abs=0.03)
    assert both.mean() == pytest.approx(0.25, abs=0.03)


def test_agents_that_explore_draw_different_actions():
    actions = actions_of(np.zeros((2, 4)), np.ones((2, 4)), 1.0)
    assert (actions[:, 0] == actions[:, 1]).mean() == pytest.approx(1 / 4, abs=0.03)


@properties
@given(seeds, st.floats(0, 1))
def test_no_action_is_ever_unavailable(seed, epsilon):
    torch.manual_seed(seed)
    available = random_availability(3, 4).numpy()
    actions = actions_of(torch.randn(3, 4), available, epsilon, times=20)
    assert available[np.arange(3), actions].all()


@pytest.mark.parametrize(
    ("step", "epsilon"), [(0, 1.0), (50, 0.75), (100, 0.5), (150, 0.25), (200, 0.0), (201, 0.0), (1000, 0.0)]
)
def test_epsilon_falls_linearly_over_its_part_of_the_training(step, epsilon):
    args = Args(start_e=1, end_e=0, exploration_fraction=0.2, total_timesteps=1000)
    assert qmix.linear_schedule(args, step) == pytest.approx(epsilon)


def test_without_an_exploration_fraction_epsilon_is_at_its_end_from_the_first_step_on():
    args = Args(start_e=1, end_e=0.1, exploration_fraction=0, total_timesteps=1000)
    assert [qmix.linear_schedule(args, step) for step in (1, 10, 1000)] == pytest.approx([0.1] * 3)


# Whole trainings


def trained(folder: Path, **options) -> dict[str, float]:
    """Train in a new run folder: the last evaluation."""
    args = small_args(**options)
    folder.mkdir(parents=True, exist_ok=True)
    return qmix.train(args, qmix.open_env(args), qmix.open_env(args), folder, Event())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    saved = torch.load(folder / "model.pt", weights_only=True)
    return {f"{part}.{name}": value for part, values in saved.items() for name, value in values.items()}


def equal_weights(one: Path, other: Path) -> bool:
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of everything that was logged."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_two_trainings_with_one_seed_end_with_the_same_weights(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(tmp_path / name, env_name="3m", total_timesteps=600, seed=seed)
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    assert not equal_weights(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize(
    "env",
    [
        {"env_name": "3m"},
        {"env_type": "lbf", "env_name": "Foraging-8x8-2p-3f-v3"},
        {"env_type": "pz", "env_name": "simple_spread_v3"},
    ],
    ids=["smaclite", "lbf", "pz"],
)
def test_evaluation_changes_nothing_of_the_training(tmp_path, env):
    trained(tmp_path / "often", eval_steps=1, num_eval_ep=2, total_timesteps=300, **env)
    trained(tmp_path / "seldom", eval_steps=1000, num_eval_ep=1, total_timesteps=300, **env)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_evaluation_plays_in_an_environment_of_its_own(tmp_path):
    args = small_args(total_timesteps=20, eval_steps=1, **TWO_STEPS)
    env, resets = qmix.open_env(args), []
    reset = env.reset
    env.reset = lambda **options: resets.append(options) or reset(**options)
    qmix.train(args, env, qmix.open_env(args), tmp_path, Event())
    assert len(resets) == 10


def test_logging_changes_nothing_of_the_training(tmp_path):
    trained(tmp_path / "often", log_every=1, **TWO_STEPS)
    trained(tmp_path / "seldom", log_every=1000, **TWO_STEPS)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_evaluations_with_the_same_number_meet_the_same_episodes():
    args = small_args(env_type="pz", env_name="simple_spread_v3", num_eval_ep=2)
    env, other = qmix.open_env(args), qmix.open_env(args)
    agent = Networks(args, env).agent
    first = qmix.evaluate(env, agent, args, 7)
    other.reset(seed=5)
    assert qmix.evaluate(other, agent, args, 7) == first
    assert qmix.evaluate(env, agent, args, 8) != first


ROLLOUT = {"rollout/ep_reward", "rollout/ep_length", "rollout/epsilon", "rollout/num_episodes"}
EVALUATION = {"eval/ep_reward", "eval/std_ep_reward", "eval/ep_length"}
LEARNING = {"train/loss", "train/grads", "train/num_updates", "charts/SPS"}


def test_the_scalars_of_a_battle_have_the_documented_names(tmp_path):
    trained(tmp_path, env_name="3m", total_timesteps=400, log_every=2, eval_steps=4)
    assert scalars(tmp_path).keys() == ROLLOUT | EVALUATION | LEARNING | {"rollout/battle_won", "eval/battle_won"}


def test_only_battles_are_won(tmp_path):
    trained(tmp_path, log_every=2, eval_steps=4, **TWO_STEPS)
    assert scalars(tmp_path).keys() == ROLLOUT | EVALUATION | LEARNING


def test_no_scalar_is_logged_twice_at_a_step(tmp_path):
    trained(tmp_path, total_timesteps=40, log_every=2, eval_steps=4, **TWO_STEPS)  # an evaluation is due at the end
    for name, points in scalars(tmp_path).items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), name


def test_log_every_and_eval_steps_count_episodes(tmp_path):
    trained(tmp_path, total_timesteps=40, log_every=3, eval_steps=7, **TWO_STEPS)
    logged = scalars(tmp_path)
    assert [step for step, _ in logged["rollout/ep_reward"]] == [6, 12, 18, 24, 30, 36]
    assert logged["rollout/num_episodes"] == [(2 * episodes, episodes) for episodes in (3, 6, 9, 12, 15, 18)]
    assert [step for step, _ in logged["eval/ep_reward"]] == [14, 28, 40]  # and at the end


def test_the_rollouts_means_are_over_the_episodes_since_the_last_log(tmp_path, monkeypatch):
    rewards = iter(range(20))
    play = qmix.collect_episode

    def with_reward(*args):
        episode, info = play(*args)
        return episode | {"reward": np.array([0, next(rewards)], np.float32)}, info

    monkeypatch.setattr(qmix, "collect_episode", with_reward)
    trained(tmp_path, total_timesteps=18, log_every=3, **TWO_STEPS)
    assert [value for _, value in scalars(tmp_path)["rollout/ep_reward"]] == [1, 4, 7]
    assert [value for _, value in scalars(tmp_path)["rollout/ep_length"]] == [2, 2, 2]


def test_num_eval_ep_is_the_number_of_episodes_in_an_evaluation():
    args = small_args(num_eval_ep=4, **TWO_STEPS)
    env = qmix.open_env(args)
    starts, reset = [], env.reset
    env.reset = lambda **options: starts.append(options) or reset(**options)
    qmix.evaluate(env, Networks(args, env).agent, args, 0)
    assert len(starts) == 4


def test_train_freq_counts_episodes(tmp_path):
    trained(tmp_path, total_timesteps=20, batch_size=1, train_freq=3, log_every=1, **TWO_STEPS)
    updates = [value for _, value in scalars(tmp_path)["train/num_updates"]]
    assert updates == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]


def test_the_first_update_waits_for_a_full_batch(tmp_path):
    trained(tmp_path, total_timesteps=12, batch_size=4, log_every=1, **TWO_STEPS)
    assert [value for _, value in scalars(tmp_path)["train/num_updates"]] == [0, 0, 0, 1, 2, 3]


def test_target_network_update_freq_counts_episodes(tmp_path, monkeypatch):
    calls, played, play = [], [], qmix.collect_episode
    monkeypatch.setattr(qmix, "collect_episode", lambda *args: played.append(args) or play(*args))
    monkeypatch.setattr(Networks, "update_targets", lambda self, polyak: calls.append((len(played), polyak)))
    trained(tmp_path, total_timesteps=20, target_network_update_freq=4, polyak=0.3, **TWO_STEPS)
    assert calls == [(4, 0.3), (8, 0.3)]


def test_the_episode_that_reaches_total_timesteps_is_finished(tmp_path):
    trained(tmp_path, total_timesteps=7, log_every=1, **TWO_STEPS)
    assert scalars(tmp_path)["rollout/num_episodes"][-1] == (8, 4)


def test_epsilon_is_logged_as_it_falls(tmp_path):
    options = {"total_timesteps": 20, "exploration_fraction": 0.5, "start_e": 1, "end_e": 0}
    trained(tmp_path, log_every=1, **options, **TWO_STEPS)
    epsilon = [value for _, value in scalars(tmp_path)["rollout/epsilon"]]
    assert epsilon == pytest.approx([0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0, 0, 0], abs=1e-6)


# The run folder


def test_the_run_folder_is_named_after_environment_script_seed_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = qmix.open_run(Args(env_type="lbf", env_name="Foraging-8x8-2p-3f-v3", seed=4))
    assert folder.parent == Path("runs")
    *name, time = folder.name.split("__")
    assert name == ["lbf", "Foraging-8x8-2p-3f-v3", "qmix", "4"]
    assert time


def test_runs_that_begin_together_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len({qmix.open_run(Args()) for _ in range(3)}) == 3


def test_args_json_holds_the_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = small_args(seed=3, time_limit=9, optimizer="RMSprop")
    assert Args(**json.loads((qmix.open_run(args) / "args.json").read_text())) == args


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
def test_the_saved_model_loads_into_the_networks(tmp_path, mixer):
    args = small_args(mixer=mixer, **TWO_STEPS)
    trained(tmp_path, mixer=mixer, **TWO_STEPS)
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    networks = Networks(args, qmix.open_env(args))
    networks.agent.load_state_dict(saved["agent"])
    networks.mixer.load_state_dict(saved["mixer"])


def test_the_saved_model_is_the_one_that_was_evaluated_last(tmp_path, monkeypatch):
    evaluated, evaluate = [], qmix.evaluate

    def remember(env, agent, *rest):
        evaluated.append(deepcopy(agent.state_dict()))
        return evaluate(env, agent, *rest)

    monkeypatch.setattr(qmix, "evaluate", remember)
    trained(tmp_path, eval_steps=3, **TWO_STEPS)
    saved = torch.load(tmp_path / "model.pt", weights_only=True)["agent"]
    assert all(torch.equal(saved[name], value) for name, value in evaluated[-1].items())


def test_no_model_is_saved_if_none_is_wanted(tmp_path):
    trained(tmp_path, save_model=False, **TWO_STEPS)
    assert not (tmp_path / "model.pt").exists()


def test_a_greedy_episode_is_captured_as_a_gif(tmp_path):
    trained(tmp_path, env_name="3m", time_limit=10, capture_video=True)
    (gif,) = tmp_path.glob("*.gif")
    with Image.open(gif) as picture:
        assert picture.format == "GIF"
        assert picture.n_frames > 1


def test_the_last_picture_of_an_episode_is_made_after_its_last_step(tmp_path, monkeypatch):
    args, drawn = small_args(env_name="3m", time_limit=10), []
    env = qmix.open_env(args, render_mode="rgb_array")
    monkeypatch.setattr(qmix, "open_env", lambda args, render_mode: env)
    monkeypatch.setattr(env, "close", lambda: drawn.append(env.render()))
    monkeypatch.setattr(qmix.Image, "fromarray", lambda frame: drawn.append(frame) or Image.new("RGB", (1, 1)))
    qmix.save_video(args, Networks(args, env).agent, tmp_path / "episode.gif", 0)
    over, *frames = drawn
    assert np.array_equal(frames[-1], over) and not np.array_equal(frames[-2], over)


def test_an_environment_that_cannot_be_drawn_costs_only_the_video(tmp_path, capsys):
    assert trained(tmp_path, capture_video=True, **TWO_STEPS)
    assert capsys.readouterr().err.count("warning") == 1
    assert (tmp_path / "model.pt").exists()
    assert not list(tmp_path.glob("*.gif"))


def test_nothing_unfinished_is_left_in_the_run_folder(tmp_path):
    trained(tmp_path, env_name="3m", time_limit=10, capture_video=True)
    assert not list(tmp_path.glob("*.tmp"))


# The two-step game


@pytest.fixture(scope="module")
def learn():
    """`learn(mixer)`: what QMIX or VDN learns of the two-step game, as the table in the documentation has it."""
    learn = runpy.run_path(str(ROOT / "docs" / "two_step_game.py"))["learn"]
    faster = {"total_timesteps": 4000, "batch_size": 64, "buffer_size": 1000, "train_freq": 2, "hidden_dim": 64}
    faster |= {"optimizer": "Adam", "learning_rate": 0.003, "num_layers": 1, "hyper_dim": 64}
    faster |= {"target_network_update_freq": 1, "polyak": 0.05, "torch_threads": 1}
    return lambda mixer: learn(mixer, **faster)


def test_qmix_learns_the_two_step_games_value_of_8(learn):
    greedy_return, q_tot = learn("qmix")
    assert greedy_return == 8
    assert_close = torch.testing.assert_close
    assert_close(q_tot["2A"], [[7.0, 7.0], [7.0, 7.0]], rtol=0, atol=0.2)
    assert_close(q_tot["2B"], [[0.0, 1.0], [1.0, 8.0]], rtol=0, atol=0.2)
    assert_close(q_tot["1"], [[6.93, 6.93], [7.92, 7.92]], rtol=0, atol=0.2)  # gamma is 0.99


def test_vdn_settles_for_7_in_the_two_step_game(learn):
    greedy_return, q_tot = learn("vdn")
    assert greedy_return == 7
    # The sum that fits [[0, 1], [1, 8]] best, with mean 2.5, is [[-1.5, 2.5], [2.5, 6.5]].
    assert np.ravel(q_tot["2B"]) == pytest.approx([-1.5, 2.5, 2.5, 6.5], abs=0.7)


# The game that QMIX cannot represent


@properties
@given(seeds)
def test_no_mixer_values_both_20s_of_the_nonmonotonic_game_above_both_5s(seed):
    networks = random_networks(seed, n_actions=2)
    obs, state = torch.randn(2, 5, dtype=torch.float64), torch.randn(7, dtype=torch.float64)
    q_tot = networks.mixer(torch.cartesian_prod(*networks.agent(obs)), state.expand(4, -1)).view(2, 2)
    assert min(q_tot[0, 1], q_tot[1, 0]) <= max(q_tot[0, 0], q_tot[1, 1])


def test_with_less_and_less_exploration_qmix_finds_one_20_of_the_nonmonotonic_game_and_misvalues_the_other():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        game = runpy.run_path(str(ROOT / "docs" / "monotonic_game.py"))
    greedy_return, (first, second), q_tot = game["learn"]("qmix", **game["FALLING"])
    assert greedy_return == 20
    assert q_tot[first][second] == pytest.approx(20, abs=3)
    assert q_tot[second][first] < 10  # it pays 20, too


# The arguments

DOCUMENTED = dict(
    env_type="smaclite",
    env_name="3m",
    env_family="mpe",
    agent_ids=True,
    buffer_size=5000,
    total_timesteps=1000000,
    gamma=0.99,
    train_freq=1,
    optimizer="Adam",
    learning_rate=0.0005,
    batch_size=10,
    start_e=1,
    end_e=0.025,
    exploration_fraction=0.05,
    hidden_dim=64,
    hyper_dim=64,
    num_layers=1,
    target_network_update_freq=1,
    polyak=0.01,
    normalize_reward=False,
    clip_gradients=-1,
    log_every=10,
    eval_steps=50,
    num_eval_ep=5,
    use_wnb=False,
    wnb_project="",
    wnb_entity="",
    device="cpu",
    seed=1,
    mixer="qmix",
    hypernet_layers=1,
    time_limit=None,
    save_model=True,
    capture_video=False,
    checkpoint_every=1000,
    resume="",
    evaluate="",
)


@pytest.mark.parametrize(("name", "default"), DOCUMENTED.items())
def test_the_documented_argument_has_its_default(name, default):
    assert getattr(Args(), name) == default


def test_every_argument_is_documented_below_its_field():
    body = ast.parse(inspect.getsource(Args)).body[0].body
    undocumented = [
        field.target.id
        for field, following in itertools.zip_longest(body, body[1:])
        if isinstance(field, ast.AnnAssign)
        and not (isinstance(following, ast.Expr) and isinstance(following.value.value, str) and following.value.value)
    ]
    assert undocumented == []
    assert {field.name for field in dataclasses.fields(Args)} >= DOCUMENTED.keys() | {"double_q", "td_lambda"}
