"""One run of the played PLC against a station, from the connection to the summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgeError
from edge.simulate.cell import Cell, Planned
from edge.simulate.conveyor import Belt
from edge.simulate.link import PlcLink, StationAddress, Told, make_link
from edge.simulate.plan import from_file, known_code, made_up
from edge.simulate.plc import Gated, Rules
from edge.simulate.referee import History, judge
from edge.simulate.report import as_json, line_of, problems_of, summary, table

CONNECT_S = 10.0
PARTS = 100  # where nobody says how many


@dataclass(frozen=True)
class Run:
    """What to play. parts: None: as many as `expect` names, or PARTS. expect: a CSV file of what is
    right. wait_s: how long a station may be not ready, at the start or later.
    """

    dialect: str
    station: StationAddress
    rules: Rules
    belt: Belt
    parts: int | None = None
    seed: int = 0
    expect: Path | None = None
    wait_s: float = 30.0


def simulate(
    run: Run,
    show_part: Callable[[str], None] | None,
    json_file: Path | None,
    show: Callable[[str], None],
) -> list[str]:
    """Play it, and show the table. Returns what is wrong, in sentences; empty if nothing is.

    show_part: gets a line for each part at the gate; None: nobody does. Ctrl-C ends the run, and
    what was played is shown.
    Raises: EdgeError if nothing can be played: no connection, no library, a station that is not
        ready.
    """
    planned = _planned(run)
    link = make_link(run.dialect, run.station)
    try:
        link.connect(CONNECT_S)
        cell = _cell(run, planned, link, show_part)
        wrong = cell.wait_ready(run.wait_s)
        if wrong is not None:
            raise EdgeError(f"{wrong}. Is it running, and are dialect and names right?")
        show(f"{len(planned)} parts, {run.belt.rate_hz:g} a second, by {run.dialect}")
        try:
            unfinished = cell.play(run.wait_s)
        except KeyboardInterrupt:
            unfinished = "ended by Ctrl-C"
    finally:
        link.close()
    findings = judge(cell.history, run.rules)
    told = summary(findings, cell.stops, cell.held_s, unfinished)
    if json_file is not None:
        json_file.write_text(as_json(told, findings))
    show(table(told))
    return problems_of(findings, unfinished)


def _planned(run: Run) -> list[Planned]:
    if run.expect is not None:
        return from_file(run.expect, run.parts)
    return made_up(run.parts or PARTS, known_code(run.station.config))


def _cell(
    run: Run, planned: list[Planned], link: PlcLink, show_part: Callable[[str], None] | None
) -> Cell:
    def show_gated(gated: Gated) -> None:
        if show_part is not None:
            show_part(line_of(gated, _verdict_ms(cell.history, gated)))

    cell = Cell(link, run.rules, run.belt, planned, run.seed, gated=show_gated)
    return cell


def _verdict_ms(history: History, gated: Gated) -> float | None:
    """From the sensor to the verdict of a part; None if none has come."""
    sensed = next(one for one in reversed(history.sensed) if one.n == gated.n)
    for one in reversed(history.heard):
        if one.at_s < sensed.at_s:
            break
        if isinstance(one, Told) and one.part == gated.part and one.n in (None, gated.n):
            return (one.at_s - sensed.at_s) * 1000.0
    return None
