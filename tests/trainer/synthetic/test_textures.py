"""Textures: repeatable, different from each other, and the user's own where a folder is named."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError
from trainer.synthetic.textures import KINDS, Textures, shipped_texture


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(256, 192), (32, 33), (5, 3)])
def test_every_kind_is_a_color_image_with_a_pattern(kind: str, size: tuple[int, int]) -> None:
    for seed in range(5):
        first, again = (shipped_texture(kind, *size, np.random.default_rng(seed)) for _ in range(2))
        assert first.shape == (*size, 3)
        assert first.dtype == np.float32
        assert np.array_equal(first, again)
        assert first.min() >= 0
        assert first.max() <= 255
        assert np.isfinite(first).all()
        if min(size) > 100:
            assert first.std(axis=(0, 1)).max() > 4


def test_shipped_textures_differ_from_draw_to_draw() -> None:
    rng = np.random.default_rng(0)
    drawn = [Textures().draw(64, 64, rng) for _ in range(12)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(drawn) for b in drawn[:i]]
    assert min(apart) > 8


def write(path: Path, bgr: tuple[int, int, int], size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), bgr, np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (40, 900), (700, 60), (1500, 1100)])
def test_a_folders_color_comes_back_whatever_the_size_of_its_images(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    write(tmp_path / "deeper" / "red.PNG", (20, 20, 230), size)
    texture = Textures(tmp_path).draw(48, 64, np.random.default_rng(1))
    assert texture.shape == (48, 64, 3)
    assert (texture[..., 0] > texture[..., 1:].max(axis=2) + 60).all()


def test_files_that_are_no_images_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not an image")
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path / "b.png", (200, 30, 30), (50, 50))
    for seed in range(6):
        texture = Textures(tmp_path).draw(32, 32, np.random.default_rng(seed))
        assert (texture[..., 2] > texture[..., 0] + 40).all()


@pytest.mark.parametrize("broken", [False, True])
def test_a_folder_without_a_readable_image_is_a_named_error(tmp_path: Path, broken: bool) -> None:
    if broken:
        (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"no image that can be read"):
        Textures(tmp_path)


def test_a_missing_folder_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent is not a folder"):
        Textures(tmp_path / "absent")


def test_the_users_files_are_part_of_the_recipe(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    one = Textures(tmp_path).digest
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((8, 8, 3), np.uint8))
    assert len({Textures().digest, one, Textures(tmp_path).digest}) == 3
