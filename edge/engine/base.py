"""One interface for every runtime that can judge a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Precision
from edge.types import Outputs


class Engine(Protocol):
    """A loaded graph. One thread uses it at a time.

    inputs: name -> (shape, dtype), as the graph declares them.
    """

    @property
    def name(self) -> str:
        """The runtime with its version, such as "onnxruntime 1.23.0"."""
        ...

    @property
    def precision(self) -> Precision:
        """Of the graph it runs."""
        ...

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """What run needs."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Every output by name, own memory. Raises: EngineError if the runtime fails or an input does not fit."""
        ...

    def close(self) -> None:
        """Let go of the device's memory; the engine must not be used afterwards."""
        ...


def outputs_of(raw: Mapping[str, NDArray[np.float32]]) -> Outputs:
    """The graph's outputs for one frame, batch and channel axes taken off."""
    return Outputs(
        map=raw["map"][0, 0],
        score=np.float32(raw["score"][0]),
        area=float(raw["area"][0]),
        valid=float(raw["valid"][0]),
    )
