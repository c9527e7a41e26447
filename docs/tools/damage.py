"""Damaged run folders: what disks, copies, editors and strangers may do to the files of a run.

`break_it.py`, in this folder, tries them.
"""

import io
import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import torch
import zstandard

VALUES = (
    None,
    True,
    0,
    -1,
    3,
    1.5,
    float("nan"),
    float("inf"),
    10**30,
    "",
    "x",
    "3m",
    "\0",
    "../x",
)
VALUES += ("\ud83c", [], [1], [[]], {}, {"a": 1}, [None], "x" * 10**4, -(10**9), 10**9)
TEXTS = (
    "[]",
    "{}",
    "null",
    "1",
    '"x"',
    "[" * 10**5,
    "{" * 9,
    "nan",
    "\ufeff{}",
    "[{}]",
    '{"a": 1}',
)
TEXTS += ('{"args": {}}', "x", " ", "\n", "[[], []]", '[{"command": 1}]', "{'a': 1}", "//", "1e999")
UNREADABLE = "unreadable"  # this damage needs a process that is not root's


def files_of(folder: Path, *endings: str) -> list[Path]:
    """The files in a folder that is not damaged, at any depth; those with these endings."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in found if not endings or path.name.endswith(endings)]


def places_in(value, place: tuple = ()) -> list[tuple]:
    """The places of all values in a structure of dicts and lists, such as ("run", "files", 0)."""
    found = [place] if place else []
    if isinstance(value, dict):
        parts = value.items()
    else:
        parts = enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        found += places_in(part, (*place, key))
    return found


def replaced(value, place: tuple, new: Callable):
    """A structure in which `new` has changed the value at a place."""
    if not place:
        return new(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


def without(value, place: tuple):
    """A structure from which the value at a place is removed."""

    def remove(holder):
        copy = dict(holder) if isinstance(holder, dict) else list(holder)
        del copy[place[-1]]
        return copy

    return replaced(value, place[:-1], remove)


# Each changes a file and returns what it did


def cut(rng: random.Random, path: Path) -> str:
    size = rng.choice((0, 1, 31, 32, 33, rng.randrange(path.stat().st_size + 1)))
    os.truncate(path, min(size, path.stat().st_size))
    return f"cut after {size} bytes"


def flip(rng: random.Random, path: Path) -> str:
    content = bytearray(path.read_bytes())
    number = rng.choice((1, 1, 3, 50))
    for _ in range(number if content else 0):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{number} bits flipped"


def overwrite(rng: random.Random, path: Path) -> str:
    path.write_bytes(rng.choice((b"\0" * 999, rng.randbytes(999), path.read_bytes() * 2, b"x\n")))
    return "overwritten"


def remove(rng: random.Random, path: Path) -> str:
    path.unlink()
    return "removed"


def be_special(rng: random.Random, path: Path) -> str:
    """Something that is not a plain file takes the file's place."""
    path.unlink()
    kind = rng.choice(("a pipe", "a dead link", "a link to itself", "a folder", "a socket", "zero"))
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a socket":
        here = os.getcwd()
        os.chdir(path.parent)  # names of sockets are short
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir(here)
    else:
        goals = {"a dead link": "/not/there", "a link to itself": path.name, "zero": "/dev/zero"}
        path.symlink_to(goals[kind])
    return f"replaced by {kind}"


def lock_up(rng: random.Random, path: Path) -> str:
    path.chmod(0)
    return UNREADABLE


def edit_json(rng: random.Random, path: Path) -> str:
    """A value of a JSON file changes, or is removed."""
    content = json.loads(path.read_text())
    places = places_in(content)
    if not places:
        return "as it was"
    place = rng.choice(places)
    if rng.random() < 0.2:
        path.write_text(json.dumps(without(content, place)))
        return f"without {place}"
    new = rng.choice(VALUES)
    path.write_text(json.dumps(replaced(content, place, lambda _: new)))
    return f"{place} is {str(new)[:30]!r}"


def other_json(rng: random.Random, path: Path) -> str:
    text = rng.choice(TEXTS)
    path.write_bytes(text.encode() if rng.random() < 0.9 else b"\xff\xfe" + text.encode())
    return f"is {text[:20]!r}"


def other_value(rng: random.Random, old):
    """Another value of what PyTorch saves."""
    if isinstance(old, torch.Tensor) and rng.random() < 0.7:
        shapes = (old * float("nan"), old.double(), old.flatten(), old[:0], old.new_zeros(()))
        return rng.choice((*shapes, torch.zeros(3, 3), old.to_sparse() if old.ndim else old))
    return rng.choice([value for value in VALUES if value != "\ud83c"])


