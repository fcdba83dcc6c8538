"""What run.json keeps of a training that has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from edge.decide.clipping import NormalBrightness, measure_brightness, normal_brightness
from edge.files import sha256_of
from edge.proof.threshold import threshold_from_normals
from edge.station.site import PackedMask
from trainer.data.scene import crop_frame
from trainer.train.defect_scores import DefectScores
from trainer.train.plan import Plan, names_of
from trainer.train.run_info import RunInfo
from trainer.train.suspects import Suspect
from trainer.train.validation import JudgedPart

PACKAGES = ("torch", "timm", "numpy", "onnxruntime", "rgbd-inspection")
BORDER_MARGIN = 0.01  # max_border lies this far above what normal validation parts show
AREA_MARGIN = 0.3  # min_area and max_area lie this share outside what normal validation parts show
VALID_MARGIN = 0.5  # min_valid is this share of the worst normal validation part's


@dataclass(frozen=True, eq=False)
class Findings:
    """What a training found out.

    normal: of each validation part. top_k: share of the foreground in the score, top_k_why in
    words. seconds: it took.
    """

    normal: Sequence[JudgedPart]
    top_k: float
    top_k_why: str
    defects: DefectScores
    suspects: list[Suspect]
    seconds: float

    @property
    def scores(self) -> list[float]:
        """Of the normal validation parts, raw units."""
        return [part.score(self.top_k) for part in self.normal]


def run_info(plan: Plan, found: Findings) -> RunInfo:
    """The record of a training."""
    scores = found.scores
    return RunInfo(
        **_request(plan),
        **_data(plan),
        **_geometry(plan),
        **_limits(found.normal, plan.with_depth),
        top_k=found.top_k,
        top_k_why=found.top_k_why,
        normal_scores=scores,
        threshold=threshold_from_normals(scores, plan.options.false_rejects),
        defect_scores=found.defects,
        suspects=found.suspects,
        brightness=_brightness(plan),
        train_seconds=round(found.seconds, 1),
        packages=_versions(),
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _request(plan: Plan) -> dict[str, Any]:
    options = plan.options
    return {
        "system": plan.system.name,
        "preset": options.preset,
        "seed": options.seed,
        "epochs": options.epochs,
        "switches": dict(options.switches),
        "backbone_weights": _digest(options.weights),
        "pretrained": _digest(options.pretrained),
        "backbone": options.backbone,
        "false_rejects": options.false_rejects,
        "defects": None if options.defects is None else str(options.defects.resolve()),
    }


def _data(plan: Plan) -> dict[str, Any]:
    reading = plan.parts.reading
    return {
        "product": plan.dataset.product,
        "data": str(plan.dataset.root.resolve()),
        "data_sha256": plan.data_sha256,
        "train": names_of(plan.train),
        "validation": names_of(plan.validation),
        "digests": list(plan.parts.digests),
        "size": reading.size,
        "color_bits": reading.color_bits,
    }


def _geometry(plan: Plan) -> dict[str, Any]:
    scene = plan.scene
    return {
        "with_depth": plan.with_depth,
        "camera": plan.dataset.camera,
        "crop": scene.crop,
        "working": plan.sizes.color,
        "depth_working": plan.sizes.depth,
        "fixed": scene.fixed,
        "plane": scene.plane,
        "lift": scene.lift,
        "speck": scene.speck,
        "turned": plan.posed.turned,
        "expected": None if scene.expected is None else PackedMask.pack(scene.expected),
    }


def _limits(normal: Sequence[JudgedPart], with_depth: bool) -> dict[str, Any]:
    """What a station accepts as one whole part. Without depth nothing tells where a part is."""
    if not with_depth:
        return {"min_area": 0.0, "max_area": 1.0, "max_border": 1.0, "min_valid": 0.0}
    areas = [part.area for part in normal]
    return {
        "min_area": min(areas) * (1 - AREA_MARGIN),
        "max_area": min(1.0, max(areas) * (1 + AREA_MARGIN)),
        "max_border": min(1.0, max(part.border for part in normal) + BORDER_MARGIN),
        "min_valid": VALID_MARGIN * min(part.valid for part in normal),
    }


def _brightness(plan: Plan) -> NormalBrightness | None:
    crops = (crop_frame(sample.load(), plan.scene.crop) for sample in plan.validation)
    return normal_brightness(measure_brightness(crop.color) for crop in crops)


def _digest(file: Path | None) -> str | None:
    return None if file is None else sha256_of(file)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a checkout that was never installed
            found[name] = "not installed"
    return found
