"""Gaussian mixture density network (GMDN, Bishop 1994) with full covariances: VMPFD-AD, section
2.2, equations 1 to 7.

    p(y | x) = sum over k of w_k(x) N(y | mu_k(x), Sigma_k(x))

Three networks of three layers give weights (softmax, equation 2), means and scales of x.

Settled here, because the paper leaves it open:

- Sigma. The text says full covariances, equations 1 and 3 scales of x. Here both: Sigma_k(x)^-1 =
  P^T P with the inverse Cholesky factor P = diag(s_k(x)) L_k. L_k, lower triangular with rows of
  length 1, is learned for the component and holds how the dimensions hang together; the D scales
  s_k(x) follow x through equation 3's softplus (its text calls it softmax; beta is 1). A density
  then needs neither an inverse nor a triangular solve, which TensorRT does not have, and L_k y is a
  product with a constant. A network that gave all D^2 numbers of P for every x had the better
  likelihood and found less: image AUROC 54 instead of 72 on screw (seed 0, local branch, greatest
  value of the map).
- Floor. A likelihood grows without bound where a component shrinks onto a single y. The scales
  approach S = 1 / sqrt(D floor) and never pass it. P's largest singular value is then below S |L_k|
  <= S sqrt(D), so that no covariance has an eigenvalue below the floor, and log p(y | x) < -D/2
  log(2 pi D floor) whatever is learned (`greatest_density`).
- Far away. Elements of P (y - mu) are clipped where the square of all D would leave float16. With D
  = 96 that is at 22
  deviations: such a y is abnormal, and by how much no longer counts.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_SCALE = 1e-3  # of s: its logarithm stays finite, in float16 too
UNIT = 0.5413  # softplus of it is 1: scales begin there
# of the last layers' initial weights: at first all conditions have much the same mixture
CALM = 0.1
FARTHEST = 5e4  # |P (y - mu)|^2: float16 ends at 65504
SPREAD = 0.5  # deviation of the components' initial means


class Mixture(NamedTuple):
    """Mixtures of K Gaussians in D dimensions, one for each of (N, T) conditions.

    log_weights: (N, T, K). mean, scale: (N, T, K, D). shape: (K, D, D), L of each component.
    """

    log_weights: Tensor
    mean: Tensor
    scale: Tensor
    shape: Tensor


class MixtureDensityNetwork(nn.Module):
    """Conditions (N, T, C) -> Mixture.

    Args:
        condition: C. dims: D. components: K. hidden: of every network's two inner layers.
        floor: least eigenvalue of any covariance.
    """

    below: Tensor
    unit: Tensor

    def __init__(
        self, condition: int, dims: int, components: int, hidden: int, floor: float
    ) -> None:
        super().__init__()
        self.dims, self.components, self.floor = dims, components, floor
        self.weights = _network(condition, hidden, components)
        self.means = _network(condition, hidden, components * dims)
        self.scales = _network(condition, hidden, components * dims)
        self.shapes = nn.Parameter(torch.zeros(components, dims, dims))
        self.register_buffer("below", torch.ones(dims, dims).tril(-1), persistent=False)
        self.register_buffer("unit", torch.eye(dims), persistent=False)
        with torch.no_grad():
            cast(nn.Linear, self.means[-1]).bias.normal_(0, SPREAD)
            cast(nn.Linear, self.scales[-1]).bias.fill_(UNIT)

    def forward(self, condition: Tensor) -> Mixture:
        """Equations 2 and 3."""
        size = (*condition.shape[:2], self.components, self.dims)
        scale = bounded(
            functional.softplus(self.scales(condition)) + LEAST_SCALE, self.dims, self.floor
        )
        weights = self.weights(condition).log_softmax(dim=2)
        return Mixture(
            weights, self.means(condition).reshape(size), scale.reshape(size), self.shape()
        )

    def shape(self) -> Tensor:
        """L of every component, (K, D, D): learned below the diagonal, 1 on it, then every row
        brought to length 1.
        """
        rows = self.shapes * self.below + self.unit
        return rows * torch.rsqrt((rows * rows).sum(dim=2, keepdim=True))


def bounded(scale: Tensor, dims: int, floor: float) -> Tensor:
    """s / sqrt(1 + s^2 / S^2) with S = 1 / sqrt(D floor): much the same where s is small, below S
    wherever it is.
    """
    return scale * torch.rsqrt(1 + scale * scale * (dims * floor))


def log_likelihood(y: Tensor, mixture: Mixture) -> Tensor:
    """Logarithm of equation 1 for S values under each condition.

    Args:
        y: (N, T, S, D).
    Returns: (N, T, S).
    """
    count, places, components, dims = mixture.mean.shape
    shape = mixture.shape
    turned = functional.linear(y, shape.flatten(0, 1)).reshape(
        *y.shape[:3], components, dims
    )  # L y
    means = mixture.mean.permute(2, 0, 1, 3).reshape(components, count * places, dims)
    centers = (
        (means @ shape.transpose(1, 2)).reshape(components, count, places, dims).permute(1, 2, 0, 3)
    )  # L mu
    white = (turned - centers.unsqueeze(2)) * mixture.scale.unsqueeze(
        2
    )  # P (y - mu), (N, T, S, K, D)
    far = math.sqrt(FARTHEST / dims)
    white = white.clamp(-far, far)
    volume = mixture.scale.log().sum(dim=3) + diagonal_of(shape).log().sum(
        dim=1
    )  # log |P|, (N, T, K)
    constant = mixture.log_weights + volume - 0.5 * dims * math.log(2 * math.pi)
    return log_sum_exp(constant.unsqueeze(2) - 0.5 * (white * white).sum(dim=4))


def diagonal_of(matrices: Tensor) -> Tensor:
    """(..., D, D) -> (..., D); as a product with a constant, which every runtime has."""
    return (
        matrices * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    ).sum(dim=-1)


def log_sum_exp(values: Tensor) -> Tensor:
    """(..., K) -> (...), over K; no infinity on the way, whatever finite values come."""
    largest = values.amax(dim=-1, keepdim=True)
    return (largest + (values - largest).exp().sum(dim=-1, keepdim=True).log()).squeeze(-1)


def greatest_density(dims: int, floor: float) -> float:
    """What log p(y | x) cannot reach: a single Gaussian at its mean, L the unit matrix, all of its
    scales S.
    """
    return -0.5 * dims * math.log(2 * math.pi * dims * floor)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three layers, the last one calm."""
    last = nn.Linear(hidden, outputs)
    with torch.no_grad():
        last.weight.mul_(CALM)
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last
    )
