"""What all systems do alike: build from a seed, choose switches, fit, and leave the detector frozen
on the CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch

from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.sizes import WorkingSizes
from trainer.systems.seam import BuildRequest, DetectorT, FitRequest, Modality

PresetT = TypeVar("PresetT")


class FrozenSystem(ABC, Generic[PresetT, DetectorT]):
    """A system on a frozen backbone; trainer.systems.seam.System says what its members mean.

    A subclass names itself and its presets, and says what is its own: the working sizes, how a
    detector is assembled and how it is trained.
    """

    name: str
    presets: Mapping[str, PresetT]
    takes_backbone: bool = False
    pretrains: Modality | None = None

    @abstractmethod
    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Working sizes of a crop of height_px x width_px."""

    @abstractmethod
    def assemble(self, preset: PresetT, request: BuildRequest) -> DetectorT:
        """The detector with its initial weights, sampled from torch's global generator."""

    @abstractmethod
    def train(
        self, detector: DetectorT, preset: PresetT, images: TrainingImages, request: FitRequest
    ) -> Curves:
        """Train the detector, which is on request.device, in place."""

    def build(self, request: BuildRequest) -> DetectorT:
        """The untrained detector in evaluation mode; the same seed gives the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            return self.assemble(self.presets[request.preset], request).eval()

    def fit(self, detector: DetectorT, images: TrainingImages, request: FitRequest) -> Curves:
        """Train the detector in place; it ends on the CPU, frozen, in evaluation mode."""
        detector.to(request.device)
        curves = self.train(detector, self.presets[request.preset], images, request)
        detector.cpu().requires_grad_(False).eval()
        return curves


def chosen_switches(defaults: Mapping[str, bool], request: BuildRequest) -> dict[str, bool]:
    """Every switch of `defaults`, as the request asks or else as it is there."""
    asked = request.switches or {}
    return {name: asked.get(name, default) for name, default in defaults.items()}
