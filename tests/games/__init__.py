"""Environments of the tests' own, reached as a user's would be: `--env-type pz --env-family tests.games`."""
