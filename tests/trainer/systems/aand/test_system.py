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

from edge.errors import ConfigError
from tests.support.detectors import (
    COLOR_ONLY,
    WITH_DEPTH,
    answer_to,
    deployed_graph,
    digest_of_training,
    moved,
    neutral_feeds,
    quiet,
    sensor_bytes,
    stained,
    state,
    striped_part,
    training_images,
)
from tests.support.site_inputs import check_adaptation_stays_float32, other_site
from trainer.data.augment import Augmentation
from trainer.export.onnx_file import export_checked
from trainer.fit import FitControl
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import LITE0_LEVELS
from trainer.layers.discrepancy import flat_distance
from trainer.systems.aand import fit
from trainer.systems.aand.detector import AandDetector
from trainer.systems.aand.fit import Stages
from trainer.systems.aand.preset import COMPACT, PRESETS
from trainer.systems.aand.system import Aand
from trainer.systems.common import depth_encoder
from trainer.systems.common.depth_encoder import depth_noise
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.level_features import DEPTH_SHARE
from trainer.systems.common.views import anomalous_views, normal_views
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    COMPACT,
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


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setattr(depth_encoder, "STEPS", 2)


def request(epochs: int | None = None, control: FitControl | None = None) -> FitRequest:
    return FitRequest("small", epochs, 0, "cpu", control or quiet())


def built(sizes: WorkingSizes = WITH_DEPTH, **switches: bool) -> AandDetector:
    return Aand().build(BuildRequest("small", sizes, switches=switches))


def fitted(
    sizes: WorkingSizes = WITH_DEPTH, epochs: int | None = None, **switches: bool
) -> AandDetector:
    detector = built(sizes, **switches)
    Aand().fit(detector, training_images(sizes.depth is not None), request(epochs))
    return detector


def stages_of(detector: AandDetector) -> Stages:
    trunk, encoder = detector.features.trunk, detector.features.encoder
    normal = normal_views(trunk, training_images(), SMALL.augmentation, 1, 0, "cpu")
    sigma = None if encoder is None else depth_noise(encoder, normal)
    anomalous, marks = anomalous_views(trunk, training_images(), 2, sigma, request())
    made = Stages(detector, normal, anomalous, marks, "cpu")
    made.fit_scales()
    return made


def changed(before: dict[str, Tensor], module: torch.nn.Module) -> set[str]:
    """Names of the components of the detector whose tensors differ."""
    return {
        name.split(".")[0] if not name.startswith("features") else name.split(".")[1]
        for name in moved(before, module)
    }


def test_training_moves_everything_but_the_backbone() -> None:
    detector = built()
    before = state(detector)
    Aand().fit(detector, training_images(), request())
    names = changed(before, detector)
    assert {"encoder", "gates", "generators", "bottleneck", "decoder"} <= names
    assert "trunk" not in names


def test_the_gate_learns_by_the_focal_loss_alone_and_the_generator_by_amplification_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector = built()
    stages = stages_of(detector)
    batch = torch.arange(len(stages.anomalous))
    for removed, silent, learning in (
        ("focal_loss", detector.gates, detector.generators),
        ("amplification_loss", detector.generators, detector.gates),
    ):
        detector.zero_grad()
        with monkeypatch.context() as patch:
            patch.setattr(fit, removed, lambda *_: torch.zeros(()))
            stages.amplify_loss(batch, torch.Generator().manual_seed(0)).backward()
        assert all(parameter.grad is None for parameter in silent.parameters()), removed
        assert all(parameter.grad is not None for parameter in learning.parameters()), removed


def test_stage_two_leaves_the_advanced_teacher_alone() -> None:
    detector = built()
    stages = stages_of(detector)
    detector.zero_grad()
    assert stages.begin_distil() == len(stages.normal)
    stages.distil_loss(torch.arange(4), torch.Generator()).backward()
    assert all(parameter.grad is None for parameter in detector.stage_one().parameters())
    assert all(parameter.grad is None for parameter in detector.features.trunk.parameters())
    assert all(parameter.grad is not None for parameter in detector.stage_two().parameters())


def test_stage_two_is_taught_by_the_advanced_teacher_of_each_view() -> None:
    detector = built()
    stages = stages_of(detector)
    stages.begin_distil()
    batch = torch.tensor([3, 0])
    with torch.no_grad():
        expected = detector.advanced(stages.normal_levels(batch))
        plain = stages.normal_levels(batch)
    for taught, want, raw in zip(stages.teacher, expected, plain, strict=True):
        assert torch.allclose(taught[batch].float(), want, rtol=1e-3, atol=1e-3)
        assert not torch.allclose(taught[batch].float(), raw, rtol=1e-3, atol=1e-3)


def test_standardized_levels_have_no_mean_and_unit_deviation() -> None:
    stages = stages_of(built(depth=False, standardized=True))
    levels = stages.normal_levels(torch.arange(len(stages.normal)))
    masks = stages.detector.features.masks(stages.normal.foreground.float())
    for level, mask in zip(levels, masks, strict=True):
        rows = rows_of(level, mask).double().numpy()
        assert np.abs(rows.mean(axis=0)).max() < 1e-4
        assert rows.std(axis=0) == pytest.approx(1, abs=1e-3)


