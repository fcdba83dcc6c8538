"""`edge verify`: the certificate again, on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.engine.machine import this_machine
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import EngineError
from edge.install.install import install_bundle
from edge.install.proof_file import read_proof
from edge.install.verify import verify_installed
from edge.proof.measures import Count
from edge.station.audit import read_audit
from edge.station.store import Store
from edge.station.trust import trust
from edge.types import Geometry, Intrinsics
from tests.support.planted import plant_fault, plant_times, with_score
from tests.support.root import run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import FOCAL, PLANE, make_key, make_tiny_bundle


@pytest.fixture
def store(tmp_path: Path) -> Store:
    key = make_key(tmp_path)
    store = trusting_root(tmp_path / "station", key)
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    return store


def test_a_sound_station(store: Store, capsys, monkeypatch) -> None:
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 0
    row = next(line for line in answer.out.splitlines() if line.startswith("onnxruntime"))
    assert row.split()[2] == "fp32"
    assert row.endswith("judges")
    assert answer.out.splitlines()[-1] == "verify passed"
    section = verify_installed(store, store.active()).results[0].entry.section
    assert section.golden_unlike == Count(count=0, of=8)
    assert section.engine_sha256 == store.active().manifest.files["model/fp32.onnx"].sha256
    expected = store.active().manifest.thresholds["fp32"]
    assert section.threshold.value == pytest.approx(expected.value, rel=1e-6)
    assert section.threshold.guarantee == expected.guarantee


def test_the_stations_expected_silhouette_is_not_mixed_into_the_bundles_frames(
    store: Store,
) -> None:
    """The frames bring their own; material expected all over the table would reject every one."""
    before = verify_installed(store, store.active())
    i = Intrinsics(128, 96, FOCAL, FOCAL, 63.5, 47.5)
    store.save_geometry("washer", "S1", Geometry(PLANE, 0, 0), i, frames=30)
    store.save_expected("washer", "S1", np.full((96, 128), 255, np.uint8), 5, 4.0, 1.0, version=1)
    after = verify_installed(store, store.active())
    assert after.passed
    sections = [report.results[0].entry.section for report in (before, after)]
    assert sections[0].threshold == sections[1].threshold
    assert sections[1].golden_unlike == Count(count=0, of=8)


def test_the_same_for_a_product_that_is_not_active(
    store: Store, tmp_path: Path, capsys, monkeypatch
) -> None:
    other = make_key(tmp_path, "other")
    trust(store, other.public)
    install_bundle(make_tiny_bundle(tmp_path, other, product="screw", presence=False), store.root)
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root, "--product", "screw")
    assert answer.code == 0
    assert "screw 1.0.0" in answer.out


def test_a_file_that_rotted_since_the_installation(store: Store, capsys, monkeypatch) -> None:
    path = store.active().golden / "0005.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 1
    assert "0005.npz is damaged" in answer.err


@pytest.mark.parametrize(
    "fault",
    [
        lambda out: {**out, "map": np.zeros_like(out["map"])},
        lambda out: {**out, "map": out["map"] * np.float32(4)},
        lambda out: {**out, "score": np.float32([0])},
        lambda out: {**out, "score": out["score"] * np.float32("nan")},
        lambda out: {**out, "map": out["map"] + np.float32("inf")},
    ],
)
def test_an_engine_that_computes_something_else(store: Store, capsys, monkeypatch, fault) -> None:
    run = OnnxCpuEngine.run
    monkeypatch.setattr(OnnxCpuEngine, "run", lambda self, feeds: fault(run(self, feeds)))
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 1
    assert "verify FAILED" in answer.out


def test_under_this_stations_own_threshold(store: Store, capsys, monkeypatch) -> None:
    """With the threshold moved to 70 the engine still decides as float32 does, and the table says
    by whose rule.
    """
    judge = read_proof(store, store.active()).judge(store.active().manifest)
    store.save_model_state(store.active(), "fp32", judge.runtime, parts=30, threshold=70.0)
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 0
    assert "judges (under this station's calibration)" in answer.out


@pytest.mark.parametrize(("share", "code"), [(0.008, 0), (0.02, 1)])
def test_a_threshold_that_is_not_the_kept_one_is_a_failed_row_and_nothing_changes(
    store: Store, capsys, monkeypatch, share: float, code: int
) -> None:
    """The engine answers a little higher than when it was proven: 2 in 100 of s is no fault of it,
    yet is named.
    """
    manifest, proof = store.active().manifest, store.engines / f"{store.active().digest[:12]}.json"
    before, audit = proof.read_bytes(), read_audit(store.root)
    plant_fault(
        monkeypatch, with_score(lambda score: score + share * manifest.normal_spread["fp32"].spread)
    )
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == code
    assert ("kept is" in answer.out) == bool(code)
    assert ("verify FAILED" in answer.out) == bool(code)
    assert (proof.read_bytes(), read_audit(store.root)) == (before, audit)


def test_verify_changes_nothing_under_the_root(store: Store, capsys, monkeypatch) -> None:
    before = snapshot(store.root)
    assert run_edge(capsys, monkeypatch, "verify", "--root", store.root).code == 0
    assert snapshot(store.root) == before


def test_on_another_machine_nobody_judges(store: Store, capsys, monkeypatch) -> None:
    """A copy of a station's root on a workstation: what is measured here says nothing about the
    station's engine.
    """
    path = store.engines / f"{store.active().digest[:12]}.json"
    path.write_text(
        path.read_text().replace(json.dumps(this_machine()), '"NVIDIA Jetson Orin Nano"')
    )
    before = snapshot(store.root)
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 0
    assert "  judges" not in answer.out
    assert "would judge here" in answer.out
    assert answer.out.splitlines()[-1].endswith(
        "what judges on NVIDIA Jetson Orin Nano is proven there"
    )
    assert snapshot(store.root) == before


@pytest.fixture
def three(tmp_path: Path) -> Store:
    """A station whose bundle has three precisions."""
    key = make_key(tmp_path, "three")
    store = trusting_root(tmp_path / "other", key)
    lines = {"fp16": (1.0, 0.01), "int8": (1.1, 12.0)}
    with pytest.MonkeyPatch.context() as times:
        plant_times(times, {"fp32": 10.0, "fp16": 10.0, "int8": 5.0})
        install_bundle(make_tiny_bundle(tmp_path, key, precisions=lines), store.root)
    return store


def test_under_site_tensors_the_oracle_is_float32_under_the_same(
    three: Store, capsys, monkeypatch
) -> None:
    """A bit of the table counts as part: the scores are not the certificate's, but int8 still
    follows float32.
    """
    installed = three.active()
    runtime = read_proof(three, installed).judge(installed.manifest).runtime
    # at 5 mm of lift the noise of the table decides
    tensors = {"plane": np.float32([0, 0, 1, 0.505])}
    limit = installed.manifest.thresholds["int8"].value
    three.save_model_state(
        installed, "int8", runtime, parts=30, threshold=limit + 5, tensors=tensors
    )
    answer = run_edge(capsys, monkeypatch, "verify", "--root", three.root)
    assert answer.code == 0, answer.out
    row = next(line for line in answer.out.splitlines() if " int8 " in line)
    assert row.endswith("judges (under this station's calibration)")
    assert row.split()[-7] != row.split()[-6]  # its threshold is another, and that is no failure
    plant_fault(monkeypatch, with_score(lambda _: 5.0), "int8")
    assert run_edge(capsys, monkeypatch, "verify", "--root", three.root).code == 1


def test_the_stored_choice_judges_whatever_the_times_are_now(
    three: Store, capsys, monkeypatch
) -> None:
    plant_times(monkeypatch, {"fp32": 1.0, "fp16": 10.0, "int8": 5.0})
    answer = run_edge(capsys, monkeypatch, "verify", "--root", three.root)
    rows = {
        line.split()[2]: line for line in answer.out.splitlines() if line.startswith("onnxruntime")
    }
    assert answer.code == 0
    assert {name: row.split()[-1] for name, row in rows.items()} == {
        "fp32": "proven",
        "fp16": "proven",
        "int8": "judges",
    }


def test_the_engine_that_judges_decides_whether_it_passed(
    three: Store, capsys, monkeypatch
) -> None:
    with monkeypatch.context() as planted:
        plant_fault(planted, with_score(lambda _: 5.0), "fp16")
        answer = run_edge(capsys, planted, "verify", "--root", three.root)
        assert answer.code == 0
        assert "failed: every normal part has the same score" in answer.out
    plant_fault(monkeypatch, with_score(lambda _: 5.0), "int8")
    assert run_edge(capsys, monkeypatch, "verify", "--root", three.root).code == 1


def test_a_precision_that_cannot_be_loaded_is_a_row(three: Store, capsys, monkeypatch) -> None:
    begin = OnnxCpuEngine.__init__

    def fail(self: OnnxCpuEngine, path: Path, *more: object) -> None:
        if path.stem == "fp16":
            raise EngineError("planted: no memory")
        begin(self, path, *more)

    monkeypatch.setattr(OnnxCpuEngine, "__init__", fail)
    answer = run_edge(capsys, monkeypatch, "verify", "--root", three.root)
    assert answer.code == 0
    assert any(
        " fp16 " in line and line.endswith("failed: planted: no memory")
        for line in answer.out.splitlines()
    )


def test_a_pending_engine_is_measured_and_stays_pending(store: Store, capsys, monkeypatch) -> None:
    path = store.engines / f"{store.active().digest[:12]}.json"
    path.write_text(json.dumps({"schema": 2, "digest": store.active().digest, "state": "pending"}))
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 0
    assert read_proof(store, store.active()).state == "pending"
