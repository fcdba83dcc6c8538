"""The drift watch as the page shows it: from the file that `edge run` keeps beside the site state
of a product, by its own schema and whatever else stands in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.files import is_there, read_bytes
from edge.page.charts import Axis, polyline

FILE = "drift.json"
LIMIT = 8 << 20  # bytes
LEAST_LEVEL = 1.0  # standard deviations: the least that a chart shows up and down


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Mark(_Loose):
    """A part: its number in the records, when it was judged (UTC, ISO 8601)."""

    seq: int
    at: str


class Change(_Loose):
    """An alarm. number: what changed. says: how. since: from about this part on. with_: what else
    changed by the same time.
    """

    number: str
    says: str
    since: Mark
    seen: Mark
    before: float | None = None
    after: float | None = None
    with_: tuple[str, ...] = ()


class _File(_Loose):
    parts: int
    numbers: dict[str, object]
    changes: tuple[Change, ...] = ()
    points: tuple[tuple[int, tuple[float, ...]], ...] = ()


@dataclass(frozen=True)
class DriftView:
    """What is watched.

    parts: since the last calibration. series: the smoothed normal score of each number, oldest
    first, in standard deviations. seqs: the part of each point. problem: why the file cannot be
    read, empty where it can.
    """

    parts: int = 0
    changes: tuple[Change, ...] = ()
    series: dict[str, tuple[float, ...]] = field(default_factory=dict)
    seqs: tuple[int, ...] = ()
    problem: str = ""

    @property
    def axis(self) -> Axis:
        """For every chart alike, so that they can be compared."""
        most = max((abs(v) for values in self.series.values() for v in values), default=0.0)
        most = max(LEAST_LEVEL, 1.1 * most)
        return Axis(-most, most)

    def points(self, name: str) -> str:
        """`points` of the line of one number."""
        return polyline(self.series[name], self.axis)


def read_drift(root: Path) -> DriftView | None:
    """Of the active product; None where nothing is watched yet.

    Raises: BundleError if the file that names the active product is damaged.
    """
    from edge.schema import parse_json
    from edge.station.root import RootFolder

    folder = RootFolder(root)
    product = folder.active_product()
    path = folder.products_folder / (product or "") / FILE
    if product is None or not is_there(path):
        return None
    try:
        saved = _File.model_validate(parse_json(read_bytes(path, limit=LIMIT)))
    except (ValidationError, ValueError) as error:
        return DriftView(problem=f"{path}: {' '.join(str(error).split())[:200]}")
    names = list(saved.numbers)
    if any(len(levels) != len(names) for _, levels in saved.points):
        return DriftView(problem=f"{path}: its points do not fit its numbers")
    series = {
        name: tuple(levels[place] for _, levels in saved.points) for place, name in enumerate(names)
    }
    return DriftView(saved.parts, saved.changes, series, tuple(seq for seq, _ in saved.points))
