"""GPIO chips that stand in for the kernel's: what edge/line/gpio_chip.py uses of the package gpiod,
with the same semantics, as no machine of these tests has a chip.

Lines revert when their request is released; the oldest edges are lost when more wait than the
buffer holds, and the numbers go on; every call fails with ENODEV once the chip is gone.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Any

import gpiod
import pytest
from gpiod.line import Direction, Edge, Value
from gpiod.line_settings import _line_settings_to_ext

from edge.line import gpio_chip
from tests.support.broker import wait_until

PATH = "/dev/gpiochip0"
ROLES = ("trigger", "ready", "ok", "ng", "busy", "unknown", "valid", "fault")
NAMES = tuple(f"DIO_{role.upper()}" for role in ROLES)
SETTINGS = {role: f"DIO_{role.upper()}" for role in ROLES}
GONE = OSError(errno.ENODEV, "No such device")


@dataclass
class FakeLine:
    """One line. is_high: its voltage. settings: while it is held."""

    name: str
    is_high: bool = False
    settings: gpiod.LineSettings | None = None
    user: str = ""


@dataclass
class FakeBoard:
    """The chips of a machine: names of lines by the path of their chip."""

    lines: dict[str, list[FakeLine]]
    requests: list[FakeRequest] = field(default_factory=list)
    # (seconds, the outputs that are active): whenever that changes
    history: list[tuple[float, frozenset[str]]] = field(default_factory=list)
    calls: list[dict[str, bool]] = field(default_factory=list)  # every write of outputs
    gone: bool = False
    refuses: int = 0  # errno of every request
    changing: threading.Lock = field(default_factory=threading.Lock)
    may_write: threading.Event = field(default_factory=threading.Event)  # else a write hangs

    def __post_init__(self) -> None:
        self.may_write.set()

    def line(self, name: str) -> FakeLine:
        return next(one for of in self.lines.values() for one in of if one.name == name)

    def is_active(self, role: str) -> bool:
        """What a machine sees: a line that nobody holds is released."""
        line = self.line(SETTINGS[role])
        held = line.settings
        if held is None or held.direction is not Direction.OUTPUT:
            return False
        return line.is_high != held.active_low

    @property
    def active(self) -> frozenset[str]:
        return frozenset(role for role in ROLES if self.is_active(role))

    @property
    def verdict(self) -> frozenset[str]:
        return self.active & {"ok", "ng", "unknown", "valid"}

    def note(self) -> None:
        now = self.active
        if not self.history or self.history[-1][1] != now:
            self.history.append((time.monotonic(), now))

    def pulse(self, at_ns: int | None = None, bounces: int = 0) -> None:
        """The trigger becomes active and inactive again, at a moment of the kernel's clock."""
        for _ in range(1 + bounces):
            for request in self.requests:
                request.rise(time.monotonic_ns() if at_ns is None else at_ns, bounces > 0)

    def vanish(self) -> None:
        """The chip is unplugged."""
        self.gone = True
        for request in list(self.requests):
            request.hang_up()

    def come_back(self) -> None:
        self.gone = False

    def wait(self, *active: str) -> None:
        """Until exactly these outputs are active."""
        wanted = frozenset(active)
        wait_until(lambda: self.active == wanted, 5, f"not {set(wanted)}: {self.history[-5:]}")

    def was(self, *active: str) -> bool:
        """Whether exactly these outputs were active at some time."""
        return any(shown == frozenset(active) for _, shown in self.history)


