"""Mesh products keep the promises of the data: defects within their limits, material absent or
extra where the mask says, repeatability.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from trainer.synthetic.meshes import MESHES, finish, material, relief, solids
from trainer.synthetic.meshes import station as stations
from trainer.synthetic.meshes.station import MeshStation
from trainer.synthetic.products.stations import open_station
from trainer.synthetic.scene import CROP, Scene
from trainer.synthetic.scene_change import SceneChange
from trainer.synthetic.scene_defects import GROUPS, LARGEST_SIGMA, LEAST_SIGMA, SHARES

MATERIAL = [kind for kind, group in GROUPS.items() if group == "material"]
LOCAL = [kind for kind, group in GROUPS.items() if group not in ("material", "logical")]
# a local defect on one product each, those of the material on all
CASES = [
    *((kind, MESHES[number % len(MESHES)]) for number, kind in enumerate(LOCAL)),
    *((kind, product) for kind in MATERIAL for product in MESHES),
]
FOREGROUND_MM = 3.0
MOVED = "lever, further away"


@pytest.fixture(scope="module", autouse=True)
def small_textures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "SIDE_PX", 350)
        yield


@pytest.fixture(scope="module")
def coarse() -> Iterator[dict[str, MeshStation]]:
    """Stations of coarse meshes that cast one ray a pixel and compute no light."""

    def dark(
        _self: MeshStation, _posed: object, _hits: object, window: stations.Window, _lamp: object
    ) -> tuple[np.ndarray, np.ndarray]:
        size = (window.bottom - window.top, window.right - window.left)
        return np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solids, "ROUND_STEPS", 1)
        patch.setattr(solids, "SEGMENT_MM", 3.5)
        patch.setattr(material, "TOOL_EDGE_MM", 4.0)
        patch.setattr(relief, "FINE_EDGE_MM", 0.9)
        patch.setattr(stations, "SAMPLES", 1)
        patch.setattr(MeshStation, "_colored", dark)
        made = {name: MeshStation(name, seed=5) for name in MESHES}
        made[MOVED] = MeshStation("lever", 5, SceneChange(distance=1.06, light=70))
        for station in made.values():
            solid = station.product.solid(np.random.default_rng(0))
            patch.setattr(station.product, "solid", lambda _rng, solid=solid: solid)
        yield made


@cache
def table_z_m(station: MeshStation) -> np.ndarray:
    return station.empty(np.random.default_rng(0)).z_m


def foreground(scene: Scene, station: MeshStation) -> np.ndarray:
    return (table_z_m(station) - scene.z_m) * 1000 > FOREGROUND_MM


@cache
def seen(station: MeshStation, defect: str) -> Scene:
    return station.part(station.random("test", 1), defect)


@pytest.mark.parametrize("name", MESHES)
def test_a_part_lies_in_the_crop_and_fills_some_of_it(
    name: str, coarse: dict[str, MeshStation]
) -> None:
    good = seen(coarse[name], "good")
    assert good.truth is not None
    assert 0.06 < good.truth.part_share < 0.5
    assert not good.mask.any()
    raised = foreground(good, coarse[name])
    x, y, width, height = CROP
    inside = raised[y + 3 : y + height - 3, x + 3 : x + width - 3].sum()
    assert inside == raised.sum() > 0.75 * good.truth.part_share * width * height


@pytest.mark.parametrize(("defect", "name"), CASES)
def test_defects_keep_within_their_limits(
    defect: str, name: str, coarse: dict[str, MeshStation]
) -> None:
    """And material that is off or extra leaves less or more of the foreground."""
    station = coarse[name]
    good, bad = seen(station, "good"), seen(station, defect)
    truth = bad.truth
    assert truth is not None
    least, largest = SHARES[defect]
    assert least <= truth.area_share <= largest
    part_px = truth.part_share * CROP[2] * CROP[3]
    assert bad.mask.sum() / part_px == pytest.approx(truth.area_share, rel=1e-6)
    if GROUPS[defect] == "color":
        np.testing.assert_array_equal(good.z_m, bad.z_m)
        assert truth.height_sigma == 0
    elif GROUPS[defect] != "material":
        assert LEAST_SIGMA <= truth.height_sigma <= LARGEST_SIGMA
    before, after = foreground(good, station), foreground(bad, station)
    if defect in ("chip", "broken", "short_shot"):
        assert not (after & ~before).any()
        assert (before & ~after).sum() > 0.5 * (bad.mask & before).sum()
    if defect == "burr":
        assert not (before & ~after).any()
        assert (after & ~before).sum() > 0.5 * bad.mask.sum()


@pytest.mark.parametrize("defect", ["chip", "dent", "stain"])
def test_the_same_flaw_is_on_the_part_in_another_scene(
    defect: str, coarse: dict[str, MeshStation]
) -> None:
    """Seen from further away, under a lamp on another side."""
    near, far = (seen(coarse[name], defect) for name in ("lever", MOVED))
    assert near.truth is not None
    assert far.truth is not None
    assert far.truth.area_share == pytest.approx(near.truth.area_share, rel=0.1)
    smaller = far.truth.part_share / near.truth.part_share
    assert smaller == pytest.approx(1 / 1.06**2, rel=0.02)  # and a little parallax
    there = coarse[MOVED].view.looking_as(coarse["lever"].view, 1)
    expected = there.zeroed(near.mask.astype(np.float32)) >= 0.5
    both = (expected & far.mask).sum() / (expected | far.mask).sum()
    assert both > 0.6  # a part has height, the plane that the view moves over has none
    if GROUPS[defect] == "relief":
        assert far.truth.height_sigma < near.truth.height_sigma


@pytest.mark.parametrize(("defect", "name"), [("dent", "lever"), ("bump", "lever")])
def test_relief_is_as_high_as_its_sigmas(
    defect: str, name: str, coarse: dict[str, MeshStation]
) -> None:
    station = coarse[name]
    good, bad = seen(station, "good"), seen(station, defect)
    assert bad.truth is not None
    change_mm = (good.z_m - bad.z_m)[bad.mask] * (1000 if defect == "bump" else -1000)
    sigma_mm = station.sigma_mm(10.0)
    assert change_mm.max() / sigma_mm == pytest.approx(bad.truth.height_sigma, rel=0.2)


def test_a_scene_depends_on_seed_product_purpose_and_index_alone() -> None:
    first, other = MeshStation("bracket", 3), MeshStation("bracket", 3)
    other.empty(other.random("test", 7))
    one, two = (s.part(s.random("test", 0), "burr") for s in (first, other))
    for image in ("color", "glare", "z_m", "mask"):
        np.testing.assert_array_equal(getattr(one, image), getattr(two, image))
    color, depth = first.capture(one, np.random.default_rng(0))
    again = other.capture(two, np.random.default_rng(0))
    assert (color.tobytes(), depth.tobytes()) == (again[0].tobytes(), again[1].tobytes())


def test_parts_differ_in_pose_and_light(coarse: dict[str, MeshStation]) -> None:
    station = coarse["bracket"]
    first, second = (station.part(station.random("test", index)) for index in (0, 1))
    assert np.abs(first.z_m - second.z_m).max() > 0.003
    assert abs(first.color[5, 5].mean() / second.color[5, 5].mean() - 1) > 1e-4


def test_mesh_libraries_load_for_a_mesh_product_alone() -> None:
    script = (
        "import sys, trainer.cli, trainer.synthetic.products.write\n"
        "assert not {'manifold3d', 'embreex', 'trimesh'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert isinstance(open_station("bracket", 0), MeshStation)
