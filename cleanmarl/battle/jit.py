"""How the rules are compiled: each into its caller, so that a step is one piece of machine code."""

from numba import njit

inlined = njit(error_model="numpy", forceinline=True, _nrt=False)
"""Decorator of the rules.

Rules are small and hand many arrays on. To call them, and to count the references to those arrays,
would cost as much as what they do. Without that count (`_nrt`) a rule cannot make an array; the
functions that Python calls make them all."""
