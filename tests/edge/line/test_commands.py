"""A command of the plant: what is taken, which key is named where it is not, and the answer."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.line.commands import (
    CALIBRATIONS,
    Command,
    CommandAnswer,
    CommandRefusal,
    Sent,
    Unreadable,
    Verb,
    answer_payload,
    read_command,
)
from edge.runtime.calibrating import COMMAND
from edge.sections import CommandName


def read(**fields: object) -> Sent:
    return read_command(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("fields", "command"),
    [
        ({"do": "select", "product": "washer"}, Command(Verb.SELECT, "washer")),
        ({"do": "select", "number": 7.0}, Command(Verb.SELECT, number=7)),
        ({"do": "calibrate", "what": "plane"}, Command(Verb.CALIBRATE, what="plane")),
        (
            {"do": "calibrate", "what": "expected", "count": 12},
            Command(Verb.CALIBRATE, what="expected", count=12),
        ),
        (
            {"do": "calibrate", "what": "parts", "count": 3, "false_rejects": 0.02},
            Command(Verb.CALIBRATE, what="parts", count=3, false_rejects=0.02),
        ),
        ({"do": "calibrate", "what": "parts"}, Command(Verb.CALIBRATE, what="parts")),
        (
            {"do": "calibrate", "what": "threshold", "false_rejects": 0.02},
            Command(Verb.CALIBRATE, what="threshold", false_rejects=0.02),
        ),
        *(({"do": verb.value, "id": "1"}, Command(verb, id="1")) for verb in list(Verb)[2:]),
    ],
)
def test_every_command_is_taken(fields: dict[str, Any], command: Command) -> None:
    assert read(**fields) == Sent(command)
    assert read(**fields, who="plc7") == Sent(command, "plc7")


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({}, "do"),
        ({"do": "Select"}, "do"),
        ({"do": ["select"]}, "do"),
        ({"do": "reset", "id": ""}, "id"),
        ({"do": "reset", "id": 7}, "id"),
        ({"do": "reset", "id": "a b"}, "id"),
        ({"do": "reset", "who": "x" * 33}, "who"),
        ({"do": "reset", "product": "washer"}, "product"),
        ({"do": "select"}, "product"),
        ({"do": "select", "product": "washer", "number": 1}, "product"),
        ({"do": "select", "product": "../washer"}, "product"),
        ({"do": "select", "product": 1}, "product"),
        ({"do": "select", "number": 0}, "number"),
        ({"do": "select", "number": 65_536}, "number"),
        ({"do": "select", "number": True}, "number"),
        ({"do": "select", "number": "1"}, "number"),
        ({"do": "calibrate"}, "what"),
        ({"do": "calibrate", "what": "all"}, "what"),
        ({"do": "calibrate", "what": "plane", "count": 10}, "count"),
        ({"do": "calibrate", "what": "expected", "count": 4}, "count"),
        ({"do": "calibrate", "what": "parts", "count": 100}, "count"),
        ({"do": "calibrate", "what": "plane", "false_rejects": 0.1}, "false_rejects"),
        ({"do": "calibrate", "what": "threshold"}, "false_rejects"),
        ({"do": "calibrate", "what": "threshold", "false_rejects": 0}, "false_rejects"),
        ({"do": "calibrate", "what": "threshold", "false_rejects": True}, "false_rejects"),
        ({"do": "calibrate", "what": "threshold", "false_rejects": 2}, "false_rejects"),
        ({"do": "calibrate", "what": "threshold", "false_rejects": float("nan")}, "false_rejects"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], key: str) -> None:
    command = read(**fields).command
    assert isinstance(command, Unreadable)
    assert command.field == key


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"\xff", b"[" * 1000, b'{"do":"reset"' + b" " * 1024]
)
def test_what_is_no_object_has_no_field(payload: bytes) -> None:
    command = read_command(payload).command
    assert isinstance(command, Unreadable)
    assert command.field == ""


def test_the_answer_to_a_bad_one_can_be_matched() -> None:
    sent = read(do="select", id="A 1", who="plc7")
    assert isinstance(sent.command, Unreadable)
    assert (sent.command.do, sent.command.id, sent.who) == ("select", "A_1", "plc7")
    twice = read_command(b'{"do":"reset","do":"pause"}').command
    assert isinstance(twice, Unreadable)
    assert twice.field == "do"


@given(st.binary(max_size=200) | st.dictionaries(st.text(), st.text()).map(
    lambda one: json.dumps({"do": "select", **one}).encode()))  # fmt: skip
def test_no_bytes_break_the_reader(payload: bytes) -> None:
    sent = read_command(payload)
    assert isinstance(sent.command, Command | Unreadable)


@given(
    st.text(max_size=400), st.text(max_size=400), st.sampled_from([None, *CommandRefusal]),
)  # fmt: skip
def test_an_answer_is_short_ascii_on_one_line(
    who: str, result: str, reason: CommandRefusal | None
) -> None:
    longest = "x" * 32
    payload = answer_payload(CommandAnswer(longest, who, result, reason, longest, longest))
    said = json.loads(payload.decode("ascii"))
    assert list(said) == ["do", "id", "who", "done", "reason", "field", "result"]
    assert said["done"] is (reason is None)
    assert len(payload) <= 500
    assert b"\\" not in payload


def test_an_answer_is_byte_exact() -> None:
    answer = CommandAnswer("select", "mqtt plc7", "washer 1.0.0 judges", id="41")
    assert answer_payload(answer) == (
        b'{"do":"select","id":"41","who":"mqtt plc7","done":true,"reason":"","field":"",'
        b'"result":"washer 1.0.0 judges"}'
    )


def test_station_toml_knows_the_same_commands() -> None:
    assert get_args(CommandName) == tuple(verb.value for verb in Verb)


def test_the_calibrations_are_those_of_the_command_line() -> None:
    from edge.cli.calibrate import app

    assert COMMAND[-1] == "calibrate"
    known = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    by_hand = {"challenge", "undo"}  # somebody looks at what they say, and decides
    assert known - by_hand - {"guided"} == set(CALIBRATIONS)
