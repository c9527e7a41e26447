"""One HTML file for a run: the page's own files, and its content, packed."""

import base64
import html
import json
import re
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cleanmarl.training.arguments import script_of, title_of, with_newer
from cleanmarl.training.errors import Refused, warn
from cleanmarl.training.results import means
from cleanmarl.watch.compare import check_starts, comparable, telling
from cleanmarl.watch.episodes import Episode, places, play
from cleanmarl.watch.explain import explain
from cleanmarl.watch.scene import film, words
from cleanmarl.watch.trained import Trained

HERE = Path(__file__).parent
SCRIPTS = sorted(HERE.glob("*.js"), key=lambda file: (file.name == "main.js", file.name))
STYLES = (
    "colours.css",
    "page.css",
    "panels.css",
    "compare.css",
    "tour.css",
    "take.css",
    "narrow.css",
)


def page(run: Trained, other: Trained | None = None) -> str:
    """The whole file: play episodes, and show the worst, the median and the best.

    With two runs, the episodes are those in which one run is ahead of the other.
    """
    content = compared(run, other) if other else contents(run)
    names = dict.fromkeys(script_of(type(one.args)) for one in (run, other) if one)
    parts = {
        "{{ title }}": html.escape(f"{title(run)}, {' and '.join(names)}"),
        "/* style */": "\n".join((HERE / name).read_text() for name in STYLES),
        "/* script */": "\n".join(plain_script(file.read_text()) for file in SCRIPTS),
        "{{ content }}": base64.b64encode(packed(content)).decode(),
    }
    template = (HERE / "index.html").read_text()
    return re.sub("|".join(map(re.escape, parts)), lambda place: parts[place[0]], template)


def title(run: Trained) -> str:
    return title_of(run.args.env_name, run.args.env_options)


def plain_script(source: str) -> str:
    """A JavaScript module as part of one script: without `import` lines and `export`."""
    source = re.sub(r"^import [^;]*;\n", "", source, flags=re.MULTILINE)
    return re.sub(r"^export ", "", source, flags=re.MULTILINE)


def contents(run: Trained) -> dict:
    """The content of the page: a tree of dicts, lists, plain values and arrays."""
    episodes, results = play(run)
    return about(run, episodes, results, places(episodes, results))


def compared(one: Trained, other: Trained) -> dict:
    """The content of a page of two runs: that of each, in the same episodes."""
    one, other = comparable(one, other)
    played = play(one), play(other)
    for episodes in zip(played[0][0], played[1][0], strict=True):
        check_starts((one, other), *episodes)
    chosen = telling(*played)
    teams = [about(run, *of, chosen) for run, of in zip((one, other), played, strict=True)]
    return {"env": title(one), "teams": teams}


def about(run: Trained, episodes: list, results: list, chosen: dict[str, int]) -> dict:
    """A run and its chosen episodes, name -> number."""
    known = asdict(type(run.args)())
    saved = with_newer(type(run.args), run.saved)
    shown = [described(run, episodes, results, *place) for place in chosen.items()]
    for reason in {one["scene"]["missing"] for one in shown if "missing" in one["scene"]}:
        warn(f"the page has no scene: {reason}")
    return {
        "env": title(run),
        "script": script_of(type(run.args)),
        "folder": run.folder.resolve().name,
        "step": run.step,
        "made": made_with(run.session),
        "args": {name: [saved[name], value] for name, value in known.items()},
        "evaluation": means(results),
        "returns": [one["ep_reward"] for one in results],
        "counts": action_counts(episodes),
        "episodes": shown,
    }


def made_with(session: dict) -> dict[str, str]:
    """How a run was made; empty what is not known. team.json calls the version `package`."""
    found = {name: session.get(name, "") for name in ("command", "commit", "versions")}
    return found | {"version": session.get("version", session.get("package", ""))}


def action_counts(episodes: list[Episode]) -> np.ndarray:
    """How often each agent took each action, [n_agents, n_actions]."""
    actions = np.concatenate([np.array(one.actions) for one in episodes])
    n_actions = episodes[0].observations[0]["avail_actions"].shape[-1]
    return (actions[..., None] == np.arange(n_actions)).sum(0).astype(np.float32)


def described(run: Trained, episodes: list, results: list, name: str, number: int) -> dict:
    """One episode, with the networks' values and, if it can be drawn, its scene."""
    episode = episodes[number]
    arrays = episode.arrays()
    thoughts = explain(run, arrays)
    try:
        scene = film(run, episode)
    except Refused as error:
        scene = {"missing": str(error)}
    length = len(episode.actions)
    weights = {part: quantised(thoughts[part]) for part in ("w1", "w2") if part in thoughts}
    return words(run, episode) | {
        "name": name,
        "number": number,
        "seed": episode.seed,
        "results": {name: float(value) for name, value in results[number].items()},
        "truncated": bool(episode.truncated),
        "bootstrapped": bool(episode.truncated and getattr(run.args, "bootstrap_truncated", True)),
        "obs": rounded(arrays["obs"], 10),
        "avail": arrays["avail_actions"][:length].astype(np.uint8),
        "chosen": arrays["actions"].astype(np.float32),
        "reward": rounded(arrays["reward"], 14),
        "returns": rounded(thoughts["returns"], 14),
        "q": rounded(thoughts["q"], 14),
        "q_tot": rounded(thoughts["q_tot"], 14),
        "slope": rounded(thoughts["slope"], 14),
        "what_if": rounded(thoughts["what_if"], 14),
        "sums": bool((thoughts["slope"] == 1).all()),
        "weights": weights,
        "scene": scene,
    }


def rounded(array: np.ndarray, bits: int) -> np.ndarray:
    """Round to `bits` binary digits after the leading one; the zeros that remain compress well."""
    whole = np.ascontiguousarray(array, np.float32).view(np.uint32)
    half = np.uint32(1 << (22 - bits))
    mask = np.uint32(0xFFFFFFFF << (23 - bits) & 0xFFFFFFFF)
    return ((whole + half) & mask).view(np.float32)


def quantised(weights: np.ndarray) -> dict:
    """Scale numbers, none negative, to bytes from 0 to 255: enough for a picture."""
    weights = np.nan_to_num(weights, posinf=0)  # a damaged network
    largest = float(weights.max(initial=0))
    return {"largest": largest, "bytes": np.rint(weights / (largest or 1) * 255).astype(np.uint8)}


def packed(tree) -> bytes:
    """A tree as compressed bytes: the size of a JSON text, the text, and then all arrays.

    In the text, {"array": [type, shape, offset]} replaces an array. Offsets are multiples of 4.
    """
    parts, size = [], 0

    def plain(node):
        nonlocal size
        if isinstance(node, dict):
            return {name: plain(part) for name, part in node.items()}
        if isinstance(node, list | tuple):
            return [plain(part) for part in node]
        if not isinstance(node, np.ndarray):
            return node
        content = np.ascontiguousarray(node).tobytes()
        content += bytes(-len(content) % 4)
        parts.append(content)
        size += len(content)
        return {"array": [node.dtype.str[1:], node.shape, size - len(content)]}

    text = json.dumps(plain(tree)).encode()
    text += b" " * (-len(text) % 4)
    return zlib.compress(b"".join([np.uint32(len(text)).tobytes(), text, *parts]), 9)
