"""`trainer pretrain pointmae`, without the command line: from product folders to a weights file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from edge.errors import ConfigError, DataError
from edge.files import require_file_target
from edge.frames.dataset import find_products
from edge.frames.sample import Sample
from trainer.data.normal import NormalParts, normal_parts, prepare
from trainer.device import require_device
from trainer.fit import FitControl, fit_phases
from trainer.graph.preprocess import working_size
from trainer.graph.sizes import WorkingSizes
from trainer.systems.m3dm.checkpoint import write_pointmae
from trainer.systems.m3dm.point_features import (
    COMPACT_POINTS,
    PAPER_POINTS,
    DepthImages,
    Groups,
    PointFeatures,
    PointSpec,
    depth_of,
)
from trainer.systems.m3dm.pointmae import PointTransformer
from trainer.systems.m3dm.pretraining import (
    COMPACT_PLAN,
    PAPER_PLAN,
    PretrainPlan,
    reconstruction_phase,
)

POINTMAE_PRESETS: dict[str, tuple[PointSpec, PretrainPlan]] = {
    "compact": (COMPACT_POINTS, COMPACT_PLAN),
    "paper": (PAPER_POINTS, PAPER_PLAN),
}


@dataclass(frozen=True)
class PretrainOptions:
    """What the user asked for. epochs: None takes the preset's."""

    preset: str = "compact"
    epochs: int | None = None
    seed: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Pretrained:
    """The result. parts: number of parts that were trained on.

    first, last: loss on held-out parts after the first epoch and after the last.
    """

    parts: int
    first: float
    last: float


def pretrain_pointmae(
    folders: Sequence[Path], out: Path, options: PretrainOptions, control: FitControl | None = None
) -> Pretrained:
    """Pretrain Point-MAE's encoder on the normal parts of products with depth, and write its
    weights.

    folders: products, or folders of products. Every product has a scale of its own, so that its
    parts keep their sizes relative to each other.
    Raises: ConfigError for an impossible option, DataError for products without depth or normal
        images, fit.Interrupted after Ctrl-C: the same call resumes from there.
    """
    spec, plan = _preset(options)
    require_device(options.device)
    require_file_target(out, "--out")
    products = [_open(path, spec, options.seed) for path in _products(folders)]
    control = control or FitControl()
    out.parent.mkdir(parents=True, exist_ok=True)
    control.checkpoint = out.with_name(f"{out.name}.checkpoint")
    control.fingerprint = _fingerprint(products, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        transformer = PointTransformer(
            spec.tokenizer, spec.width, spec.depth, spec.heads, spec.taps
        ).to(options.device)
    train, held_out = _groups(products, spec, options.device)
    phase = reconstruction_phase(
        transformer, spec, plan, lambda: train, options.device, options.seed, held_out
    )
    curves = fit_phases(phase.module, [phase], options.seed, control)
    write_pointmae(out, transformer)
    control.checkpoint.unlink(missing_ok=True)
    followed = curves[phase.held_out_name]
    return Pretrained(len(train.members), followed[0], followed[-1])


def _preset(options: PretrainOptions) -> tuple[PointSpec, PretrainPlan]:
    if options.preset not in POINTMAE_PRESETS:
        raise ConfigError(
            f"pointmae has no preset {options.preset!r}: choose one of"
            f" {', '.join(POINTMAE_PRESETS)}"
        )
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"--epochs {options.epochs}: choose at least 1")
    spec, plan = POINTMAE_PRESETS[options.preset]
    return spec, replace(plan, epochs=options.epochs or plan.epochs)


def _products(folders: Sequence[Path]) -> list[Path]:
    """The products in every folder. A folder without any stays, for open_dataset to say what is
    wrong with it.
    """
    return [product for folder in folders for product in find_products(folder) or [folder]]


def _open(product: Path, spec: PointSpec, seed: int) -> NormalParts:
    def sizes(height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        depth = working_size(height_px, width_px, spec.depth_side, spec.depth_multiple)
        return WorkingSizes((1, 1), depth if with_depth else None)  # color is not used

    parts = normal_parts(product, seed, True, sizes)
    if parts.sizes.depth is None:
        raise DataError(
            f"{product} has no depth, and Point-MAE learns from nothing else: name products that"
            " have it"
        )
    return parts


def _fingerprint(products: Sequence[NormalParts], options: PretrainOptions) -> str:
    """Digest of everything that decides the result."""
    data = [[parts.sha256(), str(parts.scene), str(parts.sizes)] for parts in products]
    told = ["pointmae", options.preset, options.epochs, options.seed, options.device, data]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _groups(products: Sequence[NormalParts], spec: PointSpec, device: str) -> tuple[Groups, Groups]:
    """Groups of all products, each in its own scale: of training parts, and of held-out ones."""
    pairs = []
    for parts in products:
        assert parts.sizes.depth is not None  # _open refuses a product without
        grid = (parts.sizes.depth[0] // spec.reduce, parts.sizes.depth[1] // spec.reduce)
        points = PointFeatures(
            spec, (parts.scene.crop[3], parts.scene.crop[2]), parts.sizes.depth, grid
        ).to(device)
        train = _images(parts, parts.train)
        points.fit_scales(train)
        pairs.append(
            (points.all_groups(train), points.all_groups(_images(parts, parts.validation)))
        )
    train_groups, held_out = (
        Groups(*(torch.cat(column) for column in zip(*groups, strict=True)))
        for groups in zip(*pairs, strict=True)
    )
    return train_groups, held_out


def _images(parts: NormalParts, samples: Sequence[Sample]) -> DepthImages:
    """The prepared depth images of these parts."""
    preprocess = parts.preprocess()
    images = [depth_of(prepare(preprocess, parts.scene.feeds_of(sample))) for sample in samples]
    return DepthImages(*(torch.cat(column) for column in zip(*images, strict=True)))
