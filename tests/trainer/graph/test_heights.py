"""What is absent, one too many or swapped on a part is told by the height of its place, in any
pose, where normal parts all hold the same; a part of another option, a lost reading and parts
without a normal pose are not judged.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.schema import TensorSpec
from trainer.graph.deploy import Deployed
from trainer.graph.heights import FAR, MOST
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.train.heights import LEAST_PARTS, fit_heights
from trainer.train.outline import scale_judges
from trainer.train.pose import fit_pose

PX, UNIT, TABLE, TOP = 256, 1e-4, 4000, 3900
FULL, HIGH, LOW = 40, 20, 0  # counts over the plate: two kinds of element, and none
Feeds = dict[str, NDArray[np.generic]]
V, U = np.mgrid[:PX, :PX].astype(np.float64)
PLACES = ((-40.0, -18.0), (0.0, -18.0), (40.0, -18.0), (-40.0, 18.0), (0.0, 18.0))


class Even(nn.Module):
    """A detector that finds nothing: everywhere the same value."""

    map_size = (64, 64)
    site_inputs: tuple[TensorSpec, ...] = ()

    def forward(self, prepared: Prepared) -> Tensor:
        return torch.full((len(prepared.color), 1, 64, 64), 0.1) + 0 * prepared.area.mean()


def part(seed: int, change: str = "", hidden: bool = False, noise: float = 1.5) -> Feeds:
    """A plate with a corner cut off, turned and shifted by the seed: five places, of which the last
    holds anything. hidden: the second place has no readings. noise: deviation of them, counts.
    """
    random = np.random.default_rng(seed)
    turn, (du, dv) = random.uniform(0, 2 * np.pi), random.uniform(-10, 10, 2)
    u, v = U - PX / 2 - du, V - PX / 2 - dv
    x, y = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    stands = [FULL, HIGH, LOW, HIGH, int(random.choice([FULL, HIGH, LOW]))]
    if change == "absent":
        stands[1] = LOW
    if change == "extra":
        stands[2] = HIGH
    if change == "swapped":
        stands[:2] = stands[1::-1]
    counts = np.where((np.abs(x) < 70) & (np.abs(y) < 44) & (x + y < 96), TOP, TABLE)
    for (to_x, to_y), height in zip(PLACES, stands, strict=True):
        counts = counts - height * ((np.abs(x - to_x) < 13) & (np.abs(y - to_y) < 11))
    counts = counts + random.normal(0, noise, counts.shape).round().astype(int)
    if hidden:
        counts[(np.abs(x) < 15) & (np.abs(y + 18) < 13)] = 0
    return {
        "color": np.full((1, PX, PX, 3), 120, np.uint8),
        "depth": counts.astype("<u2").view(np.uint8).reshape(1, PX, PX, 2),
        "region": np.ones((1, PX, PX, 1), np.uint8),
        "unit": np.array([UNIT], np.float32),
        "intrinsics": np.array([300, 300, PX / 2, PX / 2], np.float32),
        "plane": np.array([0, 0, 1, TABLE * UNIT], np.float32),
        "lift": np.array([0.003], np.float32),
    }


def fitted(count: int, posed: bool = True) -> Deployed:
    preprocess = Preprocess(PX, PX, (256, 256), (128, 128)).eval()
    if posed:
        preprocess.pose = fit_pose(preprocess, map(part, range(count))).pose
        assert preprocess.pose is not None
    deployed = Deployed(preprocess, Even(), 0.01).eval()
    fit_heights(deployed, map(part, range(count)))
    scale_judges(deployed, [0.1], [0.1])
    return deployed


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    return fitted(32)


def score(deployed: Deployed, feeds: Feeds) -> float:
    return float(deployed.run(feeds)["score"][0])


@pytest.mark.parametrize("change", ["absent", "extra", "swapped"])
def test_what_stands_elsewhere_than_on_normal_parts_is_found(
    deployed: Deployed, change: str
) -> None:
    found = [score(deployed, part(seed, change)) for seed in range(200, 206)]
    assert min(found) > 0.3
    assert max(found) <= 0.1 * (1 + 10 * MOST) + 1e-6


def test_a_normal_part_stays_as_the_detector_judged_it(deployed: Deployed) -> None:
    """Whatever its last place holds."""
    normal = [score(deployed, part(seed)) for seed in range(100, 112)]
    assert normal == pytest.approx([0.1] * 12, abs=0.02)


def test_what_each_judgment_has_of_a_score_is_told(deployed: Deployed) -> None:
    outputs, shares = deployed.run_apart(part(200, "absent"))
    assert list(shares) == ["detector", "heights"]
    assert shares["detector"] == pytest.approx(0.1)
    assert sum(shares.values()) == pytest.approx(float(outputs["score"][0]))
    assert shares["heights"] > 0.2
    assert deployed.run_apart(part(101))[1]["heights"] == pytest.approx(0, abs=0.02)


def test_the_map_shows_the_place_where_the_camera_sees_it(deployed: Deployed) -> None:
    good, bad = (part(7, change)["depth"].view("<u2")[0, :, :, 0] for change in ("", "absent"))
    raised = deployed.run(part(7, "absent"))["map"][0, 0] > 0.5  # 64 x 64 of 256 x 256
    differs = (bad.astype(int) - good.astype(int) > 10)[2::4, 2::4]
    assert raised[differs].mean() > 0.8
    assert (raised & ~differs).sum() < 1.5 * differs.sum()


@pytest.mark.parametrize("noise", [4.0, 8.0])
def test_more_noise_of_the_camera_is_no_defect_and_hides_none(
    deployed: Deployed, noise: float
) -> None:
    normal = [score(deployed, part(seed, noise=noise)) for seed in range(100, 108)]
    assert normal == pytest.approx([0.1] * 8, abs=0.05)
    found = [score(deployed, part(seed, "absent", noise=noise)) for seed in range(200, 206)]
    assert min(found) > 0.3


@pytest.mark.parametrize("off", [-0.0004, 0.0004])
def test_a_plane_that_is_a_little_off_is_no_defect(deployed: Deployed, off: float) -> None:
    moved = {"plane": np.array([0, 0, 1, TABLE * UNIT + off], np.float32)}
    normal = [score(deployed, part(seed) | moved) for seed in range(100, 108)]
    assert normal == pytest.approx([0.1] * 8, abs=0.05)
    assert min(score(deployed, part(seed, "absent") | moved) for seed in range(200, 204)) > 0.3


def test_lost_readings_are_not_taken_for_an_absent_element(deployed: Deployed) -> None:
    assert score(deployed, part(200, "absent", hidden=True)) == pytest.approx(0.1, abs=0.02)


def test_parts_as_they_lie_and_few_parts_have_no_heights_of_places() -> None:
    assert fitted(12, posed=False).heights is None
    few = fitted(LEAST_PARTS - 1)
    assert few.heights is None
    assert score(few, part(200, "absent")) == pytest.approx(0.1)


def test_the_difference_is_that_of_means_of_heights_in_double(deployed: Deployed) -> None:
    """Against an own computation from the statistics of the same places, in float64."""
    heights = deployed.heights
    assert heights is not None
    random = np.random.default_rng(0)
    above = random.normal(0.01, 0.002, heights.mean.shape)
    mean, deviation, told = (
        tensor.numpy().astype(np.float64)
        for tensor in (heights.mean, heights.deviation, heights.told)
    )
    apart = (above - mean) / deviation
    common = (np.clip(apart, -FAR, FAR) * deviation * told).sum() / told.sum()
    expected = np.abs(above - mean - common) / deviation * told
    given = heights.unusual(torch.from_numpy(above).float(), torch.ones_like(heights.told))
    assert given.numpy() == pytest.approx(expected, rel=1e-4, abs=1e-3)
