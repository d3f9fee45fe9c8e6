"""Chaos: numbered messages both ways over a link that is cut, stalled and slowed, and both ends' books compared.

``python -m bench.chaos rows [K01 ...]`` plays the table of faults; ``python -m bench.chaos long`` cuts one link at
random bytes again and again. Both need a real server (tools/install-servers) and print JSON. A broken promise is a
sentence on stderr and an exit code of 1. A plan follows from its seed, which is printed.
"""
