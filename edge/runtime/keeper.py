"""Images of NG and UNKNOWN parts, and of one in N OK parts: var/lib/edge/parts/DATE/ID/, by a
low-priority thread.

    color.png          RGB, the whole frame that the camera delivered, not the crop that was judged
    depth.png          16 bit counts, aligned to color, of the same size; absent from a color-only
                       camera
    intrinsics.json    width, height, depth_unit_m (meters per count), fx, fy, cx, cy: of the whole
                       frame
    camera.json        serial, width, height, and exposure_us and gain where the camera tells them
    map.npz            `map`, (h, w) float32, raw units, of the crop; absent where nothing was
                       judged, as map.png is
    map.png            the same to look at
    record.json        the committed record
    overlay.png        what was judged to look at: the crop, and beside it the heat with the outline
                       of where the map is above the threshold; absent if it cannot be drawn

Color, depth and the two camera files give back the very frame that the station judged
(edge.frames.archive reads them).

The record carries the SHA-256 of the raw bytes (color, then depth, then map, each row by row,
little endian) and not of the files: it is committed, and may be sent, before this thread has
encoded anything, and the raw bytes can be had back from the lossless files to check it.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import queue
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.clock import PoweredClock, Stamp, age_s
from edge.config import RetentionConfig
from edge.optional import optional_module
from edge.overlay import draw_kept
from edge.runtime.kept_folders import (
    Kept,
    disk_size,
    find_folders,
    number_of,
    remove_folder,
    sorted_folders,
    write_folder,
)
from edge.trouble import Trouble
from edge.types import Code, Frame

__all__ = ["Images", "Keeper", "sha256_of_images", "sorted_folders", "write_images"]

log = logging.getLogger(__name__)

QUEUE_LIMIT = 16  # parts of about 1.5 MB each that may wait for the disk
CLEAN_S = 60.0
PAUSE_S = 1.0  # without anything to do
STEP_FOLDERS = 50  # looked at or removed before a part gets its turn
NICE = 10
HEAT_FULL = 2.0  # map.png is white at this many thresholds
OVERLAY = "overlay.png"


@dataclass(frozen=True, eq=False)
class Images:
    """What is kept of one part.

    folder: relative to var/lib/edge. frame: the whole stream's. record: the committed fields. crop:
    x, y, width, height of what was judged, which the map covers; None where nothing was.
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
    """Writes images behind the verdicts' back, within bounds of days, gigabytes and free disk.

    `gb` bounds what the images and the database together take on the disk. Before a part's images
    are written the oldest by number make room for them, so that the bounds hold at any rate.
    """

    def __init__(
        self,
        data: Path,
        retention: RetentionConfig,
        clock: PoweredClock | None = None,
        find_stamp: Callable[[int], Stamp | None] = lambda _: None,
    ) -> None:
        """Nothing is read or written before start().

        Args:
            data: var/lib/edge of the root.
            clock: counts the ages; by default the one in the same folder.
            find_stamp: when the part of a number was committed, or a later one; None where nothing
                tells: such a folder counts from when this keeper first saw it.
        """
        self._data, self._parts, self._retention = data, data / "parts", retention
        self._clock, self._find_stamp = clock or PoweredClock(data), find_stamp
        self._queue: queue.Queue[Images | None] = queue.Queue(
            QUEUE_LIMIT
        )  # None: look whether to stop
        self._stopping = threading.Event()
        self._kept: deque[Kept] = deque()  # lowest number first
        self._stamps: dict[Path, Stamp] = {}  # of those that nothing else tells
        self._total = 0  # bytes of images on the disk
        # parts whose images are not kept: each number is written by one thread
        self._crowded_out = 0  # no room in the queue: by the thread that calls `put`
        self._unwritten = 0  # not taken by the disk: by the thread of the keeper
        self._stuck: list[Kept] = []  # could not be removed: tried again with the next look
        self._looking = Trouble(log, "the bounds of kept images hold again")
        self._removing = Trouble(log, "kept images are removed again")
        self._writing = Trouble(log, "images are kept again")
        self._queueing = Trouble(log, "disk and processor keep up with the images again")
        self._thread = threading.Thread(target=self._run, name="images", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, images: Images) -> None:
        """Hand over a part's images, from one thread; if the disk is too slow they are dropped and
        counted. Never waits.
        """
        try:
            self._queue.put_nowait(images)
        except queue.Full:
            self._crowded_out += 1
            part = images.record["part"]
            what = f"part={part} images dropped: disk and processor do not keep up"
            self._queueing.happened(what, cause="queue")
            return
        if self._queue.qsize() <= 1:
            self._queueing.ended()

    @property
    def dropped(self) -> int:
        """Parts whose images found no room in the queue or on the disk."""
        return self._crowded_out + self._unwritten

    def stop(self, timeout_s: float) -> None:
        """Write what is waiting, at most for timeout_s."""
        self._stopping.set()
        with suppress(queue.Full):  # it looks after each part
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        waiting = sum(one is not None for one in list(self._queue.queue))
        if self._thread.is_alive() and waiting:
            log.warning("the images of %d parts that waited for the disk are dropped", waiting)

    def clean(self) -> None:
        """Remove the oldest folders beyond the bounds of days, gigabytes and free disk."""
        for _ in self._clean_in_steps():
            pass

    def _run(self) -> None:
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        work = self._work()
        while True:
            try:
                has_more = next(work)
            except (
                Exception
            ) as error:  # a bug, or a disk that fails meanwhile, is no reason to keep nothing
                log.debug("keeping the bounds of kept images failed", exc_info=True)
                self._looking.happened(
                    f"keeping the bounds of kept images failed, it is tried again: {error!r}"
                )
                work, has_more = self._work(), False
            if self._stopping.is_set() and self._queue.empty():
                return
            try:
                images = self._queue.get(timeout=0.001 if has_more else PAUSE_S)
            except queue.Empty:
                continue
            if images is not None:
                self._write(images)

    def _work(self) -> Iterator[bool]:
        """What is done between two parts, a bounded step at a time; yields whether there is more to
        do now.
        """
        found: dict[Path, Kept] = {}
        for number, kept in enumerate(find_folders(self._parts, repair=True)):
            if kept is not None:
                found[kept.folder] = kept
            if number % STEP_FOLDERS == 0:
                yield True
        found.update({kept.folder: kept for kept in self._kept})  # written meanwhile
        self._kept = deque(
            sorted(found.values(), key=lambda kept: (number_of(kept.folder), kept.folder))
        )
        self._total = sum(kept.size for kept in self._kept)
        while True:
            for _ in self._clean_in_steps():
                yield True
            self._looking.ended()
            due_s = time.monotonic() + CLEAN_S
            while time.monotonic() < due_s:
                yield False

    def _clean_in_steps(self) -> Iterator[None]:
        """Remove what is beyond the bounds, STEP_FOLDERS at a time."""
        now, limit_s = self._clock.now(), self._retention.days * 86_400.0
        self._kept.extendleft(reversed(self._stuck))
        self._stuck.clear()
        for number, kept in enumerate(list(self._kept)):
            stamp = self._stamp_of(kept, now)
            if now.powered_s - stamp.powered_s <= limit_s:
                break  # numbers and powered-on seconds grow together
            if age_s(stamp, now) > limit_s:
                self._kept.remove(kept)
                self._remove(kept)
            if number % STEP_FOLDERS == STEP_FOLDERS - 1:
                yield
        while self._kept and not self._has_room(0):
            for _ in range(STEP_FOLDERS):
                if self._kept and not self._has_room(0):
                    self._remove(self._kept.popleft())
            yield
        if not self._stuck:
            self._removing.ended()

    def _stamp_of(self, kept: Kept, now: Stamp) -> Stamp:
        """Its part's or, where nothing tells, the moment when this was asked first."""
        return self._find_stamp(number_of(kept.folder)) or self._stamps.setdefault(kept.folder, now)

    def _remove(self, kept: Kept) -> None:
        """The folder's bytes count for as long as they are there."""
        self._stamps.pop(kept.folder, None)
        try:
            remove_folder(kept.folder)
            self._total -= kept.size
        except OSError as error:
            self._stuck.append(kept)
            what = f"{kept.folder} cannot be removed, it still counts and is tried again: {error}"
            self._removing.happened(what, cause=str(error.errno))

    def _write(self, images: Images) -> None:
        """Whatever goes wrong costs this part's images, never the thread."""
        try:
            self._keep(images)
            self._writing.ended()
        except Exception as error:  # noqa: BLE001  # the disk, numpy and OpenCV raise their own
            self._unwritten += 1
            why = str(error) or type(error).__name__
            key = str(error.errno) if isinstance(error, OSError) and error.errno else why
            self._writing.happened(
                f"part={images.record.get('part')} images not kept: {why}", cause=key
            )

    def _keep(self, images: Images) -> None:
        _, day, name = images.folder.split("/")
        files = {**image_files(images), **self._draw(images)}
        size = disk_size(files)
        for _ in range(STEP_FOLDERS):
            if self._kept and not self._has_room(size):
                self._remove(self._kept.popleft())
        if not self._has_room(size):
            raise OSError(
                f"they would exceed gb = {self._retention.gb}, or leave less than min_free_gb = "
                f"{self._retention.min_free_gb} free: raise gb, lower min_free_gb or free space"
            )
        kept = Kept(write_folder(self._parts, day, name, files), size)
        self._kept.append(kept)
        self._stamp_of(kept, self._clock.now())
        self._total += size

    def _draw(self, images: Images) -> dict[str, bytes]:
        """A picture that cannot be drawn is no reason to lose the images."""
        try:
            return {OVERLAY: overlay_png(images)}
        except Exception as error:  # noqa: BLE001  # OpenCV raises its own, numpy others
            log.warning("part=%s %s not drawn: %s", images.record["part"], OVERLAY, error)
            return {}

    def _has_room(self, size: int) -> bool:
        """Whether the bounds hold with so many bytes more."""
        place = self._parts if self._parts.exists() else self._data
        free = shutil.disk_usage(place).free - size
        limit = self._retention.gb * 1e9 - database_size(self._data)
        return self._total + size <= limit and free >= self._retention.min_free_gb * 1e9


