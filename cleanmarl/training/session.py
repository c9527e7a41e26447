"""How a run was made: command, commit, versions, machine, time."""

import os
import platform
import re
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


def made_with() -> dict[str, str]:
    """Command, commit, versions and machine of a run."""
    words, commit = ["git", "describe", "--always", "--dirty", "--exclude=*"], ""
    with suppress(OSError):
        here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
        commit = subprocess.run(words, **here).stdout.strip()
    machine = platform.processor()
    with suppress(OSError, IndexError):  # the processor's name on Linux
        machine = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    module = getattr(sys.modules["__main__"], "__spec__", None)  # set by python -m
    program = ["-m", module.name] if module else sys.argv[:1]
    versions = [f"{name} {version(name)}" for name in ("torch", "numpy", "numba", "gymnasium")]
    return {
        "command": shlex.join(["python", *program, *sys.argv[1:]]),
        "commit": commit,
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "machine": f"{machine}, {os.cpu_count()} cores, {platform.platform(terse=True)}",
    }
