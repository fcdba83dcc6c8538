"""Rows for the audit table out of a thread that must not wait for a disk."""

from __future__ import annotations

import logging
import queue
import threading
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


class AuditRows:
    """Writes rows in the order in which they were put, in a thread of its own."""

    def __init__(self, root: Path) -> None:
        """root: of the station. Nothing is written before start()."""
        self._root = root
        self._waiting: queue.Queue[tuple[str, Mapping[str, Any]]] = queue.Queue(WAITING)
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

    def put(self, act: str, detail: Mapping[str, Any]) -> None:
        """One row, soon on disk. Never waits."""
        try:
            self._waiting.put_nowait((act, dict(detail)))
        except queue.Full:
            log.error("the audit table has no row for this: %s %s", act, detail)

    def _write(self) -> None:
        while True:
            try:
                act, detail = self._waiting.get(timeout=PASS_S)
            except queue.Empty:
                if self._stopping.is_set():
                    return
                continue
            try:
                append_audit(self._root, act, detail)
                self._complaint.ended()
            except StorageError as error:
                self._complaint.happened(f"the audit table has no row for {act} {detail}: {error}")
