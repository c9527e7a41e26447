"""The two-step game of Rashid et al. (2018), section 5, the rooms game in its shortest form.

The first agent's first action chooses between 7 for everything and a table that is no sum. The best
team earns 8; VDN settles for 7.
"""

from cleanmarl.benchmark.games.rooms_game import RoomsGame

ROOMS = [[[7, 7], [7, 7]], [[0, 1], [1, 8]]]


def parallel_env() -> RoomsGame:
    return RoomsGame(ROOMS, chooser=False, wait=False, masks=False, gaps=0, max_cycles=2)
