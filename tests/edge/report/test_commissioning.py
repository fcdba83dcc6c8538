"""The commissioning report says on what the verdicts rest, and what was never measured."""

from __future__ import annotations

import re

import pytest

from edge.decide.drift import Drift
from edge.decide.drift_file import DriftKey, drift_to_json
from edge.errors import BundleError, ConfigError
from edge.report.document import NOT_MEASURED
from edge.report.reports import commissioning_report
from edge.report.seal import verify_report
from edge.runtime.drift_watch import drift_file
from tests.support.archive import judged, write_records
from tests.support.reported import SHOWN_AT, read_page, show_parts
from tests.support.station import SERIAL, StationRoot


def report_of(station: StationRoot, who: str | None = "anna") -> str:
    data = commissioning_report(station.store, "washer", who)
    assert verify_report(data).about.kind == "commissioning"
    return read_page(data).text


def test_a_commissioned_station(station: StationRoot) -> None:
    store = station.store
    show_parts(store)
    write_records(station.root, [judged(n, 1.0, judge_ms=n) for n in range(1, 101)])
    said = report_of(station)
    bundle = store.active()
    for words in (
        "site / line / s1",
        SERIAL,
        bundle.digest,
        f"Signed with key {store.keys.all()[0].keyid}",
        bundle.manifest.provenance.data_sha256,
        "Distance 500 mm",
        "Tilt 0 degrees",
        "Threshold 4 Set from calibrated on this station, version 1",
        "at most 52.7% of normal parts are rejected (measured, not proven",
        "about 3.1%, an estimate with the trainer's scores",
        "31 of the next 1000",
        "59 parts would prove 5%",
        f"By whom, when anna, {SHOWN_AT}",
        "2 of 3 known-bad parts were caught",
        "3: missed",
        "Capture to judgment, p50 50 ms",
        "Capture to judgment, p99 99 ms",
        "calibrate model",
        "Made by anna",
    ):
        assert words in said, words
    assert "Look at this first" not in said
    page = commissioning_report(store, "washer").decode()
    assert len(re.findall('<img src="data:image/jpeg', page)) == 7
    assert ">threshold 4</text>" in page


def test_a_station_that_is_only_installed(station: StationRoot) -> None:
    (station.store.site_folder("washer") / "geometry.json").unlink()
    said = report_of(station)
    for words in (
        "There is no plane: every part is UNKNOWN until `edge calibrate plane`.",
        "No normal parts were shown on site",
        f"Plane {NOT_MEASURED}",
        f"What parts of this site prove {NOT_MEASURED}",
        f"Challenge {NOT_MEASURED}",
        f"Capture to judgment, p99 {NOT_MEASURED}",
        f"Reference {NOT_MEASURED}",
        "Set from of the bundle's normal parts, on this engine",
    ):
        assert words in said, words


@pytest.mark.parametrize(
    "changed", [{"threshold": 3.0}, {"digest": "0" * 64}, {"precision": "fp16"}, {"who": "bert"}]
)
def test_parts_that_were_shown_to_something_else_prove_nothing(
    station: StationRoot, changed: dict[str, object]
) -> None:
    show_parts(station.store, **changed)
    said = report_of(station)
    assert "under another bundle, engine or threshold" in said
    assert f"not known: threshold or engine was changed after {SHOWN_AT}" in said
    assert "52.7%" not in said


def test_what_parts_prove_that_fitted_nothing(station: StationRoot) -> None:
    show_parts(station.store, is_proven=True, challenge=None)
    said = report_of(station)
    assert "are rejected (95% confidence)" in said
    assert "No known-bad parts were shown" in said


def test_what_somebody_decided_about_the_parts(station: StationRoot) -> None:
    show_parts(station.store, kept=[2, 4], note="scores lie below the training's")
    said = report_of(station)
    assert "Declared normal although they stand apart 2, 4" in said
    assert "To look at scores lie below the training's" in said


def test_after_the_calibration_was_undone_nothing_is_proven(station: StationRoot) -> None:
    show_parts(station.store)
    station.store.undo_model_state(station.store.active())
    said = report_of(station)
    assert "under another bundle, engine or threshold" in said
    assert "52.7%" not in said


def test_a_picture_that_is_gone(station: StationRoot) -> None:
    show_parts(station.store)
    folder = station.store.site_folder("washer") / "commissioning"
    (folder / "02.jpg").unlink()
    (folder / "03.jpg").write_bytes(b"no picture")
    page = commissioning_report(station.store, "washer").decode()
    assert page.count("no picture is kept") == 2


def test_drift(station: StationRoot) -> None:
    store = station.store
    key = DriftKey(
        product="washer", serial=SERIAL, bundle=store.active().slot, engine="onnxruntime fp32",
        geometry=None, model_state=None,
    )  # fmt: skip
    drift = Drift(seed=1)
    for seq in range(1, 701):
        score = 5.0 + seq % 7 + (20.0 if seq > 400 else 0.0)
        drift.take({"score": score}, seq, "2026-11-30T10:00:00.000Z")
    drift_file(store, "washer").write_bytes(drift_to_json(key, drift))
    said = report_of(station)
    assert "Parts compared with each other so far 700" in said
    assert "higher" in said
    page = commissioning_report(store, "washer").decode()
    assert 'What drifts</td><td class="warn">score' in page


def test_a_signature_of_the_bundle_that_does_not_fit(station: StationRoot) -> None:
    for path in station.store.trust_folder.glob("*.pub"):
        path.unlink()
    assert "Signed with key not verified: the bundle is signed by key" in report_of(station)


def test_a_product_without_depth(tmp_path) -> None:
    from tests.support.station import make_station

    color = make_station(tmp_path / "color", calibrated=False, presence=False)
    color.configure("virtual", None)
    said = report_of(color)
    assert "A product of color images alone has no plane." in said
    assert "There is no plane" not in said


def test_hostile_names_stay_text(station: StationRoot) -> None:
    show_parts(station.store, engine="<script>alert(1)</script>", note='"><img src=x>')
    said = report_of(station, who="</title><script>")
    assert '"><img src=x>' in said
    assert "<script>alert(1)</script>" in said  # as text: read_page found no such element


def test_what_cannot_be_reported(station: StationRoot) -> None:
    with pytest.raises(BundleError, match="gear has no current bundle"):
        commissioning_report(station.store, "gear")
    path = station.store.site_folder("washer") / "commissioning.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"commissioning\.json"):
        commissioning_report(station.store, "washer")
    assert not (station.store.data / "station.key").exists()
