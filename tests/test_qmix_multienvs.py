"""`qmix_multienvs.py`: one forward pass for all environments, rounds of updates, and processes that die."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from cleanmarl import qmix, qmix_multienvs
from cleanmarl.qmix_multienvs import Args, Collector, EpisodeBuffer, Networks
from tests.test_qmix import SMALL, TWO_STEPS, actions_of, equal_weights, random_availability, scalars

SCRIPT = Path(qmix_multienvs.__file__)
LBF = {"env_type": "lbf", "env_name": "Foraging-8x8-2p-3f-v3"}


def small_args(**options) -> Args:
    return Args(**SMALL | {"env_name": "3m", "batch_size": 2, "buffer_size": 20, "num_eval_ep": 1} | options)


@contextlib.contextmanager
def opened(args: Args):
    envs = qmix_multienvs.open_envs(args)
    try:
        yield envs
    finally:
        envs.close()


def trained(folder: Path, **options):
    folder.mkdir(parents=True, exist_ok=True)
    args = small_args(**options)
    with opened(args) as envs:
        return qmix_multienvs.train(args, envs, qmix_multienvs.open_env(args), folder, Event())


# With one environment


@pytest.mark.parametrize(
    ("task", "steps"), [({"env_name": "3m"}, 700), (LBF, 700), (TWO_STEPS, 60)], ids=["3m", "lbf", "two_steps"]
)
def test_with_one_environment_it_is_qmix_bit_for_bit(tmp_path, task, steps):
    values = dataclasses.asdict(qmix.Args(**SMALL | task, total_timesteps=steps, log_every=1, eval_steps=3))
    reference = qmix.Args(**values | {"batch_size": 4})
    args = Args(**dataclasses.asdict(reference), num_envs=1, n_epochs=1)
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    expected = qmix.train(reference, qmix.open_env(reference), qmix.open_env(reference), tmp_path / "one", Event())
    with opened(args) as envs:
        evaluation = qmix_multienvs.train(args, envs, qmix.open_env(args), tmp_path / "many", Event())

    one, many = scalars(tmp_path / "one"), scalars(tmp_path / "many")
    assert one["train/num_updates"][-1][1] >= 5
    del one["charts/SPS"], many["charts/SPS"]
    assert many == one
    assert evaluation == expected
    assert equal_weights(tmp_path / "one", tmp_path / "many")


def test_two_trainings_with_one_seed_end_with_the_same_weights(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(tmp_path / name, num_envs=3, total_timesteps=600, seed=seed)
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    assert not equal_weights(tmp_path / "a", tmp_path / "c")


def test_two_trainings_with_processes_and_one_seed_end_with_the_same_weights(tmp_path):
    for name in ("a", "b"):
        trained(tmp_path / name, **LBF, num_envs=3, total_timesteps=600)
    assert equal_weights(tmp_path / "a", tmp_path / "b")


# Acting


def untrained(args: Args, envs) -> torch.nn.Module:
    torch.manual_seed(0)
    return Networks(args, envs).agent


def test_all_environments_act_through_one_forward_pass_a_step():
    args, shapes = small_args(num_envs=3), []
    with opened(args) as envs:
        q_values = untrained(args, envs).in_numpy()
        collector = Collector(envs, args)
        for _ in range(5):
            collector.step(lambda obs: shapes.append(obs.shape) or q_values(obs), 0.0)
    assert shapes == [(3 * envs.n_agents, envs.obs_size)] * 5


def actions_in_all(q, available, epsilon, times) -> np.ndarray:
    """[times, E, n_agents]"""
    observation = {"obs": np.asarray(q, np.float32), "avail_actions": np.asarray(available, np.int8)}
    streams = [np.random.default_rng(0) for _ in q]
    return np.stack([qmix_multienvs.act_in_all(lambda obs: obs, observation, epsilon, streams) for _ in range(times)])


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_an_environment_acts_as_it_would_alone(epsilon):
    torch.manual_seed(0)
    q, available = torch.randn(3, 2, 5).numpy(), random_availability(3, 2, 5).numpy()
    together = actions_in_all(q, available, epsilon, times=50)
    for i in range(3):  # `actions_of` draws from a stream with the same seed
        assert np.array_equal(together[:, i], actions_of(q[i], available[i], epsilon, times=50))


def test_environments_explore_differently():
    args = small_args(num_envs=4)
    with opened(args) as envs:
        collector, agent = Collector(envs, args), untrained(args, envs)
        for _ in range(8):
            collector.step(agent.in_numpy(), 1.0)
    explored = [np.stack([actions for actions, _, _ in steps]).tobytes() for steps in collector.steps]
    assert len(set(explored)) == 4


# Collecting


def contents(episode: dict[str, np.ndarray]) -> tuple:
    return tuple((key, array.dtype.str, array.shape, array.tobytes()) for key, array in sorted(episode.items()))


@pytest.mark.parametrize(
    ("task", "episodes"),
    [({"env_name": "3m"}, 12), (LBF | {"time_limit": 20}, 6), (TWO_STEPS, 6)],
    ids=["3m", "lbf", "two_steps"],
)
def test_an_episode_is_the_one_that_a_single_environment_plays(task, episodes):
    """With epsilon 1 an episode is determined by its number, whatever was learned before it."""
    args = small_args(**task, num_envs=3, start_e=1, end_e=1)
    collected = []
    with opened(args) as envs:
        collector, agent = Collector(envs, args), untrained(args, envs)
        while len(collected) < episodes:
            collected += collector.step(agent.in_numpy(), 1.0)
    reference = qmix.Args(**SMALL | task, start_e=1, end_e=1)
    env = qmix.open_env(reference)
    agent = qmix.Networks(reference, env).agent
    played = [qmix.collect_episode(env, agent, reference, n, 0) for n in range(collector.num_started)]
    expected = Counter((contents(episode), tuple(info.items())) for episode, info in played)
    seen = Counter((contents(episode), tuple(info.items())) for episode, info in collected)
    assert seen <= expected


def test_no_environment_waits_for_a_slower_one():
    args = small_args(num_envs=4)
    with opened(args) as envs:
        collector, agent, finished, unequal = Collector(envs, args), untrained(args, envs), 0, False
        for step in range(1, 151):
            ended = collector.step(agent.in_numpy(), 1.0)
            finished += sum(len(episode["reward"]) for episode, _ in ended)
            assert finished + sum(map(len, collector.steps)) == 4 * step
            unequal |= 0 < len(ended) < 4
    assert unequal


def test_an_episode_enters_the_buffer_the_moment_it_ends(tmp_path, monkeypatch):
    ended, stored, step = [], [], Collector.step

    def checked(self, *args):
        assert len(stored) == len(ended)
        episodes = step(self, *args)
        ended.extend(episodes)
        return episodes

    monkeypatch.setattr(Collector, "step", checked)
    monkeypatch.setattr(EpisodeBuffer, "store", lambda self, episode: stored.append(episode))
    monkeypatch.setattr(qmix_multienvs, "update", lambda *_: pytest.fail("the buffer is empty"))
    trained(tmp_path, num_envs=3, total_timesteps=300)
    assert len(stored) == len(ended) > 3
    assert all(one is other for one, (other, _) in zip(stored, ended, strict=True))


@pytest.mark.parametrize("bootstraps", [True, False])
@pytest.mark.parametrize("task", [{"env_name": "3m"}, LBF], ids=["3m", "lbf"])
def test_an_episode_that_is_truncated_is_done_only_if_the_learner_shall_not_bootstrap_there(task, bootstraps):
    args = small_args(**task, num_envs=2, time_limit=5, bootstrap_truncated=bootstraps)
    with opened(args) as envs:
        collector, agent = Collector(envs, args), untrained(args, envs)
        ended = [collector.step(agent, 1.0) for _ in range(10)]
    assert [len(episodes) for episodes in ended] == [0, 0, 0, 0, 2] * 2
    assert all(episode["done"].tolist() == [0] * 4 + [not bootstraps] for episodes in ended for episode, _ in episodes)


def test_an_episode_that_terminates_is_done_at_its_last_step():
    args = small_args(**TWO_STEPS, num_envs=2)
    with opened(args) as envs:
        collector, agent = Collector(envs, args), untrained(args, envs)
        ended = [collector.step(agent, 1.0) for _ in range(2)]
    assert [episode["done"].tolist() for episode, _ in ended[1]] == [[0, 1]] * 2


def test_every_episode_begins_with_a_seed_of_its_own():
    args, seeds = small_args(num_envs=3), set()
    with opened(args) as envs:
        collector, agent = Collector(envs, args), untrained(args, envs)
        for _ in range(150):
            collector.step(agent, 1.0)
            seeds |= set(collector.seeds)
    expected = [int(qmix.random_stream(args, "train", n).integers(2**31)) for n in range(collector.num_started)]
    assert collector.num_started > 6
    assert seeds == set(expected)


# What the counts count


def history(folder: Path, monkeypatch, **options) -> str:
    """A training as letters: e for an episode that is stored, u for an update, t for one of the targets."""
    letters = []

    def spelled(letter, call):
        return lambda *args: letters.append(letter) or call(*args)

    monkeypatch.setattr(EpisodeBuffer, "store", spelled("e", EpisodeBuffer.store))
    monkeypatch.setattr(qmix_multienvs, "update", spelled("u", qmix_multienvs.update))
    monkeypatch.setattr(Networks, "update_targets", spelled("t", Networks.update_targets))
    trained(folder, batch_size=1, time_limit=4, **options)  # a time limit that no battle comes to an end before
    return "".join(letters)


def test_a_round_of_n_epochs_updates_follows_every_train_freqth_episode_of_all_environments(tmp_path, monkeypatch):
    options = {"train_freq": 4, "n_epochs": 3, "target_network_update_freq": 1000}
    assert history(tmp_path, monkeypatch, num_envs=3, total_timesteps=48, **options) == "eeeeuuu" * 3


def test_target_network_update_freq_counts_rounds(tmp_path, monkeypatch):
    options = {"train_freq": 2, "n_epochs": 2, "target_network_update_freq": 2}
    assert history(tmp_path, monkeypatch, num_envs=3, total_timesteps=60, **options) == "eeuueeuut" * 3 + "eeuue"


def test_the_defaults_give_one_update_an_episode(tmp_path, monkeypatch):
    letters = history(tmp_path, monkeypatch, total_timesteps=4 * 4 * 3)
    assert letters == "eeuut" * 6


def test_num_updates_counts_updates_not_rounds(tmp_path):
    counts = {"train_freq": 2, "n_epochs": 3, "log_every": 2}
    trained(tmp_path, num_envs=2, time_limit=4, total_timesteps=40, batch_size=1, **counts)
    assert scalars(tmp_path)["train/num_updates"] == [(8, 3), (16, 6), (24, 9), (32, 12), (40, 15)]


def test_the_first_round_waits_for_a_full_batch(tmp_path):
    counts = {"train_freq": 1, "n_epochs": 1, "log_every": 2}
    trained(tmp_path, num_envs=2, time_limit=4, total_timesteps=40, batch_size=5, **counts)
    assert [value for _, value in scalars(tmp_path)["train/num_updates"]] == [0, 0, 2, 4, 6]


def test_log_every_and_eval_steps_count_episodes_of_all_environments(tmp_path):
    trained(tmp_path, num_envs=2, time_limit=4, total_timesteps=80, log_every=6, eval_steps=8)
    logged = scalars(tmp_path)
    assert logged["rollout/num_episodes"] == [(24, 6), (48, 12), (72, 18)]
    assert [step for step, _ in logged["eval/ep_reward"]] == [32, 64, 80]  # and at the end


def test_steps_count_over_all_environments(tmp_path):
    options = {"total_timesteps": 40, "exploration_fraction": 0.5, "start_e": 1, "end_e": 0}
    trained(tmp_path, num_envs=2, time_limit=4, log_every=2, **options)
    epsilon = [value for _, value in scalars(tmp_path)["rollout/epsilon"]]
    assert epsilon == pytest.approx([0.6, 0.2, 0, 0, 0], abs=1e-6)


def test_the_rollouts_means_are_over_the_episodes_since_the_last_log(tmp_path, monkeypatch):
    numbers, store = iter(range(20)), Collector.step

    def numbered(*args):
        return [(episode | {"reward": np.full(4, next(numbers))}, info) for episode, info in store(*args)]

    monkeypatch.setattr(Collector, "step", numbered)
    monkeypatch.setattr(qmix_multienvs, "update", lambda *_: {})
    trained(tmp_path, num_envs=2, time_limit=4, total_timesteps=48, log_every=4)
    assert [value for _, value in scalars(tmp_path)["rollout/ep_reward"]] == [4 * 1.5, 4 * 5.5, 4 * 9.5]


def test_an_episode_that_reaches_total_timesteps_is_finished(tmp_path):
    trained(tmp_path, num_envs=2, time_limit=4, total_timesteps=9, log_every=2)
    assert scalars(tmp_path)["rollout/num_episodes"][-1] == (16, 4)


def test_a_training_that_is_stopped_finishes_an_episode_under_way(tmp_path, monkeypatch):
    stop, steps, step = Event(), [], Collector.step

    def stop_in_the_second(*args):
        steps.append(args)
        if len(steps) == 2:
            stop.set()
        return step(*args)

    monkeypatch.setattr(Collector, "step", stop_in_the_second)
    args = small_args(num_envs=2, time_limit=4, total_timesteps=1000)
    with opened(args) as envs:
        qmix_multienvs.train(args, envs, qmix_multienvs.open_env(args), tmp_path, stop)
    assert len(steps) == 4
    assert (tmp_path / "model.pt").exists()


# Processes


def processes_in(folder: Path) -> dict[int, int]:
    """The processes that work in a folder: their parents."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                found[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def wait_for(condition, seconds: float):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def training(tmp_path):
    """A training on LBF in its own process group, as in a terminal, that has evaluated once."""
    if not Path("/proc").exists():
        pytest.skip("finds processes in /proc")
    arguments = "--env-type lbf --env-name Foraging-8x8-2p-3f-v3 --num-envs 3 --total-timesteps 100000000 --log-every 3"
    arguments += " --hidden-dim 8 --hyper-dim 8 --batch-size 2 --buffer-size 10 --num-eval-ep 1 --eval-steps 3"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "stderr").open("w"),
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job of a shell ignores it
    )
    try:
        assert wait_for(lambda: "eval/ep_reward" in (tmp_path / "stderr").read_text(), 90)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def besides_the_progress(folder: Path) -> str:
    """What was written to stderr but for the progress bar, which rewrites its line."""
    lines = (folder / "stderr").read_text().replace("\r", "\n").splitlines(keepends=True)
    return "".join(line for line in lines if "steps/s" not in line and line.strip())


