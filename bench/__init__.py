"""Benchmarks: each prints one line of JSON; CPU time and ratios count, wall time depends on the machine's mood."""
