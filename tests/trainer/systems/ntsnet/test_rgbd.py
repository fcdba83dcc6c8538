"""NTSNet with depth: what is trained in which order, what the student sees, that a dent which color
does not show is found, and that color alone is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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
from tests.trainer.systems.ntsnet.test_system import SMALL as COLOR_SMALL
from trainer.export.onnx_file import export_checked
from trainer.fit import Curves, FitControl
from trainer.graph.prepared import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers import height_anomalies
from trainer.layers.typed import required
from trainer.systems.common import depth_encoder
from trainer.systems.common.foreground import rows_of
from trainer.systems.common.level_features import DEPTH_BOUND
from trainer.systems.common.views import normal_views
from trainer.systems.ntsnet.detector import NtsnetDetector
from trainer.systems.ntsnet.fit import Teaching
from trainer.systems.ntsnet.preset import COMPACT, COMPACT_RGBD, PRESETS, NtsnetPreset
from trainer.systems.ntsnet.student import HEIGHT_BOUND, LeanStudent, RelativeHeight
from trainer.systems.ntsnet.system import Ntsnet
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    COLOR_SMALL, epochs=3, depth=replace(required(COMPACT_RGBD.depth), encoder_epochs=2)
)
COLOR, DEPTH = [24, 40, 112], [4 + 1, 16 + 4, 64 + 16]  # channels of the levels, finest first


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small-rgbd", SMALL)


def built(**switches: bool) -> NtsnetDetector:
    return Ntsnet().build(BuildRequest("small-rgbd", WITH_DEPTH, switches=switches))


def fit(
    detector: NtsnetDetector,
    epochs: int | None = None,
    cache: Path | None = None,
    control: FitControl | None = None,
) -> Curves:
    request = FitRequest("small-rgbd", epochs, 0, "cpu", control or quiet())
    return Ntsnet().fit(detector, training_images(cache=cache), request)


def lean(detector: NtsnetDetector) -> LeanStudent:
    assert isinstance(detector.student, LeanStudent)
    return detector.student


def dented(part: Prepared, deep_m: float = 3e-3) -> Prepared:
    """The part with a dent in its middle that its color does not show."""
    assert part.height is not None
    height = part.height.clone()
    height[..., 14:18, 14:18] -= deep_m
    return part._replace(height=height)


@pytest.fixture(scope="module")
def trained() -> NtsnetDetector:
    """One that has learned what a dent is, of synthetic ones of twice as many cells as else."""
    threads, blobs = torch.get_num_threads(), height_anomalies._blobs

    def larger(
        foreground: Tensor,
        generator: torch.Generator,
        strengths: tuple[float, float],
        radii: tuple[float, float],
        longest: float,
    ) -> Tensor:
        return blobs(foreground, generator, strengths, (2 * radii[0], 2 * radii[1]), longest)

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        longer = replace(SMALL, epochs=12, depth=replace(required(SMALL.depth), encoder_epochs=80))
        patch.setitem(PRESETS, "small-rgbd", longer)
        patch.setattr(height_anomalies, "_blobs", larger)
        detector = built()
        fit(detector)
    torch.set_num_threads(threads)
    return detector


def test_the_preset_is_compact_with_depth() -> None:
    assert PRESETS["compact-rgbd"] is COMPACT_RGBD
    assert replace(COMPACT_RGBD, depth=None) == COMPACT
    assert COMPACT_RGBD.depth is not None
    assert all(PRESETS[name].depth is None for name in ("paper", "compact"))


def test_the_depths_encoder_is_trained_first_then_the_student() -> None:
    detector = built()
    before = state(detector)
    curves = fit(detector)
    assert list(curves) == ["depth", "student"]
    assert [len(curve) for curve in curves.values()] == [2, 3]
    names = moved(before, detector)
    assert {f"student.{name}" for name, _ in detector.student.named_parameters()} <= names
    assert any(name.startswith("features.encoder") for name in names)
    assert {f"features.depth_gain_{level}" for level in range(3)} <= names
    assert not [name for name in names if name.startswith("features.trunk")]


def test_the_students_gradient_reaches_neither_teacher_nor_encoder() -> None:
    detector = built()
    teaching = teaching_of(detector)
    teaching.begin()
    loss = teaching.loss(torch.arange(4), torch.Generator())
    torch.autograd.backward(loss)
    assert all(parameter.grad is None for parameter in detector.features.parameters())
    assert all(parameter.grad is not None for parameter in detector.student.parameters())


def teaching_of(detector: NtsnetDetector) -> Teaching:
    views = normal_views(
        detector.features.trunk, training_images(), SMALL.augmentation, 1, 0, "cpu"
    )
    return Teaching(detector, views, "cpu")


def test_the_student_is_taught_what_the_trained_encoder_says_of_each_view(
    trained: NtsnetDetector,
) -> None:
    teaching, batch = teaching_of(trained), torch.tensor([3, 0])
    teaching.begin()
    taught = teaching.teacher(batch)
    with torch.no_grad():
        wanted = trained.features.apart(trained.features.raw(teaching.views.prepared(batch, "cpu")))
    assert [level.shape[1] for level in taught] == COLOR + DEPTH
    for own, other in zip(taught[3:], wanted[3:], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
        assert float(own.abs().max()) > 0


def test_normal_depth_has_a_root_mean_square_of_one_over_the_bound(trained: NtsnetDetector) -> None:
    teaching = teaching_of(trained)
    teaching.begin()
    levels = teaching.teacher(torch.arange(len(teaching.views)))[3:]
    for level, mask in zip(levels, teaching.masks, strict=True):
        rows = rows_of(level, mask)
        assert float(rows.square().mean().sqrt()) == pytest.approx(1 / DEPTH_BOUND, rel=0.1)


def test_height_is_over_the_mean_of_normal_parts_in_their_spread_and_clipped() -> None:
    generator = torch.Generator().manual_seed(0)
    foreground = torch.zeros(2, 1, 8, 8)
    foreground[..., 2:7] = 1
    height = 0.02 + 0.003 * torch.randn(2, 1, 8, 8, generator=generator)
    height[foreground == 0] = 9.0  # the background does not count
    relative = RelativeHeight()
    relative.measure(height, foreground)
    given = relative(height, foreground)
    inside = given[foreground > 0]
    assert float(inside.mean()) == pytest.approx(0, abs=1e-3)
    assert float(inside.std(correction=0)) == pytest.approx(1, rel=1e-3)
    assert not given[foreground == 0].any()
    far = relative(height + 1.0, foreground)
    assert far[foreground > 0].eq(HEIGHT_BOUND).all()


def test_a_flat_part_without_noise_and_one_without_foreground_leave_finite_heights() -> None:
    relative = RelativeHeight()
    height, foreground = torch.full((1, 1, 4, 4), 0.01), torch.ones(1, 1, 4, 4)
    relative.measure(height, foreground)
    assert not relative(height, foreground).any()
    relative.measure(height, torch.zeros(1, 1, 4, 4))
    assert relative(height + 1e-4, foreground).isfinite().all()


def test_the_student_has_a_level_of_depth_at_each_level_of_color() -> None:
    part = striped_part(0)
    levels = built().levels_of(part)
    assert [level.shape[1:] for level in levels] == [
        (channels, side, side)
        for group in (COLOR, DEPTH)
        for channels, side in zip(group, (16, 8, 4), strict=True)
    ]


def test_the_student_sees_height_in_all_that_it_says_and_none_outside_the_part() -> None:
    detector, part = built(), striped_part(0)
    lean(detector)  # its heights are measured in a training; here mean 0 and spread 1 m
    assert part.height is not None
    with torch.no_grad():
        plain, other = detector.levels_of(part), detector.levels_of(dented(part, 0.5))
        table = part._replace(height=part.height + 0.5 * (1 - part.foreground))
        unseen = detector.levels_of(table)
    assert not any(torch.equal(*pair) for pair in zip(plain, other, strict=True))
    assert all(torch.equal(*pair) for pair in zip(plain, unseen, strict=True))


def test_a_dent_that_color_does_not_show_raises_the_score(trained: NtsnetDetector) -> None:
    inside = (slice(None), slice(None), slice(4, 12), slice(4, 12))
    for number in (20, 21, 22):
        part = striped_part(number)
        good, bad = (answer_to(trained, one).map[inside] for one in (part, dented(part)))
        assert float(bad.max()) > 3 * float(good.max())
        assert int(bad.argmax()) in {27, 28, 35, 36}, "the middle"


def test_a_dent_is_found_by_depths_own_share_of_the_distance(trained: NtsnetDetector) -> None:
    """A hundred channels of color do not drown it."""
    part = striped_part(20)

    def shares(one: Prepared) -> tuple[float, float]:
        """Of color's distance and of depth's, the largest of all levels over the foreground."""
        with torch.no_grad():
            teacher = trained.features.apart(trained.features.raw(one))
            student = trained.levels_of(one)
            masks = trained.features.masks(one.foreground)
            whole = trained.distances(teacher, student)
            still = trained.distances(teacher, [*student[:3], *teacher[3:]])
        color, depth = (
            max(float((level * mask).max()) for level, mask in zip(levels, masks, strict=True))
            for levels in (still, [a - b for a, b in zip(whole, still, strict=True)])
        )
        return color, depth

    (color, depth), (_, with_dent) = shares(part), shares(dented(part))
    assert with_dent > 4 * depth
    assert with_dent > color


def test_a_stain_that_height_does_not_show_raises_the_score_as_well(
    trained: NtsnetDetector,
) -> None:
    part = striped_part(20)
    good, bad = (answer_to(trained, one).map for one in (part, stained(part)))
    assert float(good.min()) >= 0
    inside = (slice(None), slice(None), slice(4, 12), slice(4, 12))
    assert float(bad[inside].max()) > 1.2 * float(good[inside].max())


def test_depth_outside_the_part_changes_nothing(trained: NtsnetDetector) -> None:
    part = striped_part(23)
    assert part.height is not None
    table = part._replace(height=part.height + 0.5 * (1 - part.foreground))
    assert torch.equal(answer_to(trained, part).map, answer_to(trained, table).map)


@pytest.mark.parametrize("eman", [True, False])
def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(
    eman: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_encoder, "STEPS", 2)

    def digest(name: str, *stops: int) -> str:
        def resume(detector: NtsnetDetector, control: FitControl) -> None:
            fit(detector, cache=tmp_path / "cache", control=control)

        return digest_of_training(lambda: built(eman=eman), resume, tmp_path / name, stops)

    whole = digest("whole")
    assert digest("again") == whole
    assert digest("stopped", 1, 2, 1) == whole  # in the encoder, before and in the student


def test_a_finished_trainings_checkpoint_gives_the_finished_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth_encoder, "STEPS", 2)
    finished, resumed = built(), built()
    for detector in (finished, resumed):
        fit(detector, control=quiet(tmp_path / "checkpoint.pt"))
    assert moved(state(finished), resumed) == set()


def test_a_product_without_depth_is_refused_before_an_image_is_read() -> None:
    for preset in ("compact-rgbd", "small-rgbd"):
        with pytest.raises(ConfigError, match=r"^[^.]*--no-depth[^.]*--preset compact$"):
            Ntsnet().sizes(preset, 64, 64, False)
    with pytest.raises(ConfigError, match="--preset compact"):
        Ntsnet().build(BuildRequest("compact-rgbd", COLOR_ONLY))
    assert Ntsnet().sizes("compact", 64, 64, False) == WorkingSizes((256, 256), None)


def test_the_symmetric_student_is_refused() -> None:
    with pytest.raises(ConfigError, match="symmetric"):
        built(symmetric=True)


def test_a_station_shifts_levels_of_color_and_depth_of_teacher_and_student(
    trained: NtsnetDetector,
) -> None:
    part, channels = striped_part(24), [*COLOR, *DEPTH] * 2
    assert trained.adaptation.channels == channels
    plain = answer_to(trained, part)
    assert plain.moments is not None
    assert plain.moments.shape == (1, 2, sum(channels))
    with torch.no_grad():
        groups = [*trained.features.raw(part), *trained.levels_of(part)]
        masks = trained.features.masks(part.foreground) * 4
    wanted = [rows_of(group, mask).mean(dim=0) for group, mask in zip(groups, masks, strict=True)]
    torch.testing.assert_close(plain.moments[0, 0], torch.cat(wanted), rtol=1e-3, atol=1e-5)
    start = 0
    for own in channels:
        shift = torch.zeros(sum(channels))
        shift[start : start + own] = torch.linspace(0.02, 0.1, own)
        assert not torch.equal(answer_to(trained, part, shift=shift).map, plain.map)
        start += own


def test_shift_and_scale_undo_what_another_camera_does_to_depth(trained: NtsnetDetector) -> None:
    """The encoder's answer times 1.5 and with an offset, in the teacher, is brought back."""
    part = striped_part(25)
    plain = answer_to(trained, part).map
    first = sum(COLOR)
    count = sum(trained.adaptation.channels)
    shift, scale = torch.zeros(count), torch.ones(count)
    shift[first : first + sum(DEPTH)], scale[first : first + sum(DEPTH)] = 0.3, 1 / 1.5
    original = trained.features.folded
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained.features, "folded", _changed(original))
        changed = answer_to(trained, part).map
        undone = answer_to(trained, part, shift=shift, scale=scale).map
    assert float((changed - plain).abs().max()) > 0.01
    torch.testing.assert_close(undone, plain, rtol=1e-3, atol=1e-4)


