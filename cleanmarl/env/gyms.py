"""Multi-agent environments of Gymnasium: RWARE and others that EPyMARL supports."""

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import MultiDiscrete, Tuple

from cleanmarl.env.names import find, module_here
from cleanmarl.env.padded import PaddedTeam


class GymnasiumTeam(PaddedTeam):
    """`gymnasium.make(env_name, **options)`; `time_limit` is its `max_episode_steps`.

    - `observation_space`: a Tuple with a space for each agent
    - `action_space`: a Tuple with a Discrete for each agent, or a MultiDiscrete
    - rewards: a list with one number for each agent, or one number for the team
    - `terminated` and `truncated`: a bool, or a list with a bool for each agent. An episode is
      over when it is over for all agents: terminated if all are terminated, else truncated
    - `info["action_mask"]`, optional: a mask for each agent
    - `info["is_success"]`, optional: a bool, or one for each agent; then all must succeed
    """

    def __init__(self, env_name: str, options: dict, *, time_limit: int | None, **team):
        if team["render_mode"]:
            options = options | {"render_mode": team["render_mode"]}
        spec = registered(env_name)
        limit = {"max_episode_steps": time_limit, "disable_env_checker": True}
        try:
            env = gymnasium.make(spec, **limit, **options)
        except gymnasium.error.Error as error:  # for example, a package is missing
            raise ValueError(f"cannot open {env_name}: {error}") from error
        views = env.observation_space
        choices = env.action_space
        several = isinstance(views, Tuple) and isinstance(choices, Tuple | MultiDiscrete)
        if not several or len(views) != len(choices):
            wanted = "a Tuple of observations and a Tuple of actions, one for each agent"
            raise ValueError(f"QMIX needs {wanted}; {env_name} has {views} and {choices}")
        self._joint = type(choices)
        names = [f"agent {i}" for i in range(len(choices))]
        views = dict(zip(names, views, strict=True))
        choices = dict(zip(names, choices, strict=True))
        super().__init__(
            env, views, choices, time_limit=time_limit or spec.max_episode_steps, **team
        )

    def start(self, seed: int) -> dict[str, np.ndarray]:
        self._masked.clear()
        return self.see(*self._env.reset(seed=seed))

    def advance(self, actions: list[int]) -> tuple:
        spaces = self._choices.values()
        taken = [int(space.start) + a for space, a in zip(spaces, actions, strict=True)]
        taken = tuple(taken) if self._joint is Tuple else np.array(taken)
        seen, rewards, terminations, truncations, info = self._env.step(taken)
        terminated = bool(np.all(terminations))
        over = bool(np.all(np.logical_or(terminations, truncations)))
        success = {}
        if "is_success" in info:
            success["is_success"] = bool(np.all(info["is_success"]))
        observation = self.see(seen, info, terminated)
        return observation, rewards, terminated, over, success

    def see(self, seen: tuple, info: dict, terminated: bool = False) -> dict[str, np.ndarray]:
        masks = info.get("action_mask", [None] * self.n_agents)
        if len(masks) != self.n_agents:
            raise ValueError(f"action_mask has {len(masks)} masks for {self.n_agents} agents")
        seen = dict(zip(self._views, seen, strict=True))
        masks = dict(zip(self._views, masks, strict=True))
        return self.observe_agents(seen, None if terminated else masks)


def registered(env_name: str) -> EnvSpec:
    """The specification registered as "id"; for "module:id", import the module first.

    Raises ValueError if there is no such module or id.
    """
    module, _, name = env_name.rpartition(":")
    if module and module_here(module) is None:
        missing = f"there is no module {module!r}, neither installed nor in the working directory"
        raise ValueError(f"cannot open {env_name}: {missing}")
    hint = "write MODULE:ID, for example rware:rware-tiny-2ag-v2, where MODULE registers ID"
    return find("Gymnasium environment", name, gymnasium.registry, hint)
