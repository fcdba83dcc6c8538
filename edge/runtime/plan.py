"""What one call of `edge run` is to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RunPlan:
    """How long to run, and how frames become parts.

    max_parts: end after this many parts; None: run until stopped or until the source has ended.
    each_frame: every image is a part (data sets of stills, graphs without presence).
    lossless: no frame is dropped for a newer one (files).
    waits_for_line: wait for the broker before the first frame, so that the first verdict of a
    finite play is not lost.
    """

    max_parts: int | None = None
    each_frame: bool = False
    lossless: bool = False
    waits_for_line: bool = False
