"""Shared memory in which frames cross from the camera's process to the station's.

The camera's process makes a memfd, seals its size and hands it over; the station maps it for
reading. A slot belongs to one side at a time and changes owner by a message on the socket
(edge/camera/wire.py). The memory itself holds no flags: an ARM processor needs memory barriers for
them, which Python does not have.

The file is sealed against shrinking and growing (memfd_create(2), F_ADD_SEALS in fcntl(2)): if it
shrank under the mapping, its reader would end with SIGBUS, which Python cannot catch. All pages are
allocated at once, so that a lack of memory is an error here and not in the middle of a frame.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError, CameraLost

F_ADD_SEALS, F_GET_SEALS = (
    1033,
    1034,
)  # linux/fcntl.h; a Python built with old headers lacks the names
SEAL, SHRINK, GROW = 0x1, 0x2, 0x4
SEALS = SEAL | SHRINK | GROW

Element = TypeVar("Element", bound=np.generic)
Color = NDArray[np.uint8]
Depth = NDArray[np.uint16]
ColorSize = tuple[int, int, int]  # height, width, 3
DepthSize = tuple[int, int]  # height, width


def bytes_of(color: ColorSize, depth: DepthSize | None) -> int:
    """Bytes of one frame: color, then the depth counts."""
    return int(np.prod(color)) + (2 * int(np.prod(depth)) if depth is not None else 0)


def padded(size: int) -> int:
    """The size of a slot for a frame of `size` bytes: whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


class RingWriter:
    """The camera's side: `slots` slots of `slot_bytes` each (whole pages).

    number: identifies this ring.
    """

    def __init__(self, number: int, slots: int, slot_bytes: int) -> None:
        """Raises: CameraError if there is no memory for it."""
        self.number, self.slots, self.slot_bytes = number, slots, slot_bytes
        self.fd = os.memfd_create("edge-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        size = slots * slot_bytes
        try:
            os.posix_fallocate(self.fd, 0, size)
            self._map = mmap.mmap(self.fd, size)
            fcntl.fcntl(self.fd, F_ADD_SEALS, SEALS)
        except OSError as error:
            os.close(self.fd)
            raise CameraError(
                f"no memory for {slots} frames of {slot_bytes >> 10} KiB: {error.strerror}"
            ) from error

    def image(
        self, slot: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[Element]
    ) -> NDArray[Element] | None:
        """Memory for one image in a slot that this side owns, `offset` bytes from its beginning;
        None if it does not fit.
        """
        if offset + int(np.prod(shape)) * dtype.itemsize > self.slot_bytes:
            return None
        return _view(self._map, slot * self.slot_bytes + offset, shape, dtype)

    def write(self, slot: int, color: Color, depth: Depth | None) -> None:
        """Copy one frame into a slot that this side owns."""
        start = slot * self.slot_bytes
        np.copyto(_view(self._map, start, color.shape, np.dtype(np.uint8)), color)
        if depth is not None:
            np.copyto(_view(self._map, start + color.size, depth.shape, np.dtype(np.uint16)), depth)

    def close(self) -> None:
        """Close the descriptor; the memory lives until the reader has closed it too."""
        os.close(self.fd)


class RingReader:
    """The station's side, read only. Takes over `fd` and closes it."""

    def __init__(self, fd: int, number: int, slots: int, slot_bytes: int) -> None:
        """Raises: CameraLost if the memory has not the announced size, or is not sealed."""
        self.number, self.slots, self.slot_bytes = number, slots, slot_bytes
        size = slots * slot_bytes
        try:
            if fcntl.fcntl(fd, F_GET_SEALS) & SEALS != SEALS or os.fstat(fd).st_size != size:
                raise CameraLost("the camera's process handed over memory that can change its size")
            self._map = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise CameraLost(
                f"the frames of the camera's process cannot be mapped: {error}"
            ) from error
        finally:
            os.close(fd)

    def read(
        self, slot: int, color: ColorSize, depth: DepthSize | None
    ) -> tuple[Color, Depth | None]:
        """Copies of color and depth from a slot that this side owns.

        Raises: CameraLost if a frame of these sizes does not fit a slot.
        """
        if not 0 <= slot < self.slots or bytes_of(color, depth) > self.slot_bytes:
            raise CameraLost(
                f"the camera's process names a frame that does not fit its memory: slot {slot},"
                f" {color}"
            )
        start = slot * self.slot_bytes
        pixels = _view(self._map, start, color, np.dtype(np.uint8)).copy()
        if depth is None:
            return pixels, None
        return pixels, _view(self._map, start + pixels.size, depth, np.dtype(np.uint16)).copy()


def _view(
    memory: mmap.mmap, start: int, shape: tuple[int, ...], dtype: np.dtype[Element]
) -> NDArray[Element]:
    view: NDArray[Element] = np.ndarray(shape, dtype, memory, start)
    return view
