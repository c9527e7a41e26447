"""`qmix_multienvs.py`: one forward pass for all environments, and rounds of updates."""

import contextlib
import dataclasses
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from cleanmarl import qmix, qmix_multienvs
from cleanmarl.env import vector
from cleanmarl.qmix_multienvs import Args, Collector, EpisodeBuffer, Networks
from cleanmarl.training import Refused, RunFailed, acting, random_stream
from cleanmarl.training.checkpoint import load_checkpoint
from tests import helpers
from tests.helpers import (
    LBF,
    ROOT,
    TWO_STEPS,
    actions_of,
    equal_weights,
    random_availability,
    scalars,
    values_of,
    weights,
)

TASKS = {"3m": {"env_name": "3m"}, "lbf": LBF | {"time_limit": 20}, "two_steps": TWO_STEPS}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def small_args(**options) -> Args:
    return helpers.small_args("qmix_multienvs", **{"env_name": "3m"} | options)


def trained(folder: Path, **options) -> Path:
    return helpers.trained("qmix_multienvs", folder, **{"env_name": "3m"} | options)


@contextlib.contextmanager
def collecting(args: Args):
    """A collector of episodes, and the action values of untrained agents."""
    torch.manual_seed(0)
    q_values = acting(Networks(args, qmix_multienvs.open_env(args)).agent)
    collector = Collector(args)
    try:
        yield collector, q_values
    finally:
        collector.envs.envs.close()


# With one environment


@every_task
def test_with_one_environment_a_training_equals_qmixs_bit_for_bit(tmp_path, task):
    steps = 60 if task == TWO_STEPS else 700
    options = {"total_timesteps": steps, "batch_size": 4, "log_every": 1, "eval_steps": 3}
    options["greedy_episodes"] = 0.5
    reference = helpers.small_args("qmix", **task, **options)
    same = dataclasses.asdict(reference)
    expected = qmix.train(reference, folder=tmp_path / "one")
    latest = qmix_multienvs.train(Args(**same, num_envs=1, n_epochs=1), folder=tmp_path / "many")
    one = scalars(tmp_path / "one")
    many = scalars(tmp_path / "many")
    assert one["train/num_updates"][-1][1] >= 5
    assert len(one["eval/ep_reward"]) >= 2
    for metrics in (one, many, expected, latest):
        del metrics["charts/SPS"]
    assert many == one
    assert latest == expected
    assert equal_weights(tmp_path / "one", tmp_path / "many")


@pytest.mark.parametrize("task", [{"env_name": "3m"}, LBF], ids=["in_one_call", "in_processes"])
def test_two_trainings_with_one_seed_end_with_the_same_weights(tmp_path, task):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        trained(tmp_path / name, **task, num_envs=3, total_timesteps=600, seed=seed)
    assert equal_weights(tmp_path / "a", tmp_path / "b")
    assert not equal_weights(tmp_path / "a", tmp_path / "c")


# Acting


def test_all_environments_act_through_one_forward_pass_a_step():
    shapes = []
    with collecting(small_args(num_envs=3)) as (collector, q_values):

        def watched(obs):
            shapes.append(obs.shape)
            return q_values(obs)

        for _ in range(5):
            collector.step(watched, 0.0)
    env = qmix_multienvs.open_env(small_args())
    assert shapes == [(3, env.n_agents, env.obs_size)] * 5


@pytest.mark.parametrize("epsilon", [0.0, 0.4, 1.0])
def test_actions_in_an_environment_do_not_depend_on_the_others(epsilon):
    torch.manual_seed(0)
    q = torch.randn(3, 2, 5).numpy()
    available = random_availability(3, 2, 5).numpy()
    rngs = [np.random.default_rng(i) for i in range(3)]

    def act_in_all(seen: dict) -> np.ndarray:
        return qmix_multienvs.act_together(lambda obs: obs, seen, np.full(3, epsilon), rngs)

    together = actions_of(act_in_all, q, available, times=50)
    for i in range(3):
        rng = np.random.default_rng(i)

        def act_alone(seen: dict, rng=rng) -> np.ndarray:
            return qmix.act(lambda obs: obs, seen, epsilon, rng)

        alone = actions_of(act_alone, q[i], available[i], times=50)
        assert np.array_equal(together[:, i], alone)


