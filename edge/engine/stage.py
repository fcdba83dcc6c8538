"""The image stage before the graph, from stage.cu: depth aligned to color with a z-buffer, then the
crop.

Verified: the tests run the host build (g++) and compare it with librealsense's own align; they
compile the kernels with nvcc for sm_87 (Orin) and sm_110 (Thor). CudaStage has never been executed.
A station without a GPU needs none of this, because edge/camera lets librealsense align.
"""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.engine.device_memory import REMEDY
from edge.errors import EngineError, MissingDependency
from edge.optional import optional_module
from edge.types import Intrinsics

SOURCE = Path(__file__).with_name("stage.cu")
COMPILE_TIMEOUT_S = 300
THREADS = 256  # per block
BLOCKS = 256  # the kernels use grid-stride loops: enough for an Orin at any image size
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


class CPinhole(ctypes.Structure):
    """Pinhole of stage.h."""

    _fields_ = (
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("fx", ctypes.c_float),
        ("fy", ctypes.c_float),
        ("cx", ctypes.c_float),
        ("cy", ctypes.c_float),
    )


class CRig(ctypes.Structure):
    """Rig of stage.h, member by member."""

    _fields_ = (
        ("depth", CPinhole),
        ("color", CPinhole),
        ("rotation", ctypes.c_float * 9),
        ("translation", ctypes.c_float * 3),
        ("unit_m", ctypes.c_float),
        ("both_corners", ctypes.c_int),
        ("crop_x", ctypes.c_int),
        ("crop_y", ctypes.c_int),
        ("crop_width", ctypes.c_int),
        ("crop_height", ctypes.c_int),
    )


@dataclass(frozen=True)
class Rig:
    """One camera: both pinholes, the transformation from depth to color coordinates (p_color =
    R p_depth + t), and the crop.

    rotation: R, 9 values, column by column as in librealsense. translation: t, 3 values in meters.
    unit_m: meters per count. crop: x, y, width, height in color pixels.
    """

    depth: Intrinsics
    color: Intrinsics
    unit_m: float
    crop: tuple[int, int, int, int]
    rotation: Sequence[float] = IDENTITY
    translation: Sequence[float] = (0.0, 0.0, 0.0)

    def as_c(self) -> CRig:
        """The struct for stage.cu. Raises: EngineError if the crop leaves the color image."""
        x, y, width, height = self.crop
        if (
            min(x, y) < 0
            or min(width, height) < 1
            or x + width > self.color.width
            or y + height > self.color.height
        ):
            raise EngineError(
                f"the crop {width}x{height} at {x}, {y} is not inside the color image of "
                f"{self.color.width}x{self.color.height} pixels"
            )
        pinholes = [
            CPinhole(i.width, i.height, i.fx, i.fy, i.cx, i.cy) for i in (self.depth, self.color)
        ]
        rotation, translation = (
            (ctypes.c_float * 9)(*self.rotation),
            (ctypes.c_float * 3)(*self.translation),
        )
        corners = int(covers_rectangles(self.depth, self.color))
        return CRig(*pinholes, rotation, translation, self.unit_m, corners, x, y, width, height)


def covers_rectangles(depth: Intrinsics, color: Intrinsics) -> bool:
    """Whether a depth pixel covers a rectangle of color pixels, by librealsense's rule.

    True if depth is coarser per angle than color and, as in librealsense, always for two pairs of
    resolutions.
    """
    sizes = (depth.width, depth.height, color.width, color.height)
    if sizes in ((640, 240, 320, 180), (640, 480, 640, 360)):
        return True
    return any(
        has < wants
        for has, wants in zip(_pixels_per_radian(depth), _pixels_per_radian(color), strict=True)
    )


def _pixels_per_radian(i: Intrinsics) -> tuple[float, float]:
    """(horizontal, vertical) mean over the field of view; float32 as in librealsense, so that equal
    cameras compare equal.
    """
    across = math.atan2(i.cx + 0.5, i.fx) + math.atan2(i.width - (i.cx + 0.5), i.fx)
    down = math.atan2(i.cy + 0.5, i.fy) + math.atan2(i.height - (i.cy + 0.5), i.fy)
    return float(np.float32(i.width / across)), float(np.float32(i.height / down))


