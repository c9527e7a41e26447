"""QMIX in four single-file scripts, the environments that they train on, and a compiled engine for SMAClite's battles."""
