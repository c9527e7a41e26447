"""Errors in one line, and warnings."""

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from cleanmarl.errors import EnvFault, Refused, RunFailed
from cleanmarl.training.stopping import Stopped


def warn(text: str):
    """Print a warning of one line, above the progress bar."""
    with tqdm.external_write_mode(file=sys.stderr):
        say(f"warning: {text}", sys.stderr)


@contextmanager
def reader_may_leave(file):
    """If the reader of a file has gone, as after `| head -1`, leave this block; print no more."""
    try:
        yield
        file.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


def say(text: str, file=None):
    """Print a line, if there is still a reader."""
    file = file or sys.stdout
    with reader_may_leave(file):
        print(text, file=file)


def tell_of_curves():
    """From now on, tell an error of TensorBoard's thread in one line, not with a traceback."""
    others = threading.excepthook

    def tell(failed):
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            return others(failed)
        warn(f"the curves cannot be written: {in_one_line(failed.exc_value)}")

    if others.__module__ != __name__:  # not yet
        threading.excepthook = tell


def in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def is_users(error: BaseException) -> bool:
    """Whether an error comes from the user's own environment: then a note says where."""
    return bool(getattr(error, "__notes__", ()))


@contextmanager
def refuse_on_error():
    """While a run is set up, turn errors into `Refused`, except those of the user's own code."""
    try:
        yield
    except (ValueError, ImportError, OSError, OverflowError, RuntimeError, AssertionError) as error:
        if is_users(error):
            raise
        raise Refused(in_one_line(error)[:500]) from error
    except MemoryError as error:
        raise Refused(f"not enough memory for these arguments: {error}") from error


@contextmanager
def warn_on_error(what: str, kind: type[Exception] = Exception):
    """Turn an error into a warning: for what a run can do without, for example a video."""
    try:
        yield
    except Stopped:
        raise
    except kind as error:
        warn(f"{what}: {in_one_line(error)}")


@contextmanager
def closing(*envs):
    """Close environments at the end of this block; if one cannot be closed, a warning says so."""
    try:
        yield
    finally:
        for env in envs:
            with warn_on_error("an environment cannot be closed"):
                env.close()


@contextmanager
def one_line_errors(script: str):
    """For `main`: print an error as one line, and exit with status 2 (refused) or 1 (failed).

    An error of the user's own code keeps its traceback, below a line that says where it came from.

    Ctrl-C ends the script at once; inside a `Run`, the run handles it. Processes that an
    environment has left are ended, too: Python would wait for them.
    """
    with suppress(ValueError):  # only the main thread can set handlers
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    own = multiprocessing.active_children()
    try:
        yield
    except KeyboardInterrupt:  # Ctrl-C while the processes of environments started
        sys.exit(128 + signal.SIGINT)
    except (Refused, RunFailed, FloatingPointError, EnvFault) as error:
        say(f"{Path(script).name}: error: {in_one_line(error)}", sys.stderr)
        sys.exit(2 if isinstance(error, Refused | EnvFault) else 1)
    except Exception as error:
        for note in getattr(error, "__notes__", ()):
            print(f"{Path(script).name}: error: {note}:", file=sys.stderr)
        error.__notes__ = []
        raise
    finally:
        for process in multiprocessing.active_children():
            if process not in own:
                process.terminate()