def test_environments_explore_differently():
    with collecting(small_args(num_envs=4)) as (collector, q_values):
        for _ in range(8):
            collector.step(q_values, 1.0)
    explored = [np.array([step[0] for step in one]).tobytes() for one in collector.envs.steps]
    assert len(set(explored)) == 4


# Collecting


def contents(episode: dict[str, np.ndarray], results: dict) -> tuple:
    arrays = [(key, one.dtype.str, one.shape, one.tobytes()) for key, one in episode.items()]
    return tuple(sorted(arrays)), tuple(results.items())


@every_task
def test_an_episode_equals_that_of_a_single_environment(task):
    """With epsilon 1 or 0, an episode's number determines it."""
    collected = []
    options = task | {"greedy_episodes": 0.5}
    with collecting(small_args(**options, num_envs=3)) as (collector, q_values):
        while len(collected) < 6:
            collected += collector.step(q_values, 1.0)
    args = helpers.small_args("qmix", **options, start_e=1, end_e=1)
    env = qmix.open_env(args)
    agent = qmix.Networks(args, env).agent
    numbers = range(collector.num_started)
    played = [qmix.collect_episode(env, agent, args, number, 0) for number in numbers]
    assert Counter(contents(*one) for one in collected) <= Counter(contents(*one) for one in played)


def test_no_environment_waits_for_a_slower_one():
    finished = 0
    unequal = False
    with collecting(small_args(num_envs=4)) as (collector, q_values):
        for step in range(1, 151):
            ended = collector.step(q_values, 1.0)
            finished += sum(len(episode["reward"]) for episode, _ in ended)
            under_way = zip(collector.envs.steps, collector.episode_over, strict=True)
            playing = sum(len(steps) for steps, over in under_way if not over)
            assert finished + playing == 4 * step
            unequal |= 0 < len(ended) < 4
    assert unequal


def test_an_episode_enters_the_buffer_as_soon_as_it_ends(tmp_path, monkeypatch):
    ended = []
    stored = []
    step = Collector.step

    def checked(self, *args):
        assert len(stored) == len(ended)
        episodes = step(self, *args)
        ended.extend(episodes)
        return episodes

    monkeypatch.setattr(Collector, "step", checked)
    monkeypatch.setattr(EpisodeBuffer, "store", lambda self, episode: stored.append(episode))
    trained(tmp_path / "run", num_envs=3, total_timesteps=300)
    assert len(stored) > 3
    assert all(one is other for one, (other, _) in zip(stored, ended, strict=True))


@pytest.mark.parametrize("bootstraps", [True, False])
@pytest.mark.parametrize("task", [{"env_name": "3m"}, LBF], ids=["3m", "lbf"])
def test_a_truncated_episode_is_stored_as_terminated_only_without_bootstrap_truncated(
    task, bootstraps
):
    args = small_args(**task | {"time_limit": 5}, bootstrap_truncated=bootstraps)
    with collecting(args) as (collector, q_values):
        ended = [collector.step(q_values, 1.0) for _ in range(10)]
    assert [len(episodes) for episodes in ended] == [0, 0, 0, 0, 2] * 2
    for episode, _ in ended[4] + ended[9]:
        assert episode["terminated"].tolist() == [0, 0, 0, 0, not bootstraps]


def test_a_terminated_episode_is_marked_at_its_last_step():
    with collecting(small_args(**TWO_STEPS)) as (collector, q_values):
        collector.step(q_values, 1.0)
        ended = collector.step(q_values, 1.0)
    assert [episode["terminated"].tolist() for episode, _ in ended] == [[0, 1]] * 2


