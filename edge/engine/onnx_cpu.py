"""onnxruntime on the CPU: the embedded default, the fallback, and the oracle on a machine without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Precision
from edge.errors import EngineError
from edge.optional import optional_module

DTYPES: dict[str, np.dtype[Any]] = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class OnnxCpuEngine:
    """One ONNX file in onnxruntime. The precision is the file's name: model/fp32.onnx."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        """Load the graph. Raises: EngineError if onnxruntime cannot, MissingDependency without onnxruntime."""
        ort = optional_module("onnxruntime", "pip install onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.name = f"onnxruntime {ort.__version__}"
        self.precision: Precision = path.stem  # type: ignore[assignment]  # a bundle has no other file names
        self._failures = (RuntimeError, ValueError, ort.capi.onnxruntime_pybind11_state.Fail)
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except self._failures as error:
            raise EngineError(f"onnxruntime cannot load {path}: {error}") from error
        self.inputs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {
            one.name: (tuple(one.shape), DTYPES[one.type]) for one in self._session.get_inputs()
        }
        self._outputs = [one.name for one in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Every output by name. Raises: EngineError if an input is missing or does not fit, or the runtime fails."""
        try:
            values = self._session.run(self._outputs, dict(feeds))
        except self._failures as error:
            raise EngineError(f"{self.name} failed: {error}") from error
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Let go of the session."""
        del self._session
