"""Where agents, food and landmarks are, in environments that know it: the page draws them."""

from collections.abc import Callable
from functools import cache, partial

import gymnasium
import numpy as np

from cleanmarl.training.errors import Refused, warn

FORM = '{"size": (rows, columns), "things": [{"kind", "number", "row", "column"}, ...]}'
KEYS = ("kind", "number", "name", "radius")
MOVING = ("x", "y", "level", "turn")


def finder(env: gymnasium.Env) -> Callable[[], dict] | None:
    """A function that says where everything is now, None if this environment cannot say it.

    Its answer: {"box": [left, bottom, width, height], "grid": whether places are cells, "sight":
    how many cells an agent sees (absent: it is unknown), "things": [{"kind", "number", "x", "y",
    ...}]}. y grows to the north; the middle of the lower left cell of a grid is (0.5, 0.5).
    """
    team = env.unwrapped
    inner = getattr(team, "_env", None)
    task = getattr(inner, "unwrapped", inner)
    for own in (team, task):
        if is_ours(getattr(own, "positions", None)):
            return lambda: of_user(own.positions())
    found = None
    if has(task, "players", "field", "sight"):
        food = [tuple(map(int, place)) for place in np.argwhere(task.field)]
        found = partial(of_foraging, task, food)
    elif has(task, "world") and has(task.world, "agents", "landmarks"):
        found = partial(of_particles, task.world)
    elif has(task, "agents", "shelfs", "goals", "grid_size"):
        found = partial(of_warehouse, task)
    return found if found and works(found) else None


def is_ours(positions) -> bool:
    """Whether an attribute is the method of docs/watch.md, and not one of the same name.

    If it is not, a line says so once: it may be one with a fault.
    """
    if not callable(positions):
        return False
    try:
        answer = positions()
        if isinstance(answer, dict) and {"size", "things"} <= answer.keys():
            return True
        reason = f"returns {answer!r:.80}, not {FORM}"
    except Exception as error:
        reason = f"fails: {error!r:.150}"
    tell(f"positions() of the environment {reason}: the page does not draw by it")
    return False


@cache
def tell(message: str):
    warn(message)


def works(find: Callable[[], dict]) -> bool:
    """Whether an environment that looks like a known one is one."""
    try:
        find()
    except Exception:
        return False
    return True


def has(task, *names: str) -> bool:
    return all(hasattr(task, name) for name in names)


def of_user(found: dict) -> dict:
    """`positions()` of the user's environment: rows and columns are counted from the north west."""
    try:
        rows, columns = map(int, found["size"])
        things = list(found["things"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"its positions() must return {FORM}, got {found!r:.80}") from error
    things = [thing_of_user(thing, rows) for thing in things]
    sight = {"sight": int(found["sight"])} if found.get("sight") is not None else {}
    return {"box": [0, 0, columns, rows], "grid": True, "things": things} | sight


def thing_of_user(thing: dict, rows: int) -> dict:
    """One thing of the user's, with plain numbers."""
    try:
        found = {"kind": str(thing["kind"]), "number": int(thing["number"])}
        found |= {name: float(thing[name]) for name in ("level", "turn") if name in thing}
        return found | {"x": float(thing["column"]) + 0.5, "y": rows - float(thing["row"]) - 0.5}
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"its positions() must return {FORM}, got the thing {thing!r}") from error


def of_foraging(task, food: list[tuple[int, int]]) -> dict:
    """Level-Based Foraging; `food` is where food lay when the episode began."""
    rows, columns = task.field.shape
    things = []
    for number, player in enumerate(task.players):
        row, column = player.position
        things.append({"kind": "agent", "number": number, "level": player.level})
        things[-1] |= {"x": column + 0.5, "y": rows - row - 0.5}
    for number, (row, column) in enumerate(food):
        if level := int(task.field[row, column]):
            things.append({"kind": "food", "number": number, "level": level})
            things[-1] |= {"x": column + 0.5, "y": rows - row - 0.5}
    return {"box": [0, 0, columns, rows], "grid": True, "sight": task.sight, "things": things}


def of_particles(world) -> dict:
    """MPE: places are in the environment's own units; nothing limits what an agent sees."""
    things = []
    for kind, entities in (("agent", world.agents), ("landmark", world.landmarks)):
        for number, entity in enumerate(entities):
            x, y = map(float, entity.state.p_pos[:2])
            own = {"kind": kind, "number": number, "name": entity.name, "radius": entity.size}
            things.append(own | {"x": x, "y": y})
    return {"box": None, "grid": False, "things": things}


def of_warehouse(task) -> dict:
    """RWARE: agents turn, carry shelves and bring those that are asked for to a goal."""
    rows, columns = task.grid_size
    wanted = {id(shelf) for shelf in getattr(task, "request_queue", [])}
    things = []
    for number, (x, y) in enumerate(task.goals):
        things.append({"kind": "goal", "number": number, "x": x + 0.5, "y": rows - y - 0.5})
    for number, shelf in enumerate(task.shelfs):
        own = {"kind": "shelf", "number": number, "level": int(id(shelf) in wanted)}
        things.append(own | {"x": shelf.x + 0.5, "y": rows - shelf.y - 0.5})
    turns = {"UP": 1, "RIGHT": 2, "DOWN": 3, "LEFT": 4}
    for number, agent in enumerate(task.agents):
        own = {"kind": "agent", "number": number, "turn": turns.get(agent.dir.name, 0)}
        things.append(own | {"x": agent.x + 0.5, "y": rows - agent.y - 0.5})
    sight = getattr(task, "sensor_range", None)
    return {"box": [0, 0, columns, rows], "grid": True, "things": things} | (
        {} if sight is None else {"sight": sight}
    )


def recorded(shots: list[dict]) -> dict:
    """The shots of an episode: what never changes, and arrays [T + 1, n_things] of what does."""
    fixed = {}
    for shot in shots:
        for thing in shot["things"]:
            key = (thing["kind"], thing["number"])
            fixed.setdefault(key, {name: thing[name] for name in KEYS if name in thing})
    order = list(fixed)
    moving = {name: np.zeros((len(shots), len(order)), np.float32) for name in MOVING}
    there = np.zeros((len(shots), len(order)), np.uint8)
    for t, shot in enumerate(shots):
        for thing in shot["things"]:
            place = order.index((thing["kind"], thing["number"]))
            there[t, place] = 1
            for name in MOVING:
                moving[name][t, place] = thing.get(name, 0)
    box = shots[0]["box"] or around(moving, there, fixed.values())
    field = {"box": box, "grid": shots[0]["grid"], "sight": shots[0].get("sight")}
    return {"field": field, "things": list(fixed.values()), "moving": moving | {"there": there}}


def around(moving: dict, there: np.ndarray, things) -> list[float]:
    """A box around all places, with room for the largest thing."""
    room = 1.6 * max((thing.get("radius", 0) for thing in things), default=0) or 0.1
    x, y = (moving[name][there > 0] for name in ("x", "y"))
    left, bottom = (min(-1.0, float(part.min())) - room for part in (x, y))  # starts are in -1..1
    right, top = (max(1.0, float(part.max())) + room for part in (x, y))
    return [left, bottom, right - left, top - bottom]
