"""Weights are written by safetensors; files of torch.save are still read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from trainer.tensor_files import load_stored, write_tensors
from trainer.train.run_folder import MODEL_FILE, OLD_MODEL_FILE, find_model, remove_run


def tensors() -> dict[str, Tensor]:
    """Two that share their memory, one of another layout, other types, none at all, a number."""
    table = torch.arange(12.0).reshape(3, 4)
    return {
        "whole": table,
        "row": table[1],
        "turned": table.T,
        "half": table.half(),
        "mask": table > 5,
        "empty": torch.zeros(0, 3),
        "count": torch.tensor(7),
    }


def read(path: Path) -> dict[str, Tensor]:
    loaded: dict[str, Tensor] = load_stored(path, "tensors", "write it again")
    return loaded


def test_what_is_written_is_read_again_to_the_last_bit(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w.safetensors", tensors())
    loaded = read(tmp_path / "w.safetensors")
    assert loaded.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"], "nothing temporary"


def test_the_same_tensors_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_tensors(tmp_path / name, tensors())
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_files_of_torch_are_still_read(tmp_path: Path) -> None:
    torch.save(tensors(), tmp_path / "old.pt")
    loaded = read(tmp_path / "old.pt")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors().items())


@pytest.mark.parametrize("name", [MODEL_FILE, OLD_MODEL_FILE])
def test_a_run_keeps_its_weights_under_either_name_and_is_removed_with_them(
    tmp_path: Path, name: str
) -> None:
    assert find_model(tmp_path) == tmp_path / MODEL_FILE
    (tmp_path / name).write_bytes(b"weights")
    assert find_model(tmp_path) == tmp_path / name
    remove_run(tmp_path)
    assert list(tmp_path.iterdir()) == []
