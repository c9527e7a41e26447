"""One word for a task: 3m, mine.toml, lbf:NAME, gym:MODULE:ID, pz:NAME or pz:FAMILY:NAME."""

from typing import NamedTuple


class Task(NamedTuple):
    """What `make_env` needs, and the words of the task's options."""

    env_type: str
    env_name: str
    env_family: str
    """ "" for the default"""
    options: list[str]
    """for example ["N=5", "local_ratio=0"]"""


def read_task(text: str) -> Task:
    """A task from text such as "pz:simple_spread_v3 N=5": its word, and then its options."""
    word, *options = text.split() if "=" in text else [text]
    env_type, colon, name = word.partition(":")
    if not colon:
        env_type, name = "smaclite", word
    family = ""
    if env_type == "pz" and ":" in name:
        family, _, name = name.rpartition(":")
    return Task(env_type, name, family, options)
