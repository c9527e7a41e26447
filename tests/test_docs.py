"""The documentation does what it says.

Its Python blocks run, its commands too, and they print what it quotes. Commands are shortened in
steps, seeds and maps, not in shape. A page is a story: its blocks share a folder and their names,
in order. A Python or TOML block that begins with a path in a comment is that file, and a ```diff
makes the file that it names. ```text is not run; in ```console, what a command prints must match
the lines below it, where `...` stands for anything. Where Python code prints, a comment after the
`print` says what, or a ```text block right after the code does.
"""

import ast
import contextlib
import doctest
import importlib
import importlib.util
import inspect
import io
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from cleanmarl import battle, env, qmix, qmix_memefficient, training
from cleanmarl.battle.scenario import load_scenario
from cleanmarl.training.arguments import option, parse
from docs._ext.code_lines import lines_of
from docs.tools import battle_teams, mpe_teams, peers, speed
from tests.helpers import (
    MODULES,
    ROOT,
    SOURCES,
    TWO_STEPS,
    every_script,
    run_program,
    scalars,
    weights,
)

DOCS = ROOT / "docs"
TOOLS = DOCS / "tools"
PAGES = [page for page in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))) if page.exists()]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)

SHORTER = {  # what a command is given, too
    "cleanmarl.watch": ["--episodes", "4"],
    "qmix": ["--total-timesteps", "700", "--num-eval-ep", "1", "--torch-threads", "1"],
    "battle_speed": ["--seconds", "0.02"],
    "cleanmarl.benchmark run": ["--total-timesteps", "700"],
    "cleanmarl.benchmark plot": ["--reps", "20"],
}


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of the fenced blocks of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """The commands of a shell block that run the project's code; of a loop, its first round."""
    block = block.replace("\\\n", " ")
    for name, first in re.findall(r"\bfor (\w+) in ([^\s;]+)", block):
        block = re.sub(rf"\$\{{?{name}\b\}}?", first, block)
    settings = r"(?:[A-Z_]+=\S+ )*"
    program = r"(?:-m cleanmarl\.|cleanmarl/|docs/tools/battle|\w+\.py)"
    return re.findall(rf"{settings}\bpython {program}[^\n;&|>]*", block)


def newest_run() -> Path:
    return max(Path("runs").iterdir(), key=lambda run: run.stat().st_mtime)


def run(command: str) -> tuple[int, str, str]:
    """Run a command in this process: exit status, standard output, standard error.

    RUN_FOLDER is the newest run's.
    """
    for many, one in (("--seeds 1 2 3", "--seeds 1"), ("--envs 3m 2s3z", "--envs 3m")):
        command = command.replace(many, one)
    if "RUN_FOLDER" in command:
        command = command.replace("RUN_FOLDER", str(newest_run()))
    words = shlex.split(command, comments=True)
    settings = dict(word.split("=", 1) for word in words[: words.index("python")])
    module, *arguments = (word for word in words[words.index("python") + 1 :] if word != "-m")
    name = " ".join([Path(module).name, *arguments[:1]])
    arguments += next((more for part, more in SHORTER.items() if part in name), [])
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in settings.items():
            patch.setenv(variable, value)
        if "PYTHONPATH" in settings:
            patch.setattr(sys, "path", [*settings["PYTHONPATH"].split(":"), *sys.path])
        return run_program(module, *arguments)


def check_console(block: str):
    """Each command, after a $, prints what follows it.

    It prints to standard output or, if it fails, to standard error.
    """
    for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
        status, out, err = run(command)
        printed = err if status else out
        same = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
        assert same, f"{command}\nshould print:\n{expected}\nbut prints:\n{printed}"