def compile_host(target: Path) -> None:
    """Build stage.cu for this CPU as a shared library, for tests and benchmarks, not for a station.

    Raises: MissingDependency without a C++ compiler, EngineError with the compiler's message.
    """
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise MissingDependency("no C++ compiler: install g++ to build the image stage for the CPU")
    flags = [
        "-O2",
        "-std=c++14",
        "-ffp-contract=off",
        "-fPIC",
        "-shared",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    _compile([compiler, *flags, "-x", "c++", str(SOURCE), "-o", str(target)])


def compile_cuda(target: Path, architecture: str) -> None:
    """Build stage.cu for a GPU ("sm_87" Orin, "sm_110" Thor) as a cubin.

    Raises: MissingDependency without nvcc, EngineError with nvcc's message.
    """
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise MissingDependency("nvcc is not on the PATH: it comes with JetPack and with CUDA")
    _compile(
        [
            compiler,
            "-O3",
            "-fmad=false",
            f"-arch={architecture}",
            "-cubin",
            "-o",
            str(target),
            str(SOURCE),
        ]
    )


def _compile(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{command[0]} does not run: {error}") from error
    if result.returncode != 0:
        raise EngineError(
            f"{command[0]} cannot build {SOURCE.name}: {result.stderr.strip()[-2000:]}"
        )


class HostStage:
    """The stage on the CPU, from a library that `compile_host` built."""

    def __init__(self, library: Path, rig: Rig) -> None:
        """Raises: EngineError if the library cannot be loaded or the crop is not inside the
        image.
        """
        self.rig, self._c_rig = rig, rig.as_c()
        try:
            self._function = ctypes.CDLL(str(library)).stage_host
        except (OSError, AttributeError) as error:
            raise EngineError(f"{library} is not the image stage: {error}") from error
        self._function.restype = None
        self._function.argtypes = [ctypes.c_void_p] * 4 + [ctypes.POINTER(CRig)]

    def run(
        self, depth: NDArray[np.uint16], color: NDArray[np.uint8]
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
        """Align and crop one pair.

        Args:
            depth: (h, w) uint16 counts of the depth stream. color: (H, W, 3) uint8 of the color
                stream.
        Returns: depth (ch, cw) uint16 counts aligned to color, 0 = no reading, and color
            (ch, cw, 3) uint8, both cropped.
        Raises: EngineError for images of another size than the rig's.
        """
        require_sizes(self.rig, depth, color)
        _, _, width, height = self.rig.crop
        counts, pixels = (
            np.empty((height, width), np.uint16),
            np.empty((height, width, 3), np.uint8),
        )
        depth_in, color_in = np.ascontiguousarray(depth), np.ascontiguousarray(color)
        sources, targets = (
            (depth_in.ctypes.data, color_in.ctypes.data),
            (counts.ctypes.data, pixels.ctypes.data),
        )
        self._function(*sources, *targets, ctypes.byref(self._c_rig))
        return counts, pixels


class CudaStage:
    """The stage in the engine's CUDA stream, from a cubin that `compile_cuda` built. Compiled, but
    never executed so far.

    Its outputs are device pointers that serve as the engine's inputs `depth` and `color`, so that
    the images stay on the GPU.
    """

    def __init__(self, cubin: Path, rig: Rig) -> None:
        """A CUDA context must be current.

        Raises: MissingDependency without pycuda, EngineError for a wrong crop.
        """
        self._cuda = optional_module("pycuda.driver", REMEDY)
        self.rig, self._c_rig = rig, bytes(rig.as_c())
        module = self._cuda.module_from_file(str(cubin))
        self._kernels = [
            module.get_function(name) for name in ("clear_nearest", "align_depth", "crop_both")
        ]
        pixels, window = rig.color.width * rig.color.height, rig.crop[2] * rig.crop[3]
        self._depth = self._cuda.mem_alloc(2 * rig.depth.width * rig.depth.height)
        self._color = self._cuda.mem_alloc(3 * pixels)
        self._nearest = self._cuda.mem_alloc(4 * pixels)
        self.depth_out = self._cuda.mem_alloc(2 * window)
        self.color_out = self._cuda.mem_alloc(3 * window)

    def enqueue(self, depth: NDArray[np.uint16], color: NDArray[np.uint8], stream: Any) -> None:
        """Copy one pair to the GPU and queue the three kernels; the outputs are valid once the
        stream has executed them.

        depth, color: as for HostStage.run, in pinned memory that must stay valid until then.
        Raises: EngineError.
        """
        require_sizes(self.rig, depth, color)
        self._cuda.memcpy_htod_async(self._depth, depth, stream)
        self._cuda.memcpy_htod_async(self._color, color, stream)
        rig = np.frombuffer(self._c_rig, np.uint8)  # by value, byte for byte
        shape = {"block": (THREADS, 1, 1), "grid": (BLOCKS, 1), "stream": stream}
        clear, align, crop = self._kernels
        clear(self._nearest, rig, **shape)
        align(self._depth, self._nearest, rig, **shape)
        crop(self._nearest, self._color, self.depth_out, self.color_out, rig, **shape)


def require_sizes(rig: Rig, depth: NDArray[np.uint16], color: NDArray[np.uint8]) -> None:
    """Require the rig's image sizes and types: the stage cannot check its pointers.

    Raises: EngineError.
    """
    _require("depth", depth, (rig.depth.height, rig.depth.width), np.dtype(np.uint16))
    _require("color", color, (rig.color.height, rig.color.width, 3), np.dtype(np.uint8))


def _require(name: str, array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise EngineError(
            f"{name} is {array.dtype} {array.shape}, the camera's rig says {dtype} {shape}"
        )
