"""What a commissioning engineer wants to see of a run: a table, and the same as JSON. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from edge.simulate.plc import Gated
from edge.simulate.referee import Fate, Findings, Outcome, outcomes_of
from edge.types import Code

MEANS = {
    Outcome.RIGHT: "in time and as expected",
    Outcome.WRONG: "in time, OK for NG or NG for OK",
    Outcome.JUDGED: "in time; --expect would say whether it is right",
    Outcome.UNKNOWN: "in time, and UNKNOWN",
    Outcome.LATE: "acknowledgment or verdict after the PLC's timer",
    Outcome.MISSED: "no acknowledgment or no verdict",
    Outcome.REFUSED: "by the station",
    Outcome.UNASKED: "the station was not ready or not connected",
}
COLUMNS = ("", "parts", "p50 ms", "p99 ms", "max ms", "")


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed; None if there are
    none.
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summary(
    findings: Findings, stops: int, held_s: float, unfinished: str | None
) -> dict[str, Any]:
    """Everything as plain values. stops, held_s: of the feed. unfinished: why the run ended before
    its last part; None if it did not.
    """
    fates = findings.fates
    return {
        "parts": len(fates),
        "outcomes": {one.value: _times(of) for one, of in outcomes_of(findings).items()},
        "codes": {code.name: _times(_of_code(fates, code)) for code in Code},
        "verdict": _times([one for one in fates if one.told is not None]),
        "ack": _spread([one.ack_ms for one in fates if one.ack_ms is not None]),
        "reasons": dict(Counter(one.told.reason for one in fates if one.told is not None)),
        "refusals": dict(Counter(_refusals(fates))),
        "gate": dict(Counter(one.gated.why.value for one in fates if one.gated is not None)),
        "feed_stops": stops,
        "feed_held_s": round(held_s, 3),
        "answered_twice": list(findings.twice),
        "wrong_part": list(findings.strange),
        "acted_late": list(findings.acted_late),
        "others": findings.others,
        "unfinished": unfinished,
    }


def problems_of(findings: Findings, unfinished: str | None) -> list[str]:
    """Why the exit code is not 0, in sentences; empty where nothing is wrong."""
    problems = [*findings.broken]
    if unfinished:
        problems.append(unfinished)
    if findings.fates and not any(one.told is not None for one in findings.fates):
        problems.append("no part got a verdict")
    return problems


def table(told: dict[str, Any]) -> str:
    """The summary for a terminal."""
    outcomes = [(name, times, MEANS[Outcome(name)]) for name, times in told["outcomes"].items()]
    codes = [
        (f"code {code.value} {code.name}", told["codes"][code.name], "")
        for code in Code
        if told["codes"][code.name]["parts"]
    ]
    rows = [COLUMNS, *(_row(*one) for one in outcomes), ("",) * 6, *(_row(*one) for one in codes)]
    rows += [_row("any verdict", told["verdict"], ""), _row("acknowledgment", told["ack"], "")]
    lines = [_aligned(row, rows) for row in rows]
    for name in ("reasons", "refusals", "gate"):
        if told[name]:
            lines.append(f"{name}: {_counted(told[name])}")
    lines.append(
        f"feed stopped for {told['feed_held_s']:.1f} s, {told['feed_stops']} timers ended without a"
        " verdict"
    )
    lines.append(
        f"answered twice {len(told['answered_twice'])}, for the wrong part"
        f" {len(told['wrong_part'])}, acted on late {len(told['acted_late'])}; verdicts for parts"
        f" of others {told['others']}"
    )
    return "\n".join(line.rstrip() for line in lines)


def as_json(told: dict[str, Any], findings: Findings) -> str:
    """The summary and each part."""
    parts = [
        {
            "part": one.sensed.part,
            "n": one.sensed.n,
            "expected": one.sensed.expected,
            "outcome": one.outcome.value,
            "seq": None if one.told is None else one.told.seq,
            "code": None if one.told is None else one.told.code,
            "reason": None if one.told is None else one.told.reason,
            "ack_ms": _rounded(one.ack_ms),
            "verdict_ms": _rounded(one.verdict_ms),
            "gate": None if one.gated is None else one.gated.why.value,
        }
        for one in findings.fates
    ]
    return json.dumps({**told, "each": parts}, indent=1) + "\n"


def line_of(gated: Gated, fate_ms: float | None) -> str:
    """One part at the gate. fate_ms: from the sensor to its verdict."""
    took = "     -" if fate_ms is None else f"{fate_ms:6.1f}"
    done = "accepted" if gated.accepted else "rejected"
    return f"{gated.part:<15} n={gated.n:<10} {took} ms  {done}  {gated.why.value}"


def _of_code(fates: Sequence[Fate], code: Code) -> list[Fate]:
    return [one for one in fates if one.told is not None and one.told.code == code]


def _refusals(fates: Sequence[Fate]) -> Iterable[str]:
    return (one.ack.reason for one in fates if one.ack is not None and not one.ack.accepted)


def _times(fates: Sequence[Fate]) -> dict[str, Any]:
    """How many, and from the sensor to the verdict."""
    spread = _spread([one.verdict_ms for one in fates if one.verdict_ms is not None])
    return {**spread, "parts": len(fates)}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "parts": len(values),
        "p50_ms": _rounded(percentile(values, 0.5)),
        "p99_ms": _rounded(percentile(values, 0.99)),
        "max_ms": _rounded(percentile(values, 1.0)),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def _row(name: str, times: dict[str, Any], means: str) -> tuple[str, ...]:
    spread = (
        "" if times[key] is None else f"{times[key]:.1f}" for key in ("p50_ms", "p99_ms", "max_ms")
    )
    return (name, str(times["parts"]), *spread, means)


def _aligned(row: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(one[column]) for one in rows) for column in range(len(COLUMNS))]
    first, *numbers, means = (
        cell.ljust(width) if column in (0, 5) else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *numbers, means])


def _counted(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {count}" for name, count in ordered)
