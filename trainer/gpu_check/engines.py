"""The station's TensorRT runner on the GPU, and the same engine as a captured CUDA graph, against
onnxruntime on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.engine.device_memory import Device
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.plan import load_library
from edge.engine.tensorrt import TensorRtEngine
from edge.errors import MissingDependency
from trainer.export.onnx_file import export_onnx
from trainer.gpu_check.answers import Answer, require_alike
from trainer.gpu_check.bench import Bench, CheckFailed, Done, Feeds, NotExecuted, frames_of
from trainer.gpu_check.kernels import Driver

SYSTEM = "mats"


def runner_agrees(bench: Bench) -> Done:
    """Build the exported graph with TensorRT, and judge frames with the station's own class."""
    onnx, frames, threshold = _exported(bench)
    expected = _by_onnxruntime(onnx, frames)
    if bench.is_rehearsal:
        return require_alike(expected, _by_onnxruntime(onnx, frames), threshold, "onnxruntime")
    engine = _opened(onnx, bench.folder)
    try:
        found = [engine.run(frame) for frame in frames]
    finally:
        engine.close()
    return require_alike(expected, found, threshold, engine.name)


def captured_engine_agrees(bench: Bench) -> Done:
    """Capture TensorRT's work on one frame as a CUDA graph, and replay it on the others."""
    if bench.is_rehearsal:
        raise NotExecuted("CUDA graphs have no counterpart on a CPU")
    onnx, frames, threshold = _exported(bench)
    expected = _by_onnxruntime(onnx, frames)
    engine = _opened(onnx, bench.folder)
    try:
        engine.run(frames[0])  # before a capture, TensorRT has to have run once
        found = _replayed(engine, frames)
    finally:
        engine.close()
    return require_alike(expected, found, threshold, f"{engine.name} as a CUDA graph")


def _exported(bench: Bench) -> tuple[Path, list[Feeds], float]:
    """(float32 ONNX file of a trained run, frames, its threshold)."""
    _require_tensorrt(bench)
    run = bench.trained(SYSTEM, on_cpu=True)
    path = bench.folder / "fp32.onnx"
    if not path.is_file():
        export_onnx(run.deployed, path)
    return path, frames_of(run), run.info.threshold.value


def _require_tensorrt(bench: Bench) -> None:
    """Raises: NotExecuted where TensorRT or pycuda is not installed."""
    if bench.is_rehearsal:
        return
    try:
        load_library("tensorrt")
        Device().close()
    except MissingDependency as error:
        raise NotExecuted(str(error)) from error


def _by_onnxruntime(onnx: Path, frames: Sequence[Feeds]) -> list[Answer]:
    engine = OnnxCpuEngine(onnx)
    return [engine.run(frame) for frame in frames]


def _opened(onnx: Path, folder: Path) -> TensorRtEngine:
    return TensorRtEngine.from_onnx(onnx, "fp32", folder / "engines")


def _replayed(engine: Any, frames: Sequence[Feeds]) -> list[Answer]:
    """Answers of the captured graph. It reaches into the engine, because a station does not capture
    so far: whether it should is what this check is for.
    """
    driver, stream = Driver(), engine._device.stream
    outputs = [one.name for one in engine._bindings if not one.is_input]
    answers: list[Answer] = []
    with engine._device.current():
        mode = driver.cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        driver.do("cuStreamBeginCapture", stream.handle, mode)
        is_queued = engine._context.execute_async_v3(stream.handle)
        graph = driver.do("cuStreamEndCapture", stream.handle)
        if not is_queued:
            raise CheckFailed("TensorRT cannot be captured: see its log above")
        ready = driver.do("cuGraphInstantiate", graph, 0)
        for frame in frames:
            for name in engine.inputs:
                engine._buffers[name].host[...] = frame[name]
                engine._buffers[name].upload(stream)
            driver.do("cuGraphLaunch", ready, stream.handle)
            for name in outputs:
                engine._buffers[name].download(stream)
            stream.synchronize()
            answers.append({name: engine._buffers[name].host.copy() for name in outputs})
    return answers
