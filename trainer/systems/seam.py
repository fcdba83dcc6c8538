"""The seam between a detector and everything else: train, evaluate, export and quantize know only
this.

A system is a `System` in a registry under its name. It owns its presets, builds its detector (an
nn.Module that the deployed graph calls, see trainer.graph.deploy.Detector) and fits it on normal
images. Adding a system is one module and one `register`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import nn

from edge.errors import ConfigError
from trainer.data.source import TrainingImages
from trainer.fit import Curves, FitControl
from trainer.graph.sizes import WorkingSizes

Modality = Literal["color", "depth"]
SYSTEM_MODULES: dict[str, str] = {  # imported when asked for: `trainer --help` stays quick
    "mats": "trainer.systems.mats.system",
    "ntsnet": "trainer.systems.ntsnet.system",
    "aand": "trainer.systems.aand.system",
    "m3dm": "trainer.systems.m3dm.system",
    "vmpfd": "trainer.systems.vmpfd.system",
}
TRIAL_SIDE = 256  # px, of a crop that a detector is built for only to see whether its weights fit


@dataclass(frozen=True)
class BuildRequest:
    """Everything that decides the shape of a detector.

    preset: one of the system's. sizes: as the system's own `sizes` gave them. weights: the user's
    backbone file or None. pretrained: a file of `trainer pretrain`, None: what it holds is trained
    on the product's own images.
    backbone: timm's name of another one than the preset's, for systems that take any.
    random_backbone: leave the backbone at random values, because a state dict follows or only the
    shape matters.
    switches: the system's own parts turned off or on by name, for ablations.
    """

    preset: str
    sizes: WorkingSizes
    weights: Path | None = None
    seed: int = 0
    random_backbone: bool = False
    switches: Mapping[str, bool] | None = None
    pretrained: Path | None = None
    backbone: str | None = None


@dataclass(frozen=True)
class FitRequest:
    """How long and where to fit.

    epochs: None takes the preset's; a number replaces the epochs of every phase. textures: a folder
    of images that drawn anomalies are made of, None takes procedural ones; systems that draw none
    ignore it.
    """

    preset: str
    epochs: int | None
    seed: int
    device: str
    control: FitControl
    textures: Path | None = None


class System(Protocol):
    """One detector of the literature, wired for this product."""

    @property
    def name(self) -> str:
        """As in SYSTEM_MODULES."""
        ...

    @property
    def presets(self) -> Sequence[str]:
        """Names of its settings."""
        ...

    @property
    def top_k_candidates(self) -> Sequence[float]:
        """Shares of the foreground that its score may average, ascending."""
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

    def build(self, request: BuildRequest) -> nn.Module:
        """The untrained detector, in evaluation mode."""
        ...

    def fit(self, detector: nn.Module, images: TrainingImages, request: FitRequest) -> Curves:
        """Train `detector` in place on normal images; repeatable by seed, resumable through
        request.control.
        """
        ...


def find_system(name: str) -> System:
    """The system of that name. Raises: ConfigError naming those there are."""
    if name not in SYSTEM_MODULES:
        raise ConfigError(
            f"there is no system {name!r}: choose one of {', '.join(sorted(SYSTEM_MODULES))}"
        )
    factory: Callable[[], System] = importlib.import_module(SYSTEM_MODULES[name]).create_system
    return factory()


def require_weights(
    system: System,
    preset: str,
    weights: Path | None,
    pretrained: Path | None = None,
    backbone: str | None = None,
) -> None:
    """See, before an image is read, that the named files fit the system: it is built once and
    dropped.

    Raises: ConfigError if the preset needs a file that is not named, DataError if one cannot be
    read or does not fit.
    """
    sizes = system.sizes(preset, TRIAL_SIDE, TRIAL_SIDE, True)
    system.build(BuildRequest(preset, sizes, weights, pretrained=pretrained, backbone=backbone))


def require_preset(system: System, preset: str) -> None:
    """Raises: ConfigError if the system has no such preset, naming those it has."""
    if preset not in system.presets:
        raise ConfigError(
            f"{system.name} has no preset {preset!r}: choose one of {', '.join(system.presets)}"
        )
