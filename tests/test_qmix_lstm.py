"""`qmix_lstm.py`: agents that remember, padded sequences, gradients cut every `tbptt` steps."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cleanmarl import qmix, qmix_lstm
from cleanmarl.qmix_lstm import AgentNetwork, Args, EpisodeBuffer, Networks
from tests import helpers
from tests.helpers import (
    MODULES,
    TWO_STEPS,
    actions_of,
    equal_weights,
    numbered_episode,
    random_availability,
    values_of,
)

SIZES = SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7)

properties = settings(deadline=None, max_examples=25, derandomize=True)
seeds = st.integers(0, 2**31 - 1)
lengths_of_episodes = st.lists(st.integers(1, 7), min_size=1, max_size=4)
cells = st.sampled_from(["gru", "lstm"])
every_cell = pytest.mark.parametrize("rnn", ["gru", "lstm"])
with_and_without_last_action = pytest.mark.parametrize(
    "last_action", [True, False], ids=["last_action", "obs_only"]
)


@pytest.fixture(autouse=True)
def in_double_precision():
    """Differences of more than a rounding error are differences."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def in_single_precision(in_double_precision):
    """For what is a part of a training."""
    torch.set_default_dtype(torch.float32)


def small_args(**options) -> Args:
    return helpers.small_args("qmix_lstm", **options)


def trained(folder: Path, **options) -> Path:
    return helpers.trained("qmix_lstm", folder, **options)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with other weights than those that training begins with, which give 0."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        parameter.detach().normal_(std=0.5)
    return module


def random_networks(seed: int, args: Args) -> Networks:
    """Networks whose targets are not their copies."""
    return randomised(Networks(args, SIZES), seed)


def random_episode(length: int) -> dict[str, torch.Tensor]:
    """Random contents; ends by termination or truncation."""
    terminated = torch.zeros(length)
    terminated[-1] = torch.randint(2, ())
    return {
        "obs": torch.randn(length + 1, 2, 5),
        "state": torch.randn(length + 1, 7),
        "avail_actions": random_availability(length + 1, 2, 3),
        "actions": torch.randint(3, (length, 2)),
        "reward": torch.randn(length),
        "terminated": terminated,
    }


def random_episodes(seed: int, lengths: list[int]) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    return [random_episode(length) for length in lengths]


def padded(episodes: list[dict[str, torch.Tensor]], garbage: bool = False) -> dict:
    """A batch, filled up with zeros or, with `garbage`, with anything that could be there."""
    lengths = torch.tensor([len(episode["reward"]) for episode in episodes])
    filler = random_episode(int(lengths.max()))
    batch = {"lengths": lengths}
    for key, fill in filler.items():
        if not garbage:
            fill = torch.zeros_like(fill)
        rows = [torch.cat((episode[key], fill[len(episode[key]) :])) for episode in episodes]
        batch[key] = torch.stack(rows)
    return batch


def real_steps(batch: dict) -> torch.Tensor:
    """[B, T], True where no padding is."""
    return torch.arange(batch["reward"].shape[1]) < batch["lengths"][:, None]


# A plain learner: one episode, one step and one agent at a time


def plain_inputs(episode: dict, args: Args) -> torch.Tensor:
    """[T + 1, n_agents, input_size]"""
    if not args.last_action:
        return episode["obs"]
    previous = torch.zeros(*episode["obs"].shape[:2], 3)
    for t, actions in enumerate(episode["actions"]):
        for agent, action in enumerate(actions):
            previous[t + 1, agent, action] = 1
    return torch.cat((episode["obs"], previous), dim=-1)


def plain_q(agent: AgentNetwork, inputs: torch.Tensor, hidden=None):
    """Action values [T, n_agents, n_actions], step by step, and the hidden state after them."""
    steps = []
    for step in inputs:
        q, hidden = agent(step[None, None], hidden)
        steps.append(q[0, 0])
    return torch.stack(steps), hidden


