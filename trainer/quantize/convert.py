"""Write a precision into the types of a graph: float16 with float32 islands, and INT8 as explicit
Q/DQ pairs.

Explicit quantization only: a strongly typed TensorRT network takes every type from the file.
Placement follows NVIDIA's Q/DQ recommendations: all inputs of convolutions and products, not their
outputs; per-channel symmetric weights, per-tensor symmetric activations; at a residual addition the
identity branch only, so that convolution and addition fuse.

One plan is written in two forms:
    deployed   the file that is shipped.
    emulated   float32 throughout, each float16 result rounded to float16 and back. onnxruntime's
               CPU computes a float16 graph in float32 and rounds only at its ends, so that neither
               rounding nor overflow would be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from trainer.quantize.view import SCOPE_KEY, View, attribute, scope_of

NodePrecision = Literal["fp32", "fp16", "int8"]
Plan = Mapping[str, NodePrecision]  # node name -> precision; what is not named stays float32

QDQ_OPSET = 19  # the first whose scales may be float16; TensorRT 10.3 reads up to 20
LEVELS = 127  # symmetric: -127..127, so that negating changes nothing
FLOAT16_MAX = float(np.finfo(np.float16).max)
# These only move or pick values: float16 in, float16 out, no rounding of their own.
EXACT = frozenset({
    "Reshape", "Transpose", "Slice", "Gather", "Concat", "Split", "Squeeze", "Unsqueeze", "Expand",
    "Identity", "Flatten", "Relu", "Clip", "MaxPool", "Where", "Pad", "Tile", "DepthToSpace",
    "SpaceToDepth", "Max", "Min", "ReduceMax", "TopK",
})  # fmt: skip
# New tensors are called OLD~WHAT: the exporter uses no tilde, and does use names such as exp_16.
# inputs that the operator takes as float32 whatever the type of its data
FLOAT32_INPUTS = {"Resize": (1, 2)}


def weight_axis(node: onnx.NodeProto, rank: int) -> int:
    """Axis of the output channels in a node's weight (input 1)."""
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1 if node.op_type == "MatMul" else 0


