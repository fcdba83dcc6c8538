"""How far a long loop is: a bar in a terminal, one line every ten seconds on a pipe.

Both go to stderr, so that what a command prints on stdout can be read by a program. A loop that
ends within ten seconds writes nothing on a pipe. Nothing is shown by a child process, since several
of them share one terminal, nor by a loop inside another one that is shown.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from typing import TextIO, TypeVar

LINE_EVERY_S = 10.0

Item = TypeVar("Item")
Advance = Callable[[], None]  # one more item is done

_display = threading.Lock()  # of the one loop that is shown


def progress(
    items: Iterable[Item], what: str, *, total: int | None = None, stream: TextIO | None = None
) -> Iterator[Item]:
    """The items, one by one; how many are done is shown while the caller works on them.

    Args:
        what: is done, in the words of the user: "judging images".
        total: number of the items; None takes their length, if they have one.
        stream: where to show it; None takes stderr.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with counting(what, total=total, stream=stream) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def counting(
    what: str, *, total: int | None = None, stream: TextIO | None = None
) -> Iterator[Advance]:
    """For work that is no loop: call what this gives after each of `total` steps.

    total: None if the number of steps is not known; then no time left is shown.
    """
    stream = stream or sys.stderr
    if multiprocessing.parent_process() is not None or not _display.acquire(blocking=False):
        yield lambda: None
        return
    try:
        if stream.isatty():
            with _bar(what, total, stream) as advance:
                yield advance
        else:
            yield _Lines(what, total, stream).advance
    finally:
        _display.release()


def minutes(seconds: float) -> str:
    """A duration as M:SS."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02d}"


def pace(done: int, seconds: float) -> str:
    """How quickly `done` items were done: items a second, or seconds for each slow one."""
    seconds = max(seconds, 1e-9)
    return f"{done / seconds:.1f} a second" if done >= seconds else f"{seconds / done:.1f} s each"


class _Lines:
    """A line every LINE_EVERY_S seconds, and none before."""

    def __init__(self, what: str, total: int | None, stream: TextIO) -> None:
        self.what, self.total, self.stream = what, total, stream
        self.done = 0
        self.started_s = self.told_s = time.monotonic()

    def advance(self) -> None:
        """One more item is done."""
        self.done += 1
        now_s = time.monotonic()
        if now_s - self.told_s < LINE_EVERY_S:
            return
        self.told_s = now_s
        with suppress(OSError):  # the reader of the pipe is gone: no reason to end the work
            print(self._line(now_s - self.started_s), file=self.stream, flush=True)

    def _line(self, seconds: float) -> str:
        if self.total is None:
            return f"{self.what}: {self.done}, {pace(self.done, seconds)}"
        left_s = seconds / self.done * max(0, self.total - self.done)
        return (
            f"{self.what}: {self.done} of {self.total}, {pace(self.done, seconds)}, about"
            f" {minutes(left_s)} left"
        )


@contextmanager
def _bar(what: str, total: int | None, stream: TextIO) -> Iterator[Advance]:
    """A bar that goes when the work is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn
    from rich.progress import ProgressColumn as Column
    from rich.text import Text

    class Pace(Column):
        """Rate and time left."""

        def render(self, task: Task) -> Text:
            done, seconds = int(task.completed), task.elapsed or 0.0
            if not done:
                return Text("")
            left = "" if task.time_remaining is None else f", {minutes(task.time_remaining)} left"
            return Text(pace(done, seconds) + left)

    shown = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Pace(),
        console=Console(file=stream),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # lines above the bar, unless they go to a file
    )
    with shown:
        task = shown.add_task(what, total=total)
        yield lambda: shown.advance(task)