def apply(diff: str, folder: Path) -> Path:
    """Make in a folder the file that a ```diff block describes.

    The block's lines must be those of the file that it changes.
    """
    old, new = re.findall(r"^(?:---|\+\+\+) (\S+)$", diff, re.MULTILINE)
    command = ["patch", "-F0", "-o", folder / new, ROOT / old]
    done = subprocess.run(command, input=diff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return folder / new


@every_page
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch):
    for name in ("cleanmarl", "tests", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    names, printed = {"__name__": "__main__"}, None
    for language, block in blocks(page):
        assert language != "text" or printed is None or block.strip() in printed
        printed = None
        file = re.match(r"# (\S+\.\w+)\n", block)
        if file and language in ("python", "toml"):
            Path(file[1]).parent.mkdir(exist_ok=True)
            Path(file[1]).write_text(block)
        if language == "diff":
            apply(block, tmp_path)
        elif language == "toml":
            load_scenario(tomllib.loads(block))
        elif language == "python" and not file:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, str(page), "exec"), names)
            printed = out.getvalue()
            for comment in re.findall(r"print\(.*\)  # (.*)", block):
                assert comment in printed
        elif language == "console" and "$ " in block:
            check_console(block)
        elif language in ("bash", "console"):
            for copy in re.findall(r"^cp .*", block, re.MULTILINE):
                subprocess.run(shlex.split(copy), check=True)
            for command in commands(block):
                status, _, err = run(command)
                assert status == 0, f"{command}\n{err}"


# Links, pictures, tables


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead within the project."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]


