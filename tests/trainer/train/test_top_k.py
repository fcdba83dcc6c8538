"""Which share of a map makes its score: the one under which synthetic defects stand best above
normal parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edge.frames.dataset import open_dataset
from tests.support.standin import HEIGHT, WIDTH, make_deployed
from tests.support.standin_run import LEFT, TOP, write_product
from trainer.data.scene import Scene
from trainer.train import validation
from trainer.train.top_k import DEFAULT_SHARE, SHARES, choose_top_k
from trainer.train.validation import JudgedPart, judge_drawn, judge_normal

CELLS = 100  # side of the maps here; a share of 0.02 % is 2 cells of them


def part(cells: int, value: float, noise: Sequence[float] = (), beside: float = 0.0) -> JudgedPart:
    """A map in which so many cells have the value, the next ones those of the noise, the others a
    falling background below 1.
    """
    values = np.linspace(1.0, 0.0, CELLS * CELLS, dtype=np.float32)
    values[: len(noise)] = noise
    values[len(noise) : len(noise) + cells] = value
    image = np.random.default_rng(0).permutation(values).reshape(CELLS, CELLS)
    return JudgedPart(None, image, np.ones_like(image), beside, 0.3, 1.0, 0.0)


def glints(count: int) -> list[list[float]]:
    """Normal parts have one or two cells that shine, each part differently."""
    draws = np.random.default_rng(1).uniform(2.0, 9.0, (count, 2))
    return [sorted(draw, reverse=True) for draw in draws.tolist()]


def test_small_defects_on_quiet_parts_take_the_small_share() -> None:
    """A few hot cells among many warm ones: a large share drowns them."""
    levels = np.linspace(1.0, 1.9, 20)  # how warm the normal parts are
    normal = [part(1500, level) for level in levels]
    drawn = [part(1500, level, [2.0, 2.0]) for level in levels]
    assert choose_top_k(normal, drawn)[0] == 0.0002


def test_single_cells_that_shine_make_the_small_shares_lose() -> None:
    normal = [part(0, 0.0, glint) for glint in glints(20)]
    drawn = [part(30, 2.0, glint) for glint in glints(20)[::-1]]
    assert choose_top_k(normal, drawn)[0] >= 0.002


def test_of_shares_that_do_as_well_the_largest_is_taken() -> None:
    normal, drawn = [part(0, 0.0) for _ in range(5)], [part(100, 5.0) for _ in range(5)]
    chosen, why = choose_top_k(normal, drawn)
    assert chosen == max(SHARES)  # 100 cells of the 1,000 still raise it
    assert "5 synthetic defects stand best above 5 normal validation parts" in why
    assert "0.02%: 100.0%" in why


def test_what_stands_beside_the_detector_does_not_choose() -> None:
    """Outline and heights find some of the synthetic defects whatever the share."""
    levels = np.linspace(1.0, 1.9, 20)
    normal = [part(1500, level) for level in levels]
    drawn = [part(1500, level, [2.0, 2.0], beside=100.0) for level in levels]
    assert choose_top_k(normal, drawn)[0] == 0.0002


def test_a_share_of_more_cells_than_tensorrt_sorts_is_no_candidate() -> None:
    """10 % of 224 x 224 cells are 5,018; TensorRT's TopK takes 3,840."""
    image = np.ones((224, 224), np.float32)
    alike = [JudgedPart(None, image, image, 0.0, 0.3, 1.0, 0.0) for _ in range(3)]
    assert choose_top_k(alike, alike)[0] == 0.05


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_parts_choose_nothing(count: int) -> None:
    chosen, why = choose_top_k([part(0, 0.0)] * count, [])
    assert chosen == DEFAULT_SHARE
    assert f"{count} normal validation {'part is' if count == 1 else 'parts are'} too few" in why


def test_defects_of_all_strengths_are_drawn_on_all_normal_parts(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    product = write_product(tmp_path_factory.mktemp("product"))
    deployed = make_deployed()
    dataset = open_dataset(product)
    samples = dataset.split("validation")
    crop = (LEFT, TOP, WIDTH, HEIGHT)
    scene = Scene(crop, True, True, (0.0, 0.0, 1.0, 0.4), 0.008)
    normal, drawn = judge_normal(deployed, scene, samples), judge_drawn(deployed, scene, samples)
    assert len(drawn) == validation.DRAWN > len(normal)
    apart = [
        float(np.abs(defect.map - normal[number % len(normal)].map).max())
        for number, defect in enumerate(drawn)
    ]
    assert np.mean(apart[len(drawn) // 2 :]) > np.mean(apart[: len(drawn) // 2]) > 0
