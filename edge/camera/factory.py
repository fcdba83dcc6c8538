"""The camera that [camera] of station.toml names: the registry of cameras.

A new camera is one file beside edge/camera/replay.py, with a class that offers
edge.camera.protocol.Camera, one entry in OPENERS, and its name among the kinds of
edge.sections.CameraConfig. CONTRIBUTING.md has an example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edge.camera.contract import CameraContract, reading_of
from edge.camera.protocol import Camera
from edge.errors import ConfigError
from edge.frames.reading import Reading
from edge.sections import CameraConfig


@dataclass(frozen=True)
class CameraRequest:
    """What a camera is made from.

    config: the [camera] section. root: relative paths in it start here. contract: settings of the
    camera when it opens; None keeps its own. empty: play the empty table instead of the belt. loop:
    play files again from the start, forever.
    """

    config: CameraConfig
    root: Path
    contract: CameraContract | None = None
    empty: bool = False
    loop: bool = False


def _realsense(request: CameraRequest) -> Camera:
    from edge.camera.realsense import RealSenseCamera

    config = request.config
    return RealSenseCamera(config.serial, request.contract, fps=config.fps)


def _recording(request: CameraRequest) -> Camera:
    from edge.camera.replay import RecordingCamera

    config, path = request.config, _path_of(request)
    return RecordingCamera(path, fps=config.fps, loop=request.loop, serial=config.serial or None)


def _folder(request: CameraRequest) -> Camera:
    from edge.camera.replay import FolderCamera

    path, reading = _path_of(request), reading_of(request.contract)
    serial = _serial_of(request, reading)
    return FolderCamera(
        path, fps=request.config.fps, loop=request.loop, serial=serial, reading=reading
    )


def _virtual(request: CameraRequest) -> Camera:
    from edge.camera.virtual import VirtualCamera

    path, serial = _path_of(request), _serial_of(request, reading_of(request.contract))
    return VirtualCamera(path, fps=request.config.fps, loop=request.loop, serial=serial)


OPENERS: Mapping[str, Callable[[CameraRequest], Camera]] = MappingProxyType(
    {"realsense": _realsense, "virtual": _virtual, "folder": _folder, "recording": _recording}
)


def make_camera(
    config: CameraConfig,
    root: Path,
    contract: CameraContract | None = None,
    *,
    empty: bool = False,
    loop: bool = False,
) -> Camera:
    """The camera that station.toml names, not yet open, in this process.

    The station and its commands use edge.camera.supervised, which runs this in a process of its
    own. Belt and empty table, two views of one camera, have the same serial.

    Args: as CameraRequest takes them.
    Raises: ConfigError if the section does not say what to play.
    """
    return OPENERS[config.kind](CameraRequest(config, root, contract, empty, loop))


def _path_of(request: CameraRequest) -> Path:
    return path_to_play(request.config, request.root, request.empty)


def path_to_play(config: CameraConfig, root: Path, empty: bool = False) -> Path:
    """The files that a camera plays, unless it is live.

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


def _serial_of(request: CameraRequest, reading: Reading) -> str | None:
    """The serial of belt and empty table, which are two views of one camera: that of the belt, if
    there is one. None: the serial in the files.
    """
    from edge.frames.dataset import open_images

    config = request.config
    if config.serial:
        return config.serial
    path = request.root / config.path
    return open_images(path, reading).camera.serial if config.path and path.is_dir() else None
