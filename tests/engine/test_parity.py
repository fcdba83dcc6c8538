"""The parity certificate: what it measures, and that an engine with a planted fault cannot pass it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from edge.engine.parity import (
    AccuracyChange,
    Certificate,
    Comparison,
    GoldenFrame,
    MacShares,
    PrecisionSection,
    Responses,
    compare,
    failures,
    image_auroc,
    prove_on_golden,
    rank_correlation,
    read_certificate,
    read_golden,
)
from edge.errors import BundleError, EngineError

ALL_INT8 = MacShares(fp32=0, fp16=0, int8=1)
NO_CHANGE = AccuracyChange()


def responses(scores: list[float], maps: NDArray[Any] | None = None) -> Responses:
    default = np.array(scores, np.float32)[:, None, None] * np.ones((1, 4, 4), np.float32)
    return Responses(default if maps is None else maps.astype(np.float32), np.array(scores, np.float32))


# What is measured


@given(arrays(np.float32, st.integers(3, 40), elements=st.integers(0, 8).map(float)), st.integers(0, 2**32 - 1))
def test_rank_correlation_is_scipys_with_ties(scores: NDArray[np.float32], seed: int) -> None:
    other = np.random.default_rng(seed).permutation(scores)
    if len(set(scores)) > 1:
        assert rank_correlation(scores, other) == pytest.approx(spearmanr(scores, other).statistic, abs=1e-9)


def test_a_constant_output_has_no_rank_correlation() -> None:
    assert rank_correlation(np.arange(5), np.full(5, 2.0)) == 0
    assert rank_correlation(np.full(5, 2.0), np.full(5, 2.0)) == 1


@given(arrays(np.float32, st.integers(2, 40), elements=st.integers(0, 8).map(float)), st.integers(0, 2**32 - 1))
def test_image_auroc_is_sklearns_with_ties(scores: NDArray[np.float32], seed: int) -> None:
    labels = np.random.default_rng(seed).random(len(scores)) < 0.5
    if 0 < labels.sum() < len(labels):
        assert image_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    else:
        assert image_auroc(labels, scores) is None


def test_map_error_is_a_share_of_float32s_range_and_the_background_does_not_dilute_it() -> None:
    maps = np.zeros((2, 4, 4))
    maps[0, 0, :2] = 10.0          # two judged cells; everything else is background, 0 in both
    candidate = maps.copy()
    candidate[0, 0, 0] = 11.0
    measured = compare(responses([0, 1], maps), responses([0, 1], candidate), threshold=0.5)
    assert measured.mean_map_error == pytest.approx(0.05)
    assert measured.largest_map_error == pytest.approx(0.1)


def test_a_flip_is_as_far_as_its_float32_score_from_the_threshold() -> None:
    measured = compare(responses([0.0, 4.9, 10.0]), responses([0.0, 5.3, 10.0]), threshold=5.0)
    assert measured.flips == 1
    assert measured.largest_flip_distance == pytest.approx(0.01, abs=1e-6)


def test_a_score_equal_to_the_threshold_is_ok_in_both() -> None:
    limit = float(np.float32(0.1))   # 0.1 as float64 lies below float32's 0.1
    assert compare(responses([0.0, limit, 1.0]), responses([0.0, limit, 1.0]), threshold=0.1).flips == 0


def test_another_models_engine_is_named() -> None:
    with pytest.raises(EngineError, match=r"maps \(1, 2, 2\), the reference has \(1, 4, 4\)"):
        compare(responses([1.0]), responses([1.0], np.ones((1, 2, 2))), threshold=0.5)


# Limits


def measured_with(**changes: Any) -> Comparison:
    perfect: dict[str, Any] = {
        "frames": 20, "finite": True, "mean_map_error": 0, "largest_map_error": 0, "largest_score_error": 0,
        "rank_correlation": 1, "flips": 0, "largest_flip_distance": 0,
    }  # fmt: skip
    return Comparison(**{**perfect, **changes})


@pytest.mark.parametrize(
    ("precision", "measured", "change", "macs", "backbone", "sentence"),
    [
        ("int8", {"mean_map_error": 0.0101}, None, ALL_INT8, ALL_INT8, "mean map error"),
        ("fp16", {"mean_map_error": 0.0021}, None, ALL_INT8, None, "mean map error"),
        ("int8", {"rank_correlation": 0.9899}, None, ALL_INT8, ALL_INT8, "rank correlation"),
        ("int8", {}, -0.51, ALL_INT8, ALL_INT8, "I-AUROC"),
        ("fp16", {}, 0.21, ALL_INT8, None, "I-AUROC"),
        ("int8", {"flips": 1, "largest_flip_distance": 0.021}, None, ALL_INT8, ALL_INT8, "flips"),
        ("int8", {}, None, MacShares(fp32=0, fp16=0.41, int8=0.59), ALL_INT8, "59.0% of all"),
        ("int8", {}, None, ALL_INT8, MacShares(fp32=0, fp16=0.21, int8=0.79), "79.0% of the backbone"),
        ("fp16", {"finite": False}, None, ALL_INT8, None, "not finite"),
    ],
)
def test_each_limit_fails_alone(
    precision: Any,
    measured: dict[str, Any],
    change: float | None,
    macs: MacShares,
    backbone: MacShares | None,
    sentence: str,
) -> None:
    reasons = failures(measured_with(**measured), precision, AccuracyChange(i_auroc=change), macs, backbone)
    assert len(reasons) == 1
    assert sentence in reasons[0]


def test_exactly_at_the_limits_passes() -> None:
    at_limit = measured_with(mean_map_error=0.01, rank_correlation=0.99, flips=1, largest_flip_distance=0.02)
    shares = MacShares(fp32=0, fp16=0.4, int8=0.6), MacShares(fp32=0, fp16=0.2, int8=0.8)
    assert failures(at_limit, "int8", AccuracyChange(i_auroc=-0.5), *shares) == ()


# A real Q/DQ graph with a fault planted in it

WEIGHT = np.random.default_rng(7).normal(size=(8, 3, 3, 3)).astype(np.float32)
HEAD = np.abs(np.random.default_rng(8).normal(size=(1, 8, 1, 1))).astype(np.float32)
SCALES = {"pixels": 1 / 127, "hidden": 6 / 127}


def quantised(nodes: list[Any], constants: list[Any], name: str, fault: str) -> str:
    """Append Q/DQ of `name` and return the dequantised name; a faulty scale is four times what it should be."""
    scale = SCALES[name]
    back = scale * (4 if fault == f"scale of {name}" else 1)
    constants.append(numpy_helper.from_array(np.float32(scale), f"{name}.s"))
    constants.append(numpy_helper.from_array(np.float32(back), f"{name}.b"))
    constants.append(numpy_helper.from_array(np.int8(0), f"{name}.z"))
    nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], [f"{name}.q"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.b", f"{name}.z"], [f"{name}.d"]))
    return f"{name}.d"


def graph(int8: bool = False, fault: str = "") -> bytes:
    """Color bytes -> 3x3 convolution, ReLU, 1x1 convolution -> map and its mean; with Q/DQ, with a fault, if asked."""
    order = [2, 1, 0] if fault == "swapped channels" else [0, 1, 2]
    constants = [numpy_helper.from_array(WEIGHT[:, order], "w"), numpy_helper.from_array(HEAD, "h")]
    constants.append(numpy_helper.from_array(np.float32(255), "full"))
    nodes = [
        helper.make_node("Cast", ["color"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["chw", "full"], ["pixels"]),
    ]
    pixels = quantised(nodes, constants, "pixels", fault) if int8 else "pixels"
    nodes.append(helper.make_node("Conv", [pixels, "w"], ["conv"]))
    nodes.append(helper.make_node("Relu", ["conv"], ["hidden"]))
    hidden = quantised(nodes, constants, "hidden", fault) if int8 else "hidden"
    nodes.append(helper.make_node("Conv", [hidden, "h"], ["raw"]))
    last = "raw"
    if fault == "constant output":
        constants.append(numpy_helper.from_array(np.float32(0), "zero"))
        constants.append(numpy_helper.from_array(np.float32(3), "three"))
        nodes.append(helper.make_node("Mul", ["raw", "zero"], ["none"]))
        nodes.append(helper.make_node("Add", ["none", "three"], ["const"]))
        last = "const"
    if fault == "not finite":
        constants.append(numpy_helper.from_array(np.float32(np.nan), "nan"))
        nodes.append(helper.make_node("Mul", ["raw", "nan"], ["bad"]))
        last = "bad"
    nodes.append(helper.make_node("Identity", [last], ["map"]))
    nodes.append(helper.make_node("ReduceMean", [last], ["mean"], keepdims=0))
    constants.append(numpy_helper.from_array(np.array([1]), "one"))
    nodes.append(helper.make_node("Reshape", ["mean", "one"], ["score"]))
    inputs = [helper.make_tensor_value_info("color", TensorProto.UINT8, (1, 20, 24, 3))]
    outputs = [
        helper.make_tensor_value_info("map", TensorProto.FLOAT, (1, 1, 18, 22)),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, (1,)),
    ]
    onnx_graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    model = helper.make_model(onnx_graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


class OnnxRunner:
    name = "onnxruntime"

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        self.session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(self, feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feeds), strict=True))


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames, the later the more structure they have; reference from the float32 graph."""
    folder = tmp_path_factory.mktemp("golden")
    generator = np.random.default_rng(3)
    engine = OnnxRunner(graph())
    for index in range(8):
        noise = generator.normal(size=(1, 20, 24, 3)) * [6, 3, 1]
        color = (120 + 2 * (index + 1) * noise).clip(0, 255).astype(np.uint8)
        np.savez_compressed(folder / f"{index:04d}.npz", color=color, **engine.run({"color": color}))
    return folder


