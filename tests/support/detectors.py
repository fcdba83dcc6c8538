"""Shared by the detectors' tests: normal and stained parts as tensors, a training that is stopped
and resumed, the deployed graph and its inputs, and the tensors that a training changes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.source import TrainingImages
from trainer.fit import FitControl, Interrupted
from trainer.graph.deploy import Answer, Deployed
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import weights_digest

DetectorT = TypeVar("DetectorT", bound=nn.Module)

WITH_DEPTH, COLOR_ONLY = WorkingSizes((64, 64), (32, 32)), WorkingSizes((64, 64), None)


def striped_part(number: int, depth: bool = True) -> Prepared:
    """A striped square part, 2 mm high with noise of 0.1 mm, on a dark table."""
    generator = torch.Generator().manual_seed(number)
    foreground = torch.zeros(1, 1, 64, 64)
    foreground[..., 12:52, 12:52] = 1
    stripes = 60 * torch.sin(torch.arange(64) / 2.0).view(1, 1, 1, 64)
    color = 20 + foreground * (100 + stripes) + 4 * torch.randn(1, 3, 64, 64, generator=generator)
    one = torch.ones(1)
    if not depth:
        return Prepared(color.clamp(0, 255), None, torch.ones(1, 1, 64, 64), None, one, one)
    small = nn.functional.avg_pool2d(foreground, 2)
    height = small * (2e-3 + 1e-4 * torch.randn(1, 1, 32, 32, generator=generator))
    return Prepared(color.clamp(0, 255), height, small, small, one, one)


def stained(part: Prepared) -> Prepared:
    """The part with a red square in its middle."""
    color = part.color.clone()
    color[..., 24:36, 24:36] = torch.tensor([250.0, 10.0, 10.0]).view(1, 3, 1, 1)
    return part._replace(color=color)


def training_images(
    depth: bool = True,
    cache: Path | None = None,
    image: Callable[[int, bool], Prepared] = striped_part,
    count: int = 6,
) -> TrainingImages:
    """`count` normal images of one kind."""
    return TrainingImages(lambda number: image(number, depth), count, f"digest {depth}", cache)


def quiet(checkpoint: Path | None = None, stop_after: int | None = None) -> FitControl:
    """A control that reports nothing."""
    return FitControl(checkpoint, "one", lambda _: None, stop_after=stop_after)


def digest_of_training(
    build: Callable[[], DetectorT],
    fit: Callable[[DetectorT, FitControl], object],
    folder: Path,
    stops: Sequence[int] = (),
) -> str:
    """Digest of the weights after a training that is stopped after these numbers of epochs and each
    time resumed by a new detector.
    """
    folder.mkdir()
    detector = build()
    for stop in (*stops, None):
        try:
            fit(detector, quiet(folder / "checkpoint.pt", stop))
        except Interrupted:
            detector = build()
    return weights_digest(detector)


def neutral_site(detector: nn.Module) -> dict[str, Tensor]:
    """The detector's site inputs at their defaults, by name."""
    return {
        spec.name: torch.full(spec.shape, float(spec.default or 0)) for spec in detector.site_inputs
    }


def neutral_feeds(detector: nn.Module) -> dict[str, NDArray[Any]]:
    """The same as graph inputs."""
    return {name: tensor.numpy() for name, tensor in neutral_site(detector).items()}


def answer_to(detector: nn.Module, part: Prepared, **site: Tensor) -> Answer:
    """The detector's answer to a part; site inputs that are not given are neutral."""
    with torch.no_grad():
        answer: Answer = detector(part, **{**neutral_site(detector), **site})
    return answer


def deployed_graph(detector: nn.Module, sizes: WorkingSizes) -> Deployed:
    """The whole graph of a 64x64 crop, frozen; the score averages the top 1 %."""
    preprocess = Preprocess(64, 64, sizes.color, sizes.depth)
    return Deployed(preprocess, detector, 0.01).requires_grad_(False).eval()


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the state dict."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before: dict[str, Tensor], module: nn.Module) -> set[str]:
    """Names of the tensors that have changed since `before`."""
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
