"""Looking at the running station while a bundle is on trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from edge.runtime.status import SILENT_S
from edge.runtime.status_file import read_live
from edge.station.store import Store
from edge.update.state import TrialRecord
from edge.update.trial import Bounds, Look, Trial

LOOK_S, KEEP_S = 1.0, 10.0  # between two looks; between two times that progress is kept
PATIENCE = 2.0  # one call of `watch` lasts at most this many times the trial's seconds, and
LONGEST_S = 4 * 3600.0  # no longer than this, which leaves the unit's time for the rest


def said_now(store: Store) -> dict[str, Any] | None:
    """What the station says; empty if it is at work and says nothing, None if it is not at work."""
    live = read_live(store)
    if live is None:
        return None
    return {} if live.age_s > SILENT_S else dict(live.said)


def watch(
    store: Store,
    record: TrialRecord,
    bounds: Bounds,
    keep: Callable[[TrialRecord], object],
    was_at_work: bool,
    look: Callable[[], dict[str, Any] | None] | None = None,
) -> tuple[TrialRecord, bool | None]:
    """Look each second until it is decided whether the station is healthy.

    was_at_work: the station judged right before the installation, so that it should now. Otherwise
    nothing is watched, and nothing decided, while no `edge run` is at work.
    keep: is given the progress, to be written. look: what the station says, by default `said_now`.
    Returns: how far it came, with `unhealthy` set where it is; and whether the station is healthy,
    None where that is not decided (nothing runs, no camera, or somebody changed the bundle).
    """
    trial, kept_s = Trial(record, bounds), time.monotonic()
    ends_s = kept_s + min(PATIENCE * bounds.seconds, LONGEST_S)
    while store.link(record.offer.product, "current") == record.slot:
        said, now_s = said_now(store) if look is None else look(), time.monotonic()
        if said is None and not was_at_work:
            break
        was_at_work = True
        why = trial.look(Look(now_s, said))
        if why:
            return trial.record.model_copy(update={"unhealthy": why}), False
        if trial.is_healthy:
            return trial.record, True
        if now_s - kept_s >= KEEP_S:
            keep(trial.record)
            kept_s = now_s
        if now_s >= ends_s:
            break
        time.sleep(LOOK_S)
    return trial.record, None
