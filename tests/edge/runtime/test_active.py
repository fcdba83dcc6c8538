"""What judges: resolved from the root as a whole, noticed when it would be another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge.errors import ConfigError
from edge.install.proven import open_proven_engine
from edge.runtime.active import ActiveBundle, fingerprint_of, guarantee_of, resolve_active
from edge.station.site import ModelState
from edge.station.store import Store
from tests.support.active import make_active
from tests.support.station import HEIGHT, PLANE, SERIAL, WIDTH, StationRoot


@pytest.fixture
def active(station: StationRoot) -> ActiveBundle:
    found = resolve_active(station.store, lambda one: open_proven_engine(station.store, one))
    found.engine.close()
    return found


def test_what_was_resolved_never_changes(active: ActiveBundle) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        active.fingerprint = ()  # type: ignore[misc]


def test_site_inputs_are_those_of_the_camera_as_they_were_asked_for_first(
    station: StationRoot, active: ActiveBundle
) -> None:
    before = active.site(SERIAL)
    assert before.is_calibrated
    assert before.tensors["plane"].tolist() == pytest.approx(PLANE)
    digest = active.geometry_digest(SERIAL)
    station.calibrate()
    assert active.site(SERIAL) is before
    assert active.geometry_digest(SERIAL) == digest
    assert not active.site("another camera").is_calibrated
    assert active.geometry_digest("another camera") is None


def test_the_expected_silhouette_is_fed_and_neutral_without_one(
    station: StationRoot, active: ActiveBundle, caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:50, 20:90] = 255
    station.expect(mask)
    with caplog.at_level("INFO"):
        fed = active.site(SERIAL).tensors["expected"]
    assert "expected silhouette from 10 parts, margin 4.0 px, by test, " in caplog.text
    assert (fed.shape, fed.dtype, fed.flags.c_contiguous) == ((1, HEIGHT, WIDTH, 1), "uint8", True)
    np.testing.assert_array_equal(fed[0, :, :, 0], mask)
    neutral = active.site("another camera").tensors["expected"]
    assert (neutral.shape, neutral.max()) == (fed.shape, 0)


def test_an_expected_silhouette_of_another_crop_is_refused(
    station: StationRoot, active: ActiveBundle
) -> None:
    station.expect(np.full((HEIGHT, WIDTH - 4), 255, np.uint8))
    with pytest.raises(ConfigError, match=r"124x96 pixels, the crop of this bundle of 128x96: run"):
        active.site(SERIAL)


@pytest.mark.parametrize("fixed_pose", [True, False])
def test_a_fixed_pose_without_an_expected_silhouette_is_said_once(
    station: StationRoot, active: ActiveBundle, caplog: pytest.LogCaptureFixture, fixed_pose: bool
) -> None:
    camera = active.manifest.camera.model_copy(update={"fixed_pose": fixed_pose})
    manifest = active.manifest.model_copy(update={"camera": camera})
    told = dataclasses.replace(
        active, installed=dataclasses.replace(active.installed, manifest=manifest), _sites={}
    )
    for _ in range(3):
        told.site(SERIAL)
    said = [line for line in caplog.messages if "edge calibrate expected" in line]
    assert len(said) == (1 if fixed_pose else 0)
    station.expect(np.zeros((HEIGHT, WIDTH), np.uint8))
    caplog.clear()
    dataclasses.replace(told, _sites={}).site(SERIAL)
    assert "edge calibrate expected" not in caplog.text


def test_site_files_that_are_damaged_are_an_error_of_the_configuration(
    station: StationRoot, active: ActiveBundle
) -> None:
    (station.store.site_folder("washer") / "geometry.json").write_text("{")
    with pytest.raises(ConfigError, match="calibrate again"):
        active.site(SERIAL)


def test_the_fingerprint_is_another_for_every_change_and_the_same_without_one(
    station: StationRoot, active: ActiveBundle
) -> None:
    store = station.store
    seen = [active.fingerprint, fingerprint_of(store)]
    assert seen[0] == seen[1]
    station.calibrate()
    seen.append(fingerprint_of(store))
    store.active_file.write_text("../../nonsense")
    seen.append(fingerprint_of(store))
    store.active_file.unlink()
    seen.append(fingerprint_of(store))
    assert len(set(seen)) == 4


def test_an_empty_root_has_a_fingerprint_too(station: StationRoot) -> None:
    assert fingerprint_of(Store(station.root / "nowhere")) == ()


@pytest.mark.parametrize(("threshold", "source"), [(70.0, "site"), (None, "bundle")])
def test_a_site_state_without_a_threshold_leaves_the_bundles(
    active: ActiveBundle, threshold: float | None, source: str
) -> None:
    state = ModelState(
        version=1,
        digest="0" * 64,
        precision="fp32",
        runtime="onnxruntime",
        threshold=threshold,
        parts=30,
        who="test",
        when="2026-11-22T17:00:00Z",
    )
    guarantee = guarantee_of(active.proven, state)
    assert guarantee.source == source
    assert guarantee.value == np.float32(70.0 if threshold else active.proven.threshold.value)


def test_records_name_engine_and_bundle() -> None:
    active = make_active("2.1.0")
    assert (active.engine_name, active.bundle) == ("2.1.0 fp32", "2.1.0-0123456789ab")
    assert active.model_digest is None
