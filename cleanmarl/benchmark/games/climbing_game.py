"""The climbing game of Claus and Boutilier (1998).

Two agents, three actions each, 25 steps: at best 11 a step, 275 an episode. While the other agent
still explores, the actions of the best pair earn the least on average, because one of them beside
the middle action costs 30.
"""

from cleanmarl.benchmark.games.matrix_game import STEPS, MatrixGame

PAYOFFS = [[11, -30, 0], [-30, 7, 0], [0, 6, 5]]


def parallel_env(max_cycles: int = STEPS) -> MatrixGame:
    return MatrixGame(PAYOFFS, max_cycles)
