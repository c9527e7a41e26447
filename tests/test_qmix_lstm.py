"""`qmix_lstm.py`: agents that remember, sequences, gradients cut every `tbptt` steps."""

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
from cleanmarl.training import acting
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
    """Use double precision: differences must be no more than rounding errors."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def in_single_precision(in_double_precision):
    """Use single precision, as a training does."""
    torch.set_default_dtype(torch.float32)


def small_args(**options) -> Args:
    return helpers.small_args("qmix_lstm", **options)


def trained(folder: Path, **options) -> Path:
    return helpers.trained("qmix_lstm", folder, **options)


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with random weights: with those of a new module, values are 0."""
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


def end_to_end(episodes: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """A batch of these episodes, the longest first."""
    episodes = sorted(episodes, key=lambda one: len(one["reward"]), reverse=True)
    batch = {key: torch.cat([one[key] for one in episodes]) for key in episodes[0]}
    return batch | {"lengths": torch.tensor([len(one["reward"]) for one in episodes])}


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


def plain_q(agent: AgentNetwork, inputs: torch.Tensor, tbptt: int = 100) -> torch.Tensor:
    """Action values [T + 1, n_agents, n_actions], step by step; gradients cut every `tbptt`."""
    values = []
    hidden = None
    for t, step in enumerate(inputs):
        if t % tbptt == 0:
            hidden = without_gradient(hidden)
        q, hidden = agent(step[None], hidden)
        values.append(q[0])
    return torch.stack(values)


def without_gradient(hidden):
    if isinstance(hidden, tuple):
        return tuple(part.detach() for part in hidden)
    return hidden if hidden is None else hidden.detach()


@torch.no_grad()
def plain_target(networks: Networks, episode: dict, args: Args) -> torch.Tensor:
    """[T], by a loop over steps and agents; hidden states begin with the episode."""
    inputs = plain_inputs(episode, args)
    target_q = plain_q(networks.target_agent, inputs)
    q = plain_q(networks.agent, inputs)
    choosing_q = q if args.double_q else target_q
    values, taken = [], []
    for t, actions in enumerate(episode["actions"]):
        chosen = target_q[t].gather(-1, actions.unsqueeze(-1)).squeeze(-1)
        taken.append(networks.target_mixer(chosen[None], episode["state"][t][None])[0])
    for t in range(1, len(inputs)):
        chosen = []
        for agent in range(2):
            available = np.flatnonzero(episode["avail_actions"][t, agent])
            best = max(available, key=lambda a, at=(t, agent): choosing_q[(*at, a)])
            chosen.append(target_q[t, agent, best])
        q_tot = networks.target_mixer(torch.stack(chosen)[None], episode["state"][t][None])
        values.append(q_tot[0])
    columns = (episode["reward"], episode["terminated"], torch.stack(taken), torch.stack(values))
    return qmix.td_target(*columns, torch.tensor([len(values)]), args.gamma, args.td_lambda)


def plain_loss(networks: Networks, episodes: list[dict], args: Args) -> torch.Tensor:
    """The value that `qmix_loss` must return, computed step by step."""
    errors = []
    for episode in episodes:
        target = plain_target(networks, episode, args)
        q = plain_q(networks.agent, plain_inputs(episode, args), args.tbptt)
        q = q[:-1].gather(-1, episode["actions"].unsqueeze(-1)).squeeze(-1)
        errors.append(networks.mixer(q, episode["state"][:-1]) - target)
    return torch.cat(errors).square().mean()


def assert_same_loss_and_gradient(seed: int, lengths: list[int], args: Args):
    episodes = random_episodes(seed + 1, lengths)
    networks = random_networks(seed, args)
    gradients = []
    losses = []
    for loss in (
        qmix_lstm.qmix_loss(networks, end_to_end(episodes), args)[0],
        plain_loss(networks, episodes, args),
    ):
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, networks.learned()))
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-8)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


@properties
@given(seeds, lengths_of_episodes, cells, st.booleans(), st.sampled_from([8, 10, 50]))
def test_tbptt_of_an_episodes_length_or_more_is_full_backpropagation_through_time(
    seed, lengths, rnn, last_action, tbptt
):
    args = small_args(tbptt=tbptt, rnn=rnn, last_action=last_action)
    assert_same_loss_and_gradient(seed, lengths, args)


