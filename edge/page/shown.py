"""Numbers and times as pages show them, in the reader's language and the station's time zone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

DASH = "–"
DIGITS = 5  # of a score
TO_GERMAN = str.maketrans(",.", ".,")


@dataclass(frozen=True)
class Shown:
    """language: of the reader, "en" or "de"."""

    language: str

    def score(self, value: float | None) -> str:
        """A score or threshold, raw units."""
        return DASH if value is None else self._written(f"{value:.{DIGITS}g}")

    def percent(self, share: float | None, digits: int = 1) -> str:
        """A share of 1."""
        return DASH if share is None else self._written(f"{100 * share:.{digits}f}") + " %"

    def moment(self, text: str) -> str:
        """A time of a record (UTC, ISO 8601) as date and time of this station; the text itself
        where it is no time.
        """
        try:
            moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
            local = moment.astimezone()
        except (ValueError, OverflowError, OSError):
            return text or DASH
        return self.day(local, seconds=True)

    def day(self, moment: datetime, seconds: bool = False) -> str:
        """A time of this station, to the minute or the second."""
        form = "%d.%m.%Y %H:%M" if self.language == "de" else "%Y-%m-%d %H:%M"
        return moment.astimezone().strftime(form + (":%S" if seconds else ""))

    def field(self, moment: datetime | None) -> str:
        """As a form's field for a date and time has it, in this station's time zone."""
        return "" if moment is None else moment.astimezone().strftime("%Y-%m-%dT%H:%M")

    def short(self, value: object, limit: int = 160) -> str:
        """A value of a record or an audit row, cut where it is long."""
        text = DASH if value is None else str(value)
        return text if len(text) <= limit else f"{text[:limit]}… ({len(text)})"

    def _written(self, text: str) -> str:
        return text.translate(TO_GERMAN) if self.language == "de" else text


def away_from(score: float | None, threshold: float | None) -> float | None:
    """How far a score lies above its threshold, as a share of the threshold; below 0 below it; None
    where that says nothing.
    """
    if score is None or threshold is None or threshold <= 0:
        return None
    return score / threshold - 1
