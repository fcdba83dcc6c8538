"""An anomaly is on the part, where its mask says, in what it is said to be seen in, and the same
again.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from trainer.graph.prepared import Prepared
from trainer.synthetic.anomalies import corrupted, part_by_threshold
from trainer.synthetic.textures import Textures

SIGMA = 3e-4
NUMBERS = range(60)


def disc(height: int, width: int, share: float = 0.35) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return ((y - height / 2).hypot(x - width / 2) < share * min(height, width)).float()[None, None]


def part(size: tuple[int, int] = (64, 96), depth: tuple[int, int] | None = (32, 48)) -> Prepared:
    """A disc of 10 mm with some grain on a plain ground."""
    generator = torch.Generator().manual_seed(0)
    color = 60 + 110 * disc(*size) + 6 * torch.randn(1, 3, *size, generator=generator)
    one = torch.ones(1)
    if depth is None:
        return Prepared(color.clamp(0, 255), None, torch.ones(1, 1, *size), None, one, one)
    inside = disc(*depth)
    return Prepared(
        color.clamp(0, 255), 0.01 * inside, inside, torch.ones(1, 1, *depth), 0.3 * one, one
    )


def changes(image: Prepared, result: Prepared) -> tuple[torch.Tensor, torch.Tensor]:
    """Where color (h, w) and height (hd, wd) differ."""
    assert image.height is not None
    assert result.height is not None
    return (image.color != result.color).any(dim=1)[0], (image.height != result.height)[0, 0]


@pytest.mark.parametrize("depth", [None, (32, 48), (64, 96)])
def test_the_same_number_gives_the_same_anomaly_in_any_order(depth: tuple[int, int] | None) -> None:
    image, textures = part(depth=depth), Textures()
    first = {number: corrupted(image, textures, SIGMA, 5, number) for number in range(8)}
    for number in reversed(range(8)):
        again, mask = corrupted(image, Textures(), SIGMA, 5, number)
        assert torch.equal(mask, first[number][1])
        assert torch.equal(again.color, first[number][0].color)
        assert depth is None or torch.equal(again.height, first[number][0].height)
    masks = {tuple(mask.flatten().tolist()) for _, mask in first.values()}
    assert len(masks) == 8
    assert not torch.equal(corrupted(image, textures, SIGMA, 6, 0)[1], first[0][1])


@pytest.mark.parametrize("depth", [None, (32, 48), (64, 96), (24, 40)])
def test_only_the_mask_changes_and_it_lies_on_the_part(depth: tuple[int, int] | None) -> None:
    image, before = part(depth=depth), part(depth=depth)
    for number in NUMBERS:
        result, mask = corrupted(image, Textures(), SIGMA, 0, number)
        assert mask.shape == (1, 1, 64, 96)
        assert mask.dtype == torch.float32
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert result.color.dtype == torch.float32
        assert result.color.min() >= 0
        assert result.color.max() <= 255
        outside = mask[0, 0] == 0
        assert torch.equal(result.color[0][:, outside], image.color[0][:, outside])
        for kept in ("area", "valid", "read", "foreground"):
            assert getattr(result, kept) is getattr(image, kept)
        if depth is None:
            near = functional.max_pool2d(disc(64, 96), 5, 1, 2)  # thresholding smooths the outline
        else:
            near = functional.adaptive_max_pool2d(image.foreground, (64, 96))
            inside = functional.adaptive_max_pool2d(mask, depth)[0, 0] > 0
            assert not (changes(image, result)[1] & ~inside).any()
        assert (mask <= near).all()
    assert torch.equal(image.color, before.color)
    assert image.height is None or torch.equal(image.height, before.height)


def test_an_anomaly_is_seen_in_color_or_depth_or_both_equally_often() -> None:
    image, count, seen = part(), 300, {}
    for number in range(count):
        result, mask = corrupted(image, Textures(), SIGMA, 1, number)
        in_color, in_depth = changes(image, result)
        kind = (bool(in_color.any()), bool(in_depth.any()))
        seen[kind] = seen.get(kind, 0) + 1
        if kind[0]:
            mean = (image.color - result.color).abs().mean(dim=1)[0][mask[0, 0] > 0].mean()
            assert mean > 9.9
        if kind[1]:
            assert torch.equal(functional.interpolate(in_depth[None, None].float(), (64, 96)), mask)
    assert set(seen) == {(True, False), (False, True), (True, True)}
    assert all(0.25 < n / count < 0.42 for n in seen.values())


def test_dents_and_bumps_are_of_two_to_ten_sigma_with_a_smooth_rim() -> None:
    image, peaks = part((256, 256), (128, 128)), []
    assert image.height is not None
    for number in range(150):
        result, _ = corrupted(image, Textures(), SIGMA, 2, number)
        assert result.height is not None
        change = (result.height - image.height)[0, 0] / SIGMA
        if change.abs().max() > 0:
            peaks.append(float(change.flatten()[change.abs().argmax()]))
            assert (change * np.sign(peaks[-1]) >= 0).all()
    assert 2 <= min(map(abs, peaks)) < 3
    assert 9 < max(map(abs, peaks)) < 10.01
    assert 0.3 < np.mean(np.array(peaks) > 0) < 0.7


def test_height_stays_above_the_background_and_without_sigma_as_it_is() -> None:
    image = part()
    for number in NUMBERS:
        thrown, _ = corrupted(image, Textures(), 0.1, 0, number)
        assert thrown.height is not None
        assert thrown.height.min() >= 0
        flat, mask = corrupted(image, Textures(), None, 0, number)
        assert flat.height is image.height
        assert mask.any()
        assert (flat.color != image.color).any()


@pytest.mark.parametrize("level", [0.0, 128.0, 255.0])
def test_the_paste_shows_on_any_plain_image(level: float) -> None:
    plain = part(depth=None)._replace(color=torch.full((1, 3, 64, 96), level))
    for number in NUMBERS:
        result, mask = corrupted(plain, Textures(), None, 3, number)
        inside = mask[0, 0] > 0
        assert (result.color - level).abs()[0][:, inside].mean() > 9.9


def test_a_folders_textures_are_pasted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "green.png"), np.full((90, 90, 3), (0, 255, 0), np.uint8))
    image, textures = part(depth=None), Textures(tmp_path)
    green = 0
    for number in range(100):
        result, mask = corrupted(image, textures, None, 0, number)
        gain = (result.color - image.color)[0][:, mask[0, 0] > 0].mean(dim=1)
        green += bool(gain[1] > gain[0] + 20 and gain[1] > gain[2] + 20)
    assert 55 < green < 85  # two in three are foreign


@pytest.mark.parametrize(
    ("ground", "on_it"), [(30, 200), (220, 90)], ids=["bright on dark", "dark on bright"]
)
def test_the_part_is_found_by_thresholding(ground: int, on_it: int) -> None:
    rng = np.random.default_rng(0)
    color = np.full((80, 100, 3), ground, np.float32)
    color[20:60, 25:75] = on_it
    color[2:6, 90:94] = on_it  # a speck, not the part
    color = np.clip(color + rng.normal(0, 5, color.shape), 0, 255).astype(np.float32)
    truth = np.zeros((80, 100), np.bool_)
    truth[20:60, 25:75] = True
    found = part_by_threshold(color)
    assert (found != truth).mean() < 0.005
    assert not found[:10].any()


def test_a_class_that_is_next_to_nothing_or_nearly_all_makes_everything_the_part() -> None:
    for side in (8, 99):
        color = np.full((100, 100, 3), 20, np.float32)
        color[:side, :side] = 220
        assert part_by_threshold(color).all()


def test_without_foreground_the_image_comes_back_with_an_empty_mask() -> None:
    image = part()
    bare = image._replace(foreground=torch.zeros_like(image.foreground))
    for number in range(6):
        result, mask = corrupted(bare, Textures(), SIGMA, 0, number)
        assert not mask.any()
        assert torch.equal(result.color, bare.color)


def test_a_piece_can_be_missing_so_that_the_background_shows() -> None:
    """The ground is 60 with a grain of 6, the disc 170."""
    image, seen = part(depth=None), 0
    for number in NUMBERS:
        result, mask = corrupted(image, Textures(), None, 0, number)
        inside = result.color.mean(dim=1)[mask[:, 0] > 0]
        seen += bool(abs(float(inside.mean()) - 60) < 4 and float(inside.std()) < 8)
    assert 3 <= seen <= 20
