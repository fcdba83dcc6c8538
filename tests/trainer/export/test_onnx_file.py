"""The export and every one of its checks, each with the fault that it is there for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import EngineError
from tests.support.standin import Feeds, StandIn, make_deployed, make_feeds
from trainer.export.onnx_file import (
    check_agreement,
    check_compiles,
    check_contract,
    export_checked,
    export_onnx,
)
from trainer.graph.deploy import Deployed
from trainer.graph.operators import OPERATORS, check_operators
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess

FRAMES = [make_feeds(seed, defect=0.3 * (seed % 2)) for seed in range(4)]


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    return make_deployed()


@pytest.fixture(scope="module")
def exported(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(deployed, tmp_path_factory.mktemp("export") / "fp32.onnx")


def node_model(
    op_type: str,
    kind: int,
    shape: tuple[int, ...],
    domain: str = "",
    opset: int = 18,
    **attributes: object,
) -> onnx.ModelProto:
    """One operator between x and y, after nothing else."""
    node = helper.make_node(op_type, ["x"], ["y"], name="suspect", domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
    )
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_onnxruntime_agrees_with_torch_and_tensorrt_rtx_compiles(
    deployed: Deployed, tmp_path: Path
) -> None:
    report = export_checked(deployed, tmp_path / "fp32.onnx", FRAMES)
    assert report.agreement.map < 1e-4
    assert report.agreement.place < 1e-6
    assert 0 < report.agreement.moments < 1e-5
    assert report.agreement.frames == 4
    assert report.layers
    assert report.compiler
    assert report.compiler.startswith("tensorrt_rtx 1.")


def test_color_only_exports_and_compiles(tmp_path: Path) -> None:
    detector = StandIn(loud=False)
    deployed = Deployed(Preprocess(96, 128, (64, 96), None), detector, 0.05).eval()
    names = ["color", "region", "shift", "scale"]
    frames = [{name: feeds[name] for name in names} for feeds in FRAMES]
    report = export_checked(deployed, tmp_path / "fp32.onnx", frames)
    assert report.agreement.score < 1e-4
    assert list(OnnxCpuEngine(report.path).inputs) == names


def test_the_file_holds_the_contract_and_nothing_of_this_machine(
    deployed: Deployed, exported: Path
) -> None:
    model = onnx.load(str(exported))
    check_contract(model, deployed)
    assert [value.name for value in model.graph.input] == [
        "color",
        "depth",
        "region",
        "unit",
        "intrinsics",
        "plane",
        "lift",
        "expected",
        "shift",
        "scale",
    ]
    assert [value.name for value in model.graph.output] == [
        "map",
        "score",
        "area",
        "valid",
        "place",
        "moments",
    ]
    assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    assert b"stack_trace" not in exported.read_bytes()
    assert b".py" not in exported.read_bytes()
    # under preprocess, whose nodes stay float32 in every precision
    assert any(
        "preprocess.place" in entry.value
        for node in model.graph.node
        for entry in node.metadata_props
    )


def test_empty_views_agree_too(deployed: Deployed, exported: Path) -> None:
    empty = {**FRAMES[0], "depth": FRAMES[0]["depth"] * 0}
    raw = OnnxCpuEngine(exported).run(empty)
    assert raw["score"] == raw["area"] == raw["valid"] == 0
    assert raw["place"].tolist() == [[0] * 6]
    assert not raw["moments"].any()
    check_agreement(deployed, exported, [*FRAMES, empty])


def test_expected_material_is_an_input_that_changes_no_output_so_far(exported: Path) -> None:
    engine = OnnxCpuEngine(exported)
    everywhere = engine.run({**FRAMES[1], "expected": np.full((1, 96, 128, 1), 255, np.uint8)})
    for name, value in engine.run(FRAMES[1]).items():
        assert np.array_equal(value, everywhere[name]), name


def test_a_changed_weight_is_a_disagreement(
    deployed: Deployed, exported: Path, tmp_path: Path
) -> None:
    model = onnx.load(str(exported))
    weight = next(tensor for tensor in model.graph.initializer if "project.weight" in tensor.name)
    weight.CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name)
    )
    onnx.save(model, str(tmp_path / "fp32.onnx"))
    with pytest.raises(EngineError, match="onnxruntime and torch differ in map by"):
        check_agreement(deployed, tmp_path / "fp32.onnx", FRAMES)


@pytest.mark.parametrize(("number", "wrong"), [(0, 0.05), (3, 3.0), (5, 0.001), (1, np.nan)])
def test_a_different_place_is_a_disagreement(
    number: int, wrong: float, deployed: Deployed, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a 128 px crop: a centroid off by 0.05 px, a variance by 3 square pixels, a border by a
    thousandth; no number.

    Only in the last frame.
    """
    run, frames = OnnxCpuEngine.run, iter(FRAMES)

    def changed(engine: OnnxCpuEngine, feeds: Feeds) -> Feeds:
        raw = run(engine, feeds)
        if next(frames) is FRAMES[-1]:
            raw["place"][0, number] += wrong
        return raw

    check_agreement(deployed, exported, FRAMES)
    monkeypatch.setattr(OnnxCpuEngine, "run", changed)
    with pytest.raises(EngineError, match="onnxruntime and torch differ in place by"):
        check_agreement(deployed, exported, FRAMES)


