"""The image stage: its host build against librealsense's own align, count for count; its kernels
through nvcc.

Nothing here runs on a GPU: the kernels share the per-pixel functions that the host build runs, and
are compiled only.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.engine.stage import CRig, HostStage, Rig, compile_cuda, compile_host, covers_rectangles
from edge.errors import EngineError
from edge.types import Frame, Intrinsics

pytestmark = pytest.mark.timeout(600)

COLOR = Intrinsics(320, 240, 306.5, 306.6, 161.3, 124.1)
UNIT = 0.001


def rotation(pitch: float, yaw: float, roll: float) -> tuple[float, ...]:
    """Radians about x, y, z; 9 values, column by column."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([pitch, yaw, roll]), np.sin([pitch, yaw, roll])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return tuple(float(value) for value in (about_x @ about_y @ about_z).T.ravel())


D435 = (rotation(0.01, -0.006, 0.004), (0.015, 0.0003, -0.0004))
CASES = {
    "same camera": Rig(COLOR, COLOR, UNIT, (0, 0, 320, 240)),
    "beside it": Rig(COLOR, COLOR, UNIT, (0, 0, 320, 240), *D435),
    "coarser depth": Rig(
        Intrinsics(320, 240, 195.0, 195.3, 159.1, 120.8), COLOR, UNIT, (0, 0, 320, 240), *D435
    ),
    "finer depth": Rig(
        Intrinsics(320, 240, 450.0, 452.5, 159.1, 120.8),
        COLOR,
        UNIT,
        (0, 0, 320, 240),
        rotation(-0.01, 0.006, 0.02),
        (-0.05, 0.003, 0.004),
    ),
    "larger color": Rig(
        COLOR,
        Intrinsics(640, 360, 460.0, 460.0, 321.0, 181.0),
        UNIT,
        (0, 0, 640, 360),
        rotation(0.003, 0.002, -0.001),
        (0.0147, 0.0, 0.0),
    ),
    "rolled far": Rig(
        COLOR, COLOR, UNIT, (0, 0, 320, 240), rotation(0.05, -0.1, 0.6), (0.08, -0.06, 0.02)
    ),
}


def scene(rig: Rig, seed: int = 0) -> NDArray[np.uint16]:
    """A tilted table with boxes and holes as the depth stream sees it: steps in depth make
    occlusion.
    """
    noise = np.random.default_rng(seed)
    height, width = rig.depth.height, rig.depth.width
    v, u = np.mgrid[:height, :width]
    z = 700.0 + 0.4 * u - 0.3 * v + noise.normal(0, 2, (height, width))
    for _ in range(6):
        x, y, size = (
            noise.integers(0, width - 40),
            noise.integers(0, height - 40),
            noise.integers(10, 60),
        )
        z[y : y + size, x : x + size] -= noise.uniform(30, 300)
    z[noise.random((height, width)) < 0.05] = 0
    return z.astype(np.uint16)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if (
        shutil.which("c++") is None
        and shutil.which("g++") is None
        and shutil.which("clang++") is None
    ):
        pytest.skip("no C++ compiler to build the host side of stage.cu")
    target = tmp_path_factory.mktemp("stage") / "stage.so"
    compile_host(target)
    return target


