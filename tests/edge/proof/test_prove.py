"""An engine on the machine that judges: a real Q/DQ graph passes, and with a planted fault it does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge.errors import BundleError, EngineError
from edge.proof.certificate import (
    AccuracyChange,
    Certificate,
    MacShares,
    PrecisionSection,
    Verdicts,
    failures,
)
from edge.proof.compare import Responses, compare_maps, fit_noise, furthest, spread_of, unlike
from edge.proof.golden import GoldenFrame, NormalFrames, read_golden, read_normal, write_normal
from edge.proof.measures import Count, Noise
from edge.proof.prove import (
    LEAST_TIMED,
    WARM_UP,
    Calibrated,
    Expected,
    measure_normal,
    prove_engine,
)
from edge.proof.threshold import threshold_from_normals
from edge.schema import TensorSpec

ALL_INT8 = MacShares(fp32=0, fp16=0, int8=1)
NO_CHANGE = AccuracyChange()
EXACT = Noise(frames=40, slope=1, offset=0, rms=0, shift=0, spread=1)
PARTS, GOLDEN = 32, 8
SPECS = (TensorSpec(name="color", dtype="uint8", shape=(1, 20, 24, 3)),)
OUTPUTS = (
    TensorSpec(name="map", dtype="float32", shape=(1, 1, 18, 22)),
    TensorSpec(name="score", dtype="float32", shape=(1,)),
)


# A real Q/DQ graph with a fault planted in it

WEIGHT = np.random.default_rng(7).normal(size=(8, 3, 3, 3)).astype(np.float32)
HEAD = np.abs(np.random.default_rng(8).normal(size=(1, 8, 1, 1))).astype(np.float32)
SCALES = {"pixels": 1 / 127, "hidden": 6 / 127}


def quantized(nodes: list[Any], constants: list[Any], name: str, fault: str) -> str:
    """Append Q/DQ of `name` and return the dequantized name; a faulty scale is twice what it should
    be.
    """
    scale = SCALES[name]
    back = scale * (2 if fault == f"scale of {name}" else 1)
    constants.append(numpy_helper.from_array(np.float32(scale), f"{name}.s"))
    constants.append(numpy_helper.from_array(np.float32(back), f"{name}.b"))
    constants.append(numpy_helper.from_array(np.int8(0), f"{name}.z"))
    nodes.append(
        helper.make_node("QuantizeLinear", [name, f"{name}.s", f"{name}.z"], [f"{name}.q"])
    )
    nodes.append(
        helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.b", f"{name}.z"], [f"{name}.d"])
    )
    return f"{name}.d"


def graph(int8: bool = False, fault: str = "") -> bytes:
    """Color bytes -> 3x3 convolution, ReLU, 1x1 convolution -> map and its mean; with Q/DQ, with a
    fault, if asked.
    """
    order = [2, 1, 0] if fault == "swapped channels" else [0, 1, 2]
    constants = [numpy_helper.from_array(WEIGHT[:, order], "w"), numpy_helper.from_array(HEAD, "h")]
    constants.append(numpy_helper.from_array(np.float32(255), "full"))
    nodes = [
        helper.make_node("Cast", ["color"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["chw"], perm=[0, 3, 1, 2]),
        helper.make_node("Div", ["chw", "full"], ["pixels"]),
    ]
    pixels = quantized(nodes, constants, "pixels", fault) if int8 else "pixels"
    nodes.append(helper.make_node("Conv", [pixels, "w"], ["conv"]))
    nodes.append(helper.make_node("Relu", ["conv"], ["hidden"]))
    hidden = quantized(nodes, constants, "hidden", fault) if int8 else "hidden"
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


def frame(seed: int, structure: float) -> dict[str, NDArray[Any]]:
    """One view; the more structure, the higher its score."""
    noise = np.random.default_rng(seed).normal(size=(1, 20, 24, 3)) * [6, 3, 1]
    return {"color": (120 + structure * noise).clip(0, 255).astype(np.uint8)}


@dataclass(frozen=True)
class Product:
    """What a bundle holds of one product: golden and normal frames, the certificate of its int8
    file.
    """

    golden: list[GoldenFrame]
    normal: NormalFrames
    certificate: Certificate
    expected: Expected

    @property
    def spread(self) -> float:
        """s of int8's own normal scores."""
        return spread_of(self.expected.scores)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Product:
    """Normal parts of a little structure, reference frames from few to much; answers of both
    graphs.
    """
    folder = tmp_path_factory.mktemp("product")
    exact, coarse = OnnxRunner(graph()), OnnxRunner(graph(int8=True))
    parts = [frame(100 + index, 2 + 4 * index / PARTS) for index in range(PARTS)]
    scores = np.array([exact.run(feeds)["score"][0] for feeds in parts])
    order = [int(index) for index in np.argsort(-scores)]
    carried = [
        (f"good/{index:03d}", rank, lambda index=index: parts[index])
        for rank, index in enumerate(order, 1)
    ]
    write_normal(folder / "normal", carried, PARTS, PARTS, SPECS)
    (folder / "golden").mkdir()
    for index in range(GOLDEN):
        feeds = frame(index, 3 + 1.5 * index)
        np.savez_compressed(folder / "golden" / f"{index:04d}.npz", **feeds, **exact.run(feeds))
    golden, normal = (
        read_golden(folder / "golden", SPECS, OUTPUTS),
        read_normal(folder / "normal", SPECS),
    )
    own = measure_normal(coarse, normal).scores
    limits = [threshold_from_normals(values) for values in (scores[order], own)]
    expected = Expected(own.astype(np.float64), limits[1], limits[0])
    return Product(golden, normal, _certificate(golden, scores[order], expected, coarse), expected)


