"""QMIX with a lean replay buffer: `qmix.py`, but every observation and state is stored once, in its smallest dtype.

    python cleanmarl/qmix_memefficient.py --env-name 3m

The next observations and states are those of the next row. The losses are `qmix.py`'s, bit for bit.
Data flows one way: arguments -> environment -> collect an episode -> store it -> update -> evaluate.
Shapes in comments: N transitions, B episodes, T steps; the transitions of a batch are the rows of flat tensors.
"""

import json
import math
import os
import signal
import sys
import time
from collections import deque
from copy import deepcopy
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal, NamedTuple

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
    buffer_size: int = 5000
    """capacity of the replay buffer, in episodes"""
    total_timesteps: int = 1000000
    """environment steps to train for; the episode that reaches them is finished"""
    gamma: float = 0.99
    """discount factor"""
    train_freq: int = 1
    """update every so many episodes"""
    optimizer: str = "Adam"
    """name of an optimizer in torch.optim"""
    learning_rate: float = 0.0005
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
    """hidden layers of the agent network after the first"""
    target_network_update_freq: int = 1
    """update the target networks every so many episodes"""
    polyak: float = 0.01
    """step of the target networks towards the networks; 1 copies them"""
    normalize_reward: bool = False
    """standardise the rewards of each batch"""
    clip_gradients: float = -1
    """largest norm of the gradient; 0 or less for no limit"""
    log_every: int = 10
    """log every so many episodes"""
    eval_steps: int = 50
    """evaluate every so many episodes"""
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
    mixer: Literal["qmix", "vdn"] = "qmix"
    """vdn: Q_tot is the plain sum"""
    hypernet_layers: int = 1
    """layers of the hypernetworks that make W1 and W2: 1 or 2"""
    time_limit: int | None = None
    """episode limit in steps; None for the environment's own"""
    save_model: bool = True
    """save the networks in the run folder"""
    capture_video: bool = False
    """save a greedy episode as a GIF in the run folder at the end"""
    torch_threads: int = 1
    """threads of PyTorch on the CPU"""


def check_args(args: Args):
    """Raise ValueError, in one line, for a value with which nothing could be learned."""
    counts = (
        "buffer_size total_timesteps train_freq target_network_update_freq log_every eval_steps num_eval_ep time_limit"
    )
    counts += " torch_threads"
    parts = "start_e end_e exploration_fraction gamma polyak td_lambda"
    bounds = dict.fromkeys(counts.split(), (1, np.inf)) | dict.fromkeys(parts.split(), (0, 1))
    bounds |= {"batch_size": (1, args.buffer_size), "num_layers": (0, 64), "hypernet_layers": (1, 2)}
    bounds |= {"hidden_dim": (1, 2**16), "hyper_dim": (1, 2**16), "learning_rate": (1e-12, 1e3)}
    bounds |= {"seed": (0, 2**63 - 1), "clip_gradients": (-np.inf, np.inf)}
    for name, (low, high) in bounds.items():
        value = getattr(args, name)
        if value is not None and not low <= value <= high:  # NaN is nowhere
            wanted = f"at least {low}" if high == np.inf else f"from {low} to {high}"
            raise ValueError(f"--{name.replace('_', '-')} must be {wanted}, got {value}")
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


