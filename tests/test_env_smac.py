"""SMAC and SMACv2, on a stand-in package of the same interface: the game is not here."""

import copy
import sys
import warnings

import pytest
from pettingzoo.test import parallel_api_test
from pettingzoo.utils import conversions

from cleanmarl.env import make_env
from cleanmarl.env.parallel import ParallelTeam
from cleanmarl.env.smac import MODULE, StarCraft2, load

# Two units against two. What happens in a battle is the name of its map.
BATTLE = """
from types import SimpleNamespace

import numpy as np

LAUNCHES = []


class StarCraft2Env:
    def __init__(self, map_name="8m", obs_timestep_number=False, capability_config=None):
        self.map_name, self.capability_config = map_name, capability_config
        self.episode_limit = {"win": 9, "lose": 9, "medivac": 9, "crash": 9}.get(map_name, 4)
        if map_name == "endless":
            del self.episode_limit
        if map_name == "nowhere":
            raise KeyError(map_name)
        self.timestep = obs_timestep_number
        self.n_agents, self._episode_count = 2, 0
        self.marine_id = 48

    def reset(self, teams=None):
        if self._episode_count == 0:
            LAUNCHES.append(self.map_name)
        self.agents = {i: SimpleNamespace(health=45, unit_type=48) for i in range(2)}
        self.steps, self.defeat_counted, self.teams = 0, False, teams

    def step(self, actions):
        assert all(self.get_avail_agent_actions(i)[a] for i, a in enumerate(actions)), actions
        self.steps += 1
        if self.map_name == "crash" and self.steps == 3:
            return 0, True, {}
        if self.steps == 2:
            self.agents[0].health = 0
        won = (self.map_name, self.steps) in {("win", 3), ("win_at_limit", 4)}
        lost = (self.map_name, self.steps) in {("lose", 3), ("medivac", 3), ("lose_at_limit", 4)}
        if lost and self.map_name != "medivac":
            self.agents[1].health = 0
        self.defeat_counted = lost
        over = won or lost or self.steps >= getattr(self, "episode_limit", 99)
        self._episode_count += over
        return 1.5, over, {"battle_won": won}

    def get_unit_by_id(self, unit):
        return self.agents[unit]

    def get_avail_agent_actions(self, unit):
        return [0, 1, 1, 0] if self.agents[unit].health else [1, 0, 0, 0]

    def get_obs_agent(self, unit):
        seen = [self.agents[unit].health / 45, unit]
        return np.array(seen + [self.steps / 9] * self.timestep)

    def get_obs_size(self):
        return 2  # not the timestep

    def get_state(self):
        return np.array([unit.health for unit in self.agents.values()] + [self.steps])

    def get_total_actions(self):
        return 4

    def render(self, mode):
        return np.zeros((2, 3, 3), np.uint8) if mode == "rgb_array" else None

    def close(self):
        pass


class StarCraftCapabilityEnvWrapper:
    def __init__(self, **options):
        self.env = StarCraft2Env(**options)
        options["capability_config"]["team_gen"]["env_key"] = "team_gen"

    def __getattr__(self, name):
        return getattr(self.env, name)

    def reset(self):
        self.env.reset(teams="drawn")
"""
# The interface, as a class of either package
GAME = """
from PACKAGE.env import StarCraft2Env
from pettingzoo import ParallelEnv


class smac_parallel_env(ParallelEnv):
    metadata = {"name": "sc2"}

    def __init__(self, max_cycles, **options):
        self.max_cycles = max_cycles
        self.env = StarCraft2Env(**options)
        self.env.reset()
        self.possible_agents, self.action_spaces = self._init_agents()

    def _init_agents(self):
        self.agents_id = {"marine_0": 0, "marine_1": 1}
        return list(self.agents_id), {name: spaces.Discrete(3) for name in self.agents_id}

    def start(self):
        self.env._episode_count, self.cycles = 1, 0
        self.env.reset()
        self.agents = list(self.possible_agents)
        return self.look()

    def look(self):
        views = {}
        for agent in self.agents:
            unit = self.agents_id[agent]
            mask = np.array(self.env.get_avail_agent_actions(unit)[1:], np.int8)
            view = self.env.get_obs_agent(unit).astype(np.float32)
            views[agent] = {"observation": view, "action_mask": mask}
        return views

    def act(self, actions):
        chosen = [0, 0]
        for agent, action in actions.items():
            chosen[self.agents_id[agent]] = action + 1
        reward, over, _ = self.env.step(chosen)
        self.cycles += 1
        views, acting = self.look(), self.agents
        late = self.cycles >= self.max_cycles
        dead = [a for a in acting if over or not self.env.get_unit_by_id(self.agents_id[a]).health]
        self.agents = [] if late else [a for a in acting if a not in dead]
        infos = {agent: {} for agent in acting}
        ends = {agent: agent in dead for agent in acting}
        return views, {agent: reward for agent in acting}, ends, late, infos

    def close(self):
        self.env.close()


"""
NEW = """
import numpy as np
from gymnasium import spaces
{GAME}
    def reset(self, seed=None, options=None):
        return self.start()

    def step(self, actions):
        views, rewards, ends, late, infos = self.act(actions)
        return views, rewards, ends, dict.fromkeys(ends, late), infos


def parallel_env(max_cycles=None, **options):
    return smac_parallel_env(max_cycles or 4, **options)
"""
OLD = """
import numpy as np
from gym import spaces
from gym.utils import EzPickle, seeding
from pettingzoo.utils.conversions import from_parallel_wrapper
{GAME}
    def reset(self):
        return self.start()

    def step(self, actions):
        views, rewards, ends, late, infos = self.act(actions)
        return views, rewards, {a: end or late for a, end in ends.items()}, infos


def parallel_env(max_cycles=1000, **options):
    return smac_parallel_env(max_cycles, **options)
"""
SOURCES = {"smac": NEW, "smacv2": OLD}
TEAMS = {"n_units": 2, "n_enemies": 2, "team_gen": {"dist_type": "weighted_teams"}}


