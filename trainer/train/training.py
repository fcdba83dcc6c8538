"""`trainer train`, without the command line: from a product folder to a run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from trainer.data.copies import without_known
from trainer.data.normal import prepare
from trainer.data.source import TrainingImages
from trainer.fit import Curves, FitControl
from trainer.graph.deploy import Deployed
from trainer.graph.prepared import Prepared
from trainer.systems.seam import BuildRequest, FitRequest
from trainer.train.defect_scores import DefectScores, measure_defects
from trainer.train.heights import fit_heights
from trainer.train.operating_points import choice_lines, few_lines, suggestion
from trainer.train.options import TrainOptions
from trainer.train.outlier_pictures import draw_outliers
from trainer.train.outliers import find_named_outliers
from trainer.train.outline import fit_outline, scale_judges
from trainer.train.plan import Plan, data_lines, features_digest, fingerprint, make_plan, names_of
from trainer.train.record import Findings, run_info
from trainer.train.run_folder import CACHE, CHECKPOINT, remove_run, require_free
from trainer.train.run_info import RunInfo
from trainer.train.suspect_pictures import draw_suspects
from trainer.train.suspects import Suspect, find_suspects, reminder_lines, suspect_lines
from trainer.train.top_k import DEFAULT_SHARE, LEAST_PARTS, choose_top_k
from trainer.train.trained_run import TrainedRun, write_run
from trainer.train.validation import JudgedPart, judge_drawn, judge_normal


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
    plan = make_plan(system_name, product, options)
    _tell(control, data_lines(plan))
    out.mkdir(parents=True, exist_ok=True)
    remove_run(out)
    suspects = _search_suspects(plan, out, control)
    control.checkpoint, control.fingerprint = out / CHECKPOINT, fingerprint(plan)
    detector, curves = _fit(plan, out, control)
    deployed = _deployed(plan, detector, plan.options.top_k or DEFAULT_SHARE)
    _fit_beside(plan, deployed, control)
    normal, top_k, why = _judge_and_choose(plan, deployed)
    if deployed.judges:
        highest = [float(part.map.max()) for part in normal]
        scores = [part.score(top_k) for part in normal]
        scale_judges(deployed, highest, scores)
        normal = judge_normal(deployed, plan.scene, plan.validation)
    control.tell(f"score: mean of the top {top_k:.1%} of the foreground ({why})")
    seconds = time.monotonic() - started_s
    deployed.choose_top_k(top_k)
    scores = [part.score(top_k) for part in normal]
    defects = _defect_scores(plan, deployed, scores, control)
    info = run_info(plan, Findings(normal, top_k, why, defects, suspects, seconds))
    draw_outliers(out, info.outliers(), plan.scene, plan.validation, normal)
    write_run(out, info, deployed, curves)
    control.checkpoint.unlink(missing_ok=True)
    _tell(control, _closing_lines(info, out))
    return TrainedRun(out, info, deployed)


def _search_suspects(plan: Plan, out: Path, control: FitControl) -> list[Suspect]:
    """Normal images that do not look like the others: reported before hours are spent on them."""
    samples = [*plan.train, *plan.validation]
    search = find_suspects(plan.scene, samples)
    draw_suspects(out, search, plan.scene, samples)
    _tell(control, suspect_lines(search, out))
    return search.suspects


def _fit(plan: Plan, out: Path, control: FitControl) -> tuple[nn.Module, Curves]:
    """Build and train the detector."""
    options = plan.options
    detector = plan.system.build(
        BuildRequest(
            options.preset,
            plan.sizes,
            options.weights,
            options.seed,
            switches=dict(options.switches),
            pretrained=options.pretrained,
            backbone=options.backbone,
            turned=plan.posed.turned,
        )
    )
    preprocess = plan.preprocess()

    def load(number: int) -> Prepared:
        return prepare(preprocess, plan.scene.feeds_of(plan.train[number]))

    cache = options.cache or out / CACHE
    images = TrainingImages(
        load, len(plan.train), features_digest(plan), cache, plan.posed.augmentation
    )
    request = FitRequest(
        options.preset, options.epochs, options.seed, options.device, control, options.textures
    )
    return detector, plan.system.fit(detector, images, request)


def _fit_beside(plan: Plan, deployed: Deployed, control: FitControl) -> None:
    """The memory of normal outlines, and the normal heights."""
    if not deployed.has_depth:
        return
    control.tell("outlines of the normal parts")
    fit_outline(deployed, map(plan.scene.feeds_of, plan.train), plan.options.seed)
    control.tell(fit_heights(deployed, map(plan.scene.feeds_of, plan.train)))


def _judge_and_choose(plan: Plan, deployed: Deployed) -> tuple[list[JudgedPart], float, str]:
    """(what the graph says of each normal validation part, the share for its score, why)."""
    given = plan.options.top_k
    normal = judge_normal(deployed, plan.scene, plan.validation)
    if deployed.has_score:
        why = "without effect: this preset has a score of its own"
        return normal, given or DEFAULT_SHARE, why
    if given:
        return normal, given, "given by the user"
    few = len(normal) < LEAST_PARTS
    drawn = [] if few else judge_drawn(deployed, plan.scene, plan.validation)
    return normal, *choose_top_k(normal, drawn)


def _deployed(plan: Plan, detector: nn.Module, top_k: float) -> Deployed:
    return Deployed(plan.preprocess(), detector, top_k).requires_grad_(False).eval()


def _defect_scores(
    plan: Plan, deployed: Deployed, scores: Sequence[float], control: FitControl
) -> DefectScores:
    """Of real defects, or of synthetic ones, which are not drawn on an outlier: it would be found
    without them.
    """
    apart = {outlier.name for outlier in find_named_outliers(names_of(plan.validation), scores)}
    usual = [sample for sample in plan.validation if sample.name not in apart]
    dataset = without_known(plan.dataset, plan.parts.digests, control.tell)
    return measure_defects(deployed, plan.scene, dataset, usual, control.tell)


def _closing_lines(info: RunInfo, out: Path) -> list[str]:
    """What the user has to look at, and what the threshold was chosen from."""
    points = info.operating_points()
    suggested = suggestion(points, info.threshold.rank)
    return [
        *reminder_lines(info.suspects, out),
        *few_lines(info.threshold),
        *choice_lines(info.outliers(), points, info.threshold, suggested, out),
    ]


def _tell(control: FitControl, lines: Sequence[str]) -> None:
    for line in lines:
        control.tell(line)
