"""The files of a run: written whole or not at all, protected by a checksum, never unpickled."""

import errno
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from hashlib import sha256
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
import zstandard

from cleanmarl.teams import PREFIX, path_of
from cleanmarl.training.errors import Refused
from cleanmarl.training.kept import file_of_step
from cleanmarl.training.memory import memory
from cleanmarl.training.scaling import with_scales

WANTED = "expected the folder of a run, for example runs/smaclite__3m__..."
FORMAT = 4  # version of the checkpoint format
SIZES = ("n_agents", "n_actions", "obs_size", "state_size")


def is_text(value) -> bool:
    return isinstance(value, str) and "\0" not in value


def is_size(value) -> bool:
    return type(value) is int and 0 <= value <= 10**6


def is_counts(value) -> bool:
    return value is None or (isinstance(value, list) and all(map(is_size, value)))


def is_names(value) -> bool:
    return value is None or (isinstance(value, list) and all(map(is_text, value)))


def is_names_of_agents(value) -> bool:
    return value is None or (isinstance(value, list) and all(map(is_names, value)))


def is_places(value) -> bool:
    """Whether it says for each part of an input where it begins and ends."""
    return isinstance(value, dict) and all(
        isinstance(ends, list) and len(ends) == 2 and all(map(is_place, ends))
        for ends in value.values()
    )


def is_scenario(value) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() - {"files"} != {"file", "folder", "sha256"}:
        return False
    files = value.get("files", {})
    texts = [part for name, part in value.items() if name != "files"]
    return isinstance(files, dict) and all(map(is_text, [*texts, *files, *files.values()]))


def is_place(value) -> bool:
    return type(value) is int and 0 <= value <= 2 * 10**6


# What other programs read in team.json and run.json
ENTRIES = {name: ("a whole number from 0 to 1000000", is_size) for name in SIZES}
ENTRIES |= {name: ("a word", is_text) for name in ("script", "script_file", "obs_dtype")}
ENTRIES["inputs"] = ("a dict of pairs of whole numbers", is_places)
ENTRIES["time_limit"] = ("a whole number or null", lambda value: value is None or is_size(value))
ENTRIES["scenario"] = ("file, folder and sha256 of its own files, or null", is_scenario)
ENTRIES["own_actions"] = ("a list of whole numbers or null", is_counts)
ENTRIES["agent_names"] = ("a list of words or null", is_names)
ENTRIES["action_names"] = ("lists of words or null", is_names_of_agents)
# What a checkpoint holds of a `Run`
RUN = {"step": int | float, "seconds_before": int | float, "latest": dict}
RUN |= {"best_score": list, "files": list, "logged": list}
# Optimizers of the scripts, and what they keep once for each parameter, not for each weight
OPTIMIZERS = {getattr(torch.optim, name) for name in ("Adam", "AdamW", "NAdam", "RAdam", "SGD")}
OPTIMIZERS |= {torch.optim.RMSprop}
OF_STEPS = ("step", "mu_product")


def write_atomically(path: Path, content: bytes):
    """Write a file whole or not at all. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)  # it may be a link to another file
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_output(path: Path, content: bytes):
    """Write a file that the user named: where a link leads, and over no device. Raises OSError."""
    goal = Path(os.path.realpath(path))
    if goal.exists() and not goal.is_file():
        raise OSError(errno.EINVAL, "it is no file")
    write_atomically(goal, content)


def write_json(path: Path, content):
    write_atomically(path, json.dumps(content, indent=2).encode())


def read_file(path: Path) -> bytes:
    """The content of a file, but not of a pipe or a device, which may never end. Raises OSError."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "is a pipe or a device, not a file")
    return path.read_bytes()


def read_json(path: Path, kind: type = dict):
    """The content of a run's JSON file, a dict or a list. Raises Refused."""
    try:
        content = json.loads(read_file(path))
        if not isinstance(content, kind) or not content:
            raise ValueError
        return content
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "is not a run's"
        raise Refused(f"{path}: {reason}; {WANTED}") from None


def read_team(folder: Path) -> dict:
    """The content of a run's team.json, as `session.description` makes it. Raises Refused."""
    path = folder / "team.json"
    about = checked(path, read_json(path))
    if missing := [name for name in (*SIZES, "inputs", "time_limit") if name not in about]:
        raise Refused(f"{path} has no {', '.join(missing)}; {WANTED}")
    if len(about.get("own_actions") or ()) not in (0, about["n_agents"]):
        raise Refused(f"{path}: own_actions must have {about['n_agents']} numbers")
    return {"agent_names": None, "action_names": None, "own_actions": None} | about


