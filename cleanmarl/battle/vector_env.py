"""Many battles of one scenario as a Gymnasium vector environment, stepped in one compiled call."""

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cleanmarl.battle.battles import Battles
from cleanmarl.battle.spaces import AvailableActions


class BattleVectorEnv(Battles, VectorEnv):
    """`num_envs` battles that step together.

    Observations, actions and rewards are those of `BattleEnv` with a leading dimension `num_envs`.
    With the same seeds, it behaves like Gymnasium's `SyncVectorEnv` of `BattleEnv` in every
    autoreset mode. `infos` has `battle_won` of the battles that ended. With same-step autoreset,
    `battle_won` is in `infos["final_info"]`, and `infos["final_obs"]` is an object array with the
    last observation of each battle that ended.

    Args:
        num_envs: number of battles
        num_threads: threads that share the battles; results do not depend on it
        autoreset_mode: same-step, next-step or disabled, as Gymnasium defines them
        others: as for `BattleEnv`
    """

    def __init__(
        self,
        map_name: str = "3m",
        num_envs: int = 1,
        *,
        num_threads: int = 1,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        **options,
    ):
        for name, value in (("num_envs", num_envs), ("num_threads", num_threads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        super().__init__(num_envs, num_threads, map_name, **options)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = self._spaces()
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = AvailableActions(self._look().avail_actions)
        self._ever_seeded = False

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict | None = None):
        """Start all battles, or those where `options["reset_mask"]` is True.

        Args:
            seed: one per battle; an int means seed, seed + 1, ...; without a seed, the random
                streams continue
        """
        super().reset(seed=seed if isinstance(seed, int | np.integer) else None)
        if seed is None:
            seeds = [None] * self.num_envs
        elif isinstance(seed, int | np.integer):
            seeds = [seed + b for b in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, got {len(seeds)}")
        for given in seeds:
            if given is not None and not (isinstance(given, int | np.integer) and given >= 0):
                raise ValueError(f"expected whole numbers from 0 on as seeds, got {given!r}")
        if not self._ever_seeded:
            drawn = self.np_random.integers(2**63, size=self.num_envs).tolist()
            both = zip(seeds, drawn, strict=True)
            seeds = [new if given is None else given for given, new in both]
        self._ever_seeded = True
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        if np.shape(mask) != (self.num_envs,):
            wanted = f"must have shape ({self.num_envs},), got {np.shape(mask)}"
            raise ValueError(f"options['reset_mask'] {wanted}")
        for b in np.flatnonzero(mask):
            self._restart(b, seeds[b])
        observation = self._observation(self._look())
        self.action_space.at_start = observation["avail_actions"]
        return observation, {}

    def step(self, actions: np.ndarray):
        """One environment step of every battle.

        Raises:
            ValueError: an action is not available
            gymnasium.error.ResetNeeded: a battle is over, and the caller must reset it
        """
        was_over = self.battles["over"].copy()
        if was_over.any() and self.autoreset_mode != AutoresetMode.NEXT_STEP:
            over = np.flatnonzero(was_over).tolist()
            raise gym.error.ResetNeeded(f"battles {over} are over: reset them")
        seen = self._advance(actions)
        for b in np.flatnonzero(was_over):  # next-step autoreset: their action was ignored
            self._restart(b, None)
        if was_over.any():
            seen = self._look()
        rewards = self.battles["reward"].copy()
        terminated = self.battles["terminated"].copy()
        truncated = self.battles["truncated"].copy()
        observation, infos = self._observation(seen), self._infos(seen, terminated | truncated)
        return observation, rewards, terminated, truncated, infos

    def _infos(self, seen: tuple, over: np.ndarray) -> dict:
        """The infos of the battles that have just ended.

        With same-step autoreset, restart these battles.
        """
        infos = {}
        same_step = self.autoreset_mode == AutoresetMode.SAME_STEP
        for b in np.flatnonzero(over):
            info = {"battle_won": bool(self.battles["won"][b])}
            if same_step:
                last = {name: value[b].copy() for name, value in self._observation(seen).items()}
                info = {"final_obs": last, "final_info": info}
                self._restart(b, None)
            infos = self._add_info(infos, info, b)
        if same_step and over.any():
            for new, old in zip(self._look(), seen, strict=True):
                old[over] = new[over]
        return infos

    def _observation(self, seen: tuple) -> dict[str, np.ndarray]:
        obs, state, avail_actions = seen
        self.action_space.available = avail_actions
        return {"obs": obs, "state": state, "avail_actions": avail_actions}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of every battle."""
        if self.render_mode is None:
            return None
        return tuple(self._picture(b) for b in range(self.num_envs))
