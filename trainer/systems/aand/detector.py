"""AAND's detector: an advanced teacher, a student behind a bottleneck, and the map of their
distances.

Settled here, because the paper leaves it open (docs/systems/aand.md says why):

- Position encoding: the sine encoding, scaled to the features' mean square of 1, cut to their
  channels.
- Distances are smoothed with a Gaussian before they are summed.
- With the switch `floor`, features are divided by no less than a floor, and the student's map is
  scaled to the teacher's first (trainer.layers.discrepancy).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from edge.schema import TensorSpec
from trainer.graph.deploy import Answer
from trainer.graph.prepared import Prepared
from trainer.layers.adaptation import Adaptation
from trainer.layers.discrepancy import feature_distance, matched
from trainer.layers.position import sine_position_encoding
from trainer.layers.typed import Modules
from trainer.systems.aand.amplification import ResidualGate, ResidualGenerator
from trainer.systems.aand.preset import AandPreset
from trainer.systems.aand.reverse import Bottleneck, Decoder
from trainer.systems.common.frame import chosen_switches
from trainer.systems.common.level_features import LevelFeatures
from trainer.systems.common.level_maps import LevelMaps
from trainer.systems.common.sizes import scaled_to
from trainer.systems.seam import BuildRequest

SWITCHES = {
    "gate": True,  # off: every position gets the whole residual
    "generator": True,  # off: no position gets a residual
    "hard": True,  # off: no loss of the hardest positions
    "student": True,  # off: the gate alone judges
    "depth": True,  # off: color is judged alone, within the foreground that depth shows
    "floor": True,  # off: the preset's floor is 0
    "standardized": False,  # on: every channel of the teacher has mean 0 and deviation 1
}
MEMORY_ITEMS = 50  # L, section IV-B


class AandDetector(nn.Module):
    """The detector of the deployed graph: Prepared -> raw map (N, 1, H, W), never negative.

    A station may shift and scale the teacher's levels and those of depth, as they come, before
    anything compares them.
    """

    has_moments = True

    def __init__(self, preset: AandPreset, request: BuildRequest) -> None:
        super().__init__()
        self.preset, self.switches = preset, chosen_switches(SWITCHES, request)
        self.floor = preset.floor if self.switches["floor"] else 0.0
        self.features = LevelFeatures(preset.backbone, request, self.switches["depth"])
        self.adaptation = Adaptation(self.features.raw_channels)
        grids, channels = self.features.grids, self.features.channels
        self.gates = Modules(
            ResidualGate(own, _encoding(own, grid), MEMORY_ITEMS, preset.temperature)
            for own, grid in zip(channels, grids, strict=True)
        )
        self.generators = Modules(ResidualGenerator(own) for own in channels)
        self.bottleneck = Bottleneck(channels, preset.widths, preset.out, preset.blocks)
        self.decoder = Decoder(channels, preset.widths, preset.out, preset.blocks)
        self.map_size = scaled_to(preset.map_side, grids[0])
        self.to_map = LevelMaps(grids, self.map_size, preset.blur, "sum")

    @property
    def site_inputs(self) -> tuple[TensorSpec, ...]:
        """Shift and scale."""
        return self.adaptation.inputs

    def forward(self, prepared: Prepared, shift: Tensor, scale: Tensor) -> Answer:
        """Prepared batch, shift and scale (C,) -> (N, 1, H, W) anomaly map, raw, unmasked."""
        masks = self.features.masks(prepared.foreground)  # (N, 1, h, w) of every level
        raw, raw_masks = self.features.raw(prepared), self.features.raw_masks(masks)
        adapted, moments = self.adaptation(raw, raw_masks, shift, scale)
        distances = self.distances(self.features.scaled(adapted), masks)  # (N, 1, h, w) each
        return Answer(self.to_map(distances, masks), moments=moments)  # (N, 1, H, W)

    def distances(self, levels: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
        """Anomaly per position of every level, (N, 1, h, w): equation 13, or the gate alone without
        the student.
        """
        if not self.switches["student"]:
            return [gate(level) for gate, level in zip(self.gates, levels, strict=True)]
        teacher = self.advanced(levels)
        return self.compared(teacher, self.reconstructed(teacher), masks)

    def compared(
        self, teacher: Sequence[Tensor], student: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[Tensor]:
        """Distance of both networks' levels (N, C, h, w), position by position: (N, 1, h, w)."""
        pairs = zip(teacher, student, masks, strict=True)
        if not self.floor:
            return [feature_distance(own, other) for own, other, _ in pairs]
        return [
            feature_distance(own, matched(own, other, m), self.floor) for own, other, m in pairs
        ]

    def advanced(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The advanced teacher's levels, F_A (equation 1), (N, C, h, w) as the levels."""
        if not self.switches["generator"]:
            return list(levels)
        parts = zip(levels, self.gates, self.generators, strict=True)
        if not self.switches["gate"]:
            return [level + generator(level) for level, _, generator in parts]
        return [level + gate(level) * generator(level) for level, gate, generator in parts]

    def reconstructed(self, teacher: Sequence[Tensor]) -> list[Tensor]:
        """The student's levels, F_S, (N, C, h, w) as the teacher's."""
        return cast(list[Tensor], self.decoder(self.bottleneck(teacher)))

    def stage_one(self) -> nn.Module:
        """What stage 1 trains."""
        return nn.ModuleList([self.gates, self.generators])

    def stage_two(self) -> nn.Module:
        """What stage 2 trains."""
        return nn.ModuleList([self.bottleneck, self.decoder])


def _encoding(channels: int, grid: tuple[int, int]) -> Tensor:
    """The sine encoding of as many channels, (1, C, h, w), with a mean square of 1."""
    whole = sine_position_encoding(-(-channels // 4) * 4, *grid)  # the next multiple of 4 channels
    return whole[:, :channels] * 2**0.5
