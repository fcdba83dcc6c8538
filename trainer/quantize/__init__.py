"""FP16 and INT8 of any graph that holds the graph contract, each with its section of the parity
certificate.

fp16    the detector in float16 types; sensor bytes to height, masks and score stay float32, and so
        does every block of the detector that measurably needs it (overflowing squares,
        exponentials, logarithms, cancelling distances).
int8    the same graph with Q/DQ around convolutions and products with constant weights; blocks that
        cost most stay float16 until the certificate's limits hold.

A graph needs no more than named inputs and outputs, static shapes, and the module paths that
torch.onnx writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.proof.certificate import (
    INT8_BACKBONE_MACS,
    INT8_MACS,
    AccuracyChange,
    MacShares,
    PrecisionSection,
    failures,
)
from edge.proof.compare import Noise, Responses, compare_maps, fit_noise
from edge.proof.threshold import Threshold
from edge.schema import Precision
from trainer.quantize.calibrate import activation_scales
from trainer.quantize.convert import NodePrecision, Plan, converted, quantized_inputs
from trainer.quantize.evidence import Evidence, Feeds
from trainer.quantize.search import (
    Bench,
    Block,
    assigned,
    blocks_of,
    cost_of,
    int8_candidates,
    low_precision_nodes,
)
from trainer.quantize.session import responses_of, runtime_name
from trainer.quantize.view import View, count_macs, prepared, view_of

__all__ = ["Evidence", "Quantized", "certify", "count_macs", "quantize"]

log = logging.getLogger(__name__)

# of every limit: the certificate counts frames besides that the search has not seen
SEARCH_ROOM = 0.8
NOT_MEASURED = Noise(
    frames=1, slope=0, offset=0, rms=0, shift=0, spread=0
)  # of scores that are not finite


@dataclass(frozen=True, eq=False)
class Quantized:
    """One precision: the file's content, its answers, and its section of the certificate: whether
    it may be shipped.

    responses: of every frame of the evidence, from the arithmetic that measured them.
    """

    model: onnx.ModelProto
    responses: Responses
    section: PrecisionSection


def quantize(
    model: onnx.ModelProto,
    precisions: Sequence[Precision],
    calibration: Sequence[Feeds],
    evidence: Evidence,
) -> dict[Precision, Quantized]:
    """Make and measure every wanted precision; those that fail come back too, with `section.passed`
    false.

    Args:
        model: the exported float32 graph. precisions: any of fp32, fp16, int8.
        calibration: graph inputs of normal parts, for INT8's scales.
    Raises: EngineError if the graph is not static or onnxruntime refuses it.
    """
    view = view_of(prepared(model))
    maker = _Maker(view, calibration, evidence)
    made: dict[Precision, Quantized] = {}
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
        self.bench = Bench.on(view, evidence.for_search())

    def half_plan(self) -> dict[str, NodePrecision]:
        """Float16 wherever the detector bears it."""
        blocks = blocks_of(self.view, low_precision_nodes(self.view))

        def plan_with(chosen: Sequence[Block]) -> dict[str, NodePrecision]:
            return {name: "fp16" for block in chosen for name in block.nodes}

        plan, _ = assigned(
            self.bench, blocks, "fp16", plan_with, self._refusals("fp16"), lambda _: False
        )
        return plan

    def int8_plan(self, half: dict[str, NodePrecision]) -> dict[str, NodePrecision]:
        """INT8 wherever the limits hold, the rest as in `half`.

        Scales are chosen with everything in INT8. Where that leaves no plan, the blocks that had to
        go had the say in
        it: they are chosen anew for those that stay, and the search starts again.
        """
        candidates = int8_candidates(self.view, half)
        everything: dict[str, NodePrecision] = {**half, **dict.fromkeys(candidates, "int8")}
        ways = activation_scales(
            self.view, quantized_inputs(self.view, everything), self.calibration
        )
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
            plan, reasons = assigned(
                self.bench, blocks, "int8", plan_with, self._refusals("int8"), self._too_few
            )
            if not reasons:
                return plan

    def _too_few(self, plan: Plan) -> bool:
        whole, backbone = count_macs(converted(self.view, plan, self.bench.scales))
        return whole.int8 < INT8_MACS or (
            backbone is not None and backbone.int8 < INT8_BACKBONE_MACS
        )

    def certified(self, plan: Plan, precision: Precision) -> Quantized:
        """The file of a plan, and its section, of every frame: those too that the choice of the
        plan has not seen.
        """
        emulated = converted(self.view, plan, self.bench.scales, emulate=True)
        responses = responses_of(emulated, self.evidence.sources)
        shipped = converted(self.view, plan, self.bench.scales)
        repeat = self._repeat(self.evidence, shipped)
        section = certify(self.evidence, responses, repeat, precision, *count_macs(shipped))
        return Quantized(shipped, responses, section)

    def _refusals(self, precision: Precision) -> Callable[[Plan], tuple[str, ...]]:
        evidence = self.bench.evidence

        def reasons(plan: Plan) -> tuple[str, ...]:
            answers, shipped = (
                self.bench.responses(plan),
                converted(self.view, plan, self.bench.scales),
            )
            macs = count_macs(shipped)
            judge = partial(
                certify, evidence, answers, precision=precision, with_pixels=False, room=SEARCH_ROOM
            )
            failed = judge(
                answers.scores[evidence.rows("normal")], macs=macs[0], backbone_macs=macs[1]
            ).reasons
            if failed:  # which spares the second arithmetic
                return failed
            return judge(
                self._repeat(evidence, shipped), macs=macs[0], backbone_macs=macs[1]
            ).reasons

        return reasons

    @staticmethod
    def _repeat(evidence: Evidence, shipped: onnx.ModelProto) -> NDArray[np.float32]:
        """Normal scores of the shipped file as onnxruntime runs it: in float32, rounded to float16
        at the ends.
        """
        return responses_of(
            shipped, [evidence.sources[row] for row in evidence.rows("normal")]
        ).scores


def certify(
    evidence: Evidence,
    candidate: Responses,
    repeat: NDArray[np.float32],
    precision: Precision,
    macs: MacShares,
    backbone_macs: MacShares | None,
    *,
    with_pixels: bool = True,
    threshold: Threshold | None = None,
    room: float = 1.0,
) -> PrecisionSection:
    """A precision's section of the certificate.

    Args:
        candidate: its answers for every frame of the evidence. repeat: scores of its normal frames
            in another arithmetic, that of the shipped file as onnxruntime runs it.
        macs, backbone_macs: what its file computes in which precision.
        with_pixels: compare P-AUROC and AUPRO too, which takes long.
        threshold: to judge by another one than that of its own normal scores. room: of the limits,
            see `failures`.
    """
    plain = evidence.plain().tolist()
    reference = evidence.reference.take(plain)
    measured = compare_maps(reference, candidate.take(plain))
    golden = slice(0, evidence.golden)
    on_golden = compare_maps(
        evidence.reference.take(golden), candidate.take(golden), reference.map_span
    )
    if measured.finite and np.isfinite(candidate.scores).all():
        own, noise = threshold or evidence.threshold(candidate), evidence.noise(candidate)
        again = _repeat_noise(evidence, candidate, repeat)
        change = evidence.change(candidate) if with_pixels else evidence.image_change(candidate)
    else:
        measured = measured.model_copy(update={"finite": False})
        own, noise, again = evidence.threshold(evidence.reference), NOT_MEASURED, NOT_MEASURED
        change = AccuracyChange()
    verdicts = evidence.verdicts(candidate, own.value)
    reasons = failures(
        measured, precision, noise, again, verdicts, change, macs, backbone_macs, room
    )
    return PrecisionSection(
        **measured.model_dump(),
        precision=precision,
        runtime=runtime_name(),
        threshold=own,
        verdicts=verdicts,
        noise=noise,
        repeat=again,
        golden_map_error=on_golden.mean_map_error,
        change=change,
        macs=macs,
        backbone_macs=backbone_macs,
        passed=not reasons,
        reasons=reasons,
    )


def _repeat_noise(evidence: Evidence, candidate: Responses, repeat: NDArray[np.float32]) -> Noise:
    own = candidate.scores[evidence.rows("normal")]
    if not np.isfinite(repeat).all():
        return NOT_MEASURED
    return fit_noise(own, repeat, evidence.threshold(candidate).value)
