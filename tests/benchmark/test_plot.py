"""`python -m cleanmarl.benchmark plot`: curves and tables of runs."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from cleanmarl.benchmark import estimates, figures, planning, progress, records, tables
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.task import Task, keep
from tests.benchmark.runs import rows, task_of, write_record, write_run

pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')


def test_the_tables_have_the_interquartile_mean_of_the_last_tenth_and_its_interval(call, tmp_path):
    final = [0.0, 0.5, 0.6, 0.7, 1.0]
    for seed, value in enumerate(final):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.0] * 9 + [value])
    status, out, _ = call("plot", "runs", "--out", "figures", "--reps", "500")
    (row,) = rows(tmp_path / "figures/results.csv")
    assert status == 0
    assert (row["environment"], row["metric"], row["script"]) == ("3m", "win rate", "qmix.py")
    assert (row["seeds"], row["steps"], row["minutes"]) == ("5", "1000", "0.2 0.2 0.2 0.2 0.2")
    assert float(row["IQM"]) == pytest.approx(np.mean(final[1:-1]))
    draws = np.sort(np.random.default_rng(1).choice(final, (20000, 5)), axis=1)[:, 1:-1].mean(1)
    interval = [float(row["low"]), float(row["high"])]
    assert interval == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.05)
    cells = ["3m", "`qmix.py`", "5", "1,000", "0.600"]
    assert f"| {' | '.join(cells)} | {row['low']} to {row['high']} |" in out
    assert out == (tmp_path / "figures/results.md").read_text()


@pytest.mark.parametrize(
    ("values", "evaluation"),
    [
        ([0.5, 1.0, 1.0, 1.0, 1.0], 4),
        ([1.0, 1.0, 0.9, 0.95, 0.95, 0.95, 0.0], 6),
        ([1.0, 1.0, 0.94, 1.0, 1.0], np.inf),
        ([1.0, 1.0], np.inf),
    ],
)
def test_a_team_wins_with_the_third_evaluation_in_a_row(tmp_path, values, evaluation):
    write_run(tmp_path, "qmix", "3m", 1, values)
    (run,) = records.read_all(tmp_path)
    assert run.until_won() == (100 * evaluation, evaluation)


def test_the_tables_have_the_median_time_to_win_over_the_seeds(call, tmp_path):
    wins = [[1.0] * 3 + [0.0] * 5, [0.0] + [1.0] * 7, [0.0] * 5 + [1.0] * 3, [0.0] * 8]
    for seed, values in enumerate(wins):
        write_run(tmp_path / "runs", "qmix", "3m", seed, values)
    for words, steps in (([], 600), (["--seeds", "0", "1", "3"], 400)):
        status, out, _ = call("plot", "runs", "--reps", "20", *words)
        (row,) = rows(tmp_path / "figures/results.csv")
        won = float(row["steps_to_win"]), float(row["seconds_to_win"])
        assert (status, won) == (0, (steps, steps / 100))
        assert f"| {steps // 100} s | {steps} |" in out


def test_if_half_of_the_seeds_never_win_the_median_is_never(call, tmp_path):
    for seed, value in enumerate([1.0, 0.0]):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value] * 3)
    assert "to win" not in call("plot", "runs", "--reps", "20")[1]  # in no row
    write_run(tmp_path / "runs", "qmix", "8m", 1, [1.0] * 3)
    assert "| never | never |" in call("plot", "runs", "--reps", "20")[1]
    assert rows(tmp_path / "figures/results.csv")[0]["seconds_to_win"] == "inf"


def test_only_battles_are_won(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "Foraging-8x8-2p-3f-v3", 1, [1.0] * 4, won=False)
    assert "to win" not in call("plot", "runs")[1]
    write_run(tmp_path / "runs", "qmix", "3m", 1, [1.0] * 4)
    assert "to win" in call("plot", "runs")[1]
    won = {row["metric"]: row["steps_to_win"] for row in rows(tmp_path / "figures/results.csv")}
    assert won == {"reward": "", "win rate": "300.0"}


def test_a_metric_that_all_rows_share_is_in_the_head_of_their_scores(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [1.0])
    assert "| final win rate |" in call("plot", "runs")[1]
    write_run(tmp_path / "runs", "qmix", "Foraging-8x8-2p-3f-v3", 1, [1.0], won=False)
    out = call("plot", "runs")[1]
    assert "| final IQM |" in out and "| 3m | win rate |" in out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(34.4, "34 s"), (59.6, "1 min 0 s"), (187, "3 min 7 s"), (3780, "63 min 0 s")],
)
def test_a_duration_is_in_minutes_and_seconds(seconds, words):
    assert tables.duration(seconds) == words


def test_the_interquartile_mean_leaves_out_a_quarter_of_all_scores_at_each_end():
    values = np.random.default_rng(1).random((5, 3, 7))  # [seeds, tasks, points]
    expected = np.sort(values.reshape(15, 7), axis=0)[3:-3].mean(0)
    assert estimates.iqm(*values.swapaxes(0, 1)) == pytest.approx(expected)


def test_a_part_of_a_training_has_the_mean_of_its_evaluations(tmp_path):
    write_run(tmp_path, "qmix", "3m", 1, [0.0, 1.0, 1.0, 1.0])
    write_run(tmp_path, "qmix", "3m", 2, [0.4, 0.4, 0.8, 0.8])
    runs = records.read_all(tmp_path)
    ends, values = estimates.scores(runs, "steps", 2)
    assert ends.tolist() == [200, 400]
    assert values == pytest.approx(np.array([[0.5, 1.0], [0.4, 0.8]]))
    ends, values = estimates.scores(runs[:1], "seconds", 8)  # every other part is empty
    assert ends == pytest.approx(np.arange(1, 9) / 2)
    assert values == pytest.approx(np.array([[0, 0, 0.5, 1, 1, 1, 1, 1]]))
    runs[1].seconds = runs[1].seconds + 10  # its first evaluation comes after the other run's end
    assert estimates.scores(runs, "seconds", 2)[1] == pytest.approx(
        np.array([[0.5, 1.0], [0.4, 0.4]])
    )


def test_runs_with_other_options_are_kept_apart_and_unfinished_ones_left_out(call, tmp_path):
    for mixer, value in (("qmix", 1.0), ("vdn", 0.5)):
        for seed in (1, 2):
            values = [0.0] * 10 + [value] * 10
            write_run(tmp_path / "runs" / mixer, "qmix", "3m", seed, values, mixer=mixer)
    write_run(tmp_path / "runs", "qmix_lstm", "3m", 1, [0.0] * 3, total_timesteps=400)
    status, _, err = call("plot", "runs", "--out", "figures", "--reps", "500")
    found = {row["script"]: float(row["IQM"]) for row in rows(tmp_path / "figures/results.csv")}
    assert (status, found) == (0, {"qmix.py --mixer qmix": 1.0, "qmix.py --mixer vdn": 0.5})
    assert err.startswith("left out, because it is not finished: runs/smaclite__3m__qmix_lstm__1")


def test_an_evaluation_that_reports_no_success_has_none(tmp_path):
    write_run(tmp_path, "qmix", "chain", 1, [5.0] * 4, won=False)
    with SummaryWriter(str(next(tmp_path.iterdir()))) as writer:
        for step, value in ((200, 0.5), (300, 1.0)):
            writer.add_scalar("eval/success", value, step)
    (run,) = records.read_all(tmp_path)
    assert (run.metric, run.values.tolist()) == ("success rate", [0, 0.5, 1, 0])


def report_success(folder: Path, points: dict[int, float]):
    with SummaryWriter(str(folder)) as writer:
        for step, value in points.items():
            writer.add_scalar("eval/success", value, step)


def test_a_run_that_never_succeeds_has_a_success_rate_of_0(call, tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs", "qmix", "chain", seed, [5.0] * 4, won=False)
    for run in sorted((tmp_path / "runs").iterdir())[:2]:
        report_success(run, {400: 0.6})
    assert call("plot", "runs", "--reps", "20")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (row["metric"], row["seeds"], row["worst_seed"]) == ("success rate", "3", "0.000")
    for folder in list((tmp_path / "runs").iterdir()):
        record = records.read_run(folder)
        write_record(tmp_path / f"kept/a__b__c__{record.seed}.json", record)
    assert call("plot", "kept", "--reps", "20", "--out", "kept")[0] == 0
    assert rows(tmp_path / "kept/results.csv") == [row]


def test_a_table_says_how_many_runs_it_leaves_out_and_why(call, tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.5] * 4)
    for seed in (3, 4):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.5] * 4, total_timesteps=900)
    write_run(tmp_path / "runs", "qmix", "8m", 1, [0.5] * 4, total_timesteps=900)
    write_run(tmp_path / "runs/again", "qmix", "3m", 2, [0.5] * 4)
    text = call("plot", "runs", "--reps", "20")[1]
    left_out = "2 runs in 3m (not finished), 1 run in 8m (not finished)"
    assert text.endswith(f"\nLeft out: {left_out}, 1 run in 3m (the seed is there twice).\n")
    text = call("plot", "runs", "--reps", "20", "--envs", "3m", "--seeds", "1", "3")
    assert text[0] == 2  # seed 3 has no finished run
    text = call("plot", "runs", "--reps", "20", "--envs", "3m", "--seeds", "1")[1]
    assert "Left out" not in text


def test_a_run_that_was_made_longer_by_hand_is_drawn_as_it_is_now(call, tmp_path):
    folder = tmp_path / "sweep/smaclite__3m__qmix__1"
    write_run(folder / "runs", "qmix", "3m", 1, [0.5] * 4)
    assert keep(task_of(folder, "-m", "cleanmarl.qmix")) == 0
    (run,) = folder.glob("runs/*")
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps(args | {"total_timesteps": 2000}))
    status, _, err = call("plot", "sweep", "--reps", "20")
    assert (status, rows(tmp_path / "figures/results.csv")[0]["steps"]) == (0, "400")
    says = "drawn to step 400, as recorded; it is being made longer: sweep/smaclite__3m__qmix__1"
    assert (err.startswith(says), err.count("\n")) == (True, 1)
    with SummaryWriter(str(run)) as writer:
        for tag in ("eval/ep_reward", "eval/battle_won"):
            writer.add_scalar(tag, 1.0, 2000)
    status, _, err = call("plot", "sweep", "--reps", "20")
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (status, row["steps"], row["IQM"]) == (0, "2000", "1.000")
    says = "drawn to step 2000, its record ends at step 400: sweep/smaclite__3m__qmix__1"
    assert (err.startswith(says), err.count("\n")) == (True, 1)


def test_a_metric_is_drawn_from_runs_and_records(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    with SummaryWriter(str(run)) as writer:
        for step in (200, 400):
            writer.add_scalar("eval/ep_length", 7.0, step)
    write_record(tmp_path / "kept/a__b__c__1.json", records.read_run(run))
    for folder in ("runs", "kept"):
        assert call("plot", folder, "--metric", "eval/ep_length", "--out", folder)[0] == 0
        (row,) = rows(tmp_path / folder / "results.csv")
        assert (row["metric"], row["IQM"], row["steps_to_win"]) == ("eval/ep_length", "7.000", "")
    assert call("plot", "kept", "--metric", "eval/ep_reward")[0] == 0
    assert rows(tmp_path / "figures/results.csv")[0]["metric"] == "reward"
    says = "unknown metric 'eval/ep_rewad'; did you mean eval/ep_reward"
    status, out, err = call("plot", "kept", "--metric", "eval/ep_rewad")
    assert (status, out, says in err, err.count("\n")) == (2, "", True, 1)
    says = "unknown metric 'x'; known are eval/battle_won, eval/ep_length, eval/ep_reward"
    assert says in call("plot", "runs", "--metric", "x")[2]


def test_runs_without_a_metric_are_left_out_and_the_table_says_so(call, tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.5] * 4)
        record = records.read_run(next((tmp_path / "runs").glob(f"*__{seed}__*")))
        record.evaluations = record.evaluations if seed == 1 else None  # an old record
        write_record(tmp_path / f"kept/a__b__c__{seed}.json", record)
    status, out, _ = call("plot", "kept", "--metric", "eval/ep_reward")
    assert status == 0
    assert out.endswith("\nLeft out: 1 run in 3m (without eval/ep_reward).\n")
    assert "Left out" not in call("plot", "kept")[1]


def test_points_that_a_resumed_run_writes_again_are_not_worth_a_line(tmp_path, caplog):
    write_run(tmp_path, "qmix", "3m", 1, [0.5] * 4)
    (run,) = tmp_path.iterdir()
    with SummaryWriter(str(run), purge_step=300) as writer:
        for step in (300, 400):
            writer.add_scalar("eval/ep_reward", 1.0, step)
            writer.add_scalar("eval/battle_won", 1.0, step)
    assert records.read_run(run).values.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert caplog.records == []


GOOD = {"env_type": "smaclite", "env_name": "3m", "seed": 1, "total_timesteps": 400}
ANY_JSON = [
    "[]",
    "{}",
    "1",
    "null",
    '"word"',
    "true",
    "",
    "{",
    "nan",
    "[1, {}]",
    "\xff\xfe",
    "[" * 9999,
]
ANY_JSON += ["[[]]", "[null]", "\0", "Infinity"]
WRONG_ARGS = [
    {"env_type": 3},
    {"env_name": None},
    {"env_name": ["3m"]},
    {"seed": "1"},
    {"seed": True},
    {"seed": 1.5},
    {"total_timesteps": "400"},
    {"total_timesteps": None},
    {"total_timesteps": [400]},
    {"env_options": [1]},
    {"env_options": None},
    {"env_family": 3},
    {"exploration_fraction": "much"},
]
WRONG_RECORD = [
    {"steps": []},
    {"steps": 3},
    {"steps": {}},
    {"steps": ["100", "200"]},
    {"steps": [100]},
    {"steps": [[100], [200]]},
    {"steps": [True, False]},
    {"steps": [10**400, 10**401]},
    {"seconds": None},
    {"seconds": [1.0]},
    {"seconds": [float("nan"), 1.0]},
    {"values": "0.5"},
    {"values": [0.5, None]},
    {"values": [0.5, float("inf")]},
    {"metric": "fame"},
    {"metric": 1},
    {"script": None},
    {"script": ["qmix"]},
    {"command": 7},
    {"machine": {}},
    {"args": []},
    {"args": "seed"},
    {"q_tot": [1]},
    {"q_tot": 3},
    {"q_tot": ["1", "2"]},
    {"evaluations": []},
    {"evaluations": {"eval/ep_reward": [1.0]}},
    {"evaluations": {"eval/ep_reward": "x"}},
    {"began_with": 3},
    {"version": 1},
]


@pytest.mark.parametrize(
    "text",
    [*ANY_JSON, *(json.dumps(GOOD | wrong) for wrong in WRONG_ARGS)],
    ids=str.__len__,
)
def test_a_damaged_args_json_is_named_in_one_line(call, tmp_path, begun, text):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    _, path = begun
    for file in (run / "args.json", path):
        file.write_bytes(text.encode("latin-1"))
    says = "args.json is not the args.json of a run: "
    status, out, err = call("plot", "runs")
    assert (status, out, err.count("\n"), says in err) == (2, "", 1, True)
    with pytest.raises(ValueError, match=says):
        plan(["qmix"], ["3m"], [1], tmp_path / "sweep", try_envs=False)


@pytest.mark.parametrize(
    "text", [*ANY_JSON, '[{"command": "x"}]', '[{"command": 1}]'], ids=str.__len__
)
def test_a_damaged_run_json_is_named_in_one_line(call, tmp_path, text):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    (run / "run.json").write_bytes(text.encode("latin-1"))
    status, out, err = call("plot", "runs")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "run.json is not the run.json of a run: " in err


@pytest.mark.parametrize(
    "wrong",
    [*ANY_JSON, *WRONG_RECORD, *({"args": GOOD | wrong} for wrong in WRONG_ARGS)],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_damaged_record_is_named_in_one_line(call, tmp_path, record, wrong):
    (task,) = plan(["qmix"], ["3m"], [1], tmp_path / "sweep", try_envs=False)
    task.folder.mkdir(parents=True)
    records.write_record(task.record, record)
    if isinstance(wrong, dict):
        wrong = json.dumps(json.loads(task.record.read_text()) | wrong)
    task.record.write_bytes(wrong.encode("latin-1"))
    says = f"{task.record.name} is not the record of a run: "
    status, out, err = call("plot", "sweep")
    assert (status, out, err.count("\n"), says in err) == (2, "", 1, True)
    with pytest.raises(ValueError, match=re.escape(says)):
        plan(["qmix"], ["3m"], [1], tmp_path / "sweep", try_envs=False)


@pytest.mark.parametrize("name", [one for one in records.Record.__dataclass_fields__][:10])
def test_a_record_without_a_field_is_named(call, tmp_path, record, name):
    path = tmp_path / "sweep/a__b__c__1.json"
    path.parent.mkdir()
    records.write_record(path, record)
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    status, _, err = call("plot", "sweep")
    assert (status, f"is not the record of a run: {name} is missing" in err) == (2, True)


def test_damaged_curves_a_folder_and_a_pipe_in_place_of_a_file_are_named(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    for name in ("run.json", "args.json"):
        text = (run / name).read_text()
        (run / name).unlink()
        (run / name).mkdir()
        assert f"{name} is not the {name} of a run: " in call("plot", "runs")[2]
        (run / name).rmdir()
        os.mkfifo(run / name)
        assert "it is not a file" in call("plot", "runs")[2]
        (run / name).unlink()
        (run / name).write_text(text)
    (events,) = run.glob("events*")
    content = events.read_bytes()
    for damaged in (b"", b"x" * 500, content[: len(content) // 2], content[::-1]):
        events.write_bytes(damaged)
        status, out, err = call("plot", "runs")
        assert (status, out, "Traceback" in err) == (2, "", False)


def test_a_damaged_status_does_not_end_a_sweep(tmp_path):
    task = Task("qmix 3m 1", tmp_path, [], {})
    path = tmp_path / "runs/run/status.json"
    path.parent.mkdir(parents=True)
    for text in (*ANY_JSON, '{"step": "x", "seconds": 0, "total_timesteps": 3}'):
        path.write_bytes(text.encode("latin-1"))
        assert progress.look(task, None)[-1] == "waiting"


def test_times_between_points_of_the_speed_are_interpolated():
    points = [SimpleNamespace(step=step, value=100) for step in (100, 200)]
    events = SimpleNamespace(Tags=lambda: {"scalars": ["charts/SPS"]}, Scalars=lambda _: points)
    evaluations = [SimpleNamespace(step=step) for step in (50, 150)]
    assert records.times(events, evaluations).tolist() == [0.5, 1.5]


def test_a_run_that_is_just_beginning_does_not_disturb_the_others(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5])
    (tmp_path / "runs/new").mkdir()
    (tmp_path / "runs/new/args.json").write_text("{}")
    assert call("plot", "runs")[0] == 0


def test_a_run_is_drawn_under_its_script_in_any_folder(copied, call, tmp_path):
    (module, _) = planning.load_script(str(copied))
    words = ["--total-timesteps", "300", "--batch-size", "4", "--num-eval-ep", "1"]
    args = planning.read_arguments(module, words)
    module.train(args, folder=tmp_path / "runs/any name")
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5])
    assert call("plot", "runs", "--out", "figures")[0] == 0
    found = {row["script"]: row["seeds"] for row in rows(tmp_path / "figures/results.csv")}
    assert found == {"qmix.py": "1", "my_qmix.py": "1"}
    assert ">my_qmix.py<" in (tmp_path / "figures/curves_steps.svg").read_text()


def test_of_two_runs_with_the_same_seed_one_is_drawn_and_a_line_says_so(call, tmp_path):
    for folder in ("one", "two"):
        write_run(tmp_path / "runs" / folder, "qmix", "3m", 1, [0.5])
    status, _, err = call("plot", "runs", "--out", "figures")
    assert (status, err.count("\n")) == (0, 1)
    assert "two runs of qmix.py in 3m with seed 1" in err
    assert rows(tmp_path / "figures/results.csv")[0]["seeds"] == "1"


def test_the_interval_of_a_single_seed_is_its_value_and_is_not_shown(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5])
    status, out, _ = call("plot", "runs", "--out", "figures")
    (row,) = rows(tmp_path / "figures/results.csv")
    assert status == 0
    assert row["IQM"] == row["low"] == row["high"] == "0.500"
    assert " to 0.500" not in out


def test_with_fewer_than_five_seeds_a_table_has_their_range(call, tmp_path):
    for seed, value in enumerate([0.1, 0.2, 0.6], 1):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value])
    status, out, _ = call("plot", "runs", "--reps", "2")
    assert status == 0
    assert "| range of seeds |" in out and "95% interval" not in out
    assert "| 0.300 | 0.100 to 0.600 |" in out


def test_a_table_marks_the_ranges_among_its_intervals(call, tmp_path):
    for seed, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.6], 1):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value])
    for seed, value in enumerate([0.2, 0.8], 1):
        write_run(tmp_path / "runs", "qmix", "8m", seed, [value])
    status, out, _ = call("plot", "runs", "--reps", "20")
    assert status == 0
    assert "| 95% interval |" in out
    assert "| 0.200 to 0.800 (range) |" in out and out.count("(range)") == 1


@pytest.mark.parametrize("seeds", [[0.37, 0.3475, 0.395], [0.3475] * 5])
def test_no_interval_begins_below_the_worst_seed(call, tmp_path, seeds):
    for seed, value in enumerate(seeds, 1):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value])
    assert call("plot", "runs", "--reps", "200")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert row["low"] == row["worst_seed"]


def test_each_variant_has_its_own_line(call, tmp_path):
    for value in (0, 0.6):
        folder = tmp_path / f"runs/{value}"
        write_run(folder, "qmix", "3m", 1, [value], td_lambda=value, double_q=True)
    assert call("plot", "runs", "--out", "figures")[0] == 0
    scripts = [row["script"] for row in rows(tmp_path / "figures/results.csv")]
    assert scripts == ["qmix.py --td-lambda 0", "qmix.py --td-lambda 0.6"]


def test_the_figures_have_a_panel_for_each_environment_and_a_line_for_each_script(call, tmp_path):
    for script in ("qmix", "qmix_lstm"):
        for env in ("3m", "2s3z", "MMM", "8m", "Foraging-8x8-2p-3f-v3"):
            won = not env.startswith("Foraging")
            write_run(tmp_path / "runs", script, env, 1, [0.0, 0.5, 1.0], won)
    assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
    expected = {
        "curves_steps": ["3m", "Foraging-8x8-2p-3f-v3", "reward (IQM)", "environment steps"],
        "curves_seconds": ["2s3z", "MMM", "win rate (IQM)", "minutes", "qmix_lstm.py"],
        "aggregate": ["4 battles", "IQM of the win rates", "median", "qmix_lstm.py"],
    }
    for name, texts in expected.items():
        picture = (tmp_path / f"figures/{name}.svg").read_text()
        assert [text for text in texts if f">{text}<" not in picture] == []


def test_the_same_runs_give_the_same_files(call, tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.0, 0.1 * seed, 1.0])
    for out in ("first", "second"):
        assert call("plot", "runs", "--out", out, "--reps", "20")[0] == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}
        for out in ("first", "second")
    )
    assert len(first) == 5 and first == second


def test_a_legend_that_is_wider_than_the_panels_widens_the_figure(call, tmp_path):
    widths = []
    for scripts in (("qmix",), ("qmix_lstm", "qmix_memefficient")):
        for script in scripts:
            write_run(tmp_path / "runs", script, "3m", 1, [0.0, 0.5, 1.0])
        assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
        picture = (tmp_path / "figures/curves_steps.svg").read_text()
        widths.append(float(re.search(r'width="([\d.]+)pt"', picture)[1]))
    assert widths[1] > widths[0]


def test_folders_are_drawn_together_and_some_environments_alone(call, tmp_path):
    for mixer in ("qmix", "vdn"):
        for env in ("3m", "8m", "MMM")[: 3 if mixer == "qmix" else 2]:
            write_run(tmp_path / mixer, "qmix", env, 1, [0.5], mixer=mixer)
    words = "plot qmix vdn --envs 8m 3m --out figures --reps 20"
    assert call(*words.split())[0] == 0
    found = [(row["environment"], row["script"]) for row in rows(tmp_path / "figures/results.csv")]
    scripts = ["qmix.py --mixer qmix", "qmix.py --mixer vdn"]
    assert found == [(env, script) for env in ("8m", "3m") for script in scripts]
    words = "plot qmix --envs smaclite:MMM maps/3m.toml --out named --reps 20"
    assert call(*words.split())[0] == 0
    assert [row["environment"] for row in rows(tmp_path / "named/results.csv")] == ["MMM", "3m"]
    says = "benchmark: error: no finished run of 2s3z; there are runs of 3m, 8m, MMM\n"
    assert call("plot", "qmix", "--envs", "3m", "2s3z") == (2, "", says)


def test_numbers_in_names_of_environments_are_in_order(call, tmp_path):
    names = ["3m", "8m", "10m_vs_11m", "MMM", "terran_5_vs_5", "terran_10_vs_10"]
    for env in reversed(names):
        write_run(tmp_path / "runs", "qmix_lstm" if env == "MMM" else "qmix", env, 1, [0.5])
    assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
    assert [row["environment"] for row in rows(tmp_path / "figures/results.csv")] == names
    titles = re.findall(r">(\w+)</text>", (tmp_path / "figures/curves_steps.svg").read_text())
    assert [title for title in titles if title in names] == names


def test_plot_can_be_limited_to_some_seeds(call, tmp_path):
    for seed in (1, 2, 3, 4):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [seed / 4])
    assert call("plot", "runs", "--seeds", "2", "4", "--out", "figures", "--reps", "20")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (row["seeds"], row["IQM"]) == ("2", "0.750")
    says = "benchmark: error: no finished run with seed 0, 7; there are runs with 1, 2, 3, 4\n"
    assert call("plot", "runs", "--seeds", "7", "1", "0") == (2, "", says)


# Figures and tables for a paper


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as in the guidelines for web content (WCAG 2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    parts = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_text_in_figures_has_contrast_on_light_and_dark_pages(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.0, 1.0])
    assert call("plot", "runs", "--reps", "20")[0] == 0
    picture = (tmp_path / "figures/curves_steps.svg").read_text()
    light, dark = (luminance(colour) for colour in re.findall(r"\bcolor: (#\w+)", figures.FOLLOW))
    assert (1 + 0.05) / (light + 0.05) >= 4.5
    assert (dark + 0.05) / (luminance("#22272e") + 0.05) >= 4.5  # the lightest of dark pages
    assert f"<style>{figures.FOLLOW}</style>" in picture
    assert set(re.findall(r"<text style=\"[^\"]*?fill: (\S+?)[;\"]", picture)) == {"currentColor"}


def test_a_narrow_figure_has_a_panel_in_a_row_and_its_legend_above(call, tmp_path):
    for env in ("3m", "8m"):
        write_run(tmp_path / "runs", "qmix", env, 1, [0.0, 1.0])
    assert call("plot", "runs", "--reps", "20", "--columns", "1")[0] == 0
    picture = (tmp_path / "figures/curves_steps.svg").read_text()
    sides = ("width", "height")
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"', picture)[1]) for side in sides)
    assert width < 4.06 * 72  # on 358 pixels of a phone, text of 9 points has at least 11 pixels
    assert height > 4 * 72
    places = {text: float(y) for y, text in re.findall(r'y="([\d.]+)"[^>]*>([^<]+)<', picture)}
    assert places["qmix.py"] < places["3m"] < places["8m"]


def test_each_of_the_four_scripts_has_one_look_in_all_figures():
    labels = ["qmix_lstm.py", "mine.py", "qmix.py --gamma 0.9", "qmix.py --gamma 0.99"]
    looks = figures.looks_of(labels)
    assert (
        looks["qmix_lstm.py"]
        == figures.looks_of(["qmix_lstm.py"])["qmix_lstm.py"]
        == figures.LOOKS[3]
    )
    assert looks["qmix.py --gamma 0.9"] == figures.LOOKS[0]
    many = figures.looks_of([f"mine.py --gamma {i}" for i in range(24)])
    assert len(set(many.values())) == 24


@pytest.fixture
def two_scripts(tmp_path):
    """Runs of two scripts in two battles; my_qmix is better in 3m, and as good in 8m."""
    finals = {("qmix", "3m"): [0.1, 0.2, 0.6], ("my_qmix", "3m"): [0.5, 0.7, 0.9]}
    finals |= {("qmix", "8m"): [0.5, 0.5, 0.5], ("my_qmix", "8m"): [0.5, 0.5]}
    for (script, env), values in finals.items():
        for seed, value in enumerate(values, 1):
            write_run(tmp_path / "runs", script, env, seed, [0.0] * 9 + [value])
    return finals


def test_scripts_are_compared_with_a_baseline(call, tmp_path, two_scripts):
    words = ["--baseline", "qmix", "--reps", "500", "--names", "my_qmix=Mine"]
    status, out, _ = call("plot", "runs", *words)
    (row,) = rows(tmp_path / "figures/comparison.csv")
    # 8 of 9 pairs in 3m; half of all in 8m
    assert (status, float(row["probability"])) == (0, pytest.approx((8 / 9 + 1 / 2) / 2))
    assert (row["script"], row["baseline"], row["environments"]) == ("Mine", "qmix.py", "2")
    assert 0.5 < float(row["low"]) < 8 / 9 < 2 * float(row["high"]) <= 1.5
    assert "| script | environments | probability of improvement over `qmix.py` |" in out
    assert "| Mine | 2 | 0.694 |" in out and out == (tmp_path / "figures/results.md").read_text()
    picture = (tmp_path / "figures/comparison.svg").read_text()
    for text in ("over qmix.py", "final win rate", "share of the runs above", "Mine", "qmix.py"):
        assert f">{text}<" in picture


def test_the_comparison_follows_its_definitions():
    x, y = [np.array([1.0, 2.0])], [np.array([1.0, 0.0, 3.0])]
    assert estimates.improvement(x, y) == pytest.approx((0.5 + 1 + 0 + 1 + 1 + 0) / 6)
    assert estimates.improvement(x, y) + estimates.improvement(y, x) == pytest.approx(1)
    tasks = [np.array([0.2, 0.8]), np.array([0.5, 0.5, 0.5])]
    above = estimates.profile(tasks, np.array([0.0, 0.2, 0.5, 0.9]))
    assert above == pytest.approx([1, (1 / 2 + 1) / 2, (1 / 2 + 0) / 2, 0])
    one = [np.array([0.7])]
    assert estimates.interval(estimates.improvement, [one, [np.array([0.2])]], 50) == (1, 1, 1)


def test_the_interval_of_an_improvement_is_that_of_resampled_seeds():
    x, y = np.array([0.1, 0.5, 0.6, 0.9]), np.array([0.2, 0.3, 0.7])
    _, low, high = estimates.interval(estimates.improvement, [[x], [y]], 4000)
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(4000):
        drawn = [rng.choice(x, 4)], [rng.choice(y, 3)]
        draws.append(estimates.improvement(*drawn))
    assert (low, high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.09)


def test_rewards_of_several_environments_have_no_profiles(call, tmp_path):
    for env in ("Foraging-8x8-2p-3f-v3", "Foraging-8x8-2p-2f-coop-v3"):
        for script in ("qmix", "qmix_lstm"):
            write_run(tmp_path / "runs", script, env, 1, [1.0, 2.0], won=False)
    status, _, err = call("plot", "runs", "--baseline", "qmix", "--reps", "20")
    assert status == 0
    assert "no profiles: rewards of several environments cannot be compared" in err
    words = ["--envs", "lbf:Foraging-8x8-2p-3f-v3", "--baseline", "qmix", "--reps", "20"]
    assert "no profiles" not in call("plot", "runs", *words)[2]


@pytest.mark.parametrize(("kind", "begins"), [("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_figures_have_the_format_that_is_asked_for_and_are_the_same_each_time(
    call, tmp_path, kind, begins
):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.0, 0.5, 1.0])
    for out in ("first", "second"):
        words = ["--out", out, "--reps", "20", "--format", kind]
        assert call("plot", "runs", *words)[0] == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / out).glob(f"*.{kind}")}
        for out in ("first", "second")
    )
    assert len(first) == 3 and first == second
    assert all(content.startswith(begins) for content in first.values())


def test_names_stand_in_figures_and_tables(call, tmp_path):
    for script in ("qmix", "qmix_lstm"):
        for value in (0, 0.6):
            folder = tmp_path / f"runs/{value}"
            write_run(folder, script, "3m", 1, [0.5, 0.5], td_lambda=value)
    words = ["--names", "qmix=QMIX", "qmix_lstm.py --td-lambda 0=LSTM | one step", "--reps", "20"]
    status, out, _ = call("plot", "runs", *words)
    assert status == 0
    assert [row["script"] for row in rows(tmp_path / "figures/results.csv")] == [
        "QMIX --td-lambda 0",
        "QMIX --td-lambda 0.6",
        "LSTM | one step",
        "qmix_lstm.py --td-lambda 0.6",
    ]
    assert r"| LSTM \| one step |" in out and "| `qmix_lstm.py --td-lambda 0.6` |" in out
    assert ">QMIX --td-lambda 0.6<" in (tmp_path / "figures/curves_steps.svg").read_text()


def test_a_table_for_latex_has_the_cells_of_the_table(call, tmp_path, two_scripts):
    words = ["--latex", "--names", r"qmix=QMIX & $\lambda$", "--baseline", "my_qmix"]
    assert call("plot", "runs", *words, "--reps", "20")[0] == 0
    text = (tmp_path / "figures/results.tex").read_text()
    assert text.startswith("\\begin{tabular}{llrrrrr}\n\\toprule\nenvironment & script & seeds &")
    assert "& range of seeds &" in text
    assert r"3m & \texttt{my\_qmix.py} & 3 & 0.700 &" in text
    assert r"3m & QMIX \& $\lambda$ & 3 & " in text  # formulas are the user's own
    improvement = (tmp_path / "figures/comparison.tex").read_text()
    assert r"over \texttt{my\_qmix.py}" in improvement


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--baseline qmx", "unknown --baseline 'qmx'; did you mean qmix.py"),
        ("--baseline qmix --envs 8m --seeds 3", "no other script shares an environment"),
        ("--names qmix", "a name must be like qmix=\"QMIX\", got 'qmix'"),
        ("--names qmix=", 'a name must be like qmix="QMIX"'),
        ("--names qmax=A", "unknown script in --names 'qmax'; did you mean qmix"),
        ("--names qmix=A my_qmix=A", "would give qmix.py and my_qmix.py the same name, A"),
        ("--suite field --baseline qmix", "--baseline compares scripts in the same environments"),
        ("--metric eval/won", "unknown metric 'eval/won'; did you mean eval/battle_won"),
    ],
)
def test_wrong_options_of_a_figure_are_refused_in_one_line(
    call, tmp_path, two_scripts, words, says
):
    status, out, err = call("plot", "runs", *words.split(), "--reps", "20")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not (tmp_path / "figures").exists()


def test_records_say_what_the_run_folders_said(call, tmp_path):
    for seed in (1, 2):
        folder = tmp_path / f"sweep/smaclite__3m__qmix__{seed}/runs"
        write_run(folder, "qmix", "3m", seed, [0.0, seed / 3])
    assert call("plot", "sweep", "--out", "before", "--reps", "50")[0] == 0
    for folder in (tmp_path / "sweep").iterdir():
        assert keep(task_of(folder, "-m", "cleanmarl.qmix")) == 0
    assert call("plot", "sweep", "--out", "both", "--reps", "50")[0] == 0
    for folder in (tmp_path / "sweep").glob("*/"):
        shutil.rmtree(folder)
    record = json.loads((tmp_path / "sweep/smaclite__3m__qmix__2.json").read_text())
    assert (record["steps"], record["values"]) == ([100, 200], [0.0, 0.6667])
    assert (record["commit"], record["command"]) == ("1234567", "python -m cleanmarl.qmix")
    assert call("plot", "sweep", "--out", "after", "--reps", "50")[0] == 0
    folders = ("before", "both", "after")
    before, both, after = (rows(tmp_path / name / "results.csv") for name in folders)
    assert before == both == after and after[0]["seeds"] == "2"


def test_a_file_that_is_not_a_record_is_named(call, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/smaclite__3m__qmix__3.json").write_text("[]")
    status, _, err = call("plot", "sweep")
    assert (status, err.count("\n")) == (2, 1)
    assert "sweep/smaclite__3m__qmix__3.json is not the record of a run" in err


def test_a_record_has_the_lowest_and_the_highest_q_tot(tmp_path):
    write_run(tmp_path, "qmix", "3m", 1, [0.5], q_tot=[0.0, 4.5, -70.25, 3.0])
    (record,) = records.read_all(tmp_path)
    assert record.q_tot == [-70.25, 4.5]
    write_record(tmp_path / "record.json", record)
    assert records.read_record(tmp_path / "record.json").q_tot == [-70.25, 4.5]


@pytest.mark.parametrize("entry", ['"q_tot": null', '"version": ""'])
def test_records_that_were_made_without_an_entry_are_read(tmp_path, record, entry):
    write_record(tmp_path / "record.json", record)
    text = (tmp_path / "record.json").read_text()
    assert entry in text
    (tmp_path / "record.json").write_text(text.replace(f",\n{entry}", ""))
    name = entry.split('"')[1]
    assert not getattr(records.read_record(tmp_path / "record.json"), name)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nowhere", "no finished run in nowhere"),
        ("", "give a folder with runs"),
        ("nowhere --points 0", "--points must be at least 1, got 0"),
        ("nowhere --reps -1", "--reps must be at least 1, got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, words, says):
    assert call("plot", *words.split()) == (2, "", f"benchmark: error: {says}\n")
