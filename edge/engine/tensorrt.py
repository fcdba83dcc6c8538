"""TensorRT 10.3 to 11 on a Jetson or workstation, through pycuda.

Never executed so far, for lack of a GPU: written against the API that TensorRT 10.3, 10.16 and 11
share (named tensors, set_tensor_address, execute_async_v3). The tests run its builder with
tensorrt_rtx, and plan_bindings, which needs no GPU. On a board run tests/hardware first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.engine.device_memory import Buffer, Device
from edge.engine.machine import this_machine
from edge.engine.plan import EngineKey, bridge_logger, cached_plan, find_cached_plan, load_library
from edge.engine.protocol import Feeds, Inputs, check_feeds, one_line, require_digest
from edge.errors import EngineError
from edge.files import sha256_of
from edge.schema import Precision

# of the contract
TYPES: dict[str, np.dtype[Any]] = {"FLOAT": np.dtype(np.float32), "UINT8": np.dtype(np.uint8)}


@dataclass(frozen=True)
class Tensor:
    """An engine's description of one of its tensors.

    mode: "INPUT" or "OUTPUT". dtype: TensorRT's name, such as "FLOAT".
    """

    name: str
    mode: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Binding:
    """One tensor as numpy sees it."""

    name: str
    is_input: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def plan_bindings(tensors: Iterable[Tensor]) -> tuple[Binding, ...]:
    """The bindings of an engine, inputs first.

    Raises: EngineError for a dynamic shape, or a type that the contract does not have.
    """
    bindings = []
    for tensor in tensors:
        if any(size < 0 for size in tensor.shape):
            raise EngineError(
                f"tensor {tensor.name!r} has dynamic shape {tensor.shape}: export it with static"
                " shapes"
            )
        if tensor.dtype not in TYPES:
            raise EngineError(
                f"tensor {tensor.name!r} is {tensor.dtype}, not FLOAT or UINT8: export it again"
            )
        bindings.append(
            Binding(tensor.name, tensor.mode == "INPUT", tensor.shape, TYPES[tensor.dtype])
        )
    if not {True, False} <= {binding.is_input for binding in bindings}:
        raise EngineError("the engine has no inputs or no outputs: build it again")
    return tuple(sorted(bindings, key=lambda binding: not binding.is_input))


def tensors_of(engine: Any) -> list[Tensor]:
    """The tensors of `engine` (ICudaEngine)."""
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    return [
        Tensor(
            name,
            engine.get_tensor_mode(name).name,
            tuple(engine.get_tensor_shape(name)),
            engine.get_tensor_dtype(name).name,
        )
        for name in names
    ]


class TensorRtEngine:
    """A built plan. Buffers are allocated once; `run` copies the inputs in, waits for the stream
    and copies the outputs out.

    Raises: EngineError if the plan is for another TensorRT or GPU, or memory is short.
    """

    def __init__(self, plan: bytes, precision: Precision, device: Device) -> None:
        trt = load_library("tensorrt")
        self.name = f"tensorrt {trt.__version__}"
        self.precision: Precision = precision
        self.digest = hashlib.sha256(plan).hexdigest()
        self._device = device
        logger = bridge_logger(trt)
        logger.errors.clear()
        with device.current():
            # outlives the engine: TensorRT keeps a pointer to it
            self._runtime = trt.Runtime(logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            self._context: Any = (
                self._engine.create_execution_context() if self._engine is not None else None
            )
            if self._context is None:
                why = logger.errors[-1] if logger.errors else "no reason given"
                raise EngineError(
                    f"TensorRT {trt.__version__} cannot load the plan ({one_line(Exception(why))}):"
                    " delete the engine cache, `edge install` builds it anew"
                )
            self._bindings = plan_bindings(tensors_of(self._engine))
            self._buffers = {binding.name: self._bind(binding) for binding in self._bindings}
        self.inputs: Inputs = {b.name: (b.shape, b.dtype) for b in self._bindings if b.is_input}

    @classmethod
    def from_onnx(
        cls, path: Path, precision: Precision, cache: Path, digest: str | None = None
    ) -> TensorRtEngine:
        """Open the cached plan of an ONNX file for this TensorRT, GPU and board, or build it (takes
        minutes).

        digest: hex SHA-256 that the cached plan must have; nothing is built then. None: any plan.
        """
        trt = load_library("tensorrt")
        device = Device()
        key = EngineKey(
            sha256_of(path), precision, trt.__version__, device.compute_capability, this_machine()
        )
        try:
            with device.current():
                plan = (
                    cached_plan(trt, path, cache, key)
                    if digest is None
                    else find_cached_plan(cache, key)
                )
            if plan is None:
                raise EngineError(
                    f"the plan of {path.name} is not in {cache}: it has to be built and proven"
                    " again"
                )
            data = plan.read_bytes()
            require_digest(hashlib.sha256(data).hexdigest(), digest, plan)
            return cls(data, precision, device)
        except EngineError:
            device.close()
            raise

    def _bind(self, binding: Binding) -> Buffer:
        buffer = self._device.buffer(binding.shape, binding.dtype)
        if not self._context.set_tensor_address(binding.name, buffer.address):
            raise EngineError(
                f"TensorRT refuses the buffer of {binding.name!r}: free memory and start again"
            )
        return buffer

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Graph inputs by name to graph outputs by name; returns after the stream has finished.

        Raises: EngineError.
        """
        check_feeds(self.inputs, feeds)
        stream = self._device.stream
        outputs = [binding.name for binding in self._bindings if not binding.is_input]
        with self._device.current():
            for name in self.inputs:
                self._buffers[name].host[...] = feeds[name]
                self._buffers[name].upload(stream)
            if not self._context.execute_async_v3(stream.handle):
                raise EngineError(
                    "TensorRT could not start the graph: see the log of `tensorrt` above"
                )
            for name in outputs:
                self._buffers[name].download(stream)
            stream.synchronize()
        return {name: self._buffers[name].host.copy() for name in outputs}

    def close(self) -> None:
        """Free context, engine and buffers, in that order, then the CUDA context."""
        with self._device.current():
            self._buffers.clear()
            del self._context, self._engine, self._runtime
        self._device.close()
