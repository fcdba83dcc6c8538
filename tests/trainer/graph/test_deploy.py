"""The deployed graph's score and masks, with a detector whose map anyone can work out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.errors import ConfigError
from edge.schema import TensorSpec
from tests.support.standin import Feeds, make_feeds
from trainer.graph.deploy import Answer, Deployed, MapMask, TopKMean
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.layers.adaptation import moments

HEIGHT, WIDTH = 96, 128


class Redness(nn.Module):
    """The map is the working image's red channel: defects of color show where they are."""

    map_size = (32, 32)
    site_inputs: tuple[TensorSpec, ...] = ()

    def forward(self, prepared: Prepared) -> Tensor:
        return nn.functional.avg_pool2d(prepared.color[:, :1], 2) / 255


class Shifted(Redness):
    """The same with a site tensor, the features that it acts on, and their moments."""

    site_inputs = (TensorSpec(name="shift", dtype="float32", shape=(1,), default=0.0),)
    has_features = has_moments = True

    # has a site tensor
    def forward(self, prepared: Prepared, shift: Tensor) -> Answer:  # type: ignore[override]
        features = super().forward(prepared)
        return Answer(
            features + shift, features, moments=moments([features], [prepared.foreground])
        )


class Scoring(Redness):
    """The same with a score of its own."""

    has_score = True

    def forward(self, prepared: Prepared) -> Answer:  # type: ignore[override]  # more than a map
        redness = super().forward(prepared)
        return Answer(redness, score=7 + redness.mean(dim=(1, 2, 3)))


class Infinite(Redness):
    def forward(self, prepared: Prepared) -> Tensor:
        return super().forward(prepared) / prepared.color[:, :1, ::2, ::2].mul(0)


def deployed_with(detector: nn.Module, top_k: float = 0.02, depth: bool = True) -> Deployed:
    sizes = (32, 32) if depth else None
    return Deployed(Preprocess(HEIGHT, WIDTH, (64, 64), sizes), detector, top_k).eval()


def without_reading(feeds: Feeds, rows: slice, columns: slice) -> Feeds:
    depth = feeds["depth"].copy()
    depth[:, rows, columns] = 0
    return {**feeds, "depth": depth}


def top_k_by_sorting(
    map_: NDArray[np.float32], foreground: NDArray[np.bool_], share: float
) -> float:
    cells = int(foreground.sum())
    taken = math.ceil(round(share * cells, 6))
    return float(np.sort(map_.ravel().astype(np.float64))[::-1][:taken].mean()) if taken else 0.0


@pytest.mark.parametrize("share", [0.001, 0.01, 0.03, 0.25, 1.0])
@pytest.mark.parametrize("cells", [0, 1, 3, 100, 300, 1024])
def test_score_is_the_mean_of_the_top_share_of_the_foreground(cells: int, share: float) -> None:
    random = np.random.default_rng(cells)
    foreground = np.zeros(1024, bool)
    foreground[random.permutation(1024)[:cells]] = True
    map_ = np.where(foreground, random.random(1024), 0).astype(np.float32)
    score = TopKMean(share, (32, 32))(
        torch.from_numpy(map_).reshape(1, 1, 32, 32),
        torch.from_numpy(foreground).float().reshape(1, 1, 32, 32),
    )
    assert score.item() == pytest.approx(top_k_by_sorting(map_, foreground, share), rel=1e-5)


