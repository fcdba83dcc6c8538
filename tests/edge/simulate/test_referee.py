"""What the referee says of a run: every broken promise, and what became of each part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from edge.simulate.cell import Cell
from edge.simulate.plc import Gated, Plc, Tracked, Why
from edge.simulate.referee import Findings, Outcome, judge, outcomes_of
from edge.simulate.report import as_json, percentile, problems_of, summary, table
from edge.types import Code
from tests.support.played import RULES, Answer, Moved, PlayedLink, played

ODD = 3  # the part that is answered in another way


def found(cell: Cell) -> Findings:
    return judge(cell.history, RULES)


def run_with(odd: Answer, count: int = 6) -> Findings:
    return found(played(count, PlayedLink(Moved(), lambda n: odd if n == ODD else Answer())))


def counts(findings: Findings) -> dict[Outcome, int]:
    return {outcome: len(fates) for outcome, fates in outcomes_of(findings).items()}


@pytest.mark.parametrize(
    ("odd", "outcome"),
    [
        (Answer(code=3), Outcome.UNKNOWN),
        (Answer(ack_ms=150), Outcome.LATE),
        (Answer(told_ms=550), Outcome.LATE),
        (Answer(told_ms=None), Outcome.MISSED),
        (Answer(ack_ms=None), Outcome.MISSED),
        (Answer(refused="busy"), Outcome.REFUSED),
    ],
)
def test_what_became_of_a_part(odd: Answer, outcome: Outcome) -> None:
    findings = run_with(odd)
    assert findings.fates[ODD - 1].outcome is outcome
    # behind a timer that ended, a part that is on the belt already is rejected
    assert set(counts(findings)) <= {Outcome.JUDGED, Outcome.UNASKED, outcome}
    assert findings.broken == []


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (Answer(again_ms=90), "1 answered twice: P3 n=3"),
        (Answer(told_ms=550, again_ms=650), "1 answered twice: P3 n=3"),
        (Answer(part_shift=1), "1 answered for the wrong part: P4 n=3 code=1"),
        (Answer(seq_shift=1), "1 answered for the wrong part: P3 n=3 seq=7004"),
        (Answer(code=0), "1 answered for the wrong part: P3 n=3 code=0"),
    ],
)
def test_a_station_that_breaks_its_promise_is_told(odd: Answer, said: str) -> None:
    findings = run_with(odd)
    assert findings.broken == [said]
    assert problems_of(findings, None) == [said]


def ignores_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Plc, "_is_over", staticmethod(lambda *_: False))


def ignores_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracked, "is_named", lambda *_: True)


def passes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Plc.scan

    def scan(plc: Plc, now_s: float, enc: int) -> list[Gated]:
        return [replace(one, accepted=True) for one in plain(plc, now_s, enc)]

    monkeypatch.setattr(Plc, "scan", scan)


@pytest.mark.parametrize(
    ("breaks", "odd"),
    [
        (ignores_timers, Answer(told_ms=550)),
        (ignores_timers, Answer(ack_ms=150, told_ms=200)),
        (ignores_names, Answer(part_shift=9)),
        (passes_all, Answer(code=2)),
        (passes_all, Answer(told_ms=None)),
        (passes_all, Answer(refused="busy")),
    ],
)
def test_a_plc_that_breaks_its_rules_is_told(
    breaks: Callable[[pytest.MonkeyPatch], None], odd: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not [one for one in run_with(odd).broken if "acted on late" in one]
    breaks(monkeypatch)
    findings = run_with(odd)
    assert f"P{ODD} n={ODD}" in findings.acted_late
    assert any("acted on late" in one for one in problems_of(findings, None))


def test_what_is_expected_is_right_or_wrong() -> None:
    cell = played(6, PlayedLink(Moved(), lambda n: Answer(code=1 + n % 2)))
    cell.history.sensed = [replace(one, expected=Code.OK) for one in cell.history.sensed]
    assert counts(found(cell)) == {Outcome.RIGHT: 3, Outcome.WRONG: 3}


def test_a_part_that_could_not_be_asked_for_is_rejected() -> None:
    link = PlayedLink(Moved())
    link.is_up = False
    findings = found(played(2, link))
    assert counts(findings) == {Outcome.UNASKED: 2}
    assert [one.gated.why for one in findings.fates if one.gated] == [Why.NOT_SENT] * 2
    assert problems_of(findings, None) == ["no part got a verdict"]


def test_a_silent_station_holds_the_feed() -> None:
    clock = Moved()
    cell = played(20, PlayedLink(clock, silent=lambda now_s: 1001.5 < now_s < 1010.0))
    assert cell.held_s > 4.0
    # the one between feeder and sensor comes all the same
    assert counts(found(cell)) == {Outcome.JUDGED: 19, Outcome.UNASKED: 1}


def test_the_table_and_the_json_have_the_same_numbers() -> None:
    findings = run_with(Answer(told_ms=200, code=2))
    told = summary(findings, 1, 2.5, None)
    assert told["codes"]["NG"] == {"parts": 1, "p50_ms": 200.0, "p99_ms": 200.0, "max_ms": 200.0}
    shown = table(told)
    assert "code 2 NG           1   200.0   200.0   200.0" in shown
    assert "feed stopped for 2.5 s, 1 timers ended without a verdict" in shown
    assert "answered twice 0, for the wrong part 0, acted on late 0" in shown
    assert '"outcome": "judged"' in as_json(told, findings)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.99, 4.0), (0.0, 1.0), (1.0, 4.0)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], share) == value
    assert percentile([], share) is None
