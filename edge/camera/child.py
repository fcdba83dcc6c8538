"""The camera's process: a driver that hangs, crashes or leaks affects this process only.

Started by edge.camera.supervised with one end of a socket pair as file descriptor argv[1] and the
station's process id as argv[2]. Every camera runs here, also one that plays files, so that all
frames take the same way.

It cannot outlive the station: it exits when the other end of the socket closes, and the kernel
kills it when the thread that started it ends (PR_SET_PDEATHSIG), even within a driver's call.
"""

from __future__ import annotations

import array
import ctypes
import json
import logging
import math
import operator
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bounded import die_with
from edge.camera.device import NOTHING_TOLD, DeviceFacts, TellsOfItself
from edge.camera.factory import make_camera
from edge.camera.protocol import Camera, CopiesOut, FrameOverdue
from edge.camera.ring import RingWriter, bytes_of, padded
from edge.camera.wire import (
    LOG_MARK,
    PACKET_BYTES,
    READ_STATION,
    SENTENCE_CHARS,
    Device,
    Failed,
    Filled,
    Hello,
    Next,
    Opened,
    Order,
    Packet,
    RingMade,
)
from edge.errors import CameraLost, EdgeError
from edge.files import sentence_of
from edge.types import Frame

NAME = b"edge-camera"  # in ps and top, at most 15 characters
PR_SET_NAME = 15  # linux/prctl.h
LIVE_SLOTS = 3  # one being written, one on its way, one being read
# of one call for a frame; between two calls a closed socket is noticed
LIVE_FRAME_S, FILE_FRAME_S = (0.5, 10.0)
FACTS_S = 10.0  # between two questions to the device about itself


class StationGone(Exception):
    """The station has closed its end of the socket."""


