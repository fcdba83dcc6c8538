"""Rows for the audit table out of a thread that must not wait for a disk."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent import futures
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from edge.background import in_background, keep_running
from edge.errors import StorageError
from edge.station.audit import append_audit
from edge.trouble import Trouble

log = logging.getLogger(__name__)

PASS_S = 0.1
WAITING = 100  # rows; those beyond are logged only


class RowLimit:
    """At most so many rows within so many seconds, because the table is never cut. Not thread-safe;
    how many were left out stands in the next row.
    """

    def __init__(self, rows: int, within_s: float) -> None:
        self._rows, self._within_s = rows, within_s
        self._times: deque[float] = deque()
        self._left_out = 0

    def limited(self, detail: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row to be written; None for one too many."""
        now_s = time.monotonic()
        while self._times and self._times[0] < now_s - self._within_s:
            self._times.popleft()
        if len(self._times) >= self._rows:
            self._left_out += 1
            return None
        self._times.append(now_s)
        left_out = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        return {**detail, **left_out}


class AuditRows:
    """Writes rows in the order in which they were put, in a thread of its own."""

    def __init__(self, root: Path) -> None:
        """root: of the station. Nothing is written before start()."""
        self._root = root
        self._waiting: queue.Queue[tuple[str, Mapping[str, Any], str | None]] = queue.Queue(WAITING)
        self._stopping = threading.Event()
        self._ended: Future[None] | None = None
        self._complaint = Trouble(log, "the audit table takes rows again")

    def start(self) -> None:
        """Write what was put and will be."""
        self._ended = in_background("audit", lambda: keep_running(log, self._write, self._stopping))

    def stop(self, timeout_s: float) -> None:
        """Write what waits, unless that takes longer."""
        self._stopping.set()
        if self._ended is not None:
            futures.wait([self._ended], timeout_s)

    def put(self, act: str, detail: Mapping[str, Any], who: str | None = None) -> None:
        """One row, soon on disk. Never waits. who: by default the account of the service."""
        try:
            self._waiting.put_nowait((act, dict(detail), who))
        except queue.Full:
            log.error("the audit table has no row for this: %s %s", act, detail)

    def _write(self) -> None:
        while True:
            try:
                act, detail, who = self._waiting.get(timeout=PASS_S)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            try:
                append_audit(self._root, act, detail, who)
                self._complaint.ended()
            except StorageError as error:
                self._complaint.happened(f"the audit table has no row for {act} {detail}: {error}")
