"""How far a student's features are from its teacher's, position by position, and the distillation
losses made of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-6  # added to squared norms: where a feature is all zeros its cosine is 0


def channel_sum(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 1, h, w), written as a product: a CPU is several times as slow at sums
    over channels.
    """
    count, channels, height, width = features.shape
    ones = torch.ones(1, channels, dtype=features.dtype, device=features.device)
    summed = ones @ features.flatten(2)  # (1, C) @ (N, C, h w) -> (N, 1, h w)
    return summed.reshape(count, 1, height, width)


def unit(features: Tensor, floor: float = 0.0) -> Tensor:
    """(N, C, h, w), every position's feature divided by its length; with a floor, weak features
    stay short.

    Args:
        floor: share of a mean square of 1 that is added to each feature's own, f / sqrt(|f|^2 + C
            floor). The direction of a weak feature is noise, of an empty table for example, and two
            networks never agree on it.
    """
    return features * torch.rsqrt(
        channel_sum(features.square()) + (features.shape[1] * floor + TINY)
    )


def mean_square(features: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, 1, h, w), the mean over channels of the squares."""
    return channel_sum(features.square()) / features.shape[1]


def feature_distance(teacher: Tensor, student: Tensor, floor: float = 0.0) -> Tensor:
    """Half the squared difference of the unit features at every position (NTSNet, equation 10 at
    one position).

    Without a floor this is 1 - cos, 0 to 2 (AAND, equation 13), written so that it does not cancel
    where the two agree.

    Args:
        teacher, student: (N, C, h, w). floor: see `unit`.
    Returns: (N, 1, h, w).
    """
    return 0.5 * channel_sum((unit(teacher, floor) - unit(student, floor)).square())


def matched(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """The student's map (N, C, h, w), scaled to the teacher's mean square within the mask (N, 1, h,
    w), image by image.

    The cosine of flattened maps, as a loss, does not determine that scale, and a distance with a
    floor depends on it.
    """
    first, second = (
        channel_sum((one * mask).square()).mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
        for one in (teacher, student)
    )
    return student * ((first + TINY) / (second + TINY)).sqrt()


def flat_distance(teacher: Tensor, student: Tensor, mask: Tensor) -> Tensor:
    """Mean over images of 1 - cos of the flattened maps (AAND, equation 10, as reverse distillation
    has it).

    Args:
        teacher, student: (N, C, h, w). mask: (N, 1, h, w), 0 where a position does not count.
    """
    first, second = (teacher * mask).flatten(1), (student * mask).flatten(1)  # (N, C h w)
    return (1 - torch.cosine_similarity(first, second, dim=1)).mean()


def hard_distance(distance: Tensor, mask: Tensor, hardest: int) -> Tensor:
    """Mean of 1 - cos over each image's `hardest` positions (AAND, equation 11).

    Args:
        distance: (N, 1, h, w). mask: (N, 1, h, w); an image with fewer positions than that counts
            those it has.
    """
    taken = min(hardest, distance[0].numel())
    inside = torch.where(mask > 0, distance, torch.full_like(distance, -1.0))  # (N, 1, h, w)
    top = inside.flatten(1).topk(taken, dim=1).values  # (N, taken)
    real = (top >= 0).to(distance)  # 0 where an image has fewer positions than that
    return ((top * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)).mean()


def mean_per_image(distance: Tensor, mask: Tensor) -> Tensor:
    """Mean over images of the mean over each image's positions in the mask (NTSNet, equation
    10).
    """
    return ((distance * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp(min=1)).mean()
