"""The station and the child that carries out a guided step, when the child does not do as told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge.control.guide import GuideBegin, GuideOrder, GuideState
from edge.errors import BusyError
from edge.runtime import guide as guide_module
from edge.runtime.guide import Guide
from tests.support.broker import wait_until
from tests.support.patience import HANG_S

HANGS = (sys.executable, "-c", "import time; time.sleep(3600)")
BEGIN = GuideBegin(what="parts", who="anna (page)")


def state_of(guide: Guide) -> GuideState:
    state = guide.told()
    assert state is not None
    return state


def test_a_step_that_hangs_is_ended_once_somebody_has_stopped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guide_module, "COMMAND", HANGS)
    monkeypatch.setattr(guide_module, "STOP_S", 0.2)
    guide = Guide(tmp_path, tmp_path)
    guide.begin(BEGIN)
    try:
        with pytest.raises(BusyError):
            guide.begin(BEGIN)
        guide.tell(GuideOrder(order="stop", who="bert (page)"))
        wait_until(lambda: state_of(guide).is_over, HANG_S, "it holds the station for ever")
        refusal = state_of(guide).refusal
        assert refusal is not None
        assert refusal.why == "failed"
        guide.begin(BEGIN)
    finally:
        guide.stop(HANG_S)
