"""The documentation does what it says.

Its Python blocks run, its commands too, and they print what it quotes. Commands are shortened in
steps, not in shape. A page is a story: its blocks share a folder and their names, in order. A
Python or TOML block that begins with a path in a comment is that file, and a ```diff makes the file
that it names. ```text is not run; in ```console, what a command prints must match the lines below
it, where `...` stands for anything. Where Python code prints, a comment after the `print` says
what, or a ```text block right after the code does.
"""

import contextlib
import doctest
import importlib
import io
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cleanmarl import battle, env, qmix, qmix_memefficient
from cleanmarl.battle.scenario import load_scenario
from docs import spread_teams
from tests.test_qmix_memefficient import stored_bytes

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if page.exists()
]
MAPS = ROOT / "docs/images/maps"
SCRIPTS = ["qmix.py", "qmix_memefficient.py", "qmix_multienvs.py", "qmix_lstm.py"]
# Copies of qmix.py, made by diffs.
COPIES = ["qmix_vdn.py", "qmix_double.py", "qmix_boltzmann.py", "qmix_q_tot.py", "qmix_state.py"]
SHORTER = {script: ["--total-timesteps", "700"] for script in SCRIPTS + COPIES} | {
    "cleanmarl.battle.speed": ["--seconds", "0.02"],
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
    return re.findall(
        r"(?:[A-Z_]+=\S+ )*\bpython (?:-m cleanmarl\.|cleanmarl/|\w+\.py)[^\n;&|>]*", block
    )


def run(command: str) -> tuple[int, str, str]:
    """Run a command in this process: exit status, standard output, standard error.

    RUN_FOLDER is the newest run's.
    """
    if "RUN_FOLDER" in command:
        command = command.replace(
            "RUN_FOLDER", str(max(Path("runs").iterdir(), key=lambda run: run.stat().st_mtime))
        )
    words = shlex.split(command, comments=True)
    settings = dict(word.split("=", 1) for word in words[: words.index("python")])
    module, *arguments = (word for word in words[words.index("python") + 1 :] if word != "-m")
    arguments += next(
        (extra for name, extra in SHORTER.items() if name in " ".join([module, *arguments[:1]])), []
    )
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv, path, interrupt, threads = (
        sys.argv,
        sys.path[:],
        signal.getsignal(signal.SIGINT),
        torch.get_num_threads(),
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for name, value in settings.items():
            patch.setenv(name, value)
        sys.path[:0] = settings.get("PYTHONPATH", "").split(":") if "PYTHONPATH" in settings else []
        sys.argv = [module, *arguments]
        try:
            (runpy.run_path if module.endswith(".py") else runpy.run_module)(
                module, run_name="__main__"
            )
        except SystemExit as end:
            status = end.code or 0
        finally:
            sys.argv, sys.path[:] = argv, path
            signal.signal(signal.SIGINT, interrupt)
            torch.set_num_threads(threads)
    return status, out.getvalue(), err.getvalue()


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch):
    if page.name == "benchmark.md":
        pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')
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


def prose(page: Path) -> str:
    """The text of a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Where the links and pictures of a page lead within the project."""
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in link]


