"""The reports as a whole: read, drawn, signed."""

from __future__ import annotations

from pathlib import Path

from edge.archive.acts import ActFilter
from edge.archive.query import RecordFilter
from edge.config import read_config
from edge.report.document import Document, Kind, Section
from edge.report.installed_sections import (
    bundle_section,
    camera_section,
    certificate_section,
    plane_section,
    station_section,
)
from edge.report.known import Known, read_known
from edge.report.lot import lot_sections
from edge.report.render import render
from edge.report.seal import sealed
from edge.report.site_sections import (
    ACTS_SHOWN,
    acts_section,
    challenge_section,
    drift_section,
    latency_section,
    parts_sections,
    threshold_section,
)
from edge.station.audit import current_user, now_utc
from edge.station.standing import standing_lines
from edge.station.station_key import open_signer
from edge.station.store import Store


def commissioning_report(store: Store, product: str, who: str | None = None) -> bytes:
    """The signed page of one product of a station.

    who: by default the account that runs this.
    Raises: BundleError if the product is not installed, ConfigError or StorageError if a file of
        the station is damaged or the report cannot be signed.
    """
    known = read_known(store, product)
    sections = [
        station_section(known),
        camera_section(known),
        bundle_section(known),
        certificate_section(known),
        plane_section(known),
        threshold_section(known),
        *parts_sections(known),
        challenge_section(known),
        latency_section(known),
        drift_section(known),
        acts_section(store, ActFilter(limit=ACTS_SHOWN)),
    ]
    title = f"Commissioning of {product}"
    return _signed(store, "commissioning", title, sections, _open_points(known), who)


def lot_report(store: Store, asked: RecordFilter, who: str | None = None) -> bytes:
    """The signed page of the parts that were judged in a time.

    asked: since, until and product are looked at. who: by default the account that runs this.
    Raises: DataError if no part was judged, ConfigError or StorageError as above.
    """
    sections, warnings = lot_sections(store, asked)
    title = f"Lot report{'' if asked.product is None else f' of {asked.product}'}"
    return _signed(store, "lot", title, sections, warnings, who)


def report_name(root: Path, kind: Kind, when: str) -> str:
    """A file name for a report, such as commissioning-cell7-20261130-1659.html."""
    station = read_config(root).station.station
    digits = "".join(character for character in when if character.isdigit())
    return f"{kind}-{station}-{digits[:8]}-{digits[8:12]}.html"


def _signed(
    store: Store,
    kind: Kind,
    title: str,
    sections: list[Section],
    warnings: list[str],
    who: str | None,
) -> bytes:
    names = read_config(store.root).station
    signer = open_signer(store)
    document = Document(
        kind=kind,
        title=title,
        station=f"{names.site}/{names.line}/{names.station}",
        who=who or current_user(),
        when=now_utc(),
        keyid=signer.public_key.keyid,
        sections=sections,
        warnings=warnings,
    )
    return sealed(render(document), document, signer)


def _open_points(known: Known) -> list[str]:
    """What a commissioning still lacks, or rests on something that is not so any more."""
    shown, presence = known.shown, known.bundle.manifest.presence
    points = [
        (known.judge is None, f"No engine judges yet: {known.why}."),
        (
            presence and not any(one.plane for one in known.cameras.values()),
            "There is no plane: every part is UNKNOWN until `edge calibrate plane`.",
        ),
        (shown is None, "No normal parts were shown on site: `edge calibrate parts`."),
        (
            shown is not None and not known.is_shown_to_judge,
            "The parts were shown under another bundle, engine or threshold than the one that"
            " judges now.",
        ),
        (
            shown is not None and shown.challenge is None,
            "No known-bad parts were shown: `edge calibrate challenge`.",
        ),
    ]
    old = standing_lines(known.state, shown, known.cameras)
    return [
        *(sentence for is_open, sentence in points if is_open),
        *(f"{line[0].upper()}{line[1:]}." for line in old),
    ]
