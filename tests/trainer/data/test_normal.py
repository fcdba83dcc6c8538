"""What a training refuses to learn from, because somebody would have to guess."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import DataError
from tests.support.layouts import write_rgb
from tests.support.tiny_product import write_tiny_product
from trainer.data.copies import without_known
from trainer.data.normal import NormalParts, normal_parts
from trainer.graph.sizes import WorkingSizes


def sizes(_height: int, _width: int, with_depth: bool) -> WorkingSizes:
    return WorkingSizes((32, 32), (16, 16) if with_depth else None)


def normal(product: Path, with_depth: bool = True) -> NormalParts:
    return normal_parts(product, 0, with_depth, sizes)


def photo(seed: int, bits: int = 8, shift: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).integers(0, 1 << bits, (20, 24, 3))
    return (values << shift).astype(np.uint8 if bits == 8 and not shift else np.uint16)


@pytest.mark.parametrize(
    ("odd", "sentence"),
    [
        (photo(9), r"5\.png has 8: is one of them depth"),
        (photo(9, 12, 4), "they are not scaled alike"),
    ],
)
def test_bit_depths_that_do_not_belong_together_are_refused(
    tmp_path: Path, odd: np.ndarray, sentence: str
) -> None:
    for number in range(5):
        write_rgb(tmp_path / f"{number}.png", photo(number, 12))
    write_rgb(tmp_path / "5.png", odd)
    with pytest.raises(DataError, match=sentence) as caught:
        normal(tmp_path)
    assert "5.png" in str(caught.value)


def test_eight_bit_values_in_sixteen_are_refused(tmp_path: Path) -> None:
    for number in range(5):
        write_rgb(tmp_path / f"{number}.png", photo(number).astype(np.uint16))
    with pytest.raises(DataError, match="keeps 8-bit values"):
        normal(tmp_path)


def test_twelve_bits_are_found_and_said(tmp_path: Path) -> None:
    for number in range(5):
        write_rgb(tmp_path / f"{number}.png", photo(number, 12))
    parts = normal(tmp_path)
    assert parts.reading.color_bits == 12
    assert any("12 bits" in note for note in parts.notes)
    assert parts.train[0].load().color.max() > 250


def test_a_picture_that_is_there_twice_trains_once_and_is_said(tmp_path: Path) -> None:
    for number in range(6):
        write_rgb(tmp_path / f"{number}.png", photo(number))
    write_rgb(tmp_path / "again.png", photo(2))
    parts = normal(tmp_path)
    assert len(parts.train) + len(parts.validation) == 6
    assert any(
        "again.png" in note or "2.png" in note for note in parts.notes if "exact copy" in note
    )


def test_a_copy_of_a_training_part_among_the_defects_proves_nothing(tmp_path: Path) -> None:
    product = write_tiny_product(tmp_path / "disc")
    parts = normal(product)
    first = parts.train[0]
    for kind in ("rgb", "xyz"):
        source = next((product / "train/good" / kind).glob(f"{Path(first.name).name}.*"))
        (product / "test/dent" / kind / f"copy{source.suffix}").write_bytes(source.read_bytes())
    mask = next((product / "test/dent/gt").iterdir())
    (product / "test/dent/gt" / f"copy{mask.suffix}").write_bytes(mask.read_bytes())
    told: list[str] = []
    dataset = without_known(normal(product).dataset, parts.digests, told.append)
    assert not any("copy" in sample.name for sample in dataset.samples)
    assert any(
        "test/dent/copy is called defective here and was trained on" in line for line in told
    )
