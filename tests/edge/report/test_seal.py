"""A changed byte of a report is found, wherever it is; and whose key signed it is what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.bundle.key_files import load_signer
from edge.errors import DataError
from edge.report.document import Document, Fact, Section
from edge.report.render import render
from edge.report.seal import HEAD, TAIL, sealed, verify_report
from tests.support.tiny_bundle import make_key

WHEN = "2026-11-30T10:00:00.000Z"


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> list:
    folder = tmp_path_factory.mktemp("keys")
    return [load_signer(make_key(folder, name).private) for name in ("own", "other")]


def document(signer, who: str = "anna") -> Document:
    sections = [Section("A lot", facts=[Fact("Parts", "400")])]
    return Document("lot", "Lot report", "site/line/s1", who, WHEN, signer.public_key.keyid,
                    sections)  # fmt: skip


@pytest.fixture(scope="module")
def report(signers) -> bytes:
    told = document(signers[0])
    return sealed(render(told), told, signers[0])


def test_a_report_says_who_made_and_signed_it(report: bytes, signers) -> None:
    verified = verify_report(report)
    assert verified.key.keyid == signers[0].public_key.keyid
    assert (verified.about.who, verified.about.when) == ("anna", WHEN)
    assert (verified.about.kind, verified.about.station) == ("lot", "site/line/s1")


def test_every_changed_byte_is_found(report: bytes) -> None:
    """All of the signature's line, and every seventh of the page."""
    seal_at = report.rindex(HEAD)
    places = [*range(0, seal_at, 7), *range(seal_at, len(report))]
    assert len(places) > 1000
    for place in places:
        changed = bytearray(report)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(DataError):
            verify_report(bytes(changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: b" " + data,
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"400", b"40"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b'"who": "anna"', b'"who": "bert"'),
        lambda data: data.replace(b'"schema": 1', b'"schema":1'),
        lambda data: data.replace(b'"schema": 1', b'"schema": 2'),
        lambda data: data.replace(TAIL, b" ,-->\n"),
        lambda _: b"",
        lambda _: b"<html></html>",
        lambda _: HEAD + b"{}" + TAIL,
        lambda _: HEAD + b"[" * 3000 + TAIL,
        lambda _: HEAD + b'"\xff"' + TAIL,
    ],
)
def test_what_is_no_report_any_more(report: bytes, change) -> None:
    assert change(report) != report
    with pytest.raises(DataError, match=r"no report|damaged|not as it was signed"):
        verify_report(change(report))


def test_a_second_signature_counts_alone(report: bytes, signers) -> None:
    """Whoever signs a changed report with another key is the one that is named."""
    told = document(signers[1], who="mallory")
    twice = sealed(report.replace(b"400", b"401"), told, signers[1])
    verified = verify_report(twice)
    assert verified.key.keyid == signers[1].public_key.keyid
    assert verified.about.who == "mallory"


def test_a_key_of_another_id_or_one_that_anybody_can_sign_for(report: bytes, signers) -> None:
    seal_at = report.rindex(HEAD)
    seal = json.loads(report[seal_at + len(HEAD) : -len(TAIL)])
    weak = "01" + "00" * 31
    for key in ({"keyid": signers[1].public_key.keyid}, {"keyval": {"public": weak}}):
        changed = {**seal, "key": {**seal["key"], **key}}
        line = HEAD + json.dumps(changed, sort_keys=True).encode() + TAIL
        with pytest.raises(DataError, match="not as it was signed"):
            verify_report(report[:seal_at] + line)


def test_no_text_ends_the_line_of_the_signature(signers, tmp_path: Path) -> None:
    told = document(signers[0], who="--><script>alert(1)</script>" + HEAD.decode())
    data = sealed(render(told), told, signers[0])
    assert b"<script>" not in data
    assert data.count(HEAD) == 1
    assert data[data.rindex(HEAD) :].count(b"-->") == 1
    assert verify_report(data).about.who == told.who
