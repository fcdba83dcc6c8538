"""Activation scales for INT8 from frames of normal parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from trainer.quantize.convert import LEVELS
from trainer.quantize.session import session_of
from trainer.quantize.view import View

SAMPLES = 8192  # values kept per tensor and frame
# shares of the largest value that are tried as the clipping point
CLIPS = tuple(np.linspace(1.0, 0.3, 36).tolist())
HEADROOMS = (1.0, 1.5, 2.0)  # of the largest value of a normal part: an anomaly's are larger

Feeds = Mapping[str, NDArray[Any]]


def activation_scales(
    view: View, tensors: Collection[str], frames: Sequence[Feeds]
) -> dict[str, dict[str, float]]:
    """Several methods to choose the scale of every tensor: name of the method -> tensor -> scale.

    "least error" clips where the mean squared error over the frames' values is least; "largest x H"
    leaves headroom over the largest value of a normal part, because the values of an anomaly must
    not be clipped. Which is best is measured on frames with defects.

    Args:
        view: the float32 graph. tensors: names of activations in it. frames: graph inputs of normal
            parts.
    """
    names = sorted(tensors)
    if not names:
        return {"least error": {}}
    session = session_of(_with_outputs(view, names))
    generator = np.random.default_rng(0)
    largest = dict.fromkeys(names, 0.0)
    kept: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    for feeds in frames:
        for name, values in zip(names, session.run(names, dict(feeds)), strict=True):
            flat = np.abs(values.ravel())
            largest[name] = max(largest[name], float(flat.max()))
            kept[name].append(
                flat if flat.size <= SAMPLES else flat[generator.integers(flat.size, size=SAMPLES)]
            )
    methods = {
        "least error": {
            name: best_scale(np.concatenate(kept[name]), largest[name]) for name in names
        }
    }
    for headroom in HEADROOMS:
        methods[f"largest x {headroom:g}"] = {
            name: max(largest[name], 1e-6) * headroom / LEVELS for name in names
        }
    return methods


def best_scale(values: NDArray[np.float32], largest: float) -> float:
    """The symmetric INT8 scale of least mean squared error; values: (n,) magnitudes, largest: of
    all there were.
    """
    top = max(largest, 1e-6)
    errors = []
    for clip in CLIPS:
        scale = np.float32(top * clip / LEVELS)
        error = values - np.minimum(np.rint(values / scale), LEVELS) * scale
        errors.append(float(error @ error))
    return float(top * CLIPS[int(np.argmin(errors))] / LEVELS)


def _with_outputs(view: View, names: Sequence[str]) -> onnx.ModelProto:
    """The graph with more outputs."""
    model = onnx.ModelProto()
    model.CopyFrom(view.model)
    there = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, view.shapes[name])
        for name in names
        if name not in there
    )
    return model
