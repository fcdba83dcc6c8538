"""10,000 verdicts through Sparkplug over a bad network: every record reaches the host application,
in order, under its own number and never under another's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.line.message import Record, record_fields
from edge.line.outbox import Fields, Outbox
from edge.types import Code, Reason
from tests.support.broker import Broker, wait_until
from tests.support.line import RECORD
from tests.support.proxy import Proxy
from tests.support.sparkplug import HOST, Host, started_sparkplug, wait_born

pytestmark = pytest.mark.long

VERDICTS, PER_S = 10_000, 90.0
DRAIN_S = 600.0
FAULTS = ("reset", "stall", "swallow", "half_close", "refuse")
FAULT_EVERY_S, FAULT_S = 6.0, 2.0


def build(seq: int) -> Fields:
    """A record whose score, part and code tell its number."""
    is_good = seq % 7 != 0
    changed = {
        "part": f"P{seq}",
        "score": np.float32(seq),
        "code": Code.OK if is_good else Code.NG,
        "reason": Reason.NORMAL if is_good else Reason.ANOMALY,
    }
    return record_fields(Record(**{**vars(RECORD), **changed}), "cell7", seq)


@contextmanager
def faults(proxy: Proxy, counts: dict[str, int]) -> Iterator[None]:
    """One fault after the other, in a thread, until the body ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(FAULT_EVERY_S):
            fault = FAULTS[sum(counts.values()) % len(FAULTS)]
            getattr(proxy, fault)()
            counts[fault] = counts.get(fault, 0) + 1
            ended.wait(FAULT_S)
            proxy.heal()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        proxy.heal()


def test_10_000_verdicts_over_a_bad_network(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "line.sqlite")
    counts: dict[str, int] = {}
    with Broker(tmp_path / "broker") as broker, Proxy(broker.port) as proxy:
        host = Host(broker.port)
        host.say(True, 1)
        with started_sparkplug(proxy.port, outbox, host_id=HOST) as line:
            wait_born(line)
            began_s = time.monotonic()
            with faults(proxy, counts):
                for number in range(VERDICTS):
                    outbox.commit(build)
                    line.records_waiting()
                    time.sleep(max(0.0, began_s + number / PER_S - time.monotonic()))
            wait_until(lambda: line.backlog == 0, DRAIN_S, "the backlog did not leave")
            took_s = time.monotonic() - began_s
        time.sleep(1.0)
        host.stop()
    outbox.close()
    sent = host.records()
    firsts: dict[int, dict[str, object]] = {}
    for one in sent:
        assert firsts.setdefault(one.values["seq"], one.values) == one.values
    assert list(firsts) == list(range(1, VERDICTS + 1))
    for seq, values in firsts.items():
        assert (values["part"], values["score"]) == (f"P{seq}", float(seq))
        assert values["code"] == (1 if seq % 7 else 2)
    historical = sum(one.is_historical for one in sent)
    births = [one.values["bdSeq"] for one in host.of("NBIRTH")]
    assert births == sorted(births)
    print(
        f"\nSparkplug: {VERDICTS} verdicts in {took_s:.0f} s, {sum(counts.values())} faults,"
        f" {len(births)} sessions, {len(sent) - VERDICTS} sent twice, {historical} historical"
    )
