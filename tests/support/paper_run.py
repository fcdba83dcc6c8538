"""A `paper` preset trained, evaluated and exported once, at its own sizes and with its own network.

Only counts are reduced: parts, epochs and steps of an epoch. The weights of the frozen backbone are
random, for nobody can download the real ones here: what comes out says nothing about accuracy.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import timm
import torch
from torch import nn

from trainer.api import TrainedRun, TrainOptions, evaluate, train
from trainer.export.onnx_file import Agreement, export_checked
from trainer.gpu_check.bench import frames_of
from trainer.layers.backbone import B5, DINO_B8, RESNET18, WIDE_RESNET50, BackboneSpec
from trainer.synthetic.products.write import Amounts, write_product
from trainer.systems.vmpfd.teacher import RECIPES

PRODUCT = "washer"
AMOUNTS = Amounts(train=4, validation=3, test=2, per_defect=1, belt=0, empty=1)
DEFECTS = ("dent", "stain")  # that are kept of the product's
STEPS = 2  # of an epoch in which the patch descriptors are distilled
FRAMES = 2  # that torch and onnxruntime are compared on
CASES = (  # (system, with depth); the others judge color alone
    ("mats", True),
    ("mats", False),
    ("aand", True),
    ("aand", False),
    ("m3dm", True),
    ("m3dm", False),
    ("ntsnet", False),
    ("vmpfd", False),
)
BACKBONES: dict[str, BackboneSpec] = {
    "mats": B5,
    "aand": WIDE_RESNET50,
    "m3dm": DINO_B8,
    "ntsnet": RESNET18,
    "vmpfd": WIDE_RESNET50,
}
T = TypeVar("T")


@dataclass(frozen=True)
class PaperRun:
    """What one run took and gave.

    seconds: of training, evaluation and export. images: that were judged. agreement: of the ONNX
    file with torch.
    """

    run: TrainedRun
    seconds: tuple[float, float, float]
    images: int
    agreement: Agreement


def write_small_product(folder: Path) -> Path:
    """Few parts of a synthetic product with few defects, at the size of its camera."""
    for _ in write_product(PRODUCT, folder, AMOUNTS, seed=0):
        pass
    for kind in (folder / "test").iterdir():
        if kind.name not in ("good", *DEFECTS):
            shutil.rmtree(kind)
    return folder


def write_random_weights(system: str, product: Path, path: Path) -> Path:
    """A state dict of the preset's backbone, as timm fills it, settled on images of the product."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(BACKBONES[system].timm_name, pretrained=False)
        _settle(model, product)
    torch.save(model.state_dict(), path)
    return path


@torch.no_grad()
def _settle(model: nn.Module, product: Path) -> None:
    """Give batch normalizations the statistics of these images: at any others the features of a
    deep network with random weights vanish or explode.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the plain mean
    if norms:
        paths = sorted((product / "train/good/rgb").glob("*.png"))
        images = np.stack([cv2.resize(cv2.imread(str(path)), (256, 256)) for path in paths])
        model.train()(torch.from_numpy(images).permute(0, 3, 1, 2) / 64.0 - 2.0)


def paper_run(system: str, with_depth: bool, product: Path, folder: Path) -> PaperRun:
    """Train for one epoch of every phase, evaluate, export float32 and compare it with torch."""
    weights = write_random_weights(system, product, folder / "weights.pth")
    options = TrainOptions("paper", epochs=1, with_depth=with_depth, weights=weights)
    recipe = RECIPES["paper"]
    RECIPES["paper"] = replace(recipe, steps_per_epoch=STEPS)
    try:
        run, training_s = _timed(lambda: train(system, product, folder / "run", options))
    finally:
        RECIPES["paper"] = recipe
    evaluation, evaluation_s = _timed(lambda: evaluate(run))
    feeds = frames_of(run, FRAMES)
    report, export_s = _timed(
        lambda: export_checked(run.deployed, folder / "fp32.onnx", feeds, compiled=False)
    )
    seconds = (training_s, evaluation_s, export_s)
    return PaperRun(run, seconds, len(evaluation.images), report.agreement)


def _timed(act: Callable[[], T]) -> tuple[T, float]:
    start_s = time.monotonic()
    return act(), time.monotonic() - start_s