@pytest.fixture(autouse=True)
def packages(tmp_path, monkeypatch):
    """Packages that have the interface of SMAC and of SMACv2."""
    for name in list(sys.modules):
        if name.partition(".")[0] in SOURCES:
            monkeypatch.delitem(sys.modules, name)
    for package, source in SOURCES.items():
        inner = tmp_path / package / "env" / "pettingzoo"
        inner.mkdir(parents=True)
        for folder in (tmp_path / package, inner):
            (folder / "__init__.py").touch()
        (inner.parent / "__init__.py").write_text(BATTLE)
        game = source.replace("{GAME}", GAME.strip()).replace("PACKAGE", package)
        (inner / f"{MODULE}.py").write_text(game)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in list(sys.modules):
        if name.partition(".")[0] in SOURCES:
            del sys.modules[name]


both = pytest.mark.parametrize("package", SOURCES)


def opened(package: str, map_name: str, **options) -> StarCraft2:
    module = load(MODULE, f"{package}.env.pettingzoo")
    return module.parallel_env(map_name=map_name, **options)


@both
def test_make_env_opens_a_battle(package):
    options = {"map_name": "limit"}
    env = make_env("pz", MODULE, f"{package}.env.pettingzoo", time_limit=2, **options)
    assert (env.n_agents, env.n_actions, env.state_size, env.time_limit) == (2, 3, 4, 2)
    assert last_step(env)[0] == 2
    with pytest.raises(ValueError, match="option of smac"):
        make_env("pz", MODULE, f"{package}.env.pettingzoo", map_nam="limit")


def team_of(env: StarCraft2) -> ParallelTeam:
    return ParallelTeam(env, "battle", agent_ids=False, clock=False, time_limit=env.max_cycles)


def last_step(team: ParallelTeam) -> tuple:
    """Play an episode; returns its length, its return, and the last step without its reward."""
    observation, _ = team.reset(seed=1)
    steps, total, over = 0, 0.0, False
    while not over:
        actions = observation["avail_actions"].argmax(1)
        observation, reward, terminated, truncated, info = team.step(actions)
        steps, total, over = steps + 1, total + reward, terminated or truncated
    return steps, total, (observation, terminated, truncated, info)


