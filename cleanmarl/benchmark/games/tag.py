"""MPE's simple_tag for the predators alone: the prey follows a fixed rule.

Three predators earn 10 each at every step, for each predator that touches the prey, so the team
earns 30. The prey is faster. It looks three steps ahead and takes the move that leaves it
furthest from its nearest predator, without leaving the field; now and then it errs. EPyMARL's prey
is a trained network instead, so figures are not the same.
"""

import numpy as np
from mpe2 import simple_tag_v3
from pettingzoo import AECEnv, ParallelEnv

STEPS = 25
FIELD = 0.9
"""half the width of the field, outside of which MPE punishes the prey"""
AHEAD = 3
"""steps that the prey looks ahead"""
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])


class Predators(ParallelEnv):
    """The predators of one of MPE's environments; their prey flees.

    `errs` is the probability that a prey's move is random.
    """

    def __init__(self, mpe: AECEnv, errs: float):
        if not 0 <= errs <= 1:
            raise ValueError(f"errs is a probability, from 0 to 1, got {errs}")
        self.mpe = mpe
        self.metadata = mpe.metadata
        self.render_mode = mpe.render_mode
        self.max_cycles = mpe.max_cycles
        self.errs = errs
        self.predators = [agent for agent in mpe.world.agents if agent.adversary]
        self.prey = [agent for agent in mpe.world.agents if not agent.adversary]
        self.possible_agents = [agent.name for agent in self.predators]

    def observation_space(self, agent: str):
        return self.mpe.observation_space(agent)

    def action_space(self, agent: str):
        return self.mpe.action_space(agent)

    def reset(self, seed: int | None = None, options: dict | None = None):
        if seed is not None or not hasattr(self, "rng"):
            # MPE draws the positions from `seed` itself
            self.rng = np.random.default_rng(None if seed is None else (seed, 1))
        self.mpe.reset(seed=seed)
        self.agents = list(self.possible_agents)
        return self.observations(), {agent: {} for agent in self.agents}

    def step(self, actions: dict):
        joint = actions | {prey.name: self.flee(prey) for prey in self.prey}
        for agent in self.mpe.agents:  # the world moves when the last one has acted
            self.mpe.step(joint[agent])
        ours = self.possible_agents
        observations = self.observations()
        rewards = {agent: self.mpe.rewards[agent] for agent in ours}
        terminations = {agent: self.mpe.terminations[agent] for agent in ours}
        truncations = {agent: self.mpe.truncations[agent] for agent in ours}
        if all(truncations.values()):
            self.agents = []
        return observations, rewards, terminations, truncations, {agent: {} for agent in ours}

    def observations(self) -> dict[str, np.ndarray]:
        return {agent: self.mpe.observe(agent) for agent in self.possible_agents}

    def flee(self, prey) -> int:
        """The next action of a prey."""
        if self.rng.random() < self.errs:
            return int(self.rng.integers(len(MOVES)))
        world = self.mpe.world
        # Where each move leads, if the prey repeats it
        place = np.tile(prey.state.p_pos, (len(MOVES), 1))  # [moves, 2]
        velocity = np.tile(prey.state.p_vel, (len(MOVES), 1))  # [moves, 2]
        for _ in range(AHEAD):
            place = place + velocity * world.dt
            velocity = velocity * (1 - world.damping) + MOVES * prey.accel * world.dt
            speed = np.hypot(*velocity.T)[:, None]  # [moves, 1]
            velocity = velocity * np.minimum(1, prey.max_speed / np.maximum(speed, 1e-9))
        predators = np.array([predator.state.p_pos for predator in self.predators])
        gaps = np.linalg.norm(place[:, None] - predators, axis=-1).min(-1)  # [moves]
        outside = np.maximum(np.abs(place) - FIELD, 0).sum(-1)  # [moves]
        return int(np.argmax(gaps - 10 * outside))

    def render(self):
        return self.mpe.render()

    def close(self):
        self.mpe.close()


def check_counts(**counts: int):
    """Raise ValueError if there is nobody on one of the sides."""
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def parallel_env(
    num_good: int = 1,
    num_adversaries: int = 3,
    num_obstacles: int = 2,
    errs: float = 0.1,
    max_cycles: int = STEPS,
    render_mode: str | None = None,
) -> Predators:
    check_counts(num_good=num_good, num_adversaries=num_adversaries)
    mpe = simple_tag_v3.raw_env(
        num_good=num_good,
        num_adversaries=num_adversaries,
        num_obstacles=num_obstacles,
        max_cycles=max_cycles,
        render_mode=render_mode,
    )
    return Predators(mpe, errs)
