"""What a client and a running station say to each other over the Unix socket. Pure: values and
bytes.

A message is one JSON object on one line, ASCII, of at most 64 KiB; where it has the key `bytes`, so
many raw bytes follow the line: the pixels of frames and the values of tensors, which the line
describes.

    client -> station   Request: one at a time, `do` says which
    station -> client   for each request one message, or where it asks for several things one for
                        each and then one with `end`; `ok` is false in a refusal, which has the name
                        of the error and its sentence, and is the last message to that request

edge/control/stream.py reads and writes messages, docs/station.md says what they are for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, TypeAdapter, ValidationError

from edge import errors
from edge.camera.device import DeviceFacts
from edge.control.guide import GuideBegin, GuideLook, GuideOrder, Label
from edge.errors import ControlError, EdgeError
from edge.schema import Name, Precision, Strict
from edge.types import Code, Frame, Intrinsics, Judgment, Reason

SOCKET = Path("run/edge/control.sock")  # below the root of a station
VERSION = 1
LINE_LIMIT = 64 << 10  # bytes
DATA_LIMIT = 64 << 20  # bytes behind one line
FRAMES_LIMIT = 64  # of one request
STRANGE = "it does not speak the language of this version: install the same version for both"

Size = Annotated[int, Field(ge=0, le=1 << 16)]
DTYPE = Literal["uint8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool"]


class BadMessage(ValueError):
    """What came is no message of this language."""


class ArrayTold(Strict):
    """An array, whose values are the next bytes: C order, little endian."""

    dtype: DTYPE
    shape: tuple[Annotated[int, Field(ge=0, le=1 << 28)], ...] = Field(max_length=8)


class FrameTold(Strict):
    """A frame, as types.Frame; its color, then its depth are the next bytes.

    color: (rows, columns). id: by which the station remembers it; None where it does not.
    """

    color: tuple[Size, Size]
    has_depth: bool
    unit: float
    pinhole: tuple[int, int, float, float, float, float]
    serial: str
    frame_number: int
    captured_mono_ns: int
    clock_domain: str
    exposure_us: float | None
    gain: float | None
    id: NonNegativeInt | None = None


class JudgmentTold(Strict):
    """A judgment, as types.Judgment; its map is the next bytes, where it has one."""

    code: Code
    reason: Reason
    score: float | None
    threshold: float | None
    area: float
    valid: float
    place: tuple[float, float, float, float, float, float]
    map: tuple[Size, Size] | None


class StationTold(Strict):
    """What looks at the parts of a session.

    is_calibrated: whether there is a plane, where the product needs one. bundle: VERSION-DIGEST12.
    crop: x, y, width, height in pixels of the whole stream. problem: why no frame can be judged,
    empty where the site's files are sound: the frames serve all the same.
    """

    serial: str
    is_calibrated: bool
    engine: str
    precision: Precision
    product: str
    bundle: str
    crop: tuple[int, int, int, int]
    facts: DeviceFacts
    problem: str


# --- requests ---


class Hello(Strict):
    """Who is there?"""

    do: Literal["hello"] = "hello"


class Live(Strict):
    """What the station sees and says now. whole: the picture is of the whole color image, also
    beside the crop that is judged.
    """

    do: Literal["live"] = "live"
    whole: bool = False


class OpenSession(Strict):
    """Show parts to a calibration. who: the user, as the client knows him. what: is calibrated."""

    do: Literal["session.open"] = "session.open"
    who: Label
    what: Label


class NextPart(Strict):
    """The next part that the gate completes. timeout_s: how long it is waited for."""

    do: Literal["session.part"] = "session.part"
    timeout_s: float = Field(ge=0, le=600)


class NextFrames(Strict):
    """So many fresh frames of the whole stream. timeout_s: how long each is waited for."""

    do: Literal["session.frames"] = "session.frames"
    count: int = Field(ge=1, le=300)
    timeout_s: float = Field(default=5.0, ge=0, le=60)


class Score(Strict):
    """Run the engine on cropped frames under proposed site inputs.

    frames: the id of one that the station remembers, or a frame whose pixels come with the request.
    tensors: by the name of the graph's input; their values come after the pixels. outputs: of the
    graph, that are wanted, as far as it has them; None: all.
    """

    do: Literal["session.score"] = "session.score"
    frames: tuple[NonNegativeInt | FrameTold, ...] = Field(min_length=1, max_length=FRAMES_LIMIT)
    tensors: dict[Name, ArrayTold] = Field(max_length=32)
    outputs: tuple[Name, ...] | None = Field(default=None, max_length=32)


class CloseSession(Strict):
    """Parts are judged again."""

    do: Literal["session.close"] = "session.close"


Request = (
    Hello
    | Live
    | OpenSession
    | NextPart
    | NextFrames
    | Score
    | CloseSession
    | GuideBegin
    | GuideOrder
    | GuideLook
)
READ_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="do")])


# --- messages ---


@dataclass(frozen=True, eq=False)
class Message:
    """One message. said: its object, without `bytes`. data: what follows the line."""

    said: Mapping[str, Any]
    data: bytes | bytearray | memoryview = b""


def line_of(said: Mapping[str, Any], size: int = 0) -> bytes:
    """The line of a message that `size` raw bytes follow.

    Raises: BadMessage if it would be too long, ValueError for NaN and infinity.
    """
    whole = {**said, "bytes": size} if size else said
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    line = text.encode("ascii") + b"\n"
    if len(line) > LINE_LIMIT:
        raise BadMessage(f"a line of {len(line)} bytes, at most {LINE_LIMIT} are possible")
    return line


def read_line(line: bytes | bytearray) -> tuple[dict[str, Any], int]:
    """The object of a line, and how many raw bytes follow it. Raises: BadMessage."""
    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadMessage("a line is not JSON") from error
    if not isinstance(said, dict):
        raise BadMessage("a line is no JSON object")
    size = said.pop("bytes", 0)
    if type(size) is not int or not 0 <= size <= DATA_LIMIT:
        raise BadMessage(f"`bytes` is no number between 0 and {DATA_LIMIT}")
    return said, size


def request_of(said: Mapping[str, Any]) -> Request:
    """Raises: BadMessage naming the first key that is wrong."""
    try:
        return READ_REQUEST.validate_python(said, strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "do"
        raise BadMessage(f"{where}: {first['msg']}") from error


def refusal_of(error: EdgeError) -> dict[str, Any]:
    """The message that hands an error over."""
    return {"ok": False, "error": type(error).__name__, "text": str(error)[:4000]}


def error_of(said: Mapping[str, Any]) -> EdgeError:
    """The exception that a refusal stands for."""
    known = vars(errors).get(str(said.get("error")))
    text = errors.on_one_line(str(said.get("text")))
    if isinstance(known, type) and issubclass(known, EdgeError):
        return known(text)
    return ControlError(text)


# --- frames, judgments and tensors ---


class Payload:
    """Takes one array after the other from the raw bytes of a message."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data, self._at = memoryview(data), 0

    def take(self, shape: Sequence[int], dtype: str) -> NDArray[Any]:
        """The next array: a copy. Raises: BadMessage if the bytes are too few."""
        kind = np.dtype(dtype).newbyteorder("<")
        end = self._at + math.prod(shape) * kind.itemsize
        if end > len(self._data):
            raise BadMessage(f"{len(self._data)} bytes are too few for what the line describes")
        piece, self._at = self._data[self._at : end], end
        return np.frombuffer(piece, kind).reshape(shape).astype(np.dtype(dtype))

    def require_end(self) -> None:
        """Raises: BadMessage if something is left."""
        if self._at != len(self._data):
            raise BadMessage(f"{len(self._data)} bytes are too many for what the line describes")


