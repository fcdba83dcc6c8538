"""What one engine of this machine gave on a bundle's frames: the row of a proof."""

from __future__ import annotations

from edge.proof.certificate import BoardSection
from edge.schema import Precision, Strict


class EngineEntry(Strict):
    """One engine of this machine. section: what it gave on the bundle's frames; None where it gave
    nothing.

    runtime: its name and version; without the version where it could not be opened. reason: why it
    gave nothing.
    """

    precision: Precision
    runtime: str
    section: BoardSection | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """Runtime, version and precision, as tables and records call it."""
        return f"{self.runtime} {self.precision}"

    @property
    def is_proven(self) -> bool:
        """Whether it may judge."""
        return self.section is not None and self.section.passed

    @property
    def why_not(self) -> str:
        """Why it may not judge; empty where it may."""
        return self.reason if self.section is None else "; ".join(self.section.reasons)
