"""What a commissioning report is made of, read once from a station's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge.install.engine_entry import EngineEntry
from edge.install.summary import find_judge
from edge.station.commissioning import Commissioning, read_commissioning
from edge.station.site import CameraGeometry, ModelState
from edge.station.store import Installed, Store


@dataclass(frozen=True)
class Known:
    """One product of a station. judge: the engine that judges; None where none does yet, and `why`.

    cameras: by serial. shown: the last calibration with normal parts; None before any.
    """

    store: Store
    bundle: Installed
    judge: EngineEntry | None
    why: str
    state: ModelState | None
    cameras: Mapping[str, CameraGeometry]
    shown: Commissioning | None

    @property
    def threshold(self) -> float | None:
        """A score above it is NG; None where no engine judges yet."""
        if self.state is not None and self.state.threshold is not None:
            return self.state.threshold
        section = None if self.judge is None else self.judge.section
        return None if section is None else section.threshold.value

    @property
    def is_shown_to_judge(self) -> bool:
        """Whether the parts that were shown are those behind the threshold that judges now."""
        shown = self.shown
        return shown is not None and shown.is_of(self.state) and shown.threshold == self.threshold


def read_known(store: Store, product: str) -> Known:
    """Raises: BundleError if the product is not installed, ConfigError if a file is damaged."""
    bundle = store.installed(product)
    judge, why = find_judge(store, bundle)
    state = None if judge is None else store.model_state(bundle, judge.precision, judge.runtime)
    cameras = store.geometry_records(product)
    return Known(store, bundle, judge, why, state, cameras, read_commissioning(store, product))
