"""What MATS trains by reconstruction and then freezes: the cross-modal amplifiers both ways, then
the attention.

Settled here, because the paper leaves it open (docs/systems/mats.md says why): MDLA's result is
added to its input, a skip connection; training starts at the identity.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.systems.mats.caa import CAA
from trainer.systems.mats.mdla import MDLA


class Fusion(nn.Module):
    """CAA both ways, then MDLA.

    Args:
        color, depth: channels of either modality; depth 0 without depth. grid: (h, w). switches:
            `caa` and `mdla`.
    """

    def __init__(
        self, color: int, depth: int, grid: tuple[int, int], switches: Mapping[str, bool]
    ) -> None:
        super().__init__()
        crossed = depth > 0 and switches["caa"]
        self.color_caa = CAA(color, depth) if crossed else None
        self.depth_caa = CAA(depth, color) if crossed else None
        self.mdla = MDLA(color + depth, grid) if switches["mdla"] else None
        self.start_as_identity()

    def start_as_identity(self) -> None:
        """Let training begin where nothing is changed: with random weights the features would first
        have to be found again.
        """
        for caa in (self.color_caa, self.depth_caa):
            if caa is not None:
                caa.start_as_identity()
        if self.mdla is not None:
            self.mdla.start_at_zero()

    def forward(self, color: Tensor, depth: Tensor | None) -> tuple[Tensor, Tensor]:
        """Whitened color (N, Cc, h, w) and depth (N, 64, h, w) or None -> (joined, attended), both
        (N, C, h, w): the student's and the teacher's input.
        """
        joined = self.joined(color, depth)
        return joined, joined if self.mdla is None else joined + self.mdla(joined)

    def joined(self, color: Tensor, depth: Tensor | None) -> Tensor:
        """Both modalities, each amplified by the other, side by side: (N, Cc + 64, h, w)."""
        if depth is None:
            return color
        if self.color_caa is None or self.depth_caa is None:
            return torch.cat([color, depth], dim=1)
        return torch.cat([self.color_caa(color, depth), self.depth_caa(depth, color)], dim=1)