def _changed(original: object) -> object:
    def folded(level: int, depth: tuple[Tensor, Tensor]) -> Tensor:
        assert callable(original)
        return torch.as_tensor(original(level, depth)) * 1.5 + 0.3

    return folded


def test_it_exports_agrees_and_compiles(trained: NtsnetDetector, tmp_path: Path) -> None:
    feeds = sensor_bytes(depth=True, noise=3)
    frames = [{**feeds, **neutral_feeds(trained)}, {**feeds, **other_site(trained)}]
    path = tmp_path / "fp32.onnx"
    report = export_checked(deployed_graph(trained, WITH_DEPTH), path, frames)
    assert report.agreement.map < 1e-4
    assert report.layers
    check_adaptation_stays_float32(path)


def test_the_presets_shapes_are_those_of_compact() -> None:
    def parameters(preset: NtsnetPreset) -> int:
        assert preset.lean is not None
        student = LeanStudent(preset.lean, preset.backbone.channels, True, preset.groups)
        return sum(tensor.numel() for tensor in student.parameters())

    sizes = Ntsnet().sizes("compact-rgbd", 800, 800, True)
    assert (sizes.color, sizes.depth) == ((256, 256), (128, 128))
    detector = Ntsnet().build(BuildRequest("compact-rgbd", sizes))
    more = sum(tensor.numel() for tensor in detector.student.parameters())
    assert parameters(COMPACT) < more < 1.1 * parameters(COMPACT)
