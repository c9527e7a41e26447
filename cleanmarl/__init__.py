"""QMIX in four single-file scripts, their environments, and a compiled engine for SMAClite's battles."""
