"""Shift, scale and moments, the same on all five systems: which features they are of, that neutral
values change nothing, and that fitted ones undo what changed every feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.bundle.manifest import ChannelStatistics
from edge.engine.onnx_cpu import OnnxCpuEngine
from tests.support.detectors import (
    answer_to,
    deployed_graph,
    neutral_feeds,
    neutral_site,
    sensor_bytes,
    striped_part,
)
from tests.support.site_inputs import check_adaptation_stays_float32, other_site
from trainer.export.onnx_file import export_checked
from trainer.graph.prepared import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.adaptation import Adaptation
from trainer.systems import registry
from trainer.systems.aand.preset import COMPACT as AAND
from trainer.systems.aand.preset import PRESETS as AAND_PRESETS
from trainer.systems.m3dm.detector import SPARE
from trainer.systems.m3dm.point_features import PointSpec
from trainer.systems.m3dm.preset import COMPACT as M3DM
from trainer.systems.m3dm.preset import PRESETS as M3DM_PRESETS
from trainer.systems.mats.preset import COMPACT as MATS
from trainer.systems.mats.preset import PRESETS as MATS_PRESETS
from trainer.systems.ntsnet.preset import COMPACT as NTSNET
from trainer.systems.ntsnet.preset import PRESETS as NTSNET_PRESETS
from trainer.systems.ntsnet.preset import LeanShape
from trainer.systems.seam import BuildRequest
from trainer.systems.vmpfd.preset import COMPACT as VMPFD
from trainer.systems.vmpfd.preset import PRESETS as VMPFD_PRESETS

SYSTEMS = ["mats", "ntsnet", "aand", "m3dm", "vmpfd"]
CROP = (64, 64)
SIZES = {"depth": WorkingSizes(CROP, (32, 32), CROP), "color": WorkingSizes(CROP, None, CROP)}
PLAIN = [(name, kind) for name in SYSTEMS for kind in SIZES]
LEVELS = 24 + 40 + 112  # of Lite0 at 1/4, 1/8 and 1/16


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    points = PointSpec(32, 16, 4, 0, 12, 6, (8, 16, 16), 24, 2, 3, (1, 2), True, "curve")
    lean = LeanShape(stem=8, widths=(8, 16, 16), blocks=(1, 1, 1))
    vim = {"width": 16, "inner": 24, "states": 2, "blocks": 2, "code": 8, "decoder": (16,) * 5}
    mixture = {"dims": 6, "hidden": 16, "adapter": 8}
    for presets, preset in (
        (MATS_PRESETS, replace(MATS, long_side=64, map_side=16)),
        (AAND_PRESETS, replace(AAND, long_side=64, widths=(8, 8, 8), out=16, map_side=16)),
        (NTSNET_PRESETS, replace(NTSNET, long_side=64, lean=lean, map_side=16)),
        (M3DM_PRESETS, replace(M3DM, side=64, points=points, fused=None, map_side=16)),
        (VMPFD_PRESETS, replace(VMPFD, long_side=64, map_side=16, image_side=16, **vim, **mixture)),
    ):
        monkeypatch.setitem(presets, "small", preset)


def built(name: str, sizes: WorkingSizes, **switches: bool) -> Any:
    """Untrained; a seed's random weights, but for the backbone where its package has it."""
    random = name == "vmpfd"  # no teacher for its descriptors
    request = BuildRequest("small", sizes, random_backbone=random, switches=switches)
    detector = registry.find_system(name).build(request)
    if name == "m3dm":
        torch.manual_seed(0)
        for _, bank in detector.named_banks():
            bank.fill(torch.randn(20, len(bank.center)))
    return detector.requires_grad_(False)


def part_of(number: int, kind: str) -> Prepared:
    """A part in the left half of the view: it covers some of the cells of every grid."""
    part = striped_part(number, kind == "depth")
    if kind == "color":
        region = torch.zeros(1, 1, 64, 64)
        region[..., 12:52, 4:28] = 1
        return part._replace(foreground=region)
    covered = torch.zeros(1, 1, 32, 32)
    covered[..., 6:26, 2:14] = 1
    noise = 1e-4 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(number))
    intrinsics, plane = torch.tensor([[60.0, 60, 31.5, 31.5]]), torch.tensor([[0.0, 0, 1, 0.3]])
    return part._replace(
        height=covered * (2e-3 + noise),
        foreground=covered,
        read=covered,
        intrinsics=intrinsics,
        plane=plane,
    )


