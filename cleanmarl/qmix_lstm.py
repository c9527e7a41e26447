"""QMIX with recurrent agents, which remember their observations and actions.

    python cleanmarl/qmix_lstm.py --env-name 3m

Gradients are cut every `tbptt` steps (truncated backpropagation through time).
Shapes in comments: N transitions, B episodes, T steps.
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports, too

from cleanmarl import training  # first: it sets the threads of NumPy and PyTorch

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

from cleanmarl.env import env_arguments, make_env
from cleanmarl.training import Between, Count, Fraction, Optimizer, Options, Rate, Run, Seed, Units


@dataclass
class Args:
    # Environment
    env_type: str = "smaclite"
    """smaclite, lbf, pz (PettingZoo), gym (Gymnasium) or smaclite-upstream"""
    env_name: Annotated[str, training.alias("--env")] = "3m"
    """for example 3m, mine.toml, Foraging-8x8-2p-3f-v3, simple_spread_v3"""
    env_family: str = "mpe"
    """PettingZoo family: mpe, sisl, butterfly, or your own package"""
    env_options: Options = field(default_factory=dict)
    """options of the task, for example N=5 local_ratio=0"""
    env_state: bool = True
    """the mixer sees the task's own state; if it has none, all observations"""
    agent_ids: bool = True
    """append a one-hot agent id to each observation"""
    clock: bool = True
    """append the share of time left to observations and state"""
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
    """an episode is drawn with weight exp(-age / mean_age), age in episodes; inf: all alike"""
    train_freq: Count = 1
    """episodes between updates"""
    steps_per_update: Count = 50
    """steps per update in a long episode; a short one makes one update"""
    optimizer: Optimizer = "Adam"
    """optimizer of torch.optim"""
    optimizer_eps: Fraction = 1e-8
    """eps of the optimizer, smaller until an episode earns 5 or -5; SGD has none"""
    beta2: Annotated[float, Between(0, 0.99999)] = 0.999
    """decay of Adam's mean of squared gradients, alpha of RMSprop"""
    learning_rate: Annotated[Rate, training.alias("--lr")] = 0.0008
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
    bootstrap_truncated: bool = False
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
    hypernet_layers: Annotated[int, Between(1, 2)] = 2
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
    keep_models: Annotated[int, Between(0, 1000)] = 0
    """networks to keep over the course of the training"""
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
    init_from: str = ""
    """folder of a run with whose networks a new run begins"""
    which: Literal["best", "last"] | int = "last"
    """networks to evaluate, or to begin with: best, last, or a kept step"""


def layer_init(layer: nn.Linear, scale: float) -> nn.Linear:
    """Scale a layer's initial weights; 0 also zeroes its bias. So Q_tot starts near 0."""
    layer.weight.data *= scale
    if scale == 0:
        layer.bias.data.zero_()
    return layer


class AgentNetwork(nn.Module):
    """The values of an agent's actions, from its past; all agents share this network."""

    def __init__(self, args: Args, env):
        super().__init__()
        input_size = env.obs_size + (env.n_actions if args.last_action else 0)
        dim = args.hidden_dim
        cell = nn.LSTM if args.rnn == "lstm" else nn.GRU
        self.encoder = nn.Sequential(training.ScaledLinear(input_size, dim), nn.ReLU())
        self.rnn = cell(dim, dim, args.num_layers)
        self.head = layer_init(nn.Linear(dim, env.n_actions), 0)

    def forward(self, inputs: torch.Tensor, hidden=None) -> tuple:
        """[steps, rows, input_size] -> [steps, rows, n_actions]; learning and acting call it."""
        outputs, hidden = self.rnn(self.encoder(inputs), hidden)
        return self.head(outputs), hidden


