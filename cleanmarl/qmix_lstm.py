"""QMIX with a recurrent agent: `qmix.py`, but an agent remembers what it has seen and done in the episode.

    python cleanmarl/qmix_lstm.py --env-name 3m

A batch is whole episodes, padded and masked; gradients are cut every `tbptt` steps (truncated backpropagation through
time), and the optimizer steps once per chunk.
Data flows one way: arguments -> environment -> collect an episode -> store it -> update -> evaluate.
Shapes in comments: B episodes, T steps of the longest one; a chunk has C steps.
"""

import gc
import json
import math
import os
import signal
import sys
import time
from collections import deque
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from inspect import signature
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cleanmarl.env import make_env


@dataclass
class Args:
    env_type: str = "smaclite"
    """smaclite, lbf, pz (PettingZoo), or smaclite-upstream"""
    env_name: str = "3m"
    """map, scenario file or environment, as 3m, mine.toml, Foraging-8x8-2p-3f-v3, simple_spread_v3"""
    env_family: str = "mpe"
    """PettingZoo family: mpe, sisl, butterfly, or a dotted package of one's own"""
    agent_ids: bool = True
    """append a one-hot agent id to each observation"""
    buffer_size: int = 10000
    """capacity of the replay buffer, in episodes"""
    total_timesteps: int = 1000000
    """environment steps to train for; the episode that reaches them is finished"""
    gamma: float = 0.99
    """discount factor"""
    train_freq: int = 1
    """update every so many episodes"""
    optimizer: str = "Adam"
    """name of an optimizer in torch.optim"""
    learning_rate: float = 0.0008
    """learning rate of the optimizer"""
    batch_size: int = 10
    """episodes in a batch"""
    start_e: float = 1
    """epsilon at the start"""
    end_e: float = 0.025
    """epsilon at the end of exploration"""
    exploration_fraction: float = 0.05
    """part of total_timesteps over which epsilon falls"""
    hidden_dim: int = 64
    """hidden units of the agent network"""
    hyper_dim: int = 64
    """hidden units of the mixing network and of its hypernetworks"""
    num_layers: int = 1
    """recurrent layers of the agent network"""
    target_network_update_freq: int = 1
    """update the target networks every so many episodes"""
    polyak: float = 0.005
    """step of the target networks towards the networks; 1 copies them"""
    normalize_reward: bool = False
    """standardise the rewards of each batch"""
    clip_gradients: float = -1
    """largest norm of the gradient; 0 or less for no limit"""
    tbptt: int = 10
    """steps of a chunk, after which gradients are cut"""
    log_every: int = 10
    """log every so many episodes"""
    eval_steps: int = 50
    """evaluate every so many episodes"""
    num_eval_ep: int = 10
    """episodes in an evaluation"""
    use_wnb: bool = False
    """log to Weights & Biases too"""
    wnb_project: str = ""
    """Weights & Biases project"""
    wnb_entity: str = ""
    """Weights & Biases entity"""
    device: str = "cpu"
    """cpu, cuda or mps"""
    seed: int = 1
    """everything random is derived from it"""
    double_q: bool = False
    """let the network choose the next actions and the target network value them"""
    td_lambda: float = 0.9
    """learn from lambda-returns of the stored episode; 0 for one-step targets"""
    bootstrap_truncated: bool = True
    """bootstrap where the time limit cut an episode off; without it, the limit is an end of the task"""
    mixer: Literal["qmix", "vdn"] = "qmix"
    """vdn: Q_tot is the plain sum"""
    rnn: Literal["gru", "lstm"] = "gru"
    """recurrent cell of the agent network"""
    last_action: bool = True
    """append each agent's previous action, one-hot, to its observation"""
    hypernet_layers: int = 1
    """layers of the hypernetworks that make W1 and W2: 1 or 2"""
    time_limit: int | None = None
    """episode limit in steps; None for the environment's own"""
    save_model: bool = True
    """save the networks in the run folder"""
    capture_video: bool = False
    """save a greedy episode as a GIF in the run folder at the end; with --evaluate the best, the median, the worst"""
    torch_threads: int = 1
    """threads of PyTorch on the CPU"""
    checkpoint_every: int = 1000
    """save a checkpoint every so many episodes; one comes at the end anyway"""
    resume: str = ""
    """folder of a run to go on with, with its arguments; total_timesteps may be raised"""
    evaluate: str = ""
    """folder of a run whose agents play num_eval_ep greedy episodes; nothing is trained"""


@dataclass
class Progress:
    """How far a training has come."""

    step: int = 0
    num_episodes: int = 0
    num_updates: int = 0
    seconds: float = 0.0
    recent: list[tuple] = field(default_factory=list)  # reward, length and outcome of the episodes not yet logged
    curves: dict[str, int] = field(default_factory=dict)  # bytes of the files of TensorBoard
    evaluation: dict[str, float] = field(default_factory=dict)  # the latest
    learning: dict[str, torch.Tensor] = field(default_factory=dict)


