"""Which engine judges: every precision is proven, timed and given its own threshold; the fastest
proven one judges.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge.config import PLACE
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import ConfigError, EngineError, MissingDependency, ParityError
from edge.install import measure_engine as measure_module
from edge.install import proven as proven_module
from edge.install import proving as proving_module
from edge.install.install import install_bundle
from edge.install.proof_file import certificate_path, read_proof
from edge.install.proven import open_for_inspection, open_proven_engine
from edge.install.proving import choose_engine, prove
from edge.proof.certificate import read_certificate
from edge.schema import Precision
from edge.station.audit import read_audit
from edge.station.store import Store
from tests.support.planted import noisy, plant_fault, plant_times, swapped_depth, with_score
from tests.support.root import run_edge, snapshot
from tests.support.tiny_bundle import KeyPair, make_tiny_bundle

MODULES = (proven_module, proving_module, measure_module)  # each calls the machine by its name

# int8: 2 s and more above
LINES: dict[Precision, tuple[float, float]] = {"fp16": (1.0, 0.01), "int8": (1.1, 12.0)}
FAST_INT8 = {"fp32": 10.0, "fp16": 9.5, "int8": 5.0}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("three"), key, precisions=LINES)


@pytest.fixture
def fast_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_times(monkeypatch, FAST_INT8)


def want(store: Store, precision: str) -> None:
    path = store.root / PLACE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[runtime]\nprecision = "{precision}"\n')


def thresholds_in_audit(store: Store) -> list[dict[str, object]]:
    return [row.detail for row in read_audit(store.root) if row.act == "threshold"]


# --- the threshold belongs to the engine ---


@pytest.mark.usefixtures("fast_int8")
def test_the_fastest_proven_engine_judges_by_a_threshold_of_its_own_scores(
    store: Store, bundle: Path
) -> None:
    install_bundle(bundle, store.root)
    manifest = store.active().manifest
    proven = open_proven_engine(store, store.active())
    proven.engine.close()
    assert proven.engine.precision == "int8"
    assert proven.threshold.value == pytest.approx(manifest.thresholds["int8"].value, rel=1e-5)
    assert proven.threshold.value > 1.5 * manifest.thresholds["fp32"].value


@pytest.mark.usefixtures("fast_int8")
def test_install_prints_a_row_per_engine_and_the_guarantee(
    store: Store, bundle: Path, capsys, monkeypatch
) -> None:
    out = run_edge(capsys, monkeypatch, "install", bundle, "--root", store.root).out.splitlines()
    rows = {line.split()[2]: line for line in out if line.startswith("onnxruntime")}
    assert list(rows) == ["fp32", "fp16", "int8"]
    assert " 10.00 " in rows["fp32"]
    assert " 1 of 20 " in rows["fp32"]  # good parts rejected, by the certificate
    assert " not measured, expected 11.1% " in rows["int8"]
    assert " 1 of 8 " in rows["int8"]  # defects missed
    assert rows["fp32"].endswith("proven")
    assert rows["int8"].endswith("judges")
    own, stated = rows["int8"].split()[-3:-1]
    assert own == stated
    judges = (
        r"engine proven: onnxruntime \S+ int8 judges \(at least 10% faster than the more exact"
        r" ones\)"
    )
    assert any(re.fullmatch(judges, line) for line in out)
    assert any(line.startswith(f"threshold {own}. With 95% confidence at most ") for line in out)


@pytest.mark.usefixtures("fast_int8")
def test_measured_thresholds_are_audited_once_per_proof_and_not_in_a_dry_run(
    store: Store, bundle: Path
) -> None:
    install_bundle(bundle, store.root, dry_run=True)
    assert thresholds_in_audit(store) == []
    install_bundle(bundle, store.root)
    rows = thresholds_in_audit(store)
    assert [(row["precision"], row["chosen"]) for row in rows] == [
        ("fp32", False),
        ("fp16", False),
        ("int8", True),
    ]
    manifest = store.active().manifest
    assert [row["manifest"] for row in rows] == [
        manifest.thresholds[row["precision"]].value for row in rows
    ]
    assert set(rows[0]) == {
        "product",
        "digest",
        "precision",
        "runtime",
        "board",
        "value",
        "rank",
        "parts",
        "expected",
        "bound",
        "manifest",
        "chosen",
    }
    install_bundle(bundle, store.root)
    open_proven_engine(store, store.active()).engine.close()
    assert thresholds_in_audit(store) == rows


@pytest.mark.usefixtures("fast_int8")
def test_a_change_of_the_machine_is_proven_and_audited_again(
    store: Store, bundle: Path, monkeypatch
) -> None:
    install_bundle(bundle, store.root)
    for module in MODULES:
        monkeypatch.setattr(module, "this_machine", lambda: "another board")
    open_proven_engine(store, store.active()).engine.close()
    assert [row["board"] for row in thresholds_in_audit(store)][3:] == ["another board"] * 3


def test_the_certificate_is_completed_beside_the_proof_and_the_signed_one_stays(
    store: Store, bundle: Path
) -> None:
    install_bundle(bundle, store.root)
    installed = store.active()
    completed = read_certificate(certificate_path(store, installed))
    assert [board.precision for board in completed.boards] == ["fp32", "fp16", "int8"]
    assert not completed.provisional
    signed = read_certificate(installed.certificate)
    assert (signed.boards, signed.provisional) == ((), True)
    store.verify(installed)


# --- the choice ---


@pytest.mark.parametrize(
    ("times_ms", "judge"),
    [
        ({"fp32": 10.0, "fp16": 9.01, "int8": 9.01}, "fp32"),  # not by at least 10 %
        ({"fp32": 10.0, "fp16": 9.0, "int8": 8.2}, "fp16"),  # int8 is compared with the best so far
        ({"fp32": 10.0, "fp16": 9.0, "int8": 8.1}, "int8"),
        ({"fp32": 10.0, "fp16": 12.0, "int8": 9.0}, "int8"),
    ],
)
def test_a_less_exact_precision_has_to_be_a_tenth_faster(
    store: Store, bundle: Path, monkeypatch, times_ms: Mapping[str, float], judge: str
) -> None:
    plant_times(monkeypatch, times_ms)
    install_bundle(bundle, store.root)
    assert read_proof(store, store.active()).judge(store.active().manifest).precision == judge


@pytest.mark.usefixtures("fast_int8")
def test_a_fast_engine_that_is_refused_does_not_judge(
    store: Store, bundle: Path, monkeypatch
) -> None:
    plant_fault(monkeypatch, with_score(lambda score: score + 60), "int8")
    install_bundle(bundle, store.root)
    proof = read_proof(store, store.active())
    assert proof.judge(store.active().manifest).precision == "fp32"
    assert "off the certificate's" in proof.find("int8").why_not


def test_the_choice_stays_where_the_station_is_calibrated(
    store: Store, bundle: Path, monkeypatch
) -> None:
    install_bundle(bundle, store.root)
    installed = store.active()
    entries = read_proof(store, installed).engines
    store.save_model_state(installed, "fp32", entries[0].runtime, parts=30, threshold=25.0)
    plant_times(monkeypatch, FAST_INT8)
    for module in (proven_module, proving_module):  # proven anew
        monkeypatch.setattr(module, "this_machine", lambda: "another board")
    proven = open_proven_engine(store, installed)
    proven.engine.close()
    assert proven.engine.precision == "fp32"
    proof = read_proof(store, installed)
    assert proof.why == "this station is calibrated for it"
    refused = [
        (
            entry
            if entry.precision != "fp32"
            else entry.model_copy(update={"section": None, "reason": "planted"})
        )
        for entry in proof.engines
    ]
    chosen, _ = choose_engine(refused, store.model_states(installed))
    assert chosen.precision == "int8"  # calibrated, and not proven


def test_nothing_proven_names_every_engine_and_why(store: Store, bundle: Path, monkeypatch) -> None:
    before = snapshot(store.data / "line.sqlite")
    plant_fault(monkeypatch, with_score(lambda _: 3.0))
    with pytest.raises(
        ParityError,
        match=r"fp32: every normal part.*fp16: every normal part.*int8: every normal part",
    ):
        install_bundle(bundle, store.root)
    assert store.products() == []
    assert thresholds_in_audit(store) == []
    assert before == snapshot(store.data / "line.sqlite")


@pytest.mark.parametrize(
    "failure", [EngineError("out of memory"), MissingDependency("no such library")]
)
def test_an_engine_that_cannot_be_opened_is_a_row_and_not_the_end(
    store: Store, bundle: Path, capsys, monkeypatch, failure: Exception
) -> None:
    openers = proven_module.unproven_openers

    def failing(*arguments: object) -> dict[str, object]:
        def open_one(model: Path, precision: Precision) -> object:
            if precision == "fp16":
                raise failure
            return opener(model, precision)

        ((runtime, opener),) = openers(*arguments).items()
        return {runtime: open_one}

    monkeypatch.setattr(measure_module, "unproven_openers", failing)
    out = run_edge(capsys, monkeypatch, "install", bundle, "--root", store.root).out
    row = next(line for line in out.splitlines() if " fp16 " in line)
    assert row.endswith(f"refused: {failure}")
    proof = read_proof(store, store.active())
    assert [entry.is_proven for entry in proof.engines] == [True, False, True]
    assert len(read_certificate(certificate_path(store, store.active())).boards) == 2


def test_engines_are_open_one_at_a_time(store: Store, bundle: Path, monkeypatch) -> None:
    open_now: set[int] = set()
    most = [0]
    begin, end = OnnxCpuEngine.__init__, OnnxCpuEngine.close

    def opened(self: OnnxCpuEngine, *arguments: object) -> None:
        begin(self, *arguments)
        open_now.add(id(self))
        most[0] = max(most[0], len(open_now))

    def closed(self: OnnxCpuEngine) -> None:
        open_now.discard(id(self))
        end(self)

    monkeypatch.setattr(OnnxCpuEngine, "__init__", opened)
    monkeypatch.setattr(OnnxCpuEngine, "close", closed)
    install_bundle(bundle, store.root)
    assert (most, open_now) == ([1], set())


# --- on a machine with TensorRT ---


class OtherRuntime(OnnxCpuEngine):
    """onnxruntime under TensorRT's name."""

    def __init__(self, path: Path, precision: Precision) -> None:
        super().__init__(path, 2, precision)
        self.name = "tensorrt 10.3.0"


