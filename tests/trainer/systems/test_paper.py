"""The paper's preset at its own size, with random weights: nobody can download EfficientNet-B5's
here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from trainer.export.onnx_file import export_checked
from trainer.graph.deploy import Deployed
from trainer.graph.preprocess import Preprocess
from trainer.quantize import count_macs
from trainer.quantize.view import prepared
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest

SIDE = 800


def _feeds() -> dict[str, NDArray[np.generic]]:
    """A part 12 mm high over a table 0.3 m away, in counts of 0.1 mm."""
    generator = np.random.default_rng(0)
    counts = np.full((1, SIDE, SIDE), 3000)
    counts[:, 200:600, 150:650] = 2880
    counts += generator.integers(-3, 4, counts.shape)
    return {
        "color": generator.integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.uint8),
        "depth": counts.astype("<u2").view(np.uint8).reshape(1, SIDE, SIDE, 2),
        "region": np.ones((1, SIDE, SIDE, 1), np.uint8),
        "unit": np.array([1e-4], np.float32),
        "intrinsics": np.array([700, 700, 399.5, 399.5], np.float32),
        "plane": np.array([0, 0, 1, 0.3], np.float32),
        "lift": np.array([0.003], np.float32),
        "expected": np.zeros((1, SIDE, SIDE, 1), np.uint8),
    }


@pytest.mark.long
def test_it_exports_agrees_and_compiles(tmp_path: Path) -> None:
    system = find_system("mats")
    sizes = system.sizes("paper", SIDE, SIDE, True)
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    deployed = (
        Deployed(Preprocess(SIDE, SIDE, sizes.color, sizes.depth), detector, 0.01)
        .requires_grad_(False)
        .eval()
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for (
            block
        ) in detector.flow.blocks:  # they start as the identity, which no fault could change
            for subnet in (block.for_first, block.for_second):
                torch.nn.init.normal_(subnet.last.weight, std=0.01)
    report = export_checked(deployed, tmp_path / "fp32.onnx", [_feeds()])
    assert report.agreement.map < 1e-4
    assert report.layers
    whole, backbone = count_macs(prepared(onnx.load(tmp_path / "fp32.onnx")))
    assert (whole.fp32, backbone and backbone.fp32) == (1.0, 1.0)
    assert 0.25 < float(deployed.run(_feeds())["area"][0]) < 0.4, "the part is a third of the view"
