"""The environments there are, with their sizes."""

from collections.abc import Iterator

from cleanmarl.env import make_env

HEADER = ("agents", "actions", "obs", "state", "limit", "task")


def sizes(task: str, env) -> tuple[str, ...]:
    numbers = (env.n_agents, env.n_actions, env.obs_size, env.state_size, env.time_limit or "")
    return *map(str, numbers), task


def battles() -> Iterator[tuple]:
    """SMAClite's maps and random battles; their sizes need no compiled code."""
    from cleanmarl.battle import map_names, random_names
    from cleanmarl.battle.scenario import load_map
    from cleanmarl.battle.world import build

    for name in (*map_names(), *random_names()):
        scenario = load_map(name)
        limit = scenario.episode_limit
        world, _ = build(scenario, walls="upstream", time_limit=limit, agent_ids=True, clock=True)
        rules = world.rules[0]
        fields = ("n_allies", "n_actions", "obs_size", "state_size")
        yield *(str(int(rules[field])) for field in fields), str(limit), name


def foraging() -> Iterator[tuple]:
    from cleanmarl.env.lbf import EXAMPLES, PATTERN

    for name in EXAMPLES:
        env = make_env("lbf", name)
        yield sizes(f"lbf:{name}", env)
        env.close()
    yield "", "", "", "", "", f"lbf:NAME with any name like {PATTERN}"


def pettingzoo() -> Iterator[tuple]:
    """PettingZoo's environments that are installed and have discrete actions."""
    from cleanmarl.env.pz import FAMILIES, modules_of

    for family, package in FAMILIES.items():
        try:
            names = modules_of(package)
        except ImportError:
            continue
        for name in names:
            try:
                env = make_env("pz", name, family)
            except (ImportError, ValueError):
                continue
            yield sizes(f"pz:{name}" if family == "mpe" else f"pz:{family}:{name}", env)
            env.close()


def others() -> Iterator[tuple]:
    blank = ("", "", "", "", "")
    yield *blank, "mine.toml: your own scenario file of a battle"
    yield *blank, "pz:PACKAGE:MODULE: your own environment with PettingZoo's interface"
    yield *blank, "gym:MODULE:ID: Gymnasium's, for example gym:rware:rware-tiny-2ag-v2"


def table() -> Iterator[str]:
    """Lines with the sizes of each environment, as `python -m cleanmarl.env check` calls it."""
    widths = (6, 7, 5, 6, 6)
    for row in (HEADER, *battles(), *foraging(), *pettingzoo(), *others()):
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]])
