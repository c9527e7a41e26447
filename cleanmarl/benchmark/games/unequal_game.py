"""The rooms game with more actions: the good room has two actions for one player, three for the
other.
"""

from cleanmarl.benchmark.games.rooms_game import RoomsGame

ROOMS = [[[5, 5, 5], [5, 5, 5]], [[1, 2, 4], [2, 5, 12]]]


def parallel_env() -> RoomsGame:
    return RoomsGame(ROOMS)
