"""Which gate tells the parts of a station apart."""

from __future__ import annotations

from typing import TypeVar

from edge.decide.gate import Gate
from edge.decide.presence import PresenceGate
from edge.decide.stills import EachFrame
from edge.decide.verdict import DecisionRule
from edge.sections import DecisionConfig

T = TypeVar("T")


def new_gate(
    rule: DecisionRule, config: DecisionConfig, each_frame: bool, starts_unsure: bool
) -> Gate[T]:
    """The gate of a station that judges by `rule`; when another rule judges, ask it for `under`.

    Args:
        each_frame: every image is a part. starts_unsure: what is in view first may have been
            decided before the station was started.
    """
    if each_frame:
        return EachFrame()
    return PresenceGate(
        rule.min_area,
        rule.max_area,
        rule.max_border,
        config.min_frames,
        max_frames=config.max_frames,
        starts_unsure=starts_unsure,
    )
