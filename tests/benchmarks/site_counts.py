"""What the experiment of tests/benchmarks/site.py counts, and the tables made from it. Pure: no
image, no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainer.metrics import image_auroc

Way = Literal["none", "threshold", "adapted", "rows", "retrained"]
WAYS: tuple[Way, ...] = ("none", "threshold", "adapted", "rows", "retrained")
TITLES = {
    "none": "not calibrated",
    "threshold": "threshold",
    "adapted": "shift, scale",
    "rows": "with rows",
    "retrained": "retrained",
}
LEAST_LOSS = 0.005  # of I-AUROC, that retraining wins back: below it nothing was lost
LEAST_RECOVERED, MOST_REJECTED = 0.95, 2.0  # the goal: share of it; times the promised rate
MAIN = 10  # parts of the tables that show one number of them


@dataclass(frozen=True, eq=False)
class Answers:
    """What one way of judging says of the n test parts of a scene.

    scores: (n,) raw. is_ok, defective: (n,) bool, the verdict and the truth; a part that is not
    judged is not OK.
    """

    scores: NDArray[np.float32]
    is_ok: NDArray[np.bool_]
    defective: NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """How one way of judging does, over all draws of the normal parts shown.

    auroc: I-AUROC 0..1, mean. rejected of `good`, missed of `defective`: sums. promised: rate of
    false rejects on average, as the threshold's rank among its parts promises it.
    """

    auroc: float
    rejected: int
    good: int
    missed: int
    defective: int
    promised: float

    @property
    def false_rejects(self) -> float:
        """Share of the good parts that are not OK."""
        return self.rejected / max(1, self.good)

    @property
    def misses(self) -> float:
        """Share of the defective parts that are OK."""
        return self.missed / max(1, self.defective)


@dataclass(frozen=True)
class Row:
    """One way of judging one product in one scene. parts: normal ones shown, 0 where none are."""

    system: str
    product: str
    scene: str
    way: Way
    parts: int
    outcome: Outcome

    def plain(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Row:
        """From a file."""
        return cls(**{**plain, "outcome": Outcome(**plain["outcome"])})


def draws_of(parts: int, count: int, draws: int) -> list[NDArray[np.int64]]:
    """`draws` times `count` different parts; the same for every system and scene."""
    return [
        np.random.default_rng([count, draw]).permutation(parts)[:count] for draw in range(draws)
    ]


def answers_at(
    found: Sequence[tuple[np.float32, bool]], defective: NDArray[np.bool_], threshold: float
) -> Answers:
    """The verdicts at a threshold, compared in float32 as the device does."""
    scores = np.array([score for score, _ in found], np.float32)
    is_judged = np.array([whole for _, whole in found], bool)
    return Answers(scores, is_judged & (scores <= np.float32(threshold)), defective)


def outcome_of(draws: Sequence[Answers], promised: float) -> Outcome:
    """The counts of one way of judging, from one or more draws of the parts shown."""
    return Outcome(
        auroc=fmean(image_auroc(one.defective, one.scores) for one in draws),
        rejected=sum(int((~one.is_ok & ~one.defective).sum()) for one in draws),
        good=sum(int((~one.defective).sum()) for one in draws),
        missed=sum(int((one.is_ok & one.defective).sum()) for one in draws),
        defective=sum(int(one.defective.sum()) for one in draws),
        promised=promised,
    )


def recovered(none: float, calibrated: float, retrained: float) -> float | None:
    """The share of the I-AUROC that a retraining wins back which a calibration wins back too; None
    where there is nothing to win.
    """
    lost = retrained - none
    return (calibrated - none) / lost if lost >= LEAST_LOSS else None


def pooled(rows: Iterable[Row]) -> Outcome | None:
    """Several products or scenes together: sums of counts, means of I-AUROC and promised rate; None
    without a row.
    """
    own = [row.outcome for row in rows]
    if not own:
        return None
    rejected, good, missed, defective = (
        sum(getattr(one, name) for one in own)
        for name in ("rejected", "good", "missed", "defective")
    )
    auroc, promised = fmean(one.auroc for one in own), fmean(one.promised for one in own)
    return Outcome(auroc, rejected, good, missed, defective, promised)


@dataclass(frozen=True)
class Table:
    """All rows that were measured, looked at from one side each."""

    rows: Sequence[Row]

    def ranking(self) -> tuple[list[Any], list[list[Any]]]:
        """Columns and rows: I-AUROC of every system in every scene, and whether the goal is met."""
        columns: list[Any] = [
            "system",
            "scene",
            TITLES["none"],
            f"{TITLES['adapted']}: {MAIN} parts",
            f"{TITLES['rows']}: {MAIN} parts",
            TITLES["retrained"],
            {"title": "recovered", "digits": 0, "suffix": " %"},
            "goal met",
        ]
        return columns, [self._ranking(*case) for case in self._cases()]

    def verdicts(self) -> tuple[list[Any], list[list[Any]]]:
        """Columns and rows: false rejects and misses of every system in every scene."""
        columns: list[Any] = ["system", "scene", "promised"]
        columns += [f"{what}, {TITLES[way]}" for what in ("rejected", "missed") for way in WAYS]
        return columns, [self._verdicts(*case) for case in self._cases()]

    def by_parts(self) -> tuple[list[Any], list[list[Any]]]:
        """Columns and rows: ranking, false rejects and misses by the number of parts, the compared
        scenes together.
        """
        calibrated: tuple[Way, ...] = ("threshold", "adapted", "rows")
        columns: list[Any] = ["system", "parts", "promised", f"I-AUROC, {TITLES['adapted']}"]
        columns += [
            f"{what}, {TITLES[way]}" for what in ("rejected", "missed") for way in calibrated
        ]
        systems = dict.fromkeys(row.system for row in self.rows)
        scenes, rows = self.compared(), []
        for system, parts in ((system, parts) for system in systems for parts in self._counts()):
            own = {way: self._pooled(system, scenes, way, parts) for way in calibrated}
            promised = _percent(own["threshold"], "promised")
            ranked = _percent(own["adapted"], "auroc")
            rows.append([system, parts, promised, ranked, *_shares(own)])
        return columns, rows

    def compared(self) -> list[str]:
        """The scenes in which every system was shown every number of parts: only these may be
        pooled to compare the numbers.
        """
        wanted = {(row.system, parts) for row in self.rows if row.parts for parts in self._counts()}
        shown: dict[str, set[tuple[str, int]]] = {}
        for row in self.rows:
            shown.setdefault(row.scene, set()).add((row.system, row.parts))
        return [scene for scene, found in shown.items() if wanted <= found]

    def _counts(self) -> list[int]:
        return sorted({row.parts for row in self.rows if row.parts})

    def _cases(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys((row.system, row.scene) for row in self.rows))

    def _pooled(self, system: str, scenes: Sequence[str], way: Way, parts: int) -> Outcome | None:
        return pooled(
            row
            for row in self.rows
            if (row.system, row.way, row.parts) == (system, way, parts) and row.scene in scenes
        )

    def _ways(self, system: str, scene: str) -> dict[Way, Outcome | None]:
        return {
            way: self._pooled(system, [scene], way, 0 if way in ("none", "retrained") else MAIN)
            for way in WAYS
        }

    def _ranking(self, system: str, scene: str) -> list[Any]:
        own = self._ways(system, scene)
        best = own["adapted"] or own["threshold"]
        share = None
        if own["none"] is not None and best is not None and own["retrained"] is not None:
            share = recovered(own["none"].auroc, best.auroc, own["retrained"].auroc)
        return [
            system,
            scene,
            _percent(own["none"], "auroc"),
            _percent(own["adapted"], "auroc"),
            _percent(own["rows"], "auroc"),
            _percent(own["retrained"], "auroc"),
            None if share is None else round(100 * share, 2),
            _goal(best, own["retrained"], share),
        ]

    def _verdicts(self, system: str, scene: str) -> list[Any]:
        own = self._ways(system, scene)
        return [system, scene, _percent(own["threshold"], "promised"), *_shares(own)]


def _goal(best: Outcome | None, retrained: Outcome | None, share: float | None) -> str | None:
    """Whether ten parts win back what retraining does, and reject what they promise."""
    if best is None or retrained is None:
        return None
    complaints = []
    if share is not None and share < LEAST_RECOVERED:
        complaints.append("ranking")
    if best.false_rejects > MOST_REJECTED * best.promised:
        complaints.append("false rejects")
    return f"no: {', '.join(complaints)}" if complaints else "yes"


def _shares(own: dict[Way, Outcome | None]) -> list[float | None]:
    return [_percent(one, what) for what in ("false_rejects", "misses") for one in own.values()]


def _percent(outcome: Outcome | None, what: str) -> float | None:
    return None if outcome is None else round(100 * float(getattr(outcome, what)), 2)
