"""What every runtime offers, and in which order runtimes and precisions are tried."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Precision
from edge.errors import EngineError, MissingDependency
from edge.types import Outputs

log = logging.getLogger(__name__)

Feeds = Mapping[str, NDArray[Any]]
Inputs = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]     # name -> (shape, type)

TENSORRT_ORDER: tuple[Precision, ...] = ("int8", "fp16", "fp32")


class Engine(Protocol):
    """A loaded graph. One thread at a time; outputs are the caller's own arrays."""

    @property
    def name(self) -> str:
        """The runtime and its version, such as "onnxruntime 1.32.0"."""
        ...

    @property
    def precision(self) -> Precision:
        """Which of the bundle's files it runs."""
        ...

    @property
    def inputs(self) -> Inputs:
        """What `run` must be given: name -> (shape, type)."""
        ...

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Graph inputs by name to graph outputs by name. Raises: EngineError."""
        ...

    def close(self) -> None:
        """Give memory back; the engine cannot run afterwards."""
        ...


def check_feeds(inputs: Inputs, feeds: Feeds) -> None:
    """Every input is there with its shape and type; others are not looked at. Raises: EngineError naming the first."""
    for name, (shape, dtype) in inputs.items():
        if name not in feeds:
            raise EngineError(f"graph input {name!r} is missing: {dtype} {shape} is expected from the camera, from "
                              "calibration or from the manifest's defaults")
        given = feeds[name]
        if given.shape != shape or given.dtype != dtype:
            raise EngineError(f"graph input {name!r} is {given.dtype} {given.shape}, the engine takes {dtype} {shape}: "
                              "check crop and camera against the bundle's manifest")


def outputs_of(raw: Feeds) -> Outputs:
    """An engine's answer as the decision sees it. Raises: EngineError if an output of the contract is missing."""
    missing = sorted({"map", "score", "area", "valid"} - set(raw))
    if missing:
        raise EngineError(f"the engine gave no {', '.join(missing)}: its graph is not of this schema, export it again")
    map_ = np.asarray(raw["map"], np.float32)
    return Outputs(map_.reshape(map_.shape[-2:]), np.float32(raw["score"].item()),
                   float(raw["area"].item()), float(raw["valid"].item()))


def tensorrt_is_installed() -> bool:
    """Whether TensorRT and pycuda can be found, without importing them."""
    return all(find_spec(name) is not None for name in ("tensorrt", "pycuda"))


Opener = Callable[[Path, Precision], Engine]


def engines_in_order(models: Mapping[Precision, Path], openers: Mapping[str, Opener]) -> Iterator[Engine]:
    """Engines in the order tried: int8, fp16, fp32 on TensorRT where it is installed, then fp32 on the CPU.

    Args:
        models: the bundle's ONNX files. openers: "tensorrt" (optional) and "cpu".
    One that cannot be opened is logged and left out. The caller closes those that it does not keep.
    Raises: EngineError if the CPU's cannot be opened either, or there is no fp32 file.
    """
    open_tensorrt = openers.get("tensorrt")
    for precision in TENSORRT_ORDER if open_tensorrt else ():
        if open_tensorrt and precision in models:
            try:
                yield open_tensorrt(models[precision], precision)
            except (EngineError, MissingDependency) as error:
                log.warning("%s on TensorRT is left out: %s", precision, error)
    if "fp32" not in models:
        raise EngineError("there is no float32 graph to fall back to: the bundle is incomplete, export it again")
    yield openers["cpu"](models["fp32"], "fp32")


def machine_openers(cache: Path, threads: int = 2) -> dict[str, Opener]:
    """The openers of this machine. cache: where TensorRT keeps the plans it built."""

    def open_cpu(model: Path, precision: Precision) -> Engine:
        from edge.engine.onnx_cpu import OnnxCpuEngine

        return OnnxCpuEngine(model, threads, precision)

    def open_tensorrt(model: Path, precision: Precision) -> Engine:
        from edge.engine.tensorrt import TensorRtEngine

        return TensorRtEngine.from_onnx(model, precision, cache)

    return {"tensorrt": open_tensorrt, "cpu": open_cpu} if tensorrt_is_installed() else {"cpu": open_cpu}


def open_engine(models: Mapping[Precision, Path], cache: Path, threads: int = 2) -> Engine:
    """The first engine of this machine that opens, unproven. Raises: EngineError if none does."""
    return next(engines_in_order(models, machine_openers(cache, threads)))