@pytest.fixture
def with_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = proven_module.unproven_openers
    name = proven_module.runtime_name
    for module in MODULES:
        monkeypatch.setattr(
            module, "unproven_openers", lambda *more: {"tensorrt": OtherRuntime, **cpu(*more)}
        )
    monkeypatch.setattr(
        proven_module,
        "runtime_name",
        lambda kind: "tensorrt 10.3.0" if kind == "tensorrt" else name(kind),
    )


@pytest.mark.usefixtures("with_tensorrt", "fast_int8")
def test_every_precision_is_proven_on_tensorrt_and_the_cpu_is_left_alone(
    store: Store, bundle: Path
) -> None:
    install_bundle(bundle, store.root)
    proof = read_proof(store, store.active())
    assert [entry.name for entry in proof.engines] == [
        f"tensorrt 10.3.0 {name}" for name in ("fp32", "fp16", "int8")
    ]
    proven = open_proven_engine(store, store.active())
    proven.engine.close()
    assert (proven.engine.name, proven.engine.precision) == ("tensorrt 10.3.0", "int8")


@pytest.mark.usefixtures("with_tensorrt")
def test_float32_on_the_cpu_judges_where_none_of_tensorrts_is_proven(
    store: Store, bundle: Path, monkeypatch
) -> None:
    monkeypatch.setattr(
        OtherRuntime,
        "run",
        lambda self, feeds: with_score(lambda _: 1.0)(super(OtherRuntime, self).run(feeds)),
        raising=False,
    )
    install_bundle(bundle, store.root)
    proof = read_proof(store, store.active())
    assert [entry.is_proven for entry in proof.engines] == [False, False, False, True]
    proven = open_proven_engine(store, store.active())
    proven.engine.close()
    assert (proven.engine.name.split()[0], proven.engine.precision) == ("onnxruntime", "fp32")
    assert len(thresholds_in_audit(store)) == 1


