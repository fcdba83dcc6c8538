"""AAND: anomaly amplification and normality distillation ("Advancing pre-trained teacher", on
reverse distillation, CVPR 2022).

Stage 1 trains a gate and a generator at each of three levels to push apart what looks abnormal in
the frozen teacher's features, on synthetic anomalies on normal images. Stage 2 trains a student to
reconstruct the advanced teacher's levels through a one-class bottleneck, on normal images only. The
anomaly map is the sum of 1 - cos over the levels. With depth, the amplified depth image joins every
level's features (trainer.systems.common.level_features), and synthetic anomalies change height,
too.

docs/systems/aand.md has the paper's equations, what they leave open, what was settled and what was
measured. trainer.systems.aand.detector lists the switches.
"""

from __future__ import annotations

from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.sizes import WorkingSizes
from trainer.systems.aand.detector import AandDetector
from trainer.systems.aand.fit import train
from trainer.systems.aand.preset import PRESETS, AandPreset
from trainer.systems.common.frame import FrozenSystem
from trainer.systems.common.sizes import level_sizes
from trainer.systems.seam import BuildRequest, FitRequest, System


class Aand(FrozenSystem[AandPreset, AandDetector]):
    """AAND as a row of the registry; the smallest candidate of the score is the paper's maximum."""

    name = "aand"
    presets = PRESETS

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole cells."""
        return level_sizes(height_px, width_px, self.presets[preset].long_side, with_depth)

    def assemble(self, preset: AandPreset, request: BuildRequest) -> AandDetector:
        """The detector with its initial weights."""
        return AandDetector(preset, request)

    def train(
        self,
        detector: AandDetector,
        preset: AandPreset,
        images: TrainingImages,
        request: FitRequest,
    ) -> Curves:
        """See trainer.systems.aand.fit."""
        return train(detector, preset, images, request)


def create_system() -> System[AandDetector]:
    """For the registry."""
    return Aand()
