"""The foreground's place against the drawn pixels themselves, in float64, which know nothing of
cells.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.graph.place import Place
from trainer.graph.preprocess import Preprocess

Mask = NDArray[np.bool_]
UNIT, TABLE, PART = 1e-4, 4000, 3800  # counts of 0.1 mm: a part 20 mm high on a table 0.4 m away
LIFT = 0.01  # half of that: a cell is foreground if half of its pixels are the part's
SIZES = [
    ((120, 160), (30, 40)),
    ((96, 128), (32, 48)),
    ((150, 203), (34, 46)),
    ((480, 640), (96, 128)),
]
SHAPES = ["disc", "ellipse", "cut rectangle", "disc in the corner"]


def drawn(shape: str, size: tuple[int, int]) -> Mask:
    """(H, W) bool, as large relative to the view in every size, off its center.

    Straight edges are turned: along the cells, all of an edge would be off by the same share of a
    cell.
    """
    height, width = size
    v, u = np.mgrid[:height, :width].astype(np.float64)
    if shape == "disc":
        return (u - 0.58 * width) ** 2 + (v - 0.45 * height) ** 2 < (0.28 * height) ** 2
    if shape == "disc in the corner":
        return (u - 0.1 * width) ** 2 + (v - 0.85 * height) ** 2 < (0.4 * height) ** 2
    middle, turn = (0.45, math.radians(30)) if shape == "ellipse" else (0.9, math.radians(12))
    du, dv = u - middle * width, v - 0.52 * height
    along, across = (
        du * math.cos(turn) + dv * math.sin(turn),
        dv * math.cos(turn) - du * math.sin(turn),
    )
    if shape == "ellipse":
        return (along / (0.36 * height)) ** 2 + (across / (0.2 * height)) ** 2 < 1
    return (np.abs(along) < 0.4 * height) & (np.abs(across) < 0.2 * height)


def place_of_pixels(mask: Mask) -> NDArray[np.float64]:
    """(6,): mean, variance and covariance of the pixel centers, share of the outermost pixels; 0
    without any.
    """
    v, u = np.nonzero(mask)
    if not len(u):
        return np.zeros(6)
    spread = np.cov(u, v, bias=True)
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return np.array([u.mean(), v.mean(), spread[0, 0], spread[1, 1], spread[0, 1], border.mean()])


def place_of(
    mask: Mask, cells: tuple[int, int], region: Mask | None = None, lift: float = LIFT
) -> torch.Tensor:
    """(6,) float32 of the graph's own preprocessing, for a part drawn where the mask is."""
    height, width = mask.shape
    counts = np.where(mask, PART, TABLE).astype("<u2")
    bytes_ = torch.from_numpy(counts.view(np.uint8).reshape(1, height, width, 2).copy())
    inside = np.ones_like(mask) if region is None else region
    prepared = Preprocess(height, width, (32, 32), cells)(
        torch.zeros(1, height, width, 3, dtype=torch.uint8),
        bytes_,
        torch.from_numpy(inside[None, :, :, None] * 255),
        torch.tensor([UNIT]),
        torch.zeros(1, 4),
        torch.tensor([[0, 0, 1, TABLE * UNIT]]),
        torch.tensor([lift]),
    )
    assert prepared.place.shape == (1, 6)
    assert prepared.place.dtype == torch.float32
    place: torch.Tensor = prepared.place[0]
    return place