def check_args(args: Args):
    """Raise ValueError, in one line, for a value with which nothing could be learned."""
    counts = "buffer_size total_timesteps train_freq target_network_update_freq log_every eval_steps num_eval_ep"
    counts += " checkpoint_every tbptt"
    parts = "start_e end_e exploration_fraction gamma polyak td_lambda"
    bounds = dict.fromkeys(counts.split(), (1, 2**31 - 1)) | dict.fromkeys(parts.split(), (0, 1))
    bounds |= {"batch_size": (1, args.buffer_size), "num_layers": (1, 64), "hypernet_layers": (1, 2)}
    bounds |= {"hidden_dim": (1, 2**16), "hyper_dim": (1, 2**16), "learning_rate": (1e-12, 1e3)}
    bounds |= {"seed": (0, 2**63 - 1), "clip_gradients": (-np.inf, np.inf), "time_limit": (1, 10**5)}
    bounds |= {"torch_threads": (1, 1024)}
    for name, (low, high) in bounds.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:  # NaN is nowhere
            raise ValueError(f"--{name.replace('_', '-')} must be from {low} to {high}, got {value}")
    try:
        parameter = nn.Parameter(torch.zeros(1))
        parameter.grad = torch.zeros(1)
        make_optimizer(args, [parameter]).step()
    except Exception:
        raise ValueError(f"--optimizer must be one of torch.optim, as Adam or RMSprop, got {args.optimizer}") from None
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(args.device):
        here = ", ".join(name for name, there in available.items() if there)
        raise ValueError(f"--device must be one that is available here ({here}), got {args.device}")


