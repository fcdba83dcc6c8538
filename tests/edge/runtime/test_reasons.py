"""Whatever keeps the station from judging: UNKNOWN with its reason, never OK, and the state says
why.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.engine.protocol import Engine
from edge.errors import CameraLost, CameraMismatch, StorageError
from edge.line.none import NoLine
from edge.line.outbox import Outbox
from edge.runtime.plan import RunPlan
from tests.support.broker import wait_until
from tests.support.fakes import FAILED, WHOLE, ScriptedEngine, Step, committed, frame_of, other_lens
from tests.support.service import NO_BROKER, new_service
from tests.support.station import BAD, EMPTY, GOOD, HEIGHT, WIDTH, Shot, StationRoot, make_station


def frames(*shots: Shot, **changes: Any) -> list[Step]:
    return [frame_of(shot, number + 1, **changes) for number, shot in enumerate(shots)]


def run(
    station: StationRoot, script: Sequence[Step], engine: Engine | None = None
) -> list[tuple[int, str]]:
    service = new_service(station, script, engine)
    service.run()
    return [(record["code"], record["reason"]) for record in committed(station.root)]


PART = [EMPTY] * 3 + [GOOD] * 6 + [EMPTY] * 3


def test_a_good_part_is_ok_and_a_bad_one_ng(station: StationRoot) -> None:
    script = frames(*PART, *[BAD] * 6, *[EMPTY] * 3)
    assert run(station, script) == [(1, "normal"), (2, "anomaly")]
    first, second = committed(station.root)
    assert (first["part"], first["frames"], first["id"], first["images"]) == ("P1", 6, "s1-1", None)
    assert first["score"] <= first["thr"] < second["score"]
    assert second["bundle"].startswith("1.0.0-")
    assert len(second["geometry"]) == 12


def test_no_depth(station: StationRoot) -> None:
    engine = ScriptedEngine([{"area": 0.0}] * 3 + [{"valid": 0.4}] * 6 + [{"area": 0.0}])
    assert run(station, frames(*PART), engine) == [(3, "no_depth")]


def test_no_depth_image_at_all(station: StationRoot) -> None:
    ((code, reason),) = run(station, frames(*PART, depth=None))
    # this product's camera has depth: it is another camera
    assert (code, reason) == (3, "camera_mismatch")


def test_no_part_when_an_image_shows_none(station: StationRoot) -> None:
    service = new_service(
        station, frames(EMPTY, GOOD), plan=RunPlan(each_frame=True, lossless=True)
    )
    service.run()
    assert [(one["code"], one["reason"]) for one in committed(station.root)] == [
        (3, "no_part"),
        (1, "normal"),
    ]


def test_too_large(station: StationRoot) -> None:
    large = Shot(part=True, large=True)
    assert run(station, frames(*[EMPTY] * 3, *[large] * 6, *[EMPTY] * 3)) == [(3, "too_large")]


def test_a_part_that_another_one_touches_is_too_large(station: StationRoot) -> None:
    large = Shot(part=True, large=True)
    assert run(station, frames(*[EMPTY] * 3, *[GOOD] * 8, large, large, *[EMPTY] * 3)) == [
        (3, "too_large")
    ]


@pytest.mark.parametrize("between", [[], [EMPTY]])
def test_a_dent_that_a_good_part_follows_at_once_is_never_passed(
    station: StationRoot, between: list[Shot]
) -> None:
    script = frames(*[EMPTY] * 3, *[BAD] * 5, *between, *[GOOD] * 8, *[EMPTY] * 3)
    assert run(station, script) == [(3, "two_parts")]


def test_two_parts_at_two_places_are_two_verdicts(station: StationRoot) -> None:
    left, right = (
        (WIDTH / 4, 48.0, 100.0, 100.0, 0.0, 0.0),
        (3 * WIDTH / 4, 48.0, 100.0, 100.0, 0.0, 0.0),
    )
    shown = [{"score": 99.0, "place": right}] * 5 + [{"place": left}] * 8
    engine = ScriptedEngine([{"area": 0.0}] * 3 + shown + [{"area": 0.0}])
    assert run(station, frames(*[EMPTY] * 3, *[GOOD] * 13, *[EMPTY] * 3), engine) == [
        (2, "anomaly"),
        (1, "normal"),
    ]
    assert [record["frames"] for record in committed(station.root)] == [5, 8]


def test_a_part_that_is_never_whole_is_partial_and_frames_that_cut_it_do_not_decide(
    tmp_path: Path,
) -> None:
    station = make_station(tmp_path / "whole", max_border=0.05)
    cut = {"score": 99.0, "place": (*WHOLE[:5], 0.2)}
    whole = [{"area": 0.0}] * 3 + [cut] * 3 + [{}] * 6 + [cut] * 3 + [{"area": 0.0}] * 3
    engine = ScriptedEngine([*whole, *[cut] * 6, {"area": 0.0}])
    script = frames(*[EMPTY] * 3, *[GOOD] * 12, *[EMPTY] * 3, *[GOOD] * 6, *[EMPTY] * 3)
    assert run(station, script, engine) == [(1, "normal"), (3, "partial")]


def test_a_restart_under_a_part_does_not_count_it_twice(station: StationRoot) -> None:
    """A live camera, whose first frames show what the station decided before it was stopped."""
    script = frames(*[GOOD] * 10, *[EMPTY] * 3, *[GOOD] * 6, *[EMPTY] * 3)
    new_service(station, script, plan=RunPlan()).run()
    (record,) = committed(station.root)
    assert 3 <= record["frames"] <= 6  # a live camera's frames may be replaced by newer ones


def states_while(station: StationRoot, script: Sequence[Step]) -> set[tuple[str, str, bool]]:
    """Every state that the station had while it played the script."""
    seen: set[tuple[str, str, bool]] = set()
    service = new_service(station, script)
    service.health.listen(lambda: seen.add(service.health.state()))
    service.run()
    return seen


def test_a_depth_image_without_a_reading_is_said_though_no_part_comes(station: StationRoot) -> None:
    covered = frames(*[EMPTY] * 8, depth=np.zeros((HEIGHT, WIDTH), np.uint16))
    assert ("degraded", "blind", False) in states_while(station, [*frames(*PART), *covered])


def test_a_black_picture_is_said_though_no_part_comes(station: StationRoot) -> None:
    dark = frames(*[EMPTY] * 8, color=np.full((HEIGHT, WIDTH, 3), 6, np.uint8))
    seen = states_while(station, dark)
    assert ("degraded", "blind", False) in seen
    assert ("online", "", True) not in seen
    assert [(one["code"], one["reason"]) for one in committed(station.root)] == [(3, "blind")], (
        "said once"
    )


def test_a_picture_that_stands_still_is_said_and_not_judged(station: StationRoot) -> None:
    still = frames(*[EMPTY] * 3)[-1]
    assert not callable(still)
    assert not isinstance(still, Exception)
    frozen = [replace(still, frame_number=number) for number in range(4, 40)]
    seen = states_while(
        station, [*frames(*[EMPTY] * 3), *frozen, frame_of(EMPTY, 41), frame_of(EMPTY, 42)]
    )
    assert ("degraded", "stale", False) in seen
    assert ("online", "", True) in seen


def test_an_engine_that_cannot_keep_up_is_said(station: StationRoot) -> None:
    every_third = [frame_of(EMPTY, 3 * number) for number in range(1, 41)]
    assert ("degraded", "slow", False) in states_while(station, every_third)
    assert not any(
        reason == "slow" for _, reason, _ in states_while(station, frames(*[EMPTY] * 40))
    )


def test_uncalibrated_says_so_once(tmp_path: Path) -> None:
    station = make_station(tmp_path / "fresh", calibrated=False)
    service = new_service(station, frames(*PART, *PART))
    service.run()
    (record,) = committed(station.root)
    assert (record["code"], record["reason"], record["score"]) == (3, "uncalibrated", None)
    assert service.health.state() == ("fault", "uncalibrated", False)


def test_another_lens_is_camera_mismatch(station: StationRoot) -> None:
    script = [
        other_lens(one)
        for one in frames(*PART)
        if not callable(one) and not isinstance(one, Exception)
    ]
    service = new_service(station, script)
    service.run()
    assert [(one["code"], one["reason"]) for one in committed(station.root)] == [
        (3, "camera_mismatch")
    ]
    assert service.health.state() == ("fault", "camera_mismatch", False)


def test_a_camera_that_cannot_be_set_is_camera_mismatch(station: StationRoot) -> None:
    refused = CameraMismatch("camera 1 delivers 848x480, the product needs 640x480")
    assert run(station, [refused, refused, *frames(*PART)]) == [
        (3, "camera_mismatch"),
        (1, "normal"),
    ]


def test_a_lost_camera_ends_the_open_part(station: StationRoot) -> None:
    shown = frames(*[EMPTY] * 3, *[GOOD] * 5, *[EMPTY] * 4, *[GOOD] * 5, *[EMPTY] * 3)
    script = [*shown[:8], CameraLost("unplugged"), *shown[8:]]
    assert run(station, script) == [(3, "camera_lost"), (1, "normal")]


def test_a_camera_lost_between_parts_makes_no_verdict(station: StationRoot) -> None:
    shown = frames(*PART, *PART)
    script = [*shown[:2], CameraLost("unplugged"), *shown[2:12], CameraLost("again"), *shown[12:]]
    assert run(station, script) == [(1, "normal"), (1, "normal")]


def test_a_lost_camera_is_degraded_until_it_is_back(station: StationRoot) -> None:
    shown = frames(*PART)
    script: list[Step] = []
    service = new_service(station, script)

    def becomes(*state: object) -> Callable[[], None]:
        return lambda: wait_until(
            lambda: service.health.state() == state, 60, f"it does not become {state}"
        )

    script += [
        *shown[:1],
        becomes("online", "", True),
        CameraLost("unplugged"),
        becomes("degraded", "camera_lost", False),
        *shown[1:3],
        becomes("online", "", True),
        *shown[3:],
    ]
    assert service.run() == 1


def test_a_frame_that_repeats_itself_is_stale(station: StationRoot) -> None:
    shown = frames(*PART)
    assert run(station, [*shown[:7], shown[6], *shown[7:]]) == [(3, "stale")]


def test_an_old_frame_is_stale(station: StationRoot) -> None:
    old = frame_of(GOOD, 1, captured_mono_ns=time.monotonic_ns() - 600_000_000)  # max_age_ms is 500
    service = new_service(station, [old], plan=RunPlan(each_frame=True, lossless=True))
    service.run()
    assert [(one["code"], one["reason"]) for one in committed(station.root)] == [(3, "stale")]


@pytest.mark.parametrize("broken", [{"score": np.nan}, {"cell": np.inf}, {"area": np.nan}])
def test_not_finite(station: StationRoot, broken: dict[str, float]) -> None:
    empty: dict[str, float] = {"area": 0.0}
    engine = ScriptedEngine([empty] * 3 + [{}] * 4 + [broken] + [{}] * 4 + [empty])
    assert run(station, frames(*[GOOD] * 15), engine) == [(3, "not_finite")]


def test_an_engine_that_fails(station: StationRoot) -> None:
    empty: dict[str, float] = {"area": 0.0}
    engine = ScriptedEngine([empty] * 3 + [{}] * 4 + [FAILED] + [{}] * 4 + [empty])
    assert run(station, frames(*[GOOD] * 15), engine) == [(3, "engine")]


def test_an_engine_that_always_fails_says_so_once_and_the_state_is_fault(
    station: StationRoot,
) -> None:
    service = new_service(station, frames(*[GOOD] * 30), ScriptedEngine([FAILED]))
    service.run()
    assert [(one["code"], one["reason"]) for one in committed(station.root)] == [(3, "engine")]
    assert service.health.state() == ("fault", "engine", False)


def test_late(station: StationRoot) -> None:
    engine = ScriptedEngine([{}], delay_s=0.03)
    config = NO_BROKER.model_copy(
        update={"decision": NO_BROKER.decision.model_copy(update={"deadline_ms": 10})}
    )
    service = new_service(
        station, frames(GOOD), engine, RunPlan(each_frame=True, lossless=True), config
    )
    service.run()
    assert [(one["code"], one["reason"], one["score"]) for one in committed(station.root)] == [
        (3, "late", None)
    ]


def test_a_full_disk_is_storage_and_its_numbers_are_not_used_again(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, str]] = []
    full = threading.Event()
    commit = Outbox.commit

    def commit_on_full_disk(outbox: Outbox, build: Any) -> Any:
        """While `full` is set the database may not grow by a page: SQLite itself answers that the
        disk is full.
        """
        connection = outbox._connection()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        limit = pages if full.is_set() else 1 << 30
        connection.execute(f"PRAGMA max_page_count = {limit}").fetchall()
        ballast = {"ballast": "x" * 50_000} if full.is_set() else {}
        return commit(outbox, lambda seq: {**build(seq), **ballast})

    monkeypatch.setattr(Outbox, "commit", commit_on_full_disk)
    script: list[Step] = []
    service = new_service(station, script)

    def told_in(state: str, count: int) -> None:
        wait_until(
            lambda: len(told) == count and service.health.state()[0] == state,
            60,
            f"not {state}: {told}",
        )

    shown = frames(*PART, *PART, *PART)
    first, second, third = shown[:12], shown[12:24], shown[24:]
    script += [
        *first,
        lambda: told_in("online", 1),
        full.set,
        *second,
        lambda: told_in("fault", 2),
        full.clear,
        *third,
    ]

    def tell(_: NoLine, fields: Any, deadline_mono_ns: int) -> bool:
        told.append((fields["seq"], fields["code"], fields["reason"]))
        return True

    monkeypatch.setattr(NoLine, "publish_verdict", tell)
    service.run()
    assert told == [(1, 1, "normal"), (2, 3, "storage"), (3, 1, "normal")]
    stored = [(one["seq"], one["reason"]) for one in committed(station.root)]
    assert stored == [(1, "normal"), (2, "storage"), (3, "normal")]
    assert service.health.state() == ("online", "", True)


def test_a_disk_that_takes_nothing_at_all_gets_no_verdict_out(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the reserved block can be written: a number could be given out twice, so the PLC's
    timer must reject.
    """

    def refuse(*_: object) -> None:
        raise StorageError("input/output error")

    told: list[object] = []
    monkeypatch.setattr(Outbox, "commit", refuse)
    monkeypatch.setattr(Outbox, "commit_failed", refuse)
    monkeypatch.setattr(NoLine, "publish_verdict", lambda *_: told.append(_) or True)
    service = new_service(station, frames(*PART))
    service.run()
    assert told == []
    assert service.health.state() == ("fault", "storage", False)


def test_sqlite_sees_the_records_while_the_station_runs(station: StationRoot) -> None:
    run(station, frames(*PART))
    with sqlite3.connect(station.root / "var/lib/edge/line.sqlite") as reader:
        assert reader.execute("SELECT value FROM counters WHERE name = 'seq'").fetchone() == (1,)
    reader.close()


def test_a_reason_that_comes_and_goes_with_the_frames_is_logged_once(
    station: StationRoot, caplog: pytest.LogCaptureFixture
) -> None:
    black = [
        replace(frame_of(EMPTY, number), color=np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        for number in range(1, 21)
    ]
    script = [frame_of(EMPTY, n) if n % 2 else black[n - 1] for n in range(1, 21)]
    run(station, script)
    assert caplog.text.count("blind: ") == 1


def test_a_full_disk_is_logged_once_and_not_with_each_part(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Outbox, "_write", refuse)
    new_service(station, frames(*PART, *PART, *PART)).run()
    assert caplog.text.count("UNKNOWN storage") == 1
