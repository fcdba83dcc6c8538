"""Modbus TCP as bytes: requests to answers (MODBUS Application Protocol 1.1b3, sections 6.3, 6.4,
6.6, 6.12, 6.17 and 7; MODBUS Messaging on TCP/IP 1.0b, section 3.1). Pure.

Five functions are served; all others, and whatever does not fit its function's form, get the
exception that the specification names.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

HEADER_BYTES = 7  # transaction, protocol, length, unit
LENGTHS = range(2, 255)  # of unit and request together
READ_LIMIT, WRITE_LIMIT, WRITE_AND_READ_LIMIT = 125, 123, 121  # registers of one request
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE = 1, 2, 3
DEVICE_FAILURE, NO_SUCH_UNIT = 4, 11
UNIT_OF_NOBODY = (0, 255)  # what a client of Modbus TCP sends that knows no unit


class Registers(Protocol):
    """What a client reads and writes: holding and input registers are the same."""

    def read(self, address: int, count: int) -> Sequence[int] | None:
        """The words; None if one of the registers does not exist."""
        ...

    def write(self, address: int, words: Sequence[int]) -> bool:
        """Take them; False if one of the registers does not exist or may not be written."""
        ...


class Refused(Exception):
    """A request that is answered with an exception. code: its number."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


def header_of(header: bytes) -> tuple[int, int, int] | None:
    """Transaction, bytes that follow, and unit; None if this is not Modbus TCP."""
    transaction, protocol, length, unit = struct.unpack(">HHHB", header)
    return (transaction, length - 1, unit) if protocol == 0 and length in LENGTHS else None


def frame_of(transaction: int, unit: int, answer: bytes) -> bytes:
    """The answer with its header."""
    return struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer


def answer_of(request: bytes, unit: int, own_unit: int, registers: Registers) -> bytes:
    """The answer to a request, which may be an exception. request: function and data."""
    function = request[0]
    try:
        if unit != own_unit and unit not in UNIT_OF_NOBODY:
            raise Refused(NO_SUCH_UNIT)
        if function not in FUNCTIONS:
            raise Refused(ILLEGAL_FUNCTION)
        return bytes((function,)) + FUNCTIONS[function](request[1:], registers)
    except struct.error:
        return exception_of(function, ILLEGAL_VALUE)
    except Refused as refused:
        return exception_of(function, refused.code)


def exception_of(function: int, code: int) -> bytes:
    """An exception in answer to a request of that function."""
    return bytes((function | 0x80, code))


def _read(data: bytes, registers: Registers) -> bytes:
    address, count = struct.unpack(">HH", data)
    return _words_read(address, count, registers)


def _write_one(data: bytes, registers: Registers) -> bytes:
    address, word = struct.unpack(">HH", data)
    _take(address, [word], registers)
    return data


def _write_several(data: bytes, registers: Registers) -> bytes:
    address, count, size = struct.unpack(">HHB", data[:5])
    _take(address, _words_of(data[5:], count, size, WRITE_LIMIT), registers)
    return data[:4]


def _write_and_read(data: bytes, registers: Registers) -> bytes:
    """The write comes first, as the specification says; a read that cannot be answered is found
    before it, so that nothing is written then.
    """
    from_address, from_count, address, count, size = struct.unpack(">HHHHB", data[:9])
    words = _words_of(data[9:], count, size, WRITE_AND_READ_LIMIT)
    _words_read(from_address, from_count, registers)
    _take(address, words, registers)
    return _words_read(from_address, from_count, registers)


def _words_read(address: int, count: int, registers: Registers) -> bytes:
    if not 1 <= count <= READ_LIMIT:
        raise Refused(ILLEGAL_VALUE)
    words = registers.read(address, count)
    if words is None:
        raise Refused(ILLEGAL_ADDRESS)
    return struct.pack(f">B{count}H", 2 * count, *words)


def _words_of(data: bytes, count: int, size: int, limit: int) -> list[int]:
    if not 1 <= count <= limit or size != 2 * count or len(data) != size:
        raise Refused(ILLEGAL_VALUE)
    return list(struct.unpack(f">{count}H", data))


def _take(address: int, words: Sequence[int], registers: Registers) -> None:
    if not registers.write(address, words):
        raise Refused(ILLEGAL_ADDRESS)


FUNCTIONS: Mapping[int, Callable[[bytes, Registers], bytes]] = MappingProxyType(
    {3: _read, 4: _read, 6: _write_one, 16: _write_several, 23: _write_and_read}
)
