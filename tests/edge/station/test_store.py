"""The root of a station: site state with its two lifetimes, trust, the audit table."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BundleError, ConfigError, StorageError
from edge.install.install import install_bundle
from edge.station.audit import append_audit, read_audit
from edge.station.site import CameraGeometry
from edge.station.store import Store
from edge.types import Geometry, Intrinsics
from tests.support.root import Bundles, run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair

INTRINSICS = Intrinsics(640, 480, 600.0, 601.0, 319.5, 239.5)
PLANE = (0.001, -0.002, 0.99, 0.5)


@pytest.fixture
def store(tmp_path: Path, key: KeyPair, bundles: Bundles) -> Store:
    store = trusting_root(tmp_path / "station", key)
    install_bundle(bundles("washer", "1.0.0"), store.root)
    return store


# --- geometry ---


def test_geometry_comes_back_as_it_was_saved(store: Store) -> None:
    region = np.zeros((37, 61), np.uint8)
    region[5:30, 7:50] = 255
    geometry = Geometry(PLANE, 12, 34, region)
    record = store.save_geometry("washer", "S1", geometry, INTRINSICS, frames=30, residual_m=0.0004)
    back = store.geometry("washer", "S1")
    assert (back.plane, back.crop_x, back.crop_y) == (PLANE, 12, 34)
    np.testing.assert_array_equal(back.region, region)
    assert (record.version, record.frames, record.residual_m) == (1, 30, 0.0004)
    assert (record.stream_width, record.intrinsics) == (640, (600.0, 601.0, 319.5, 239.5))
    assert record.who
    assert record.when.endswith("Z")


def test_geometry_is_kept_per_camera_and_counted(store: Store) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 0, 0), INTRINSICS, frames=30)
    store.save_geometry("washer", "S2", Geometry(None, 5, 6), INTRINSICS, frames=0)
    store.save_geometry("washer", "S1", Geometry(PLANE, 1, 2), INTRINSICS, frames=31)
    assert store.geometry_record("washer", "S1").version == 2
    assert store.geometry("washer", "S1").crop_x == 1
    assert store.geometry("washer", "S2").plane is None
    assert store.geometry("washer", "another camera") is None
    assert store.geometry("gear", "S1") is None


def test_geometry_survives_a_new_bundle_and_a_rollback(store: Store, bundles: Bundles) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    install_bundle(bundles("washer", "2.0.0"), store.root)
    assert store.geometry("washer", "S1").plane == PLANE
    store.rollback("washer")
    assert store.geometry("washer", "S1").plane == PLANE


def test_what_a_new_geometry_replaced_can_be_found_in_the_audit_table(store: Store) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30, who="anna")
    store.save_geometry("washer", "S1", Geometry(None, 9, 9), INTRINSICS, frames=1, who="bert")
    rows = [row for row in read_audit(store.root) if row.act == "calibrate geometry"]
    assert [(row.who, row.detail["version"], row.detail["crop_x"]) for row in rows] == [
        ("anna", 1, 3),
        ("bert", 2, 9),
    ]
    assert tuple(rows[0].detail["plane"]) == PLANE


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-40],
        lambda text: text[:0],
        lambda text: text.replace('"plane"', '"plain"'),
        lambda text: text.replace('"frames": 30', '"frames": -1'),
        lambda text: text.replace('"schema": 1', '"schema": 2'),
        lambda text: text.replace('"frames": 30', '"frames": 31, "frames": 30'),
    ],
)
def test_damaged_geometry_is_never_half_believed(store: Store, damage) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    path = store.site_folder("washer") / "geometry.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigError, match=r"geometry\.json.*calibrate again"):
        store.geometry("washer", "S1")


def test_region_that_unpacks_to_more_than_its_size_is_refused(store: Store) -> None:
    region = np.full((1000, 1000), 255, np.uint8)
    store.save_geometry("washer", "S1", Geometry(PLANE, 0, 0, region), INTRINSICS, frames=30)
    path = store.site_folder("washer") / "geometry.json"
    for size in (10, 16000):
        path.write_text(path.read_text().replace('"width": 1000', f'"width": {size}'))
        with pytest.raises(ConfigError, match="region"):
            store.geometry("washer", "S1")
        path.write_text(path.read_text().replace(f'"width": {size}', '"width": 1000'))


@pytest.mark.parametrize("serial", ["", "a\n", "\u00e4", "x" * 65])
def test_unusual_serial_is_refused(store: Store, serial: str) -> None:
    with pytest.raises(ConfigError, match="serial"):
        store.save_geometry("washer", serial, Geometry(PLANE, 0, 0), INTRINSICS, frames=1)


def test_geometry_of_a_product_that_is_not_installed(store: Store) -> None:
    with pytest.raises(BundleError, match="gear"):
        store.save_geometry("gear", "S1", Geometry(PLANE, 0, 0), INTRINSICS, frames=1)


# --- expected silhouette ---

MASK = np.zeros((37, 61), np.uint8)
MASK[5:30, 7:50] = 255


def save_expected(store: Store, version: int = 1, who: str = "anna") -> CameraGeometry:
    return store.save_expected("washer", "S1", MASK, 12, 6.5, 0.875, version, who)


def test_expected_silhouette_comes_back_beside_the_geometry_it_was_made_under(
    store: Store, bundles: Bundles
) -> None:
    region = np.full(MASK.shape, 255, np.uint8)
    store.save_geometry("washer", "S2", Geometry(None, 5, 6), INTRINSICS, frames=0)
    before = store.save_geometry(
        "washer", "S1", Geometry(PLANE, 3, 4, region), INTRINSICS, frames=30
    )
    saved = save_expected(store)
    kept = store.geometry_record("washer", "S1")
    assert kept == saved == before.model_copy(update={"version": 2, "expected": saved.expected})
    state = kept.expected
    assert (state.parts, state.margin_px, state.share, state.who) == (12, 6.5, 0.875, "anna")
    assert state.when.endswith("Z")
    install_bundle(bundles("washer", "2.0.0"), store.root)
    back = store.geometry("washer", "S1")
    np.testing.assert_array_equal(back.expected, MASK)
    np.testing.assert_array_equal(back.region, region)
    assert (back.plane, back.crop_x, back.crop_y) == (PLANE, 3, 4)
    assert store.geometry("washer", "S2").expected is None


def test_expected_silhouette_is_an_act_of_the_audit_table_and_in_effect(store: Store) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    save_expected(store)
    store.save_geometry("washer", "S2", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    rows = read_audit(store.root)[-3:]
    assert [row.act for row in rows] == [
        "calibrate geometry",
        "calibrate expected",
        "calibrate geometry",
    ]
    assert (rows[1].who, rows[1].detail["serial"], rows[1].detail["version"]) == ("anna", "S1", 2)
    assert rows[1].detail["expected"]["parts"] == 12


def test_expected_silhouette_that_never_took_effect_is_told(store: Store) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    path = store.site_folder("washer") / "geometry.json"
    before = path.read_text()
    save_expected(store)
    path.write_text(before)
    store.save_geometry("washer", "S2", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    assert "calibrate expected not in effect" in [row.act for row in read_audit(store.root)]


def test_a_new_plane_drops_the_expected_silhouette_of_this_camera_alone(store: Store) -> None:
    for serial in ("S1", "S2"):
        store.save_geometry("washer", serial, Geometry(PLANE, 0, 0), INTRINSICS, frames=30)
        store.save_expected("washer", serial, MASK, 5, 4.0, 1.0, version=1)
    store.save_geometry("washer", "S1", Geometry(PLANE, 0, 0), INTRINSICS, frames=30)
    assert store.geometry_record("washer", "S1").expected is None
    assert store.geometry_record("washer", "S2").expected is not None


@pytest.mark.parametrize("version", [0, 1, 3])
def test_expected_silhouette_of_a_geometry_that_was_replaced_is_refused(
    store: Store, version: int
) -> None:
    with pytest.raises(ConfigError, match="edge calibrate expected"):
        save_expected(store, version=1)  # no geometry at all
    for _ in range(2):
        store.save_geometry("washer", "S1", Geometry(PLANE, 0, 0), INTRINSICS, frames=30)
    with pytest.raises(ConfigError, match="calibrated anew"):
        save_expected(store, version=version)
    assert store.geometry_record("washer", "S1").expected is None


def test_geometry_that_was_written_before_there_was_an_expected_silhouette(store: Store) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    path = store.site_folder("washer") / "geometry.json"
    file = json.loads(path.read_text())
    del file["cameras"]["S1"]["expected"]
    path.write_text(json.dumps(file))
    back = store.geometry("washer", "S1")
    assert (back.plane, back.expected) == (PLANE, None)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"width": 61', '"width": 60'), ('"parts": 12', '"parts": 1'), ('"bits": "e', '"bits": "!')],
)
def test_damaged_expected_silhouette_is_never_half_believed(
    store: Store, before: str, after: str
) -> None:
    store.save_geometry("washer", "S1", Geometry(PLANE, 3, 4), INTRINSICS, frames=30)
    save_expected(store)
    path = store.site_folder("washer") / "geometry.json"
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=r"geometry\.json.*expected.*calibrate again"):
        store.geometry("washer", "S1")


# --- model state ---


def test_model_state_belongs_to_one_bundle_precision_and_runtime(
    store: Store, bundles: Bundles
) -> None:
    first = store.active()
    shift = np.arange(6, dtype=np.float32).reshape(1, 6)
    store.save_model_state(
        first, "fp32", "onnxruntime 1", parts=20, threshold=25.5, tensors={"shift": shift}
    )
    state = store.model_state(first, "fp32", "onnxruntime 1")
    assert (state.threshold, state.parts, state.version) == (25.5, 20, 1)
    np.testing.assert_array_equal(state.arrays()["shift"], shift)
    assert store.model_state(first, "int8", "onnxruntime 1") is None
    assert store.model_state(first, "fp32", "tensorrt 10") is None
    install_bundle(bundles("washer", "2.0.0"), store.root)
    assert store.model_state(store.active(), "fp32", "onnxruntime 1") is None
    store.rollback("washer")
    assert store.model_state(store.active(), "fp32", "onnxruntime 1") == state


def test_model_state_of_another_bundle_in_its_place_is_refused(
    store: Store, bundles: Bundles
) -> None:
    first = store.active()
    store.save_model_state(first, "fp32", "onnxruntime 1", parts=20, threshold=25.5)
    install_bundle(bundles("washer", "2.0.0"), store.root)
    second, site = store.active(), store.site_folder("washer")
    (site / f"model-{first.digest[:12]}.json").rename(site / f"model-{second.digest[:12]}.json")
    with pytest.raises(ConfigError, match="another bundle"):
        store.model_state(second, "fp32", "onnxruntime 1")


def test_threshold_is_the_float32_that_is_compared(store: Store) -> None:
    state = store.save_model_state(store.active(), "fp32", "onnxruntime 1", parts=1, threshold=0.1)
    assert state.threshold == float(np.float32(0.1))
    assert store.model_state(store.active(), "fp32", "onnxruntime 1").threshold == float(
        np.float32(0.1)
    )


def test_states_are_counted_and_others_are_kept(store: Store) -> None:
    bundle = store.active()
    store.save_model_state(bundle, "int8", "tensorrt 10", parts=5)
    for expected in (1, 2, 3):
        assert (
            store.save_model_state(bundle, "fp32", "onnxruntime 1", parts=expected).version
            == expected
        )
    assert store.model_state(bundle, "int8", "tensorrt 10").parts == 5


def test_site_tensor_that_is_not_finite_is_refused_when_read(store: Store) -> None:
    bad = np.array([1, np.nan], np.float32)
    store.save_model_state(store.active(), "fp32", "onnxruntime 1", parts=1, tensors={"shift": bad})
    with pytest.raises(ValueError, match="not finite"):
        store.model_state(store.active(), "fp32", "onnxruntime 1").arrays()


# --- trust and audit ---


def test_trust_twice_is_one_act(tmp_path: Path, key: KeyPair, capsys, monkeypatch) -> None:
    root = tmp_path / "station"
    answer = run_edge(capsys, monkeypatch, "trust", key.public, "--root", root)
    assert answer.code == 0
    before = snapshot(root)
    assert run_edge(capsys, monkeypatch, "trust", key.public, "--root", root) == answer
    assert snapshot(root) == before
    assert [row.act for row in read_audit(root)] == ["trust"]


def test_trust_of_something_that_is_not_a_public_key(
    tmp_path: Path, key: KeyPair, capsys, monkeypatch
) -> None:
    (tmp_path / "other.pub").write_text(json.dumps({"keyid": "x"}))
    for path in (key.private, tmp_path / "other.pub", tmp_path / "absent.pub"):
        answer = run_edge(capsys, monkeypatch, "trust", path, "--root", tmp_path / "station")
        assert answer.code == 1
        assert str(path) in answer.err
        assert not (tmp_path / "station").exists()


def test_audit_rows_from_many_threads_are_all_there_in_order(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=append_audit, args=(tmp_path, "act", {"n": n})) for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = read_audit(tmp_path)
    assert [row.id for row in rows] == list(range(1, 17))
    assert sorted(row.detail["n"] for row in rows) == list(range(16))


def test_audit_shares_the_database_with_the_records(store: Store) -> None:
    outbox = pytest.importorskip("edge.line.outbox")
    records = outbox.Outbox(store.data / "line.sqlite")
    append_audit(store.root, "select", {"product": "washer"})
    assert records.commit(lambda seq: {"id": f"s-{seq}"})["id"] == "s-1"
    append_audit(store.root, "select", {"product": "washer"})
    records.close()
    assert [row.act for row in read_audit(store.root)][-2:] == ["select", "select"]


def test_audit_that_cannot_be_written_stops_the_act(
    store: Store, key: KeyPair, bundles: Bundles
) -> None:
    (store.data / "line.sqlite").write_bytes(b"this is not a database" * 100)
    with pytest.raises(StorageError, match="audit table"):
        install_bundle(bundles("washer", "2.0.0"), store.root)
    assert store.active().manifest.version == "1.0.0"


def test_nothing_installed(tmp_path: Path, key: KeyPair, capsys, monkeypatch) -> None:
    store = trusting_root(tmp_path / "station", key)
    assert store.products() == []
    assert store.token() == (None, None)
    for arguments in (["bundle", "show"], ["bundle", "rollback"], ["verify"]):
        answer = run_edge(capsys, monkeypatch, *arguments, "--root", store.root)
        assert answer.code == 1
        assert "edge install" in answer.err
    assert (
        "no bundle is installed"
        in run_edge(capsys, monkeypatch, "bundle", "list", "--root", store.root).out
    )
