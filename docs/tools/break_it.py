"""Give the programs odd command lines and damaged run folders; find what a user must not meet.

    python docs/tools/break_it.py

That is a traceback, an exit status that is not documented, a message of many lines, a program that
waits for ever, a half-written file, or a refused run folder that is not as it was. The same seed
gives the same cases. Each runs in a process of its own, forked from this one, which has imported
everything. A case that works for longer than `limit` seconds gets SIGTERM, and must end. A sweep is
planned but not trained. Linux only. The exit status is 1 if there are faults.
"""

import contextlib
import gc
import importlib
import itertools
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
import tyro
from damage import UNREADABLE, damage  # in this folder
from odd_words import SCRIPTS, SHORT, odd_line  # in this folder
from tqdm import tqdm

import cleanmarl
from cleanmarl import teams
from cleanmarl.benchmark import __main__ as benchmark
from cleanmarl.benchmark import sweep
from cleanmarl.benchmark.records import read_run, write_record
from cleanmarl.env import __main__ as env
from cleanmarl.env import make_env
from cleanmarl.training.arguments import parse
from cleanmarl.watch import __main__ as watch

ROOT = Path(cleanmarl.__file__).parent
MODULES = {script: importlib.import_module(f"cleanmarl.{script}") for script in SCRIPTS}
MODULES |= {"env": env, "watch": watch, "benchmark": benchmark, "teams": teams}
SLOW_TO_IMPORT = ("torch._dynamo", "scipy.stats", "matplotlib.figure", "rich.live", "lbforaging")
SLOW_TO_IMPORT += ("matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "mpe2")
SLOW_TO_IMPORT += ("pettingzoo.mpe", "PIL.WebPImagePlugin", "PIL.ImageDraw", "gymnasium.envs")
SLOW_TO_IMPORT += ("tensorboard.backend.event_processing.event_accumulator",)

STATUSES = {0, 1, 2}
ONLY_2 = ("watch", "benchmark", "teams", "load_team")  # nothing of them can fail later
MOST_LINES = 4  # of a message
MOST_OF_TYRO = 80  # its box has a frame, the nearest options (--- is near many), what they mean
PATIENCE = 10  # more seconds to end after SIGTERM
MEMORY = 10 * 2**30  # bytes of address space
NOBODY = 65534  # the user who may read nothing, if this program runs as root
SCENARIO = """size = [16, 16]
episode_limit = 9
groups = [
  { side = "ally", at = [5, 8], units = { MARINE = 2 } },
  { side = "enemy", at = [11, 8], units = { ZERGLING = 2 } },
]
"""
SUITE = '[[tasks]]\nenv = "3m"\nscript = "qmix"\nseeds = [1]\n'


@dataclass
class Args:
    commands: int = 5000
    """odd command lines to try"""
    folders: int = 300
    """damaged run folders to try, each with five programs"""
    seed: int = 1
    """seed of the cases"""
    first: int = 0
    """number of the first case of each kind"""
    limit: float = 12
    """seconds of processor time, or of doing nothing, after which a case is told to end"""


@dataclass
class Case:
    """One run of a program."""

    program: str
    words: list[str]
    folder: Path
    """working directory of the program"""
    about: str = ""
    """what was damaged"""

    @property
    def command(self) -> str:
        name = self.program if self.program in SCRIPTS else f"-m cleanmarl.{self.program}"
        name = f"cleanmarl/{name}.py" if self.program in SCRIPTS else name
        start = "load_team" if self.program == "load_team" else f"python {name}"
        words = shlex.join(self.words).encode("utf-8", "backslashreplace").decode()
        return f"{start} {words}" + (f"   # {self.about}" if self.about else "")


@dataclass
class Outcome:
    """How a case ended."""

    status: int
    """exit status, or minus the signal"""
    output: str
    errors: str
    seconds: float
    stopped: bool = False
    """whether it was told to end"""
    idle: bool = False
    """whether it did nothing until then"""
    faults: list[str] = field(default_factory=list)


# Programs in a process of their own


def use_team(words: list[str]):
    """Load a team, let it act and, if there is a fourth word, write it there."""
    folder, which, script, out = [*words, "", "", ""][:4]
    try:
        team = cleanmarl.load_team(folder, which or "best", script or None)
        team.reset()
        team.act(np.zeros((team.n_agents, team.obs_size)))
        if out:
            team.export(out)
    except (ValueError, OSError) as error:
        print(f"load_team: {error}", file=sys.stderr)
        sys.exit(2)


def plan_only(tasks: list, address: str = "", cpus: int | None = None) -> int:
    """In place of `sweep`: check its arguments, and train nothing."""
    sweep.check_address(address, cpus)
    print(f"{len(tasks)} runs, {sum(task.finished for task in tasks)} of them finished")
    return 0


def run_program(case: Case):
    name = case.program
    if name == "load_team":
        return use_team(case.words)
    module = MODULES[name]
    sys.argv = [str(module.__file__), *case.words]
    return module.main()


def be_case(case: Case, output: Path, errors: Path):
    """In the forked process: run the program, and end with its exit status."""
    status = 70
    try:
        os.setsid()
        os.chdir(case.folder)
        for stream, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if UNREADABLE in case.about and os.geteuid() == 0:
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        run_program(case)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status & 255)


