"""The kernels of the image stage on the GPU, against the same functions on the processor.

Never executed so far: its kernels are compiled only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.engine.device_memory import Device
from edge.engine.stage import CudaStage, HostStage, Rig, compile_cuda, compile_host
from edge.errors import EngineError
from edge.optional import optional_module
from edge.types import Intrinsics

DEPTH = Intrinsics(848, 480, 425.0, 425.0, 424.0, 240.0)
COLOR = Intrinsics(1280, 720, 910.0, 910.0, 640.0, 360.0)
CROP = (200, 100, 640, 480)
OFFSET_M = (0.015, 0.0, 0.0)  # between the two lenses, about that of a D435


def compare_stage() -> int:
    """How many pixels agree, which is all of them.

    Raises: MissingDependency without nvcc, pycuda or a C++ compiler; EngineError if the GPU fails,
        or gives another image.
    """
    rig = Rig(DEPTH, COLOR, 0.001, CROP, translation=OFFSET_M)
    random = np.random.default_rng(0)
    depth = random.integers(300, 1200, (DEPTH.height, DEPTH.width)).astype(np.uint16)
    color = random.integers(0, 256, (COLOR.height, COLOR.width, 3), np.uint8)
    depth[random.random(depth.shape) < 0.1] = 0  # without a reading
    with tempfile.TemporaryDirectory(prefix="edge-stage-") as folder:
        compile_host(Path(folder) / "stage.so")
        expected = HostStage(Path(folder) / "stage.so", rig).run(depth, color)
        given = _on_gpu(Path(folder) / "stage.cubin", rig, depth, color)
    for name, here, there in zip(("depth", "color"), expected, given, strict=True):
        unlike = int(np.count_nonzero(here != there))
        if unlike:
            raise EngineError(f"{unlike} values of the {name} image differ from the processor's")
    return expected[0].size


def _on_gpu(
    cubin: Path, rig: Rig, depth: NDArray[np.uint16], color: NDArray[np.uint8]
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    cuda, device = optional_module("pycuda.driver", "Install pycuda"), Device()
    try:
        compile_cuda(cubin, f"sm_{device.compute_capability}")
        with device.current():
            stage, pinned = CudaStage(cubin, rig), []
            for image in (depth, color):
                pinned.append(cuda.pagelocked_empty(image.shape, image.dtype))
                pinned[-1][:] = image
            stage.enqueue(pinned[0], pinned[1], device.stream)
            device.stream.synchronize()
            counts = np.empty((rig.crop[3], rig.crop[2]), np.uint16)
            pixels = np.empty((rig.crop[3], rig.crop[2], 3), np.uint8)
            cuda.memcpy_dtoh(counts, stage.depth_out)
            cuda.memcpy_dtoh(pixels, stage.color_out)
    finally:
        device.close()
    return counts, pixels
