"""QMIX in four single-file scripts, their environments, and SMAClite's battles, compiled.

What stands here must happen before NumPy and PyTorch are imported: import `cleanmarl` first.
"""

import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small here
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # idle threads of PyTorch soon make room


def show_error(kind: type[BaseException], error: BaseException, trace):
    """Python's own `sys.excepthook`; but Ctrl-C during the start shows no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = show_error