def make_optimizer(args: Args, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    kind = getattr(torch.optim, args.optimizer)
    fused = {"fused": True} if "fused" in signature(kind).parameters else {}  # all parameters in one call
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
    """The action values of one agent from its own observation; all agents share it."""

    def __init__(self, obs_size: int, n_actions: int, hidden_dim: int, num_layers: int):
        super().__init__()
        layers = [nn.Linear(obs_size, hidden_dim), nn.ReLU()]
        for _ in range(num_layers):
            layers += [nn.Linear(hidden_dim, hidden_dim), nn.ReLU()]
        self.layers = nn.Sequential(*layers, start(nn.Linear(hidden_dim, n_actions), 0))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return self.layers(obs)  # [..., obs_size] -> [..., n_actions]


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

    def learned(self) -> list[nn.Parameter]:
        return [*self.agent.parameters(), *self.mixer.parameters()]

    @torch.no_grad()
    def update_targets(self, polyak: float):
        """theta_target <- polyak theta + (1 - polyak) theta_target"""
        targets = [*self.target_agent.parameters(), *self.target_mixer.parameters()]
        for target, parameter in zip(targets, self.learned(), strict=True):
            target.lerp_(parameter, polyak)


def shrink(array: np.ndarray) -> np.ndarray:
    """The array in the smallest of the usual dtypes that holds its values exactly."""
    with np.errstate(invalid="ignore", over="ignore"):
        for dtype in ("?", "u1", "i1", "i2", "f2"):
            # The first row tells nearly always, at a fraction of the cost.
            if (array[:1].astype(dtype) == array[:1]).all() and (array.astype(dtype) == array).all():
                return array.astype(dtype)
    return array


class Packed(NamedTuple):
    """An array without its zeros, of which observations and states are full."""

    shape: tuple[int, ...]
    there: np.ndarray
    """a bit per value of the array, set where it is not 0"""
    values: np.ndarray
    """those that are not 0, in the smallest dtype"""

    @classmethod
    def of(cls, array: np.ndarray):
        there = array != 0
        return cls(array.shape, np.packbits(there), shrink(array[there]))

    def unpack_into(self, rows: np.ndarray, next_rows: np.ndarray):
        """Write all rows but the last to `rows`, all but the first to `next_rows`, which hold zeros."""
        there = np.unpackbits(self.there, count=math.prod(self.shape)).view(bool).reshape(self.shape)
        rows[there[:-1]] = self.values[: len(self.values) - there[-1].sum()]
        next_rows[there[1:]] = self.values[there[0].sum() :]


class EpisodeBuffer:
    """The last `capacity` episodes, each a dict with one row per transition, `obs` and `states` one more and packed."""

    DTYPES: ClassVar = {"actions": np.int64, "reward": np.float32, "done": np.float32, "next_avail_actions": np.int8}

    def __init__(self, capacity: int):
        self.episodes: deque[dict[str, np.ndarray | Packed]] = deque(maxlen=capacity)

    def store(self, episode: dict[str, np.ndarray]):
        stored = {key: shrink(episode[key]) for key in self.DTYPES}
        for key in ("obs", "states"):  # the next ones are those of the next row; the last has a row of its own
            stored[key] = Packed.of(np.concatenate((episode[key], episode[f"next_{key}"][-1:])))
        self.episodes.append(stored)

    def sample(self, batch_size: int, rng: np.random.Generator, device: str) -> dict[str, torch.Tensor]:
        """Whole episodes, their transitions end to end; `lengths` [B] tells where each one ends."""
        chosen = [self.episodes[i] for i in rng.choice(len(self.episodes), batch_size, replace=False)]
        lengths = [len(episode["reward"]) for episode in chosen]
        batch = {"lengths": np.array(lengths)}
        for key, dtype in self.DTYPES.items():
            batch[key] = np.concatenate([episode[key] for episode in chosen], dtype=dtype, casting="unsafe")
        for key in ("obs", "states"):
            shape = (sum(lengths), *chosen[0][key].shape[1:])
            batch[key], batch[f"next_{key}"] = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            for episode, end, length in zip(chosen, np.cumsum(lengths), lengths, strict=True):
                transitions = slice(end - length, end)
                episode[key].unpack_into(batch[key][transitions], batch[f"next_{key}"][transitions])
        return {key: torch.from_numpy(value).to(device) for key, value in batch.items()}


def td_target(reward, terminated, next_q_tot, lengths, gamma: float, td_lambda: float) -> torch.Tensor:
    """What Q_tot is to become, [N]: r + gamma (1 - terminated) next_q_tot or, with td_lambda > 0, the lambda-return.

    G_t = r_t + gamma ((1 - lambda) V_t+1 + lambda G_t+1), where the last step of an episode bootstraps from V alone,
    through truncation but not through termination.
    """
    bootstrap = gamma * (1 - terminated) * next_q_tot  # [N]
    if td_lambda == 0:
        return reward + bootstrap
    steps = torch.arange(int(lengths.max()), device=reward.device)
    real = steps < lengths[:, None]  # [B, T]
    last = steps == lengths[:, None] - 1  # [B, T]
    # Unrolled, G_t is the sum over s >= t of (gamma lambda)^(s - t) times the terms of step s: a product of matrices.
    terms = reward.new_zeros(real.shape)
    terms[real] = reward + torch.where(last[real], bootstrap, (1 - td_lambda) * bootstrap)
    ahead = steps[:, None] - steps  # s - t
    weights = torch.where(ahead >= 0, (gamma * td_lambda) ** ahead.clamp(min=0), 0.0)  # [T, T]
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
    optimizer.zero_grad()
    loss.backward()
    grad_norm = nn.utils.get_total_norm([parameter.grad for parameter in networks.learned()])
    if args.clip_gradients > 0:
        nn.utils.clip_grads_with_norm_(networks.learned(), args.clip_gradients, grad_norm)
    optimizer.step()
    return {"train/loss": loss.detach(), "train/grads": grad_norm}


def linear_schedule(args: Args, step: int) -> float:
    """Epsilon at an environment step."""
    fraction = min(1.0, step / max(1, args.exploration_fraction * args.total_timesteps))
    return args.start_e + fraction * (args.end_e - args.start_e)


def random_stream(args: Args, purpose: str, *number: int) -> np.random.Generator:
    """A stream of its own for each purpose and episode or update: no state of a generator outlives what it is for."""
    return np.random.default_rng((args.seed, ("train", "explore", "sample", "eval").index(purpose), *number))


@torch.inference_mode()
def act(agent: AgentNetwork, observation: dict, epsilon: float, rng: np.random.Generator, device: str) -> np.ndarray:
    """An action per agent, [n_agents]: each, on its own, random among its available ones with probability epsilon."""
    avail_actions = observation["avail_actions"]
    explores = rng.random(len(avail_actions)) < epsilon  # [n_agents]
    scores = rng.random(avail_actions.shape, np.float32)  # [n_agents, n_actions]
    if not explores.all():
        q = agent(torch.from_numpy(observation["obs"]).to(device)).cpu().numpy()
        scores = np.where(explores[:, None], scores, q)
    return np.where(avail_actions, scores, -np.inf).argmax(-1)


def collect_episode(env, agent: AgentNetwork, args: Args, number: int, step: int) -> tuple[dict[str, np.ndarray], dict]:
    """Play training episode `number`, which begins at environment step `step`: (episode to store, its last info)."""
    rng = random_stream(args, "explore", number)
    observation, _ = env.reset(seed=int(random_stream(args, "train", number).integers(2**31)))
    transitions, over = [], False
    while not over:
        epsilon = linear_schedule(args, step + len(transitions))
        actions = act(agent, observation, epsilon, rng, args.device)
        next_observation, reward, terminated, truncated, info = env.step(actions)
        transition = {"obs": observation["obs"], "actions": actions, "reward": np.float32(reward)}
        transition |= {"states": observation["state"], "done": np.float32(terminated)}  # a truncated one bootstraps
        transition |= {"next_obs": next_observation["obs"], "next_states": next_observation["state"]}
        transition |= {"next_avail_actions": next_observation["avail_actions"]}
        transitions.append(transition)
        observation, over = next_observation, terminated or truncated
    return {key: np.array([transition[key] for transition in transitions]) for key in transitions[0]}, info


def evaluate(
    env, agent: AgentNetwork, args: Args, number: int, episodes: int, frames: list | None = None
) -> dict[str, float]:
    """Mean results of greedy episodes; their pictures are appended to `frames` if it is given."""
    results = []
    for i in range(episodes):
        rng = random_stream(args, "eval", number, i)
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        reward_sum, length, over = 0.0, 0, False
        while not over:
            if frames is not None:
                frames.append(env.render())
            actions = act(agent, observation, 0.0, rng, args.device)
            observation, reward, terminated, truncated, info = env.step(actions)
            reward_sum, length, over = reward_sum + reward, length + 1, terminated or truncated
        results.append((reward_sum, length, info.get("battle_won", np.nan)))
    reward_sums, lengths, won = np.array(results, float).T
    means = {"ep_reward": reward_sums.mean(), "std_ep_reward": reward_sums.std(), "ep_length": lengths.mean()}
    if not np.isnan(won).any():  # only battles are won
        means["battle_won"] = won.mean()
    return {f"eval/{name}": float(value) for name, value in means.items()}


class Log:
    """Scalars to TensorBoard, the progress bar and, if asked, Weights & Biases, whose failures never end a training."""

    SHOWN = ("rollout/epsilon", "rollout/ep_reward", "eval/ep_reward", "eval/battle_won")  # in the progress bar

    def __init__(self, args: Args, run_folder: Path):
        self.writer = SummaryWriter(str(run_folder))
        self.progress = tqdm(total=args.total_timesteps, unit=" steps", unit_scale=True, dynamic_ncols=True)
        self.started, self.recent, self.shown, self.wandb = time.perf_counter(), [], {}, None
        if args.use_wnb:
            self.attempt(self.open_wandb, args, run_folder)

    def open_wandb(self, args: Args, run_folder: Path):
        import wandb  # here, because it takes long to import

        account = {"project": args.wnb_project or None, "entity": args.wnb_entity or None}
        self.wandb = wandb.init(name=run_folder.name, dir=str(run_folder), config=asdict(args), **account)

    def attempt(self, call, *args, **options):
        try:
            call(*args, **options)
        except Exception as error:
            self.wandb = None
            tqdm.write(f"warning: going on without Weights & Biases: {error}", file=sys.stderr)

    def episode(self, episode: dict[str, np.ndarray], info: dict):
        self.recent.append((episode["reward"].sum(), len(episode["reward"]), info.get("battle_won", np.nan)))
        self.progress.update(len(episode["reward"]))

    def training(self, args: Args, step: int, num_episodes: int, num_updates: int, learning: dict[str, torch.Tensor]):
        """Means over the episodes since the last call, and where the training stands."""
        means = dict(zip(("ep_reward", "ep_length", "battle_won"), np.mean(self.recent, axis=0), strict=True))
        self.recent.clear()
        scalars = {f"rollout/{name}": mean for name, mean in means.items() if not np.isnan(mean)}
        scalars |= {"rollout/epsilon": linear_schedule(args, step), "rollout/num_episodes": num_episodes}
        scalars |= {name: value.item() for name, value in learning.items()} | {"train/num_updates": num_updates}
        self.write(scalars | {"charts/SPS": step / (time.perf_counter() - self.started)}, step)

    def write(self, scalars: dict[str, float], step: int):
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        if self.wandb:
            self.attempt(self.wandb.log, scalars, step=step)
        self.shown |= {name: f"{value:.2f}" for name, value in scalars.items() if name in self.SHOWN}
        self.progress.set_postfix(self.shown, refresh=False)

    def close(self):
        self.progress.close()
        self.writer.close()
        if self.wandb:
            self.attempt(self.wandb.finish)


def write_atomically(path: Path, write):
    """Let `write(temporary_path)` make the file, then put it in its place whole."""
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    os.replace(temporary, path)


def save_model(networks: Networks, args: Args, run_folder: Path):
    weights = {"agent": networks.agent.state_dict(), "mixer": networks.mixer.state_dict()}
    if args.save_model:
        write_atomically(run_folder / "model.pt", lambda temporary: torch.save(weights, temporary))


def save_video(args: Args, agent: AgentNetwork, path: Path):
    """Save one greedy episode as a GIF."""
    frames = []
    try:
        env = open_env(args, render_mode="rgb_array")
        evaluate(env, agent, args, 0, 1, frames)
        env.close()
        first, *others = [Image.fromarray(frame) for frame in frames]
        duration = 1000 // env.metadata.get("render_fps", 10)  # milliseconds
        options = {"format": "GIF", "append_images": others, "duration": duration, "loop": 0}
        write_atomically(path, lambda temporary: first.save(temporary, save_all=True, **options))
    except Exception as error:  # a display that is missing must not cost the training's results
        tqdm.write(f"warning: no video, {args.env_name} cannot be drawn here: {error}", file=sys.stderr)


def open_env(args: Args, render_mode: str | None = None):
    options = {"agent_ids": args.agent_ids, "time_limit": args.time_limit, "render_mode": render_mode}
    return make_env(args.env_type, args.env_name, args.env_family, **options)


def open_run(args: Args) -> Path:
    """Make the run's folder, with the arguments in it. Raises ValueError where it cannot be written."""
    parts = (args.env_type, Path(args.env_name).stem, Path(__file__).stem, args.seed, time.strftime("%Y%m%d-%H%M%S"))
    folder = Path("runs") / "__".join(map(str, parts))
    while folder.exists():
        folder = folder.with_name(folder.name + "-2")
    try:
        folder.mkdir(parents=True)
        write_atomically(folder / "args.json", lambda path: path.write_text(json.dumps(asdict(args), indent=2)))
    except OSError as error:
        raise ValueError(f"cannot write the run folder {folder}: {error.strerror}") from None
    return folder


def finish(args, networks, eval_env, evaluation, log, run_folder, step, num_episodes, stop) -> dict[str, float]:
    """Save the model before anything else; then evaluate it, unless the training was stopped."""
    save_model(networks, args, run_folder)
    if not stop.is_set() and num_episodes % args.eval_steps != 0:  # or else it has just been evaluated
        evaluation = evaluate(eval_env, networks.agent, args, num_episodes, args.num_eval_ep)
        log.write(evaluation, step)
    if not stop.is_set() and args.capture_video:
        save_video(args, networks.agent, run_folder / "episode.gif")
    log.close()
    results = ", ".join(f"{name} {value:.2f}" for name, value in evaluation.items())
    print(f"{'stopped' if stop.is_set() else 'done'} after {step} steps, {num_episodes} episodes; {results}")
    print(f"run folder: {run_folder}")
    return evaluation


def train(args: Args, env, eval_env, run_folder: Path, stop: Event) -> dict[str, float]:
    """Train until `total_timesteps` or until `stop` is set; returns the last evaluation."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.torch_threads)
    networks = Networks(args, env)
    optimizer = make_optimizer(args, networks.learned())
    buffer, log = EpisodeBuffer(args.buffer_size), Log(args, run_folder)
    step = num_episodes = num_updates = 0
    evaluation, learning = {}, {}  # the latest results

    while step < args.total_timesteps and not stop.is_set():
        episode, info = collect_episode(env, networks.agent, args, num_episodes, step)
        buffer.store(episode)
        log.episode(episode, info)
        step, num_episodes = step + len(episode["reward"]), num_episodes + 1

        if num_episodes % args.train_freq == 0 and len(buffer.episodes) >= args.batch_size:
            batch = buffer.sample(args.batch_size, random_stream(args, "sample", num_updates), args.device)
            learning = update(networks, optimizer, batch, args)
            num_updates += 1
        if num_episodes % args.target_network_update_freq == 0:
            networks.update_targets(args.polyak)

        if num_episodes % args.eval_steps == 0:
            evaluation = evaluate(eval_env, networks.agent, args, num_episodes, args.num_eval_ep)
            log.write(evaluation, step)
        if num_episodes % args.log_every == 0:
            log.training(args, step, num_episodes, num_updates, learning)

    return finish(args, networks, eval_env, evaluation, log, run_folder, step, num_episodes, stop)


def main():
    args = tyro.cli(Args, description=__doc__)
    stop = Event()
    signal.signal(signal.SIGINT, lambda *_: stop.set())  # the episode under way is finished
    try:
        check_args(args)
        env, eval_env = open_env(args), open_env(args)
        run_folder = open_run(args)
    except (ValueError, ImportError) as error:
        print(f"{Path(__file__).name}: error: {error}", file=sys.stderr)
        sys.exit(2)
    train(args, env, eval_env, run_folder, stop)
    sys.exit(130 if stop.is_set() else 0)


if __name__ == "__main__":
    main()
