"""Odd command lines: words that a hurried, mistaken or curious user might give to the programs.

`break_it.py`, in this folder, tries them.
"""

import importlib
import random
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields

from cleanmarl.benchmark.__main__ import Plot
from cleanmarl.benchmark.__main__ import Run as Sweep
from cleanmarl.env.__main__ import Check
from cleanmarl.watch.__main__ import Args as Watch

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
ARGS = {script: importlib.import_module(f"cleanmarl.{script}").Args for script in SCRIPTS}
OTHERS = {"env": Check, "watch": Watch, "benchmark run": Sweep, "benchmark plot": Plot}
PROGRAMS = (*SCRIPTS, *OTHERS, "teams", "load_team")

# A training with these words takes a second
SHORT = {"total_timesteps": "40", "hidden_dim": "4", "hyper_dim": "4", "batch_size": "2"}
SHORT |= {"buffer_size": "3", "num_eval_ep": "1", "eval_steps": "2", "log_every": "2"}
SHORT |= {"time_limit": "9", "num_envs": "2"}
LONG = {"total_timesteps", "num_eval_ep", "episodes", "num_envs", "reps", "points", "tbptt"}

NUMBERS = ("0", "-1", "1", "2", "3", "7", "10", "0.5", "1.5", "-0.0", "1e3", "1e-3", "5e2", "+4")
NUMBERS += ("nan", "NaN", "inf", "-inf", "1e400", "1e-400", "-1e-320", "2147483647", "2147483648")
NUMBERS += ("9223372036854775807", "9223372036854775808", "9" * 400, "-" + "9" * 30, "1_000")
NUMBERS += ("0x10", "0b1", "1,5", "1.000,0", "\u0663", "\uff11", "\u00bd", "1e", "e5", ".", "5.")
NUMBERS += ("1 ", " 1", "1j", "[1]", "1/2", "None", "none", "True", "false", "yes", "", " ")
LARGE = ("2147483647", "1e9", "100000", "inf")
PLAIN = """
3m 3M 3mm 2s3z 8m_vs_9m corridor protoss_5_vs_5 terran m3
good.toml bad.toml odd.toml empty.toml pipe.toml loop.toml dead.toml not_there.toml folder.toml
.toml ./good.toml mine.py broken.py raises.py not_there.py pipe.py notes.txt not_there empty
. .. ~ /proc/self/mem run run/ ./run/../run run/model.pt sweep
team:3m team:3m-2 team:3m-99 team: team:3n team:../3m team:team:3m
smaclite smaclite-upstream lbf pz gym mpe sisl butterfly magent
Foraging-8x8-2p-3f-v3 Foraging-8x8-2p-3f Foraging-0x0-0p-0f-v3 Foraging Foraging-5x5-9p-9f-coop-v3
simple_spread_v3 simple_tag_v3 simple_spread_v2 pursuit_v4 rware:rware-tiny-2ag-v2 CartPole-v1
os os.path sys:exit numpy qmix vdn qmx lstm gru Adam adam cpu cuda cuda:0 mps best last
N=5 N= =5 N N=nan N=[1,2 N=-1 N=1e9 N==3 n-s=1 N=2 local_ratio=2 max_cycles=3 max_cycles=0
walls=upstream walls=3 clock=1 render_mode=human continuous_actions=true sight=0 field_size=[3,3]
seed=3 - -- --- %s % {} {0} $HOME * ' " \\
lbf:Foraging-8x8-2p-3f-v3 lbf: lbf:x pz:simple_spread_v3 pz:mpe:simple_spread_v3 pz:sisl:pursuit_v4
pz:: pz:os:path gym:CartPole-v1 gym:os:x gym: : :: a:b:c:d eval/ep_reward eval/nothing field
suite.toml svg pdf mixer= env_name=3m qmix=QMIX qmix_lstm ./mine.py random http://x auto ::1 x:99999
"""
WORDS = PLAIN.split()
WORDS += ["pz:simple_spread_v3 N=2", "3m walls=3", "alpha=0.1 0.5", "gamma=0.9 0.99", "seed=1 2"]
WORDS += ["mixer=qmix vdn", "\u00fcn\u00efc\u00f6de", "\u65e5\u672c", "\U0001f3b2", "\udcff\udcfe"]
WORDS += ["a\nb", "a\tb", "\x1b[31m", "x" * 300, "x" * 5000]
ODD_FLAGS = """
--help -h --version -v -- - --no --no-help -x --= --=3 --resume --evaluate --init-from
--tyro-print-completion --args.seed --lr --seed--
"""
FLAGS = ODD_FLAGS.split()


@dataclass
class Line:
    """A command line: one of `PROGRAMS`, and its words."""

    program: str
    words: list[str]


def options_of(Args: type) -> list[str]:
    return [f"--{field.name.replace('_', '-')}" for field in fields(Args)]


def mistyped(rng: random.Random, word: str) -> str:
    """A word with a letter that is missing, doubled, changed, of the other case, or swapped."""
    place = rng.randrange(len(word))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    new = (letter * 2, "", rng.choice("ab_-=0"), letter.swapcase(), after[:1] + letter)
    change = rng.randrange(len(new))
    return before + new[change] + after[change == 4 :]


