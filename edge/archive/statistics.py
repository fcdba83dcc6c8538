"""How many normal parts a station rejected in production, by what people said of its parts.

A false reject is a part that was judged NG and labelled good; a miss one that was judged OK and
labelled bad. A part judged OK counts as good unless somebody said that it was bad: so the rate is
right if somebody looks at every NG part, and at a sample of the OK parts that was drawn without
regard to their scores.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from edge.archive.filters import RecordFilter
from edge.archive.query import count_records, iterate_records
from edge.proof.threshold import CONFIDENCE, rate_bound
from edge.types import Code


@dataclass(frozen=True)
class FalseRejects:
    """What was judged, and what was said of it.

    ok, ng, unknown: parts judged so. false_rejects, confirmed, unlabelled: of the NG parts, those
    labelled good, labelled bad, and without a label. misses: OK parts labelled bad. checked: OK
    parts labelled good. unknown_good: UNKNOWN parts labelled good, which are in no rate.
    """

    ok: int = 0
    ng: int = 0
    unknown: int = 0
    false_rejects: int = 0
    confirmed: int = 0
    misses: int = 0
    checked: int = 0
    unknown_good: int = 0

    @property
    def unlabelled(self) -> int:
        """NG parts of which nobody has said anything."""
        return self.ng - self.false_rejects - self.confirmed

    @property
    def good(self) -> int:
        """Parts that count as good: OK and not labelled bad, or NG and labelled good."""
        return self.ok - self.misses + self.false_rejects

    @property
    def rate(self) -> float | None:
        """The share of good parts that was rejected; None without a good part."""
        return self.false_rejects / self.good if self.good else None

    @property
    def bound(self) -> float:
        """What the rate does not exceed, with 95 % confidence."""
        return upper_bound(self.false_rejects, self.good)

    @property
    def worst_bound(self) -> float:
        """The same if every NG part without a label was good."""
        return upper_bound(self.false_rejects + self.unlabelled, self.good + self.unlabelled)

    def sentences(self) -> list[str]:
        """Rate and bound, what is still open, and the misses."""
        if self.rate is None:
            said = ["no part was judged OK or labelled good: there is no rate of false rejects yet"]
        else:
            said = [
                f"{_counted(self.false_rejects, 'false reject')} in"
                f" {_counted(self.good, 'good part')}: {self.rate:.2%}, with {CONFIDENCE:.0%}"
                f" confidence at most {self.bound:.2%}"
            ]
        if self.unlabelled:
            said.append(
                f"{_counted(self.unlabelled, 'NG part')} without a label: if all were good, at"
                f" most {self.worst_bound:.2%}"
            )
        misses = _counted(self.misses, "miss", "misses")
        said.append(f"{misses}: judged OK, labelled bad ({self.checked} labelled good)")
        if self.unknown_good:
            said.append(f"{_counted(self.unknown_good, 'good part')} UNKNOWN, which no rate counts")
        return said


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def upper_bound(rejected: int, parts: int) -> float:
    """The rate of rejected parts that is not exceeded, with 95 % confidence (Clopper and Pearson,
    1934, one-sided): the quantile of Beta(rejected + 1, parts - rejected), for none of n parts
    1 - 0.05^(1/n). 1 without a part, or where all were rejected.
    """
    return 1.0 if rejected >= parts else rate_bound(parts, rejected + 1)


def false_rejects(root: Path, asked: RecordFilter) -> FalseRejects:
    """Count what was judged and said of the parts that match; `limit`, `codes` and `labels` are not
    looked at.

    Raises: StorageError.
    """
    every = replace(asked, limit=None, codes=(), labels=())
    judged = Counter(count_records(root, every).by_code)
    labelled = replace(every, labels=("good", "bad"))
    said = Counter(
        (row.code, row.label.said)
        for row in iterate_records(root, labelled)
        if row.label is not None
    )
    return FalseRejects(
        ok=judged[Code.OK],
        ng=judged[Code.NG],
        unknown=judged[Code.UNKNOWN],
        false_rejects=said[Code.NG, "good"],
        confirmed=said[Code.NG, "bad"],
        misses=said[Code.OK, "bad"],
        checked=said[Code.OK, "good"],
        unknown_good=said[Code.UNKNOWN, "good"],
    )
