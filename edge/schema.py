"""Base types of all file formats of this project: strict pydantic models, names, digests, JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

if TYPE_CHECKING:  # the page's process reads records and needs no arrays
    from numpy.typing import NDArray

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # of a product, a version, a tensor
# of a product on a station: an unsigned 16-bit word; 0 is what a rebooted PLC writes
PRODUCT_NUMBERS = (1, 65_535)

Name = Annotated[str, StringConstraints(pattern=NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "int8"]

# of one tensor: more than 16 views of 1280 x 720 pixels with three channels
ELEMENTS_LIMIT = 64 << 20
FLOAT32_MAX = (2 - 2**-23) * 2.0**127  # IEEE 754


class Strict(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TensorSpec(Strict):
    """One graph input or output: batch 1, static shape.

    default: the value of every element where the frame or the site gives none; null: they must.
    """

    name: Name
    dtype: Literal["uint8", "float32"]
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(max_length=8)
    default: float | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> TensorSpec:
        if math.prod(self.shape) > ELEMENTS_LIMIT:
            raise ValueError(
                f"{self.name} has {math.prod(self.shape)} elements, at most {ELEMENTS_LIMIT} are"
                " possible"
            )
        if self.default is not None and not holds(self.dtype, self.default):
            raise ValueError(f"the default {self.default:g} of {self.name} is no {self.dtype}")
        return self

    def neutral(self) -> NDArray[Any] | None:
        """The default as an array of this shape and type; None where there is none."""
        import numpy as np

        return None if self.default is None else np.full(self.shape, self.default, self.dtype)


def holds(dtype: str, value: float) -> bool:
    """Whether a type can hold a number: uint8 whole numbers 0..255, float32 any finite number."""
    if dtype == "uint8":
        return value in range(256)
    return abs(value) <= FLOAT32_MAX


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8 in which no key occurs twice.

    Raises: ValueError in one line for anything else: other encodings, NaN, nesting and numbers
        beyond what Python reads.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_once_each, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(
            f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice"
        )
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number in JSON")


def canonical_json(value: Any) -> bytes:
    """The one spelling of a JSON value in a bundle: sorted keys, two spaces, UTF-8, a final
    newline, no NaN.
    """
    return (
        json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()
