"""How the rules are compiled: each into its caller, so a step is one machine-code function."""

from numba import njit

inlined = njit(error_model="numpy", forceinline=True, _nrt=False)
"""Decorator of the rules.

Rules are small and pass on many arrays. Calling them and counting references to these arrays would
cost as much as the rules themselves. Without reference counts (`_nrt=False`) a rule cannot create
arrays: the functions that Python calls create them all."""
