"""Every wanted precision of a graph: its plan is searched, its file written and measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray

from edge.proof.certificate import INT8_BACKBONE_MACS, INT8_MACS, PrecisionSection
from edge.proof.compare import Responses
from edge.schema import Precision
from trainer.progress import counting
from trainer.quantize.bench import Bench, cost_of
from trainer.quantize.blocks import Block, blocks_of, int8_candidates, low_precision_nodes
from trainer.quantize.calibrate import activation_scales
from trainer.quantize.convert import NodePrecision, Plan, converted, quantized_inputs
from trainer.quantize.evidence import Evidence, Feeds
from trainer.quantize.search import Task, assigned
from trainer.quantize.section import certify
from trainer.quantize.session import responses_of
from trainer.quantize.view import View, count_macs, prepared, view_of

log = logging.getLogger(__name__)

# of every limit: the certificate counts frames besides that the search has not seen
SEARCH_ROOM = 0.8


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
    with counting("choosing precisions, plans tried") as tried:
        return Maker(view, calibration, evidence, tried).make(precisions)


class Maker:
    """Finds a plan per precision and certifies it."""

    def __init__(
        self,
        view: View,
        calibration: Sequence[Feeds],
        evidence: Evidence,
        tried: Callable[[], None] = lambda: None,
    ) -> None:
        """tried: called after every plan that was run."""
        self.view, self.calibration, self.evidence = view, calibration, evidence
        self.bench = Bench.on(view, evidence.for_search(), tried)

    def make(self, precisions: Sequence[Precision]) -> dict[Precision, Quantized]:
        """Every wanted precision; INT8 starts from the plan of FP16."""
        made: dict[Precision, Quantized] = {}
        if "fp32" in precisions:
            made["fp32"] = self.certified({}, "fp32")
        if {"fp16", "int8"} & set(precisions):
            half = self.half_plan()
            if "fp16" in precisions:
                made["fp16"] = self.certified(half, "fp16")
            if "int8" in precisions:
                made["int8"] = self.certified(self.int8_plan(half), "int8")
        return made

    def half_plan(self) -> dict[str, NodePrecision]:
        """Float16 wherever the limits hold."""
        blocks = blocks_of(self.view, low_precision_nodes(self.view))

        def plan_with(chosen: Sequence[Block]) -> dict[str, NodePrecision]:
            return {name: "fp16" for block in chosen for name in block.nodes}

        task = Task(self.bench, "fp16", plan_with, self._refusals("fp16"), lambda _: False)
        return assigned(task, blocks)[0]

    def int8_plan(self, half: dict[str, NodePrecision]) -> dict[str, NodePrecision]:
        """INT8 wherever the limits hold, the rest as in `half`.

        Scales are chosen with everything in INT8. Where that leaves no plan, the blocks that had to
        go decided that choice: scales are chosen anew for those that stay, and the search starts
        again.
        """
        candidates = int8_candidates(self.view, half)
        everything: dict[str, NodePrecision] = {**half, **dict.fromkeys(candidates, "int8")}
        methods = activation_scales(
            self.view, quantized_inputs(self.view, everything), self.calibration
        )
        benches = [replace(self.bench, scales=scales, known={}) for scales in methods.values()]
        blocks = blocks_of(self.view, candidates)

        def plan_with(chosen: Sequence[Block]) -> dict[str, NodePrecision]:
            return {**half, **{name: "int8" for block in chosen for name in block.nodes}}

        plan, tried = everything, set[int]()
        while True:
            costs = [cost_of(bench.quick(plan), "int8") for bench in benches]
            best = costs.index(min(costs))
            if best in tried:
                return plan
            log.info("INT8 scales by %s", list(methods)[best])
            tried.add(best)
            self.bench = benches[best]
            task = Task(self.bench, "int8", plan_with, self._refusals("int8"), self._too_few)
            plan, reasons = assigned(task, blocks)
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
        sources = [evidence.frames[row].source for row in evidence.rows("normal")]
        return responses_of(shipped, sources).scores