def processor_time(session: int) -> float:
    """Seconds of processor time of all processes of a session, 0 where the system does not tell."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            words = path.read_text().rpartition(")")[2].split()
            if int(words[3]) == session:
                ticks += sum(map(int, words[11:15]))  # its own, and that of its ended children
    return ticks / os.sysconf("SC_CLK_TCK")


def ended(pid: int, limit: float) -> tuple[int | None, str]:
    """Wait for a process: its exit status (or minus the signal), or why it is not awaited longer.

    A busy machine gives it little time: what counts is its own processor time, or that it does
    nothing for `limit` seconds.
    """
    looked, used, idle_since = time.monotonic(), 0.0, time.monotonic()
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), ""
        time.sleep(0.003)
        now = time.monotonic()
        if now - looked < 1:
            continue
        looked, before, used = now, used, processor_time(pid)
        if used > before or is_waiting_for_processor(pid):
            idle_since = now
        if used > limit:
            return None, "long"
        if now - idle_since > limit:
            return None, "idle"


def is_waiting_for_processor(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("R", "D")
    return False


def run(case: Case, limit: float, logs: Path) -> Outcome:
    """Run a case in a forked process."""
    output, errors = logs / "output.txt", logs / "errors.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        be_case(case, output, errors)
    end, reason = ended(pid, limit)
    if end is None:
        os.kill(pid, signal.SIGTERM)
        end, _ = ended(pid, limit + PATIENCE)
        if end is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            end = -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # processes of environments
    seconds = time.monotonic() - began
    texts = [path.read_bytes().decode(errors="replace") for path in (output, errors)]
    return Outcome(end, *texts, seconds, bool(reason), reason == "idle")


# What is a fault


def contents(folder: Path) -> dict[str, str]:
    """name -> what is there, for everything in a folder: a digest of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "special"
    return found


def is_lost(name: str, before: str, after: str | None) -> bool:
    """Whether something outside the run has gone, or is no longer a pipe, a device or a link."""
    if name.startswith("run/"):
        return False
    return after is None or (before.startswith(("special", "link")) and before != after)


def faults_of(case: Case, outcome: Outcome, before: dict, after: dict) -> list[str]:
    """What a user must not meet, a line for each."""
    found = []
    text = outcome.output + outcome.errors
    if "Traceback (most recent call last)" in text or "Exception ignored" in text:
        found.append("a traceback")
    if outcome.idle:
        found.append("it waits for ever")
    elif outcome.stopped and outcome.status not in (0, 1, 2, 143, -signal.SIGTERM):
        found.append(f"it does not end after SIGTERM, status {outcome.status}")
    if not outcome.stopped:
        allowed = STATUSES - ({1} if case.program in ONLY_2 else set())
        if outcome.status not in allowed:
            found.append(f"exit status {outcome.status}")
    found += faults_of_message(case, outcome)
    half = [name for name in after if re.search(r"\.(tmp|new)$", name) and name not in before]
    if half and outcome.status >= 0:
        found.append(f"half-written: {half[0]}")
    if outcome.status == 2 and not outcome.stopped:
        changed = [n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]
        changed = sorted(name for name in changed if not name.endswith("lock"))
        if changed:
            found.append(f"refused, but changed: {', '.join(changed[:3])}")
    lost = [name for name, was in before.items() if is_lost(name, was, after.get(name))]
    if lost:
        found.append(f"lost: {lost[0]}")
    return found


