"""Textures: the user's own where there is a folder, else procedural ones that differ from each other."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.synthetic.textures import PROCEDURAL, Textures


@pytest.mark.parametrize("draw", PROCEDURAL, ids=lambda draw: draw.__name__)
def test_procedural_textures_fill_the_image_and_vary(draw) -> None:
    first, again, other = (draw(40, 60, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (40, 60, 3)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= 0
    assert first.max() <= 255
    assert first.std() > 1


def test_a_folder_of_images_is_what_is_drawn_from(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    cv2.imwrite(str(tmp_path / "deep" / "magenta.png"), np.full((20, 90, 3), (250, 0, 250), np.uint8))
    textures = Textures(tmp_path)
    for seed in range(5):
        image = textures.draw(64, 48, np.random.default_rng(seed))
        assert image.shape == (64, 48, 3)
        red, green, blue = image.reshape(-1, 3).mean(axis=0)
        assert green < min(red, blue)


def test_the_folder_is_part_of_the_recipe(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    one = Textures(tmp_path).digest
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((8, 8, 3), np.uint8))
    assert len({Textures(None).digest, one, Textures(tmp_path).digest}) == 3


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        Textures(tmp_path)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        Textures(tmp_path).draw(8, 8, np.random.default_rng(0))
