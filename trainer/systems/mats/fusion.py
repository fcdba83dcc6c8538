"""What MATS trains by reconstruction and then freezes: the cross-modal amplifiers both ways, then
the attention.

Settled here, because the paper leaves it open (docs/systems/mats.md says why): MDLA's result is
added to its input, a skip connection; training starts at the identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.layers.height import enlarged
from trainer.systems.mats.caa import CAA
from trainer.systems.mats.mdla import MDLA


class Fusion(nn.Module):
    """CAA both ways, then MDLA.

    Args:
        color, depth: channels of either modality; depth 0 without depth. grid: (h, w). switches:
            `caa` and `mdla`. stride: the attention sees means of stride x stride cells, and what it
            finds is added to each of them; h and w are multiples of it.
    """

    def __init__(
        self,
        color: int,
        depth: int,
        grid: tuple[int, int],
        switches: Mapping[str, bool],
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.stride = stride
        crossed = depth > 0 and switches["caa"]
        self.color_caa = CAA(color, depth) if crossed else None
        self.depth_caa = CAA(depth, color) if crossed else None
        seen = grid[0] // stride, grid[1] // stride
        self.mdla = MDLA(color + depth, seen) if switches["mdla"] else None
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
        return joined, joined if self.mdla is None else joined + self._attention(self.mdla, joined)

    def _attention(self, mdla: MDLA, joined: Tensor) -> Tensor:
        """What the attention adds, (N, C, h, w)."""
        if self.stride == 1:
            return cast(Tensor, mdla(joined))
        means = functional.avg_pool2d(joined, self.stride)  # (N, C, h/stride, w/stride)
        return enlarged(mdla(means), self.stride)

    def joined(self, color: Tensor, depth: Tensor | None) -> Tensor:
        """Both modalities, each amplified by the other, side by side: (N, Cc + 64, h, w)."""
        if depth is None:
            return color
        if self.color_caa is None or self.depth_caa is None:
            return torch.cat([color, depth], dim=1)
        return torch.cat([self.color_caa(color, depth), self.depth_caa(depth, color)], dim=1)
