"""From a trained graph to the float32 ONNX file of a bundle, checked before anyone relies on it.

export_onnx       writes the file: static shapes, opset 18, constants folded, names and types of the
                  contract
check_contract    inputs and outputs are exactly those of the contract
check_operators   every operator is one that TensorRT 10.3 documents (trainer.graph.operators)
check_agreement   onnxruntime gives what torch gives, to 1e-4 of the map's range
check_compiles    NVIDIA's TensorRT-RTX parses and compiles it, no GPU needed
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.plan import Built, build_plan, load_library
from edge.engine.protocol import Feeds
from edge.errors import EngineError
from trainer.graph.deploy import Deployed
from trainer.graph.operators import check_operators
from trainer.layers.fold import folded_copy

log = logging.getLogger(__name__)

OPSET = 18
AGREEMENT = 1e-4  # largest difference, as a share of the float32 range over the frames
# module paths: quantization finds the backbone by them
KEPT_METADATA = "pkg.torch.onnx.name_scopes"
ELEMENT_TYPES = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32"}


@dataclass(frozen=True)
class Agreement:
    """Largest differences between onnxruntime and torch.

    map, score: as shares of torch's range over the frames. place: as shares of the crop's longer
    side, variances and covariance of its square. moments: as shares of torch's largest mean and
    variance, 0 in graphs without them.
    """

    map: float
    score: float
    area: float
    valid: float
    place: float
    moments: float
    frames: int


@dataclass(frozen=True)
class ExportReport:
    """What the checks of an export measured.

    layers, compiler: of tensorrt_rtx; None where the file was not compiled.
    """

    path: Path
    nodes: int
    agreement: Agreement
    layers: int | None
    compiler: str | None


def export_checked(
    deployed: Deployed, path: Path, frames: Sequence[Feeds], compiled: bool = True
) -> ExportReport:
    """Export and run every check. frames: graph inputs by name, at least one. compiled: also
    compile with tensorrt_rtx.

    Raises: EngineError for the first check that fails; MissingDependency if tensorrt_rtx is wanted
    and absent.
    """
    export_onnx(deployed, path)
    agreement = check_agreement(deployed, path, frames)
    built = check_compiles(path) if compiled else None
    version = load_library("tensorrt_rtx").__version__ if built else None
    nodes = len(onnx.load(str(path), load_external_data=False).graph.node)
    layers, compiler = (built.layers, f"tensorrt_rtx {version}") if built else (None, None)
    return ExportReport(path, nodes, agreement, layers, compiler)


def export_onnx(deployed: Deployed, path: Path, opset: int = OPSET) -> Path:
    """Write the float32 graph, batch 1, static shapes, weights inside the one file. The module is
    left as it was.

    Raises: EngineError if the result breaks the contract or needs an operator that TensorRT 10.3
    does not document.
    """
    examples = tuple(
        torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in deployed.inputs
    )
    for name in ("onnx_ir", "onnxscript", "torch.onnx"):  # each logs every rewriting step as INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    folded = folded_copy(deployed).eval()
    with torch.no_grad():
        program = torch.onnx.export(
            folded,
            examples,
            dynamo=True,
            opset_version=opset,
            verbose=False,
            input_names=[spec.name for spec in deployed.inputs],
            output_names=list(deployed.outputs),
        )
    if program is None:
        raise EngineError("torch.onnx.export gave no program")
    model = without_traces(program.model_proto)
    onnx.checker.check_model(model, full_check=True)
    check_contract(model, deployed)
    check_operators(model)
    path.write_bytes(model.SerializeToString())
    log.info("wrote %s: %d nodes, %d bytes", path, len(model.graph.node), path.stat().st_size)
    return path


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without the exporter's stack traces, which tell the paths of this machine; changed
    in place.
    """
    for node in model.graph.node:
        kept = [entry for entry in node.metadata_props if entry.key == KEPT_METADATA]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    return model


