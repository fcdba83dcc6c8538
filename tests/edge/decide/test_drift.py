"""The watch over the parts' numbers: p-values and capital as an independent calculation has them;
false alarms within the limit that is promised, whatever the distribution; changes found, named and
dated; nothing forgotten over restarts.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.decide import drift as module
from edge.decide import drift_file
from edge.decide.drift import (
    BOTH_WAYS,
    EMPTY,
    JUMP,
    MORE_OFTEN,
    NEEDED,
    NUMBERS,
    POINTS,
    WATCHED,
    Account,
    Change,
    Drift,
    Mark,
    Number,
    draws_of,
    log_reserve,
    p_value,
)
from edge.decide.drift_file import DriftKey, drift_from_json, drift_to_json
from edge.decide.drift_words import TOLD_LIMIT, sentence_of

AT = "2026-11-30T08:00:00.000Z"
MARK = Mark(part=1, seq=1, at=AT)
KEY = DriftKey(
    product="washer", serial="1", bundle="1.0.0-0", engine="e fp32", geometry=None, model_state=None
)
Law = Callable[[np.random.Generator, int], NDArray[np.float32]]


def normal(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return rng.normal(size=count).astype(np.float32)


def heavy(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return rng.standard_cauchy(count).astype(np.float32)


def rare(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return (rng.random(count) < 0.03).astype(np.float32)


def coarse(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    return rng.normal(0, 1.5, count).round().astype(np.float32)


def most_of(trials: int, share: float, risk: float = 1e-4) -> int:
    """Of trials that each happen with a probability of `share`, more happen only with this risk."""
    left = 1.0
    for count in range(trials + 1):
        left -= math.comb(trials, count) * share**count * (1 - share) ** (trials - count)
        if left <= risk:
            return count
    return trials


def watched(values: NDArray[np.float32], seed: int, accounts: tuple[Account, ...]) -> Number:
    number = Number(accounts)
    for value, draws in zip(values.tolist(), drawn(seed, len(values)), strict=True):
        number.take(value, draws, MARK)
    return number


def drawn(seed: int, count: int) -> list[list[float]]:
    draws: list[list[float]] = (1 - np.random.default_rng(seed).random((count, 2))).tolist()
    return draws


def reaches(values: NDArray[np.float32], seed: int, limit: float, accounts: object) -> bool:
    """Whether the capital ever reaches `limit` stakes."""
    number = Number(accounts)  # type: ignore[arg-type]
    for value, draws in zip(values.tolist(), drawn(seed, len(values)), strict=True):
        number.take(value, draws, MARK)
        if number.log_capital >= math.log(limit):
            return True
    return False


# --- an independent calculation, in plain float64, without logarithms and sorted lists ---


def plain_p(earlier: list[float], value: float, draw: float) -> float:
    pool = np.array(earlier, np.float64)
    return float(((pool > value).sum() + draw * ((pool == value).sum() + 1)) / (len(pool) + 1))


def plain_bets(accounts: tuple[Account, ...], p: float) -> NDArray[np.float64]:
    if accounts is BOTH_WAYS:
        return np.array([1, 1 - (p - 0.5), 1 + (p - 0.5)])
    return np.array([1, 0.9 * p**-0.1, 0.7 * p**-0.3])


@pytest.mark.parametrize("accounts", [BOTH_WAYS, MORE_OFTEN], ids=["both ways", "more often"])
@pytest.mark.parametrize("law", [normal, coarse])
def test_p_values_and_capital_are_those_of_an_independent_calculation(
    accounts: tuple[Account, ...], law: Law, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POOL", 60)
    values = law(np.random.default_rng(1), 400)
    values[300:] += 3
    number, pool, money = Number(accounts), [], np.zeros(3)
    for n, (value, (u, v)) in enumerate(zip(values.tolist(), drawn(2, 400), strict=True)):
        p = number.take(value, [u, v], MARK)
        assert p == pytest.approx(plain_p(pool, value, u), rel=1e-12)
        released = 1 / math.log2(n + 2) - 1 / math.log2(n + 3)
        money = money + released / 3
        money = ((1 - JUMP) * money + JUMP * money.sum() / 3) * plain_bets(accounts, p)
        total = money.sum() + 1 / math.log2(n + 3)
        assert number.log_capital == pytest.approx(math.log(total), abs=1e-9)
        pool = sorted([*pool, value])
        if len(pool) > 60:
            pool.pop(math.ceil(v * 61) - 1)
        assert number.pool == pool
    assert number.log_capital > 3


def test_the_bets_are_fair() -> None:
    """Over uniform p-values each of them has a mean of 1: that makes the capital a martingale."""
    p = (np.arange(100_000) + 0.5) / 100_000
    for account in (*BOTH_WAYS, *MORE_OFTEN):
        mean = np.mean([math.exp(account.bet(one, 0.0)) for one in p.tolist()])
        assert mean == pytest.approx(1, abs=5e-3)
    scores = np.random.default_rng(0).normal(size=200_000).tolist()
    for bet in (*BOTH_WAYS[1].dating, *BOTH_WAYS[2].dating):
        assert np.mean([math.exp(bet(0.5, one)) for one in scores]) == pytest.approx(1, abs=0.05)


def test_nothing_enters_play_that_was_not_in_the_reserve() -> None:
    assert log_reserve(0) == 0
    for parts in (0, 1, 7, 1000, 10**6, 10**9):
        released = math.exp(log_reserve(parts)) - math.exp(log_reserve(parts + 1))
        assert math.exp(module._log_released(parts)) == pytest.approx(released, rel=1e-5)


# --- nothing changes ---


@pytest.mark.parametrize("law", [normal, heavy, rare, coarse])
@pytest.mark.parametrize("accounts", [BOTH_WAYS, MORE_OFTEN], ids=["both ways", "more often"])
def test_false_alarms_stay_within_the_promise(law: Law, accounts: tuple[Account, ...]) -> None:
    """At 20 stakes at most 5 % of all streams; at the product's own limit none."""
    runs, rng = 150, np.random.default_rng(3)
    alarms = sum(reaches(law(rng, 300), run, 20, accounts) for run in range(runs))
    assert alarms <= most_of(runs, 1 / 20)


