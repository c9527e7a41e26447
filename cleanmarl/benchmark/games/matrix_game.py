"""A game with one payoff table, repeated: `--env-options payoffs=[[11,-30,0],[-30,7,6],[0,0,5]]`.

The table has one axis for each agent, so it may have any number of agents and of actions.
"""

import math
from collections.abc import Sequence

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

STEPS = 25  # as in the benchmark of Papoudakis et al. (2021)


class MatrixGame(ParallelEnv):
    """At each step, the team earns the payoff of its joint action. All see the same, always.

    `payoffs` has the shape [actions of agent 1, actions of agent 2, ...].
    """

    def __init__(self, payoffs: Sequence, max_cycles: int = STEPS):
        self.metadata = {"name": "matrix_game"}
        self.payoffs = payoff_table(payoffs)
        self.max_cycles = max_cycles
        self.possible_agents = [f"agent_{number + 1}" for number in range(self.payoffs.ndim)]

    @property
    def optimum(self) -> float:
        """The highest return of an episode."""
        return float(self.payoffs.max()) * self.max_cycles

    def exact_values(self, gamma: float, steps_left: float = math.inf) -> dict[str, np.ndarray]:
        """The values of the joint actions if the best one follows, with the shape of `payoffs`.

        `steps_left` counts the present step. It is infinite for a learner that bootstraps at the
        time limit and does not see the time.
        """
        later = gamma * (1 - gamma ** (steps_left - 1)) / (1 - gamma)
        return {"the only state": self.payoffs + later * self.payoffs.max()}

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (1,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(self.payoffs.shape[self.possible_agents.index(agent)])

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents = list(self.possible_agents)
        self.num_steps = 0
        return self.everyone(np.ones(1, np.float32)), self.everyone({})

    def step(self, actions: dict):
        joint = tuple(actions[agent] for agent in self.possible_agents)
        # The team's reward is the sum over its agents
        share = float(self.payoffs[joint]) / len(joint)
        self.num_steps += 1
        truncated = self.num_steps >= self.max_cycles
        if truncated:
            self.agents = []
        observations, rewards = self.everyone(np.ones(1, np.float32)), self.everyone(share)
        ends = (self.everyone(False), self.everyone(truncated))
        return observations, rewards, *ends, self.everyone({})

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def payoff_table(payoffs: Sequence) -> np.ndarray:
    """Payoffs as an array with one axis for each agent. Raises ValueError."""
    wanted = "payoffs must be tables of numbers with rows of equal length, as [[6,7],[7,14]]"
    try:
        table = np.array(payoffs, np.float64)
    except (TypeError, ValueError):  # rows of unequal length, or no numbers
        raise ValueError(f"{wanted}, got {payoffs}") from None
    if table.size == 0 or not np.isfinite(table).all() or table.ndim == 0:
        raise ValueError(f"{wanted}, got {payoffs}")
    return table


def parallel_env(payoffs: Sequence = ((6, 7), (7, 14)), max_cycles: int = STEPS) -> MatrixGame:
    return MatrixGame(payoffs, max_cycles)
