"""The part of a commissioning report that says what was calibrated and measured on site: threshold,
parts, challenge, latency, drift, and who changed what.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from edge.archive.acts import ActFilter, read_acts
from edge.archive.query import RecordFilter, read_numbers
from edge.decide.drift_words import sentence_of as drift_sentence
from edge.errors import EdgeError
from edge.files import is_there, read_bytes
from edge.proof.threshold import percent_of
from edge.report.charts import scores_chart
from edge.report.document import Fact, Picture, Section, Table, fact
from edge.report.known import Known
from edge.report.pictures import picture_of
from edge.runtime.drift_watch import read_drift
from edge.station.audit import AuditRow
from edge.station.commissioning import Commissioning, pictures_folder
from edge.station.commissioning import Picture as ShownPart
from edge.station.site_digest import geometry_digest
from edge.station.standing import challenge_line
from edge.station.store import Store

LATENCY_PARTS = 1000
ACTS_SHOWN = 20
PICTURE_LIMIT = 16 << 20  # bytes of one picture
DETAIL_LIMIT = 160  # characters of an audit row's detail in a report
MISSED = "missed"
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def threshold_section(known: Known) -> Section:
    """The threshold that judges, with what is proven and what is expected."""
    state, judge = known.state, known.judge
    if known.threshold is None:
        return Section("Threshold", facts=[fact("Threshold", None, is_warning=True)])
    if state is not None and state.threshold is not None:
        source = f"calibrated on this station, version {state.version}"
        who, sentence = f"{state.who}, {state.when}", state.guarantee
    else:
        assert judge is not None
        assert judge.section is not None  # or there would be no threshold
        source = "of the bundle's normal parts, on this engine"
        who, sentence = f"measured {judge.section.proven_at}", judge.section.threshold.guarantee
    facts = [
        fact("Threshold", f"{known.threshold:.6g}"),
        fact("Set from", source),
        fact("By whom, when", who),
        Fact("Guarantee", sentence or "none is recorded", is_warning=not sentence),
    ]
    return Section("Threshold", facts=[*facts, *_shown_facts(known)])


def parts_sections(known: Known) -> list[Section]:
    """The normal parts that were shown, with pictures; a section that says so where none were."""
    shown = known.shown
    if shown is None:
        return [Section("Normal parts shown on site", facts=[fact("Parts", None)])]
    scored = [part for part in shown.parts if part.score is not None]
    chart = scores_chart([part.score or 0.0 for part in scored], shown.threshold)
    facts = [
        fact("By whom, when", f"{shown.who}, {shown.when}"),
        fact("Bundle, engine", f"{shown.bundle}, {shown.engine} {shown.precision}"),
        fact("Camera", shown.serial),
        fact("Parts whose scores set the threshold", str(shown.count)),
        Fact("Channels adapted by shift and scale", str(shown.channels)),
        Fact("Rows added to the memory bank", str(shown.spare_rows)),
        *_kept_facts(shown),
    ]
    return [
        Section(
            "Normal parts shown on site",
            facts=facts,
            charts=[(chart, "Each dot is one part, by its score.")] if scored else [],
            pictures=[_picture(known, part) for part in shown.parts],
        )
    ]


def challenge_section(known: Known) -> Section:
    """The known-bad parts."""
    challenge = None if known.shown is None else known.shown.challenge
    if challenge is None:
        return Section("Challenge with known-bad parts", facts=[fact("Challenge", None)])
    old = challenge_line(known.state, known.shown, known.cameras)
    return Section(
        "Challenge with known-bad parts",
        said=[challenge.sentence, *([] if old is None else [f"{old[0].upper()}{old[1:]}."])],
        facts=[
            fact("By whom, when", f"{challenge.who}, {challenge.when}"),
            fact("Caught", f"{challenge.caught} of {len(challenge.parts)}"),
            fact("Under threshold", f"{challenge.threshold:.6g}"),
        ],
        pictures=[_picture(known, part) for part in challenge.parts],
    )


def latency_facts(store: Store, asked: RecordFilter) -> list[Fact]:
    """From the capture of the frame that completed a part to its judgment."""
    read = read_numbers(store.root, asked, "judge_ms")[:, 0]
    times_ms = read[np.isfinite(read)]
    p50, p99 = np.percentile(times_ms, [50, 99]) if len(times_ms) else (None, None)
    return [
        fact("Capture to judgment, p50", _whole(p50), "ms"),
        fact("Capture to judgment, p99", _whole(p99), "ms"),
        fact("Of how many parts", str(len(times_ms)) if len(times_ms) else None),
    ]


def latency_section(known: Known) -> Section:
    """The latency of the newest parts of this product, and of the engine alone."""
    asked = RecordFilter(product=known.bundle.product, limit=LATENCY_PARTS)
    section = None if known.judge is None else known.judge.section
    alone = fact("Engine alone, when it was proven", section and section.time_ms, "ms")
    return Section("Latency", facts=[*latency_facts(known.store, asked), alone])


def drift_section(known: Known) -> Section:
    """The parts that later ones are compared with, and what has changed among them."""
    read = read_drift(known.store, known.bundle.product)
    if read is None:
        return Section("Drift reference", facts=[fact("Reference", None)])
    key, drift = read
    is_own = key.bundle == known.bundle.slot
    record = known.cameras.get(key.serial)
    in_force = None if record is None else geometry_digest(record)
    is_here = key.geometry == in_force
    changed = drift_sentence(drift.changes)
    return Section(
        "Drift reference",
        facts=[
            Fact("Of bundle", key.bundle, is_warning=not is_own),
            fact("Engine", key.engine),
            fact("Camera", key.serial),
            Fact(
                "Plane, crop, region",
                "those in force" if is_here else "others than those in force: it begins anew",
                is_warning=not is_here,
            ),
            fact("Parts compared with each other so far", str(drift.parts)),
            Fact("What drifts", changed or "nothing", is_warning=changed is not None),
        ],
    )


def acts_section(store: Store, asked: ActFilter) -> Section:
    """Who changed what OK means, the newest first."""
    acts = read_acts(store.root, asked)
    table = Table(
        ("When (UTC)", "Who", "What", "Detail"),
        [(act.at[:19].replace("T", " "), act.who, act.act, detail_of(act)) for act in acts],
        whole=frozenset({0}),
    )
    return Section(
        "Who changed what",
        tables=[table] if acts else [],
        said=[] if acts else ["Nothing."],
        notes=[f"At most {asked.limit} rows; `edge audit` has all of them."] if asked.limit else [],
    )


def detail_of(act: AuditRow) -> str:
    """The detail of an audit row in a few words: its texts and numbers, digests by their first
    digits.
    """
    told = [
        f"{key} {DIGEST.sub(_first_digits, value) if isinstance(value, str) else json.dumps(value)}"
        for key, value in act.detail.items()
        if value is not None and not isinstance(value, (dict, list))
    ]
    text = ", ".join(told)
    return text if len(text) <= DETAIL_LIMIT else f"{text[: DETAIL_LIMIT - 3]}..."


def _shown_facts(known: Known) -> list[Fact]:
    """The two sentences, if they are about the threshold that judges."""
    shown = known.shown
    if shown is None:
        return [fact("What parts of this site prove", None), fact("Expected on this site", None)]
    if not known.is_shown_to_judge:
        old = f"not known: threshold or engine was changed after {shown.when}"
        return [Fact("What parts of this site prove", old, is_warning=True)]
    proven = f"at most {percent_of(shown.proven)} of normal parts are rejected"
    how = "95% confidence" if shown.is_proven else "measured, not proven: the parts also fitted"
    expected = f"about {percent_of(shown.expected)}, an estimate with the trainer's scores"
    return [
        fact("What parts of this site prove", f"{proven} ({how})"),
        fact("Expected on this site", expected),
        fact("Among the next parts", shown.next_parts),
        fact("To prove more", shown.to_prove),
    ]


def _kept_facts(shown: Commissioning) -> list[Fact]:
    """What somebody decided about the parts, and what they should look at."""
    kept = ", ".join(map(str, shown.kept))
    declared = Fact("Declared normal although they stand apart", kept, is_warning=True)
    return [
        *([declared] if kept else []),
        *([Fact("To look at", shown.note, is_warning=True)] if shown.note else []),
    ]


def _picture(known: Known, part: ShownPart) -> Picture:
    score = "" if part.score is None else f"score {part.score:.4g}"
    path = pictures_folder(known.store, known.bundle.product) / part.picture
    title, is_missed = f"{part.number}: {part.role}", part.role == MISSED
    return picture_of(_read_picture(path), title, score, is_missed)


def _read_picture(path: Path) -> bytes:
    """Empty where it is gone."""
    try:
        return read_bytes(path, limit=PICTURE_LIMIT) if is_there(path) else b""
    except (OSError, EdgeError):
        return b""


def _first_digits(digest: re.Match[str]) -> str:
    return digest[0][:12]


def _whole(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"
