"""Everything around a station fails, one thing after the other, while parts pass: nothing is lost,
nothing comes late.

`make endurance` runs the long form and prints its table. To run it otherwise: FAULTS=40 SEED=3
pytest -s -m long tests/endurance (the seed is printed with the table).
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endurance.faults import KINDS, Fault
from tests.endurance.harness import Episode, inject, rows_of, table_of, worst_recoveries, wrongs_of
from tests.endurance.rig import Rig, running_rig
from tests.support.broker import MOSQUITTO
from tests.support.patience import slowness

LIMITS_S = {"camera": 5.0, "broker": 5.0, "process": 5.0}  # of recovery, on a quiet machine
SHORT_RESTART_S = 0.3  # instead of the unit's seconds, which prove nothing


@pytest.fixture(autouse=True)
def _needs_mosquitto() -> None:
    if not Path(MOSQUITTO).exists():
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")


@pytest.mark.endurance
def test_one_fault_of_each_quick_kind_costs_nothing(tmp_path: Path) -> None:
    with running_rig(tmp_path, SHORT_RESTART_S) as rig:
        kinds = [kind for kind in KINDS if kind.quick and not kind.missing(rig)]
        episodes = [inject(rig, kind) for kind in kinds]
        assert_nothing_is_wrong(rig, episodes)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_hundred_faults_at_random_cost_nothing(tmp_path: Path) -> None:
    seed, count = int(os.environ.get("SEED", "13")), int(os.environ.get("FAULTS", "200"))
    slowest = slowness()
    episodes: list[Episode] = []
    with running_rig(tmp_path) as rig:
        for kind in at_random(rig, random.Random(seed), count):
            episodes.append(inject(rig, kind))
            slowest = max(slowest, slowness())
        print(
            f"\nseed {seed}, {len(episodes)} faults, this machine {slowest:.1f} times slower than a"
            " quiet one"
        )
        print(table_of(rows_of(rig, episodes)))
        assert_nothing_is_wrong(rig, episodes)
        worst = worst_recoveries(rows_of(rig, episodes))
        slow = {name: took_s for name, took_s in worst.items() if took_s > limit_s(name) * slowest}
        assert not slow, f"recovered later than a line may wait: {slow}"
    assert len({episode.fault.name for episode in episodes}) >= 12


def limit_s(name: str) -> float:
    """Of recovery from the kind `name`; none for those that have none."""
    about = next(kind.about for kind in KINDS if kind.name == name)
    return LIMITS_S.get(about, math.inf)


def at_random(rig: Rig, chance: random.Random, count: int) -> Iterator[Fault]:
    """`count` faults of all kinds that can be done here, each kind as often as the others, in an
    order of chance.
    """
    kinds = [kind for kind in KINDS if not kind.missing(rig)]
    for kind in KINDS:
        if why := kind.missing(rig):
            print(f"\nskipped {kind.name}: {why}")
    chosen: list[Fault] = []
    while len(chosen) < count:
        chosen += chance.sample(kinds, len(kinds))
    yield from chosen[:count]


def assert_nothing_is_wrong(rig: Rig, episodes: list[Episode]) -> None:
    wrongs = wrongs_of(rig, episodes[-1].after)
    assert not wrongs, "\n".join([*wrongs, table_of(rows_of(rig, episodes))])
