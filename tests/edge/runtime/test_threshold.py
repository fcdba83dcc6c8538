"""By whose threshold a part is judged, and what its record says of it."""

from __future__ import annotations

from edge.install.proven import open_proven_engine
from edge.runtime.active import ActiveBundle, resolve_active
from tests.support.fakes import committed, frames_of
from tests.support.service import new_service
from tests.support.station import BAD, EMPTY, GOOD, StationRoot

SHOWN = [*[EMPTY] * 3, *[GOOD] * 6, *[EMPTY] * 3, *[BAD] * 6, *[EMPTY] * 3]


def resolved(station: StationRoot) -> ActiveBundle:
    """The station as `edge run` resolves it, its engine closed."""
    active = resolve_active(
        station.store, lambda installed: open_proven_engine(station.store, installed)
    )
    active.engine.close()
    return active


def test_a_record_says_which_engine_judged_and_what_its_threshold_promises(
    station: StationRoot,
) -> None:
    new_service(station, frames_of(SHOWN)).run()
    threshold = station.store.active().manifest.thresholds["fp32"]
    first, second = committed(station.root)
    for record in (first, second):
        assert record["engine"].startswith("onnxruntime ")
        assert record["engine"].endswith(" fp32")
        assert (record["thr_from"], record["thr_parts"]) == ("bundle", 8)
        assert record["guarantee"] == threshold.guarantee
    assert (first["code"], second["code"]) == (1, 2)


def test_the_sites_own_threshold_replaces_the_measured_one_for_this_very_engine(
    station: StationRoot,
) -> None:
    store = station.store
    installed = store.active()
    before = resolved(station)
    # another version
    store.save_model_state(installed, "fp32", "onnxruntime 0.1", parts=30, threshold=70.0)
    assert resolved(station).rule == before.rule
    assert before.guarantee.source == "bundle"
    store.save_model_state(
        installed,
        "fp32",
        before.engine.name,
        parts=30,
        threshold=70.0,
        guarantee="3.2% are rejected",
        rank=1,
    )
    new_service(station, frames_of(SHOWN)).run()
    records = committed(station.root)
    assert [(one["code"], one["thr"]) for one in records] == [(1, 70.0), (1, 70.0)]
    told = {(one["thr_from"], one["thr_parts"], one["guarantee"]) for one in records}
    assert told == {("site", 30, "3.2% are rejected")}


def test_the_measured_threshold_is_the_proven_engines(station: StationRoot) -> None:
    active = resolved(station)
    assert active.guarantee.rank == 1
    assert active.rule.threshold == active.proven.threshold.value
    assert active.engine_name == f"{active.engine.name} fp32"
