"""Fuzzing: what reads a stranger's bytes, held against its invariant with bytes nobody thought of. See README.md."""
