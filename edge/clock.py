"""Clocks: the date can be trusted only while it is synchronized, the powered-on time always.

A station whose clock has no battery boots in 1970, judges parts, and jumps by decades once NTP
answers. Ages are therefore counted in powered-on seconds: a number that grows only while the
machine is on and is kept in a file across boots. Whenever it is uncertain, the smaller value is
taken, so that an error keeps records too long and never too short.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import logging
import math
import os
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.trouble import Trouble

log = logging.getLogger(__name__)

TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
# struct timex is 208 bytes on 64 bit Linux; with modes = 0, its first word, adjtimex only reads
TIMEX_BYTES = 512
ASK_EVERY_S = 10.0
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")  # changes with each boot
CLOCK_FILE = "line.clock"
CLOCK_BYTES = 4096  # one disk block: overwritten in place, so that a full disk takes it
PERSIST_S = 60.0


def is_clock_synced() -> bool:
    """Whether NTP or PTP disciplines the kernel's clock; False where the kernel cannot say.

    The kernel is asked at most every 10 s.
    """
    return _is_clock_synced(int(time.monotonic() / ASK_EVERY_S))


@functools.lru_cache(maxsize=1)
def _is_clock_synced(_: int) -> bool:
    ask = _adjtimex()
    return ask is not None and ask(ctypes.create_string_buffer(TIMEX_BYTES)) not in (-1, TIME_ERROR)


@functools.lru_cache(maxsize=1)
def _adjtimex() -> Callable[[object], int] | None:
    library = ctypes.CDLL(None)
    return getattr(library, "adjtimex", None)


def boot_time_s() -> float:
    """Seconds since this boot, including suspension. Where the system has no such clock: monotonic
    seconds from an unknown origin.
    """
    return (
        time.clock_gettime(time.CLOCK_BOOTTIME)
        if hasattr(time, "CLOCK_BOOTTIME")
        else time.monotonic()
    )


def read_boot_id() -> str:
    """The identifier of this boot; empty where the system has none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


@dataclass(frozen=True)
class Stamp:
    """When a record or an image was stored.

    powered_s: powered-on seconds. wall_s: seconds since 1970 by the wall clock. synced: whether the
    wall clock was synchronized then.
    """

    powered_s: float
    wall_s: float
    synced: bool


def age_s(kept: Stamp, now: Stamp) -> float:
    """Age in seconds, at least 0: the difference of the powered-on seconds, or that of the wall
    clock if it was synchronized both times and is smaller.
    """
    powered_s = now.powered_s - kept.powered_s
    wall_s = now.wall_s - kept.wall_s if kept.synced and now.synced else powered_s
    return max(0.0, min(powered_s, wall_s))


class PoweredClock:
    """Counts powered-on seconds, kept in the file `line.clock`. Thread-safe.

    The file holds the id of the boot, the boot's offset, the last reading and the start of the
    count. Within a boot CLOCK_BOOTTIME also counts while no process runs. In a new boot the count
    continues from the last reading, which is at most a minute old; the time from the boot to its
    first reading is not counted.
    """

    def __init__(self, folder: Path) -> None:
        """Continue from the file in `folder`. If it is missing or damaged, the count restarts at 0,
        so that everything is kept longer.
        """
        self._path = folder / CLOCK_FILE
        self._lock = threading.Lock()
        self._boot = read_boot_id()
        read = self._read()
        self._is_new = read is None
        boot, offset_s, last_s, began_s = read or ("", 0.0, 0.0, 0.0)
        same_boot = boot == self._boot != ""
        self._offset_s = max(offset_s if same_boot else -math.inf, last_s - boot_time_s())
        self._began_s = began_s
        self._persisted_mono_s = -math.inf
        self._trouble = Trouble(log, f"{self._path} is written again")

    def powered_s(self) -> float:
        """Seconds for which this station has been on so far."""
        return self._offset_s + boot_time_s()

    def now(self) -> Stamp:
        """The stamp of a record or image that is stored now."""
        return Stamp(self.powered_s(), time.time(), is_clock_synced())

    @property
    def began_s(self) -> float:
        """The powered-on seconds at which the count began; they stamp older records without a stamp
        of their own.
        """
        return self._began_s

    def advance_to(self, powered_s: float) -> None:
        """Continue from a record's stamp if the count is behind it, because the file was lost."""
        with self._lock:
            behind_s = powered_s - self.powered_s()
            if behind_s > 0 and math.isfinite(powered_s):
                self._offset_s += behind_s
                self._began_s = powered_s if self._is_new else self._began_s

    def persist(self, every_s: float = PERSIST_S) -> None:
        """Write the reading to the file, at most once in `every_s`. A disk that refuses the write
        is logged once.
        """
        if time.monotonic() - self._persisted_mono_s < every_s:
            return
        try:
            with self._lock:
                self._write()
            self._persisted_mono_s = time.monotonic()
            self._trouble.ended()
        except OSError as error:
            what = f"{self._path} cannot be written ({error})"
            self._trouble.happened(f"{what}: records and images are kept longer than configured")

    def _read(self) -> tuple[str, float, float, float] | None:
        try:
            text, _, check = self._path.read_bytes().rstrip(b" \n").rpartition(b" ")
            if not text or int(check) != zlib.crc32(text):
                raise ValueError("its checksum differs")
            boot, *numbers = text.decode("ascii").split(" ")
            offset_s, last_s, began_s = map(float, numbers)
            return boot.removeprefix("boot="), offset_s, last_s, began_s
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning(
                "%s is not usable (%s): ages are counted from 0 again, nothing is deleted early",
                self._path,
                error,
            )
            return None

    def _write(self) -> None:
        text = (
            f"boot={self._boot} {self._offset_s!r} {self.powered_s()!r} {self._began_s!r}".encode()
        )
        block = b"%s %d" % (text, zlib.crc32(text))
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644
        )
        try:
            os.pwrite(descriptor, block.ljust(CLOCK_BYTES, b" "), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
