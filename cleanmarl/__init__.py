"""QMIX in four single-file scripts, their environments, and SMAClite's battles, compiled.

Import `cleanmarl` before NumPy and PyTorch: it sets variables that they read when they load.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small here
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # idle threads of PyTorch soon stop spinning


def load_team(run, which="best", script=None, trust=False):
    """Load the trained team of a run; see `cleanmarl.team.load_team`."""
    from cleanmarl.team import load_team as load  # only here: it loads PyTorch

    return load(run, which, script, trust)