@properties
@given(seeds, lengths_of_episodes, cells, st.integers(1, 6), st.integers(1, 2))
def test_a_smaller_tbptt_cuts_gradients_between_pieces_and_carries_the_hidden_state(
    seed, lengths, rnn, tbptt, num_layers
):
    args = small_args(tbptt=tbptt, rnn=rnn, num_layers=num_layers)
    assert_same_loss_and_gradient(seed, lengths, args)


@properties
@given(seeds, lengths_of_episodes, st.integers(1, 8), st.booleans(), st.floats(0, 1))
def test_the_loss_is_the_plain_learners_with_every_target(
    seed, lengths, tbptt, double_q, td_lambda
):
    args = small_args(tbptt=tbptt, double_q=double_q, td_lambda=td_lambda)
    assert_same_loss_and_gradient(seed, lengths, args)


@pytest.mark.parametrize(
    ("tbptt", "reached"), [(1, [5]), (3, [3, 4, 5]), (4, [4, 5]), (6, range(6))]
)
@every_cell
def test_the_gradient_of_a_value_reaches_the_first_step_of_its_piece(rnn, tbptt, reached):
    args = small_args(tbptt=tbptt, rnn=rnn)
    agent = random_networks(0, args).agent
    inputs = torch.randn(7, 2, 8, requires_grad=True)
    q = qmix_lstm.run_agents(agent, inputs, torch.tensor([6]), tbptt)
    q[5].sum().backward()
    has_gradient = inputs.grad.abs().amax((1, 2)) > 0
    assert has_gradient.nonzero().flatten().tolist() == list(reached)


def test_the_recurrent_layer_runs_pieces_together_and_skips_ended_episodes():
    args = small_args(tbptt=4)
    networks = random_networks(0, args)
    shapes = []
    networks.agent.rnn.register_forward_hook(lambda _, x, __: shapes.append(x[0].shape[:2]))
    batch = end_to_end(random_episodes(1, [10, 3, 5]))
    qmix_lstm.qmix_loss(networks, batch, args)
    # 11, 6 and 4 observations of 2 agents: 3 first pieces, 2 second ones, 1 third one
    # The first pieces; without gradients, the second ones; the second and the third ones together
    assert shapes == [(4, 6), (4, 2), (4, 6)]


@properties
@given(seeds, lengths_of_episodes, cells, st.integers(1, 8))
def test_an_episodes_values_are_the_same_alone_and_in_a_batch(seed, lengths, rnn, tbptt):
    args = small_args(rnn=rnn, tbptt=tbptt)
    agent = random_networks(seed, args).agent
    batch = end_to_end(random_episodes(seed + 1, lengths))
    inputs = qmix_lstm.agent_inputs(batch, args)
    together = qmix_lstm.run_agents(agent, inputs, batch["lengths"], tbptt)
    begin = 0
    for length in batch["lengths"].tolist():
        rows = slice(begin, begin + length + 1)
        begin = rows.stop
        torch.testing.assert_close(together[rows], plain_q(agent, inputs[rows]))


def test_normalize_reward_standardises_the_rewards_of_the_batch():
    args = small_args(normalize_reward=True, gamma=0.0)
    batch = end_to_end(random_episodes(0, [2, 6]))
    networks = random_networks(0, args)
    reward = batch["reward"]
    same = batch | {"reward": (reward - reward.mean()) / reward.std(correction=0)}
    loss, _ = qmix_lstm.qmix_loss(networks, batch, args)
    expected, _ = qmix_lstm.qmix_loss(networks, same, small_args(gamma=0.0))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


# The buffer


