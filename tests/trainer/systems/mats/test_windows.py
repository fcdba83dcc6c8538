"""MATS where a cell is judged with its neighbors: color only, on the finer grid."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.trainer.systems.mats.test_system import COLOR_ONLY, SMALL, WITH_DEPTH, image
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.fit import FitControl
from trainer.graph.prepared import Prepared
from trainer.systems.mats.detector import MatsDetector
from trainer.systems.mats.fastkan import StudentOfWindows
from trainer.systems.mats.fit import frozen_views
from trainer.systems.mats.flow import RealNVP
from trainer.systems.mats.preset import PRESETS
from trainer.systems.mats.rarity import rarity
from trainer.systems.mats.system import Mats
from trainer.systems.mats.window_phases import CROPS, WindowTraining
from trainer.systems.seam import BuildRequest, FitRequest


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)


def colored(number: int) -> Prepared:
    return image(number, with_depth=False)


def build(turned: bool = False) -> MatsDetector:
    return Mats().build(BuildRequest("small", COLOR_ONLY, turned=turned))


def test_color_only_works_on_the_grid_of_the_finer_stage() -> None:
    fine, coarse = build(), Mats().build(BuildRequest("small", WITH_DEPTH))
    assert fine.grid == (2 * coarse.grid[0], 2 * coarse.grid[1])
    features = fine.color_features(image(0, with_depth=False).color)
    assert features.shape[2:] == fine.grid


def test_a_cell_is_told_with_its_neighbors_and_no_others() -> None:
    torch.manual_seed(0)
    student = StudentOfWindows(6, 8, 5, blocks=2, grid=4, window=3).eval()
    flow = RealNVP(6, 1, 8, 1.9, 2, kernel=3)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 6, 15, 15)
    changed = x.clone()
    changed[..., 7, 7] += 1
    position = torch.zeros(1, 2, 15, 15)
    with torch.no_grad():
        moved = (student(changed) - student(x)).abs().sum(dim=1)[0] > 1e-6
        z = (flow(changed, position)[0] - flow(x, position)[0]).abs().sum(dim=1)[0] > 1e-6
    assert _reach(moved) == 3  # the gathering convolution and one before each of two blocks
    assert _reach(z) == 2  # one in each half of the one coupling


def _reach(moved: torch.Tensor) -> int:
    rows, columns = torch.nonzero(moved, as_tuple=True)
    return int(max((rows - 7).abs().max(), (columns - 7).abs().max()))


def test_parts_at_any_angle_are_told_no_position_and_turned_in_training() -> None:
    assert float(build().position.abs().max()) > 0
    assert float(build(turned=True).position.abs().max()) == 0
    asked: list[float] = []

    def noted(augmentation: Augmentation) -> Augmentation:
        asked.append(augmentation.turn_deg)
        return augmentation

    images = TrainingImages(colored, 2, "turned", limits=noted)
    request = FitRequest("small", 1, 0, "cpu", FitControl(tell=lambda _: None))
    for turned in (False, True):
        Mats().fit(build(turned), images, request)
    assert asked == [5.0, 180.0]


def test_rare_cells_weigh_as_much_as_common_ones_together() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = 0.01 * torch.randn(4, 3, 20, 20, generator=generator)
    maps[0, :, :2, :2] += 5.0  # 4 of 1,600 cells look otherwise
    mask = torch.ones(4, 1, 20, 20)
    mask[3] = 0
    weights = rarity(maps, mask, seed=0)
    assert float(weights[3].max()) == 0
    assert float(weights[mask > 0].mean()) == pytest.approx(1, abs=1e-5)
    assert float(weights[0, :, :2, :2].mean()) > 4 * float(weights[0, :, 10:].mean())
    assert torch.equal(weights, rarity(maps, mask, seed=0))


def test_crops_lie_in_the_views_and_show_the_rare_more_often() -> None:
    detector = build()
    images = TrainingImages(colored, 3, "crops")
    request = FitRequest("small", 1, 0, "cpu", FitControl(tell=lambda _: None))
    views = frozen_views(detector, replace(SMALL, copies=0), images, request)
    training = WindowTraining(detector, views, SMALL, "cpu")
    assert training.begin_teacher() == CROPS * 4
    fused = training.fused_maps()
    training.fused = replace(fused, weights=torch.zeros_like(fused.weights))
    training.fused.weights[2, 0, 0, 0] = 1.0
    crops = training.crops(5, torch.Generator().manual_seed(0))
    side = min(16, detector.grid[0])
    assert crops.joined.shape == (5, fused.joined.shape[1], side, side)
    for crop in crops.joined:
        assert torch.equal(crop, fused.joined[2, :, :side, :side].float())
    assert torch.equal(crops.position[0], detector.position[0, :, :side, :side])