def seeds_of(args: Args, episodes: int) -> set[int]:
    return {int(qmix.random_stream(args, "train", number).integers(2**31)) for number in range(episodes)}


def assert_intact(folder: Path):
    assert torch.load(folder / "model.pt", weights_only=True).keys() == {"agent", "mixer"}
    assert Args(**qmix.json.loads((folder / "args.json").read_text())).num_envs == 3
    logged = scalars(folder)
    assert logged["rollout/num_episodes"] and logged["eval/ep_reward"]
    assert not list(folder.glob("*.tmp"))


def test_a_process_that_dies_ends_the_run_with_one_line_and_leaves_its_results(training, tmp_path):
    parents = processes_in(tmp_path)
    server = max(parents.values(), key=list(parents.values()).count)  # of the three environments
    environments = sorted(process for process, parent in parents.items() if parent == server)[-3:]
    os.kill(environments[1], signal.SIGKILL)
    training.wait(30)
    (folder,) = (tmp_path / "runs").iterdir()
    errors = (tmp_path / "stderr").read_text()
    assert training.returncode == 1
    assert "Traceback" not in errors
    line = next(line for line in errors.splitlines() if "qmix_multienvs.py: error: " in line)
    assert "environment 1" in line and folder.name in line
    assert any(f"seed of its episode: {seed})" in line for seed in seeds_of(Args(), 20_000))
    assert_intact(folder)
    assert wait_for(lambda: not processes_in(tmp_path), 5)
    assert besides_the_progress(tmp_path) == f"{line}\n"
    assert line.startswith("qmix_multienvs.py: error: ")


