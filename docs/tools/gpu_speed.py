"""Environment steps per second of whole trainings on one device.

    python docs/tools/gpu_speed.py --device cuda
    python docs/tools/gpu_speed.py --device cpu --torch-threads 8

The first table has `qmix.py` on one map with networks and batches of growing size, the second one
all scripts, small and large, the third one tasks with long episodes (of which some need a package).
As in speed.py, whole scripts run; the time from an update to a later one counts, at least
--seconds. Compare devices of one machine.
"""

import cleanmarl  # noqa: F401  first: it prepares NumPy and PyTorch

# isort: split
from dataclasses import dataclass
from typing import Literal

import tyro
from speed import marks_of, print_row  # in this folder

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
# Episodes of 150, 400, 400 and 500 steps
LONG = {
    "MMM": "--env-name MMM",
    "corridor": "--env-name corridor",
    "kitchen": "--env-type pz --env-family cleanmarl.benchmark.games --env-name kitchen",
    "rware-tiny-4ag": "--env-type gym --env-name rware:rware-tiny-4ag-v2",
}
SMALL, LARGE = "", "--hidden-dim 256 --batch-size 128"


@dataclass
class Args:
    device: Literal["cpu", "cuda", "mps"] = "cpu"
    """device of the networks"""
    torch_threads: int = 1
    """threads of PyTorch on the CPU"""
    env_name: str = "2s3z"
    """map"""
    hidden_dims: tuple[int, ...] = (64, 256, 1024)
    """units of the agent network's hidden layers"""
    batch_sizes: tuple[int, ...] = (10, 32, 128, 512)
    """episodes in a batch"""
    tables: tuple[Literal["sizes", "scripts", "tasks"], ...] = ("sizes", "scripts", "tasks")
    """what to measure"""
    seconds: float = 3.0
    """seconds that count of each training, at least"""


def steps_per_second(args: Args, script: str, options: str) -> str:
    device = f"--device {args.device} --torch-threads {args.torch_threads}"
    # Updates are counted when they are logged
    command = f"{script} {device} {options} --log-every 1"
    (began, before), *_, (ended, step) = marks_of(command, args.seconds)
    return f"{(step - before) / (ended - began):,.0f}"


def print_sizes(args: Args):
    print_row("hidden_dim", *(f"batch of {size}" for size in args.batch_sizes))
    print_row("---", *["---:"] * len(args.batch_sizes))
    for units in args.hidden_dims:
        network = f"--env-name {args.env_name} --hidden-dim {units}"
        sizes = [f"{network} --batch-size {size}" for size in args.batch_sizes]
        print_row(units, *(steps_per_second(args, "qmix", size) for size in sizes))


def print_scripts(args: Args):
    print_row("script", "defaults", LARGE)
    print_row("---", "---:", "---:")
    for script in SCRIPTS:
        sizes = [f"--env-name {args.env_name} {size}" for size in (SMALL, LARGE)]
        print_row(script, *(steps_per_second(args, script, size) for size in sizes))


def print_tasks(args: Args):
    print_row("task", "defaults")
    print_row("---", "---:")
    for name, task in LONG.items():
        print_row(name, steps_per_second(args, "qmix", task))


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    printers = {"sizes": print_sizes, "scripts": print_scripts, "tasks": print_tasks}
    for table in args.tables:
        printers[table](args)
        print()
