"""A station whose parts change slowly: what it says, to whom, and what survives. Through the whole
of `edge run`, and of the watch alone what no scripted camera brings about.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.config import EdgeConfig
from edge.errors import ConfigError
from edge.runtime import drift_watch as module
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.drift_watch import DriftWatch, drift_file, read_drift
from edge.runtime.parts import JudgedFrame
from edge.runtime.plan import RunPlan
from edge.runtime.service import Service
from edge.types import Frame, Judgment
from tests.support.active import judgment_of, make_active
from tests.support.broker import wait_until
from tests.support.fakes import frame_of
from tests.support.patience import HANG_S
from tests.support.service import NO_BROKER, new_service
from tests.support.station import BAD, GOOD, SERIAL, Shot, StationRoot

REAL_LIMIT = module.QUEUE_LIMIT
EACH = RunPlan(each_frame=True, lossless=True)
NUMBERS = iter(range(1, 1_000_000))


@pytest.fixture(autouse=True)
def no_part_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much faster than a line the parts are played."""
    monkeypatch.setattr(module, "QUEUE_LIMIT", 1000)


def noisy(noise_counts: float, darker: int = 0) -> Frame:
    """A good part. noise_counts: added to its depth, of 0.1 mm."""
    number = next(NUMBERS)
    frame, rng = frame_of(GOOD, number), np.random.default_rng(number)
    assert frame.depth is not None
    read = frame.depth > 0
    depth = np.where(read, frame.depth + rng.normal(0, noise_counts, frame.depth.shape), 0)
    color = np.clip(frame.color.astype(int) - darker + rng.integers(-1, 2), 0, 255)
    return replace(frame, depth=depth.astype(np.uint16), color=color.astype(np.uint8))


def usual(count: int) -> list[Frame]:
    return [noisy(3) for _ in range(count)]


def worse(count: int) -> list[Frame]:
    return [noisy(12) for _ in range(count)]


def played(
    station: StationRoot, frames: Sequence[Frame], config: EdgeConfig = NO_BROKER
) -> Service:
    service = new_service(station, frames, plan=EACH, config=config)
    service.run()
    return service


def said(service: Service) -> dict[str, Any]:
    assert service.at_work is not None
    return service.at_work.report.for_status()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == module.__name__ and record.levelno >= logging.WARNING
    ]


def test_a_camera_that_becomes_noisy_is_told_once_and_changes_no_verdict(
    station: StationRoot, caplog: pytest.LogCaptureFixture
) -> None:
    service = played(station, [*usual(60), *worse(40)])
    told = said(service)
    assert told["drift"].startswith("depth noise higher since about seq ")
    seq = int(told["drift"].split(" seq ")[1].split(",")[0])
    assert abs(seq - 61) <= 4
    assert told["parts_watched"] == 100
    assert (told["ok"], told["ng"], told["unknown"]) == (100, 0, 0)
    assert (told["state"], told["ready"]) == ("online", True)
    (warning,) = warnings(caplog)
    assert warning.startswith(f"drift: {told['drift']}: parts are judged as before")


def test_parts_that_stay_as_they_are_are_no_drift(station: StationRoot) -> None:
    told = said(played(station, usual(100)))
    assert (told["drift"], told["parts_watched"]) == (None, 100)


def test_a_lamp_that_fades_by_the_same_time_is_named_as_an_explanation(
    station: StationRoot,
) -> None:
    service = played(station, [*usual(60), *(noisy(12, darker=15) for _ in range(40))])
    assert "; brightness lower by then)" in said(service)["drift"]


def test_a_warning_survives_a_restart_and_ends_with_a_calibration(
    station: StationRoot, caplog: pytest.LogCaptureFixture
) -> None:
    first = said(played(station, [*usual(60), *worse(40)]))["drift"]
    caplog.clear()
    again = said(played(station, usual(5)))
    assert (again["drift"], again["parts_watched"]) == (first, 105)
    assert warnings(caplog) == []
    station.calibrate()
    anew = said(played(station, usual(5)))
    assert (anew["drift"], anew["parts_watched"]) == (None, 5)
    (warning,) = warnings(caplog)
    assert warning == f"drift: no warning for what is judged now; the one before was: {first}"


def test_what_is_remembered_makes_a_change_visible_after_a_restart(station: StationRoot) -> None:
    """The parts of the second run alone show nothing; beside the sixty of before they do."""
    played(station, usual(60))
    told = said(played(station, worse(60)))
    assert told["parts_watched"] == 120
    assert told["drift"].startswith("depth noise higher")


