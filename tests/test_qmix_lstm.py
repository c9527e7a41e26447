"""`qmix_lstm.py`: agents that remember, sequences that are padded, and gradients that are cut every `tbptt` steps."""

from copy import deepcopy
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cleanmarl import qmix, qmix_lstm
from cleanmarl.qmix_lstm import AgentNetwork, Args, EpisodeBuffer, Memory, Networks
from tests.test_qmix import SMALL, TWO_STEPS, equal_weights, random_availability, sampled, scalars, seeds

CUE = {"env_type": "pz", "env_family": "tests.games", "env_name": "cue_game"}
SIZES = SimpleNamespace(n_agents=2, n_actions=3, obs_size=5, state_size=7)

properties = settings(deadline=None, max_examples=25, derandomize=True)
lengths_of_episodes = st.lists(st.integers(1, 7), min_size=1, max_size=4)
every_cell = pytest.mark.parametrize("rnn", ["gru", "lstm"])
with_and_without_last_action = pytest.mark.parametrize("last_action", [True, False], ids=["last_action", "obs_only"])


@pytest.fixture(autouse=True)
def in_double_precision():
    """Differences of more than a rounding error are differences."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def in_single_precision(in_double_precision):
    """As in a training."""
    torch.set_default_dtype(torch.float32)


def small_args(**options) -> Args:
    return Args(**SMALL | {"total_timesteps": 40, "batch_size": 2, "buffer_size": 20} | options)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with other weights than those that training begins with, which give 0 for everything."""
    torch.manual_seed(seed)
    for parameter in module.parameters():
        parameter.detach().normal_(std=0.5)
    return module


def random_networks(seed: int, args: Args) -> Networks:
    """Networks whose targets are not their copies."""
    return randomised(Networks(args, SIZES), seed)


def random_episode(length: int) -> dict[str, torch.Tensor]:
    """Random contents; ends by termination or truncation."""
    done = torch.zeros(length)
    done[-1] = torch.randint(2, ())
    episode = {"obs": torch.randn(length + 1, 2, 5), "states": torch.randn(length + 1, 7), "done": done}
    episode |= {"avail_actions": random_availability(length + 1, 2, 3), "reward": torch.randn(length)}
    return episode | {"actions": torch.randint(3, (length, 2))}


def padded(episodes: list[dict[str, torch.Tensor]], garbage: bool = False) -> dict[str, torch.Tensor]:
    """A batch; with `garbage`, what fills it up are not zeros but anything that could stand there."""
    lengths = torch.tensor([len(episode["reward"]) for episode in episodes])
    filler = random_episode(int(lengths.max())) if garbage else None
    batch = {"lengths": lengths}
    for key in episodes[0]:
        rows = max(len(episode[key]) for episode in episodes)
        fill = filler[key] if garbage else torch.zeros(rows, *episodes[0][key].shape[1:], dtype=episodes[0][key].dtype)
        batch[key] = torch.stack([torch.cat((episode[key], fill[len(episode[key]) :])) for episode in episodes])
    return batch


def random_episodes(seed: int, lengths: list[int]) -> list[dict[str, torch.Tensor]]:
    torch.manual_seed(seed)
    return [random_episode(length) for length in lengths]


# A plain learner: one episode, one step and one agent at a time


def plain_inputs(episode, args: Args) -> torch.Tensor:
    """[T + 1, n_agents, input_size]"""
    if not args.last_action:
        return episode["obs"]
    previous = torch.zeros(*episode["obs"].shape[:2], 3)
    for t, actions in enumerate(episode["actions"]):
        for agent, action in enumerate(actions):
            previous[t + 1, agent, action] = 1
    return torch.cat((episode["obs"], previous), dim=-1)


def plain_q(agent: AgentNetwork, inputs: torch.Tensor, hidden=None):
    """Action values of every step, [T, n_agents, n_actions], from one step after the other; and the memory after it."""
    steps = []
    for step in inputs:
        q, hidden = agent(step[None, None], hidden)
        steps.append(q[0, 0])
    return torch.stack(steps), hidden


