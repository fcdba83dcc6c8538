"""NTSNet wired: what the student learns from, what EMAN moves, what stays frozen, what the switches
change.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edge.errors import ConfigError, DataError
from tests.support.detectors import (
    COLOR_ONLY,
    WITH_DEPTH,
    answer_to,
    deployed_graph,
    digest_of_training,
    moved,
    neutral_feeds,
    neutral_site,
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
from trainer.fit import Curves, FitControl
from trainer.graph.sizes import WorkingSizes
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.views import normal_views
from trainer.systems.ntsnet.cot import CoT
from trainer.systems.ntsnet.detector import NtsnetDetector
from trainer.systems.ntsnet.fit import Teaching
from trainer.systems.ntsnet.preset import COMPACT, PRESETS, LeanShape
from trainer.systems.ntsnet.student import LeanStudent
from trainer.systems.ntsnet.system import Ntsnet
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    COMPACT,
    long_side=64,
    lean=LeanShape(stem=8, widths=(8, 16, 16), blocks=(1, 1, 1)),
    views=12,
    augmentation=Augmentation(5.0, 0.02, 0.02, 0.05, 3.0),
    epochs=4,
    steps_per_epoch=3,
    batch_size=4,
    map_side=16,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)


def built(sizes: WorkingSizes = WITH_DEPTH, **switches: bool) -> NtsnetDetector:
    return Ntsnet().build(BuildRequest("small", sizes, switches=switches))


def fit(
    detector: NtsnetDetector,
    depth: bool = True,
    epochs: int | None = None,
    cache: Path | None = None,
    control: FitControl | None = None,
) -> Curves:
    request = FitRequest("small", epochs, 0, "cpu", control or quiet())
    return Ntsnet().fit(detector, training_images(depth, cache), request)


def teaching_of(detector: NtsnetDetector, spoilt: float = 0.0) -> Teaching:
    """spoilt: added to the cached teacher's levels wherever there is no foreground."""
    views = normal_views(
        detector.features.trunk, training_images(), SMALL.augmentation, 1, 0, "cpu"
    )
    for level, mask in zip(
        views.levels, detector.features.masks(views.foreground.float()), strict=True
    ):
        level.add_(spoilt * (1 - mask).half())
    return Teaching(detector, views, "cpu")


def test_the_student_learns_and_the_teacher_stays() -> None:
    detector = built()
    before = state(detector)
    curve = fit(detector)["student"]
    names = moved(before, detector)
    assert {f"student.{name}" for name, _ in detector.student.named_parameters()} <= names
    assert not [name for name in names if name.startswith("features.trunk")]
    assert len(curve) == 4
    assert curve[-1] < 0.8 * curve[0]


@pytest.mark.parametrize("symmetric", [True, False])
def test_eman_moves_the_statistics_of_the_paired_layers_and_nothing_else(symmetric: bool) -> None:
    detector = built(eman=True, symmetric=symmetric)
    trunk = detector.features.trunk
    before = state(trunk)
    fit(detector, epochs=1)
    every = {name for name in before if name.endswith(("running_mean", "running_var"))}
    # the last BatchNorms of the three levels
    heads = {
        f"stages.{stage}.bn3.running_{kind}"
        for stage in ("1.1", "2.1", "4.2")
        for kind in ("mean", "var")
    }
    assert heads < every
    assert moved(before, trunk) == (every if symmetric else heads)


@pytest.mark.parametrize("eman", [True, False])
def test_no_gradient_reaches_the_teacher(eman: bool) -> None:
    detector = built(eman=eman).train()
    assert not detector.features.trunk.training
    teaching_of(detector).loss(torch.arange(4), torch.Generator()).backward()
    assert all(parameter.grad is None for parameter in detector.features.trunk.parameters())
    assert all(parameter.grad is not None for parameter in detector.student.parameters())


def test_the_loss_is_equations_10_and_11() -> None:
    detector = built()
    teaching, batch = teaching_of(detector), torch.arange(3)
    with torch.no_grad():
        got = float(teaching.loss(batch, torch.Generator()))
        given = detector.student_levels(teaching.views.image[batch].float())
    total = 0.0
    for level, (own, other) in enumerate(zip(teaching.teacher(batch), given, strict=True)):
        mask = (
            detector.features.masks(teaching.views.foreground[batch].float())[level][:, 0].numpy()
            > 0
        )
        first, second = own.double().numpy(), other.double().numpy()
        for number in range(3):
            rows = [array[number].transpose(1, 2, 0)[mask[number]] for array in (first, second)]
            floor = COMPACT.floor * own.shape[1]
            unit = [
                array / np.sqrt((array**2).sum(axis=1, keepdims=True) + floor) for array in rows
            ]
            total += 0.5 * ((unit[0] - unit[1]) ** 2).sum() / mask[number].sum() / 3
    assert got == pytest.approx(total, rel=1e-4)


