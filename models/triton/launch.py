"""Becomes tritonserver, tied to the life of the process that started it: `launch.py PARENT_PID PROGRAM ARGUMENT...`

A process of its own sets this up, for running Python between fork and exec of a threaded service can deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, program: list[str]) -> None:
    """Replace this process by `program`, which the kernel kills when `parent` dies; what it makes is for this user."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the call above took effect
        sys.exit(1)
    os.umask(0o077)
    os.execv(program[0], program)  # noqa: S606


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
