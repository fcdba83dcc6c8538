"""What every runtime offers."""

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
    def digest(self) -> str:
        """Hex SHA-256 of the file that was loaded: the plan, or the ONNX file where there is
        none.
        """
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
    """Every input is there with its shape and type; others are not looked at.

    Raises: EngineError naming the first.
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
    """An engine's answer as the decision sees it.

    Raises: EngineError if an output of the contract is missing.
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
    """What another maker's library says, on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def require_digest(found: str, wanted: str | None, path: Path) -> None:
    """See that a file is the one that was proven; None: any may be. Raises: EngineError."""
    if wanted is not None and found != wanted:
        raise EngineError(f"{path.name} is not the file that was proven: it has to be proven again")
