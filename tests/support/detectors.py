"""What tests of the detectors share: the bytes that a small graph takes, and which tensors a
training moved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Names of the tensors in `before` that are others now."""
    after = module.state_dict()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


def sensor_bytes(depth: bool, noise: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs of a 64x64 graph: a square part, 2 mm high with `noise` counts of 0.1 mm, 0.3 m below
    the camera.
    """
    generator = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {
        "color": generator.integers(0, 256, (1, 64, 64, 3)).astype(np.uint8),
        "region": np.ones((1, 64, 64, 1), np.uint8),
    }
    if not depth:
        return feeds
    counts = np.full((1, 64, 64), 3000)
    counts[:, 12:52, 12:52] = 2980 + generator.integers(-noise, noise + 1, (40, 40))
    return feeds | {
        "depth": counts.astype("<u2").view(np.uint8).reshape(1, 64, 64, 2),
        "unit": np.array([1e-4], np.float32),
        "intrinsics": np.array([60, 60, 31.5, 31.5], np.float32),
        "plane": np.array([0, 0, 1, 0.3], np.float32),
        "lift": np.array([0.0005], np.float32),
        "expected": np.zeros((1, 64, 64, 1), np.uint8),
    }
