"""Preprocessing against a float64 reference that resizes by integration and works pixel by
pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import ConfigError
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import HOLE_PASSES, AreaResize, Preprocess, fill_holes, working_size

Array = NDArray[np.float64]
UNIT = 1e-4


def area_average(image: Array, size: tuple[int, int]) -> Array:
    """Mean over every cell, by integrating along one axis and then the other: no matrices, any
    rational factor.
    """
    for axis in (0, 1):
        image = np.moveaxis(image, axis, 0)
        integral = np.concatenate([np.zeros((1, *image.shape[1:])), np.cumsum(image, 0)])
        edges = np.arange(size[axis] + 1) * image.shape[0] / size[axis]
        whole = np.minimum(edges.astype(int), image.shape[0] - 1)
        part = (edges - whole).reshape(-1, *[1] * (image.ndim - 1))
        at_edges = integral[whole] * (1 - part) + integral[whole + 1] * part
        image = np.moveaxis(np.diff(at_edges, axis=0) * size[axis] / image.shape[0], 0, axis)
    return image


def filled_by_loops(height: Array, known: NDArray[np.bool_]) -> tuple[Array, NDArray[np.bool_]]:
    rows, columns = height.shape
    for _ in range(HOLE_PASSES):
        after, reached = height.copy(), known.copy()
        for r in range(rows):
            for c in range(columns):
                near = [
                    (i, j)
                    for i in range(r - 1, r + 2)
                    for j in range(c - 1, c + 2)
                    if 0 <= i < rows and 0 <= j < columns and known[i, j]
                ]
                if not known[r, c] and near:
                    after[r, c], reached[r, c] = np.mean([height[p] for p in near]), True
        height, known = after, reached
    return height, known


@dataclass
class Scene:
    color: NDArray[np.uint8]
    counts: NDArray[np.uint16]
    region: NDArray[np.uint8]
    plane: tuple[float, float, float, float]
    lift: float

    def tensors(self) -> dict[str, torch.Tensor]:
        height, width = self.counts.shape
        depth = self.counts.astype("<u2").view(np.uint8).reshape(1, height, width, 2)
        return {
            "color": torch.from_numpy(self.color)[None],
            "depth": torch.from_numpy(depth.copy()),
            "region": torch.from_numpy(self.region)[None, :, :, None],
            "unit": torch.tensor([UNIT]),
            "intrinsics": torch.tensor([[200.0, 200.0, width / 2, height / 2]]),
            "plane": torch.tensor([self.plane]),
            "lift": torch.tensor([self.lift]),
        }


@dataclass
class Reference:
    """Everything in float64, in the contract's order: validity, then height, mask and fill."""

    scene: Scene
    size: tuple[int, int]

    def __post_init__(self) -> None:
        scene, (alpha, beta, gamma, delta) = (
            self.scene,
            np.float32(self.scene.plane).astype(np.float64),
        )
        v, u = np.mgrid[: scene.counts.shape[0], : scene.counts.shape[1]].astype(np.float64)
        read = (scene.counts > 0).astype(np.float64)
        height = np.where(
            read > 0,
            delta - np.float64(np.float32(UNIT)) * scene.counts * (alpha * u + beta * v + gamma),
            0,
        )
        self.share = area_average(read, self.size)
        known = self.share > 1e-4
        mean = np.where(
            known, area_average(height * read, self.size) / np.where(known, self.share, 1), 0
        )
        filled, known = filled_by_loops(mean, known)
        self.inside = area_average((scene.region > 0).astype(np.float64), self.size)
        self.foreground = (filled > np.float32(scene.lift)) & known & (self.inside >= 0.5 - 1e-9)
        self.height = np.where(self.foreground, filled, 0)
        self.read = self.share >= 0.5 - 1e-9
        self.area = (self.foreground * self.inside).sum() / max(self.inside.sum(), 1.0)
        self.valid = (self.foreground * self.share).sum() / max(self.foreground.sum(), 1)