def anchors(target: Path) -> set[str]:
    """What a link can name: of a page its labels and headings, of a program what it defines."""
    if target.suffix == ".py":
        return {*lines_of(target.read_text())}
    headings = re.findall(r"^#+ (.*)$", prose(target), re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(set(slugs)) == len(slugs), "two headings of one name"
    return {*slugs, *re.findall(r"^\((\S+)\)=$", prose(target), re.MULTILINE)}


@every_page
def test_every_link_leads_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_a_link_to_a_name_leads_to_the_line_that_defines_it():
    source = """from a import b

@decorated
def f():
    inside = 1

class C:
    x: int = 1

    def g(self): ...

LIMIT = 2
"""
    assert lines_of(source) == {"f": 4, "C": 7, "C.x": 8, "C.g": 10, "LIMIT": 12}


def test_every_picture_is_on_a_page():
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    shown |= {path.with_stem(f"{path.stem}_narrow") for path in shown}  # on phones
    assert {path for path in (DOCS / "images").rglob("*") if path.is_file()} - shown == set()


def test_the_api_page_has_every_public_name_once_in_its_tables_and_once_with_its_docstring():
    page = (DOCS / "api.md").read_text()
    cells = re.findall(r"^\|(`.*?)\|", page, re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert named == re.findall(r"^\.\. auto\w+:: (\w+)", page, re.MULTILINE)
    known = {name for name in training.__all__ if inspect.isroutine(getattr(training, name))}
    known |= {name for name in training.__all__ if inspect.isclass(getattr(training, name))}
    assert {*battle.__all__, *env.__all__, *known} <= set(named)


def test_the_tables_and_pictures_are_those_of_the_code(tmp_path):
    left_out = shutil.ignore_patterns("_build", "results", "*.png")
    docs = shutil.copytree(DOCS, tmp_path / "docs", ignore=left_out)
    shutil.copy(ROOT / "README.md", tmp_path)
    program = shlex.quote(str(TOOLS / "tables.py"))
    status, _, _ = run(f"python {program} --no-results --docs {shlex.quote(str(docs))}")
    assert status == 0
    for page in PAGES:
        copy = tmp_path / page.relative_to(ROOT)
        assert copy.read_text() == page.read_text(), "python docs/tools/tables.py puts it right"
    drawn = sorted((docs / "images").glob("*/*.png"))
    assert [path.stem for path in drawn if path.parent.name == "maps"] == sorted(battle.map_names())
    assert len(drawn) == len(battle.map_names()) + 2 * 3  # wide and narrow
    for path in drawn:
        new, old = (
            np.asarray(Image.open(picture).convert("RGB"), float)
            for picture in (path, DOCS / path.relative_to(docs))
        )
        # of 255; fonts and palettes depend on the version of Pillow
        assert np.abs(new - old).mean() < 1


def arguments(script: str) -> dict[str, tuple[str, str]]:
    """Of the arguments that a script has in the table: the meaning and the default."""
    head, _, *rows = re.findall(r"^\|(.*)\|$", (DOCS / "arguments.md").read_text(), re.MULTILINE)
    column = head.split("|").index(script.removeprefix("qmix_"))
    cells = [row.split("|") for row in rows]
    named = [row for row in cells if row[0].startswith("`--") and row[column]]
    return {row[0].strip("`-").replace("-", "_"): (row[1], row[column]) for row in named}


@every_script
def test_the_table_of_arguments_has_every_argument_with_its_default(script):
    Args, found = MODULES[script].Args, arguments(script)
    assert found.keys() == asdict(Args()).keys()
    words = []
    for name, (_, cell) in found.items():
        (typed,) = shlex.split(cell.strip("*`"))
        switches = {"True": [option(name)], "False": [option(f"no_{name}")]}
        typed_words = typed.split() if name == "env_options" else [typed]
        words += switches.get(typed, [option(name), *typed_words])
    assert parse(Args, words) == Args()


@every_script
def test_the_table_of_arguments_has_the_meaning_of_every_argument(script):
    body = ast.parse(SOURCES[script]).body
    (Args,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == "Args")
    # Below each field stands its meaning
    meanings = {
        field.target.id: text.value.value
        for field, text in itertools.pairwise(Args.body)
        if isinstance(field, ast.AnnAssign)
    }
    found = arguments(script)
    assert found.keys() == meanings.keys()
    assert all(meanings[name] in meaning for name, (meaning, _) in found.items())


@every_script
def test_the_table_of_arguments_has_other_defaults_than_those_of_qmix_in_bold(script):
    own, first = asdict(MODULES[script].Args()), asdict(qmix.Args())
    bold = {name for name, (_, cell) in arguments(script).items() if cell.startswith("**")}
    assert bold == {name for name in own.keys() & first.keys() if own[name] != first[name]}


# Programs that measure


def program(name: str, arguments: str) -> str:
    """What a program of docs/tools prints."""
    status, printed, err = run(f"python {shlex.quote(str(TOOLS / name))} {arguments}")
    assert status == 0, err
    return printed


def cells(printed: str) -> list[list[str]]:
    """The rows of the tables in a text, without the lines below their heads."""
    lines = [line for line in printed.splitlines() if "|" in line]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in rows if not set("".join(row)) <= {"-", ":"}]


def number(cell: str) -> float:
    return float(cell.replace(",", "").rstrip("%"))


def test_every_program_is_in_the_table_of_programs():
    page = DOCS / "contributing.md"
    named = {Path(link).name for link in links(page) if link.startswith("tools/")}
    assert named == {path.name for path in TOOLS.glob("*.py")}


def stored_bytes(episodes) -> int:
    return sum(array.nbytes for episode in episodes for array in episode.values())


def test_the_table_of_the_buffers_memory_tells_what_the_episodes_of_the_training_take(
    tmp_path, monkeypatch
):
    _, *rows = cells(program("replay_memory.py", "--maps 3m --total-timesteps 300"))

    kept, store = [], qmix.EpisodeBuffer.store
    monkeypatch.setattr(
        qmix.EpisodeBuffer, "store", lambda self, one: kept.append(one) or store(self, one)
    )
    args = qmix.Args(env_name="3m", total_timesteps=300, num_eval_ep=1)
    qmix.train(args, folder=tmp_path / "run")
    lean = qmix_memefficient.EpisodeBuffer(1000)
    for episode in kept:
        lean.store(episode)
    steps = sum(len(episode["reward"]) for episode in kept)
    # 61 rows of the state, 3 observations without ids, 3 actions, also one-hot, 3 masks, reward,
    # terminated and filled
    padded = len(kept) * 61 * (4 * 48 + 4 * 3 * 30 + 3 * (8 + 4 * 9) + 4 * 3 * 9 + 4 + 1 + 8)
    sizes = {"PyMARL": padded, "`qmix.py`": stored_bytes(kept)}
    sizes["`qmix_memefficient.py`"] = least = stored_bytes(lean.episodes)
    length = f"{steps / len(kept):.1f}"
    in_full = {name: f"{5000 * size / len(kept) / 1e6:.0f} MB" for name, size in sizes.items()}
    assert rows == [
        ["3m", length, "60", name, f"{size / steps:,.0f}", in_full[name], f"{size / least:.2f}"]
        for name, size in sizes.items()
    ]


def test_the_cost_of_checkpoints_is_measured():
    options = "--envs 3m --episodes 6 --checkpoint-every 3"
    head, row = cells(program("checkpoint_cost.py", options))
    found = dict(zip(head[1:], map(number, row[1:]), strict=True))
    assert found["episodes"] == 6
    assert found["steps"] > 0
    assert found["in memory, MB"] > found["on disk, MB"] > 0
    assert 0 < found["share of the training time"] < 100


def test_the_speed_of_a_training_is_measured():
    options = "rates --scripts qmix_memefficient --seconds 0.5"
    _, (command, rate, between) = cells(program("speed.py", options))
    low, high = between.split(" to ")
    assert command == "`qmix_memefficient.py --env-name 2s3z`"
    assert 0 < number(low) <= number(rate) <= number(high)


def test_the_growth_of_the_cost_is_drawn_and_printed(tmp_path, monkeypatch, capsys):
    command = "qmix --env-name 3m --batch-size {}"
    monkeypatch.setattr(speed, "GROWTH", {"batch_size": ([2, 4], command)})
    picture = tmp_path / "speed.svg"
    speed.draw_growth(speed.Args("growth", seconds=0.2, picture=picture))
    assert cells(capsys.readouterr().out)[0] == ["batch_size", "2", "4"]
    for one in (picture, tmp_path / "speed_narrow.svg"):
        assert ">qmix.py<" in one.read_text()


def test_the_speed_on_a_device_is_printed_for_all_sizes_and_tasks(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(TOOLS))
    gpu_speed = importlib.import_module("gpu_speed")
    sizes = {"env_name": "3m", "hidden_dims": (8,), "batch_sizes": (2, 4), "seconds": 0.2}
    args = gpu_speed.Args(**sizes)
    gpu_speed.print_sizes(args)
    head, row = cells(capsys.readouterr().out)
    assert head == ["hidden_dim", "batch of 2", "batch of 4"]
    assert row[0] == "8" and min(map(number, row[1:])) > 0
    monkeypatch.setattr(gpu_speed, "LONG", {"short": "--env-name 3m"})
    gpu_speed.print_tasks(args)
    head, row = cells(capsys.readouterr().out)
    assert head == ["task", "defaults"] and row[0] == "short" and number(row[1]) > 0


def test_the_steps_of_another_program_are_counted():
    counted = ("cleanmarl.battle", "BattleEnv")
    assert peers.rate([ROOT], counted, 0.2, "FOLDER/ours.py", "3m") > 0


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs", "qmix_lstm"])
def test_the_parts_of_a_step_take_as_long_as_the_step(script, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    parts = importlib.import_module("where_time_goes").parts
    rate, microseconds, work = parts(f"{script} --batch-size 4 --torch-threads 1", 0.4)
    for name in ("environment", "acting", "storing", "forward", "backward", "optimizer"):
        assert microseconds[name] > 0, name
    assert sum(microseconds.values()) == pytest.approx(1e6 / rate)
    assert all(amount > 0 for amount in work.values())


def test_where_the_time_goes_is_printed_for_each_script_and_map():
    options = "--scripts qmix qmix_memefficient --maps 3m --seconds 0.1"
    head, *rows = cells(program("where_time_goes.py", options))
    assert [row[:2] for row in rows] == [["`qmix.py`", "3m"], ["`qmix_memefficient.py`", "3m"]]
    assert all(number(cell) >= 0 for row in rows for cell in row[2:] if cell)
    assert {len(row) for row in rows} == {len(head)}


@pytest.mark.parametrize("task", mpe_teams.TASKS)
def test_the_better_hand_written_teams_know_more(task):
    env = mpe_teams.open_task(task)
    # all but the random one, from standing still to the one that knows most
    _, *teams = mpe_teams.teams_of(task, env).values()
    earned = [mpe_teams.play(env, team, 30).mean() for team in teams]
    assert earned == sorted(earned)


def test_the_rewards_of_the_hand_written_teams_are_printed():
    printed = program("mpe_teams.py", "--episodes 1 --tasks simple_spread_v3 tag")
    names = re.findall(r"^(\w+, .+): -?[\d.]+, standard error [\d.]+$", printed, re.MULTILINE)
    still = ["at random", "standing still"]
    assert names == [
        f"{task}, {team}"
        for task in ("simple_spread_v3", "tag")
        for team in [*still, *mpe_teams.TASKS[task]]
    ]


def test_hand_written_teams_win_random_battles():
    for team in battle_teams.TEAMS.values():
        assert 0.2 < battle_teams.play("protoss_5_vs_5", team, 30) < 1


def test_a_hand_written_team_takes_the_available_move_that_leads_furthest():
    all_moves = np.ones(6)
    assert battle_teams.step_to(np.array([1.0, -2.0]), all_moves) == 3  # south
    blocked = np.array([0, 1, 1, 0, 1, 1])
    assert battle_teams.step_to(np.array([1.0, -2.0]), blocked) == 4  # east
    assert battle_teams.step_to(np.array([0.0, -2.0]), blocked) == 1  # stop


def test_the_win_rates_of_the_hand_written_teams_are_printed():
    printed = program("battle_teams.py", "--maps zerg_5_vs_5 --battles 2")
    lines = re.findall(r"^zerg_5_vs_5, (.+): [\d.]+$", printed, re.MULTILINE)
    assert lines == [*battle_teams.TEAMS]


def test_what_is_learned_of_the_two_step_game_is_printed_beside_the_table_of_the_paper():
    head, *rows = cells(program("two_step_game.py", "--episodes 40"))
    assert head == ["", "state 1", "state 2A", "state 2B", "greedy return"]
    names = [f"{mixer}, {where}" for mixer in ("QMIX", "VDN") for where in ("the paper", "here")]
    assert [row[0] for row in rows] == names
    learned = [number for cell in rows[1][1:4] for number in re.findall(r"-?\d\.\d\d", cell)]
    assert len(learned) == 12


def test_what_is_learned_of_the_nonmonotonic_game_is_printed_below_its_payoffs():
    options = "--random-episodes 40 --falling-episodes 40 --seeds 1"
    _, payoffs, *rows = cells(program("monotonic_game.py", options))
    assert payoffs[3] == "5.0, 20.0 / 20.0, 5.0"
    assert [row[:2] for row in rows] == [
        [mixer, epsilon] for mixer in ("QMIX", "VDN") for epsilon in ("1", "1 to 0.1")
    ]
    paid = {"00": "5", "01": "20", "10": "20", "11": "5"}
    assert all(row[5] == paid[row[4]] for row in rows)


# Copies of a script


def diffs() -> dict[str, str]:
    """Name of each copy that a diff of the documentation makes -> the diff."""
    found = [block for page in PAGES for language, block in blocks(page) if language == "diff"]
    return {re.search(r"^\+\+\+ (\w+)\.py$", diff, re.MULTILINE)[1]: diff for diff in found}


every_diff = pytest.mark.parametrize("name", sorted(diffs()))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """`copy(name)`: the copy of a script that a diff of the documentation makes, imported."""

    def make(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, apply(diffs()[name], tmp_path))
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return make


RANDOM = TWO_STEPS | {"start_e": 1.0, "end_e": 1.0, "greedy_episodes": 0.0}


def learned(script: ModuleType, folder: Path, **options) -> dict[str, torch.Tensor]:
    """The weights after a short training on the two-step game."""
    script.train(script.Args(**RANDOM | {"total_timesteps": 600} | options), folder)
    return weights(folder)


def random_networks(script: ModuleType, args):
    """An environment and networks for it, whose weights are random."""
    env = script.open_env(args)
    networks = script.Networks(args, env)
    stream = torch.Generator().manual_seed(1)
    for parameter in networks.parameters():
        torch.nn.init.normal_(parameter, generator=stream)
    return env, networks


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@every_diff
def test_every_parameter_of_a_copys_optimizer_has_a_gradient_and_moves(
    copy, name, tmp_path, monkeypatch
):
    script = copy(name)
    set_up, at_first = script.set_up, {}  # parameter -> its first value

    def set_up_and_keep(args):
        *others, optimizer = set_up(args)
        for group in optimizer.param_groups:
            at_first.update({one: one.detach().clone() for one in group["params"]})
        return *others, optimizer

    monkeypatch.setattr(script, "set_up", set_up_and_keep)
    script.train(script.Args(env_name="3m", total_timesteps=600, batch_size=4), tmp_path / "run")
    assert len(at_first) > 0
    assert all(one.grad is not None for one in at_first)
    assert not any(torch.equal(one, first) for one, first in at_first.items())


@every_diff
def test_a_copy_acts_by_the_values_that_it_learns(copy, name):
    script = copy(name)
    args = script.Args(env_name="3m", batch_size=1)
    env, networks = random_networks(script, args)
    values, acted, mixed = training.acting(networks.agent), [], []

    def values_and_keep(*inputs):
        outputs = values(*inputs)
        recurrent = isinstance(outputs, tuple)  # the values of one step, and the hidden state
        acted.append(outputs[0][0] if recurrent else outputs)
        return outputs

    rng = np.random.default_rng(1)
    episode, _ = script.play_episode(env, values_and_keep, lambda t: 0.5, 1, rng, args)
    buffer = script.EpisodeBuffer(1)
    buffer.store(episode)
    networks.mixer.register_forward_pre_hook(lambda mixer, inputs: mixed.append(inputs[0]))
    script.qmix_loss(networks, buffer.sample(args, 0), args)
    (learned_q,) = mixed  # [N, n_agents], of the actions taken
    acted_q = np.take_along_axis(np.array(acted), episode["actions"][..., None], -1)[..., 0]
    np.testing.assert_allclose(acted_q, learned_q.detach(), rtol=1e-3, atol=1e-3)


def test_the_mixer_of_the_diff_for_attention_is_monotonic(copy):
    script = copy("qmix_attention")
    env, networks = random_networks(script, script.Args())
    q = torch.randn(50, env.n_agents, requires_grad=True)
    networks.mixer(q, torch.randn(50, env.state_size)).sum().backward()
    assert (q.grad > 0).all()


def test_each_head_of_the_diff_for_attention_averages_the_agents_values(copy):
    script = copy("qmix_attention")
    env, networks = random_networks(script, script.Args())
    state = torch.randn(50, env.state_size)
    values = torch.randn(50, 1)
    equal = values.expand(-1, env.n_agents)
    q_tot = networks.mixer(equal, state) - networks.mixer(0 * equal, state)
    heads = networks.mixer.weight(state).abs().sum(-1)
    torch.testing.assert_close(q_tot, values[:, 0] * heads)


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_the_diff_for_boltzmann_acts_by_the_softmax_of_the_available_actions(copy, temperature):
    act, rows = copy("qmix_boltzmann").act, 50_000
    q, available = np.array([0.5, 2.0, -1.0, 0.3, 0.4]), np.array([1, 0, 1, 1, 1])
    observation = {"obs": None, "avail_actions": np.tile(available, (rows, 1))}
    rng = np.random.default_rng(1)
    actions = act(lambda obs: np.tile(q, (rows, 1)), observation, temperature, rng)
    likely = np.exp(q / temperature) * available
    frequencies = np.bincount(actions, minlength=5) / rows
    assert frequencies[1] == 0
    # five standard deviations at most
    assert np.abs(frequencies - likely / likely.sum()).max() < 5 * 0.5 / rows**0.5


def test_the_diff_for_boltzmann_is_greedy_at_temperature_0(copy):
    q = np.array([[0.5, 2.0, -1.0], [0.5, 2.0, -1.0]], np.float32)
    observation = {"obs": None, "avail_actions": np.array([[1, 0, 1], [1, 1, 1]], np.int8)}
    rng = np.random.default_rng(1)
    assert copy("qmix_boltzmann").act(lambda obs: q, observation, 0.0, rng).tolist() == [0, 1]


def test_the_diff_for_the_largest_share_learns_the_same(copy, tmp_path):
    own = learned(copy("qmix_share"), tmp_path / "copy")
    assert_same(own, learned(qmix, tmp_path / "original"))


def test_the_diff_for_the_largest_share_logs_it_with_the_loss(copy, tmp_path):
    learned(copy("qmix_share"), tmp_path / "run", total_timesteps=100)
    curves = scalars(tmp_path / "run")
    assert len(curves["train/largest_share"]) == len(curves["train/loss"]) > 0


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (0, -1)])
def test_the_metric_of_the_diff_for_the_largest_share_tells_how_unequal_the_agents_are(
    copy, weights
):
    script = copy("qmix_share")
    args = script.Args(**RANDOM, batch_size=4)
    env, networks = random_networks(script, args)
    hypernetwork = networks.mixer.w1[-1]
    torch.nn.init.zeros_(hypernetwork.weight)
    bias = torch.tensor(weights, dtype=torch.float32).repeat_interleave(args.hyper_dim)
    hypernetwork.bias.data.copy_(bias)  # of each agent to the hidden units

    buffer = script.EpisodeBuffer(10)
    for number in range(4):
        buffer.store(script.collect_episode(env, networks.agent, args, number, 0)[0])
    optimizer = torch.optim.SGD(networks.learned(), lr=0)
    learning = script.update(networks, optimizer, buffer.sample(args, 0), args)
    largest = max(map(abs, weights)) / sum(map(abs, weights))
    assert learning["train/largest_share"] == pytest.approx(largest)


