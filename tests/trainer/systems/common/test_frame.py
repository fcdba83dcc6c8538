"""The frame of all systems: seeds, switches, and how a detector ends; masks, means and sizes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.detectors import COLOR_ONLY, quiet, state, training_images
from trainer.data.source import TrainingImages
from trainer.fit import Curves
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.foreground import cell_mask, foreground_mean, rows_of
from trainer.systems.common.frame import FrozenSystem, chosen_switches
from trainer.systems.common.sizes import level_sizes, scaled_to
from trainer.systems.seam import BuildRequest, FitRequest


class Toy(FrozenSystem[int, nn.Linear]):
    """A system whose preset is the width of its only layer."""

    name, presets = "toy", {"narrow": 2, "wide": 5}

    def sizes(self, preset: str, height_px: int, width_px: int, with_depth: bool) -> WorkingSizes:
        return WorkingSizes((height_px, width_px), None)

    def assemble(self, preset: int, request: BuildRequest) -> nn.Linear:
        return nn.Linear(preset, preset)

    def train(
        self, detector: nn.Linear, preset: int, images: TrainingImages, request: FitRequest
    ) -> Curves:
        detector.train().weight.data.fill_(preset)
        return {"fill": [float(images.count)]}


def test_the_same_seed_builds_the_same_weights_and_disturbs_no_other_random_numbers() -> None:
    def build(seed: int) -> nn.Linear:
        return Toy().build(BuildRequest("wide", COLOR_ONLY, seed=seed))

    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    first = build(3)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.weight, build(3).weight)
    assert not torch.equal(first.weight, build(4).weight)
    assert not first.training


def test_a_fitted_detector_is_frozen_in_evaluation_mode() -> None:
    detector = Toy().build(BuildRequest("narrow", COLOR_ONLY))
    before = state(detector)
    curves = Toy().fit(detector, training_images(), FitRequest("narrow", None, 0, "cpu", quiet()))
    assert curves == {"fill": [6.0]}
    assert not torch.equal(before["weight"], detector.weight)
    assert not detector.training
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def test_a_switch_is_what_was_asked_or_else_the_default() -> None:
    request = BuildRequest("wide", COLOR_ONLY, switches={"mask": False})
    assert chosen_switches({"mask": True, "student": True}, request) == {
        "mask": False,
        "student": True,
    }
    assert chosen_switches({"mask": True}, BuildRequest("wide", COLOR_ONLY)) == {"mask": True}


def test_a_cell_with_any_foreground_counts_and_no_other() -> None:
    foreground = torch.zeros(2, 1, 8, 8)
    foreground[0, 0, 3, 4] = foreground[1, 0, 7, 7] = 1
    mask = cell_mask(foreground, 4)
    assert mask.nonzero().tolist() == [[0, 0, 1, 2], [1, 0, 3, 3]]
    features = torch.arange(2 * 3 * 16, dtype=torch.float32).reshape(2, 3, 4, 4)
    rows = rows_of(features, mask)
    assert torch.equal(rows, torch.stack([features[0, :, 1, 2], features[1, :, 3, 3]]))
    assert float(foreground_mean(features, mask)) == pytest.approx(float(rows.mean()))
    assert float(foreground_mean(features, torch.zeros_like(mask))) == 0


def test_a_map_keeps_the_aspect_of_its_grid() -> None:
    assert scaled_to(64, (12, 16)) == (48, 64)
    assert scaled_to(64, (16, 8)) == (64, 32)


def test_the_depth_image_has_half_the_side_of_the_color_image() -> None:
    assert level_sizes(800, 600, 256, True) == WorkingSizes((256, 192), (128, 96))
    assert level_sizes(800, 600, 256, False).depth is None
