"""Whether the numbers of the parts drift: a conformal test martingale for each number.

The p-value of a part is its rank among earlier parts. As long as the parts are exchangeable (their
order says nothing), p-values are uniform and independent of each other, whatever the distribution.
Who wins money by betting against that has shown a change: by Ville's inequality a bettor's capital
reaches c times the stake, ever, with a probability of at most 1 / c.

    p-value  (parts above + u (parts equal + 1)) / (parts + 1), u drawn from (0, 1]
    pool     the parts that a p-value compares with, at most POOL. Is it full, one of the POOL + 1
             leaves with each new part, drawn evenly, the new one included. So p-values stay
             independent without end; they would not if the oldest left, or if the pool were frozen.
    bettor   Simple Jumper (V. Vovk and others, Retrain or not retrain: conformal test martingales
             for change-point detection, COPA 2021): accounts that bet on a change in one direction
             each, one that does not bet; each part moves the share JUMP of the capital evenly to
             all of them
    reserve  what of the stake is not at play yet: 1 / log2(n + 2) of it after n parts. Without it
             the capital shrinks exponentially while nothing changes, and after a good year a
             change would not be seen any more.
    alarm    where one number alone makes ALARM times the whole stake out of its share, which is
             1 / len(WATCHED). Each number's p-values are independent of one another, and not of
             those of other numbers: a sum over numbers is no martingale, so none is formed. All
             false alarms together have a probability of at most 1 / ALARM from one calibration to
             the next, for exchangeable parts.

Parts that resemble the part before them, or the time of day, are not exchangeable: docs/drift.md
has what that costs. Pure: no clock, no file, and every draw follows from the seed.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
from pydantic import Field

from edge.schema import Strict

POOL = 5_000  # earlier parts
JUMP = 0.01
ALARM = 1_000.0
EMPTY = -1e9  # logarithm of an account without money: finite, for JSON
EWMA = 0.05  # weight of the newest part in the picture
POINTS = 400  # of the picture
EXPLAINS = math.log(1000)  # gained since a minimum: brightness or temperature has changed
SHIFTS = (0.5, 1.0, 2.0)  # standard deviations: the changes by which a begin is dated
NEAR = 50  # parts, at least, within which two changes are of the same time

_NORMAL = NormalDist()
# p-value, its normal score -> logarithm of what one unit of money becomes
Bet = Callable[[float, float], float]


@dataclass(frozen=True)
class Account:
    """says: what the number does if this account wins; empty for the one that does not bet.

    dating: bets on changes of a fixed size in the same direction: a change began where the capital
    of the one that has won most since then was lowest.
    """

    says: str
    bet: Bet
    dating: tuple[Bet, ...] = ()


def _tilted(slope: float) -> Bet:
    """On the mean of the p-values."""
    return lambda p, _: math.log1p(slope * (p - 0.5))


def _sharpened(power: float) -> Bet:
    """On small p-values: where the few NG parts are among many equal OK parts."""
    log_power = math.log(power)
    return lambda p, _: log_power + (power - 1) * math.log(p)


def _shifted(by: float) -> Bet:
    """On a shift of the normal scores by this many deviations."""
    return lambda _, normal: by * normal - by * by / 2


def _normal_score(p: float) -> float:
    """Positive for a value that is higher than most."""
    return -_NORMAL.inv_cdf(min(max(p, 1e-9), 1 - 1e-9))


IDLE = Account("", _tilted(0.0))
BOTH_WAYS = (
    IDLE,
    Account("higher", _tilted(-1.0), tuple(_shifted(by) for by in SHIFTS)),
    Account("lower", _tilted(1.0), tuple(_shifted(-by) for by in SHIFTS)),
)
MORE_OFTEN = (IDLE, *(Account("higher", bet, (bet,)) for bet in (_sharpened(0.9), _sharpened(0.7))))

# number -> its accounts. score, valid, area: as in the record. depth_noise: millimeters.
# rejects: 1 for NG, 0 for OK
WATCHED: Mapping[str, tuple[Account, ...]] = MappingProxyType(
    {
        "score": BOTH_WAYS,
        "valid": BOTH_WAYS,
        "area": BOTH_WAYS,
        "depth_noise": BOTH_WAYS,
        "rejects": MORE_OFTEN,
    }
)
# They change with the day and the warm-up: they never raise an alarm. brightness: mean gray value
# of the crop. temperature: of the camera, degrees Celsius
EXPLAINING: Mapping[str, tuple[Account, ...]] = MappingProxyType(
    {"brightness": BOTH_WAYS, "temperature": BOTH_WAYS}
)
NUMBERS: Mapping[str, tuple[Account, ...]] = MappingProxyType({**WATCHED, **EXPLAINING})
NEEDED = math.log(ALARM * len(WATCHED))  # of the logarithm of one number's capital


class Mark(Strict):
    """A part: how many were watched up to it, its number in the records, when it was judged (UTC,
    ISO 8601).
    """

    part: int = Field(ge=1)
    seq: int = Field(ge=0)
    at: str = Field(max_length=40)


class Change(Strict):
    """An alarm: `number` is `says` since about `since`, seen at `seen`.

    before, after: mean until then and from then on, None where no part was before. with_: what
    changed by the same time and may explain it, such as "brightness lower".
    """

    number: str
    says: str
    since: Mark
    seen: Mark
    before: float | None
    after: float
    with_: tuple[str, ...] = ()


@dataclass
class Run:
    """The parts since the logarithm of what a dating bet has made was lowest. gain: since then.
    total: of the values.
    """

    gain: float = 0.0
    since: Mark | None = None
    parts: int = 0
    total: float = 0.0

    def take(self, gain: float, value: float, mark: Mark) -> None:
        """One part more, or a new minimum."""
        self.gain += gain
        if self.gain <= 0:
            self.gain, self.since, self.parts, self.total = 0.0, None, 0, 0.0
            return
        self.since = self.since or mark
        self.parts, self.total = self.parts + 1, self.total + value


def p_value(pool: Sequence[float], value: float, draw: float) -> float:
    """Of a value among earlier ones: small if it is among the largest.

    Args:
        pool: ascending. draw: uniform in (0, 1].
    """
    below, not_above = bisect_left(pool, value), bisect_right(pool, value)
    above, equal = len(pool) - not_above, not_above - below
    return (above + draw * (equal + 1)) / (len(pool) + 1)


def log_reserve(parts: int) -> float:
    """Logarithm of the share of the stake that is not at play after this many parts."""
    return -math.log(math.log2(parts + 2))


def _log_released(parts: int) -> float:
    """Logarithm of the share that comes into play with the part after `parts`."""
    now, then = math.log2(parts + 2), math.log2(parts + 3)
    difference = math.log1p(1 / (parts + 2)) / math.log(2)
    return math.log(difference / (now * then))


class Number:
    """One number of the parts, and what is remembered of it."""

    def __init__(self, accounts: tuple[Account, ...]) -> None:
        """Nothing was seen yet."""
        self.accounts = accounts
        self.pool: list[float] = []  # ascending
        self.parts, self.total = 0, 0.0
        self.level = 0.0  # EWMA of normal scores: the picture
        self.logs = [EMPTY] * len(accounts)  # money of each account, of a stake of 1
        self.runs = [[Run() for _ in account.dating] for account in accounts]

    @property
    def log_capital(self) -> float:
        """Logarithm of all that a stake of 1 has become."""
        every = [*self.logs, log_reserve(self.parts)]
        top = max(every)
        return top + math.log(sum(math.exp(one - top) for one in every))

    @property
    def strongest(self) -> int:
        """The account that bets and has most."""
        return max(range(1, len(self.logs)), key=self.logs.__getitem__)

    def begun(self, account: int) -> Run:
        """The parts since what this account bets on began."""
        return max(self.runs[account], key=lambda run: run.gain)

    def take(self, value: float, draws: Sequence[float], mark: Mark) -> float:
        """The next part; returns its p-value.

        Args:
            value: a float32. draws: two, uniform in (0, 1].
        """
        p = p_value(self.pool, value, draws[0])
        normal = _normal_score(p)
        self._bet(p, normal)
        self._date(p, normal, value, mark)
        insort(self.pool, value)
        if len(self.pool) > POOL:
            del self.pool[math.ceil(draws[1] * len(self.pool)) - 1]
        self.parts, self.total = self.parts + 1, self.total + value
        self.level += EWMA * (normal - self.level)
        return p

    def _bet(self, p: float, normal: float) -> None:
        count, fresh = len(self.accounts), _log_released(self.parts)
        top = max(*self.logs, fresh)
        each = math.exp(fresh - top) / count
        shares = [math.exp(one - top) + each for one in self.logs]
        moved = JUMP * sum(shares) / count
        self.logs = [
            top + math.log((1 - JUMP) * share + moved) + account.bet(p, normal)
            for share, account in zip(shares, self.accounts, strict=True)
        ]

    def _date(self, p: float, normal: float, value: float, mark: Mark) -> None:
        for account, runs in zip(self.accounts, self.runs, strict=True):
            for run, bet in zip(runs, account.dating, strict=True):
                run.take(bet(p, normal), value, mark)


@dataclass
class Drift:
    """All numbers of the parts of one product under one camera, from one calibration to the next.

    seed: of all draws. changes: the alarms by number; they stay. points: of the picture, as (seq,
    EWMA of each of NUMBERS in standard deviations); every `stride`-th part, ever fewer.
    """

    seed: int
    parts: int = 0
    numbers: dict[str, Number] = field(
        default_factory=lambda: {name: Number(accounts) for name, accounts in NUMBERS.items()}
    )
    changes: dict[str, Change] = field(default_factory=dict)
    points: list[tuple[int, tuple[float, ...]]] = field(default_factory=list)
    stride: int = 1

    def take(self, values: Mapping[str, float | None], seq: int, at: str) -> None:
        """The next part.

        Args:
            values: of NUMBERS; one that is missing, None or not finite leaves its number as it was.
            seq, at: as in Mark.
        """
        draws = draws_of(self.seed, self.parts)
        self.parts += 1
        mark = Mark(part=self.parts, seq=seq, at=at)
        for (name, number), two in zip(self.numbers.items(), draws, strict=True):
            value = values.get(name)
            if value is not None and math.isfinite(np.float32(value)):
                number.take(float(np.float32(value)), two, mark)
        for name in WATCHED:
            if name not in self.changes and self.numbers[name].log_capital >= NEEDED:
                self.changes[name] = self._change_of(name, mark)
        self._draw_point(seq)

    def _change_of(self, name: str, now: Mark) -> Change:
        number = self.numbers[name]
        run, says = number.begun(number.strongest), number.accounts[number.strongest].says
        since = run.since or now
        earlier = number.parts - run.parts
        return Change(
            number=name,
            says=says,
            since=since,
            seen=now,
            before=(number.total - run.total) / earlier if earlier else None,
            after=run.total / run.parts if run.parts else number.total / number.parts,
            with_=tuple(self._explanations(since, now)),
        )

    def _explanations(self, since: Mark, now: Mark) -> list[str]:
        """What else changed by the time of a change."""
        found = []
        for name in EXPLAINING:
            number = self.numbers[name]
            best = max(range(1, len(number.runs)), key=lambda at: number.begun(at).gain)
            run = number.begun(best)
            near = max(NEAR, now.part - since.part)
            if (
                run.gain >= EXPLAINS
                and run.since is not None
                and abs(run.since.part - since.part) <= near
            ):
                found.append(f"{name} {number.accounts[best].says}")
        return found

    def _draw_point(self, seq: int) -> None:
        if self.parts % self.stride:
            return
        levels = tuple(round(number.level, 3) for number in self.numbers.values())
        self.points.append((seq, levels))
        if len(self.points) > POINTS:
            self.stride *= 2
            del self.points[::2]


def draws_of(seed: int, parts: int) -> list[list[float]]:
    """Two numbers in (0, 1] for each of NUMBERS, for the part after `parts`."""
    bits = np.random.Philox(key=seed, counter=[0, parts, 0, 0])
    draws: list[list[float]] = (1 - np.random.Generator(bits).random((len(NUMBERS), 2))).tolist()
    return draws
