"""The detector sees the part in one place whatever pose it lies in, and what it finds is shown
where the camera sees it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from edge.schema import TensorSpec
from trainer.data.normal import prepare
from trainer.graph.deploy import Deployed
from trainer.graph.pose import _at
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.layers.typed import required
from trainer.train.pose import fit_pose

PX, CELLS, UNIT, TABLE, TOP = 192, 96, 1e-4, 4000, 3900
MARK = (-20.0, 12.0)  # of the plate, in pixels along its own axes
Feeds = dict[str, NDArray[np.generic]]
Place = tuple[float, float, float]  # turn in radians, x, y in pixels from the center
V, U = np.mgrid[:PX, :PX].astype(np.float64)


class Green(nn.Module):
    """A detector that marks what is green."""

    map_size = (CELLS, CELLS)
    site_inputs: tuple[TensorSpec, ...] = ()

    def forward(self, prepared: Prepared) -> Tensor:
        green = prepared.color[:, 1:2] - prepared.color[:, :1]
        return nn.functional.avg_pool2d(green, green.shape[2] // CELLS).clamp(min=0.0)


def place_of(seed: int, spread: float = 1.0) -> Place:
    random = np.random.default_rng(seed)
    shift_x, shift_y = random.uniform(-20, 20, 2)
    return spread * random.uniform(0, 2 * np.pi), spread * shift_x, spread * shift_y


def plate(
    place: Place, shape: Callable[..., NDArray[np.bool_]] | None = None, noise: int = 0,
    far: float = 1.0,
) -> Feeds:  # fmt: skip
    """An L with a green mark, on a table with stripes that do not turn with it.

    far: distance of the camera, as a multiple.
    """
    turn, du, dv = place
    u, v = (U - (PX - 1) / 2) * far - du, (V - (PX - 1) / 2) * far - dv
    x, y = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    inside = (np.abs(x) < 46) & (np.abs(y) < 26) & ~((x > 0) & (y < 0))
    if shape is not None:
        inside = shape(x, y)
    color = np.zeros((PX, PX, 3), np.uint8)
    color[..., 0] = 60 + 30 * (U.astype(int) // 16 % 2)
    color[inside] = (120, 120, 120)
    color[inside & (np.hypot(x - MARK[0], y - MARK[1]) < 7)] = (40, 220, 40)
    random = np.random.default_rng([noise, int(1e6 * turn) % 997])
    color[inside] += random.integers(0, 9, (PX, PX, 1), np.uint8)[inside]
    depth = np.where(inside, TOP - 20.0 * (x > 20), TABLE) + (far - 1) * TABLE
    depth += random.normal(0, 3, (PX, PX))
    counts = depth.round().astype("<u2")
    return {
        "color": color[None],
        "depth": counts.view(np.uint8).reshape(1, PX, PX, 2),
        "region": np.full((1, PX, PX, 1), 255, np.uint8),
        "unit": np.array([UNIT], np.float32),
        "intrinsics": np.array([300, 300, PX / 2, PX / 2], np.float32),
        "plane": np.array([0, 0, 1, far * TABLE * UNIT], np.float32),
        "lift": np.array([0.002], np.float32),
    }


def new_preprocess(px: int = PX) -> Preprocess:
    return Preprocess(px, PX, (PX, PX), (CELLS, CELLS)).eval()


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    preprocess = new_preprocess()
    preprocess.pose = fit_pose(preprocess, (plate(place_of(seed)) for seed in range(16))).pose
    assert preprocess.pose is not None
    return Deployed(preprocess, Green(), 0.01).eval().requires_grad_(False)


def green(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Center of what is marked, (x, y) in pixels."""
    v, u = np.nonzero(image > 0.5 * image.max())
    return (np.array([u.mean(), v.mean()]) + 0.5) * PX / image.shape[1] - 0.5


def test_the_part_is_always_seen_in_the_same_place(deployed: Deployed) -> None:
    views = [
        prepare(deployed.preprocess, plate(place_of(seed, spread)))
        for seed in range(100, 108)
        for spread in (1.0, 0.05)
    ]
    heights = torch.cat([required(view.height) for view in views])
    inner = -nn.functional.max_pool2d(-heights.amin(dim=0, keepdim=True), 5, stride=1, padding=2)
    assert float(heights.std(dim=0)[0][inner[0, 0] > 0].max()) < 4e-4  # noise and interpolation
    marks = [green((view.color[0, 1] - view.color[0, 0]).numpy()) for view in views]
    assert np.std(marks, axis=0).max() < 0.5


