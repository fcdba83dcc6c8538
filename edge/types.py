"""The values that modules hand to each other. Frozen, numpy only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the page's process names codes and reasons, and needs no arrays
    import numpy as np
    from numpy.typing import NDArray


class Code(IntEnum):
    """The verdict on the wire. 0 is never sent: a rebooted PLC tag reads 0."""

    OK = 1
    NG = 2
    UNKNOWN = 3


class Reason(str, Enum):
    """Why a verdict is what it is: the closed list that PLC programmers may switch on."""

    NORMAL = "normal"  # OK: the score is at or below the threshold
    ANOMALY = "anomaly"  # NG: the score is above the threshold
    NO_PART = "no_part"  # a trigger or an image, and less foreground than min_area
    TOO_LARGE = "too_large"  # more foreground than max_area: two parts, a hand, a belt edge
    PARTIAL = "partial"  # cut by the border of the view in every frame
    TWO_PARTS = "two_parts"  # one after the other, not told apart in time to judge each
    NO_DEPTH = "no_depth"  # fewer of the part's pixels have a reading than min_valid
    UNCALIBRATED = "uncalibrated"  # no plane for this product and camera
    CAMERA_MISMATCH = "camera_mismatch"  # another size, unit or focal length than in training
    CAMERA_LOST = "camera_lost"  # the camera stopped delivering
    BLIND = "blind"  # no depth reading at all, or a black picture
    SLOW = "slow"  # state only: the engine is slower than the camera, parts may be missed
    STALE = "stale"  # number, time or picture does not advance, or it is too old
    NOT_FINITE = "not_finite"  # the engine gave NaN or infinity
    ENGINE = "engine"  # the engine failed
    BUNDLE = "bundle"  # state only: the active bundle cannot be opened, the previous one judges
    LINK = "link"  # state only: no verdict would reach the PLC
    PAUSED = "paused"  # state only: by the command `pause`, or while another command is at work
    CALIBRATING = "calibrating"  # parts are shown to a calibration: a trigger is answered so
    ARCHIVE = "archive"  # state only: records wait, the broker does not take them
    POWER = "power"  # state only: the board is in another power mode than at commissioning
    LATE = "late"  # judged after the deadline
    STORAGE = "storage"  # the record could not be committed


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole model of an image: sizes in pixels, u and v are 0-based pixel centers."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def cropped(self, x: int, y: int, width: int, height: int) -> Intrinsics:
        """The model of the window whose top left pixel is (x, y)."""
        return Intrinsics(width, height, self.fx, self.fy, self.cx - x, self.cy - y)


@dataclass(frozen=True, eq=False)
class Frame:
    """One view of the camera. It owns its bytes, never a librealsense handle.

    color: (H, W, 3) uint8 RGB.
    depth: (H, W) uint16 counts, aligned to color, 0 = no reading; None for a color-only source.
    unit: meters per count (0.001 D435, 0.0001 D405).
    captured_mono_ns: host monotonic clock at mid-exposure, as far as the camera reports it.
    clock_domain: whose clock the time came from: "hardware_clock", "global_time", "system_time" or
    "file".
    """

    color: NDArray[np.uint8]
    depth: NDArray[np.uint16] | None
    unit: float
    intrinsics: Intrinsics
    serial: str
    frame_number: int
    captured_mono_ns: int
    clock_domain: str = "file"
    exposure_us: float | None = None
    gain: float | None = None

    def cropped(self, x: int, y: int, width: int, height: int) -> Frame:
        """The window whose top left pixel is (x, y); a copy-free view of the same bytes."""
        rows, columns = slice(y, y + height), slice(x, x + width)
        return replace(
            self,
            color=self.color[rows, columns],
            depth=None if self.depth is None else self.depth[rows, columns],
            intrinsics=self.intrinsics.cropped(x, y, width, height),
        )

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The graph inputs this frame fills: color, and with depth also depth (its bytes), unit and
        intrinsics.
        """
        import numpy as np

        color = np.ascontiguousarray(self.color)[None]
        if self.depth is None:
            return {"color": color}
        height, width = self.depth.shape
        counts = np.ascontiguousarray(self.depth, dtype="<u2")
        i = self.intrinsics
        return {
            "color": color,
            "depth": counts.view(np.uint8).reshape(1, height, width, 2),
            "unit": np.array([self.unit], np.float32),
            "intrinsics": np.array([i.fx, i.fy, i.cx, i.cy], np.float32),
        }


@dataclass(frozen=True, eq=False)
class Outputs:
    """What an engine returns for one frame, raw units.

    map: (h, w) float32 at working resolution. area: foreground share of the region of interest.
    valid: share of foreground pixels that had a reading before filling.
    place: (6,) float32: centroid u, v (pixels of the crop), variance u, v and covariance (square
        pixels) of the foreground, and the share of the view's outermost pixels that are foreground;
        all 0 without foreground.
    """

    map: NDArray[np.float32]
    score: np.float32
    area: float
    valid: float
    place: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Site state of one product and camera: survives a new bundle.

    plane is None until `edge calibrate plane`.
    """

    # alpha, beta, gamma, delta in meters (docs/graph-and-bundle.md)
    plane: tuple[float, float, float, float] | None
    crop_x: int
    crop_y: int
    # (h, w) of the crop, 0 = ignore; None = everything counts
    region: NDArray[np.uint8] | None = None
    # (h, w) of the crop, 255 = a part has material here; None until `edge calibrate expected`
    expected: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Judgment:
    """The decision on one frame, before aggregation."""

    code: Code
    reason: Reason
    score: np.float32 | None  # None when nothing was judged
    threshold: np.float32 | None
    area: float = 0.0
    valid: float = 0.0
    map: NDArray[np.float32] | None = field(default=None, repr=False)
    place: tuple[float, ...] = (0.0,) * 6  # as Outputs.place; all 0 where nothing was measured
