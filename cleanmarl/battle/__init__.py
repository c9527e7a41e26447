"""SMAClite's battles as a compiled engine.

Use `BattleEnv`, `BattleVectorEnv` or, for example, `gymnasium.make("cleanmarl/3m-v0")`.
The first use loads the engine and Numba.
"""

import gymnasium

from cleanmarl.battle.scenario import ScenarioError, map_names, random_names

__all__ = ["BattleEnv", "BattleVectorEnv", "ScenarioError", "map_names", "random_names"]


def __getattr__(name: str) -> type:
    if name == "BattleEnv":
        from cleanmarl.battle.env import BattleEnv

        return BattleEnv
    if name == "BattleVectorEnv":
        from cleanmarl.battle.vector_env import BattleVectorEnv

        return BattleVectorEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


for _name in map_names() + random_names():
    gymnasium.register(
        id=f"cleanmarl/{_name}-v0",
        entry_point="cleanmarl.battle:BattleEnv",
        vector_entry_point="cleanmarl.battle:BattleVectorEnv",
        kwargs={"map_name": _name},
    )
