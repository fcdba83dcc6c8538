"""What a running station shows of itself: the newest picture, the anomaly on it, and the last
verdicts; encoded when somebody asks, seldom, and never by a thread that judges.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.control.client import LivePicture
from edge.decide.verdict import unjudged
from edge.overlay import WHITE
from edge.runtime import live_view
from edge.runtime.live_view import LiveView, drawn_view
from edge.runtime.parts import JudgedFrame
from edge.runtime.recent import KEPT, RecentVerdicts
from edge.types import Code, Frame, Intrinsics, Judgment, Reason
from tests.support.active import make_active
from tests.support.broker import wait_until
from tests.support.fakes import frame_of
from tests.support.socketed import Socketed, socketed
from tests.support.station import BAD, EMPTY, GOOD, StationRoot, make_station


@pytest.fixture(scope="module")
def cell(made_station: StationRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Socketed]:
    station = made_station.copied_to(tmp_path_factory.mktemp("shared") / "station")
    with socketed(station) as made:
        yield made


def seen(cell: Socketed) -> LivePicture:
    time.sleep(1.1 / live_view.PER_SECOND)
    with cell.client() as client:
        return client.live()


def pixels(jpeg: bytes) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.asarray(decoded[:, :, ::-1], np.uint8)


def test_the_picture_is_what_is_in_view_and_how_it_was_judged(cell: Socketed) -> None:
    before = cell.camera.number
    cell.show(GOOD)
    live = seen(cell)
    told = live.said["picture"]
    assert (told["width"], told["height"], told["code"], told["reason"]) == (128, 96, 1, "normal")
    assert told["score"] <= told["thr"]
    assert told["age_ms"] >= 0
    assert before < told["frame"] <= cell.camera.number
    drawn = frame_of(GOOD, 0).color.astype(float)
    assert np.abs(pixels(live.jpeg) - drawn).mean() < 8, "red is red"


def test_what_is_ng_has_a_line_around_it_and_what_is_ok_has_none(cell: Socketed) -> None:
    white = []
    for shot in (GOOD, BAD):
        cell.show(EMPTY)
        cell.show(shot)
        live = seen(cell)
        assert live.said["picture"]["code"] == (2 if shot is BAD else 1)
        white.append((pixels(live.jpeg).min(axis=2) > 200).sum())
    assert white[1] > white[0] + 20


def test_the_last_verdicts_and_the_state_come_with_it(cell: Socketed) -> None:
    for shot in (GOOD, BAD):
        cell.pass_part(shot)
    wait_until(lambda: not cell.state["busy"], 10, "not judged")
    said = seen(cell).said
    *_, good, bad = said["verdicts"]
    assert (good["code"], good["reason"], bad["code"], bad["reason"]) == (1, "normal", 2, "anomaly")
    assert bad["part"] == f"P{bad['seq']}"
    assert bad["seq"] == good["seq"] + 1 == said["state"]["seq"]
    assert bad["score"] > bad["thr"]
    assert {"at", "judged_at", "images"} <= bad.keys()
    assert said["state"]["ng"] >= 1
    assert said["state"]["ready"]
    assert said["session"] is None


def test_it_keeps_the_last_twenty() -> None:
    recent = RecentVerdicts()
    for seq in range(50):
        recent.note({"seq": seq, "part": "x", "guarantee": "long"})
    assert [one["seq"] for one in recent.newest_last()] == list(range(50 - KEPT, 50))
    assert "guarantee" not in recent.newest_last()[0]


def test_nothing_is_encoded_unless_somebody_asks_and_then_five_times_a_second(
    cell: Socketed,
) -> None:
    work = cell.service.at_work
    assert work is not None
    view = work.socket._live
    time.sleep(0.3)
    before = view.encoded
    cell.show(EMPTY, 20)
    assert view.encoded == before
    begun_s, pictures = time.monotonic(), []
    with cell.client() as one, cell.client() as other:
        for _ in range(15):
            pictures += [one.live().jpeg, other.live().jpeg]
    took_s = time.monotonic() - begun_s
    assert 1 <= view.encoded - before <= live_view.PER_SECOND * took_s + 1
    assert len(set(pictures)) <= view.encoded - before


def test_no_thread_that_judges_draws(cell: Socketed, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()
    plain = live_view.drawn_view

    def drawn(judged: JudgedFrame, window: Frame) -> NDArray[np.uint8]:
        names.add(threading.current_thread().name)
        return plain(judged, window)

    monkeypatch.setattr(live_view, "drawn_view", drawn)
    seen(cell)
    assert len(names) == 1
    assert all(name.startswith("control-") for name in names)


def test_an_uncalibrated_station_says_so(tmp_path: Path) -> None:
    station = make_station(tmp_path / "station", calibrated=False)
    with socketed(station) as cell:
        wait_until(lambda: cell.state["reason"] == "uncalibrated", 10, "not said")
        live = seen(cell)
    told = live.said["picture"]
    assert (told["code"], told["reason"], told["score"]) == (3, "uncalibrated", None)
    assert live.said["state"]["reason"] == "uncalibrated"
    assert pixels(live.jpeg).shape == (96, 128, 3)


def test_a_station_without_a_camera_says_so(made_station: StationRoot, tmp_path: Path) -> None:
    station = made_station.copied_to(tmp_path / "station")
    with socketed(station, show=None) as cell:
        live = seen(cell)
    assert (live.said["picture"], live.jpeg) == (None, b"")
    assert not live.said["state"]["ready"]


def judged(width: int, height: int, judgment: Judgment) -> tuple[JudgedFrame, Frame]:
    color = np.full((height, width, 3), 90, np.uint8)
    lens = Intrinsics(width, height, 900.0, 900.0, width / 2, height / 2)
    frame = Frame(color, None, 0.001, lens, "s", 1, time.monotonic_ns())
    return JudgedFrame(frame, judgment, make_active()), frame


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((1280, 720), (640, 360)), ((640, 480), (640, 480)), ((128, 96), (128, 96)),
     ((1281, 3), (640, 1))],
)  # fmt: skip
def test_it_is_at_most_640_pixels_wide(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    picture = drawn_view(*judged(*size, unjudged(Reason.BLIND)))
    assert picture.shape == (drawn[1], drawn[0], 3)
    assert (picture == 90).all()


def test_the_line_lies_where_the_map_is_above_the_threshold() -> None:
    heat = np.zeros((18, 32), np.float32)
    heat[6:12, 20:26] = 9.0
    ng = Judgment(Code.NG, Reason.ANOMALY, np.float32(9), np.float32(4), 0.1, 1.0, heat)
    picture = drawn_view(*judged(1280, 720, ng))
    rows, columns = np.nonzero((picture == WHITE).all(axis=2))
    assert 100 < rows.min() < 130
    assert 230 < rows.max() < 260
    assert 390 < columns.min() < 420
    assert 510 < columns.max() < 540


def test_what_is_ok_has_no_line_wherever_its_map_is_high() -> None:
    heat = np.full((18, 32), 9.0, np.float32)
    heat[:9] = 0
    ok = Judgment(Code.OK, Reason.NORMAL, np.float32(3), np.float32(4), 0.1, 1.0, heat)
    assert (drawn_view(*judged(640, 360, ok)) == 90).all()


def test_a_frame_that_is_smaller_than_the_crop_is_shown_whole() -> None:
    one, frame = judged(64, 48, unjudged(Reason.UNCALIBRATED))
    said: dict[str, Any] = {}
    view = LiveView(lambda: said, RecentVerdicts(), lambda: None)
    view.note(one)
    told, jpeg = view.look()
    assert (told["picture"]["width"], told["picture"]["height"]) == (64, 48)
    assert pixels(jpeg).shape == frame.color.shape


def test_the_whole_image_is_shown_beside_the_crop_and_made_as_seldom() -> None:
    one, frame = judged(200, 150, unjudged(Reason.UNCALIBRATED))
    said: dict[str, Any] = {}
    view = LiveView(lambda: said, RecentVerdicts(), lambda: None)
    view.note(one)
    sizes = [pixels(view.look(whole=whole)[1]).shape for whole in (False, True, False, True)]
    width, height = one.active.site(frame.serial).crop[2:]
    assert sizes == 2 * [(height, width, 3), (150, 200, 3)]
    assert view.encoded == 2
