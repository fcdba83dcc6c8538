"""Whether this machine's wall clock can be believed."""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import time
from collections.abc import Callable

TIME_ERROR = 5                  # adjtimex(2): the clock is not synchronised
TIMEX_BYTES = 512               # struct timex is 208 bytes on 64 bit Linux; modes = 0 in its first word only reads
ASK_EVERY_S = 10.0


def is_clock_synced() -> bool:
    """Whether the kernel's clock is disciplined by NTP or PTP; False where that cannot be known. Asked every 10 s."""
    return _is_clock_synced(int(time.monotonic() / ASK_EVERY_S))


@functools.lru_cache(maxsize=1)
def _is_clock_synced(_: int) -> bool:
    ask = _adjtimex()
    return ask is not None and ask(ctypes.create_string_buffer(TIMEX_BYTES)) not in (-1, TIME_ERROR)


@functools.lru_cache(maxsize=1)
def _adjtimex() -> Callable[[object], int] | None:
    library = ctypes.CDLL(None)
    return getattr(library, "adjtimex", None)
