"""QMIX from many environments at once: `qmix.py`, but one batched forward pass acts in all of them.

    python cleanmarl/qmix_multienvs.py --env-name MMM --num-envs 8

An episode is stored the moment it ends, and its environment starts the next one; no episode waits for a longer one.
After every `train_freq`-th finished episode comes a training round of `n_epochs` updates.
Data flows one way: arguments -> environments -> collect episodes -> store them -> update -> evaluate.
Shapes in comments: N transitions, B episodes, T steps, E environments; a batch's transitions are rows of flat tensors.
"""

import gc
import json
import math
import os
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from inspect import signature
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Literal

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small here, those of a few rows
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # PyTorch's threads, when they wait, make room for others' work

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from gymnasium.vector import AutoresetMode
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cleanmarl.env import make_env, make_vector_env


@dataclass
class Args:
    env_type: str = "smaclite"
    """smaclite, lbf, pz (PettingZoo), or smaclite-upstream"""
    env_name: str = "MMM"
    """map, scenario file or environment, as 3m, mine.toml, Foraging-8x8-2p-3f-v3, simple_spread_v3"""
    env_family: str = "mpe"
    """PettingZoo family: mpe, sisl, butterfly, or a dotted package of one's own"""
    num_envs: int = 4
    """environments that are played at once"""
    agent_ids: bool = True
    """append a one-hot agent id to each observation"""
    buffer_size: int = 5000
    """capacity of the replay buffer, in episodes"""
    total_timesteps: int = 1000000
    """environment steps to train for, over all environments; the episode that reaches them is finished"""
    gamma: float = 0.99
    """discount factor"""
    train_freq: int = 2
    """a training round every so many finished episodes, over all environments"""
    optimizer: str = "Adam"
    """name of an optimizer in torch.optim"""
    learning_rate: float = 0.0005
    """learning rate of the optimizer"""
    batch_size: int = 32
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
    """hidden layers of the agent network after the first"""
    target_network_update_freq: int = 1
    """update the target networks every so many training rounds"""
    polyak: float = 0.005
    """step of the target networks towards the networks; 1 copies them"""
    normalize_reward: bool = False
    """standardise the rewards of each batch"""
    clip_gradients: float = -1
    """largest norm of the gradient; 0 or less for no limit"""
    n_epochs: int = 2
    """batches, and so updates, in a training round"""
    log_every: int = 10
    """log every so many finished episodes"""
    eval_steps: int = 50
    """evaluate every so many finished episodes"""
    num_eval_ep: int = 5
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
    hypernet_layers: int = 1
    """layers of the hypernetworks that make W1 and W2: 1 or 2"""
    time_limit: int | None = None
    """episode limit in steps; None for the environment's own"""
    save_model: bool = True
    """save the networks in the run folder"""
    capture_video: bool = False
    """save a greedy episode as a GIF in the run folder at the end; with --evaluate the best, the median, the worst"""
    torch_threads: int = 2
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
    num_rounds: int = 0
    num_updates: int = 0
    seconds: float = 0.0
    recent: list[tuple] = field(default_factory=list)  # reward, length and outcome of the episodes not yet logged
    curves: dict[str, int] = field(default_factory=dict)  # bytes of the files of TensorBoard
    evaluation: dict[str, float] = field(default_factory=dict)  # the latest
    learning: dict[str, torch.Tensor] = field(default_factory=dict)


