"""Requests and answers, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from edge.line.modbus_wire import answer_of, frame_of, header_of


class Words:
    """Ten registers; the last five may not be written."""

    def __init__(self) -> None:
        self.words = list(range(10))

    def read(self, address: int, count: int) -> list[int] | None:
        return self.words[address : address + count] if address + count <= 10 else None

    def write(self, address: int, words: Sequence[int]) -> bool:
        if address + len(words) > 5:
            return False
        self.words[address : address + len(words)] = words
        return True


def ask(request: str, words: Words | None = None, unit: int = 1) -> str:
    return answer_of(bytes.fromhex(request), unit, 1, words or Words()).hex(" ")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("03 0001 0002", "03 04 00 01 00 02"),
        ("04 0001 0002", "04 04 00 01 00 02"),
        ("06 0001 00ff", "06 00 01 00 ff"),
        ("10 0001 0002 04 0007 0008", "10 00 01 00 02"),
        ("17 0000 0002 0001 0001 02 0063", "17 04 00 00 00 63"),
    ],
)
def test_functions(request_: str, answer: str) -> None:
    assert ask(request_) == answer


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("01 0000 0001", 1),
        ("05 0000 ff00", 1),
        ("08 0000 0000", 1),
        ("16 0000 0000 0000", 1),
        ("2b 0e 01 00", 1),
        ("03 0009 0002", 2),
        ("03 ffff 0002", 2),
        ("06 0005 0001", 2),
        ("10 0004 0002 04 0007 0008", 2),
        ("17 0009 0002 0001 0001 02 0063", 2),
        ("17 0000 0002 0005 0001 02 0063", 2),
        ("03 0000 0000", 3),
        ("03 0000 007e", 3),
        ("03 0000", 3),
        ("03 0000 0001 00", 3),
        ("06 0000", 3),
        ("10 0000 0000 00", 3),
        ("10 0000 0002 02 0007 0008", 3),
        ("10 0000 0002 04 0007", 3),
        ("17 0000 0001 0001 0001 02", 3),
    ],
)
def test_exceptions_write_nothing(request_: str, code: int) -> None:
    words = Words()
    function = int(request_[:2], 16)
    assert ask(request_, words) == f"{function | 0x80:02x} {code:02x}"
    assert words.words == list(range(10))


def test_only_the_own_unit_and_those_of_nobody_are_answered() -> None:
    assert [ask("03 0001 0001", unit=unit)[:2] for unit in (0, 1, 255)] == ["03"] * 3
    assert ask("03 0001 0001", unit=2) == "83 0b"


def test_headers() -> None:
    assert header_of(bytes.fromhex("0102 0000 0006 05")) == (0x0102, 5, 5)
    assert header_of(bytes.fromhex("0102 0001 0006 05")) is None
    assert header_of(bytes.fromhex("0102 0000 0001 05")) is None
    assert header_of(bytes.fromhex("0102 0000 00ff 05")) is None
    assert frame_of(0x0102, 5, b"\x83\x02").hex() == "010200000003058302"
