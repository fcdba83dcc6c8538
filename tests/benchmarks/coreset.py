"""Greedy k-center on 300,000 features of 512 dimensions to 1 %: seconds, and memory beside the
features.

    python tests/benchmarks/coreset.py

The features are float16, drawn from 200 clusters of uneven density.
`python tests/benchmarks/coreset.py --projected 128`
measures distances in a random projection.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from trainer.layers.coreset import greedy_coreset

CLUSTERS = 200


def main() -> None:
    """Draw, select, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--features", type=int, default=300_000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--projected", type=int, default=None)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    features = drawn(arguments.features, arguments.dimensions)
    before = peak_mb()
    started_s = time.perf_counter()
    chosen = greedy_coreset(
        features, round(arguments.share * len(features)), 0, arguments.projected
    )
    spent_s = time.perf_counter() - started_s
    print(
        f"{len(chosen)} of {len(features)} features of {arguments.dimensions} dimensions, projected"
        f" to {arguments.projected or 'none'}: {spent_s:.0f} s on {arguments.threads} threads,"
        f" {peak_mb() - before:.0f} MB beside the features' {features.numel() * 2 / 1e6:.0f} MB"
    )


def drawn(count: int, dimensions: int) -> torch.Tensor:
    """(count, dimensions) float16."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(CLUSTERS, dimensions, generator=generator)
    spread = 0.05 + torch.rand(CLUSTERS, generator=generator)
    parts = []
    for part in torch.split(torch.randint(CLUSTERS, (count,), generator=generator), 8192):
        noise = torch.randn(len(part), dimensions, generator=generator)
        parts.append((centers[part] + noise * spread[part, None]).half())
    return torch.cat(parts)


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
