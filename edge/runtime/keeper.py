"""Images of NG and UNKNOWN parts, and of one in N OK parts: var/lib/edge/parts/DATE/ID/, by a low-priority thread.

    color.png          RGB, the whole frame that the camera delivered, not the crop that was judged
    depth.png          16 bit counts, aligned to color, of the same size; absent from a color-only camera
    intrinsics.json    width, height, depth_unit_m (metres per count), fx, fy, cx, cy: of the whole frame
    camera.json        serial, width, height, and exposure_us and gain where the camera tells them
    map.npz            `map`, (h, w) float32, raw units, of the crop; absent where nothing was judged, as map.png is
    map.png            the same to look at
    record.json        the committed record
    overlay.png        what was judged to look at: the crop, and beside it the heat with the outline of where the map is
                       above the threshold; the last file to be written, and absent if it cannot be drawn

Color, depth and the two camera files give back the very frame that the station judged (edge.frames.archive reads them).

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
from edge.overlay import draw_kept
from edge.types import Code, Frame

log = logging.getLogger(__name__)

QUEUE_LIMIT = 16                # parts of about 1.5 MB each that may wait for the disk
CLEAN_S = 60.0
NICE = 10
HEAT_FULL = 2.0                 # map.png is white at this many thresholds
OVERLAY = "overlay.png"


@dataclass(frozen=True, eq=False)
class Images:
    """What is kept of one part.

    folder: relative to var/lib/edge. frame: the whole stream's. record: the committed fields. crop: x, y, width, height
    of what was judged, which the map covers; None where nothing was.
    """

    folder: str
    frame: Frame
    map: NDArray[np.float32] | None
    record: Mapping[str, Any]
    crop: tuple[int, int, int, int] | None = None


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
            self._draw(folder, images)
            self._kept.append((folder, _size_of(folder)))
        except OSError as error:
            self.dropped += 1
            shutil.rmtree(folder, ignore_errors=True)
            log.warning("part=%s images not kept: %s", images.record["part"], error)

    def _draw(self, folder: Path, images: Images) -> None:
        """A picture that cannot be drawn is no reason to lose the images, nor to end the thread."""
        try:
            write_overlay(folder / OVERLAY, images)
        except Exception as error:  # noqa: BLE001  # OpenCV raises its own, numpy and the disk others
            (folder / OVERLAY).unlink(missing_ok=True)
            log.warning("part=%s %s not drawn: %s", images.record["part"], OVERLAY, error)

    def _has_room(self) -> bool:
        return shutil.disk_usage(self._data).free >= self._retention.min_free_gb * 1e9


def write_images(folder: Path, images: Images) -> None:
    """Write one part's files but the overlay. Raises: OSError if the disk does not take them."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_png(folder / "color.png", images.frame.color[:, :, ::-1])
    if images.frame.depth is not None:
        _write_png(folder / "depth.png", images.frame.depth)
    for name, content in _camera_files(images.frame).items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="ascii")
    if images.map is not None:
        np.savez_compressed(folder / "map.npz", map=images.map)
        full = HEAT_FULL * (images.record["thr"] or 1.0)
        heat = np.clip(np.nan_to_num(images.map) / full, 0, 1) * 255
        _write_png(folder / "map.png", heat.astype(np.uint8))
    (folder / "record.json").write_text(json.dumps(images.record, indent=2) + "\n", encoding="ascii")


def write_overlay(path: Path, images: Images) -> None:
    """Write the picture to look at. Raises: OSError, and whatever drawing raises."""
    x, y, width, height = images.crop or (0, 0, images.frame.intrinsics.width, images.frame.intrinsics.height)
    color = images.frame.cropped(x, y, width, height).color
    record = images.record
    code, score, threshold = Code(record["code"]), record["score"], record["thr"]
    title = f"{record['id']}  {code.name} {record['reason']}"
    if score is not None and threshold is not None:
        title += f"  score {score:.4g} (limit {threshold:.4g})"
    picture = draw_kept(color, images.map if images.crop else None, threshold, title, code)
    _write_png(path, picture[:, :, ::-1])


def _camera_files(frame: Frame) -> dict[str, dict[str, Any]]:
    """The camera as edge.frames.camera_info reads it, by file name."""
    i = frame.intrinsics
    size = {"width": i.width, "height": i.height}
    settings = {"exposure_us": frame.exposure_us, "gain": frame.gain}
    told = {name: float(value) for name, value in settings.items() if value is not None}
    lens = {"depth_unit_m": frame.unit, "fx": i.fx, "fy": i.fy, "cx": i.cx, "cy": i.cy}
    lens = {name: float(value) for name, value in lens.items()}
    return {"intrinsics.json": {**size, **lens}, "camera.json": {"serial": frame.serial, **size, **told}}


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
