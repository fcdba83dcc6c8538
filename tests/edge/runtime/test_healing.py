"""A camera without frames: what is done, counted, audited and told, and when it is a fault."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.camera.device import NOTHING_TOLD, DeviceFacts
from edge.config import EdgeConfig
from edge.errors import CameraError, CameraMismatch, StorageError
from edge.runtime import audit_rows, healing
from edge.runtime.audit_rows import AuditRows
from edge.runtime.capture import Capture, require_calibration
from edge.runtime.healing import Healing
from edge.runtime.health import Health
from edge.runtime.mailbox import Lost
from edge.station.audit import read_audit
from edge.types import Code, Judgment, Reason
from tests.edge.runtime.test_capture import STATION, Taken, Waits, frame, lost
from tests.support.broker import wait_until
from tests.support.fakes import ScriptedCamera, Step, frames_of
from tests.support.service import NO_BROKER, new_service, running
from tests.support.station import EMPTY, StationRoot


@dataclass
class Scripted:
    """Remedies that say what the script says."""

    answers: Mapping[str, str | CameraError]
    asked: list[tuple[str, DeviceFacts]] = field(default_factory=list)
    advice: str = "unplug it"

    def _answer(self, name: str, told: DeviceFacts) -> str:
        self.asked.append((name, told))
        answer = self.answers[name]
        if isinstance(answer, CameraError):
            raise answer
        return answer

    def reset_hardware(self, told: DeviceFacts) -> str:
        return self._answer("reset", told)

    def restart_port(self, told: DeviceFacts) -> str:
        return self._answer("port", told)


WORKING = {"reset": "done", "port": "port 2-1 restarted"}
NO_UNIT = CameraError("edge-usb-reset.path is not installed")


@dataclass
class Healed:
    remedies: Scripted
    healing: Healing
    rows: list[dict[str, Any]]
    told: list[tuple[str | None, bool]]
    items: list[Any]
    delays_s: list[float]


def play(
    script: list[Step], answers: Mapping[str, str | CameraError] = WORKING, resets: int = 2
) -> Healed:
    """The script through the capture thread's work with these remedies, without waiting."""
    rows: list[dict[str, Any]] = []
    told: list[tuple[str | None, bool]] = []
    remedies = Scripted(answers)
    work = Healing(
        remedies,
        resets,
        lambda act, detail: rows.append({"act": act, **detail}),
        lambda: told.append((work.problem, work.is_fault)),
    )
    waits, mailbox = Waits(), Taken()
    camera = ScriptedCamera(script, interval_s=0.0)
    Capture(lambda _: camera, lambda: STATION, mailbox, waits, healing=work).run()
    return Healed(remedies, work, rows, told, mailbox.items, waits.seconds)


def test_the_ladder_is_climbed_rung_by_rung_and_each_is_counted_and_audited() -> None:
    healed = play([frame(1), *[lost()] * 8, frame(2)])
    assert [name for name, _ in healed.remedies.asked] == ["reset", "reset", "port"]
    assert (healed.healing.hardware_resets, healed.healing.port_restarts) == (2, 1)
    assert [(row["rung"], row.get("outcome")) for row in healed.rows] == [
        ("respawn", None),
        ("respawn", None),
        ("hardware reset", "done"),
        ("hardware reset", "done"),
        ("usb port", "port 2-1 restarted"),
        ("fault", None),
        ("frames again", None),
    ]
    assert {row["act"] for row in healed.rows} == {"camera"}
    assert [row.get("failure") for row in healed.rows] == [1, 2, 3, 4, 5, 6, None]
    assert healed.rows[-1]["failures"] == 8


def test_every_rung_is_told_while_it_lasts_and_the_fault_says_what_to_do() -> None:
    healed = play([frame(1), *[lost()] * 8, frame(2)], {**WORKING, "port": NO_UNIT})
    problems = [problem for problem, _ in healed.told]
    assert problems[:3] == [
        "unplugged (respawn 1)",
        "unplugged (respawn 2)",
        "unplugged (hardware reset 1)",
    ]
    assert "no frames; hardware reset 2: done" in problems
    skipped = "skipped, edge-usb-reset.path is not installed"
    assert f"no frames; usb port 1: {skipped}" in problems
    fault = f"no remedy helped (hardware reset: done; usb port: {skipped}): unplug it. unplugged"
    assert healed.told[-2:] == [(fault, True), (None, False)]
    assert healed.healing.port_restarts == 0, "what was skipped is not counted"
    errors = [str(item.error) for item in healed.items if isinstance(item, Lost)]
    assert errors == ["unplugged"] * 5 + [fault] * 3


def test_a_frame_starts_the_ladder_and_the_delays_anew() -> None:
    healed = play([frame(1), *[lost()] * 4, frame(2), *[lost()] * 2, frame(3)])
    assert [name for name, _ in healed.remedies.asked] == ["reset", "reset"]
    assert [row["rung"] for row in healed.rows][-3:] == ["respawn", "respawn", "frames again"]
    assert healed.delays_s == [0.25, 0.5, 1.0, 2.0, 0.25, 0.5]


def test_no_remedy_is_tried_on_a_camera_that_is_another_than_the_product_needs() -> None:
    other = CameraMismatch("640x480 pixels, the product was trained on 1280x720")
    healed = play([frame(1), *[other] * 20, frame(2)])
    assert (healed.remedies.asked, healed.rows) == ([], [])
    assert healed.told == [(str(other), False), (None, False)]