def test_every_episode_has_its_own_seed():
    args = small_args(num_envs=3)
    seeds = set()
    with collecting(args) as (collector, q_values):
        for _ in range(150):
            collector.step(q_values, 1.0)
            seeds |= set(collector.envs.seeds)
    numbers = range(collector.num_started)
    assert len(numbers) > 6
    assert seeds == {random_stream(args, "train", number).integers(2**31) for number in numbers}


# Resuming


@every_task
def test_a_loaded_collector_continues_like_the_saved_one(task):
    args = small_args(**task, num_envs=3)
    with collecting(args) as (collector, q_values):
        for _ in range(25):
            collector.step(q_values, 0.5)
        state = collector.state_dict()
        expected = [collector.step(q_values, 0.5) for _ in range(30)]
    with collecting(args) as (collector, q_values):
        collector.load_state_dict(state)
        played = [collector.step(q_values, 0.5) for _ in range(30)]
    for ended, as_expected in zip(played, expected, strict=True):
        assert [contents(*one) for one in ended] == [contents(*one) for one in as_expected]


def test_episodes_start_again_if_an_environment_is_not_deterministic(monkeypatch, capsys):
    args = small_args(time_limit=5)
    with collecting(args) as (collector, q_values):
        for _ in range(3):
            collector.step(q_values, 1.0)
        state = collector.state_dict()

    def fails(*_):
        raise ValueError("an episode ends early")

    monkeypatch.setattr(vector, "replay", fails)
    with collecting(args) as (collector, q_values):
        collector.load_state_dict(state)
        ended = [collector.step(q_values, 1.0) for _ in range(5)]
    assert "an episode ends early" in capsys.readouterr().err
    assert [len(episodes) for episodes in ended] == [0, 0, 0, 0, 2]
    # Episodes 0 and 1 are lost
    expected = {random_stream(args, "train", number).integers(2**31) for number in (2, 3)}
    assert set(collector.envs.seeds) == expected


# Counts of episodes, updates and steps


def history(folder: Path, monkeypatch, **options) -> str:
    """A training as letters.

    e: an episode is stored, u: an update, t: the target networks move.
    """
    letters = []

    def spelled(letter, call):
        return lambda *args: letters.append(letter) or call(*args)

    monkeypatch.setattr(EpisodeBuffer, "store", spelled("e", EpisodeBuffer.store))
    monkeypatch.setattr(qmix_multienvs, "update", spelled("u", qmix_multienvs.update))
    monkeypatch.setattr(Networks, "update_targets", spelled("t", Networks.update_targets))
    # No battle ends before this time limit
    trained(folder, batch_size=1, time_limit=4, **options)
    return "".join(letters)


def test_n_epochs_updates_follow_every_train_freq_episodes(tmp_path, monkeypatch):
    options = {"train_freq": 4, "n_epochs": 3, "target_network_update_freq": 1000}
    options |= {"num_envs": 3, "total_timesteps": 48}
    assert history(tmp_path / "run", monkeypatch, **options) == "eeeeuuu" * 3


def test_target_network_update_freq_counts_rounds(tmp_path, monkeypatch):
    options = {"train_freq": 2, "n_epochs": 2, "target_network_update_freq": 2}
    options |= {"num_envs": 3, "total_timesteps": 60}
    letters = history(tmp_path / "run", monkeypatch, **options)
    assert letters == "eeuueeuut" * 3 + "eeuue"


def test_the_defaults_give_one_update_an_episode(tmp_path, monkeypatch):
    options = {"num_envs": Args().num_envs, "total_timesteps": 4 * 4 * 3}
    assert history(tmp_path / "run", monkeypatch, **options) == "eeuut" * 6


def test_a_longer_episode_makes_more_rounds(tmp_path, monkeypatch):
    options = {"train_freq": 2, "n_epochs": 1, "num_envs": 2, "total_timesteps": 24}
    two = history(tmp_path / "two", monkeypatch, steps_per_update=2, **options)
    assert two == "eeutut" * 3
    rounded = history(tmp_path / "rounded", monkeypatch, steps_per_update=3, **options)
    assert rounded == "eeut" * 3


