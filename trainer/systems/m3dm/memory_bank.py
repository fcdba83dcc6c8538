"""A memory bank on the device: how far each position's feature is from the nearest of the bank's
rows.

Equation 2 of M3DM, s = min over m of ||f - m||^2, with one addition: a row m of a distilled bank
(trainer.systems.m3dm.distilled) stands for a ball of features and carries its squared radius r, so
that s = max(0, min over m of (||f - m||^2 - r)). With r = 0 this is equation 2. Expanded it is
||f||^2 + min over m of (-2 m f + ||m||^2 - r): a linear layer and a minimum, and the radius costs
nothing.

The station may add rows without a rebuild: a second product with `spare` (n, C). A spare row that
is not set has `spare_valid` 0 and is pushed FAR away, never to infinity.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

OLD_CENTER = "centre"  # name of the buffer `center` in the weights of older runs
FAR = 1e4  # squared distance added to a spare row that is not set; finite in float16


class MemoryBank(nn.Module):
    """M fixed rows of C channels; M follows from the state that is loaded.

    Features are taken relative to `center` (C,), the mean of those the bank was made of: ||f||^2
    and ||m||^2 are small then, and little cancels. weight: (M, C), -2 (m - center). bias: (M,), ||m
    - center||^2 - r.
    """

    weight: Tensor
    bias: Tensor
    center: Tensor

    def __init__(self, channels: int, rows: int = 1) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, channels))
        self.register_buffer("bias", torch.zeros(rows))
        self.register_buffer("center", torch.zeros(channels))

    def __len__(self) -> int:
        return len(self.weight)

    def forward(
        self, features: Tensor, spare: Tensor | None = None, spare_valid: Tensor | None = None
    ) -> Tensor:
        """Squared distance to the nearest row.

        Args:
            features: (N, C, h, w). spare: (n, C) the station's own rows. spare_valid: (n,), 1 set,
                0 not.
        Returns: (N, 1, h, w), >= 0.
        """
        count, channels, height, width = features.shape
        positions = features.permute(0, 2, 3, 1).reshape(-1, channels) - self.center  # (P, C)
        to_rows = functional.linear(positions, self.weight, self.bias)  # (P, M), less ||f||^2
        least = to_rows.amin(dim=1, keepdim=True)  # (P, 1)
        if spare is not None and spare_valid is not None:
            own = spare - self.center  # (n, C)
            bias = (own * own).sum(dim=1) + FAR * (1 - spare_valid)  # (n,)
            to_spare = functional.linear(positions, -2 * own, bias)  # (P, n)
            least = torch.minimum(least, to_spare.amin(dim=1, keepdim=True))
        ones = torch.ones(channels, 1, device=features.device)
        squared = torch.relu(least + (positions * positions) @ ones)  # (P, 1)
        return squared.reshape(count, height, width, 1).permute(0, 3, 1, 2)  # (N, 1, h, w)

    @torch.no_grad()
    def fill(
        self, rows: Tensor, radius: Tensor | None = None, center: Tensor | None = None
    ) -> None:
        """Replace the rows.

        Args:
            rows: (M, C). radius: squared radii (M,), None: all 0. center: the features' mean (C,),
                None: that of the rows.
        """
        device = self.weight.device
        self.center = (rows.mean(dim=0) if center is None else center).float().to(device)
        own = rows.float().to(device) - self.center
        self.weight, self.bias = -2 * own, own.square().sum(dim=1)
        if radius is not None:
            self.bias = self.bias - radius.float().to(device)

    @property
    def rows(self) -> Tensor:
        """The rows themselves, (M, C)."""
        return self.center - 0.5 * self.weight

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take as many rows as the state has, and the center by its name in older runs too."""
        if prefix + OLD_CENTER in state_dict:
            state_dict[prefix + "center"] = state_dict.pop(prefix + OLD_CENTER)
        for name in ("weight", "bias"):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape[1:] == getattr(self, name).shape[1:]:
                setattr(self, name, torch.zeros_like(stored, device=self.center.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