class QMixer(nn.Module):
    """Q_tot from the agents' values (eq. 6 of Rashid et al. 2018)."""

    def __init__(self, args: Args, env):
        super().__init__()
        dim = args.hyper_dim

        def hypernetwork(size: int, layers: int, scale: float = 1) -> nn.Module:
            if layers == 1:
                return layer_init(training.ScaledLinear(env.state_size, size), scale)
            last = layer_init(nn.Linear(dim, size), scale)
            return nn.Sequential(training.ScaledLinear(env.state_size, dim), nn.ReLU(), last)

        self.w1 = hypernetwork(env.n_agents * dim, args.hypernet_layers)
        self.b1 = hypernetwork(dim, 1, 0.1)
        self.w2 = hypernetwork(dim, args.hypernet_layers)
        self.b2 = hypernetwork(1, 2, 0)

    def weights(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """abs(W1) [N, n_agents, dim] and abs(W2) [N, dim]: so dQ_tot/dq_i >= 0 always."""
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
        self.target_agent = deepcopy(self.agent).requires_grad_(False).eval()
        self.target_mixer = deepcopy(self.mixer).requires_grad_(False).eval()
        self.to(args.device)
        # Lists, because to find all parameters takes PyTorch long
        self._learned = [*self.agent.parameters(), *self.mixer.parameters()]
        self._targets = [*self.target_agent.parameters(), *self.target_mixer.parameters()]

    def learned(self) -> list[nn.Parameter]:
        """The parameters of the agent network and the mixer."""
        return self._learned

    @torch.no_grad()
    def update_targets(self, polyak: float):
        """theta_target <- polyak theta + (1 - polyak) theta_target"""
        for target, parameter in zip(self._targets, self._learned, strict=True):
            target.lerp_(parameter, polyak)


class EpisodeBuffer:
    """The last `capacity` episodes, each a dict of arrays over its steps."""

    def __init__(self, capacity: int):
        self.episodes: deque[dict[str, np.ndarray]] = deque(maxlen=capacity)

    def store(self, episode: dict[str, np.ndarray]):
        self.episodes.append(episode)

    def sample(self, args: Args, number: int) -> dict[str, torch.Tensor]:
        """Batch `number`: whole episodes end to end, and their `lengths` [B]."""
        rng = training.random_stream(args, "sample", number)
        age = np.arange(len(self.episodes))[::-1]
        # The newer, the more likely (Wang and Ross, 2019)
        weight = np.exp(-age / args.mean_age)
        drawn = rng.choice(len(age), args.batch_size, replace=False, p=weight / weight.sum())
        chosen = [self.episodes[i] for i in drawn]
        # The longest first, for run_agents()
        chosen.sort(key=lambda episode: len(episode["reward"]), reverse=True)
        batch = {"lengths": np.array([len(one["reward"]) for one in chosen])}
        for key in chosen[0]:
            dtype = np.float32 if key in ("obs", "state") else None  # bytes become numbers
            batch[key] = np.concatenate([one[key] for one in chosen], dtype=dtype)
        return {k: torch.from_numpy(v).to(args.device) for k, v in batch.items()}


def td_target(reward, terminated, q_tot, next_q_tot, lengths, gamma, td_lambda):
    """Targets of Q(lambda) (Harutyunyan et al., 2016), [N]; `lengths` is [B].

    G_t = r_t + gamma (1 - terminated) V_t+1 + gamma lambda (G_t+1 - Q_t+1): V is the value
    of the best actions, Q that of the actions taken. So later exploration lowers no value.
    """
    columns = (reward, terminated, q_tot, next_q_tot, lengths)
    reward, terminated, q_tot, next_q_tot, lengths = [column.cpu().numpy() for column in columns]
    # Backwards over time; in NumPy, where small operations are faster
    real = np.arange(lengths.max()) < lengths[:, None]  # [B, T]
    targets, taken = np.zeros((2, *real.shape), reward.dtype)
    targets[real] = reward + gamma * (1 - terminated) * next_q_tot
    taken[real] = q_tot
    correction = 0.0
    for target, value in zip(targets.T[::-1], taken.T[::-1], strict=True):  # T, T - 1, ..., 1
        target += gamma * td_lambda * correction
        correction = target - value
    return torch.from_numpy(targets[real])


def rows_of_steps(lengths: torch.Tensor) -> torch.Tensor:
    """Row of the observation before each step [N]; an episode has T + 1 observations."""
    lengths = lengths.cpu()
    episode = np.repeat(np.arange(len(lengths)), lengths)
    return torch.from_numpy(np.arange(len(episode)) + episode)


def agent_inputs(batch: dict, args: Args) -> torch.Tensor:
    """Observations and last actions, [N + B, n_agents, input_size]."""
    if not args.last_action:
        return batch["obs"]
    last_actions = torch.zeros_like(batch["avail_actions"], dtype=batch["obs"].dtype)
    next_row = rows_of_steps(batch["lengths"]) + 1
    last_actions[next_row] = F.one_hot(batch["actions"], last_actions.shape[-1]).to(last_actions)
    return torch.cat((batch["obs"], last_actions), dim=-1)


def run_agents(agent, inputs: torch.Tensor, lengths: torch.Tensor, tbptt: int) -> torch.Tensor:
    """Action values [N + B, n_agents, n_actions], with gradients cut every `tbptt` steps.

    Episodes are cut into pieces of `tbptt` steps, which run side by side: first pieces
    from no hidden state, later ones from that at the end of the piece before.
    """
    rows = lengths.cpu().numpy() + 1  # [B] observations, the longest episodes first
    n_steps = min(tbptt, rows[0])
    counts = (rows > np.arange(0, rows[0], n_steps)[:, None]).sum(1)  # first, second, ... pieces

    # Observation t of an episode is step t % n_steps of its piece t // n_steps
    episode = np.repeat(np.arange(len(rows)), rows)  # [N + B]
    t = np.arange(len(episode)) - np.repeat(rows.cumsum() - rows, rows)
    piece = (counts.cumsum() - counts)[t // n_steps] + episode
    place = torch.from_numpy(t % n_steps * counts.sum() + piece).to(inputs.device)
    padded = inputs.new_zeros(n_steps * counts.sum(), *inputs.shape[1:])
    padded[place] = inputs
    pieces = padded.view(n_steps, -1, *inputs.shape[1:])

    values, hidden = agent(pieces[:, : counts[0]].flatten(1, 2), None)
    if len(counts) > 1:
        later = pieces[:, counts[0] :]
        hidden = hidden_before(agent, later, counts[1:].tolist(), hidden)
        values_later, _ = agent(later.flatten(1, 2), hidden)
        values = torch.cat((values, values_later), dim=1)
    return values.view(*padded.shape[:2], -1).index_select(0, place)


@torch.no_grad()
def hidden_before(agent, pieces: torch.Tensor, counts: list[int], hidden):
    """The hidden state before each later piece; `hidden` is that after the first pieces."""
    n_agents = pieces.shape[2]
    found = [first_rows(hidden, counts[0] * n_agents)]
    for chunk, count in zip(pieces.split(counts, dim=1), counts[1:], strict=False):
        before = first_rows(found[-1], count * n_agents)
        _, hidden = agent(chunk[:, :count].flatten(1, 2), before)
        found.append(hidden)
    if isinstance(hidden, tuple):  # of an LSTM
        return tuple(torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    return torch.cat(found, dim=1)


def first_rows(hidden, count: int):
    """The first rows of a hidden state, without gradients; that of an LSTM has two parts."""
    if isinstance(hidden, tuple):
        return tuple(first_rows(part, count) for part in hidden)
    return hidden[:, :count].detach().contiguous()


def qmix_loss(networks: Networks, batch: dict, args: Args) -> tuple:
    """Mean squared TD error of Q_tot over a batch's transitions, and their Q_tot [N]."""
    reward = batch["reward"]  # [N]
    if args.normalize_reward:
        reward = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)

    lengths = batch["lengths"]  # [B]
    obs_row = rows_of_steps(lengths).to(args.device)  # [N]

    # Values of all actions, and Q_tot of the actions taken
    actions = batch["actions"].unsqueeze(-1)
    state = batch["state"].index_select(0, obs_row)
    inputs = agent_inputs(batch, args)
    q = run_agents(networks.agent, inputs, lengths, args.tbptt)  # [N + B, n_agents, n_actions]
    taken_q = q.index_select(0, obs_row).gather(-1, actions).squeeze(-1)
    q_tot = networks.mixer(taken_q, state)  # [N]
    with torch.no_grad():
        # The same by the target networks
        target_q = run_agents(networks.target_agent, inputs, lengths, len(inputs))
        target_taken_q = target_q.index_select(0, obs_row).gather(-1, actions).squeeze(-1)
        target_q_tot = networks.target_mixer(target_taken_q, state)

        # Next actions: each agent's best available one, together the argmax of Q_tot
        choosing_q = q if args.double_q else target_q
        choosing_q = torch.where(batch["avail_actions"].bool(), choosing_q, -torch.inf)
        best_actions = choosing_q.argmax(-1, keepdim=True)

        # Their values, mixed
        best_q = target_q.gather(-1, best_actions).squeeze(-1)  # [N + B, n_agents]
        next_q_tot = networks.target_mixer(best_q, batch["state"]).index_select(0, obs_row + 1)

        # TD targets
        columns = (reward, batch["terminated"], target_q_tot, next_q_tot, lengths)
        target = td_target(*columns, args.gamma, args.td_lambda).to(args.device)
    return F.mse_loss(q_tot, target), q_tot.detach()


def update(networks: Networks, optimizer, batch: dict, args: Args) -> dict:
    """One step of gradient descent; returns loss, gradient norm and mean Q_tot."""
    loss, q_tot = qmix_loss(networks, batch, args)
    optimizer.zero_grad()
    loss.backward()
    limit = args.clip_gradients if args.clip_gradients > 0 else torch.inf
    norm = nn.utils.clip_grad_norm_(networks.learned(), limit)
    optimizer.step()
    learning = {"train/loss": loss.item(), "train/grads": norm.item()}
    learning["train/q_tot"] = q_tot.mean().item()
    if not np.isfinite([*learning.values()]).all():
        raise FloatingPointError(f"an update is not finite: {learning}")
    return learning


def action_values(networks: Networks, episode: dict, args: Args) -> torch.Tensor:
    """For cleanmarl.watch: values of all actions at each step, [T + 1, n_agents, n_actions]."""
    lengths = torch.tensor([len(episode["actions"])], device=args.device)
    inputs = agent_inputs(episode | {"lengths": lengths}, args)
    return run_agents(networks.target_agent, inputs, lengths, len(inputs))


def linear_schedule(args: Args, step: int) -> float:
    """Epsilon at an environment step."""
    fraction = min(1.0, step / max(1, args.exploration_fraction * args.total_timesteps))
    return args.start_e + fraction * (args.end_e - args.start_e)


def act(values: Callable, observation: dict, memory: tuple, epsilon: float, rng, args: Args):
    """An action per agent [n_agents], random with probability epsilon.

    `memory` is the hidden state and the last actions; the next memory is also returned.
    """
    hidden, last_actions = memory
    avail_actions = observation["avail_actions"]  # [n_agents, n_actions]
    n_agents, n_actions = avail_actions.shape
    inputs = observation["obs"]
    if args.last_action:
        one_hot = last_actions[:, None] == np.arange(n_actions)
        inputs = np.concatenate((inputs, one_hot), axis=-1, dtype=np.float32)
    scores, hidden = values(inputs[None], hidden)  # [1, n_agents, n_actions]
    if epsilon > 0:
        draws = rng.random((n_agents, 1 + n_actions), np.float32)
        explores = draws[:, :1] < epsilon
        # The best of random scores is a random action
        scores = np.where(explores, draws[:, 1:], scores)
    actions = np.where(avail_actions, scores, -np.inf)[0].argmax(-1)
    return actions, (hidden, actions)


def play_episode(env, values: Callable, epsilon: Callable, seed: int, rng, args: Args) -> tuple:
    """Play with epsilon(t) at step t; returns T + 1 observations and T steps, and results."""
    observation, _ = env.reset(seed=seed)
    observations = [observation]
    memory = (None, np.full(len(observation["obs"]), -1))  # no hidden state, no actions
    actions, rewards, terminations = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        training.stop_if_asked()
        action, memory = act(values, observation, memory, epsilon(len(actions)), rng, args)
        actions.append(action)
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        terminations.append(terminated or (truncated and not args.bootstrap_truncated))
    results = {"ep_reward": sum(rewards), "ep_length": len(rewards)} | training.success_of(info)
    return as_arrays(observations, actions, rewards, terminations), results


def as_arrays(observations: list, actions: list, rewards: list, terminations: list) -> dict:
    """An episode as the replay buffer stores it."""
    keys = ("obs", "state", "avail_actions")
    episode = {key: np.array([one[key] for one in observations]) for key in keys}
    episode["actions"] = np.array(actions)
    episode["reward"] = np.array(rewards, np.float32)
    episode["terminated"] = np.array(terminations, np.float32)
    return episode


def collect_episode(env, agent, args: Args, number: int, step: int) -> tuple:
    """Play training episode `number`, which begins at environment step `step`."""
    seed = training.random_stream(args, "train", number).integers(2**31)
    rng = training.random_stream(args, "explore", number)
    explores = rng.random() >= args.greedy_episodes

    def epsilon(t: int) -> float:
        return linear_schedule(args, step + t) if explores else 0.0

    return play_episode(env, training.acting(agent), epsilon, int(seed), rng, args)


def play_greedily(env, agent, args: Args, *stream) -> dict[str, float]:
    """Results of an episode without exploration; `stream` is its purpose and number."""
    rng = training.random_stream(args, *stream)
    seed = rng.integers(2**31)
    _, results = play_episode(env, training.acting(agent), lambda t: 0.0, int(seed), rng, args)
    return results


def evaluate(env, agent, args: Args, *purpose) -> list[dict[str, float]]:
    """Results of `num_eval_ep` greedy episodes; the purpose determines their seeds."""
    return [play_greedily(env, agent, args, *purpose, n) for n in range(args.num_eval_ep)]


def open_env(args: Args, render_mode: str | None = None):
    return make_env(**env_arguments(args), render_mode=render_mode)


def save_video(args: Args, agent, path: Path, number: int = 0):
    """Save greedy test episode `number` as a GIF."""
    with training.warn_on_error(f"no video of {args.env_name}"):
        env = RenderCollection(open_env(args, "rgb_array"))
        with training.closing(env):
            play_greedily(env, agent, args, "test", number)
            training.save_gif(path, env.render(), env.metadata["render_fps"])


@training.refuse_on_error()
def set_up(args: Args):
    """An environment, the networks, the optimizer."""
    training.check(args)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.torch_threads)
    env = open_env(args)
    training.warn_about(args, env)
    networks = Networks(args, env)
    training.init_from(args, networks)
    kind = getattr(torch.optim, args.optimizer)
    optimizer = kind(networks.learned(), lr=args.learning_rate, **training.optimizer_options(args))
    return env, networks, optimizer


def learn(networks: Networks, optimizer, buffer: EpisodeBuffer, progress, args: Args):
    """Update the networks by a batch of stored episodes; the first one sets their scales."""
    batch = buffer.sample(args, progress.num_updates)
    if progress.num_updates == 0:
        training.set_scales(networks, batch)
    training.scale_eps(optimizer, args, progress)
    progress.learning = update(networks, optimizer, batch, args)
    progress.num_updates += 1


def log_evaluation(run: Run, env, networks: Networks, progress, args: Args):
    """Play greedy episodes with the target networks, and add a point to the curves."""
    results = evaluate(env, networks.target_agent, args, "eval", progress.num_episodes)
    run.log(progress.evaluated(results))


def train(args: Args, folder: Path | None = None):
    """Train, or resume a run with `args.resume`; returns the latest metrics."""
    env, networks, optimizer = set_up(args)
    eval_env = open_env(args)
    buffer = EpisodeBuffer(args.buffer_size)
    progress = training.Progress()
    state = {"networks": networks, "optimizer": optimizer, "progress": progress}
    with training.closing(env, eval_env), Run(args, env, state, buffer.episodes, folder) as run:
        while progress.step < args.total_timesteps and not run.stopped:
            # Play an episode with the current agents, and store it
            number = progress.num_episodes
            episode, results = collect_episode(env, networks.agent, args, number, progress.step)
            buffer.store(episode)
            progress.step += results["ep_length"]
            progress.add(results)
            run.advance(progress.step)

            # Learn from stored episodes, and let the target networks follow
            if len(buffer.episodes) >= args.batch_size:
                for _ in range(max(1, results["ep_length"] // args.steps_per_update)):
                    if progress.num_episodes % args.train_freq == 0:
                        learn(networks, optimizer, buffer, progress, args)
                    if progress.num_episodes % args.target_network_update_freq == 0:
                        networks.update_targets(args.polyak)

            # Evaluate, log, save
            if progress.evaluation_is_due(args.eval_steps):
                log_evaluation(run, eval_env, networks, progress, args)
            if progress.num_episodes % args.log_every == 0:
                run.log(progress.metrics(epsilon=linear_schedule(args, progress.step)))
            if progress.num_episodes % args.checkpoint_every == 0:
                run.save()
        if progress.num_evaluated < progress.num_episodes and not run.stopped:
            log_evaluation(run, eval_env, networks, progress, args)
        run.save()
        if args.capture_video and not run.stopped:
            save_video(args, networks.target_agent, run.folder / "episode.gif")
    return run.latest


def evaluate_run(args: Args):
    """Play greedy episodes with the networks of a run."""
    env, networks, _ = set_up(args)
    agent = networks.target_agent
    step = training.load_model(Path(args.evaluate), args.which, target_agent=agent)
    with training.closing(env):
        results = evaluate(env, agent, args, "test")
    folder = training.write_evaluation(args, step, results)
    if args.capture_video:
        for name, number in training.worst_median_best(results).items():
            save_video(args, agent, folder / f"{name}.gif", number)


def main():
    with training.one_line_errors(__file__):
        args = training.parse_args(Args, __doc__)
        job = evaluate_run if args.evaluate else train
        job(args)


if __name__ == "__main__":
    main()
