"""MATS wired: what learns, what is frozen, what the mask leaves out, what the options switch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import trainer.systems.mats.system as mats
from edge.errors import ConfigError, DataError
from tests.support.detectors import state
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages, stacked
from trainer.fit import FitControl, Interrupted
from trainer.graph.preprocess import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    mats.COMPACT,
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
SIZES = WorkingSizes((64, 64), (32, 32))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mats.PRESETS, "small", SMALL)


def image(number: int, with_depth: bool = True) -> Prepared:
    generator = torch.Generator().manual_seed(number)
    foreground = torch.zeros(1, 1, 32, 32)
    foreground[..., 8:30, 6:22] = 1  # the top row and the right column of grid cells stay empty
    color = 100 + 40 * torch.rand(1, 3, 64, 64, generator=generator)
    if not with_depth:
        return Prepared(color, None, torch.ones(1, 1, 64, 64), None, torch.ones(1), torch.ones(1))
    height = (0.01 + 2e-4 * torch.randn(1, 1, 32, 32, generator=generator)) * foreground
    return Prepared(color, height, foreground, foreground.clone(), torch.ones(1), torch.ones(1))


def build(with_depth: bool = True, **switches: bool) -> mats.MatsDetector:
    sizes = SIZES if with_depth else WorkingSizes((64, 64), None)
    return mats.Mats().build(BuildRequest("small", sizes, random_backbone=False, switches=switches))


def fitted(
    with_depth: bool = True, seed: int = 0, cache: Path | None = None, **switches: bool
) -> mats.MatsDetector:
    detector = build(with_depth, **switches)
    fit(detector, with_depth, seed, FitControl(tell=lambda _: None), cache)
    return detector


def fit(
    detector: mats.MatsDetector,
    with_depth: bool,
    seed: int,
    control: FitControl,
    cache: Path | None = None,
) -> dict[str, list[float]]:
    images = TrainingImages(lambda number: image(number, with_depth), 5, "digest", cache)
    return mats.Mats().fit(detector, images, FitRequest("small", None, seed, "cpu", control))


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = state(fitted())
    assert_same(whole, state(fitted(cache=tmp_path / "cache")))
    stopped = build()
    for stop_after in (1, 3, 2):  # in the encoder, in the fusion, in teacher or student
        control = FitControl(tmp_path / "c.pt", tell=lambda _: None, stop_after=stop_after)
        with pytest.raises(Interrupted):
            fit(stopped, True, 0, control, tmp_path / "cache")
        stopped = build()
    fit(stopped, True, 0, FitControl(tmp_path / "c.pt", tell=lambda _: None), tmp_path / "cache")
    assert_same(whole, state(stopped))
    assert len(list((tmp_path / "cache").glob("*.pt"))) == 1


def test_training_moves_everything_but_the_backbone() -> None:
    before, after = state(build()), state(fitted())
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"encoder", "whiten_color", "whiten_depth", "fusion", "flow", "student"} <= moved
    assert "trunk" not in moved


def test_the_frozen_backbone_gets_no_gradient_and_stays_in_evaluation_mode() -> None:
    detector = build().train()
    assert not detector.trunk.training
    detector(image(0)).sum().backward()
    assert all(parameter.grad is None for parameter in detector.trunk.parameters())
    assert any(parameter.grad is not None for parameter in detector.flow.parameters())


@pytest.mark.parametrize("with_depth", [True, False])
def test_fusion_keeps_the_variance_of_the_features(with_depth: bool) -> None:
    detector = fitted(with_depth)
    prepared = stacked([image(number, with_depth) for number in range(5)])
    color, depth = detector.color_features(prepared), None
    if prepared.height is not None:
        color, depth = detector.encoded(color, prepared.height, prepared.foreground, prepared.color)
    given = torch.cat([part for part in detector.whitened(color, depth) if part is not None], dim=1)
    _, attended = detector.fused(color, depth)
    mask = detector.grid_mask(prepared)
    before, after = (
        mats.foreground_rows(part, mask).var(dim=0).mean() for part in (given, attended)
    )
    assert 0.5 < float(after / before) < 1.5


@pytest.mark.parametrize("which", ["encoder", "fusion", "teacher", "student"])
def test_what_lies_outside_the_foreground_does_not_change_a_loss(which: str) -> None:
    detector = build(mdla=False)
    trainer = cached_trainer(detector)
    clean = loss_of(trainer, which)
    changed = cached_trainer(detector)
    outside = changed.mask == 0
    assert bool(outside.any())
    if changed.depth is not None:
        changed.color, changed.depth = changed.color + 5.0 * outside, changed.depth + 5.0 * outside
    changed.tensors["height"] = changed.tensors["height"] + 0.02 * (
        changed.tensors["foreground"] == 0
    )
    if (
        which == "fusion"
    ):  # a 3x3 neighbor of the rim is its input; the rim itself is what the loss looks at
        changed.detector.fusion.color_caa = changed.detector.fusion.depth_caa = None
        trainer.detector.fusion.color_caa = trainer.detector.fusion.depth_caa = None
        clean = loss_of(trainer, which)
    assert loss_of(changed, which) == pytest.approx(clean, rel=1e-6)


def cached_trainer(detector: mats.MatsDetector) -> mats._Trainer:
    images = TrainingImages(image, 3, "digest")
    request = FitRequest("small", None, 0, "cpu", FitControl())
    trainer = mats._Trainer(
        detector, mats._frozen_features(detector, images, SMALL, request), SMALL, "cpu"
    )
    trainer.begin_encoder()
    trainer.begin_fusion()
    return trainer


def loss_of(trainer: mats._Trainer, which: str) -> float:
    generator = torch.Generator().manual_seed(0)
    if which in ("encoder", "fusion"):
        return float(getattr(trainer, f"{which}_loss")(torch.arange(4), generator).detach())
    trainer.begin_student()
    return float(getattr(trainer, f"{which}_loss")(torch.arange(20), generator).detach())


def test_without_the_mask_the_background_is_trained_on() -> None:
    assert bool((cached_trainer(build(mask=False)).mask == 1).all())


def test_color_only_has_no_amplifier_and_says_so() -> None:
    told: list[str] = []
    detector = build(with_depth=False)
    fit(detector, False, 0, FitControl(tell=told.append))
    assert detector.fusion.color_caa is None
    assert any("amplifier" in line and "off" in line for line in told)
    assert detector(image(0, with_depth=False)).shape == (1, 1, 16, 16)


@pytest.mark.parametrize("switch", mats.SWITCHES)
def test_each_part_can_be_left_out(switch: str) -> None:
    answer = fitted(**{switch: False})(image(1))
    assert answer.shape == (1, 1, 16, 16)
    assert bool(torch.isfinite(answer).all())
    assert float(answer.min()) >= 0


def test_an_unusual_part_scores_higher_than_a_normal_one() -> None:
    detector = fitted()
    normal, dented = image(90), image(91)
    assert dented.height is not None
    dented.height[..., 14:20, 10:16] -= 0.006
    assert float(detector(dented).max()) > 2 * float(detector(normal).max())


def test_whitening_gives_unit_covariance() -> None:
    rows = torch.randn(500, 6) @ torch.randn(6, 6) + 3
    whiten = mats.Whiten(6)
    whiten.fit(rows, 0.0, full=True)
    white = whiten(rows.T[None, :, :, None])[0, :, :, 0]
    assert torch.allclose(white @ white.T / 500, torch.eye(6), atol=1e-3)


def test_a_faint_channel_weighs_as_much_as_a_loud_one() -> None:
    rows = torch.randn(2000, 3) * torch.tensor([1e-3, 1.0, 50.0]) + 3
    whiten = mats.Whiten(3)
    whiten.fit(rows, 0.01, full=False)
    white = whiten(rows.T[None, :, :, None])[0, :, :, 0]
    assert torch.allclose(white.std(dim=1), torch.ones(3), atol=1e-3)


def test_what_is_far_out_saturates() -> None:
    """A flow extrapolates without bound: one cell would fill the map's range, and INT8's."""
    whiten = mats.Whiten(2)
    white = whiten(torch.tensor([1e6, -1e6])[None, :, None, None])
    assert white.flatten().tolist() == [mats.BOUND, -mats.BOUND]


def test_the_paper_preset_has_the_papers_sizes() -> None:
    system = find_system("mats")
    sizes = system.sizes("paper", 800, 800, True)
    assert sizes == WorkingSizes((768, 768), (192, 192))
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    assert isinstance(detector, mats.MatsDetector)
    assert detector.grid == (24, 24)
    assert detector.flow.channels == 304 + 64
    assert detector.encoder is None


def test_the_paper_preset_asks_for_weights_and_checks_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--weights"):
        mats.Mats().build(BuildRequest("paper", WorkingSizes((64, 64), None)))
    torch.save({"conv_stem.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(DataError, match="does not fit tf_efficientnet_b5"):
        mats.Mats().build(
            BuildRequest("paper", WorkingSizes((64, 64), None), tmp_path / "wrong.pth")
        )


def test_an_unknown_system_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="mats"):
        find_system("nonsense")
