"""QMIX with many environments: one forward pass chooses the actions in all of them.

    python cleanmarl/qmix_multienvs.py --env-name MMM --num-envs 8

An episode is stored when it ends, and its environment starts the next one.
After every `train_freq` finished episodes, a training round makes `n_epochs` updates.
Shapes in comments: N transitions, B episodes, T steps, E environments.
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

from cleanmarl.env import RecordedEnvs, env_arguments, make_env, make_vector_env
from cleanmarl.training import Between, Count, Fraction, Optimizer, Options, Rate, Run, Seed, Units


@dataclass
class Args:
    # Environment
    env_type: str = "smaclite"
    """smaclite, lbf, pz (PettingZoo), gym (Gymnasium) or smaclite-upstream"""
    env_name: Annotated[str, training.alias("--env")] = "MMM"
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
    num_envs: Annotated[int, Between(1, 1024)] = 4
    """environments that step together"""

    # Learning
    total_timesteps: Count = 1000000
    """steps to train for, over all environments"""
    buffer_size: Count = 5000
    """episodes in the replay buffer"""
    batch_size: Annotated[int, Between(1, "buffer_size")] = 32
    """episodes in a batch"""
    mean_age: Annotated[float, Between(10, np.inf)] = 500
    """an episode is drawn with weight exp(-age / mean_age), age in episodes; inf: all alike"""
    train_freq: Count = 2
    """finished episodes between training rounds"""
    n_epochs: Count = 2
    """updates in a training round"""
    steps_per_update: Count = 50
    """steps per training round in a long episode; a short one makes one round"""
    optimizer: Optimizer = "Adam"
    """optimizer of torch.optim"""
    optimizer_eps: Fraction = 0.0001
    """eps of the optimizer, smaller until an episode earns 5 or -5; SGD has none"""
    beta2: Annotated[float, Between(0, 0.99999)] = 0.99
    """decay of Adam's mean of squared gradients, alpha of RMSprop"""
    learning_rate: Annotated[Rate, training.alias("--lr")] = 0.0005
    """learning rate of the optimizer"""
    gamma: Fraction = 0.99
    """discount factor"""
    td_lambda: Fraction = 0.6
    """lambda of the lambda-returns; 0 for one-step targets"""
    double_q: bool = True
    """choose next actions by the network, not by the target network"""
    target_network_update_freq: Count = 1
    """training rounds between updates of the target networks"""
    polyak: Fraction = 0.005
    """step of the target networks towards the networks; 1 copies"""
    normalize_reward: bool = False
    """standardise the rewards of each batch"""
    clip_gradients: Annotated[float, Between(-np.inf, np.inf)] = -1
    """largest norm of the gradient; 0 or less for no limit"""
    bootstrap_truncated: bool = False
    """bootstrap where the time limit ended the episode"""

    # Networks
    hidden_dim: Units = 64
    """units of the agent network's hidden layers"""
    num_layers: Annotated[int, Between(0, 16)] = 1
    """hidden layers of the agent network after the first"""
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
    num_eval_ep: Count = 5
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
    torch_threads: Annotated[int, Between(1, 1024)] = 2
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
    """The values of an agent's actions; all agents share this network."""

    def __init__(self, args: Args, env):
        super().__init__()
        dim = args.hidden_dim
        layers = [training.ScaledLinear(env.obs_size, dim), nn.ReLU()]
        for _ in range(args.num_layers):
            layers += [nn.Linear(dim, dim), nn.ReLU()]
        layers.append(layer_init(nn.Linear(dim, env.n_actions), 0))
        self.layers = nn.Sequential(*layers)

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        """[..., obs_size] -> [..., n_actions]; learning and acting both call it."""
        return self.layers(obs)


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


def qmix_loss(networks: Networks, batch: dict, args: Args) -> tuple:
    """Mean squared TD error of Q_tot over a batch's transitions, and their Q_tot [N]."""
    reward = batch["reward"]  # [N]
    if args.normalize_reward:
        reward = (reward - reward.mean()) / (reward.std(correction=0) + 1e-8)

    # An episode has T + 1 observations: rows of those before and after each step
    lengths = batch["lengths"].cpu().numpy()  # [B]
    episode = np.repeat(np.arange(len(lengths)), lengths)  # [N]
    obs_row = torch.from_numpy(np.arange(len(reward)) + episode).to(args.device)

    # Values of all actions, and Q_tot of the actions taken
    actions = batch["actions"].unsqueeze(-1)
    state = batch["state"].index_select(0, obs_row)
    q = networks.agent(batch["obs"])  # [N + B, n_agents, n_actions]
    taken_q = q.index_select(0, obs_row).gather(-1, actions).squeeze(-1)
    q_tot = networks.mixer(taken_q, state)  # [N]
    with torch.no_grad():
        # The same by the target networks
        target_q = networks.target_agent(batch["obs"])
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
        columns = (reward, batch["terminated"], target_q_tot, next_q_tot, batch["lengths"])
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
    return networks.target_agent(episode["obs"])


