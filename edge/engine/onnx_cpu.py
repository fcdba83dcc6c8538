"""onnxruntime on the CPU: the embedded default, the fallback, and the oracle on a machine without a
GPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from edge.engine.protocol import Feeds, Inputs, check_feeds, one_line, require_digest
from edge.errors import EngineError
from edge.files import sha256_of
from edge.optional import optional_module
from edge.schema import Precision

TYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(uint8)": np.dtype(np.uint8),
}


class OnnxCpuEngine:
    """One ONNX file on the CPU.

    path: the graph. threads: for one operator; the other cores serve camera and line. precision: of
    the file, by default from its name. digest: hex SHA-256 that the file must have; None: any.
    Raises: EngineError if the file cannot be read, has another digest, is not a graph, or has
        inputs of other types.
    """

    def __init__(
        self,
        path: Path,
        threads: int = 2,
        precision: Precision | None = None,
        digest: str | None = None,
    ) -> None:
        self.path = path
        self.precision: Precision = precision or _precision_of(path)
        if not path.is_file():
            raise EngineError(f"{path} does not exist: install the bundle again")
        self.digest = sha256_of(path)
        require_digest(self.digest, digest, path)
        self._session = _open_session(path, threads)
        self.name = (
            f"onnxruntime {optional_module('onnxruntime', 'pip install onnxruntime').__version__}"
        )
        declared = self._session.get_inputs()
        self.inputs: Inputs = {
            value.name: (tuple(value.shape), _type_of(path, value)) for value in declared
        }
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Graph inputs by name to graph outputs by name.

        Raises: EngineError if an input does not fit, or onnxruntime fails.
        """
        if self._session is None:
            raise EngineError(f"{self.path.name} was closed: open the engine again")
        check_feeds(self.inputs, feeds)
        try:
            answers = self._session.run(
                self._outputs, {name: np.ascontiguousarray(feeds[name]) for name in self.inputs}
            )
        except _failures() as error:
            raise EngineError(
                f"onnxruntime failed in {self.path.name}: {one_line(error)}"
            ) from error
        return dict(zip(self._outputs, answers, strict=True))

    def close(self) -> None:
        """Free the session and its memory."""
        self._session = None


def _precision_of(path: Path) -> Precision:
    return cast(Precision, path.stem) if path.stem in ("fp16", "int8") else "fp32"


def _type_of(path: Path, value: Any) -> np.dtype[Any]:
    if value.type not in TYPES:
        raise EngineError(
            f"{path}: input {value.name!r} is {value.type}, not uint8 or float32: export it again"
        )
    return TYPES[value.type]


def _open_session(path: Path, threads: int) -> Any:
    onnxruntime = optional_module("onnxruntime", "pip install onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # it would warn of an unused `intrinsics`; failures are exceptions anyway
    options.log_severity_level = 4
    # Q/DQ stays float arithmetic: the fused integer kernels saturate 16-bit sums on processors
    # without VNNI.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        try:
            return onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except _state().NotImplemented:
            # arm64: float16 pooling of opset 19 (int8.onnx), moved to the NHWC layout, has no
            # kernel there
            options.graph_optimization_level = (
                onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            )
            return onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
    except _failures() as error:
        raise EngineError(f"{path} cannot be loaded by onnxruntime: {one_line(error)}") from error


def _failures() -> tuple[type[Exception], ...]:
    """Every exception class of onnxruntime's binding (their only common base is Exception), and the
    exceptions of Python that it passes on.
    """
    state = _state()
    own = (getattr(state, name) for name in dir(state))
    return (
        *(kind for kind in own if isinstance(kind, type) and issubclass(kind, Exception)),
        OSError,
        RuntimeError,
        ValueError,
        MemoryError,
    )


def _state() -> Any:
    """The module that has onnxruntime's exceptions."""
    return optional_module("onnxruntime.capi.onnxruntime_pybind11_state", "pip install onnxruntime")
