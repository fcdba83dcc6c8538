"""One bundle of a station, unpacked in its slot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.bundle.manifest import Manifest
from edge.schema import Precision


@dataclass(frozen=True)
class Installed:
    """One bundle that lies in a slot. folder: its files, which are only read."""

    product: str
    folder: Path
    manifest: Manifest
    digest: str  # SHA-256 of manifest.json

    @property
    def slot(self) -> str:
        """VERSION-DIGEST12."""
        return self.folder.name

    @property
    def golden(self) -> Path:
        """The folder of reference frames."""
        return self.folder / "golden"

    @property
    def normal(self) -> Path:
        """The folder of normal frames, which a threshold is measured on."""
        return self.folder / "normal"

    @property
    def certificate(self) -> Path:
        """The parity certificate."""
        return self.folder / "parity.json"

    def model(self, precision: Precision) -> Path:
        """The ONNX file of one precision."""
        return self.folder / "model" / f"{precision}.onnx"
