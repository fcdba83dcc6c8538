"""A run folder: what a training leaves, and how evaluation, quantisation and export take it up again.

run.json       RunInfo: everything but the weights
model.pt       the detector's state dict, backbone included
curves.json    mean loss of every epoch, by phase
outliers/      a picture of each normal validation part whose score stands apart
evaluate.json, evaluation.npz, report.html    by `trainer evaluate`
checkpoint.pt  while training, removed at its end; cache/ the frozen features
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from edge.bundle.manifest import OperatingPoint
from edge.errors import DataError
from edge.files import write_atomically, write_json
from edge.frames.camera_info import CameraInfo
from edge.frames.dataset import Sample
from edge.proof.threshold import Threshold
from edge.schema import Strict
from edge.types import Frame
from trainer.data.scene import Scene
from trainer.fit import Curves
from trainer.graph.deploy import Deployed
from trainer.graph.preprocess import Preprocess
from trainer.operating import DefectScores, Outlier, find_named_outliers, operating_points
from trainer.systems.base import BuildRequest, WorkingSizes, find_system

SCHEMA: Literal[2] = 2
RUN_FILE, MODEL_FILE, CURVES_FILE = "run.json", "model.pt", "curves.json"


class RunInfo(Strict):
    """run.json.

    crop: x, y, width, height in the stream. working: (h, w) of color, depth_working of the height image. plane: of the
    crop, null where each image is fitted by itself. lift: metres. top_k: share of the foreground averaged into the
    score, top_k_why in words.
    min_area, max_area, min_valid: of a part, from normal validation parts. normal_scores: theirs, raw, in the order of
    `validation`. threshold: float32's, of all of them. false_rejects: the rate that somebody asked for. defect_scores:
    for the table of operating points only.
    train, validation: sample names. switches: parts of the system turned off. backbone_weights, pretrained: sha256 of
    the user's files. backbone: timm's name, if another than the preset's.
    """

    schema_: Literal[2] = SCHEMA
    system: str
    preset: str
    product: str
    data: str
    data_sha256: str
    with_depth: bool
    seed: int
    epochs: int | None
    switches: dict[str, bool] = Field(default_factory=dict)
    backbone_weights: str | None = None
    pretrained: str | None = None
    backbone: str | None = None
    camera: CameraInfo
    crop: tuple[int, int, int, int]
    working: tuple[int, int]
    depth_working: tuple[int, int] | None
    fixed: bool
    plane: tuple[float, float, float, float] | None
    lift: float | None
    top_k: float
    top_k_why: str
    min_area: float
    max_area: float
    min_valid: float
    normal_scores: list[float]
    false_rejects: float
    threshold: Threshold
    defect_scores: DefectScores
    train: list[str]
    validation: list[str]
    train_seconds: float
    packages: dict[str, str]
    created_at: str

    def scene(self) -> Scene:
        """Crop, plane and lift, ready to make graph inputs."""
        return Scene(self.crop, self.with_depth, self.fixed, self.plane, self.lift)

    def outliers(self) -> list[Outlier]:
        """Normal validation parts whose score stands apart, the highest first."""
        return find_named_outliers(self.validation, self.normal_scores)

    def operating_points(self, defects: DefectScores | None = None) -> list[OperatingPoint]:
        """The table that the threshold is chosen from. defects: None takes those measured at the training's end."""
        return operating_points(
            self.normal_scores, self.threshold.rank, self.false_rejects, defects or self.defect_scores
        )


@dataclass(frozen=True)
class TrainedRun:
    """A run in memory: deployed is in evaluation mode, on the CPU."""

    folder: Path
    info: RunInfo
    deployed: Deployed

    def feeds(self, sample: Sample | Frame) -> dict[str, NDArray[np.generic]]:
        """Graph inputs by name.

        Crop, plane, lift and region applied. Raises: DataError if the image does not fit the run.
        """
        frame = sample if isinstance(sample, Frame) else sample.load()
        return self.info.scene().feeds(frame)


def build_deployed(info: RunInfo, weights: Path | None = None, *, random_backbone: bool = True) -> Deployed:
    """The whole graph with an untrained detector, shaped as `info` says."""
    sizes = WorkingSizes(info.working, info.depth_working, (info.crop[3], info.crop[2]))
    request = BuildRequest(
        info.preset, sizes, weights, info.seed, random_backbone, info.switches, backbone=info.backbone
    )
    detector = find_system(info.system).build(request)
    preprocess = Preprocess(info.crop[3], info.crop[2], info.working, info.depth_working)
    return Deployed(preprocess, detector, info.top_k).eval()


def load_run(path: Path) -> TrainedRun:
    """Read a run folder. Raises: DataError naming the file that is missing or does not fit."""
    info = read_info(path)
    deployed = build_deployed(info)
    model = path / MODEL_FILE
    if not model.is_file():
        raise DataError(f"{model} is missing: this training has not ended; repeat its command to go on")
    try:
        deployed.detector.load_state_dict(torch.load(model, map_location="cpu", weights_only=True))
    except (RuntimeError, EOFError) as error:
        raise DataError(
            f"{model} does not fit {path / RUN_FILE} ({str(error).splitlines()[0]}): train again"
        ) from error
    return TrainedRun(path, info, deployed.requires_grad_(False).eval())


def read_info(path: Path) -> RunInfo:
    """run.json of a run folder. Raises: DataError naming the file and the schema or key that is wrong."""
    file = path / RUN_FILE
    if not file.is_file():
        raise DataError(f"{path} is not a finished run: there is no {RUN_FILE}. Make one with `trainer train`")
    try:
        return RunInfo.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(f"{file}{_complaint(error)}: train again with this version") from error


def _complaint(error: ValidationError) -> str:
    """Another schema before all else: then other keys differ too."""
    first = error.errors()[0]
    for one in error.errors():
        if one["loc"] == ("schema_",):
            return f" has schema {one['input']}, this version reads schema {SCHEMA}"
    return f": {'.'.join(map(str, first['loc']))}: {first['msg']}"


def write_run(path: Path, info: RunInfo, deployed: Deployed, curves: Curves) -> None:
    """Write model, curves and, last, run.json: a folder with run.json is a finished run."""
    path.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(deployed.detector.state_dict(), buffer)
    write_atomically(path / MODEL_FILE, buffer.getvalue())
    write_json(path / CURVES_FILE, curves)
    write_json(path / RUN_FILE, json.loads(info.model_dump_json()))


def read_curves(path: Path) -> Curves:
    """curves.json of a run folder; empty where there is none."""
    file = path / CURVES_FILE
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def names_of(samples: Sequence[Sample]) -> list[str]:
    """The samples' names, for run.json."""
    return [sample.name for sample in samples]
