"""Judging one frame: no camera, no broker, no clock. The same frame in, the same judgment out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import Manifest
from edge.camera.contract import CameraContract
from edge.decide.verdict import DecisionRule, unjudged
from edge.engine.protocol import Engine, outputs_of
from edge.errors import ConfigError, EngineError
from edge.types import Frame, Geometry, Judgment, Reason

log = logging.getLogger(__name__)

Tensors = Mapping[str, NDArray[Any]]
OF_THE_FRAME = ("color", "depth", "unit", "intrinsics")


@dataclass(frozen=True, eq=False)
class SiteState:
    """What this station adds to a frame.

    tensors: every graph input that is not the frame's own; without `plane` when it is not
    calibrated.
    crop: x, y, width, height in pixels of the whole stream.
    """

    tensors: Tensors
    crop: tuple[int, int, int, int]
    needs_depth: bool

    @property
    def is_calibrated(self) -> bool:
        """Whether the background plane is known, where the graph needs one."""
        return not self.needs_depth or "plane" in self.tensors


def site_state(
    manifest: Manifest, geometry: Geometry | None, tensors: Tensors | None = None
) -> SiteState:
    """The site inputs of a bundle's graph: the defaults, over them this camera's geometry, over
    these what was calibrated.

    Args:
        geometry: of this product and camera; None before any calibration.
        tensors: calibrated site inputs of exactly this bundle, by name.
    Raises: ConfigError if the expected silhouette is of another size than this bundle's crop.
    """
    contract = manifest.camera
    known: dict[str, NDArray[Any]] = {}
    for spec in manifest.inputs:
        if spec.name not in OF_THE_FRAME and spec.default is not None:
            known[spec.name] = np.full(spec.shape, spec.default, spec.dtype)
    known["region"] = np.full((1, contract.crop_height, contract.crop_width, 1), 255, np.uint8)
    corner = (contract.crop_x, contract.crop_y)
    needs_depth = any(spec.name == "depth" for spec in manifest.inputs)
    if geometry is not None:
        corner = (geometry.crop_x, geometry.crop_y)
        if geometry.region is not None:
            known["region"] = np.ascontiguousarray(geometry.region)[None, :, :, None]
        if geometry.plane is not None and needs_depth:
            known["plane"] = np.array(geometry.plane, np.float32)
        if geometry.expected is not None and "expected" in known:
            known["expected"] = _expected_of(geometry.expected, contract)
    return SiteState(
        {**known, **(tensors or {})},
        (*corner, contract.crop_width, contract.crop_height),
        needs_depth,
    )


def _expected_of(mask: NDArray[np.uint8], contract: CameraContract) -> NDArray[np.uint8]:
    """(1, h, w, 1) of the crop. Raises: ConfigError if it is of another size."""
    size = (contract.crop_height, contract.crop_width)
    if mask.shape != size:
        raise ConfigError(
            f"the expected silhouette is of {mask.shape[1]}x{mask.shape[0]} pixels, the crop of"
            f" this bundle of {size[1]}x{size[0]}: run `edge calibrate expected`"
        )
    return np.ascontiguousarray(mask)[None, :, :, None]


def inspect(frame: Frame, site: SiteState, engine: Engine, rule: DecisionRule) -> Judgment:
    """Judge one frame of the whole stream.

    Without a depth image, a plane, or a crop that lies inside the frame it is UNKNOWN, and the
    engine is not asked. If the engine fails it is UNKNOWN `engine`; otherwise the rule decides.
    """
    if not site.is_calibrated:
        return unjudged(Reason.UNCALIBRATED, rule.threshold)
    if site.needs_depth and frame.depth is None:
        return unjudged(Reason.NO_DEPTH, rule.threshold)
    x, y, width, height = site.crop
    window = frame.cropped(x, y, width, height)
    if window.color.shape[:2] != (height, width):
        return unjudged(Reason.CAMERA_MISMATCH, rule.threshold)
    try:
        return rule.judge(outputs_of(run_graph(window, site, engine)))
    except EngineError as error:
        log.error("the engine failed on frame %d: %s", frame.frame_number, error)
        return unjudged(Reason.ENGINE, rule.threshold)


def run_graph(window: Frame, site: SiteState, engine: Engine) -> dict[str, NDArray[Any]]:
    """The graph's raw outputs for a cropped frame. Raises: EngineError."""
    feeds: dict[str, NDArray[Any]] = {**window.tensors(), **site.tensors}
    return engine.run({name: feeds[name] for name in engine.inputs if name in feeds})
