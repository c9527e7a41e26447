"""Results of episodes: means, confidence intervals, evaluation.json, pictures."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image

from cleanmarl import qmix
from cleanmarl.errors import Refused
from cleanmarl.training.results import confidence, metrics_of, save_gif, write_evaluation


@pytest.mark.parametrize(
    ("won", "low", "high"),
    [(10, 0.7225, 1.0), (0, 0.0, 0.2775), (5, 0.2366, 0.7634), (1, 0.0179, 0.4042)],
)
def test_the_confidence_interval_of_a_win_rate_is_wilsons(won, low, high):
    interval = confidence(np.repeat([1.0, 0.0], [won, 10 - won]))
    assert interval == pytest.approx({"mean": won / 10, "low": low, "high": high}, abs=1e-4)


def test_the_confidence_interval_of_a_proportion_in_the_literature():
    """81 of 263: Newcombe (1998), Statistics in Medicine 17, table I."""
    interval = confidence(np.repeat([1.0, 0.0], [81, 263 - 81]))
    assert (interval["low"], interval["high"]) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@pytest.mark.parametrize("values", [[0.0] * 7, [1.0] * 7, [0.0, 1.0]])
def test_a_win_rate_is_between_0_and_1(values):
    interval = confidence(np.array(values))
    assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1


def test_the_confidence_interval_of_other_values_is_students():
    half = 3.182 * (5 / 3) ** 0.5 / 2
    expected = {"mean": 2.5, "low": 2.5 - half, "high": 2.5 + half}
    assert confidence(np.array([1.0, 2, 3, 4])) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 20, 50])
def test_95_of_100_confidence_intervals_hold_the_mean(n):
    draws = np.random.default_rng(n).normal(3, 2, (10000, n))
    intervals = [confidence(values) for values in draws]
    share = np.mean([one["low"] <= 3 <= one["high"] for one in intervals])
    assert share == pytest.approx(0.95, abs=0.01)


def test_the_confidence_interval_of_a_single_value_is_that_value():
    assert confidence(np.array([3.5])) == {"mean": 3.5, "low": 3.5, "high": 3.5}


RESULTS = [{"ep_reward": 1.0, "ep_length": 2}, {"ep_reward": 3.0, "ep_length": 4}]


def test_metrics_are_the_means_of_the_results():
    assert metrics_of("rollout", RESULTS) == {"rollout/ep_reward": 2, "rollout/ep_length": 3}


def test_evaluations_also_report_the_spread_of_the_rewards():
    assert metrics_of("eval", RESULTS)["eval/std_ep_reward"] == 1


def test_a_gif_shows_all_pictures_in_their_order(tmp_path):
    frames = [np.full((4, 6, 3), shade, np.uint8) for shade in (0, 100, 200)]
    save_gif(tmp_path / "episode.gif", frames, fps=5)
    with Image.open(tmp_path / "episode.gif") as picture:
        assert (picture.format, picture.n_frames, picture.size) == ("GIF", 3, (6, 4))
        for number, frame in enumerate(frames):
            picture.seek(number)
            assert np.abs(np.asarray(picture.convert("RGB"), int) - frame).max() <= 2
            assert picture.info["duration"] == 200


# evaluation.json


BATTLES = {"ep_reward": 20.0, "ep_length": 27, "battle_won": True}


def evaluated(folder, results, **options) -> dict:
    """The evaluation.json of these results."""
    args = qmix.Args(**{"evaluate": str(folder)} | options)
    (folder / "args.json").write_text(json.dumps(asdict(args)))
    return json.loads((write_evaluation(args, 1000, results) / "evaluation.json").read_text())


def test_an_evaluation_holds_each_episode_with_its_seed(tmp_path, monkeypatch):
    rewards = (np.float32(0.5), torch.tensor(2.0), 3)
    results = [{"ep_reward": one, "ep_length": 4, "success": np.bool_(True)} for one in rewards]
    seeds, args = [], qmix.Args(seed=7, num_eval_ep=3)

    def play_episode(env, values, epsilon, seed, rng, args):
        seeds.append(seed)
        return {}, results[len(seeds) - 1]

    monkeypatch.setattr(qmix, "play_episode", play_episode)
    played = qmix.evaluate(None, torch.nn.Identity(), args, "test")
    evaluation = evaluated(tmp_path, played, seed=7)
    expected = [
        {"seed": seed, "ep_reward": reward, "ep_length": 4, "success": True}
        for seed, reward in zip(seeds, (0.5, 2, 3), strict=True)
    ]
    assert evaluation["per_episode"] == expected
    assert evaluation["ep_reward"] == confidence(np.array([0.5, 2, 3]))
    assert (evaluation["episodes"], evaluation["alike"]) == (3, False)


def test_episodes_that_are_alike_have_no_interval(tmp_path, capsys):
    evaluation = evaluated(tmp_path, [BATTLES] * 32)
    assert evaluation["alike"] is True
    assert (evaluation["ep_reward"], evaluation["battle_won"]) == ({"mean": 20}, {"mean": 1})
    assert len({one["seed"] for one in evaluation["per_episode"]}) == 32
    says = "in all 32 episodes, which are alike: they count as one"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"ep_reward: 20.000 {says}"
    assert lines[2] == f"battle_won: 1.000 {says}"


def test_a_single_episode_is_called_one_episode(tmp_path, capsys):
    assert evaluated(tmp_path, [BATTLES])["alike"] is False
    assert "ep_reward: 20.000 in one episode\n" in capsys.readouterr().out


def test_an_evaluation_is_written_before_it_is_printed(tmp_path, monkeypatch):
    def closed(*words, **options):
        written.append((tmp_path / "evaluation.json").exists())
        raise BrokenPipeError

    written = []
    monkeypatch.setattr("builtins.print", closed)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    evaluated(tmp_path, [BATTLES])
    assert written == [True]


def test_an_evaluation_of_a_published_team_leaves_its_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cleanmarl.teams.TEAMS", tmp_path / "published")
    folder = tmp_path / "published/3m-1"
    folder.mkdir(parents=True)
    evaluated(folder, [BATTLES])
    assert [path.name for path in folder.iterdir()] == ["args.json"]
    assert (tmp_path / "teams/3m-1/evaluation.json").exists()


@pytest.mark.parametrize("text", [None, "[]", "[1]", "5", "no JSON"])
def test_results_of_a_run_whose_environment_is_unknown_are_not_written(tmp_path, text):
    if text:
        (tmp_path / "args.json").write_text(text)
    before = [*tmp_path.iterdir()]
    with pytest.raises(Refused, match=r"args\.json"):
        write_evaluation(qmix.Args(evaluate=str(tmp_path)), 1000, [BATTLES])
    assert [*tmp_path.iterdir()] == before