@pytest.fixture(scope="module")
def certificate(golden: Path) -> Certificate:
    """The certificate of the graph with Q/DQ and without a fault."""
    frames = read_golden(golden)
    reference = Responses.of({"map": frame.map, "score": frame.score} for frame in frames)
    runner = OnnxRunner(graph(int8=True))
    threshold = float(np.float32(np.median(reference.scores)))
    measured = compare(reference, Responses.of(runner.run(frame.feeds) for frame in frames), threshold)
    reasons = failures(measured, "int8", NO_CHANGE, ALL_INT8, None)
    section = PrecisionSection(
        **measured.model_dump(), precision="int8", runtime="onnxruntime", golden_map_error=measured.mean_map_error,
        change=NO_CHANGE, macs=ALL_INT8, backbone_macs=None, passed=not reasons, reasons=reasons,
    )  # fmt: skip
    return Certificate(
        note="test",
        threshold=threshold,
        score_low=float(reference.scores.min()),
        score_high=float(reference.scores.max()),
        map_low=float(reference.maps.min()),
        map_high=float(reference.maps.max()),
        normal_frames=4,
        defect_frames=4,
        drawn_frames=0,
        golden_frames=8,
        sections=(section,),
    )


def test_the_graph_without_a_fault_passes(golden: Path, certificate: Certificate) -> None:
    assert certificate.sections[0].passed, certificate.sections[0].reasons
    assert 0 < certificate.sections[0].mean_map_error < 0.01
    section = prove_on_golden(OnnxRunner(graph(int8=True)), golden, certificate, "int8", board="a test")
    assert section.passed
    assert section.frames == 8
    assert not certificate.with_board(section).provisional