def faults_of_message(case: Case, outcome: Outcome) -> list[str]:
    if {"--help", "-h"} & set(case.words):
        return []
    lines = [line for line in outcome.errors.splitlines() if line.strip()]
    # Without progress; a warning that comes at each checkpoint counts once
    kinds = {re.sub(r"\d+", "", line) for line in lines if not re.match(r"\S+ steps, ", line)}
    longest = max((len(word) for word in case.words), default=0)
    found = []
    if outcome.errors.startswith("\u256d"):  # tyro's box
        if len(lines) > MOST_OF_TYRO + longest // 40:
            found.append(f"{len(lines)} lines of message")
    elif len(kinds) > MOST_LINES:
        found.append(f"{len(kinds)} lines of message")
    if any(len(line) > 1000 + 2 * longest for line in lines):
        found.append("a line of more than 1000 characters")
    if outcome.status not in (0, 143, -signal.SIGTERM) and not lines and not outcome.output:
        found.append("no message")
    if any(re.search(r"^\S+\.py:\d+: \w*Warning", line) for line in lines):
        found.append("a warning of Python")
    return found


# Folders of the cases


def short_words(script: str, **others: str) -> list[str]:
    names = vars(MODULES[script].Args()).keys()
    values = {name: value for name, value in (SHORT | others).items() if name in names}
    return [word for n, v in values.items() for word in (f"--{n.replace('_', '-')}", v)]


def make_runs(home: Path, logs: Path) -> dict[str, Path]:
    """A run of each script, and their records in the folder of a sweep."""
    runs = {}
    (home / "sweep").mkdir()
    for script in SCRIPTS:
        place = home / script
        place.mkdir()
        words = short_words(script, total_timesteps="90", checkpoint_every="3", env_name="3m")
        outcome = run(Case(script, words, place), 300, logs)
        if outcome.status:
            raise RuntimeError(outcome.errors)
        (runs[script],) = (place / "runs").iterdir()
        record = home / "sweep" / f"{script}__3m__1__.json"
        write_record(record, read_run(runs[script]))
    return runs


def make_template(home: Path, runs: dict[str, Path]) -> Path:
    """The files that odd words name."""
    place = home / "template"
    place.mkdir()
    (place / "good.toml").write_text(SCENARIO)
    (place / "bad.toml").write_text("size = [16")
    (place / "odd.toml").write_text('size = "x"\ngroups = 3\nepisode_limit = nan\n')
    (place / "suite.toml").write_text(SUITE)
    for name in ("empty.toml", "notes.txt"):
        (place / name).touch()
    for name in ("folder.toml", "empty"):
        (place / name).mkdir()
    for name in ("pipe.toml", "pipe.py"):
        os.mkfifo(place / name)
    (place / "loop.toml").symlink_to("loop.toml")
    (place / "dead.toml").symlink_to("not_there.toml")
    (place / "mine.py").write_bytes((ROOT / "qmix.py").read_bytes())
    (place / "broken.py").write_text("def (:\n")
    (place / "raises.py").write_text("raise RuntimeError('of the user')\n")
    shutil.copytree(home / "sweep", place / "sweep")
    return place


def copy_special(source: str, goal: str):
    """Copy a file, also if it is a pipe, as `shutil.copytree` wants it."""
    if Path(source).is_file():
        shutil.copyfile(source, goal)
    else:
        os.mkfifo(goal)


def commands(args: Args, home: Path, runs: dict[str, Path]):
    """Cases of odd command lines, each in a fresh folder."""
    template = make_template(home, runs)
    for number in range(args.first, args.first + args.commands):
        rng = random.Random(f"{args.seed} command {number}")
        line = odd_line(rng)
        folder = home / "case" / "work"
        shutil.copytree(template, folder, symlinks=True, copy_function=copy_special)
        if any("run" in word for word in line.words):
            own = line.program if line.program in SCRIPTS else rng.choice(SCRIPTS)
            shutil.copytree(runs[own], folder / "run")
        yield number, Case(line.program.split()[0], line.words, folder)


def openings(script: str) -> dict[str, tuple[str, list[str]]]:
    """What opens a run's folder: name -> program and words."""
    return {
        "resume": (script, ["--resume", "run", "--total-timesteps", "110"]),
        "evaluate": (script, ["--evaluate", "run", "--num-eval-ep", "1"]),
        "watch": ("watch", ["run", "--episodes", "1", "--out", "page.html"]),
        "plot": ("benchmark", ["plot", ".", "--reps", "9", "--points", "3"]),
        "load_team": ("load_team", ["run"]),
    }


