"""The camera that [camera] of station.toml names."""

from __future__ import annotations

from pathlib import Path

from edge.camera.contract import CameraContract, reading_of
from edge.camera.protocol import Camera
from edge.config import CameraConfig
from edge.errors import ConfigError
from edge.frames.reading import Reading


def make_camera(
    config: CameraConfig,
    root: Path,
    contract: CameraContract | None = None,
    *,
    empty: bool = False,
    loop: bool = False,
) -> Camera:
    """The camera that station.toml names, not yet open, in this process.

    The station and its commands take edge.camera.supervised, which runs the same in a process of
    its own.

    Args:
        config: the [camera] section. root: relative paths in it start here.
        contract: what a RealSense is set to when it opens; None keeps its own settings.
        empty: play the empty table instead of the belt (virtual, folder), under the same serial.
        loop: play files again from the start, for ever.
    Raises: ConfigError if the section does not say what to play.
    """
    from edge.camera.realsense import RealSenseCamera
    from edge.camera.replay import FolderCamera, RecordingCamera
    from edge.camera.virtual import VirtualCamera

    if config.kind == "realsense":
        return RealSenseCamera(config.serial, contract, fps=config.fps)
    path = path_to_play(config, root, empty)
    if config.kind == "recording":
        return RecordingCamera(path, fps=config.fps, loop=loop, serial=config.serial or None)
    reading = reading_of(contract)
    serial = config.serial or _serial_of_belt(config, root, reading)
    if config.kind == "folder":
        return FolderCamera(path, fps=config.fps, loop=loop, serial=serial, reading=reading)
    return VirtualCamera(path, fps=config.fps, loop=loop, serial=serial)


def path_to_play(config: CameraConfig, root: Path, empty: bool = False) -> Path:
    """The files that a camera of another kind than realsense plays.

    Raises: ConfigError where none are named.
    """
    key = "empty" if empty and config.kind != "recording" else "path"
    value = config.empty if key == "empty" else config.path
    if not value:
        raise ConfigError(
            f"station.toml: camera.{key} is empty: a {config.kind} camera plays the images that it"
            " names"
        )
    return root / value


def _serial_of_belt(config: CameraConfig, root: Path, reading: Reading) -> str | None:
    """Belt and empty table are two views of one camera: the belt's serial serves both, where there
    is a belt.
    """
    from edge.frames.dataset import open_dataset

    path = root / config.path
    return open_dataset(path, reading).camera.serial if config.path and path.is_dir() else None
