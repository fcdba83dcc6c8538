"""What a station may set on every detector, and what quantization leaves of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from torch import nn

from trainer.quantize.blocks import int8_candidates, low_precision_nodes
from trainer.quantize.convert import NodePrecision, converted, quantized_inputs
from trainer.quantize.view import View, prepared, scope_of, view_of

# what brings a site input to where it acts
CARRIES = {"Cast", "Reshape", "Split", "Slice", "Squeeze", "Unsqueeze"}


def other_site(detector: nn.Module) -> dict[str, NDArray[Any]]:
    """Shift and scale of a detector that are not neutral, as graph inputs; further site inputs at
    their defaults.
    """
    generator = np.random.default_rng(4)
    feeds = {spec.name: np.full(spec.shape, spec.default, "f4") for spec in detector.site_inputs}
    shape = feeds["shift"].shape
    shift, scale = generator.uniform(-0.3, 0.3, shape), generator.uniform(0.5, 2.0, shape)
    return {**feeds, "shift": shift.astype(np.float32), "scale": scale.astype(np.float32)}


def quantized_everywhere(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph with INT8 and float16 wherever they may be."""
    view = view_of(prepared(model))
    half = low_precision_nodes(view)
    plan: dict[str, NodePrecision] = {
        **dict.fromkeys(half, "fp16"),
        **dict.fromkeys(int8_candidates(view, half), "int8"),
    }
    return converted(view, plan, dict.fromkeys(quantized_inputs(view, plan), 0.05))


def check_adaptation_stays_float32(path: Path) -> None:
    """Shift, scale and moments of an exported graph stay float32 with everything else in INT8."""
    view = view_of(quantized_everywhere(onnx.load(str(path))))
    assert sum(node.op_type == "QuantizeLinear" for node in view.nodes) > 5
    found = half_in_adaptation(view)
    assert not found, found


def half_in_adaptation(view: View) -> list[str]:
    """Names of the tensors that are not float32, of those that shift, scale and moments compute
    with.
    """
    acting = [node for name in ("shift", "scale") for node in _acting(view, name)]
    assert {node.op_type for node in acting} == {"Sub", "Mul"}
    whole = [node for node in view.nodes if "adaptation" in scope_of(node).split(".")]
    names = {node.name for node in whole}
    assert {node.name for node in acting} <= names
    assert view.producer["moments"].name in names
    assert {"ReduceSum", "Div"} <= {node.op_type for node in whole}
    # a cast to float32 reads what comes from elsewhere
    exactly = [node for node in whole if node.op_type != "Cast"]
    tensors = {name for node in exactly for name in (*node.input, *node.output) if name}
    exact = (TensorProto.FLOAT, TensorProto.INT64)  # whole numbers are shapes and axes
    return sorted(name for name in tensors if view.types[name] not in exact)


def _acting(view: View, name: str) -> list[onnx.NodeProto]:
    """The nodes in which a site input meets features."""
    found = []
    for node in view.consumers[name]:
        if node.op_type in CARRIES:
            found += [reader for output in node.output for reader in _acting(view, output)]
        else:
            found.append(node)
    return found
