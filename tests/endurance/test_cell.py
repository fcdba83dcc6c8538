"""10,000 triggers while everything around the station fails: one answer each at most, none for the
wrong part, none acted on late, and a record of every part that was accepted.

`make endurance` runs it and prints its table. To run it otherwise: PARTS=1000 SEED=3 pytest -s -m
long tests/endurance/test_cell.py.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from edge.simulate.conveyor import Belt
from edge.simulate.plc import Rules
from edge.simulate.referee import Outcome, outcomes_of
from edge.simulate.report import summary, table
from tests.endurance.cell_rig import (
    FAULTS,
    WITHOUT_BROKER,
    Faults,
    Wrongs,
    running_cell,
    wait_for_records,
)
from tests.support.broker import MOSQUITTO
from tests.support.cell_run import DIALECTS, at_random, play, served
from tests.support.patience import slowness

# the next part is in view no sooner than a trigger may be held up and its window may last
BELT = Belt(rate_hz=16.0, jitter=0.1)
RULES = Rules(deadline_ms=400, verdict_ms=500, gate=600, ack_ms=35)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_ten_thousand_triggers_under_faults(dialect: str, tmp_path: Path) -> None:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    parts, seed = int(os.environ.get("PARTS", "10000")), int(os.environ.get("SEED", "13"))
    names = FAULTS if dialect == "mqtt" else WITHOUT_BROKER
    with running_cell(tmp_path, DIALECTS[dialect].section()) as rig:
        with served([dialect], rig.station.root), Faults(rig, names, seed) as faults:
            coming = at_random(parts, seed)
            played = play(dialect, rig.address(dialect), coming, rig.show, RULES, BELT, seed)
        wait_for_records(rig, played.cell)
        told = summary(played.findings, played.cell.stops, played.cell.held_s, None)
        kinds = Counter(name for name, _, _ in rig.spans)
        print(f"\n{dialect}, seed {seed}, this machine {slowness():.1f} times slower than a quiet")
        print(f"faults: {dict(kinds)}\n{table(told)}")
        assert faults.failure is None, faults.failure
        assert Wrongs(rig, played).all() == []
    outcomes = outcomes_of(played.findings)
    assert [one.n for one in played.cell.history.gated] == [one.n for one in coming]
    assert (
        len(outcomes[Outcome.RIGHT]) > 0.25 * parts
    )  # a fault every 8 s, and timers that are short
    assert kinds