@both
@pytest.mark.parametrize(
    ("map_name", "steps", "way", "won"),
    [
        ("win", 3, "terminated", True),
        ("lose", 3, "terminated", False),
        ("medivac", 3, "terminated", False),
        ("win_at_limit", 4, "terminated", True),
        ("lose_at_limit", 4, "terminated", False),
        ("limit", 4, "truncated", False),
        ("crash", 3, "truncated", False),
    ],
)
def test_a_true_end_is_told_from_the_time_limit(package, map_name, steps, way, won):
    team = team_of(opened(package, map_name))
    for _ in range(2):
        length, total, (_, terminated, truncated, info) = last_step(team)
        assert (length, terminated, truncated) == (steps, way == "terminated", way == "truncated")
        assert info["battle_won"] == won
        # The team's reward counts once, however many agents live
        assert total == 1.5 * (steps - (map_name == "crash"))


@both
def test_at_the_time_limit_the_living_show_what_they_could_do(package):
    _, _, (observation, *_) = last_step(team_of(opened(package, "limit")))
    assert observation["avail_actions"].tolist() == [[1, 0, 0], [1, 1, 0]]
    assert observation["obs"].tolist() == [[0, 0], [1, 1]]  # nothing of the dead unit
    assert observation["state"].tolist() == [0, 45, 4]


@both
@pytest.mark.parametrize("limit", [3, 7])
def test_time_limits_may_be_shorter_and_longer_than_the_maps(package, limit):
    steps, _, (_, terminated, truncated, _) = last_step(
        team_of(opened(package, "limit", max_cycles=limit))
    )
    assert (steps, terminated, truncated) == (limit, False, True)


def test_the_interface_may_have_the_only_time_limit():
    env = opened("smac", "endless")
    del env._core.episode_limit
    steps, _, (_, terminated, truncated, _) = last_step(ParallelTeam(env, "battle"))
    assert (steps, terminated, truncated) == (4, False, True)


@both
def test_pettingzoos_own_test_passes(package):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parallel_api_test(opened(package, "win"), num_cycles=20)


@both
def test_observations_may_be_longer_than_declared(package):
    team = team_of(opened(package, "win", obs_timestep_number=True))
    assert last_step(team)[2][0]["obs"].shape == (2, 3)


@both
def test_pictures(package):
    assert opened(package, "win", render_mode="rgb_array").render().shape == (2, 3, 3)


def test_drawn_teams_have_neutral_names_and_one_game():
    config = copy.deepcopy(TEAMS)
    team = team_of(opened("smacv2", "10gen_terran", capability_config=config))
    assert config == TEAMS
    assert team.agent_names == ["unit_0", "unit_1"]
    for _ in range(2):
        team.reset(seed=1)
        assert team._env._core.teams == "drawn"
    last_step(team)
    assert sys.modules["smacv2.env"].LAUNCHES == ["10gen_terran"]


def test_imports_leave_no_trace():
    before = sys.modules.get("gym")
    space = opened("smacv2", "win").action_space("unit_0")
    assert type(space).__module__.startswith("gymnasium.")
    assert sys.modules.get("gym") is before
    assert not hasattr(conversions, "from_parallel_wrapper")


@pytest.mark.parametrize(
    ("package", "options", "reason"),
    [
        ("smac", {"map_nam": "3m"}, "option of smac 'map_nam'; did you mean map_name"),
        ("smac", {"map_name": "nowhere"}, "smac has no map 'nowhere'"),
        ("smacv2", {"map_name": "10gen_terran"}, "has no units of its own"),
    ],
)
def test_wrong_options_are_refused_before_the_game_starts(package, options, reason):
    with pytest.raises(ValueError, match=reason):
        load(MODULE, f"{package}.env.pettingzoo").parallel_env(**options)
    assert sys.modules[f"{package}.env"].LAUNCHES == []


def test_the_map_is_an_option():
    with pytest.raises(ValueError, match="--env-options map_name=3m"):
        load("3m", "smac.env.pettingzoo")


def test_a_missing_package_is_not_looked_for_on_pypi(tmp_path):
    (tmp_path / "smac" / "env" / "pettingzoo" / "__init__.py").unlink()
    (tmp_path / "smac" / "env" / "pettingzoo" / f"{MODULE}.py").unlink()
    (tmp_path / "smac" / "env" / "pettingzoo").rmdir()
    with pytest.raises(ImportError, match="pip install git"):
        load(MODULE, "smac.env.pettingzoo")
