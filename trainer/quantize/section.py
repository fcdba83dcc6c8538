"""A precision's section of the certificate: what was measured, and whether it may be shipped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.proof.certificate import AccuracyChange, MacShares, PrecisionSection, failures
from edge.proof.compare import Responses, compare_maps, fit_noise
from edge.proof.measures import Noise
from edge.proof.threshold import Threshold
from edge.schema import Precision
from trainer.quantize.evidence import Evidence
from trainer.quantize.session import runtime_name

# of scores that are not finite
NOT_MEASURED = Noise(frames=1, slope=0, offset=0, rms=0, shift=0, spread=0)


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
