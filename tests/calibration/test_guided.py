"""A calibration that the page guides through: the station's child carries it out over the socket,
and a person decides.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.control.guide import FOLDER, GuideBegin, GuideLook, GuideOrder, GuideState, SiteTold
from edge.errors import BusyError, CalibrationError
from edge.station.commissioning import read_commissioning
from tests.support.broker import wait_until
from tests.support.patience import HANG_S
from tests.support.site_parts import TRAINED
from tests.support.socketed import Socketed, socketed
from tests.support.station import SERIAL, Shot, StationRoot, make_station
from tests.support.tiny_bundle import Adapts


class Guided:
    """A station whose steps are begun and decided over its socket, as the page does it."""

    def __init__(self, cell: Socketed, station: StationRoot) -> None:
        self.cell, self.station = cell, station

    def ask(self, request: Any) -> tuple[GuideState | None, SiteTold]:
        with self.cell.client() as client:
            said = client.ask(request).said
        guide = said["guide"]
        state = None if guide is None else GuideState.model_validate(guide)
        return state, SiteTold.model_validate(said["site"])

    def look(self) -> GuideState:
        state = self.ask(GuideLook())[0]
        assert state is not None
        return state

    def begin(self, what: Any, **more: Any) -> None:
        self.ask(GuideBegin(what=what, who="anna (page)", **more))

    def order(self, order: Any, who: str = "bert (page)") -> None:
        self.ask(GuideOrder(order=order, who=who))

    def reaches(self, phase: str) -> GuideState:
        def is_there() -> bool:
            state = self.look()
            assert state.phase == phase or not state.is_over, state
            return state.phase == phase

        wait_until(is_there, HANG_S, f"not {phase}")
        return self.look()

    def show(self, shot: Shot, taken: int) -> None:
        """One part comes and leaves; so many were taken in then."""
        self.cell.pass_part(shot)
        wait_until(lambda: len(self.look().shown) == taken, HANG_S, f"{taken} parts not taken in")

    def show_normal(self, count: int) -> None:
        step = TRAINED[-1] / count
        for number in range(count):
            self.show(Shot(part=True, defect=step * (number + 0.5)), number + 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> StationRoot:
    folder = tmp_path_factory.mktemp("made") / "station"
    station = make_station(folder, calibrated=False, defects=TRAINED, adapts=Adapts())
    station.configure("realsense", None)  # none is connected to this machine
    return station


@pytest.fixture
def guided(made: StationRoot, tmp_path: Path) -> Iterator[Guided]:
    station = made.copied_to(tmp_path / "station")
    with socketed(station) as cell:
        yield Guided(cell, station)


@pytest.fixture
def with_plane(made: StationRoot, tmp_path: Path) -> Iterator[Guided]:
    station = made.copied_to(tmp_path / "station")
    station.calibrate()
    with socketed(station) as cell:
        wait_until(lambda: cell.state["ready"], HANG_S, "not ready")
        yield Guided(cell, station)


def test_from_the_empty_table_to_the_challenge(guided: Guided) -> None:
    store = guided.station.store
    guided.begin("plane")
    guided.reaches("done")
    wait_until(lambda: guided.cell.state["ready"], HANG_S, "the plane is not taken up")
    site = guided.ask(GuideLook())[1]
    assert (site.serial, site.needs_plane, site.parts) == (SERIAL, True, None)
    assert site.plane is not None
    assert site.plane.who == "anna (page)"

    guided.begin("parts", count=4, false_rejects=0.1)
    assert guided.reaches("showing").count == 4
    assert guided.cell.state["why"].startswith("parts, by anna (page)")
    guided.show_normal(4)
    state = guided.reaches("signing")
    assert state.result["parts"] == 4
    assert state.result["guarantee"].startswith("Measured, not proven: at most")
    assert store.model_states(store.active()) == (), "nothing is saved before it is signed"
    guided.order("sign")
    guided.reaches("done")
    saved = store.model_states(store.active())[-1]
    assert saved.who == "bert (page)"
    assert saved.threshold == pytest.approx(state.result["threshold"])
    assert saved.guarantee == state.result["guarantee"]
    wait_until(lambda: guided.cell.state["ready"], HANG_S, "parts are not judged again")

    guided.begin("challenge", count=2)
    guided.reaches("showing")
    guided.show(Shot(part=True, defect=60.0), 1)
    guided.show(Shot(part=True, defect=90.0), 2)
    state = guided.reaches("done")
    assert [part.role for part in state.shown] == ["caught", "caught"]
    assert state.result["detection"] == pytest.approx(0.05**0.5)
    evidence = read_commissioning(store, "washer")
    assert evidence is not None
    assert evidence.challenge is not None
    assert evidence.challenge.who == "anna (page)"
    assert evidence.challenge.geometry_version == evidence.geometry_version == 1
    site = guided.ask(GuideLook())[1]
    assert site.parts is not None
    assert site.challenge is not None
    guided.begin("plane", region=(0.25, 0.125, 0.5, 0.75))
    guided.reaches("done")
    site = guided.ask(GuideLook())[1]
    assert site.plane is not None
    assert site.parts is not None
    assert site.challenge is not None
    assert site.parts.before == site.plane.when, "another region gives other scores"
    assert site.challenge.before == site.plane.when, "another region may not catch them"


def test_a_refused_part_is_shown_again_and_one_that_stands_apart_is_decided(
    with_plane: Guided,
) -> None:
    guided = with_plane
    guided.begin("parts", count=4)
    guided.reaches("showing")
    guided.show_normal(3)
    guided.cell.pass_part(Shot(part=True, large=True))
    wait_until(lambda: guided.look().refusal is not None, HANG_S, "not refused")
    state = guided.look()
    assert state.refusal is not None
    assert (state.refusal.why, state.refusal.numbers, len(state.shown)) == ("too_large", (4,), 3)
    picture = guided.station.store.data / FOLDER / state.refusal.picture
    assert picture.read_bytes().startswith(b"\xff\xd8")
    guided.show(Shot(part=True, defect=200.0), 4)
    state = guided.reaches("deciding")
    assert state.refusal is not None
    assert (state.refusal.why, state.refusal.numbers) == ("defective", (4,))
    guided.order("leave_out")
    state = guided.reaches("signing")
    assert (state.result["parts"], state.result["left_out"]) == (3, 1)
    assert state.refusal is None


def test_stopping_changes_nothing_and_parts_are_judged_again(with_plane: Guided) -> None:
    guided, store = with_plane, with_plane.station.store
    guided.begin("parts", count=3)
    guided.reaches("showing")
    guided.show_normal(1)
    with pytest.raises(BusyError, match=r"anna \(page\) is calibrating this station \(parts\)"):
        guided.begin("plane")
    guided.order("stop")
    assert guided.reaches("ended").why == "stopped"
    wait_until(lambda: guided.cell.state["ready"], HANG_S, "parts are not judged again")
    assert store.model_states(store.active()) == ()
    with pytest.raises(CalibrationError, match="no calibration is at work any more"):
        guided.order("sign")


def test_without_a_plane_the_sentence_says_what_to_do(guided: Guided) -> None:
    guided.begin("parts", count=3)
    state = guided.reaches("refused")
    assert state.refusal is not None
    assert "run `edge calibrate plane` on the empty table" in state.refusal.text
    guided.begin("plane")
    guided.reaches("done")


def test_the_region_of_interest_is_set_with_the_plane(guided: Guided) -> None:
    store = guided.station.store
    guided.begin("plane", region=(0.25, 0.125, 0.5, 0.75))
    guided.reaches("done")
    geometry = store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.region is not None
    rows, columns = np.nonzero(geometry.region)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 83, 32, 95)
    assert guided.ask(GuideLook())[1].region == (0.25, 0.125, 0.5, 0.75)
    guided.begin("plane")
    guided.reaches("done")
    assert guided.ask(GuideLook())[1].region == (0.25, 0.125, 0.5, 0.75), "it stays"
    guided.begin("plane", region=(0.0, 0.0, 1.0, 1.0))
    guided.reaches("done")
    geometry = store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.region is None
    guided.begin("plane", region=(0.5, 0.0, 0.7, 1.0))
    refusal = guided.reaches("refused").refusal
    assert refusal is not None
    assert "leaves the crop of 128 x 96 pixels" in refusal.text
    guided.begin("plane", region=(0.5, 0.5, 0.01, 0.5))  # a finger that has slipped
    refusal = guided.reaches("refused").refusal
    assert refusal is not None
    assert "has 1 x 48 pixels: it needs 32 each" in refusal.text
    geometry = store.geometry("washer", SERIAL)
    assert geometry is not None
    assert geometry.region is None


def test_the_crop_is_moved_with_the_plane(guided: Guided) -> None:
    guided.begin("plane", crop=(0, 0))
    guided.reaches("done")
    site = guided.ask(GuideLook())[1]
    assert (site.crop, site.image) == ((0, 0, 128, 96), (128, 96))
    guided.begin("plane", crop=(1, 0))
    refusal = guided.reaches("refused").refusal
    assert refusal is not None
    assert "the crop at 1, 0 leaves the image" in refusal.text


def test_another_rate_is_proposed_signed_and_taken_back(with_plane: Guided) -> None:
    guided, store = with_plane, with_plane.station.store
    guided.begin("threshold", false_rejects=0.2)
    state = guided.reaches("signing")
    assert store.model_states(store.active()) == ()
    assert state.result["threshold"] < state.result["before"]
    guided.order("sign")
    guided.reaches("done")
    saved = store.model_states(store.active())[-1]
    assert (saved.who, saved.guarantee) == ("bert (page)", state.result["guarantee"])
    guided.begin("undo")
    guided.reaches("done")
    assert store.model_states(store.active()) == ()


def test_a_child_that_is_killed_is_told(with_plane: Guided) -> None:
    guided = with_plane
    guided.begin("parts", count=3)
    guided.reaches("showing")
    work = guided.cell.service.at_work
    assert work is not None
    child = work.socket._guide._child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    state = guided.reaches("refused")
    assert state.refusal is not None
    assert state.refusal.why == "failed"
    wait_until(lambda: guided.cell.state["ready"], HANG_S, "parts are not judged again")


def test_the_end_of_the_station_ends_the_step_and_the_next_one_says_so(
    made: StationRoot, tmp_path: Path
) -> None:
    station = made.copied_to(tmp_path / "station")
    station.calibrate()
    with socketed(station) as cell:
        guided = Guided(cell, station)
        guided.begin("parts", count=3)
        guided.reaches("showing")
        work = cell.service.at_work
        assert work is not None
        child = work.socket._guide._child
        assert child is not None
    child.wait(HANG_S)
    with socketed(station) as cell:
        state = Guided(cell, station).look()
        assert (state.what, state.phase, state.why) == ("parts", "ended", "interrupted")
        Guided(cell, station).begin("undo")
        assert Guided(cell, station).reaches("refused").refusal is not None
