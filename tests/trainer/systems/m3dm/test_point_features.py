"""The point side as a whole: shapes, scale, masks, and the graph that the device gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edge.errors import ConfigError
from edge.schema import TensorSpec
from tests.support.standin import make_feeds
from trainer.export.onnx_file import export_checked
from trainer.graph.deploy import Deployed
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.systems.m3dm.point_features import (
    COMPACT_POINTS,
    PAPER_POINTS,
    DepthImages,
    PointFeatures,
    PointSpec,
    depth_of,
)

SMALL = replace(
    COMPACT_POINTS,
    groups=24,
    group_size=9,
    tokenizer=(8, 12, 16),
    width=12,
    depth=2,
    heads=2,
    taps=(1, 2),
)
SIDE, GRID = 64, (8, 8)
EXACT = "donot_use_mm_for_euclid_dist"


def images(count: int = 3, seed: int = 0) -> Prepared:
    """Discs of a wavy surface at different places, one of them small."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    middle = 28 + 8 * torch.rand(count, 2, 1, 1, generator=generator)
    radius = torch.hypot(v - middle[:, 0], u - middle[:, 1])
    sizes = torch.full((count, 1, 1), 22.0)
    sizes[0] = 9.0
    foreground = (radius < sizes).float()[:, None]
    height = (
        0.01
        + 1e-3 * torch.sin(u / 5)
        + 1e-4 * torch.randn(count, 1, SIDE, SIDE, generator=generator)
    )
    row = torch.tensor([[200.0, 200.0, 100.0, 90.0]]).expand(count, -1)
    plane = torch.tensor([[1e-4, -1e-4, 1.0, 0.4]]).expand(count, -1)
    share = foreground.mean(dim=(1, 2, 3))
    color = torch.zeros(count, 3, SIDE, SIDE)
    return Prepared(color, height * foreground, foreground, foreground, share, share, row, plane)


def build(spec: PointSpec = SMALL, seed: int = 0) -> PointFeatures:
    torch.manual_seed(seed)
    return PointFeatures(spec, (192, 192), (SIDE, SIDE), GRID).eval()


def measured(spec: PointSpec = SMALL) -> PointFeatures:
    points = build(spec)
    points.fit_scales(depth_of(images(8)))
    return points


@pytest.mark.parametrize("centers", ["curve", "farthest"])
@torch.no_grad()
def test_features_cover_the_part_and_nothing_else(centers: str) -> None:
    spec = replace(SMALL, centers=centers)  # type: ignore[arg-type]  # one of the two
    prepared = images()
    got = measured(spec)(prepared)
    assert got.shape == (3, spec.channels, *GRID)
    covered = nn.functional.avg_pool2d(prepared.foreground, 8) > 0
    assert bool((got.abs().sum(dim=1, keepdim=True) > 0)[covered].all())
    assert not got[~covered.expand_as(got)].any()