@properties
@given(seeds, st.lists(st.integers(1, 6), min_size=1, max_size=8), st.data())
def test_a_sample_is_whole_different_episodes_end_to_end_the_longest_first(number, lengths, data):
    buffer = EpisodeBuffer(10)
    for i, length in enumerate(lengths, start=1):
        buffer.store(numbered_episode(i, length))
    batch_size = data.draw(st.integers(1, len(lengths)))
    batch = buffer.sample(small_args(batch_size=batch_size), number)
    assert len(batch["lengths"]) == batch_size
    assert batch["lengths"].tolist() == sorted(batch["lengths"].tolist(), reverse=True)
    begins = batch["lengths"].cumsum(0) - batch["lengths"]
    chosen = [int(batch["reward"][begin]) // 100 for begin in begins]
    assert len(set(chosen)) == len(chosen)
    episodes = [numbered_episode(i, lengths[i - 1]) for i in chosen]
    for key in episodes[0]:
        expected = np.concatenate([episode[key] for episode in episodes])
        assert batch[key].dtype == torch.from_numpy(expected).dtype
        assert np.array_equal(batch[key], expected)


def test_a_full_buffer_drops_its_oldest_episodes():
    buffer = EpisodeBuffer(3)
    for number in range(5):
        buffer.store(numbered_episode(number, 1))
    args = small_args(batch_size=1)
    sampled = {buffer.sample(args, number)["reward"].item() for number in range(30)}
    assert sampled == {200, 300, 400}


# Targets


@pytest.mark.parametrize("double_q", [False, True])
def test_the_network_affects_the_targets_only_with_double_q(double_q):
    args = small_args(double_q=double_q)
    networks = random_networks(1, args)
    targets = []

    def td_target(*columns):
        targets.append(qmix.td_target(*columns))
        return targets[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qmix_lstm, "td_target", td_target)
        for _ in range(2):
            qmix_lstm.qmix_loss(networks, end_to_end(random_episodes(0, [7] * 4)), args)
            randomised(networks.agent, seed=2)
    assert torch.equal(*targets) != double_q


def test_no_gradient_reaches_the_target_networks():
    args = small_args(double_q=True)
    networks = random_networks(0, args)
    before = deepcopy(dict(networks.named_parameters()))
    optimizer = torch.optim.SGD(networks.parameters(), lr=1.0)
    qmix_lstm.update(networks, optimizer, end_to_end(random_episodes(0, [5])), args)
    for name, value in networks.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("target_"), name


# The agent network


def test_the_previous_action_is_appended_one_hot_and_zeros_before_the_first_step():
    batch = end_to_end(random_episodes(0, [2, 1]))
    batch["actions"] = torch.tensor([[0, 2], [1, 1], [2, 2]])
    inputs = qmix_lstm.agent_inputs(batch, small_args(last_action=True))
    assert torch.equal(inputs[..., :5], batch["obs"])
    nothing = [[0, 0, 0], [0, 0, 0]]
    first = [[1, 0, 0], [0, 0, 1]]
    second = [[0, 1, 0], [0, 1, 0]]
    of_the_other = [[0, 0, 1], [0, 0, 1]]
    assert inputs[..., 5:].tolist() == [nothing, first, second, nothing, of_the_other]


def test_without_last_action_the_inputs_are_the_observations():
    batch = end_to_end(random_episodes(0, [2, 4]))
    inputs = qmix_lstm.agent_inputs(batch, small_args(last_action=False))
    assert torch.equal(inputs, batch["obs"])


@with_and_without_last_action
@every_cell
def test_the_agent_network_is_a_linear_layer_a_recurrent_one_and_a_linear_one(rnn, last_action):
    agent = AgentNetwork(small_args(rnn=rnn, last_action=last_action, num_layers=2), SIZES)
    assert isinstance(agent.rnn, nn.GRU if rnn == "gru" else nn.LSTM)
    input_size = 8 if last_action else 5
    encoder, relu = agent.encoder
    assert (encoder.in_features, encoder.out_features) == (input_size, 8)
    assert isinstance(relu, nn.ReLU)
    assert (agent.rnn.input_size, agent.rnn.hidden_size, agent.rnn.num_layers) == (8, 8, 2)
    assert (agent.head.in_features, agent.head.out_features) == (8, 3)


def test_a_new_agent_values_all_actions_at_0():
    q, _ = AgentNetwork(small_args(), SIZES)(torch.randn(4, 2, 8))
    assert not q.any()


def test_rows_do_not_depend_on_each_others_pasts():
    agent = randomised(AgentNetwork(small_args(last_action=False), SIZES))
    inputs = torch.randn(6, 4, 5)
    together, _ = agent(inputs)
    for row in range(4):
        alone, _ = agent(inputs[:, row : row + 1])
        torch.testing.assert_close(together[:, row], alone[:, 0])


def test_values_depend_on_the_past_and_not_on_the_future():
    agent = randomised(AgentNetwork(small_args(last_action=False), SIZES))
    inputs = torch.randn(6, 2, 5)
    changed = inputs.clone()
    changed[3] += 1
    same = (agent(inputs)[0] == agent(changed)[0]).all(-1).all(-1)
    assert same.tolist() == [True, True, True, False, False, False]


# Acting

NOTHING = (None, np.array([-1, -1]))  # memory of two agents at the start
SEEN = {"obs": np.ones((2, 5), np.float32), "avail_actions": np.ones((2, 3), np.int8)}


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0])
@with_and_without_last_action
@every_cell
def test_acting_step_by_step_gives_the_values_of_the_sequence(
    in_single_precision, rnn, last_action, epsilon
):
    args = small_args(env_name="3m", rnn=rnn, last_action=last_action)
    env = qmix_lstm.open_env(args)
    agent = randomised(Networks(args, env).agent)
    values = acting(agent)
    seen = []

    def recorded(*inputs):
        q, hidden = values(*inputs)
        seen.append(q[0])
        return q, hidden

    rng = np.random.default_rng(0)
    episode, _ = qmix_lstm.play_episode(env, recorded, lambda t: epsilon, 0, rng, args)
    batch = end_to_end([{key: torch.from_numpy(array) for key, array in episode.items()}])
    q = plain_q(agent, qmix_lstm.agent_inputs(batch, args)).detach().numpy()
    assert len(seen) > 5
    np.testing.assert_allclose(seen, q[:-1], rtol=1e-4, atol=1e-5)
    if epsilon == 0:
        best = np.where(episode["avail_actions"], q, -np.inf).argmax(-1)
        assert np.array_equal(best[:-1], episode["actions"])


