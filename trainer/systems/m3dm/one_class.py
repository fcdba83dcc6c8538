"""Fusing the distances of several memory banks with a linear one-class support vector machine
(M3DM, section 3.4).

Schoelkopf et al. (Neural Computation 13, 2001): minimize |w|^2 / 2 - rho + 1 / (nu n) sum over i of
max(0, rho - w x_i). x are the distances of one position (or image) to each bank, which are never
negative; so w points to where they are large, and w x is the fused distance. Trained by stochastic
gradient descent as the paper has it, by scikit-learn.

Distances are divided by each bank's mean over normal positions first. Otherwise the scale of a
bank's features would decide how much it counts.
"""

from __future__ import annotations

import torch
from sklearn.linear_model import SGDOneClassSVM
from torch import Tensor

RATE = 1e-4  # section 4.3.4
PASSES = 200  # over the rows below: the paper's 1000 steps and more
MOST_ROWS = 10_000
NU = 0.5  # share of normal distances that may lie below the plane: scikit-learn's default


def fused_weights(distances: Tensor, seed: int) -> Tensor:
    """Weights (B,), none negative, of B banks' distances: their sum is the fused distance, about 1
    on normal parts.

    Args:
        distances: (n, B) of normal positions or images, >= 0.
    """
    scale = distances.double().mean(dim=0).clamp(min=1e-12)
    if distances.shape[1] == 1:
        return (1 / scale).float()
    generator = torch.Generator().manual_seed(seed)
    rows = (
        distances[torch.randperm(len(distances), generator=generator)[:MOST_ROWS]].double() / scale
    )
    machine = SGDOneClassSVM(
        nu=NU, learning_rate="constant", eta0=RATE, max_iter=PASSES, tol=None, random_state=seed
    )
    direction = torch.from_numpy(machine.fit(rows.numpy()).coef_).clamp(min=0)
    return (direction / direction.sum().clamp(min=1e-12) / scale).float()