def anchors(page: Path) -> set[str]:
    """What a link to a page can name: its labels, and headings as the forge and MyST write them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
    assert len(set(slugs)) == len(slugs), "two headings of one name"
    return {*slugs, *re.findall(r"^\((\S+)\)=$", prose(page), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or target.suffix == ".py" or anchor in anchors(target), link


def test_every_picture_is_on_a_page():
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    assert {path for path in (ROOT / "docs/images").rglob("*") if path.is_file()} - shown == set()


def test_the_api_page_has_every_public_name_once_in_its_tables_and_once_with_its_docstring():
    page = (ROOT / "docs/api.md").read_text()
    named = [
        name
        for cell in re.findall(r"^\| (\S*`.*?) \|", page, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    ]
    assert named == re.findall(r"^\.\. auto\w+:: (\w+)", page, re.MULTILINE)
    assert {*battle.__all__, *env.__all__} <= set(named)


def test_a_link_to_a_line_leads_to_the_name_it_shows():
    links = [
        link
        for page in PAGES
        for link in re.findall(r"\[`([^`]+)`\]\(\.\./(\S+)#L(\d+)\)", page.read_text())
    ]
    assert links
    for name, file, number in links:
        lines = (ROOT / file).read_text().splitlines()
        there = [place for place, line in enumerate(lines, 1) if name in line]
        assert int(number) in there, f"{file}#L{number} has no {name}, which is in lines {there}"


def test_the_tables_and_pictures_are_those_of_the_code(tmp_path):
    docs = shutil.copytree(
        ROOT / "docs",
        tmp_path / "docs",
        ignore=shutil.ignore_patterns("_build", "results", "*.png"),
    )
    shutil.copy(ROOT / "README.md", tmp_path)
    status, _, _ = run(
        f"python {shlex.quote(str(ROOT / 'docs/tables.py'))} --docs {shlex.quote(str(docs))}"
    )
    assert status == 0
    for page in PAGES:
        copy = tmp_path / page.relative_to(ROOT)
        assert copy.read_text() == page.read_text(), "python docs/tables.py puts it right"
    pictures = sorted((docs / "images/maps").iterdir())
    assert [path.stem for path in pictures] == sorted(battle.map_names())
    for path in pictures:
        drawn, kept = (
            np.asarray(Image.open(p).convert("RGB"), float) for p in (path, MAPS / path.name)
        )
        # of 255; fonts and palettes depend on the version of Pillow
        assert np.abs(drawn - kept).mean() < 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_page_of_a_script_has_every_argument_with_its_default_and_its_meaning(script):
    args = importlib.import_module(f"cleanmarl.{Path(script).stem}").Args()
    page = (ROOT / "docs" / Path(script).with_suffix(".md")).read_text()
    rows = re.findall(r"^\| `--([\w-]+)` \| `(.*)` \| (.+) \|$", page, re.MULTILINE)
    assert {name.replace("-", "_"): eval(default) for name, default, _ in rows} == asdict(args)


def test_the_table_of_the_buffers_memory_tells_what_the_episodes_of_the_training_take(
    tmp_path, monkeypatch
):
    status, printed, _ = run(
        f"python {shlex.quote(str(ROOT / 'docs/replay_memory.py'))} --maps 3m --total-timesteps 300"
    )
    assert status == 0
    _, _, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines()
    )

    episodes, lean, store = [], qmix_memefficient.EpisodeBuffer(1000), qmix.EpisodeBuffer.store
    monkeypatch.setattr(
        qmix.EpisodeBuffer, "store", lambda self, one: episodes.append(one) or store(self, one)
    )
    args = qmix.Args(env_name="3m", total_timesteps=300, num_eval_ep=1)
    qmix.train(args, qmix.open_env(args), qmix.open_env(args), tmp_path, Event())
    for episode in episodes:
        lean.store(episode)
    steps = sum(len(episode["reward"]) for episode in episodes)
    here, there = (sum(map(stored_bytes, kept)) for kept in (lean.episodes, episodes))
    # 61 rows of the state, 3 observations without ids, 3 actions, also one-hot, 3 masks, reward,
    # terminated and filled
    padded = len(episodes) * 61 * (4 * 48 + 4 * 3 * 30 + 3 * (8 + 4 * 9) + 4 * 3 * 9 + 4 + 1 + 8)
    sizes = {"PyMARL": padded, "`qmix.py`": there, "`qmix_memefficient.py`": here}
    length = f"{steps / len(episodes):.1f}"
    in_full = {name: f"{5000 * size / len(episodes) / 1e6:.0f} MB" for name, size in sizes.items()}
    assert rows == [
        ["3m", length, "60", name, f"{size / steps:,.0f}", in_full[name], f"{size / here:.2f}"]
        for name, size in sizes.items()
    ]


SPEED = f"python {shlex.quote(str(ROOT / 'docs/speed.py'))}"


def cells(printed: str) -> list[list[str]]:
    """The rows of the printed tables, without the lines below their heads."""
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in printed.splitlines()
        if "|" in line
    ]
    return [row for row in rows if not set("".join(row)) <= {"-", ":"}]


def test_the_speed_of_a_training_is_measured():
    status, printed, _ = run(f"{SPEED} rates --scripts qmix_memefficient --seconds 0.5")
    assert status == 0
    _, (command, rate, between) = cells(printed)
    low, high = between.split(" to ")
    assert command == "`qmix_memefficient.py --env-name 2s3z`"
    assert (
        0
        < float(low.replace(",", ""))
        <= float(rate.replace(",", ""))
        <= float(high.replace(",", ""))
    )


def test_every_part_of_a_step_is_told_in_the_unit_of_its_floor():
    status, printed, _ = run(
        f"{SPEED} parts --scripts qmix qmix_multienvs qmix_lstm --maps 3m --seconds 0.5"
    )
    assert status == 0
    head, *rows = cells(printed)
    assert [row[0] for row in rows] == ["`qmix.py`", "`qmix_multienvs.py`", "`qmix_lstm.py`"]
    for row in rows:
        parts = {name: float(cell) for name, cell in zip(head[3:13], row[3:13], strict=True)}
        matrices = float(row[head.index("matrices")])
        assert all(
            parts[name] > 0
            for name in ("environment", "acting", "storing", "forward", "backward", "optimizer")
        )
        # no timing: microseconds, both
        assert matrices / 20 < parts["forward"] + parts["backward"] < 500 * matrices


def test_the_growth_of_the_cost_is_drawn_and_printed(tmp_path):
    speed = runpy.run_path(str(ROOT / "docs/speed.py"))
    speed["GROWTH"].clear()
    speed["GROWTH"]["batch_size"] = [2, 4], "qmix --env-name 3m --batch-size {}"
    picture = tmp_path / "speed.svg"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        speed["draw_growth"](speed["Args"]("growth", seconds=0.2, picture=picture))
    assert cells(out.getvalue())[0] == ["batch_size", "2", "4"]
    assert "<svg" in picture.read_text()


@pytest.fixture
def copy(tmp_path):
    """`copy(name)`: what is in the copy of `qmix.py` that a diff of the documentation makes."""

    def make(name: str) -> SimpleNamespace:
        diffs = [block for page in PAGES for language, block in blocks(page) if language == "diff"]
        (diff,) = (diff for diff in diffs if f"+++ {name}\n" in diff)
        return SimpleNamespace(**runpy.run_path(str(apply(diff, tmp_path))))

    return make


TWO_STEPS = {
    "env_type": "pz",
    "env_family": "tests.games",
    "env_name": "two_step_game",
    "start_e": 1,
    "end_e": 1,
}


def learned(script, folder: Path, **options) -> dict[str, torch.Tensor]:
    """The weights after a short training on the two-step game."""
    args = script.Args(**TWO_STEPS | {"total_timesteps": 600} | options)
    folder.mkdir()
    script.train(args, script.open_env(args), script.open_env(args), folder, Event())
    return script.load_checkpoint(folder)["networks"]


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_diff_for_vdn_learns_what_the_option_learns(copy, tmp_path):
    assert_same(
        learned(copy("qmix_vdn.py"), tmp_path / "a"), learned(qmix, tmp_path / "b", mixer="vdn")
    )


def test_q_tot_of_the_diff_for_vdn_is_the_sum_of_the_agents_values(copy):
    script = copy("qmix_vdn.py")
    args = script.Args()
    env = script.open_env(args)
    q, state = torch.randn(5, env.n_agents), torch.randn(5, env.state_size)
    assert torch.equal(script.Networks(args, env).mixer(q, state), q.sum(-1))


def test_the_diff_for_double_q_learns_what_the_options_learn(copy, tmp_path):
    options = {"double_q": True, "polyak": 1, "target_network_update_freq": 200}
    assert_same(
        learned(copy("qmix_double.py"), tmp_path / "a"), learned(qmix, tmp_path / "b", **options)
    )


@pytest.mark.parametrize(("episodes", "equal"), [(199, False), (200, True), (201, False)])
def test_the_targets_of_the_diff_for_double_q_are_copies_after_200_episodes(
    copy, tmp_path, episodes, equal
):
    weights = learned(copy("qmix_double.py"), tmp_path / "run", total_timesteps=2 * episodes)
    for part in ("agent", "mixer"):
        own = {name: value for name, value in weights.items() if name.startswith(f"{part}.")}
        assert (
            all(torch.equal(value, weights[f"target_{name}"]) for name, value in own.items())
            == equal
        )


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_the_diff_for_boltzmann_acts_by_the_softmax_of_the_available_actions(copy, temperature):
    act, rows = copy("qmix_boltzmann.py").act, 50_000
    q, available = np.array([0.5, 2.0, -1.0, 0.3, 0.4]), np.array([1, 0, 1, 1, 1])
    observation = {"obs": None, "avail_actions": np.tile(available, (rows, 1))}
    actions = act(
        lambda obs: np.tile(q, (rows, 1)), observation, temperature, np.random.default_rng(1)
    )
    weights = np.exp(q / temperature) * available
    probabilities = weights / weights.sum()
    frequencies = np.bincount(actions, minlength=5) / rows
    assert frequencies[1] == 0
    # five standard deviations at most
    assert np.abs(frequencies - probabilities).max() < 5 * 0.5 / rows**0.5


def test_the_diff_for_boltzmann_is_greedy_at_temperature_0(copy):
    q, available = (
        np.array([[0.5, 2.0, -1.0], [0.5, 2.0, -1.0]], np.float32),
        np.array([[1, 0, 1], [1, 1, 1]], np.int8),
    )
    observation = {"obs": None, "avail_actions": available}
    actions = copy("qmix_boltzmann.py").act(
        lambda obs: q, observation, 0.0, np.random.default_rng(1)
    )
    assert actions.tolist() == [0, 1]


def test_the_diff_for_boltzmann_trains(copy, tmp_path):
    learned(copy("qmix_boltzmann.py"), tmp_path / "run")


def test_the_diff_for_q_tot_learns_the_same_and_logs_the_mean_over_the_batch(copy, tmp_path):
    script = copy("qmix_q_tot.py")
    assert_same(learned(script, tmp_path / "a"), learned(qmix, tmp_path / "b"))
    events = EventAccumulator(str(tmp_path / "a")).Reload()
    assert [event.step for event in events.Scalars("train/q_tot")] == [
        event.step for event in events.Scalars("train/loss")
    ]

    args = script.Args(**TWO_STEPS, batch_size=4)
    env, buffer = script.open_env(args), script.EpisodeBuffer(10)
    networks = script.Networks(args, env)
    torch.nn.init.normal_(networks.theta.data)
    for number in range(4):
        buffer.store(script.collect_episode(env, networks.agent, args, number, 0)[0])
    batch = buffer.sample(4, np.random.default_rng(1), "cpu")
    q = networks.agent(batch["obs"]).gather(-1, batch["actions"].unsqueeze(-1)).squeeze(-1)
    expected = networks.mixer(q, batch["states"]).mean().item()
    optimizer = script.make_optimizer(args, [networks.theta])
    assert script.update(networks, optimizer, batch, args)["train/q_tot"].item() == expected != 0


def test_the_diff_for_the_state_changes_the_states_alone(copy):
    episodes = []
    for script in (copy("qmix_state.py"), qmix):
        args = script.Args()
        env = script.open_env(args)
        episodes.append(
            script.collect_episode(env, script.Networks(args, env).agent, args, 0, 0)[0]
        )
    episodes[1]["states"] *= 100
    assert all(
        np.array_equal(episodes[0][key], episodes[1][key]) for key in ("states", *episodes[1])
    )


def test_the_better_hand_written_teams_on_simple_spread_know_more():
    # all but the random one, from standing still to sharing by distance
    _, *teams = spread_teams.TEAMS.values()
    earned = [spread_teams.play(team, 30).mean() for team in teams]
    assert earned == sorted(earned) and earned[-1] > earned[0] / 2