def check_args(args: Args):
    """Raise ValueError, in one line, for a value with which nothing could be learned."""
    counts = "buffer_size total_timesteps train_freq target_network_update_freq log_every eval_steps num_eval_ep"
    counts += " checkpoint_every n_epochs"
    parts = "start_e end_e exploration_fraction gamma polyak td_lambda"
    bounds = dict.fromkeys(counts.split(), (1, 2**31 - 1)) | dict.fromkeys(parts.split(), (0, 1))
    bounds |= {"batch_size": (1, args.buffer_size), "num_layers": (0, 64), "hypernet_layers": (1, 2)}
    bounds |= {"hidden_dim": (1, 2**16), "hyper_dim": (1, 2**16), "learning_rate": (1e-12, 1e3)}
    bounds |= {"seed": (0, 2**63 - 1), "clip_gradients": (-np.inf, np.inf), "time_limit": (1, 10**5)}
    bounds |= {"torch_threads": (1, 1024), "num_envs": (1, 1024)}
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
    """The action values [..., n_actions] of one agent from its own observation [..., obs_size]; all agents share it.

    `forward` learns, `in_numpy` acts. They compute the same: change both.
    """

    def __init__(self, obs_size: int, n_actions: int, hidden_dim: int, num_layers: int):
        super().__init__()
        layers = [nn.Linear(obs_size, hidden_dim), nn.ReLU()]
        for _ in range(num_layers):
            layers += [nn.Linear(hidden_dim, hidden_dim), nn.ReLU()]
        self.layers = nn.Sequential(*layers, start(nn.Linear(hidden_dim, n_actions), 0))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs)  # [..., obs_size] -> [..., n_actions]

    def in_numpy(self) -> Callable[[np.ndarray], np.ndarray]:
        """`forward` with the weights of now, for the few rows of a step: PyTorch's calls take several times as long."""
        parameters = [parameter.detach().cpu().numpy().T for parameter in self.parameters()]
        *hidden, (last_weight, last_bias) = zip(parameters[::2], parameters[1::2], strict=True)

        def q_values(obs: np.ndarray) -> np.ndarray:
            for weight, bias in hidden:
                obs = np.maximum(obs @ weight + bias, 0)
            return obs @ last_weight + last_bias  # [N, obs_size] -> [N, n_actions]

        return q_values


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
        self.agent = AgentNetwork(env.obs_size, env.n_actions, args.hidden_dim, args.num_layers)
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
    """The last `capacity` episodes, each a dict of arrays: a row per step, and one more of what is observed."""

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
        """Whole episodes, their transitions end to end, [N, ...] of each key; `lengths` [B] tells where each ends."""
        chosen = [self.episodes[i] for i in rng.choice(len(self.episodes), batch_size, replace=False)]
        batch = {"lengths": np.array([len(episode["reward"]) for episode in chosen])}
        for key in ("actions", "reward", "done"):
            batch[key] = np.concatenate([episode[key] for episode in chosen])
        for key in ("obs", "states"):
            batch[key] = np.concatenate([episode[key][:-1] for episode in chosen])
        for key in ("obs", "states", "avail_actions"):
            batch[f"next_{key}"] = np.concatenate([episode[key][1:] for episode in chosen])
        return {key: torch.from_numpy(value).to(device) for key, value in batch.items()}


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


def qmix_loss(networks: Networks, batch: dict[str, torch.Tensor], args: Args) -> torch.Tensor:
    """Mean squared TD error of Q_tot over the transitions of a batch."""
    reward = batch["reward"]  # [N]
    if args.normalize_reward:
        reward = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)

    with torch.no_grad():
        # Each agent's best available next action; by monotonicity, together they are the joint argmax of Q_tot.
        next_q = networks.target_agent(batch["next_obs"])  # [N, n_agents, n_actions]
        choosing_q = networks.agent(batch["next_obs"]) if args.double_q else next_q
        choosing_q = choosing_q.masked_fill(batch["next_avail_actions"] == 0, -torch.inf)
        next_q = next_q.gather(-1, choosing_q.argmax(-1, keepdim=True)).squeeze(-1)  # [N, n_agents]
        next_q_tot = networks.target_mixer(next_q, batch["next_states"])  # [N]
        target = td_target(reward, batch["done"], next_q_tot, batch["lengths"], args.gamma, args.td_lambda)

    q = networks.agent(batch["obs"]).gather(-1, batch["actions"].unsqueeze(-1)).squeeze(-1)  # [N, n_agents]
    return F.mse_loss(networks.mixer(q, batch["states"]), target)


def update(networks: Networks, optimizer, batch: dict[str, torch.Tensor], args: Args) -> dict[str, torch.Tensor]:
    """One step of gradient descent; returns the loss and the norm of its gradient."""
    loss = qmix_loss(networks, batch, args)
    networks.theta.grad.zero_()
    loss.backward()
    grad_norm = networks.theta.grad.norm()
    if args.clip_gradients > 0:
        nn.utils.clip_grads_with_norm_(networks.theta, args.clip_gradients, grad_norm)
    optimizer.step()
    return {"train/loss": loss.detach(), "train/grads": grad_norm}


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


