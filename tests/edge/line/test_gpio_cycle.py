"""The outputs against a small model, over any sequence of edges, verdicts and times."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.line.gpio_cycle import SHOWN, WAITING_LIMIT, Cycle, Told
from edge.types import Code

PULSE, WINDOW, DEADLINE = 10, 15, 50
CODES = st.sampled_from(list(Code))


@dataclass
class Model:
    """A triggered station in as few words as possible. The steps are shorter than a pulse."""

    is_level: bool
    open: int | None = None
    window: int = 0  # of the open trigger
    until: int = 0
    is_accepted: bool = False
    has_verdict: bool = False
    answered: int = 0
    free: int = 0
    shown: Code | None = None
    since: int = 0
    told: list[int] = field(default_factory=list)

    def at(self, now: int) -> None:
        if self.open is not None and now >= (self.window if self.has_verdict else self.until):
            self.open, self.free = None, now
        if not self.is_level and now >= self.since + PULSE:
            self.shown = None

    @property
    def active(self) -> set[str]:
        busy = {"busy"} if self.open is not None and self.is_accepted else set()
        return busy | (set() if self.shown is None else {SHOWN[self.shown], "valid"})


# what happens; how much time has passed; a number of which each step takes what it needs
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["edge", "old edge", "accept", "refuse", "verdict", "other", "wait"]),
        st.integers(0, 8),
        CODES,
        st.integers(-5, 60),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.booleans(), STEPS)
def test_it_shows_what_the_model_shows(
    is_level: bool, steps: list[tuple[str, int, Code, int]]
) -> None:
    cycle, model, now, edges = Cycle(PULSE, is_level, True), Model(is_level), 0, 0
    for what, passed, code, left in steps:
        now += passed
        cycle.pass_time(now)
        model.at(now)
        if what in ("edge", "old edge"):
            edges += 1
            moment = now if what == "edge" else now - 20
            asks = cycle.begin(edges, moment, now + WINDOW, moment + DEADLINE, now)
            assert asks == (model.open is None and moment >= model.free)
            if moment >= model.answered:
                model.shown = None
            if asks:
                model.open, model.window, model.until = edges, now + WINDOW, moment + DEADLINE
                model.is_accepted = model.has_verdict = False
        elif what in ("accept", "refuse"):
            if model.is_accepted:
                continue  # the station says it once
            cycle.acknowledge(edges, what == "accept")
            if model.open == edges:
                model.is_accepted = what == "accept"
                model.open = edges if what == "accept" else None
        elif what in ("verdict", "other"):
            n = edges if what == "verdict" else edges - 1
            shows = cycle.tell(Told(n, code, now + left), now)
            waits = model.open == n and model.is_accepted and not model.has_verdict
            assert shows == (waits and left > 0)
            if waits:
                model.has_verdict, model.answered = True, now
            if shows:
                model.shown, model.since = code, now
            model.at(now)
        assert cycle.active == model.active
        assert len(cycle.active & {"ok", "ng", "unknown"}) == ("valid" in cycle.active)
        end = cycle.next_ns
        assert end is None or end > now, (end, now)
    cycle.reset()
    assert cycle.active == frozenset()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 15), CODES, st.integers(-5, 80)), max_size=30), st.booleans()
)
def test_free_run_shows_each_verdict_as_a_pulse_of_its_own(
    verdicts: list[tuple[int, Code, int]], is_level: bool
) -> None:
    cycle, now, told, taken = Cycle(PULSE, is_level, False), 0, [], 0
    times = {}
    for passed, code, left in verdicts:
        now += passed
        times[now] = [*times.get(now, []), (code, now + left)]
    seen: list[tuple[int, frozenset[str]]] = [(0, frozenset())]
    for now in range(max(times, default=0) + 200):
        cycle.pass_time(now)
        for code, deadline in times.get(now, []):
            if cycle.tell(Told(None, code, deadline), now):
                taken += 1
                told.append((code, deadline))
        if cycle.active != seen[-1][1]:
            seen.append((now, cycle.active))
    begun = [one for one in seen if one[1]]
    assert taken == len(begun) + cycle.dropped
    for (start, shown), (end, after) in zip(seen[1::2], seen[2::2], strict=True):
        assert "valid" in shown
        assert len(shown) == 2
        assert (end - start, after) == (PULSE, frozenset())
    for before, after_it in zip(seen[1::2], seen[3::2], strict=False):
        assert after_it[0] - before[0] >= 2 * PULSE
    queue = iter(told)  # in order, none late: each pulse is a verdict that was still in time
    for start, shown in begun:
        assert any(SHOWN[code] in shown and start < deadline for code, deadline in queue)


def test_no_more_than_a_few_verdicts_wait() -> None:
    cycle = Cycle(PULSE, is_level=False, is_triggered=False)
    taken = [cycle.tell(Told(None, Code.OK, 10_000), 0) for _ in range(WAITING_LIMIT + 3)]
    assert taken.count(True) == WAITING_LIMIT + 1  # one of them is shown
    cycle.reset()
    assert (cycle.active, cycle.dropped, cycle.next_ns) == (frozenset(), WAITING_LIMIT, None)