@torch.no_grad()
def plain_target(networks: Networks, episode: dict, args: Args) -> torch.Tensor:
    """[T], by a loop over steps and agents; hidden states begin with the episode."""
    inputs = plain_inputs(episode, args)
    target_q, _ = plain_q(networks.target_agent, inputs)
    q, _ = plain_q(networks.agent, inputs)
    choosing_q = q if args.double_q else target_q
    values = []
    for t in range(1, len(inputs)):
        chosen = []
        for agent in range(2):
            available = np.flatnonzero(episode["avail_actions"][t, agent])
            best = max(available, key=lambda a, at=(t, agent): choosing_q[(*at, a)])
            chosen.append(target_q[t, agent, best])
        q_tot = networks.target_mixer(torch.stack(chosen)[None], episode["state"][t][None])
        values.append(q_tot[0])
    columns = (episode["reward"], episode["terminated"], torch.stack(values))
    return qmix.td_target(*columns, torch.tensor([len(values)]), args.gamma, args.td_lambda)


def plain_update(networks: Networks, optimizer, episodes, args: Args) -> dict[str, float]:
    """What `update` shall do and return, step by step."""
    targets = [plain_target(networks, episode, args) for episode in episodes]
    memories = [None] * len(episodes)
    losses, norms = [], []
    for begin in range(0, max(map(len, targets)), args.tbptt):
        errors = []
        for i, (episode, target) in enumerate(zip(episodes, targets, strict=True)):
            if begin >= len(target):
                continue
            chunk = slice(begin, min(begin + args.tbptt, len(target)))
            inputs = plain_inputs(episode, args)[chunk]
            q, hidden = plain_q(networks.agent, inputs, memories[i])
            memories[i] = without_gradient(hidden)
            q = q.gather(-1, episode["actions"][chunk].unsqueeze(-1)).squeeze(-1)
            errors.append(networks.mixer(q, episode["state"][chunk]) - target[chunk])
        loss = torch.cat(errors).square().mean()
        networks.theta.grad.zero_()
        loss.backward()
        losses.append(loss.item())
        norms.append(networks.theta.grad.norm().item())
        optimizer.step()
    return {"train/loss": np.mean(losses), "train/grads": np.mean(norms)}


def without_gradient(hidden):
    if isinstance(hidden, tuple):
        return tuple(part.detach() for part in hidden)
    return hidden.detach()


def assert_same_update(seed: int, lengths: list[int], args: Args, learning_rate: float):
    """An update does and returns what the plain learner does."""
    episodes = random_episodes(seed + 1, lengths)
    networks = random_networks(seed, args)
    plain = random_networks(seed, args)
    optimizer = torch.optim.SGD([networks.theta], lr=learning_rate)
    plain_optimizer = torch.optim.SGD([plain.theta], lr=learning_rate)
    learning = qmix_lstm.update(networks, optimizer, padded(episodes), args)
    expected = plain_update(plain, plain_optimizer, episodes, args)
    assert learning == pytest.approx(expected, rel=1e-5)
    for name, parameter in networks.named_parameters():
        expected = plain.get_parameter(name)
        torch.testing.assert_close(parameter, expected, rtol=1e-6, atol=1e-8)


@properties
@given(seeds, lengths_of_episodes, cells, st.booleans(), st.sampled_from([7, 10, 100]))
def test_tbptt_of_an_episodes_length_or_more_is_full_backpropagation_through_time(
    seed, lengths, rnn, last_action, tbptt
):
    """A step of descent with rate 1 is the gradient of the whole episodes' loss."""
    args = small_args(tbptt=tbptt, rnn=rnn, last_action=last_action)
    assert_same_update(seed, lengths, args, learning_rate=1.0)


@properties
@given(seeds, lengths_of_episodes, cells, st.integers(1, 6))
def test_a_smaller_tbptt_cuts_gradients_between_chunks_and_carries_the_hidden_state(
    seed, lengths, rnn, tbptt
):
    assert_same_update(seed, lengths, small_args(tbptt=tbptt, rnn=rnn), learning_rate=0.01)


@properties
@given(seeds, lengths_of_episodes, st.integers(1, 8), st.booleans(), st.floats(0, 1))
def test_an_update_is_the_plain_learners_with_every_target(
    seed, lengths, tbptt, double_q, td_lambda
):
    args = small_args(tbptt=tbptt, double_q=double_q, td_lambda=td_lambda, num_layers=2)
    assert_same_update(seed, lengths, args, learning_rate=0.01)


