"""What a running station says of itself: for the `state` message and for `edge status`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edge.line.base import Line
from edge.line.message import StateDetails, StationState, TriggerCounts
from edge.line.outbox import Outbox
from edge.runtime.capture import Capture
from edge.runtime.current import CurrentBundle
from edge.runtime.deciding import Parts
from edge.runtime.drift_watch import DriftWatch
from edge.runtime.health import Health
from edge.runtime.judging import Seen
from edge.runtime.keeper import Keeper
from edge.runtime.mailbox import Mailbox
from edge.runtime.pause import Pause


class Report:
    """Asks everybody who counts something. Any thread may ask it: it only reads, and what it reads
    is of about the same moment.
    """

    def __init__(
        self,
        station: str,
        health: Health,
        current: CurrentBundle,
        mailbox: Mailbox,
        capture: Capture,
        parts: Parts,
        line: Line,
        outbox: Outbox,
        keeper: Keeper,
        pause: Pause,
        drift: DriftWatch,
        seen: Callable[[], Seen],
        triggers: Callable[[], TriggerCounts] | None = None,
    ) -> None:
        """station: its name. seen: the frames judged so far. triggers: None in free run."""
        self._triggers = triggers
        self._station, self._health, self._current = station, health, current
        self._mailbox, self._capture, self._parts = mailbox, capture, parts
        self._line, self._outbox, self._keeper = line, outbox, keeper
        self._pause, self._drift, self._seen = pause, drift, seen
        self._started_s = time.monotonic()

    def state(self) -> StationState:
        """State, reason, ready and every counter."""
        state, reason, ready = self._health.state()
        return StationState(self._station, state, reason, ready, self._details())

    def for_status(self) -> dict[str, Any]:
        """The same, flat, and what the message has no room for; JSON types."""
        said, seen = self.state(), self._seen()
        return {
            "state": said.state,
            "reason": said.reason,
            "ready": said.ready,
            "why": self._health.why,
            "camera": seen.serial,
            "frames": seen.frames,
            "powered_on_s": self._outbox.clock.powered_s(),
            "parts_watched": self._drift.parts,
            **({} if said.details is None else said.details.as_fields()),
        }

    def _details(self) -> StateDetails:
        active, line, capture = self._current.get(), self._line, self._capture
        healing, device = capture.healing, capture.device
        counts, verdicts = self._outbox.counts(), self._health.verdicts()
        return StateDetails(
            busy=not self._parts.is_between_parts,
            heartbeat=line.heartbeats,
            link=line.problem,
            product=active.installed.product,
            bundle=active.bundle,
            engine=active.engine.name,
            precision=active.engine.precision,
            ok=verdicts["ok"],
            ng=verdicts["ng"],
            unknown=verdicts["unknown"],
            medians_ms=self._health.times.medians(),
            seq=counts["seq"],
            records_waiting=counts["waiting"],
            records_dropped=counts["dropped"],
            records_unwritten=self._outbox.unwritten,
            verdicts_unsent=line.counters.verdicts_unsent,
            frames_dropped=self._mailbox.dropped + capture.dropped,
            frame_gaps=capture.gaps,
            camera_restarts=capture.restarts,
            images_dropped=self._keeper.dropped,
            uptime_s=int(time.monotonic() - self._started_s),
            camera_resets=healing.hardware_resets,
            usb_resets=healing.port_restarts,
            camera_problem=healing.problem,
            camera_usb=device.usb,
            camera_temperature_c=device.temperature_c,
            product_number=active.number,
            paused=self._pause.is_asked_for,
            drift=self._drift.told,
            triggers=None if self._triggers is None else self._triggers(),
        )