def _certificate(
    golden: list[GoldenFrame], scores: NDArray[np.float32], expected: Expected, coarse: OnnxRunner
) -> Certificate:
    reference = Responses.of({"map": frame.map, "score": frame.score} for frame in golden)
    candidate = Responses.of(coarse.run(frame.feeds) for frame in golden)
    spread, limits = spread_of(scores), (expected.float32.value, expected.threshold.value)
    changed = unlike(reference.scores, candidate.scores, limits, spread)
    none = Count(count=0, of=0)
    verdicts = Verdicts(
        good=None,
        expected=expected.threshold.expected,
        real=none,
        drawn=none,
        unlike=Count(count=int(changed.sum()), of=len(golden)),
        near=none,
        furthest=furthest(reference.scores, changed, limits[0], spread),
    )
    noise, measured = (
        fit_noise(scores, expected.scores, limits[0]),
        compare_maps(reference, candidate),
    )
    reasons = failures(measured, "int8", noise, EXACT, verdicts, NO_CHANGE, ALL_INT8, None)
    section = PrecisionSection(
        **measured.model_dump(),
        precision="int8",
        runtime="onnxruntime",
        threshold=expected.threshold,
        verdicts=verdicts,
        noise=noise,
        repeat=EXACT,
        golden_map_error=measured.mean_map_error,
        change=NO_CHANGE,
        macs=ALL_INT8,
        backbone_macs=None,
        passed=not reasons,
        reasons=reasons,
    )
    return Certificate(
        note="test",
        spread=spread,
        map_low=float(reference.maps.min()),
        map_high=float(reference.maps.max()),
        normal_frames=PARTS,
        good_frames=0,
        real_frames=0,
        drawn_frames=0,
        near_frames=0,
        golden_frames=GOLDEN,
        sections=(section,),
    )


class Changed:
    """An engine whose answers go through a function."""

    name = "changed"

    def __init__(
        self, engine: OnnxRunner, change: Callable[[dict[str, NDArray[Any]]], Mapping[str, Any]]
    ) -> None:
        self.engine, self.change = engine, change

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(self.change(self.engine.run(dict(feeds))))


def scored(change: Callable[[float], float]) -> Changed:
    """The int8 graph with its score changed."""
    return Changed(
        OnnxRunner(graph(int8=True)),
        lambda out: {**out, "score": np.float32([change(float(out["score"][0]))])},
    )