def linear_schedule(args: Args, step: int) -> float:
    """Epsilon at an environment step."""
    fraction = min(1.0, step / max(1, args.exploration_fraction * args.total_timesteps))
    return args.start_e + fraction * (args.end_e - args.start_e)


def act(values: Callable, observation: dict, epsilon: float, rng) -> np.ndarray:
    """An action per agent [n_agents], random with probability epsilon."""
    avail_actions = observation["avail_actions"]  # [n_agents, n_actions]
    scores = values(observation["obs"])
    if epsilon > 0:
        n_agents, n_actions = avail_actions.shape
        draws = rng.random((n_agents, 1 + n_actions), np.float32)
        explores = draws[:, :1] < epsilon
        # The best of random scores is a random action
        scores = np.where(explores, draws[:, 1:], scores)
    return np.where(avail_actions, scores, -np.inf).argmax(-1)


def play_episode(env, values: Callable, epsilon: Callable, seed: int, rng, args: Args) -> tuple:
    """Play with epsilon(t) at step t; returns T + 1 observations and T steps, and results."""
    observation, _ = env.reset(seed=seed)
    observations = [observation]
    actions, rewards, terminations = [], [], []
    terminated = truncated = False
    while not (terminated or truncated):
        training.stop_if_asked()
        actions.append(act(values, observation, epsilon(len(actions)), rng))
        observation, reward, terminated, truncated, info = env.step(actions[-1])
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


def act_together(values: Callable, observation: dict, epsilon: np.ndarray, rngs: list):
    """Actions [E, n_agents], each random with probability epsilon [E]."""
    avail_actions = observation["avail_actions"]  # [E, n_agents, n_actions]
    shape = (avail_actions.shape[1], 1 + avail_actions.shape[2])
    draws = np.array([rng.random(shape, np.float32) for rng in rngs])
    explores = draws[..., :1] < epsilon[:, None, None]
    scores = values(observation["obs"])
    # The best of random scores is a random action
    scores = np.where(explores, draws[..., 1:], scores)
    return np.where(avail_actions, scores, -np.inf).argmax(-1)