def folders(args: Args, home: Path, runs: dict[str, Path]):
    """Cases of damaged folders: each is opened in five ways."""
    for number in range(args.first, args.first + args.folders):
        seed = f"{args.seed} folder {number}"
        script = random.Random(seed).choice(SCRIPTS)
        others = [folder for name, folder in runs.items() if name != script]
        for name, (program, words) in openings(script).items():
            rng = random.Random(seed)
            rng.choice(SCRIPTS)
            folder = home / "case" / "work"
            shutil.copytree(runs[script], folder / "run")
            about = damage(rng, folder / "run", others)
            if rng.random() < 0.2:
                record = folder / f"{script}__3m__1__.json"
                shutil.copy(home / "sweep" / record.name, record)
                about += f"; the record {damage_record(rng, record)}"
            if UNREADABLE in about and os.geteuid() == 0:
                give_away(folder)
            yield number, name, Case(program, words, folder, f"{script}: {about}")


def damage_record(rng: random.Random, path: Path) -> str:
    from damage import OF_JSON, cut, flip

    return rng.choice((cut, flip, *OF_JSON))(rng, path)


def give_away(folder: Path):
    """Let the user who may read nothing own a folder."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


# All cases


def import_all():
    """Import what programs import late, and compile the battles: forked processes share it."""
    for name in SLOW_TO_IMPORT:
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    battle = make_env("smaclite", "3m")
    battle.reset(seed=1)
    battle.step([1, 1, 1])
    for script in SCRIPTS:
        parse(MODULES[script].Args, [])
    benchmark.sweep = plan_only
    os.environ |= {"WANDB_MODE": "disabled", "NO_COLOR": "1", "COLUMNS": "100"}
    # A forked process of an environment has everything imported, too
    real = multiprocessing.get_context
    multiprocessing.get_context = lambda method=None: real("fork" if method else None)
    gc.collect()
    gc.freeze()


@dataclass
class Tally:
    """Counts of the outcomes of some cases."""

    ends: Counter = field(default_factory=Counter)
    faults: int = 0

    def add(self, outcome: Outcome):
        self.ends["stopped" if outcome.stopped else outcome.status] += 1
        self.faults += bool(outcome.faults)


def judge(case: Case, args: Args, logs: Path) -> Outcome:
    """Run a case, judge it, and clear its folder."""
    before = contents(case.folder)
    outcome = run(case, args.limit, logs)
    outcome.faults = faults_of(case, outcome, before, contents(case.folder))
    shutil.rmtree(case.folder)
    return outcome


def tell(number: int, kind: str, case: Case, outcome: Outcome):
    """Print a fault with its command."""
    print(f"{kind} {number}: {'; '.join(outcome.faults)}")
    print(f"    {case.command[:600]}")
    lines = [line for line in outcome.errors.splitlines() if line.strip()]
    for line in lines[-4:]:
        print(f"    | {line[:200]}")
    sys.stdout.flush()


def print_table(tallies: dict[str, Tally]):
    print("|cases|tried|status 0|status 1|status 2|told to end|faults|")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, tally in tallies.items():
        ends = [tally.ends[end] for end in (0, 1, 2, "stopped")]
        cells = [name, tally.ends.total(), *ends, tally.faults]
        print("|" + "|".join(str(cell) for cell in cells) + "|")


def try_all(args: Args, home: Path) -> int:
    """Try all cases, print faults and a table; returns the number of faults."""
    logs = home / "logs"
    logs.mkdir()
    (home / "case").mkdir()
    import_all()
    runs = make_runs(home, logs)
    tallies: dict[str, Tally] = {}
    lines = ((number, case.program, case) for number, case in commands(args, home, runs))
    damaged = (
        (n, f"`{name}` of damaged folders", case) for n, name, case in folders(args, home, runs)
    )
    try:
        for number, kind, case in tqdm(itertools.chain(lines, damaged), mininterval=10):
            outcome = judge(case, args, logs)
            tallies.setdefault(kind, Tally()).add(outcome)
            if outcome.faults:
                tell(number, kind, case, outcome)
    finally:
        print_table(tallies)
    return sum(tally.faults for tally in tallies.values())


def main():
    args = tyro.cli(Args, description=__doc__)
    home = Path(tempfile.mkdtemp())
    home.chmod(0o711)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the folder is removed
    try:
        faults = try_all(args, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