def test_parts_without_a_verdict_are_not_watched(station: StationRoot) -> None:
    unread = Shot(part=True, holes=0.8)
    unknown = [frame_of(unread, next(NUMBERS)) for _ in range(4)]
    bad = [frame_of(BAD, next(NUMBERS)) for _ in range(3)]
    told = said(played(station, [*usual(5), *unknown, *bad]))
    assert (told["ok"], told["ng"], told["unknown"]) == (5, 3, 4)
    assert told["parts_watched"] == 8


def test_files_that_are_played_are_not_watched(station: StationRoot) -> None:
    config = NO_BROKER.model_copy(
        update={"camera": NO_BROKER.camera.model_copy(update={"kind": "folder"})}
    )
    told = said(played(station, usual(10), config))
    assert (told["ok"], told["parts_watched"]) == (10, 0)
    assert not drift_file(station.store, "washer").exists()


def test_the_file_is_not_part_of_the_site_state(station: StationRoot) -> None:
    """Else writing it would resolve the bundle anew, each minute."""
    path = drift_file(station.store, "washer")
    assert path.parent == station.store.site_folder("washer").parent


@pytest.mark.parametrize("content", [b"{", b"\0" * 5000, b'{"schema": 1}'])
def test_a_damaged_file_is_told_and_the_watch_begins_anew(
    station: StationRoot, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = drift_file(station.store, "washer")
    path.write_bytes(content)
    told = said(played(station, usual(5)))
    assert told["parts_watched"] == 5
    assert {line.partition(" is damaged (")[0] for line in warnings(caplog)} == {str(path)}
    assert all(line.endswith("The watch over drift begins anew") for line in warnings(caplog))
    found = read_drift(station.store, "washer")
    assert found is not None
    assert found[1].parts == 5


def test_a_file_of_another_product_is_refused(station: StationRoot) -> None:
    played(station, usual(5))
    path = drift_file(station.store, "washer")
    path.write_text(path.read_text().replace('"product": "washer"', '"product": "rope"'))
    with pytest.raises(ConfigError, match=r"is of product rope: it is not used$"):
        read_drift(station.store, "washer")


def test_what_a_killed_process_has_left_is_removed(station: StationRoot) -> None:
    left = drift_file(station.store, "washer").with_name(".drift.json.x7a")
    left.write_bytes(b"half")
    played(station, usual(1))
    assert not left.exists()


def test_where_there_is_no_file_nothing_is_remembered(station: StationRoot) -> None:
    assert read_drift(station.store, "washer") is None


# --- the watch alone ---


def record_of(seq: int, judgment: Judgment, active: ActiveBundle) -> dict[str, Any]:
    return {
        **module.key_of(active, SERIAL).model_dump(exclude={"serial"}),
        "seq": seq,
        "code": int(judgment.code),
        "score": None if judgment.score is None else float(judgment.score),
        "valid": judgment.valid,
        "area": judgment.area,
        "judged_at": "2026-11-30T08:00:00.000Z",
    }


class Fed:
    """A watch, and parts for it."""

    def __init__(self, watch: DriftWatch, current: CurrentBundle) -> None:
        self.watch, self.current, self.seq = watch, current, 0

    def show(self, count: int, active: ActiveBundle | None = None, **says: float) -> None:
        """Waits until they were taken."""
        judgment = judgment_of(says)
        for _ in range(count):
            before, self.seq = self.watch.parts, self.seq + 1
            shown = JudgedFrame(frame_of(GOOD, self.seq), judgment, active or self.current.get())
            self.watch.put(record_of(self.seq, judgment, shown.active), shown)
            wait_until(lambda before=before: self.watch.parts != before, 10, "it is not taken")


@contextmanager
def watching(
    station: StationRoot, active: ActiveBundle, changed: Callable[[], None] = int, **more: Any
) -> Iterator[Fed]:
    current = CurrentBundle(active)
    watch = DriftWatch(station.store, current, lambda: 31.5, changed, **more)
    watch.start()
    try:
        yield Fed(watch, current)
    finally:
        watch.stop(10)
        assert not watch._thread.is_alive()


def test_calibrating_while_it_runs_ends_the_warning_before_the_next_part(
    station: StationRoot, caplog: pytest.LogCaptureFixture
) -> None:
    changes: list[str | None] = []
    with watching(station, make_active(), lambda: changes.append(fed.watch.told)) as fed:
        for score in range(40):
            fed.show(1, score=1 + score / 100)  # each higher than all before
        told = fed.watch.told
        assert told is not None
        assert told.startswith("score higher since about seq ")
        fed.current.offer(make_active("2.0.0"))
        fed.current.take()
        wait_until(lambda: fed.watch.told is None, 10, "the warning stays")
        assert fed.watch.parts == 0
    assert changes == [told, None]
    assert len(warnings(caplog)) == 2


def test_another_product_in_between_changes_nothing(station: StationRoot) -> None:
    washer, rope = make_active(), make_active()
    rope.installed.product = "rope"
    (station.store.products_folder / "rope").mkdir()
    with watching(station, washer) as fed:
        for count, active, parts in ((7, washer, 7), (3, rope, 3), (1, washer, 8), (1, rope, 4)):
            fed.show(count, active=active)
            wait_until(lambda parts=parts: fed.watch.parts == parts, 10, "it begins anew")


def test_another_camera_begins_anew(station: StationRoot) -> None:
    with watching(station, make_active()) as fed:
        fed.show(7)
        judgment = judgment_of({})
        frame = replace(frame_of(GOOD, 1), serial="another")
        shown = JudgedFrame(frame, judgment, fed.current.get())
        fed.watch.put(record_of(8, judgment, shown.active), shown)
        wait_until(lambda: fed.watch.parts == 1, 10, "it goes on")


def test_the_file_is_written_at_most_once_in_its_time_and_at_the_end(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[float] = []
    write = module.write_atomically

    def noted(path: Path, data: bytes) -> None:
        written.append(time.monotonic())
        write(path, data)

    monkeypatch.setattr(module, "write_atomically", noted)
    with watching(station, make_active()) as fed:
        fed.show(20)
        assert written == []
    assert len(written) == 1
    written.clear()
    started_s = time.monotonic()
    with watching(station, make_active(), save_s=0.05) as fed:
        fed.show(40)
        shown = 60
        while not written and time.monotonic() < started_s + HANG_S:
            time.sleep(0.1)
            fed.show(1)
            shown += 1
        assert written
    assert 1 < len(written) <= (time.monotonic() - started_s) / 0.05 + 1
    found = read_drift(station.store, "washer")
    assert found is not None
    assert (found[0].serial, found[1].parts) == (SERIAL, shown)


def test_a_part_is_never_waited_for(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", REAL_LIMIT)
    hangs, goes_on, values_of = threading.Event(), threading.Event(), module.values_of

    def hanging(*of: Any) -> dict[str, float | None]:
        hangs.set()
        goes_on.wait(10)
        return values_of(*of)

    monkeypatch.setattr(module, "values_of", hanging)
    judgment = judgment_of({})
    with watching(station, make_active()) as fed:
        shown = JudgedFrame(frame_of(GOOD, 1), judgment, fed.current.get())
        fed.watch.put(record_of(1, judgment, shown.active), shown)
        assert hangs.wait(10)
        started_s = time.monotonic()
        for seq in range(2, 40):
            fed.watch.put(record_of(seq, judgment, shown.active), shown)
        assert time.monotonic() - started_s < 0.5
        goes_on.set()
        wait_until(lambda: fed.watch.parts == 1 + REAL_LIMIT, 10, "parts are lost")
        fed.show(1)
    told = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert told[0] == "drift: parts are left out, the processor does not keep up"
    assert told[1].startswith("the watch over drift keeps up again")


def test_a_disk_that_refuses_is_told_and_costs_nothing_else(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as full:
        full.setattr(module, "write_atomically", refused)
        with watching(station, make_active(), save_s=0.01) as fed:
            fed.show(20)
    (line,) = warnings(caplog)
    assert line.startswith("drift: no space left on the disk for ")
    assert read_drift(station.store, "washer") is None


def test_the_numbers_of_a_part(station: StationRoot) -> None:
    """Through a bundle that has a plane: the noise of the drawing is 0.3 mm."""
    service = played(station, [])
    assert service.at_work is not None
    active, judgment = service.at_work.current.get(), judgment_of({"score": 60.0, "valid": 0.75})
    shown = JudgedFrame(frame_of(GOOD, 1), judgment, active)
    values = module.values_of(record_of(1, judgment, active), shown, 41.5)
    assert values.pop("depth_noise") == pytest.approx(0.3, rel=0.1)
    assert 60 < (values.pop("brightness") or 0) < 80
    assert values == {
        "score": 60.0, "valid": 0.75, "area": pytest.approx(0.3), "rejects": 1.0,
        "temperature": 41.5,
    }  # fmt: skip


def test_the_file_says_what_it_is_of(station: StationRoot) -> None:
    played(station, usual(3))
    key = json.loads(drift_file(station.store, "washer").read_text())["key"]
    assert (key["product"], key["serial"]) == ("washer", SERIAL)
    assert key["bundle"].startswith("1.0.0-")
    assert key["engine"].startswith("onnxruntime")
    assert len(key["geometry"]) == 12
    assert key["model_state"] is None
