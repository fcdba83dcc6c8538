"""A repeated failure is logged when it begins, when its cause changes and when it ends, not every
time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter


class Trouble:
    """One thing that can fail, such as the connection to the broker. Thread-safe.

    It may have several users (two clients of one broker): a cause is logged once for all of them,
    and the end once none is affected any more.
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
        """Whether the failure lasts."""
        return bool(self._affected)

    def happened(self, sentence: str, who: str = "", cause: str = "") -> None:
        """The user named `who` failed, perhaps again.

        cause: failures with the same key have the same cause; by default the key is the sentence.
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
        """The user named `who` works again; does nothing if it had not failed."""
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
