"""Whether Gymnasium is new enough. Imported before what an old one lacks."""

import gymnasium


def check_gymnasium():
    """Raise ImportError if another package has pulled in a Gymnasium that is too old."""
    version = gymnasium.__version__
    if tuple(map(int, version.split(".")[:2])) < (1, 1):
        remedy = "pip install 'gymnasium>=1.1', in an environment of its own if need be"
        raise ImportError(f"gymnasium is too old, {version}: {remedy}")


check_gymnasium()
