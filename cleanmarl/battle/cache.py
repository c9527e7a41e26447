"""Compiled code on disk, by Numba's cache, which must not keep a program from starting.

Numba itself stops where it cannot write its files, where the disk is full, and where a file is
damaged. Here the code is compiled again instead, and one line says why.
"""

import hashlib
import pickle
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.serialize import dumps

ADVICE = "set NUMBA_CACHE_DIR to a folder that can"


class Sealed(CompileResultCacheImpl):
    """Machine code with its digest, since damaged code would end the process."""

    def reduce(self, cres) -> tuple[bytes, bytes]:
        code = dumps(super().reduce(cres))
        return hashlib.sha256(code).digest(), code

    def rebuild(self, target_context, kept: tuple[bytes, bytes]):
        digest, code = kept
        if hashlib.sha256(code).digest() != digest:
            raise ValueError("the machine code is damaged")
        return super().rebuild(target_context, pickle.loads(code))


class DiskCache(FunctionCache):
    """Numba's cache of a function, under the digest of all sources that the function is made of.

    Attributes:
        damage: what is wrong with the files that were there, if anything
        hindrance: why the code cannot be kept, if it cannot
    """

    _impl_class = Sealed
    damage = ""
    hindrance = ""

    def __init__(self, py_func, sources: str):
        super().__init__(py_func)
        self.sources = sources

    def _index_key(self, sig, codegen) -> tuple:
        return (*super()._index_key(sig, codegen), self.sources)

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except OSError as error:
            self.damage = f"{self.cache_path} cannot be read ({error.strerror})"
        except (AttributeError, ImportError):  # of another version: a class is not there
            self.forget()
        except Exception:  # a damaged pickle raises anything
            self.damage = f"its files in {self.cache_path} are damaged"
            self.forget()

    def forget(self):
        with suppress(OSError):
            self.flush()

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            self.hindrance = f"{self.cache_path} cannot keep it ({error.strerror})"


class NoCache(NullCache):
    """Where there is no folder for the files."""

    damage = ""

    def __init__(self, py_func):
        package = Path(py_func.__code__.co_filename).parent
        self.hindrance = f"neither {package} nor the user's cache folder can be written"


def keep(function, sources: str):
    """Let Numba keep the machine code of a compiled function on disk, if there is a place.

    It is taken from there as long as `sources` is the same.
    """
    try:
        function._cache = DiskCache(function.py_func, sources)
    except (RuntimeError, OSError):
        function._cache = NoCache(function.py_func)


@contextmanager
def announced(what: str, functions):
    """Say on standard error if any of these functions is compiled, why, and how long it took."""
    announcer = Announcer(what, [function._cache for function in functions])
    with event.install_listener("numba:compile", announcer):
        yield
    announcer.end()


class Announcer(event.Listener):
    """Says something as soon as the first function is compiled, and when all are."""

    def __init__(self, what: str, caches: list[DiskCache | NoCache]):
        self.what = what
        self.caches = caches
        self.began = None

    def reason(self, kind: str) -> str:
        """The first `damage` or `hindrance` of a cache, if there is any."""
        return next(filter(None, (getattr(cache, kind) for cache in self.caches)), "")

    def on_start(self, happened):
        if self.began is not None:
            return
        self.began = time.perf_counter()
        self.hindrance = self.reason("hindrance")
        damage = self.reason("damage")
        note = "once on this machine, 10 to 60 s"
        if damage:
            note = f"once more, 10 to 60 s: {damage}"
        if self.hindrance:
            note = f"in each program, 10 to 60 s: {self.hindrance}; {ADVICE}"
        say(f"compiling {self.what} ({note}) ...")

    def on_end(self, happened):
        pass

    def end(self):
        if self.began is None:
            return
        done = f"compiled {self.what} in {time.perf_counter() - self.began:.0f} s"
        hindrance = self.reason("hindrance")
        if hindrance != self.hindrance:
            done += f". Each program will: {hindrance}; {ADVICE}"
        say(done)


def say(text: str):
    print(text, file=sys.stderr, flush=True)
