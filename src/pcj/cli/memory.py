"""The memory of a command holds a password: nobody else is to read it, and no core file is to be left of it."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

try:
    import resource
except ImportError:  # not a POSIX system: there are no core files either
    resource = None  # type: ignore[assignment]

__all__ = ["keep_private"]

#: linux/prctl.h
_PR_SET_DUMPABLE: Final = 4


def keep_private() -> None:
    """Have this process leave no core file, and (on Linux) no other process of the same user look into it.

    Two means, since neither is enough: the limit is not asked where the kernel hands cores to a program (a
    core_pattern that begins with "|"; core(5)), and being undumpable is known to Linux alone. That also closes
    /proc/PID/mem and /proc/PID/environ, in which PCJ_PASSWORD stands, to everybody but root (proc(5), ptrace(2)).

    It is taken back by the next exec, so what a password command starts is as it would be without us, but for the soft
    limit. Where the system refuses, the command goes on: it is no worse off than any other program.
    """
    if resource is not None:
        try:
            _, hard = resource.getrlimit(resource.RLIMIT_CORE)
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
        except (OSError, ValueError):
            pass  # a sandbox may forbid it
    if sys.platform == "linux":
        try:
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        except (OSError, AttributeError):
            pass  # a C library that is linked statically, or has no such call
