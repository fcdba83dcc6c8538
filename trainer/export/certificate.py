"""The certificate of a bundle's precisions (parity.json), and the table that shows it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge.proof.certificate import NAMED_NOISE, Certificate, PrecisionSection
from edge.proof.measures import Count
from edge.schema import Precision
from trainer.export.precisions import ORDER
from trainer.export.proof import Proof
from trainer.quantize import Quantized

NOTE = (
    "Provisional: onnxruntime's arithmetic of these same files on a CPU, float16 results rounded"
    " after every node. `edge install` on the station measures its own engine's threshold, and"
    " compares it with this."
)


TITLES: tuple[str, ...] = (
    "precision",
    "good rejected",
    "defects missed",
    "unlike fp32",
    "near",
    "noise",
    "map error",
    "rank corr",
    "dI-AUROC",
    "dAUPRO",
    "MACs int8/fp16/fp32",
    "verdict",
)


def make_certificate(proof: Proof, made: Mapping[Precision, Quantized]) -> Certificate:
    """The sections of every precision that was made, those that failed too."""
    frames = proof.frames
    maps = np.concatenate([frame.map.ravel() for frame in frames if frame.kind != "near"])
    kinds = [frame.kind for frame in frames]
    return Certificate(
        note=NOTE,
        spread=proof.rule.spread,
        map_low=float(maps.min()),
        map_high=float(maps.max()),
        normal_frames=kinds.count("normal"),
        good_frames=kinds.count("good"),
        real_frames=kinds.count("real"),
        drawn_frames=kinds.count("drawn"),
        near_frames=kinds.count("near"),
        golden_frames=len(proof.golden),
        sections=tuple(made[name].section for name in ORDER if name in made),
    )


def parity_table(certificate: Certificate) -> list[str]:
    """The certificate as text: a row per precision, what is left out and why, and how the metrics
    were measured.
    """
    rows, lines = parity_rows(certificate)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*table, *lines]


def parity_rows(certificate: Certificate) -> tuple[list[tuple[str, ...]], list[str]]:
    """(a row for each precision, the titles first; sentences below the table)."""
    refused = [
        f"{s.precision} is left out: {'; '.join(s.reasons)}"
        for s in certificate.sections
        if not s.passed
    ]
    noisy = [
        f"{s.precision}: the noise of its normal scores is {s.noise.rms:.2f} s (s: half the spread"
        " of normal scores)"
        for s in certificate.sections
        if s.passed and s.noise.rms > NAMED_NOISE
    ]
    c = certificate
    counted = (
        f"each with its own threshold, of {c.normal_frames} normal validation parts; counted on"
        f" {c.good_frames} good parts that nothing was chosen on, {c.real_frames} real defects,"
        f" {c.drawn_frames} synthetic ones and {c.near_frames} near the threshold;"
        f" {c.golden_frames} of them are reference frames"
    )
    rows = [TITLES, *(_row(section) for section in certificate.sections)]
    return rows, [*refused, *noisy, counted, certificate.note]


def _row(section: PrecisionSection) -> tuple[str, ...]:
    s, v = section, section.verdicts
    good = f"not measured; expected {v.expected:.1%}" if v.good is None else str(v.good)
    shares = " / ".join(f"{share:.0%}" for share in (s.macs.int8, s.macs.fp16, s.macs.fp32))
    changes = [_points(value) for value in (s.change.i_auroc, s.change.aupro)]
    return (
        s.precision,
        good,
        _missed(v.real, v.drawn),
        str(v.unlike),
        str(v.near),
        f"{s.noise.rms:.2f} s",
        f"{s.mean_map_error:.3%}",
        f"{s.rank_correlation:.4f}",
        *changes,
        shares,
        "in the bundle" if s.passed else "left out",
    )


def _missed(real: Count, drawn: Count) -> str:
    """Real and synthetic defects apart: the synthetic ones begin at barely there."""
    synthetic = f"{drawn} synthetic"
    return f"{real} real, {synthetic}" if real.of else synthetic


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"
