"""onnxruntime behind the Engine interface."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import EngineError
from edge.files import sha256_of
from tests.support.tiny_bundle import draw_part, feeds_of, reference, tiny_graph


def save_graph(path: Path, kind: int = TensorProto.UINT8) -> Path:
    """sum = the sum of color + lift; `intrinsics` is declared and unused, as the contract
    allows.
    """
    nodes = [
        helper.make_node("Cast", ["color"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["c"], ["s"], keepdims=0),
        helper.make_node("Add", ["s", "lift"], ["sum"]),
    ]
    inputs = [
        helper.make_tensor_value_info("color", kind, (2, 3)),
        helper.make_tensor_value_info("lift", TensorProto.FLOAT, (1,)),
        helper.make_tensor_value_info("intrinsics", TensorProto.FLOAT, (4,)),
    ]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("sum", TensorProto.FLOAT, (1,))]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10),
        str(path),
    )
    return path


FEEDS = {
    "color": np.full((2, 3), 200, np.uint8),
    "lift": np.float32([0.5]),
    "intrinsics": np.zeros(4, np.float32),
}


def test_runs_a_graph_and_declares_every_input_even_an_unused_one(tmp_path: Path) -> None:
    engine = OnnxCpuEngine(save_graph(tmp_path / "fp16.onnx"))
    assert engine.run(FEEDS)["sum"] == 1200.5
    assert engine.name.startswith("onnxruntime 1.")
    assert engine.precision == "fp16"
    assert engine.inputs == {
        "color": ((2, 3), np.uint8),
        "lift": ((1,), np.float32),
        "intrinsics": ((4,), np.float32),
    }


def test_views_that_are_not_contiguous_are_taken(tmp_path: Path) -> None:
    wide = np.arange(12, dtype=np.uint8).reshape(2, 6)
    assert (
        OnnxCpuEngine(save_graph(tmp_path / "fp32.onnx")).run({**FEEDS, "color": wide[:, ::2]})[
            "sum"
        ]
        == 30.5
    )


def test_an_input_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    engine = OnnxCpuEngine(save_graph(tmp_path / "fp32.onnx"))
    with pytest.raises(
        EngineError, match=r"'color' is uint8 \(3, 3\), the engine takes uint8 \(2, 3\)"
    ):
        engine.run({**FEEDS, "color": np.zeros((3, 3), np.uint8)})
    with pytest.raises(EngineError, match="'lift' is missing"):
        engine.run({"color": FEEDS["color"]})


def test_a_closed_engine_says_so(tmp_path: Path) -> None:
    engine = OnnxCpuEngine(save_graph(tmp_path / "fp32.onnx"))
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.run(FEEDS)


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_a_file_that_is_no_graph_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "fp32.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EngineError, match=r"fp32\.onnx") as caught:
        OnnxCpuEngine(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_graph_is_refused(tmp_path: Path) -> None:
    path = save_graph(tmp_path / "fp32.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(EngineError, match="cannot be loaded"):
        OnnxCpuEngine(path)


def test_types_outside_the_contract_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"'color' is tensor\(int32\)"):
        OnnxCpuEngine(save_graph(tmp_path / "fp32.onnx", TensorProto.INT32))


@pytest.mark.parametrize("presence", [True, False], ids=["with depth", "color only"])
def test_the_tiny_graph_gives_every_output_of_its_reference_whatever_is_expected(
    presence: bool, tmp_path: Path
) -> None:
    onnx.save(tiny_graph(96, 128, presence), str(tmp_path / "fp32.onnx"))
    engine = OnnxCpuEngine(tmp_path / "fp32.onnx")
    # inside, cut by the border, empty
    for seed, (shift, part) in enumerate([(0, True), (45, True), (0, False)]):
        color, depth = (
            np.roll(image, (shift // 3, shift), (0, 1)) for image in draw_part(seed=seed, part=part)
        )
        depth[:, :shift] = 5000
        feeds = feeds_of(color, depth if presence else None)
        if not presence:
            feeds["region"][:, :, : shift + 1] = 0
        raw, wanted = engine.run(feeds), reference(feeds)
        assert list(raw) == ["map", "score", "area", "valid", "place"]
        for name, value in raw.items():
            assert value.shape == wanted[name].shape
            assert np.allclose(value, wanted[name], rtol=1e-4, atol=1e-3), name
        if presence:
            assert (raw["place"][0, 5] > 0) == (shift > 0)
            assert part or not raw["place"].any()
            assert engine.inputs["expected"] == ((1, 96, 128, 1), np.uint8)
            everywhere = {**feeds, "expected": feeds["expected"] + 255}
            lacking, wanted = engine.run(everywhere), reference(everywhere)
            for name, value in lacking.items():
                assert np.allclose(value, wanted[name], rtol=1e-4, atol=1e-3), name
            assert lacking["map"].max() > raw["map"].max() + 500, "table where material should be"
            for name in ("area", "valid", "place"):
                assert np.array_equal(lacking[name], raw[name])


def test_a_layout_that_the_machine_has_no_kernel_for_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On arm64 onnxruntime moves float16 pooling of opset 19 to a layout for which it has no
    kernel.
    """
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernel

    begin, levels = onnxruntime.InferenceSession, []

    def open_session(path: str, options: onnxruntime.SessionOptions, **more: object) -> object:
        levels.append(options.graph_optimization_level)
        if options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL:
            raise NoKernel("com.ms.internal.nhwc.AveragePool(19)")
        return begin(path, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    OnnxCpuEngine(save_graph(tmp_path / "int8.onnx")).close()
    assert [level.name for level in levels] == ["ORT_ENABLE_ALL", "ORT_ENABLE_EXTENDED"]


def test_an_engine_opens_only_the_file_that_was_proven(tmp_path: Path) -> None:
    graph = save_graph(tmp_path / "fp32.onnx")
    digest = sha256_of(graph)
    engine = OnnxCpuEngine(graph, digest=digest)
    engine.close()
    assert engine.digest == digest
    with pytest.raises(EngineError, match="is not the file that was proven"):
        OnnxCpuEngine(graph, digest="0" * 64)


def test_onnxruntime_tells_its_maker_nothing(tmp_path: Path) -> None:
    """Its builds keep an id of the machine and a queue of events under the account's home, to be
    sent.
    """
    code = "import edge, onnxruntime as o, time; o.get_available_providers(); time.sleep(0.2)"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))
    }
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**environment, "HOME": str(tmp_path)}
    )
    assert list(tmp_path.iterdir()) == []
