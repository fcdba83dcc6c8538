"""What every file format of this project shares: strict pydantic models and the names used in them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "int8"]


class Strict(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TensorSpec(Strict):
    """One graph input or output: batch 1, static shape.

    default: a scalar for every element, or null where the frame or the site must give it.
    """

    name: Name
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, ...]
    default: float | None = None

    def neutral(self) -> NDArray[Any] | None:
        """The default as an array of this shape and type; None where there is none."""
        return None if self.default is None else np.full(self.shape, self.default, self.dtype)