def prove(engine: Any, product: Product, **options: Any) -> Any:
    parts = product.golden, product.normal, product.certificate, product.expected
    return prove_engine(engine, "int8", *parts, **options)


def test_the_graph_without_a_fault_is_proven_with_a_threshold_of_its_own_scores(
    product: Product,
) -> None:
    assert product.certificate.sections[0].passed, product.certificate.sections[0].reasons
    assert 0 < product.certificate.sections[0].mean_map_error < 0.01
    section = prove(OnnxRunner(graph(int8=True)), product, board="a test", model_sha256="ab")
    assert section.passed, section.reasons
    assert (section.frames, section.golden_unlike.of, section.board, section.model_sha256) == (
        8,
        8,
        "a test",
        "ab",
    )
    assert section.threshold == product.expected.threshold
    assert section.time_ms > 0
    assert not product.certificate.with_boards((section,)).provisional


def test_an_engine_that_rounds_otherwise_gets_its_own_threshold(product: Product) -> None:
    section = prove(scored(lambda score: score + 0.05 * product.spread), product)
    assert section.passed, section.reasons
    expected = product.expected.threshold.value + 0.05 * product.spread
    assert section.threshold.value == pytest.approx(expected, rel=1e-5)
    assert section.threshold.guarantee == product.expected.threshold.guarantee


GRAPH_FAULTS = [
    "constant output",
    "swapped channels",
    "scale of pixels",
    "scale of hidden",
    "not finite",
]


@pytest.mark.parametrize("fault", GRAPH_FAULTS)
def test_a_fault_in_the_graph_is_not_proven(fault: str, product: Product) -> None:
    section = prove(OnnxRunner(graph(int8=True, fault=fault)), product)
    assert not section.passed
    assert section.reasons
    assert product.certificate.with_boards((section,)).provisional


def random_errors(score: float, deviation: float) -> float:
    """The same error for the same score, as unrelated to it as a hash."""
    seed = int(np.float32(score).view(np.uint32))
    return score + float(np.random.default_rng(seed).normal(0, deviation))


SCORE_FAULTS: dict[str, tuple[Callable[[float, Product], float], str]] = {
    "3 s too high under its own threshold": (
        lambda score, one: score + 3 * one.spread,
        "off the certificate's",
    ),
    "a tenth, and noise": (
        lambda score, one: random_errors(0.1 * score, 0.02 * one.spread),
        "scores are 0.1",
    ),
    "a tenth more": (lambda score, _: 1.1 * score, "times the certificate's"),
    "constant": (lambda *_: 3.0, "every normal part has the same score"),
    "noise of 1 s": (
        lambda score, one: random_errors(score, one.spread),
        "noise of the normal scores",
    ),
    "normal to everything": (
        lambda score, one: min(score, one.expected.threshold.value),
        "a reference frame changes",
    ),
    "not a number": (lambda *_: float("nan"), "not finite"),
    "infinite": (lambda *_: float("inf"), "not finite"),
}


@pytest.mark.parametrize("name", SCORE_FAULTS)
def test_a_fault_in_the_score_alone_is_not_proven(product: Product, name: str) -> None:
    change, words = SCORE_FAULTS[name]
    section = prove(scored(lambda score: change(score, product)), product)
    assert not section.passed
    assert any(words in reason for reason in section.reasons), section.reasons


def test_only_the_golden_frames_show_an_engine_that_answers_normal_to_everything(
    product: Product,
) -> None:
    """Its normal scores are right to the bit: nothing but frames with defects can tell."""
    section = prove(scored(lambda score: min(score, product.expected.threshold.value)), product)
    assert section.noise.rms == 0
    assert section.golden_unlike.count >= 1
    (reason,) = section.reasons
    assert reason.startswith("a reference frame changes its verdict")


def test_a_map_of_something_else_is_not_proven(product: Product) -> None:
    engine = Changed(
        OnnxRunner(graph(int8=True)), lambda out: {**out, "map": out["map"] * np.float32(1.2)}
    )
    section = prove(engine, product)
    assert [reason[:14] for reason in section.reasons] == ["mean map error"]


