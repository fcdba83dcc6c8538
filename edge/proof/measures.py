"""What a comparison of two engines is stored as, in certificates and proofs. Without numpy: the
page's process reads these.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from edge.schema import Strict


class MapComparison(Strict):
    """A candidate against float32 on the same frames.

    Map errors are shares of float32's map range.
    """

    frames: int = Field(ge=1)
    finite: bool  # whether every map value and score of the candidate is
    # over the cells that are not 0 in both: the background does not count
    mean_map_error: float = Field(ge=0)
    largest_map_error: float = Field(ge=0)
    rank_correlation: float = Field(ge=-1, le=1)  # Spearman, ties given their mean rank


class Noise(Strict):
    """The line q = slope f + offset, fitted on normal scores, and its residuals.

    rms: root of the summed squared residuals over (n - 2), divided by slope s: the noise in units
        of float32's spread.
    shift: (slope t + offset - t) / s at the threshold t of the reference.
    spread: s of the candidate's own scores; 0 if all its scores are equal.
    """

    frames: int = Field(ge=1)
    slope: float
    offset: float
    rms: float = Field(ge=0)
    shift: float
    spread: float = Field(ge=0)


class Count(Strict):
    """A count among `of` frames."""

    count: int = Field(ge=0)
    of: int = Field(ge=0)

    @model_validator(mode="after")
    def _is_a_share(self) -> Count:
        if self.count > self.of:
            raise ValueError(f"{self.count} of {self.of} frames")
        return self

    def __str__(self) -> str:
        return f"{self.count} of {self.of}"

    def __add__(self, other: Count) -> Count:
        return Count(count=self.count + other.count, of=self.of + other.of)
