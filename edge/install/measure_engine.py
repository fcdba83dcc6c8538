"""One engine of this machine on a bundle's frames: opened, proven, timed, closed; in a child
process.

An engine is code of another maker that runs a graph of whoever signed the bundle: it may crash,
never end, or take all memory. Whatever happens in the child becomes a row of the table; `LIMITS`
bounds its time and memory.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from edge.bounded import ChildFailed, Limits, call_bounded
from edge.bundle.manifest import MANIFEST, MANIFEST_LIMIT, Manifest, parse_manifest
from edge.engine.machine import this_machine
from edge.engine.order import ONNXRUNTIME, TENSORRT, unproven_openers
from edge.engine.protocol import Engine, one_line
from edge.errors import BundleError, EdgeError
from edge.files import read_bytes
from edge.install.engine_entry import EngineEntry
from edge.install.proof_data import read_proof_data
from edge.proof.certificate import BoardSection
from edge.schema import Precision, Sha256, Strict
from edge.station.store import Installed, Store

if TYPE_CHECKING:
    from edge.proof.prove import Calibrated, Expected

log = logging.getLogger(__name__)

# For one precision. They end a runtime that hangs and are far from what an engine needs:
# onnxruntime takes seconds and some hundred megabytes. TensorRT builds for minutes, takes
# gigabytes, and reserves more addresses than there is memory.
LIMITS = {ONNXRUNTIME: Limits(600, 3 << 30), TENSORRT: Limits(1200, 6 << 30, hard=False)}


class MeasureRequest(Strict):
    """What is to be measured. Paths are absolute.

    folder: of the unpacked bundle. cache: where TensorRT keeps the plans it built. root: the
    station whose calibration of this engine is proven too; None: the bundle alone is.
    """

    product: str
    folder: str
    digest: Sha256
    precision: Precision
    runtime: str
    cache: str
    threads: int
    root: str | None = None

    @property
    def bundle(self) -> Installed:
        """The unpacked bundle. Raises: BundleError if its manifest cannot be read."""
        data = read_bytes(Path(self.folder) / MANIFEST, BundleError, MANIFEST_LIMIT)
        return Installed(self.product, Path(self.folder), parse_manifest(data), self.digest)


def measure_in_child(request: MeasureRequest) -> EngineEntry:
    """Measure an engine in a process of its own, within LIMITS.

    One that fails is an entry too, which says why.
    """
    limits = LIMITS[request.runtime].of_this_machine
    try:
        answer = call_bounded(
            "edge.install.measure_child", request.model_dump_json().encode(), limits
        )
        entry = EngineEntry.model_validate_json(answer, strict=True)
    except ChildFailed as error:
        return _without_answer(request, f"not proven: {error}")
    except ValidationError:
        return _without_answer(request, "not proven: its process answered nothing that is a proof")
    if entry.section is not None and entry.precision == request.precision and not entry.is_proven:
        log.warning("engine left out: %s: %s", entry.name, entry.why_not)
    return entry


def _without_answer(request: MeasureRequest, reason: str) -> EngineEntry:
    log.warning("engine left out: %s %s: %s", request.runtime, request.precision, reason)
    return EngineEntry(precision=request.precision, runtime=request.runtime, reason=reason)


def measure_engine(request: MeasureRequest) -> EngineEntry:
    """Measure an engine in this process: nothing limits its time or memory, and if the runtime
    crashes, this process does.
    """
    name = request.runtime
    try:
        engine = unproven_openers(Path(request.cache), request.threads)[request.runtime](
            request.bundle.model(request.precision), request.precision
        )
        try:
            name = engine.name
            return EngineEntry(
                precision=request.precision, runtime=name, section=_prove(request, engine)
            )
        finally:
            engine.close()
    except EdgeError as error:
        reason = one_line(error)
    except Exception as error:
        log.debug("%s %s", name, request.precision, exc_info=True)
        reason = f"{type(error).__name__}: {one_line(error)}"
    log.warning("engine left out: %s %s: %s", name, request.precision, reason)
    return EngineEntry(precision=request.precision, runtime=name, reason=reason)


def _prove(request: MeasureRequest, engine: Engine) -> BoardSection:
    """The section of an open engine. Raises: EdgeError, and whatever the runtime raises."""
    from edge.proof import prove

    bundle = request.bundle
    proof_data = read_proof_data(bundle)
    calibrated, oracle = _calibrated(request, bundle, engine)
    try:
        return prove.prove_engine(
            engine,
            request.precision,
            proof_data.golden,
            proof_data.normal,
            proof_data.certificate,
            expected_of(bundle.manifest, request.precision),
            model_sha256=bundle.manifest.files[f"model/{request.precision}.onnx"].sha256,
            engine_sha256=engine.digest,
            board=this_machine(),
            calibrated=calibrated,
        )
    finally:
        if oracle is not None:
            oracle.close()


def _calibrated(
    request: MeasureRequest, bundle: Installed, engine: Engine
) -> tuple[Calibrated | None, Engine | None]:
    """What the station has calibrated for this engine, with float32 on the CPU as its oracle. The
    caller closes the oracle.
    """
    from edge.proof.prove import Calibrated

    state = (
        None
        if request.root is None
        else Store(Path(request.root)).model_state(bundle, engine.precision, engine.name)
    )
    if state is None:
        return None, None
    oracle = unproven_openers(Path(request.cache), request.threads)[ONNXRUNTIME](
        bundle.model("fp32"), "fp32"
    )
    return Calibrated(state.threshold, state.arrays(), oracle), oracle


def expected_of(manifest: Manifest, precision: Precision) -> Expected:
    """What the manifest says of one precision."""
    from edge.proof.prove import Expected

    scores = np.array(manifest.normal_scores[precision], np.float64)
    return Expected(scores, manifest.thresholds[precision], manifest.thresholds["fp32"])
