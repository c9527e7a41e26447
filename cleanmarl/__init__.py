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


def interrupt(number: int, frame):
    """Like Python's own handler of Ctrl-C, but during an import end the process at once.

    Libraries in C++ abort if Python raises an error while they load. A notebook goes on as ever.
    """
    while frame and not hasattr(sys, "ps1"):  # Python sets ps1 where a user types commands
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        frame = frame.f_back
    raise KeyboardInterrupt


def show_error(kind: type[BaseException], error: BaseException, trace):
    """Like Python's own `sys.excepthook`, but Ctrl-C shows no traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = show_error
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    with suppress(ValueError):  # raised in a thread, which cannot set a handler
        signal.signal(signal.SIGINT, interrupt)
