"""The system that CONTRIBUTING.md adds works as printed, with one line in the registry: it is
trained and judged through the whole graph like every other.
"""

from __future__ import annotations

import pytest
import torch

from tests.support.examples import example_module
from trainer.data.source import TrainingImages
from trainer.fit import FitControl
from trainer.graph.deploy import Deployed
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.systems import registry
from trainer.systems.seam import BuildRequest, FitRequest, require_preset, require_weights

SIDE = 64


def view(seed: int, stain: bool = False) -> torch.Tensor:
    """(1, SIDE, SIDE, 3) uint8: gray, noise, perhaps a stain."""
    generator = torch.Generator().manual_seed(seed)
    color = 120 + 5 * torch.randn(1, SIDE, SIDE, 3, generator=generator)
    if stain:
        color[:, 20:30, 20:30] = 20
    return color.clamp(0, 255).to(torch.uint8)


def test_a_system_is_one_folder_and_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    example_module("system", "trainer.systems.mean.system", monkeypatch)
    monkeypatch.setitem(registry.SYSTEM_MODULES, "mean", "trainer.systems.mean.system")
    system = registry.find_system("mean")
    require_preset(system, "compact")
    require_weights(system, "compact", None)
    sizes = system.sizes("compact", SIDE, SIDE, with_depth=False)
    detector = system.build(BuildRequest("compact", sizes))
    preprocess = Preprocess(SIDE, SIDE, sizes.color, sizes.depth)
    region = torch.full((1, SIDE, SIDE, 1), 255, dtype=torch.uint8)

    def load(number: int) -> Prepared:
        return preprocess(view(number), None, region)

    system.fit(
        detector,
        TrainingImages(load, 4, "four gray views"),
        FitRequest("compact", None, 0, "cpu", FitControl()),
    )
    deployed = Deployed(preprocess, detector, 0.01)
    scores = [float(deployed(view(9, stain), region)[1]) for stain in (False, True)]
    assert scores[1] > 4 * scores[0]
