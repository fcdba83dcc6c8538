"""Images of NG and UNKNOWN parts, and of one in N OK parts: var/lib/edge/parts/DATE/ID/, by a low-priority thread.

    color.png (RGB), depth.png (16 bit counts), map.npz (float32, raw units), map.png (the same to look at), record.json

The record carries the SHA-256 of the raw bytes (color, then depth, then map, each row by row, little endian) and not
of the files: it is committed, and may be sent, before this thread has encoded anything, and the raw bytes can be had
back from the lossless files to check it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.config import RetentionConfig
from edge.optional import optional_module
from edge.types import Frame

log = logging.getLogger(__name__)

QUEUE_LIMIT = 16                # parts of about 1.5 MB each that may wait for the disk
CLEAN_S = 60.0
NICE = 10
HEAT_FULL = 2.0                 # map.png is white at this many thresholds


@dataclass(frozen=True, eq=False)
class Images:
    """What is kept of one part. folder: relative to var/lib/edge. record: the committed fields."""

    folder: str
    frame: Frame
    map: NDArray[np.float32] | None
    record: Mapping[str, Any]


def sha256_of_images(frame: Frame, heat: NDArray[np.float32] | None) -> str:
    """Hex SHA-256 over the raw bytes of color, depth and map, whichever there are."""
    digest = hashlib.sha256(np.ascontiguousarray(frame.color).data)
    if frame.depth is not None:
        digest.update(np.ascontiguousarray(frame.depth, "<u2").data)
    if heat is not None:
        digest.update(np.ascontiguousarray(heat, "<f4").data)
    return digest.hexdigest()


class Keeper:
    """Writes images behind the verdicts' back, within bounds of days, gigabytes and free disk."""

    def __init__(self, data: Path, retention: RetentionConfig) -> None:
        """data: var/lib/edge of the root."""
        self._data, self._retention = data, retention
        self._queue: queue.Queue[Images | None] = queue.Queue(QUEUE_LIMIT)
        self._kept: deque[tuple[Path, int]] = deque()       # oldest first: folder, bytes
        self.dropped = 0                # parts whose images found no room in the queue or on the disk
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, images: Images) -> None:
        """Hand over a part's images; if the disk is too slow they are dropped and counted, never waited for."""
        try:
            self._queue.put_nowait(images)
        except queue.Full:
            self.dropped += 1
            log.warning("part=%s images dropped: the disk does not keep up", images.record["part"])

    def stop(self, timeout_s: float) -> None:
        """Write what is waiting, at most for timeout_s."""
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            log.warning("images that wait for the disk are dropped")
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def clean(self) -> None:
        """Remove the oldest folders beyond the bounds of days, gigabytes and free disk."""
        limit_bytes = self._retention.gb * 1e9
        oldest_day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - self._retention.days * 86_400))
        total = sum(size for _, size in self._kept)
        while self._kept:
            folder, size = self._kept[0]
            if folder.parent.name >= oldest_day and total <= limit_bytes and self._has_room():
                return
            self._kept.popleft()
            total -= size
            shutil.rmtree(folder, ignore_errors=True)
            _remove_if_empty(folder.parent)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        self._kept.extend(sorted_folders(self._data / "parts"))
        due_s = 0.0
        while True:
            if time.monotonic() > due_s:
                self.clean()
                due_s = time.monotonic() + CLEAN_S
            try:
                images = self._queue.get(timeout=1.0)
            except queue.Empty:
                continue
            if images is None:
                return
            self._write(images)

    def _write(self, images: Images) -> None:
        folder = self._data / images.folder
        try:
            if not self._has_room():
                self.clean()
            if not self._has_room():
                raise OSError(f"less than {self._retention.min_free_gb} GB free")
            write_images(folder, images)
            self._kept.append((folder, _size_of(folder)))
        except OSError as error:
            self.dropped += 1
            shutil.rmtree(folder, ignore_errors=True)
            log.warning("part=%s images not kept: %s", images.record["part"], error)

    def _has_room(self) -> bool:
        return shutil.disk_usage(self._data).free >= self._retention.min_free_gb * 1e9


def write_images(folder: Path, images: Images) -> None:
    """Write one part's files. Raises: OSError if the disk does not take them."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_png(folder / "color.png", images.frame.color[:, :, ::-1])
    if images.frame.depth is not None:
        _write_png(folder / "depth.png", images.frame.depth)
    if images.map is not None:
        np.savez_compressed(folder / "map.npz", map=images.map)
        full = HEAT_FULL * (images.record["thr"] or 1.0)
        heat = np.clip(np.nan_to_num(images.map) / full, 0, 1) * 255
        _write_png(folder / "map.png", heat.astype(np.uint8))
    (folder / "record.json").write_text(json.dumps(images.record, indent=2) + "\n", encoding="ascii")


def sorted_folders(parts: Path) -> list[tuple[Path, int]]:
    """Every kept folder with its size in bytes, oldest first by date and number."""
    folders = [folder for day in sorted(parts.glob("????-??-??")) for folder in sorted(day.iterdir(), key=_number_of)]
    return [(folder, _size_of(folder)) for folder in folders]


def _number_of(folder: Path) -> tuple[int, str]:
    digits = folder.name.rpartition("-")[2]
    return (int(digits) if digits.isdigit() else 0, folder.name)


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _remove_if_empty(day: Path) -> None:
    if day.is_dir() and not any(day.iterdir()):
        day.rmdir()


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    cv2 = optional_module("cv2", "pip install opencv-python-headless")
    encoded, data = cv2.imencode(".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not encoded:
        raise OSError(f"cannot encode {path.name}")
    path.write_bytes(data.tobytes())
