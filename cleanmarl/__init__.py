"""QMIX in four single-file scripts, their environments, and SMAClite's battles, compiled.

What stands here must happen before NumPy and PyTorch are imported: import `cleanmarl` first.
It also lets Ctrl-C during the imports end a script without a traceback.
"""

import os
import signal
import sys
from contextlib import suppress

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small here
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # idle threads of PyTorch soon make room

interrupted: list[int] = []
"""signals that have come; Python drops the KeyboardInterrupt of some of them"""


def interrupt(number: int, frame):
    """Python's own handler of Ctrl-C; but it is remembered."""
    interrupted.append(number)
    raise KeyboardInterrupt


def show_error(kind: type[BaseException], error: BaseException, trace):
    """Python's own `sys.excepthook`; but Ctrl-C shows no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    elif interrupted and issubclass(kind, ImportError):  # which NumPy's import makes of it
        print("stopped", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__excepthook__(kind, error, trace)


def show_unraisable(error):
    """Python's own `sys.unraisablehook`, which reports what a destructor cannot raise."""
    if not issubclass(error.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(error)


sys.excepthook = show_error
sys.unraisablehook = show_unraisable
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    with suppress(ValueError):  # of a thread, which cannot set it
        signal.signal(signal.SIGINT, interrupt)
