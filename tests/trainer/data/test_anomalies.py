"""Anomalies drawn to train with: where they lie, what they change, and that they repeat."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.anomalies import corrupted
from trainer.graph.preprocess import Prepared
from trainer.synthetic.textures import Textures

SIGMA_M = 1e-4
TEXTURES = Textures(None)


def _image(depth: bool, bright: bool = True) -> Prepared:
    """A square part, bright on dark ground or the other way round."""
    generator = torch.Generator().manual_seed(0)
    part = torch.zeros(1, 1, 64, 64)
    part[..., 16:48, 16:48] = 1
    ground, inside = (30.0, 200.0) if bright else (200.0, 30.0)
    color = ground + (inside - ground) * part + 3 * torch.randn(1, 3, 64, 64, generator=generator)
    one = torch.ones(1)
    if not depth:
        return Prepared(color, None, torch.ones(1, 1, 64, 64), None, one, one)
    small = torch.nn.functional.avg_pool2d(part, 2)
    return Prepared(color, 2e-3 * small, small, small, one, one)


@pytest.mark.parametrize("depth", [False, True])
def test_the_same_number_gives_the_same_anomaly_in_any_order(depth: bool) -> None:
    image = _image(depth)
    first = [corrupted(image, TEXTURES, SIGMA_M, 7, number) for number in (0, 1, 2)]
    second = [corrupted(image, TEXTURES, SIGMA_M, 7, number) for number in (2, 1, 0)][::-1]
    for (one, mark), (two, other) in zip(first, second, strict=True):
        assert torch.equal(one.color, two.color)
        assert torch.equal(mark, other)
        assert depth is False or torch.equal(one.height, two.height)
    assert not torch.equal(first[0][1], first[1][1])


@pytest.mark.parametrize("bright", [True, False], ids=["bright part", "dark part"])
def test_color_changes_where_the_mask_says_and_only_on_the_part(bright: bool) -> None:
    image = _image(False, bright)
    changed = 0
    for number in range(40):
        view, mark = corrupted(image, TEXTURES, None, 0, number)
        assert mark.shape == (1, 1, 64, 64)
        assert float(mark.sum()) > 0
        assert not mark[..., :12, :].any()     # Otsu's rim may be a pixel or two off
        assert not mark[..., :, 52:].any()
        difference = (view.color - image.color).abs().amax(dim=1, keepdim=True)
        assert float((difference * (1 - mark)).max()) == 0
        changed += float((difference * mark).max()) > 10
        assert float(view.color.min()) >= 0
        assert float(view.color.max()) <= 255
    assert changed > 30


def test_with_depth_an_anomaly_changes_color_or_height_or_both() -> None:
    image = _image(True)
    assert image.height is not None
    kinds: dict[tuple[bool, bool], int] = {}
    for number in range(60):
        view, mark = corrupted(image, TEXTURES, SIGMA_M, 0, number)
        assert view.height is not None
        rise = (view.height - image.height).abs()
        outside = torch.nn.functional.max_pool2d(mark, 17, stride=1, padding=8) == 0     # soft at its rim
        assert float((rise * outside[..., ::2, ::2]).max()) < 0.1 * SIGMA_M
        assert float((rise * (1 - image.foreground)).max()) == 0
        assert float(rise.max()) <= 12.01 * SIGMA_M
        kind = not torch.equal(view.color, image.color), bool(rise.max() > 1.9 * SIGMA_M)
        kinds[kind] = kinds.get(kind, 0) + 1
    assert min(kinds.get(kind, 0) for kind in ((True, False), (False, True), (True, True))) > 8
    assert kinds.get((False, False), 0) == 0


def test_without_the_depths_noise_only_color_changes() -> None:
    image = _image(True)
    for number in range(10):
        view, _ = corrupted(image, TEXTURES, None, 0, number)
        assert view.height is image.height


def test_a_piece_can_be_missing() -> None:
    """What lies behind shows: some anomalies on a bright part are as dark as the ground, and opaque."""
    image = _image(False)
    dark = 0
    for number in range(60):
        view, mark = corrupted(image, TEXTURES, None, 0, number)
        inside = view.color.mean(dim=1)[mark[:, 0] > 0]
        dark += bool(abs(float(inside.mean()) - 30) < 5 and float(inside.std()) < 8)
    assert dark >= 5


def test_an_image_of_one_grey_has_no_part_and_is_drawn_on_anywhere() -> None:
    flat = _image(False)._replace(color=torch.full((1, 3, 64, 64), 120.0))
    rows = [np.nonzero(corrupted(flat, TEXTURES, None, 0, number)[1][0, 0].numpy())[0] for number in range(20)]
    assert min(int(row.min()) for row in rows) < 8
    assert max(int(row.max()) for row in rows) > 56