def test_the_background_teaches_nothing() -> None:
    detector = built(depth=False)
    stages = stages_of(detector)
    batch = torch.arange(3)
    masks = detector.features.masks(stages.normal.foreground[batch].float())
    assert 0 < float(masks[0].mean()) < 1
    levels = stages.normal_levels(batch)
    teacher = detector.advanced(levels)
    given = detector.reconstructed(teacher)
    own = flat_distance(teacher[0], given[0], masks[0])
    other = flat_distance(teacher[0] + 5 * (1 - masks[0]), given[0], masks[0])
    assert torch.equal(own, other)


@pytest.mark.parametrize("sizes", [WITH_DEPTH, COLOR_ONLY], ids=["with depth", "color only"])
def test_an_unusual_part_scores_higher_than_a_normal_one(sizes: WorkingSizes) -> None:
    detector = fitted(sizes, epochs=12)
    normal = striped_part(20, sizes.depth is not None)
    good, bad = answer_to(detector, normal).map, answer_to(detector, stained(normal)).map
    assert good.shape == (1, 1, *detector.map_size)
    assert float(good.min()) >= 0
    assert float(bad.max()) > 1.2 * float(good.max())


def test_depth_joins_unless_it_is_switched_off() -> None:
    joined, alone = fitted(), fitted(depth=False)
    pairs = zip(joined.features.channels, alone.features.channels, strict=True)
    assert [more - own for more, own in pairs] == [4 + 1, 16 + 4, 64 + 16]
    part = striped_part(21)
    assert part.height is not None
    dented = part._replace(height=part.height - 3e-3 * (part.foreground * torch.rand(1, 1, 32, 32)))
    assert not torch.allclose(answer_to(joined, part).map, answer_to(joined, dented).map)
    assert torch.equal(answer_to(alone, part).map, answer_to(alone, dented).map)


def test_normal_depth_has_its_share_of_the_energy() -> None:
    detector = built()
    stages = stages_of(detector)
    everything = torch.arange(len(stages.normal))
    masks = detector.features.masks(stages.normal.foreground.float())
    levels = stages.normal_levels(everything)
    for level, (joined, mask) in enumerate(zip(levels, masks, strict=True)):
        rows = rows_of(joined, mask).double().square()
        own = LITE0_LEVELS.channels[level]
        assert float(rows[:, :own].mean()) == pytest.approx(1, abs=1e-3)
        assert float(rows[:, own:].sum()) < 1.05 * DEPTH_SHARE * float(rows[:, :own].sum())


def test_each_part_can_be_left_out() -> None:
    part = striped_part(22, depth=False)

    def map_of(**switches: bool) -> Tensor:
        return answer_to(fitted(COLOR_ONLY, **switches), part).map

    whole = map_of()
    for left_out in ("gate", "generator", "hard"):
        assert not torch.allclose(map_of(**{left_out: False}), whole), left_out
    gate_alone = map_of(student=False)
    assert float(gate_alone.max()) <= 3.0  # three gates, each at most 1


def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def digest(name: str, *stops: int) -> str:
        def resume(detector: AandDetector, control: FitControl) -> None:
            images = training_images(cache=tmp_path / "cache")
            Aand().fit(detector, images, request(control=control))

        return digest_of_training(built, resume, tmp_path / name, stops)

    whole = digest("whole")
    assert digest("again") == whole
    assert digest("stopped", 1, 2, 1) == whole  # in the encoder, in stage 1, in stage 2


@pytest.mark.parametrize(
    "sizes",
    [WITH_DEPTH, pytest.param(COLOR_ONLY, marks=pytest.mark.long)],
    ids=["with depth", "color only"],
)
def test_it_exports_agrees_and_compiles(sizes: WorkingSizes, tmp_path: Path) -> None:
    detector = fitted(sizes)
    feeds = sensor_bytes(sizes.depth is not None)
    frames = [{**feeds, **neutral_feeds(detector)}, {**feeds, **other_site(detector)}]
    report = export_checked(deployed_graph(detector, sizes), tmp_path / "fp32.onnx", frames)
    assert report.agreement.map < 1e-4
    assert report.layers
    check_adaptation_stays_float32(tmp_path / "fp32.onnx")


def test_the_paper_preset_has_the_papers_sizes() -> None:
    system = Aand()
    sizes = system.sizes("paper", 800, 800, False)
    assert sizes == WorkingSizes((256, 256), None)
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    assert detector.features.grids == [(64, 64), (32, 32), (16, 16)]
    assert detector.features.channels == [256, 512, 1024]
    assert (len(detector.gates[0].normal), len(detector.gates[0].abnormal)) == (50, 50)


def test_the_paper_preset_asks_for_weights() -> None:
    with pytest.raises(ConfigError, match="--weights"):
        Aand().build(BuildRequest("paper", WorkingSizes((64, 64), None)))
