"""SMAClite's battles as a compiled engine.

`BattleEnv`, `BattleVectorEnv`, and for example `gymnasium.make("cleanmarl/3m-v0")`.
"""

import gymnasium

from cleanmarl.battle.env import BattleEnv
from cleanmarl.battle.scenario import ScenarioError, map_names
from cleanmarl.battle.vector_env import BattleVectorEnv

__all__ = ["BattleEnv", "BattleVectorEnv", "ScenarioError", "map_names"]

for _name in map_names():
    gymnasium.register(
        id=f"cleanmarl/{_name}-v0",
        entry_point="cleanmarl.battle:BattleEnv",
        vector_entry_point="cleanmarl.battle:BattleVectorEnv",
        kwargs={"map_name": _name},
    )
