"""The files that a station needs before it can start: station.toml and its systemd units."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edge.camera.contract import CameraContract
from edge.config import PLACE as CONFIG_PLACE
from edge.config import write_first_config
from edge.files import make_folder, write_atomically
from edge.sections import CameraConfig
from edge.station.root import RootFolder
from edge.units import UNITS, has_unit

UNIT_PLACE = UNITS / "edge.service"
# the second and third restart the camera's USB port, at the first one's request; the others are
# for stations with a commissioned power mode, with [opcua], [page] and [update], whose integrator
# enables them
UNIT_NAMES = (
    "edge.service",
    "edge-usb-reset.path",
    "edge-usb-reset.service",
    "edge-power.service",
    "edge-opcua.service",
    "edge-page.service",
    "edge-package-update.path",
    "edge-package-update.service",
    "edge-update.service",
    "edge-update.timer",
)


def write_first_files(station: RootFolder, contract: CameraContract) -> tuple[str, ...]:
    """Write station.toml and the systemd units, where there are none.

    Returns: what the integrator should know about them, in sentences.
    """
    notes, root, camera = [], station.root, first_camera(contract)
    with station.inside(CONFIG_PLACE.parent):
        written = write_first_config(root, camera)
    if written:
        notes.append(
            f"wrote {root / CONFIG_PLACE}: name its broker there, and the station unless --station"
            " does"
        )
        if camera.kind == "virtual" and not (camera.path and camera.empty):
            notes.append(
                "the virtual camera's folders are not on this machine: set camera.path and"
                " camera.empty"
            )
    shipped = resources.files("edge.provision").joinpath("systemd")
    with station.inside(UNITS):
        for name in UNIT_NAMES:
            if not has_unit(root, name):  # the package edge-station brings them too
                make_folder(root / UNITS)
                write_atomically(root / UNITS / name, shipped.joinpath(name).read_bytes())
    return tuple(notes)


def first_camera(contract: CameraContract) -> CameraConfig:
    """The [camera] of a first station.toml: the kind of camera that the product was trained on; a
    virtual one plays the trainer's folders where they are on this machine.
    """
    fps = min(max(contract.fps or 30, 1), 120)
    if contract.model != "virtual":
        return CameraConfig(kind="realsense", fps=fps)
    return CameraConfig(
        kind="virtual", path=_absolute(contract.belt), empty=_absolute(contract.empty), fps=fps
    )


def _absolute(folder: str | None) -> str:
    """An existing folder as an absolute path, else blank."""
    return str(Path(folder).resolve()) if folder and Path(folder).is_dir() else ""
