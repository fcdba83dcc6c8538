"""What `edge run` puts together: the station's configuration, its camera or what plays instead, and
the service.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge.camera.contract import reading_of
from edge.camera.factory import path_to_play
from edge.camera.protocol import Camera
from edge.camera.supervised import supervised_camera
from edge.config import EdgeConfig, read_config, require_name
from edge.errors import ConfigError
from edge.frames.camera_info import unnamed_serial
from edge.frames.reading import Reading
from edge.frames.recording import RECORDING_SUFFIXES
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.line.credentials import check_credentials, with_paths_below
from edge.line.factory import require_triggers
from edge.runtime.active import ActiveBundle
from edge.runtime.plan import RunPlan
from edge.runtime.progress import Progress
from edge.runtime.service import Service
from edge.runtime.starting import find_readable
from edge.runtime.status_file import make_place
from edge.runtime.stopping import StopSignals
from edge.sections import CameraConfig
from edge.station.store import Installed, Store

if TYPE_CHECKING:
    from edge.frames.dataset import Dataset

# layouts of which each image shows another part
STILLS = ("mvtec", "mvtec3d", "visa", "btad", "photos", "rgb", "archive")


def run_station(
    root: Path, source: Path | None = None, max_parts: int | None = None, once: bool = False,
    signals: StopSignals | None = None,
) -> int:  # fmt: skip
    """Run the station under `root`; returns how many parts were decided.

    Root works with the rights of the account that var/lib/edge belongs to, so that the service can
    go on with what it leaves there.

    Args:
        source: a folder or .db3 to play instead of the configured camera.
        max_parts: end after this many parts. once: play files once, and end after them.
        signals: that end the run.
    Raises: what Service.run raises; ConfigError if parts cannot be told apart in what the camera
        gives.
    """
    config = read_config(root)
    camera = config.camera if source is None else camera_for_source(config.camera, source)
    config = config.model_copy(update={"camera": camera})
    store = Store(root)
    waits = once or max_parts is not None
    plan = replace(plan_for(config, find_readable(store), root, max_parts), waits_for_line=waits)
    require_name(config, root)
    if config.broker.enabled:
        check_credentials(with_paths_below(config.broker, root))

    progress = Progress()

    def new_camera(active: ActiveBundle) -> Camera:
        contract = active.manifest.camera
        return supervised_camera(
            config.camera,
            root,
            contract,
            loop=not once,
            live=not plan.lossless,
            moved=progress.step,
        )

    def load_engine(installed: Installed) -> ProvenEngine:
        return open_proven_engine(
            store, installed, config.runtime.threads, config.runtime.precision
        )

    make_place(store)
    with store.inside():
        return Service(
            store, config, load_engine, new_camera, plan, progress=progress, signals=signals
        ).run()


def camera_for_source(camera: CameraConfig, source: Path) -> CameraConfig:
    """The [camera] section that plays `source`: through librealsense if the station's camera is
    virtual.

    Raises: ConfigError if there is nothing at that path.
    """
    if not source.exists():
        raise ConfigError(f"--source {source} does not exist")
    images = "virtual" if camera.kind == "virtual" else "folder"
    kind = "recording" if source.suffix.lower() in RECORDING_SUFFIXES else images
    return camera.model_copy(update={"kind": kind, "path": str(source.absolute())})


def camera_for_images(
    store: Store, installed: Installed, camera: CameraConfig, source: Path
) -> CameraConfig:
    """As `camera_for_source`, under the serial of the station's camera where the files name none.

    Raises: also DataError for images of no known layout; ConfigError if geometry.json is damaged.
    """
    played, serial = camera_for_source(camera, source), unnamed_serial(source.stem)
    if played.kind != "recording":
        serial = _images(source, installed).camera.serial or serial
    known = store.known_serial(installed.product, serial)
    if played.serial or known == serial:
        return played
    return played.model_copy(update={"serial": known})


def require_normal_source(source: Path | None, installed: Installed) -> None:
    """Refuse a folder that holds defective parts too: nothing is learned from them.

    Raises: DataError, also for images of no known layout.
    """
    from edge.frames.dataset import require_normal

    if source is not None and source.is_dir():
        require_normal(_images(source, installed))


def _images(source: Path, installed: Installed) -> Dataset:
    from edge.frames.dataset import open_images

    return open_images(source, reading_of(installed.manifest.camera))


def plan_for(config: EdgeConfig, active: Installed, root: Path, max_parts: int | None) -> RunPlan:
    """How parts are told apart.

    By the PLC's triggers, where station.toml says so. Otherwise a camera's frames by presence;
    stills (photos, data sets), and files for a graph without presence, image by image.
    Raises: ConfigError for a live camera in free run and a graph without presence: it needs
        triggers; or for triggers that nobody could send.
    """
    camera, presence = config.camera, active.manifest.presence
    if config.decision.is_triggered:
        require_triggers(config)
        return RunPlan(max_parts)
    if camera.is_live:
        if not presence:
            raise ConfigError(
                f"product {active.product} was trained on color alone and cannot see a part arrive:"
                " it needs triggers. Set mode to triggered in [decision] of station.toml, play a"
                " folder with --source, or train it with depth"
            )
        return RunPlan(max_parts)
    reading, path = reading_of(active.manifest.camera), path_to_play(camera, root)
    each_frame = not presence or (camera.kind != "recording" and _holds_stills(path, reading))
    return RunPlan(max_parts, each_frame, lossless=camera.kind != "virtual" or each_frame)


def _holds_stills(path: Path, reading: Reading) -> bool:
    from edge.frames.dataset import open_images

    return path.exists() and open_images(path, reading).layout in STILLS
