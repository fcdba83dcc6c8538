"""The messages printed in docs/mqtt.md are the bytes that a station sends."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edge.line.commands import (
    COMMON,
    Command,
    CommandAnswer,
    CommandRefusal,
    Sent,
    Verb,
    answer_payload,
    read_command,
)
from edge.line.commands import KEYS as COMMAND_KEYS
from edge.line.inbound import (
    KEYS,
    Ack,
    Refusal,
    TriggerRequest,
    ack_payload,
    read_ack,
    read_trigger,
)
from edge.line.message import (
    Record,
    TriggerCounts,
    Triggered,
    code_payload,
    heartbeat_payload,
    record_fields,
    record_payload,
    state_payload,
    verdict_payload,
)
from edge.proof.threshold import guarantee_sentence
from edge.types import Code, Reason

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "mqtt.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(?:json|text) (\S+)\n(.*?)\n```", PAGE, flags=re.DOTALL))


def example(
    code: Code,
    reason: Reason,
    score: float | None,
    ms: int,
    seq: int,
    part: str = "",
    triggered: Triggered | None = None,
) -> dict[str, object]:
    record = Record(
        part=part or f"P{seq}",
        triggered=triggered,
        code=code,
        reason=reason,
        score=None if score is None else np.float32(score),
        threshold=np.float32(9.5),
        ms=ms,
        area=0.321,
        valid=0.987,
        frames=7,
        product="washer",
        bundle="1.0.0-0123456789ab",
        geometry="89ab01234567",
        model_state=None,
        engine="onnxruntime 1.32.0 fp32",
        threshold_from="bundle",
        threshold_parts=60,
        guarantee=guarantee_sentence(60, 3, 0.05),
        captured_at="2026-11-22T17:00:00.000Z",
        judged_at="2026-11-22T17:00:00.180Z",
        at=1795366800012,
        clock_synced=True,
        images=f"parts/2026-11-22/cell7-{seq}",
        images_sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    )
    return record_fields(record, "cell7", seq)


TRIGGERED = example(
    Code.NG, Reason.ANOMALY, 13.25, 48, 4713, part="A17", triggered=Triggered(7, Code.NG)
)
NG = example(Code.NG, Reason.ANOMALY, 13.25, 168, 4711)
SENT = {
    "verdict": verdict_payload(NG, 181),
    "verdict-unknown": verdict_payload(
        {**example(Code.UNKNOWN, Reason.NO_DEPTH, None, 170, 4712), "at": None}, 187
    ),
    "verdict-triggered": verdict_payload(TRIGGERED, 61),
    "trigger": b'{"part":"A17","deadline_ms":500,"n":7,"delay_ms":40,"frames":3}',
    "ack": b'{"seq":4713}',
    "command": b'{"do":"select","number":7,"id":"41","who":"plc7"}',
    "command/answer": answer_payload(
        CommandAnswer("select", "mqtt plc7", "washer 1.0.0-0123456789ab judges", id="41")
    ),
    "command/answer-refused": answer_payload(
        CommandAnswer(
            "select",
            "mqtt",
            "number 9 is not installed; there are: screw, washer",
            CommandRefusal.UNKNOWN_PRODUCT,
            id="42",
        )
    ),
    "trigger/ack": ack_payload(Ack("A17", 7, 4713)),
    "trigger/ack-refused": ack_payload(Ack("A17", 8, None, Refusal.BAD_REQUEST, "frames")),
    "verdict/code": code_payload(NG),
    "record": record_payload(NG, replay=False),
    "heartbeat": heartbeat_payload(86, True, "5f3a9c01"),
    "state": state_payload("offline", "connection lost", False, "cell7"),
}


@pytest.mark.parametrize("name", SENT)
def test_the_example_is_byte_exact(name: str) -> None:
    assert BLOCKS[name].encode() == SENT[name]


def test_the_trigger_of_the_page_is_taken() -> None:
    asked = read_trigger(BLOCKS["trigger"].encode(), period_ms=33)
    assert asked == TriggerRequest("A17", 500, 7, 40, 3)
    assert read_ack(BLOCKS["ack"].encode()) == 4713


def test_the_page_lists_every_refusal_and_every_count() -> None:
    section = PAGE.split("\n## trigger\n")[1].split("\n## ")[0]
    listed = {word for row in re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
              for word in re.findall(r"`([a-z_]+)`", row)}  # fmt: skip
    counts = TriggerCounts(0, 0, 0, 0).as_fields()
    known = {reason.value for reason in Refusal} | set(counts) | set(KEYS)
    assert known == listed - {"reason"}


def test_the_command_of_the_page_is_taken() -> None:
    command = Command(Verb.SELECT, number=7, id="41")
    assert read_command(BLOCKS["command"].encode()) == Sent(command, "plc7")


def test_the_page_lists_every_command_and_why_one_is_refused() -> None:
    section = PAGE.split("\n## command\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([a-z_]+)` \| (.*)$", section, flags=re.MULTILINE)
    known = [*Verb, *COMMON, "who", *CommandRefusal]
    assert [name for name, _ in rows] == sorted(
        (str(getattr(one, "value", one)) for one in known), key=[name for name, _ in rows].index
    )
    said = dict(rows)
    for verb, keys in COMMAND_KEYS.items():
        assert all(f"`{key}`" in said[verb.value] for key in keys)


def test_the_page_lists_every_reason_and_its_code() -> None:
    listed = dict(re.findall(r"^\| `([a-z_]+)` \| ([123]) \|", PAGE, flags=re.MULTILINE))
    expected = {reason.value: "3" for reason in Reason} | {"normal": "1", "anomaly": "2"}
    assert listed == expected


def test_every_example_is_shown() -> None:
    assert set(BLOCKS) == set(SENT)
