"""What a station may correct in the features of a detector, channel by channel.

Another light, lens or gain moves the features of normal parts. The site inputs `shift` and `scale`
move them back, f' = (f - shift) * scale; the output `moments` tells the station where the features
of a part lie. Nothing here is trained or stored: weights of before load as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge.schema import TensorSpec


class Adaptation(nn.Module):
    """Groups of features of N images, shifted and scaled, and their moments.

    A detector has it under the name `adaptation`, by which quantization knows it: all of it stays
    float32 in every precision (trainer.quantize.blocks).

    Args:
        channels: of every group, in the order of `shift` and `scale`; C in all.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = list(channels)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """`shift` and `scale`, (C,) each, which change nothing by default."""
        shape = (sum(self.channels),)
        return (
            TensorSpec(name="shift", dtype="float32", shape=shape, default=0.0),
            TensorSpec(name="scale", dtype="float32", shape=shape, default=1.0),
        )

    def forward(
        self, groups: Sequence[Tensor], masks: Sequence[Tensor], shift: Tensor, scale: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """(the groups shifted and scaled, the moments (N, 2, C) of all before that).

        Args:
            groups: (N, Ci, h, w) each, of any size. masks: (N, 1, h, w) of every group, 1 where a
                cell belongs to the part, else 0. shift, scale: (C,).
        """
        by, times = (
            torch.split(values.reshape(1, -1, 1, 1), self.channels, dim=1)
            for values in (shift, scale)
        )
        adapted = [
            (features - own) * factor
            for features, own, factor in zip(groups, by, times, strict=True)
        ]
        return adapted, moments(groups, masks)


def moments(groups: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
    """Mean and variance (N, 2, C) of groups of features (N, Ci, h, w) over the cells of the mask of
    each, (N, 1, h, w), 0 or 1; both 0 where there are none.

    The variance is taken about the mean, in a second pass: the mean of the squares less the square
    of the mean cancels in float32. Sums, no matrix products: TensorRT rounds the factors of those
    to the ten bits of TF32.
    """
    means, variances = [], []
    for features, mask in zip(groups, masks, strict=True):
        weight = mask / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)  # (N, 1, h, w), sums to 1
        mean = (features * weight).sum(dim=(2, 3), keepdim=True)  # (N, Ci, 1, 1)
        apart = features - mean  # (N, Ci, h, w)
        means.append(mean)
        variances.append((apart * apart * weight).sum(dim=(2, 3), keepdim=True))
    rows = [torch.cat(column, dim=1) for column in (means, variances)]  # (N, C, 1, 1) each
    return torch.cat(rows, dim=2).flatten(2).transpose(1, 2)  # (N, C, 2) -> (N, 2, C)