def database_size(data: Path) -> int:
    """Bytes that line.sqlite and what belongs to it take on the disk."""
    total = 0
    for path in data.glob("line.*"):
        with suppress(OSError):  # the log of the database goes when its last connection is closed
            found = path.lstat()
            total += found.st_blocks * 512 if stat.S_ISREG(found.st_mode) else 0
    return total


def image_files(images: Images) -> dict[str, bytes]:
    """One part's files but the overlay, by name. Raises: OSError for what cannot be encoded."""
    files = {"color.png": _png_of(images.frame.color[:, :, ::-1])}
    if images.frame.depth is not None:
        files["depth.png"] = _png_of(images.frame.depth)
    files |= {name: _json_of(content) for name, content in _camera_files(images.frame).items()}
    if images.map is not None:
        packed = io.BytesIO()
        np.savez_compressed(packed, map=images.map)
        full = HEAT_FULL * (images.record["thr"] or 1.0)
        heat = np.clip(np.nan_to_num(images.map) / full, 0, 1) * 255
        files |= {"map.npz": packed.getvalue(), "map.png": _png_of(heat.astype(np.uint8))}
    return {**files, "record.json": _json_of(images.record)}


def write_images(folder: Path, images: Images) -> None:
    """Write one part's files but the overlay into a folder of any name.

    Raises: OSError if the disk refuses them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in image_files(images).items():
        (folder / name).write_bytes(data)


def overlay_png(images: Images) -> bytes:
    """The picture to look at. Raises: whatever drawing raises."""
    x, y, width, height = images.crop or (
        0,
        0,
        images.frame.intrinsics.width,
        images.frame.intrinsics.height,
    )
    color = images.frame.cropped(x, y, width, height).color
    record = images.record
    code, score, threshold = Code(record["code"]), record["score"], record["thr"]
    title = f"{record['id']}  {code.name} {record['reason']}"
    if score is not None and threshold is not None:
        title += f"  score {score:.4g} (limit {threshold:.4g})"
    picture = draw_kept(color, images.map if images.crop else None, threshold, title, code)
    return _png_of(picture[:, :, ::-1])


def write_overlay(path: Path, images: Images) -> None:
    """Write the picture to look at. Raises: OSError, and whatever drawing raises."""
    path.write_bytes(overlay_png(images))


def _camera_files(frame: Frame) -> dict[str, dict[str, Any]]:
    """The camera as edge.frames.camera_info reads it, by file name."""
    i = frame.intrinsics
    size = {"width": i.width, "height": i.height}
    settings = {"exposure_us": frame.exposure_us, "gain": frame.gain}
    told = {name: float(value) for name, value in settings.items() if value is not None}
    lens = {"depth_unit_m": frame.unit, "fx": i.fx, "fy": i.fy, "cx": i.cx, "cy": i.cy}
    lens = {name: float(value) for name, value in lens.items()}
    return {
        "intrinsics.json": {**size, **lens},
        "camera.json": {"serial": frame.serial, **size, **told},
    }


def _json_of(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode("ascii")


def _png_of(pixels: NDArray[Any]) -> bytes:
    cv2 = optional_module("cv2", "pip install opencv-python-headless")
    encoded, data = cv2.imencode(
        ".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not encoded:
        raise OSError("the image cannot be encoded as PNG")
    return bytes(data.tobytes())