def make_scene(seed: int, height: int, width: int, holes: float = 0.08) -> Scene:
    """A tilted table, a domed part, single pixels and blocks without a reading, a clamp that the
    region leaves out.
    """
    random = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width]
    plane = (random.uniform(-2e-4, 2e-4), random.uniform(-2e-4, 2e-4), 1.0, 0.4)
    part = 0.02 * np.clip(
        1.2 - ((v - height / 2) ** 2 + (u - width / 2) ** 2) / (min(height, width) / 3) ** 2, 0, 1
    )
    z = (plane[3] - part) / (plane[0] * u + plane[1] * v + plane[2]) + random.normal(
        0, 3e-4, (height, width)
    )
    counts = np.round(z / UNIT).astype(np.uint16)
    counts[random.random((height, width)) < holes] = 0
    row, column = random.integers(0, height - height // 8), random.integers(0, width - width // 8)
    counts[row : row + height // 8, column : column + width // 8] = 0
    region = np.full((height, width), 255, np.uint8)
    region[: height // 5, : width // 3] = 0
    return Scene(
        random.integers(0, 256, (height, width, 3), dtype=np.uint8), counts, region, plane, 0.004
    )


def prepare(scene: Scene, working: tuple[int, int], depth_working: tuple[int, int]) -> Prepared:
    prepared: Prepared = Preprocess(*scene.counts.shape, working, depth_working)(**scene.tensors())
    return prepared


@pytest.mark.parametrize(
    ("size", "depth_size"), [((96, 128), (32, 32)), ((90, 120), (32, 48)), ((75, 101), (17, 23))]
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_reference_for_whole_fractional_and_odd_factors(
    seed: int, size: tuple[int, int], depth_size: tuple[int, int]
) -> None:
    scene = make_scene(seed, *size)
    prepared, expected = prepare(scene, (64, 64), depth_size), Reference(scene, depth_size)
    assert prepared.height is not None
    assert prepared.read is not None
    assert 0.1 < expected.area < 0.9
    assert (prepared.foreground[0, 0].numpy() > 0).tolist() == expected.foreground.tolist()
    # meters; depth noise is 3e-4
    assert np.abs(prepared.height[0, 0].numpy() - expected.height).max() < 2e-7
    assert (prepared.read[0, 0].numpy() > 0).tolist() == expected.read.tolist()
    assert prepared.area.item() == pytest.approx(expected.area, abs=1e-5)
    assert prepared.valid.item() == pytest.approx(expected.valid, abs=1e-5)
    color = area_average(scene.color.astype(np.float64), (64, 64)).transpose(2, 0, 1)
    assert np.abs(prepared.color[0].numpy() - color).max() < 1e-3  # of 255


def test_whole_factors_equal_opencv() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    ours = (
        AreaResize((120, 160), (30, 40))(torch.from_numpy(image)[None].float())[0]
        .permute(1, 2, 0)
        .numpy()
    )
    assert (
        np.abs(
            ours - cv2.resize(image.astype(np.float32), (40, 30), interpolation=cv2.INTER_AREA)
        ).max()
        < 1e-3
    )


def test_a_pixel_without_a_reading_never_has_height_delta() -> None:
    counts = np.full((8, 8), 3900, np.uint16)  # 10 mm above the table at 0.4 m
    counts[::2, ::2] = 0  # as height delta, they would be 400 mm high
    scene = Scene(
        np.zeros((8, 8, 3), np.uint8), counts, np.ones((8, 8), np.uint8), (0, 0, 1, 0.4), 0.005
    )
    prepared = prepare(scene, (4, 4), (4, 4))
    assert prepared.height is not None
    assert prepared.height.numpy() == pytest.approx(0.010, abs=1e-6)
    assert prepared.valid.item() == pytest.approx(0.75)
    table = prepare(
        Scene(
            scene.color,
            np.where(counts == 0, 0, 4000).astype(np.uint16),
            scene.region,
            scene.plane,
            0.005,
        ),
        (4, 4),
        (4, 4),
    )
    assert table.area.item() == 0


def test_counts_are_little_endian_up_to_the_last_one() -> None:
    for count in (1, 255, 256, 0x1234, 65535):
        scene = Scene(
            np.zeros((8, 8, 3), np.uint8),
            np.full((8, 8), count, np.uint16),
            np.ones((8, 8), np.uint8),
            (0, 0, -1, 0),
            1e-6,
        )
        height = prepare(scene, (4, 4), (4, 4)).height
        assert height is not None
        assert height.numpy() == pytest.approx(count * UNIT, rel=1e-6)


def test_holes_close_from_the_rim_up_to_their_number_of_passes() -> None:
    height, read = torch.full((1, 1, 31, 31), 0.5), torch.ones(1, 1, 31, 31)
    middle = slice(15 - HOLE_PASSES, 16 + HOLE_PASSES)  # one cell more than the passes reach
    read[..., middle, middle] = 0
    filled, known = fill_holes(height * read, read)
    assert known.sum() == 31 * 31 - 1
    assert (known[0, 0, 15, 15], filled[0, 0, 15, 15]) == (0, 0)
    assert torch.allclose(filled[known > 0], torch.tensor(0.5))


def test_region_cuts_foreground_and_divides_area() -> None:
    scene = make_scene(0, 96, 128, holes=0)
    scene.counts[:] = 3900
    scene.plane, scene.region[:] = (0, 0, 1, 0.4), 0
    scene.region[:, :64] = 1  # any value but 0 counts
    prepared = prepare(scene, (64, 64), (32, 32))
    assert prepared.area.item() == pytest.approx(1.0)
    assert prepared.foreground[..., :16].min() == 1
    assert prepared.foreground[..., 16:].max() == 0


@pytest.mark.parametrize("what", ["no depth", "no region", "bare table"])
def test_no_foreground_is_area_and_valid_zero_and_never_nan(what: str) -> None:
    scene = make_scene(1, 96, 128)
    if what == "no depth":
        scene.counts[:] = 0
    elif what == "no region":
        scene.region[:] = 0
    else:
        scene.lift = 1.0
    prepared = prepare(scene, (64, 64), (32, 32))
    assert prepared.area.item() == prepared.valid.item() == 0
    assert prepared.foreground.max() == 0
    assert all(torch.isfinite(tensor).all() for tensor in prepared if tensor is not None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_bytes_give_finite_tensors(seed: int) -> None:
    random = np.random.default_rng(seed)
    plane = tuple(float(x) for x in random.normal(0, 1, 4) * 10.0 ** random.integers(-6, 3, 4))
    scene = Scene(
        random.integers(0, 256, (24, 32, 3), dtype=np.uint8),
        random.integers(0, 65536, (24, 32), dtype=np.uint16),
        random.integers(0, 2, (24, 32), dtype=np.uint8),
        (plane[0], plane[1], plane[2], plane[3]),
        0.001,
    )
    prepared = prepare(scene, (8, 8), (8, 8))
    assert all(torch.isfinite(tensor).all() for tensor in prepared if tensor is not None)
    assert 0 <= prepared.area.item() <= 1.00001
    assert 0 <= prepared.valid.item() <= 1.00001


def test_a_batch_is_its_images_one_by_one() -> None:
    scenes = [make_scene(seed, 90, 120).tensors() for seed in range(3)]
    preprocess = Preprocess(90, 120, (64, 64), (32, 48))
    batch = preprocess(**{name: torch.cat([scene[name] for scene in scenes]) for name in scenes[0]})
    for i, scene in enumerate(scenes):
        for together, alone in zip(batch, preprocess(**scene), strict=True):
            if together is not None:
                assert torch.allclose(together[i], alone[0], atol=1e-4)


def test_color_only_takes_the_region_as_foreground() -> None:
    scene = make_scene(2, 96, 128)
    tensors = scene.tensors()
    prepared = Preprocess(96, 128, (64, 64), None)(tensors["color"], None, tensors["region"])
    assert (prepared.height, prepared.read) == (None, None)
    assert prepared.area.item() == pytest.approx((scene.region > 0).mean(), abs=1e-6)
    assert prepared.valid.item() == 1
    assert prepared.foreground.shape == (1, 1, 64, 64)
    assert prepared.foreground[0, 0, 0, 0] == 0


@pytest.mark.parametrize(
    ("crop", "size"), [((480, 480), (256, 256)), ((480, 640), (192, 256)), ((100, 3000), (32, 256))]
)
def test_working_size_keeps_the_aspect_in_multiples(
    crop: tuple[int, int], size: tuple[int, int]
) -> None:
    assert working_size(*crop) == size


def test_an_empty_crop_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Preprocess(0, 128, (64, 64), None)