def act(q_values: Callable, observation: dict, epsilon: float, rng: np.random.Generator) -> np.ndarray:
    """An action per agent, [n_agents]: each, on its own, random among its available ones with probability epsilon."""
    avail_actions = observation["avail_actions"]  # [n_agents, n_actions]
    draws = rng.random((avail_actions.shape[0], 1 + avail_actions.shape[1]), np.float32)
    explores, scores = draws[:, :1] < epsilon, draws[:, 1:]
    if not explores.all():
        scores = np.where(explores, scores, q_values(observation["obs"]))
    return np.where(avail_actions, scores, -np.inf).argmax(-1)


def act_in_all(q_values: Callable, observation: dict, epsilon: float, streams: list) -> np.ndarray:
    """`act` in all environments in one forward pass, [E, n_agents]; each has a stream of random numbers of its own."""
    avail_actions = observation["avail_actions"]  # [E, n_agents, n_actions]
    _, n_agents, n_actions = avail_actions.shape
    draws = np.array([rng.random((n_agents, 1 + n_actions), np.float32) for rng in streams])
    explores, scores = draws[..., :1] < epsilon, draws[..., 1:]
    if not explores.all():
        rows = observation["obs"].reshape(-1, observation["obs"].shape[-1])  # [E * n_agents, obs_size]
        scores = np.where(explores, scores, q_values(rows).reshape(avail_actions.shape))
    return np.where(avail_actions, scores, -np.inf).argmax(-1)


def as_arrays(observations: list[dict], steps: list[tuple]) -> dict[str, np.ndarray]:
    """The episode to store, of T + 1 observations and T steps: actions, reward, ended."""
    actions, reward, ended = zip(*steps, strict=True)
    episode = {"actions": np.array(actions), "reward": np.array(reward, np.float32)}
    episode["done"] = np.array(ended, np.float32)  # the learner does not bootstrap there
    for key, name in (("obs", "obs"), ("states", "state"), ("avail_actions", "avail_actions")):
        episode[key] = np.array([observation[name] for observation in observations])  # T + 1 rows
    return episode


class EnvironmentDied(TrainingFailed):
    """The process of an environment is gone."""