class Collector:
    """Environments that step together."""

    @training.refuse_on_error()
    def __init__(self, args: Args):
        how = {"num_envs": args.num_envs, "autoreset_mode": "Disabled"}
        envs = make_vector_env(**env_arguments(args), **how)
        self.envs = RecordedEnvs(envs, while_waiting=training.stop_if_asked)
        self.args = args
        self.num_started = 0
        self.episode_over = np.ones(args.num_envs, bool)  # [E], no episode is running
        self.numbers = [0] * args.num_envs
        self.rngs = [training.random_stream(args, "explore", 0)] * args.num_envs
        self.explores = np.ones(args.num_envs, bool)

    def step(self, values: Callable, epsilon: float) -> list[tuple]:
        """One step of every environment; returns the episodes that ended, and their results."""
        training.stop_if_asked()
        num_begun = int(self.episode_over.sum())
        if num_begun:
            self.begin()
        epsilons = np.where(self.explores, epsilon, 0).astype(np.float32)  # [E]
        actions = act_together(values, self.envs.observation, epsilons, self.rngs)
        self.episode_over, infos = self.envs.step(actions)
        self.num_started += num_begun  # only now: a process may have died
        return [self.episode(i, infos) for i in np.flatnonzero(self.episode_over)]

    def begin(self):
        """Start an episode in each environment whose last episode is over."""
        seeds = [0] * self.args.num_envs
        for number, i in enumerate(np.flatnonzero(self.episode_over), self.num_started):
            seeds[i] = int(training.random_stream(self.args, "train", number).integers(2**31))
            self.assign(i, number)
        self.envs.reset(self.episode_over, seeds)

    def assign(self, i: int, number: int):
        """Environment i plays episode `number`, which determines its exploration."""
        self.numbers[i] = number
        self.rngs[i] = training.random_stream(self.args, "explore", number)
        self.explores[i] = self.rngs[i].random() >= self.args.greedy_episodes

    def episode(self, i: int, infos: dict) -> tuple[dict, dict]:
        """T + 1 observations and T steps, and the results."""
        actions, rewards, terminations, truncations = zip(*self.envs.steps[i], strict=True)
        if not self.args.bootstrap_truncated:
            terminations = np.logical_or(terminations, truncations)
        results = {"ep_reward": sum(rewards), "ep_length": len(rewards)}
        results |= {name: of[i] for name, of in training.success_of(infos).items()}
        return as_arrays(self.envs.observations[i], actions, rewards, terminations), results

    def may_stop(self, wanted: bool) -> bool:
        """Whether to stop now: only after a step that ended an episode."""
        return bool(wanted and self.episode_over.any())

    def state_dict(self) -> dict:
        """The episodes that are running."""
        state = {"num_started": self.num_started, "numbers": list(self.numbers)}
        return state | {"envs": self.envs.state_dict()}

    def load_state_dict(self, state: dict):
        """Replay the episodes that were running."""
        self.num_started = state["num_started"]
        try:
            self.envs.load_state_dict(state["envs"])
        except ValueError as error:
            training.warn(f"episodes start again: {error}")
            return
        envs = self.envs.envs
        for i, number in enumerate(state["numbers"]):
            num_steps = len(self.envs.steps[i])
            self.episode_over[i] = num_steps == 0
            self.assign(i, number)
            # Skip the random numbers of these steps
            shape = (num_steps, envs.n_agents, 1 + envs.n_actions)
            self.rngs[i].random(shape, np.float32)


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


def training_round(networks, optimizer, buffer, progress, args: Args):
    """Update the networks by `n_epochs` batches of stored episodes; the targets follow."""
    if len(buffer.episodes) < args.batch_size:
        return
    for _ in range(args.n_epochs):
        batch = buffer.sample(args, progress.num_updates)
        if progress.num_updates == 0:
            training.set_scales(networks, batch)
        training.scale_eps(optimizer, args, progress)
        progress.learning = update(networks, optimizer, batch, args)
        progress.num_updates += 1
    num_rounds = progress.num_updates // args.n_epochs
    if num_rounds % args.target_network_update_freq == 0:
        networks.update_targets(args.polyak)


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


def log_evaluation(run: Run, env, networks: Networks, progress, args: Args):
    """Play greedy episodes with the target networks, and add a point to the curves."""
    results = evaluate(env, networks.target_agent, args, "eval", progress.num_episodes)
    run.log(progress.evaluated(results))


def train(args: Args, folder: Path | None = None):
    """Train, or resume a run with `args.resume`; returns the latest metrics."""
    eval_env, networks, optimizer = set_up(args)
    collector = Collector(args)
    training.check_alike(eval_env, collector.envs.envs)
    buffer = EpisodeBuffer(args.buffer_size)
    progress = training.Progress()
    state = {"networks": networks, "optimizer": optimizer}
    state |= {"progress": progress, "collector": collector}
    closing = training.closing(collector.envs.envs, eval_env)
    with closing, Run(args, eval_env, state, buffer.episodes, folder) as run:
        finished = progress.step >= args.total_timesteps
        while not collector.may_stop(finished or run.stopped):
            # Step every environment, store the episodes that ended, and learn
            epsilon = linear_schedule(args, progress.step)
            ended = collector.step(training.acting(networks.agent), epsilon)
            progress.step += args.num_envs
            finished = progress.step >= args.total_timesteps
            run.advance(progress.step)
            for episode, results in ended:
                buffer.store(episode)
                progress.add(results)
                if progress.num_episodes % args.train_freq == 0:
                    for _ in range(max(1, results["ep_length"] // args.steps_per_update)):
                        training_round(networks, optimizer, buffer, progress, args)

            # Evaluate, log, save
            if progress.evaluation_is_due(args.eval_steps):
                log_evaluation(run, eval_env, networks, progress, args)
            if progress.num_episodes % args.log_every < len(ended):
                run.log(progress.metrics(epsilon=linear_schedule(args, progress.step)))
            if progress.num_episodes % args.checkpoint_every < len(ended):
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