@torch.no_grad()
def test_a_batch_is_its_images_one_by_one() -> None:
    points, prepared = measured(), images()
    whole = points(prepared)
    for number in range(3):
        single = points(
            Prepared(*(tensor[number : number + 1] for tensor in prepared if tensor is not None))
        )
        torch.testing.assert_close(single[0], whole[number], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_an_empty_view_has_features_zero() -> None:
    prepared = images()
    empty = prepared._replace(
        height=torch.zeros_like(prepared.foreground), foreground=0 * prepared.foreground
    )
    assert not measured()(empty).any()


@torch.no_grad()
def test_measured_parts_have_radius_one_and_equal_deviations() -> None:
    points, normal = measured(), depth_of(images(8))
    groups = points.all_groups(normal)
    plain, valid = points.cloud(*normal)
    radius = (plain[:, :, :2] / points.length).norm(dim=2).amax(dim=1)
    assert float(radius.mean()) == pytest.approx(1.0, rel=1e-5)
    height = plain[:, :, 2][valid > 0]
    assert float(points.level) == pytest.approx(float(height.mean()), rel=1e-4)
    along, up = groups.members[..., :2].std(), groups.members[..., 2].std()
    assert float(up / along) == pytest.approx(1.0, rel=1e-3)
    plain_scale = build(replace(SMALL, relief=False))
    plain_scale.fit_scales(normal)
    assert float(plain_scale.relief) == 1.0
    points.fit_scales(normal._replace(height=0.01 * normal.foreground))
    assert 1 < float(points.relief) < float(points.length) / 2e-4, (
        "a flat part has no deviation to divide by"
    )


@torch.no_grad()
def test_a_scale_measured_once_keeps_a_larger_part_larger() -> None:
    points, normal = measured(), depth_of(images(8))
    larger = normal._replace(intrinsics=normal.intrinsics * torch.tensor([0.8, 0.8, 1.0, 1.0]))
    spans = [
        points.all_groups(part).centers[..., :2].norm(dim=2).amax(dim=1)
        for part in (normal, larger)
    ]
    torch.testing.assert_close(spans[1], spans[0] / 0.8, rtol=2e-2, atol=0)


@torch.no_grad()
def test_groups_hold_the_points_they_say() -> None:
    points, normal = measured(), depth_of(images(2))
    groups = points.grouped(*normal)
    cloud, valid = points.cloud(*normal)
    scaled = (
        torch.cat([cloud[..., :2], (cloud[..., 2:] - points.level) * points.relief], dim=2)
        / points.length
    )
    for image in range(2):
        assert (valid[image, groups.cells[image]] == 1).all()
        torch.testing.assert_close(groups.centers[image], scaled[image, groups.cells[image]])
        known = scaled[image][valid[image] > 0]
        absolute = (groups.members[image] + groups.centers[image][:, None]).reshape(-1, 3)
        assert float(torch.cdist(absolute, known, compute_mode=EXACT).amin(dim=1).max()) < 1e-5


def test_color_only_images_and_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="need depth"):
        build()(images()._replace(height=None))
    with pytest.raises(ConfigError, match="does not divide"):
        PointFeatures(SMALL, (192, 192), (SIDE, SIDE), (7, 8))


def test_presets_are_the_papers_and_what_a_small_device_holds() -> None:
    paper, compact = PAPER_POINTS, COMPACT_POINTS
    assert (paper.groups, paper.group_size, paper.width, paper.depth, paper.channels) == (
        1024,
        128,
        384,
        12,
        1152,
    )
    assert compact.groups <= 128
    assert (compact.group_size, compact.width, compact.depth, compact.centers) == (
        16,
        96,
        4,
        "curve",
    )


class Detector(nn.Module):
    """The mean square of every other feature as a map; of all of them it is the norm's, and always
    the same.
    """

    map_size = (8, 12)
    site_inputs: tuple[TensorSpec, ...] = ()

    def __init__(self, points: PointFeatures) -> None:
        super().__init__()
        self.points = points

    def forward(self, prepared: Prepared) -> Tensor:
        features = self.points(prepared)[:, ::2]
        squares: Tensor = (features * features).mean(dim=1, keepdim=True)
        return squares


def test_the_graph_exports_agrees_with_onnxruntime_and_compiles(tmp_path: Path) -> None:
    """Bytes to points to features, on a grid that is no square, parts and empty views alike."""
    torch.manual_seed(0)
    points = PointFeatures(
        replace(SMALL, reduce=2, trim=1), (96, 128), (32, 48), Detector.map_size
    ).eval()
    deployed = Deployed(Preprocess(96, 128, (64, 96), (32, 48)), Detector(points), 0.05).eval()
    frames = [make_feeds(seed) for seed in range(3)]
    tensors = [{name: torch.from_numpy(value) for name, value in feeds.items()} for feeds in frames]
    seen = [depth_of(deployed.prepare(feeds)) for feeds in tensors]
    points.fit_scales(DepthImages(*(torch.cat(column) for column in zip(*seen, strict=True))))
    empty = {**frames[0], "depth": frames[0]["depth"] * 0}
    report = export_checked(
        deployed.requires_grad_(False), tmp_path / "fp32.onnx", [*frames, empty]
    )
    assert report.agreement.map < 1e-4
    assert report.layers
