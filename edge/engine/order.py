"""The runtimes of this machine, in order of preference."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from edge.engine.protocol import Engine
from edge.optional import optional_module
from edge.schema import Precision

TENSORRT, ONNXRUNTIME = "tensorrt", "onnxruntime"  # how the name of an engine begins


def tensorrt_is_installed() -> bool:
    """Whether TensorRT and pycuda can be found, without importing them."""
    return all(find_spec(name) is not None for name in ("tensorrt", "pycuda"))


def runtime_name(runtime: str) -> str:
    """TENSORRT or ONNXRUNTIME with the installed version, as engines name themselves: "onnxruntime
    1.32.0".

    Raises: MissingDependency if it is not installed.
    """
    return f"{runtime} {optional_module(runtime, 'Install it, then repeat').__version__}"


Opener = Callable[[Path, Precision], Engine]


def unproven_openers(cache: Path, threads: int = 2, digest: str | None = None) -> dict[str, Opener]:
    """This machine's functions that open an engine, by runtime, in order of preference. None of
    these engines is proven: edge.install.proven opens what judges.

    cache: the folder of TensorRT's plans. digest: hex SHA-256 of the only plan or ONNX file that
    may be opened; nothing is built then, and any other file is an EngineError.
    """

    def open_cpu(model: Path, precision: Precision) -> Engine:
        from edge.engine.onnx_cpu import OnnxCpuEngine

        return OnnxCpuEngine(model, threads, precision, digest)

    def open_tensorrt(model: Path, precision: Precision) -> Engine:
        from edge.engine.tensorrt import TensorRtEngine

        return TensorRtEngine.from_onnx(model, precision, cache, digest)

    cpu: dict[str, Opener] = {ONNXRUNTIME: open_cpu}
    return {TENSORRT: open_tensorrt, **cpu} if tensorrt_is_installed() else cpu
