"""`trainer pretrain pdn`, without the command line: from image folders to a weights file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from edge.errors import ConfigError
from edge.files import require_file_target
from trainer.device import require_device
from trainer.fit import FitControl, fit_phases
from trainer.systems.vmpfd.checkpoint import FORMAT, write_pdn
from trainer.systems.vmpfd.distillation import Distillation
from trainer.systems.vmpfd.image_files import ImageFiles, normal_images
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.teacher import RECIPES, PdnRecipe, Teacher


@dataclass(frozen=True)
class PdnOptions:
    """What the user asked for. epochs: None takes the recipe's."""

    preset: str = "compact"
    epochs: int | None = None
    weights: Path | None = None
    seed: int = 0
    device: str = "cpu"


def pretrain_pdn(
    folders: Sequence[Path], out: Path, options: PdnOptions, control: FitControl
) -> int:
    """Distil a network on the images of `folders` and write its weights to `out`.

    Ctrl-C leaves a checkpoint beside `out`; the same call resumes from it.
    Returns: how many images it was distilled on.
    Raises: ConfigError for an impossible option, DataError for a folder without images,
        fit.Interrupted after Ctrl-C.
    """
    recipe = _recipe(options)
    require_device(options.device)
    require_file_target(out, "--out")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        student = PatchDescriptors(recipe.kind).to(options.device)
    teacher = Teacher(recipe, options.weights, student.stride, student.channels).to(options.device)
    paths = normal_images(folders)
    out.parent.mkdir(parents=True, exist_ok=True)
    control.checkpoint = out.with_name(f"{out.name}.checkpoint")
    control.fingerprint = _fingerprint(paths, options)
    control.tell(f"{len(paths)} images")
    files = ImageFiles(paths)
    count = files.numbers(recipe.steps_per_epoch * recipe.batch_size)
    distillation = Distillation(student, teacher, files.draw, count, files.size, options.device)
    fit_phases(student, [distillation.phase(recipe, options.epochs)], options.seed, control)
    write_pdn(out, student.cpu(), recipe.kind, len(paths))
    control.checkpoint.unlink(missing_ok=True)
    return len(paths)


def _recipe(options: PdnOptions) -> PdnRecipe:
    if options.preset not in RECIPES:
        raise ConfigError(
            f"pdn has no preset {options.preset!r}: choose one of {', '.join(RECIPES)}"
        )
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"--epochs {options.epochs}: choose at least 1")
    return RECIPES[options.preset]


def _fingerprint(paths: Sequence[Path], options: PdnOptions) -> str:
    """Of everything the result depends on: options, names, sizes and times of the files."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return hashlib.sha256(repr((FORMAT, options, stats)).encode()).hexdigest()
