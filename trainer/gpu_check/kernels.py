"""The image stage on the GPU against its host build, count for count: the kernels of the cubin
through CUDA's driver, and the same through pycuda as a station runs them.
"""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge.doctor.stage_check import compare_stage
from edge.engine.stage import BLOCKS, THREADS, HostStage, Rig, compile_cuda, compile_host
from edge.errors import MissingDependency
from edge.optional import optional_module
from trainer.gpu_check.bench import Bench, CheckFailed, Done, NotExecuted
from trainer.gpu_check.rigs import RIGS, pair_for

Pair = tuple[NDArray[np.uint16], NDArray[np.uint8]]
Stage = Callable[[Rig, NDArray[np.uint16], NDArray[np.uint8]], Pair]
ARCHITECTURE = "sm_90"  # that a rehearsal compiles for: a data-center card's


def kernels_agree(bench: Bench) -> Done:
    """The cubin's kernels, on torch's memory and stream."""
    cubin, library = _built(bench)
    if bench.is_rehearsal:
        return stages_agree(library, lambda rig, *pair: HostStage(library, rig).run(*pair))
    return stages_agree(library, lambda rig, *pair: _launched(cubin, rig, *pair))


def pycuda_agrees(bench: Bench) -> Done:
    """CudaStage, the class that a station has, as `edge doctor --acceptance` tries it."""
    if bench.is_rehearsal:
        raise NotExecuted("pycuda has no counterpart on a CPU")
    try:
        pixels = compare_stage()
    except MissingDependency as error:
        raise NotExecuted(str(error)) from error
    return Done(f"{pixels} pixels: every count as the host build has it", {"pixels": pixels})


def stages_agree(library: Path, stage: Stage) -> Done:
    """Compare `stage` with the host build on every rig. Raises: CheckFailed for any difference."""
    pixels = 0
    for number, (name, rig) in enumerate(RIGS.items()):
        pair = pair_for(rig, number)
        expected, found = HostStage(library, rig).run(*pair), stage(rig, *pair)
        if not (expected[0] > 0).any():
            raise CheckFailed(f"{name}: the host build sees no depth, nothing can be compared")
        for what, image in (("depth", 0), ("color", 1)):
            unlike = int(np.count_nonzero(expected[image] != found[image]))
            if unlike:
                size = expected[image].size
                raise CheckFailed(f"{name}: {unlike} of {size} values of {what} differ")
        pixels += expected[0].size
    return Done(
        f"{len(RIGS)} cameras, {pixels} pixels: every count as the host build has it",
        {"cameras": float(len(RIGS)), "pixels": float(pixels)},
    )


def _built(bench: Bench) -> tuple[Path, Path]:
    """(cubin, library of the host build)."""
    if shutil.which("nvcc") is None:
        raise NotExecuted("nvcc is not on the PATH: install CUDA's compiler")
    cubin, library = bench.folder / "stage.cubin", bench.folder / "stage.so"
    compile_cuda(cubin, ARCHITECTURE if bench.is_rehearsal else architecture())
    try:
        compile_host(library)
    except MissingDependency as error:
        raise NotExecuted(str(error)) from error
    return cubin, library


def architecture() -> str:
    """nvcc's name of the GPU's: sm_90."""
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def _launched(cubin: Path, rig: Rig, depth: NDArray[np.uint16], color: NDArray[np.uint8]) -> Pair:
    driver = Driver()
    width, height = rig.crop[2], rig.crop[3]
    depth_in = torch.from_numpy(depth.view(np.uint8).copy()).cuda()
    color_in = torch.from_numpy(color).cuda()
    nearest = torch.empty(rig.color.height * rig.color.width * 4, dtype=torch.uint8).cuda()
    depth_out = torch.empty(height * width * 2, dtype=torch.uint8).cuda()
    color_out = torch.empty(height * width * 3, dtype=torch.uint8).cuda()
    launch = driver.launcher(cubin, rig)
    launch("clear_nearest", nearest)
    launch("align_depth", depth_in, nearest)
    launch("crop_both", nearest, color_in, depth_out, color_out)
    torch.cuda.synchronize()
    counts = depth_out.cpu().numpy().view(np.uint16).reshape(height, width)
    return counts, color_out.cpu().numpy().reshape(height, width, 3)


class Driver:
    """CUDA's driver through cuda-bindings, which torch brings, in torch's context."""

    def __init__(self) -> None:
        self.cuda = optional_module("cuda.bindings.driver", "torch for CUDA brings it")

    def do(self, name: str, *words: Any) -> Any:
        """Call one function of the driver; its result, if it has one.

        Raises: CheckFailed with CUDA's own name of the error.
        """
        code, *results = getattr(self.cuda, name)(*words)
        if code != self.cuda.CUresult.CUDA_SUCCESS:
            raise CheckFailed(f"{name}: {code.name}")
        return results[0] if results else None

    def launcher(self, cubin: Path, rig: Rig) -> Callable[..., None]:
        """Starts a kernel of the cubin on tensors, the rig last, in torch's stream."""
        torch.cuda.current_stream().synchronize()  # makes torch's context the current one
        module = self.do("cuModuleLoadData", cubin.read_bytes())
        stream = torch.cuda.current_stream().cuda_stream
        c_rig = rig.as_c()

        def launch(name: str, *tensors: torch.Tensor) -> None:
            kernel = self.do("cuModuleGetFunction", module, name.encode())
            pointers = [ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors]
            values = [ctypes.addressof(value) for value in (*pointers, c_rig)]
            table = (ctypes.c_void_p * len(values))(*values)
            shape = (BLOCKS, 1, 1, THREADS, 1, 1, 0)
            self.do("cuLaunchKernel", kernel, *shape, stream, ctypes.addressof(table), 0)

        return launch
