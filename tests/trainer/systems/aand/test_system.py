"""AAND wired: what each stage trains, what stays frozen, what depth adds, what the switches leave
out.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import trainer.systems.aand.system as aand
from edge.errors import ConfigError
from tests.support.detectors import sensor_bytes
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.export.onnx_file import export_checked
from trainer.fit import FitControl, Interrupted, Phase
from trainer.graph.deploy import Deployed
from trainer.graph.preprocess import Prepared, Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import weights_digest
from trainer.systems.common.level_features import DEPTH_SHARE
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    aand.COMPACT,
    long_side=64,
    widths=(8, 8, 8),
    out=16,
    views=12,
    augmentation=Augmentation(5.0, 0.02, 0.02, 0.05, 3.0),
    amplify_epochs=2,
    distil_epochs=3,
    encoder_epochs=1,
    steps_per_epoch=3,
    batch_size=4,
    map_side=16,
)
WITH_DEPTH, COLOR_ONLY = WorkingSizes((64, 64), (32, 32)), WorkingSizes((64, 64), None)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aand.PRESETS, "small", SMALL)
    whole = aand.encoder_phase

    def short(*arguments: object) -> Phase:
        # passed on as they are
        return replace(whole(*arguments), epochs=1, steps_per_epoch=2)  # type: ignore[arg-type]

    monkeypatch.setattr(aand, "encoder_phase", short)


def image(number: int, depth: bool = True) -> Prepared:
    """A textured square part, 2 mm high with noise of 0.1 mm, on a dark table."""
    generator = torch.Generator().manual_seed(number)
    foreground = torch.zeros(1, 1, 64, 64)
    foreground[..., 12:52, 12:52] = 1
    stripes = 60 * torch.sin(torch.arange(64) / 2.0).view(1, 1, 1, 64)
    color = 20 + foreground * (100 + stripes) + 4 * torch.randn(1, 3, 64, 64, generator=generator)
    one = torch.ones(1)
    if not depth:
        return Prepared(color.clamp(0, 255), None, torch.ones(1, 1, 64, 64), None, one, one)
    small = torch.nn.functional.avg_pool2d(foreground, 2)
    height = small * (2e-3 + 1e-4 * torch.randn(1, 1, 32, 32, generator=generator))
    return Prepared(color.clamp(0, 255), height, small, small, one, one)


def images(tmp_path: Path | None = None, depth: bool = True) -> TrainingImages:
    return TrainingImages(lambda number: image(number, depth), 6, f"digest {depth}", tmp_path)


def request(**named: object) -> FitRequest:
    control = named.pop("control", None) or FitControl(tell=lambda _: None)
    # test shorthand
    return FitRequest("small", None, 0, "cpu", control, **named)  # type: ignore[arg-type]


def built(sizes: WorkingSizes = WITH_DEPTH, **switches: bool) -> aand.AandDetector:
    return aand.Aand().build(BuildRequest("small", sizes, switches=switches))


def fitted(
    sizes: WorkingSizes = WITH_DEPTH, epochs: int | None = None, **switches: bool
) -> aand.AandDetector:
    detector = built(sizes, **switches)
    aand.Aand().fit(
        detector, images(depth=sizes.depth is not None), replace(request(), epochs=epochs)
    )
    return detector


def trainer_of(detector: aand.AandDetector) -> aand._Trainer:
    asked = request()
    normal = aand.normal_views(detector.features.trunk, images(), SMALL.augmentation, 1, 0, "cpu")
    encoder = detector.features.encoder
    sigma = None if encoder is None else aand.depth_noise(encoder, normal)
    drawn, marks = aand.anomalous_views(detector.features.trunk, images(), 2, sigma, asked)
    made = aand._Trainer(detector, normal, drawn, marks, asked)
    made.measure()
    return made


def changed(before: dict[str, Tensor], module: torch.nn.Module) -> set[str]:
    """Names of the parts of the detector whose tensors differ."""
    return {
        name.split(".")[0] if not name.startswith("features") else name.split(".")[1]
        for name, tensor in module.state_dict().items()
        if not torch.equal(before[name], tensor)
    }


def test_training_moves_everything_but_the_backbone() -> None:
    detector = built()
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    aand.Aand().fit(detector, images(), request())
    moved = changed(before, detector)
    assert {"encoder", "gates", "generators", "bottleneck", "decoder"} <= moved
    assert "trunk" not in moved


def test_the_gate_learns_by_the_focal_loss_alone_and_the_generator_by_amplification_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = built()
    trainer = trainer_of(detector)
    batch = torch.arange(len(trainer.drawn))
    for removed, silent, learning in (
        ("focal_loss", detector.gates, detector.generators),
        ("amplification_loss", detector.generators, detector.gates),
    ):
        detector.zero_grad()
        with monkeypatch.context() as patch:
            patch.setattr(aand, removed, lambda *_: torch.zeros(()))
            trainer.amplify_loss(batch, torch.Generator().manual_seed(0)).backward()
        assert all(parameter.grad is None for parameter in silent.parameters()), removed
        assert all(parameter.grad is not None for parameter in learning.parameters()), removed


def test_stage_two_leaves_the_advanced_teacher_alone() -> None:
    detector = built()
    trainer = trainer_of(detector)
    detector.zero_grad()
    assert trainer.begin_distil() == len(trainer.normal)
    trainer.distil_loss(torch.arange(4), torch.Generator()).backward()
    assert all(parameter.grad is None for parameter in detector.stage_one().parameters())
    assert all(parameter.grad is None for parameter in detector.features.trunk.parameters())
    assert all(parameter.grad is not None for parameter in detector.stage_two().parameters())


def test_stage_two_is_taught_by_the_advanced_teacher_of_each_view() -> None:
    detector = built()
    trainer = trainer_of(detector)
    trainer.begin_distil()
    batch = torch.tensor([3, 0])
    with torch.no_grad():
        wanted = detector.advanced(trainer.levels("normal", trainer.normal, batch))
        plain = trainer.levels("normal", trainer.normal, batch)
    for taught, want, raw in zip(trainer.teacher, wanted, plain, strict=True):
        assert torch.allclose(taught[batch].float(), want, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(taught[batch].float(), raw, rtol=1e-3, atol=1e-3)


def test_standardized_levels_have_no_mean_and_unit_deviation() -> None:
    trainer = trainer_of(built(depth=False, standardized=True))
    levels = trainer.levels("normal", trainer.normal, torch.arange(len(trainer.normal)))
    masks = trainer.detector.features.masks(trainer.normal.foreground.float())
    for level, mask in zip(levels, masks, strict=True):
        rows = aand.rows_of(level, mask).double().numpy()
        assert np.abs(rows.mean(axis=0)).max() < 1e-4
        assert rows.std(axis=0) == pytest.approx(1, abs=1e-3)


def test_the_background_teaches_nothing() -> None:
    detector = built(depth=False)
    trainer = trainer_of(detector)
    batch = torch.arange(3)
    masks = detector.features.masks(trainer.normal.foreground[batch].float())
    assert 0 < float(masks[0].mean()) < 1
    levels = trainer.levels("normal", trainer.normal, batch)
    teacher = detector.advanced(levels)
    given = detector.given(teacher)
    own = aand.flat_distance(teacher[0], given[0], masks[0])
    other = aand.flat_distance(teacher[0] + 5 * (1 - masks[0]), given[0], masks[0])
    assert torch.equal(own, other)


@pytest.mark.parametrize("sizes", [WITH_DEPTH, COLOR_ONLY], ids=["with depth", "color only"])
def test_an_unusual_part_scores_higher_than_a_normal_one(sizes: WorkingSizes) -> None:
    detector = fitted(sizes, epochs=12)
    normal = image(20, sizes.depth is not None)
    color = normal.color.clone()
    color[..., 24:36, 24:36] = torch.tensor([250.0, 10.0, 10.0]).view(1, 3, 1, 1)
    with torch.no_grad():
        good, bad = detector(normal), detector(normal._replace(color=color))
    assert good.shape == (1, 1, *detector.map_size)
    assert float(good.min()) >= 0
    assert float(bad.max()) > 1.2 * float(good.max())


def test_depth_joins_unless_it_is_switched_off() -> None:
    joined, alone = fitted(), fitted(depth=False)
    pairs = zip(joined.features.channels, alone.features.channels, strict=True)
    assert [more - own for more, own in pairs] == [
        4 + 1, 16 + 4, 64 + 16,
    ]  # fmt: skip
    part = image(21)
    assert part.height is not None
    dented = part._replace(height=part.height - 3e-3 * (part.foreground * torch.rand(1, 1, 32, 32)))
    with torch.no_grad():
        assert not torch.allclose(joined(part), joined(dented))
        assert torch.equal(alone(part), alone(dented))


def test_normal_depth_has_its_share_of_the_energy() -> None:
    detector = built()
    trainer = trainer_of(detector)
    everything = torch.arange(len(trainer.normal))
    masks = detector.features.masks(trainer.normal.foreground.float())
    levels = trainer.levels("normal", trainer.normal, everything)
    for level, (joined, mask) in enumerate(zip(levels, masks, strict=True)):
        rows = aand.rows_of(joined, mask).double().square()
        own = aand.LITE0_LEVELS.channels[level]
        assert float(rows[:, :own].mean()) == pytest.approx(1, abs=1e-3)
        assert float(rows[:, own:].sum()) < 1.05 * DEPTH_SHARE * float(rows[:, :own].sum())


def test_each_part_can_be_left_out() -> None:
    part = image(22, depth=False)
    whole = fitted(COLOR_ONLY)(part)
    for left_out in ("gate", "generator", "hard"):
        assert not torch.allclose(fitted(COLOR_ONLY, **{left_out: False})(part), whole), left_out
    gate_alone = fitted(COLOR_ONLY, student=False)(part)
    assert float(gate_alone.max()) <= 3.0  # three gates, each at most 1


def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def weights(stops: list[int], folder: Path) -> str:
        detector = built()
        for stop in (*stops, None):
            control = FitControl(folder / "checkpoint.pt", "one", lambda _: None, stop_after=stop)
            try:
                aand.Aand().fit(detector, images(tmp_path / "cache"), request(control=control))
            except Interrupted:
                detector = built()
        return weights_digest(detector)

    for name in ("whole", "again", "parts"):
        (tmp_path / name).mkdir()
    whole = weights([], tmp_path / "whole")
    assert weights([], tmp_path / "again") == whole
    assert weights([1, 2, 1], tmp_path / "parts") == whole  # in the encoder, in stage 1, in stage 2


@pytest.mark.parametrize(
    "sizes",
    [WITH_DEPTH, pytest.param(COLOR_ONLY, marks=pytest.mark.long)],
    ids=["with depth", "color only"],
)
def test_it_exports_agrees_and_compiles(sizes: WorkingSizes, tmp_path: Path) -> None:
    deployed = (
        Deployed(Preprocess(64, 64, sizes.color, sizes.depth), fitted(sizes), 0.01)
        .requires_grad_(False)
        .eval()
    )
    feeds = sensor_bytes(sizes.depth is not None)
    report = export_checked(deployed, tmp_path / "fp32.onnx", [feeds])
    assert report.agreement.map < 1e-4
    assert report.layers


def test_the_paper_preset_has_the_papers_sizes() -> None:
    system = aand.Aand()
    sizes = system.sizes("paper", 800, 800, False)
    assert sizes == WorkingSizes((256, 256), None)
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    assert detector.features.grids == [(64, 64), (32, 32), (16, 16)]
    assert detector.features.channels == [256, 512, 1024]
    assert (len(detector.gates[0].normal), len(detector.gates[0].abnormal)) == (50, 50)


def test_the_paper_preset_asks_for_weights() -> None:
    with pytest.raises(ConfigError, match="--weights"):
        aand.Aand().build(BuildRequest("paper", WorkingSizes((64, 64), None)))