def test_every_episode_begins_without_a_memory(in_single_precision, monkeypatch):
    remembered = []
    act = qmix_lstm.act

    def watched(values, observation, memory, *rest):
        hidden, last_actions = memory
        remembered.append(hidden is not None or (last_actions >= 0).any())
        return act(values, observation, memory, *rest)

    monkeypatch.setattr(qmix_lstm, "act", watched)
    args = small_args(**TWO_STEPS)
    env = qmix_lstm.open_env(args)
    agent = Networks(args, env).agent
    for number in range(3):
        qmix_lstm.collect_episode(env, agent, args, number, 0)
        qmix_lstm.play_greedily(env, agent, args, "test", number)
    assert remembered == [False, True] * 6


def test_the_memory_is_the_hidden_state_and_the_last_actions(in_single_precision):
    args = small_args()
    network = randomised(AgentNetwork(args, SIZES))
    values = acting(network)
    seen = SEEN | {"avail_actions": np.array([[0, 0, 1], [1, 0, 0]], np.int8)}
    rng = np.random.default_rng(0)
    actions, (hidden, last_actions) = qmix_lstm.act(values, seen, NOTHING, 1.0, rng, args)
    assert actions.tolist() == [2, 0]
    assert last_actions.tolist() == [2, 0]
    inputs = torch.cat((torch.ones(1, 2, 5), torch.zeros(1, 2, 3)), dim=-1)
    for part, expected in zip(hidden, network(inputs)[1], strict=True):
        np.testing.assert_allclose(part, expected.detach(), rtol=1e-5, atol=1e-6)


def test_an_agent_that_explores_remembers_too(in_single_precision):
    args = small_args()
    values = acting(randomised(AgentNetwork(args, SIZES)))
    after = []
    for epsilon in (0.0, 1.0):
        rng = np.random.default_rng(0)
        _, (hidden, _) = qmix_lstm.act(values, SEEN, NOTHING, epsilon, rng, args)
        after.append(hidden)
    assert np.array_equal(*after)


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_agents_explore_like_those_of_qmix(in_single_precision, epsilon):
    args = small_args(last_action=False)
    values = acting(randomised(AgentNetwork(args, SIZES)))
    torch.manual_seed(1)
    available = random_availability(2, 3).numpy()
    q, _ = values(np.ones((1, 2, 5), np.float32), None)
    rng = np.random.default_rng(0)
    same_rng = np.random.default_rng(0)

    def act(_: dict) -> np.ndarray:
        seen = SEEN | {"avail_actions": available}
        return qmix_lstm.act(values, seen, NOTHING, epsilon, rng, args)[0]

    def act_in_qmix(seen: dict) -> np.ndarray:
        return qmix.act(lambda obs: obs, seen, epsilon, same_rng)

    actions = actions_of(act, q[0], available, times=50)
    assert np.array_equal(actions, actions_of(act_in_qmix, q[0], available, times=50))


@pytest.mark.parametrize("bootstraps", [True, False])
def test_an_episode_has_a_row_per_step_and_one_more_observation(in_single_precision, bootstraps):
    args = small_args(env_name="3m", time_limit=5, bootstrap_truncated=bootstraps)
    env = qmix_lstm.open_env(args)
    agent = Networks(args, env).agent
    episode, _ = qmix_lstm.collect_episode(env, agent, args, 0, 0)
    rows = {"actions": 5, "reward": 5, "terminated": 5, "obs": 6, "state": 6, "avail_actions": 6}
    assert {key: len(array) for key, array in episode.items()} == rows
    assert episode["terminated"].tolist() == [0, 0, 0, 0, not bootstraps]  # truncated


