"""A game that no monotonic mixer can represent, with payoffs 5, 20 / 20, 5, for QMIX and VDN:

    python docs/monotonic_game.py > table.md

prints, for some seeds, what each of them learned of Q_tot and what the greedy team then does: after
5000 episodes of random agents, and after 2000 with epsilon falling from 1 to 0.1.
"""

from two_step_game import q_tot, train  # of this folder

from cleanmarl.fast import in_numpy
from tests.games.nonmonotonic_game import PAYOFFS

RANDOM = {"total_timesteps": 5000, "learning_rate": 0.005}
FALLING = RANDOM | {"total_timesteps": 2000, "end_e": 0.1, "exploration_fraction": 0.5}
SEEDS = (1, 2, 3)


def learn(mixer: str, **options) -> tuple[float, list[int], list[list[float]]]:
    """Learn the game: (return of the greedy team, its actions, Q_tot of the joint actions)."""
    greedy_return, networks, env = train("nonmonotonic_game", mixer, **options)
    observation, _ = env.reset()
    actions = in_numpy(networks.agent)(observation["obs"]).argmax(-1).tolist()
    return greedy_return, actions, q_tot(networks, observation)


def print_row(table: list[list[float]], *cells):
    """A row with the values of the joint actions after the first three cells."""
    values = " / ".join(", ".join(f"{q:z.1f}" for q in row) for row in table)
    print("|", " | ".join(map(str, [*cells[:3], values, *cells[3:]])), "|")


if __name__ == "__main__":
    print("| | epsilon | seed | joint actions 00, 01 / 10, 11 | greedy | its payoff |")
    print("|" + " --- |" * 6)
    print_row(PAYOFFS, "payoffs", "", "", "", "")
    for mixer in ("qmix", "vdn"):
        for epsilon, options in (("1", RANDOM), ("1 to 0.1", FALLING)):
            for seed in SEEDS:
                greedy_return, actions, table = learn(mixer, seed=seed, **options)
                chosen = "".join(map(str, actions))
                print_row(table, mixer.upper(), epsilon, seed, chosen, f"{greedy_return:.0f}")
