"""The camera and the line dialect that CONTRIBUTING.md adds work as printed, with the one
registration that it names.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import pytest

from edge.camera import factory as cameras
from edge.camera.factory import make_camera
from edge.camera.protocol import opened
from edge.config import EdgeConfig
from edge.line import factory as dialects
from edge.line.base import Line, LineSetup
from edge.line.factory import make_line
from edge.line.message import StationState
from edge.line.outbox import Outbox
from edge.sections import PLAYED, BrokerConfig, CameraConfig
from tests.support.examples import example_module


def test_a_camera_is_one_file_and_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    module = example_module("camera", "edge.camera.pattern", monkeypatch)
    openers = {**cameras.OPENERS, "pattern": module.open_pattern}
    monkeypatch.setattr(cameras, "OPENERS", openers)
    config = CameraConfig(fps=100).model_copy(update={"kind": "pattern"})
    with opened(make_camera(config, Path())) as camera:
        frames = [camera.next_frame(1.0) for _ in range(3)]
    assert config.is_live
    assert [frame.frame_number for frame in frames] == [1, 2, 3]
    assert frames[0].captured_mono_ns < frames[2].captured_mono_ns <= time.monotonic_ns()
    assert frames[0].color.shape == (camera.info.height, camera.info.width, 3)


def test_every_kind_that_station_toml_may_name_has_an_opener() -> None:
    kinds = get_args(CameraConfig.model_fields["kind"].annotation)
    assert set(kinds) == set(cameras.OPENERS)
    assert set(PLAYED) < set(kinds)


def test_a_dialect_is_one_file_and_one_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = example_module("line", "edge.line.to_file", monkeypatch)
    monkeypatch.setattr(dialects, "DIALECTS", {"file": module.make_file_line})
    monkeypatch.setattr(dialects, "dialects_of", lambda _: ("file",))
    config = EdgeConfig(broker=BrokerConfig(enabled=False))
    state = StationState("cell7", "online", "", ready=True)
    outbox = Outbox(tmp_path / "line.sqlite")
    try:
        setup = LineSetup(config, tmp_path, outbox, lambda: state, lambda: True, lambda: None)
        line = make_line(setup)
        assert isinstance(line, Line)
        line.start()
        assert line.publish_verdict({"code": 2, "seq": 4711, "part": "A17"}, time.monotonic_ns())
        line.stop()
    finally:
        outbox.close()
    assert (tmp_path / "verdicts.txt").read_bytes() == b"2 4711 A17\n"
    assert line.counters.verdicts_sent == 1