def make_optimizer(args: Args, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    kind = getattr(torch.optim, args.optimizer)
    fused = {"fused": True} if "fused" in signature(kind).parameters else {}
    return kind(parameters, lr=args.learning_rate, **fused)


def start(layer: nn.Linear, scale: float) -> nn.Linear:
    """Scale a layer's first weights; 0 zeroes it, bias and all. So Q_tot starts at 0, however large the state.

    It would start near the square of the state's size otherwise, a hundred times the largest return of Level-Based
    Foraging, and bootstrapping would keep it there for thousands of updates.
    """
    with torch.no_grad():
        layer.weight *= scale
        layer.bias *= scale > 0
    return layer


class AgentNetwork(nn.Module):
    """The action values of one agent from what it has seen and done in the episode; all agents share it."""

    def __init__(self, obs_size: int, n_actions: int, args: Args):
        super().__init__()
        self.encoder = nn.Linear(obs_size + (n_actions if args.last_action else 0), args.hidden_dim)
        cell = nn.GRU if args.rnn == "gru" else nn.LSTM
        self.rnn = cell(args.hidden_dim, args.hidden_dim, args.num_layers, batch_first=True)
        self.head = start(nn.Linear(args.hidden_dim, n_actions), 0)

    def forward(self, inputs: torch.Tensor, hidden=None) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs [B, C, n_agents, input_size], the hidden state before them -> q [B, C, n_agents, n_actions], after."""
        features = F.relu(self.encoder(inputs)).transpose(1, 2)  # [B, n_agents, C, hidden_dim]
        outputs, hidden = self.rnn(features.flatten(0, 1), hidden)  # [B * n_agents, C, hidden_dim]
        return self.head(outputs).view(*features.shape[:3], -1).transpose(1, 2), hidden


class QMixer(nn.Module):
    """Q_tot from the agents' values, monotonic in each of them (eq. 6 of Rashid et al. 2018).

    Hypernetworks make the mixing network's weights from the state. The absolute value keeps its weights, and so
    dQ_tot/dq_i, at least 0: every agent's own argmax is its part of the joint one. Biases may have any sign.
    """

    def __init__(self, n_agents: int, state_size: int, hyper_dim: int, hypernet_layers: int):
        super().__init__()

        def hypernetwork(size: int, layers: int, scale: float) -> nn.Module:
            if layers == 1:
                return start(nn.Linear(state_size, size), scale)
            hidden = [nn.Linear(state_size, hyper_dim), nn.ReLU()]
            return nn.Sequential(*hidden, start(nn.Linear(hyper_dim, size), scale))

        self.w1 = hypernetwork(n_agents * hyper_dim, hypernet_layers, 0.1)
        self.b1 = hypernetwork(hyper_dim, 1, 0)
        self.w2 = hypernetwork(hyper_dim, hypernet_layers, 0.1)
        self.b2 = hypernetwork(1, 2, 0)

    def forward(self, q: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The agents' values [N, n_agents] and the state [N, state_size] -> Q_tot [N]."""
        w1 = self.w1(state).abs().view(*q.shape, -1)  # [N, n_agents, hyper_dim]
        w2 = self.w2(state).abs()  # [N, hyper_dim]
        hidden = F.elu((q.unsqueeze(-1) * w1).sum(1) + self.b1(state))  # [N, hyper_dim]; faster than a product
        return (hidden * w2).sum(-1) + self.b2(state).squeeze(-1)  # [N]


class VDNMixer(nn.Module):
    """Q_tot is the sum of the agents' values (Sunehag et al., 2018)."""

    def forward(self, q: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return q.sum(-1)  # [N, n_agents] -> [N]


def as_vector(*networks: nn.Module) -> torch.Tensor:
    """Lay all parameters end to end in one tensor, and their gradients likewise: they become views of it.

    What is done to all of them is one call of PyTorch then, which takes longer than the arithmetic where networks are
    small. Only a later `.to()` would part them from it.
    """
    parameters = [parameter for network in networks for parameter in network.parameters()]
    vector = nn.utils.parameters_to_vector(parameters).detach().requires_grad_()
    vector.grad = torch.zeros_like(vector)
    sizes = [parameter.numel() for parameter in parameters]
    parts, gradients = vector.detach().split(sizes), vector.grad.split(sizes)
    for parameter, part, gradient in zip(parameters, parts, gradients, strict=True):
        parameter.data, parameter.grad = part.view_as(parameter), gradient.view_as(parameter)
    return vector


class Networks(nn.Module):
    """What is learned, agent and mixer, and the target networks that follow it."""

    def __init__(self, args: Args, env):
        super().__init__()
        self.agent = AgentNetwork(env.obs_size, env.n_actions, args)
        self.mixer = VDNMixer()
        if args.mixer == "qmix":
            self.mixer = QMixer(env.n_agents, env.state_size, args.hyper_dim, args.hypernet_layers)
        self.target_agent = deepcopy(self.agent).requires_grad_(False)
        self.target_mixer = deepcopy(self.mixer).requires_grad_(False)
        self.to(args.device)
        self.theta = as_vector(self.agent, self.mixer)
        self.target_theta = as_vector(self.target_agent, self.target_mixer).detach()

    def update_targets(self, polyak: float):
        """theta_target <- polyak theta + (1 - polyak) theta_target"""
        self.target_theta.lerp_(self.theta.detach(), polyak)


class EpisodeBuffer:
    """The last `capacity` episodes, each a dict of arrays with one row per step, and one more of what is observed."""

    def __init__(self, capacity: int):
        self.episodes: deque[dict[str, np.ndarray]] = deque(maxlen=capacity)

    def store(self, episode: dict[str, np.ndarray]):
        self.episodes.append(episode)

    def played(self) -> dict[str, torch.Tensor]:
        """Lengths, actions and rewards of the episodes, end to end: with its seed, they bring an episode back."""
        played = {"lengths": torch.tensor([len(episode["reward"]) for episode in self.episodes], dtype=torch.int64)}
        for key, dtype in (("actions", np.int16), ("reward", np.float32)):
            parts = [episode[key] for episode in self.episodes] or [[]]
            played[key] = torch.from_numpy(np.concatenate(parts, dtype=dtype, casting="unsafe"))
        return played

    def sample(self, batch_size: int, rng: np.random.Generator, device: str) -> dict[str, torch.Tensor]:
        """Whole episodes, padded with zeros to the longest; `lengths` [B] tells where each one ends."""
        chosen = [self.episodes[i] for i in rng.choice(len(self.episodes), batch_size, replace=False)]
        lengths = [len(episode["reward"]) for episode in chosen]
        batch = {"lengths": torch.tensor(lengths)}
        for key, first in chosen[0].items():
            rows = max(lengths) + len(first) - lengths[0]  # T or, of what is observed, T + 1
            padded = np.zeros((batch_size, rows, *first.shape[1:]), first.dtype)
            for row, episode in zip(padded, chosen, strict=True):
                row[: len(episode[key])] = episode[key]
            batch[key] = torch.from_numpy(padded)
        return {key: value.to(device) for key, value in batch.items()}


def td_target(reward, terminated, next_q_tot, lengths, gamma: float, td_lambda: float) -> torch.Tensor:
    """What Q_tot is to become, [N]: r + gamma (1 - terminated) next_q_tot or, with td_lambda > 0, the lambda-return.

    G_t = r_t + gamma ((1 - lambda) V_t+1 + lambda G_t+1), where the last step of an episode bootstraps from V alone,
    through truncation but not through termination. What is given is [N], `lengths` [B].
    """
    bootstrap = gamma * (1 - terminated) * next_q_tot  # [N]
    if td_lambda == 0:
        return reward + bootstrap
    share = torch.full_like(reward, 1 - td_lambda)
    share[lengths.cumsum(0) - 1] = 1
    # Unrolled, G_t is the sum over s >= t of (gamma lambda)^(s - t) times the terms of step s: a product of matrices.
    steps = torch.arange(int(lengths.max()), device=reward.device)
    real = steps < lengths[:, None]  # [B, T]
    terms = reward.new_zeros(real.shape).masked_scatter_(real, reward + share * bootstrap)
    weights = ((gamma * td_lambda) ** (steps[:, None] - steps)).tril()  # [T, T], where s >= t
    return (terms @ weights)[real]


def agent_inputs(batch: dict[str, torch.Tensor], args: Args) -> torch.Tensor:
    """What the agents see at each step, with their previous actions, [B, T + 1, n_agents, input_size]."""
    if not args.last_action:
        return batch["obs"]
    actions = F.one_hot(batch["actions"], batch["avail_actions"].shape[-1]).float()  # [B, T, n_agents, n_actions]
    return torch.cat((batch["obs"], F.pad(actions, (0, 0, 0, 0, 1, 0))), dim=-1)  # none before the first step


@torch.no_grad()
def episode_targets(networks: Networks, batch: dict[str, torch.Tensor], args: Args, real: torch.Tensor) -> torch.Tensor:
    """What Q_tot is to become at every step, [B, T]; hidden states run through whole episodes."""
    reward, inputs = batch["reward"][real], agent_inputs(batch, args)  # [N], the real steps end to end
    if args.normalize_reward:
        reward = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)

    # Each agent's best available next action; by monotonicity, together they are the joint argmax of Q_tot.
    next_q = networks.target_agent(inputs)[0][:, 1:]  # [B, T, n_agents, n_actions]
    choosing_q = networks.agent(inputs)[0][:, 1:] if args.double_q else next_q
    choosing_q = choosing_q.masked_fill(batch["avail_actions"][:, 1:] == 0, -torch.inf)
    next_q = next_q.gather(-1, choosing_q.argmax(-1, keepdim=True)).squeeze(-1)  # [B, T, n_agents]
    next_q_tot = networks.target_mixer(next_q[real], batch["states"][:, 1:][real])  # [N]
    target = torch.zeros(real.shape, device=reward.device)
    target[real] = td_target(reward, batch["done"][real], next_q_tot, batch["lengths"], args.gamma, args.td_lambda)
    return target


def chunk_loss(networks: Networks, batch: dict[str, torch.Tensor], inputs, target, real, chunk: slice, hidden):
    """Mean squared TD error of Q_tot over the real steps of a chunk; and the hidden state after it."""
    q, hidden = networks.agent(inputs[:, chunk], hidden)  # [B, C, n_agents, n_actions]
    q = q.gather(-1, batch["actions"][:, chunk].unsqueeze(-1)).squeeze(-1)  # [B, C, n_agents]
    real = real[:, chunk]
    q_tot = networks.mixer(q[real], batch["states"][:, chunk][real])
    return F.mse_loss(q_tot, target[:, chunk][real]), hidden


def update(networks: Networks, optimizer, batch: dict[str, torch.Tensor], args: Args) -> dict[str, torch.Tensor]:
    """A step of gradient descent per chunk of the episodes; returns the means of the losses and gradients' norms."""
    n_steps = batch["reward"].shape[1]
    real = torch.arange(n_steps, device=args.device) < batch["lengths"][:, None]  # [B, T]
    target, inputs = episode_targets(networks, batch, args, real), agent_inputs(batch, args)[:, :-1]
    hidden, losses, grad_norms = None, [], []
    for begin in range(0, n_steps, args.tbptt):
        chunk = slice(begin, min(begin + args.tbptt, n_steps))
        loss, hidden = chunk_loss(networks, batch, inputs, target, real, chunk, hidden)
        networks.theta.grad.zero_()
        loss.backward()
        grad_norm = networks.theta.grad.norm()
        if args.clip_gradients > 0:
            nn.utils.clip_grads_with_norm_(networks.theta, args.clip_gradients, grad_norm)
        optimizer.step()
        hidden = hidden.detach() if args.rnn == "gru" else tuple(part.detach() for part in hidden)
        losses.append(loss.detach())
        grad_norms.append(grad_norm)
    return {"train/loss": torch.stack(losses).mean(), "train/grads": torch.stack(grad_norms).mean()}


class TrainingFailed(RuntimeError):
    """Why a training cannot go on."""


def check_finite(progress: Progress):
    """Raise TrainingFailed if the last update was not finite, before a checkpoint could keep what it made."""
    values = {name: value.item() for name, value in progress.learning.items()}
    if not all(map(math.isfinite, values.values())):
        results = ", ".join(f"{name} {value}" for name, value in values.items())
        raise TrainingFailed(f"update {progress.num_updates} is not finite: {results}")


def linear_schedule(args: Args, step: int) -> float:
    """Epsilon at an environment step."""
    fraction = min(1.0, step / max(1, args.exploration_fraction * args.total_timesteps))
    return args.start_e + fraction * (args.end_e - args.start_e)


def random_stream(args: Args, purpose: str, *number: int) -> np.random.Generator:
    """A stream of its own for each purpose and episode or update: no state of a generator outlives what it is for."""
    return np.random.default_rng((args.seed, ("train", "explore", "sample", "eval", "test").index(purpose), *number))


class Memory(NamedTuple):
    """What the agents carry from step to step of an episode."""

    hidden: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None
    last_actions: np.ndarray
    """[n_agents]; -1 before the first step"""


@torch.inference_mode()
def act(agent: AgentNetwork, observation: dict, memory: Memory | None, epsilon: float, rng, args: Args):
    """An action per agent, [n_agents]: each, on its own, random among its available ones with probability epsilon.

    Returns the actions and the memory for the next step; it is None before the first one.
    """
    avail_actions = observation["avail_actions"]  # [n_agents, n_actions]
    hidden, last_actions = memory or Memory(None, np.full(len(avail_actions), -1))
    draws = rng.random((avail_actions.shape[0], 1 + avail_actions.shape[1]), np.float32)
    explores, scores = draws[:, :1] < epsilon, draws[:, 1:]
    inputs = observation["obs"]
    if args.last_action:
        one_hot = last_actions[:, None] == np.arange(avail_actions.shape[-1])  # [n_agents, n_actions]
        inputs = np.concatenate((inputs, one_hot), axis=-1, dtype=np.float32)
    q, hidden = agent(torch.from_numpy(inputs[None, None]).to(args.device), hidden)  # explorers remember, too
    scores = np.where(explores, scores, q[0, 0].cpu().numpy())
    actions = np.where(avail_actions, scores, -np.inf).argmax(-1)
    return actions, Memory(hidden, actions)


def as_arrays(observations: list[dict], steps: list[tuple]) -> dict[str, np.ndarray]:
    """The episode to store, of T + 1 observations and T steps: actions, reward, ended."""
    actions, reward, ended = zip(*steps, strict=True)
    episode = {"actions": np.array(actions), "reward": np.array(reward, np.float32)}
    episode["done"] = np.array(ended, np.float32)  # the learner does not bootstrap there
    for key, name in (("obs", "obs"), ("states", "state"), ("avail_actions", "avail_actions")):
        episode[key] = np.array([observation[name] for observation in observations])  # T + 1 rows
    return episode


def collect_episode(
    env, agent: AgentNetwork, args: Args, number: int, step: int, taken: np.ndarray | None = None
) -> tuple[dict[str, np.ndarray], dict]:
    """Play training episode `number`, which begins at environment step `step`: (episode to store, its last info).

    With the actions that were `taken` in it, [T, n_agents], it is played again.
    """
    rng = random_stream(args, "explore", number)
    observation, _ = env.reset(seed=int(random_stream(args, "train", number).integers(2**31)))
    observations, steps, memory, over = [observation], [], None, False
    while not over:
        epsilon = linear_schedule(args, step + len(steps))
        if taken is None:
            actions, memory = act(agent, observation, memory, epsilon, rng, args)
        else:
            actions = taken[len(steps)]
        observation, reward, terminated, truncated, info = env.step(actions)
        observations.append(observation)
        steps.append((actions, reward, terminated or (truncated and not args.bootstrap_truncated)))
        over = terminated or truncated
    return as_arrays(observations, steps), info


def replay(env, agent: AgentNetwork, args: Args, buffer: EpisodeBuffer, saved: dict, stop: Event):
    """Play the episodes of a checkpoint again. Raises TrainingFailed if the environment does not repeat them."""
    played, last = saved["played"], saved["progress"]["num_episodes"]
    ends = played["lengths"].cumsum(0)[:-1]
    actions, rewards = np.split(played["actions"].long().numpy(), ends), np.split(played["reward"].numpy(), ends)
    numbers = tqdm(range(last - len(played["lengths"]), last), "replaying", leave=False)
    for number, taken, reward in zip(numbers, actions, rewards, strict=False):
        try:
            episode, _ = collect_episode(env, agent, args, number, 0, taken)
        except (ValueError, IndexError):  # the action is not available, or the episode goes on
            episode = None
        if episode is None or not np.array_equal(episode["reward"], reward):
            raise TrainingFailed(f"the environment does not repeat episode {number}, from its seed and actions")
        if stop.is_set():
            raise TrainingFailed("stopped before it went on; the checkpoint is as it was")
        buffer.store(episode)


def play(env, agent: AgentNetwork, args: Args, rng: np.random.Generator, frames: list | None = None) -> tuple:
    """A greedy episode: (reward, length, whether it was won or NaN); its pictures are appended to `frames` if given."""
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    reward_sum, length, memory, over = 0.0, 0, None, False
    while not over:
        if frames is not None:
            frames.append(env.render())
        actions, memory = act(agent, observation, memory, 0.0, rng, args)
        observation, reward, terminated, truncated, info = env.step(actions)
        reward_sum, length, over = reward_sum + reward, length + 1, terminated or truncated
    return reward_sum, length, info.get("battle_won", np.nan)


def evaluate(env, agent: AgentNetwork, args: Args, number: int) -> dict[str, float]:
    """Mean results of greedy episodes, after `number` training episodes."""
    streams = [random_stream(args, "eval", number, i) for i in range(args.num_eval_ep)]
    reward_sums, lengths, won = np.array([play(env, agent, args, rng) for rng in streams], float).T
    means = {"ep_reward": reward_sums.mean(), "std_ep_reward": reward_sums.std(), "ep_length": lengths.mean()}
    if not np.isnan(won).any():  # only battles are won
        means["battle_won"] = won.mean()
    return {f"eval/{name}": float(value) for name, value in means.items()}


class Log:
    """Scalars to TensorBoard, the progress bar and, if asked, Weights & Biases, whose failures never end a training."""

    SHOWN = ("rollout/epsilon", "rollout/ep_reward", "eval/ep_reward", "eval/battle_won")  # in the progress bar

    def __init__(self, args: Args, run_folder: Path, progress: Progress):
        self.run_folder, self.unsaved = run_folder, []  # scalars with their steps, since the last checkpoint
        self.open_writer(progress)
        bar = {"total": args.total_timesteps, "initial": progress.step, "unit": " steps", "unit_scale": True}
        self.bar, self.started = tqdm(**bar, dynamic_ncols=True), time.perf_counter() - progress.seconds
        self.shown, self.wandb = {}, None
        if args.use_wnb:
            self.attempt(self.open_wandb, args, run_folder)

    def open_writer(self, progress: Progress):
        """Write to TensorBoard from the last checkpoint on; what was logged later is removed and comes again."""
        for path in self.run_folder.glob("events.*"):
            os.truncate(path, progress.curves.get(path.name, 0))
        self.writer = SummaryWriter(str(self.run_folder))

    def flush(self, progress: Progress):
        """Have everything in the files of TensorBoard, if need be in a second attempt. Raises OSError."""
        try:
            self.writer.flush()
        except OSError:  # of its thread, which is over
            self.open_writer(progress)
            for scalars, step in self.unsaved:
                self.add(scalars, step)
            self.writer.flush()
        self.unsaved.clear()
        progress.curves = {path.name: path.stat().st_size for path in self.run_folder.glob("events.*")}

    def add(self, scalars: dict[str, float], step: int):
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)

    def open_wandb(self, args: Args, run_folder: Path):
        import wandb  # here, because it takes long to import

        account = {"project": args.wnb_project or None, "entity": args.wnb_entity or None}
        run = {"name": run_folder.name, "id": run_folder.name, "resume": "allow", "dir": str(run_folder)}
        self.wandb = wandb.init(config=asdict(args), **run, **account)

    def attempt(self, call, *args, **options):
        try:
            call(*args, **options)
        except Exception as error:
            self.wandb = None
            warn(f"going on without Weights & Biases: {error}")

    def episode(self, progress: Progress, episode: dict[str, np.ndarray], info: dict):
        won = float(info.get("battle_won", np.nan))
        progress.recent.append((float(episode["reward"].sum()), len(episode["reward"]), won))
        self.bar.update(len(episode["reward"]))

    def training(self, args: Args, progress: Progress):
        """Means over the episodes since the last call, and where the training stands."""
        means = dict(zip(("ep_reward", "ep_length", "battle_won"), np.mean(progress.recent, axis=0), strict=True))
        progress.recent.clear()
        scalars = {f"rollout/{name}": mean for name, mean in means.items() if not np.isnan(mean)}
        scalars["rollout/epsilon"] = linear_schedule(args, progress.step)
        scalars |= {"rollout/num_episodes": progress.num_episodes, "train/num_updates": progress.num_updates}
        scalars |= {name: value.item() for name, value in progress.learning.items()}
        seconds = time.perf_counter() - self.started
        self.write(scalars | {"charts/SPS": progress.step / seconds}, progress.step)

    def write(self, scalars: dict[str, float], step: int):
        self.unsaved.append((scalars, step))
        with suppress(OSError):  # of a full disk, of which `flush` will tell
            self.add(scalars, step)
        if self.wandb:
            self.attempt(self.wandb.log, scalars, step=step)
        self.shown |= {name: f"{value:.2f}" for name, value in scalars.items() if name in self.SHOWN}
        self.bar.set_postfix(self.shown, refresh=False)

    def close(self):
        self.bar.close()
        try:
            self.writer.close()
        except OSError as error:
            warn(f"the curves end before the training: {error.strerror}")
        if self.wandb:
            self.attempt(self.wandb.finish)
            self.wandb = None


