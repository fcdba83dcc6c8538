"""A PLC's trigger: what is taken, and which key is named where it is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.line.inbound import (
    Ack,
    BadRequest,
    Refusal,
    Reply,
    TriggerRequest,
    ack_payload,
    read_ack,
    read_trigger,
    usable_reply,
)

PERIOD_MS = 1000 / 30
PREFIX = "edge/site/line/s1"


def read(**fields: object) -> TriggerRequest:
    asked = {"part": "A17", "deadline_ms": 500, **fields}
    return read_trigger(json.dumps(asked).encode(), PERIOD_MS)


def test_the_shortest_and_the_whole_trigger() -> None:
    assert read() == TriggerRequest("A17", 500, None, 0, 1)
    assert read(n=7, delay_ms=40, frames=3) == TriggerRequest("A17", 500, 7, 40, 3)
    assert read(enc=99, answer_ms=300) == TriggerRequest("A17", 500, enc=99, answer_ms=300)
    assert read(deadline_ms=500.0) == TriggerRequest("A17", 500)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("part", ""),
        ("part", "A 17"),
        ("part", "A" * 33),
        ("part", 17),
        ("part", None),
        ("deadline_ms", 49),
        ("deadline_ms", 600_001),
        ("deadline_ms", "500"),
        ("deadline_ms", True),
        ("deadline_ms", 500.5),
        ("n", -1),
        ("n", 1 << 32),
        ("n", None),
        ("delay_ms", -1),
        ("delay_ms", 60_001),
        ("frames", 0),
        ("frames", 31),
        ("enc", -1),
        ("enc", 1 << 32),
        ("answer_ms", 33),
        ("answer_ms", 500),
        ("dealy_ms", 5),
    ],
)
def test_the_key_that_is_wrong_is_named(field: str, value: object) -> None:
    with pytest.raises(BadRequest) as bad:
        read(**{field: value})
    assert bad.value.field == field


def test_a_deadline_before_the_last_frame_is_named() -> None:
    assert read(deadline_ms=134, delay_ms=100)
    with pytest.raises(BadRequest) as bad:
        read(deadline_ms=133, delay_ms=100)
    assert bad.value.field == "deadline_ms"


def test_with_the_count_of_an_encoder_the_verdict_still_fits_a_plc_string() -> None:
    assert read(part="A" * 15, enc=1)
    with pytest.raises(BadRequest) as bad:
        read(part="A" * 16, enc=1)
    assert bad.value.field == "part"


def test_a_missing_key_is_named_and_part_and_n_are_echoed() -> None:
    with pytest.raises(BadRequest) as bad:
        read_trigger(b'{"part":"A17","n":7}', PERIOD_MS)
    assert (bad.value.field, bad.value.part, bad.value.n) == ("deadline_ms", "A17", 7)


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", ""),
        (b"A17", ""),
        (b"[1]", ""),
        (b"\xff\xfe", ""),
        (b'{"part":"A17","deadline_ms":NaN}', "deadline_ms"),
        (b'{"part":"A17","deadline_ms":1e999}', "deadline_ms"),
        (b'{"part":"A","part":"B","deadline_ms":500}', "part"),
        (b"[" * 1000, ""),
        (b"[" * 2000, ""),
        (b'{"deadline_ms":' + b"9" * 900 + b"}", "part"),
    ],
)
def test_what_is_no_request_is_refused(payload: bytes, field: str) -> None:
    with pytest.raises(BadRequest) as bad:
        read_trigger(payload, PERIOD_MS)
    assert bad.value.field == field


@settings(max_examples=30)
@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_no_bytes_break_the_reader(payload: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        read_trigger(payload, PERIOD_MS)
    bad = refused.value
    assert len(ack_payload(Ack(bad.part, bad.n, None, Refusal.BAD_REQUEST, bad.field))) <= 250


def test_the_answer_is_byte_exact() -> None:
    assert (
        ack_payload(Ack("A17", 7, 4711))
        == b'{"part":"A17","n":7,"accepted":true,"seq":4711,"reason":"","field":""}'
    )
    assert (
        ack_payload(Ack("A17", None, None, Refusal.BAD_REQUEST, "frames"))
        == b'{"part":"A17","accepted":false,"seq":null,"reason":"bad_request","field":"frames"}'
    )


def test_an_acknowledgment_names_a_verdict() -> None:
    assert read_ack(b'{"seq":4711}') == 4711
    for payload in (b"{}", b"4711", b'{"seq":0}', b'{"seq":"1"}', b'{"seq":1,"n":2}'):
        with pytest.raises(BadRequest):
            read_ack(payload)


def test_a_response_topic_cannot_reach_the_stations_own_topics() -> None:
    assert usable_reply("plc/7/answers", b"x", PREFIX) == Reply("plc/7/answers", b"x")
    for topic in ("", PREFIX, f"{PREFIX}/trigger", f"{PREFIX}/verdict", "plc/#", "a/+/b", "$SYS/a"):
        assert usable_reply(topic, b"x", PREFIX) == Reply("", b"x")
    assert usable_reply("edge/site/line/s10/x", None, PREFIX).topic == "edge/site/line/s10/x"