def test_resets_0_leaves_hardware_and_port_alone() -> None:
    healed = play([frame(1), *[lost()] * 20, frame(2)], resets=0)
    assert healed.remedies.asked == []
    assert [row["rung"] for row in healed.rows] == ["respawn", "respawn", "fault", "frames again"]


def test_the_remedies_are_told_what_the_device_said_before_it_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = DeviceFacts(port="2-1", usb="3.2")
    monkeypatch.setattr("edge.runtime.capture._facts_of", lambda camera: facts if camera else
                        NOTHING_TOLD)  # fmt: skip
    healed = play([frame(1), *[lost()] * 4, frame(2)])
    assert [told for _, told in healed.remedies.asked] == [facts, facts]


def test_a_camera_that_fails_all_day_fills_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(healing.time, "monotonic", lambda: now_s[0])
    rows: list[Mapping[str, Any]] = []
    work = Healing(Scripted(WORKING), note=lambda _, detail: rows.append(detail))
    for _ in range(1000):
        work.climb(lost())
        work.frame_came()
    assert len(rows) == healing.ROWS
    now_s[0] += healing.ROWS_S + 1
    work.climb(lost())
    assert rows[-1]["left_out"] == 2000 - healing.ROWS


# --- the state ---

FOLDER = EdgeConfig.model_validate({**NO_BROKER.model_dump(), "camera": {"kind": "folder"}})


def test_a_loss_is_degraded_until_no_remedy_helped_and_a_frame_ends_it() -> None:
    health = Health()
    health.note_lost(Reason.CAMERA_LOST)
    assert health.state() == ("degraded", "camera_lost", False)
    health.note_camera(is_given_up=True)
    assert health.state() == ("fault", "camera_lost", False)
    health.note_camera(is_given_up=False)
    health.note_frame(Judgment(Code.OK, Reason.NORMAL, None, None))
    assert health.state() == ("online", "", True)


def test_a_station_tells_the_ladder_and_writes_it_to_the_audit_table(
    station: StationRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.runtime.capture.RETRY_S", 0.01)
    seen: list[tuple[str, str, int]] = []
    service = new_service(station, [], config=FOLDER)

    def look() -> None:
        wait_until(lambda: service.health.state()[0] == "fault", 60, "no fault")
        said = service.at_work.report.for_status()
        seen.append((said["state"], said["camera_problem"], said["camera_restarts"]))
        assert service.health.why == said["camera_problem"]

    script: list[Step] = [*frames_of([EMPTY] * 3), *[lost()] * 6, look, *frames_of([EMPTY] * 3)]
    service._make_camera = lambda _, camera=ScriptedCamera(script): camera
    with running(service):
        wait_until(lambda: seen, 60, "the fault was not told")
        wait_until(lambda: service.health.state()[0] == "online", 60, "it does not come back")
        assert service.at_work.report.for_status()["camera_problem"] is None
    state, problem, restarts = seen[0]
    assert (state, restarts) == ("fault", 6)
    assert "no device" in problem
    assert "check the files that [camera] of station.toml names" in problem
    rows = [row.detail["rung"] for row in read_audit(station.root) if row.act == "camera"]
    assert rows == [
        "respawn", "respawn", "hardware reset", "hardware reset", "usb port", "fault",
        "frames again",
    ]  # fmt: skip


def test_rows_that_the_disk_does_not_take_hold_up_nobody_and_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(audit_rows, "append_audit", refuse)
    rows = AuditRows(tmp_path)
    began_s = time.monotonic()
    for number in range(audit_rows.WAITING + 5):
        rows.put("camera", {"number": number})
    assert time.monotonic() - began_s < 1.0
    rows.start()
    rows.stop(60.0)
    assert "the disk is full" in caplog.text
    assert "no row for this: camera {'number': 104}" in caplog.text


# --- the camera's own calibration ---

TABLE, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("kept", "told", "is_refused"),
    [(TABLE, TABLE, False), (TABLE, OTHER, True), (None, OTHER, False), (TABLE, None, False)],
)
def test_a_camera_that_was_calibrated_anew_since_its_plane_is_refused(
    kept: str | None, told: str | None, is_refused: bool
) -> None:
    record = SimpleNamespace(calibration=kept)
    store = SimpleNamespace(geometry_record=lambda _product, _serial: record)
    active: Any = SimpleNamespace(store=store, installed=SimpleNamespace(product="washer"))
    facts = DeviceFacts(calibration=told)
    if not is_refused:
        require_calibration(active, "42", facts)
        return
    with pytest.raises(CameraMismatch, match=r"camera 42.*bbbb.*aaaa.*edge calibrate plane"):
        require_calibration(active, "42", facts)


def test_a_camera_that_was_given_up_is_tried_again_from_the_first_remedy_when_asked() -> None:
    told: list[bool] = []
    work = Healing(Scripted(WORKING), resets=0, changed=lambda: told.append(work.is_fault))
    for _ in range(3):
        work.climb(CameraError("unplugged"))
    assert work.is_fault
    work.start_anew()
    work.climb(CameraError("unplugged"))
    assert (work.problem, work.is_fault, told[-1]) == ("unplugged (respawn 1)", False, False)
    work.start_anew()
    work.frame_came()
    for _ in range(3):
        work.climb(CameraError("unplugged"))
    assert work.is_fault, "what was asked for before frames came counts no more"