@pytest.mark.parametrize("row", [0, 1])
def test_different_moments_are_a_disagreement(
    row: int, deployed: Deployed, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one channel alone, by a thousandth of the largest mean or variance."""
    run, largest = OnnxCpuEngine.run, np.abs(deployed.run(FRAMES[0])["moments"][0, row]).max()

    def changed(engine: OnnxCpuEngine, feeds: Feeds) -> Feeds:
        raw = run(engine, feeds)
        raw["moments"][0, row, 5] += 1e-3 * largest
        return raw

    monkeypatch.setattr(OnnxCpuEngine, "run", changed)
    with pytest.raises(EngineError, match="onnxruntime and torch differ in moments by"):
        check_agreement(deployed, exported, FRAMES)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("input type", "graph input 'region' is .*float32"),
        ("input shape", "graph input 'color'"),
        ("input gone", "graph input 'intrinsics' is None"),
        ("output name", "graph outputs are map, points"),
        ("output shape", "graph output 'score'"),
        ("place shape", r"graph output 'place'.*\(1, 5\).*\(1, 6\)"),
        ("moments shape", r"graph output 'moments'.*\(1, 2, 31\).*\(1, 2, 32\)"),
    ],
)
def test_a_graph_off_the_contract_is_refused(
    deployed: Deployed, exported: Path, what: str, message: str
) -> None:
    model = onnx.load(str(exported))
    inputs = {value.name: value for value in model.graph.input}
    if what == "input type":
        inputs["region"].type.tensor_type.elem_type = TensorProto.FLOAT
    elif what == "input shape":
        inputs["color"].type.tensor_type.shape.dim[0].dim_param = "batch"
    elif what == "input gone":
        model.graph.input.remove(inputs["intrinsics"])
    elif what == "output name":
        model.graph.output[1].name = "points"
    elif what == "place shape":
        model.graph.output[4].type.tensor_type.shape.dim[1].dim_value = 5
    elif what == "moments shape":
        model.graph.output[5].type.tensor_type.shape.dim[2].dim_value = 31
    else:
        model.graph.output[1].type.tensor_type.shape.dim.add().dim_value = 1
    with pytest.raises(EngineError, match=message):
        check_contract(model, deployed)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            node_model("Unique", TensorProto.FLOAT, (4,)),
            r"operator Unique \(node suspect\).*does not support",
        ),
        (
            node_model("Transpose", TensorProto.UINT8, (2, 3)),
            "operator Transpose.*cast it to float first",
        ),
        (
            node_model("Relu", TensorProto.FLOAT, (2, 3), opset=21),
            "opset 21: TensorRT 10.3 takes 9 to 20",
        ),
        (
            node_model("FusedGelu", TensorProto.FLOAT, (2, 3), domain="com.microsoft"),
            "FusedGelu.*com.microsoft",
        ),
        (
            node_model("Resize", TensorProto.FLOAT, (1, 1, 4, 4), antialias=1),
            "no antialiased Resize",
        ),
    ],
)
def test_what_tensorrt_10_3_does_not_document_is_refused_by_name(
    model: onnx.ModelProto, message: str
) -> None:
    with pytest.raises(EngineError, match=message):
        check_operators(model)


@pytest.mark.parametrize(("k", "message"), [(3841, "K up to 3840"), (None, "K must be a constant")])
def test_topk_is_refused_beyond_its_limit(k: int | None, message: str) -> None:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 5000))]
    constants = [numpy_helper.from_array(np.array([k]), "k")] if k else []
    if k is None:
        inputs.append(helper.make_tensor_value_info("k", TensorProto.INT64, (1,)))
    graph = helper.make_graph(
        [helper.make_node("TopK", ["x", "k"], ["y", "i"])],
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    with pytest.raises(EngineError, match=message):
        check_operators(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


def test_the_table_is_that_of_the_release() -> None:
    assert len(OPERATORS) == 150
    assert {"Conv", "TopK", "GridSample", "LayerNormalization", "QuantizeLinear"} <= OPERATORS
    assert not {"Unique", "MatMulInteger", "DynamicQuantizeLinear", "STFT"} & OPERATORS


class Median(nn.Module):
    """An operator (Unique) that no TensorRT has."""

    map_size, site_inputs = (8, 12), ()

    def forward(self, prepared: Prepared) -> torch.Tensor:
        return (
            nn.functional.avg_pool2d(prepared.color[:, :1], 8)
            * torch.unique(prepared.foreground).sum()
        )


def test_a_detector_with_an_unknown_operator_fails_the_export_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="operator Unique"):
        export_onnx(
            Deployed(Preprocess(96, 128, (64, 96), (32, 48)), Median(), 0.05),
            tmp_path / "fp32.onnx",
        )
    assert not (tmp_path / "fp32.onnx").exists()


def test_what_the_compiler_refuses_fails_with_its_operator_and_message(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    onnx.save(node_model("Transpose", TensorProto.UINT8, (2, 3)), str(path))
    with pytest.raises(EngineError, match=r"bad\.onnx.*tensorrt_rtx.*refuses the graph.*Transpose"):
        check_compiles(path)
