"""Who has a record finds the audit row of the site state that the part was judged with."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from edge.install.install import install_bundle
from edge.station.audit import read_audit
from edge.station.site_digest import digest_in_row, geometry_digest, model_digest
from edge.station.store import Store
from edge.types import Geometry, Intrinsics
from tests.support.root import Bundles
from tests.support.tiny_bundle import FOCAL, PLANE

LENS = Intrinsics(64, 48, FOCAL, FOCAL, 31.5, 23.5)


@pytest.fixture
def calibrated(store: Store, bundles: Bundles) -> Store:
    install_bundle(bundles(), store.root)
    region = np.zeros((48, 64), np.uint8)
    region[8:40, 8:56] = 255
    store.save_geometry("washer", "A1", Geometry(PLANE, 0, 0, region), LENS, 30, 4e-4, who="uschi")
    store.save_expected("washer", "A1", region, 10, 4.0, 0.9, version=1, who="uschi")
    bundle = store.active()
    tensors = {"shift": np.array([0.1, -1 / 3], np.float32)}
    store.save_model_state(bundle, "fp32", "onnxruntime", 10, 2.25, "at most 9 %", tensors, "otto")
    return store


def rows_of(store: Store) -> dict[str, dict[str, Any]]:
    return {row.act: row.detail for row in read_audit(store.root)}


def test_every_row_leads_to_the_state_that_it_has_set(calibrated: Store) -> None:
    rows = rows_of(calibrated)
    record = calibrated.geometry_record("washer", "A1")
    assert record is not None
    assert digest_in_row("calibrate expected", rows["calibrate expected"]) == geometry_digest(
        record
    )
    state = calibrated.model_state(calibrated.active(), "fp32", "onnxruntime")
    assert state is not None
    assert digest_in_row("calibrate model", rows["calibrate model"]) == model_digest(state)
    assert digest_in_row("calibrate undo", rows["calibrate model"]) == model_digest(state)
    first = digest_in_row("calibrate geometry", rows["calibrate geometry"])
    assert first not in (None, geometry_digest(record)), "the state before the silhouette"


def test_another_calibration_has_another_digest(calibrated: Store) -> None:
    record = calibrated.geometry_record("washer", "A1")
    assert record is not None
    assert geometry_digest(record.model_copy(update={"frames": 31})) != geometry_digest(record)


def test_digests_of_records_from_before_stay_what_they_were(calibrated: Store) -> None:
    record = calibrated.geometry_record("washer", "A1")
    state = calibrated.model_state(calibrated.active(), "fp32", "onnxruntime")
    assert record is not None
    assert state is not None
    told = record.model_dump_json(exclude={"calibration"})
    assert geometry_digest(record) == hashlib.sha256(told.encode()).hexdigest()[:12]
    known = record.model_copy(update={"calibration": "ab" * 32})
    told = known.model_dump_json()
    assert geometry_digest(known) == hashlib.sha256(told.encode()).hexdigest()[:12]
    told = state.model_dump_json()
    assert model_digest(state) == hashlib.sha256(told.encode()).hexdigest()[:12]


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        ("installed", {"product": "washer"}),
        ("calibrate geometry", {}),
        ("calibrate geometry", {"product": "washer", "version": "x"}),
        ("calibrate model", {"unreadable": "..."}),
        ("calibrate model not in effect", {"version": 1}),
    ],
)
def test_a_row_of_another_kind_has_none(act: str, detail: dict[str, Any]) -> None:
    assert digest_in_row(act, detail) is None
