"""Ends the program if Gymnasium is too old. Imported before what an old one lacks."""

import sys

import gymnasium

if tuple(map(int, gymnasium.__version__.split(".")[:2])) < (1, 1):
    remedy = "pip install 'gymnasium>=1.1', in an environment of its own if need be"
    print(f"error: gymnasium is too old, {gymnasium.__version__}: {remedy}", file=sys.stderr)
    sys.exit(2)
