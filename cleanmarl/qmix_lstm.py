"""QMIX with recurrent agents, which remember their observations and actions.

    python cleanmarl/qmix_lstm.py --env-name 3m

Gradients are cut every `tbptt` steps (truncated backpropagation through time).
Shapes in comments: N transitions, B episodes, T steps.
"""

import cleanmarl  # noqa: F401  first: it prepares NumPy and PyTorch

# isort: split
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium.wrappers import RenderCollection
from torch import nn

from cleanmarl.arguments import Between, Count, Fraction, Optimizer, Rate, Seed, Units, parse_args
from cleanmarl.checkpoint import load_model
from cleanmarl.env import list_envs, make_env
from cleanmarl.fast import as_vector, check_vectors, make_optimizer, recurrent_in_numpy
from cleanmarl.results import means, outcome, save_gif, worst_median_best, write_evaluation
from cleanmarl.run import Run, clear_errors, random_stream, refusing, warn


@dataclass
class Args:
    # Environment
    env_type: str = "smaclite"
    """smaclite, lbf, pz (PettingZoo), gym (Gymnasium) or smaclite-upstream"""
    env_name: str = "3m"
    """for example 3m, mine.toml, Foraging-8x8-2p-3f-v3, simple_spread_v3"""
    env_family: str = "mpe"
    """PettingZoo family: mpe, sisl, butterfly, or your own package"""
    agent_ids: bool = True
    """append a one-hot agent id to each observation"""
    time_limit: Annotated[int | None, Between(1, 10**5)] = None
    """steps of an episode; None for the environment's own limit"""

    # Learning
    total_timesteps: Count = 1000000
    """environment steps to train for"""
    buffer_size: Count = 10000
    """episodes in the replay buffer"""
    batch_size: Annotated[int, Between(1, "buffer_size")] = 10
    """episodes in a batch"""
    mean_age: Annotated[float, Between(10, np.inf)] = 500
    """an episode is drawn with weight exp(-age / mean_age); inf: all alike"""
    train_freq: Count = 1
    """episodes between updates"""
    optimizer: Optimizer = "Adam"
    """optimizer of torch.optim"""
    learning_rate: Rate = 0.0008
    """learning rate of the optimizer"""
    gamma: Fraction = 0.99
    """discount factor"""
    td_lambda: Fraction = 0.6
    """lambda of the lambda-returns; 0 for one-step targets"""
    double_q: bool = True
    """choose next actions by the network, not by the target network"""
    target_network_update_freq: Count = 1
    """episodes between updates of the target networks"""
    polyak: Fraction = 0.005
    """step of the target networks towards the networks; 1 copies"""
    normalize_reward: bool = False
    """standardise the rewards of each batch"""
    clip_gradients: Annotated[float, Between(-np.inf, np.inf)] = -1
    """largest norm of the gradient; 0 or less for no limit"""
    bootstrap_truncated: bool = True
    """bootstrap where the time limit ended the episode"""
    tbptt: Count = 10
    """steps after which gradients are cut"""

    # Networks
    hidden_dim: Units = 64
    """units of the agent network's layers"""
    num_layers: Annotated[int, Between(1, 16)] = 1
    """recurrent layers of the agent network"""
    rnn: Literal["lstm", "gru"] = "lstm"
    """recurrent cell of the agent network"""
    last_action: bool = True
    """append each agent's last action, one-hot, to its observation"""
    mixer: Literal["qmix", "vdn"] = "qmix"
    """qmix, or vdn: Q_tot is the plain sum"""
    hyper_dim: Units = 64
    """units of the mixing network and of its hypernetworks"""
    hypernet_layers: Annotated[int, Between(1, 2)] = 1
    """layers of the hypernetworks of W1 and W2: 1 or 2"""

    # Exploration
    start_e: Fraction = 1
    """epsilon at the start"""
    end_e: Fraction = 0.025
    """epsilon at the end of exploration"""
    exploration_fraction: Fraction = 0.05
    """part of total_timesteps over which epsilon falls"""
    greedy_episodes: Fraction = 0.5
    """share of training episodes in which epsilon is 0"""

    # Evaluation and output
    eval_steps: Count = 50
    """episodes between evaluations"""
    num_eval_ep: Count = 10
    """episodes in an evaluation"""
    log_every: Count = 10
    """episodes between points of the curves"""
    checkpoint_every: Count = 1000
    """episodes between checkpoints"""
    checkpoint_buffer: bool = True
    """keep the replay buffer in checkpoints"""
    save_model: bool = True
    """save the last and the best networks"""
    capture_video: bool = False
    """save greedy episodes as GIFs"""
    use_wnb: bool = False
    """also log to Weights & Biases"""
    wnb_project: str = ""
    """Weights & Biases project"""
    wnb_entity: str = ""
    """Weights & Biases entity"""

    # This run
    seed: Seed = 1
    """seed of all random numbers"""
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """device of the networks"""
    torch_threads: Annotated[int, Between(1, 1024)] = 1
    """threads of PyTorch on the CPU"""
    resume: str = ""
    """folder of a run to resume, with its own arguments"""
    evaluate: str = ""
    """folder of a run to evaluate in num_eval_ep episodes"""
    which: Literal["best", "last"] = "last"
    """networks to evaluate"""
    list_envs: bool = False
    """print the environments to train in"""


