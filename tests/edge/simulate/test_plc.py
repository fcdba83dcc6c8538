"""The played PLC over a station that answers in every way: what it accepts, rejects, and feeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.simulate.link import Acked, Readiness, Told
from edge.simulate.plc import SETTLE, SILENT_S, Gated, Plc, Rules, Why
from tests.support.played import RULES, Answer, Moved, PlayedLink, played

AT_S = 50.0


def ready_plc(rules: Rules = RULES) -> Plc:
    plc = Plc(rules)
    plc.hear(Readiness(True, AT_S), AT_S)
    return plc


def ack(accepted: bool = True, at_s: float = AT_S, part: str = "A", n: int | None = 1) -> Acked:
    return Acked(part, n, accepted, "" if accepted else "busy", 9, at_s)


def told(code: int = 1, at_s: float = AT_S, part: str = "A", n: int | None = 1) -> Told:
    return Told(part, n, 9, code, "normal", at_s)


def at_gate(plc: Plc) -> Why:
    (gated,) = plc.scan(AT_S + 1, 700)
    assert gated.accepted == (gated.why is Why.OK)
    return gated.why


@pytest.mark.parametrize(
    ("heard", "why"),
    [
        ([(ack(), 0.05), (told(1), 0.1)], Why.OK),
        ([(ack(), 0.05), (told(2), 0.1)], Why.NG),
        ([(ack(), 0.05), (told(3), 0.1)], Why.UNKNOWN),
        ([(ack(n=None), 0.05), (told(1, n=None), 0.1)], Why.OK),
        ([(ack(), 0.05), (told(2), 0.1), (told(1), 0.2)], Why.NG),
        ([(ack(accepted=False), 0.05), (told(1), 0.1)], Why.REFUSED),
        ([(ack(), 0.11), (told(1), 0.2)], Why.ACK_LATE),
        ([(told(1), 0.1), (ack(), 0.11)], Why.ACK_LATE),
        ([(told(1), 0.1)], Why.NO_VERDICT),
        ([(ack(), 0.05)], Why.NO_VERDICT),
        ([(ack(), 0.05), (told(1), 0.51)], Why.NO_VERDICT),
        ([(ack(), 0.05), (told(1, part="B"), 0.1)], Why.NO_VERDICT),
        ([(ack(), 0.05), (told(1, n=2), 0.1)], Why.NO_VERDICT),
        ([(ack(n=2), 0.05), (told(1), 0.1)], Why.NO_VERDICT),
        ([(ack(), 0.05), (told(0), 0.1)], Why.NO_VERDICT),
    ],
)
def test_only_its_own_ok_in_time_accepts_a_part(
    heard: list[tuple[Acked | Told, float]], why: Why
) -> None:
    plc = ready_plc()
    assert plc.sense("A", 1, 0, AT_S)
    for event, after_s in heard:
        plc.hear(replace(event, at_s=AT_S + after_s), AT_S + after_s)
        assert plc.scan(AT_S + after_s, round(after_s * 1000)) == []
    assert at_gate(plc) is why


def test_the_gate_acts_when_the_encoder_says_so() -> None:
    plc = ready_plc()
    plc.sense("A", 1, (1 << 32) - 100, AT_S)
    plc.hear(ack(), AT_S)
    plc.hear(told(), AT_S)
    assert plc.scan(AT_S, 599) == []
    assert plc.scan(AT_S, 600) == [Gated("A", 1, True, Why.OK, AT_S)]
    assert plc.is_empty


def test_a_part_at_the_gate_before_its_verdict_is_rejected() -> None:
    plc = ready_plc()
    plc.sense("A", 1, 0, AT_S)
    plc.hear(ack(), AT_S)
    assert [one.why for one in plc.scan(AT_S + 0.3, 700)] == [Why.TOO_NEAR]
    assert not plc.feeds(AT_S + 0.3)


def test_a_timer_that_ends_stops_the_feed_for_three_heartbeats() -> None:
    plc = ready_plc()
    plc.sense("A", 1, 0, AT_S)
    plc.scan(AT_S + 0.6, 600)
    for beat in range(1, SETTLE + 1):
        assert not plc.feeds(AT_S + beat)
        plc.hear(Readiness(False, AT_S + beat), AT_S + beat)  # a connection that has ended
        plc.hear(Readiness(True, AT_S + beat), AT_S + beat)
    assert plc.feeds(AT_S + SETTLE)
    assert plc.stops == 1


@pytest.mark.parametrize(("ready", "after_s"), [(False, 0.1), (True, SILENT_S + 0.1)])
def test_a_station_that_is_silent_or_not_ready_gets_no_part(ready: bool, after_s: float) -> None:
    plc = ready_plc()
    plc.hear(Readiness(ready, AT_S), AT_S)
    assert not plc.feeds(AT_S + after_s)
    assert not plc.sense("A", 1, 0, AT_S + after_s)
    assert at_gate(plc) is Why.NOT_READY


ANSWERS = st.builds(
    Answer,
    ack_ms=st.one_of(st.none(), st.floats(0, 200)),
    told_ms=st.one_of(st.none(), st.floats(0, 900)),
    code=st.integers(0, 4),
    refused=st.sampled_from(["", "", "", "busy"]),
    again_ms=st.one_of(st.none(), st.floats(0, 900)),
    part_shift=st.integers(-1, 1),
)


@settings(max_examples=15, deadline=None)
@given(
    answers=st.lists(ANSWERS, min_size=12, max_size=12),
    seed=st.integers(0, 5),
    rate_hz=st.floats(1, 12),
    first_count=st.sampled_from([0, (1 << 32) - 1500]),
)
def test_whatever_a_station_says_no_part_passes_without_its_ok_in_time(
    answers: list[Answer], seed: int, rate_hz: float, first_count: int
) -> None:
    link = PlayedLink(Moved(), lambda n: answers[n - 1])
    cell = played(12, link, rate_hz=rate_hz, seed=seed, first_count=first_count)
    history = cell.history
    assert [one.n for one in history.gated] == [one.n for one in history.sensed] == [*range(1, 13)]
    for sensed, gated in zip(history.sensed, history.gated, strict=True):
        assert 0.699 <= gated.at_s - sensed.at_s <= 0.705  # where the gate stands
        oks = [
            one
            for one in history.heard
            if isinstance(one, Told) and (one.part, one.n) == (sensed.part, sensed.n)
            and one.code == 1 and one.at_s - sensed.at_s <= 0.5
        ]  # fmt: skip
        acks = [
            one
            for one in history.heard
            if isinstance(one, Acked) and one.n == sensed.n and one.accepted
            and one.at_s - sensed.at_s <= 0.1
        ]  # fmt: skip
        assert not gated.accepted or (oks and acks)
        good = Answer(told_ms=60.0)
        if answers[sensed.n - 1] == good and sensed.asked:
            assert gated.accepted