def forge(rng: random.Random, path: Path) -> str:
    """Change what PyTorch saved, behind a right checksum."""
    content = path.read_bytes()
    sealed = path.name.startswith("checkpoint")
    saved = torch.load(io.BytesIO(content[32 * sealed :]), weights_only=True)
    place = rng.choice(places_in(saved))
    if rng.random() < 0.2:
        saved = without(saved, place)
    else:
        saved = replaced(saved, place, lambda old: other_value(rng, old))
    file = io.BytesIO()
    torch.save(saved, file)
    seal(path, file.getvalue(), sealed)
    return f"{place} forged"


def forge_episodes(rng: random.Random, path: Path) -> str:
    """Other contents of a file of episodes, behind a right checksum of its own."""
    layout = json.dumps({"reward": rng.choice(VALUES[:20])}, allow_nan=True).encode() + b"\n"
    content = rng.choice(
        (b"", bytes(10**7), b"x" * 10**6, layout, layout * 9, b'{"a": ["<f4", [9]]}\n')
    )
    seal(path, zstandard.compress(content), True)
    return "forged"


def seal(path: Path, content: bytes, sealed: bool = True):
    path.write_bytes(sha256(content).digest() * sealed + content)


def swap(rng: random.Random, path: Path, folder: Path) -> str:
    other = rng.choice(files_of(folder))
    if other == path:
        return "as it was"
    content = other.read_bytes()
    other.write_bytes(path.read_bytes())
    path.write_bytes(content)
    return f"swapped with {other.relative_to(folder)}"


def take_foreign(rng: random.Random, path: Path, folder: Path, others: list[Path]) -> str:
    """The same file of another run."""
    other = rng.choice(others)
    there = other / path.relative_to(folder)
    if not there.is_file():
        return remove(rng, path)
    shutil.copy(there, path)
    return f"of {other.name}"


DAMAGES = (cut, flip, overwrite, remove, be_special, lock_up)
OF_JSON = (edit_json, edit_json, edit_json, other_json)


def damage_file(rng: random.Random, folder: Path, others: list[Path]) -> str:
    """Damage one file of a run; returns what was done."""
    choices = files_of(folder)
    weight = {".json": 4, ".pt": 4, ".old": 4, ".packed": 2}
    path = rng.choices(choices, [weight.get(one.suffix, 1) for one in choices])[0]
    own = [*DAMAGES]
    if path.suffix == ".json":
        own += OF_JSON * 2
    elif path.suffix in (".pt", ".old"):
        own += [forge] * 6
    elif path.suffix == ".packed":
        own += [forge_episodes] * 3
    own += [lambda rng, path: swap(rng, path, folder)]
    own += [lambda rng, path: take_foreign(rng, path, folder, others)]
    name = str(path.relative_to(folder))
    try:
        return f"{name} {rng.choice(own)(rng, path)}"
    except Exception as error:  # damaged before
        return f"{name} twice damaged ({type(error).__name__})"


def damage_folder(rng: random.Random, folder: Path) -> str:
    """Damage the folder as a whole."""
    kind = rng.choice(
        ("empty", "a file", "no episodes", "a link to itself", "only", "nested", "old")
    )
    if kind == "no episodes":
        shutil.rmtree(folder / "episodes", ignore_errors=True)
    elif kind == "only":
        kept = rng.choice(files_of(folder))
        for path in files_of(folder):
            if path != kept:
                path.unlink()
        kind = f"only {kept.relative_to(folder)}"
    elif kind == "nested":
        shutil.copytree(folder, folder / "copy")
    elif kind == UNREADABLE:
        folder.chmod(0)
    elif kind == "old":
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    else:
        shutil.rmtree(folder)
        if kind == "empty":
            folder.mkdir()
        elif kind == "a file":
            folder.write_text("x")
        else:
            folder.symlink_to(folder.name)
    return f"the folder: {kind}"


def damage(rng: random.Random, folder: Path, others: list[Path]) -> str:
    """Damage a run's folder in one to three ways; returns what was done."""
    if rng.random() < 0.08:
        return damage_folder(rng, folder)
    number = rng.choice((1, 1, 1, 2, 3))
    return "; ".join(damage_file(rng, folder, others) for _ in range(number) if files_of(folder))
