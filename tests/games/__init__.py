"""Environments for tests, opened like your own: `--env-type pz --env-family tests.games`."""
