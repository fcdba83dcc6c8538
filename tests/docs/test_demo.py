"""What `make demo` does to a file of the station holds for the file that `edge install` writes."""

from __future__ import annotations

from pathlib import Path

from edge.config import EdgeConfig, read_config, write_first_config
from edge.sections import CameraConfig
from scripts.demo import FPS, wire_station


def test_broker_and_camera_are_set_and_nothing_else(tmp_path: Path) -> None:
    write_first_config(tmp_path, CameraConfig())
    wire_station(tmp_path, 4711)
    plain = EdgeConfig()
    broker = plain.broker.model_copy(update={"port": 4711})
    camera = plain.camera.model_copy(update={"fps": FPS})
    assert read_config(tmp_path) == plain.model_copy(update={"broker": broker, "camera": camera})
