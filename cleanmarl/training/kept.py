"""Networks kept over the course of a training, with --keep-models: models/<step>.pt of a run."""

from pathlib import Path

from cleanmarl.errors import Refused

SHOWN = 10  # steps that a message names


def steps_to_keep(args) -> list[int]:
    """Evenly spaced steps, `args.keep_models` of them; the last one is `args.total_timesteps`."""
    number = getattr(args, "keep_models", 0)  # a copy of an older script has none
    total = args.total_timesteps
    return sorted({total * i // number for i in range(1, number + 1)} - {0})


def name_of(step: int) -> str:
    return f"models/{step}.pt"


def kept_steps(folder: Path) -> list[int]:
    """The steps whose networks are in the folder of a run."""
    names = [path.stem for path in folder.glob(name_of("*"))]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def file_of_step(folder: Path, step: int) -> str:
    """The file with the networks that a run kept at a step. Raises Refused if it kept none then."""
    steps = kept_steps(folder)
    if step in steps:
        return name_of(step)
    missing = f"{folder} has no networks of step {step}"
    if not steps:
        raise Refused(f"{missing}: a run keeps some with --keep-models")
    near = sorted(steps, key=lambda one: abs(one - step))[:SHOWN]
    there = ", ".join(map(str, sorted(near)))
    more = f" and {len(steps) - SHOWN} others" if len(steps) > SHOWN else ""
    raise Refused(f"{missing}, but of {there}{more}")
