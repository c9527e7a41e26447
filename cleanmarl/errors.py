"""Errors whose message says in one line what is wrong; programs print that line alone."""


class Refused(ValueError):
    """The user's request cannot be carried out."""


class RunFailed(RuntimeError):
    """A run has ended too early, or its results are not saved."""


class EnvFault(ValueError):
    """An answer of an environment is not what its interface or its spaces say."""