class LogLines(logging.Formatter):
    """Formats log records as lines of JSON, which the station passes on to its own log."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        text = super().format(record)
        return LOG_MARK + json.dumps({"level": record.levelno, "name": record.name, "text": text})


class Feed:
    """This process's end of the socket, and the shared memory for its frames."""

    def __init__(self, connection: socket.socket, live: bool) -> None:
        self._connection, self._live = connection, live
        self._ring: RingWriter | None = None
        self._free: set[int] = set()
        self._slot: int | None = None  # of the next frame, if its images were asked for
        self._lent: list[NDArray[Any]] = []  # the memory in it that was given for them
        self._wanted = live
        self._dropped = 0

    def wait_until_wanted(self) -> None:
        """Read the station's messages; if it asks for each frame, wait for the next request.

        Raises: StationGone.
        """
        while self._is_readable(wait=not self._wanted):
            packet = self._connection.recv(PACKET_BYTES)
            if not packet:
                raise StationGone
            said = READ_STATION.validate_json(packet)
            if isinstance(said, Next):
                self._wanted = True
            elif self._ring is not None and said.ring == self._ring.number:
                self._free.add(said.slot)

    def begin(self) -> None:
        """The camera is asked for a frame: what an earlier one left in the slot may go."""
        self._lent = []

    def new_image(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Memory for an image of the next frame: in the slot in which it will be announced, so that
        it is not copied once more; elsewhere if no slot is free or large enough.
        """
        if self._slot is None and self._free:
            self._slot = self._free.pop()
        image = None
        if self._ring is not None and self._slot is not None:
            taken = sum(one.nbytes for one in self._lent)
            image = self._ring.image(self._slot, taken, shape, dtype)
        if image is None:
            return np.empty(shape, dtype)
        self._lent.append(image)
        return image

    def deliver(self, frame: Frame) -> None:
        """Announce a frame in a free slot, into which it is written unless its images lie there;
        without one the frame is dropped and counted.

        Raises: StationGone; CameraLost if the driver delivers what is no frame; CameraError if
            there is no memory.
        """
        wrong = find_wrong(frame)
        if wrong is not None:
            raise CameraLost(f"the driver delivers a damaged frame: {wrong}. Check the USB 3 cable")
        depth = None if frame.depth is None else (frame.depth.shape[0], frame.depth.shape[1])
        height, width = frame.color.shape[:2]
        ring = self._ring_for(bytes_of((height, width, 3), depth))
        if self._slot is None and not self._free:
            self._dropped += 1
            return
        slot = self._free.pop() if self._slot is None else self._slot
        self._slot = None
        if not self._holds(frame):
            ring.write(slot, frame.color, frame.depth)
        i = frame.intrinsics
        self.send(
            Filled(
                ring=ring.number,
                slot=slot,
                color=(height, width, 3),
                depth=depth,
                dropped=self._dropped,
                unit=float(frame.unit),
                pinhole=(i.width, i.height, i.fx, i.fy, i.cx, i.cy),
                serial=frame.serial,
                frame_number=int(frame.frame_number),
                captured_mono_ns=int(frame.captured_mono_ns),
                clock_domain=frame.clock_domain,
                exposure_us=frame.exposure_us,
                gain=frame.gain,
            )
        )
        self._wanted = self._live

    def send(self, packet: Packet, fd: int | None = None) -> None:
        """Send a message, with a file descriptor if one is given. Raises: StationGone."""
        rights = (
            [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        )
        try:
            self._connection.sendmsg([packet.packed()], rights)
        except OSError as error:
            raise StationGone from error

    def _holds(self, frame: Frame) -> bool:
        """Whether the slot has the images of this frame and nothing else."""
        images = [frame.color] if frame.depth is None else [frame.color, frame.depth]
        return len(images) == len(self._lent) and all(map(operator.is_, images, self._lent))

    def _is_readable(self, wait: bool) -> bool:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        return bool(poll.poll(None if wait else 0))

    def _ring_for(self, frame_bytes: int) -> RingWriter:
        """The shared memory, made for the first frame and again for one that is too large for
        it.
        """
        ring = self._ring
        if ring is not None and frame_bytes <= ring.slot_bytes:
            return ring
        slots = LIVE_SLOTS if self._live else 1
        made = RingWriter(0 if ring is None else ring.number + 1, slots, padded(frame_bytes))
        try:
            self.send(
                RingMade(number=made.number, slots=made.slots, slot_bytes=made.slot_bytes), made.fd
            )
        finally:
            made.close()
        self._ring, self._free = made, set(range(slots))
        self._slot, self._lent = None, []
        return made


def find_wrong(frame: Frame) -> str | None:
    """Why this is no frame, as a clause; None if it is one. Whether it fits the product is asked
    later.
    """
    color, depth = frame.color, frame.depth
    if color.dtype != np.uint8 or color.ndim != 3 or color.shape[2] != 3 or not color.size:
        return f"color is {color.dtype} of shape {color.shape}"
    if depth is not None and (depth.dtype != np.uint16 or depth.ndim != 2 or not depth.size):
        return f"depth is {depth.dtype} of shape {depth.shape}"
    if not 0 < frame.unit < math.inf:
        return f"its depth unit is {frame.unit} m"
    return None


def play(feed: Feed, camera: Camera, live: bool) -> None:
    """Open the camera and deliver its frames until the station is gone or the camera fails.

    A failure is sent before the camera is closed, because a driver that has lost its camera may
    never return from closing it.
    Raises: StationGone.
    """
    try:
        camera.open()
        facts, asked_s = facts_of(camera), time.monotonic()
        feed.send(Opened(serial=camera.serial, info=camera.info, facts=facts))
        while True:
            feed.wait_until_wanted()
            if time.monotonic() - asked_s > FACTS_S:
                before, facts, asked_s = facts, facts_of(camera), time.monotonic()
                if facts != before:
                    feed.send(Device(facts=facts))
            feed.begin()
            try:
                frame = camera.next_frame(LIVE_FRAME_S if live else FILE_FRAME_S)
            except FrameOverdue:
                continue  # the station has its own time limit, and ends this process
            feed.deliver(frame)
    except StationGone:
        raise
    except Exception as error:  # noqa: BLE001  the station raises it again
        feed.send(failure_of(error))
    finally:
        camera.close()


def facts_of(camera: Camera) -> DeviceFacts:
    """What the device tells of itself, if it is one that does. Raises: CameraLost."""
    return camera.device_facts() if isinstance(camera, TellsOfItself) else NOTHING_TOLD


def failure_of(error: Exception) -> Failed:
    """The last message: an error for the operator, or a bug with its traceback."""
    if isinstance(error, EdgeError):
        return Failed(error=type(error).__name__, text=str(error)[:SENTENCE_CHARS])
    if isinstance(error, OSError) and error.filename is not None:
        return Failed(error="DataError", text=sentence_of(error)[:SENTENCE_CHARS])
    return Failed(error="", text=traceback.format_exc()[-SENTENCE_CHARS:])


def serve(connection: socket.socket) -> None:
    """Play the camera that the station orders, and report why it ended. Raises: StationGone."""
    order = Order.model_validate_json(connection.recv(PACKET_BYTES))
    feed = Feed(connection, order.live)
    try:
        feed.send(Hello())
        camera = make_camera(
            order.config, Path(order.root), order.contract, empty=order.empty, loop=order.loop
        )
    except EdgeError as error:
        feed.send(failure_of(error))
        return
    if isinstance(camera, CopiesOut):
        camera.copy_into(feed.new_image)
    play(feed, camera, order.live)


def _live_no_longer_than(station: int) -> None:
    """Name this process, let it die with the station, and leave Ctrl-C to the station."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, NAME, 0, 0, 0)
    die_with(station)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    """Entry point.

    Leaves through os._exit: waiting for a driver's threads could block forever.
    """
    _live_no_longer_than(int(sys.argv[2]))
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(LogLines())
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    try:
        serve(socket.socket(fileno=int(sys.argv[1])))
    except StationGone:
        pass
    except Exception:  # noqa: BLE001  printed, then the same way out
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