@torch.no_grad()
def plain_target(networks: Networks, episode, args: Args) -> torch.Tensor:
    """[T], by a loop over steps and agents; hidden states begin with the episode."""
    inputs = plain_inputs(episode, args)
    target_q, q = plain_q(networks.target_agent, inputs)[0], plain_q(networks.agent, inputs)[0]
    values = []
    for t in range(1, len(inputs)):
        chosen = []
        for agent in range(2):
            available = [a for a in range(3) if episode["avail_actions"][t, agent, a]]
            best = max(available, key=lambda a: (q if args.double_q else target_q)[t, agent, a])
            chosen.append(target_q[t, agent, best])
        values.append(networks.target_mixer(torch.stack(chosen)[None], episode["states"][t][None])[0])
    lengths = torch.tensor([len(values)])
    columns = episode["reward"], episode["done"], torch.stack(values), lengths
    return qmix.td_target(*columns, args.gamma, args.td_lambda)


def plain_update(networks: Networks, optimizer, episodes, args: Args) -> dict[str, float]:
    """What `update` is to do, with its results, by single steps."""
    targets = [plain_target(networks, episode, args) for episode in episodes]
    memories, losses, norms = [None] * len(episodes), [], []
    for begin in range(0, max(len(target) for target in targets), args.tbptt):
        errors = []
        for i, (episode, target) in enumerate(zip(episodes, targets, strict=True)):
            chunk = slice(begin, min(begin + args.tbptt, len(target)))
            if begin >= len(target):
                continue
            q, hidden = plain_q(networks.agent, plain_inputs(episode, args)[chunk], memories[i])
            memories[i] = hidden.detach() if args.rnn == "gru" else tuple(part.detach() for part in hidden)
            q = q.gather(-1, episode["actions"][chunk].unsqueeze(-1)).squeeze(-1)
            errors.append(networks.mixer(q, episode["states"][chunk]) - target[chunk])
        loss = torch.cat(errors).square().mean()
        networks.theta.grad.zero_()
        loss.backward()
        gradient = networks.theta.grad
        optimizer.step()
        losses.append(loss.item())
        norms.append(gradient.norm().item())
    return {"train/loss": np.mean(losses), "train/grads": np.mean(norms)}


def assert_same_update(seed: int, lengths: list[int], args: Args, learning_rate: float):
    networks, episodes = random_networks(seed, args), random_episodes(seed + 1, lengths)
    plain = random_networks(seed, args)  # the same once more
    descent = (torch.optim.SGD([some.theta], lr=learning_rate) for some in (networks, plain))
    results = qmix_lstm.update(networks, next(descent), padded(episodes), args)
    expected = plain_update(plain, next(descent), episodes, args)
    assert {name: value.item() for name, value in results.items()} == pytest.approx(expected, rel=1e-5)
    for name, parameter in networks.named_parameters():
        torch.testing.assert_close(parameter, plain.get_parameter(name), rtol=1e-6, atol=1e-8)


cells = st.sampled_from(["gru", "lstm"])


