"""Files of tensors: safetensors writes them; what it or torch.save wrote is read without trust,
and refused in one sentence.
"""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge.errors import DataError
from edge.files import sentence_of, write_atomically

# The first bytes of what torch.save writes, now and before version 1.6.
ZIP, LEGACY = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# What torch.load raises for damaged bytes.
DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    pickle.UnpicklingError,
    struct.error,
)
# Published checkpoints keep a metric beside the weights, often a number of numpy, pickled under
# numpy 1's names.
_SCALAR = np.float64().__reduce__()[0]
NUMPY_NUMBER: list[Any] = [
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name with safetensors, whole or not at all. Any device, any layout.

    Raises: OSError if the disk does not take it.
    """
    from safetensors.torch import save

    # of their own memory: safetensors refuses tensors that share it
    own = {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}
    contiguous = {name: tensor.contiguous() for name, tensor in own.items()}
    write_atomically(path, save(contiguous))


def load_stored(path: Path, expected: str, remedy: str) -> Any:
    """What a file of tensors holds, on the CPU: tensors, numbers, words and containers of them, and
    nothing else.

    expected: what it should be; remedy: what to do otherwise; both end the sentence.
    Raises: DataError if it cannot be read, is damaged or of another kind.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY))
    except OSError as error:
        raise DataError(f"{sentence_of(error, path)}; expected {expected}") from error
    if start[8:9] == b"{":
        return _load_safetensors(path, expected, remedy)
    if not start.startswith((ZIP, LEGACY)):
        what = "was written neither by torch.save nor by safetensors" if start else "is empty"
        raise DataError(f"{path} {what}, expected {expected}: {remedy}")
    try:
        with (
            path.open("rb") as file,
            warnings.catch_warnings(),
            torch.serialization.safe_globals(NUMPY_NUMBER),
        ):
            warnings.simplefilter("ignore")  # what PyTorch thinks of a damaged file
            return torch.load(file, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        what = "is damaged, cut short or of another kind"
        if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
            what = (
                "holds objects other than tensors and numbers, which could run a program and are"
                " not loaded"
            )
        raise DataError(f"{path} {what}, expected {expected}: {remedy}") from error


def _load_safetensors(path: Path, expected: str, remedy: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise DataError(f"{path} is damaged or cut short, expected {expected}: {remedy}") from error


def find_misfit(needed: Mapping[str, Tensor], given: Mapping[str, Any]) -> str | None:
    """How a file's tensors differ from those that are needed, as the end of "does not fit"; None
    where they fit.
    """
    wrong = [name for name, own in needed.items() if _shape(given.get(name)) != tuple(own.shape)]
    if not wrong:
        return None
    first, found = wrong[0], _shape(given.get(wrong[0]))
    has = "is missing" if found is None else f"is {found}"
    return (
        f"{len(wrong)} of {len(needed)} tensors are missing or of another shape, the first is"
        f" {first}, which should be {tuple(needed[first].shape)} and {has}"
    )


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
