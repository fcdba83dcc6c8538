"""`trainer train`, without the command line: from a product folder to a run folder."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.decide.clipping import measure_brightness, normal_brightness
from edge.errors import ConfigError, DataError
from edge.files import require_folder_target, sha256_of
from edge.frames.dataset import Dataset, Sample
from edge.overlay import write_png
from edge.proof.threshold import DEFAULT_FALSE_REJECTS, rank_for, threshold_from_normals
from trainer import pictures
from trainer.data.copies import without_known
from trainer.data.defects import by_class, defects_note, require_defects_folder, with_defects
from trainer.data.normal import NormalParts, normal_parts, prepare
from trainer.data.scene import Scene, crop_frame, plane_of
from trainer.data.source import TrainingImages
from trainer.device import require_device
from trainer.fit import FitControl
from trainer.graph.deploy import Deployed, TopKMean
from trainer.graph.preprocess import Prepared, Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.synthetic.textures import Textures
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, FitRequest, System, require_preset, require_weights
from trainer.train.operating import (
    DefectScores,
    choice_lines,
    few_lines,
    find_named_outliers,
    measure_defects,
    suggestion,
)
from trainer.train.run import RunInfo, TrainedRun, names_of, write_run
from trainer.train.run_folder import remove_run, require_free
from trainer.train.suspect_pictures import draw_suspects
from trainer.train.suspects import Suspect, find_suspects, reminder_lines, suspect_lines

PACKAGES = ("torch", "timm", "numpy", "onnxruntime", "rgbd-inspection")
BORDER_MARGIN = 0.01  # max_border lies this far above what normal validation parts show
AREA_MARGIN = 0.3  # min_area and max_area lie this far outside what normal validation parts show
LEAST_SIDE_PX, MOST_SIDE_PX = 32, 8192  # of a letterboxed image
VALID_MARGIN = 0.5  # min_valid is this share of the worst normal validation part's


@dataclass(frozen=True)
class TrainOptions:
    """What the user asked for.

    Epochs, top_k: None leaves it to preset and validation. cache: None is a folder in the run.
    textures: folder of images for drawn anomalies, in systems that draw some; None: procedural
    ones. pretrained: a file of `trainer pretrain`; None leaves it to the system. backbone: timm's
    name of another one than the preset's.
    false_rejects: rate of normal parts that the threshold may reject, 0..1; it changes nothing that
    is trained.
    size: (width, height) in pixels that every image is letterboxed to; None: as they are. defects:
    a folder of defective images, never trained on. overwrite: replace a finished run in the folder.
    """

    preset: str = "compact"
    epochs: int | None = None
    seed: int = 0
    with_depth: bool = True
    weights: Path | None = None
    top_k: float | None = None
    device: str = "cpu"
    cache: Path | None = None
    switches: Mapping[str, bool] = field(default_factory=dict)
    textures: Path | None = None
    pretrained: Path | None = None
    backbone: str | None = None
    false_rejects: float = DEFAULT_FALSE_REJECTS
    size: tuple[int, int] | None = None
    defects: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True)
class _Plan:
    """A training, decided before anything is computed.

    dataset: with the defective images given beside it.
    """

    system: System[Any]
    dataset: Dataset
    options: TrainOptions
    parts: NormalParts
    data_sha256: str

    @property
    def train(self) -> list[Sample]:
        return self.parts.train

    @property
    def validation(self) -> list[Sample]:
        return self.parts.validation

    @property
    def sizes(self) -> WorkingSizes:
        return self.parts.sizes

    @property
    def scene(self) -> Scene:
        return self.parts.scene

    @property
    def with_depth(self) -> bool:
        return self.sizes.depth is not None


def parse_size(text: str) -> tuple[int, int]:
    """(width, height) of `640x480`. Raises: ConfigError for anything else."""
    match = re.fullmatch(r"\s*(\d{1,5})\s*[xX×]\s*(\d{1,5})\s*", text)
    if (
        match is None
        or min(size := (int(match[1]), int(match[2]))) < LEAST_SIDE_PX
        or max(size) > MOST_SIDE_PX
    ):
        raise ConfigError(
            f"--size {text}: write width and height in pixels, each {LEAST_SIDE_PX} to"
            f" {MOST_SIDE_PX}, such as 640x480"
        )
    return size


def train(
    system_name: str,
    product: Path,
    out: Path,
    options: TrainOptions,
    control: FitControl | None = None,
) -> TrainedRun:
    """Train a system on the normal images of a product and write the run folder `out`.

    Raises: ConfigError for an impossible option, DataError for unusable images, fit.Interrupted
    after Ctrl-C.
    """
    started_s = time.monotonic()
    control = control or FitControl()
    require_free(out, options.overwrite)
    plan = _plan(system_name, product, options)
    for line in _data_lines(plan):
        control.tell(line)
    out.mkdir(parents=True, exist_ok=True)
    remove_run(out)
    suspects = _suspects(plan, out, control)
    control.checkpoint, control.fingerprint = out / "checkpoint.pt", _fingerprint(plan)
    detector, curves = _fit(plan, out, control)
    deployed = _deployed(plan, detector, options.top_k or plan.system.top_k_candidates[0])
    normal = [_judge(deployed, plan.scene, sample) for sample in plan.validation]
    top_k, why = _top_k(plan, deployed, normal)
    control.tell(f"score: mean of the top {top_k:.1%} of the foreground ({why})")
    seconds = time.monotonic() - started_s
    deployed = _deployed(plan, detector, top_k)
    info = _info(
        plan,
        normal,
        top_k,
        why,
        _defect_scores(plan, deployed, normal, top_k, control),
        seconds,
        suspects,
    )
    _draw_outliers(out, plan, normal, info)
    write_run(out, info, deployed, curves)
    control.checkpoint.unlink(missing_ok=True)
    points = info.operating_points()
    suggested = suggestion(points, info.threshold.rank)
    choice = choice_lines(info.outliers(), points, info.threshold, suggested, out)
    for line in (*reminder_lines(suspects, out), *few_lines(info.threshold), *choice):
        control.tell(line)
    return TrainedRun(out, info, deployed)


def _suspects(plan: _Plan, out: Path, control: FitControl) -> list[Suspect]:
    """Normal images that do not look like the others: told and drawn before hours are spent on
    them.
    """
    samples = [*plan.train, *plan.validation]
    search = find_suspects(plan.scene, samples)
    draw_suspects(out, search, plan.scene, samples)
    for line in suspect_lines(search, out):
        control.tell(line)
    return search.suspects


def _plan(system_name: str, product: Path, options: TrainOptions) -> _Plan:
    system = _checked_system(system_name, options)
    parts = normal_parts(
        product,
        options.seed,
        options.with_depth,
        partial(system.sizes, options.preset),
        options.size,
    )
    dataset = parts.dataset
    if options.defects is not None:
        dataset = with_defects(
            dataset, options.defects, parts.reading, parts.sizes.depth is not None
        )
    return _Plan(system, dataset, options, parts, parts.sha256())


def _checked_system(name: str, options: TrainOptions) -> System[Any]:
    """The system.

    Raises: ConfigError or DataError for every mistake that shows before an image is read.
    """
    system = find_system(name)
    require_preset(system, options.preset)
    require_device(options.device)
    if options.backbone and not system.takes_backbone:
        raise ConfigError(
            f"--backbone {options.backbone}: {system.name} is built for its preset's own backbone"
        )
    if options.pretrained and system.pretrains is None:
        raise ConfigError(
            f"--pretrained {options.pretrained}: {system.name} has no part that `trainer pretrain`"
            " makes"
        )
    if options.pretrained and system.pretrains == "depth" and not options.with_depth:
        raise ConfigError(
            f"--pretrained {options.pretrained}: it is for depth, leave --no-depth or"
            " --pretrained out"
        )
    if options.epochs is not None and options.epochs < 1:
        raise ConfigError(f"--epochs {options.epochs}: at least 1")
    if options.top_k is not None and not 0 < options.top_k <= 1:
        raise ConfigError(
            f"--top-k {options.top_k}: a share of the foreground, above 0 and at most 1"
        )
    rank_for(1, options.false_rejects)
    if options.cache is not None:
        require_folder_target(options.cache, "--cache")
    require_defects_folder(options.defects)
    Textures(options.textures)
    require_weights(system, options.preset, options.weights, options.pretrained, options.backbone)
    return system


def _data_lines(plan: _Plan) -> list[str]:
    """What the user should know of the data before it is trained on."""
    amounts = f"{len(plan.train)} normal images train, {len(plan.validation)} validate"
    lines = [*plan.parts.notes, f"{amounts}; {_depth(plan)}"]
    if plan.options.size is not None:
        lines.append("every image is letterboxed to {}x{} pixels".format(*plan.options.size))
    if plan.options.defects is not None:
        lines.append(defects_note(plan.dataset, plan.options.defects))
    if any(sample.is_defective for sample in plan.dataset.samples):
        lines.append(f"{by_class(plan.dataset.samples)}: not trained on")
    return lines


def _depth(plan: _Plan) -> str:
    """With depth its unit and the plane's distance, so that a wrong unit is seen; without, why."""
    if not plan.with_depth:
        return "color only: " + ("--no-depth" if plan.dataset.has_depth else "the set has no depth")
    frame = crop_frame(plan.train[0].load(), plan.scene.crop)
    plane = plan.scene.plane or plane_of(frame)
    where = "" if plan.scene.plane else " in the first image (each image has its own)"
    return (
        f"with depth: {1000 * frame.unit:.4g} mm per count, background plane {1000 * plane[3]:.0f}"
        f" mm away{where}"
    )


