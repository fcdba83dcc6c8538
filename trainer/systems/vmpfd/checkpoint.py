"""Weights of the patch descriptors on disk, as `trainer pretrain pdn` writes them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from edge.errors import DataError
from edge.files import write_atomically
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.tensor_files import find_misfit, load_stored

FORMAT = "patch descriptors 1"


def write_pdn(path: Path, student: PatchDescriptors, kind: str, images: int) -> None:
    """Write a weights file that `--pretrained` takes."""
    buffer = io.BytesIO()
    torch.save(
        {"format": FORMAT, "kind": kind, "images": images, "state": student.state_dict()}, buffer
    )
    write_atomically(path, buffer.getvalue())


def read_pdn(path: Path, kind: str) -> dict[str, Tensor]:
    """The state of a network of this kind.

    Raises: DataError if the file contains none, or one of another kind.
    """
    expected, remedy = "a file of `trainer pretrain pdn`", "make one, or leave --pretrained out"
    if not path.is_file():
        raise DataError(f"there is no file at {path}: make one with `trainer pretrain pdn`")
    stored = load_stored(path, expected, remedy)
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise DataError(f"{path} is not {expected}: {remedy}")
    if stored.get("kind") != kind:
        raise DataError(
            f"{path} contains descriptors of the preset {stored.get('kind')}, this training needs"
            f" those of {kind}: make them with `trainer pretrain pdn --preset {kind}`"
        )
    state = stored.get("state")
    needed = PatchDescriptors(kind).state_dict()
    misfit = find_misfit(needed, state) if isinstance(state, dict) else "it contains no tensors"
    if misfit is not None:
        raise DataError(
            f"{path} does not fit the descriptors of the preset {kind}: {misfit}: {remedy}"
        )
    return cast(dict[str, Tensor], state)