def aligned_by_librealsense(rig: Rig, depth: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """What rs.align makes of it, on a software device through the real syncer."""
    rs = pytest.importorskip("pyrealsense2", reason="the oracle is librealsense's align")
    from edge.camera.virtual import DepthView, SoftwareDevice

    view = DepthView(rig.depth, tuple(rig.rotation), tuple(rig.translation))
    device = SoftwareDevice(rs, rig.color, view, rig.unit_m, 30, "test", "test")
    syncer, align = rs.syncer(4), rs.align(rs.stream.color)
    for sensor in device.device.query_sensors():
        sensor.open(sensor.get_stream_profiles()[0])
        sensor.start(syncer)
    color = np.zeros((rig.color.height, rig.color.width, 3), np.uint8)
    device.prime(color)
    device.push(Frame(color, depth, rig.unit_m, rig.color, "test", 1, 1), 1)
    for _ in range(4):
        arrived, frames = syncer.try_wait_for_frames(2000)
        if arrived and frames.get_depth_frame() and frames.get_color_frame():
            return np.array(align.process(frames).get_depth_frame().get_data())
    pytest.fail("librealsense gave no pair")


@pytest.mark.parametrize("name", CASES)
def test_host_build_gives_librealsenses_counts(name: str, library: Path) -> None:
    rig = CASES[name]
    depth = scene(rig)
    expected = aligned_by_librealsense(rig, depth)
    assert 0.05 < np.mean(expected > 0) < 1.0
    color = np.zeros((rig.color.height, rig.color.width, 3), np.uint8)
    counts, _ = HostStage(library, rig).run(depth, color)
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize(
    ("baseline_m", "near_u", "far_u", "target_u"), [(0.1, 100, 131, 161), (-0.1, 162, 131, 100)]
)
def test_nearest_reading_wins(
    baseline_m: float, near_u: int, far_u: int, target_u: int, library: Path
) -> None:
    """Two readings on one color pixel, 0.1 m aside: 61 pixels at 0.5 m, 31 at 1 m.

    Near first, then far first.
    """
    rig = Rig(COLOR, COLOR, UNIT, (0, 0, 320, 240), translation=(baseline_m, 0.0, 0.0))
    depth = np.zeros((240, 320), np.uint16)
    depth[100, near_u], depth[100, far_u] = 500, 1000
    counts, _ = HostStage(library, rig).run(depth, np.zeros((240, 320, 3), np.uint8))
    assert counts[100, target_u] == 500
    assert np.count_nonzero(counts) == 1


def test_crop_takes_the_window_of_both(library: Path) -> None:
    whole = CASES["beside it"]
    window = Rig(whole.depth, whole.color, UNIT, (37, 21, 96, 64), *D435)
    depth = scene(whole)
    color = np.random.default_rng(1).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    all_counts, all_color = HostStage(library, whole).run(depth, color)
    counts, pixels = HostStage(library, window).run(depth, color)
    np.testing.assert_array_equal(all_color, color)
    np.testing.assert_array_equal(counts, all_counts[21:85, 37:133])
    np.testing.assert_array_equal(pixels, color[21:85, 37:133])


def test_rectangles_are_covered_where_depth_is_coarser() -> None:
    assert not covers_rectangles(COLOR, COLOR)
    assert covers_rectangles(CASES["coarser depth"].depth, COLOR)
    assert not covers_rectangles(CASES["finer depth"].depth, COLOR)


@pytest.mark.parametrize(
    "crop", [(-1, 0, 10, 10), (0, 0, 321, 10), (300, 0, 21, 10), (0, 231, 10, 10), (0, 0, 0, 10)]
)
def test_crop_outside_the_image_is_refused(crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(EngineError, match="not inside"):
        Rig(COLOR, COLOR, UNIT, crop).as_c()


def test_images_of_another_size_are_refused(library: Path) -> None:
    stage = HostStage(library, CASES["same camera"])
    good: tuple[Any, Any] = np.zeros((240, 320), np.uint16), np.zeros((240, 320, 3), np.uint8)
    for depth, color in (
        (good[0][1:], good[1]),
        (good[0], good[1][:, 1:]),
        (good[0].astype(np.int32), good[1]),
    ):
        with pytest.raises(EngineError, match="rig says"):
            stage.run(depth, color)


def test_rig_has_the_layout_of_the_header() -> None:
    """4-byte members without padding: 2 x 6 + 9 + 3 + 1 + 1 + 4."""
    import ctypes

    assert ctypes.sizeof(CRig) == 4 * 30


@pytest.mark.parametrize("architecture", ["sm_87", "sm_110"])
def test_nvcc_compiles_the_kernels(architecture: str, tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on this machine: the kernels of stage.cu stay uncompiled")
    target = tmp_path / f"{architecture}.cubin"
    compile_cuda(target, architecture)
    data = target.read_bytes()
    assert all(name in data for name in (b"clear_nearest", b"align_depth", b"crop_both"))
