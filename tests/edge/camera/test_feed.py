"""The camera's side of the crossing: into slots that it owns, without a copy more than needed."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.camera.child import LIVE_SLOTS, Feed
from edge.camera.process import READ_CAMERA
from edge.camera.ring import RingReader, RingWriter
from edge.camera.wire import PACKET_BYTES, Filled, Returned, RingMade
from edge.types import Frame, Intrinsics

SMALL, LARGE = (24, 32), (48, 64)
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


def frame_of(color: NDArray[np.uint8], depth: NDArray[np.uint16] | None) -> Frame:
    lens = Intrinsics(color.shape[1], color.shape[0], 30.0, 30.0, 0.0, 0.0)
    return Frame(color, depth, 0.001, lens, "x", 1, 1)


@dataclass
class Crossing:
    """A feed, and the station's end of its socket."""

    feed: Feed
    station: socket.socket
    reader: RingReader | None = None
    # what lies in the slots that the station has not given back, and of what ring
    held: list[tuple[RingReader, Filled, int]] = field(default_factory=list)
    dropped: int = 0

    def deliver(self, size: tuple[int, int], value: int, depth: bool, copies: int) -> Filled | None:
        """A frame of one value everywhere. copies: how often the camera asks for its memory; 0:
        it brings its own.
        """
        self.feed.wait_until_wanted()
        self.feed.begin()
        shapes = ((*size, 3), size) if depth else ((*size, 3),)
        images = [np.empty(shape, dtype) for shape, dtype in zip(shapes, DTYPES, strict=False)]
        for _ in range(copies):
            images = [
                self.feed.new_image(shape, dtype)
                for shape, dtype in zip(shapes, DTYPES, strict=False)
            ]
        for image in images:
            image[:] = value
        self.feed.deliver(frame_of(images[0], images[1] if depth else None))
        return self.read()

    def read(self) -> Filled | None:
        while True:
            try:
                packet, fds, _, _ = socket.recv_fds(self.station, PACKET_BYTES, 1)
            except BlockingIOError:
                return None
            message = READ_CAMERA.validate_json(packet)
            if isinstance(message, RingMade):
                made = message.number, message.slots, message.slot_bytes
                self.reader = RingReader(fds[0], *made)
            elif isinstance(message, Filled):
                self.dropped = message.dropped
                return message

    def hold(self, filled: Filled, value: int) -> None:
        assert self.reader is not None
        self.held.append((self.reader, filled, value))

    def give_back(self, index: int) -> None:
        _, filled, _ = self.held.pop(index)
        self.station.send(Returned(ring=filled.ring, slot=filled.slot).packed())

    def assert_nothing_is_torn(self) -> None:
        """What the station holds is as it was announced."""
        for reader, filled, value in self.held:
            color, depth = reader.read(filled.slot, filled.color, filled.depth)
            assert (color == value).all()
            assert depth is None or (depth == value).all()


@pytest.fixture
def crossing() -> Iterator[Crossing]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours, theirs:
        yield Crossing(Feed(theirs, live=True), ours)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots that a frame was copied into."""
    found: list[int] = []
    usual = RingWriter.write

    def write(writer: RingWriter, slot: int, *images: NDArray[np.generic]) -> None:
        found.append(slot)
        usual(writer, slot, *images)  # type: ignore[arg-type]

    monkeypatch.setattr(RingWriter, "write", write)
    return found


@pytest.mark.parametrize("depth", [True, False])
def test_a_camera_that_copies_out_copies_once(
    crossing: Crossing, writes: list[int], depth: bool
) -> None:
    for value in range(1, 8):
        filled = crossing.deliver(SMALL, value, depth, copies=1)
        assert filled is not None
        crossing.hold(filled, value)
        crossing.assert_nothing_is_torn()
        crossing.give_back(0)
    assert len(writes) == 1  # of the first frame, for which there was no memory yet


def test_a_frame_that_the_camera_has_put_away_leaves_no_trace(
    crossing: Crossing, writes: list[int]
) -> None:
    for value in range(1, 5):
        filled = crossing.deliver(SMALL, value, True, copies=2)
        assert filled is not None
        crossing.hold(filled, value)
        crossing.assert_nothing_is_torn()
        crossing.give_back(0)


def test_frames_that_nobody_takes_are_dropped_and_overwrite_nothing(crossing: Crossing) -> None:
    for value in range(1, 10):
        filled = crossing.deliver(SMALL, value, True, copies=1)
        if filled is not None:
            crossing.hold(filled, value)
        crossing.assert_nothing_is_torn()
    assert len(crossing.held) == LIVE_SLOTS
    crossing.give_back(0)
    filled = crossing.deliver(SMALL, 77, True, copies=1)
    assert filled is not None
    assert filled.dropped == 9 - LIVE_SLOTS


def test_memory_made_anew_has_all_its_slots_once(crossing: Crossing) -> None:
    for value, size in enumerate((SMALL, *[LARGE] * LIVE_SLOTS), 1):
        filled = crossing.deliver(size, value, True, copies=1)
        assert filled is not None
        crossing.hold(filled, value)
    assert crossing.deliver(LARGE, 77, True, copies=1) is None
    crossing.assert_nothing_is_torn()


@pytest.mark.parametrize("seed", range(6))
def test_whatever_the_camera_and_the_station_do_no_slot_is_torn(
    crossing: Crossing, seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(1, 150):
        value, copies = number % 256, chance.choice((0, 1, 1, 2))
        if chance.random() < 0.1:
            crossing.feed.wait_until_wanted()
            crossing.feed.begin()
            crossing.feed.new_image((*SMALL, 3), DTYPES[0])[:] = value  # no frame came of it
        size = chance.choice((SMALL, SMALL, LARGE)) if number > 20 else SMALL
        filled = crossing.deliver(size, value, chance.random() < 0.7, copies)
        if filled is not None:
            assert filled.color == (*size, 3)
            crossing.hold(filled, value)
        crossing.assert_nothing_is_torn()
        while crossing.held and chance.random() < 0.6:
            crossing.give_back(chance.randrange(len(crossing.held)))
