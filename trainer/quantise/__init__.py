"""FP16 and INT8 of any graph that holds the graph contract, each with its section of the parity certificate.

fp16    the detector in float16 types; sensor bytes to height, masks and score stay float32, and so does every block of
        the detector that measurably needs it (overflowing squares, exponentials, logarithms, cancelling distances).
int8    the same graph with Q/DQ around convolutions and products with constant weights; blocks that cost most stay
        float16 until the certificate's limits hold.

A graph needs no more than named inputs and outputs, static shapes, and the module paths that torch.onnx writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.bundle.manifest import Precision
from edge.engine.parity import (
    INT8_BACKBONE_MACS,
    INT8_MACS,
    AccuracyChange,
    PrecisionSection,
    Responses,
    compare,
    failures,
    image_auroc,
)
from trainer.metrics import pixel_curve
from trainer.quantise.calibrate import activation_scales
from trainer.quantise.convert import NodePrecision, Plan, converted, quantised_inputs
from trainer.quantise.search import Bench, Block, assigned, blocks_of, cost_of, int8_candidates, low_precision_nodes
from trainer.quantise.session import runtime_name
from trainer.quantise.view import View, count_macs, prepared, view_of

__all__ = ["Evidence", "Quantised", "count_macs", "quantise"]

log = logging.getLogger(__name__)

PRO_LIMIT = 0.3      # false positive rate up to which overlap is integrated, as everywhere in the reports

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The n frames of the certificate.

    feeds: graph inputs of every frame, the golden ones first. reference: float32's answers, from torch.
    golden: how many are golden. threshold: score > threshold is NG. labels: (n,) bool, True for a defect.
    truths: n masks (H, W) bool, None where nobody knows the pixels.
    """

    feeds: Sequence[Feeds]
    reference: Responses
    golden: int
    threshold: float
    labels: NDArray[np.bool_]
    truths: Sequence[NDArray[np.bool_] | None]

    def image_change(self, candidate: Responses) -> AccuracyChange:
        """Change of I-AUROC alone; null without frames of both kinds."""
        first, second = (image_auroc(self.labels, answers.scores) for answers in (self.reference, candidate))
        return AccuracyChange(i_auroc=None if first is None or second is None else 100 * (second - first))

    def change(self, candidate: Responses) -> AccuracyChange:
        """Change of every measure, of pixels where at least one frame with a defect has a mask."""
        images = self.image_change(candidate)
        if not any(truth is not None and truth.any() for truth in self.truths):
            return images
        p_auroc, overlap = self._pixel_figures(candidate)
        first_auroc, first_overlap = self.float32_pixels
        return AccuracyChange(
            i_auroc=images.i_auroc, p_auroc=100 * (p_auroc - first_auroc), aupro=100 * (overlap - first_overlap)
        )

    @cached_property
    def float32_pixels(self) -> tuple[float, float]:
        """P-AUROC and AUPRO of float32, 0..1."""
        return self._pixel_figures(self.reference)

    def _pixel_figures(self, answers: Responses) -> tuple[float, float]:
        curve = pixel_curve(list(answers.maps), self.truths)
        return curve.auroc(), curve.aupro(PRO_LIMIT)


@dataclass(frozen=True, eq=False)
class Quantised:
    """One precision: the file's content, and the section of the certificate that says whether it may be shipped."""

    model: onnx.ModelProto
    section: PrecisionSection


def quantise(
    model: onnx.ModelProto, precisions: Sequence[Precision], calibration: Sequence[Feeds], evidence: Evidence
) -> dict[Precision, Quantised]:
    """Make and measure every wanted precision; those that fail come back too, with `section.passed` false.

    Args:
        model: the exported float32 graph. precisions: any of fp32, fp16, int8.
        calibration: graph inputs of normal parts, for INT8's scales.
    Raises: EngineError if the graph is not static or onnxruntime refuses it.
    """
    view = view_of(prepared(model))
    maker = _Maker(view, calibration, evidence)
    made: dict[Precision, Quantised] = {}
    if "fp32" in precisions:
        made["fp32"] = maker.certified({}, "fp32")
    if {"fp16", "int8"} & set(precisions):
        half = maker.half_plan()
        if "fp16" in precisions:
            made["fp16"] = maker.certified(half, "fp16")
        if "int8" in precisions:
            made["int8"] = maker.certified(maker.int8_plan(half), "int8")
    return made