def test_a_resumed_run_of_the_diff_for_a_falling_learning_rate_equals_an_undisturbed_one(
    copy, tmp_path
):
    script, whole, parts = copy("qmix_decay"), tmp_path / "whole", tmp_path / "parts"
    decay = {"decay_updates": 200}
    learned(script, whole, **decay)
    learned(script, parts, total_timesteps=300, **decay)
    assert_same(learned(script, parts, resume=str(parts), **decay), weights(whole))
    rates = scalars(parts)["train/learning_rate"]
    assert rates == scalars(whole)["train/learning_rate"]
    assert rates[-1][1] == pytest.approx(0.1 * script.Args().learning_rate)


def test_the_values_of_the_diff_for_a_dueling_head_are_a_value_and_centred_advantages(copy):
    script = copy("qmix_lstm_dueling")
    _, networks = random_networks(script, script.Args())
    agent = networks.agent
    inputs = torch.randn(5, 2, agent.encoder[0].in_features)
    outputs, _ = agent.rnn(agent.encoder(inputs))
    advantages = agent.head(outputs)
    values, _ = agent(inputs)
    torch.testing.assert_close(values.mean(-1, keepdim=True), agent.value(outputs))
    torch.testing.assert_close(values.diff(dim=-1), advantages.diff(dim=-1))
