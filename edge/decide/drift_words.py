"""The warning about drift in words: for the state, `edge status` and the journal."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from edge.decide.drift import Change

TOLD_LIMIT = 300  # characters
WORDS: Mapping[str, str] = MappingProxyType(
    {"depth_noise": "depth noise", "rejects": "share of NG"}
)


def sentence_of(changes: Mapping[str, Change]) -> str | None:
    """Which numbers drift since when, ASCII, at most TOLD_LIMIT characters; None if none does.

    The first to be seen comes first.
    """
    if not changes:
        return None
    told, left = "", len(changes)
    for change in sorted(changes.values(), key=lambda one: one.seen.part):
        longer = f"{told}; {_clause_of(change)}" if told else _clause_of(change)
        if len(longer) > TOLD_LIMIT - len("; and 9 more"):
            break
        told, left = longer, left - 1
    return f"{told}; and {left} more" if left else told


def _clause_of(change: Change) -> str:
    was = "" if change.before is None else f", before {change.before:.3g}"
    together = f"; {', '.join(change.with_)} by then" if change.with_ else ""
    return (
        f"{WORDS.get(change.number, change.number)} {change.says} since about seq"
        f" {change.since.seq}, {change.since.at[:16]}Z (mean {change.after:.3g}{was}{together})"
    )
