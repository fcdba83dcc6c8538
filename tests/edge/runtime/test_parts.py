"""From judged frames to a record, a verdict and images; exactly one of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edge.config import EdgeConfig
from edge.decide.gate_factory import new_gate
from edge.errors import StorageError
from edge.line.none import NoLine
from edge.line.outbox import Outbox
from edge.runtime.active import ActiveBundle
from edge.runtime.health import Health
from edge.runtime.kept_files import Images
from edge.runtime.parts import JudgedFrame, PartMaker
from edge.types import Judgment, Reason
from tests.support.active import RULE, judgment_of, make_active
from tests.support.fakes import frame_of
from tests.support.station import GOOD

EMPTY, OK, NG = {"area": 0.0}, {"score": 1.0}, {"score": 60.0}


class Told(NoLine):
    """Notes every verdict."""

    def __init__(self) -> None:
        super().__init__()
        self.verdicts: list[dict[str, Any]] = []

    def publish_verdict(self, fields: Any, deadline_mono_ns: int) -> bool:
        self.verdicts.append(dict(fields))
        return True


@dataclass
class Kept:
    images: list[Images] = field(default_factory=list)

    def put(self, images: Images) -> None:
        self.images.append(images)


class Rig:
    def __init__(self, folder: Path, keep_ok_every: int = 0, deadline_ms: int = 60_000) -> None:
        config = EdgeConfig.model_validate(
            {
                "station": {"station": "s1"},
                "decision": {"deadline_ms": deadline_ms, "max_frames": 6},
                "retention": {"keep_ok_every": keep_ok_every},
            }
        )
        self.outbox, self.line, self.kept = Outbox(folder / "line.sqlite"), Told(), Kept()
        self.health, self.active = Health(), make_active()
        gate = new_gate(self.active.rule, config.decision, each_frame=False, starts_unsure=False)
        self.watched: list[tuple[int, bool]] = []  # of each part: seq, whether its verdict had left
        self.parts = PartMaker(
            config, self.active, gate, self.outbox, self.line, self.kept, self.health, self
        )
        self.number = 0

    def put(self, fields: Any, shown: JudgedFrame) -> None:
        told = any(one["seq"] == fields["seq"] for one in self.line.verdicts)
        self.watched.append((fields["seq"], told))

    def judged(self, says: dict[str, Any] | Judgment, active: ActiveBundle | None) -> JudgedFrame:
        self.number += 1
        frame = frame_of(GOOD, self.number, captured_mono_ns=time.monotonic_ns())
        judgment = says if isinstance(says, Judgment) else judgment_of(says)
        return JudgedFrame(frame, judgment, active or self.active)

    def show(self, *says: dict[str, Any] | Judgment, active: ActiveBundle | None = None) -> None:
        for one in says:
            self.parts.feed(self.judged(one, active))

    @property
    def verdicts(self) -> list[tuple[int, str]]:
        return [(one["code"], one["reason"]) for one in self.line.verdicts]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.outbox.close()


def test_the_watch_hears_of_each_part_after_its_verdict(rig: Rig) -> None:
    rig.show(*[OK] * 6, *[EMPTY] * 3, *[NG] * 6, *[EMPTY] * 3)
    assert rig.watched == [(1, True), (2, True)]


def test_a_part_is_one_verdict_one_record_and_one_count(rig: Rig) -> None:
    rig.show(EMPTY, OK, OK, OK, OK, EMPTY, EMPTY)
    (told,) = rig.line.verdicts
    assert (told["code"], told["reason"], told["frames"]) == (1, "normal", 4)
    assert (told["id"], told["part"], told["bundle"]) == ("s1-1", "P1", "1.0.0-0123456789ab")
    assert (told["thr_from"], told["thr_parts"]) == ("bundle", 20)
    assert told["geometry"] == "0123456789ab"
    assert rig.outbox.counts()["seq"] == 1
    assert rig.health.verdicts() == {"ok": 1, "ng": 0, "unknown": 0}
    assert rig.kept.images == []


def test_images_of_what_is_not_ok_are_kept_and_named_in_the_record(rig: Rig) -> None:
    rig.show(NG, NG, NG, EMPTY, EMPTY)
    (told,), (images,) = rig.line.verdicts, rig.kept.images
    assert images.folder == told["images"]
    assert images.folder.endswith("/s1-1")
    assert len(told["images_sha256"]) == 64
    assert images.crop == (0, 0, 128, 96)


def test_one_in_n_ok_parts_is_kept_by_its_number(tmp_path: Path) -> None:
    rig = Rig(tmp_path, keep_ok_every=2)
    for _ in range(4):
        rig.show(OK, OK, OK, EMPTY, EMPTY)
    assert [images.record["seq"] for images in rig.kept.images] == [2, 4]
    rig.outbox.close()


def test_a_verdict_after_the_deadline_is_late_and_has_no_score(tmp_path: Path) -> None:
    rig = Rig(tmp_path, deadline_ms=10)
    seen = [rig.judged(NG, None) for _ in range(6)]
    time.sleep(0.02)
    for one in seen:
        rig.parts.feed(one)
    (told,) = rig.line.verdicts
    assert (told["reason"], told["score"]) == ("late", None)
    rig.outbox.close()


def test_a_disk_that_does_not_take_the_record_is_told_as_storage(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("database or disk is full")

    monkeypatch.setattr(rig.outbox, "commit", refuse)
    rig.show(NG, NG, NG, EMPTY, EMPTY)
    assert rig.verdicts == [(3, "storage")]
    assert rig.line.verdicts[0]["score"] is None
    assert rig.health.state()[:2] == ("fault", "storage")
    assert rig.kept.images == [], "what has no record has no images"
    monkeypatch.setattr(rig.outbox, "commit_failed", refuse)
    rig.show(NG, NG, NG, EMPTY, EMPTY)
    assert len(rig.line.verdicts) == 1, "without a number nothing is told"
    monkeypatch.undo()
    rig.show(OK, OK, OK, EMPTY, EMPTY)
    assert rig.verdicts[1:] == [(1, "normal")]
    assert rig.health.state()[:2] == ("online", "")


def test_a_lost_camera_makes_the_open_part_unknown_and_no_other(rig: Rig) -> None:
    last = rig.judged(OK, None)
    rig.parts.lose(last, Reason.CAMERA_LOST)
    assert rig.verdicts == []
    rig.show(OK, OK, OK)
    assert not rig.parts.is_between_parts
    rig.parts.lose(last, Reason.CAMERA_LOST)
    assert rig.verdicts == [(3, "camera_lost")]
    assert rig.parts.is_between_parts


def test_a_camera_that_gives_no_frame_is_a_part_without_images(rig: Rig) -> None:
    rig.parts.refuse(rig.active, Reason.CAMERA_MISMATCH)
    (told,) = rig.line.verdicts
    assert (told["reason"], told["geometry"], told["images"]) == ("camera_mismatch", None, None)
    assert told["thr"] == 20.0


def test_the_end_of_the_source_completes_the_open_part(rig: Rig) -> None:
    rig.show(OK, OK, OK, OK)
    rig.parts.finish()
    assert rig.verdicts == [(1, "normal")]


def test_two_parts_never_share_a_verdict(rig: Rig) -> None:
    rig.show(NG, NG, NG, EMPTY, OK, OK, OK)
    assert rig.verdicts == [(3, "two_parts")]
    assert rig.line.verdicts[0]["score"] is None


def test_the_next_part_is_judged_and_named_by_the_bundle_that_took_over(rig: Rig) -> None:
    rig.show(OK, OK, OK, OK, OK, OK)  # decided, and still in view
    second = make_active("2.0.0", rule=replace(RULE, min_area=0.4))
    large = {**OK, "area": 0.5}
    rig.show(*[large] * 8, active=second)
    assert len(rig.line.verdicts) == 1
    rig.show(*[OK] * 6, *[large] * 6, active=second)  # to the second bundle the first six are none
    assert [one["bundle"][:5] for one in rig.line.verdicts] == ["1.0.0", "2.0.0"]
    assert [one["frames"] for one in rig.line.verdicts] == [6, 6]
