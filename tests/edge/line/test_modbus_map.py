"""The register map: no two values share a word, and every number is frozen."""

from __future__ import annotations

import math

import pytest

from edge.line.commands import CommandRefusal, Verb
from edge.line.inbound import KEYS as TRIGGER_KEYS
from edge.line.inbound import Refusal, TriggerRequest, checked_trigger
from edge.line.modbus_map import (
    ASKS_END,
    COMMAND_REFUSALS,
    FREE_RUN,
    KEYS,
    OTHER,
    REASONS,
    REFUSALS,
    TELLS_END,
    TELLS_START,
    VERBS,
    Asks,
    Field,
    Kind,
    Table,
    Tells,
    number_of_reason,
    trigger_fields,
    value_of,
    words_of,
)
from edge.types import Reason

FROZEN = [
    "normal", "anomaly", "no_part", "too_large", "partial", "two_parts", "no_depth",
    "uncalibrated", "camera_mismatch", "camera_lost", "blind", "stale", "not_finite", "engine",
    "late", "storage", "slow", "bundle", "link", "archive", "paused", "calibrating",
    "power",
]  # fmt: skip


def fields_of(block: type) -> list[Field]:
    return [value for value in vars(block).values() if isinstance(value, Field)]


@pytest.mark.parametrize(
    ("block", "start", "end"), [(Asks, 0, ASKS_END), (Tells, TELLS_START, TELLS_END)]
)
def test_fields_lie_in_their_block_and_share_no_word(block: type, start: int, end: int) -> None:
    fields = fields_of(block)
    taken = [address for one in fields for address in range(one.address, one.end)]
    assert len(taken) == len(set(taken))
    assert start <= min(taken) <= max(taken) < end


def test_the_station_s_block_has_no_gap_and_is_read_by_one_request() -> None:
    taken = {address for one in fields_of(Tells) for address in range(one.address, one.end)}
    assert taken == set(range(TELLS_START, TELLS_END))
    assert TELLS_END - TELLS_START <= 125


def test_numbers_are_frozen() -> None:
    assert [(reason.value, number) for reason, number in REASONS.items()] == [
        (reason, number + 1) for number, reason in enumerate(FROZEN)
    ]
    assert [one.value for one in REFUSALS] == ["bad_request", "not_ready", "busy", "storage"]
    assert list(REFUSALS.values()) == [1, 2, 3, 4]
    assert [one.value for one in COMMAND_REFUSALS] == [
        "bad_request", "not_allowed", "busy", "unknown_product", "failed"
    ]  # fmt: skip
    assert list(COMMAND_REFUSALS.values()) == [1, 2, 3, 4, 5]
    assert VERBS == {
        1: Verb.SELECT, 2: Verb.RESET, 3: Verb.PAUSE, 4: Verb.RESUME, 5: Verb.RESTART_CAMERA
    }  # fmt: skip


def test_every_reason_and_refusal_has_a_number_of_its_own() -> None:
    assert set(REASONS) == set(Reason)
    assert set(REFUSALS) == set(Refusal)
    assert set(COMMAND_REFUSALS) == set(CommandRefusal)
    numbers = {*REFUSALS.values(), FREE_RUN, OTHER}
    assert len(numbers) == len(Refusal) + 2
    assert number_of_reason("") == 0
    assert number_of_reason("younger than this map") == OTHER


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Kind.WORD, 65537, [1]),
        (Kind.DWORD, 0x1234_5678, [0x1234, 0x5678]),
        (Kind.REAL, 13.25, [0x4154, 0]),
        (Kind.TEXT, "A17", [0x4131, 0x3700, *[0] * 14]),
        (Kind.TEXT, "x" * 40, [0x7878] * 16),
    ],
)
def test_values_as_words(kind: Kind, value: int | float | str, words: list[int]) -> None:
    assert words_of(kind, value) == words


def test_only_numbers_of_two_words_are_swapped() -> None:
    assert words_of(Kind.DWORD, 0x1234_5678, is_swapped=True) == [0x5678, 0x1234]
    assert words_of(Kind.REAL, 13.25, is_swapped=True) == [0, 0x4154]
    assert words_of(Kind.TEXT, "A17", is_swapped=True)[:2] == [0x4131, 0x3700]


@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize(
    ("kind", "value"), [(Kind.WORD, 7), (Kind.DWORD, 1 << 31), (Kind.REAL, -0.1), (Kind.TEXT, "a")]
)
def test_words_read_back(kind: Kind, value: int | float | str, is_swapped: bool) -> None:
    read = value_of(kind, words_of(kind, value, is_swapped), is_swapped)
    assert math.isclose(read, value, rel_tol=1e-7) if kind is Kind.REAL else read == value


def asked(**values: int | str) -> Table:
    table = Table.empty()
    for name, value in values.items():
        table.put(getattr(Asks, name), value)
    return table


def test_zero_stands_for_what_is_left_out() -> None:
    assert trigger_fields(asked(PART="A17", DEADLINE_MS=500)) == {"part": "A17", "deadline_ms": 500}
    whole = asked(PART="A", DEADLINE_MS=5000, N=1, DELAY_MS=2, FRAMES=3, ENC=4, ANSWER_MS=4000)
    request = checked_trigger(trigger_fields(whole), 33)
    assert request == TriggerRequest("A", 5000, 1, 2, 3, 4, 4000)
    assert set(KEYS) == set(TRIGGER_KEYS)


def test_a_part_without_a_name_has_its_number_for_a_name() -> None:
    assert trigger_fields(asked(DEADLINE_MS=500, N=4711))["part"] == "4711"
    assert trigger_fields(asked(DEADLINE_MS=0)) == {"deadline_ms": 0}


def test_a_name_padded_with_spaces_ends_before_them_and_other_letters_are_seen() -> None:
    assert asked(PART="A17   ").get(Asks.PART) == "A17"
    table = Table.empty()
    table.words[Asks.PART.address] = 0xC441
    assert table.get(Asks.PART) == "\ufffdA"