class Watched(nn.Module):
    """In the place of an adaptation: passes through it, and keeps what it was given.

    gain, offset: (C,), by which all features are changed first.
    """

    def __init__(self, own: Adaptation) -> None:
        super().__init__()
        self.own, self.inputs = own, own.inputs
        self.groups: list[Tensor] = []
        self.masks: list[Tensor] = []
        self.gain = torch.ones(sum(own.channels))
        self.offset = torch.zeros(sum(own.channels))

    def forward(
        self, groups: Sequence[Tensor], masks: Sequence[Tensor], shift: Tensor, scale: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        gains, offsets = (
            values.view(1, -1, 1, 1).split(self.own.channels, dim=1)
            for values in (self.gain, self.offset)
        )
        changed = zip(groups, gains, offsets, strict=True)
        self.groups, self.masks = [own * gain + offset for own, gain, offset in changed], [*masks]
        passed: tuple[list[Tensor], Tensor] = self.own(self.groups, masks, shift, scale)
        return passed


class Untouched(nn.Module):
    """In the place of an adaptation: a detector of before."""

    def __init__(self, own: Adaptation) -> None:
        super().__init__()
        self.inputs = own.inputs

    def forward(self, groups: Sequence[Tensor], *_: Any) -> tuple[list[Tensor], None]:
        return [*groups], None


def watched(detector: Any) -> Watched:
    detector.adaptation = Watched(detector.adaptation)
    return detector.adaptation


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_neutral_values_leave_the_map_as_it_was_bit_for_bit(name: str, kind: str) -> None:
    detector, part = built(name, SIZES[kind]), part_of(1, kind)
    now = answer_to(detector, part)
    detector.adaptation = Untouched(detector.adaptation)
    before = answer_to(detector, part)
    assert torch.equal(now.map, before.map)
    assert float(now.map.std()) > 0
    assert now.moments is not None
    assert [spec.name for spec in detector.site_inputs][:2] == ["shift", "scale"]


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_moments_are_those_of_the_part_alone(name: str, kind: str) -> None:
    detector, part = built(name, SIZES[kind]), part_of(2, kind)
    seen = watched(detector)
    found = answer_to(detector, part, **other_tensors(detector)).moments
    columns = []
    for features, mask in zip(seen.groups, seen.masks, strict=True):
        inside = mask[0, 0].numpy() > 0
        assert inside.any()
        assert not inside.all()
        assert inside.tolist() == _covered(part, inside.shape).tolist()
        cells = features[0].double().numpy()[:, inside]  # (Ci, M)
        columns.append(np.stack([cells.mean(axis=1), cells.var(axis=1)]))
    wanted = np.concatenate(columns, axis=1)
    assert found is not None
    np.testing.assert_allclose(found[0].numpy(), wanted, rtol=1e-3, atol=1e-5)


def _covered(part: Prepared, grid: tuple[int, ...]) -> NDArray[np.bool_]:
    """Cells of a grid with any foreground, by looking at each."""
    image = part.foreground[0, 0].numpy()
    rows, columns = (
        np.arange(cells) * size / cells for cells, size in zip(grid, image.shape, strict=True)
    )
    high, wide = (max(size // cells, 1) for cells, size in zip(grid, image.shape, strict=True))
    return np.array(
        [
            [image[int(v) : int(v) + high, int(u) : int(u) + wide].any() for u in columns]
            for v in rows
        ]
    )


def other_tensors(detector: Any) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in other_site(detector).items()}


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_fitted_shift_and_scale_undo_a_gain_and_an_offset_of_every_feature(
    name: str, kind: str
) -> None:
    """As a station fits them: to the moments of ten parts, pooled."""
    detector = built(name, SIZES[kind])
    parts = [part_of(number, kind) for number in range(10)]
    seen = watched(detector)
    plain = [answer_to(detector, part) for part in parts]
    reference = pooled(plain)
    generator = torch.Generator().manual_seed(3)
    channels = len(reference.mean)
    seen.gain = 0.6 + 1.2 * torch.rand(channels, generator=generator)
    seen.offset = torch.randn(channels, generator=generator)
    moved = [answer_to(detector, part) for part in parts]
    site = fitted(reference, pooled(moved))
    undone = [answer_to(detector, part, **site) for part in parts]
    for before, changed, after in zip(plain, moved, undone, strict=True):
        moved_by = float((changed.map - before.map).abs().max())
        assert moved_by > 0.01 * float(before.map.abs().max())
        assert float((after.map - before.map).abs().max()) < 0.02 * moved_by


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_each_group_of_channels_acts_on_the_map(name: str, kind: str) -> None:
    detector, part = built(name, SIZES[kind]), part_of(5, kind)
    count, start = sum(detector.adaptation.channels), 0
    shift = torch.full((count,), 0.1)  # so that a feature of 0 is not 0 any more
    before = answer_to(detector, part, shift=shift).map
    for own in detector.adaptation.channels:
        inside = slice(start, start + own)
        moved, wider = shift.clone(), torch.ones(count)
        moved[inside] += torch.linspace(0.2, 1, own)
        wider[inside] += torch.linspace(0.2, 1, own)
        assert not torch.equal(answer_to(detector, part, shift=moved).map, before)
        assert not torch.equal(answer_to(detector, part, shift=shift, scale=wider).map, before)
        start += own


def pooled(answers: Sequence[Any]) -> ChannelStatistics:
    return ChannelStatistics.of_parts([answer.moments.numpy() for answer in answers])


def fitted(reference: ChannelStatistics, site: ChannelStatistics) -> dict[str, Tensor]:
    """What a station sets: a channel that hardly varies only loses its offset here."""
    (mean, deviation), (own_mean, own) = (
        (np.array(one.mean), np.array(one.deviation)) for one in (reference, site)
    )
    varies = (deviation > 1e-4) & (own > 1e-4)
    scale = np.where(varies, np.clip(deviation / np.where(varies, own, 1), 0.5, 2), 1)
    shift = own_mean - mean / scale
    return {
        "shift": torch.from_numpy(shift.astype(np.float32)),
        "scale": torch.from_numpy(scale.astype(np.float32)),
    }


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_without_foreground_moments_are_zero(name: str, kind: str) -> None:
    detector, part = built(name, SIZES[kind]), part_of(3, kind)
    empty = part._replace(foreground=torch.zeros_like(part.foreground))
    found = answer_to(detector, empty, **other_tensors(detector)).moments
    assert found is not None
    assert not found.any()


def test_mats_shifts_the_backbones_features_then_depths_encoding() -> None:
    detector, part = built("mats", SIZES["depth"]), part_of(4, "depth")
    seen = watched(detector)
    answer_to(detector, part)
    color, relief = seen.groups
    assert (color.shape[1], relief.shape[1]) == (40 + 112 + 16, 64)
    with torch.no_grad():
        assert torch.equal(color[:, : 40 + 112], detector.color_features(part.color))


def test_aand_shifts_raw_levels_of_color_then_of_depth() -> None:
    detector, part = built("aand", SIZES["depth"]), part_of(4, "depth")
    seen = watched(detector)
    answer_to(detector, part)
    assert [group.shape[1] for group in seen.groups] == [24, 40, 112, 4 + 1, 16 + 4, 64 + 16]
    with torch.no_grad():
        for own, level in zip(seen.groups, detector.features.trunk(part.color), strict=False):
            assert torch.equal(own, level)


def test_ntsnet_shifts_teacher_and_student_each_by_its_own() -> None:
    detector, part = built("ntsnet", SIZES["depth"]), part_of(4, "depth")
    seen = watched(detector)
    answer_to(detector, part)
    with torch.no_grad():
        teacher = detector.features.trunk(part.color)
        student = detector.student_levels(part.color)
    assert [group.shape[1] for group in seen.groups] == [24, 40, 112, 24, 40, 112]
    for own, level in zip(seen.groups, [*teacher, *student], strict=True):
        assert torch.equal(own, level)


def test_m3dm_shifts_the_features_that_it_gives() -> None:
    detector, part = built("m3dm", SIZES["depth"]), part_of(4, "depth")
    seen = watched(detector)
    answer = answer_to(detector, part)
    assert torch.equal(seen.groups[0], answer.features)
    assert [spec.shape for spec in detector.site_inputs] == [
        (detector.channels,),
        (detector.channels,),
        (SPARE, detector.channels),
        (SPARE,),
    ]


@pytest.mark.parametrize(
    ("switches", "channels"),
    [({}, [96, 16, 3]), ({"local": False}, [16, 3]), ({"global": False}, [96, 16])],
    ids=["both branches", "global alone", "local alone"],
)
def test_vmpfd_shifts_descriptors_tokens_and_what_the_decoder_should_give(
    switches: dict[str, bool], channels: list[int]
) -> None:
    detector, part = built("vmpfd", SIZES["depth"], **switches), part_of(4, "depth")
    seen = watched(detector)
    answer_to(detector, part)
    assert [group.shape[1] for group in seen.groups] == channels
    assert detector.site_inputs[0].shape == (sum(channels),)


def test_mats_exports_agrees_and_compiles(tmp_path: Path) -> None:
    """The others do in the tests of their own."""
    detector = built("mats", SIZES["depth"])
    feeds = sensor_bytes(depth=True)
    frames = [{**feeds, **neutral_feeds(detector)}, {**feeds, **other_site(detector)}]
    path = tmp_path / "fp32.onnx"
    report = export_checked(deployed_graph(detector, SIZES["depth"]), path, frames)
    assert report.agreement.map < 1e-4
    assert report.layers
    check_adaptation_stays_float32(path)
    empty = {**frames[1], "lift": np.array([9.0], np.float32)}
    outputs = OnnxCpuEngine(path).run(empty)
    assert outputs["moments"].shape == (1, 2, len(frames[0]["shift"]))
    assert not outputs["moments"].any()
    assert (outputs["score"], outputs["area"]) == (0, 0)


def test_weights_of_before_load_and_hold_nothing_of_the_site() -> None:
    for name in SYSTEMS:
        detector = built(name, SIZES["color"])
        assert not [key for key in detector.state_dict() if "adaptation" in key]
        assert set(neutral_site(detector)) >= {"shift", "scale"}
