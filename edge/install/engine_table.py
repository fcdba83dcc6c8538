"""The engines of a machine side by side, as `edge install` and `edge verify` print them."""

from __future__ import annotations

from collections.abc import Sequence

from edge.bundle.manifest import Manifest
from edge.install.engine_entry import EngineEntry
from edge.proof.certificate import NAMED_NOISE, Certificate, Verdicts
from edge.proof.measures import Noise
from edge.proof.threshold import percent_of

HEAD = (
    "engine",
    "precision",
    "ms",
    "normal rejected",
    "defects missed",
    "unlike float32",
    "noise (s)",
    "threshold",
    "bundle's",
    "",
)
LEGEND = (
    "normal rejected, defects missed, unlike float32: the certificate's count for this file under"
    " its own threshold; s: half the spread of float32's normal scores"
)


def engine_table(
    manifest: Manifest,
    certificate: Certificate,
    entries: Sequence[EngineEntry],
    states: Sequence[str],
) -> list[str]:
    """A row per engine, in columns as wide as their content, and what the columns count.

    states: what is said of each engine: "judges", "proven" or why it may not judge.
    """
    rows = [
        HEAD,
        *(_row(manifest, certificate, *pair) for pair in zip(entries, states, strict=True)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*lines, LEGEND]


def state_of(entry: EngineEntry, judge: EngineEntry | None) -> str:
    """What is said of an engine beside the one that judges."""
    if not entry.is_proven:
        return f"refused: {entry.why_not}"
    return "judges" if entry is judge else "proven"


def _row(
    manifest: Manifest, certificate: Certificate, entry: EngineEntry, state: str
) -> tuple[str, ...]:
    of_file, here = certificate.section(entry.precision), entry.section
    return (
        entry.runtime,
        entry.precision,
        "-" if here is None else f"{here.time_ms:.2f}",
        _normal_rejected(of_file.verdicts),
        str(of_file.verdicts.missed),
        str(of_file.verdicts.unlike),
        _noise(of_file.noise),
        "-" if here is None else f"{here.threshold.value:.6g}",
        f"{manifest.thresholds[entry.precision].value:.6g}",
        state,
    )


def _normal_rejected(verdicts: Verdicts) -> str:
    return (
        f"not measured, expected {percent_of(verdicts.expected)}"
        if verdicts.good is None
        else str(verdicts.good)
    )


def _noise(noise: Noise) -> str:
    return f"{noise.rms:.2f}" + (f" (above {NAMED_NOISE:.2f})" if noise.rms >= NAMED_NOISE else "")
