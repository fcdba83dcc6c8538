"""What `edge status` shows of a station that runs, from its file, its lock and its database."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from edge.errors import CameraLost
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.line.outbox import Outbox
from edge.runtime.status import FILE
from edge.runtime.status_facts import live_lines
from edge.runtime.status_file import StatusFile, make_place
from edge.station.lock import RUN, locked
from edge.station.store import Installed, Store
from tests.support.broker import wait_until
from tests.support.fakes import frame_of, frames_of
from tests.support.service import new_service
from tests.support.station import BAD, EMPTY, SERIAL, StationRoot

SAID = {
    "state": "degraded",
    "reason": "camera_lost",
    "ready": False,
    "why": "no frame for 2 s",
    "uptime_s": 7500,
    "camera": "123",
    "frames": 4500,
    "frames_dropped": 3,
    "link": None,
    "records_waiting": 12,
    "records_dropped": 0,
    "images_dropped": 2,
    "powered_on_s": 90_000.0,
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "etc/edge").mkdir(parents=True)
    (tmp_path / "etc/edge/station.toml").write_text(
        '[broker]\nhost = "plc-broker"\n[camera]\nkind = "realsense"\nserial = "123"\n'
    )
    store = Store(tmp_path)
    store.data.mkdir(parents=True)
    return store


def shown(store: Store) -> dict[str, str]:
    """The screen by its labels."""
    return {line[:13].strip(): line[13:] for line in live_lines(store)}


def test_a_station_that_runs(store: Store) -> None:
    with locked(store.data, RUN, "edge run"):
        StatusFile(store.root, lambda: SAID).write()
        lines = shown(store)
    assert lines["station"].startswith("degraded (camera_lost), not ready, process ")
    assert lines["station"].endswith(", up 2 h 5 min: no frame for 2 s")
    assert lines["camera"] == "realsense 123, serial 123: 4500 frames, 3 dropped for newer ones"
    assert lines["broker"] == "plc-broker:1883, connected"
    assert "12 records wait for the broker, 2 parts' images not kept" in lines["disk"]
    assert lines["clock"].endswith("powered on for 1 d 1 h in all")
    assert lines["last verdict"] == "none yet"


def test_why_the_broker_is_not_there(store: Store) -> None:
    with locked(store.data, RUN, "edge run"):
        StatusFile(store.root, lambda: {**SAID, "link": "refused: wrong password"}).write()
        assert shown(store)["broker"] == "plc-broker:1883: refused: wrong password"


def test_a_file_that_a_killed_station_left_is_not_believed(store: Store) -> None:
    StatusFile(store.root, lambda: SAID).write()
    lines = shown(store)
    assert lines["station"].startswith("not running: ")
    assert lines["broker"] == "plc-broker:1883, not connected"


def test_a_station_that_hangs_is_not_called_online(store: Store) -> None:
    with locked(store.data, RUN, "edge run"):
        StatusFile(store.root, lambda: SAID).write()
        path = store.root / FILE
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "boottime_s": content["boottime_s"] - 60}))
        assert "has said nothing for 6" in shown(store)["station"]


FORGED: list[dict[str, object]] = [
    {"uptime_s": "x"},
    {"reason": None},
    {"why": "\x1b[2J"},
    {"camera": ["a"]},
    {"powered_on_s": [1]},
    {"drift": "\x1b[2J"},
    {"parts_watched": "many"},
    {"pid": "1"},
]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"boottime_s": "x"}',
        "null",
        '{"boottime_s": 0}',
        "[" * 20_000,
        *(json.dumps({**SAID, "pid": 1, "boottime_s": 0, **forged}) for forged in FORGED),
    ],
)
def test_a_damaged_file_is_a_station_that_said_nothing(store: Store, content: str) -> None:
    with locked(store.data, RUN, "edge run"):
        (store.root / FILE).parent.mkdir(parents=True)
        (store.root / FILE).write_text(content)
        assert shown(store)["station"].startswith(
            "running, not yet judging: it opens its engine, or cannot write"
        )


def test_a_pipe_in_its_place_is_not_waited_for(store: Store) -> None:
    with locked(store.data, RUN, "edge run"):
        (store.root / FILE).parent.mkdir(parents=True)
        os.mkfifo(store.root / FILE)
        assert shown(store)["station"].startswith("running, not yet judging: it opens its engine")


def test_a_link_in_its_place_is_not_written_through(store: Store, tmp_path: Path) -> None:
    """/run/edge belongs to the service's account; `edge run` may be somebody else's."""
    (tmp_path / "precious").write_text("precious")
    folder = (store.root / FILE).parent
    folder.mkdir(parents=True)
    for name in (FILE.name, f".{FILE.name}.new"):
        (folder / name).symlink_to(tmp_path / "precious")
    StatusFile(store.root, lambda: SAID).write()
    assert (tmp_path / "precious").read_text() == "precious"
    assert json.loads((store.root / FILE).read_text())["state"] == "degraded"


@pytest.mark.skipif(
    os.geteuid() != 0, reason="only root starts a station for another account: run as root"
)
def test_its_folder_is_made_for_the_account_that_the_station_works_as(store: Store) -> None:
    os.chown(store.data, 65534, 65534)
    make_place(store)
    about = (store.root / FILE).parent.stat()
    assert (about.st_uid, about.st_mode & 0o777) == (65534, 0o755)


def test_the_last_verdict_comes_from_the_database(store: Store) -> None:
    outbox = Outbox(store.data / "line.sqlite")
    for score in (1.0, 13.25):
        outbox.commit(
            lambda seq, score=score: {
                "part": f"P{seq}",
                "code": 2,
                "reason": "anomaly",
                "score": score,
                "thr": 9.5,
                "judged_at": "2026-11-22T17:00:00.180Z",
            }
        )
    before = sorted(path.name for path in store.data.iterdir())
    line = shown(store)["last verdict"]
    assert line == "P2 NG anomaly, score 13.25 (limit 9.5), judged 2026-11-22T17:00:00.180Z"
    outbox.close()
    assert sorted(path.name for path in store.data.iterdir()) <= before


def test_a_place_that_cannot_be_written_is_said_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    (store.root / "run").write_text("in the way")
    file = StatusFile(store.root, lambda: SAID)
    for _ in range(3):
        file.write()
    assert ["status.json cannot be written" in record.message for record in caplog.records] == [
        True
    ]


def test_a_station_at_work_writes_it_and_takes_it_away(station: StationRoot) -> None:
    station.configure("folder", None)
    sentence = "camera 1 is unplugged: look at its cable"

    def look() -> None:
        wait_until(
            lambda: shown(station.store)["last verdict"].startswith("P1 NG anomaly, score "),
            60,
            "no verdict",
        )
        wait_until(
            lambda: "12 frames" in shown(station.store)["camera"], 60, "its frames are not told"
        )
        wait_until(
            lambda: shown(station.store)["station"].endswith(sentence),
            60,
            "nor why it is not ready",
        )
        lines = shown(station.store)
        assert lines["station"].startswith("degraded (camera_lost), not ready, process ")
        assert lines["camera"].startswith(f"folder, serial {SERIAL}: ")
        assert lines["broker"].startswith("none: broker.enabled is false")

    script = frames_of([EMPTY] * 3 + [BAD] * 6 + [EMPTY] * 3, first=0)
    new_service(station, [*script, CameraLost(sentence), look]).run()
    assert not (station.root / FILE).exists()
    assert shown(station.store)["station"].startswith("not running")


@pytest.mark.parametrize(
    "content", ['{"boottime_s": 1}', "[]", '{"state": "online", "boottime_s": 5}']
)
def test_a_file_that_says_less_than_it_should_is_no_traceback(store: Store, content: str) -> None:
    with locked(store.data, RUN, "edge run"):
        (store.root / FILE).parent.mkdir(parents=True)
        (store.root / FILE).write_text(content)
        assert shown(store)["station"].startswith("running, not yet judging")


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to be looked at" * 30, b"SQLite format 3\0"]
)
def test_a_database_that_cannot_be_read_is_not_called_empty(store: Store, content: bytes) -> None:
    (store.data / "line.sqlite").write_bytes(content)
    assert shown(store)["last verdict"].startswith("not known, line.sqlite cannot be read: ")


def test_what_a_killed_process_said_last_is_not_said_of_the_next_one(station: StationRoot) -> None:
    """It opens its engine, which may take minutes; its predecessor has been silent for as long."""
    path, seen = station.root / FILE, []
    StatusFile(station.root, lambda: SAID).write()

    def load(installed: Installed) -> ProvenEngine:
        seen.append(path.exists())
        return open_proven_engine(station.store, installed)

    new_service(station, [frame_of(EMPTY, 1)], load_engine=load).run()
    assert seen == [False]


def test_a_bug_in_what_is_said_does_not_end_it(tmp_path: Path) -> None:
    calls = iter([RuntimeError("dictionary changed size during iteration")])

    def say() -> dict[str, object]:
        for error in calls:
            raise error
        return SAID

    file = StatusFile(tmp_path, say)
    file.start()
    wait_until((tmp_path / FILE).exists, 60, "the thread has ended")
    file.stop(60)
