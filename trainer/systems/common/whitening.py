"""Fixed linear maps that give features the scale of their own normal variation: whitening and a
projection onto principal axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Of whitened features, in standard deviations: clipped, beyond this they carry no information.
BOUND = 8.0


class FixedProjection(nn.Module):
    """y = A (x - mean) at every position, clipped at BOUND; A and mean are statistics of normal
    features.

    Args:
        channels: C of x. dims: D of y, at most C; None takes C.
    """

    matrix: Tensor
    mean: Tensor

    def __init__(self, channels: int, dims: int | None = None) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.eye(channels)[:dims].clone())
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, D, h, w)."""
        offset = -self.matrix @ self.mean  # (D,)
        return functional.conv2d(features, self.matrix[:, :, None, None], offset).clamp(
            -BOUND, BOUND
        )


class Whiten(FixedProjection):
    """A fixed linear map to unit covariance on the training foreground: W (x - mean), per position.

    W = U (diag(eigenvalues) + shrink * mean eigenvalue)^(-1/2) U^T (ZCA: the nearest whitening to
    the features themselves).
    """

    @torch.no_grad()
    def fit(self, rows: Tensor, shrink: float) -> None:
        """Take mean and covariance of rows (M, C), in float64."""
        mean, scaled, axes = _scaled_axes(rows, shrink)
        self.mean.copy_(mean)
        self.matrix.copy_(scaled @ axes.T)

    @torch.no_grad()
    def fit_each_channel(self, rows: Tensor) -> None:
        """Take mean and deviation of every channel of rows (M, C), in float64: no channel mixes
        with another.
        """
        wide = rows.double()
        self.mean.copy_(wide.mean(dim=0))
        self.matrix.copy_((wide.var(dim=0, correction=0) + 1e-12).rsqrt().diag())


class PrincipalAxes(FixedProjection):
    """A fixed projection onto the axes of the covariance, the least variable ones where it cuts.

    y = U^T (x - mean) / sqrt(eigenvalues + shrink * mean eigenvalue), clipped at BOUND.
    """

    @torch.no_grad()
    def fit(self, rows: Tensor, shrink: float) -> None:
        """Take the statistics of rows (M, C), in float64."""
        mean, scaled, _ = _scaled_axes(rows, shrink)
        self.mean.copy_(mean)
        self.matrix.copy_(scaled.T[: len(self.matrix)])  # eigenvalues ascend: the least first


def _scaled_axes(rows: Tensor, shrink: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,) of rows (M, C), axes of their covariance divided by the deviations along them, and
    the axes themselves, both (C, C), one axis a column; float64.

    shrink: added to every variance, relative to their mean, so that directions in which normal
    features hardly vary do not become the loudest.
    """
    wide = rows.double()
    mean = wide.mean(dim=0)
    centered = wide - mean
    values, axes = torch.linalg.eigh(centered.T @ centered / len(wide))
    scales = (values.clamp(min=0) + shrink * values.mean()).clamp(min=1e-12).rsqrt()
    return mean, axes * scales, axes