def check_contract(model: onnx.ModelProto, deployed: Deployed) -> None:
    """Names, types and static shapes are those of the contract.

    Raises: EngineError naming the first that is not.
    """
    contract = {spec.name: (spec.dtype, spec.shape) for spec in deployed.inputs}
    found = {value.name: _type_of(value) for value in model.graph.input}
    if found != contract:
        odd = next(name for name in (*contract, *found) if contract.get(name) != found.get(name))
        raise EngineError(
            f"graph input {odd!r} is {found.get(odd)}, the contract says {contract.get(odd)}"
        )
    outputs = {value.name: _type_of(value) for value in model.graph.output}
    if tuple(outputs) != deployed.outputs:
        raise EngineError(
            f"graph outputs are {', '.join(outputs)}, the contract says"
            f" {', '.join(deployed.outputs)}"
        )
    flat = dict.fromkeys(("score", "area", "valid"), ("float32", (1,)))
    map_ = ("float32", (1, 1, *outputs["map"][1][2:]))
    expected = {**outputs, **flat, "map": map_, "place": ("float32", (1, 6))}
    if "moments" in outputs:
        expected["moments"] = ("float32", (1, 2, *contract["shift"][1]))
    if outputs != expected:
        odd = next(name for name in outputs if outputs[name] != expected[name])
        raise EngineError(
            f"graph output {odd!r} is {outputs[odd]}, the contract says {expected[odd]}"
        )


def _type_of(value: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    tensor = value.type.tensor_type
    shape = tuple(
        entry.dim_value if entry.HasField("dim_value") else -1 for entry in tensor.shape.dim
    )
    return ELEMENT_TYPES.get(tensor.elem_type, TensorProto.DataType.Name(tensor.elem_type)), shape


def check_agreement(
    deployed: Deployed, path: Path, frames: Sequence[Feeds], limit: float = AGREEMENT
) -> Agreement:
    """Run every frame through torch and onnxruntime. Raises: EngineError if an output differs by
    more than `limit`.

    Map and score are compared as shares of what torch's maps span over the frames: the score is a
    mean of map values, and the scores of a few normal parts span next to nothing. area and valid
    are shares already. place is compared as shares of the crop's longer side L, and of L^2 where it
    holds square pixels: 1e-4 is 0.06 px of a 640 px crop. moments are compared as shares of the
    largest mean and the largest variance of all channels.
    """
    engine = OnnxCpuEngine(path)
    pairs = [(deployed.run(feeds), engine.run(feeds)) for feeds in frames]
    engine.close()
    span = max(_span([ours["map"] for ours, _ in pairs]), np.finfo(np.float32).tiny)
    side = max(deployed.preprocess.size)
    place = np.array([side, side, side**2, side**2, side**2, 1])
    scales = {"map": span, "score": span, "area": 1, "valid": 1, "place": place}
    if "moments" in deployed.outputs:
        means = np.abs([ours["moments"] for ours, _ in pairs]).max(axis=(0, 1, 3))  # (2,)
        scales["moments"] = np.maximum(means, np.finfo(np.float32).tiny)[:, None]
    # np.max, not max: a NaN of any frame stays
    largest = {
        name: float(
            np.max([_difference(ours[name], theirs[name], scale) for ours, theirs in pairs])
        )
        for name, scale in scales.items()
    }
    agreement = Agreement(**{"moments": 0.0, **largest}, frames=len(pairs))
    for name, difference in largest.items():
        if not difference <= limit:  # "not <=": a NaN disagrees
            raise EngineError(
                f"{path.name}: onnxruntime and torch differ in {name} by {difference:.2e} of its"
                f" range, {len(pairs)} frames, more than {limit:.0e}: the export changed what is"
                " computed"
            )
    return agreement


def _difference(ours: np.ndarray, theirs: np.ndarray, scale: np.ndarray | float) -> float:
    """The largest difference, in units of the scale; NaN if any is."""
    return float(np.max(np.abs(ours - theirs, dtype=np.float64) / scale))


def _span(values: Sequence[np.ndarray]) -> float:
    return float(max(value.max() for value in values) - min(value.min() for value in values))


def check_compiles(path: Path) -> Built:
    """Parse and compile with TensorRT-RTX.

    Raises: EngineError naming the operator; MissingDependency without it.
    """
    built = build_plan(load_library("tensorrt_rtx"), path)
    log.info("%s compiles: %d layers in %.2f s", path.name, built.layers, built.seconds)
    return built