# Learning


@with_and_without_last_action
@every_cell
def test_updates_reduce_the_loss_of_a_batch(rnn, last_action):
    args = small_args(tbptt=3, rnn=rnn, last_action=last_action)
    torch.manual_seed(0)
    networks = Networks(args, SIZES)
    batch = end_to_end(random_episodes(0, [3, 6]))
    optimizer = torch.optim.Adam(networks.learned(), lr=0.01)
    losses = []
    for _ in range(150):
        losses.append(qmix_lstm.update(networks, optimizer, batch, args)["train/loss"])
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("limit", [0.01, 1e9])
def test_clip_gradients_bounds_the_norm_of_the_gradient(limit):
    args = small_args(clip_gradients=limit, tbptt=2)
    networks = random_networks(0, args)
    optimizer = torch.optim.SGD(networks.learned(), lr=0.001)
    learning = qmix_lstm.update(networks, optimizer, end_to_end(random_episodes(1, [6, 6])), args)
    norm = torch.cat([parameter.grad.flatten() for parameter in networks.learned()]).norm()
    assert norm.item() == pytest.approx(min(limit, learning["train/grads"]), rel=1e-3)


def test_an_update_that_is_not_finite_is_an_error():
    args = small_args()
    networks = random_networks(0, args)
    optimizer = torch.optim.SGD(networks.learned(), lr=1.0)
    batch = end_to_end(random_episodes(0, [3]))
    batch["reward"][1] = torch.inf
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


def test_any_tbptt_above_an_episodes_length_gives_the_same_training(in_single_precision, tmp_path):
    options = {"env_name": "3m", "time_limit": 15, "total_timesteps": 150}
    for tbptt in (5, 16, 1000):
        trained(tmp_path / str(tbptt), tbptt=tbptt, **options)
    assert equal_weights(tmp_path / "16", tmp_path / "1000")
    assert not equal_weights(tmp_path / "5", tmp_path / "1000")


def test_evaluation_does_not_change_the_training(in_single_precision, tmp_path):
    options = {"env_name": "3m", "total_timesteps": 150}
    trained(tmp_path / "often", eval_steps=1, num_eval_ep=2, **options)
    trained(tmp_path / "seldom", eval_steps=1000, **options)
    assert equal_weights(tmp_path / "often", tmp_path / "seldom")


def test_num_updates_counts_batches(in_single_precision, tmp_path):
    options = {"total_timesteps": 12, "batch_size": 4, "tbptt": 1, "log_every": 1}
    folder = trained(tmp_path / "run", **options, **TWO_STEPS)
    assert values_of(folder, "train/num_updates") == [0, 0, 0, 1, 2, 3]


# A game that needs memory


def greedy_return(script: str, folder: Path) -> float:
    """Mean return of the greedy team in the cue game: 1 at most, 0.5 by chance."""
    options = {"env_type": "pz", "env_family": "tests.games", "env_name": "cue_game"}
    options |= {"total_timesteps": 10000, "eval_steps": 10**6, "log_every": 1000}
    options |= {"hidden_dim": 64, "hyper_dim": 64, "batch_size": 32, "buffer_size": 2000}
    options |= {"train_freq": 4, "learning_rate": 0.002, "polyak": 0.05}
    options |= {"end_e": 0.1, "exploration_fraction": 0.5, "num_eval_ep": 100}
    args = helpers.small_args(script, **options)
    return MODULES[script].train(args, folder=folder)["eval/ep_reward"]


def test_recurrent_agents_solve_the_game_that_needs_memory(in_single_precision, tmp_path):
    assert greedy_return("qmix_lstm", tmp_path / "run") >= 0.95


def test_agents_without_memory_do_no_better_than_chance(in_single_precision, tmp_path):
    assert greedy_return("qmix", tmp_path / "run") <= 0.65


def test_an_episode_of_recurrent_agents_is_captured_as_a_gif(tmp_path, in_single_precision):
    options = {"env_name": "3m", "time_limit": 10, "total_timesteps": 10, "capture_video": True}
    assert (trained(tmp_path / "run", **options) / "episode.gif").is_file()