FAULTS = ["constant output", "swapped channels", "scale of pixels", "scale of hidden", "not finite"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_not_proven_on_the_board(fault: str, golden: Path, certificate: Certificate) -> None:
    section = prove_on_golden(OnnxRunner(graph(int8=True, fault=fault)), golden, certificate, "int8")
    assert not section.passed
    assert section.reasons
    assert certificate.with_board(section).provisional


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails_the_certificate(fault: str, golden: Path, certificate: Certificate) -> None:
    frames = read_golden(golden)
    reference = Responses.of({"map": frame.map, "score": frame.score} for frame in frames)
    candidate = Responses.of(OnnxRunner(graph(int8=True, fault=fault)).run(frame.feeds) for frame in frames)
    measured = compare(reference, candidate, certificate.threshold)
    assert failures(measured, "int8", NO_CHANGE, ALL_INT8, None)


def test_site_tensors_need_an_oracle_under_the_same_tensors(golden: Path, certificate: Certificate) -> None:
    shifted = {"color": np.full((1, 20, 24, 3), 90, np.uint8)}
    engine = OnnxRunner(graph(int8=True))
    with pytest.raises(ValueError, match="oracle"):
        prove_on_golden(engine, golden, certificate, "int8", site=shifted)
    assert prove_on_golden(engine, golden, certificate, "int8", site=shifted, oracle=OnnxRunner(graph())).flips == 0


def test_a_site_threshold_moves_the_sides(golden: Path, certificate: Certificate) -> None:
    scores = [float(frame.score[0]) for frame in read_golden(golden)]
    section = prove_on_golden(OnnxRunner(graph(int8=True)), golden, certificate, "int8", threshold=max(scores) * 2)
    assert section.flips == 0
    assert section.threshold == pytest.approx(max(scores) * 2)


# Files


def test_the_certificate_survives_its_file(tmp_path: Path, certificate: Certificate) -> None:
    path = tmp_path / "parity.json"
    path.write_text(certificate.to_json())
    assert read_certificate(path) == certificate
    assert read_certificate(path).provisional


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 2}', "[1]"])
def test_a_damaged_certificate_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "parity.json").write_text(text)
    with pytest.raises(BundleError, match=r"parity\.json: .*export again"):
        read_certificate(tmp_path / "parity.json")


def test_a_precision_without_a_section_is_named(certificate: Certificate) -> None:
    with pytest.raises(BundleError, match="no fp16, only int8"):
        certificate.section("fp16")


def test_no_golden_frames_or_damaged_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no golden frames"):
        read_golden(tmp_path)
    (tmp_path / "0000.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(BundleError, match=r"0000\.npz: not a golden frame"):
        read_golden(tmp_path)
    np.savez(tmp_path / "0000.npz", color=np.zeros(3))
    with pytest.raises(BundleError, match=r"0000\.npz: not a golden frame"):
        read_golden(tmp_path)


def test_golden_frames_come_by_name(golden: Path) -> None:
    frames = read_golden(golden)
    assert [frame.name for frame in frames] == [f"{index:04d}" for index in range(8)]
    assert isinstance(frames[0], GoldenFrame)
    assert set(frames[0].feeds) == {"color"}
