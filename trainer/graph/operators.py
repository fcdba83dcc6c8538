"""Which ONNX operators TensorRT 10.3 documents, and what an exported graph must keep to besides.

JetPack 6 has TensorRT 10.3; tensorrt_rtx, which compiles our graphs without a GPU, is newer and may
know more. Source of the table: onnx/onnx-tensorrt, docs/operators.md of release 10.1-GA (2024-06),
every operator marked Y there; docs/Changelog.md of the same repository lists no operator added or
removed by 10.2 and 10.3. The same page gives opset 9 to 20, and uint8 as a type of network inputs
and outputs only; TensorRT's Resize layer has no antialiasing and its TopK layer takes K up to 3840.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, numpy_helper

from edge.errors import EngineError

DOCUMENTED = "TensorRT 10.3"
OPSETS = range(9, 21)
MAX_TOPK = 3840
_TABLE = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh
    CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand
    EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU
    HardSigmoid HardSwish Hardmax Identity If ImageScaler InstanceNormalization IsInf IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization
    LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg
    NonMaxSuppression NonZero Not OneHot Or Pad ParametricSoftplus Pow PRelu QuantizeLinear
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1
    ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize ReverseSequence RNN RoiAlign Round ScaledTanh Scan
    Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
    Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(_TABLE.split())


def check_operators(model: onnx.ModelProto) -> None:
    """Refuse what TensorRT 10.3 does not document.

    Raises: EngineError naming the first such operator and its node.
    """
    _check_opset(model)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    for node in model.graph.node:
        problem = _problem_of(node, initializers, types)
        if problem:
            raise EngineError(
                f"operator {node.op_type} (node {node.name or node.output[0]}): {problem}"
            )


def _check_opset(model: onnx.ModelProto) -> None:
    domains = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    used = {node.domain or "ai.onnx" for node in model.graph.node}
    foreign = sorted(used - {"ai.onnx"})
    if foreign:
        node = next(node for node in model.graph.node if (node.domain or "ai.onnx") == foreign[0])
        raise EngineError(
            f"operator {node.op_type} (node {node.name}) is of domain {foreign[0]}, not ONNX's own:"
            f" {DOCUMENTED} does not support it"
        )
    if domains["ai.onnx"] not in OPSETS:
        raise EngineError(
            f"opset {domains['ai.onnx']}: {DOCUMENTED} takes {OPSETS[0]} to {OPSETS[-1]}, export"
            " with 18"
        )


def _problem_of(
    node: onnx.NodeProto, initializers: dict[str, TensorProto], types: dict[str, int]
) -> str | None:
    """Why TensorRT 10.3 would refuse the node, None if it documents it."""
    if node.op_type not in OPERATORS:
        return f"{DOCUMENTED} does not support it"
    if node.op_type != "Cast" and any(types.get(name) == TensorProto.UINT8 for name in node.input):
        return f"{DOCUMENTED} takes uint8 only as a graph input: cast it to float first"
    if node.op_type == "Resize" and _attribute(node, "antialias"):
        return f"{DOCUMENTED} has no antialiased Resize: downscale by area"
    if node.op_type == "TopK":
        k = initializers.get(node.input[1])
        if k is None:
            return f"K must be a constant for {DOCUMENTED}"
        if int(numpy_helper.to_array(k).item()) > MAX_TOPK:
            return f"{DOCUMENTED} takes K up to {MAX_TOPK}"
    return None


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    """The value of an attribute, None if it is not set."""
    return next(
        (onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), None
    )