class _Maker:
    """Finds a plan per precision and certifies it."""

    def __init__(self, view: View, calibration: Sequence[Feeds], evidence: Evidence) -> None:
        self.view, self.calibration, self.evidence = view, calibration, evidence
        self.bench = Bench(view, evidence.feeds, evidence.reference, evidence.threshold, {})

    def half_plan(self) -> dict[str, NodePrecision]:
        """Float16 wherever the detector bears it."""
        blocks = blocks_of(self.view, low_precision_nodes(self.view))

        def plan_with(chosen: Sequence[Block]) -> dict[str, NodePrecision]:
            return {name: "fp16" for block in chosen for name in block.nodes}

        plan, _ = assigned(self.bench, blocks, "fp16", plan_with, self._refusals("fp16"), lambda _: False)
        return plan

    def int8_plan(self, half: dict[str, NodePrecision]) -> dict[str, NodePrecision]:
        """INT8 wherever the limits hold, the rest as in `half`.

        Scales are chosen with everything in INT8. Where that leaves no plan, the blocks that had to go had the say in
        it: they are chosen anew for those that stay, and the search starts again.
        """
        candidates = int8_candidates(self.view, half)
        everything: dict[str, NodePrecision] = {**half, **dict.fromkeys(candidates, "int8")}
        ways = activation_scales(self.view, quantised_inputs(self.view, everything), self.calibration)
        benches = [replace(self.bench, scales=scales, known={}) for scales in ways.values()]
        blocks = blocks_of(self.view, candidates)

        def plan_with(chosen: Sequence[Block]) -> dict[str, NodePrecision]:
            return {**half, **{name: "int8" for block in chosen for name in block.nodes}}

        plan, tried = everything, set[int]()
        while True:
            costs = [cost_of(bench.quick(plan), "int8") for bench in benches]
            best = costs.index(min(costs))
            if best in tried:
                return plan
            log.info("INT8 scales by %s", list(ways)[best])
            tried.add(best)
            self.bench = benches[best]
            plan, reasons = assigned(self.bench, blocks, "int8", plan_with, self._refusals("int8"), self._too_few)
            if not reasons:
                return plan

    def _too_few(self, plan: Plan) -> bool:
        whole, backbone = count_macs(converted(self.view, plan, self.bench.scales))
        return whole.int8 < INT8_MACS or (backbone is not None and backbone.int8 < INT8_BACKBONE_MACS)

    def _refusals(self, precision: Precision) -> Callable[[Plan], tuple[str, ...]]:
        return lambda plan: self._section(plan, precision, with_pixels=False).reasons

    def certified(self, plan: Plan, precision: Precision) -> Quantised:
        """The file of a plan and its section."""
        section = self._section(plan, precision, with_pixels=True)
        return Quantised(converted(self.view, plan, self.bench.scales), section)

    def _section(self, plan: Plan, precision: Precision, *, with_pixels: bool) -> PrecisionSection:
        evidence = self.evidence
        candidate = self.bench.responses(plan)
        measured = compare(evidence.reference, candidate, evidence.threshold)
        golden = slice(0, evidence.golden)
        on_golden = compare(
            evidence.reference.take(golden), candidate.take(golden), evidence.threshold, evidence.reference.spans
        )
        measure = evidence.change if with_pixels else evidence.image_change
        change = measure(candidate) if measured.finite else AccuracyChange()
        macs, backbone = count_macs(converted(self.view, plan, self.bench.scales))
        reasons = failures(measured, precision, change, macs, backbone)
        return PrecisionSection(
            **measured.model_dump(),
            precision=precision,
            runtime=runtime_name(),
            golden_map_error=on_golden.mean_map_error,
            change=change,
            macs=macs,
            backbone_macs=backbone,
            passed=not reasons,
            reasons=reasons,
        )
