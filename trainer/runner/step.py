"""One command as a process that ends with its parent, and what it took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.runner.protocol import Used

MIB = 1 << 20
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # what torch and numpy ask


def environment_of(threads: int, gpu: str | None = None) -> dict[str, str]:
    """This process's environment with so many threads. gpu: the only card to be seen, as
    CUDA_VISIBLE_DEVICES names it; None changes nothing.
    """
    changed = dict.fromkeys(THREADS, str(threads))
    if gpu is not None:
        changed["CUDA_VISIBLE_DEVICES"] = gpu
    return {**os.environ, **changed}


class Step:
    """A running command. arguments: of Python. log: gets both its outputs, appended."""

    def __init__(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._started_s = time.monotonic()
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainer.runner.tied", str(os.getpid()), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a terminal's Ctrl-C reaches the head alone
            )

    def interrupt(self) -> None:
        """As Ctrl-C: a training ends after its epoch, with a checkpoint."""
        os.kill(self.process.pid, signal.SIGINT)

    def has_ended(self) -> bool:
        """Whether `wait` returns at once."""
        ended = os.WEXITED | os.WNOWAIT | os.WNOHANG
        return os.waitid(os.P_PID, self.process.pid, ended) is not None

    def wait(self) -> tuple[int, Used]:
        """The exit code (negative: minus a signal) and what it took, its children included."""
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        read, written = _transferred(self.process.pid)  # while the kernel still knows it
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        used = Used(
            seconds=time.monotonic() - self._started_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_mb=usage.ru_maxrss / 1024,
            read_mb=read / MIB,
            written_mb=written / MIB,
        )
        return self.process.returncode, used


def _transferred(pid: int) -> tuple[int, int]:
    """Bytes that a process has read and written; (0, 0) where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except OSError:
        return 0, 0
    counted = dict(line.split(": ") for line in lines)
    return int(counted["rchar"]), int(counted["wchar"])
