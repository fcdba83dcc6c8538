"""The manifest of a bundle: what the station must know of the run, its camera and its normal
parts.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import TypeAdapter

from edge.bundle.manifest import (
    Judge,
    Manifest,
    NormalParts,
    OperatingPoint,
    Provenance,
    ScoreSpread,
)
from edge.bundle.pack import list_files
from edge.camera.contract import CameraContract
from edge.proof.compare import spread_of
from edge.proof.golden import NormalIndex
from edge.proof.threshold import Threshold
from edge.schema import Precision, TensorSpec
from trainer.evaluate.judged import Judged
from trainer.export.channels import channel_statistics
from trainer.export.normal_frames import RankedNormals
from trainer.export.request import ExportRequest
from trainer.graph.deploy import Deployed
from trainer.quantize import Quantized
from trainer.train.operating_points import operating_points
from trainer.train.run_info import RunInfo
from trainer.train.trained_run import TrainedRun


def make_manifest(
    run: TrainedRun,
    request: ExportRequest,
    judged: Judged,
    folder: Path,
    normals: RankedNormals,
    made: Mapping[Precision, Quantized],
    index: NormalIndex,
) -> Manifest:
    """The manifest of the bundle in `folder`, whose other files are all written.

    Args:
        normals: with the scores of every shipped precision. index: of the frames in normal/.
    """
    info, exact = run.info, folder / "model" / "fp32.onnx"
    thresholds = {name: made[name].section.threshold for name in normals.scores}
    return Manifest(
        product=request.product,
        version=request.version,
        system=info.system,
        preset=info.preset,
        presence=info.with_depth,
        camera=camera_of(info, judged.folder),
        inputs=inputs_of(run),
        outputs=_outputs(exact),
        precisions=tuple(normals.scores),
        normal=NormalParts(
            parts=index.parts, highest=index.highest, left_out=request.left_out, kept=request.kept
        ),
        normal_scores={
            name: tuple(float(score) for score in scores) for name, scores in normals.scores.items()
        },
        normal_spread={name: _spread(scores) for name, scores in normals.scores.items()},
        thresholds=thresholds,
        verdicts={name: made[name].section.verdicts for name in normals.scores},
        operating_points=_operating_points(info, normals, thresholds["fp32"]),
        channels=channel_statistics(run, judged.dataset, exact),
        judges=_judges(run.deployed),
        plane=info.plane,
        provenance=_provenance(info),
        files=TypeAdapter(dict).validate_python(list_files(folder)),
    )


def _judges(deployed: Deployed) -> tuple[Judge, ...]:
    return tuple(
        Judge(
            name=name, limit=float(judge.limit), most=judge.most * max(float(judge.score_gain), 0.0)
        )
        for name, judge in deployed.named_judges.items()
    )


def _operating_points(
    info: RunInfo, normals: RankedNormals, exact: Threshold
) -> tuple[OperatingPoint, ...]:
    """Of float32's scores. exact: float32's threshold."""
    scores = [float(score) for score in normals.scores["fp32"]]
    rate, left_out = exact.false_rejects, exact.left_out
    return tuple(operating_points(scores, exact.rank, rate, info.defect_scores, left_out))


def _spread(scores: NDArray[np.float32]) -> ScoreSpread:
    values = scores.astype(np.float64)
    return ScoreSpread(
        median=float(np.median(values)),
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)),
        spread=spread_of(values),
    )


def inputs_of(run: TrainedRun) -> tuple[TensorSpec, ...]:
    """The graph's inputs with the manifest's defaults.

    The height threshold (`lift`) belongs to the product, not to the site: the manifest carries it
    as that input's default.
    """
    specs = run.deployed.inputs
    if run.info.lift is None:
        return specs
    lift = {"default": float(np.float32(run.info.lift))}
    return tuple(spec.model_copy(update=lift) if spec.name == "lift" else spec for spec in specs)


def _outputs(path: Path) -> tuple[TensorSpec, ...]:
    values = onnx.load(str(path), load_external_data=False).graph.output
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in values
    }
    return tuple(
        TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in shapes.items()
    )


def camera_of(info: RunInfo, data: Path) -> CameraContract:
    """What the station's camera must be set to. data: folder of the product, with the recordings of
    the empty table and the belt.
    """
    camera = info.camera
    x, y, width, height = info.crop

    def folder(name: str | None) -> str | None:
        return str((data / name).resolve()) if name and (data / name).is_dir() else None

    return CameraContract(
        **camera.model_dump(
            include={
                "model",
                "serial",
                "width",
                "height",
                "intrinsics",
                "unit",
                "exposure_us",
                "gain",
                "white_balance",
                "laser",
            }
        ),
        fps=None if camera.fps is None else round(camera.fps),
        filters=None if camera.filters is None else tuple(camera.filters),
        crop_x=x,
        crop_y=y,
        crop_width=width,
        crop_height=height,
        min_area=info.min_area,
        max_area=info.max_area,
        max_border=info.max_border,
        min_valid=info.min_valid,
        fixed_pose=info.expected is not None,
        empty=folder(camera.empty),
        belt=folder(camera.belt),
        fixed=info.fixed,
        letterbox=info.size is not None,
        color_bits=info.color_bits,
        brightness=info.brightness,
    )


def _provenance(info: RunInfo) -> Provenance:
    return Provenance(
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        data="/".join(Path(info.data).parts[-2:]),
        data_sha256=info.data_sha256,
        train_parts=len(info.train),
        validation_parts=len(info.validation),
        seed=info.seed,
        code=_code_version(),
        packages={
            **info.packages,
            **{name: metadata.version(name) for name in ("onnx", "onnxruntime")},
        },
    )


def _code_version() -> str:
    """The version of this package and, in a checkout, its commit."""
    version = metadata.version("rgbd-inspection")
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or shutil.which("git") is None:
        return version
    told = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True
    )
    return f"{version} {told.stdout.strip()}".strip()
