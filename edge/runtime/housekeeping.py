"""Care for the disk, in threads of its own: neither a part nor the watchdog waits for it.

    each second       whether a disk that failed takes writes again
    every 10 seconds  whether an idle disk still takes writes
    every 30 seconds  the bounds of the records, in steps of milliseconds with pauses between, and
                      the write-ahead log into the database

The bounds have a second thread: after one was lowered, enforcing it takes minutes, and a fault of
the disk must end without waiting for that.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from edge.background import Repeated
from edge.errors import StorageError
from edge.line.outbox import Outbox
from edge.sections import RetentionConfig
from edge.trouble import Trouble

log = logging.getLogger(__name__)

PASS_S = 1.0
PROBE_S = 10.0  # after this long without a commit the disk is asked
PERSIST_S = 60.0  # the disk is asked in any case: that renews the counters in the database
CLEAN_S = 30.0
STEPS_PER_CHECKPOINT = 8
PAUSE_LEAST_S = 0.002  # between two steps; otherwise as long as the step took
RECORD_SHARE = 0.1  # of the bound of the disk, for records; the rest is for images
RECORD_BYTES_LEAST = 1_000_000  # about 1000 records are kept, however low the bound


class Housekeeping:
    """Enforces the bounds of one outbox and watches its disk."""

    def __init__(
        self, outbox: Outbox, retention: RetentionConfig, note_storage: Callable[[bool], None]
    ) -> None:
        """note_storage: called with whether the disk works, whenever it was asked.

        Nothing is done before start().
        """
        self._outbox, self._note_storage = outbox, note_storage
        self._max_age_s = retention.days * 86_400.0
        self._max_bytes = max(RECORD_BYTES_LEAST, int(retention.gb * 1e9 * RECORD_SHARE))
        self._clean_due_s = self._probe_due_s = self._persist_due_s = time.monotonic()
        self._seq = -1
        self._refused = Trouble(log, "the disk takes records again")
        self._keeping = Trouble(log, "the bounds of the records are enforced again")
        self._watch = Repeated("disk", log, self._watch_disk, PASS_S)
        self._bounds = Repeated("housekeeping", log, self._keep_bounds, PASS_S)

    def start(self) -> None:
        """Start both threads."""
        self._watch.start()
        self._bounds.start()

    def stop(self, timeout_s: float) -> None:
        """End both after their present step; waits at most for timeout_s."""
        self._watch.stopping.set()
        self._bounds.stop(timeout_s / 2)
        self._watch.stop(timeout_s / 2)

    def _watch_disk(self) -> None:
        self._outbox.clock.persist()
        if self._outbox.is_failing or self._is_probe_due():
            self._probe()

    def _keep_bounds(self) -> None:
        if time.monotonic() < self._clean_due_s:
            return
        self._clean_due_s = time.monotonic() + CLEAN_S
        try:
            self._clean()
            self._keeping.ended()
        except StorageError as error:
            self._keeping.happened(f"housekeeping: {error}")

    def _is_probe_due(self) -> bool:
        """A disk that has just taken a record is not asked, unless the counters are to be
        renewed.
        """
        now_s, seq = time.monotonic(), self._outbox.counts()["seq"]
        if seq != self._seq:
            self._seq, self._probe_due_s = seq, now_s + PROBE_S
        return now_s >= min(self._probe_due_s, self._persist_due_s)

    def _probe(self) -> None:
        try:
            self._outbox.probe()
        except StorageError as error:
            self._note_storage(False)
            self._refused.happened(f"housekeeping: {error}")
            return
        self._note_storage(True)
        self._refused.ended()
        self._probe_due_s, self._persist_due_s = (
            time.monotonic() + PROBE_S,
            time.monotonic() + PERSIST_S,
        )

    def _clean(self) -> None:
        started_s = time.monotonic()
        for number, _ in enumerate(
            self._outbox.retain_in_steps(self._max_age_s, max_bytes=self._max_bytes)
        ):
            if number % STEPS_PER_CHECKPOINT == 0:
                self._outbox.checkpoint()
            if self._bounds.stopping.wait(max(PAUSE_LEAST_S, time.monotonic() - started_s)):
                return
            started_s = time.monotonic()
        self._outbox.checkpoint()
