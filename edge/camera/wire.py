"""The messages between the station and the camera's process: one JSON object per packet of a
SOCK_SEQPACKET pair.

station -> camera    Order, once; Next, if frames are requested one by one; Returned, for each slot
                     that was read
camera -> station    Hello, once its libraries are loaded; Opened; RingMade, with the memory's
                     descriptor; Filled, for each frame; Device, now and then; Failed, the last
                     message
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat, NonNegativeInt, PositiveInt, TypeAdapter

from edge import errors
from edge.camera.contract import CameraContract
from edge.camera.device import NOTHING_TOLD, DeviceFacts
from edge.camera.protocol import EndOfFrames
from edge.errors import CameraError, EdgeError
from edge.frames.camera_info import CameraInfo
from edge.sections import CameraConfig

# how a log record begins on the process's stderr; other lines are the output of libraries
LOG_MARK = "edge-log "
PACKET_BYTES = 64 << 10  # larger than any message
SENTENCE_CHARS = 4_000  # of an error's text; of a longer traceback the end is kept


class Packet(BaseModel, extra="forbid", frozen=True, ser_json_inf_nan="constants"):
    """One message."""

    def packed(self) -> bytes:
        """The bytes of the packet."""
        return self.model_dump_json().encode()


class Order(Packet, frozen=True):
    """Which camera to open, and how it delivers frames.

    root: absolute; the paths in `config` start here. empty, loop: as in make_camera. live: frames
    come at the camera's own pace, and those that the station does not read in time are dropped.
    Otherwise the station requests each frame and none is lost.
    """

    kind: Literal["order"] = "order"
    config: CameraConfig
    root: str
    contract: CameraContract | None = None
    empty: bool = False
    loop: bool = False
    live: bool = False


class Next(Packet, frozen=True):
    """A request for one more frame."""

    kind: Literal["next"] = "next"


class Returned(Packet, frozen=True):
    """The station has copied this slot, which is free again."""

    kind: Literal["returned"] = "returned"
    ring: int
    slot: int


class Hello(Packet, frozen=True):
    """The camera's process runs and has loaded everything except the driver."""

    kind: Literal["hello"] = "hello"


class Opened(Packet, frozen=True):
    """The camera is open."""

    kind: Literal["opened"] = "opened"
    serial: str
    info: CameraInfo
    facts: DeviceFacts = NOTHING_TOLD


class RingMade(Packet, frozen=True):
    """From now on frames lie in this memory, whose descriptor comes with the message."""

    kind: Literal["ring"] = "ring"
    number: NonNegativeInt
    slots: PositiveInt
    slot_bytes: PositiveInt


class Filled(Packet, frozen=True):
    """A complete frame lies in a slot.

    dropped: frames so far for which no slot was free. The other fields: as in types.Frame.
    """

    kind: Literal["filled"] = "filled"
    ring: NonNegativeInt
    slot: NonNegativeInt
    color: tuple[PositiveInt, PositiveInt, Literal[3]]
    depth: tuple[PositiveInt, PositiveInt] | None
    dropped: NonNegativeInt
    unit: FiniteFloat
    pinhole: tuple[int, int, float, float, float, float]
    serial: str
    frame_number: int
    captured_mono_ns: int
    clock_domain: str
    exposure_us: float | None
    gain: float | None


class Device(Packet, frozen=True):
    """What the device tells of itself has changed."""

    kind: Literal["device"] = "device"
    facts: DeviceFacts


class ProcessFailed(RuntimeError):
    """A bug in the camera's process, or in a library that it calls; the text is its traceback."""


class Failed(Packet, frozen=True):
    """The last message.

    error: the class name of the EdgeError; "" for a bug, whose traceback is the text.
    """

    kind: Literal["failed"] = "failed"
    error: str
    text: str

    def exception(self) -> Exception:
        """The exception that the station raises."""
        if not self.error:
            return ProcessFailed(f"the camera's process failed, report this:\n{self.text}")
        known = EndOfFrames if self.error == EndOfFrames.__name__ else vars(errors).get(self.error)
        if isinstance(known, type) and issubclass(known, EdgeError):
            return known(self.text)
        return CameraError(self.text)


FromStation = Annotated[Next | Returned, Field(discriminator="kind")]
FromCamera = Annotated[
    Hello | Opened | RingMade | Filled | Device | Failed, Field(discriminator="kind")
]
READ_STATION: TypeAdapter[FromStation] = TypeAdapter(FromStation)
READ_CAMERA: TypeAdapter[FromCamera] = TypeAdapter(FromCamera)
