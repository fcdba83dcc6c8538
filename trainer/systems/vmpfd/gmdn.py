"""Gaussian mixture density network (GMDN, Bishop 1994) with full covariances: VMPFD-AD, section
2.2, equations 1 to 7.

    p(y | x) = sum over k of w_k(x) N(y | mu_k(x), Sigma_k(x))

Three networks of three layers give weights (softmax, equation 2), means and scales of x.

Settled here, because the paper leaves it open:

- Sigma. The text says full covariances, equations 1 and 3 have scales of x. Here both: Sigma_k(x)
  ^-1 = P^T P with the inverse Cholesky factor P = diag(s_k(x)) L_k. L_k, lower triangular with rows
  of length 1, is learned for the component and holds the correlations of the dimensions; the D
  scales s_k(x) follow x through equation 3's softplus (its text calls it softmax; beta is 1). A
  density then needs neither an inverse nor a triangular solve, which TensorRT does not have, and
  L_k y is a product with a constant. A network that computes all of P from x found less
  (docs/systems/vmpfd.md).
- Floor. A likelihood grows without bound where a component shrinks onto a single y. The scales
  approach S = 1 / sqrt(D floor) and never exceed it. P's largest singular value is then below S
  |L_k| <= S sqrt(D), so that no covariance has an eigenvalue below the floor, and log p(y | x) <
  -D/2 log(2 pi D floor) whatever is learned (`greatest_density`).
- Outliers. Elements of P (y - mu) are clipped where the sum of all D squares would leave float16:
  beyond this distance, 22 deviations for D = 96, they carry no information.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_SCALE = 1e-3  # of s: its logarithm stays finite, in float16 too
UNIT = 0.5413  # softplus of it is 1: scales begin there
# factor on the last layers' initial weights: at first all conditions have much the same mixture
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
        self.weights = Perceptron(condition, hidden, components)
        self.means = Perceptron(condition, hidden, components * dims)
        self.scales = Perceptron(condition, hidden, components * dims)
        self.shapes = nn.Parameter(torch.zeros(components, dims, dims))
        self.register_buffer("below", torch.ones(dims, dims).tril(-1), persistent=False)
        self.register_buffer("unit", torch.eye(dims), persistent=False)
        with torch.no_grad():
            self.means.last.bias.normal_(0, SPREAD)
            self.scales.last.bias.fill_(UNIT)

    def forward(self, condition: Tensor) -> Mixture:
        """Equations 2 and 3."""
        size = (*condition.shape[:2], self.components, self.dims)
        free = functional.softplus(self.scales(condition)) + LEAST_SCALE  # (N, T, K D)
        scale = bounded(free, self.dims, self.floor).reshape(size)  # (N, T, K, D)
        weights = self.weights(condition).log_softmax(dim=2)  # (N, T, K)
        mean = self.means(condition).reshape(size)  # (N, T, K, D)
        return Mixture(weights, mean, scale, self.shape())

    def shape(self) -> Tensor:
        """L of every component, (K, D, D): trained below the diagonal, 1 on it, then every row
        scaled to length 1.
        """
        rows = self.shapes * self.below + self.unit  # (K, D, D)
        return rows * torch.rsqrt((rows * rows).sum(dim=2, keepdim=True))


def bounded(scale: Tensor, dims: int, floor: float) -> Tensor:
    """s / sqrt(1 + s^2 / S^2) with S = 1 / sqrt(D floor): about s where s is small, always below
    S.
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
    turned = functional.linear(y, shape.flatten(0, 1))  # (N, T, S, K D)
    turned = turned.reshape(*y.shape[:3], components, dims)  # L y, (N, T, S, K, D)
    means = mixture.mean.permute(2, 0, 1, 3).reshape(components, count * places, dims)
    centers = (means @ shape.transpose(1, 2)).reshape(components, count, places, dims)
    centers = centers.permute(1, 2, 0, 3).unsqueeze(2)  # L mu, (N, T, 1, K, D)
    white = (turned - centers) * mixture.scale.unsqueeze(2)  # P (y - mu), (N, T, S, K, D)
    far = math.sqrt(FARTHEST / dims)
    white = white.clamp(-far, far)
    constant = mixture.log_weights + _log_volume(mixture) - 0.5 * dims * math.log(2 * math.pi)
    return log_sum_exp(constant.unsqueeze(2) - 0.5 * (white * white).sum(dim=4))  # (N, T, S)


def _log_volume(mixture: Mixture) -> Tensor:
    """log |P| of every component, (N, T, K)."""
    return mixture.scale.log().sum(dim=3) + diagonal_of(mixture.shape).log().sum(dim=1)


def diagonal_of(matrices: Tensor) -> Tensor:
    """(..., D, D) -> (..., D); as a product with a constant, which every runtime has."""
    unit = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    return (matrices * unit).sum(dim=-1)


def log_sum_exp(values: Tensor) -> Tensor:
    """(..., K) -> (...), over K; finite values never become infinite on the way."""
    largest = values.amax(dim=-1, keepdim=True)  # (..., 1)
    return (largest + (values - largest).exp().sum(dim=-1, keepdim=True).log()).squeeze(-1)


def greatest_density(dims: int, floor: float) -> float:
    """The bound that log p(y | x) never reaches: a single Gaussian at its mean, L the unit matrix,
    all scales S.
    """
    return -0.5 * dims * math.log(2 * math.pi * dims * floor)


class Perceptron(nn.Sequential):
    """Three layers; the last begins with small weights."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        last = nn.Linear(hidden, outputs)  # made first: the seed's order of initial weights
        with torch.no_grad():
            last.weight.mul_(CALM)
        super().__init__(
            nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), last
        )

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        return cast(nn.Linear, self[-1])