def test_a_whole_number_of_cells_stays_whole_in_float32() -> None:
    """0.008 x 375 is 3; in float32 it is a little more."""
    map_ = torch.zeros(1, 1, 32, 32)
    map_.view(-1)[:4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    foreground = (torch.arange(1024) < 375).float().reshape(1, 1, 32, 32)
    assert TopKMean(0.008, (32, 32))(map_, foreground) == 3


@pytest.mark.parametrize(("share", "size"), [(0.0, (8, 8)), (1.1, (8, 8)), (0.5, (128, 128))])
def test_a_share_that_tensorrt_cannot_take_is_refused(share: float, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="top-k"):
        TopKMean(share, size)


def test_map_is_zero_outside_the_part_and_its_score_is_inside() -> None:
    feeds = make_feeds(0)
    outputs = deployed_with(Redness()).run(feeds)
    assert {name: value.shape for name, value in outputs.items()} == {
        "map": (1, 1, 32, 32),
        "score": (1,),
        "area": (1,),
        "valid": (1,),
        "place": (1, 6),
    }
    map_ = outputs["map"][0, 0]
    assert map_[0].max() == 0
    assert map_[16, 16] > 0.3
    assert outputs["score"] == pytest.approx(top_k_by_sorting(map_, map_ > 0, 0.02), rel=1e-5)
    assert outputs["area"] == pytest.approx(math.pi * 40**2 / (HEIGHT * WIDTH), abs=0.03)
    assert outputs["valid"] == pytest.approx(1)
    # where the disc of 40 px was drawn
    assert outputs["place"][0, :2] == pytest.approx([64, 48], abs=0.5)
    assert outputs["place"][0, 2:4] == pytest.approx([400, 400], rel=0.05)  # r^2 / 4
    assert outputs["place"][0, 5] == 0


@pytest.mark.parametrize("seed", range(6))
def test_pixels_without_a_reading_never_raise_the_score(seed: int) -> None:
    """Holes that filling can close, anywhere on the part, on and off its defect and across the
    whole of it.
    """
    random = np.random.default_rng(seed)
    deployed, feeds = deployed_with(Redness(), top_k=0.05), make_feeds(seed, defect=0.8)
    before = deployed.run(feeds)
    holes = without_reading(feeds, slice(0), slice(0))
    for _ in range(30):
        row, column = random.integers(20, 70), random.integers(35, 88)
        holes = without_reading(holes, slice(row, row + 8), slice(column, column + 8))
        after = deployed.run(holes)
        if after["area"] < before["area"] - 1e-6:
            break  # too much to fill: that is for min_area and min_valid to judge
        assert after["score"] <= before["score"] + 1e-6
        assert after["valid"] <= before["valid"] + 1e-6


def test_an_unread_defect_is_not_scored_and_shows_in_valid() -> None:
    deployed, feeds = deployed_with(Redness(), top_k=0.02), make_feeds(3)
    feeds["color"][0, 40:56, 56:72] = 255
    good, bad = deployed.run(make_feeds(3)), deployed.run(feeds)
    unread = deployed.run(without_reading(feeds, slice(38, 58), slice(54, 74)))
    assert bad["score"] > good["score"] + 0.2
    assert unread["score"] <= good["score"] + 1e-6
    assert unread["valid"] < 0.95


@pytest.mark.parametrize("what", ["no depth", "no region", "bare table"])
def test_an_empty_view_scores_zero(what: str) -> None:
    feeds = make_feeds(0, defect=1.0)
    change: Feeds = {
        "no depth": {"depth": feeds["depth"] * 0},
        "no region": {"region": feeds["region"] * 0},
        "bare table": {"lift": np.float32([1.0])},
    }[what]
    outputs = deployed_with(Redness()).run({**feeds, **change})
    assert outputs["score"] == outputs["area"] == 0
    assert np.abs(outputs["map"]).max() == np.abs(outputs["place"]).max() == 0


def test_a_detector_that_gives_no_number_is_seen_in_the_outputs() -> None:
    outputs = deployed_with(Infinite()).run(make_feeds(0))
    assert not np.isfinite(outputs["score"]).all()
    assert not np.isfinite(outputs["map"]).all()


def test_site_tensors_are_inputs_with_neutral_defaults_and_their_features_an_output() -> None:
    deployed, feeds = deployed_with(Shifted()), make_feeds(0)
    neutral, shifted = deployed.run(feeds), deployed.run({**feeds, "shift": np.float32([0.5])})
    assert deployed.outputs[5:] == ("features", "moments")
    assert neutral["moments"].shape == (1, 2, 1)
    assert neutral["score"] == deployed_with(Redness()).run(feeds)["score"]
    assert shifted["score"] == pytest.approx(neutral["score"] + 0.5, abs=1e-6)
    assert np.array_equal(shifted["features"], neutral["features"])


def test_a_detector_may_score_by_itself_but_not_an_empty_view() -> None:
    deployed, feeds = deployed_with(Scoring()), make_feeds(0)
    # the mean lies below the largest
    expected = 7 + deployed_with(Redness()).run(feeds)["map"].max()
    assert 7 < deployed.run(feeds)["score"] < expected
    empty = deployed.run({**feeds, "region": np.zeros_like(feeds["region"])})
    assert (empty["score"], empty["area"]) == (0, 0)


def test_inputs_are_those_of_the_contract() -> None:
    specs = [(spec.name, spec.dtype, spec.shape) for spec in deployed_with(Redness()).inputs]
    assert specs == [
        ("color", "uint8", (1, 96, 128, 3)),
        ("depth", "uint8", (1, 96, 128, 2)),
        ("region", "uint8", (1, 96, 128, 1)),
        ("unit", "float32", (1,)),
        ("intrinsics", "float32", (4,)),
        ("plane", "float32", (4,)),
        ("lift", "float32", (1,)),
        ("expected", "uint8", (1, 96, 128, 1)),
    ]
    assert [spec.name for spec in deployed_with(Shifted()).inputs][-2:] == ["expected", "shift"]
    assert {spec.name: spec.default for spec in deployed_with(Redness()).inputs}["expected"] == 0


def test_expected_material_changes_nothing_so_far() -> None:
    deployed, feeds = deployed_with(Redness()), make_feeds(0, defect=0.5)
    everywhere = deployed.run({**feeds, "expected": np.full_like(feeds["expected"], 255)})
    left_out = deployed.run({name: value for name, value in feeds.items() if name != "expected"})
    for name, value in deployed.run(feeds).items():
        assert np.array_equal(value, everywhere[name])
        assert np.array_equal(value, left_out[name])


def test_color_only_has_two_inputs_and_is_always_valid() -> None:
    deployed, feeds = deployed_with(Redness(), depth=False), make_feeds(0)
    feeds["region"][:, :, :64] = 0
    outputs = deployed.run({name: feeds[name] for name in ("color", "region")})
    assert [spec.name for spec in deployed.inputs] == ["color", "region"]
    assert (outputs["area"].item(), outputs["valid"].item()) == (0.5, 1.0)
    assert outputs["place"][0, :2] == pytest.approx([95.5, 47.5])  # of the region
    assert outputs["map"][..., :16].max() == 0 < outputs["map"][..., 16:].min()


def test_map_cells_are_foreground_with_any_of_it_and_scored_with_half_of_it_read() -> None:
    foreground, read = torch.zeros(1, 1, 4, 6), torch.ones(1, 1, 4, 6)
    foreground[..., :2, :2], foreground[..., 0, 2], foreground[..., 2:, 4:] = 1, 1, 1
    read[..., :1, 0], read[..., 2:, 4:], read[..., 0, 2] = 0, 0, 1
    read[..., 2, 4] = 1
    none = torch.zeros(1)
    found, scored = MapMask((4, 6), (2, 3))(Prepared(none, none, foreground, read, none, none))
    assert found[0, 0].tolist() == [[1, 1, 0], [0, 0, 1]]
    # three of four read; one of one; one of four
    assert scored[0, 0].tolist() == [[1, 1, 0], [0, 0, 0]]