class Collector:
    """Environments that step together; each plays one training episode after the other."""

    def __init__(self, envs, args: Args):
        self.envs, self.args, self.num_started = envs, args, 0
        self.numbers, self.seeds, self.streams = [0] * args.num_envs, [None] * args.num_envs, [None] * args.num_envs
        self.observations, self.steps = ([[] for _ in range(args.num_envs)] for _ in range(2))  # of the episodes
        self.over = np.ones(args.num_envs, bool)  # [E], where the next step begins an episode
        self.ended: deque[int] = deque(maxlen=args.buffer_size)  # numbers of the episodes in the buffer

    def begin(self, numbers: list[int]):
        """Begin training episode `numbers[i]` in each environment i whose last one is over."""
        for i in np.flatnonzero(self.over):
            self.seeds[i] = int(random_stream(self.args, "train", numbers[i]).integers(2**31))
            self.streams[i] = random_stream(self.args, "explore", numbers[i])
            self.numbers[i], self.observations[i], self.steps[i] = int(numbers[i]), [], []
        self.observe(self.watched(self.envs.reset, seed=self.seeds, options={"reset_mask": self.over})[0], self.over)

    def observe(self, observation: dict[str, np.ndarray], where: np.ndarray):
        """Take in what is observed in all environments, [E, ...]; `where` [E] it is new."""
        self.observation = observation
        for i in where.nonzero()[0]:
            self.observations[i].append({name: rows[i] for name, rows in observation.items()})

    def watched(self, call, *args, **options):
        """A call to the environments; raises EnvironmentDied, with the number and seed, if one of them is gone."""
        try:
            return call(*args, **options)
        except (EOFError, OSError) as error:
            time.sleep(0.1)  # until the system knows that the process is gone
            dead = [i for i, process in enumerate(self.envs.processes) if not process.is_alive()]
            about = ", ".join(f"environment {i} (seed of its episode: {self.seeds[i]})" for i in dead)
            raise EnvironmentDied(f"the process of {about or 'an environment'} died") from error

    def step(self, q_values: Callable, epsilon: float) -> list[tuple[dict[str, np.ndarray], dict]]:
        """One step of every environment; returns the episodes that ended, each with its last info."""
        num_begun = int(self.over.sum())
        if num_begun:
            self.begin(self.num_started + np.cumsum(self.over) - 1)
        ended = self.advance(act_in_all(q_values, self.observation, epsilon, self.streams))
        self.num_started += num_begun  # not before, since a process may die in between
        return ended

    def advance(self, actions: np.ndarray) -> list[tuple[dict[str, np.ndarray], dict]]:
        """Take the actions [E, n_agents]; returns the episodes that ended."""
        observation, reward, terminated, truncated, infos = self.watched(self.envs.step, actions)
        self.observe(observation, np.ones(len(actions), bool))
        ends = terminated if self.args.bootstrap_truncated else terminated | truncated
        for steps, step in zip(self.steps, zip(actions, reward, ends, strict=True), strict=True):
            steps.append(step)
        self.over, ended = terminated | truncated, []
        for i in np.flatnonzero(self.over):
            episode = as_arrays(self.observations[i], self.steps[i])
            ended.append((episode, {key: infos[key][i] for key in ("battle_won",) if key in infos}))
            self.ended.append(self.numbers[i])
            self.steps[i] = []
        return ended

    def played(self) -> dict:
        """What brings the environments back to where they are, and the numbers of the episodes in the buffer."""
        actions = [np.array([actions for actions, _, _ in steps], np.int16) for steps in self.steps]
        under_way = {"numbers": self.numbers, "actions": [torch.from_numpy(part) for part in actions]}
        return {"num_started": self.num_started, "numbers": list(self.ended), "under_way": under_way}

    def repeat(self, numbers: list[int], taken: list[np.ndarray]) -> list[tuple[dict[str, np.ndarray], dict]]:
        """Play episodes again, with what was done in them: those that end at the last step are returned.

        All arrive together; until its time has come, a shorter one is begun anew at every step.
        """
        ended, longest = [], max(map(len, taken))
        for step in range(longest):
            now = [step - longest + len(part) for part in taken]
            if step and self.over[np.array(now) > 0].any():
                raise ValueError("an episode is shorter now")
            self.over = np.array(now) <= 0
            if self.over.any():
                self.begin(numbers)
            actions = act_in_all(None, self.observation, 1.0, self.streams)  # draws as it drew then
            for i, (part, place) in enumerate(zip(taken, now, strict=True)):
                actions[i] = part[place] if place >= 0 else actions[i]
            ended = self.advance(actions)
        for i in np.flatnonzero([len(part) == 0 for part in taken]):
            self.over[i], self.steps[i] = True, []
        return ended


def replay(collector: Collector, args: Args, buffer: EpisodeBuffer, saved: dict, stop: Event):
    """Play the episodes of a checkpoint again, those under way last. Raises TrainingFailed if they are not repeated."""
    played = saved["played"]
    numbers, ends = played["numbers"], played["lengths"].cumsum(0)[:-1]
    actions, rewards = np.split(played["actions"].long().numpy(), ends), np.split(played["reward"].numpy(), ends)
    try:
        for first in tqdm(range(0, len(numbers), args.num_envs), "replaying", leave=False):
            some = [min(first + i, len(numbers) - 1) for i in range(args.num_envs)]  # the last ones fill it up
            ended = collector.repeat([numbers[i] for i in some], [actions[i] for i in some])
            if stop.is_set():
                raise TrainingFailed("stopped before it went on; the checkpoint is as it was")
            for i, (episode, _) in dict(zip(some, ended, strict=True)).items():
                if not np.array_equal(episode["reward"], rewards[i]):
                    raise ValueError(f"episode {numbers[i]} has other rewards")
                buffer.store(episode)
        collector.repeat(played["under_way"]["numbers"], [part.numpy() for part in played["under_way"]["actions"]])
    except (ValueError, IndexError) as error:
        raise TrainingFailed(f"the environments do not repeat what they played: {error}") from error
    collector.num_started = played["num_started"]
    collector.ended = deque(numbers, args.buffer_size)


