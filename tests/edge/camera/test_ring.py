"""The memory that frames cross in: sealed, of the size that was said, copied out."""

from __future__ import annotations

import os

import numpy as np
import pytest

from edge.camera.ring import RingReader, RingWriter, bytes_of, padded
from edge.errors import CameraError, CameraLost

COLOR, DEPTH = (64, 96, 3), (64, 96)
SLOT = padded(bytes_of(COLOR, DEPTH))


def ring() -> tuple[RingWriter, RingReader]:
    writer = RingWriter(0, 3, SLOT)
    return writer, RingReader(os.dup(writer.fd), 0, 3, SLOT)


def test_every_slot_gives_back_what_was_written_and_the_copy_is_its_own() -> None:
    writer, reader = ring()
    chance = np.random.default_rng(0)
    for slot in (2, 0, 1):
        color = chance.integers(0, 256, COLOR).astype(np.uint8)
        depth = chance.integers(0, 65536, DEPTH).astype(np.uint16)
        writer.write(slot, color, depth)
        read = reader.read(slot, COLOR, DEPTH)
        writer.write(slot, np.zeros(COLOR, np.uint8), np.zeros(DEPTH, np.uint16))
        np.testing.assert_array_equal(read[0], color)
        np.testing.assert_array_equal(read[1], depth)
        assert read[0].flags.owndata
    writer.close()


def test_a_view_of_a_larger_image_and_color_alone_cross_too() -> None:
    writer, reader = ring()
    image = np.arange(128 * 192 * 3, dtype=np.uint32).astype(np.uint8).reshape(128, 192, 3)
    writer.write(0, image[::2, ::2], None)
    color, depth = reader.read(0, COLOR, None)
    np.testing.assert_array_equal(color, image[::2, ::2])
    assert depth is None
    writer.close()


@pytest.mark.parametrize("size", [0, SLOT, 100 * SLOT])
def test_its_size_can_never_change_again(size: int) -> None:
    """A file that shrinks under a mapping ends its reader with SIGBUS."""
    writer, _ = ring()
    with pytest.raises(PermissionError):
        os.ftruncate(writer.fd, size)
    writer.close()


def test_memory_that_could_shrink_is_not_mapped() -> None:
    fd = os.memfd_create("test")
    os.ftruncate(fd, 3 * SLOT)
    with pytest.raises(CameraLost, match="can change its size"):
        RingReader(fd, 0, 3, SLOT)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_memory_of_another_size_than_was_said_is_not_mapped() -> None:
    writer = RingWriter(0, 1, SLOT)
    with pytest.raises(CameraLost, match="can change its size"):
        RingReader(os.dup(writer.fd), 0, 3, SLOT)
    writer.close()


@pytest.mark.parametrize(
    ("slot", "color", "depth"),
    [(3, COLOR, DEPTH), (-1, COLOR, DEPTH), (0, (640, 96, 3), None), (0, COLOR, (6400, 96))],
)
def test_a_frame_that_fits_no_slot_is_refused(
    slot: int, color: tuple[int, int, int], depth: tuple[int, int] | None
) -> None:
    writer, reader = ring()
    with pytest.raises(CameraLost, match="does not fit"):
        reader.read(slot, color, depth)
    writer.close()


def test_memory_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(CameraError, match=r"no memory for 3 frames of \d+ KiB: No space left"):
        RingWriter(0, 3, SLOT)