# Chunks


def chunks_of_an_update(lengths, **options) -> tuple[Networks, list[int], list[tuple]]:
    """An update that changes no weight: the networks, after how many chunks the optimizer
    steps, and each chunk with the hidden state before it.
    """
    args = small_args(**options)
    networks = random_networks(0, args)
    chunks = []
    steps = []
    chunk_loss = qmix_lstm.chunk_loss

    def remember(networks, chunk, hidden):
        chunks.append((chunk, hidden))
        return chunk_loss(networks, chunk, hidden)

    optimizer = torch.optim.SGD([networks.theta], lr=0.0)
    optimizer.register_step_post_hook(lambda *_: steps.append(len(chunks)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qmix_lstm, "chunk_loss", remember)
        qmix_lstm.update(networks, optimizer, padded(random_episodes(1, lengths)), args)
    return networks, steps, chunks


@pytest.mark.parametrize(("tbptt", "n"), [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (50, 1)])
def test_the_optimizer_steps_once_per_chunk_of_the_longest_episode(tbptt, n):
    _, steps, _ = chunks_of_an_update([2, 7, 4], tbptt=tbptt)
    assert steps == list(range(1, n + 1))


@every_cell
def test_the_hidden_state_before_a_chunk_is_that_of_the_sequence_without_its_gradient(rnn):
    networks, _, chunks = chunks_of_an_update([7, 7], tbptt=3, rnn=rnn)
    assert [chunk["inputs"].shape[1] for chunk, _ in chunks] == [3, 3, 1]
    assert chunks[0][1] is None
    inputs = torch.cat([chunk["inputs"] for chunk, _ in chunks], dim=1)
    for start, (_, hidden) in ((3, chunks[1]), (6, chunks[2])):
        _, expected = networks.agent(inputs[:, :start])
        if rnn == "gru":
            hidden, expected = (hidden,), (expected,)
        for part, expected_part in zip(hidden, expected, strict=True):
            assert not part.requires_grad
            torch.testing.assert_close(part, expected_part)


def test_within_a_chunk_the_gradient_reaches_its_first_step():
    args = small_args()
    networks = random_networks(0, args)
    inputs = qmix_lstm.agent_inputs(padded(random_episodes(1, [6])), args).requires_grad_()
    q, _ = networks.agent(inputs)
    q[0, 5].sum().backward()
    assert (inputs.grad[0, :6].abs().amax((1, 2)) > 0).all()
    assert (inputs.grad[0, 6] == 0).all()


def test_whole_chunks_go_through_the_recurrent_layer_at_once():
    args = small_args(tbptt=4)
    networks = random_networks(0, args)
    lengths = []
    networks.agent.rnn.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape))
    optimizer = torch.optim.SGD([networks.theta], lr=0.1)
    qmix_lstm.update(networks, optimizer, padded(random_episodes(1, [10, 3])), args)
    assert [shape[:2] for shape in lengths] == [(4, 4), (4, 4), (4, 2)]  # 2 episodes, 2 agents


# Padding


def loss_of(networks: Networks, batch: dict, args: Args) -> torch.Tensor:
    """The loss of whole episodes as one chunk."""
    real = real_steps(batch)
    chunk = {"actions": batch["actions"], "state": batch["state"][:, :-1], "real": real}
    chunk["target"] = qmix_lstm.episode_targets(networks, batch, real, args)
    chunk["inputs"] = qmix_lstm.agent_inputs(batch, args)[:, :-1]
    return qmix_lstm.chunk_loss(networks, chunk, None)[0]


@properties
@given(seeds, lengths_of_episodes, cells, st.booleans(), st.floats(0, 1))
def test_an_episode_adds_the_same_to_the_loss_alone_and_beside_longer_ones(
    seed, lengths, rnn, double_q, td_lambda
):
    args = small_args(rnn=rnn, double_q=double_q, td_lambda=td_lambda)
    networks = random_networks(seed, args)
    episodes = random_episodes(seed + 1, lengths)
    with torch.no_grad():
        together = loss_of(networks, padded(episodes), args)
        alone = [loss_of(networks, padded([episode]), args) for episode in episodes]
    weighed = [length * loss for length, loss in zip(lengths, alone, strict=True)]
    torch.testing.assert_close(together, sum(weighed) / sum(lengths))


