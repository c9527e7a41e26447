"""Keep compiled code on disk in Numba's cache, which must not stop a program from starting.

Numba itself raises an error if it cannot write its files, if the disk is full, or if a file is
damaged. Here the code is compiled again instead, and one line says why.
"""

import hashlib
import os
import pickle
import stat
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache
from numba.core.serialize import dumps

ADVICE = "set NUMBA_CACHE_DIR to a writable folder"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Sealed(CompileResultCacheImpl):
    """Machine code with its digest, because damaged code would crash the process."""

    def reduce(self, cres) -> tuple[bytes, bytes]:
        code = dumps(super().reduce(cres))
        return hashlib.sha256(code).digest(), code

    def rebuild(self, target_context, kept: tuple[bytes, bytes]):
        digest, code = kept
        if hashlib.sha256(code).digest() != digest:
            raise ValueError("the machine code is damaged")
        return super().rebuild(target_context, pickle.loads(code))


class DiskCache(FunctionCache):
    """Numba's cache of a function; its key includes the digest of all sources of the function.

    Attributes:
        damage: what is wrong with the existing files, if anything
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
        except (AttributeError, ImportError):  # written by another version: a class is missing
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
    """Used if there is no folder for the files, or none that is safe."""

    damage = ""

    def __init__(self, hindrance: str):
        self.hindrance = hindrance


def keep(function, sources: str):
    """Let Numba keep the machine code of a compiled function on disk, if it can.

    Numba reads it from there as long as `sources` is the same.
    """
    try:
        cache = DiskCache(function.py_func, sources)
        is_open = is_open_to_others(Path(cache.cache_path))
    except (RuntimeError, OSError):
        package = Path(function.py_func.__code__.co_filename).parent
        cache = NoCache(f"neither {package} nor the user's cache folder can be written")
    else:
        if is_open:
            cache = NoCache(f"others can write in {cache.cache_path} (chmod go-w)")
    function._cache = cache


def is_open_to_others(folder: Path) -> bool:
    """Whether others can put files into a folder: to load machine code from a file runs it.

    A group with the user's own number has no other member on usual Linux systems. Raises OSError.
    """
    if not hasattr(os, "getuid"):  # Windows
        return False
    about, user = folder.stat(), os.getuid()
    if about.st_uid not in (user, 0):
        return True
    own_group = about.st_gid == os.getgid() == user
    return bool(about.st_mode & (stat.S_IWOTH if own_group else OTHERS_WRITE))


@contextmanager
def announced(what: str, functions):
    """Print to standard error if any of these functions is compiled, why, and how long it took."""
    announcer = Announcer(what, [function._cache for function in functions])
    with event.install_listener("numba:compile", announcer):
        yield
    announcer.end()


class Announcer(event.Listener):
    """Print a line when the first function begins to compile, and one when all are compiled."""

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
            done += f". Every program will compile it again: {hindrance}; {ADVICE}"
        say(done)


def say(text: str):
    print(text, file=sys.stderr, flush=True)
