"""The frames of a bundle come back to the bit, and a damaged one is one sentence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import BundleError
from edge.proof.golden import (
    CARRY_ALL,
    GoldenFrame,
    NormalIndex,
    carried_ranks,
    read_golden,
    read_normal,
    write_normal,
)
from edge.schema import TensorSpec

HEIGHT, WIDTH = 6, 8
SPECS = (
    TensorSpec(name="color", dtype="uint8", shape=(1, HEIGHT, WIDTH, 3)),
    TensorSpec(name="region", dtype="uint8", shape=(1, HEIGHT, WIDTH, 1), default=255),
    TensorSpec(name="depth", dtype="uint8", shape=(1, HEIGHT, WIDTH, 2)),
    TensorSpec(name="plane", dtype="float32", shape=(4,)),
    TensorSpec(name="lift", dtype="float32", shape=(1,), default=0.005),
    TensorSpec(name="expected", dtype="uint8", shape=(1, HEIGHT, WIDTH, 1), default=0),
    TensorSpec(name="shift", dtype="float32", shape=(1, 3), default=0),
)


def feeds(seed: int, **changes: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Any bytes at all: every value of color, depth and plane has to survive."""
    generator = np.random.default_rng(seed)
    given = {spec.name: spec.neutral() for spec in SPECS if spec.default is not None}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "color": generator.integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8),
        "depth": generator.integers(0, 256, (1, HEIGHT, WIDTH, 2), np.uint8),
        "plane": generator.normal(size=4).astype(np.float32),
        **changes,
    }


def written(
    folder: Path, frames: list[dict[str, NDArray[Any]]], parts: int | None = None
) -> NormalIndex:
    carried = [
        (f"good/{rank:03d}", rank, lambda one=one: one) for rank, one in enumerate(frames, 1)
    ]
    return write_normal(folder, carried, parts or len(frames), len(frames), SPECS)


# --- normal frames ---


def test_every_input_comes_back_to_the_bit(tmp_path: Path) -> None:
    region = np.full((1, HEIGHT, WIDTH, 1), 255, np.uint8)
    region[0, :2] = 0
    expected = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(1, HEIGHT, WIDTH, 1)
    shift = np.float32([[0.1, -3e-7, 1e20]])
    frames = [
        feeds(0),
        feeds(1, region=region, expected=expected),
        feeds(2, shift=shift, lift=np.float32([0.1])),
    ]
    written(tmp_path, frames)
    normal = read_normal(tmp_path, SPECS)
    assert len(normal) == 3
    for before, after in zip(frames, normal.feeds(), strict=True):
        assert set(after) == {spec.name for spec in SPECS}
        for spec in SPECS:
            assert after[spec.name].dtype == spec.dtype
            assert after[spec.name].shape == spec.shape
            np.testing.assert_array_equal(after[spec.name], before[spec.name])


def test_what_is_the_default_takes_no_file(tmp_path: Path) -> None:
    written(tmp_path, [feeds(0)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "0000_color.png",
        "0000_depth.png",
        "index.json",
    ]
    assert json.loads((tmp_path / "index.json").read_text())["frames"][0]["inputs"].keys() == {
        "plane"
    }


def test_pictures_are_what_a_viewer_expects(tmp_path: Path) -> None:
    one = feeds(0)
    written(tmp_path, [one])
    color = cv2.imread(str(tmp_path / "0000_color.png"))
    depth = cv2.imread(str(tmp_path / "0000_depth.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(color[:, :, ::-1], one["color"][0])
    np.testing.assert_array_equal(depth, one["depth"].view("<u2")[0, :, :, 0])


def test_ranks_and_names_are_kept(tmp_path: Path) -> None:
    index = written(tmp_path, [feeds(0), feeds(1)], parts=30)
    normal = read_normal(tmp_path, SPECS)
    assert normal.index == index
    assert (normal.ranks, normal.index.parts, normal.index.highest) == ([1, 2], 30, 2)
    assert [entry.name for entry in normal.index.frames] == ["good/001", "good/002"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"highest": 3}, "the 3 highest are not all there"),
        ({"parts": 1}, "beyond the 1 parts"),
        ({"parts": 0}, "parts: "),
        ({"surprise": 1}, "surprise"),
        ({"schema": 2}, "schema"),
        ({"frames": []}, "frames"),
    ],
)
def test_an_index_that_contradicts_itself_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    written(tmp_path, [feeds(0), feeds(1)], parts=5)
    path = tmp_path / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BundleError, match="Export the bundle again") as refused:
        read_normal(tmp_path, SPECS)
    assert words in str(refused.value)


def test_doubled_ranks_are_refused(tmp_path: Path) -> None:
    written(tmp_path, [feeds(0), feeds(1)])
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace('"rank": 2', '"rank": 1'))
    with pytest.raises(BundleError, match="doubled"):
        read_normal(tmp_path, SPECS)


@pytest.mark.parametrize(
    ("name", "picture", "words"),
    [
        (
            "0000_color.png",
            np.zeros((HEIGHT, WIDTH), np.uint8),
            "uint8 (6, 8), where color of 8x6 pixels",
        ),
        (
            "0000_color.png",
            np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8),
            "(6, 9, 3), where color of 8x6 pixels",
        ),
        (
            "0000_depth.png",
            np.zeros((HEIGHT, WIDTH), np.uint8),
            "uint8 (6, 8), where depth of 8x6 pixels",
        ),
        ("0000_depth.png", None, "no picture"),
        ("0000_color.png", "absent", "good/001 has no color"),
    ],
)
def test_a_damaged_picture_is_one_sentence(
    tmp_path: Path, name: str, picture: Any, words: str
) -> None:
    written(tmp_path, [feeds(0)])
    if picture is None:
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    elif isinstance(picture, str):
        (tmp_path / name).unlink()
    else:
        cv2.imwrite(str(tmp_path / name), picture)
    with pytest.raises(BundleError, match="Export the bundle again") as refused:
        list(read_normal(tmp_path, SPECS).feeds())
    assert words in str(refused.value)


