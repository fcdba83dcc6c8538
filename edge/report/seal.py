"""The signature of a report, in its last line:

    <!-- edge report {"about": {...}, "key": {...}, "schema": 1, "signature": "..."} -->

Signed are DOMAIN, every byte before that line, and `about` (what the report is of, by whom and
when) in its one spelling. Browsers ignore the line. Reading it needs no HTML parser: whatever
stands in front of the last such line is the report.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from edge.bundle.curve import is_sound_point
from edge.bundle.key_files import PublicKey, key_id
from edge.bundle.signature import Hex64, is_signed_by
from edge.errors import DataError
from edge.report.document import Document, Kind
from edge.schema import Strict, parse_json
from edge.station.station_key import public_key_of

DOMAIN = b"edge report, schema 1\n"  # so that nothing else that this key signs passes for a report
HEAD, TAIL = b"<!-- edge report ", b" -->\n"
SEAL_LIMIT = 4096  # bytes of the line
REPORT_LIMIT = 256 << 20


class About(Strict):
    """What is signed beside the page. when: UTC, ISO 8601."""

    kind: Kind
    title: str
    station: str
    who: str
    when: str


class Seal(Strict):
    """The last line of a report."""

    schema_: Literal[1] = Field(alias="schema")
    about: About
    key: PublicKey
    signature: Hex64


@dataclass(frozen=True)
class Verified:
    """A report that is exactly as this key has signed it."""

    about: About
    key: PublicKey


def sealed(page: bytes, document: Document, signer: Any) -> bytes:
    """The page with its signature.

    signer: of edge.station.station_key.open_signer.
    """
    about = About(
        kind=document.kind,
        title=document.title,
        station=document.station,
        who=document.who,
        when=document.when,
    )
    signature = signer.sign(_signed(page, about)).signature
    seal = {
        "schema": 1,
        "about": about.model_dump(),
        "key": public_key_of(signer).model_dump(exclude_none=True),
        "signature": signature,
    }
    return page + _line(seal)


def verify_report(data: bytes) -> Verified:
    """Who signed a report, if not one byte of it was changed since. Whether that key is the right
    one is for the caller to say.

    Raises: DataError if it is no report, is cut short, or was changed.
    """
    page, separator, rest = data.rpartition(HEAD)
    if not separator or not rest.endswith(TAIL) or len(rest) > SEAL_LIMIT:
        raise DataError(
            "it has no signature at its end: it is no report of a station, or was cut short, or"
            " saved by a browser; get the file that `edge report` wrote"
        )
    try:
        seal = Seal.model_validate(parse_json(rest[: -len(TAIL)]))
    except (ValidationError, ValueError) as error:
        raise DataError(f"its signature is damaged: {CHANGED}") from error
    told = seal.model_dump(by_alias=True, exclude_none=True, mode="json")
    public = seal.key.keyval.public
    is_sound = key_id(public) == seal.key.keyid and is_sound_point(bytes.fromhex(public))
    if (
        _line(told) != HEAD + rest
        or not is_sound
        or not is_signed_by(seal.key, seal.signature, _signed(page, seal.about))
    ):
        raise DataError(f"it is not as it was signed: {CHANGED}")
    return Verified(seal.about, seal.key)


CHANGED = "it was changed afterwards; get the file from the station again, and ask who changed it"


def _signed(page: bytes, about: About) -> bytes:
    return DOMAIN + page + _json(about.model_dump())


def _line(seal: dict[str, Any]) -> bytes:
    return HEAD + _json(seal) + TAIL


def _json(value: dict[str, Any]) -> bytes:
    """One spelling, in which no text can end the comment that it stands in."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return text.replace(">", "\\u003e").replace("<", "\\u003c").encode("ascii")