def test_the_teacher_comes_from_the_cache_unless_eman_moves_it() -> None:
    cached, running = (teaching_of(built(eman=eman)) for eman in (False, True))
    batch = torch.tensor([0, 2])
    before = cached.teacher(batch), running.teacher(batch)
    for one, other in zip(*before, strict=True):
        # half floats, whole gray levels
        assert float((one - other).abs().mean()) < 0.05 * float(other.abs().mean())
    for teaching in (cached, running):
        for _, norm in teaching.detector.student.pairs(teaching.detector.features.trunk):
            assert norm.running_var is not None
            norm.running_var.mul_(4)
    assert all(
        torch.equal(*levels) for levels in zip(before[0], cached.teacher(batch), strict=True)
    )
    assert not any(
        torch.allclose(*levels) for levels in zip(before[1], running.teacher(batch), strict=True)
    )


def test_the_heads_start_with_the_teachers_mean_and_deviation() -> None:
    teaching = teaching_of(built(), spoilt=7.0)
    everything = torch.arange(len(teaching.views))
    masks = teaching.detector.features.masks(teaching.views.foreground.float())
    student = teaching.detector.student
    assert isinstance(student, LeanStudent)
    for head, level, mask in zip(student.heads, teaching.teacher(everything), masks, strict=True):
        assert isinstance(head, nn.Sequential)
        rows = rows_of(level, mask)
        torch.testing.assert_close(head[1].bias, rows.mean(dim=0))
        torch.testing.assert_close(head[1].weight, rows.std(dim=0, correction=0))


def test_the_background_teaches_nothing() -> None:
    losses = []
    for spoilt in (0.0, 7.0):
        teaching = teaching_of(built(), spoilt)
        assert any(float(level.abs().max()) > 0 for level in teaching.views.levels)
        losses.append(float(teaching.loss(torch.arange(4), torch.Generator()).detach()))
    assert losses[0] == losses[1]


def test_color_only_judges_the_whole_region() -> None:
    detector = built(COLOR_ONLY)
    part = striped_part(0, depth=False)
    assert all(float(mask.min()) == 1 for mask in detector.features.masks(part.foreground))


@pytest.mark.parametrize("eman", [True, False])
def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(
    eman: bool, tmp_path: Path
) -> None:
    def digest(name: str, *stops: int) -> str:
        def resume(detector: NtsnetDetector, control: FitControl) -> None:
            fit(detector, cache=tmp_path / "cache", control=control)

        return digest_of_training(lambda: built(eman=eman), resume, tmp_path / name, stops)

    whole = digest("whole")
    assert digest("again") == whole
    assert digest("stopped", 1, 2) == whole


def test_a_finished_trainings_checkpoint_gives_the_finished_detector(tmp_path: Path) -> None:
    finished, resumed = built(eman=True), built(eman=True)
    for detector in (finished, resumed):
        fit(detector, control=quiet(tmp_path / "checkpoint.pt"))
    assert moved(state(finished), resumed) == set()


def test_no_hook_outlives_the_training() -> None:
    detector = built(eman=True)
    fit(detector, epochs=1)
    before = state(detector.features.trunk)
    detector.train()
    detector(striped_part(0), **neutral_site(detector))
    assert moved(before, detector.features.trunk) == set()


@pytest.mark.parametrize("sizes", [WITH_DEPTH, COLOR_ONLY], ids=["with depth", "color only"])
def test_an_unusual_part_scores_higher_than_a_normal_one(sizes: WorkingSizes) -> None:
    depth = sizes.depth is not None
    detector = built(sizes)
    fit(detector, depth, epochs=15)
    normal = striped_part(20, depth)
    good, bad = answer_to(detector, normal).map, answer_to(detector, stained(normal)).map
    assert good.shape == (1, 1, *detector.map_size) == (1, 1, 16, 16)
    assert float(good.min()) >= 0
    inside = (slice(None), slice(None), slice(4, 12), slice(4, 12))
    assert float(bad[inside].max()) > 1.2 * float(good[inside].max())


