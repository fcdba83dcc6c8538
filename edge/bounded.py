"""Run a module of this software in a child process with bounded time and memory.

For calls that may crash, hang or exhaust the memory: libraries of others reading files of others.
Request and answer are bytes. The child dies with its parent.

Resident memory (VmRSS) is measured every LOOK_S. A limit on the address space (RLIMIT_AS) would
refuse CUDA, which reserves hundreds of gigabytes of addresses. Where no GPU is used, RLIMIT_DATA
also refuses an allocation beyond the limit before it is made.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import edge

LOOK_S = 0.05  # between two measurements of the child's memory
ANSWER_LIMIT = 4 << 20  # bytes of an answer
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Limits:
    """Bounds of one call.

    seconds: of the whole call. memory: resident bytes. hard: whether the kernel also refuses
    allocations beyond `memory` (not with a GPU).
    """

    seconds: float
    memory: int
    hard: bool = True

    @property
    def of_this_machine(self) -> Limits:
        """The same with at most three quarters of the machine's memory."""
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Limits(self.seconds, min(self.memory, whole * 3 // 4), self.hard)


class ChildFailed(Exception):
    """The child did not answer. The text says why, as a clause: "it took longer than 600 s"."""


def call_bounded(module: str, request: bytes, limits: Limits) -> bytes:
    """Run `python -m MODULE` with `request` as its standard input; returns its standard output.

    Whatever ends this call kills the child: a limit, an exception, an interrupt, and the end of the
    calling thread.
    Raises: ChildFailed if the child exceeds a limit, is killed by a signal or exits with a code
        other than 0.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env=_environment(limits),
        start_new_session=True,  # Ctrl-C reaches this process alone, which then kills the child
    )
    try:
        answer = _talk(child, request, limits)
        code = child.wait(max(1.0, limits.seconds))
    except subprocess.TimeoutExpired as error:
        raise ChildFailed(f"it did not end within {limits.seconds:.0f} s") from error
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()
    if code < 0:
        raise ChildFailed(f"its process was ended by {signal.Signals(-code).name}")
    if code:
        raise ChildFailed(f"its process ended with code {code}")
    return answer


def _environment(limits: Limits) -> dict[str, str]:
    """This process's environment, in which the child imports this very package and nothing from its
    working directory.
    """
    path = [str(Path(edge.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(entry for entry in path if entry), "PYTHONSAFEPATH": "1"}
    return {
        **os.environ,
        **own,
        "EDGE_PARENT": str(os.getpid()),
        "EDGE_DATA": str(limits.memory if limits.hard else 0),
    }


def _talk(child: subprocess.Popen[bytes], request: bytes, limits: Limits) -> bytes:
    """Write the request and read the answer to the end of the child's output."""
    assert child.stdin is not None
    assert child.stdout is not None
    end_s, answer = time.monotonic() + limits.seconds, b""
    try:
        child.stdin.write(request)  # smaller than a pipe's buffer: this does not block
        child.stdin.close()
    except BrokenPipeError:  # the child died first: its exit code says why
        pass
    while True:
        if select.select([child.stdout], [], [], LOOK_S)[0]:
            block = os.read(child.stdout.fileno(), 1 << 16)
            if not block:
                return answer
            answer += block
        if len(answer) > ANSWER_LIMIT:
            raise ChildFailed(f"it answered more than {ANSWER_LIMIT} bytes")
        if time.monotonic() > end_s:
            raise ChildFailed(f"it took longer than {limits.seconds:.0f} s")
        if _resident(child.pid) > limits.memory:
            raise ChildFailed(f"it took more than {limits.memory / 1e9:.1f} GB of memory")


def _resident(pid: int) -> int:
    """Resident memory of a process in bytes; 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread of `parent` that started it ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above


def enter_child() -> int:
    """Call this first in a child: it then dies with its parent and is bounded in memory.

    Returns: a file descriptor for the answer. From here on standard output goes to standard error,
        so that nothing a library prints mixes with the answer.
    """
    die_with(int(os.environ["EDGE_PARENT"]))
    limit = int(os.environ["EDGE_DATA"])
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.dup(1)
    os.dup2(2, 1)
    return answer
