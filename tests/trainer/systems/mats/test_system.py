"""MATS wired: what learns, what is frozen, what the mask leaves out, what the options switch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edge.errors import ConfigError, DataError
from tests.support.detectors import (
    COLOR_ONLY,
    WITH_DEPTH,
    answer_to,
    digest_of_training,
    moved,
    neutral_site,
    quiet,
    state,
    training_images,
)
from trainer.data.augment import Augmentation
from trainer.data.source import stacked
from trainer.fit import Curves, FitControl
from trainer.graph.prepared import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.foreground import cell_mask, rows_of
from trainer.systems.mats.detector import SWITCHES, MatsDetector
from trainer.systems.mats.fit import frozen_views
from trainer.systems.mats.phases import Training
from trainer.systems.mats.preset import COMPACT, PRESETS
from trainer.systems.mats.system import Mats
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    COMPACT,
    long_side=64,
    encoder_epochs=2,
    fusion_epochs=3,
    teacher_epochs=(3, 3),
    student_epochs=(3, 3),
    fusion_steps=4,
    steps_per_epoch=4,
    batch_size=16,
    copies=1,
    map_side=16,
    augmentation=Augmentation(5.0, 0.02, 0.02, 0.05, 3.0),
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)


def image(number: int, with_depth: bool = True) -> Prepared:
    generator = torch.Generator().manual_seed(number)
    foreground = torch.zeros(1, 1, 32, 32)
    foreground[..., 8:30, 6:22] = 1  # the top row and the right column of grid cells stay empty
    color = 100 + 40 * torch.rand(1, 3, 64, 64, generator=generator)
    if not with_depth:
        return Prepared(color, None, torch.ones(1, 1, 64, 64), None, torch.ones(1), torch.ones(1))
    height = (0.01 + 2e-4 * torch.randn(1, 1, 32, 32, generator=generator)) * foreground
    return Prepared(color, height, foreground, foreground.clone(), torch.ones(1), torch.ones(1))


def build(with_depth: bool = True, **switches: bool) -> MatsDetector:
    sizes = WITH_DEPTH if with_depth else COLOR_ONLY
    return Mats().build(BuildRequest("small", sizes, switches=switches))


def fitted(with_depth: bool = True, cache: Path | None = None, **switches: bool) -> MatsDetector:
    detector = build(with_depth, **switches)
    fit(detector, with_depth, quiet(), cache)
    return detector


def fit(
    detector: MatsDetector, with_depth: bool, control: FitControl, cache: Path | None = None
) -> Curves:
    images = training_images(with_depth, cache, image, 5)
    return Mats().fit(detector, images, FitRequest("small", None, 0, "cpu", control))


def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def digest(name: str, *stops: int) -> str:
        def resume(detector: MatsDetector, control: FitControl) -> None:
            fit(detector, True, control, tmp_path / "cache")

        return digest_of_training(build, resume, tmp_path / name, stops)

    whole = digest("whole")
    assert digest("again") == whole
    # in the encoder, in the fusion, in teacher or student
    assert digest("stopped", 1, 3, 2) == whole
    assert len(list((tmp_path / "cache").glob("*.pt"))) == 1


def test_training_moves_everything_but_the_backbone() -> None:
    names = {name.split(".")[0] for name in moved(state(build()), fitted())}
    assert {"encoder", "whiten_color", "whiten_depth", "fusion", "flow", "student"} <= names
    assert "trunk" not in names


def test_the_frozen_backbone_gets_no_gradient_and_stays_in_evaluation_mode() -> None:
    detector = build().train()
    assert not detector.trunk.training
    detector(image(0), **neutral_site(detector)).map.sum().backward()
    assert all(parameter.grad is None for parameter in detector.trunk.parameters())
    assert any(parameter.grad is not None for parameter in detector.flow.parameters())


@pytest.mark.parametrize("with_depth", [True, False])
def test_fusion_keeps_the_variance_of_the_features(with_depth: bool) -> None:
    detector = fitted(with_depth)
    prepared = stacked([image(number, with_depth) for number in range(5)])
    color, depth = detector.encoded(detector.color_features(prepared.color), prepared)
    whitened = detector.whitened(color, depth)
    features = torch.cat([part for part in whitened if part is not None], dim=1)
    _, attended = detector.fusion(*whitened)
    mask = cell_mask(prepared.foreground, detector.grid[0])
    before, after = (rows_of(part, mask).var(dim=0).mean() for part in (features, attended))
    assert 0.5 < float(after / before) < 1.5


@pytest.mark.parametrize("which", ["depth", "fusion", "teacher", "student"])
def test_what_lies_outside_the_foreground_does_not_change_a_loss(which: str) -> None:
    clean, changed = training_of(build(mdla=False)), training_of(build(mdla=False))
    outside = changed.mask == 0
    assert bool(outside.any())
    color, depth = changed.whitened()
    assert depth is not None
    changed.features = color + 5.0 * outside, depth + 5.0 * outside
    assert changed.views.height is not None
    changed.views.height.add_(0.02 * (changed.views.foreground == 0))
    if which == "fusion":
        # a 3x3 neighbor of the rim is its input; the rim itself is what the loss looks at
        for training in (clean, changed):
            training.detector.fusion.color_caa = training.detector.fusion.depth_caa = None
    assert loss_of(changed, which) == pytest.approx(loss_of(clean, which), rel=1e-6)


def training_of(detector: MatsDetector) -> Training:
    """A training whose first phase has begun and whose features are whitened."""
    images = training_images(True, None, image, 3)
    request = FitRequest("small", None, 0, "cpu", quiet())
    training = Training(detector, frozen_views(detector, SMALL, images, request), SMALL, "cpu")
    training.phases(None)[0].begin()
    training.begin_fusion()
    return training


def loss_of(training: Training, which: str) -> float:
    if which == "student":
        training.begin_student()
    loss = {
        "depth": training.phases(None)[0].loss,
        "fusion": training.fusion_loss,
        "teacher": training.teacher_loss,
        "student": training.student_loss,
    }[which]
    batch = torch.arange(4 if which in ("depth", "fusion") else 20)
    return float(loss(batch, torch.Generator().manual_seed(0)).detach())


def test_without_the_mask_the_background_is_trained_on() -> None:
    assert bool((training_of(build(mask=False)).mask == 1).all())


def test_color_only_has_no_amplifier_and_says_so() -> None:
    told: list[str] = []
    detector = build(with_depth=False)
    fit(detector, False, FitControl(tell=told.append))
    assert detector.fusion.color_caa is None
    assert any("amplifier" in line and "off" in line for line in told)
    assert answer_to(detector, image(0, with_depth=False)).map.shape == (1, 1, 16, 16)


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_part_can_be_left_out(switch: str) -> None:
    answer = answer_to(fitted(**{switch: False}), image(1)).map
    assert answer.shape == (1, 1, 16, 16)
    assert bool(torch.isfinite(answer).all())
    assert float(answer.min()) >= 0


def test_an_unusual_part_scores_higher_than_a_normal_one() -> None:
    detector = fitted()
    normal, dented = image(90), image(91)
    assert dented.height is not None
    dented.height[..., 14:20, 10:16] -= 0.006
    good, bad = answer_to(detector, normal).map, answer_to(detector, dented).map
    assert float(bad.max()) > 2 * float(good.max())


def test_the_paper_preset_has_the_papers_sizes() -> None:
    system = find_system("mats")
    sizes = system.sizes("paper", 800, 800, True)
    assert sizes == WorkingSizes((768, 768), (192, 192))
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    assert isinstance(detector, MatsDetector)
    assert detector.grid == (24, 24)
    assert detector.flow.channels == 304 + 64
    assert detector.encoder is None


def test_the_paper_preset_asks_for_weights_and_checks_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--weights"):
        Mats().build(BuildRequest("paper", WorkingSizes((64, 64), None)))
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(DataError, match="does not fit tf_efficientnet_b5"):
        Mats().build(BuildRequest("paper", WorkingSizes((64, 64), None), tmp_path / "wrong.pth"))