def storable_scale(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The float16 at or above each scale: what is quantized with is what is stored, and nothing
    clips for it.
    """
    floor = np.float16(2.0**-24)  # the smallest float16 above zero: an all-zero channel
    stored = np.maximum(scale.astype(np.float16), floor)
    raised = np.where(
        stored.astype(np.float32) < scale, np.nextafter(stored, np.float16(np.inf)), stored
    )
    return np.asarray(raised, np.float32)


def quantized_weight(
    weight: NDArray[np.float32], axis: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric INT8 weight and its scale per output channel, (channels,)."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = storable_scale(np.abs(weight).max(axis=others) / LEVELS)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.clip(np.rint(weight / scale.reshape(shape)), -LEVELS, LEVELS).astype(np.int8), scale


def residual_identities(view: View, plan: Plan) -> dict[str, str]:
    """Additions of two activations of which one is an INT8 product's result: node name -> the
    other, the identity.
    """
    return {node.name: others[0] for node, others in _fused_additions(view, plan)}


def _fused_additions(view: View, plan: Plan) -> Iterator[tuple[onnx.NodeProto, list[str]]]:
    """Additions of two activations, at least one an INT8 product's result, and what may be the
    other one, likelier first: either, where both are.
    """
    for node in view.nodes:
        if node.op_type != "Add" or any(name in view.constants for name in node.input):
            continue
        if plan.get(node.name, "fp32") == "fp32":  # a float32 island reads no INT8
            continue
        if len({view.shapes[name] for name in node.input}) != 1 or node.input[0] == node.input[1]:
            continue
        first, second = node.input
        others = [first] if _is_int8_product(view, plan, second) else []
        others += [second] if _is_int8_product(view, plan, first) else []
        if others:
            yield node, others


def _is_int8_product(view: View, plan: Plan, tensor: str) -> bool:
    maker = view.producer.get(tensor)
    return maker is not None and plan.get(maker.name) == "int8" and len(view.consumers[tensor]) == 1


def quantized_inputs(view: View, plan: Plan) -> set[str]:
    """Every activation that gets a Q/DQ pair in this plan or one with fewer INT8 nodes, so needs a
    calibrated scale.
    """
    wanted = {name for _, others in _fused_additions(view, plan) for name in others}
    for node in view.nodes:
        if plan.get(node.name) == "int8":
            wanted.update(name for name in node.input[:2] if name not in view.constants)
    return wanted


def converted(
    view: View, plan: Plan, scales: Mapping[str, float], *, emulate: bool = False
) -> onnx.ModelProto:
    """The graph in the plan's precisions; inputs and outputs keep names and types.

    Args:
        view: the float32 graph.
        plan: precision per node name. An INT8 node's result is float16.
        scales: of every activation in quantized_inputs(view, plan).
        emulate: write the form for measuring on a CPU.
    """
    return _Writer(view, plan, scales, emulate).write()


class _Writer:
    """Copies the graph node by node, casting and quantizing what each one reads."""

    def __init__(self, view: View, plan: Plan, scales: Mapping[str, float], emulate: bool) -> None:
        self.view, self.plan, self.scales, self.emulate = view, plan, scales, emulate
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.half: set[str] = set()  # tensors that exist as float16 (emulated: as rounded float32)
        self.made: dict[tuple[str, str], str] = {}  # (tensor, what) -> its name in the new graph
        self.identities = residual_identities(view, plan)
        self.scope = ""

    def write(self) -> onnx.ModelProto:
        outputs = {value.name for value in self.view.model.graph.output}
        for node in self.view.nodes:
            self.scope = scope_of(node)
            self._copy(node, outputs)
        model = onnx.ModelProto()
        model.CopyFrom(self.view.model)
        del model.graph.node[:]
        del model.graph.initializer[:]
        model.graph.node.extend(self.nodes)
        for name in outputs & self.view.constants.keys():  # `valid` without depth is the constant 1
            self._kept(name)
        used = {name for node in self.nodes for name in node.input} | outputs
        model.graph.initializer.extend(
            tensor for name, tensor in self.constants.items() if name in used
        )
        if "int8" in self.plan.values():
            for opset in model.opset_import:
                opset.version = (
                    max(opset.version, QDQ_OPSET)
                    if opset.domain in {"", "ai.onnx"}
                    else opset.version
                )
        return model

    def _copy(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        precision = self.plan.get(node.name, "fp32")
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        reads = [self._read(node, index, precision) for index in range(len(node.input))]
        del copy.input[:]
        copy.input.extend(reads)
        if (
            precision != "fp32"
            and node.op_type == "Cast"
            and attribute(node, "to", 0) == TensorProto.FLOAT
        ):
            self._cast_to_half(copy)
        self.nodes.append(copy)
        for index, name in enumerate(node.output):
            if precision != "fp32" and self.view.is_float(name):
                self._produced_half(copy, index, name, name in outputs)

    def _cast_to_half(self, copy: onnx.NodeProto) -> None:
        if not self.emulate:
            del copy.attribute[:]
            copy.attribute.append(helper.make_attribute("to", TensorProto.FLOAT16))

    def _produced_half(self, copy: onnx.NodeProto, index: int, name: str, is_output: bool) -> None:
        """Note that `name` is float16 from here on; round it when emulating; hand a graph output
        over as float32.
        """
        self.half.add(name)
        if not self.emulate and is_output:
            copy.output[index] = f"{name}~half"
            self.made[name, "fp16"] = copy.output[index]
            self._node("Cast", [copy.output[index]], name, to=TensorProto.FLOAT)
            self.half.discard(name)
        elif self.emulate and copy.op_type not in EXACT:
            copy.output[index] = f"{name}~full"
            self._round(copy.output[index], name)

    def _read(self, node: onnx.NodeProto, index: int, precision: NodePrecision) -> str:
        """The name under which `node` reads its input `index`, cast or dequantized as its precision
        wants.
        """
        name = node.input[index]
        if (
            not name
            or not self.view.is_float(name)
            or index in FLOAT32_INPUTS.get(node.op_type, ())
        ):
            return self._kept(name)
        if precision == "int8" and index < 2:
            return (
                self._weight(node, name) if name in self.view.constants else self._dequantized(name)
            )
        if self.identities.get(node.name) == name:
            return self._dequantized(name)
        return self._as_half(name) if precision != "fp32" else self._as_full(name)

    def _kept(self, name: str) -> str:
        if name in self.view.constants:
            self.constants[name] = self.view.constants[name]
        return name

    def _as_full(self, name: str) -> str:
        if name in self.view.constants or name not in self.half or self.emulate:
            return self._kept(name)
        return self._once(
            name, "fp32", lambda new: self._node("Cast", [name], new, to=TensorProto.FLOAT)
        )

    def _as_half(self, name: str) -> str:
        if name in self.view.constants:
            return self._half_constant(name)
        if name in self.half:
            return name
        make = self._round if self.emulate else self._to_half
        return self._once(name, "fp16", lambda new: make(name, new))

    def _to_half(self, name: str, new: str) -> None:
        self._node("Cast", [name], new, to=TensorProto.FLOAT16)

    def _round(self, name: str, new: str) -> None:
        self._node("Cast", [name], f"{new}~16", to=TensorProto.FLOAT16)
        self._node("Cast", [f"{new}~16"], new, to=TensorProto.FLOAT)

    def _half_constant(self, name: str) -> str:
        def make(new: str) -> None:
            values = np.clip(
                numpy_helper.to_array(self.view.constants[name]), -FLOAT16_MAX, FLOAT16_MAX
            )
            half = values.astype(np.float16)
            self._constant(new, half.astype(np.float32) if self.emulate else half)

        return self._once(name, "fp16", make)

    def _weight(self, node: onnx.NodeProto, name: str) -> str:
        values = numpy_helper.to_array(self.view.constants[name])
        axis = weight_axis(node, values.ndim)

        def make(new: str) -> None:
            levels, scale = quantized_weight(values, axis)
            self._constant(f"{new}~levels", levels)
            self._constant(f"{new}~zeros", np.zeros(scale.shape, np.int8))
            self._constant(f"{new}~scale", self._scale(scale))
            self._node(
                "DequantizeLinear",
                [f"{new}~levels", f"{new}~scale", f"{new}~zeros"],
                new,
                axis=axis,
            )

        return self._once(name, f"int8_{axis}", make)

    def _dequantized(self, name: str) -> str:
        source = self._as_half(name)

        def make(new: str) -> None:
            self._constant(f"{new}~zero", np.int8(0))
            self._constant(
                f"{new}~scale", self._scale(storable_scale(np.array(self.scales[name], np.float32)))
            )
            self._node("QuantizeLinear", [source, f"{new}~scale", f"{new}~zero"], f"{new}~q")
            self._node("DequantizeLinear", [f"{new}~q", f"{new}~scale", f"{new}~zero"], new)

        return self._once(name, "int8", make)

    def _scale(self, scale: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.float16]:
        return scale if self.emulate else scale.astype(np.float16)

    def _constant(self, name: str, values: NDArray[np.generic] | np.generic) -> None:
        self.constants[name] = numpy_helper.from_array(np.asarray(values), name)

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: int) -> None:
        node = helper.make_node(
            operator, inputs, [output], name=f"{output}/{operator}", **attributes
        )
        if self.scope:
            node.metadata_props.add(key=SCOPE_KEY, value=self.scope)
        self.nodes.append(node)

    def _once(self, name: str, what: str, make: Callable[[str], None]) -> str:
        key = name, what
        if key not in self.made:
            self.made[key] = f"{name}~{what}"
            make(self.made[key])
        return self.made[key]