SHORT = {"time_limit": 4, "total_timesteps": 40, "log_every": 2}


def test_num_updates_counts_updates_not_rounds(tmp_path):
    folder = trained(tmp_path / "run", train_freq=2, n_epochs=3, batch_size=1, **SHORT)
    expected = [(8, 3), (16, 6), (24, 9), (32, 12), (40, 15)]
    assert scalars(folder)["train/num_updates"] == expected


def test_the_first_round_waits_for_a_full_batch(tmp_path):
    folder = trained(tmp_path / "run", train_freq=1, n_epochs=1, batch_size=5, **SHORT)
    assert values_of(folder, "train/num_updates") == [0, 0, 2, 4, 6]


def test_log_every_and_eval_steps_count_episodes_of_all_environments(tmp_path):
    counts = {"total_timesteps": 80, "log_every": 6, "eval_steps": 8}
    logged = scalars(trained(tmp_path / "run", time_limit=4, **counts))
    assert logged["rollout/num_episodes"] == [(24, 6), (48, 12), (72, 18)]
    assert [step for step, _ in logged["eval/ep_reward"]] == [32, 64, 80]  # and at the end


def test_steps_count_over_all_environments(tmp_path):
    options = {"exploration_fraction": 0.5, "start_e": 1, "end_e": 0}
    folder = trained(tmp_path / "run", **SHORT, **options)
    assert values_of(folder, "rollout/epsilon") == pytest.approx([0.6, 0.2, 0, 0, 0], abs=1e-6)


def test_the_rollouts_means_are_over_the_episodes_since_the_last_log(tmp_path, monkeypatch):
    numbers = iter(range(20))
    step = Collector.step

    def numbered(*args):
        ended = step(*args)
        return [(episode, results | {"ep_reward": next(numbers)}) for episode, results in ended]

    monkeypatch.setattr(Collector, "step", numbered)
    counts = {"total_timesteps": 48, "log_every": 4}
    folder = trained(tmp_path / "run", time_limit=4, **counts)
    assert values_of(folder, "rollout/ep_reward") == [1.5, 5.5, 9.5]


def test_an_episode_that_reaches_total_timesteps_is_finished(tmp_path):
    folder = trained(tmp_path / "run", **SHORT | {"total_timesteps": 9})
    assert scalars(folder)["rollout/num_episodes"][-1] == (16, 4)


def test_a_training_that_is_stopped_finishes_an_episode(tmp_path, monkeypatch):
    begin = Collector.begin

    def stopping(self):
        begin(self)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Collector, "begin", stopping)
    with pytest.raises(SystemExit):
        trained(tmp_path / "run", time_limit=4, total_timesteps=1000)
    saved = load_checkpoint(tmp_path / "run", "qmix_multienvs", with_episodes=True)
    assert [len(episode["reward"]) for episode in saved["episodes"]] == [4, 4]


# Processes