@pytest.mark.parametrize("seed", range(200, 206))
def test_what_the_detector_finds_is_shown_where_the_camera_sees_it(
    deployed: Deployed, seed: int
) -> None:
    turn, du, dv = place = place_of(seed)
    told = deployed.run(plate(place))
    cos, sin = np.cos(turn), np.sin(turn)
    at = np.array([cos * MARK[0] - sin * MARK[1] + du, sin * MARK[0] + cos * MARK[1] + dv])
    assert np.abs(green(told["map"][0, 0]) - at - (PX - 1) / 2).max() < 1.0
    lies = deployed.run(plate((0.0, 0.0, 0.0)))
    assert told["score"][0] == pytest.approx(lies["score"][0], rel=0.05)
    assert told["place"][0, :2] == pytest.approx(lies["place"][0, :2] + [du, dv] + _turned(turn), 1)


@pytest.mark.parametrize("far", [0.93, 1.07, 1.2])
def test_a_part_at_another_distance_has_the_size_that_it_had_in_training(
    deployed: Deployed, far: float
) -> None:
    for seed in range(300, 304):
        turn, du, dv = place = place_of(seed)
        near = prepare(deployed.preprocess, plate(place))
        view = prepare(deployed.preprocess, plate(place, far=far))
        assert float(view.foreground.sum()) == pytest.approx(float(near.foreground.sum()), rel=0.04)
        marks = [green((one.color[0, 1] - one.color[0, 0]).numpy()) for one in (near, view)]
        assert np.abs(marks[0] - marks[1]).max() < 1.0
        told = deployed.run(plate(place, far=far))
        cos, sin = np.cos(turn), np.sin(turn)
        at = np.array([cos * MARK[0] - sin * MARK[1] + du, sin * MARK[0] + cos * MARK[1] + dv])
        assert np.abs(green(told["map"][0, 0]) - at / far - (PX - 1) / 2).max() < 1.0


def _turned(turn: float) -> NDArray[np.float64]:
    """By how much the centroid of the L moves from its place when it is turned, in pixels."""
    x, y = U - (PX - 1) / 2, V - (PX - 1) / 2
    inside = (np.abs(x) < 46) & (np.abs(y) < 26) & ~((x > 0) & (y < 0))
    center = np.array([x[inside].mean(), y[inside].mean()])
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ center - center


def test_both_ways_are_those_of_scipy_in_float64(deployed: Deployed) -> None:
    pose = required(deployed.preprocess.pose)
    zoom = 0.9
    found = torch.tensor([[0.7, 41.0, 55.5, zoom]])
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((CELLS, CELLS)), 2)
    tensor = torch.from_numpy(image).float()[None, None]
    angle = 0.7 + float(pose.turn)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y, x
    center, middle = np.array([55.5, 41.0]), np.full(2, (CELLS - 1) / 2)
    seen = middle + zoom * (center - middle)
    to_view = ndimage.affine_transform(image, zoom * turn, seen - zoom * turn @ middle, order=1)
    back = turn.T / zoom
    to_normal = ndimage.affine_transform(image, back, middle - back @ seen, order=1)
    there = _at(tensor, pose._to_view(found, (CELLS, CELLS)), "bilinear", "zeros")
    inner = (slice(3, -3), slice(3, -3))
    for ours, theirs in ((there, to_view), (pose.back(tensor, found), to_normal)):
        apart = np.abs(ours[0, 0].numpy() - theirs)
        assert np.quantile(apart[inner], 0.97) < 1e-4  # the rim of what lies beyond differs


def round_part(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.hypot(x, y) < 30)


def full_view(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(x) < 300)


@pytest.mark.parametrize(
    ("spread", "shape", "why"),
    [(1.0, full_view, "fill the view"), (0.0, None, "hardly more alike")],
)
def test_where_nothing_is_gained_the_parts_stay_as_they_lie(
    spread: float, shape: Callable[..., NDArray[np.bool_]] | None, why: str
) -> None:
    found = fit_pose(new_preprocess(), (plate(place_of(seed, spread), shape) for seed in range(8)))
    assert found.pose is None
    assert why in found.how


def test_a_round_part_is_only_moved() -> None:
    preprocess = new_preprocess()
    preprocess.pose = pose = required(
        fit_pose(preprocess, (plate(place_of(seed), round_part) for seed in range(8))).pose
    )
    assert (float(pose.turns), float(pose.turn)) == (0, 0)
    views = [prepare(preprocess, plate(place_of(seed), round_part)) for seed in range(8)]
    middle = (CELLS - 1) / 2
    for view in views:
        v, u = np.nonzero(view.foreground[0, 0].numpy())
        assert (u.mean(), v.mean()) == pytest.approx((middle, middle), abs=0.6)


def test_color_alone_has_no_pose() -> None:
    flat = Preprocess(PX, PX, (PX, PX), None)
    assert "depth" in fit_pose(flat, []).how
