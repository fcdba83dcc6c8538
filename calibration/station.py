"""What looks at parts while a station is calibrated: everything on site is written over it.

`CalibrationStation` is the protocol. `LocalStation` is this machine's own camera and engine, where
no `edge run` holds them; where one does, `calibration.remote.RemoteStation` is its client.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calibration.remote import RemoteStation, open_remote
from calibration.shown_parts import FRAME_TIMEOUT_S, PartSource, Sight, Viewer, require_fresh
from edge.camera.protocol import opened
from edge.camera.supervised import supervised_camera
from edge.config import EdgeConfig
from edge.decide.gate import Gate, Part
from edge.decide.gate_factory import new_gate
from edge.errors import CalibrationError, ConfigError
from edge.install.proven import ProvenEngine, open_proven_engine
from edge.runtime.active import ActiveBundle, resolve_active
from edge.runtime.pipeline import site_state
from edge.runtime.run import camera_for_images, plan_for
from edge.schema import Precision
from edge.station.store import Installed, Store
from edge.types import Frame

SOURCE_FPS = 120  # of files that are played: as fast as [camera] allows

Tensors = Mapping[str, NDArray[np.float32]]


class CalibrationStation(Protocol):
    """A camera and the engine that judges, for one calibration. Used from one thread."""

    @property
    def serial(self) -> str:
        """Of the camera."""
        ...

    @property
    def engine(self) -> str:
        """The runtime that judges, with its version."""
        ...

    @property
    def precision(self) -> Precision:
        """The precision that judges."""
        ...

    def next_part(self, timeout_s: float) -> Part[Sight]:
        """The next part as production's gate completes it; its frames are cropped, and judged by
        what judges now.

        Raises: EndOfFrames after the last part of a source that is played, FrameOverdue if no part
            was complete in time, CameraError, CalibrationError if frames cannot be judged.
        """
        ...

    def score(
        self, windows: Sequence[Frame], tensors: Tensors, outputs: Collection[str] | None = None
    ) -> list[dict[str, NDArray[Any]]]:
        """The raw graph outputs for cropped frames, under this station's geometry and the proposed
        site inputs: those that are not named have their defaults, whatever judges now.

        outputs: those that are wanted, as far as the graph has them; None: all. `map` and
            `features` are large.
        Raises: EngineError.
        """
        ...

    def frames(self, count: int) -> list[Frame]:
        """The next frames of the whole stream, for the plane. Raises: CameraError."""
        ...

    def close(self) -> None:
        """Give camera and engine back; may be called twice."""
        ...


def open_station(
    store: Store,
    installed: Installed,
    config: EdgeConfig,
    source: Path | None = None,
    what: str = "parts",
    who: str | None = None,
) -> CalibrationStation:
    """What looks at parts of this product; the caller closes it. Where `edge run` is at work, its
    camera and its engine look, and it judges no part meanwhile.

    Args:
        source: a folder of images, each of which shows one part, or a recording, in place of the
            camera. what, who: is calibrated and for whom, for the state of a running station; by
            default for the account of this process.
    Raises: CalibrationError without a plane for this camera, or if `edge run` judges another
        bundle; ConfigError if nothing tells its parts apart; BusyError if a part, or another
        calibration, is open there; CameraError, EngineError, ParityError, BundleError,
        ControlError.
    """
    remote = open_remote(store.root, what, who) if source is None else None
    if remote is None:
        return LocalStation(store, installed, config, source)
    try:
        _require_of(remote, installed)
    except BaseException:
        remote.close()
        raise
    return remote


def _require_of(remote: RemoteStation, installed: Installed) -> None:
    """Raises: CalibrationError if it has no plane, cannot judge, or judges another bundle."""
    if (remote.product, remote.bundle) != (installed.product, installed.slot):
        raise CalibrationError(
            f"`edge run` judges {remote.product} {remote.bundle}, not {installed.product}"
            f" {installed.slot}: select it with `edge bundle select {installed.product}`"
        )
    if remote.problem:
        raise CalibrationError(remote.problem)
    if not remote.is_calibrated:
        raise CalibrationError(_no_plane(installed, remote.serial))


def _no_plane(installed: Installed, serial: str) -> str:
    return (
        f"no background plane for {installed.product} and camera {serial}: run `edge calibrate"
        " plane` on the empty table first"
    )


class LocalStation:
    """This process's own camera and engine. See CalibrationStation."""

    def __init__(
        self, store: Store, installed: Installed, config: EdgeConfig, source: Path | None = None
    ) -> None:
        """As `open_station`."""
        if source is not None:
            played = camera_for_images(store, installed, config.camera, source)
            config = config.model_copy(
                update={"camera": played.model_copy(update={"fps": SOURCE_FPS})}
            )
        each_frame = plan_for(config, installed, store.root, None).each_frame
        each_frame = each_frame or (source is not None and source.is_dir())
        if not installed.manifest.presence and not each_frame:
            raise ConfigError(
                f"product {installed.product} was trained on color alone and cannot see a part"
                " arrive: show images with --source FOLDER"
            )
        self._open = ExitStack()
        try:
            self._start(store, installed, config, each_frame)
        except BaseException:
            self._open.close()
            raise

    def _start(
        self, store: Store, installed: Installed, config: EdgeConfig, each_frame: bool
    ) -> None:
        contract = installed.manifest.camera
        camera = supervised_camera(config.camera, store.root, contract)
        self._camera = self._open.enter_context(opened(camera))
        self._active = _resolved(store, installed, config)
        self._open.callback(self._active.engine.close)
        self._geometry = store.geometry(installed.product, self.serial)
        site = self._active.site(self.serial)
        if not site.is_calibrated:
            raise CalibrationError(_no_plane(installed, self.serial))
        rule = self._active.rule
        viewer = Viewer(self._active.engine, rule, site, contract)
        gate: Gate[Sight] = new_gate(rule, config.decision, each_frame, starts_unsure=False)
        self._parts = PartSource(self._camera, viewer, gate)

    @property
    def serial(self) -> str:
        """Of the camera."""
        return self._camera.serial

    @property
    def engine(self) -> str:
        """The runtime that judges, with its version."""
        return self._active.engine.name

    @property
    def precision(self) -> Precision:
        """The precision that judges."""
        return self._active.engine.precision

    def next_part(self, timeout_s: float) -> Part[Sight]:
        """The next part; see CalibrationStation."""
        return self._parts.next_part(timeout_s)

    def score(
        self, windows: Sequence[Frame], tensors: Tensors, outputs: Collection[str] | None = None
    ) -> list[dict[str, NDArray[Any]]]:
        """The raw graph outputs under the proposed site inputs; see CalibrationStation."""
        engine = self._active.engine
        site = site_state(self._active.manifest, self._geometry, tensors)
        answers = []
        for window in windows:
            feeds: dict[str, NDArray[Any]] = {**window.tensors(), **site.tensors}
            answer = engine.run({name: feeds[name] for name in engine.inputs})
            answers.append({k: v for k, v in answer.items() if outputs is None or k in outputs})
        return answers

    def frames(self, count: int) -> list[Frame]:
        """The next frames of the whole stream; see CalibrationStation."""
        found: list[Frame] = []
        while len(found) < count:
            frame = self._camera.next_frame(FRAME_TIMEOUT_S)
            require_fresh(found[-1] if found else None, frame, self._active.manifest.camera)
            found.append(frame)
        return found

    def close(self) -> None:
        """Give camera and engine back."""
        self._open.close()


def _resolved(store: Store, installed: Installed, config: EdgeConfig) -> ActiveBundle:
    """This bundle as production judges with it."""

    def load_engine(bundle: Installed) -> ProvenEngine:
        with store.inside():
            runtime = config.runtime
            return open_proven_engine(store, bundle, runtime.threads, runtime.precision)

    return resolve_active(store, load_engine, installed)
