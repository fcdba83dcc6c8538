"""The protocol of every runtime, and checks of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.errors import EngineError
from edge.schema import Precision
from edge.types import Outputs

Feeds = Mapping[str, NDArray[Any]]
Inputs = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]  # name -> (shape, type)


class Engine(Protocol):
    """A loaded graph. For one thread at a time; the output arrays belong to the caller."""

    @property
    def name(self) -> str:
        """The runtime and its version, such as "onnxruntime 1.32.0"."""
        ...

    @property
    def precision(self) -> Precision:
        """The precision of the bundle's file that it runs."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the loaded file: the plan, or the ONNX file of a runtime without plans."""
        ...

    @property
    def inputs(self) -> Inputs:
        """The inputs that `run` needs: name -> (shape, type)."""
        ...

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Graph inputs by name to graph outputs by name. Raises: EngineError."""
        ...

    def close(self) -> None:
        """Free the memory; the engine cannot run afterwards."""
        ...


def check_feeds(inputs: Inputs, feeds: Feeds) -> None:
    """Require every input with its shape and type; further values in `feeds` are ignored.

    Raises: EngineError naming the first that is missing or differs.
    """
    for name, (shape, dtype) in inputs.items():
        if name not in feeds:
            raise EngineError(
                f"graph input {name!r} is missing: {dtype} {shape} is expected from the camera,"
                " from calibration or from the manifest's defaults"
            )
        given = feeds[name]
        if given.shape != shape or given.dtype != dtype:
            raise EngineError(
                f"graph input {name!r} is {given.dtype} {given.shape}, the engine takes {dtype}"
                f" {shape}: check crop and camera against the bundle's manifest"
            )


def outputs_of(raw: Feeds) -> Outputs:
    """An engine's raw outputs as `Outputs`, for the decision.

    Raises: EngineError if an output of the contract is missing or has another shape.
    """
    missing = sorted({"map", "score", "area", "valid", "place"} - set(raw))
    if missing:
        raise EngineError(
            f"the engine gave no {', '.join(missing)}: its graph is not of this schema, export it"
            " again"
        )
    try:
        map_ = np.asarray(raw["map"], np.float32)
        place = np.asarray(raw["place"], np.float32).reshape(6)
        return Outputs(
            map_.reshape(map_.shape[-2:]),
            np.float32(raw["score"].item()),
            float(raw["area"].item()),
            float(raw["valid"].item()),
            place,
        )
    except ValueError as error:
        shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in raw.items())
        raise EngineError(
            f"the engine gave {shapes}: its graph is not of this schema, export it again"
        ) from error


def one_line(error: Exception) -> str:
    """A library's error message on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def require_digest(found: str, wanted: str | None, path: Path) -> None:
    """Require the digest of the file that was proven; None: any file. Raises: EngineError."""
    if wanted is not None and found != wanted:
        raise EngineError(f"{path.name} is not the file that was proven: it has to be proven again")
