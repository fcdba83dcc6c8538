"""What a threshold from a few parts promises, in sentences that are read once: for the terminal,
the model state, the records and the commissioning report.
"""

from __future__ import annotations

from calibration.site_threshold import SiteThreshold
from calibration.statistics import detection_rate, false_rejects_among, parts_to_prove, proven_rate
from edge.proof.threshold import CONFIDENCE, expected_rate, ordinal, percent_of

NEXT_PARTS = 1000
RATES_TO_PROVE = (0.05, 0.01, 0.001)


def guarantee_of(own: SiteThreshold, is_proven: bool, trainer_parts: int, left_out: int = 0) -> str:
    """Both sentences: what the parts alone say, and what the trainer's scores let expect.

    is_proven: the parts fitted nothing. trainer_parts: behind the expected rate. left_out: parts
    that were shown and declared not to be normal.
    """
    return (
        f"{_said_by_parts(own, is_proven, left_out)}. Estimated with the scores of"
        f" {trainer_parts} parts in training, moved and scaled to these: {percent(own.expected)}"
    )


def _said_by_parts(own: SiteThreshold, is_proven: bool, left_out: int) -> str:
    bound = percent(proven_rate(own.parts, own.rank))
    average = percent(expected_rate(own.parts, own.rank))
    how = f"With {CONFIDENCE:.0%} confidence" if is_proven else "Measured, not proven:"
    fitted = "which fitted nothing" if is_proven else "each scored without itself"
    sentence = (
        f"{how} at most {bound} of normal parts are rejected, {average} on average"
        f" ({_place(own)} shown on site, {fitted})"
    )
    if left_out:
        rate = percent((own.rank + left_out) / (own.parts + left_out + 1))
        sentence += f"; {rate} on average if the {left_out} left out were normal"
    return sentence


def _place(own: SiteThreshold) -> str:
    counted = "1 normal part" if own.parts == 1 else f"{own.parts} normal parts"
    highest = "highest" if own.rank == 1 else f"{ordinal(own.rank)} highest"
    return f"{highest} of {counted}" if own.is_rank else f"above the {highest} of {counted}"


def next_parts_sentence(own: SiteThreshold) -> str:
    """How many of the next normal parts will be rejected."""
    among = false_rejects_among(NEXT_PARTS, own.parts, own.rank)
    most = "" if own.is_rank else "at most "
    return (
        f"In the next {NEXT_PARTS:,} normal parts {most}about {among.expected:.0f} false rejects by"
        f" these {own.parts} alone (90%: {among.upper}), about {NEXT_PARTS * own.expected:.0f} by"
        " the estimate"
    )


def lower_sentence() -> str:
    """For scores that are lower, or more alike, than in training."""
    return (
        "these parts score lower, or more alike, than normal parts in training: the threshold is"
        " drawn towards the training and may lie too high. Show more parts, and see by `edge"
        " calibrate challenge` whether defects are caught"
    )


def to_prove_sentence() -> str:
    """How many normal parts prove which rate, with their highest score as the threshold."""
    numbers = [f"{parts_to_prove(rate):,} prove {percent_of(rate)}" for rate in RATES_TO_PROVE]
    return f"Normal parts that fit nothing: {', '.join(numbers)}"


def challenge_sentence(caught: int, shown: int) -> str:
    """What known-bad parts prove."""
    of = "1 known-bad part" if shown == 1 else f"{shown} known-bad parts"
    proven = percent(detection_rate(caught, shown))
    return (
        f"{caught} of {of} caught: with {CONFIDENCE:.0%} confidence at least {proven} of parts"
        " that are bad like these are caught"
    )


def percent(rate: float) -> str:
    """A rate with one digit: 9.1%; with two below 0.1 %."""
    return f"{rate:.1%}" if rate >= 0.001 else f"{rate:.2%}"
