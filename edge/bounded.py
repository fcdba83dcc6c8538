"""A module of this software in a process of its own, with bounded time and memory, that dies with
its parent.

For what may crash, hang or eat the memory: code of other makers on files of other makers. Nothing
crosses but bytes.

The memory that counts is what is resident (VmRSS), looked at every LOOK_S: a limit of the address
space (RLIMIT_AS) refuses CUDA, which reserves hundreds of gigabytes of addresses. Where no GPU is
used, RLIMIT_DATA stops an allocation before it is made.
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

LOOK_S = 0.05  # between two looks at the memory of the child
ANSWER_LIMIT = 4 << 20  # bytes that a child may answer
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class Limits:
    """seconds: of the whole call. memory: bytes resident.

    hard: whether allocations beyond it are refused too.
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
    """It did not answer. The text is a clause that says why: "it took longer than 600 s"."""


def call_bounded(module: str, request: bytes, limits: Limits) -> bytes:
    """Run `python -m MODULE` with `request` on its standard input; returns what it wrote to its
    standard output.

    The child is killed with whatever ends this call: a limit, an exception, an interrupt; and by
    the kernel when the calling thread ends.
    Raises: ChildFailed if it passes a limit, is killed by a signal or ends with another code than
    0.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env=_environment(limits),
        start_new_session=True,  # an interrupt at the keyboard is ours to hand on
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
    """Ours, in which the child finds this very package, and nothing in the folder that it starts
    in.
    """
    path = [str(Path(edge.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(part for part in path if part), "PYTHONSAFEPATH": "1"}
    return {
        **os.environ,
        **own,
        "EDGE_PARENT": str(os.getpid()),
        "EDGE_DATA": str(limits.memory if limits.hard else 0),
    }


def _talk(child: subprocess.Popen[bytes], request: bytes, limits: Limits) -> bytes:
    """Hand the request over and collect the answer, to the end of the child's output."""
    assert child.stdin is not None
    assert child.stdout is not None
    end_s, answer = time.monotonic() + limits.seconds, b""
    try:
        child.stdin.write(request)  # smaller than a pipe holds
        child.stdin.close()
    except BrokenPipeError:  # it died first: its code tells why
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
    """Bytes of memory that a process holds; 0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread of `parent` that started it ends, whatever
    it does then.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it died before the line above


def enter_child() -> int:
    """To be called first in a child: it dies with its parent, and keeps to the limit of its memory.

    Returns: a file descriptor for the answer; standard output is standard error from here on, for
        whatever a library prints.
    """
    die_with(int(os.environ["EDGE_PARENT"]))
    limit = int(os.environ["EDGE_DATA"])
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer = os.dup(1)
    os.dup2(2, 1)
    return answer
