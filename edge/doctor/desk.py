"""The person beside the board, who plugs, wires and pulls."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from edge.errors import EdgeError

ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # of a shutdown, of Ctrl-C, of a terminal


class Desk(Protocol):
    """Where the person reads and answers."""

    @property
    def is_attended(self) -> bool:
        """Whether somebody can answer."""
        ...

    def tell(self, text: str) -> None:
        """Show one line."""
        ...

    def confirm(self, text: str) -> None:
        """Show what to do, and wait until the person says that it is done."""
        ...

    def wait_for_cut(self, limit_s: float) -> bool:
        """Wait for the plug to be pulled, which never returns. True: the system or the person has
        ended this command instead; False: `limit_s` are over.
        """
        ...


class Terminal:
    """The terminal of this command. See Desk."""

    @property
    def is_attended(self) -> bool:
        """Not so in a script, nor over ssh without a terminal."""
        return sys.stdin.isatty()

    def tell(self, text: str) -> None:
        """On stdout, at once."""
        print(text, flush=True)

    def confirm(self, text: str) -> None:
        """Enter says that it is done. Raises: EdgeError if nobody can press it."""
        try:
            input(f"{text}. Then press Enter. ")
        except EOFError as error:
            raise EdgeError("nobody answered: run it at a terminal") from error

    def wait_for_cut(self, limit_s: float) -> bool:
        """A shutdown sends SIGTERM, a pulled plug sends nothing."""
        with _ended() as ended:
            return ended.wait(limit_s)


@contextmanager
def _ended() -> Iterator[threading.Event]:
    ended = threading.Event()

    def note(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    before = {number: signal.signal(number, note) for number in ENDINGS}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