def play(env, agent: AgentNetwork, args: Args, rng: np.random.Generator, frames: list | None = None) -> tuple:
    """A greedy episode: (reward, length, whether it was won or NaN); its pictures are appended to `frames` if given."""
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    q_values, reward_sum, length, over = agent.in_numpy(), 0.0, 0, False
    while not over:
        if frames is not None:
            frames.append(env.render())
        actions = act(q_values, observation, 0.0, rng)
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


def open_envs(args: Args):
    """The environments to train in; each is reset by itself, with the seed of its next episode."""
    options = {"agent_ids": args.agent_ids, "time_limit": args.time_limit, "autoreset_mode": AutoresetMode.DISABLED}
    return make_vector_env(args.env_type, args.env_name, args.env_family, args.num_envs, **options)


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


def train(args: Args, envs, eval_env, run_folder: Path, stop: Event, saved: dict | None = None) -> dict[str, float]:
    """Train until `total_timesteps` or until `stop` is set, from a checkpoint if given; returns the last evaluation.

    Raises TrainingFailed if an update is not finite, the environments do not repeat the checkpoint's episodes, or the
    process of one of them is gone; what has been learned is saved then.
    """
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.torch_threads)
    networks, buffer, progress = Networks(args, envs), EpisodeBuffer(args.buffer_size), Progress()
    optimizer, collector = make_optimizer(args, [networks.theta]), Collector(envs, args)
    if saved:
        networks.load_state_dict(saved["networks"])
        optimizer.load_state_dict(saved["optimizer"])
        replay(collector, args, buffer, saved, stop)
        progress = Progress(**saved["progress"])

    q_values = networks.agent.in_numpy()
    with closing(Log(args, run_folder, progress)) as log:
        while not (collector.over.any() and (progress.step >= args.total_timesteps or stop.is_set())):
            try:
                ended = collector.step(q_values, linear_schedule(args, progress.step))
            except EnvironmentDied:
                save(run_folder, args, progress, networks, optimizer, buffer.played() | collector.played(), log)
                raise
            progress.step += args.num_envs
            for episode, info in ended:
                buffer.store(episode)
                log.episode(progress, episode, info)
                progress.num_episodes += 1

                if progress.num_episodes % args.train_freq == 0 and len(buffer.episodes) >= args.batch_size:
                    for _ in range(args.n_epochs):
                        rng = random_stream(args, "sample", progress.num_updates)
                        batch = buffer.sample(args.batch_size, rng, args.device)
                        progress.learning = update(networks, optimizer, batch, args)
                        progress.num_updates += 1
                        check_finite(progress)
                    q_values = networks.agent.in_numpy()
                    progress.num_rounds += 1
                    if progress.num_rounds % args.target_network_update_freq == 0:
                        networks.update_targets(args.polyak)

                if progress.num_episodes % args.eval_steps == 0:
                    progress.evaluation = evaluate(eval_env, networks.agent, args, progress.num_episodes)
                    log.write(progress.evaluation, progress.step)
                if progress.num_episodes % args.log_every == 0:
                    log.training(args, progress)
            if ended and progress.num_episodes % args.checkpoint_every < len(ended):
                save(run_folder, args, progress, networks, optimizer, buffer.played() | collector.played(), log)

        save(run_folder, args, progress, networks, optimizer, buffer.played() | collector.played(), log)
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
        envs, eval_env = open_envs(args), open_env(args)
        run_folder = open_run(args)
        gc.freeze()  # all that was imported stays: garbage collections need not go through it again and again
    except (ValueError, ImportError, OSError) as error:
        print(f"{Path(__file__).name}: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    try:
        train(args, envs, eval_env, run_folder, stop, saved)
    except TrainingFailed as error:
        warnings.simplefilter("ignore")  # of the others' steps, which are under way
        envs.close(**{"terminate": True} if isinstance(error, EnvironmentDied) else {})
        print(f"{Path(__file__).name}: error: {error}; run folder: {run_folder}", file=sys.stderr)
        sys.exit(128 + signals[0] if signals else 1)
    envs.close()
    sys.exit(128 + signals[0] if signals else 0)


if __name__ == "__main__":
    main()
