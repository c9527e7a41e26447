"""Small games of the benchmark: `--env-type pz --env-family cleanmarl.benchmark.games`.

`climbing_game`, `penalty_game` and `matrix_game` repeat one payoff table; in `two_step_game` and
`rooms_game`, one agent chooses the payoff table. Each of these knows its highest return (`optimum`)
and the values that a team should learn (`exact_values`).
"""
