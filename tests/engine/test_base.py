"""What every runtime keeps to, and the order in which they are tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bundle.manifest import Precision
from edge.engine.base import Feeds, Inputs, check_feeds, engines_in_order, machine_openers, open_engine, outputs_of
from edge.errors import EngineError, MissingDependency

INPUTS: Inputs = {"color": ((1, 4, 6, 3), np.dtype(np.uint8)), "lift": ((1,), np.dtype(np.float32))}
FEEDS = {"color": np.zeros((1, 4, 6, 3), np.uint8), "lift": np.zeros(1, np.float32)}
MODELS: dict[Precision, Path] = {"fp32": Path("fp32.onnx"), "fp16": Path("fp16.onnx"), "int8": Path("int8.onnx")}


class Fake:
    def __init__(self, name: str, precision: Precision) -> None:
        self.name, self.precision, self.inputs = name, precision, INPUTS

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        return {}

    def close(self) -> None: ...


def open_cpu(path: Path, precision: Precision) -> Fake:
    return Fake("onnxruntime", precision)


def open_tensorrt(path: Path, precision: Precision) -> Fake:
    assert path.stem == precision
    return Fake("tensorrt", precision)


def tried(engines: Any) -> list[tuple[str, str]]:
    return [(engine.name, engine.precision) for engine in engines]


def test_order_is_int8_fp16_fp32_on_tensorrt_then_fp32_on_the_cpu() -> None:
    engines = engines_in_order(MODELS, {"tensorrt": open_tensorrt, "cpu": open_cpu})
    assert tried(engines) == [("tensorrt", "int8"), ("tensorrt", "fp16"), ("tensorrt", "fp32"), ("onnxruntime", "fp32")]


def test_without_tensorrt_only_fp32_on_the_cpu() -> None:
    assert tried(engines_in_order(MODELS, {"cpu": open_cpu})) == [("onnxruntime", "fp32")]


def test_a_precision_that_was_left_out_of_the_bundle_is_not_tried() -> None:
    engines = engines_in_order(
        {"fp32": MODELS["fp32"], "fp16": MODELS["fp16"]}, {"tensorrt": open_tensorrt, "cpu": open_cpu}
    )
    assert tried(engines) == [("tensorrt", "fp16"), ("tensorrt", "fp32"), ("onnxruntime", "fp32")]


@pytest.mark.parametrize("failure", [EngineError("no memory"), MissingDependency("no pycuda")])
def test_what_cannot_be_opened_is_said_and_left_out(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    def fails_with_int8(path: Path, precision: Precision) -> Fake:
        if precision == "int8":
            raise failure
        return Fake("tensorrt", precision)

    engine = next(engines_in_order(MODELS, {"tensorrt": fails_with_int8, "cpu": open_cpu}))
    assert engine.precision == "fp16"
    assert str(failure) in caplog.text


def test_a_bundle_without_float32_is_refused() -> None:
    with pytest.raises(EngineError, match="no float32 graph"):
        list(engines_in_order({"int8": MODELS["int8"]}, {"cpu": open_cpu}))


def test_engines_are_opened_one_at_a_time() -> None:
    """An engine holds hundreds of megabytes: the second is opened only when the first was refused."""
    opened = []

    def counting(path: Path, precision: Precision) -> Fake:
        opened.append(precision)
        return Fake("tensorrt", precision)

    next(engines_in_order(MODELS, {"tensorrt": counting, "cpu": open_cpu}))
    assert opened == ["int8"]


def test_this_machine_opens_the_cpu_without_tensorrt_and_says_what_is_wrong_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.engine.base.tensorrt_is_installed", lambda: False)
    assert list(machine_openers(tmp_path)) == ["cpu"]
    with pytest.raises(EngineError, match=r"fp32\.onnx does not exist"):
        open_engine({"fp32": tmp_path / "fp32.onnx"}, tmp_path)


def test_feeds_that_fit_pass_and_others_are_not_looked_at() -> None:
    check_feeds(INPUTS, {**FEEDS, "intrinsics": np.zeros(9)})


@pytest.mark.parametrize(("change", "message"), [
    ({"lift": None}, "'lift' is missing"), ({"lift": np.zeros(2, np.float32)}, r"'lift' is float32 \(2,\).*\(1,\)"),
    ({"lift": np.zeros(1)}, "'lift' is float64"), ({"color": np.zeros((1, 4, 6, 3), np.float32)}, "'color' is float32"),
])  # fmt: skip
def test_feeds_that_do_not_fit_are_named(change: dict[str, Any], message: str) -> None:
    feeds = {name: value for name, value in {**FEEDS, **change}.items() if value is not None}
    with pytest.raises(EngineError, match=message):
        check_feeds(INPUTS, feeds)


def test_outputs_lose_their_batch_axis_and_keep_float32() -> None:
    raw = {
        "map": np.ones((1, 1, 2, 3), np.float32),
        "score": np.float32([0.1]),
        "area": np.float32([0.5]),
        "valid": np.float32([1]),
        "features": np.zeros(1),
    }
    outputs = outputs_of(raw)
    assert outputs.map.shape == (2, 3)
    assert outputs.score.dtype == np.float32
    assert (outputs.area, outputs.valid) == (0.5, 1.0)
    del raw["valid"]
    with pytest.raises(EngineError, match="no valid"):
        outputs_of(raw)
