"""The numbers of a page are those of the networks, and their names say what they are."""

import json
import sys

import numpy as np
import pytest
import torch

from cleanmarl.battle import BattleEnv, map_names
from cleanmarl.battle.names import action_names
from cleanmarl.battle.world import HEAL
from cleanmarl.watch.episodes import Episode, places, play
from cleanmarl.watch.explain import discounted
from cleanmarl.watch.trained import load
from tests.helpers import LBF, MODULES, every_script, trained
from tests.watch.runs import RUNS, episode_of, thoughts

# Values of the networks


@pytest.mark.parametrize("name", RUNS)
def test_the_values_of_an_episode_are_those_by_which_the_agents_acted(runs, name):
    _, episode, found = thoughts(runs(name))
    available = episode["avail_actions"][: len(episode["actions"])]
    greedy = np.where(available, found["q"], -np.inf).argmax(-1)
    assert np.array_equal(greedy, episode["actions"])


@pytest.mark.parametrize("name", RUNS)
def test_what_if_is_the_mixers_output_for_each_changed_value(runs, name):
    run, episode, found = thoughts(runs(name))
    state = torch.from_numpy(episode["state"])
    available = np.argwhere(episode["avail_actions"][: len(found["q"])])
    for t, agent, action in np.random.default_rng(1).choice(available, 20):
        q = [found["q"][t, i, taken] for i, taken in enumerate(episode["actions"][t])]
        q[agent] = found["q"][t, agent, action]
        with torch.no_grad():
            q_tot = run.networks.target_mixer(torch.tensor(q)[None], state[t : t + 1]).item()
        assert found["what_if"][t, agent, action] == pytest.approx(q_tot, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_what_if_of_the_action_that_was_taken_is_q_tot(runs, name):
    _, episode, found = thoughts(runs(name))
    taken = np.take_along_axis(found["what_if"], episode["actions"][..., None], -1)[..., 0]
    np.testing.assert_allclose(taken, found["q_tot"][:, None].repeat(taken.shape[1], 1), rtol=1e-4)


def test_an_agents_weight_is_how_q_tot_rises_with_its_value(runs):
    run, episode, found = thoughts(runs("battle"))
    mixer = run.networks.target_mixer.double()
    q = np.take_along_axis(found["q"], episode["actions"][..., None], -1)[..., 0]
    q = torch.from_numpy(q).double()
    state = torch.from_numpy(episode["state"][: len(q)]).double()
    with torch.no_grad():
        for agent in range(q.shape[1]):
            more, less = q.clone(), q.clone()
            more[:, agent] += 1e-5
            less[:, agent] -= 1e-5
            rise = (mixer(more, state) - mixer(less, state)) / 2e-5
            np.testing.assert_allclose(found["slope"][:, agent], rise, rtol=1e-2, atol=1e-4)


def test_the_weights_of_a_sum_are_1(runs):
    _, _, found = thoughts(runs("sum"))
    assert (found["slope"] == 1).all()
    assert "w1" not in found


def test_the_mixing_weights_are_those_with_which_the_mixer_mixes(runs):
    run, episode, found = thoughts(runs("battle"))
    mixer = run.networks.target_mixer
    state = torch.from_numpy(episode["state"][: len(episode["actions"])])
    q = np.take_along_axis(found["q"], episode["actions"][..., None], -1)
    with torch.no_grad():
        hidden = torch.nn.functional.elu(
            torch.from_numpy((q * found["w1"]).sum(1)) + mixer.b1(state)
        )
        q_tot = (hidden * torch.from_numpy(found["w2"])).sum(-1) + mixer.b2(state)[:, 0]
    np.testing.assert_allclose(q_tot, found["q_tot"], rtol=1e-4, atol=1e-5)


def test_returns_are_discounted():
    assert discounted(np.array([1.0, 0.0, 4.0]), 0.5).tolist() == [2.0, 2.0, 4.0]


# Which episodes


def shown(*episodes: Episode) -> dict[str, int]:
    return places(episodes, [{"ep_reward": sum(one.rewards)} for one in episodes])


def test_worst_median_and_best_are_found_by_their_reward():
    episodes = [episode_of(reward) for reward in (3, 1, 2, 5, 4)]
    assert shown(*episodes) == {"worst": 1, "median": 0, "best": 3}


def test_an_episode_equal_to_the_best_is_not_shown_twice():
    assert shown(episode_of(1.0), episode_of(1.0)) == {"best": 1}
    other = episode_of(1.0, action=1)
    assert shown(other, episode_of(1.0), episode_of(1.0)) == {"worst": 0, "best": 2}
    assert shown(other, other, episode_of(1.0)) == {"worst": 0, "best": 2}


@every_script
def test_the_episodes_are_those_that_evaluate_plays(tmp_path, monkeypatch, capsys, script):
    folder = trained(script, tmp_path / "run", **LBF, time_limit=8)
    module = MODULES[script]
    monkeypatch.setattr(
        sys, "argv", [f"{script}.py", "--evaluate", str(folder), "--num-eval-ep", "3"]
    )
    module.main()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    episodes, _ = play(load(folder, "last", 3))
    assert evaluation["episodes"] == len(episodes)
    assert evaluation["ep_reward"]["mean"] == np.mean([sum(one.rewards) for one in episodes])


# Names


@pytest.mark.parametrize("name", [*map_names(), "terran_5_vs_6", "protoss_3_vs_2"])
def test_every_entry_of_an_observation_and_every_action_has_a_name(name):
    env = BattleEnv(name, agent_ids=False)
    for names in env.observation_names:
        assert len(names) == len(set(names)) == env.obs_size
    for heals in (False, True):
        assert len(action_names(env.scenario, heals, env.n_actions)) == env.n_actions


@pytest.mark.parametrize("name", ["3m", "2s3z", "MMM", "terran_5_vs_6"])
def test_the_names_describe_the_entries(name):
    env = BattleEnv(name, agent_ids=False)
    observation, _ = env.reset(seed=1)
    env.action_space.seed(1)
    compared = 0
    over = False
    while not over:
        units = env.units[0]
        kinds = [kind.lower().replace("_", " ") for kind in env.scenario.kinds]
        for agent, obs in enumerate(observation["obs"]):
            seen = dict(zip(env.observation_names[agent], obs, strict=True))
            (own,) = units[units["is_ally"] & (units["index"] == agent)]
            if not own["alive"]:
                continue
            assert seen["itself: health"] == pytest.approx(own["hp"] / own["max_hp"])
            for unit in units:
                who = f"{'ally' if unit['is_ally'] else 'enemy'} {unit['index']}"
                if f"{who}: distance" not in seen or seen[f"{who}: distance"] == 0:
                    continue
                away = np.hypot(unit["x"] - own["x"], unit["y"] - own["y"]) / 9
                assert seen[f"{who}: distance"] == pytest.approx(away, rel=1e-4)
                assert seen[f"{who}: to the east"] == pytest.approx((unit["x"] - own["x"]) / 9)
                assert seen[f"{who}: to the north"] == pytest.approx((unit["y"] - own["y"]) / 9)
                assert seen[f"{who}: health"] == pytest.approx(unit["hp"] / unit["max_hp"])
                if unit["max_shield"]:
                    shield = unit["shield"] / unit["max_shield"]
                    assert seen[f"{who}: shield"] == pytest.approx(shield)
                if env.scenario.unit_types:
                    assert seen[f"{who}: is {kinds[unit['kind']]}"] == 1
                compared += 1
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated
    assert compared > 100


def test_an_action_does_what_its_name_says():
    env = BattleEnv("MMM")
    env.reset(seed=1)
    heals = {unit["index"]: unit["attack"] == HEAL for unit in env.units[0] if unit["is_ally"]}
    names = [action_names(env.scenario, heals[i], env.n_actions) for i in range(env.n_agents)]
    before = env.units[0].copy()
    env.step(np.array([own.index("north") for own in names]))
    after = env.units[0].copy()
    allies = before["is_ally"]
    assert (after["y"][allies] > before["y"][allies]).all()
    medic = next(i for i, heal in heals.items() if heal)
    assert names[medic][6] == "heal ally 0" and names[medic - 1][6] == "attack enemy 0"
