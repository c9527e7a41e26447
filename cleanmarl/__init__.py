"""QMIX in four single-file scripts, their environments, and SMAClite's battles, compiled.

Import `cleanmarl` before NumPy and PyTorch: it sets variables that they read when they load.
It also ends a script without a traceback if Ctrl-C is pressed during the imports.
"""

import os
import signal
import sys
from contextlib import suppress

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # NumPy's matrices are small here
os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # idle threads of PyTorch soon stop spinning

interrupted: list[int] = []
"""signals received; Python drops the KeyboardInterrupt of some of them"""


def interrupt(number: int, frame):
    """Like Python's own handler of Ctrl-C, but remember the signal."""
    interrupted.append(number)
    raise KeyboardInterrupt


def show_error(kind: type[BaseException], error: BaseException, trace):
    """Like Python's own `sys.excepthook`, but Ctrl-C shows no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    elif interrupted and issubclass(kind, ImportError):  # NumPy's import turns Ctrl-C into this
        print("stopped", file=sys.stderr)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    else:
        sys.__excepthook__(kind, error, trace)


def show_unraisable(error):
    """Like Python's own `sys.unraisablehook` (for errors in destructors), but not for Ctrl-C."""
    if not issubclass(error.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(error)


sys.excepthook = show_error
sys.unraisablehook = show_unraisable
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    with suppress(ValueError):  # raised in a thread, which cannot set a handler
        signal.signal(signal.SIGINT, interrupt)
