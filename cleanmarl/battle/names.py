"""Names of actions and observation entries, for people who look at a battle."""

from cleanmarl.battle.scenario import Scenario

MOVES = ("north", "south", "east", "west")


def action_names(scenario: Scenario, heals: bool, n_actions: int) -> list[str]:
    """The actions of an agent, in order; a healer's targets are allies (section 6)."""
    names = ["no-op", "stop", *MOVES]
    side = "ally" if heals else "enemy"
    deed = "heal" if heals else "attack"
    targets = [f"{deed} {side} {number}" for number in range(scenario.count(side))]
    names = [*names, *targets][:n_actions]
    return names + ["no target"] * (n_actions - len(names))


def observation_names(scenario: Scenario, agent: int) -> list[str]:
    """The entries of an agent's observation, in the order of `observe.observe_agent` (13.1).

    Units are numbered from 0 within their side, as in the arrays. Distances are divided by the
    sight range, health and shields by their maxima, an agent's position by the map's size.
    """
    types = [f"is {kind.lower().replace('_', ' ')}" for kind in scenario.unit_types]
    names = [f"moves: can go {direction}" for direction in MOVES]
    for side, flag in (("enemy", "in reach"), ("ally", "in sight")):
        shield = ["shield"] if scenario.has_shields(side) else []
        entries = [flag, "distance", "to the east", "to the north", "health", *shield, *types]
        for number in range(scenario.count(side)):
            if (side, number) != ("ally", agent):
                names += [f"{side} {number}: {entry}" for entry in entries]
    own = ["health", *(["shield"] if scenario.has_shields("ally") else []), *types]
    if scenario.is_random:
        own += ["place from the west", "place from the south"]
    names += [f"itself: {entry}" for entry in own]
    return names