def processes_in(folder: Path) -> dict[int, int]:
    """process -> parent, of the processes that work in a folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                words = (process / "stat").read_text().rpartition(")")[2].split()
                found[int(process.name)] = int(words[1])
    return found


def wait_for(condition, seconds: float):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def training(tmp_path):
    """A training on LBF in its own process group, as in a terminal; it has evaluated."""
    if not Path("/proc").exists():
        pytest.skip("finds processes in /proc")
    arguments = "--env-type lbf --env-name Foraging-8x8-2p-3f-v3 --total-timesteps 1e8"
    arguments += " --num-envs 3 --hidden-dim 8 --hyper-dim 8 --batch-size 2 --buffer-size 10"
    arguments += " --num-eval-ep 1 --eval-steps 3 --log-every 3"
    process = subprocess.Popen(
        [sys.executable, qmix_multienvs.__file__, *arguments.split()],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "stderr").open("w"),
        text=True,
        start_new_session=True,
        # A background job of a shell ignores Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def evaluated() -> bool:
        files = tmp_path.glob("runs/*/status.json")
        return any("eval/ep_reward" in file.read_text() for file in files)

    try:
        assert wait_for(evaluated, 90), (tmp_path / "stderr").read_text()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def assert_whole(folder: Path):
    """The run has a model, curves, and a checkpoint with its episodes."""
    assert weights(folder)
    assert load_checkpoint(folder, "qmix_multienvs", with_episodes=True)["episodes"]
    assert scalars(folder)["eval/ep_reward"]


def test_a_process_that_dies_ends_the_run_which_is_saved(training, tmp_path):
    parents = processes_in(tmp_path)
    server = max(parents.values(), key=list(parents.values()).count)  # of the three environments
    environments = sorted(one for one, parent in parents.items() if parent == server)[-3:]
    os.kill(environments[1], signal.SIGKILL)
    training.wait(30)
    (folder,) = (tmp_path / "runs").iterdir()
    errors = (tmp_path / "stderr").read_text()
    assert training.returncode == 1
    assert re.search(r"error: the process of environment 1 died in episode \d+ \(seed ", errors)
    assert "it ended by SIGKILL" in errors
    assert "Traceback" not in errors
    assert folder.name in errors
    assert_whole(folder)
    assert wait_for(lambda: not processes_in(tmp_path), 5)


def test_ctrl_c_in_a_terminal_ends_all_processes_and_the_run_is_saved(training, tmp_path):
    os.killpg(training.pid, signal.SIGINT)
    stdout, _ = training.communicate(timeout=30)
    errors = (tmp_path / "stderr").read_text()
    assert training.returncode == 130
    assert all("steps/s" in line or "eval" in line for line in errors.splitlines()), errors
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name in stdout
    assert_whole(folder)
    assert wait_for(lambda: not processes_in(tmp_path), 5)


def kill_first_process(collector: Collector):
    process = collector.envs.envs.processes[0]
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_a_death_while_an_episode_begins_names_the_environment_and_the_seed():
    with collecting(small_args(**LBF)) as (collector, q_values):
        kill_first_process(collector)
        seed = random_stream(collector.args, "train", 0).integers(2**31)
        with pytest.raises(RunFailed, match=rf"environment 0 died in episode 1 \(seed {seed}\)"):
            collector.step(q_values, 1.0)


def test_too_many_environments_for_the_system_are_refused_in_one_line(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("too many open files")

    monkeypatch.setattr(qmix_multienvs, "make_vector_env", fail)
    with pytest.raises(Refused, match="too many open files"):
        trained(tmp_path / "run", **LBF)
    assert not (tmp_path / "run").exists()


def test_a_death_before_the_first_step_leaves_a_model(tmp_path, monkeypatch):
    begin = Collector.begin

    def die(collector: Collector):
        kill_first_process(collector)
        begin(collector)

    monkeypatch.setattr(Collector, "begin", die)
    with pytest.raises(RuntimeError):
        trained(tmp_path / "run", **LBF)
    assert weights(tmp_path / "run")


DEADLY = """
import multiprocessing, os, signal, time
from tests.games import faulty

