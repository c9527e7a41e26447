"""What a replay buffer takes, and what the machine has; notes on an environment."""

import os
from contextlib import suppress
from pathlib import Path

import torch


def memory() -> int | None:
    """Bytes of memory that this process may use; None if unknown."""
    found = []
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(ValueError, OSError):  # a container's limit; the word "max" for none
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(found, default=None)


def amount(size: float) -> str:
    """Bytes in words."""
    if size < 1e9:
        return f"{size / 1e6:.2g} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:,.0f} GB" if size >= 1e10 else f"{size / 1e9:.2g} GB"


def buffer_bytes(env, num_episodes: int) -> int | None:
    """Bytes of a full replay buffer; None without a time limit."""
    if env.time_limit is None:
        return None
    sizes = {"obs": env.n_agents * env.obs_size, "state": env.state_size}
    seen = sum(size * env.observation_space[name].dtype.itemsize for name, size in sizes.items())
    masks = env.n_agents * env.n_actions
    actions_and_rewards = 8 * env.n_agents + 8
    return num_episodes * (env.time_limit + 1) * (seen + masks + actions_and_rewards)


def notes_on(env, num_episodes: int) -> list[str]:
    """What a user should know before training in an environment of `make_env`."""
    env = env.unwrapped
    notes = list(getattr(env, "notes", ()))
    size, available = buffer_bytes(env, num_episodes), memory()
    if size is None:
        notes.append(
            "no time limit is known: the training hangs in an episode that does not end by itself; "
            "if there may be one, add --time-limit STEPS"
        )
    elif available is not None and size > 0.8 * available:
        episodes = f"{num_episodes:,} episodes of {env.time_limit:,} steps"
        takes = f"up to {amount(size)} in a buffer of {episodes}"
        notes.append(f"{takes}, and this machine has {amount(available)}: lower --buffer-size")
    return notes


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether NumPy or PyTorch could not get memory."""
    texts = ("can't allocate memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def out_of_memory(error: BaseException, episodes, capacity: int) -> str:
    """What to say when the memory is used up: a GPU's, or that of the machine."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory on the GPU: lower --batch-size, or use smaller networks"
    size = sum(array.nbytes for episode in episodes for array in episode.values())
    of = f"{len(episodes):,} of {capacity:,} episodes in the replay buffer take {amount(size)}"
    here = memory()
    machine = f" of this machine's {amount(here)}" if here else ""
    return f"out of memory: {of}{machine}: lower --buffer-size"
