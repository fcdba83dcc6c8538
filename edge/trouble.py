"""A failure that repeats is logged when it begins, when its cause changes and when it ends: never
every second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter


class Trouble:
    """One thing that can be out of order, such as the connection to the broker. Thread-safe.

    Several users may be affected (two clients of one broker): a cause is logged once for all of
    them, and the end when none is affected any more.
    """

    def __init__(self, log: logging.Logger, mended: str) -> None:
        """mended: what is logged at the end, before the count, e.g. "broker: connected again"."""
        self._log, self._mended = log, mended
        self._lock = threading.Lock()
        self._causes: Counter[str] = Counter()
        self._affected: set[str] = set()
        self._began_s = 0.0

    @property
    def is_on(self) -> bool:
        """Whether it has begun and not ended."""
        return bool(self._affected)

    def happened(self, sentence: str, who: str = "", cause: str = "") -> None:
        """It happened, perhaps again, to the user named `who`.

        cause: a key; failures with the same key have the same cause. By default the whole sentence.
        """
        with self._lock:
            if not self._affected:
                self._causes.clear()
                self._began_s = time.monotonic()
            self._affected.add(who)
            key, before = cause or sentence, self._causes.total()
            self._causes[key] += 1
            if self._causes[key] > 1:
                return
            duration_s = time.monotonic() - self._began_s
        if before:
            self._log.error("%s (before this: %s in %.0f s)", sentence, _times(before), duration_s)
        else:
            self._log.error("%s", sentence)

    def ended(self, who: str = "") -> None:
        """The user named `who` is affected no more; does nothing if it was not."""
        with self._lock:
            if who not in self._affected:
                return
            self._affected.remove(who)
            if self._affected:
                return
            count, duration_s = self._causes.total(), time.monotonic() - self._began_s
        self._log.warning("%s, after %s in %.0f s", self._mended, _times(count), duration_s)


def _times(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"
