"""The outline of a part: a piece absent or too much is found in any pose, a loss of readings, a
crumb far away or an edge of the region is not taken for one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from calibration.silhouette import expected_silhouette, silhouette_of
from edge.schema import TensorSpec
from trainer.data.normal import prepare
from trainer.export.onnx_file import export_checked
from trainer.graph.deploy import Deployed
from trainer.graph.outline import CHANNELS, EXPECTED_EXCESS, SCALES, Outline
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.layers.typed import required
from trainer.train.heights import fit_heights
from trainer.train.outline import fit_outline, scale_judges
from trainer.train.pose import fit_pose

PX, CELLS, UNIT, TABLE, TOP = 256, 128, 1e-4, 4000, 3900
Feeds = dict[str, NDArray[np.generic]]
V, U = np.mgrid[:PX, :PX].astype(np.float64)


class Even(nn.Module):
    """A detector that finds nothing: everywhere the same value."""

    map_size = (64, 64)
    site_inputs: tuple[TensorSpec, ...] = ()

    def forward(self, prepared: Prepared) -> Tensor:
        return torch.full((len(prepared.color), 1, 64, 64), 0.1) + 0 * prepared.area.mean()


class Relief(Even):
    """A detector that finds what is high or bright."""

    def forward(self, prepared: Prepared) -> Tensor:
        height = nn.functional.avg_pool2d(required(prepared.height), 2)
        return 100 * height + nn.functional.avg_pool2d(prepared.color[:, :1], 4) / 255


def part(
    seed: int, *changes: str, spread: float = 1.0, camera: tuple[int, int] = (0, 0),
    far: float = 1.0, lens: float = 1.0,
) -> Feeds:  # fmt: skip
    """A plate with a bore, turned and shifted by the seed, as the camera sees it.

    spread: of turn (a full one) and shift. camera: pixels that it was moved by. far, lens: its
    distance and its focal length, as multiples.
    """
    random = np.random.default_rng(seed)
    turn, (du, dv) = random.uniform(0, 2 * np.pi), random.uniform(-12, 12, 2)
    turn, du, dv = spread * turn, spread * du + camera[0], spread * dv + camera[1]
    u, v = (U - PX / 2) * far / lens - du, (V - PX / 2) * far / lens - dv
    x, y = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    inside = (np.abs(x) < 56) & (np.abs(y) < 36) & (np.hypot(x + 16, y) > 14)
    if "chip" in changes:
        inside &= np.hypot(x - 56, y) > 9
    if "bite" in changes:
        inside &= np.hypot(x - 56, y) > 24
    if "broken" in changes:
        inside &= x + 0.6 * y < 32
    if "cut off" in changes:
        inside &= x < 36
    if "burr" in changes:
        inside |= (np.abs(x) < 12) & (np.abs(y - 36) < 7)
    if "dust" in changes:
        inside |= np.hypot(x + 72, y - 4) < 0.6
    if "crumb" in changes:
        inside |= np.hypot(U - 14, V - 14) < 5
    depth = np.where(inside, TOP, TABLE) + (far - 1) * TABLE + random.normal(0, 3, (PX, PX))
    if "unread" in changes:
        depth[np.hypot(x - 56, y) < 14] = 0
    counts = depth.round().astype("<u2")
    region = np.full((PX, PX), 255, np.uint8)
    if "cut" in changes:
        region[:, : int(PX / 2 + du - 30)] = 0
    return {
        "color": np.repeat(np.where(inside, U, 0).astype(np.uint8)[None, :, :, None], 3, 3),
        "depth": counts.view(np.uint8).reshape(1, PX, PX, 2),
        "region": region[None, :, :, None],
        "unit": np.array([UNIT], np.float32),
        "intrinsics": np.array([400 * lens, 400 * lens, 128, 128], np.float32),
        "plane": np.array([0, 0, 1, far * TABLE * UNIT], np.float32),
        "lift": np.array([0.002], np.float32),
    }


def fitted() -> Deployed:
    deployed = Deployed(Preprocess(PX, PX, (256, 256), (CELLS, CELLS), 0.03), Even(), 0.01).eval()
    fit_outline(deployed, map(part, range(24)), 0)
    scale_judges(deployed, [0.1], [0.1])
    return deployed.requires_grad_(False)


@pytest.fixture(scope="module")
def deployed() -> Deployed:
    return fitted()


def score(deployed: Deployed, feeds: Feeds) -> float:
    return float(deployed.run(feeds)["score"][0])


def test_the_derivatives_are_those_of_scipy_in_float64() -> None:
    image = np.random.default_rng(0).random((CELLS, CELLS))
    outline = Outline((CELLS, CELLS), (PX, PX))
    described = outline.described(torch.from_numpy(image).float()[None, None]).double().numpy()
    described = described.reshape(CELLS // 2, CELLS // 2, CHANNELS)
    for number, sigma in enumerate(SCALES):

        def of(*order: int, sigma: float = sigma) -> NDArray[np.float64]:
            reach = {"radius": int(np.ceil(3 * sigma)), "mode": "constant"}
            smooth = ndimage.gaussian_filter(image, sigma, order, **reach)
            return np.asarray(smooth * sigma ** sum(order))

        inner, inside = (
            slice(12, -12),
            slice(24, -24, 2),
        )  # scipy divides the cut-off bell by its sum: a part in a few hundred
        level, slope = of(0, 0), np.hypot(of(1, 0), of(0, 1))
        bends = np.sqrt(of(2, 0) ** 2 + 2 * of(1, 1) ** 2 + of(0, 2) ** 2 + 1e-6)
        for channel, wanted in ((0, level), (1, slope), (3, bends)):
            got = described[inner, inner, channel * len(SCALES) + number]
            assert np.abs(got - wanted[inside, inside]).max() < 0.02 * np.abs(wanted).max()


def test_neither_turn_nor_mirror_image_changes_a_descriptor() -> None:
    side = CELLS + 1  # every other cell is the same from either end
    image = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(1))
    outline = Outline((side, side), (side, side))

    def described(image: Tensor) -> Tensor:
        return outline.described(image).reshape(side // 2 + 1, side // 2 + 1, CHANNELS)

    plain = described(image)
    assert torch.allclose(described(image.rot90(1, (2, 3))), plain.rot90(1, (0, 1)), atol=1e-4)
    assert torch.allclose(described(image.flip(3)), plain.flip(1), atol=1e-4)


def test_a_good_part_in_a_new_pose_adds_nothing(deployed: Deployed) -> None:
    added = [score(deployed, part(seed)) - 0.1 for seed in range(100, 130)]
    assert np.count_nonzero(np.array(added) > 0.02) <= 1


@pytest.mark.parametrize("change", ["chip", "broken", "burr"])
def test_absent_and_extra_material_is_found_in_any_pose(deployed: Deployed, change: str) -> None:
    highest = max(score(deployed, part(seed)) for seed in range(100, 120))
    for seed in range(200, 208):
        outputs = deployed.run(part(seed, change))
        assert outputs["score"][0] > 1.5 * highest
        changed = deployed.run(part(seed, change))["map"] - deployed.run(part(seed))["map"]
        row, column = np.unravel_index(changed.argmax(), (64, 64))
        good, bad = (part(seed, *what)["depth"].view("<u2")[0, :, :, 0] for what in ((), (change,)))
        truth = np.abs(good.astype(int) - bad) > 50
        near = ndimage.binary_dilation(truth, iterations=16)
        assert near[4 * row + 2, 4 * column + 2]


@pytest.mark.parametrize("change", ["bite", "cut off", "broken"])
def test_the_map_covers_all_of_the_absent_material_and_little_else(
    deployed: Deployed, change: str
) -> None:
    for seed in range(300, 306):
        good, bad = (part(seed, *what)["depth"].view("<u2")[0, :, :, 0] for what in ((), (change,)))
        absent = good.astype(int) < bad.astype(int) - 50
        raised = deployed.run(part(seed, change))["map"][0, 0] > 0.5
        assert raised[ndimage.binary_erosion(absent, iterations=2)[2::4, 2::4]].mean() > 0.9
        near = ndimage.binary_dilation(absent, iterations=16)[2::4, 2::4]
        assert raised[~near].mean() < 0.015


def test_a_piece_that_breaks_along_a_line_that_could_be_the_parts_own_edge_is_found(
    deployed: Deployed,
) -> None:
    """Each place of such an outline is normal: only the whole silhouette is not."""
    highest = max(score(deployed, part(seed)) for seed in range(100, 120))
    assert min(score(deployed, part(seed, "cut off")) for seed in range(400, 410)) > 2 * highest


@pytest.mark.parametrize("change", ["unread", "crumb", "dust", "cut"])
def test_lost_readings_crumbs_dust_and_the_edge_of_the_region_raise_no_score(
    deployed: Deployed, change: str
) -> None:
    highest = max(score(deployed, part(seed)) for seed in range(100, 120))
    assert max(score(deployed, part(seed, change)) for seed in range(100, 120)) <= 1.05 * highest


def test_a_crumb_far_away_is_no_foreground_and_a_crumb_that_is_the_part_stays(
    deployed: Deployed,
) -> None:
    assert deployed.run(part(1, "crumb"))["area"] == pytest.approx(deployed.run(part(1))["area"])
    kept = Deployed(Preprocess(PX, PX, (256, 256), (CELLS, CELLS)), Even(), 0.01).eval()
    assert kept.run(part(1, "crumb"))["area"] > kept.run(part(1))["area"]


def test_expected_material_that_is_absent_is_found_and_lost_readings_are_not(
    deployed: Deployed,
) -> None:
    feeds = part(3)
    whole = (feeds["depth"].view("<u2")[0, :, :, 0] < 3950).astype(np.uint8)
    expected = ndimage.binary_erosion(whole, iterations=6).astype(np.uint8)[None, :, :, None]
    assert score(deployed, feeds | {"expected": expected}) == pytest.approx(score(deployed, feeds))
    lacking = part(3, "broken") | {"expected": expected}
    with torch.no_grad():
        images = prepare(deployed.preprocess, lacking)
        outline, none = required(deployed.outline), torch.zeros_like(images.foreground)
        added = (outline(images) - outline(images._replace(absent=none)))[0, 0].numpy()
    missing = (expected[0, :, :, 0] > 0) & (lacking["depth"].view("<u2")[0, :, :, 0] > 3950)
    deep = ndimage.binary_erosion(missing, iterations=4)[1::2, 1::2]
    near = ndimage.binary_dilation(missing, iterations=8)[1::2, 1::2]
    assert added[deep].min() == pytest.approx(EXPECTED_EXCESS, abs=0.3)
    assert not added[~near].any()
    unread = {**feeds, "expected": expected, "depth": feeds["depth"].copy()}
    unread["depth"][0, 100:150, 100:150] = 0
    assert score(deployed, unread) <= 1.05 * score(deployed, feeds)


def wide(feeds: Feeds) -> Feeds:
    """The same in a crop of 256 x 192 pixels."""
    images = {name: feeds[name][:, 32:224] for name in ("color", "depth", "region")}
    return {**feeds, **images}


def sunken(feeds: Feeds) -> Feeds:
    """The part, three millimeters lower in the middle of the view."""
    counts = feeds["depth"].view("<u2")[..., 0].copy()
    middle = counts[:, 108:148, 108:148]
    middle[middle < TABLE - 50] += 30
    depth = counts.view(np.uint8).reshape(1, PX, PX, 2)
    return feeds | {"depth": depth}


def test_cells_that_are_not_square_change_no_shape_that_turns() -> None:
    """M3DM brings every crop to a square. Judged in its cells, a part would be longer along one
    axis of the image than along the other.
    """
    deployed = Deployed(Preprocess(192, PX, (256, 256), (CELLS, CELLS), 0.03), Even(), 0.01).eval()
    fit_outline(deployed, (wide(part(seed)) for seed in range(24)), 0)
    scale_judges(deployed, [0.1], [0.1])
    assert required(deployed.outline).squared.even == (96, 128)
    highest = max(score(deployed, wide(part(seed))) for seed in range(100, 120))
    assert highest < 0.15
    for change in ("chip", "cut off", "burr"):
        found = [score(deployed, wide(part(seed, change))) for seed in range(200, 208)]
        assert min(found) > 1.5 * highest
    good, bad = (
        part(7, *what)["depth"].view("<u2")[0, 32:224, :, 0] for what in ((), ("cut off",))
    )
    absent = ndimage.binary_erosion(good.astype(int) < bad.astype(int) - 50, iterations=2)
    raised = deployed.run(wide(part(7, "cut off")))["map"][0, 0] > 0.5  # 64 x 64 of 192 x 256
    assert raised[absent[1::3, 2::4]].mean() > 0.9


def test_an_odd_number_of_cells_is_judged_as_well() -> None:
    deployed = Deployed(Preprocess(PX, PX, (256, 256), (95, 95), 0.03), Even(), 0.01).eval()
    fit_outline(deployed, map(part, range(24)), 0)
    scale_judges(deployed, [0.1], [0.1])
    highest = max(score(deployed, part(seed)) for seed in range(100, 110))
    assert min(score(deployed, part(seed, "cut off")) for seed in range(200, 205)) > 2 * highest


def test_a_camera_that_was_moved_and_calibrated_again_judges_as_before() -> None:
    """By 10 pixels, which is no whole number of the trainer's cells. With the expected silhouette
    of before, every good part lacks material.
    """
    deployed = Deployed(Preprocess(PX, PX, (192, 192), (96, 96), 0.03), Even(), 0.01).eval()
    fixed = [part(seed, spread=0.02) for seed in range(24)]
    fit_outline(deployed, fixed, 0)
    scale_judges(deployed, [0.1], [0.1])

    def expected(camera: tuple[int, int]) -> NDArray[np.uint8]:
        seen = [part(seed, spread=0.02, camera=camera) for seed in range(40, 50)]
        silhouettes = [
            silhouette_of(
                feeds["depth"].view("<u2")[0, :, :, 0].astype(np.uint16),
                UNIT,
                feeds["plane"].tolist(),
                float(feeds["lift"][0]),
            )
            for feeds in seen
        ]
        return required(expected_silhouette(silhouettes)).mask[None, :, :, None]

    def scores(camera: tuple[int, int], known: NDArray[np.uint8], *changes: str) -> list[float]:
        shown = (part(seed, *changes, spread=0.02, camera=camera) for seed in range(60, 72))
        return [score(deployed, feeds | {"expected": known}) for feeds in shown]

    before, moved = expected((0, 0)), expected((10, 10))
    good, lacking = scores((0, 0), before), scores((0, 0), before, "broken")
    assert max(good) < 0.5 * min(lacking)
    assert max(scores((10, 10), moved)) <= 1.05 * max(good)
    assert min(scores((10, 10), moved, "broken")) >= 0.95 * min(lacking)
    assert min(scores((10, 10), before)) > 2 * max(good)


@pytest.mark.parametrize(("far", "lens"), [(1.06, 1.0), (0.94, 1.0), (1.15, 1.0), (1.0, 0.97)])
def test_a_camera_at_another_distance_or_with_another_lens_judges_as_before(
    deployed: Deployed, far: float, lens: float
) -> None:
    alone = score(deployed, part(500))
    for seed in range(510, 516):
        assert score(deployed, part(seed, far=far, lens=lens)) == pytest.approx(alone, rel=0.05)
        assert score(deployed, part(seed, "bite", far=far, lens=lens)) > 3 * alone


def test_parts_that_fill_the_view_have_no_outline_to_judge() -> None:
    full = part(0)
    full["depth"] = np.full((PX, PX), TOP, "<u2").view(np.uint8).reshape(1, PX, PX, 2)
    deployed = Deployed(Preprocess(PX, PX, (256, 256), (CELLS, CELLS)), Even(), 0.01).eval()
    fit_outline(deployed, [full] * 6, 0)
    assert deployed.outline is None
    assert score(deployed, part(1, "chip")) == pytest.approx(0.1)


def test_parts_that_are_all_alike_leave_room_for_another() -> None:
    def again(seed: int) -> Feeds:
        """The same part in the same place, with the noise of another frame."""
        feeds = part(0)
        counts = feeds["depth"].view("<u2").astype(int)
        noise = np.random.default_rng(seed).normal(0, 3, counts.shape).round().astype(int)
        return feeds | {"depth": (counts + noise).astype("<u2").view(np.uint8)}

    deployed = Deployed(Preprocess(PX, PX, (256, 256), (CELLS, CELLS)), Even(), 0.01).eval()
    fit_outline(deployed, map(again, range(6)), 0)
    scale_judges(deployed, [0.1], [0.1])
    assert [score(deployed, again(seed)) for seed in range(10, 20)] == pytest.approx([0.1] * 10)


def test_an_empty_view_scores_zero_though_material_is_expected(deployed: Deployed) -> None:
    empty = part(1)
    empty["depth"] = np.full((PX, PX), TABLE, "<u2").view(np.uint8).reshape(1, PX, PX, 2)
    empty["expected"] = np.ones((1, PX, PX, 1), np.uint8)
    outputs = deployed.run(empty)
    assert (outputs["score"][0], outputs["area"][0], outputs["map"].max()) == (0, 0, 0)


def test_the_exported_graph_judges_outline_heights_and_pose_as_torch_does(tmp_path: Path) -> None:
    """In cells that are not square, so that the silhouette is resized as well."""
    preprocess = Preprocess(192, PX, (256, 256), (CELLS, CELLS), 0.03).eval()
    preprocess.pose = fit_pose(preprocess, (wide(part(seed)) for seed in range(12))).pose
    assert preprocess.pose is not None
    deployed = Deployed(preprocess, Relief(), 0.01).eval()
    fit_outline(deployed, (wide(part(seed)) for seed in range(12)), 0)
    fit_heights(deployed, (wide(part(seed)) for seed in range(12)))
    scale_judges(deployed, [0.1], [0.1])
    deployed.requires_grad_(False)
    feeds = wide(sunken(part(200, "chip"))) | {"expected": np.zeros((1, 192, PX, 1), np.uint8)}
    export_checked(deployed, tmp_path / "fp32.onnx", [feeds])
    session = onnxruntime.InferenceSession(str(tmp_path / "fp32.onnx"))
    named = dict(
        zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True)
    )
    reference = deployed.run(feeds)
    assert deployed.judges == [deployed.outline, deployed.heights]
    shares = deployed.run_apart(feeds)[1]
    deployed.heights = None
    without, rest = deployed.run_apart(feeds)
    assert reference["score"] > without["score"]
    assert list(rest) == ["detector", "outline"]
    assert {name: shares[name] for name in rest} == rest
    assert float(reference["score"][0] - without["score"][0]) == pytest.approx(shares["heights"])
    assert named["score"] == pytest.approx(reference["score"], rel=1e-4)
    assert np.abs(named["map"] - reference["map"]).max() < 1e-4 * reference["map"].max()
