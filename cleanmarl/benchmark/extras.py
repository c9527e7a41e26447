"""Packages of the extra `benchmark`."""

from importlib import import_module
from types import ModuleType


def need(name: str) -> ModuleType:
    """Import a package of the extra `benchmark`. Raises ImportError that says how to install it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f'{error.name} is missing: pip install -e ".[benchmark]"') from error
