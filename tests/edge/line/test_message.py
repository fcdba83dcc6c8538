"""What a PLC programmer relies on: bytes, order, length, and numbers that read back as they
were.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.line.message import (
    PART_LIMIT,
    Record,
    StateDetails,
    StationState,
    Triggered,
    clean_part,
    code_payload,
    record_fields,
    record_payload,
    state_message,
    state_payload,
    utc_ms,
    verdict_payload,
)
from edge.types import Code, Reason

RECORD = Record(
    part="A17",
    code=Code.NG,
    reason=Reason.ANOMALY,
    score=np.float32(0.7),
    threshold=np.float32(0.5),
    ms=34,
    area=0.31,
    valid=0.97,
    frames=8,
    product="washer",
    bundle="washer-1.0.0-0123456789ab",
    geometry="ab" * 6,
    model_state=None,
    engine="onnxruntime 1.32.0 fp32",
    threshold_from="bundle",
    threshold_parts=60,
    guarantee="few are rejected",
    captured_at="2026-11-22T17:00:00.000Z",
    judged_at="2026-11-22T17:00:00.034Z",
    clock_synced=True,
)
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False).map(np.float32)


def test_the_verdict_is_byte_exact() -> None:
    fields = record_fields(replace(RECORD, at=1795366800123), "s1", 4711)
    assert (
        verdict_payload(fields, 36)
        == b'{"id":"s1-4711","seq":4711,"part":"A17","code":2,"reason":"anomaly","score":0.7,'
        b'"thr":0.5,"ms":36,'
        b'"at":1795366800123}'
    )
    assert verdict_payload({**fields, "at": None}, 36).endswith(b'"ms":36,"at":null}')
    assert code_payload(fields) == b"2 4711 A17"


def test_an_unjudged_score_is_null() -> None:
    unknown = replace(RECORD, code=Code.UNKNOWN, reason=Reason.CAMERA_LOST, score=None)
    assert b'"score":null,"thr":0.5' in verdict_payload(record_fields(unknown, "s1", 1), 1)
    assert record_fields(unknown, "s1", 1)["margin"] is None


@given(
    part=st.text(),
    station=st.text(max_size=80),
    seq=st.integers(1, 2**53),
    ms=st.integers(-5, 10**15),
    at=st.none() | st.integers(0, 2**42),
    score=FLOATS,
    threshold=FLOATS,
    reason=st.sampled_from(Reason),
)
def test_no_verdict_is_longer_than_a_plc_string(
    part: str,
    station: str,
    seq: int,
    ms: int,
    at: int | None,
    score: np.float32,
    threshold: np.float32,
    reason: Reason,
) -> None:
    record = replace(
        RECORD, part=part, ms=ms, at=at, score=score, threshold=threshold, reason=reason
    )
    fields = record_fields(record, station, seq)
    payload = verdict_payload(fields, ms)
    assert len(payload) <= 250
    payload.decode("ascii")
    seen = json.loads(payload)
    assert list(seen) == ["id", "seq", "part", "code", "reason", "score", "thr", "ms", "at"]
    assert np.float32(seen["score"]) == score
    assert np.float32(seen["thr"]) == threshold
    assert code_payload(fields).decode("ascii").split(" ") == ["2", str(seq), seen["part"]]


def test_the_longest_verdict_fits() -> None:
    smallest = np.float32(-1.1754944e-38)
    mismatch = replace(RECORD, reason=Reason.CAMERA_MISMATCH)
    record = replace(
        mismatch, part="W" * 99, at=4_102_444_800_000, score=smallest, threshold=smallest
    )
    payload = verdict_payload(record_fields(record, "S" * 99, 2**53), 10**12)
    assert 220 < len(payload) <= 250
    most = 2**32 - 1
    for triggered, part in ((Triggered(most), "W" * 32), (Triggered(most, None, most), "W" * 15)):
        asked = replace(record, part=part, triggered=triggered)
        assert len(verdict_payload(record_fields(asked, "S" * 99, 2**53), 10**12)) == 250


@given(st.text())
def test_a_part_is_printable_ascii_without_spaces(name: str) -> None:
    part = clean_part(name)
    assert 1 <= len(part) <= PART_LIMIT
    assert all(33 <= ord(c) <= 126 and c not in '"\\' for c in part)
    assert clean_part(part) == part


def test_a_record_is_flat_and_its_repeat_differs_in_replay_only() -> None:
    fields = record_fields(RECORD, "s1", 7)
    first, again = (json.loads(record_payload(fields, replay)) for replay in (False, True))
    assert {key for key in first if first[key] != again[key]} == {"replay"}
    assert not any(isinstance(value, (dict, list)) for value in first.values())
    names = (
        "schema id seq part code reason score thr judge_ms at margin area valid frames product"
        " bundle geometry model_state engine thr_from thr_parts guarantee captured_at judged_at"
        " clock_synced images images_sha256 replay"
    )
    assert " ".join(first) == names
    assert first["margin"] == pytest.approx(-0.2, abs=1e-6)


def test_what_a_trigger_adds_to_verdict_and_record() -> None:
    asked = replace(RECORD, triggered=Triggered(7, Code.OK, 99))
    fields = record_fields(asked, "s1", 1)
    assert list(fields)[:8] == ["schema", "id", "seq", "part", "n", "enc", "code", "reason"]
    assert (list(fields)[8], fields["judged_code"]) == ("judged_code", 1)
    assert b'"part":"A17","n":7,"enc":99,"code":2,' in verdict_payload(fields, 1)
    unjudged = record_fields(replace(RECORD, triggered=Triggered()), "s1", 1)
    assert unjudged["judged_code"] is None
    assert not {"n", "enc"} & set(unjudged)


def test_the_state_says_whether_a_part_would_be_judged() -> None:
    assert (
        state_payload("fault", "storage", False, "s1", {"parts": 3})
        == b'{"schema":1,"station":"s1","state":"fault","reason":"storage","ready":false,"parts":3}'
    )


def test_time_is_utc_with_milliseconds() -> None:
    assert utc_ms(1_000_000_000.0625) == "2001-09-09T01:46:40.062Z"


def test_the_state_of_a_running_station_is_one_flat_object_in_fixed_order() -> None:
    details = StateDetails(
        busy=False,
        heartbeat=7,
        link=None,
        product="washer",
        bundle="1.0.0-0123456789ab",
        engine="onnxruntime",
        precision="fp32",
        ok=5,
        ng=2,
        unknown=1,
        medians_ms={"wait": 1.25, "engine": 30.5},
        seq=8,
        records_waiting=3,
        records_dropped=0,
        records_unwritten=0,
        verdicts_unsent=1,
        frames_dropped=2,
        frame_gaps=0,
        camera_restarts=0,
        images_dropped=0,
        uptime_s=61,
        camera_resets=1,
        camera_problem="unplugged (respawn 1)",
        camera_usb="3.2",
        camera_temperature_c=41.5,
        product_number=7,
        paused=True,
        drift="score higher",
    )
    assert state_message(StationState("s1", "degraded", "archive", True, details)) == (
        b'{"schema":1,"station":"s1","state":"degraded","reason":"archive","ready":true,'
        b'"busy":false,"heartbeat":7,"link":null,"product":"washer","bundle":"1.0.0-0123456789ab",'
        b'"engine":"onnxruntime","precision":"fp32","ok":5,"ng":2,"unknown":1,"wait_ms":1.25,'
        b'"engine_ms":30.5,"seq":8,"records_waiting":3,"records_dropped":0,"records_unwritten":0,'
        b'"verdicts_unsent":1,"frames_dropped":2,"frame_gaps":0,"camera_restarts":0,'
        b'"images_dropped":0,"uptime_s":61,"camera_resets":1,"usb_resets":0,'
        b'"camera_problem":"unplugged (respawn 1)","camera_usb":"3.2","camera_temperature_c":41.5,'
        b'"product_number":7,"paused":true,"drift":"score higher"}'
    )


def test_a_station_that_is_gone_says_no_details() -> None:
    said = StationState("s1", "offline", "stopped", ready=False)
    assert state_message(said) == state_payload("offline", "stopped", False, "s1")