def test_ctrl_c_in_a_terminal_ends_all_processes_cleanly_with_the_model_saved(training, tmp_path):
    os.killpg(training.pid, signal.SIGINT)
    stdout, _ = training.communicate(timeout=30)
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    assert training.returncode == 130
    assert stdout.startswith("stopped after ")
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"runs/{folder.name}" in stdout
    assert_intact(folder)
    assert wait_for(lambda: not processes_in(tmp_path), 5)
    assert besides_the_progress(tmp_path) == ""


def test_a_death_while_an_episode_begins_is_told_too():
    args = small_args(**LBF, num_envs=2)
    with opened(args) as envs:
        os.kill(envs.processes[0].pid, signal.SIGKILL)
        envs.processes[0].join()
        with pytest.raises(qmix_multienvs.EnvironmentDied, match=r"environment 0 \(seed of its episode: \d+\)"):
            Collector(envs, args).step(untrained(args, envs), 1.0)
        envs.close(terminate=True)


def test_a_death_before_the_first_step_leaves_a_model(tmp_path):
    args = small_args(**LBF, num_envs=2)
    with opened(args) as envs:
        os.kill(envs.processes[0].pid, signal.SIGKILL)
        envs.processes[0].join()
        with pytest.raises(qmix_multienvs.EnvironmentDied):
            qmix_multienvs.train(args, envs, qmix_multienvs.open_env(args), tmp_path, Event())
        assert (tmp_path / "model.pt").exists()
        envs.close(terminate=True)