def test_another_models_engine_and_a_precision_without_section_are_named(product: Product) -> None:
    engine = Changed(OnnxRunner(graph(int8=True)), lambda out: {**out, "map": out["map"][:, :, :9]})
    with pytest.raises(EngineError, match="it was built from another model"):
        prove(engine, product)
    parts = product.golden, product.normal, product.certificate, product.expected
    with pytest.raises(BundleError, match="no fp16, only int8"):
        prove_engine(OnnxRunner(graph()), "fp16", *parts)


# Under this station's own state


def test_a_site_threshold_moves_the_sides(product: Product) -> None:
    scores = [float(one.score[0]) for one in product.golden]
    engine = OnnxRunner(graph(int8=True))
    section = prove(engine, product, calibrated=Calibrated(2 * max(scores), {}, engine))
    assert section.passed
    assert section.calibrated
    assert section.golden_unlike.count == 0
    shifted = prove(engine, product, calibrated=Calibrated(scores[5], {}, engine))
    assert shifted.passed, shifted.reasons


def test_a_site_threshold_above_every_golden_frame_hides_no_fault(product: Product) -> None:
    """The engine's own threshold is always looked at too: an engine that clips its scores is found
    there.
    """
    clipped = scored(lambda score: min(score, product.expected.threshold.value))
    assert not prove(clipped, product, calibrated=Calibrated(1e6, {}, clipped)).passed


def test_under_site_tensors_float32_under_the_same_is_what_counts(product: Product) -> None:
    """color as a site tensor: every frame becomes the same view, which the certificate never
    saw.
    """
    same_view = {"color": frame(5, 8.0)["color"]}
    exact, coarse = OnnxRunner(graph()), OnnxRunner(graph(int8=True))
    section = prove(coarse, product, calibrated=Calibrated(None, same_view, exact))
    assert section.golden_unlike.count == 0
    assert section.mean_map_error < 0.01
    foreign = prove(coarse, product, calibrated=Calibrated(None, {}, exact))
    assert foreign.threshold != section.threshold


class Lit:
    """Under a calibrated shift the frames of the bundle look foreign to it."""

    name = "lit"

    def __init__(self, engine: OnnxRunner) -> None:
        self._engine = engine

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        told = self._engine.run({"color": feeds["color"]})
        return {name: 5 * value for name, value in told.items()} if "shift" in feeds else told


def test_what_brings_the_light_of_a_site_back_has_no_say_in_the_proof(product: Product) -> None:
    engine = Lit(OnnxRunner(graph(int8=True)))
    neutral = prove(engine, product)
    light = {"shift": np.ones(8, np.float32), "scale": np.full(8, 2, np.float32)}
    exact = Lit(OnnxRunner(graph()))
    section = prove(engine, product, calibrated=Calibrated(None, light, exact))
    assert section.passed, section.reasons
    assert section.threshold == neutral.threshold
    assert section.noise == neutral.noise


# What is measured


class Counting:
    """Answers frame by frame, and counts the runs."""

    name = "counting"

    def __init__(self) -> None:
        self.runs = 0

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.runs += 1
        return {
            "score": np.float32([feeds["color"].mean()]),
            "map": np.zeros((1, 1, 2, 2), np.float32),
        }


@pytest.fixture
def few(tmp_path: Path) -> NormalFrames:
    carried = [(f"good/{rank}", rank, lambda rank=rank: frame(rank, 2.0)) for rank in (1, 2, 3)]
    write_normal(tmp_path, carried, 3, 3, SPECS)
    return read_normal(tmp_path, SPECS)


def test_scores_come_in_the_order_of_the_frames_after_a_warm_up(few: NormalFrames) -> None:
    engine = Counting()
    measured = measure_normal(engine, few)
    assert engine.runs == WARM_UP + LEAST_TIMED
    assert measured.scores.tolist() == [
        np.float32(frame(rank, 2.0)["color"].mean()) for rank in (1, 2, 3)
    ]
    assert measured.time_ms > 0