def bytes_of(array: NDArray[Any]) -> memoryview:
    """The values of an array: C order, little endian."""
    plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return plain.reshape(-1).view(np.uint8).data


def tell_array(array: NDArray[Any]) -> ArrayTold:
    """Raises: BadMessage for a type that cannot be told."""
    try:
        return ArrayTold.model_validate({"dtype": array.dtype.name, "shape": array.shape})
    except ValidationError as error:
        raise BadMessage(f"an array of {array.dtype} {array.shape} cannot be told") from error


def tell_frame(frame: Frame, name: int | None = None) -> tuple[FrameTold, list[memoryview]]:
    """A frame, and its bytes. name: by which the station remembers it."""
    i = frame.intrinsics
    told = FrameTold(
        color=(frame.color.shape[0], frame.color.shape[1]),
        has_depth=frame.depth is not None,
        unit=frame.unit,
        pinhole=(i.width, i.height, i.fx, i.fy, i.cx, i.cy),
        serial=frame.serial,
        frame_number=frame.frame_number,
        captured_mono_ns=frame.captured_mono_ns,
        clock_domain=frame.clock_domain,
        exposure_us=_finite(frame.exposure_us),
        gain=_finite(frame.gain),
        id=name,
    )
    depth = [] if frame.depth is None else [bytes_of(frame.depth)]
    return told, [bytes_of(frame.color), *depth]


def frame_of(told: FrameTold, payload: Payload) -> Frame:
    """The frame that `tell_frame` has told. Raises: BadMessage."""
    rows, columns = told.color
    color = payload.take((rows, columns, 3), "uint8")
    depth = payload.take((rows, columns), "uint16") if told.has_depth else None
    return Frame(
        color,
        depth,
        told.unit,
        Intrinsics(*told.pinhole),
        told.serial,
        told.frame_number,
        told.captured_mono_ns,
        told.clock_domain,
        told.exposure_us,
        told.gain,
    )


def tell_judgment(judgment: Judgment) -> tuple[JudgmentTold, list[memoryview]]:
    """A judgment, and the bytes of its map."""
    heat = judgment.map
    told = JudgmentTold(
        code=judgment.code,
        reason=judgment.reason,
        score=None if judgment.score is None else float(judgment.score),
        threshold=None if judgment.threshold is None else float(judgment.threshold),
        area=judgment.area,
        valid=judgment.valid,
        place=judgment.place,  # type: ignore[arg-type]  # six, as types.Judgment says
        map=None if heat is None else (heat.shape[0], heat.shape[1]),
    )
    return told, [] if heat is None else [bytes_of(heat)]


def judgment_of(told: JudgmentTold, payload: Payload) -> Judgment:
    """The judgment that `tell_judgment` has told. Raises: BadMessage."""
    return Judgment(
        told.code,
        told.reason,
        None if told.score is None else np.float32(told.score),
        None if told.threshold is None else np.float32(told.threshold),
        told.area,
        told.valid,
        None if told.map is None else payload.take(told.map, "float32"),
        told.place,
    )


def arrays_of(told: Mapping[str, ArrayTold], payload: Payload) -> dict[str, NDArray[Any]]:
    """The arrays by name, in their order. Raises: BadMessage."""
    return {name: payload.take(one.shape, one.dtype) for name, one in told.items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
