"""`edge verify`: the certificate again, on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.bundle.install import install_bundle
from edge.bundle.store import Store
from edge.engine.onnx_cpu import OnnxCpuEngine
from tests.support.root import run_edge, trusting_root
from tests.support.tiny_bundle import make_key, make_tiny_bundle


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
    assert row.split()[2:5] == ["fp32", "8", "8"]
    assert row.endswith("judges")
    kept = json.loads((store.site_folder("washer") / f"verify-{store.active().digest[:12]}.json").read_text())
    assert kept["passed"]
    assert kept["results"][0]["flips"] == 0
    assert kept["results"][0]["frames"] == 8


def test_the_same_for_a_product_that_is_not_active(store: Store, tmp_path: Path, capsys, monkeypatch) -> None:
    other = make_key(tmp_path, "other")
    store.trust(other.public)
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


@pytest.mark.parametrize("fault", [
    lambda out: {**out, "map": np.zeros_like(out["map"])},
    lambda out: {**out, "map": out["map"] * np.float32(4)},
    lambda out: {**out, "score": np.float32([0])},
    lambda out: {**out, "score": out["score"] * np.float32("nan")},
    lambda out: {**out, "map": out["map"] + np.float32("inf")},
])
def test_an_engine_that_computes_something_else(store: Store, capsys, monkeypatch, fault) -> None:
    run = OnnxCpuEngine.run
    monkeypatch.setattr(OnnxCpuEngine, "run", lambda self, feeds: fault(run(self, feeds)))
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 1
    assert "verify FAILED" in answer.out
    kept = json.loads((store.site_folder("washer") / f"verify-{store.active().digest[:12]}.json").read_text())
    assert not kept["passed"]


def test_under_this_stations_own_threshold(store: Store, capsys, monkeypatch) -> None:
    """With the threshold moved to 70 the engine still decides as float32 does, and the table says by whose rule."""
    with_engine = json.loads((store.engines / f"{store.active().digest[:12]}.json").read_text())
    store.save_model_state(store.active(), "fp32", with_engine["runtime"], parts=30, threshold=70.0)
    answer = run_edge(capsys, monkeypatch, "verify", "--root", store.root)
    assert answer.code == 0
    assert "under this station's calibration" in answer.out
    kept = json.loads((store.site_folder("washer") / f"verify-{store.active().digest[:12]}.json").read_text())
    assert kept["results"][0]["threshold"] == 70.0
