"""Keeps the images of NG and UNKNOWN parts and of one in N OK parts, within bounds of disk and age.

They lie in var/lib/edge/parts/DATE/ID/ and are written by a low-priority thread;
edge/runtime/kept_files.py says what a folder holds.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from edge.clock import PoweredClock, Stamp, age_s
from edge.runtime.kept_files import Images, image_files, overlay_png
from edge.runtime.kept_folders import (
    Kept,
    disk_size,
    find_folders,
    number_of,
    remove_folder,
    sorted_folders,
    write_folder,
)
from edge.sections import RetentionConfig
from edge.trouble import Trouble

__all__ = ["Images", "Keeper", "sorted_folders"]

log = logging.getLogger(__name__)

QUEUE_LIMIT = 16  # parts of about 1.5 MB each that may wait for the disk
CLEAN_S = 60.0
PAUSE_S = 1.0  # without anything to do
STEP_FOLDERS = 50  # looked at or removed before a part gets its turn
NICE = 10
OVERLAY = "overlay.png"


class Keeper:
    """Writes images while no verdict waits for it, within bounds of days, gigabytes and free disk.

    `gb` bounds what the images and the database together take on the disk. Before the images of a
    part are written, the oldest by number are removed to make room, so that the bounds hold at any
    rate of parts.

    `put` is called by the decision thread, start and stop by the main thread; what is not the queue
    or a counter belongs to the thread of the keeper.
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
            find_stamp: when the part of a number, or a later one, was committed; None where that
                is not known: the age of such a folder counts from when this keeper first saw it.
        """
        self._data, self._parts, self._retention = data, data / "parts", retention
        self._clock, self._find_stamp = clock or PoweredClock(data), find_stamp
        # None: look whether to stop
        self._queue: queue.Queue[Images | None] = queue.Queue(QUEUE_LIMIT)
        self._stopping = threading.Event()
        self._kept: deque[Kept] = deque()  # lowest number first
        self._stamps: dict[Path, Stamp] = {}  # of folders for which find_stamp gives None
        self._total = 0  # bytes of images on the disk
        # parts whose images are not kept: each number is written by one thread
        self._crowded_out = 0  # no room in the queue: by the thread that calls `put`
        self._unwritten = 0  # not taken by the disk: by the thread of the keeper
        self._stuck: list[Kept] = []  # could not be removed: tried again with the next look
        self._looking = Trouble(log, "the bounds of kept images are enforced again")
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
            # a bug, or a disk that fails meanwhile, is no reason to keep nothing
            except Exception as error:
                log.debug("enforcing the bounds of kept images failed", exc_info=True)
                self._looking.happened(
                    f"enforcing the bounds of kept images failed, it is tried again: {error!r}"
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
        """The work between two parts, in bounded steps; yields after each, whether there is more to
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
        """When its part was committed or, where that is not known, when this was first asked."""
        return self._find_stamp(number_of(kept.folder)) or self._stamps.setdefault(kept.folder, now)

    def _remove(self, kept: Kept) -> None:
        """Where that fails, its bytes go on counting, and it is tried again with the next look."""
        self._stamps.pop(kept.folder, None)
        try:
            remove_folder(kept.folder)
            self._total -= kept.size
        except OSError as error:
            self._stuck.append(kept)
            what = f"{kept.folder} cannot be removed, it still counts and is tried again: {error}"
            self._removing.happened(what, cause=str(error.errno))

    def _write(self, images: Images) -> None:
        """A failure costs the images of this part, and never ends the thread."""
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
        """The overlay; nothing where it cannot be drawn, which is no reason to lose the images."""
        try:
            return {OVERLAY: overlay_png(images)}
        except Exception as error:  # noqa: BLE001  # OpenCV raises its own, numpy others
            log.warning("part=%s %s not drawn: %s", images.record["part"], OVERLAY, error)
            return {}

    def _has_room(self, size: int) -> bool:
        """Whether `size` bytes more would stay within the bounds."""
        place = self._parts if self._parts.exists() else self._data
        free = shutil.disk_usage(place).free - size
        limit = self._retention.gb * 1e9 - database_size(self._data)
        return self._total + size <= limit and free >= self._retention.min_free_gb * 1e9


def database_size(data: Path) -> int:
    """Bytes that line.sqlite and the files beside it take on the disk."""
    total = 0
    for path in data.glob("line.*"):
        with suppress(OSError):  # the log of the database goes when its last connection is closed
            found = path.lstat()
            total += found.st_blocks * 512 if stat.S_ISREG(found.st_mode) else 0
    return total