def read_sessions(folder: Path) -> list[dict]:
    """The sessions of a run, from run.json; the last one is the latest. Raises Refused."""
    path = folder / "run.json"
    return [checked(path, session) for session in read_json(path, list)]


def checked(path: Path, entries: dict) -> dict:
    """Entries of team.json or run.json. Raises Refused if one has a wrong type."""
    if not isinstance(entries, dict):
        raise Refused(f"{path}: is not a run's; {WANTED}")
    for name, value in entries.items():
        wanted, fits = ENTRIES.get(name, ("", lambda value: True))
        if not fits(value):
            raise Refused(f"{path}: {name} must be {wanted}, got {repr(value)[:80]}")
    return entries


def plain(value):
    """Convert NumPy's numbers to Python's: loading without unpickling allows no others.

    Raises TypeError for what could not be loaded again, such as a string that is an enum.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(part) for part in value)
    if isinstance(value, torch.Tensor) or type(value) in (str, int, float, bool, type(None)):
        return value
    holds = "tensors, dicts, lists, tuples, words and numbers"
    raise TypeError(f"a checkpoint holds {holds}, but no {type(value).__name__}")


def to_bytes(state: dict) -> bytes:
    file = io.BytesIO()
    torch.save(plain(state), file)
    return file.getvalue()


def write_sealed(path: Path, content: bytes) -> str:
    """Write a file with a checksum; returns the checksum."""
    seal = sha256(content)
    write_atomically(path, seal.digest() + content)
    return seal.hexdigest()


def read_sealed(path: Path, wanted: str = "") -> bytes:
    """The content of a file with a checksum, which must be the `wanted` one, if that is given.

    Raises ValueError if the file is missing, damaged or another one.
    """
    try:
        content = read_file(path)
    except OSError as error:
        raise ValueError(f"{path.name} is missing ({error.strerror})") from None
    if sha256(content[32:]).digest() != content[:32]:
        raise ValueError(f"{path.name} is damaged")
    if wanted not in ("", content[:32].hex()):
        raise ValueError(f"{path.name} is not the file that was saved with the checkpoint")
    return content[32:]


def pack(episodes: list[dict[str, np.ndarray]]) -> bytes:
    """Compress episodes: for each, a line with the types and shapes, and then its arrays.

    Raises Refused if an array holds Python's objects.
    """
    compressor, parts = zstandard.ZstdCompressor(level=1).compressobj(), []
    for episode in episodes:
        if objects := [name for name, array in episode.items() if array.dtype.hasobject]:
            raise Refused(f"the {objects[0]} of an episode holds no numbers: it cannot be saved")
        layout = {name: (array.dtype.str, array.shape) for name, array in episode.items()}
        parts.append(compressor.compress(json.dumps(layout).encode() + b"\n"))
        parts += [compressor.compress(array.tobytes()) for array in episode.values()]
    return b"".join([*parts, compressor.flush()])


def check_episodes(episodes: Iterable[dict]):
    """Raise Refused if an episode holds something else than arrays: it could not be saved."""
    for episode in episodes:
        for name, value in episode.items():
            if not isinstance(value, np.ndarray):
                given = f"the {name} of an episode is a {type(value).__name__}"
                raise Refused(f"{given}: make it an array with a row for each step")


def unpack(content: bytes) -> list[dict[str, np.ndarray]]:
    """The packed episodes, bit for bit. Raises an error of any kind if `pack` made no such bytes.

    A few bytes can be packed terabytes: an array has at most 1 GB, all fit into the memory.
    """
    file = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(content))
    episodes, left = [], memory() or 2**40
    while line := file.readline(2**20):
        episodes.append({})
        for name, (dtype, shape) in json.loads(line).items():
            size = math.prod(shape) * np.dtype(dtype).itemsize
            left -= size
            if not 0 <= size <= 2**30 or left < 0:
                raise ValueError(f"{name} has {size} bytes")
            array = np.frombuffer(file.read(size), dtype).reshape(shape)
            episodes[-1][name] = array.copy()  # own memory, so it can be changed and freed
    return episodes


def read_checkpoint(path: Path, script: str, with_episodes: bool) -> dict:
    """Raises ValueError if the file is incomplete, Refused if it does not fit this script."""
    content = read_sealed(path)
    try:
        saved = load_stored(content)
        made_by, version = str(saved["script"]), int(saved["format"])
    except Exception:  # no run has written this file
        raise ValueError(f"{path.name} is damaged") from None
    if version != FORMAT:
        raise Refused(f"{path} has format {version}, which this version cannot load: train again")
    if made_by != script:
        raise Refused(f"{path} is from {made_by}.py, not from {script}.py")
    if not is_checkpoint(saved):
        raise ValueError(f"{path.name} is damaged")
    episodes = []
    for file in saved["run"]["files"] if with_episodes else ():
        episodes += read_episodes(path.parent, *file)
    return saved | {"episodes": episodes, "path": path}


def load_stored(content: bytes):
    """What PyTorch saved, without unpickling. Raises an error of any kind.

    PyTorch compresses nothing, so what is loaded is not larger than the file.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
            raise ValueError("its parts are compressed")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def is_checkpoint(saved: dict) -> bool:
    """Whether the entries of a checkpoint that `Run` reads have their types."""
    args, run = saved.get("args"), saved.get("run")
    if not isinstance(args, dict) or not isinstance(run, dict):
        return False
    if not {"step", "files"} <= run.keys() <= RUN.keys():
        return False
    if not all(isinstance(value, RUN[name]) for name, value in run.items()):
        return False
    points = run.get("logged", [])
    return (
        all(isinstance(name, str) for name in args)
        and all(map(math.isfinite, (run["step"], run.get("seconds_before", 0))))
        and all(map(is_file_of_episodes, run["files"]))
        and all(map(is_number, run.get("best_score", [])))
        and all(fits_types(point, dict, int) for point in points)
        and all(map(are_metrics, (run.get("latest", {}), *(scalars for scalars, _ in points))))
    )


