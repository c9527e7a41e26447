"""`python -m cleanmarl.env`: the check of an environment, and the list."""

import os
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from cleanmarl.env import TeamEnv, make_env
from cleanmarl.env.__main__ import main
from cleanmarl.env.tasks import Task, read_task
from tests.helpers import ROOT


@pytest.fixture
def program(monkeypatch, capsys):
    """`program(*words)`: exit status, output and errors of `python -m cleanmarl.env`."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["env", *words])
        capsys.readouterr()
        try:
            status = main() or 0
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return call


def report(out: str) -> dict[str, str]:
    """What the check says of each thing; of several problems or notes, the last."""
    lines = [line for line in out.splitlines() if not line.startswith("problem: ")]
    return {line[:13].strip(): line[14:] for line in lines}


def problems(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith("problem: ")]


class Team(TeamEnv):
    """Two agents; at most five steps, or endless. Something in it may be wrong."""

    def __init__(self, fault="", **team):
        super().__init__(n_agents=2, n_actions=3, obs_size=2, **team)
        self.fault = fault
        self.noise = np.random.default_rng(0)
        self.agent_names = ["red", "blue"]
        self.action_names = [["stay", "left", "right"]] * 2
        self.observation_names = [["place", "goal"]] * 2

    def start(self, seed):
        self.steps = 0
        return self.see()

    def advance(self, actions):
        if self.fault == "crash":
            raise KeyError("red")
        self.steps += 1
        reward = np.nan if self.fault == "reward" else 0.0
        over = self.steps == 5 and self.fault != "endless"
        return self.see(), reward, over, False, {"is_success": over}

    def see(self):
        noise = self.noise.random() if self.fault == "noise" else 0
        masks = [[1, 1, 1], [1, self.steps > 1, 0]]
        return self.observe([[self.steps, noise]] * 2, masks)


gymnasium.register("Team-v0", Team)
TEAM = "gym:tests.test_env_check:Team-v0"


def test_the_check_tells_sizes_names_masks_episodes_and_what_gymnasium_says(program):
    status, out, _ = program("check", TEAM, "--time-limit", "3")
    assert status == 0, out
    told = report(out)
    assert told["agents"] == "2: red, blue"
    assert told["actions"] == "3: stay, left, right"
    assert told["observation"] == "5 numbers, float32, the first are place, goal"
    assert told["state"] == "5 numbers, float32: the observations of all agents"
    assert told["time limit"] == "3 steps; observations and state end with the share of time left"
    assert told["masks"] == "1 to 3 of 3 actions are available"
    assert told["episodes"] == "5 random ones: 3 to 3 steps, reward 0 to 0"
    assert told["ends"] == "0 by the task, 5 by the time limit"
    assert told["success"] == "is_success"
    assert told["note"].startswith("no random episode earned anything")
    assert told["same seed"] == "gives the same episode"
    assert "steps a second" in told["speed"]
    assert told["check_env"] == "passed"
    assert told["full buffer"].startswith("up to ")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("noise", "the same seed gives another episode (obs after step 0): draw all random"),
        ("endless", "an episode has not ended after 10000 steps: add --time-limit"),
        ("reward", "Team, episode 1 (seed 1), step 1: the reward is nan"),
    ],
)
def test_what_training_would_trip_over_is_a_problem(program, fault, message):
    status, out, _ = program("check", TEAM, f"fault={fault}")
    assert status == 1
    (problem,) = problems(out)
    assert problem.startswith(f"problem: {message}")


def test_an_error_of_the_environments_own_code_is_raised(program):
    with pytest.raises(KeyError, match="red"):
        program("check", TEAM, "fault=crash")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["3mm"], "did you mean 3m"),
        (["lbf:8x8"], "names are like Foraging"),
        (["pz:simple_spread_v3", "M=5"], "unknown option of mpe:simple_spread_v3 'M'"),
        (["pz:simple_spread_v3", "N"], "must be like N=5"),
        (["x:y"], "env_type must be"),
        (["3m", "clock=1"], "clock has its own argument: --clock"),
        (["3m", "render_mode=human"], "render_mode is no option of a task: leave it out"),
        ([TEAM, "falt=x"], "unknown option of Team 'falt'; did you mean fault?"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(program, words, message):
    status, out, err = program("check", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("task", ["3m", "terran_5_vs_5", "gym:tests.games.meeting:Meeting-v0"])
def test_masks_that_differ_between_episodes_pass(program, task):
    status, out, _ = program("check", task)
    assert status == 0, out


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        (
            "lbf:Foraging-8x8-2p-3f-v3",
            "-1 to 7; networks divide those above 1 or below 0.01 by their largest size",
        ),
        ("pz:simple_spread_v3", "; 4 of 22 never change; networks divide"),  # silent speech
        ("pz:tests.games:growing_game factor=1e-5", "1; networks divide those above 1 or below"),
    ],
)
def test_the_check_tells_the_range_of_entries(program, task, wanted):
    assert wanted in report(program("check", *task.split())[1])["entries"]


def test_what_is_hardly_learned_is_noted(program):
    _, out, _ = program("check", "pz:tests.games:growing_game", "offset=1000")
    assert "note          entry 3 lies between 1001 and 1025: subtract" in out


@pytest.mark.parametrize(
    ("task", "opposed"),
    [
        ("pz:simple_tag_v3", True),
        ("pz:simple_adversary_v3", True),
        ("pz:simple_spread_v3", False),
        ("lbf:Foraging-8x8-2p-3f-v3", False),
        ("pz:sisl:pursuit_v5 max_cycles=60", False),
        ("3m", False),
    ],
)
def test_opponents_are_noted(program, task, opposed):
    says = "at each other's expense: QMIX trains one team, so let a fixed rule play the other side"
    assert (says in program("check", *task.split())[1]) == opposed


def test_small_rewards_are_noted(program):
    matrix = "pz:cleanmarl.benchmark.games:matrix_game"
    told = report(program("check", matrix, "payoffs=[[0.01,0],[0,0.01]]")[1])
    assert told["note"] == "no reward above 0.01: multiply them, they are learned slowly"
    assert "no reward above" not in program("check", matrix, "payoffs=[[0.1,0],[0,0]]")[1]


def test_options_follow_the_task(program):
    _, out, _ = program("check", "pz:simple_spread_v3", "N=5", "local_ratio=0")
    assert report(out)["agents"].startswith("5: ")


def test_the_list_gives_the_sizes_of_environments_that_can_be_opened(program):
    status, out, _ = program("list")
    assert status == 0
    head, *rows = [line.split() for line in out.splitlines()]
    assert head == ["agents", "actions", "obs", "state", "limit", "task"]
    sizes = {row[5]: tuple(map(int, row[:5])) for row in rows if row[0].isdecimal()}
    for word in ("3m", "zerg_20_vs_23", "lbf:Foraging-8x8-2p-3f-v3", "pz:sisl:pursuit_v5"):
        task = read_task(word)
        env = make_env(task.env_type, task.env_name, task.env_family or "mpe")
        expected = (env.n_agents, env.n_actions, env.obs_size, env.state_size, env.time_limit)
        assert sizes[word] == expected


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("3m", Task("smaclite", "3m", "", [])),
        ("my maps/mine.toml", Task("smaclite", "my maps/mine.toml", "", [])),
        ("lbf:Foraging-8x8-2p-3f-v3", Task("lbf", "Foraging-8x8-2p-3f-v3", "", [])),
        ("pz:simple_spread_v3 N=5 a=1", Task("pz", "simple_spread_v3", "", ["N=5", "a=1"])),
        ("pz:my.games:courier", Task("pz", "courier", "my.games", [])),
        ("gym:rware:rware-tiny-2ag-v2", Task("gym", "rware:rware-tiny-2ag-v2", "", [])),
    ],
)
def test_a_word_names_a_task(text, task):
    assert read_task(text) == task


def test_a_time_limit_that_is_no_number_of_steps_is_refused(program):
    status, _, err = program("check", "3m", "--time-limit", "0")
    assert (status, err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("words", "unbuffered", "status"),
    [
        (["list"], "1", 0),
        (["check", "3m"], "", 0),
        (["check", TEAM, "fault=noise"], "1", 1),
    ],
    ids=["list", "check", "check_with_a_problem"],
)
def test_a_reader_that_leaves_changes_nothing(words, unbuffered, status):
    program = [sys.executable, "-m", "cleanmarl.env", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    settings = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(program, cwd=ROOT, env=settings, **pipes) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", status)


class Stuck(Team):
    """An agent has no available action."""

    def see(self):
        return self.observe([[0, 0]] * 2, [[1, 1, 1], [0, 0, 0]])


class OwnLimit(TeamEnv):
    def __init__(self, **team):
        super().__init__(n_agents=1, n_actions=1, obs_size=1, time_limit=3, **team)


gymnasium.register("Stuck-v0", Stuck)
gymnasium.register("OwnLimit-v0", OwnLimit)


def test_an_agent_without_an_action_is_a_problem(program):
    status, out, _ = program("check", "gym:tests.test_env_check:Stuck-v0")
    assert status == 1
    assert "avail_actions allows blue no action" in problems(out)[0]


def test_a_slow_episode_without_an_end_is_not_played_for_long(program, monkeypatch):
    monkeypatch.setattr("cleanmarl.env.check.PATIENCE", 0.05)
    status, out, _ = program("check", TEAM, "fault=endless")
    assert status == 1
    (problem,) = problems(out)
    assert problem.endswith("steps, in 0 s: add --time-limit")
    assert "10000" not in problem


def test_a_team_that_gives_its_own_time_limit_is_refused_with_the_remedy(program):
    status, _, err = program("check", "gym:tests.test_env_check:OwnLimit-v0")
    assert status == 2
    assert "register it with max_episode_steps" in err


@pytest.mark.parametrize("name", ["reset", "step"])
def test_a_team_with_a_step_or_a_reset_of_its_own_is_refused(program, monkeypatch, name):
    monkeypatch.setattr(OwnLimit, name, lambda self, *given, **named: None, raising=False)
    status, _, err = program("check", "gym:tests.test_env_check:OwnLimit-v0")
    assert status == 2
    assert f"has a {name}() of its own: define" in err


def test_an_early_end_by_a_time_limit_of_the_environments_own_is_noted(program):
    _, out, _ = program("check", "pz:tests.games:faulty", "--time-limit", "9")
    assert "cut off" not in out  # its episodes terminate
    _, out, _ = program("check", "pz:tests:test_own_envs", "--time-limit", "9")
    assert "episodes are cut off after 3 steps, before the time limit of 9" in out


def test_a_time_limit_that_only_the_environment_knows_is_noted(program):
    _, out, _ = program("check", "pz:tests:test_own_envs")
    assert "episodes are cut off after 3 steps: add --time-limit 3" in out


def test_agents_that_see_no_change_are_noted(program):
    said = "the task's observations never change during an episode"
    assert said in program("check", "pz:tests:test_own_envs", "--time-limit", "3")[1]
    assert said not in program("check", TEAM, "--time-limit", "3")[1]
    assert said not in program("check", "3m")[1]


def test_an_old_gymnasium_is_refused_in_one_line_before_what_it_lacks_is_imported():
    code = "import gymnasium.vector; gymnasium.__version__ = '0.28.1'\n"
    code += "del gymnasium.vector.AutoresetMode; import cleanmarl.env"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    remedy = "pip install 'gymnasium>=1.1', in an environment of its own if need be"
    assert done.stderr == f"error: gymnasium is too old, 0.28.1: {remedy}\n"


class Counts(Team):
    """Uses names that a base class might use, too, and reports its success once."""

    def start(self, seed):
        self._steps = self._seed = self._episode = 0
        return super().start(seed)

    def advance(self, actions):
        self._steps += 1
        *answer, _ = super().advance(actions)
        return *answer, {"is_success": True} if self._steps == 2 else {}


gymnasium.register("Counts-v0", Counts, max_episode_steps=4)


def test_a_team_may_count_its_own_steps_and_a_report_of_success_stays():
    env = make_env("gym", "tests.test_env_check:Counts-v0")
    env.reset(seed=0)
    answers = [env.step([0, 0])[1:] for _ in range(4)]
    assert [truncated for _, _, truncated, _ in answers] == [False, False, False, True]
    assert [info for *_, info in answers] == [{}] + [{"is_success": True}] * 3
