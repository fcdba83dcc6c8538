"""`edge status`: what judges, by whose threshold, from the files of a root alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.install import install as install_module
from edge.install.install import install_bundle
from edge.install.proof_file import read_proof
from edge.station.store import Store
from edge.types import Geometry, Intrinsics
from tests.support.planted import plant_fault, plant_times, with_score
from tests.support.root import run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import FOCAL, PLANE, KeyPair, make_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path, key: KeyPair) -> Path:
    return make_tiny_bundle(tmp_path, key, precisions={"fp16": (1.0, 0.01), "int8": (1.1, 12.0)})


def status(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    before = snapshot(store.root)
    answer = run_edge(capsys, monkeypatch, "status", "--root", store.root)
    assert answer.code == 0, answer.err
    assert list(snapshot(store.root)) == list(before)
    return answer.out.splitlines()


def test_one_screen(store: Store, bundle: Path, capsys, monkeypatch) -> None:
    plant_times(monkeypatch, {"fp32": 10.0, "fp16": 10.0, "int8": 5.0})
    plant_fault(monkeypatch, with_score(lambda _: 5.0), "fp16")
    install_bundle(bundle, store.root)
    lines = status(store, capsys, monkeypatch)
    assert len(lines) <= 24
    assert lines[0] == "product      washer 1.0.0, system tiny test, number 1"
    engine = next(line for line in lines if line.startswith("engine"))
    assert " int8 on " in engine
    assert ", 5.00 ms: at least 10% faster than the more exact ones" in engine
    own = read_proof(store, store.active()).find("int8").section.threshold
    at = next(number for number, line in enumerate(lines) if line.startswith("threshold"))
    assert f" {own.value:.6g}, measured on this engine" in lines[at]
    assert lines[at + 1].strip() == own.guarantee
    assert any(
        line.startswith("also proven") and line.endswith(" fp32, 10.00 ms") for line in lines
    )
    assert any(
        line.startswith("not proven") and "every normal part has the same score" in line
        for line in lines
    )
    points = [line.split() for line in lines[-2:]]
    assert points[0][:2] == ["*", "1"]
    assert points[1][0] == "2"
    assert points[0][3:5] == ["11.1%", "31.2%"]
    assert " ".join(points[0][5:]) == "7 of 8 drawn"


def test_a_root_without_a_bundle(tmp_path: Path, key: KeyPair, capsys, monkeypatch) -> None:
    store = trusting_root(tmp_path / "station", key)
    (said,) = status(store, capsys, monkeypatch)
    assert (
        said == f"no bundle is installed under {store.root}: run `edge install BUNDLE --root"
        f" {store.root}`"
    )


def test_a_pending_engine(store: Store, bundle: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(install_module, "is_of_this_machine", lambda _: False)
    install_bundle(bundle, store.root)
    lines = status(store, capsys, monkeypatch)
    assert (
        lines[2]
        == f"engine       pending: the first `edge run --root {store.root}` on the station builds"
        " and proves it"
    )


def test_whether_an_expected_silhouette_is_set(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    i = Intrinsics(128, 96, FOCAL, FOCAL, 63.5, 47.5)
    without = (
        "not set: missing material is found by its outline only, run `edge calibrate expected`"
    )

    def said() -> list[str]:
        lines = status(store, capsys, monkeypatch)
        return [line[13:] for line in lines if line.startswith("expected ")]

    installed = install_bundle(
        make_tiny_bundle(tmp_path, key, camera={"fixed_pose": True}), store.root
    )
    assert installed.notes[-1] == f"next: {without[9:]}, after `edge calibrate plane`"
    assert said() == [without]
    for serial in ("S1", "S2"):
        store.save_geometry("washer", serial, Geometry(PLANE, 0, 0), i, frames=30)
    store.save_expected("washer", "S2", np.ones((96, 128), np.uint8), 12, 6.5, 0.9, 1, who="anna")
    when = store.geometry_record("washer", "S2").expected.when
    assert said() == [
        f"camera S1: {without}",
        f"camera S2: from 12 parts, margin 6.5 px, by anna, {when}",
    ]
    turns = make_tiny_bundle(tmp_path, key, version="2.0.0")
    assert not any("expected" in note for note in install_bundle(turns, store.root).notes)
    assert said()[0] == "camera S1: not set"
    color = make_tiny_bundle(tmp_path, key, version="3.0.0", presence=False)
    install_bundle(color, store.root)
    assert said() == []


def test_a_wanted_precision_that_is_not_there(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    (store.root / "etc/edge/station.toml").write_text('[runtime]\nprecision = "int8"\n')
    lines = status(store, capsys, monkeypatch)
    assert any("runtime.precision is int8, washer 1.0.0 has no such file" in line for line in lines)


def test_the_sites_own_threshold(store: Store, bundle: Path, capsys, monkeypatch) -> None:
    plant_times(monkeypatch, {"fp32": 1.0, "fp16": 10.0, "int8": 5.0})
    install_bundle(bundle, store.root)
    answer = run_edge(
        capsys,
        monkeypatch,
        "calibrate",
        "threshold",
        "--false-rejects",
        "25%",
        "--root",
        store.root,
    )
    assert answer.code == 0
    lines = status(store, capsys, monkeypatch)
    assert any(
        line.startswith("threshold") and "calibrated on this station, version 1 by" in line
        for line in lines
    )
    assert any("2nd highest of 8 normal parts" in line for line in lines)
    assert lines[-1].split()[:2] == ["*", "2"]
