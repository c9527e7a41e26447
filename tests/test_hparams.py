"""Arguments and metrics of runs in TensorBoard's tab HPARAMS, as TensorBoard itself reads it."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from cleanmarl import qmix
from cleanmarl.benchmark.records import read_run
from cleanmarl.training.checkpoint import load_checkpoint
from tests.helpers import TWO_STEPS, scalars, trained


def rows(folder: Path) -> dict[str, tuple[dict, dict]]:
    """Name of each run in the table -> its arguments, and the last value of each metric."""
    events = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    plugin = Context(TBContext(data_provider=MultiplexerDataProvider(events, str(folder))))
    every = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS]
    request = api_pb2.ListSessionGroupsRequest(allowed_statuses=every, slice_size=100)
    handler = list_session_groups.Handler(RequestContext(), plugin, "", request)
    found = {}
    for group in handler.run().session_groups:
        arguments = {
            name: value.string_value or value.number_value for name, value in group.hparams.items()
        }
        metrics = {one.name.tag: one.value for one in group.metric_values}
        found[group.name] = (arguments, metrics)
    return found


def test_tensorboard_shows_the_arguments_and_the_last_metrics_of_each_run(tmp_path):
    one = trained("qmix", tmp_path / "one", gamma=0.5, mean_age=float("inf"), **TWO_STEPS)
    trained("qmix_lstm", tmp_path / "other", seed=2, **TWO_STEPS)
    found = rows(tmp_path)
    assert found.keys() == {"one", "other"}
    arguments, metrics = found["one"]
    assert (arguments["script"], arguments["gamma"], arguments["seed"]) == ("qmix", 0.5, 1)
    assert (arguments["mean_age"], arguments["double_q"]) == ("inf", "False")
    assert arguments["total_timesteps"] == 40
    assert "rnn" not in arguments and "use_wnb" not in arguments
    last = {name: points[-1][1] for name, points in scalars(one).items()}
    assert metrics == pytest.approx(last)
    assert found["other"][0]["rnn"] == "lstm"
    assert not [path for path in one.iterdir() if path.is_dir() and path.name != "episodes"]


def test_a_resumed_run_is_one_row_and_its_curves_are_whole(tmp_path):
    folder = trained("qmix", tmp_path / "run", log_every=1, **TWO_STEPS)
    own = load_checkpoint(folder, "qmix")["args"]
    qmix.train(qmix.Args(**own | {"resume": str(folder), "total_timesteps": 60}))
    ((arguments, metrics),) = rows(tmp_path).values()
    assert arguments["total_timesteps"] == 40  # of its first session
    assert metrics["rollout/num_episodes"] == 30
    steps = [step for step, _ in scalars(folder)["rollout/num_episodes"]]
    assert steps == list(range(2, 61, 2))
    assert read_run(folder).last_step == 60
