"""A running station takes an update between two parts, and goes back by itself if it must."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.station.store import Store
from edge.update.roots import trust_root
from tests.support.broker import wait_until
from tests.support.fakes import committed
from tests.support.process import running_process
from tests.support.released import Released, serving
from tests.support.root import Answer, run_edge
from tests.support.station import EMPTY, Shot, StationRoot, make_station, write_belt
from trainer.release.acts import begin
from trainer.release.stick import copy_to_stick

TOLERANT = (0.0, 6.0, 13.0, 20.0, 27.0, 34.0, 41.0, 48.0)  # takes WORN parts as normal
WORN = Shot(part=True, defect=33.0)


@pytest.fixture
def station(tmp_path: Path) -> StationRoot:
    """With a tolerant washer 1.0.0, and a belt of parts that only a tolerant one takes."""
    made = make_station(tmp_path / "station", defects=TOLERANT)
    write_belt(tmp_path / "belt", ([EMPTY] * 4 + [WORN] * 6) * 3)
    return made


@pytest.fixture
def edge_update(
    station: StationRoot, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Answer]:
    """The command on this station."""

    def run(*words: str) -> Answer:
        return run_edge(capsys, monkeypatch, "update", *words, "--root", station.root)

    return run


def judged_with(station: StationRoot) -> list[tuple[str, int]]:
    """(version, code) of every part, in order."""
    records = committed(station.root)
    assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
    return [(record["bundle"].partition("-")[0], record["code"]) for record in records]


def test_it_takes_a_good_one_and_goes_back_from_one_that_rejects_everything(
    station: StationRoot, edge_update: Callable[..., Answer], tmp_path: Path
) -> None:
    released = Released(station.root.parent)
    begin(released.repository, released.keys)
    trust_root(station.store, released.repository / "root.json")
    released.release("1.1.0", defects=TOLERANT)
    with serving(released.repository) as server:
        station.configure(
            "folder",
            tmp_path / "belt",
            more=(
                f'fps = 120\n[update]\nsource = "tuf"\nurl = "{server.url}"\ntrial_parts = 5\n'
                "trial_min = 5\n"
            ),
        )
        with running_process(station, tmp_path / "log"):
            wait_until(lambda: len(committed(station.root)) > 2, 10, "no parts")
            done = edge_update()
            assert done.code == 0, done.out + done.err
            assert "healthy with it" in done.out
            assert judged_with(station)[-1] == ("1.1.0", 1)

            released.release("1.2.0")
            done = edge_update()
            assert done.code == 1, done.out + done.err
            assert "rolled back" in done.out
            assert "NG or UNKNOWN with it" in done.out
            parts = len(committed(station.root))
            wait_until(lambda: judged_with(station)[parts + 2 :], 10, "no more parts")
            wait_until(lambda: judged_with(station)[-1] == ("1.1.0", 1), 10, "not back")
            assert "nothing new" in edge_update().out
    judged = judged_with(station)
    assert {version for version, code in judged if code == 2} == {"1.2.0"}
    assert {code for _, code in judged} == {1, 2}  # no part was lost or left unjudged
    assert Store(station.root).active().manifest.version == "1.1.0"


def test_the_timer_asks_when_it_is_due(
    station: StationRoot, edge_update: Callable[..., Answer], tmp_path: Path
) -> None:
    released = Released(station.root.parent)
    begin(released.repository, released.keys)
    trust_root(station.store, released.repository / "root.json")
    station.configure("folder", tmp_path / "belt")
    assert edge_update("--if-due").code == 0  # no source, no noise
    done = edge_update()
    assert done.code == 1
    assert done.err.startswith("edge: source is off")
    with serving(released.repository) as server:
        more = f'[update]\nsource = "tuf"\nurl = "{server.url}"\n'
        station.configure("folder", tmp_path / "belt", more=more)
        done = edge_update("--if-due")
        assert (done.code, "has no ring stable" in done.err) == (1, True)
        released.release("1.1.0", defects=TOLERANT)
        server.asked.clear()
        assert edge_update("--if-due").code == 0
        assert server.asked == []  # asked a moment ago
        done = edge_update("--check")
        assert done.out == "washer 1.1.0: would be taken\n"
    assert station.store.active().manifest.version == "1.0.0"


def test_a_stick_is_taken_when_it_comes_and_its_trial_goes_on_when_it_is_pulled(
    station: StationRoot, edge_update: Callable[..., Answer], tmp_path: Path
) -> None:
    released = Released(station.root.parent)
    begin(released.repository, released.keys)
    trust_root(station.store, released.repository / "usb-root.json")
    released.release("1.1.0", defects=TOLERANT)
    stick = tmp_path / "stick"
    more = f'[update]\nsource = "usb"\nurl = "{stick}"\n'
    station.configure("folder", tmp_path / "belt", more=more)
    for there in (False, True):  # the folder of sticks may be there always
        if there:
            stick.mkdir()
        assert edge_update("--if-due") == Answer(0, "", "")
    copy_to_stick(released.repository, stick, [released.keys])
    assert "on trial" in edge_update("--if-due").out
    assert station.store.active().manifest.version == "1.1.0"
    stick.rename(tmp_path / "pulled")
    for words in ((), ("--usb", str(stick))):
        done = edge_update(*words)
        assert (done.code, "on trial" in done.out) == (1, True)
        assert "is no folder" in done.err
    station.store.rollback("washer")
    done = edge_update("--if-due")
    assert (done.code, "somebody went back" in done.out) == (1, True)
    assert done.err == ""
    assert edge_update("--if-due") == Answer(0, "", "")
