"""The active bundle made of plain values, without files. For tests of one object of the runtime."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from edge.decide.verdict import DecisionRule
from edge.engine.protocol import outputs_of
from edge.runtime.active import ActiveBundle, Guarantee
from edge.runtime.pipeline import SiteState
from edge.types import Judgment
from tests.support.fakes import ScriptedEngine
from tests.support.station import HEIGHT, INTRINSICS, WIDTH

RULE = DecisionRule(np.float32(20), min_area=0.1, max_area=0.6, min_valid=0.5)
CONTRACT = SimpleNamespace(
    width=WIDTH, height=HEIGHT, unit=None, intrinsics=(INTRINSICS.fx, INTRINSICS.fy, 0.0, 0.0)
)


class Closable(ScriptedEngine):
    """Remembers that it was closed."""

    def __init__(self, label: str = "scripted") -> None:
        super().__init__([{}], name=label)
        self.closed = False

    def close(self) -> None:
        self.closed = True


def make_active(version: str = "1.0.0", engine: Any = None, **changes: Any) -> ActiveBundle:
    """A bundle of that version under a camera with a crop of the whole stream; nothing is read."""
    installed = SimpleNamespace(
        product="washer",
        digest=f"digest of {version}",
        slot=f"{version}-0123456789ab",
        manifest=SimpleNamespace(version=version, camera=CONTRACT, presence=True),
    )
    return FakeActive(
        **{
            "store": None,
            "installed": installed,
            "proven": SimpleNamespace(engine=engine or Closable(version)),
            "rule": RULE,
            "guarantee": Guarantee(RULE.threshold, "bundle", 20, 1, "few are rejected"),
            "model_state": None,
            "fingerprint": (version,),
            **changes,
        }
    )


class FakeActive(ActiveBundle):
    """Its site is the same for every camera."""

    def site(self, serial: str) -> SiteState:
        return SiteState({}, (0, 0, WIDTH, HEIGHT), needs_depth=False)

    def geometry_digest(self, serial: str) -> str | None:
        return "0123456789ab"


def judgment_of(says: dict[str, float]) -> Judgment:
    """The decision of RULE on these outputs of the scripted engine."""
    return RULE.judge(outputs_of(ScriptedEngine([says]).run({})))