class Deadly(faulty.Faulty):
    def __init__(self, ends, where):
        super().__init__()
        self.ends, self.where = ends, where
        self.act("open")

    def reset(self, seed=None, options=None):
        if self.all_steps >= 7:
            self.act("reset")
        return super().reset(seed)

    def step(self, actions):
        if self.all_steps >= 7:
            self.act("step")
        return super().step(actions)

    def close(self):
        self.act("close")

    def act(self, where):
        if self.where == where and multiprocessing.parent_process():
            try:
                os.close(os.open("one", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return  # in another process
            if self.ends == "abort":
                os.abort()
            if self.ends == "exit":
                os._exit(3)
            if self.ends == "missing":
                open("no_file")
            if self.ends == "hang":
                time.sleep(10**6)
            os.kill(os.getpid(), getattr(signal, self.ends))

parallel_env = Deadly
"""


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """`deadly(ends, where)`: arguments for a game of which one process ends so, there."""
    package = tmp_path / "my_games"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "deadly.py").write_text(DEADLY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def options(ends: str, where: str = "step") -> dict:
        names = {"env_type": "pz", "env_family": "my_games", "env_name": "deadly", "num_envs": 3}
        return names | {"env_options": {"ends": ends, "where": where}, "total_timesteps": 10**8}

    yield options
    for name in ("my_games", "my_games.deadly"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("ends", "where", "message"),
    [
        ("abort", "step", r"in episode 3 \(seed \d+\), step 2: it ended by SIGABRT"),
        ("SIGSEGV", "step", r"in episode 3 \(seed \d+\), step 2: it ended by SIGSEGV"),
        ("SIGKILL", "reset", r"in episode 4 .*, at its reset: it ended by SIGKILL \(perhaps"),
        ("exit", "step", r"in episode 3 .*, step 2: it ended with exit status 3"),
    ],
)
def test_a_process_that_dies_while_it_works_is_told_in_one_line_after_saving(
    deadly, tmp_path, ends, where, message
):
    with pytest.raises(RunFailed, match=rf"^the process of environment \d died {message}"):
        trained(tmp_path / "run", **deadly(ends, where))
    assert load_checkpoint(tmp_path / "run", "qmix_multienvs", with_episodes=True)["episodes"]
    assert not multiprocessing.active_children()


def test_a_process_that_dies_while_it_is_opened_is_refused(deadly, tmp_path):
    with pytest.raises(Refused, match=r"environment \d died while it was opened: .* SIGABRT"):
        trained(tmp_path / "run", **deadly("abort", "open"))
    assert not multiprocessing.active_children()


def test_a_missing_file_of_the_users_code_is_not_taken_for_a_dead_process(deadly, tmp_path):
    with pytest.raises(FileNotFoundError):
        trained(tmp_path / "run", **deadly("missing"))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("where", ["step", "reset"])
def test_a_stop_ends_a_process_that_hangs_and_the_run_is_saved(
    deadly, tmp_path, monkeypatch, where
):
    monkeypatch.setattr("cleanmarl.training.stopping.PATIENCE", 0.2)
    asked = []

    def stop():
        assert wait_for((tmp_path / "one").exists, 60)
        asked.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(SystemExit) as end:
        trained(tmp_path / "run", **deadly("hang", where))
    assert end.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - asked[0] < 5
    assert load_checkpoint(tmp_path / "run", "qmix_multienvs", with_episodes=True)["episodes"]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("where", "number", "status"),
    [("step", signal.SIGINT, 130), ("open", signal.SIGINT, 130), ("step", signal.SIGKILL, -9)],
)
def test_nothing_is_left_of_a_program_one_of_whose_processes_hangs(
    deadly, tmp_path, where, number, status
):
    if not Path("/proc").exists():
        pytest.skip("finds processes in /proc")
    words = "--env-type pz --env-family my_games --env-name deadly --time-limit 5"
    words += f" --num-envs 3 --hidden-dim 8 --env-options ends=hang where={where}"
    process = subprocess.Popen(
        [sys.executable, qmix_multienvs.__file__, *words.split()],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert wait_for((tmp_path / "one").exists, 60)
    here = {os.getpid()}  # this process works in the folder, too
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    assert wait_for(lambda: processes_in(tmp_path).keys() <= here | {process.pid}, 15)
    assert (process.stderr.read(), process.wait(5)) == ("", status)


def test_a_users_file_that_trains_whenever_it_is_imported_is_told_what_to_write(tmp_path):
    program = tmp_path / "mine.py"
    values = ", ".join(f"{name}={value!r}" for name, value in LBF.items())
    program.write_text(
        "from cleanmarl import qmix_multienvs\n"
        f"qmix_multienvs.train(qmix_multienvs.Args({values}, num_envs=2))\n"
    )
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    words = {"cwd": tmp_path, "env": settings, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, program], **words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith('mine.py: error: write if __name__ == "__main__": above')
    assert not (tmp_path / "runs").exists()
