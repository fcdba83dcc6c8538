"""A bundle judges numpy images from Python as `edge inspect` judges the same files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.api import Code, Judge, Reason, open_bundle
from edge.errors import BundleError, ConfigError, EngineError
from tests.support.fakes import ScriptedEngine
from tests.support.station import BAD, EMPTY, GOOD, draw_shot
from tests.support.tiny_bundle import FOCAL, PLANE, UNIT, KeyPair, make_key, make_tiny_bundle

LENS = (FOCAL, FOCAL, 63.5, 47.5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeyPair]:
    folder = tmp_path_factory.mktemp("api")
    key = make_key(folder)
    return make_tiny_bundle(folder, key), key


@pytest.fixture(scope="module")
def judge(bundle: tuple[Path, KeyPair]) -> Iterator[Judge]:
    with open_bundle(bundle[0], key=bundle[1].public) as opened:
        yield opened


@pytest.mark.parametrize(
    ("shot", "code", "reason"),
    [
        (GOOD, Code.OK, Reason.NORMAL),
        (BAD, Code.NG, Reason.ANOMALY),
        (EMPTY, Code.UNKNOWN, Reason.NO_PART),
    ],
)
def test_a_numpy_image_is_judged(judge: Judge, shot: object, code: Code, reason: Reason) -> None:
    color, depth = draw_shot(shot, 0)  # type: ignore[arg-type]
    judgment = judge(color, depth, plane=PLANE, unit=UNIT, intrinsics=LENS)
    assert (judgment.code, judgment.reason) == (code, reason)
    if judgment.score is not None:
        assert judgment.threshold == np.float32(judge.threshold)
        assert (judgment.score > judge.threshold) == (code is Code.NG)
        assert judgment.map is not None


def test_material_that_is_expected_and_absent_raises_the_score(judge: Judge) -> None:
    color, depth = draw_shot(GOOD, 0)
    expected = np.zeros(depth.shape, np.uint8)
    expected[40:56, 56:72] = 1  # any number but 0, in the middle of the part
    given = {"plane": PLANE, "unit": UNIT, "intrinsics": LENS}
    same = judge(color, depth, expected=expected, **given)
    assert (same.code, same.score) == (Code.OK, judge(color, depth, **given).score)
    expected[0:16, 0:16] = 1
    assert judge(color, depth, expected=expected, **given).code is Code.NG
    for odd in (expected[1:], expected.astype(bool)):
        with pytest.raises(ConfigError, match=r"expected is .*uint8 \(96, 128\), of the crop"):
            judge(color, depth, expected=odd, **given)


def test_without_a_plane_nothing_is_judged(judge: Judge) -> None:
    color, depth = draw_shot(GOOD, 0)
    judgment = judge(color, depth, unit=UNIT, intrinsics=LENS)
    assert (judgment.code, judgment.reason) == (Code.UNKNOWN, Reason.UNCALIBRATED)


def test_arrays_of_another_shape_or_type_are_refused(judge: Judge) -> None:
    color, depth = draw_shot(GOOD, 0)
    with pytest.raises(ConfigError, match=r"color is uint8 \(128, 96, 3\): .* \(96, 128, 3\), RGB"):
        judge(color.transpose(1, 0, 2), depth, plane=PLANE)
    with pytest.raises(ConfigError, match="depth is float32"):
        judge(color, depth.astype(np.float32), plane=PLANE)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="plane has 3 numbers"):
        judge(color, depth, plane=(0.0, 0.0, 1.0), unit=UNIT, intrinsics=LENS)
    with pytest.raises(ConfigError, match="intrinsics has 3 numbers"):
        judge(color, depth, plane=PLANE, unit=UNIT, intrinsics=LENS[:3])


def test_an_engine_that_fails_is_unknown(judge: Judge) -> None:
    failing = ScriptedEngine([EngineError("out of memory")])
    broken = replace(judge, proven=replace(judge.proven, engine=failing))
    color, depth = draw_shot(GOOD, 0)
    judgment = broken(color, depth, plane=PLANE, unit=UNIT, intrinsics=LENS)
    assert (judgment.code, judgment.reason) == (Code.UNKNOWN, Reason.ENGINE)


def test_a_judge_is_closed_once_and_refuses_afterwards(bundle: tuple[Path, KeyPair]) -> None:
    """An engine on a GPU cannot be closed twice."""
    closed: list[int] = []
    with open_bundle(bundle[0], key=bundle[1].public, precision="fp32") as opened:
        close = opened.proven.engine.close

        def counted() -> None:
            closed.append(1)
            close()

        opened.proven.engine.close = counted  # type: ignore[method-assign]
    opened.close()
    assert closed == [1]
    color, depth = draw_shot(GOOD, 0)
    with pytest.raises(ConfigError, match="the judge is closed"):
        opened(color, depth, plane=PLANE, unit=UNIT, intrinsics=LENS)


def test_a_bundle_of_a_stranger_is_refused(bundle: tuple[Path, KeyPair], tmp_path: Path) -> None:
    other = make_key(tmp_path, "other")
    with pytest.raises(BundleError, match="key"):
        open_bundle(bundle[0], key=other.public)


def test_what_was_unpacked_is_removed(bundle: tuple[Path, KeyPair]) -> None:
    with open_bundle(bundle[0], key=bundle[1].public, precision="fp32") as opened:
        folder = Path(opened._folder.name)
        assert folder.is_dir()
    assert not folder.exists()
    opened.close()
