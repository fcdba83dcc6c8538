"""Gaussian mixture density network (GMDN, Bishop 1994) with full covariances: VMPFD-AD, section 2.2, equations 1 to 7.

    p(y | x) = sum over k of w_k(x) N(y | mu_k(x), Sigma_k(x))

Three networks of three layers give weights (softmax, equation 2), means and scales of x.

Settled here, because the paper leaves it open:

- Sigma. The text says full covariances, equations 1 and 3 one deviation a component. Here the third network gives the
  inverse Cholesky factor itself, lower triangular P with Sigma^-1 = P^T P: a density needs P (y - mu) and the logarithm
  of P's diagonal, and neither an inverse nor a triangular solve, which TensorRT does not have. Its diagonal is equation
  3's softplus (the equation's text calls it softmax; beta is 1).
- Floor. A likelihood grows without bound where a component shrinks onto a single y. P is scaled down wherever its
  Frobenius norm exceeds 1 / sqrt(floor). That norm bounds the largest singular value, so no covariance has an
  eigenvalue below the floor, and log p(y | x) <= -D/2 log(2 pi D floor) whatever is learnt (`greatest_density`).
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_SCALE = 1e-3  # of P's diagonal: its logarithm stays finite, in float16 too


class Mixture(NamedTuple):
    """Mixtures of K Gaussians in D dimensions, one for each of (N, T) conditions.

    log_weights: (N, T, K). mean: (N, T, K, D). factor: (N, T, K, D, D), lower triangular, P of the inverse covariance.
    """

    log_weights: Tensor
    mean: Tensor
    factor: Tensor


class MixtureDensityNetwork(nn.Module):
    """Conditions (N, T, C) -> Mixture.

    Args:
        condition: C. dims: D. components: K. hidden: of every network's two inner layers.
        floor: least eigenvalue of any covariance.
    """

    def __init__(self, condition: int, dims: int, components: int, hidden: int, floor: float) -> None:
        super().__init__()
        self.dims, self.components, self.floor = dims, components, floor
        self.weights = _network(condition, hidden, components)
        self.means = _network(condition, hidden, components * dims)
        self.factors = _network(condition, hidden, components * dims * dims)
        self.register_buffer("below", torch.ones(dims, dims).tril(-1), persistent=False)
        self.register_buffer("diagonal", torch.eye(dims), persistent=False)

    def forward(self, condition: Tensor) -> Mixture:
        """Equations 2 and 3."""
        shape = (*condition.shape[:2], self.components)
        mean = self.means(condition).reshape(*shape, self.dims)
        raw = self.factors(condition).reshape(*shape, self.dims, self.dims)
        diagonal = functional.softplus(diagonal_of(raw)) + LEAST_SCALE
        factor = diagonal.unsqueeze(-1) * cast(Tensor, self.diagonal) + raw * cast(Tensor, self.below)
        return Mixture(self.weights(condition).log_softmax(dim=2), mean, bounded(factor, self.floor))


def bounded(factor: Tensor, floor: float) -> Tensor:
    """P (..., D, D), scaled down where its Frobenius norm is above 1 / sqrt(floor)."""
    squared = (factor * factor).sum(dim=(-2, -1), keepdim=True)
    return factor * torch.rsqrt((squared * floor).clamp(min=1.0))


def log_likelihood(y: Tensor, mixture: Mixture) -> Tensor:
    """Logarithm of equation 1 for S values under each condition.

    Args:
        y: (N, T, S, D).
    Returns: (N, T, S).
    """
    dims = y.shape[3]
    offset = y.unsqueeze(2) - mixture.mean.unsqueeze(3)  # (N, T, K, S, D)
    white = offset @ mixture.factor.transpose(-1, -2)
    scales = diagonal_of(mixture.factor).log().sum(dim=-1)  # log |P|, (N, T, K)
    constant = mixture.log_weights + scales - 0.5 * dims * math.log(2 * math.pi)
    return log_sum_exp(constant.unsqueeze(3) - 0.5 * (white * white).sum(dim=-1))


def diagonal_of(matrices: Tensor) -> Tensor:
    """(..., D, D) -> (..., D); as a product with a constant, which every runtime has."""
    return (matrices * torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)).sum(dim=-1)


def log_sum_exp(values: Tensor) -> Tensor:
    """(N, T, K, S) -> (N, T, S), over K; no infinity on the way, whatever finite values come."""
    largest = values.amax(dim=2, keepdim=True)
    return (largest + (values - largest).exp().sum(dim=2, keepdim=True).log()).squeeze(2)


def greatest_density(dims: int, floor: float) -> float:
    """What log p(y | x) cannot exceed: a single Gaussian at its mean, all of P's scales equal."""
    return -0.5 * dims * math.log(2 * math.pi * dims * floor)


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Three layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
