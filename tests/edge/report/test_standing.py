"""What was shown on site stands only under the plane, crop and region that are in force: status,
doctor, report and the page's guide say it alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge.control.guide import SiteTold
from edge.decide.drift import Drift
from edge.decide.drift_file import DriftKey, drift_to_json
from edge.doctor.checks import CHECKS, examine
from edge.install.summary import status_lines
from edge.page.calibrate import _step_of
from edge.page.station_guide import GuideView
from edge.report.reports import commissioning_report
from edge.runtime.current import CurrentBundle
from edge.runtime.drift_watch import drift_file
from edge.runtime.guide_facts import GuideFacts
from edge.runtime.inspection import opened_active
from edge.station.site_digest import geometry_digest
from edge.station.store import Store
from edge.types import Geometry
from tests.support.reported import SHOWN_AT, Page, show_parts
from tests.support.station import INTRINSICS, SERIAL, StationRoot
from tests.support.tiny_bundle import PLANE

PARTS = f"normal parts behind the threshold were shown on {SHOWN_AT}, before the plane"
BAD = f"known-bad parts were shown on {SHOWN_AT}"
CALIBRATION = tuple(check for check in CHECKS if check.name == "calibration")


def move_crop(store: Store) -> None:
    store.save_geometry("washer", SERIAL, Geometry(PLANE, 1, 0, None), INTRINSICS, 30)


def told(store: Store, serial: str = SERIAL) -> SiteTold:
    with opened_active(store.root) as active:
        return GuideFacts(CurrentBundle(active)).told(serial)


def said(store: Store) -> dict[str, Any]:
    row = examine(store.root, CALIBRATION)[0].finding
    return {
        "status": "\n".join(status_lines(store)),
        "doctor": row.said,
        "report": Page(commissioning_report(store, "washer")).text,
        "state": row.state,
    }


def test_under_the_geometry_in_force_all_stands(station: StationRoot) -> None:
    show_parts(station.store)
    everything = said(station.store)
    assert everything["state"] == "right"
    assert not any("again" in text for text in everything.values())


def test_another_place_of_the_crop_asks_for_both_again(station: StationRoot) -> None:
    show_parts(station.store)
    move_crop(station.store)
    everything = said(station.store)
    assert everything.pop("state") == "wrong"
    for text in everything.values():
        assert PARTS in text
        assert f"{BAD}, before the plane" in text


def test_another_threshold_asks_for_known_bad_parts_again(station: StationRoot) -> None:
    store, shown = station.store, show_parts(station.store)
    state = store.model_state(store.active(), shown["precision"], shown["engine"])
    assert state is not None
    store.save_model_state(
        store.active(), state.precision, state.runtime, 4, 3.0, "", shown=state.shown
    )
    everything = said(store)
    assert everything.pop("state") == "wrong"
    for text in everything.values():
        assert "normal parts behind" not in text
        assert f"{BAD} under another threshold" in text


def test_without_a_noted_geometry_the_time_tells(station: StationRoot) -> None:
    show_parts(station.store, geometry_version=None)  # the plane was saved after SHOWN_AT
    assert PARTS in said(station.store)["status"]


def test_the_guide_shows_the_step_that_is_to_be_done_again(station: StationRoot) -> None:
    show_parts(station.store)
    site = told(station.store)
    assert site.parts is not None
    assert site.challenge is not None
    assert (site.parts.before, site.challenge.before) == ("", "")
    assert _step_of(GuideView(site=site), "") == "challenge"  # the last: all are done
    move_crop(station.store)
    site = told(station.store)
    assert site.plane is not None
    assert site.parts is not None
    assert site.challenge is not None
    assert site.parts.before == site.challenge.before == site.plane.when
    assert _step_of(GuideView(site=site), "") == "parts"


def test_an_expected_silhouette_asks_for_both_again_by_its_own_date(station: StationRoot) -> None:
    show_parts(station.store)
    station.expect(np.full((96, 128), 255, np.uint8))
    record = station.store.geometry_record("washer", SERIAL)
    assert record is not None
    assert record.expected is not None
    everything = said(station.store)
    assert everything.pop("state") == "wrong"
    for text in everything.values():
        date = f", before the plane, crop, region or silhouette of {record.expected.when} by test"
        assert f"{PARTS.partition(',')[0]}{date}" in text
        assert f"{BAD}{date}" in text
    parts = told(station.store).parts
    assert parts is not None
    assert parts.before == record.expected.when


def test_a_silhouette_that_came_after_old_evidence(station: StationRoot) -> None:
    show_parts(station.store, geometry_version=None)
    early = "2026-01-01T00:00:00.000Z"
    file = station.store.site_folder("washer") / "geometry.json"
    now = station.store.geometry_record("washer", SERIAL)
    assert now is not None
    file.write_text(file.read_text().replace(now.when, early))
    assert "calibration" not in said(station.store)["status"]
    station.expect(np.full((96, 128), 255, np.uint8))
    assert PARTS in said(station.store)["status"]


def test_what_another_camera_has_seen_is_not_done(station: StationRoot) -> None:
    show_parts(station.store)
    station.store.save_geometry("washer", "other", Geometry(PLANE, 0, 0, None), INTRINSICS, 30)
    site = told(station.store, "other")
    assert site.plane is not None
    assert (site.parts, site.challenge) == (None, None)
    assert told(station.store).parts is not None
    everything = said(station.store)
    assert everything.pop("state") == "wrong"
    for text in everything.values():
        assert PARTS in text
        assert f"{BAD}, before the plane" in text


def test_a_drift_reference_of_another_crop_is_named_so(station: StationRoot) -> None:
    store = station.store
    record = store.geometry_record("washer", SERIAL)
    assert record is not None
    key = DriftKey(
        product="washer", serial=SERIAL, bundle=store.active().slot, engine="e",
        geometry=geometry_digest(record), model_state=None,
    )  # fmt: skip
    drift_file(store, "washer").write_bytes(drift_to_json(key, Drift(seed=1)))
    assert "Plane, crop, region those in force" in said(store)["report"]
    move_crop(store)
    assert "others than those in force: it begins anew" in said(store)["report"]
