"""Ctrl-C and SIGTERM end a run after its current round, or within an episode that takes too long.

An episode that is ended early is not stored. It is played again when the run resumes.
"""

import time

PATIENCE = 5.0  # seconds that a round may still take


class Stopped(Exception):
    """A run was asked to stop, and its round took too long."""


class Request:
    """The wish to stop the run of this process."""

    deadline: float | None = None


def ask_to_stop():
    Request.deadline = time.perf_counter() + PATIENCE


def forget():
    Request.deadline = None


def stop_if_asked():
    """Call this at every step of an episode. Raises Stopped, which the run handles."""
    if Request.deadline is not None and time.perf_counter() > Request.deadline:
        raise Stopped
