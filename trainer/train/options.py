"""What the user may ask of a training, and what is refused before an image is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge.errors import ConfigError
from edge.files import require_folder_target
from edge.proof.threshold import DEFAULT_FALSE_REJECTS, rank_for
from trainer.data.defects import require_defects_folder
from trainer.device import require_device
from trainer.synthetic.textures import Textures
from trainer.systems.registry import find_system
from trainer.systems.seam import System, require_preset, require_weights

LEAST_SIDE_PX, MOST_SIDE_PX = 32, 8192  # of a letterboxed image


@dataclass(frozen=True)
class TrainOptions:
    """What the user asked for.

    Args:
        epochs: of every phase; None takes the preset's.
        with_depth: use depth where the product has it.
        weights: the user's file of backbone weights; None takes the packaged ones.
        top_k: share of the foreground averaged into the score, 0..1; None chooses it by the normal
            validation parts.
        device: torch's name of where to train.
        cache: folder for features of the frozen backbone; None takes one in the run folder.
        switches: components of the system, by name, that are turned on or off.
        textures: folder of images for synthetic anomalies, in systems that train with some; None
            takes procedural ones.
        pretrained: a file of `trainer pretrain`; None leaves the encoder to the system.
        backbone: timm's name of another backbone than the preset's.
        false_rejects: rate of normal parts that the threshold may reject, 0..1. It changes nothing
            that is trained.
        size: (width, height) in pixels that every image is letterboxed to; None keeps their size.
        defects: folder of defective images, never trained on.
        overwrite: replace a finished run in the run folder.
    """

    preset: str = "compact"
    epochs: int | None = None
    seed: int = 0
    with_depth: bool = True
    weights: Path | None = None
    top_k: float | None = None
    device: str = "cpu"
    cache: Path | None = None
    switches: Mapping[str, bool] = field(default_factory=dict)
    textures: Path | None = None
    pretrained: Path | None = None
    backbone: str | None = None
    false_rejects: float = DEFAULT_FALSE_REJECTS
    size: tuple[int, int] | None = None
    defects: Path | None = None
    overwrite: bool = False


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of `640x480`. Raises: ConfigError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", text)
    if (
        match is None
        or min(size := (int(match[1]), int(match[2]))) < LEAST_SIDE_PX
        or max(size) > MOST_SIDE_PX
    ):
        raise ConfigError(
            f"--size {text}: write width and height in pixels, each {LEAST_SIDE_PX} to"
            f" {MOST_SIDE_PX}, such as 640x480"
        )
    return size


def checked_system(name: str, options: TrainOptions) -> System[Any]:
    """The system of that name, which can be trained with these options.

    Raises: ConfigError or DataError for every mistake that shows before an image is read.
    """
    system = find_system(name)
    require_preset(system, options.preset)
    require_device(options.device)
    _require_encoder_is_used(system, options)
    if options.backbone and not system.takes_backbone:
        raise ConfigError(
            f"--backbone {options.backbone}: {system.name} is built for its preset's own backbone;"
            " leave --backbone out, or train m3dm"
        )
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"--epochs {options.epochs}: at least 1")
    if options.top_k is not None and not 0 < options.top_k <= 1:
        raise ConfigError(
            f"--top-k {options.top_k}: a share of the foreground, above 0 and at most 1"
        )
    rank_for(1, options.false_rejects)
    if options.cache is not None:
        require_folder_target(options.cache, "--cache")
    require_defects_folder(options.defects)
    Textures(options.textures)
    require_weights(system, options.preset, options.weights, options.pretrained, options.backbone)
    return system


def _require_encoder_is_used(system: System[Any], options: TrainOptions) -> None:
    """Raises: ConfigError if --pretrained names a file that this training would not use."""
    if options.pretrained is None:
        return
    if system.pretrains is None:
        raise ConfigError(
            f"--pretrained {options.pretrained}: {system.name} contains no encoder that `trainer"
            " pretrain` makes; leave --pretrained out"
        )
    if system.pretrains == "depth" and not options.with_depth:
        raise ConfigError(
            f"--pretrained {options.pretrained}: it is for depth, leave --no-depth or"
            " --pretrained out"
        )