@pytest.mark.parametrize("tbptt", [2, 3, 10])
@every_cell
def test_what_the_padding_holds_changes_nothing(rnn, tbptt):
    args = small_args(rnn=rnn, tbptt=tbptt, normalize_reward=True, td_lambda=0.5, double_q=True)
    episodes = random_episodes(0, [2, 7, 5])
    updated = []
    for garbage in (False, True):
        networks = random_networks(1, args)
        optimizer = torch.optim.Adam([networks.theta], lr=0.01)
        qmix_lstm.update(networks, optimizer, padded(episodes, garbage), args)
        updated.append(networks)
    for name, parameter in updated[0].named_parameters():
        expected = updated[1].get_parameter(name)
        torch.testing.assert_close(parameter, expected, rtol=1e-9, atol=1e-12)


def test_normalize_reward_standardises_the_rewards_of_real_steps():
    args = small_args(normalize_reward=True, gamma=0.0)
    batch = padded(random_episodes(0, [2, 6]))
    real = real_steps(batch)
    target = qmix_lstm.episode_targets(random_networks(0, args), batch, real, args)
    rewards = batch["reward"][real]
    expected = (rewards - rewards.mean()) / rewards.std(correction=0)
    torch.testing.assert_close(target[real], expected, rtol=1e-6, atol=1e-6)


# The buffer