def test_without_cot_the_same_student_has_plain_convolutions() -> None:
    whole, plain = built(), built(cot=False)
    assert sum(isinstance(module, CoT) for module in whole.modules()) == 3
    assert not any(isinstance(module, CoT) for module in plain.modules())
    shapes = [
        [level.shape for level in detector.student_levels(striped_part(0).color)]
        for detector in (whole, plain)
    ]
    assert shapes[0] == shapes[1] == [(1, 24, 16, 16), (1, 40, 8, 8), (1, 112, 4, 4)]
    assert fit(plain, epochs=1)["student"][0] > 0


def test_the_symmetric_student_is_the_teachers_shape_with_other_weights() -> None:
    detector = built(symmetric=True)
    teacher = {name: tensor.shape for name, tensor in detector.features.trunk.named_parameters()}
    student = dict(detector.student.named_parameters())
    assert {name: tensor.shape for name, tensor in student.items()} == teacher
    first = detector.features.trunk.get_parameter("stem.0.weight")
    assert not torch.equal(student["stem.0.weight"], first)
    assert fit(detector, epochs=1)["student"][0] > 0


def test_product_multiplies_the_levels_maps_and_sum_adds_them() -> None:
    added, multiplied = built(), built(product=True)
    part = striped_part(3)
    with torch.no_grad():
        distances = added.distances(added.features(part), added.student_levels(part.color))
        masks = added.features.masks(part.foreground)
        maps = [
            one(distance, mask)
            for one, distance, mask in zip(added.to_map.to_map, distances, masks, strict=True)
        ]
        summed, product = answer_to(added, part).map, answer_to(multiplied, part).map
        torch.testing.assert_close(summed, maps[0] + maps[1] + maps[2])
        torch.testing.assert_close(product, maps[0] * maps[1] * maps[2])


def test_the_paper_preset_has_the_papers_sizes() -> None:
    system = find_system("ntsnet")
    sizes = system.sizes("paper", 800, 800, False)
    assert sizes == WorkingSizes((256, 256), None)
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    assert isinstance(detector, NtsnetDetector)
    assert detector.switches == {"cot": True, "symmetric": False, "eman": True, "product": False}
    with torch.no_grad():
        given = detector.student_levels(torch.rand(1, 3, 256, 256))
    assert [level.shape[1:] for level in given] == [(64, 64, 64), (128, 32, 32), (256, 16, 16)]
    # two in each of six residual blocks
    assert sum(isinstance(module, CoT) for module in detector.modules()) == 12
    pairs = detector.student.pairs(detector.features.trunk)
    assert len(pairs) == 15
    assert all(own.num_features == other.num_features for own, other in pairs)
    megabytes = sum(4e-6 * tensor.numel() for tensor in detector.parameters())
    assert megabytes == pytest.approx(17.3, rel=0.03)  # table 2


def test_the_paper_presets_symmetric_student_is_the_baselines() -> None:
    switches = {"cot": False}
    detector = Ntsnet().build(
        BuildRequest("paper", COLOR_ONLY, random_backbone=True, switches=switches)
    )
    megabytes = sum(4e-6 * tensor.numel() for tensor in detector.parameters())
    assert megabytes == pytest.approx(22.4, rel=0.03)  # table 2, MKD
    assert len(detector.student.pairs(detector.features.trunk)) == 15


def test_the_paper_preset_asks_for_weights_and_checks_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--weights"):
        Ntsnet().build(BuildRequest("paper", COLOR_ONLY))
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(DataError, match="does not fit resnet18"):
        Ntsnet().build(BuildRequest("paper", COLOR_ONLY, tmp_path / "wrong.pth"))


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("small", WITH_DEPTH),
        pytest.param("small", COLOR_ONLY, marks=pytest.mark.long),
        pytest.param("paper", COLOR_ONLY, marks=pytest.mark.long),
    ],
)
def test_it_exports_and_agrees_and_compact_compiles(
    preset: str, sizes: WorkingSizes, tmp_path: Path
) -> None:
    detector = Ntsnet().build(BuildRequest(preset, sizes, random_backbone=preset == "paper"))
    if preset == "small":
        fit(detector, sizes.depth is not None, epochs=1)
    deployed = deployed_graph(detector, sizes)
    feeds = sensor_bytes(sizes.depth is not None)
    frames = [{**feeds, **neutral_feeds(detector)}, {**feeds, **other_site(detector)}]
    compiled = preset == "small"  # the paper's student takes the compiler a minute
    report = export_checked(deployed, tmp_path / "fp32.onnx", frames, compiled)
    assert report.agreement.map < 1e-4
    assert bool(report.layers) == compiled
    check_adaptation_stays_float32(tmp_path / "fp32.onnx")
