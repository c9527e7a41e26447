"""The penalty game of Claus and Boutilier (1998): `--env-options k=-25`.

Two agents, three actions each, 25 steps: at best 10 a step, 250 an episode. There are two best
joint actions; agents that do not choose the same one of them pay the penalty k. The middle actions
together earn 2, and nothing can go wrong.
"""

from cleanmarl.benchmark.games.matrix_game import STEPS, MatrixGame


def parallel_env(k: float = -100, max_cycles: int = STEPS) -> MatrixGame:
    if k > 0:
        raise ValueError(f"k is the penalty, at most 0, for example k=-25; got {k}")
    return MatrixGame([[k, 0, 10], [0, 2, 0], [10, 0, k]], max_cycles)
