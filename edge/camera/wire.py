"""What the station and the camera's process tell each other: one JSON object per packet of a
SOCK_SEQPACKET pair.

station -> camera    Order, once; Next, where frames are taken one by one; Returned, for each slot
                     that was read
camera -> station    Hello, once its libraries are loaded; Opened; RingMade, with the memory's
                     descriptor; Filled, for each frame; Failed, the last word
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, TypeAdapter

from edge import errors
from edge.camera.contract import CameraContract
from edge.camera.protocol import EndOfFrames
from edge.config import CameraConfig
from edge.errors import CameraError, EdgeError
from edge.frames.camera_info import CameraInfo

# what begins with it on the process's stderr is a log record, anything else foreign text
LOG_MARK = "edge-log "
PACKET_BYTES = 64 << 10  # more than any message takes
SENTENCE_CHARS = 4_000  # of an error; a traceback keeps its end


class Packet(BaseModel, extra="forbid", frozen=True, ser_json_inf_nan="constants"):
    """One message."""

    def packed(self) -> bytes:
        """As it crosses."""
        return self.model_dump_json().encode()


class Order(Packet, frozen=True):
    """Which camera to open, and how its frames are wanted.

    root: absolute; the paths in `config` start here. empty, loop: as make_camera takes them.
    live: frames come at the camera's own pace, and what the station does not take in time is
    dropped. Otherwise each frame is asked for and none is lost.
    """

    kind: Literal["order"] = "order"
    config: CameraConfig
    root: str
    contract: CameraContract | None = None
    empty: bool = False
    loop: bool = False
    live: bool = False


class Next(Packet, frozen=True):
    """The station wants one more frame."""

    kind: Literal["next"] = "next"


class Returned(Packet, frozen=True):
    """The station has copied this slot."""

    kind: Literal["returned"] = "returned"
    ring: int
    slot: int


class Hello(Packet, frozen=True):
    """The camera's process runs, with everything loaded but the driver."""

    kind: Literal["hello"] = "hello"


class Opened(Packet, frozen=True):
    """The camera is open."""

    kind: Literal["opened"] = "opened"
    serial: str
    info: CameraInfo


class RingMade(Packet, frozen=True):
    """Further frames lie in this memory; its descriptor comes with the message."""

    kind: Literal["ring"] = "ring"
    number: NonNegativeInt
    slots: PositiveInt
    slot_bytes: PositiveInt


class Filled(Packet, frozen=True):
    """A frame lies complete in a slot. dropped: frames so far that found no free slot.

    The rest: as types.Frame.
    """

    kind: Literal["filled"] = "filled"
    ring: NonNegativeInt
    slot: NonNegativeInt
    color: tuple[PositiveInt, PositiveInt, Literal[3]]
    depth: tuple[PositiveInt, PositiveInt] | None
    dropped: NonNegativeInt
    unit: float
    pinhole: tuple[int, int, float, float, float, float]
    serial: str
    frame_number: int
    captured_mono_ns: int
    clock_domain: str
    exposure_us: float | None
    gain: float | None


class Failed(Packet, frozen=True):
    """Nothing more comes.

    error: the name of the EdgeError; "" for a bug, whose traceback is the text.
    """

    kind: Literal["failed"] = "failed"
    error: str
    text: str

    def exception(self) -> Exception:
        """What the station raises."""
        if not self.error:
            return RuntimeError(f"the camera's process broke, report it:\n{self.text}")
        known = EndOfFrames if self.error == EndOfFrames.__name__ else vars(errors).get(self.error)
        if isinstance(known, type) and issubclass(known, EdgeError):
            return known(self.text)
        return CameraError(self.text)


FromStation = Annotated[Next | Returned, Field(discriminator="kind")]
FromCamera = Annotated[Hello | Opened | RingMade | Filled | Failed, Field(discriminator="kind")]
READ_STATION: TypeAdapter[FromStation] = TypeAdapter(FromStation)
READ_CAMERA: TypeAdapter[FromCamera] = TypeAdapter(FromCamera)
