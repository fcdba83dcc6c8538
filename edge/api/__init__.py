"""Judge numpy images with a bundle from Python: what `edge inspect` does, without a station.

with open_bundle("washer-1.0.0.bundle", key="line.pub") as judge:
    judgment = judge(color, depth, plane=judge.training_plane)
    print(judgment.code.name, judgment.score, judgment.threshold)
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest
from edge.camera.contract import CameraContract
from edge.decide.verdict import DecisionRule
from edge.errors import ConfigError
from edge.install.install import install_bundle
from edge.install.proven import ProvenEngine, open_for_inspection, open_proven_engine
from edge.runtime.pipeline import inspect, site_state
from edge.schema import Precision
from edge.station.store import Store
from edge.station.trust import trust
from edge.types import Code, Frame, Geometry, Intrinsics, Judgment, Reason

__all__ = ["Code", "Judge", "Judgment", "Reason", "open_bundle"]

Plane = Sequence[float]
CAMERA = "python"  # serial of the frames that this module makes


def open_bundle(
    path: str | Path, key: str | Path, precision: Precision | None = None, threads: int = 2
) -> Judge:
    """Verify a bundle and prove its engine on this machine, as `edge install` does, to judge with.

    Args:
        path: the .bundle file. key: the .pub file of whoever signed it.
        precision: judge with this one instead of the fastest proven one.
        threads: of one operator of the CPU engine.
    Returns: a Judge; close it, or use it in `with`.
    Raises: BundleError if the bundle is refused, ParityError if no engine decides as the trained
        model did, EngineError, ConfigError.
    """
    folder = tempfile.TemporaryDirectory(prefix="edge-bundle-")
    try:
        store = Store(Path(folder.name))
        trust(store, Path(key))
        install_bundle(Path(path), store.root)
        installed = store.active()
        if precision is None:
            proven = open_proven_engine(store, installed, threads)
        else:
            proven = open_for_inspection(store, installed, precision, threads)
    except BaseException:
        folder.cleanup()
        raise
    return Judge(installed.manifest, proven, folder)


@dataclass(eq=False)
class Judge:
    """A bundle with its proven engine. Call it with an image; one thread at a time."""

    manifest: Manifest
    proven: ProvenEngine
    _folder: tempfile.TemporaryDirectory[str] = field(repr=False)
    _frames: int = 0
    _is_closed: bool = False

    @property
    def threshold(self) -> float:
        """A score above it is NG: measured on the engine's own scores of normal parts."""
        return self.proven.threshold.value

    @property
    def guarantee(self) -> str:
        """What the threshold promises about false rejects, in a sentence."""
        return self.proven.threshold.guarantee

    @property
    def training_plane(self) -> tuple[float, float, float, float] | None:
        """The background plane of the training camera, for images that this camera took."""
        return self.manifest.plane

    def __call__(
        self,
        color: NDArray[np.uint8],
        depth: NDArray[np.uint16] | None = None,
        *,
        plane: Plane | None = None,
        expected: NDArray[np.uint8] | None = None,
        unit: float | None = None,
        intrinsics: Sequence[float] | None = None,
    ) -> Judgment:
        """Judge one image as one part.

        Args:
            color: (H, W, 3) uint8, RGB, of the whole stream that the product was trained on.
            depth: (H, W) uint16 counts aligned to color; None for a color-only bundle.
            plane: (alpha, beta, gamma, delta) of the background in pixels of the crop, in meters;
                a bundle with depth answers UNKNOWN `uncalibrated` without it.
            expected: (h, w) uint8 of the crop, nonzero where every part has material (parts of a
                fixed pose only); default: none is expected anywhere.
            unit: meters per depth count; default: of the training camera.
            intrinsics: fx, fy, cx, cy in pixels of the whole image; default: of the training
                camera.
        Returns: the judgment; UNKNOWN `engine` if the engine fails.
        Raises: ConfigError if an array is of another shape or type, the judge is closed, or the
            bundle does not know unit or intrinsics and they are not given.
        """
        if self._is_closed:
            raise ConfigError("the judge is closed: open the bundle again")
        self._frames += 1
        frame = self._frame(color, depth, unit, intrinsics)
        contract = self.manifest.camera
        known = None if plane is None else _plane_of(plane)
        geometry = Geometry(
            known, contract.crop_x, contract.crop_y, expected=_mask_of(expected, contract)
        )
        site = site_state(self.manifest, geometry)
        rule = DecisionRule(
            np.float32(self.threshold),
            contract.min_area,
            contract.max_area,
            contract.min_valid,
            contract.max_border,
        )
        return inspect(frame, site, self.proven.engine, rule)

    def close(self) -> None:
        """Close the engine and remove what was unpacked. Calling it again does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self.proven.engine.close()
        finally:
            self._folder.cleanup()

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _frame(
        self,
        color: NDArray[Any],
        depth: NDArray[Any] | None,
        unit: float | None,
        intrinsics: Sequence[float] | None,
    ) -> Frame:
        contract = self.manifest.camera
        size = (contract.height, contract.width)
        if color.dtype != np.uint8 or color.shape != (*size, 3):
            raise ConfigError(
                f"color is {color.dtype} {color.shape}: this bundle takes uint8 {(*size, 3)}, RGB"
            )
        has_depth = any(spec.name == "depth" for spec in self.manifest.inputs)
        if depth is not None and (depth.dtype != np.uint16 or depth.shape != size):
            raise ConfigError(
                f"depth is {depth.dtype} {depth.shape}: this bundle takes uint16 {size}, counts"
                " aligned to color"
            )
        meters = contract.unit if unit is None else unit
        lens = contract.intrinsics if intrinsics is None else tuple(intrinsics)
        if has_depth and depth is not None and (meters is None or lens is None):
            missing = "unit" if meters is None else "intrinsics"
            raise ConfigError(f"the bundle does not know the camera's {missing}: give {missing}=")
        if lens is not None and len(lens) != 4:
            raise ConfigError(f"intrinsics has {len(lens)} numbers: fx, fy, cx, cy are expected")
        fx, fy, cx, cy = lens or (1.0, 1.0, 0.0, 0.0)
        return Frame(
            np.ascontiguousarray(color),
            depth if has_depth else None,
            meters or 0.0,
            Intrinsics(contract.width, contract.height, fx, fy, cx, cy),
            CAMERA,
            self._frames,
            self._frames,
        )


def _mask_of(expected: NDArray[Any] | None, contract: CameraContract) -> NDArray[np.uint8] | None:
    size = (contract.crop_height, contract.crop_width)
    if expected is not None and (expected.dtype != np.uint8 or expected.shape != size):
        raise ConfigError(
            f"expected is {expected.dtype} {expected.shape}: this bundle takes uint8 {size}, of the"
            " crop"
        )
    return None if expected is None else np.where(expected > 0, 255, 0).astype(np.uint8)


def _plane_of(plane: Plane) -> tuple[float, float, float, float]:
    if len(plane) != 4:
        raise ConfigError(f"plane has {len(plane)} numbers: alpha, beta, gamma, delta are expected")
    alpha, beta, gamma, delta = (float(value) for value in plane)
    return alpha, beta, gamma, delta