def test_tensorrt_that_came_later_is_proven_before_it_judges(
    store: Store, bundle: Path, request
) -> None:
    install_bundle(bundle, store.root)
    request.getfixturevalue("with_tensorrt")
    open_proven_engine(store, store.active()).engine.close()
    assert {entry.runtime for entry in read_proof(store, store.active()).engines} == {
        "tensorrt 10.3.0"
    }


# --- station.toml and --precision ---


@pytest.mark.usefixtures("fast_int8")
def test_station_toml_names_the_precision(store: Store, bundle: Path, capsys, monkeypatch) -> None:
    want(store, "fp16")
    answer = run_edge(capsys, monkeypatch, "install", bundle, "--root", store.root)
    assert "fp16 judges (station.toml names it)" in answer.out
    proven = open_proven_engine(store, store.active(), wanted="fp16")
    proven.engine.close()
    assert proven.engine.precision == "fp16"
    # the choice stays
    assert read_proof(store, store.active()).judge(store.active().manifest).precision == "int8"


def test_a_wanted_precision_that_the_bundle_lacks_is_one_sentence(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    want(store, "int8")
    answer = run_edge(
        capsys, monkeypatch, "install", make_tiny_bundle(tmp_path, key), "--root", store.root
    )
    assert answer.code == 1
    assert (
        answer.err.splitlines()[-1]
        == "edge: etc/edge/station.toml: runtime.precision is int8, washer 1.0.0 has no such file:"
        " set it to fp32 or auto"
    )
    assert store.products() == []
    assert thresholds_in_audit(store) == []


def test_a_wanted_precision_that_is_not_proven_is_one_sentence(
    store: Store, bundle: Path, capsys, monkeypatch
) -> None:
    plant_fault(monkeypatch, with_score(lambda score: score + 60), "int8")
    install_bundle(bundle, store.root)
    want(store, "int8")
    for command in (["inspect"], ["install", bundle]):
        answer = run_edge(capsys, monkeypatch, *command, "--root", store.root)
        assert answer.code == 1
        assert "int8 is not proven on this machine (scores at the threshold" in answer.err
        assert "set it to fp32, fp16 or auto" in answer.err


def test_any_precision_can_be_looked_at_by_its_own_threshold(
    store: Store, bundle: Path, monkeypatch, caplog
) -> None:
    plant_fault(monkeypatch, with_score(lambda score: score + 60), "int8")
    install_bundle(bundle, store.root)
    installed = store.active()
    looked_at = {name: open_for_inspection(store, installed, name) for name in ("fp32", "int8")}
    for proven in looked_at.values():
        proven.engine.close()
    expected = installed.manifest.thresholds["int8"].value + 60
    assert looked_at["int8"].threshold.value == pytest.approx(expected, rel=1e-5)
    assert looked_at["fp32"].threshold.value == pytest.approx(
        installed.manifest.thresholds["fp32"].value, rel=1e-5
    )
    assert "int8 is not proven on this machine" in caplog.text


def test_a_precision_to_look_at_that_the_bundle_lacks(
    store: Store, key: KeyPair, tmp_path: Path
) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    with pytest.raises(
        ConfigError, match=r"washer 1\.0\.0 has no int8, only fp32: use one of those"
    ):
        open_for_inspection(store, store.active(), "int8")


# --- planted faults ---


def _spread(store: Store) -> float:
    return store.active().manifest.normal_spread["fp32"].spread


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda s: with_score(lambda score: score + 3 * s), "off the certificate's"),
        (
            lambda s: with_score(lambda score: score * 0.1 + 0.02 * s * np.sin(1e4 * score)),
            "scores are 0.10 times",
        ),
        (lambda _: with_score(lambda _: 5.0), "every normal part has the same score"),
        (noisy, "noise of the normal scores"),
        (
            lambda _: with_score(lambda score: min(score, 20.0)),
            "a reference frame changes its verdict",
        ),
        (lambda _: with_score(lambda _: float("nan")), "not finite"),
        (
            lambda _: lambda outputs: {**outputs, "map": outputs["map"] * np.float32(1.1)},
            "mean map error",
        ),
    ],
)
def test_a_planted_fault_is_refused_on_the_board(
    store: Store, bundle: Path, monkeypatch, fault, words: str
) -> None:
    install_bundle(bundle, store.root)
    installed = store.active()
    with monkeypatch.context() as planted:
        plant_fault(planted, fault(_spread(store)))
        with pytest.raises(ParityError, match=words):
            prove(store, installed)
    assert prove(store, installed).state == "proven"


def test_swapped_bytes_of_the_depth_are_refused(store: Store, bundle: Path, monkeypatch) -> None:
    install_bundle(bundle, store.root)
    plant_fault(monkeypatch, lambda outputs: outputs, feeds=swapped_depth)
    with pytest.raises(ParityError):
        prove(store, store.active())


def test_a_damaged_proof_is_never_half_believed(store: Store, bundle: Path, caplog) -> None:
    install_bundle(bundle, store.root)
    path = store.engines / f"{store.active().digest[:12]}.json"
    proof = json.loads(path.read_text())
    del proof["engines"][0]["section"]["threshold"]
    path.write_text(json.dumps(proof))
    open_proven_engine(store, store.active()).engine.close()
    assert "engines.0.section.threshold" in caplog.text
    assert "threshold" in json.loads(path.read_text())["engines"][0]["section"]  # proven again