@properties
@given(seeds.map(lambda seed: seed // 2), lengths_of_episodes, cells, st.booleans(), st.sampled_from([7, 10, 100]))
def test_tbptt_of_an_episodes_length_or_more_is_full_backpropagation_through_time(
    seed, lengths, rnn, last_action, tbptt
):
    """A step of descent with rate 1 is the gradient of the whole episodes' loss."""
    assert_same_update(seed, lengths, small_args(tbptt=tbptt, rnn=rnn, last_action=last_action), learning_rate=1.0)


@properties
@given(seeds.map(lambda seed: seed // 2), lengths_of_episodes, cells, st.integers(1, 6))
def test_a_smaller_tbptt_cuts_gradients_between_chunks_and_carries_the_hidden_state(seed, lengths, rnn, tbptt):
    assert_same_update(seed, lengths, small_args(tbptt=tbptt, rnn=rnn), learning_rate=0.01)


@properties
@given(seeds.map(lambda seed: seed // 2), lengths_of_episodes, st.integers(1, 8), st.booleans(), st.floats(0, 1))
def test_an_update_is_the_plain_learners_with_every_target(seed, lengths, tbptt, double_q, td_lambda):
    args = small_args(tbptt=tbptt, double_q=double_q, td_lambda=td_lambda, num_layers=2)
    assert_same_update(seed, lengths, args, learning_rate=0.01)


# Chunks


def counted_update(lengths, **options) -> tuple[list[int], list, Networks]:
    """An update without any change of weights: the optimizer's steps, what `chunk_loss` got, and the networks."""
    args = small_args(**options)
    networks, steps, calls, chunk_loss = random_networks(0, args), [], [], qmix_lstm.chunk_loss
    optimizer = torch.optim.SGD([networks.theta], lr=0.0)
    optimizer.register_step_post_hook(lambda *_: steps.append(len(calls)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qmix_lstm, "chunk_loss", lambda *args: calls.append(args) or chunk_loss(*args))
        qmix_lstm.update(networks, optimizer, padded(random_episodes(1, lengths)), args)
    return steps, calls, networks


@pytest.mark.parametrize(("tbptt", "chunks"), [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (50, 1)])
def test_the_optimizer_steps_once_per_chunk_of_the_longest_episode(tbptt, chunks):
    steps, _, _ = counted_update([2, 7, 4], tbptt=tbptt)
    assert steps == list(range(1, chunks + 1))


@every_cell
def test_the_hidden_state_before_a_chunk_is_that_of_the_whole_sequence_without_its_gradient(rnn):
    _, calls, networks = counted_update([7, 7], tbptt=3, rnn=rnn)
    (_, _, inputs, _, _, first, begins_with), *others = calls
    assert (first, begins_with) == (slice(0, 3), None)
    assert [call[5] for call in others] == [slice(3, 6), slice(6, 7)]
    for _, _, _, _, _, chunk, hidden in others:
        _, expected = networks.agent(inputs[:, : chunk.start])
        parts = ((hidden,), (expected,)) if rnn == "gru" else (hidden, expected)
        for part, expected_part in zip(*parts, strict=True):
            assert not part.requires_grad
            torch.testing.assert_close(part, expected_part)


def test_what_came_before_a_chunk_gets_no_gradient_from_it():
    _, calls, networks = counted_update([6], tbptt=3)
    _, batch, inputs, target, real, chunk, hidden = calls[1]
    inputs = inputs.clone().requires_grad_()
    qmix_lstm.chunk_loss(networks, batch, inputs, target, real, chunk, hidden)[0].backward()
    assert (inputs.grad[:, :3] == 0).all()
    assert (inputs.grad[:, 3:].abs().amax((0, 2, 3)) > 0).all()


def test_within_a_chunk_the_gradient_reaches_its_first_step():
    args = small_args()
    networks, batch = random_networks(0, args), padded(random_episodes(1, [6]))
    inputs = qmix_lstm.agent_inputs(batch, args).requires_grad_()
    q, _ = networks.agent(inputs)
    q[0, 5].sum().backward()
    assert (inputs.grad[0, :6].abs().amax((1, 2)) > 0).all()
    assert (inputs.grad[0, 6] == 0).all()


def test_whole_chunks_go_through_the_recurrent_layer_at_once():
    args, lengths = small_args(tbptt=4), []
    networks = random_networks(0, args)
    networks.agent.rnn.register_forward_hook(lambda module, inputs, _: lengths.append(inputs[0].shape[1]))
    optimizer = torch.optim.SGD([networks.theta], lr=0.1)
    qmix_lstm.update(networks, optimizer, padded(random_episodes(1, [10, 3])), args)
    assert lengths == [4, 4, 2]


# Padding


def losses_of(networks: Networks, batch, args: Args) -> torch.Tensor:
    """The loss of whole episodes as one chunk."""
    n_steps = int(batch["lengths"].max())
    real = torch.arange(n_steps) < batch["lengths"][:, None]
    target = qmix_lstm.episode_targets(networks, batch, args, real)
    inputs = qmix_lstm.agent_inputs(batch, args)[:, :-1]
    return qmix_lstm.chunk_loss(networks, batch, inputs, target, real, slice(0, n_steps), None)[0]


@properties
@given(seeds, lengths_of_episodes, cells, st.booleans(), st.floats(0, 1))
def test_an_episode_adds_the_same_to_the_loss_alone_and_beside_longer_ones(seed, lengths, rnn, double_q, td_lambda):
    args = small_args(rnn=rnn, double_q=double_q, td_lambda=td_lambda)
    networks, episodes = random_networks(seed, args), random_episodes(seed + 1, lengths)
    with torch.no_grad():
        together = losses_of(networks, padded(episodes), args)
        alone = [losses_of(networks, padded([episode]), args) for episode in episodes]
    weighed = sum(length * loss for length, loss in zip(lengths, alone, strict=True)) / sum(lengths)
    torch.testing.assert_close(together, weighed)


@pytest.mark.parametrize("tbptt", [2, 3, 10])
@every_cell
def test_what_stands_in_the_padding_changes_nothing(rnn, tbptt):
    args = small_args(rnn=rnn, tbptt=tbptt, normalize_reward=True, td_lambda=0.5, double_q=True)
    episodes, updated = random_episodes(0, [2, 7, 5]), []
    for garbage in (False, True):
        networks = random_networks(1, args)
        optimizer = torch.optim.Adam([networks.theta], lr=0.01)
        qmix_lstm.update(networks, optimizer, padded(episodes, garbage), args)
        updated.append(networks)
    for name, parameter in updated[0].named_parameters():
        torch.testing.assert_close(parameter, updated[1].get_parameter(name), rtol=1e-9, atol=1e-12)


def test_normalize_reward_standardises_the_rewards_of_real_steps():
    args = small_args(normalize_reward=True, gamma=0.0)
    batch = padded(random_episodes(0, [2, 6]))
    real = torch.arange(6) < batch["lengths"][:, None]
    target = qmix_lstm.episode_targets(random_networks(0, args), batch, args, real)
    rewards = batch["reward"][real]
    expected = (rewards - rewards.mean()) / rewards.std(correction=0)
    torch.testing.assert_close(target[real], expected, rtol=1e-6, atol=1e-6)


def numbered_episode(number: int, length: int) -> dict[str, np.ndarray]:
    """An episode whose step t is marked 100 number + t."""
    marks = 100 * number + np.arange(length + 1, dtype=np.float32)
    return {"reward": marks[:-1], "actions": np.ones((length, 2), int), "obs": np.tile(marks[:, None, None], (1, 2, 3))}


@properties
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_a_sample_is_whole_different_episodes_padded_with_zeros(seed, lengths, data):
    buffer = EpisodeBuffer(10)
    for number, length in enumerate(lengths, start=1):
        buffer.store(numbered_episode(number, length))
    batch = sampled(buffer, data.draw(st.integers(1, len(lengths))), seed)
    longest, chosen = int(batch["lengths"].max()), []
    assert batch["obs"].shape[1:] == (longest + 1, 2, 3)
    assert batch["reward"].shape[1:] == (longest,)
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
    assert {int(sampled(buffer, 1, seed)["reward"]) for seed in range(30)} == {200, 300, 400}


# Targets


def targets_of(networks, episodes, args) -> list[torch.Tensor]:
    batch = padded(episodes)
    real = torch.arange(int(batch["lengths"].max())) < batch["lengths"][:, None]
    target = qmix_lstm.episode_targets(networks, batch, args, real)
    return [row[:length] for row, length in zip(target, batch["lengths"], strict=True)]


@pytest.mark.parametrize("td_lambda", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("double_q", [False, True])
@every_cell
def test_targets_come_from_target_networks_run_from_the_first_step(rnn, double_q, td_lambda):
    args = small_args(rnn=rnn, double_q=double_q, td_lambda=td_lambda, tbptt=2)  # chunks do not matter to targets
    networks, episodes = random_networks(3, args), random_episodes(4, [1, 6, 3])
    for target, episode in zip(targets_of(networks, episodes, args), episodes, strict=True):
        torch.testing.assert_close(target, plain_target(networks, episode, args), rtol=1e-5, atol=1e-5)


def test_the_network_has_a_say_in_the_targets_only_with_double_q():
    episodes = random_episodes(0, [7] * 4)
    for double_q in (False, True):
        args = small_args(double_q=double_q)
        networks = random_networks(1, args)
        before = torch.stack(targets_of(networks, episodes, args))
        networks.theta.detach().normal_()
        assert torch.equal(torch.stack(targets_of(networks, episodes, args)), before) != double_q


def test_the_td_targets_are_qmixs():
    torch.manual_seed(0)
    reward, done, value = torch.randn(9), torch.tensor([0.0, 1, 0, 0, 0, 0, 0, 0, 1]), torch.randn(9)
    for td_lambda in (0.0, 0.5, 1.0):
        arguments = reward, done, value, torch.tensor([2, 4, 3]), 0.9, td_lambda
        assert torch.equal(qmix_lstm.td_target(*arguments), qmix.td_target(*arguments))


def test_no_gradient_reaches_the_target_networks():
    args = small_args(double_q=True)
    networks = random_networks(0, args)
    before = deepcopy(networks)
    qmix_lstm.update(networks, torch.optim.SGD(networks.parameters(), lr=1.0), padded(random_episodes(0, [5])), args)
    for name, parameter in networks.named_parameters():
        assert torch.equal(parameter, before.get_parameter(name)) == name.startswith("target_"), name


# The agent


def test_the_previous_action_is_appended_one_hot_and_nothing_before_the_first_step():
    batch = padded(random_episodes(0, [2]))
    batch["actions"] = torch.tensor([[[0, 2], [1, 1]]])
    inputs = qmix_lstm.agent_inputs(batch, small_args(last_action=True))
    assert torch.equal(inputs[..., :5], batch["obs"])
    nothing, first, second = [[0, 0, 0], [0, 0, 0]], [[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]
    assert inputs[0, :, :, 5:].tolist() == [nothing, first, second]


def test_without_last_action_the_inputs_are_the_observations():
    batch = padded(random_episodes(0, [2, 4]))
    assert torch.equal(qmix_lstm.agent_inputs(batch, small_args(last_action=False)), batch["obs"])


@with_and_without_last_action
@every_cell
def test_the_agent_network_is_a_linear_layer_a_recurrent_one_and_a_linear_one(rnn, last_action):
    agent = AgentNetwork(5, 3, small_args(rnn=rnn, last_action=last_action, num_layers=2))
    kinds = {nn.Linear: 2, nn.GRU if rnn == "gru" else nn.LSTM: 1}
    assert {kind: sum(isinstance(module, kind) for module in agent.modules()) for kind in kinds} == kinds
    assert (agent.encoder.in_features, agent.encoder.out_features) == (5 + 3 * last_action, 8)
    assert (agent.rnn.input_size, agent.rnn.hidden_size, agent.rnn.num_layers) == (8, 8, 2)
    assert (agent.head.in_features, agent.head.out_features) == (8, 3)


def test_agents_and_episodes_do_not_see_each_others_pasts():
    agent, inputs = randomised(AgentNetwork(5, 3, small_args(last_action=False))), torch.randn(3, 6, 2, 5)
    together, _ = agent(inputs)
    for b in range(3):
        for n in range(2):
            alone, _ = agent(inputs[b : b + 1, :, n : n + 1])
            torch.testing.assert_close(together[b, :, n], alone[0, :, 0])


def test_values_depend_on_the_past_and_not_on_the_future():
    agent, inputs = randomised(AgentNetwork(5, 3, small_args(last_action=False))), torch.randn(1, 6, 2, 5)
    changed = inputs.clone()
    changed[0, 3] += 1
    same = (agent(inputs)[0] == agent(changed)[0]).all(-1).all(-1)
    assert same.tolist() == [[True, True, True, False, False, False]]


# Acting


class Recorder(nn.Module):
    """An agent that remembers the values that it gave."""

    def __init__(self, agent: AgentNetwork):
        super().__init__()
        self.agent, self.values = agent, []

    def forward(self, inputs, hidden=None):
        q, hidden = self.agent(inputs, hidden)
        self.values.append(q[0, 0])
        return q, hidden


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
@with_and_without_last_action
@every_cell
def test_acting_step_by_step_gives_the_values_of_the_sequence(in_single_precision, rnn, last_action, epsilon):
    args = small_args(env_name="3m", rnn=rnn, last_action=last_action, start_e=epsilon, end_e=epsilon)
    env = qmix_lstm.open_env(args)
    agent = Recorder(randomised(Networks(args, env).agent))
    episode, _ = qmix_lstm.collect_episode(env, agent, args, 0, 0)
    batch = {key: torch.from_numpy(value)[None] for key, value in episode.items()}
    q, _ = agent.agent(qmix_lstm.agent_inputs(batch, args))
    assert len(agent.values) == len(episode["reward"]) > 5
    torch.testing.assert_close(torch.stack(agent.values), q[0, :-1], rtol=1e-4, atol=1e-5)
    if epsilon == 0:
        q = np.where(episode["avail_actions"], q[0].detach(), -np.inf)
        assert np.array_equal(q.argmax(-1)[:-1], episode["actions"])


def memories(monkeypatch, play) -> list[Memory | None]:
    """What `act` was given while something is played."""
    given, act = [], qmix_lstm.act

    def remember(agent, observation, memory, *rest):
        given.append(memory)
        return act(agent, observation, memory, *rest)

    monkeypatch.setattr(qmix_lstm, "act", remember)
    play()
    return given


def test_every_episode_of_training_and_evaluation_begins_without_a_memory(in_single_precision, monkeypatch):
    args = small_args(num_eval_ep=3, **TWO_STEPS)
    env = qmix_lstm.open_env(args)
    agent = Networks(args, env).agent

    def collect():
        for number in range(3):
            qmix_lstm.collect_episode(env, agent, args, number, 0)

    for play in (collect, lambda: qmix_lstm.evaluate(env, agent, args, 0)):
        given = memories(monkeypatch, play)
        assert [memory is None for memory in given] == [True, False] * 3
        monkeypatch.undo()


def test_the_memory_holds_the_hidden_state_and_the_actions_just_taken(in_single_precision):
    args = small_args()
    agent = AgentNetwork(5, 3, args)
    observation = {"obs": np.ones((2, 5), np.float32), "avail_actions": np.array([[0, 0, 1], [1, 0, 0]], np.int8)}
    actions, memory = qmix_lstm.act(agent, observation, None, 1.0, np.random.default_rng(0), args)
    assert actions.tolist() == [2, 0]
    assert memory.last_actions.tolist() == [2, 0]
    _, hidden = agent(torch.cat((torch.ones(1, 1, 2, 5), torch.zeros(1, 1, 2, 3)), dim=-1))
    torch.testing.assert_close(memory.hidden, hidden)


def test_an_agent_that_explores_remembers_too(in_single_precision):
    args = small_args()
    agent = AgentNetwork(5, 3, args)
    observation = {"obs": np.ones((2, 5), np.float32), "avail_actions": np.ones((2, 3), np.int8)}
    after = [
        qmix_lstm.act(agent, observation, None, epsilon, np.random.default_rng(0), args)[1] for epsilon in (0.0, 1.0)
    ]
    assert torch.equal(after[0].hidden, after[1].hidden)


def actions_of(available, epsilon, times=3000) -> np.ndarray:
    args, rng = small_args(), np.random.default_rng(0)
    agent = randomised(AgentNetwork(5, len(available[0]), args))
    observation = {"obs": np.ones((len(available), 5), np.float32), "avail_actions": np.array(available, np.int8)}
    return np.stack([qmix_lstm.act(agent, observation, None, epsilon, rng, args)[0] for _ in range(times)])


def test_with_epsilon_1_actions_are_uniform_over_the_available_ones(in_single_precision):
    actions = actions_of([[1, 1, 0, 1], [0, 1, 1, 0]], 1.0)
    frequencies = [np.bincount(agent, minlength=4) / len(agent) for agent in actions.T]
    assert frequencies[0] == pytest.approx([1 / 3, 1 / 3, 0, 1 / 3], abs=0.03)
    assert frequencies[1] == pytest.approx([0, 1 / 2, 1 / 2, 0], abs=0.03)


@pytest.mark.parametrize("bootstraps", [True, False])
def test_an_episode_has_a_row_per_step_and_one_more_of_what_is_observed(in_single_precision, bootstraps):
    args = small_args(env_name="3m", time_limit=5, bootstrap_truncated=bootstraps)
    env = qmix_lstm.open_env(args)
    episode, _ = qmix_lstm.collect_episode(env, Networks(args, env).agent, args, 0, 0)
    rows = {"actions": 5, "reward": 5, "done": 5, "obs": 6, "states": 6, "avail_actions": 6}
    assert {key: len(array) for key, array in episode.items()} == rows
    assert episode["done"].tolist() == [0] * 4 + [not bootstraps]  # time was up


# Whole trainings


def trained(folder: Path, **options) -> dict[str, float]:
    folder.mkdir(parents=True, exist_ok=True)
    args = small_args(**options)
    return qmix_lstm.train(args, qmix_lstm.open_env(args), qmix_lstm.open_env(args), folder, Event())


@with_and_without_last_action
@every_cell
def test_two_trainings_with_one_seed_end_with_the_same_weights(in_single_precision, tmp_path, rnn, last_action):
    options = {"env_name": "3m", "time_limit": 15, "total_timesteps": 150, "rnn": rnn, "last_action": last_action}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(tmp_path / name, seed=seed, **options)
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    assert not equal_weights(tmp_path / "a", tmp_path / "c")


def test_evaluation_changes_nothing_of_the_training(in_single_precision, tmp_path):
    trained(tmp_path / "often", env_name="3m", total_timesteps=150, eval_steps=1, num_eval_ep=2)
    trained(tmp_path / "seldom", env_name="3m", total_timesteps=150, eval_steps=1000, num_eval_ep=1)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_num_updates_counts_batches_whatever_their_chunks(in_single_precision, tmp_path):
    trained(tmp_path, total_timesteps=12, batch_size=4, tbptt=1, log_every=1, **TWO_STEPS)
    assert [value for _, value in scalars(tmp_path)["train/num_updates"]] == [0, 0, 0, 1, 2, 3]


@with_and_without_last_action
@every_cell
def test_updates_bring_the_loss_of_a_batch_down(rnn, last_action):
    args = small_args(learning_rate=0.01, tbptt=3, rnn=rnn, last_action=last_action)
    torch.manual_seed(0)
    networks, batch = Networks(args, SIZES), padded(random_episodes(0, [3, 6]))
    optimizer = torch.optim.Adam([networks.theta], lr=args.learning_rate)
    losses = [qmix_lstm.update(networks, optimizer, batch, args)["train/loss"].item() for _ in range(150)]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("limit", [0.01, 1e9])
def test_clip_gradients_bounds_the_norm_of_the_gradient_of_every_chunk(limit):
    args = small_args(clip_gradients=limit, tbptt=2)
    networks, norms = random_networks(0, args), []

    def measure(*_):
        norms.append(networks.theta.grad.norm().item())

    optimizer = torch.optim.SGD([networks.theta], lr=0.001)
    optimizer.register_step_pre_hook(measure)
    results = qmix_lstm.update(networks, optimizer, padded(random_episodes(1, [6, 6])), args)
    assert len(norms) == 3
    if limit < 1:
        assert norms == pytest.approx([limit] * 3, rel=1e-3)
        assert results["train/grads"] > limit
    else:
        assert results["train/grads"].item() == pytest.approx(np.mean(norms))


# A game that needs memory


def greedy_return(script, folder: Path, **options) -> float:
    """What the greedy team wins on average in the cue game after training, of at most 1; by chance 0.5."""
    learning = {"hidden_dim": 64, "hyper_dim": 64, "batch_size": 32, "buffer_size": 2000, "train_freq": 4}
    learning |= {"learning_rate": 0.002, "polyak": 0.05, "end_e": 0.1, "exploration_fraction": 0.5, "num_eval_ep": 100}
    args = script.Args(**CUE | learning | {"total_timesteps": 10000, "eval_steps": 10**6, "log_every": 1000} | options)
    return script.train(args, script.open_env(args), script.open_env(args), folder, Event())["eval/ep_reward"]


def test_recurrent_agents_solve_the_game_that_needs_memory(in_single_precision, tmp_path):
    assert greedy_return(qmix_lstm, tmp_path) >= 0.95


def test_agents_without_memory_are_left_to_chance(in_single_precision, tmp_path):
    assert greedy_return(qmix, tmp_path) <= 0.65