def value_for(rng: random.Random, name: str, kind) -> list[str]:
    """Words after an option: mostly of its kind, else any."""
    if name in LONG and rng.random() < 0.9:
        numbers = [word for word in NUMBERS if word not in LARGE and len(word) < 3]
        return [rng.choice(numbers)]
    choices = [str(one) for one in typing.get_args(kind) if isinstance(one, str)]
    pools = [NUMBERS, WORDS, choices or NUMBERS, choices or NUMBERS + LARGE]
    if kind is str or "Path" in str(kind):
        pools = [WORDS, WORDS, WORDS, NUMBERS]
    number = rng.choice((1, 1, 1, 1, 1, 1, 0, 2, 3))
    if "tuple" in str(kind) or kind is dict:
        number = rng.choice((0, 1, 1, 1, 2, 3))
    return [rng.choice(rng.choice(pools)) for _ in range(number)]


def odd_option(rng: random.Random, Args: type) -> list[str]:
    """An option with its value; sometimes mistyped, unknown, or of another program."""
    source = Args if rng.random() < 0.85 else rng.choice([*ARGS.values(), *OTHERS.values()])
    hints = typing.get_type_hints(source)
    field = rng.choice(fields(source))
    name, kind = f"--{field.name.replace('_', '-')}", hints[field.name]
    values = value_for(rng, field.name, kind)
    if kind is bool:
        name = rng.choice((name, f"--no-{field.name.replace('_', '-')}"))
        values = values if rng.random() < 0.2 else []
    chance = rng.random()
    if chance < 0.08:
        name = mistyped(rng, name)
    elif chance < 0.12:
        name = rng.choice(FLAGS)
    elif chance < 0.16:
        name = name.replace("-", "_").replace("__", "--")
    if len(values) == 1 and rng.random() < 0.2:
        return [f"{name}={values[0]}"]
    return [name, *values]


def odd_options(rng: random.Random, Args: type) -> list[str]:
    """Some options; some of them are given twice."""
    given = [odd_option(rng, Args) for _ in range(rng.choice((0, 1, 1, 1, 2, 3)))]
    if given and rng.random() < 0.1:
        given.append(rng.choice(given))
    return [word for words in given for word in words]


def of_script(rng: random.Random, script: str) -> list[str]:
    """A training, or what else a script does, mostly with the words of a short one."""
    Args = ARGS[script]
    names = {field.name for field in fields(Args)}
    short = [name for name in SHORT if name in names and rng.random() < 0.97]
    words = [word for n in short for word in (f"--{n.replace('_', '-')}", SHORT[n])]
    chance = rng.random()
    if chance < 0.3:
        words += ["--env-type", rng.choice(("smaclite", "lbf", "pz", "gym", rng.choice(WORDS)))]
        words += ["--env-name", rng.choice(WORDS)]
        if rng.random() < 0.3:
            words += ["--env-options", *rng.sample(WORDS, rng.randint(0, 3))]
    elif chance < 0.4:
        words = [rng.choice(("--resume", "--evaluate", "--init-from")), rng.choice(WORDS), *words]
    elif chance < 0.5:
        words = [rng.choice(("--resume", "--evaluate", "--init-from")), "run"]
    return [*words, *odd_options(rng, Args)]


def of_env(rng: random.Random, _: str) -> list[str]:
    if rng.random() < 0.1:
        return rng.choice(
            (["list", rng.choice(WORDS)], [], ["chek", "3m"], odd_options(rng, Check))
        )
    words = ["check", rng.choice(WORDS), *rng.sample(WORDS, rng.choice((0, 0, 1, 2)))]
    return [*words, "--episodes", "1", *odd_options(rng, Check)]


def of_watch(rng: random.Random, _: str) -> list[str]:
    words = ["run"] if rng.random() < 0.3 else rng.sample(WORDS, rng.choice((1, 1, 1, 0, 2)))
    return [*words, "--episodes", "1", *odd_options(rng, Watch)]


def of_sweep(rng: random.Random, _: str) -> list[str]:
    words = ["run" if rng.random() < 0.95 else rng.choice(WORDS), *odd_options(rng, Sweep)]
    if rng.random() < 0.3:
        words += ["--", *odd_options(rng, ARGS["qmix"])]
    return words


def of_plot(rng: random.Random, _: str) -> list[str]:
    folders = ["sweep"] if rng.random() < 0.5 else rng.sample(WORDS, rng.choice((0, 1, 1, 2)))
    return ["plot", *folders, "--reps", "9", "--points", "3", *odd_options(rng, Plot)]


def of_teams(rng: random.Random, _: str) -> list[str]:
    return odd_options(rng, Watch)


def of_load_team(rng: random.Random, _: str) -> list[str]:
    """What `load_team` gets: a folder, which networks, a script, and what is to be written."""
    folder = "run" if rng.random() < 0.4 else rng.choice(WORDS)
    which = rng.choice(("best", "best", "last", rng.choice(WORDS)))
    script = rng.choice(("", "", "mine.py", rng.choice(WORDS)))
    return [folder, which, script, rng.choice(("", "", "", rng.choice(WORDS)))]


MAKERS: dict[str, Callable] = dict.fromkeys(SCRIPTS, of_script)
MAKERS |= {"env": of_env, "watch": of_watch, "benchmark run": of_sweep, "benchmark plot": of_plot}
MAKERS |= {"teams": of_teams, "load_team": of_load_team}
# The scripts have the most arguments
WEIGHTS = {program: 4 for program in SCRIPTS} | {"env": 2, "watch": 1.5, "benchmark run": 2}
WEIGHTS |= {"benchmark plot": 1.5, "teams": 0.2, "load_team": 1}


def odd_line(rng: random.Random) -> Line:
    """A random command line."""
    program = rng.choices(PROGRAMS, [WEIGHTS[one] for one in PROGRAMS])[0]
    return Line(program, [word for word in MAKERS[program](rng, program) if "\0" not in word])