def start(layer: nn.Linear, scale: float) -> nn.Linear:
    """Scale a layer's initial weights; 0 also zeroes its bias. So Q_tot starts at 0."""
    with torch.no_grad():
        layer.weight *= scale
        if scale == 0:
            layer.bias.zero_()
    return layer


class AgentNetwork(nn.Module):
    """Action values from an agent's past; all agents share this network."""

    def __init__(self, args: Args, env):
        super().__init__()
        input_size = env.obs_size + (env.n_actions if args.last_action else 0)
        dim = args.hidden_dim
        cell = nn.LSTM if args.rnn == "lstm" else nn.GRU
        self.encoder = nn.Sequential(nn.Linear(input_size, dim), nn.ReLU())
        self.rnn = cell(dim, dim, args.num_layers)
        self.head = start(nn.Linear(dim, env.n_actions), 0)

    def forward(self, inputs, hidden=None):
        """[steps, rows, input_size] -> [steps, rows, n_actions], the hidden state after."""
        outputs, hidden = self.rnn(self.encoder(inputs), hidden)
        return self.head(outputs), hidden


class QMixer(nn.Module):
    """Q_tot from the agents' values (eq. 6 of Rashid et al. 2018)."""

    def __init__(self, args: Args, env):
        super().__init__()
        dim = args.hyper_dim

        def hypernetwork(size: int, layers: int, scale: float) -> nn.Module:
            if layers == 1:
                return start(nn.Linear(env.state_size, size), scale)
            last = start(nn.Linear(dim, size), scale)
            return nn.Sequential(nn.Linear(env.state_size, dim), nn.ReLU(), last)

        self.w1 = hypernetwork(env.n_agents * dim, args.hypernet_layers, 0.1)
        self.b1 = hypernetwork(dim, 1, 0)
        self.w2 = hypernetwork(dim, args.hypernet_layers, 0.1)
        self.b2 = hypernetwork(1, 2, 0)

    def weights(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """abs(W1) [N, n_agents, dim] and abs(W2) [N, dim], made by the hypernetworks."""
        # So dQ_tot/dq_i >= 0, and the agents' own best actions are the best joint action
        w1 = self.w1(state).abs()
        w2 = self.w2(state).abs()
        return w1.view(len(w2), -1, w2.shape[-1]), w2

    def forward(self, q: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """q [N, n_agents], state [N, state_size] -> Q_tot [N]"""
        w1, w2 = self.weights(state)
        weighted = (q.unsqueeze(-1) * w1).sum(1)  # [N, dim]
        hidden = F.elu(weighted + self.b1(state))
        return (hidden * w2).sum(-1) + self.b2(state).squeeze(-1)


class VDNMixer(nn.Module):
    """Q_tot is the sum of the agents' values (Sunehag et al., 2018)."""

    def forward(self, q: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return q.sum(-1)  # [N, n_agents] -> [N]


class Networks(nn.Module):
    """The agent network, the mixer, and the targets that follow them."""

    def __init__(self, args: Args, env):
        super().__init__()
        self.agent = AgentNetwork(args, env)
        self.mixer = QMixer(args, env) if args.mixer == "qmix" else VDNMixer()
        self.target_agent = deepcopy(self.agent).requires_grad_(False)
        self.target_mixer = deepcopy(self.mixer).requires_grad_(False)
        self.to(args.device)
        self.theta = as_vector(self.agent, self.mixer)
        self.target_theta = as_vector(self.target_agent, self.target_mixer).detach()

    def update_targets(self, polyak: float):
        """theta_target <- polyak theta + (1 - polyak) theta_target"""
        self.target_theta.lerp_(self.theta.detach(), polyak)


class EpisodeBuffer:
    """The last `capacity` episodes, each a dict of arrays over its steps."""

    def __init__(self, capacity: int):
        self.episodes: deque[dict[str, np.ndarray]] = deque(maxlen=capacity)

    def store(self, episode: dict[str, np.ndarray]):
        self.episodes.append(episode)

    def sample(self, args: Args, number: int) -> dict[str, torch.Tensor]:
        """Batch `number`: whole episodes end to end, and their `lengths` [B]."""
        rng = random_stream(args, "sample", number)
        # The newer, the more likely (Wang and Ross, 2019)
        age = np.arange(len(self.episodes))[::-1]
        weight = np.exp(-age / args.mean_age)
        drawn = rng.choice(len(age), args.batch_size, replace=False, p=weight / weight.sum())
        chosen = [self.episodes[i] for i in drawn]
        # The longest first, for run_agents()
        chosen.sort(key=lambda episode: len(episode["reward"]), reverse=True)
        batch = {"lengths": np.array([len(one["reward"]) for one in chosen])}
        for key in chosen[0]:
            batch[key] = np.concatenate([one[key] for one in chosen])
        return {k: torch.from_numpy(v).to(args.device) for k, v in batch.items()}


def td_target(reward, terminated, next_q_tot, lengths, gamma, td_lambda):
    """r + gamma (1 - terminated) next_q_tot, or the lambda-return.

    G_t = r_t + gamma ((1 - lambda) V_t+1 + lambda G_t+1); the last step of an
    episode that was truncated bootstraps from V alone. `lengths` is [B].
    """
    bootstrap = gamma * (1 - terminated) * next_q_tot  # [N]
    share = torch.full_like(reward, 1 - td_lambda)
    share[lengths.cumsum(0) - 1] = 1

    # Unrolled, G_t is the sum over s >= t of the terms of step s,
    # weighted by (gamma lambda)^(s - t)
    steps = torch.arange(int(lengths.max()), device=reward.device)
    real = steps < lengths[:, None]  # [B, T]
    terms = reward.new_zeros(real.shape)
    terms.masked_scatter_(real, reward + share * bootstrap)
    ahead = (steps[:, None] - steps).clamp(min=0)  # [T, T]
    weights = ((gamma * td_lambda) ** ahead).tril().to(terms)
    return (terms @ weights)[real]


def observed_before(lengths: torch.Tensor) -> torch.Tensor:
    """Row of the observation before each step [N]; an episode has T + 1 observations."""
    episode = torch.repeat_interleave(lengths)  # [N]
    return torch.arange(len(episode), device=lengths.device) + episode


def agent_inputs(batch: dict, args: Args) -> torch.Tensor:
    """Observations and last actions, [N + B, n_agents, input_size]."""
    if not args.last_action:
        return batch["obs"]
    previous = torch.zeros_like(batch["avail_actions"], dtype=batch["obs"].dtype)
    after = observed_before(batch["lengths"]) + 1
    previous[after] = F.one_hot(batch["actions"], previous.shape[-1]).to(previous)
    return torch.cat((batch["obs"], previous), dim=-1)


def run_agents(agent, inputs: torch.Tensor, lengths: torch.Tensor, tbptt: int):
    """Action values [N + B, n_agents, n_actions], with gradients cut every `tbptt` steps.

    Episodes are cut into pieces of `tbptt` steps. All pieces run through the recurrent
    layer together, each from the final hidden state of the piece before it.
    """
    # Number of first pieces, of second ones, and so on: the longest episodes come first
    rows = lengths.cpu() + 1
    n_steps = min(tbptt, int(rows[0]))
    counts = (rows > torch.arange(0, rows[0], n_steps)[:, None]).sum(1)

    # Observation t of an episode is step t % n_steps of its piece t // n_steps
    episode = torch.repeat_interleave(rows)  # [N + B]
    t = torch.cat([torch.arange(row) for row in rows])
    place = (t % n_steps, (counts.cumsum(0) - counts)[t // n_steps] + episode)
    encoded = agent.encoder(inputs)  # [N + B, n_agents, hidden_dim]
    pieces = encoded.new_zeros(n_steps, int(counts.sum()), *encoded.shape[1:])
    pieces[place] = encoded

    hidden = hidden_before(agent.rnn, pieces.detach(), counts.tolist())
    outputs, _ = agent.rnn(pieces.flatten(1, 2), hidden)
    return agent.head(outputs.view(pieces.shape)[place])


@torch.no_grad()
def hidden_before(rnn, pieces: torch.Tensor, counts: list[int]):
    """The initial hidden state of each piece; `counts`: numbers of first, second, ... pieces."""
    n_agents = pieces.shape[2]
    zeros = pieces.new_zeros(rnn.num_layers, counts[0] * n_agents, rnn.hidden_size)
    hidden = [(zeros, zeros) if isinstance(rnn, nn.LSTM) else zeros]
    for chunk, count in zip(pieces.split(counts, dim=1), counts[1:], strict=False):
        going_on = chunk[:, :count].flatten(1, 2)
        before = each_part(lambda part, n=going_on.shape[1]: part[:, :n].contiguous(), hidden[-1])
        hidden.append(rnn(going_on, before)[1])
    return each_part(lambda *parts: torch.cat(parts, dim=1), *hidden)


def each_part(function: Callable, *hidden):
    """Apply a function to a GRU's hidden states, or to each part of an LSTM's."""
    if isinstance(hidden[0], tuple):
        return tuple(function(*parts) for parts in zip(*hidden, strict=True))
    return function(*hidden)


def qmix_loss(networks: Networks, batch: dict, args: Args) -> tuple:
    """Mean squared TD error of Q_tot over a batch's transitions, and their Q_tot [N]."""
    reward = batch["reward"]  # [N]
    if args.normalize_reward:
        reward = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)

    lengths = batch["lengths"]  # [B]
    before = observed_before(lengths)  # [N]

    # Values of all actions
    inputs = agent_inputs(batch, args)
    q = run_agents(networks.agent, inputs, lengths, args.tbptt)  # [N + B, n_agents, n_actions]
    with torch.no_grad():
        target_q = run_agents(networks.target_agent, inputs, lengths, len(inputs))

        # Next actions: each agent's best available one, together the argmax of Q_tot
        choosing_q = q if args.double_q else target_q
        unavailable = batch["avail_actions"] == 0
        choosing_q = choosing_q.masked_fill(unavailable, -torch.inf)
        best_actions = choosing_q.argmax(-1, keepdim=True)

        # Their values, mixed
        best_q = target_q.gather(-1, best_actions).squeeze(-1)  # [N + B, n_agents]
        next_q_tot = networks.target_mixer(best_q, batch["state"])[before + 1]

        # TD targets
        ends = (batch["terminated"], next_q_tot, lengths)
        target = td_target(reward, *ends, args.gamma, args.td_lambda)

    # Values of the actions taken, mixed
    actions = batch["actions"].unsqueeze(-1)
    taken_q = q.index_select(0, before).gather(-1, actions).squeeze(-1)
    q_tot = networks.mixer(taken_q, batch["state"][before])  # [N]

    # TD error
    return F.mse_loss(q_tot, target), q_tot.detach()


def update(networks: Networks, optimizer, batch: dict, args: Args) -> dict:
    """One step of gradient descent; returns loss, gradient norm and mean Q_tot."""
    loss, q_tot = qmix_loss(networks, batch, args)
    networks.theta.grad.zero_()
    loss.backward()
    norm = networks.theta.grad.norm()
    if args.clip_gradients > 0:
        nn.utils.clip_grads_with_norm_(networks.theta, args.clip_gradients, norm)
    optimizer.step()
    learning = {"train/loss": loss.item(), "train/grads": norm.item()}
    learning["train/q_tot"] = q_tot.mean().item()
    if not np.isfinite([*learning.values()]).all():
        raise FloatingPointError(f"an update is not finite: {learning}")
    return learning


def action_values(networks: Networks, episode: dict, args: Args) -> torch.Tensor:
    """Values of all actions of all agents at each step, [T + 1, n_agents, n_actions]."""
    lengths = torch.tensor([len(episode["actions"])], device=args.device)
    inputs = agent_inputs(episode | {"lengths": lengths}, args)
    return run_agents(networks.target_agent, inputs, lengths, len(inputs))


def linear_schedule(args: Args, step: int) -> float:
    """Epsilon at an environment step."""
    span = args.exploration_fraction * args.total_timesteps
    fraction = min(1.0, step / max(1, span))
    return args.start_e + fraction * (args.end_e - args.start_e)


def act(agent: Callable, observation: dict, memory: tuple, epsilon: float, rng, args: Args):
    """An action per agent [n_agents], random with probability epsilon.

    `memory` is the hidden state and the last actions; the next memory is also returned.
    """
    hidden, last_actions = memory
    avail_actions = observation["avail_actions"]  # [n_agents, n_actions]
    n_agents, n_actions = avail_actions.shape
    draws = rng.random((n_agents, 1 + n_actions), np.float32)
    explores = draws[:, :1] < epsilon
    scores = draws[:, 1:]
    inputs = observation["obs"]
    if args.last_action:
        one_hot = last_actions[:, None] == np.arange(n_actions)
        inputs = np.concatenate((inputs, one_hot), axis=-1, dtype=np.float32)
    q, hidden = agent(inputs[None], hidden)  # exploring agents remember, too
    scores = np.where(explores, scores, q[0])
    actions = np.where(avail_actions, scores, -np.inf).argmax(-1)
    return actions, (hidden, actions)


def collect_episode(env, agent, args: Args, which: tuple, step: int | None = None):
    """Play the training episode that begins at `step`, or a greedy one.

    `which` is its purpose and number. Returns the episode to store, of T + 1
    observations and T steps, and its results.
    """
    purpose, *number = which
    seed = random_stream(args, purpose, *number).integers(2**31)
    rng = random_stream(args, "explore", *number)
    explores = step is not None and rng.random() >= args.greedy_episodes
    agent = recurrent_in_numpy(agent)
    observation, _ = env.reset(seed=int(seed))
    memory = (None, np.full(len(observation["obs"]), -1))  # no hidden state, no actions
    observations = [observation]
    actions, rewards, ends = [], [], []
    over = False
    while not over:
        epsilon = linear_schedule(args, step + len(rewards)) if explores else 0.0
        action, memory = act(agent, observation, memory, epsilon, rng, args)
        actions.append(action)
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        ends.append(terminated or (truncated and not args.bootstrap_truncated))
        over = terminated or truncated

    episode = {}
    for key in ("obs", "state", "avail_actions"):
        episode[key] = np.array([seen[key] for seen in observations])
    episode["actions"] = np.array(actions)
    episode["reward"] = np.array(rewards, np.float32)
    episode["terminated"] = np.array(ends, np.float32)
    results = {"ep_reward": sum(rewards), "ep_length": len(rewards)}
    return episode, results | outcome(info)


def play_greedily(env, agent, args: Args, *purpose) -> list[dict[str, float]]:
    """Results of `num_eval_ep` greedy episodes; the purpose determines their seeds."""
    episodes = [(*purpose, number) for number in range(args.num_eval_ep)]
    return [collect_episode(env, agent, args, which)[1] for which in episodes]


def evaluate(env, agent, args: Args, number: int) -> dict[str, float]:
    """Metrics of greedy episodes, after `number` training episodes."""
    return means("eval", play_greedily(env, agent, args, "eval", number))


def open_env(args: Args, render_mode: str | None = None):
    name = (args.env_type, args.env_name, args.env_family)
    options = {"agent_ids": args.agent_ids, "time_limit": args.time_limit}
    return make_env(*name, render_mode=render_mode, **options)


def save_video(args: Args, agent, path: Path, number: int = 0):
    """Save greedy test episode `number` as a GIF."""
    try:
        env = RenderCollection(open_env(args, "rgb_array"))
        collect_episode(env, agent, args, ("test", number))
        save_gif(path, env.render(), env.metadata["render_fps"])
    except Exception as error:  # a missing video must not stop the run
        warn(f"no video of {args.env_name}: {error}")


@dataclass
class Progress:
    """Progress of a training, and results that are not logged yet."""

    step: int = 0
    num_episodes: int = 0
    num_updates: int = 0
    results: list = field(default_factory=list)  # of the latest episodes
    learning: dict = field(default_factory=dict)  # from the last update


def rollout(args: Args, progress: Progress) -> dict[str, float]:
    """Metrics of the training since the last call."""
    metrics = means("rollout", progress.results) | progress.learning
    metrics["rollout/epsilon"] = linear_schedule(args, progress.step)
    metrics["rollout/num_episodes"] = progress.num_episodes
    metrics["train/num_updates"] = progress.num_updates
    progress.results.clear()
    return metrics


@refusing()
def set_up(args: Args):
    """Environments to train and to evaluate in, networks, optimizer."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.torch_threads)
    env = open_env(args)
    networks = Networks(args, env)
    check_vectors(networks)
    optimizer = make_optimizer(args.optimizer, networks.theta, args.learning_rate)
    return env, open_env(args), networks, optimizer


def train(args: Args, saved: dict | None = None, folder: Path | None = None):
    """Train, from a checkpoint if given; returns the latest metrics."""
    env, eval_env, networks, optimizer = set_up(args)
    buffer = EpisodeBuffer(args.buffer_size)
    progress = Progress()
    state = {"networks": networks, "optimizer": optimizer, "progress": progress}
    with Run(args, saved, state, buffer.episodes, folder) as run:
        while progress.step < args.total_timesteps and not run.stopped:
            # Play an episode with the current agents, and store it
            which = ("train", progress.num_episodes)
            episode, results = collect_episode(env, networks.agent, args, which, progress.step)
            buffer.store(episode)
            progress.step += results["ep_length"]
            progress.num_episodes += 1
            progress.results.append(results)
            run.advance(progress.step)

            # Learn from a batch of stored episodes
            due = progress.num_episodes % args.train_freq == 0
            if due and len(buffer.episodes) >= args.batch_size:
                batch = buffer.sample(args, progress.num_updates)
                progress.learning = update(networks, optimizer, batch, args)
                progress.num_updates += 1

            # Let the target networks follow
            if progress.num_episodes % args.target_network_update_freq == 0:
                networks.update_targets(args.polyak)

            # Evaluate, log, save
            over = progress.step >= args.total_timesteps
            if over or progress.num_episodes % args.eval_steps == 0:
                run.log(evaluate(eval_env, networks.target_agent, args, progress.num_episodes))
            if progress.num_episodes % args.log_every == 0:
                run.log(rollout(args, progress) | {"charts/SPS": run.speed})
            if progress.num_episodes % args.checkpoint_every == 0:
                run.save()
        run.save()
        if args.capture_video and not run.stopped:
            save_video(args, networks.target_agent, run.folder / "episode.gif")
    return run.latest


def evaluate_run(args: Args):
    """Play greedy episodes with the networks of a run."""
    _, env, networks, _ = set_up(args)
    step = load_model(Path(args.evaluate), args.which, target_agent=networks.target_agent)
    results = play_greedily(env, networks.target_agent, args, "test")
    folder = write_evaluation(args, step, results)
    if args.capture_video:
        for name, number in worst_median_best(results).items():
            save_video(args, networks.target_agent, folder / f"{name}.gif", number)


def main():
    with clear_errors(__file__):
        args, saved = parse_args(Args, __doc__)
        if args.list_envs:
            list_envs()
        elif args.evaluate:
            evaluate_run(args)
        else:
            train(args, saved)


if __name__ == "__main__":
    main()
