"""An ONNX graph as the quantizer sees it: who makes a tensor, its type and shape, and each node's
module.
"""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from edge.errors import EngineError
from edge.proof.certificate import MacShares

# torch.onnx writes ['', 'detector', 'detector.trunk', 'conv2d_3']
SCOPES_KEY = "pkg.torch.onnx.name_scopes"
SCOPE_KEY = "scope"  # what is left of it in our files: the module path
# a module of this name, anywhere in the path, is the backbone
BACKBONE_NAMES = frozenset({"trunk", "backbone"})
REARRANGING = frozenset({"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
MAC_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class View:
    """A graph with its tensors looked up.

    Nodes are in topological order, constants are initializers, shapes static.
    """

    model: onnx.ModelProto
    constants: dict[str, TensorProto]
    types: dict[str, int]  # tensor -> TensorProto.FLOAT, ...
    shapes: dict[str, tuple[int, ...]]
    producer: dict[str, onnx.NodeProto]
    consumers: dict[str, list[onnx.NodeProto]] = field(repr=False)

    @property
    def nodes(self) -> list[onnx.NodeProto]:
        """Every node, each after what it reads."""
        return list(self.model.graph.node)

    def is_float(self, tensor: str) -> bool:
        """Whether it is float32."""
        return bool(self.types.get(tensor) == TensorProto.FLOAT)

    def macs(self, node: onnx.NodeProto) -> int:
        """Multiply-accumulates of a node: of Conv, ConvTranspose, Gemm and MatMul; 0 for every
        other operator.
        """
        return _macs(node, self.shapes) if node.op_type in MAC_OPERATORS else 0


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy to work on: what is constant is an initializer, every node has a name and its module
    path, nothing else.

    A weight that the exporter left reshaped or transposed at run time would not be seen as one, so
    such nodes are folded. The exporter's other metadata (stack traces with the paths of the machine
    that exported) is dropped.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = []
    for index, node in enumerate(copy.graph.node):
        folded = (
            [_constant_of(node)] if node.op_type == "Constant" else _folded(node, constants, copy)
        )
        if folded:
            constants.update({tensor.name: tensor for tensor in folded})
            copy.graph.initializer.extend(folded)
            continue
        scope = scope_of(node)
        del node.metadata_props[:]
        node.doc_string = ""
        if scope:
            node.metadata_props.add(key=SCOPE_KEY, value=scope)
        node.name = node.name or f"{node.op_type}_{index}"
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    del copy.graph.value_info[:]
    return copy


def _folded(
    node: onnx.NodeProto, constants: dict[str, TensorProto], model: onnx.ModelProto
) -> list[TensorProto]:
    """The results of a node that only rearranges constants; empty for every other node."""
    if node.op_type not in REARRANGING or not all(name in constants for name in node.input if name):
        return []
    inputs = {name: constants[name] for name in node.input if name}
    results = [
        onnx.helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
        for name in node.output
    ]
    graph = onnx.helper.make_graph([node], "constant", [], results, list(inputs.values()))
    alone = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    values = ReferenceEvaluator(alone).run(None, {})
    return [
        numpy_helper.from_array(np.asarray(v), name)
        for v, name in zip(values, node.output, strict=True)
    ]


def _constant_of(node: onnx.NodeProto) -> TensorProto:
    """The tensor of a Constant node under its output's name.

    Raises: EngineError if it holds no tensor or numbers.
    """
    for entry in node.attribute:
        value = onnx.helper.get_attribute_value(entry)
        if entry.name == "value":
            tensor = TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            return tensor
        if entry.name in {"value_int", "value_ints", "value_float", "value_floats"}:
            dtype = np.int64 if "int" in entry.name else np.float32
            return numpy_helper.from_array(np.array(value, dtype), node.output[0])
    raise EngineError(
        f"Constant {node.name} holds neither a tensor nor numbers: export the graph without it"
    )


def scope_of(node: onnx.NodeProto) -> str:
    """The module path a node came from, such as "detector.trunk.stages.2"; "" at the root or where
    nothing tells it.
    """
    told = {entry.key: entry.value for entry in node.metadata_props}
    if SCOPE_KEY in told:
        return str(told[SCOPE_KEY])
    if SCOPES_KEY not in told:
        return ""
    # the last entry is the operator, the one before it the innermost module
    scopes = ast.literal_eval(told[SCOPES_KEY])
    return str(scopes[-2]) if len(scopes) > 1 else ""


def is_backbone(node: onnx.NodeProto) -> bool:
    """Whether the node lies in a module that is named as a backbone."""
    return not BACKBONE_NAMES.isdisjoint(scope_of(node).split("."))


def view_of(model: onnx.ModelProto) -> View:
    """Look up every tensor. Raises: EngineError if a shape cannot be inferred or is not static."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    types: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for value in (*graph.input, *graph.output, *graph.value_info):
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim):
            shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, tensor in constants.items():
        types[name], shapes[name] = tensor.data_type, tuple(tensor.dims)
    producer: dict[str, onnx.NodeProto] = {}
    consumers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        producer.update(dict.fromkeys(node.output, node))
        for name in dict.fromkeys(node.input):
            consumers[name].append(node)
    unknown = [
        name for node in model.graph.node for name in node.output if name and name not in shapes
    ]
    if unknown:
        raise EngineError(
            f"the shape of {unknown[0]} is not known: export the graph with fixed sizes"
        )
    return View(model, constants, types, shapes, producer, dict(consumers))


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """An attribute's value, or the default."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def _macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    out, weight = math.prod(shapes[node.output[0]]), shapes[node.input[1]]
    if node.op_type == "Conv":
        return out * math.prod(weight[1:])  # (out, in / group, kh, kw)
    if node.op_type == "ConvTranspose":
        return math.prod(shapes[node.input[0]]) * math.prod(weight[1:])  # (in, out / group, kh, kw)
    first = shapes[node.input[0]]
    inner = first[0] if node.op_type == "Gemm" and attribute(node, "transA", 0) else first[-1]
    return out * inner


def precision_of(node: onnx.NodeProto, view: View) -> str:
    """In which precision a node multiplies: int8 if both factors are dequantized, else by the type
    of the first.
    """
    makers = [view.producer.get(name) for name in node.input[:2]]
    if all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
        return "int8"
    return "fp16" if view.types[node.input[0]] == TensorProto.FLOAT16 else "fp32"


def count_macs(model: onnx.ModelProto) -> tuple[MacShares, MacShares | None]:
    """Share of multiply-accumulates per precision: of the whole graph, and of its backbone (None
    without one).

    Convolutions and matrix products count, those of the resizing matrices too; a node belongs to
    the backbone if its module path names one (BACKBONE_NAMES).
    """
    view = view_of(model)
    whole = _shares(view, view.nodes)
    backbone = [node for node in view.nodes if is_backbone(node)]
    return whole or MacShares(fp32=1, fp16=0, int8=0), _shares(view, backbone)


def _shares(view: View, nodes: Iterable[onnx.NodeProto]) -> MacShares | None:
    counts = {"fp32": 0, "fp16": 0, "int8": 0}
    for node in nodes:
        if macs := view.macs(node):
            counts[precision_of(node, view)] += macs
    total = sum(counts.values())
    return MacShares(**{name: count / total for name, count in counts.items()}) if total else None
