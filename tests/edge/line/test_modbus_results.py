"""Which verdict is shown, and until when. Times are plain numbers here."""

from __future__ import annotations

from edge.line.modbus_results import ROOM, ResultCounts, Results, Shown
from tests.support.modbus import verdict


def shown(seq: int, deadline: int = 100) -> Shown:
    return Shown(verdict(seq), deadline, 0)


def seq_of(one: Shown | None) -> int | None:
    return None if one is None else one.fields["seq"]


def filled(count: int, one_by_one: bool = True) -> Results:
    results = Results(1)
    for seq in range(1, count + 1):
        results.add(shown(seq), one_by_one, 0)
    return results


def test_the_newest_is_shown_with_a_number_of_its_own() -> None:
    results = filled(2, one_by_one=False)
    assert (seq_of(results.current), results.number) == (2, 2)


def test_numbers_go_round_without_zero() -> None:
    results = Results(65535)
    numbers = []
    for seq in (1, 2):
        results.add(shown(seq), False, 0)
        numbers.append(results.number)
    assert numbers == [65535, 1]


def test_it_is_over_at_its_deadline_or_its_acknowledgment() -> None:
    results = filled(1)
    results.expire(99)
    assert results.current is not None
    results.expire(100)
    assert results.current is None
    results = filled(1)
    results.acknowledge(2)
    results.acknowledge(0)
    assert results.current is not None
    results.acknowledge(1)
    assert results.current is None
    results.acknowledge(1)
    assert results.counts == ResultCounts(read=1)


def test_one_by_one_the_next_waits_for_the_acknowledgment() -> None:
    results = filled(3)
    assert results.next(0) is None
    seen = []
    while results.current is not None:
        seen.append((seq_of(results.current), results.number))
        results.acknowledge(results.number)
        results.next(0)
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert results.is_drained


def test_one_that_waited_beyond_its_deadline_is_not_shown() -> None:
    results = filled(1)
    results.add(shown(2, deadline=50), True, 0)
    results.add(shown(3), True, 0)
    results.acknowledge(1)
    assert seq_of(results.next(60)) == 3
    assert results.counts == ResultCounts(read=1, unread=1, overrun=1)


def test_too_many_cost_the_oldest_that_waits() -> None:
    results = filled(ROOM + 2)
    assert results.counts.overrun == 1
    results.acknowledge(1)
    assert seq_of(results.next(0)) == 3


def test_the_answer_to_a_repeat_does_not_wait_twice() -> None:
    results = filled(2)
    assert results.add(shown(2), True, 0) is None
    results.acknowledge(1)
    results.next(0)
    results.acknowledge(2)
    assert results.next(0) is None
    results = filled(1, one_by_one=False)
    results.add(shown(1), False, 0)
    assert (results.number, results.counts) == (2, ResultCounts())


def test_what_nobody_has_read_is_counted_and_lost_only_for_a_plc_that_acknowledges() -> None:
    results = filled(2, one_by_one=False)
    assert results.counts == ResultCounts(unread=1)
    results.note_read()
    results.note_read()
    results.add(shown(3), False, 0)
    assert results.counts == ResultCounts(read=1, unread=1)
    results.acknowledge(results.number)
    results.add(shown(4), False, 0)
    results.add(shown(5), False, 0)
    assert results.counts == ResultCounts(read=2, unread=2, overrun=1)


def test_without_one_by_one_what_waits_is_over() -> None:
    results = filled(3)
    results.add(shown(4), False, 0)
    assert seq_of(results.current) == 4
    results.acknowledge(results.number)
    assert results.next(0) is None
    assert results.counts.overrun == 3


def test_a_verdict_from_before_one_by_one_keeps_nothing_waiting() -> None:
    results = filled(1, one_by_one=False)
    results.note_read()
    assert seq_of(results.add(shown(2), True, 0)) == 2
    assert results.add(shown(3), True, 0) is None
    assert results.counts == ResultCounts(read=1)
