"""How much each cell counts in training, so that what few cells show weighs as much as what most
show.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from trainer.systems.common.foreground import rows_of

CLUSTERS = 64  # of features
SAMPLED = 12_000  # cells that the clusters are found by
MOST = 20.0  # times the mean size of a cluster's cell weighs at most: a cluster of few may be noise
AT_ONCE = 16_384  # cells


@torch.no_grad()
def rarity(maps: Tensor, mask: Tensor, seed: int) -> Tensor:
    """Weights (n, 1, h, w) of the cells of maps (n, C, h, w), mean 1 over the mask (n, 1, h, w), 0
    outside.

    A cell weighs as much as its cluster of features (k-means) is small, so that all clusters
    together count alike. Why: a density is best where most cells are. On a photo of a screw those
    are the table's, and what the thread looks like was hardly learned.
    """
    from sklearn.cluster import KMeans  # at use: it takes longer to import than to call

    rows = rows_of(maps, mask).float().cpu()  # (M, C)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:SAMPLED]
    clusters = min(CLUSTERS, len(chosen))
    means = KMeans(clusters, n_init=1, random_state=seed).fit(rows[chosen].numpy())
    centers = torch.from_numpy(means.cluster_centers_).to(rows)
    nearest = torch.cat(
        [torch.cdist(some, centers).argmin(dim=1) for some in torch.split(rows, AT_ONCE)]
    )
    counts = torch.bincount(nearest, minlength=clusters).float()
    weight = 1 / counts.clamp(min=len(rows) / clusters / MOST)
    weights = torch.zeros(mask.shape)
    of_rows = weight[nearest]
    weights[mask.cpu() > 0] = of_rows / of_rows.mean().clamp(min=1e-12)
    return weights.to(mask.device)
