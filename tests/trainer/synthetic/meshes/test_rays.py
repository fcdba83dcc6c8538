"""Rays, solids and light against formulas of their own: pinhole, planes, a body of revolution, the
length of a shadow.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from manifold3d import CrossSection, Manifold

from trainer.synthetic.meshes.light import Seen, SoftLamp, lit_share, open_share
from trainer.synthetic.meshes.rays import Shape
from trainer.synthetic.meshes.solids import ROUND_STEPS, disc, flared, slab, triangles
from trainer.synthetic.meshes.view import Eye, Window
from trainer.synthetic.scene import View

VIEW = View(
    0.29, (0.04, -0.03, float(np.sqrt(1 - 0.04**2 - 0.03**2))), (435.0, 435.0, 320.8, 238.7)
)
WINDOW = Window(100, 380, 180, 460)
CUBE_MM = 40.0


def cube() -> Manifold:
    """A cube beside the middle, standing on the table."""
    return Manifold.cube((CUBE_MM, CUBE_MM, CUBE_MM)).translate((-15, -30, 0))


def plane_z_mm(height_mm: float) -> np.ndarray:
    """z of the plane at that height over the table, at every pixel of the window, in float64."""
    fx, fy, cx, cy = VIEW.intrinsics
    v, u = np.mgrid[WINDOW.top : WINDOW.bottom, WINDOW.left : WINDOW.right].astype(np.float64)
    nx, ny, nz = VIEW.normal
    return (VIEW.distance_m * 1000 - height_mm) / (nx * (u - cx) / fx + ny * (v - cy) / fy + nz)


def top_outline() -> np.ndarray:
    """The corners of the cube's top in pixels, through the camera's coordinates."""
    fx, fy, cx, cy = VIEW.intrinsics
    normal = np.array(VIEW.normal)
    ray = np.array([(319.5 - cx) / fx, (239.5 - cy) / fy, 1.0])  # the middle of the crop
    origin = ray * VIEW.distance_m * 1000 / (ray @ normal)
    right = np.cross([0, 1, 0], normal) / np.linalg.norm(np.cross([0, 1, 0], normal))
    up_the_image = np.cross(right, normal)
    corners = [(-15, -30), (25, -30), (25, 10), (-15, 10)]
    seen = [origin + x * right + y * up_the_image - CUBE_MM * normal for x, y in corners]
    return np.array([[fx * p[0] / p[2] + cx, fy * p[1] / p[2] + cy] for p in seen])


def test_table_and_cube_are_where_the_pinhole_formula_says() -> None:
    eye = Eye(VIEW)
    rays = eye.rays(WINDOW)
    np.testing.assert_allclose(eye.table_depth(rays), plane_z_mm(0), rtol=2e-6)
    shape = Shape(triangles(cube()))
    depth, face = shape.first(eye.center.astype(np.float32), rays)
    on_top = (face >= 0) & (shape.normals[face, 2] > 0.9)
    np.testing.assert_allclose(depth[on_top], plane_z_mm(CUBE_MM)[on_top], rtol=2e-6)
    corners = top_outline()
    np.testing.assert_allclose(
        eye.pixels(np.array([(-15, -30, CUBE_MM), (25, 10, CUBE_MM)])), corners[[0, 2]], atol=1e-6
    )
    shift = corners - np.array([WINDOW.left, WINDOW.top])
    for row, column in np.ndindex(on_top.shape):
        away = cv2.pointPolygonTest(shift.astype(np.float32), (float(column), float(row)), True)
        if abs(away) > 0.01:
            assert on_top[row, column] == (away > 0)


def test_samples_lie_evenly_within_their_pixel() -> None:
    eye = Eye(VIEW)
    one = eye.rays(WINDOW)
    fine = eye.rays(WINDOW, 2).reshape(280, 2, 280, 2, 3)
    np.testing.assert_allclose(fine.mean(axis=(1, 3)), one, atol=1e-6)
    across = (fine[:, :, :, 1] - fine[:, :, :, 0]) @ eye.axes[:, 0]
    np.testing.assert_allclose(across, 0.5 / 435, rtol=1e-3)


def test_normals_point_outwards() -> None:
    shape = Shape(triangles(cube()))
    outwards = shape.corners.mean(axis=1) - np.array([5, -10, 20])
    assert ((shape.normals * outwards).sum(axis=1) > 19.9).all()
    assert sorted(map(tuple, np.unique(shape.normals.round(6) + 0.0, axis=0))) == sorted(
        [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    )


def test_a_slab_has_a_round_edge_and_a_flared_tool_leaves_one() -> None:
    radius, high, edge = 30.0, 12.0, 3.0
    # what a round edge takes off: a square less a quarter disc of that many chords, around the axis
    # (Pappus), its centroid near that of a square less a quarter disc
    section = edge**2 * (1 - ROUND_STEPS / 2 * np.sin(np.pi / 2 / ROUND_STEPS))
    taken = section * 2 * np.pi * (radius - 0.2234 * edge)
    whole = disc(radius).area() * high
    assert whole - slab(disc(radius), high, edge).volume() == pytest.approx(taken, rel=0.02)
    ring = disc(radius + 20) - disc(radius)
    left = slab(disc(radius + 20), high, 0.01) - flared(disc(radius), -1, high, edge)
    lost = ring.area() * high - left.volume()
    assert lost == pytest.approx(section * 2 * np.pi * (radius + 0.2234 * edge), rel=0.02)


def test_a_flared_tool_cuts_what_stands_higher_than_its_round_edge() -> None:
    assert (slab(disc(50), 12, 1) - flared(disc(30), -1, 8, 3)).genus() == 1


def test_a_slab_keeps_its_holes() -> None:
    outline = CrossSection.square((60, 40)) - disc(6, 20, 20) - disc(5, 45, 20)
    solid = slab(outline, 8, 1)
    assert (solid.genus(), len(solid.decompose())) == (2, 1)


def table_points(x: np.ndarray, y: np.ndarray) -> Seen:
    points = np.stack([x, y, np.zeros_like(x)], -1).astype(np.float32)
    up = np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape).copy()
    return Seen(points, up, up, np.zeros(x.shape, bool))


def test_a_shadow_falls_away_from_the_lamp_as_far_as_its_height_says() -> None:
    """Lamp in the west, 45 degrees high and far: the shadow is as long as the block is high."""
    wall = Manifold.cube((10, 400, 20)).translate((-10, -200, 0))
    lamp = SoftLamp((-1e5, 0.0, 1e5), 1.0, 1.0, (1, 1, 1), 0.4, (0, 0, 1))
    x, y = np.meshgrid(np.arange(-60.25, 60, 0.5), np.arange(-8.25, 8, 0.5))
    lit = lit_share(table_points(x, y), Shape(triangles(wall)), lamp)
    assert (lit[(x < -12)] == 1).all()
    assert (lit[(x > 2) & (x < 18)] == 0).all()
    assert (lit[x > 22] == 1).all()


def test_the_sky_is_half_open_at_the_foot_of_a_wall() -> None:
    wall = Manifold.cube((10, 4000, 2000)).translate((-10, -2000, 0))
    x, y = np.meshgrid(np.array([0.2, 0.4, 0.6, 0.8, 60, 61, 62, 63]), np.arange(8.0))
    sky = open_share(table_points(x, y), Shape(triangles(wall)))
    assert sky[4, 1] == pytest.approx(0.5, abs=0.06)
    assert sky[4, 6] == 1


def test_the_table_hides_half_the_sky_from_a_wall() -> None:
    far = Manifold.cube((1, 1, 1)).translate((500, 0, 0))
    seen = table_points(*np.meshgrid(np.arange(8.0), np.arange(8.0)))
    seen.points[..., 2], seen.normals[...] = 0.5, (1, 0, 0)
    assert open_share(seen, Shape(triangles(far)))[4, 4] == pytest.approx(0.5, abs=0.06)
