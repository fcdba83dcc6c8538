"""`edge status` from values alone: every line, every case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.runtime.status import Facts, Live, Verdict, lines_of
from edge.types import Code

SAID: dict[str, Any] = {
    "state": "online",
    "reason": "",
    "ready": True,
    "why": "",
    "pid": 7,
    "uptime_s": 42,
    "camera": "123",
    "frames": 10,
    "frames_dropped": 0,
    "link": None,
    "records_waiting": 0,
    "records_dropped": 0,
    "images_dropped": 0,
    "powered_on_s": 3700.0,
}
CONFIG = EdgeConfig.model_validate(
    {
        "broker": {"host": "plc", "tls": True},
        "camera": {"kind": "realsense", "serial": "123"},
        "retention": {"gb": 5, "days": 30},
    }
)
FACTS = Facts(CONFIG, Live(SAID, 0.5), 12_340_000_000, clock_synced=True, last=None)


def lines(facts: Facts) -> dict[str, str]:
    return {line[:13].strip(): line[13:] for line in lines_of(facts)}


def test_a_station_that_is_well() -> None:
    assert lines(FACTS) == {
        "station": "online, ready, process 7, up 42 s",
        "camera": "realsense 123, serial 123: 10 frames, 0 dropped for newer ones",
        "broker": "plc:1883 with TLS, connected",
        "disk": "12.3 GB free, bound 5 GB or 30 days, 0 records wait for the broker",
        "clock": "synchronized; powered on for 1 h 1 min in all",
        "last verdict": "none yet",
        "drift": "not watched yet",
    }


def test_parts_that_drift_and_parts_that_do_not() -> None:
    told = "score higher since about seq 4711, 2026-11-30T14:05Z (mean 9.3, before 6.1)"
    watched = {**SAID, "parts_watched": 812, "drift": None}
    assert lines(replace(FACTS, live=Live(watched, 0.5)))["drift"] == "none in 812 parts"
    shown = lines(replace(FACTS, live=Live({**watched, "drift": told}, 0.5)))["drift"]
    assert shown == (
        f"{told}: parts are judged as before; find the cause (lamp, lens, camera, the parts), then"
        " calibrate anew: docs/drift.md"
    )


def test_one_that_does_not_run() -> None:
    told = lines(replace(FACTS, live=None))
    assert told["station"].startswith("not running: ")
    assert (told["camera"], told["broker"]) == (
        "realsense 123, not open",
        "plc:1883 with TLS, not connected",
    )
    assert told["clock"] == "synchronized"
    assert told["drift"] == "not watched while nothing runs"


def test_one_that_has_nothing_to_say_yet() -> None:
    told = lines(replace(FACTS, live=Live({}, 0.0)))
    assert told["station"].startswith("running, not yet judging: ")
    assert told["disk"] == "12.3 GB free, bound 5 GB or 30 days"


@pytest.mark.parametrize(
    ("age_s", "changes", "line"),
    [
        (9.6, {}, "process 7 has said nothing for 10 s: see its log, or restart it"),
        (
            0.0,
            {"state": "fault", "reason": "storage", "ready": False, "why": "disk full"},
            "fault (storage), not ready, process 7, up 42 s: disk full",
        ),
        (0.0, {"uptime_s": 90_000}, "online, ready, process 7, up 1 d 1 h"),
        (0.0, {"uptime_s": 600}, "online, ready, process 7, up 10 min"),
    ],
)
def test_the_line_of_the_station(age_s: float, changes: dict[str, Any], line: str) -> None:
    assert lines(replace(FACTS, live=Live({**SAID, **changes}, age_s)))["station"] == line


def test_what_was_lost_is_counted() -> None:
    said = {**SAID, "records_waiting": 3, "records_dropped": 2, "images_dropped": 1}
    assert lines(replace(FACTS, live=Live(said, 0.0)))["disk"].endswith(
        ", 3 records wait for the broker, 2 unsent records dropped by the bound,"
        " 1 parts' images not kept"
    )


def test_what_could_not_be_found_out_is_a_sentence() -> None:
    told = lines(
        replace(FACTS, free_bytes="/data is gone", clock_synced=False, last="not known, because")
    )
    assert (told["disk"], told["last verdict"]) == ("/data is gone", "not known, because")
    assert told["clock"].startswith("not synchronized: dates in records may be wrong; ")


@pytest.mark.parametrize(
    ("score", "threshold", "line"),
    [
        (13.25, 9.5, "P2 NG anomaly, score 13.25 (limit 9.5), judged then"),
        (None, None, "P2 NG anomaly, judged then"),
    ],
)
def test_the_last_verdict(score: float | None, threshold: float | None, line: str) -> None:
    last = Verdict("P2", Code.NG, "anomaly", score, threshold, "then")
    assert lines(replace(FACTS, last=last))["last verdict"] == line


def test_a_station_without_a_broker_says_so() -> None:
    config = CONFIG.model_copy(
        update={"broker": CONFIG.broker.model_copy(update={"enabled": False})}
    )
    assert lines(replace(FACTS, config=config))["broker"].startswith("none: broker.enabled is ")


def test_a_link_that_does_not_work_says_why() -> None:
    live = Live({**SAID, "link": "refused: wrong password"}, 0.0)
    assert lines(replace(FACTS, live=live))["broker"] == (
        "plc:1883 with TLS: refused: wrong password"
    )
