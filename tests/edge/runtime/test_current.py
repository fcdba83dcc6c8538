"""What judges and what waits, as every thread sees it; and the count of steps."""

from __future__ import annotations

from edge.runtime.current import CurrentBundle
from edge.runtime.progress import Progress
from tests.support.active import make_active


def test_what_waits_judges_once_it_is_taken() -> None:
    first, second = make_active("1"), make_active("2")
    current = CurrentBundle(first)
    assert (current.get(), current.latest, current.is_waited_for) == (first, first, False)
    assert current.offer(second) is None
    assert (current.get(), current.latest, current.is_waited_for) == (first, second, True)
    assert current.take() is first
    assert (current.get(), current.latest, current.is_waited_for) == (second, second, False)


def test_taking_nothing_changes_nothing() -> None:
    first = make_active()
    current = CurrentBundle(first)
    assert (current.take(), current.get()) == (first, first)


def test_only_an_engine_that_nobody_needs_is_handed_back() -> None:
    first, second, third = make_active("1"), make_active("2"), make_active("3")
    current = CurrentBundle(first)
    current.offer(second)
    assert current.offer(third) is second.engine
    same_engine = make_active("3", engine=third.engine)
    assert current.offer(same_engine) is None, "the one that waits now needs it"
    of_the_first = make_active("1", engine=first.engine)
    assert current.offer(of_the_first) is third.engine
    assert current.offer(make_active("4")) is None, "the one that judges needs it"


def test_steps_are_read_with_their_time() -> None:
    progress = Progress()
    before = progress.steps
    progress.step()
    assert before.count == 0
    assert progress.steps.count == 1
    assert progress.steps.last_s >= before.last_s
