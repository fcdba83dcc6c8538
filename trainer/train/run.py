"""A run folder: what a training leaves, and how evaluation, quantization and export take it up
again.

run.json       RunInfo: everything but the weights
model.pt       the detector's state dict, backbone included
curves.json    mean loss of every epoch, by phase
outliers/      a picture of each normal validation part whose score stands apart
suspects/      a picture of each normal image that does not look like the others
evaluate.json, evaluation.npz, report.html    by `trainer evaluate`, or `trainer export`, of its own
                                              data
evaluations/   the same of other data, a folder each
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
from pydantic import Field, TypeAdapter, ValidationError

from edge.bundle.manifest import OperatingPoint
from edge.decide.clipping import NormalBrightness
from edge.errors import ConfigError, DataError
from edge.files import read_bytes, without_mark, write_atomically, write_json
from edge.frames.camera_info import CameraInfo
from edge.frames.dataset import Sample
from edge.frames.reading import Reading
from edge.proof.threshold import Threshold
from edge.schema import Strict
from edge.types import Frame
from trainer.data.scene import Scene
from trainer.fit import Curves
from trainer.graph.deploy import Deployed
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, require_preset
from trainer.tensor_files import load_stored
from trainer.train.operating import DefectScores, Outlier, find_named_outliers, operating_points
from trainer.train.suspects import Suspect

SCHEMA: Literal[2] = 2
RUN_FILE, MODEL_FILE, CURVES_FILE = "run.json", "model.pt", "curves.json"
CURVES = TypeAdapter(Curves)


class RunInfo(Strict):
    """run.json.

    crop: x, y, width, height in the stream. working: (h, w) of color, depth_working of the height
    image. plane: of the crop, null where each image is fitted by itself. lift: meters. top_k: share
    of the foreground averaged into the score, top_k_why in words.
    min_area, max_area, min_valid, max_border: of a part, from normal validation parts.
    normal_scores: theirs, raw, in the order of `validation`. threshold: float32's, of all of them.
    false_rejects: the rate that somebody asked for.
    defect_scores: for the table of operating points only.
    train, validation: sample names. digests: of the pixels of each, train first.
    size, color_bits: how the files are read (edge.frames.reading.Reading). defects: folder of
    defective images given beside the data. switches: parts of the system turned off.
    backbone_weights, pretrained: sha256 of the user's files. backbone: timm's name, if another than
    the preset's. suspects: normal images that do not look like the others. brightness: of normal
    validation parts.
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
    max_border: float = 1.0
    normal_scores: list[float]
    false_rejects: float
    threshold: Threshold
    defect_scores: DefectScores
    train: list[str]
    validation: list[str]
    digests: list[str] = Field(default_factory=list)
    size: tuple[int, int] | None = None
    color_bits: int | None = None
    defects: str | None = None
    suspects: list[Suspect] = Field(default_factory=list)
    brightness: NormalBrightness | None = None
    train_seconds: float
    packages: dict[str, str]
    created_at: str

    def reading(self) -> Reading:
        """How this run's images, and every image it is to judge, are read."""
        return Reading(self.size, self.color_bits)

    def scene(self) -> Scene:
        """Crop, plane and lift, ready to make graph inputs."""
        return Scene(self.crop, self.with_depth, self.fixed, self.plane, self.lift)

    def outliers(self) -> list[Outlier]:
        """Normal validation parts whose score stands apart, the highest first."""
        return find_named_outliers(self.validation, self.normal_scores)

    def operating_points(self, defects: DefectScores | None = None) -> list[OperatingPoint]:
        """The table that the threshold is chosen from.

        defects: None takes those measured at the training's end.
        """
        return operating_points(
            self.normal_scores,
            self.threshold.rank,
            self.false_rejects,
            defects or self.defect_scores,
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
        if isinstance(sample, Frame):
            return self.info.scene().feeds(sample)
        return self.info.scene().feeds_of(sample)


def build_deployed(
    info: RunInfo, weights: Path | None = None, *, random_backbone: bool = True
) -> Deployed:
    """The whole graph with an untrained detector, shaped as `info` says."""
    sizes = WorkingSizes(info.working, info.depth_working, (info.crop[3], info.crop[2]))
    request = BuildRequest(
        info.preset,
        sizes,
        weights,
        info.seed,
        random_backbone,
        info.switches,
        backbone=info.backbone,
    )
    detector = find_system(info.system).build(request)
    preprocess = Preprocess(info.crop[3], info.crop[2], info.working, info.depth_working)
    return Deployed(preprocess, detector, info.top_k).eval()


def load_run(path: Path) -> TrainedRun:
    """Read a run folder. Raises: DataError naming the file that is missing or does not fit."""
    info = read_info(path)
    try:
        require_preset(find_system(info.system), info.preset)
    except ConfigError as error:
        raise DataError(f"{path / RUN_FILE}: {error}: train again with this version") from error
    read_curves(path)
    deployed = build_deployed(info)
    model = path / MODEL_FILE
    if not model.is_file():
        raise DataError(
            f"{model} is missing: this training has not ended; repeat its command to go on"
        )
    try:
        deployed.detector.load_state_dict(
            load_stored(model, "the weights of this run", "train again")
        )
    except (
        RuntimeError,
        TypeError,
        AttributeError,
    ) as error:  # other tensors, shapes or things than these
        raise DataError(f"{model} does not fit {path / RUN_FILE}: train again") from error
    return TrainedRun(path, info, deployed.requires_grad_(False).eval())


def read_info(path: Path) -> RunInfo:
    """run.json of a run folder.

    Raises: DataError naming the file and the schema or key that is wrong.
    """
    file = path / RUN_FILE
    if not file.is_file():
        raise DataError(
            f"{path} is not a finished run: there is no {RUN_FILE}. Make one with `trainer train`"
        )
    try:
        return RunInfo.model_validate_json(
            without_mark(read_bytes(file, DataError), file, DataError)
        )
    except ValidationError as error:
        raise DataError(f"{file} {_complaint(error)}: train again with this version") from error


def _complaint(error: ValidationError) -> str:
    """Another schema before all else: then other keys differ too."""
    first = error.errors()[0]
    for one in error.errors():
        if one["loc"] == ("schema_",):
            return f"has schema {one['input']}, this version reads schema {SCHEMA}"
    if not first["loc"]:
        return "is damaged or empty, it is not the JSON of a run"
    return f"has a wrong {'.'.join(map(str, first['loc']))} ({first['msg']})"


def write_run(path: Path, info: RunInfo, deployed: Deployed, curves: Curves) -> None:
    """Write model, curves and, last, run.json: a folder with run.json is a finished run."""
    path.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(deployed.detector.state_dict(), buffer)
    write_atomically(path / MODEL_FILE, buffer.getvalue())
    write_json(path / CURVES_FILE, curves)
    write_json(path / RUN_FILE, json.loads(info.model_dump_json()))


def read_curves(path: Path) -> Curves:
    """curves.json of a run folder; empty where there is none.

    Raises: DataError if it is damaged.
    """
    file = path / CURVES_FILE
    if not file.is_file():
        return {}
    try:
        return CURVES.validate_json(read_bytes(file, DataError))
    except ValidationError as error:
        raise DataError(
            f"{file} is damaged: remove it, it only draws the report's curves of the training"
        ) from error


def names_of(samples: Sequence[Sample]) -> list[str]:
    """The samples' names, for run.json."""
    return [sample.name for sample in samples]
