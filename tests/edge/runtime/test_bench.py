"""`edge bench`: the stages of one frame, on this machine, which is no Jetson; its board is a
stand-in where one is needed.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.install.install import install_bundle
from edge.runtime.bench import Repeats, run_bench
from edge.runtime.bench_report import BenchReport, conditions
from edge.station.lock import RUN, locked
from edge.station.store import Store
from tests.support.root import run_edge, snapshot, trusting_root
from tests.support.station import StationRoot, make_station
from tests.support.tiny_bundle import make_key, make_tiny_bundle

SLOW_S = 0.02


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    return make_station(tmp_path_factory.mktemp("made") / "station")


def test_the_file_has_every_stage_and_the_conditions(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    before = snapshot(station.root / "var/lib/edge/products")
    out = tmp_path / "bench.json"
    answer = run_edge(
        capsys, monkeypatch, "bench", out, "--root", station.root, "--count", 20, "--warm-up", 2,
    )  # fmt: skip
    assert answer.code == 0, answer.err
    report = BenchReport.model_validate_json(out.read_bytes())
    (engine,) = report.engines
    assert (engine.judges, engine.is_proven, engine.precision) == (True, True, "fp32")
    assert list(engine.stages) == ["prepare", "engine", "decide", "frame"]
    for times in (*engine.stages.values(), report.commit):
        assert times.samples == 20
        assert 0 < times.p50_ms <= times.p99_ms <= times.max_ms
    assert engine.stages["frame"].p50_ms >= engine.stages["engine"].p50_ms
    assert (report.is_jetson, report.jetpack, report.before.power_mode) == (False, None, None)
    assert "power mode: no Jetson" in answer.out
    assert "20 samples: take --count 100 or more for a p99" in answer.out
    assert snapshot(station.root / "var/lib/edge/products") == before
    assert not list((station.root / "var/lib/edge").glob(".bench-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another account: run as root")
def test_a_bench_of_root_leaves_everything_to_the_account_of_the_station(
    station: StationRoot,
) -> None:
    account = 65533  # owns nothing else
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = station.copied_to(Path(folder) / "station").store
        (store.data / RUN).unlink(missing_ok=True)  # it was never started
        for path in (store.data, *store.data.rglob("*")):
            os.chown(path, account, account, follow_symlinks=False)
        run_bench(store.root, Repeats(count=3, warm_up=0), everything=False)
        assert (store.data / RUN).exists()
        others = {str(path) for path in store.data.rglob("*") if path.lstat().st_uid != account}
        assert others == set()


def test_a_slow_engine_is_seen_in_its_own_stage(station: StationRoot, monkeypatch) -> None:
    runs = OnnxCpuEngine.run

    def slow(self, feeds):
        time.sleep(SLOW_S)
        return runs(self, feeds)

    monkeypatch.setattr(OnnxCpuEngine, "run", slow)
    stages = run_bench(station.root, Repeats(10, 1), everything=False).engines[0].stages
    assert stages["engine"].p50_ms >= 1000 * SLOW_S
    assert stages["frame"].p50_ms >= 1000 * SLOW_S
    assert stages["prepare"].p50_ms < stages["engine"].p50_ms


def test_the_warm_up_does_not_count(station: StationRoot, monkeypatch) -> None:
    runs, calls = OnnxCpuEngine.run, []

    def slow_at_first(self, feeds):
        calls.append(None)
        if len(calls) <= 3:
            time.sleep(10 * SLOW_S)
        return runs(self, feeds)

    monkeypatch.setattr(OnnxCpuEngine, "run", slow_at_first)
    stages = run_bench(station.root, Repeats(5, 3), everything=False).engines[0].stages
    assert len(calls) == 8
    assert stages["engine"].p50_ms < 10_000 * SLOW_S


def test_beside_a_running_station_it_refuses(
    station: StationRoot, tmp_path: Path, capsys, monkeypatch
) -> None:
    with locked(Store(station.root).data, RUN, "edge run"):
        answer = run_edge(capsys, monkeypatch, "bench", tmp_path / "b.json", "--root", station.root)
    assert answer.code == 1
    assert "edge bench: " in answer.err
    assert "run.lock is held by process" in answer.err
    assert not (tmp_path / "b.json").exists()


def test_a_board_tells_its_mode_and_clocks(tmp_path: Path) -> None:
    """On a stand-in: files in the form in which NVIDIA's system has them."""
    files = {
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "etc/nvpmodel.conf": "< POWER_MODEL ID=1 NAME=25W >\n< PM_CONFIG DEFAULT=1 >\n",
        "var/lib/nvpmodel/status": "pmode:0001",
        "sys/class/devfreq/17000000.gpu/cur_freq": "918000000",
        "sys/class/devfreq/17000000.gpu/min_freq": "918000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "918000000",
        "sys/class/thermal/thermal_zone0/temp": "51250",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = conditions(tmp_path)
    assert (found.power_mode, found.hottest_c) == ("25W", 51.25)
    (gpu,) = found.clocks
    assert (gpu.now_mhz, gpu.most_mhz, gpu.is_pinned) == (918.0, 918.0, True)
    assert json.loads(found.model_dump_json())["power_mode"] == "25W"


def test_every_precision_is_timed_on_demand(tmp_path: Path) -> None:
    key = make_key(tmp_path)
    store = trusting_root(tmp_path / "root", key)
    install_bundle(make_tiny_bundle(tmp_path, key, precisions={"int8": (1.0, 0.0)}), store.root)
    report = run_bench(store.root, Repeats(3, 0), everything=True)
    assert {engine.precision for engine in report.engines} == {"fp32", "int8"}
    assert [engine.judges for engine in report.engines] == [True, False]
