"""From the feature grid to the map."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from trainer.layers.anomaly_map import AnomalyMap


def test_the_map_averages_foreground_cells_only() -> None:
    to_map = AnomalyMap((4, 4), (16, 16), 1.0)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    distance = torch.where(mask > 0, 3.0, 1e6)
    assert torch.allclose(to_map(distance, mask)[..., :8], torch.tensor(3.0), atol=1e-4)


def test_it_interpolates_and_smooths_as_scipy_does() -> None:
    generator = np.random.default_rng(0)
    values = generator.random((6, 8))
    upsampled = functional.interpolate(
        torch.from_numpy(values)[None, None], size=(24, 32), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    # Far from the rim, where the map's Gaussian is cut off and renormalized and scipy's is padded.
    expected = gaussian_filter(upsampled, 1.5, truncate=8)[8:-8, 8:-8]
    to_map = AnomalyMap((6, 8), (24, 32), 1.5)
    got = to_map(torch.from_numpy(values).float()[None, None], torch.ones(1, 1, 6, 8))[
        0, 0, 8:-8, 8:-8
    ].numpy()
    np.testing.assert_allclose(got, expected, atol=1e-4)