def test_numbers_that_do_not_fit_the_graph_are_one_sentence(tmp_path: Path) -> None:
    written(tmp_path, [feeds(0, plane=np.zeros(5, np.float32))])
    with pytest.raises(
        BundleError, match=r"plane of good/001 has 5 values, the graph takes \(4,\)"
    ):
        list(read_normal(tmp_path, SPECS).feeds())


def test_no_index_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"index\.json does not exist"):
        read_normal(tmp_path, SPECS)


# --- which are carried ---


@pytest.mark.parametrize(
    ("parts", "rank", "highest", "carried"),
    [
        (1, 1, 1, 1),
        (CARRY_ALL, 3, CARRY_ALL, CARRY_ALL),
        (200, 10, 48, 64),
        (400, 20, 60, 76),
        (65, 3, 65, 64 + 1),
    ],
)
def test_the_highest_are_carried_and_some_of_the_rest(
    parts: int, rank: int, highest: int, carried: int
) -> None:
    ranks, up_to = carried_ranks(parts, rank)
    assert (up_to, len(ranks)) == (highest, carried) or (up_to == 48 and len(ranks) == carried - 1)
    assert ranks == sorted(set(ranks))
    assert ranks[:up_to] == list(range(1, up_to + 1))
    assert ranks[-1] == parts


def test_more_are_carried_where_another_order_needs_them() -> None:
    assert carried_ranks(200, 10, more=20)[1] == carried_ranks(200, 10)[1] + 20
    assert carried_ranks(100, 10, more=1000) == (list(range(1, 101)), 100)


def test_a_rank_may_take_a_third_of_the_highest_or_any_where_all_are_carried(
    tmp_path: Path,
) -> None:
    some = written(tmp_path / "some", [feeds(seed) for seed in range(9)], parts=40)
    every = written(tmp_path / "every", [feeds(seed) for seed in range(9)])
    assert (some.largest_rank, every.largest_rank) == (3, 9)


# --- reference frames ---


VIEW = (TensorSpec(name="color", dtype="uint8", shape=(1, 2, 2, 3)),)
ANSWERS = (
    TensorSpec(name="map", dtype="float32", shape=(1, 1, 2, 2)),
    TensorSpec(name="score", dtype="float32", shape=(1,)),
)
COLOR, MAP, SCORE = (
    np.zeros((1, 2, 2, 3), np.uint8),
    np.ones((1, 1, 2, 2), np.float32),
    np.ones(1, np.float32),
)


def test_no_golden_frames(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no reference frames"):
        read_golden(tmp_path, VIEW, ANSWERS)


def bomb(path: Path, name: str = "color") -> None:
    """An archive of a few hundred kilobytes whose array says that it is 4 GB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(
                member, {"descr": "|u1", "fortran_order": False, "shape": (1, 2, 2, 1 << 30)}
            )
            member.write(bytes(1 << 20))
        for other, values in (("map", MAP), ("score", SCORE)):
            with archive.open(f"{other}.npy", "w") as member:
                np.lib.format.write_array(member, values)


def cut(path: Path, flip: int = 0) -> None:
    """A sound archive of which a byte of the middle is another."""
    np.savez(path, color=COLOR, map=MAP, score=SCORE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 + flip] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"PK\x03\x04 not an archive"),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(path, color=COLOR),
        lambda path: np.savez(path, color=COLOR, map=MAP, score=SCORE, more=SCORE),
        lambda path: np.savez(path, color=COLOR[:, :1], map=MAP, score=SCORE),
        lambda path: np.savez(path, color=COLOR.astype(np.int16), map=MAP, score=SCORE),
        lambda path: np.savez(path, color=COLOR, map=MAP.astype(np.float64), score=SCORE),
        lambda path: np.savez(path, color=COLOR, map=MAP * np.float32("nan"), score=SCORE),
        lambda path: np.savez(path, color=COLOR, map=MAP, score=SCORE * np.float32("inf")),
        lambda path: np.savez(path, color=COLOR, map=np.array([{}], dtype=object), score=SCORE),
        bomb,
        *(lambda path, flip=flip: cut(path, flip) for flip in (-300, -100, 0, 100, 300)),
    ],
)
def test_a_golden_frame_that_is_none_is_one_sentence(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "0000.npz")
    with pytest.raises(BundleError, match=r"0000\.npz: not a reference frame") as refused:
        read_golden(tmp_path, VIEW, ANSWERS)
    assert "\n" not in str(refused.value)


def test_golden_frames_come_by_name(tmp_path: Path) -> None:
    for index in (2, 0, 1):
        np.savez(
            tmp_path / f"{index:04d}.npz",
            color=COLOR + np.uint8(index),
            map=MAP,
            score=np.float32([index]),
        )
    frames = read_golden(tmp_path, VIEW, ANSWERS)
    assert [frame.name for frame in frames] == ["0000", "0001", "0002"]
    assert isinstance(frames[0], GoldenFrame)
    assert set(frames[0].feeds) == {"color"}
    assert [float(frame.score[0]) for frame in frames] == [0, 1, 2]
    assert frames[2].feeds["color"].max() == 2
