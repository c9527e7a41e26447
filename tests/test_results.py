"""Results of episodes: means, confidence intervals, pictures."""

import numpy as np
import pytest
from PIL import Image

from cleanmarl.training.results import confidence, metrics_of, save_gif


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
