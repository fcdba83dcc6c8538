"""The seam between a detector and everything else: training, evaluation, export and quantization
know only this.

A system is a `System`, registered under its name in trainer.systems.registry. It owns its presets,
builds its detector (an nn.Module that the deployed graph calls, see trainer.graph.deploy.Detector)
and fits it on normal images. trainer.systems.common.frame has what all systems do alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from torch import nn

from edge.errors import ConfigError
from trainer.data.source import TrainingImages
from trainer.fit import Curves, FitControl
from trainer.graph.sizes import WorkingSizes

Modality = Literal["color", "depth"]
DetectorT = TypeVar("DetectorT", bound=nn.Module)

TRIAL_SIDE = 256  # px, of the crop that a detector is built for only to check its weights files


@dataclass(frozen=True)
class BuildRequest:
    """Everything that decides the shape of a detector.

    preset: one of the system's. sizes: as the system's own `sizes` gave them. weights: the user's
    backbone file or None. pretrained: a file of `trainer pretrain`; None: that encoder is trained
    on the product's own images.
    backbone: timm's name of another backbone than the preset's, for systems that take any.
    random_backbone: leave the backbone at random values, because a state dict follows or only the
    shape matters.
    switches: components of the system turned on or off by name, for ablations.
    turned: the detector sees the parts at any angle.
    """

    preset: str
    sizes: WorkingSizes
    weights: Path | None = None
    seed: int = 0
    random_backbone: bool = False
    switches: Mapping[str, bool] | None = None
    pretrained: Path | None = None
    backbone: str | None = None
    turned: bool = False


@dataclass(frozen=True)
class FitRequest:
    """How long and where to fit.

    epochs: None takes the preset's; a number replaces the epochs of every phase. textures: a folder
    of images whose texture synthetic anomalies take, None takes procedural ones; systems that train
    on no synthetic anomalies ignore it.
    """

    preset: str
    epochs: int | None
    seed: int
    device: str
    control: FitControl
    textures: Path | None = None


class System(Protocol[DetectorT]):
    """One detector of the literature, wired for this product. DetectorT: what it builds and
    fits.
    """

    @property
    def name(self) -> str:
        """As in trainer.systems.registry."""
        ...

    @property
    def presets(self) -> Collection[str]:
        """Names of its settings."""
        ...

    @property
    def takes_backbone(self) -> bool:
        """Whether any timm backbone will do."""
        ...

    @property
    def pretrains(self) -> Modality | None:
        """The modality that an encoder of `trainer pretrain` sees for it, None where there is
        none.
        """
        ...

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Working sizes of a crop of height_px x width_px."""
        ...

    def build(self, request: BuildRequest) -> DetectorT:
        """The untrained detector, in evaluation mode."""
        ...

    def fit(self, detector: DetectorT, images: TrainingImages, request: FitRequest) -> Curves:
        """Train `detector` in place on normal images; repeatable by seed, resumable through
        request.control.
        """
        ...


def require_weights(
    system: System[Any],
    preset: str,
    weights: Path | None,
    pretrained: Path | None = None,
    backbone: str | None = None,
) -> None:
    """Check, before an image is read, that the named files fit the system: it is built once and
    dropped.

    Raises: ConfigError if the preset needs a file that is not named, DataError if one cannot be
    read or does not fit.
    """
    sizes = system.sizes(preset, TRIAL_SIDE, TRIAL_SIDE, True)
    system.build(BuildRequest(preset, sizes, weights, pretrained=pretrained, backbone=backbone))


def require_preset(system: System[Any], preset: str) -> None:
    """Raises: ConfigError if the system has no such preset, naming those it has."""
    if preset not in system.presets:
        raise ConfigError(
            f"{system.name} has no preset {preset!r}: choose one of {', '.join(system.presets)}"
        )
