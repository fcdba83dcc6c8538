"""What is said over the socket reads back as it was, and what is no such thing is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge.control.protocol import (
    DATA_LIMIT,
    LINE_LIMIT,
    BadMessage,
    FrameTold,
    JudgmentTold,
    Payload,
    Score,
    arrays_of,
    bytes_of,
    error_of,
    frame_of,
    judgment_of,
    line_of,
    read_line,
    refusal_of,
    request_of,
    tell_array,
    tell_frame,
    tell_judgment,
)
from edge.errors import BusyError, CameraLost, ControlError, EdgeError
from edge.types import Code, Frame, Judgment, Reason
from tests.support import fakes
from tests.support.station import GOOD

SEEN = fakes.frame_of(GOOD, 7, exposure_us=8000.5, gain=16.0)


def through(said: Any, pieces: list[memoryview]) -> tuple[dict[str, Any], Payload]:
    """As the other side reads it."""
    data = b"".join(pieces)
    read, size = read_line(line_of(said.model_dump(mode="json"), len(data)))
    assert size == len(data)
    return read, Payload(data)


def assert_same_frame(one: Frame, other: Frame) -> None:
    assert np.array_equal(one.color, other.color)
    assert (one.depth is None) == (other.depth is None)
    assert one.depth is None or other.depth is None or np.array_equal(one.depth, other.depth)
    plain = [replace(frame, color=SEEN.color, depth=None) for frame in (one, other)]
    assert vars(plain[0]) == vars(plain[1])


@pytest.mark.parametrize(
    "frame", [SEEN, replace(SEEN, depth=None, exposure_us=None), SEEN.cropped(3, 2, 60, 31)]
)
def test_a_frame_reads_back_as_it_was(frame: Frame) -> None:
    read, payload = through(*tell_frame(frame, 3))
    told = FrameTold.model_validate(read)
    assert told.id == 3
    assert_same_frame(frame_of(told, payload), frame)
    payload.require_end()


@pytest.mark.parametrize("score", [None, np.float32(0.1), np.float32(1e-38), np.float32(13.25)])
def test_a_judgment_reads_back_to_the_last_bit(score: np.float32 | None) -> None:
    heat = np.array([[0.1, np.nan], [np.inf, -3.0]], np.float32)
    place = (1.5, 2.5, 3.0, 4.0, -0.125, 0.0)
    said = Judgment(Code.NG, Reason.ANOMALY, score, np.float32(0.3), 0.1, 0.9, heat, place)
    read, payload = through(*tell_judgment(said))
    back = judgment_of(JudgmentTold.model_validate(read), payload)
    assert back.map is not None
    assert back.map.tobytes() == heat.tobytes()
    assert vars(replace(back, map=None)) == vars(replace(said, map=None))
    assert isinstance(back.code, Code)
    assert isinstance(back.reason, Reason)
    assert back.score is None or back.score.dtype == np.float32


@pytest.mark.parametrize(
    "array",
    [
        np.float32(2.5).reshape(()),
        np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2],
        np.zeros((2, 0), np.float16),
        np.array([[True, False]]),
        np.arange(5, dtype=np.int64),
    ],
)
def test_an_array_reads_back_with_shape_and_values(array: np.ndarray[Any, Any]) -> None:
    told = {"x": tell_array(array), "y": tell_array(array)}
    back = arrays_of(told, Payload(bytes(bytes_of(array)) * 2))
    assert np.array_equal(back["y"], array)
    assert back["x"].shape == array.shape


def test_bytes_that_do_not_match_the_line_are_refused() -> None:
    told, pieces = tell_frame(SEEN)
    data = b"".join(pieces)
    with pytest.raises(BadMessage, match="too few"):
        frame_of(told, Payload(data[:-1]))
    payload = Payload(data + b"\0")
    frame_of(told, payload)
    with pytest.raises(BadMessage, match="too many"):
        payload.require_end()


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1", b"", b"[1]", b"\xff\xfe", b"[" * 9000, b'{"do":"live","bytes":-1}',
        b'{"do":"live","bytes":true}', b'{"do":"live","bytes":%d}' % (DATA_LIMIT + 1),
    ],
)  # fmt: skip
def test_what_is_no_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadMessage):
        read_line(line)


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({}, "do"),
        ({"do": "stop"}, "do"),
        ({"do": "live", "more": 1}, "more"),
        ({"do": "session.open", "who": "anna", "what": "a\nb"}, "what"),
        ({"do": "session.open", "who": "", "what": "plane"}, "who"),
        ({"do": "session.part", "timeout_s": float("nan")}, "timeout_s"),
        ({"do": "session.frames", "count": 10_000}, "count"),
        ({"do": "session.score", "frames": [], "tensors": {}}, "frames"),
        ({"do": "session.score", "frames": [0] * 65, "tensors": {}}, "frames"),
        ({"do": "session.score", "frames": [-1], "tensors": {}}, "frames"),
        ({"do": "session.score", "frames": [1],
          "tensors": {"x": {"dtype": "object", "shape": [1]}}}, "dtype"),
        ({"do": "session.score", "frames": [1],
          "tensors": {"../x": {"dtype": "float32", "shape": [1]}}}, "tensors"),
    ],
)  # fmt: skip
def test_a_request_that_is_none_is_refused_with_the_key(said: dict[str, Any], where: str) -> None:
    with pytest.raises(BadMessage, match=where):
        request_of(said)


def test_a_request_reads_back() -> None:
    told, _ = tell_frame(SEEN)
    asked = Score(frames=(4, told), tensors={"shift": tell_array(np.zeros(3, np.float32))})
    assert request_of(read_line(line_of(asked.model_dump(mode="json")))[0]) == asked


def test_a_line_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(BadMessage):
        line_of({"text": "x" * LINE_LIMIT})


@pytest.mark.parametrize("error", [BusyError("wait"), CameraLost("plug it in"), EdgeError("x")])
def test_an_error_is_raised_as_what_it_was(error: EdgeError) -> None:
    back = error_of(json.loads(json.dumps(refusal_of(error))))
    assert (type(back), str(back)) == (type(error), str(error))


@pytest.mark.parametrize("name", ["SystemExit", "on_one_line", "Nothing", None])
def test_no_other_class_is_raised_than_an_error_of_ours(name: str | None) -> None:
    back = error_of({"ok": False, "error": name, "text": "\x1b[2Jgone"})
    assert type(back) is ControlError
    assert str(back) == "\\x1b[2Jgone"
