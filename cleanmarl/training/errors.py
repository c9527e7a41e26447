"""Errors in one line, and warnings."""

import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm


class Refused(ValueError):
    """The user's request cannot be carried out; the message says why in one line."""


class RunFailed(RuntimeError):
    """A run has ended, but its results are not saved; the message says why in one line."""


def warn(text: str):
    """Print a warning of one line, above the progress bar."""
    tqdm.write(f"warning: {text}", file=sys.stderr)


def in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@contextmanager
def refuse_on_error():
    """While a run is set up, turn errors into `Refused`."""
    try:
        yield
    except (ValueError, ImportError, OSError, OverflowError, RuntimeError, AssertionError) as error:
        raise Refused(in_one_line(error)[:500]) from error
    except MemoryError as error:
        raise Refused(f"not enough memory for these arguments: {error}") from error


@contextmanager
def warn_on_error(what: str):
    """Turn any error into a warning: for what a run can do without, for example a video."""
    try:
        yield
    except Exception as error:
        warn(f"{what}: {in_one_line(error)}")


@contextmanager
def one_line_errors(script: str):
    """For `main`: print an error as one line, and exit with status 2 (refused) or 1 (failed).

    Ctrl-C ends the script at once; inside a `Run`, the run handles it.
    """
    with suppress(ValueError):  # only the main thread can set handlers
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    except KeyboardInterrupt:  # Ctrl-C while the processes of environments started
        sys.exit(128 + signal.SIGINT)
    except (Refused, RunFailed, FloatingPointError) as error:
        print(f"{Path(script).name}: error: {in_one_line(error)}", file=sys.stderr)
        sys.exit(2 if isinstance(error, Refused) else 1)
