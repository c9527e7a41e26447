"""Suites: what they train, and their tables."""

from pathlib import Path

import pytest

from cleanmarl.benchmark import __main__ as benchmark
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.suite import choose_tasks, read_suite
from cleanmarl.benchmark.task import Task
from tests.benchmark.runs import rows, write_run
from tests.helpers import ROOT, blocks

pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')


SUITE = """
[arguments]
num_eval_ep = 8

[[tasks]]
family = "foraging"
envs = ["lbf:Foraging-8x8-2p-3f-v3", "lbf:Foraging-8x8-2p-2f-coop-v3"]
script = "qmix_lstm"
total_timesteps = 3000

[[tasks]]
family = "battles"
envs = ["3m"]
total_timesteps = 2000
seeds = [1, 2, 3, 4]
arguments = { gamma = 0.9, double_q = false }

[[tasks]]
family = "games"
envs = ["pz:tests.games:two_step_game"]
total_timesteps = 1000
seeds = [7]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A small suite in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SUITE)
    return "mine.toml"


def plan_suite(name: str, **options) -> list[Task]:
    return plan((), (), options.pop("seeds", ()), suite=name, **options)


def test_a_suite_is_trained_with_the_first_seeds_first_and_of_these_the_shortest_runs(mine):
    folders = [task.folder.name for task in plan_suite(mine)]
    foraging = [
        "lbf__Foraging-8x8-2p-3f-v3__qmix_lstm",
        "lbf__Foraging-8x8-2p-2f-coop-v3__qmix_lstm",
    ]
    first = ["pz__two_step_game__qmix__7", "smaclite__3m__qmix__1"]
    assert folders[:4] == [*first, *(f"{name}__1" for name in foraging)]
    assert folders[4:7] == ["smaclite__3m__qmix__2", *(f"{name}__2" for name in foraging)]
    assert folders[-1] == "smaclite__3m__qmix__4"
    assert not Path("sweep").exists()


def test_a_task_of_a_suite_has_its_arguments_and_those_of_the_suite(mine):
    (battle, *_) = plan_suite(mine, families=["battles"])
    names = ("num_eval_ep", "total_timesteps", "gamma", "double_q", "eval_steps")
    assert [battle.args[name] for name in names] == [8, 2000, 0.9, False, 50]
    assert battle.command[:2] == ["-m", "cleanmarl.qmix"]
    (foraging, *_) = plan_suite(mine, families=["foraging"])
    assert [foraging.args[name] for name in names] == [8, 3000, 0.99, True, 50]


def test_words_after_the_dashes_win_over_a_suite(mine):
    passed = ["--total-timesteps", "50", "--num_eval_ep=2", "--double-q"]
    tasks = plan_suite(mine, passed=passed)
    assert {task.args["total_timesteps"] for task in tasks} == {50}
    assert {task.args["num_eval_ep"] for task in tasks} == {2}
    assert {task.args["double_q"] for task in tasks} == {True}
    assert {task.args["gamma"] for task in tasks} == {0.9, 0.99}
    assert all(task.command.count("--total-timesteps") == 1 for task in tasks)


def test_tasks_of_a_suite_are_chosen_by_family_environment_and_seed(mine):
    def titles(**options) -> list[str]:
        return [task.title for task in plan((), suite=mine, **{"envs": (), "seeds": ()} | options)]

    assert titles(families=["games"]) == ["qmix pz:tests.games:two_step_game 7"]
    assert len(titles(families=["games", "battles"])) == 5
    assert titles(envs=["3m"], seeds=[5, 6]) == ["qmix 3m 5", "qmix 3m 6"]
    coop = "qmix_lstm lbf:Foraging-8x8-2p-2f-coop-v3"
    for env in ("lbf:Foraging-8x8-2p-2f-coop-v3", "Foraging-8x8-2p-2f-coop-v3"):
        assert titles(envs=[env], seeds=[9]) == [f"{coop} 9"]


def test_the_command_trains_the_suite_that_it_is_given(call, mine, monkeypatch):
    trained = []
    monkeypatch.setattr(benchmark, "sweep", lambda tasks, *_: trained.extend(tasks) or 0)
    words = ["--suite", mine, "--families", "battles", "--seeds", "2", "--", "--gamma", "0.5"]
    assert call("run", *words)[0] == 0
    assert [task.title for task in trained] == ["qmix 3m 2"]
    assert trained[0].args["gamma"] == 0.5
    trained.clear()
    assert call("run", "--suite", mine)[0] == 0
    assert len(trained) == 3 + 3 + 4 + 1


def test_your_own_script_is_trained_on_a_suite(copied, mine):
    Path(mine).write_text(SUITE.replace('"qmix_lstm"', '"./my_qmix.py"'))
    task = plan_suite(mine, families=["foraging"])[0]
    assert task.folder.name == "lbf__Foraging-8x8-2p-3f-v3__my_qmix__1"
    assert task.command[0] == str(copied)
    assert read_suite(mine)[0].script_name == "my_qmix"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('family = "games"', 'fmaily = "games"', "tasks[2].fmaily: unknown field; did you mean"),
        ('family = "games"', "", "tasks[2].family: missing"),
        ('family = "games"', 'family = "my games"', "tasks[2].family: expected a word of letters"),
        ("[arguments]", "[argument]", "mine.toml: argument: unknown field; did you mean arguments"),
        ("num_eval_ep = 8", "num_eval = 8", "mine.toml: arguments.num_eval: unknown argument of"),
        ("num_eval_ep = 8", 'num_eval_ep = "8"', "--num-eval-ep must be a whole number, got '8'"),
        ("num_eval_ep = 8", "seed = 8", "mine.toml: arguments.seed: the sweep sets it"),
        ("gamma = 0.9", "gama = 0.9", "tasks[1].arguments.gama: unknown argument of qmix.py; did"),
        ("gamma = 0.9", "gamma = 2", "tasks[1]: --gamma must be from 0 to 1, got 2"),
        ("gamma = 0.9", "gamma = [1]", "tasks[1]: --gamma must be a number, got [1]"),
        ("gamma = 0.9", "total_timesteps = 9", "tasks[1].total_timesteps: is in arguments, too"),
        ("{ gamma = 0.9, double_q = false }", "3", "tasks[1].arguments: expected a table of arg"),
        (
            "timesteps = 2000",
            "timesteps = 2e3",
            "tasks[1].total_timesteps: expected a whole number",
        ),
        ("timesteps = 2000", "timesteps = 0", "tasks[1].total_timesteps: expected a whole number"),
        ("[1, 2, 3, 4]", "[1, 2, 2]", "tasks[1].seeds: expected a list of seeds, each once"),
        ("[1, 2, 3, 4]", "[]", "tasks[1].seeds: expected a list of seeds, each once, got []"),
        ("[1, 2, 3, 4]", '["1"]', "tasks[1].seeds[0]: expected a whole number"),
        ('["3m"]', '["4m"]', "tasks[1].envs: unknown map '4m'; did you mean 8m"),
        ('["3m"]', '"3m"', "tasks[1].envs: expected a list of names"),
        ('["3m"]', "[]", "tasks[1].envs: give an environment"),
        ('["3m"]', '["3m", "3m"]', "tasks[1].envs: 3m is there twice with qmix"),
        ('["3m"]', '["3m walls"]', "tasks[1].envs: unknown map '3m walls'"),
        ('["3m"]', '["3m a=1 b"]', "tasks[1].envs: an option must be like N=5, got 'b'"),
        ('"qmix_lstm"', '"qmix_lsmt"', "tasks[0].script: there is no script 'qmix_lsmt'; did you"),
        ('"qmix_lstm"', "1", "tasks[0].script: expected a name or a path, got 1"),
        ("[[tasks]]", "[[task]]", "mine.toml: task: unknown field; did you mean tasks"),
        (SUITE, "", "mine.toml: tasks: a suite needs a task, [[tasks]]"),
        (SUITE, "[tasks]", "mine.toml: tasks: expected tables [[tasks]], got {}"),
        (SUITE, "tasks = [1]", "mine.toml: tasks[0]: expected a table with family, envs"),
        ("[arguments]", "[arguments", "mine.toml: Expected"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_line_that_names_the_file_and_the_key(
    call, mine, old, new, says
):
    assert old in SUITE
    Path(mine).write_text(SUITE.replace(old, new))
    status, out, err = call("run", "--suite", mine)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("benchmark: error: mine.toml: ")
    assert says in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--suite fild", "there is no suite 'fild'; did you mean field?"),
        ("--suite no.toml", "there is no suite 'no.toml'; give field, or a TOML file"),
        (
            "--suite field --families matrices",
            "unknown family of field 'matrices'; did you mean ma",
        ),
        ("--suite mine.toml --envs 4m", "unknown task of mine.toml '4m'; did you mean 3m"),
        ("--suite mine.toml --families games --envs 3m", "unknown task of mine.toml '3m'"),
        ("--families games", "--families chooses tasks of a suite: give --suite, too"),
    ],
)
def test_a_wrong_choice_of_a_suite_is_refused_in_one_line(call, mine, words, says):
    for command in ("run", "plot runs"):
        status, out, err = call(*command.split(), *words.split())
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err


@pytest.mark.parametrize("words", ["--scripts qmix", "--variants gamma=1"])
def test_a_suite_has_its_own_scripts_and_arguments(call, mine, words):
    status, _, err = call("run", "--suite", mine, *words.split())
    assert (status, err.count("\n")) == (2, 1)
    assert f"--suite has scripts and arguments, so no {words.split()[0]}: copy the suite" in err


def test_a_missing_package_is_named_with_its_remedies(call, mine):
    Path(mine).write_text(SUITE.replace('"games"', '"games"\npackage = "no_such_package"'))
    status, _, err = call("run", "--suite", mine)
    says = "tasks of games need no_such_package, which is not installed: pip install "
    says += "no_such_package; to train the rest, give --families foraging battles\n"
    assert (status, err) == (2, f"benchmark: error: {says}")
    assert len(plan_suite(mine, families=["foraging", "battles"])) == 10
    err = call("run", "--suite", mine, "--families", "games")[2]
    assert err.endswith("pip install no_such_package\n")


FAMILIES = dict.fromkeys(task.family for task in read_suite("field"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_environments_of_the_suite_of_the_field_open(tmp_path, family):
    for task in choose_tasks("field", [family]):
        if task.package:
            pytest.importorskip(task.package)
    tasks = plan_suite("field", families=[family], runs=tmp_path)
    assert len({task.args["env_name"] for task in tasks}) > 0
    assert {task.args["num_eval_ep"] for task in tasks} <= {1, 32}


def test_the_table_of_a_suite_has_a_row_for_each_task_in_its_order(call, mine):
    for seed in (1, 2):
        values, q_tot = [0.0] * 9 + [0.5 * seed], [0.5, -1234.5 * seed]
        write_run(Path("runs"), "qmix_lstm", "Foraging-8x8-2p-3f-v3", seed, values, False, q_tot)
    for seed in (1, 2, 3, 4, 5):
        write_run(Path("runs"), "qmix", "3m", seed, [1.0] * 4, gamma=0.9, double_q=False)
    write_run(Path("runs"), "qmix_lstm", "3m", 1, [0.0])  # another script
    write_run(Path("runs"), "qmix", "8m", 1, [0.0])  # another environment
    status, out, _ = call("plot", "runs", "--suite", mine, "--out", "figures", "--reps", "20")
    assert (status, out) == (0, Path("figures/results.md").read_text())
    missing = "foraging (Foraging-8x8-2p-2f-coop-v3); games (two_step_game)"
    assert out.endswith(f"\n\nnot trained yet: {missing}\n")
    lines = [line for line in out.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[:2] for row in body] == [["foraging", "Foraging-8x8-2p-3f-v3"], ["battles", "3m"]]
    lstm, battle = [dict(zip(head, row, strict=True)) for row in body]
    assert (lstm["script"], lstm["arguments"], lstm["seeds"]) == ("`qmix_lstm.py`", "", "2 of 3")
    assert (lstm["metric"], lstm["final score"], lstm["worst seed"]) == ("reward", "0.750", "0.500")
    assert (lstm["steps"], lstm["minutes"]) == ("1,000", "0.2")
    assert lstm["largest `train/q_tot`"] == "2,469.00"
    assert (battle["arguments"], battle["seeds"]) == ("`--gamma 0.9 --no-double-q`", "4")
    assert (battle["time to win"], battle["largest `train/q_tot`"]) == ("3 s", "")
    listed = rows(Path("figures/results.csv"))
    assert [row["seeds"] for row in listed] == ["2", "0", "4", "0"]
    assert [row["largest_q_tot"] for row in listed] == ["2469.0", "", "", ""]


def test_runs_of_a_task_with_several_settings_have_a_row_each(call, mine):
    for gamma in (0.9, 0.95):
        write_run(Path(f"runs/{gamma}"), "qmix", "3m", 1, [1.0], gamma=gamma)
    out = call("plot", "runs", "--suite", mine, "--families", "battles", "--reps", "20")[1]
    assert [row["arguments"] for row in rows(Path("figures/results.csv"))] == [
        "--gamma 0.9",
        "--gamma 0.95",
    ]
    assert out.count("1 of 4") == 2


def test_a_suite_has_a_figure_for_each_family_with_a_panel_for_each_task(call, mine):
    for env in ("Foraging-8x8-2p-3f-v3", "Foraging-8x8-2p-2f-coop-v3"):
        write_run(Path("runs"), "qmix_lstm", env, 1, [0.5, 1.0], won=False)
    write_run(Path("runs"), "qmix", "3m", 1, [0.5, 1.0])
    words = ("--suite", mine, "--out", "figures", "--reps", "20")
    assert call("plot", "runs", *words)[0] == 0
    figures = {path.stem: path.read_text() for path in Path("figures").glob("*.svg")}
    assert figures.keys() == {"foraging", "battles"}
    for text in (
        "Foraging-8x8-2p-3f-v3",
        "Foraging-8x8-2p-2f-coop-v3",
        "qmix_lstm.py",
        "reward (IQM)",
    ):
        assert f">{text}<" in figures["foraging"]
    assert ">win rate (IQM)<" in figures["battles"] and ">qmix_lstm.py<" not in figures["battles"]


def test_the_table_of_a_suite_has_other_seeds_if_they_are_given(call, mine):
    for seed in (1, 8):
        write_run(Path("runs"), "qmix", "3m", seed, [seed / 8])
    words = ("--suite", mine, "--envs", "3m", "--seeds", "8", "9", "--reps", "20")
    assert call("plot", "runs", *words)[0] == 0
    (row,) = rows(Path("figures/results.csv"))
    assert (row["seeds"], row["of_seeds"], row["IQM"]) == ("1", "2", "1.000")


def test_tasks_of_equal_names_in_two_packages_are_kept_apart(call, mine):
    own = {"env_type": "pz", "env_family": "my_games"}
    write_run(Path("runs"), "qmix", "two_step_game", 7, [3.0], won=False, **own)
    out = call("plot", "runs", "--suite", mine, "--families", "games", "--reps", "20")[1]
    assert out.endswith("not trained yet: games (two_step_game)\n")


def test_the_suite_of_the_page_is_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = (text for text in blocks(ROOT / "docs/benchmark.md", "text") if "[[tasks]]" in text)
    Path("my_suite.toml").write_text(text)
    assert len(plan_suite("my_suite.toml", families=["battles"])) == 2 * 5


def test_a_suite_without_any_run_says_so(call, mine):
    says = "benchmark: error: no finished run in nowhere\n"
    assert call("plot", "nowhere", "--suite", mine) == (2, "", says)


def test_a_suite_is_drawn_with_names_in_a_format_and_for_latex(call, mine):
    write_run(Path("runs"), "qmix", "3m", 1, [1.0] * 4, gamma=0.9, double_q=False)
    words = ["--suite", mine, "--names", "qmix=QMIX", "qmix_lstm=LSTM", "--latex"]
    words += ["--format", "pdf"]
    assert call("plot", "runs", *words, "--reps", "20", "--metric", "eval/ep_reward")[0] == 0
    found = rows(Path("figures/results.csv"))
    assert [row["script"] for row in found] == ["LSTM", "LSTM", "QMIX", "QMIX"]
    assert found[2]["metric"] == "reward"
    assert {path.name for path in Path("figures").iterdir()} == {
        "battles.pdf",
        "results.csv",
        "results.md",
        "results.tex",
    }
    assert r"battles & 3m & QMIX & " in Path("figures/results.tex").read_text()
