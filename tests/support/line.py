"""One station's line against a broker of the test's own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from edge.line.message import Record, record_fields, state_payload
from edge.line.mqtt import MqttLine
from edge.line.outbox import Fields, Outbox
from edge.sections import BrokerConfig
from edge.types import Code, Reason
from tests.support.broker import wait_until

PREFIX = "edge/site/line/s1"
RECORD = Record(
    part="A17",
    code=Code.OK,
    reason=Reason.NORMAL,
    score=np.float32(0.2),
    threshold=np.float32(0.5),
    ms=34,
    area=0.31,
    valid=0.97,
    frames=8,
    product="washer",
    bundle="washer-1.0.0",
    geometry=None,
    model_state=None,
    engine="onnxruntime 1.32.0 fp32",
    threshold_from="bundle",
    threshold_parts=60,
    guarantee="few are rejected",
    captured_at="2026-11-22T17:00:00.000Z",
    judged_at="2026-11-22T17:00:00.034Z",
    clock_synced=True,
)


def fields(seq: int) -> Fields:
    """The least that a record of the outbox needs."""
    return {"seq": seq, "part": f"P{seq}"}


def build(seq: int) -> Fields:
    return record_fields(RECORD, "s1", seq)


def new_line(
    port: int, outbox: Outbox, prefix: str = PREFIX, **broker_settings: object
) -> MqttLine:
    config = BrokerConfig.model_validate({"host": "127.0.0.1", "port": port, **broker_settings})
    return MqttLine(
        config,
        prefix,
        outbox,
        state=lambda: state_payload("online", "", True, "s1"),
        offline=lambda reason: state_payload("offline", reason, False, "s1"),
    )


@contextmanager
def started(
    port: int, outbox: Outbox, prefix: str = PREFIX, **broker_settings: object
) -> Iterator[MqttLine]:
    line = new_line(port, outbox, prefix, **broker_settings)
    line.start()
    try:
        yield line
    finally:
        line.stop()


def tell(line: MqttLine, outbox: Outbox, deadline_s: float = 2.0) -> bool:
    fields = outbox.commit(build)
    sent = line.publish_verdict(fields, time.monotonic_ns() + int(deadline_s * 1e9))
    line.records_waiting()
    return sent


def drain(outbox: Outbox, timeout_s: float) -> None:
    wait_until(
        lambda: outbox.counts()["waiting"] == 0, timeout_s, "the broker did not take every record"
    )


def wait_ready(line: MqttLine) -> None:
    wait_until(
        lambda: line.verdict_problem is None,
        60,
        f"the verdict link does not work: {line.verdict_problem}",
    )


def wait_problem(line: MqttLine, words: str) -> None:
    wait_until(lambda: words in (line.problem or ""), 60, f"not said: {words}; but: {line.problem}")
