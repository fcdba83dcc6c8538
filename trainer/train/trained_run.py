"""A trained run: written at the end of a training, read by evaluation, quantization and export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from edge.errors import ConfigError, DataError
from edge.files import read_bytes, write_json
from edge.frames.sample import Sample
from edge.types import Frame
from trainer.fit import Curves
from trainer.graph.deploy import Deployed
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, require_preset
from trainer.tensor_files import load_stored, write_tensors
from trainer.train.run_folder import CURVES_FILE, MODEL_FILE, RUN_FILE, find_model
from trainer.train.run_info import RunInfo, read_info

CURVES = TypeAdapter(Curves)
# before the names of their tensors, beside the detector's
OUTLINE, HEIGHTS, POSE = "~outline.", "~heights.", "~pose."


@dataclass(frozen=True)
class TrainedRun:
    """A run in memory: deployed is in evaluation mode, on the CPU."""

    folder: Path
    info: RunInfo
    deployed: Deployed

    def feeds(self, sample: Sample | Frame) -> dict[str, NDArray[np.generic]]:
        """Graph inputs by name, with the run's crop, plane and height threshold.

        Raises: DataError if the image does not fit the run.
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
        turned=info.turned,
    )
    detector = find_system(info.system).build(request)
    preprocess = Preprocess(
        info.crop[3], info.crop[2], info.working, info.depth_working, info.speck
    )
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
    model = find_model(path)
    if not model.is_file():
        raise DataError(
            f"{model} is missing: this training has not ended; repeat its command to go on"
        )
    weights = load_stored(model, "the weights of this run", "train again")
    try:
        _load_weights(deployed, weights)
    except (RuntimeError, TypeError, AttributeError) as error:  # other tensors, shapes or things
        raise DataError(f"{model} does not fit {path / RUN_FILE}: train again") from error
    return TrainedRun(path, info, deployed.requires_grad_(False).eval())


def _load_weights(deployed: Deployed, weights: Mapping[str, Tensor]) -> None:
    """Raises: RuntimeError or the like if they do not fit."""
    outline, heights, pose = (_named(weights, prefix) for prefix in (OUTLINE, HEIGHTS, POSE))
    beside = (OUTLINE, HEIGHTS, POSE)
    own = {name: weights[name] for name in weights if not name.startswith(beside)}
    deployed.detector.load_state_dict(own)
    if pose:
        deployed.preprocess.add_pose().load_state_dict(_with_scale(pose, "squares.scale"))
    if outline:  # none in runs of before
        added = deployed.add_outline()
        if added is not None:
            added.load_state_dict(_with_scale(outline, "squared.scale"))
    normal = deployed.add_heights() if heights else None
    if normal is not None:
        normal.load_state_dict(heights)


def _with_scale(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Runs of before know no scale: their views stay as they are."""
    return {name: torch.zeros(()), **weights}


def _named(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }


def write_run(path: Path, info: RunInfo, deployed: Deployed, curves: Curves) -> None:
    """Write model, curves and, last, run.json: a folder with run.json is a finished run."""
    path.mkdir(parents=True, exist_ok=True)
    beside: dict[str, nn.Module | None] = {
        OUTLINE: deployed.outline,
        HEIGHTS: deployed.heights,
        POSE: deployed.preprocess.pose,
    }
    named = {
        prefix + name: tensor
        for prefix, module in beside.items()
        if module is not None
        for name, tensor in module.state_dict().items()
    }
    write_tensors(path / MODEL_FILE, {**deployed.detector.state_dict(), **named})
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
            f"{file} is damaged: remove it: only the report's training curves need it"
        ) from error