def warn(text: str):
    tqdm.write(f"warning: {text}", file=sys.stderr)


def write_atomically(path: Path, content: bytes):
    """Write a file whole or not at all. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def to_bytes(state: dict) -> bytes:
    file = BytesIO()
    torch.save(state, file)
    return file.getvalue()


def save(run_folder: Path, args: Args, progress: Progress, networks: Networks, optimizer, played: dict, log: Log):
    """Save the model, and in a checkpoint all that the training needs to go on; the last one is kept until it is whole.

    No state of a generator is in it, since none outlives an episode or an update; of the episodes only what was done.
    """
    model = {"agent": networks.agent.state_dict(), "mixer": networks.mixer.state_dict()}
    state = {"format": 2, "script": Path(__file__).stem, "args": asdict(args), "played": played}
    state |= {"networks": networks.state_dict(), "optimizer": optimizer.state_dict()}
    path = run_folder / "checkpoint.pt"
    try:
        if args.save_model:
            write_atomically(run_folder / "model.pt", to_bytes(model))
        log.flush(progress)
        progress.seconds = time.perf_counter() - log.started
        content = to_bytes(state | {"progress": asdict(progress)})
        if path.exists():
            os.replace(path, run_folder / "checkpoint.old")
        write_atomically(path, sha256(content).digest() + content)
    except OSError as error:
        warn(f"going on without saving after {progress.num_episodes} episodes: {error.strerror}")


def load_checkpoint(run_folder: Path) -> dict:
    """The last whole checkpoint of a run. Raises ValueError if there is none that this script can go on from."""
    faults = []
    for path in (run_folder / "checkpoint.pt", run_folder / "checkpoint.old"):
        content = path.read_bytes() if os.path.isfile(path) else b""
        try:
            whole = sha256(content[32:]).digest() == content[:32]
            saved = torch.load(BytesIO(content[32:]), map_location="cpu", weights_only=True) if whole else {}
            script, version = saved["script"], saved["format"]
        except Exception:  # nothing that `save` has written
            faults.append(f"{path.name} is {'damaged' if os.path.exists(path) else 'missing'}")
            continue
        if script != Path(__file__).stem or version != 2:
            raise ValueError(f"{path} is from {script}.py, format {version}, not from this script")
        for fault in faults:
            warn(f"{fault} in {run_folder}, going on from {path.name}")
        return saved
    wanted = "wanted the folder of a run, as runs/smaclite__3m__..."
    raise ValueError(f"no checkpoint in {run_folder} ({', '.join(faults)}), {wanted}")


def save_video(args: Args, agent: AgentNetwork, path: Path, number: int):
    """Save greedy test episode `number` as a GIF."""
    frames, content = [], BytesIO()
    try:
        env = open_env(args, render_mode="rgb_array")
        play(env, agent, args, random_stream(args, "test", number), frames)
        frames.append(env.render())  # the last picture, after the last step
        env.close()
        first, *others = [Image.fromarray(frame) for frame in frames]
        duration = 1000 // env.metadata.get("render_fps", 10)  # milliseconds
        first.save(content, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
        write_atomically(path, content.getvalue())
    except Exception as error:  # a display that is missing must not cost the training's results
        warn(f"no video, {args.env_name} cannot be drawn here: {error}")


def open_env(args: Args, render_mode: str | None = None):
    options = {"agent_ids": args.agent_ids, "time_limit": args.time_limit, "render_mode": render_mode}
    return make_env(args.env_type, args.env_name, args.env_family, **options)


def open_run(args: Args) -> Path:
    """The folder of the run, new or resumed, with the arguments in it. Raises ValueError where it cannot be written."""
    parts = (args.env_type, Path(args.env_name).stem, Path(__file__).stem, args.seed, time.strftime("%Y%m%d-%H%M%S"))
    folder = Path(args.resume or Path("runs") / "__".join(map(str, parts)))
    while folder.exists() and not args.resume:
        folder = folder.with_name(folder.name + "-2")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "args.json", json.dumps(asdict(args), indent=2).encode())
    except OSError as error:
        raise ValueError(f"cannot write the run folder {folder}: {error.strerror}") from None
    return folder


def finish(args: Args, networks: Networks, eval_env, log: Log, run_folder: Path, progress: Progress, stopped: bool):
    """Evaluate the trained agents, unless the training was stopped, and say where everything is."""
    if not stopped and progress.num_episodes % args.eval_steps != 0:  # or else it has just been evaluated
        progress.evaluation = evaluate(eval_env, networks.agent, args, progress.num_episodes)
        log.write(progress.evaluation, progress.step)
    if not stopped and args.capture_video:
        save_video(args, networks.agent, run_folder / "episode.gif", 0)
    log.bar.close()
    results = ", ".join(f"{name} {value:.2f}" for name, value in progress.evaluation.items())
    said = f"{'stopped' if stopped else 'done'} after {progress.step} steps, {progress.num_episodes} episodes"
    print(f"{said}; {results}\nrun folder: {run_folder}")


def confidence(values: np.ndarray) -> dict[str, float]:
    """Mean and 95% confidence interval, from the normal distribution or, of what is 0 or 1, Wilson's (1927)."""
    n, z, mean = len(values), 1.96, values.mean()
    middle, half, bounds = mean, z * values.std(ddof=n > 1) / n**0.5, (-np.inf, np.inf)
    if np.isin(values, (0, 1)).all():
        middle = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
        half, bounds = z / (1 + z**2 / n) * (mean * (1 - mean) / n + z**2 / (4 * n**2)) ** 0.5, (0, 1)
    low, high = np.clip((middle - half, middle + half), *bounds)
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def evaluate_run(args: Args, saved: dict):
    """Play greedy episodes with the networks of a run; write `evaluation.json` to its folder and, if asked, GIFs."""
    torch.set_num_threads(args.torch_threads)
    env, folder = open_env(args), Path(args.evaluate)
    networks = Networks(args, env)
    try:
        networks.load_state_dict(saved["networks"])
    except RuntimeError:
        raise ValueError(f"the networks of {folder} are not for these arguments, or for this environment") from None
    streams = [random_stream(args, "test", i) for i in range(args.num_eval_ep)]
    played = np.array([play(env, networks.agent, args, rng) for rng in tqdm(streams, "evaluating")], float)
    columns = {name: played[:, i] for i, name in enumerate(("ep_reward", "ep_length", "battle_won"))}
    results = {name: confidence(values) for name, values in columns.items() if not np.isnan(values).any()}
    for name, result in results.items():
        print(f"{name}: mean {result['mean']:.3f}, 95% confidence {result['low']:.3f} to {result['high']:.3f}")
    results |= {"episodes": args.num_eval_ep, "seed": args.seed, "step": saved["progress"]["step"]}
    write_atomically(folder / "evaluation.json", json.dumps(results, indent=2).encode())
    order = played[:, 0].argsort(kind="stable")
    for name, place in (("worst", 0), ("median", len(order) // 2), ("best", -1)):
        if args.capture_video:
            save_video(args, networks.agent, folder / f"{name}.gif", int(order[place]))


def train(args: Args, env, eval_env, run_folder: Path, stop: Event, saved: dict | None = None) -> dict[str, float]:
    """Train until `total_timesteps` or until `stop` is set, from a checkpoint if given; returns the last evaluation.

    Raises TrainingFailed if an update is not finite, or the environment does not repeat the checkpoint's episodes.
    """
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.torch_threads)
    networks, buffer, progress = Networks(args, env), EpisodeBuffer(args.buffer_size), Progress()
    optimizer = make_optimizer(args, [networks.theta])
    if saved:
        networks.load_state_dict(saved["networks"])
        optimizer.load_state_dict(saved["optimizer"])
        replay(env, networks.agent, args, buffer, saved, stop)
        progress = Progress(**saved["progress"])

    with closing(Log(args, run_folder, progress)) as log:
        while progress.step < args.total_timesteps and not stop.is_set():
            episode, info = collect_episode(env, networks.agent, args, progress.num_episodes, progress.step)
            buffer.store(episode)
            log.episode(progress, episode, info)
            progress.step += len(episode["reward"])
            progress.num_episodes += 1

            if progress.num_episodes % args.train_freq == 0 and len(buffer.episodes) >= args.batch_size:
                rng = random_stream(args, "sample", progress.num_updates)
                progress.learning = update(networks, optimizer, buffer.sample(args.batch_size, rng, args.device), args)
                progress.num_updates += 1
                check_finite(progress)
            if progress.num_episodes % args.target_network_update_freq == 0:
                networks.update_targets(args.polyak)

            if progress.num_episodes % args.eval_steps == 0:
                progress.evaluation = evaluate(eval_env, networks.agent, args, progress.num_episodes)
                log.write(progress.evaluation, progress.step)
            if progress.num_episodes % args.log_every == 0:
                log.training(args, progress)
            if progress.num_episodes % args.checkpoint_every == 0:
                save(run_folder, args, progress, networks, optimizer, buffer.played(), log)

        save(run_folder, args, progress, networks, optimizer, buffer.played(), log)
        finish(args, networks, eval_env, log, run_folder, progress, stop.is_set())
    return progress.evaluation


def parse_args() -> tuple[Args, dict | None]:
    """The command line; with --resume or --evaluate also the run's checkpoint, whose arguments are the defaults then.

    Raises ValueError where there is none, or where the run cannot go on with the arguments.
    """
    args = tyro.cli(Args, description=__doc__)
    if not (args.resume or args.evaluate):
        return args, None
    if args.resume and args.evaluate:
        raise ValueError("--resume and --evaluate exclude each other")
    saved = load_checkpoint(Path(args.resume or args.evaluate))
    own = saved["args"] | {"resume": "", "evaluate": ""}
    args = tyro.cli(Args, description=__doc__, default=Args(**own))
    free = "total_timesteps checkpoint_every device torch_threads save_model capture_video resume"
    free += " use_wnb wnb_project wnb_entity"  # the others matter to what is learned, or to the curves
    changed = [name for name, value in own.items() if value != getattr(args, name) and name not in free.split()]
    if args.resume and changed:
        values = ", ".join(f"--{name.replace('_', '-')} {own[name]}" for name in changed)
        raise ValueError(f"--resume goes on with the run's own arguments, which are {values}")
    if args.resume and args.total_timesteps < own["total_timesteps"]:
        raise ValueError(f"--total-timesteps of a resumed run must be at least its own, {own['total_timesteps']}")
    return args, saved


def main():
    stop, signals = Event(), []
    for number in (signal.SIGINT, signal.SIGTERM):  # the episode under way is finished
        signal.signal(number, lambda number, _: (signals.append(number), stop.set()))
    try:
        args, saved = parse_args()
        check_args(args)
        if args.evaluate:
            for number in (signal.SIGINT, signal.SIGTERM):  # nothing is lost
                signal.signal(number, signal.SIG_DFL)
            return evaluate_run(args, saved)
        env, eval_env = open_env(args), open_env(args)
        run_folder = open_run(args)
        gc.freeze()  # all that was imported stays: garbage collections need not go through it again and again
    except (ValueError, ImportError, OSError) as error:
        print(f"{Path(__file__).name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    try:
        train(args, env, eval_env, run_folder, stop, saved)
    except TrainingFailed as error:
        print(f"{Path(__file__).name}: error: {error}; run folder: {run_folder}", file=sys.stderr)
        sys.exit(128 + signals[0] if signals else 1)
    sys.exit(128 + signals[0] if signals else 0)


if __name__ == "__main__":
    main()