def _fingerprint(plan: _Plan) -> str:
    """Of everything that decides the training's result, for checkpoints and the feature cache."""
    options = plan.options
    files = [options.weights, options.pretrained]
    digests = [sha256_of(file) if file and file.is_file() else None for file in files]
    parts = [
        plan.system.name,
        options.preset,
        options.epochs,
        options.seed,
        options.device,
        digests,
        options.backbone,
        dict(options.switches),
        Textures(options.textures).digest,
        plan.data_sha256,
        names_of(plan.train),
        plan.scene.crop,
        plan.scene.plane,
        plan.scene.lift,
        plan.sizes.color,
        plan.sizes.depth,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _fit(plan: _Plan, out: Path, control: FitControl) -> tuple[nn.Module, dict[str, list[float]]]:
    """Build and train the detector."""
    options = plan.options
    detector = plan.system.build(BuildRequest(
        options.preset, plan.sizes, options.weights, options.seed, switches=dict(options.switches),
        pretrained=options.pretrained, backbone=options.backbone,
    ))  # fmt: skip
    preprocess = Preprocess(
        plan.scene.crop[3], plan.scene.crop[2], plan.sizes.color, plan.sizes.depth
    )
    digest = hashlib.sha256(
        f"{plan.data_sha256} {names_of(plan.train)} {plan.scene} {plan.sizes}".encode()
    ).hexdigest()

    def load(number: int) -> Prepared:
        return prepare(preprocess, plan.scene.feeds_of(plan.train[number]))

    images = TrainingImages(load, len(plan.train), digest, options.cache or out / "cache")
    request = FitRequest(
        options.preset, options.epochs, options.seed, options.device, control, options.textures
    )
    return detector, plan.system.fit(detector, images, request)


def _deployed(plan: _Plan, detector: nn.Module, top_k: float) -> Deployed:
    preprocess = Preprocess(
        plan.scene.crop[3], plan.scene.crop[2], plan.sizes.color, plan.sizes.depth
    )
    return Deployed(preprocess, detector, top_k).requires_grad_(False).eval()


@dataclass(frozen=True, eq=False)
class NormalPart:
    """What the graph says of one normal validation part.

    own: the score, of a system that gives one. map, foreground: (h, w).
    """

    own: float | None
    map: NDArray[np.float32]
    foreground: NDArray[np.float32]
    area: float
    valid: float
    border: float

    def score(self, top_k: float) -> float:
        """The graph's score at another k."""
        if self.own is not None:
            return self.own
        mean = TopKMean(top_k, (self.map.shape[0], self.map.shape[1]))
        return float(
            mean(
                torch.from_numpy(self.map)[None, None],
                torch.from_numpy(self.foreground)[None, None],
            )
        )


@torch.no_grad()
def _judge(deployed: Deployed, scene: Scene, sample: Sample) -> NormalPart:
    feeds = scene.feeds_of(sample)
    outputs = deployed.run(feeds)
    foreground, _ = deployed.mask(prepare(deployed.preprocess, feeds))
    part = NormalPart(
        float(outputs["score"][0]) if deployed.has_score else None, outputs["map"][0, 0],
        foreground[0, 0].numpy(),
        float(outputs["area"][0]), float(outputs["valid"][0]), float(outputs["place"][0, 5]),
    )  # fmt: skip
    if part.area <= 0:
        raise DataError(
            f"no part stands above the background in {sample.name}: check camera.json (unit,"
            " intrinsics, fixed)"
        )
    return part


def _top_k(plan: _Plan, deployed: Deployed, normal: Sequence[NormalPart]) -> tuple[float, str]:
    """(k, why)."""
    given, candidates = plan.options.top_k, plan.system.top_k_candidates
    if deployed.has_score:
        return given or candidates[0], "without effect: this preset has a score of its own"
    return (given, "given by the user") if given else choose_top_k(normal, candidates)


def choose_top_k(normal: Sequence[NormalPart], candidates: Sequence[float]) -> tuple[float, str]:
    """(k, why): the largest candidate whose normal validation scores spread about as little as
    those of the best.

    Spread is the deviation relative to the mean: a score that varies little among normal parts
    leaves the most room below any defect. A spread measured on n parts is uncertain by 1 / sqrt(2
    (n - 1)) of itself; within that of the smallest, the largest share wins, for its mean leans
    least on a single cell. With fewer than three parts: 1 %.
    """
    if len(normal) < 3:
        return 0.01, f"the default: {len(normal)} normal validation parts are too few to choose by"
    spreads = []
    for k in candidates:
        scores = np.array([part.score(k) for part in normal])
        spreads.append(float(scores.std() / max(float(scores.mean()), 1e-12)))
    allowed = min(spreads) * (1 + 1 / math.sqrt(2 * (len(normal) - 1)))
    best = max(
        (number for number, spread in enumerate(spreads) if spread <= allowed),
        key=lambda number: candidates[number],
    )
    listed = ", ".join(
        f"{k:.1%}: {spread:.3f}" for k, spread in zip(candidates, spreads, strict=True)
    )
    return (
        candidates[best],
        (
            f"the largest share with a steady score over {len(normal)} normal validation parts;"
            f" spreads {listed}"
        ),
    )


def _defect_scores(
    plan: _Plan, deployed: Deployed, normal: Sequence[NormalPart], top_k: float, control: FitControl
) -> DefectScores:
    """Of real defects or synthetic ones, which are not drawn on an outlier: it would be found
    without them.
    """
    outliers = find_named_outliers(
        names_of(plan.validation), [part.score(top_k) for part in normal]
    )
    apart = {outlier.name for outlier in outliers}
    usual = [sample for sample in plan.validation if sample.name not in apart]
    dataset = without_known(plan.dataset, plan.parts.digests, control.tell)
    return measure_defects(deployed, plan.scene, dataset, usual, control.tell)


def _draw_outliers(out: Path, plan: _Plan, normal: Sequence[NormalPart], info: RunInfo) -> None:
    """A picture of each outlier in the run folder, on one scale."""
    outliers = {outlier.name: outlier for outlier in info.outliers()}
    if not outliers:
        return
    apart = np.array([sample.name in outliers for sample in plan.validation])
    scale = pictures.heat_scale([part.map for part in normal], apart)
    for sample, part in zip(plan.validation, normal, strict=True):
        if sample.name in outliers:
            path = out / outliers[sample.name].picture
            path.parent.mkdir(exist_ok=True)
            image = crop_frame(sample.load(), plan.scene.crop).color
            write_png(path, pictures.beside_heat(image, part.map, scale))


def _info(
    plan: _Plan,
    normal: Sequence[NormalPart],
    top_k: float,
    why: str,
    defects: DefectScores,
    seconds: float,
    suspects: list[Suspect],
) -> RunInfo:
    options, scene = plan.options, plan.scene
    scores = [part.score(top_k) for part in normal]
    areas = [part.area for part in normal]
    return RunInfo(
        system=plan.system.name,
        preset=options.preset,
        product=plan.dataset.product,
        data=str(plan.dataset.root.resolve()),
        data_sha256=plan.data_sha256,
        with_depth=plan.with_depth,
        seed=options.seed,
        epochs=options.epochs,
        switches=dict(options.switches),
        backbone_weights=sha256_of(options.weights) if options.weights else None,
        pretrained=sha256_of(options.pretrained) if options.pretrained else None,
        backbone=options.backbone,
        camera=plan.dataset.camera,
        crop=scene.crop,
        working=plan.sizes.color,
        depth_working=plan.sizes.depth,
        fixed=scene.fixed,
        plane=scene.plane,
        lift=scene.lift,
        top_k=top_k,
        top_k_why=why,
        min_area=min(areas) * (1 - AREA_MARGIN) if plan.with_depth else 0.0,
        max_area=min(1.0, max(areas) * (1 + AREA_MARGIN)) if plan.with_depth else 1.0,
        max_border=(
            min(1.0, max(part.border for part in normal) + BORDER_MARGIN)
            if plan.with_depth
            else 1.0
        ),
        min_valid=VALID_MARGIN * min(part.valid for part in normal) if plan.with_depth else 0.0,
        normal_scores=scores,
        false_rejects=options.false_rejects,
        threshold=threshold_from_normals(scores, options.false_rejects),
        defect_scores=defects,
        train=names_of(plan.train),
        validation=names_of(plan.validation),
        digests=list(plan.parts.digests),
        size=plan.parts.reading.size,
        color_bits=plan.parts.reading.color_bits,
        defects=None if options.defects is None else str(options.defects.resolve()),
        suspects=suspects,
        brightness=normal_brightness(
            measure_brightness(crop_frame(sample.load(), scene.crop).color)
            for sample in plan.validation
        ),
        train_seconds=round(seconds, 1),
        packages=_versions(),
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a checkout that was never installed
            found[name] = "not installed"
    return found
