"""VMPFD-AD: vision Mamba and the distribution of patch features (Liu and Zhuang, Journal of Image
and Graphics, 2025).

Two branches judge the color image; their maps, normalized, are added:

global    A ViM encoder (trainer.systems.vmpfd.vim) reads the patches as tokens, a decoder
          reconstructs the image; the squared error is the global map. It sees what is in the wrong
          place: logical defects.
local     A patch description network (trainer.systems.vmpfd.pdn), distilled from a frozen backbone
          and frozen then, describes every small patch. A mixture density network
          (trainer.systems.vmpfd.gmdn) models for each token how the descriptors on its patch are
          distributed; their negative log-density is the local map. It sees structural defects.

With depth the part's foreground comes from it. compact-rgbd judges it, too (trainer.systems.vmpfd.
depth_side): the global branch reconstructs height as a fourth channel, the local branch describes
relief beside the patches. The other presets do not. Losses count where the part is.

What the paper leaves open or the device needs differently, and what was measured:
docs/systems/vmpfd.md.
"""

from __future__ import annotations

from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.frame import FrozenSystem
from trainer.systems.common.sizes import level_sizes
from trainer.systems.seam import BuildRequest, FitRequest, Modality, System
from trainer.systems.vmpfd.detector import VmpfdDetector
from trainer.systems.vmpfd.fit import fit_detector
from trainer.systems.vmpfd.preset import PRESETS, VmpfdPreset, require_depth


class Vmpfd(FrozenSystem[VmpfdPreset, VmpfdDetector]):
    """VMPFD-AD as a row of the registry."""

    name = "vmpfd"
    presets = PRESETS
    # the smallest leaves the paper's maximum (equation 21); small defects are few cells, and a
    # larger share would dilute them
    pretrains: Modality = "color"

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        """Long side of the preset, aspect kept to whole patches; depth serves the foreground, and
        is judged where the preset says so.

        Raises: ConfigError if it does, and there is none.
        """
        require_depth(PRESETS[preset], with_depth)
        return level_sizes(height_px, width_px, PRESETS[preset].long_side, with_depth)

    def assemble(self, preset: VmpfdPreset, request: BuildRequest) -> VmpfdDetector:
        """Raises: as VmpfdDetector."""
        return VmpfdDetector(preset, request)

    def train(
        self,
        detector: VmpfdDetector,
        preset: VmpfdPreset,
        images: TrainingImages,
        request: FitRequest,
    ) -> Curves:
        """See trainer.systems.vmpfd.fit."""
        del preset  # the detector was built from it
        return fit_detector(detector, images, request)


def create_system() -> System[VmpfdDetector]:
    """For the registry."""
    return Vmpfd()