class FakeRequest:
    """gpiod.LineRequest. The edges' descriptor is a pipe, so that it can be polled."""

    def __init__(
        self, board: FakeBoard, held: Mapping[int, FakeLine], buffered: int, consumer: str
    ) -> None:
        self._board, self._held, self._buffered = board, dict(held), buffered
        self._events: list[Any] = []
        self._count = 0
        self._reader, self._writer = os.pipe()
        self.is_released = False
        for line in held.values():
            line.user = consumer
        board.requests.append(self)
        board.note()

    @property
    def fd(self) -> int:
        return self._reader

    def rise(self, at_ns: int, is_bounce: bool) -> None:
        for offset, line in self._held.items():
            settings = line.settings
            if settings is None or settings.edge_detection is not Edge.RISING:
                continue
            if is_bounce and settings.debounce_period and self._events:
                continue  # the kernel waits until it is stable: one edge
            self._count += 1
            event = SimpleNamespace(timestamp_ns=at_ns, line_seqno=self._count, line_offset=offset)
            self._events.append(event)
            del self._events[: -self._buffered]
            self.wake()

    def wake(self) -> None:
        os.write(self._writer, b".")

    def hang_up(self) -> None:
        os.close(self._writer)
        self._writer = -1

    def read_edge_events(self, max_events: int | None = None) -> list[Any]:
        self._require()
        os.read(self._reader, 4096)
        taken, self._events = self._events[:max_events], self._events[max_events:]
        if self._events:
            self.wake()
        return taken

    def set_values(self, values: Mapping[int | str, Value]) -> None:
        self._board.may_write.wait(30)
        self._require()
        with self._board.changing:
            for offset, value in values.items():
                line = self._held[int(offset)]
                assert line.settings is not None
                assert line.settings.direction is Direction.OUTPUT
                line.is_high = (value is Value.ACTIVE) != line.settings.active_low
            told = {self._held[int(offset)].name: bool(value) for offset, value in values.items()}
            self._board.calls.append(told)
            self._board.note()

    def release(self) -> None:
        if self.is_released:
            return
        self.is_released = True
        for line in self._held.values():
            line.settings, line.user, line.is_high = None, "", False
        self._board.requests.remove(self)
        self._board.note()
        if self._writer >= 0:
            os.close(self._writer)
        os.close(self._reader)

    def _require(self) -> None:
        if self.is_released:
            raise gpiod.RequestReleasedError
        if self._board.gone:
            raise GONE


class FakeChip:
    """gpiod.Chip."""

    def __init__(self, board: FakeBoard, path: str) -> None:
        if board.gone:
            raise OSError(errno.ENOENT, "No such file or directory")
        self._board, self._path = board, path
        self._lines = board.lines[path]

    def __enter__(self) -> FakeChip:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        pass

    def get_info(self) -> Any:
        name = self._path.rpartition("/")[2]
        return SimpleNamespace(name=name, label=f"label of {name}", num_lines=len(self._lines))

    def get_line_info(self, offset: int) -> Any:
        line = self._lines[offset]
        return SimpleNamespace(
            name=line.name, offset=offset, used=bool(line.user), consumer=line.user
        )


def fake_request(
    board: FakeBoard,
    path: str,
    config: Mapping[Iterable[int | str] | int | str, gpiod.LineSettings | None],
    consumer: str,
    event_buffer_size: int,
) -> FakeRequest:
    """gpiod.request_lines; the settings go through the real library's own conversion."""
    if board.refuses:
        raise OSError(board.refuses, os.strerror(board.refuses))
    held: dict[int, FakeLine] = {}
    for offset, settings in config.items():
        assert isinstance(offset, int)
        assert settings is not None
        _line_settings_to_ext(settings)
        line = board.lines[path][offset]
        if line.user:
            raise OSError(errno.EBUSY, "Device or resource busy")
        line.settings = settings
        if settings.direction is Direction.OUTPUT:
            line.is_high = (settings.output_value is Value.ACTIVE) != settings.active_low
        held[offset] = line
    return FakeRequest(board, held, event_buffer_size, consumer)


@contextmanager
def fake_board(chips: Mapping[str, Iterable[str]] | None = None) -> Iterator[FakeBoard]:
    """A machine with these chips in the place of its own; by default one that has all lines."""
    chips = {PATH: NAMES} if chips is None else chips
    board = FakeBoard({path: [FakeLine(name) for name in names] for path, names in chips.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpio_chip, "chip_paths", lambda: sorted(board.lines))
        patch.setattr(gpiod, "Chip", lambda path: FakeChip(board, path))
        patch.setattr(
            gpiod,
            "request_lines",
            lambda path, config, **more: fake_request(board, path, config, **more),
        )
        yield board
