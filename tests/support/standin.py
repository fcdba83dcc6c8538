"""A small detector that fulfills the graph contract, to test quantization and bundles without
training.

It has what a real one has: a backbone with residual blocks and depthwise convolutions, attention,
Gaussians, squared distances, and features that a station may shift and scale; all weights are
random but seeded. `loud` makes its squares larger than float16 can hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.schema import TensorSpec
from trainer.graph.deploy import Answer, Deployed
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.layers.adaptation import Adaptation
from trainer.systems.common.foreground import cell_mask

HEIGHT, WIDTH = 96, 128
WORKING, DEPTH_WORKING = (64, 96), (32, 48)
CHANNELS = 32
Feeds = dict[str, NDArray[Any]]


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 3 * channels, 1)
        self.depthwise = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels)
        self.project = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return y


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.projections = nn.Conv2d(channels, 3 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        query, key, value = self.projections(x).reshape(n, 3, c, h * w).unbind(1)
        weights = torch.softmax(query.transpose(1, 2) @ key / c**0.5, dim=2)
        return x + (value @ weights.transpose(1, 2)).reshape(n, c, h, w)


class Distance(nn.Module):
    """Mean square of the residual, through squares of `factor` times it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        scaled = x * self.factor
        return (scaled * scaled).mean(dim=1, keepdim=True) * (1 / self.factor**2)


class StandIn(nn.Module):
    map_size = (WORKING[0] // 8, WORKING[1] // 8)
    has_moments = True

    def __init__(self, loud: bool) -> None:
        super().__init__()
        stem = nn.Conv2d(3, CHANNELS, 8, stride=8)
        self.trunk = nn.Sequential(stem, nn.ReLU(), Residual(CHANNELS), Residual(CHANNELS))
        self.adaptation = Adaptation([CHANNELS])
        self.attention = Attention(CHANNELS)
        self.student = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.register_buffer("mean", torch.zeros(1, CHANNELS, 1, 1))
        self.distance = Distance(2000.0 if loud else 1.0)

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        return self.adaptation.inputs

    def forward(self, prepared: Prepared, shift: Tensor, scale: Tensor) -> Answer:
        mask = cell_mask(prepared.foreground, self.map_size[0])
        (adapted,), moments = self.adaptation([self.features(prepared)], [mask], shift, scale)
        difference = self.difference(adapted)
        bump = torch.exp(-(difference * difference))
        map_ = self.distance(difference) + 0.05 * bump.mean(dim=1, keepdim=True)
        return Answer(map_, moments=moments)

    def features(self, prepared: Prepared) -> Tensor:
        features: Tensor = self.trunk(prepared.color / 64 - 2)
        return features

    def difference(self, features: Tensor) -> Tensor:
        y: Tensor = self.student(self.attention(features)) - self.mean
        return y


def make_deployed(loud: bool = False, seed: int = 0) -> Deployed:
    torch.manual_seed(seed)
    detector = StandIn(loud)
    deployed = Deployed(Preprocess(HEIGHT, WIDTH, WORKING, DEPTH_WORKING), detector, top_k=0.05)
    deployed.requires_grad_(False).eval()
    normal = [
        {name: torch.from_numpy(value) for name, value in make_feeds(1000 + i).items()}
        for i in range(4)
    ]
    features = torch.cat([detector.features(deployed.prepare(feeds)) for feeds in normal])
    detector.mean.copy_(detector.difference(features).mean(dim=(0, 2, 3), keepdim=True))
    return deployed


def export(deployed: Deployed, path: Path) -> Path:
    """The graph as the exporter of torch writes it, module paths and all."""
    feeds = make_feeds(0)
    arguments = tuple(torch.from_numpy(feeds[spec.name]) for spec in deployed.inputs)
    torch.onnx.export(
        deployed,
        arguments,
        str(path),
        input_names=[spec.name for spec in deployed.inputs],
        output_names=list(deployed.outputs),
        dynamo=True,
        opset_version=18,
        external_data=False,
        verbose=False,
    )
    return path


def make_feeds(seed: int, defect: float = 0.0) -> Feeds:
    """A round part with a smooth texture, 20 mm over a table; defect: contrast of a square drawn on
    it, 0..1.
    """
    generator = np.random.default_rng(seed)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    part = (v - 48) ** 2 + (u - 64) ** 2 < 40**2
    texture = 120 + 25 * np.sin(u / 9 + generator.uniform(0, 6)) * np.cos(
        v / 7 + generator.uniform(0, 6)
    )
    # so that the scores of good parts differ by more than any rounding
    light = 0.75 + 0.02 * (seed % 12)
    color = texture[..., None] * np.array([1.0, 0.9, 0.7]) * light + generator.normal(
        0, 3, (HEIGHT, WIDTH, 3)
    )
    row, column = generator.integers(30, 55, 2)
    square = color[row : row + 16, column : column + 16]
    square += defect * (255 - square)
    counts = np.where(part, 3800, 4000) + generator.normal(0, 5, (HEIGHT, WIDTH))
    depth = counts.round().astype("<u2")
    return {
        "color": color.clip(0, 255).astype(np.uint8)[None],
        "depth": depth.view(np.uint8).reshape(1, HEIGHT, WIDTH, 2),
        "region": np.ones((1, HEIGHT, WIDTH, 1), np.uint8),
        "unit": np.array([1e-4], np.float32),
        "intrinsics": np.array([120, 120, 63.5, 47.5], np.float32),
        "plane": np.array([0, 0, 1, 0.4], np.float32),
        "lift": np.array([0.008], np.float32),
        "expected": np.zeros((1, HEIGHT, WIDTH, 1), np.uint8),
        "shift": np.zeros(CHANNELS, np.float32),
        "scale": np.ones(CHANNELS, np.float32),
    }


def load(path: Path) -> onnx.ModelProto:
    return onnx.load(str(path))
