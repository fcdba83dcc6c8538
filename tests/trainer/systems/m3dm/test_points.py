"""Points of an organized depth image against the pinhole camera in float64, and what of them
belongs to the part.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge.geometry import plane_from_normal
from edge.types import Intrinsics
from trainer.systems.m3dm.points import OrganizedPoints, PointCloud

Array = NDArray[np.float64]
SIZE_PX, GRID = (90, 120), (30, 24)
CAMERA = Intrinsics(fx=150.0, fy=140.0, cx=61.3, cy=40.2, width=120, height=90)


def tilted(
    nx: float, ny: float, distance_m: float = 0.4
) -> tuple[Array, tuple[float, float, float, float]]:
    """(unit normal, plane of CAMERA)."""
    normal = np.array([nx, ny, np.sqrt(1 - nx * nx - ny * ny)])
    return normal, plane_from_normal(normal.tolist(), distance_m, CAMERA)


def heights(seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(-0.01, 0.03, GRID)


def in_camera(height: Array, normal: Array, distance_m: float = 0.4) -> Array:
    """(hd, wd, 3): where the ray through the middle of each cell's pixels is `height` above the
    plane.
    """
    points = np.zeros((*GRID, 3))
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            v = np.arange(3 * row, 3 * row + 3).mean()
            u = np.arange(5 * column, 5 * column + 5).mean()
            ray = np.array([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, 1.0])
            points[row, column] = ray * (distance_m - height[row, column]) / (normal @ ray)
    return points


def computed(height: Array, plane: tuple[float, float, float, float]) -> Array:
    module = OrganizedPoints(SIZE_PX, GRID).double()
    intrinsics = torch.tensor([[CAMERA.fx, CAMERA.fy, CAMERA.cx, CAMERA.cy]], dtype=torch.float64)
    tensor = torch.from_numpy(height)[None, None]
    return (
        module(tensor, intrinsics, torch.tensor([plane], dtype=torch.float64))[0]
        .permute(1, 2, 0)
        .numpy()
    )


@pytest.mark.parametrize(("nx", "ny"), [(0.0, 0.0), (0.3, 0.0), (-0.2, 0.35)])
def test_the_frame_is_the_cameras_turned_onto_the_plane(nx: float, ny: float) -> None:
    normal, plane = tilted(nx, ny)
    height = heights()
    camera, got = in_camera(height, normal), computed(height, plane)
    assert np.allclose(got[..., 2], height, rtol=0, atol=1e-12)
    assert np.allclose(got[..., 2], 0.4 - camera @ normal, rtol=0, atol=1e-12)
    x_axis = np.array([1.0, 0, 0]) - nx * normal
    first = x_axis / np.linalg.norm(x_axis)
    assert np.allclose(got[..., 0], camera @ first, rtol=0, atol=1e-12)
    assert np.allclose(got[..., 1], camera @ np.cross(normal, first), rtol=0, atol=1e-12)
    pairs = np.random.default_rng(1).integers(0, camera[..., 0].size, (50, 2))
    mine, theirs = got.reshape(-1, 3)[pairs], camera.reshape(-1, 3)[pairs]
    lengths = (np.linalg.norm(points[:, 0] - points[:, 1], axis=1) for points in (mine, theirs))
    assert np.allclose(*lengths, rtol=0, atol=1e-12), (
        "a turn keeps every length, whatever the camera's tilt"
    )


def test_the_cell_of_a_point_is_its_projection() -> None:
    """What PFA needs of an organized grid: nothing is left to project."""
    normal, plane = tilted(-0.2, 0.35)
    got = computed(heights(), plane)
    x_axis = np.array([1.0, 0, 0]) - normal[0] * normal
    first = x_axis / np.linalg.norm(x_axis)
    axes = np.stack([first, np.cross(normal, first), -normal])
    camera = got @ axes + 0.4 * normal
    u = CAMERA.fx * camera[..., 0] / camera[..., 2] + CAMERA.cx
    v = CAMERA.fy * camera[..., 1] / camera[..., 2] + CAMERA.cy
    rows, columns = np.mgrid[: GRID[0], : GRID[1]]
    assert ((v + 0.5) // 3 == rows).all()
    assert ((u + 0.5) // 5 == columns).all()


def cloud(
    foreground: torch.Tensor, reduce: int, trim: int, size: int = 32
) -> tuple[torch.Tensor, torch.Tensor]:
    module = PointCloud((4 * size, 4 * size), (size, size), reduce, trim)
    height = (
        torch.rand(len(foreground), 1, size, size, generator=torch.Generator().manual_seed(0))
        * 0.02
    )
    row = torch.tensor([[150.0, 150.0, 64.0, 60.0]]).expand(len(foreground), -1)
    return module(
        height * foreground, foreground, row, torch.tensor([[1e-4, 2e-4, 0.97, 0.4]]).expand_as(row)
    )


def test_the_outline_is_left_out_but_not_the_images_border() -> None:
    foreground = torch.zeros(1, 1, 32, 32)
    foreground[..., 10:30, :20] = 1
    foreground[..., 15, 8] = 0
    inner = PointCloud((128, 128), (32, 32), 4, 2).inner(foreground)[0, 0].numpy()
    for row in range(32):
        for column in range(32):
            window = foreground[0, 0, max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            assert inner[row, column] == float(window.min()), (row, column)
    assert inner[20, 0] == 1


def test_a_point_is_the_mean_of_the_cells_inside_the_part() -> None:
    foreground = torch.zeros(2, 1, 32, 32)
    foreground[0, :, 6:27, 3:30] = 1
    foreground[1, :, 12:20, 12:29] = 1
    fine, inside = cloud(foreground, 1, 2)
    points, valid = cloud(foreground, 4, 2)
    for number in range(2):
        known = inside[number].reshape(8, 4, 8, 4).permute(0, 2, 1, 3).reshape(64, 16)
        cells = fine[number].reshape(8, 4, 8, 4, 3).permute(0, 2, 1, 3, 4).reshape(64, 16, 3)
        for point in range(64):
            chosen = cells[point][known[point] > 0]
            assert float(valid[number, point]) == float(len(chosen) > 0)
            if len(chosen):
                # Both clouds are centered, each on its own mean: compare relative to the first
                # point of either.
                start = int(valid[number].argmax())
                first = cells[start][known[start] > 0].mean(dim=0)
                expected, got = (
                    chosen.mean(dim=0) - first,
                    points[number, point] - points[number, start],
                )
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=2e-7)
            else:
                assert not points[number, point].any()
        middle = points[number][valid[number] > 0].mean(dim=0)[:2]
        assert float(middle.abs().max()) < 1e-6


def test_an_empty_view_is_finite_and_has_no_points() -> None:
    points, valid = cloud(torch.zeros(1, 1, 32, 32), 4, 3)
    assert not points.any()
    assert not valid.any()