def is_number(value) -> bool:
    return isinstance(value, int | float)


def are_metrics(value) -> bool:
    """Whether it is a dict of numbers, such as the results of an episode."""
    return (
        isinstance(value, dict)
        and all(isinstance(name, str) for name in value)
        and all(map(is_number, value.values()))
    )


def is_file_of_episodes(entry) -> bool:
    is_known = fits_types(entry, str, int) or fits_types(entry, str, int, str)
    return is_known and re.fullmatch(r"episodes/\d{6,}\.packed", entry[0]) is not None


def fits_types(entry, *types: type) -> bool:
    """Whether it is a tuple of values with these types."""
    is_pair = isinstance(entry, tuple | list) and len(entry) == len(types)
    return is_pair and all(map(isinstance, entry, types))


def read_episodes(folder: Path, name: str, count: int, seal: str = "") -> list[dict]:
    """The episodes in a file of a checkpoint; older checkpoints know no seals.

    Raises ValueError if it is not the file that was saved with the checkpoint.
    """
    content = read_sealed(folder / name, seal)
    try:
        episodes = unpack(content)
    except Exception:  # no run has written this file
        raise ValueError(f"{Path(name).name} is damaged") from None
    if len(episodes) != count:
        raise ValueError(f"{Path(name).name} has {len(episodes)} episodes instead of {count}")
    return episodes


def load_checkpoint(folder: Path, script: str, with_episodes: bool = False) -> dict:
    """The last complete checkpoint of a run. Raises Refused if this script cannot use any.

    "faults" says why it is not checkpoint.pt, if so.
    """
    faults = []
    for path in (folder / "checkpoint.pt", folder / "checkpoint.old"):
        if os.path.isdir(path):  # False for names that are too long
            raise Refused(f"{path} is a folder, and no file can be written there: move it away")
        try:
            return read_checkpoint(path, script, with_episodes) | {"faults": faults}
        except Refused:
            raise
        except ValueError as error:
            faults.append(str(error))
    raise Refused(f"no complete checkpoint in {folder} ({', '.join(faults)}), {WANTED}")


def read_model(path: Path) -> dict:
    """The networks' weights in model.pt or best.pt, and the step at which they were saved.

    PyTorch writes a CRC-32 of each part into the file, but does not look at it. Raises Refused.
    """
    content = b""
    try:
        content = read_file(path)
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            damaged = parts.testzip()
    except (FileNotFoundError, NotADirectoryError):
        if not path.parent.is_dir():
            raise Refused(f"there is no folder {path.parent}, {WANTED}") from None
        when = "a run writes it at its first evaluation or checkpoint, unless --no-save-model"
        raise Refused(f"{path} is missing: {when}") from None
    except Exception:
        damaged = True
    if damaged:
        raise Refused(f"{path} is damaged")
    try:
        model = load_stored(content)
        weights = [part for name, part in model.items() if name != "step"]
        if not isinstance(model["step"], int) or not all(map(is_weights, weights)):
            raise ValueError("it must hold a step and networks")
        return model
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise Refused(f"{path} has no networks of a run: {reason}") from None


