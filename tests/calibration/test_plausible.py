"""Whether scores are those of normal parts: how often good parts are refused, what is found."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.plausible import are_lower, find_defective, find_implausible
from calibration.site_threshold import TrainerScores

RNG = np.random.default_rng(0)
TRAINER = TrainerScores.of(RNG.lognormal(0, 0.3, 64))


def sites(count: int, many: int, spread: float = 0.3) -> np.ndarray:
    return np.random.default_rng(1).lognormal(0, spread, (many, count))


@pytest.mark.parametrize("count", [3, 5, 10, 20])
def test_normal_parts_are_hardly_ever_refused(count: int) -> None:
    """Each site against a training of its own: the trainer's scores are a draw too."""
    rng = np.random.default_rng(2)
    refused = defective = 0
    for scores in sites(count, 1000):
        trainer = TrainerScores.of(rng.lognormal(0, 0.3, 64))
        refused += find_implausible(scores, trainer) is not None
        defective += bool(find_defective(scores, trainer))
    assert refused <= 8  # two tests at 0.1 %
    assert defective <= 10


@pytest.mark.parametrize("count", [3, 5, 10, 20])
def test_another_product_is_refused(count: int) -> None:
    found = [find_implausible(3.0 * scores, TRAINER) for scores in sites(count, 200)]
    high = [one for one in found if one is not None and one.too_high]
    assert len(high) >= (199 if count > 3 else 1)
    assert 2.0 < np.median([one.ratio for one in high]) < 4.5


@pytest.mark.parametrize("count", [3, 5, 10])
@pytest.mark.parametrize("parts", [8, 24, 64])
def test_what_lies_far_off_is_refused_also_where_parts_are_few(count: int, parts: int) -> None:
    trainer = TrainerScores.of(TRAINER.scores[:: 64 // parts])
    for scores in sites(count, 50):
        found = find_implausible(10.0 * scores, trainer)
        assert found is not None
        assert found.too_high


def test_scores_that_vary_far_too_much_are_refused() -> None:
    found = [find_implausible(scores, TRAINER) for scores in sites(20, 100, spread=1.2)]
    assert sum(one is not None for one in found) > 95


def test_lower_and_more_similar_scores_are_normal() -> None:
    assert find_implausible(np.full(10, 0.5), TRAINER) is None
    assert find_implausible(np.linspace(0.1, 0.12, 10), TRAINER) is None
    assert find_implausible([0.0, 0.0, 0.0], TRAINER) is None


@pytest.mark.parametrize("count", [3, 5, 10, 20])
def test_scores_below_those_of_the_training_are_told(count: int) -> None:
    rng = np.random.default_rng(3)
    drawn = sites(count, 500)
    fresh = [TrainerScores.of(rng.lognormal(0, 0.3, 64)) for _ in drawn]
    told = [are_lower(scores, trainer) for scores, trainer in zip(drawn, fresh, strict=True)]
    assert sum(told) <= 10
    if count > 3:
        assert all(are_lower(0.3 * scores, TRAINER) for scores in drawn)
    assert are_lower(np.full(count, 1.0), TRAINER)  # all alike


def test_scores_that_were_all_equal_in_training_refuse_only_what_is_higher() -> None:
    same = TrainerScores.of(np.full(64, 1.0))
    assert find_implausible([0.9, 1.0, 1.0, 0.8], same) is None
    found = find_implausible(np.linspace(2.0, 2.3, 10), same)
    assert found is not None
    assert found.too_high


@pytest.mark.parametrize("count", [3, 5, 10])
def test_a_defective_part_is_named(count: int) -> None:
    for scores in sites(count, 50):
        scores[count // 2] = 8.0
        assert find_defective(scores, TRAINER) == [count // 2]


def test_two_of_ten_are_named_the_worse_first_and_do_not_hide_each_other() -> None:
    for scores in sites(10, 50):
        scores[[2, 7]] = 6.0, 9.0
        assert find_defective(scores, TRAINER) == [7, 2]


def test_parts_of_two_kinds_have_no_defective_one() -> None:
    scores = sites(10, 1)[0]
    scores[:5] *= 8
    assert find_defective(scores, TRAINER) == []
    assert find_implausible(scores, TRAINER) is not None
    assert find_defective([9.0], TRAINER) == []
