"""What became of each part, and every promise of the station or rule of the PLC that was broken:
from what was sent, heard and done, and from nothing that the PLC itself concluded. Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from edge.simulate.link import Acked, Event, Readiness, Told
from edge.simulate.plc import BY_CODE, Gated, Rules
from edge.types import Code

Key = tuple[str, int]  # part and n


@dataclass(frozen=True)
class Sensed:
    """A part at the sensor. expected: its code, None where nobody knows. asked: whether a trigger
    left for it, at at_s.
    """

    part: str
    n: int
    at_s: float
    asked: bool
    expected: Code | None = None


@dataclass
class History:
    """One run: everything in the order in which it happened."""

    sensed: list[Sensed] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    gated: list[Gated] = field(default_factory=list)


class Outcome(str, Enum):
    """What became of a part. The first that fits."""

    RIGHT = "right"  # in time and as expected
    WRONG = "wrong"  # in time, OK for NG or NG for OK
    JUDGED = "judged"  # in time, OK or NG, and nobody knows which is right
    UNKNOWN = "unknown"  # in time, UNKNOWN
    LATE = "late"  # acknowledgment or verdict after its timer, or the part was at the gate
    MISSED = "missed"  # no verdict at all, or no acknowledgment before it
    REFUSED = "refused"
    UNASKED = "unasked"  # the station was not ready, or not connected


@dataclass(frozen=True)
class Fate:
    """One part. ack: the answer to its trigger. told: the first verdict. gated: None while it is
    not at the gate.
    """

    sensed: Sensed
    outcome: Outcome
    ack: Acked | None
    told: Told | None
    gated: Gated | None

    @property
    def name(self) -> str:
        """As messages name it."""
        return _named((self.sensed.part, self.sensed.n))

    @property
    def ack_ms(self) -> float | None:
        """From the sensor to the acknowledgment."""
        return None if self.ack is None else (self.ack.at_s - self.sensed.at_s) * 1000.0

    @property
    def verdict_ms(self) -> float | None:
        """From the sensor to the verdict."""
        return None if self.told is None else (self.told.at_s - self.sensed.at_s) * 1000.0


@dataclass(frozen=True)
class Findings:
    """A run, judged. twice: parts that were answered more than once. strange: verdicts that name
    one of the parts with another number than it was sent with, have the `seq` of another part, or a
    code that does not exist.
    acted_late: parts that the gate accepted without an OK in time. others: verdicts for parts of
    somebody else.
    """

    fates: Sequence[Fate]
    twice: Sequence[str]
    strange: Sequence[str]
    acted_late: Sequence[str]
    others: int

    @property
    def broken(self) -> list[str]:
        """A sentence for each kind of broken promise."""
        kinds = {
            "answered twice": self.twice,
            "answered for the wrong part": self.strange,
            "acted on late": self.acted_late,
        }
        return [f"{len(found)} {what}: {_few(found)}" for what, found in kinds.items() if found]


def judge(history: History, rules: Rules) -> Findings:
    """The findings of a run."""
    book = _Book(history)
    gated = {(one.part, one.n): one for one in history.gated}
    fates = [
        _fate(one, book.acks.get(key), book.tolds.get(key, []), gated.get(key), rules)
        for one in history.sensed
        for key in [(one.part, one.n)]
    ]
    strange = [one for one in book.strangers if one.part in book.asked]
    impossible = [one for told in book.tolds.values() for one in told if one.code not in BY_CODE]
    return Findings(
        fates,
        [_named(key) for key, told in book.tolds.items() if len(told) > 1],
        [
            *(f"{one.part} n={one.n} code={one.code}" for one in [*strange, *impossible]),
            *_swapped(book.acks, book.tolds),
        ],
        [
            _named((one.sensed.part, one.sensed.n))
            for one in fates
            if _is_accepted_wrongly(one, rules)
        ],
        len(book.strangers) - len(strange),
    )


class _Book:
    """What was heard, by the trigger that it answers. strangers: verdicts that answer none."""

    def __init__(self, history: History) -> None:
        self.asked: defaultdict[str, list[Sensed]] = defaultdict(list)
        self.acks: dict[Key, Acked] = {}
        self.tolds: defaultdict[Key, list[Told]] = defaultdict(list)
        self.strangers: list[Told] = []
        for one in history.sensed:
            if one.asked:
                self.asked[one.part].append(one)
        for event in history.heard:
            self._note(event)

    def _note(self, event: Event) -> None:
        if isinstance(event, Readiness):
            return
        key = self._key_of(event)
        if isinstance(event, Acked):
            if key is not None:
                self.acks.setdefault(key, event)
        elif key is None:
            self.strangers.append(event)
        else:
            self.tolds[key].append(event)

    def _key_of(self, event: Acked | Told) -> Key | None:
        """By part and n; by the newest trigger of that part where a dialect has no n."""
        triggers = self.asked.get(event.part, [])
        if event.n is None:
            triggers = [one for one in triggers if one.at_s <= event.at_s][-1:]
        else:
            triggers = [one for one in triggers if one.n == event.n]
        return (triggers[0].part, triggers[0].n) if triggers else None


def outcomes_of(findings: Findings) -> dict[Outcome, list[Fate]]:
    """The parts by what became of them, in the order of Outcome; without those that nobody had."""
    by_outcome: dict[Outcome, list[Fate]] = {outcome: [] for outcome in Outcome}
    for fate in findings.fates:
        by_outcome[fate.outcome].append(fate)
    return {outcome: fates for outcome, fates in by_outcome.items() if fates}


def _fate(
    sensed: Sensed, ack: Acked | None, told: Sequence[Told], gated: Gated | None, rules: Rules
) -> Fate:
    first = told[0] if told else None
    return Fate(sensed, _outcome(sensed, ack, first, gated, rules), ack, first, gated)


def _outcome(
    sensed: Sensed, ack: Acked | None, told: Told | None, gated: Gated | None, rules: Rules
) -> Outcome:
    if not sensed.asked:
        return Outcome.UNASKED
    if ack is not None and not ack.accepted:
        return Outcome.REFUSED
    if ack is None or told is None:
        return Outcome.MISSED
    if not _is_in_time(sensed, ack, told, gated, rules):
        return Outcome.LATE
    if told.code == Code.UNKNOWN:
        return Outcome.UNKNOWN
    if sensed.expected is None:
        return Outcome.JUDGED
    return Outcome.RIGHT if told.code == sensed.expected else Outcome.WRONG


def _is_in_time(sensed: Sensed, ack: Acked, told: Told, gated: Gated | None, rules: Rules) -> bool:
    return (
        ack.at_s - sensed.at_s <= rules.ack_ms / 1000.0
        and told.at_s - sensed.at_s <= rules.verdict_ms / 1000.0
        and (gated is None or told.at_s <= gated.at_s)
    )


def _is_accepted_wrongly(fate: Fate, rules: Rules) -> bool:
    """Whether the gate let a part pass that no OK in time was told for."""
    if fate.gated is None or not fate.gated.accepted:
        return False
    if fate.ack is None or fate.told is None:
        return True
    is_ok = fate.ack.accepted and fate.told.code == Code.OK
    return not (is_ok and _is_in_time(fate.sensed, fate.ack, fate.told, fate.gated, rules))


def _swapped(acks: Mapping[Key, Acked], tolds: Mapping[Key, Sequence[Told]]) -> list[str]:
    """Verdicts whose number is not the one that the acknowledgment promised, or that stands for
    another part already.
    """
    promised = {key: ack.seq for key, ack in acks.items() if ack.seq is not None}
    counted = Counter(promised.values())
    return [
        f"{_named(key)} seq={told.seq}"
        for key, several in tolds.items()
        for told in several
        if told.seq is not None
        and key in promised
        and (told.seq != promised[key] or counted[told.seq] > 1)
    ]


def _named(key: Key) -> str:
    return f"{key[0]} n={key[1]}"


def _few(found: Sequence[str]) -> str:
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
