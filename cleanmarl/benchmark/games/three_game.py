"""The rooms game with three players, of whom the first chooses the room; without masks."""

from cleanmarl.benchmark.games.rooms_game import RoomsGame

SAFE = [[[7, 7], [7, 7]], [[7, 7], [7, 7]]]
TOGETHER = [[[0, 1], [1, 4]], [[1, 4], [4, 20]]]


def parallel_env() -> RoomsGame:
    return RoomsGame([SAFE, TOGETHER], chooser=False, wait=False, masks=False, gaps=0)