@pytest.mark.parametrize(("size", "cells"), SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_place_is_that_of_the_drawn_pixels(
    shape: str, size: tuple[int, int], cells: tuple[int, int]
) -> None:
    """Centroid to 0.5 px; spread to 4 % plus a tenth of a cell's area; border to two cells of the
    ring.
    """
    mask = drawn(shape, size)
    got, wanted = place_of(mask, cells).double().numpy(), place_of_pixels(mask)
    step_v, step_u = size[0] / cells[0], size[1] / cells[1]
    scale = np.array([wanted[2], wanted[3], math.sqrt(wanted[2] * wanted[3])])
    assert np.abs(got[:2] - wanted[:2]).max() < 0.5
    assert (np.abs(got[2:5] - wanted[2:5]) < 0.04 * scale + 0.1 * step_u * step_v).all()
    assert got[5] == pytest.approx(wanted[5], abs=2 / (2 * sum(cells) - 4))


@pytest.mark.parametrize(
    ("size", "cells"), [((120, 160), (60, 40)), ((480, 600), (96, 120)), ((90, 150), (60, 60))]
)
@pytest.mark.parametrize("where", ["large", "small, far from the origin"])
def test_whole_cells_give_exactly_their_pixels(
    where: str, size: tuple[int, int], cells: tuple[int, int]
) -> None:
    """Where the outline runs between cells nothing is estimated, whether a cell has whole pixels
    (2, 4, 5) or not.
    """
    (height, width), mask = size, np.zeros(size, bool)
    if where == "large":
        mask[height // 6 : 5 * height // 6, width // 5 : 4 * width // 5] = True
    else:
        mask[height - 60 : height - 30, width - 40 : width - 20] = True
    # E[u^2] - E[u]^2 in float32 would be off by up to 3e-2 square pixels at 600 px
    assert place_of(mask, cells).double().numpy() == pytest.approx(
        place_of_pixels(mask), rel=2e-5, abs=2e-4
    )


@pytest.mark.parametrize(("size", "cells"), SIZES)
def test_border_is_zero_inside_and_positive_where_the_part_is_cut(
    size: tuple[int, int], cells: tuple[int, int]
) -> None:
    border = {shape: place_of(drawn(shape, size), cells)[5].item() for shape in SHAPES}
    assert border["disc"] == border["ellipse"] == 0
    assert min(border["cut rectangle"], border["disc in the corner"]) > 0.05
    assert place_of(np.ones(size, bool), cells)[5].item() == pytest.approx(1)


@pytest.mark.parametrize("edge", ["top", "bottom", "left", "right"])
def test_every_edge_is_a_border(edge: str) -> None:
    mask = np.zeros((96, 128), bool)
    mask[30:60, 50:80] = True
    assert place_of(mask, (32, 32))[5] == 0
    rows, columns = (
        {"top": slice(0, 50), "bottom": slice(50, 96)},
        {"left": slice(0, 60), "right": slice(60, 128)},
    )
    mask[rows.get(edge, slice(30, 60)), columns.get(edge, slice(50, 80))] = True
    assert place_of(mask, (32, 32))[5] > 0.05


def test_pixels_out_of_the_region_have_no_place() -> None:
    region = np.zeros((96, 128), bool)
    region[:, 64:120] = True
    got = place_of(np.ones((96, 128), bool), (32, 32), region)
    assert got[:5].double().numpy() == pytest.approx(
        place_of_pixels(region)[:5], rel=1e-5, abs=0.01
    )
    assert got[5] == pytest.approx(2 * 14 / (4 * 32 - 4))  # cells of the ring


@pytest.mark.parametrize("what", ["no part", "no region", "a higher threshold"])
def test_an_empty_foreground_is_exactly_zero(what: str) -> None:
    mask, region = np.full((96, 128), what != "no part"), np.full((96, 128), what != "no region")
    lift = 1.0 if what == "a higher threshold" else LIFT
    assert place_of(mask, (32, 32), region, lift).tolist() == [0.0] * 6


def test_color_only_gives_the_place_of_the_region() -> None:
    region = drawn("ellipse", (96, 128))
    preprocess = Preprocess(96, 128, (48, 64), None)
    color = torch.zeros(2, 96, 128, 3, dtype=torch.uint8)
    both = torch.from_numpy(np.stack([region, np.zeros_like(region)])[..., None].astype(np.uint8))
    place = preprocess(color, None, both).place
    wanted = place_of_pixels(region)
    assert np.abs(place[0, :2].double().numpy() - wanted[:2]).max() < 0.5
    assert place[0, 2:5].double().numpy() == pytest.approx(wanted[2:5], rel=0.04)
    assert place[1].tolist() == [0.0] * 6


def test_cells_smaller_than_a_pixel_never_have_a_negative_variance() -> None:
    """2x2 cells of half a pixel together are a point; one of them alone would be less than one."""
    place = Place((8, 8), (16, 16))
    cells = torch.zeros(2, 1, 16, 16)
    cells[0, 0, 4:6, 6:8], cells[1, 0, 4, 6] = 1, 1
    assert place(cells)[0].tolist() == pytest.approx([3, 2, 0, 0, 0, 0], abs=1e-6)
    assert place(cells)[1, 2:4].tolist() == [0, 0]


def test_views_of_a_batch_do_not_mix() -> None:
    cells = torch.rand(3, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    place = Place((120, 160), (20, 30))
    assert torch.allclose(
        place(cells), torch.cat([place(one[None]) for one in cells]), rtol=1e-5, atol=1e-3
    )
