"""NTSNet's detector: a frozen teacher, a student of other blocks, and the map of their distances.

Settled here, because the paper leaves it open (docs/systems/ntsnet.md says why): the levels' maps
are upsampled, smoothed (trainer.layers.anomaly_map), then added as in equation 12; the switch
`product` multiplies them, as the text above that equation does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from edge.errors import ConfigError
from edge.schema import TensorSpec
from trainer.graph.deploy import Answer
from trainer.graph.prepared import Prepared
from trainer.layers.adaptation import Adaptation
from trainer.layers.discrepancy import feature_distance, mean_square
from trainer.systems.common.frame import chosen_switches
from trainer.systems.common.level_features import DEPTH_BOUND, LevelFeatures
from trainer.systems.common.level_maps import LevelMaps
from trainer.systems.common.sizes import scaled_to
from trainer.systems.ntsnet.preset import NtsnetPreset, require_depth
from trainer.systems.ntsnet.student import LeanStudent, MirrorStudent
from trainer.systems.seam import BuildRequest


def default_switches(preset: NtsnetPreset) -> dict[str, bool]:
    """Every switch and what it is unless asked otherwise."""
    return {
        "cot": True,  # off: plain 3x3 convolutions in the same student
        "symmetric": False,  # on: a student of the teacher's shape, no CoT (baseline of table 3)
        "eman": preset.eman,  # on: the teacher's statistics follow the student's
        "product": preset.product,  # on: the levels' maps are multiplied
    }


class NtsnetDetector(nn.Module):
    """The detector of the deployed graph: Prepared -> raw map (N, 1, H, W), never negative.

    A station may shift and scale the teacher's levels, as they come, and the student's: another
    light moves both, each in its own way (docs/systems/ntsnet.md). With depth in the preset, levels
    of depth follow those of color, in the teacher as in the student.
    """

    has_moments = True

    def __init__(self, preset: NtsnetPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset, self.switches = preset, chosen_switches(default_switches(preset), request)
        require_depth(preset, request.sizes.depth is not None)
        self.features = LevelFeatures(preset.backbone, request, depth=preset.depth is not None)
        channels = self.features.raw_channels
        self.student = _student(preset, self.switches, channels[len(self.features.grids) :])
        self.adaptation = Adaptation([*channels, *channels])
        grids, fusion = self.features.grids, "product" if self.switches["product"] else "sum"
        self.map_size = scaled_to(preset.map_side, grids[0])
        self.to_map = LevelMaps(grids, self.map_size, preset.blur, fusion)

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Shift and scale."""
        return self.adaptation.inputs

    def forward(self, prepared: Prepared, shift: Tensor, scale: Tensor) -> Answer:
        """Prepared batch, shift and scale (C,) -> (N, 1, H, W) anomaly map, raw, unmasked."""
        raw, student = self.features.raw(prepared), self.levels_of(prepared)
        masks = self.features.masks(prepared.foreground)  # (N, 1, h, w) of every level
        of_raw = self.features.raw_masks(masks)
        adapted, moments = self.adaptation([*raw, *student], [*of_raw, *of_raw], shift, scale)
        teacher, student = self.features.apart(adapted[: len(raw)]), adapted[len(raw) :]
        distances = self.distances(teacher, student)  # (N, 1, h, w) of every level
        return Answer(self.to_map(distances, masks), moments=moments)  # (N, 1, H, W)

    def distances(self, teacher: Sequence[Tensor], student: Sequence[Tensor]) -> list[Tensor]:
        """Anomaly per position of every level, (N, 1, h, w): equation 10 at one position, and what
        depth adds.
        """
        pairs, count = list(zip(teacher, student, strict=True)), len(self.features.grids)
        colors = [feature_distance(own, other, self.preset.floor) for own, other in pairs[:count]]
        if self.preset.depth is None:
            return colors
        share = 0.5 * DEPTH_BOUND**2 * self.preset.depth.share
        depths = [share * mean_square(own - other) for own, other in pairs[count:]]
        return [color + depth for color, depth in zip(colors, depths, strict=True)]

    def levels_of(self, prepared: Prepared) -> list[Tensor]:
        """The student's levels of a prepared batch: those of color, then those of depth."""
        if self.preset.depth is None:
            return self.student_levels(prepared.color)
        return self.student_levels(prepared.color, prepared.height, prepared.foreground)

    def student_levels(self, color: Tensor, *depth: Tensor | None) -> list[Tensor]:
        """The student's levels, F_S, of color (N, 3, h, w) in 0..255: (N, C, h, w) each.

        depth: height and foreground (N, 1, h / 2, w / 2), of a student that judges depth.
        """
        return cast(list[Tensor], self.student(self.features.trunk.normalized(color), *depth))

    def trainable(self) -> nn.Module:
        """What training changes: the student, and with EMAN the teacher's statistics."""
        moving = [self.features.trunk] if self.switches["eman"] else []
        return nn.ModuleList([self.student, *moving])


def _student(
    preset: NtsnetPreset, switches: Mapping[str, bool], depth_channels: Sequence[int]
) -> MirrorStudent | LeanStudent:
    """The student that preset and switches ask for.

    Raises: ConfigError if it should judge depth in the teacher's own shape.
    """
    cot = switches["cot"] and not switches["symmetric"]
    if preset.lean is not None and not switches["symmetric"]:
        return LeanStudent(
            preset.lean, preset.backbone.channels, cot, preset.groups, depth_channels
        )
    if depth_channels:
        raise ConfigError(
            "ntsnet: the symmetric student judges color alone: leave it off, or take another preset"
        )
    return MirrorStudent(preset.backbone, preset.groups if cot else None)