def is_weights(part) -> bool:
    """Whether it is a network's state_dict."""
    return isinstance(part, dict) and all(map(torch.is_tensor, part.values()))


def file_of(run: str | Path, which: str | int) -> str:
    """The file of the "best" or the "last" networks, or of those kept at a step.

    A published team has only its best. Raises Refused.
    """
    if isinstance(which, Integral) and not isinstance(which, bool):
        return file_of_step(path_of(run), which)
    if which not in ("best", "last"):
        raise Refused(f'which must be "best", "last" or a kept step, got {which!r}')
    return "best.pt" if which == "best" or str(run).startswith(PREFIX) else "model.pt"


def load_model(folder: Path, which: str | int, **networks: torch.nn.Module) -> int:
    """Load the "best" or the "last" weights of a run, or those kept at a step.

    `folder` may also be the name of a published team, for example team:3m. `networks` are named as
    in `Networks`.

    Returns the step at which the weights were saved. Raises Refused.
    """
    path = path_of(folder) / file_of(folder, which)
    misfit = f"{path} does not fit the agent in this environment"
    model = read_model(path)
    try:
        for name, network in networks.items():
            there, here = sizes_of(model[name]), sizes_of(network.state_dict())
            if there != here:
                raise Refused(f"{misfit}: its {name} has {there}; this environment needs {here}")
            network.load_state_dict(with_scales(model[name], network))
        return model["step"]
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{misfit}: {' '.join(str(error).split())[:300]}") from None


def sizes_of(weights: dict[str, torch.Tensor]) -> str:
    """Number of inputs and outputs of a network, from its first and last weights."""
    sizes = [weight.shape for weight in weights.values() if weight.ndim]
    return f"{sizes[0][-1]} inputs and {sizes[-1][0]} outputs" if sizes else "no weights"


def state_of(part) -> dict:
    return part.state_dict() if hasattr(part, "state_dict") else asdict(part)


def check_state(state: dict):
    """Raise ValueError if a part of a checkpoint could not be saved or loaded again."""
    for name, part in state.items():
        if not hasattr(part, "state_dict") and not is_dataclass(part):
            wanted = "a dataclass, or an object with state_dict() and load_state_dict()"
            raise ValueError(f'state["{name}"] must be {wanted}, not {type(part).__name__}')
        try:
            plain(state_of(part))
        except TypeError as error:
            raise ValueError(f'state["{name}"]: {error}') from None


def load_state(part, state: dict):
    """Raises an error of any kind if the state does not fit."""
    if isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, state)
    elif isinstance(part, torch.nn.Module):
        part.load_state_dict(with_scales(state, part))
    elif hasattr(part, "load_state_dict"):
        part.load_state_dict(state)
    else:
        new = asdict(type(part)(**state))
        for name, value in new.items():
            default = vars(part)[name]
            if isinstance(default, int) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}")
            if isinstance(default, list | dict | str) and not isinstance(value, type(default)):
                raise ValueError(f"{name} is {repr(value)[:80]}")
        vars(part).update(new)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict):
    """Load it, and check what PyTorch would only use at the next step.

    Raises an error of any kind. Other optimizers than those of the scripts may keep what they like.
    """
    own = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    if type(optimizer) not in OPTIMIZERS:
        return
    for before, group in zip(own, optimizer.param_groups, strict=True):
        if "eps" in before:
            before["initial_eps"] = before["eps"]  # of scale_eps()
        for name in before.keys() - {"params"}:
            group.setdefault(name, before[name])
            if not is_alike(before[name], group[name]):
                raise ValueError(f"{name} is {repr(group[name])[:80]}")
    kept = [(parameter, values) for parameter, values in optimizer.state.items() if values]
    for parameter, values in kept:
        if values.keys() != kept[0][1].keys():
            raise ValueError("different values are kept of its parameters")
        for name, value in values.items():
            wanted = () if name in OF_STEPS else parameter.shape
            if value is not None and (value.shape != wanted or value.is_sparse):
                raise ValueError(f"{name} has shape {tuple(value.shape)}")


def is_alike(one, other) -> bool:
    """Whether an option of an optimizer has the type that it should have."""
    if isinstance(one, list | tuple):
        same = isinstance(other, list | tuple) and len(one) == len(other)
        return same and all(map(is_alike, one, other))
    if is_number(one) and not isinstance(one, bool):
        return is_number(other) and math.isfinite(other)
    return type(one) is type(other)
