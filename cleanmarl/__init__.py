"""QMIX in four single-file scripts, their environments, and a compiled engine for SMAClite's battles.

What stands here must happen before NumPy and PyTorch are imported: import `cleanmarl` first.
"""

import os
import sys

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small here
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # idle threads of PyTorch soon make room for others


def show_error(kind: type[BaseException], error: BaseException, traceback):
    """Python's own `sys.excepthook`, but Ctrl-C during the imports or the start shows no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = show_error
