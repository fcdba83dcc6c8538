"""Greedy k-center coresets: a few rows of a set of features, such that no feature is far from all
of them (PatchCore, Roth et al., CVPR 2022, algorithm 1; Sener and Savarese, ICLR 2018).

Each step takes the row that is furthest from all rows taken before. Done literally this reads every
feature once a step, and memory bandwidth decides its time. Here the rows that are furthest now form
a small pool. Distances only fall, so as long as the furthest row of the pool is no nearer than the
nearest of the pool was at the start, no row outside the pool can be further: the greedy choice is
made inside the pool alone, exactly. Then all features are compared with all rows taken in this
round at once, in one matrix product per block.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 65_536  # features compared at a time
POOL = 512  # of the furthest features


def greedy_coreset(features: Tensor, count: int, seed: int, projected: int | None = None) -> Tensor:
    """Choose `count` rows of `features` (n, C) by greedy k-center, starting from a random one.

    Memory beside `features`: one float32 copy (n, projected) and a few blocks. Time grows with n *
    count * projected.

    Args:
        features: (n, C), float16 or float32. count: 1 to n. projected: dimensions of a random
            projection in which distances are measured (Johnson-Lindenstrauss); None, or C or more:
            the features themselves.
    Returns: (count,) int64, in the order taken: the first k of them are the coreset of k rows.
    Raises: ValueError if count is not in 1..n.
    """
    if not 1 <= count <= len(features):
        raise ValueError(f"a coreset of {count} rows cannot be taken from {len(features)}")
    generator = torch.Generator().manual_seed(seed)
    rows = _projected(features, projected, generator)
    squares = torch.cat([part.square().sum(dim=1) for part in torch.split(rows, BLOCK)])
    taken = [int(torch.randint(len(rows), (1,), generator=generator))]
    nearest = torch.full((len(rows),), torch.inf)
    fresh = taken
    while True:
        _lower(nearest, rows, squares, fresh)
        if len(taken) == count:
            return torch.tensor(taken)
        fresh = _next(nearest, rows, squares, count - len(taken))
        taken = taken + fresh


def _projected(features: Tensor, dimensions: int | None, generator: torch.Generator) -> Tensor:
    """(n, C) -> (n, dimensions) float32, block by block; centered, which changes no distance but
    leaves smaller numbers to round.
    """
    channels = features.shape[1]
    sums = [part.double().sum(dim=0) for part in torch.split(features, BLOCK)]  # (C,) each
    center = (torch.stack(sums).sum(dim=0) / len(features)).float()  # (C,)
    if dimensions is None or dimensions >= channels:
        return torch.cat([part.float() - center for part in torch.split(features, BLOCK)])
    matrix = torch.randn(channels, dimensions, generator=generator) / dimensions**0.5
    return torch.cat([(part.float() - center) @ matrix for part in torch.split(features, BLOCK)])


def _lower(nearest: Tensor, rows: Tensor, squares: Tensor, fresh: list[int]) -> None:
    """Compare all rows with new centers, in place: nearest (n,) is the squared distance to the
    nearest center, -1 for a center.
    """
    centers = rows[fresh]  # (k, C)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        products = torch.addmm(squares[fresh][None], rows[part], centers.T, alpha=-2)  # (b, k)
        distance = products.amin(dim=1) + squares[part]  # (b,)
        torch.minimum(nearest[part], distance.clamp(min=0), out=nearest[part])
    nearest[fresh] = -1.0  # never taken again, not even where all others are copies of it


def _next(nearest: Tensor, rows: Tensor, squares: Tensor, most: int) -> list[int]:
    """The next greedy choices, at least one and at most `most`, as far as the furthest features
    alone decide them.
    """
    furthest = nearest.topk(min(POOL, len(nearest)))
    pool, distance = furthest.indices, furthest.values.clone()
    bound = distance[-1].item() if len(pool) < len(nearest) else -1.0
    inner = squares[pool][:, None] + squares[pool][None] - 2 * rows[pool] @ rows[pool].T  # (p, p)
    chosen: list[int] = []
    while len(chosen) < most:
        best = int(distance.argmax())
        if chosen and distance[best].item() < bound:
            break
        chosen.append(best)
        torch.minimum(distance, inner[best].clamp(min=0), out=distance)
        distance[best] = -1.0
    return [int(pool[best]) for best in chosen]