def test_a_full_pool_keeps_the_p_values_uniform_and_independent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a pool of 4 a wrong choice of who leaves would show: a frozen pool gives p-values that
    are not uniform, and if the oldest leaves, those at a distance of 4 are correlated by -0.16.
    """
    monkeypatch.setattr(module, "POOL", 4)
    number, count = Number(BOTH_WAYS), 20_000
    values = np.random.default_rng(4).lognormal(size=count).astype(np.float32).tolist()
    p = np.array([number.take(x, d, MARK) for x, d in zip(values, drawn(5, count), strict=True)])
    gap = np.abs(np.sort(p) - (np.arange(count) + 0.5) / count).max()
    assert gap < 2.2 / math.sqrt(count)  # Kolmogorov: exceeded once in 8,000
    for lag in range(1, 9):
        assert abs(np.corrcoef(p[:-lag], p[lag:])[0, 1]) < 4 / math.sqrt(count)


def test_a_long_good_time_costs_the_logarithm_of_its_length_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "POOL", 200)
    values = normal(np.random.default_rng(6), 20_300)
    values[20_000:] += 2
    number, lowest = Number(BOTH_WAYS), 0.0
    for n, (value, draws) in enumerate(zip(values.tolist(), drawn(7, 20_300), strict=True)):
        number.take(value, draws, MARK)
        lowest = min(lowest, number.log_capital)
        if n > 20_000 and number.log_capital >= NEEDED:
            break
    assert lowest >= log_reserve(20_300)
    assert n < 20_120


def test_numbers_that_never_vary_raise_no_alarm() -> None:
    """A color-only product: all of the part has a reading, the area is that of the region."""
    drift = Drift(seed=8)
    for seq in range(400):
        drift.take({"valid": 1.0, "area": 1.0, "rejects": 0.0}, seq, AT)
    assert drift.changes == {}
    assert drift.numbers["depth_noise"].parts == 0


# --- something changes ---


def streamed(
    parts: int, change: Mapping[str, tuple[int, float]], seed: int = 0, drift: Drift | None = None
) -> Drift:
    """Numbers without any change but those: number -> (from which part on, by how many deviations).
    One in 50 parts is NG.
    """
    rng, drift = np.random.default_rng(seed), drift or Drift(seed)
    for part in range(1, parts + 1):
        values = {name: float(rng.normal(10, 1)) for name in NUMBERS}
        values["rejects"] = float(rng.random() < 0.02)
        for name, (first, by) in change.items():
            values[name] += by if part >= first else 0.0
        drift.take(values, 1000 + part, AT)
    return drift


@pytest.mark.parametrize(
    ("name", "by", "says"),
    [("score", 1.5, "higher"), ("valid", -1.5, "lower"), ("depth_noise", 1.5, "higher")],
)
def test_a_change_is_named_and_dated(name: str, by: float, says: str) -> None:
    drift = streamed(500, {name: (301, by)})
    assert list(drift.changes) == [name]
    change = drift.changes[name]
    assert (change.number, change.says) == (name, says)
    assert abs(change.since.part - 301) <= 10
    assert change.since.seq == 1000 + change.since.part
    assert 301 < change.seen.part <= 380
    assert change.before == pytest.approx(10, abs=0.2)
    assert change.after == pytest.approx(10 + by, abs=0.4)
    assert change.with_ == ()


def test_brightness_explains_and_raises_nothing() -> None:
    both = streamed(400, {"brightness": (300, -3.0), "score": (301, 2.0)})
    assert both.changes["score"].with_ == ("brightness lower",)
    assert "brightness" not in both.changes
    alone = streamed(400, {"brightness": (300, -3.0), "temperature": (300, 3.0)})
    assert alone.changes == {}
    earlier = streamed(900, {"brightness": (100, -3.0), "score": (801, 2.0)})
    assert earlier.changes["score"].with_ == ()


def test_more_ng_parts_are_seen_without_any_other_number() -> None:
    rng, drift = np.random.default_rng(9), Drift(9)
    for part in range(1, 1301):
        share = 0.02 if part <= 1000 else 0.25
        drift.take({"rejects": float(rng.random() < share)}, part, AT)
    change = drift.changes["rejects"]
    assert change.says == "higher"
    assert abs(change.since.part - 1001) <= 40
    assert change.before == pytest.approx(0.02, abs=0.02)
    assert change.after > 0.15


def test_a_capital_beyond_every_float_is_no_trouble() -> None:
    number = Number(BOTH_WAYS)
    for part in range(3000):
        number.take(float(part), [0.5, 1.0], MARK)
    assert 710 < number.log_capital < 3000 * math.log(1.5)
    assert number.accounts[number.strongest].says == "higher"


def test_one_change_after_the_other_is_told_in_one_bounded_sentence() -> None:
    drift = streamed(500, {"score": (301, 2.0), "area": (351, -2.0), "temperature": (345, 2.0)})
    told = sentence_of(drift.changes)
    assert told is not None
    first, second = told.split(")")[:2]
    assert first.startswith("score higher since about seq 1")
    assert "2026-11-30T08:00Z (mean 1" in first
    assert second.startswith("; area lower since about seq 1")
    assert second.endswith("temperature higher by then")
    assert sentence_of({}) is None


def test_the_longest_sentence_keeps_its_limit() -> None:
    mark = Mark(part=1, seq=10**12, at=AT)
    with_ = ("brightness higher", "temperature higher")
    changes = {
        name: Change(
            number=name, says="higher", since=mark, seen=mark,
            before=-1.23456e-30, after=-1.23456e30, with_=with_,
        )
        for name in WATCHED
    }  # fmt: skip
    told = sentence_of(changes)
    assert told is not None
    assert told.isascii()
    assert told.isprintable()
    assert len(told) <= TOLD_LIMIT
    assert told.endswith(("; and 4 more", "; and 3 more"))


def test_a_number_that_is_missing_is_left_as_it_was() -> None:
    drift = streamed(50, {})
    before = drift.numbers["depth_noise"].log_capital
    drift.take({"score": 10.0, "depth_noise": None, "area": math.nan}, 2000, AT)
    assert drift.numbers["depth_noise"].log_capital == before
    assert drift.numbers["area"].parts == 50
    assert drift.numbers["score"].parts == 51


def test_the_picture_is_bounded_and_shows_the_change() -> None:
    drift = streamed(3000, {"score": (2001, 1.0)})
    assert len(drift.points) <= POINTS
    seqs = [seq for seq, _ in drift.points]
    assert seqs == sorted(seqs)
    assert len(set(np.diff(seqs))) == 1
    scores = {seq: levels[0] for seq, levels in drift.points}
    assert abs(np.mean([level for seq, level in scores.items() if 2000 < seq <= 3000])) < 0.3
    assert 0.4 < np.mean([level for seq, level in scores.items() if seq > 3500]) < 1.2


def test_draws_follow_from_the_seed_alone() -> None:
    assert draws_of(5, 17) == draws_of(5, 17)
    several = np.array([draws_of(seed, part) for seed in (5, 6) for part in range(50)])
    assert len(np.unique(several)) == several.size
    assert ((several > 0) & (several <= 1)).all()
    assert several.mean() == pytest.approx(0.5, abs=0.05)


def test_equal_parts_share_the_place() -> None:
    assert p_value([], 3.0, 0.25) == 0.25
    assert p_value([1.0, 3.0, 3.0, 5.0], 3.0, 1.0) == pytest.approx(4 / 5)
    assert p_value([1.0, 3.0, 3.0, 5.0], 9.0, 0.5) == pytest.approx(0.1)


# --- restarts ---


def test_a_restart_in_between_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POOL", 100)
    monkeypatch.setattr(drift_file, "POOL", 100)
    change = {"score": (301, 2.0)}
    whole = streamed(500, change)
    rng, drift = np.random.default_rng(0), Drift(0)
    for part in range(1, 501):
        values = {name: float(rng.normal(10, 1)) for name in NUMBERS}
        values["rejects"] = float(rng.random() < 0.02)
        values["score"] += 2.0 if part >= 301 else 0.0
        drift.take(values, 1000 + part, AT)
        if part in (1, 37, 250, 310, 499):
            key, drift = drift_from_json(drift_to_json(KEY, drift))
            assert key == KEY
    assert drift_to_json(KEY, drift) == drift_to_json(KEY, whole)
    assert drift.changes["score"].seen.part > 310


def test_the_file_is_strict_json_even_before_the_first_part() -> None:
    def refuse(text: str) -> float:
        raise AssertionError(text)

    saved = json.loads(drift_to_json(KEY, Drift(1)), parse_constant=refuse)
    assert saved["numbers"]["score"]["logs"] == [EMPTY] * 3
    assert drift_from_json(drift_to_json(KEY, Drift(1)))[1].parts == 0


DAMAGES: list[tuple[list[str], object]] = [
    (["schema"], 2),
    (["key", "serial"], None),
    (["seed"], -1),
    (["parts"], 3),
    (["numbers", "score"], None),
    (["numbers", "brigthness"], {}),
    (["numbers", "score", "pool"], "AAAA"),
    (["numbers", "score", "pool"], "not base64"),
    (["numbers", "score", "pool"], ""),
    (["numbers", "score", "logs"], [0.0]),
    (["numbers", "score", "logs"], [0.0, "x", 0.0]),
    (["numbers", "score", "runs"], []),
    (["numbers", "score", "parts"], 7),
    (["points"], [[1, [0.0]]]),
    (["changes"], [{"number": "score"}]),
    (["stride"], 0),
]


@pytest.mark.parametrize(("path", "value"), DAMAGES)
def test_a_damaged_file_is_refused_in_one_line(path: list[str], value: object) -> None:
    saved = json.loads(drift_to_json(KEY, streamed(30, {})))
    place = saved
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        drift_from_json(json.dumps(saved).encode())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"schema": NaN}', b"\xff", b"[" * 9999]
)
def test_what_is_no_such_file_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        drift_from_json(data)


def test_a_pool_that_is_not_sorted_or_not_finite_is_refused() -> None:
    saved = json.loads(drift_to_json(KEY, streamed(30, {})))
    for turned in (np.arange(30, 0, -1.0), np.full(30, np.nan)):
        packed = base64.b64encode(turned.astype("<f4").tobytes()).decode()
        saved["numbers"]["score"]["pool"] = packed
        with pytest.raises(ValueError, match="ascending"):
            drift_from_json(json.dumps(saved).encode())