@properties
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_a_sample_is_whole_different_episodes_padded_with_zeros(number, lengths, data):
    buffer = EpisodeBuffer(10)
    for i, length in enumerate(lengths, start=1):
        buffer.store(numbered_episode(i, length))
    batch_size = data.draw(st.integers(1, len(lengths)))
    batch = buffer.sample(small_args(batch_size=batch_size), number)
    longest = int(batch["lengths"].max())
    assert batch["obs"].shape == (batch_size, longest + 1, 2, 3)
    assert batch["reward"].shape == (batch_size, longest)
    chosen = []
    for i, length in enumerate(batch["lengths"].tolist()):
        chosen.append(int(batch["reward"][i, 0]) // 100)
        episode = numbered_episode(chosen[-1], lengths[chosen[-1] - 1])
        assert length == len(episode["reward"])
        for key, array in episode.items():
            assert batch[key].dtype == torch.from_numpy(array).dtype
            assert np.array_equal(batch[key][i, : len(array)], array)
            assert not batch[key][i, len(array) :].any()
    assert len(set(chosen)) == len(chosen)


def test_a_full_buffer_drops_its_oldest_episodes():
    buffer = EpisodeBuffer(3)
    for number in range(5):
        buffer.store(numbered_episode(number, 1))
    args = small_args(batch_size=1)
    sampled = {buffer.sample(args, number)["reward"].item() for number in range(30)}
    assert sampled == {200, 300, 400}


# Targets


def targets_of(networks: Networks, episodes: list[dict], args: Args) -> list[torch.Tensor]:
    batch = padded(episodes)
    target = qmix_lstm.episode_targets(networks, batch, real_steps(batch), args)
    return [row[:length] for row, length in zip(target, batch["lengths"], strict=True)]


@pytest.mark.parametrize("td_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("double_q", [False, True])
@every_cell
def test_targets_come_from_target_networks_run_from_the_first_step(rnn, double_q, td_lambda):
    # Chunks do not matter to targets
    args = small_args(rnn=rnn, double_q=double_q, td_lambda=td_lambda, tbptt=2)
    networks = random_networks(3, args)
    episodes = random_episodes(4, [1, 6, 3])
    for target, episode in zip(targets_of(networks, episodes, args), episodes, strict=True):
        expected = plain_target(networks, episode, args)
        torch.testing.assert_close(target, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("double_q", [False, True])
def test_the_network_has_a_say_in_the_targets_only_with_double_q(double_q):
    episodes = random_episodes(0, [7] * 4)
    args = small_args(double_q=double_q)
    networks = random_networks(1, args)
    before = torch.stack(targets_of(networks, episodes, args))
    networks.theta.detach().normal_()
    after = torch.stack(targets_of(networks, episodes, args))
    assert torch.equal(after, before) != double_q


def test_no_gradient_reaches_the_target_networks():
    args = small_args(double_q=True)
    networks = random_networks(0, args)
    before = deepcopy(networks.state_dict())
    optimizer = torch.optim.SGD(networks.parameters(), lr=1.0)
    qmix_lstm.update(networks, optimizer, padded(random_episodes(0, [5])), args)
    for name, value in networks.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("target_"), name


# The agent network


def test_the_previous_action_is_appended_one_hot_and_nothing_before_the_first_step():
    batch = padded(random_episodes(0, [2]))
    batch["actions"] = torch.tensor([[[0, 2], [1, 1]]])
    inputs = qmix_lstm.agent_inputs(batch, small_args(last_action=True))
    assert torch.equal(inputs[..., :5], batch["obs"])
    nothing = [[0, 0, 0], [0, 0, 0]]
    first = [[1, 0, 0], [0, 0, 1]]
    second = [[0, 1, 0], [0, 1, 0]]
    assert inputs[0, :, :, 5:].tolist() == [nothing, first, second]


def test_without_last_action_the_inputs_are_the_observations():
    batch = padded(random_episodes(0, [2, 4]))
    inputs = qmix_lstm.agent_inputs(batch, small_args(last_action=False))
    assert torch.equal(inputs, batch["obs"])


@with_and_without_last_action
@every_cell
def test_the_agent_network_is_a_linear_layer_a_recurrent_one_and_a_linear_one(rnn, last_action):
    agent = AgentNetwork(small_args(rnn=rnn, last_action=last_action, num_layers=2), SIZES)
    assert isinstance(agent.rnn, nn.GRU if rnn == "gru" else nn.LSTM)
    input_size = 8 if last_action else 5
    assert (agent.encoder.in_features, agent.encoder.out_features) == (input_size, 8)
    assert (agent.rnn.input_size, agent.rnn.hidden_size, agent.rnn.num_layers) == (8, 8, 2)
    assert (agent.head.in_features, agent.head.out_features) == (8, 3)


def test_a_new_agent_values_all_actions_at_0():
    agent = AgentNetwork(small_args(), SIZES)
    q, _ = agent(torch.randn(2, 4, 2, 8))
    assert not q.any()


def test_agents_and_episodes_do_not_see_each_others_pasts():
    agent = randomised(AgentNetwork(small_args(last_action=False), SIZES))
    inputs = torch.randn(3, 6, 2, 5)
    together, _ = agent(inputs)
    for b in range(3):
        for n in range(2):
            alone, _ = agent(inputs[b : b + 1, :, n : n + 1])
            torch.testing.assert_close(together[b, :, n], alone[0, :, 0])


def test_values_depend_on_the_past_and_not_on_the_future():
    agent = randomised(AgentNetwork(small_args(last_action=False), SIZES))
    inputs = torch.randn(1, 6, 2, 5)
    changed = inputs.clone()
    changed[0, 3] += 1
    same = (agent(inputs)[0] == agent(changed)[0]).all(-1).all(-1)
    assert same.tolist() == [[True, True, True, False, False, False]]


# Acting

NOTHING = (None, np.array([-1, -1]))  # what two agents remember at first
SEEN = {"obs": np.ones((2, 5), np.float32), "avail_actions": np.ones((2, 3), np.int8)}


class Recorder(nn.Module):
    """An agent that keeps the values that it gave."""

    def __init__(self, agent: AgentNetwork):
        super().__init__()
        self.agent = agent
        self.values = []

    def forward(self, inputs, hidden=None):
        q, hidden = self.agent(inputs, hidden)
        self.values.append(q[0, 0])
        return q, hidden


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
@with_and_without_last_action
@every_cell
def test_acting_step_by_step_gives_the_values_of_the_sequence(
    in_single_precision, rnn, last_action, epsilon
):
    options = {"rnn": rnn, "last_action": last_action, "start_e": epsilon, "end_e": epsilon}
    args = small_args(env_name="3m", **options)
    env = qmix_lstm.open_env(args)
    agent = Recorder(randomised(Networks(args, env).agent))
    episode, _ = qmix_lstm.collect_episode(env, agent, args, ("train", 0), 0)
    batch = {key: torch.from_numpy(array)[None] for key, array in episode.items()}
    q = agent.agent(qmix_lstm.agent_inputs(batch, args))[0][0].detach()
    assert len(agent.values) > 5
    torch.testing.assert_close(torch.stack(agent.values), q[:-1], rtol=1e-4, atol=1e-5)
    if epsilon == 0:
        best = np.where(episode["avail_actions"], q, -np.inf).argmax(-1)
        assert np.array_equal(best[:-1], episode["actions"])


@pytest.mark.parametrize("greedy", [True, False])
def test_every_episode_begins_without_a_memory(in_single_precision, monkeypatch, greedy):
    remembered = []
    act = qmix_lstm.act

    def watched(agent, observation, memory, *rest):
        hidden, last_actions = memory
        remembered.append(hidden is not None or (last_actions >= 0).any())
        return act(agent, observation, memory, *rest)

    monkeypatch.setattr(qmix_lstm, "act", watched)
    args = small_args(**TWO_STEPS)
    env = qmix_lstm.open_env(args)
    agent = Networks(args, env).agent
    for number in range(3):
        step = None if greedy else 0
        qmix_lstm.collect_episode(env, agent, args, ("train", number), step)
    assert remembered == [False, True] * 3


def test_the_memory_is_the_hidden_state_and_the_actions_just_taken(in_single_precision):
    args = small_args()
    agent = randomised(AgentNetwork(args, SIZES))
    seen = SEEN | {"avail_actions": np.array([[0, 0, 1], [1, 0, 0]], np.int8)}
    rng = np.random.default_rng(0)
    actions, (hidden, last_actions) = qmix_lstm.act(agent, seen, NOTHING, 1.0, rng, args)
    assert actions.tolist() == [2, 0]
    assert last_actions.tolist() == [2, 0]
    inputs = torch.cat((torch.ones(1, 1, 2, 5), torch.zeros(1, 1, 2, 3)), dim=-1)
    torch.testing.assert_close(hidden, agent(inputs)[1].detach())


def test_an_agent_that_explores_remembers_too(in_single_precision):
    args = small_args()
    agent = randomised(AgentNetwork(args, SIZES))
    after = []
    for epsilon in (0.0, 1.0):
        rng = np.random.default_rng(0)
        _, (hidden, _) = qmix_lstm.act(agent, SEEN, NOTHING, epsilon, rng, args)
        after.append(hidden)
    assert torch.equal(*after)


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_agents_explore_as_qmixs_do(in_single_precision, epsilon):
    args = small_args(last_action=False)
    agent = randomised(AgentNetwork(args, SIZES))
    torch.manual_seed(1)
    available = random_availability(2, 3).numpy()
    q, _ = agent(torch.ones(1, 1, 2, 5))
    rng = np.random.default_rng(0)
    same_rng = np.random.default_rng(0)

    def act(seen: dict) -> np.ndarray:
        return qmix_lstm.act(
            agent, SEEN | {"avail_actions": available}, NOTHING, epsilon, rng, args
        )[0]

    def act_in_qmix(seen: dict) -> np.ndarray:
        return qmix.act(lambda obs: obs, seen, epsilon, same_rng)

    values = q[0, 0].detach().numpy()
    actions = actions_of(act, values, available, times=50)
    assert np.array_equal(actions, actions_of(act_in_qmix, values, available, times=50))


@pytest.mark.parametrize("bootstraps", [True, False])
def test_an_episode_has_a_row_per_step_and_one_more_of_what_is_observed(
    in_single_precision, bootstraps
):
    args = small_args(env_name="3m", time_limit=5, bootstrap_truncated=bootstraps)
    env = qmix_lstm.open_env(args)
    agent = Networks(args, env).agent
    episode, _ = qmix_lstm.collect_episode(env, agent, args, ("train", 0), 0)
    rows = {"actions": 5, "reward": 5, "terminated": 5, "obs": 6, "state": 6, "avail_actions": 6}
    assert {key: len(array) for key, array in episode.items()} == rows
    assert episode["terminated"].tolist() == [0, 0, 0, 0, not bootstraps]  # time was up


# Learning


@with_and_without_last_action
@every_cell
def test_updates_bring_the_loss_of_a_batch_down(rnn, last_action):
    args = small_args(tbptt=3, rnn=rnn, last_action=last_action)
    torch.manual_seed(0)
    networks = Networks(args, SIZES)
    batch = padded(random_episodes(0, [3, 6]))
    optimizer = torch.optim.Adam([networks.theta], lr=0.01)
    losses = []
    for _ in range(150):
        losses.append(qmix_lstm.update(networks, optimizer, batch, args)["train/loss"])
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("limit", [0.01, 1e9])
def test_clip_gradients_bounds_the_norm_of_the_gradient_of_every_chunk(limit):
    args = small_args(clip_gradients=limit, tbptt=2)
    networks = random_networks(0, args)
    norms = []
    optimizer = torch.optim.SGD([networks.theta], lr=0.001)
    optimizer.register_step_pre_hook(lambda *_: norms.append(networks.theta.grad.norm().item()))
    learning = qmix_lstm.update(networks, optimizer, padded(random_episodes(1, [6, 6])), args)
    assert len(norms) == 3
    if limit < 1:
        assert norms == pytest.approx([limit] * 3, rel=1e-3)
        assert learning["train/grads"] > limit
    else:
        assert learning["train/grads"] == pytest.approx(np.mean(norms))


def test_an_update_that_is_not_finite_is_an_error():
    args = small_args()
    networks = random_networks(0, args)
    optimizer = torch.optim.SGD([networks.theta], lr=1.0)
    batch = padded(random_episodes(0, [3]))
    batch["reward"][0, 1] = torch.inf
    with pytest.raises(FloatingPointError):
        qmix_lstm.update(networks, optimizer, batch, args)


# Whole trainings


@with_and_without_last_action
@every_cell
def test_two_trainings_with_one_seed_end_with_the_same_weights(
    in_single_precision, tmp_path, rnn, last_action
):
    options = {"env_name": "3m", "time_limit": 15, "total_timesteps": 150}
    options |= {"rnn": rnn, "last_action": last_action}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(tmp_path / name, seed=seed, **options)
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    assert not equal_weights(tmp_path / "a", tmp_path / "c")


def test_evaluation_changes_nothing_of_the_training(in_single_precision, tmp_path):
    options = {"env_name": "3m", "total_timesteps": 150}
    trained(tmp_path / "often", eval_steps=1, num_eval_ep=2, **options)
    trained(tmp_path / "seldom", eval_steps=1000, **options)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_num_updates_counts_batches_whatever_their_chunks(in_single_precision, tmp_path):
    options = {"total_timesteps": 12, "batch_size": 4, "tbptt": 1, "log_every": 1}
    folder = trained(tmp_path / "run", **options, **TWO_STEPS)
    assert values_of(folder, "train/num_updates") == [0, 0, 0, 1, 2, 3]


# A game that needs memory


def greedy_return(script: str, folder: Path) -> float:
    """What the greedy team wins on average in the cue game, of at most 1; by chance 0.5."""
    options = {"env_type": "pz", "env_family": "tests.games", "env_name": "cue_game"}
    options |= {"total_timesteps": 10000, "eval_steps": 10**6, "log_every": 1000}
    options |= {"hidden_dim": 64, "hyper_dim": 64, "batch_size": 32, "buffer_size": 2000}
    options |= {"train_freq": 4, "learning_rate": 0.002, "polyak": 0.05}
    options |= {"end_e": 0.1, "exploration_fraction": 0.5, "num_eval_ep": 100}
    args = helpers.small_args(script, **options)
    return MODULES[script].train(args, folder=folder)["eval/ep_reward"]


def test_recurrent_agents_solve_the_game_that_needs_memory(in_single_precision, tmp_path):
    assert greedy_return("qmix_lstm", tmp_path / "run") >= 0.95


def test_agents_without_memory_are_left_to_chance(in_single_precision, tmp_path):
    assert greedy_return("qmix", tmp_path / "run") <= 0.65


def test_an_episode_of_recurrent_agents_is_captured_as_a_gif(tmp_path, in_single_precision):
    options = {"env_name": "3m", "time_limit": 10, "total_timesteps": 10, "capture_video": True}
    assert (trained(tmp_path / "run", **options) / "episode.gif").is_file()
