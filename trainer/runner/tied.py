"""`python -m trainer.runner.tied PARENT ARGUMENTS`: Python with these arguments, which the kernel
kills when the process PARENT, which starts it, ends in any way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie(parent: int) -> None:
    """Ask the kernel for it; elsewhere than on Linux nothing happens.

    Not between fork and exec, which is unsafe in a program with threads: the request outlives exec.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel knew
        sys.exit(1)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
