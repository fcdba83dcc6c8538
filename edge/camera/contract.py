"""The camera contract: does the camera deliver frames as in training, and are they new? Pure."""

from __future__ import annotations

from pydantic import Field

from edge.decide.clipping import NormalBrightness
from edge.errors import CameraMismatch
from edge.frames.reading import AS_IS, Reading
from edge.schema import Strict
from edge.types import Frame

FOCAL_TOLERANCE = 0.03  # a part appears 3 % larger, as if it were 2 cm nearer at 0.7 m
UNIT_TOLERANCE = 1e-3  # units are 0.001 or 0.0001 m: more than rounding is another setting


class CameraContract(Strict):
    """The camera that the product was trained on; null = unknown, which `edge install` prints.

    Sizes in pixels, unit in meters per depth count.
    """

    model: str  # "D435", "D405", "virtual", "unknown"
    serial: str | None = None  # of the camera the images came from
    width: int
    height: int
    fps: int | None = None
    # fx, fy, cx, cy of the whole stream
    intrinsics: tuple[float, float, float, float] | None = None
    unit: float | None = None
    exposure_us: float | None = None
    gain: float | None = None
    white_balance: float | None = None
    laser: float | None = None
    filters: tuple[str, ...] | None = None
    crop_width: int
    crop_height: int
    crop_x: int  # of the training images; afterwards x and y are site state
    crop_y: int
    # foreground share of the region of interest, from normal validation parts
    min_area: float = Field(ge=0, le=1)
    max_area: float = Field(ge=0, le=1)
    min_valid: float = Field(ge=0, le=1)
    # share of the crop's border that a whole part covers
    max_border: float = Field(default=1.0, ge=0, le=1)
    empty: str | None = None  # folders that a virtual camera plays: the empty table, the belt
    belt: str | None = None
    fixed: bool = True  # one background plane fits all training images; False: one for each
    fixed_pose: bool = False  # the parts always lie in one pose: missing material can be expected
    letterbox: bool = False  # images of differing sizes were reduced to width x height, with bars
    color_bits: int | None = None  # of 16-bit color images: how many bits hold the values
    brightness: NormalBrightness | None = None  # of the crops of normal validation parts


def reading_of(contract: CameraContract | None) -> Reading:
    """How image files are read for a product: as its training images were."""
    if contract is None:
        return AS_IS
    return Reading(
        (contract.width, contract.height) if contract.letterbox else None,
        contract.color_bits,
        contract.unit,
    )


def find_mismatch(frame: Frame, contract: CameraContract) -> str | None:
    """What is wrong with a frame of the whole stream, in one sentence; None if it matches the
    contract.

    Unknown values of the contract (null) are not compared.
    """
    i = frame.intrinsics
    if (i.width, i.height) != (contract.width, contract.height) or frame.color.shape[:2] != (
        i.height,
        i.width,
    ):
        delivered = f"{frame.color.shape[1]}x{frame.color.shape[0]}"
        return (
            f"the camera delivers {delivered} pixels, the product was trained on"
            f" {contract.width}x{contract.height}"
        )
    if contract.unit is not None:
        if frame.depth is None:
            return "the camera delivers no depth, the product was trained with it"
        if frame.depth.shape != frame.color.shape[:2]:
            return (
                f"depth is {frame.depth.shape[1]}x{frame.depth.shape[0]} pixels, not aligned to"
                " color"
            )
        if abs(frame.unit / contract.unit - 1) > UNIT_TOLERANCE:
            return (
                f"the camera counts depth in {frame.unit:g} m, the product was trained on"
                f" {contract.unit:g} m"
            )
    if contract.intrinsics is not None:
        return _focal_mismatch((i.fx, i.fy), contract.intrinsics[:2])
    return None


def require_match(frame: Frame, contract: CameraContract) -> None:
    """Raises: CameraMismatch with what is wrong and what to do."""
    sentence = find_mismatch(frame, contract)
    if sentence is not None:
        raise CameraMismatch(
            f"camera {frame.serial}: {sentence}: set it as the product needs, or train on this"
            " camera"
        )


def find_staleness(
    previous: Frame | None, frame: Frame, now_mono_ns: int, max_age_ms: float
) -> str | None:
    """Why a frame must not be judged as the present view, in one sentence; None if it may.

    Args:
        previous: the frame before it from the same camera, None for the first.
        now_mono_ns: the host's monotonic clock now, the clock of captured_mono_ns.
        max_age_ms: an older frame is stale, and so is one dated more than 1 ms in the future.
    """
    if previous is not None and frame.frame_number <= previous.frame_number:
        return (
            f"frame number {frame.frame_number} follows {previous.frame_number}: the camera repeats"
            " itself"
        )
    if previous is not None and frame.captured_mono_ns <= previous.captured_mono_ns:
        return (
            f"frame {frame.frame_number} is not newer than the one before it: the camera's clock"
            " has stopped"
        )
    age_ms = (now_mono_ns - frame.captured_mono_ns) / 1e6
    if age_ms > max_age_ms:
        return (
            f"frame {frame.frame_number} is {age_ms:.0f} ms old, at most {max_age_ms:.0f} ms are"
            " allowed"
        )
    if age_ms < -1.0:
        return f"frame {frame.frame_number} is dated {-age_ms:.0f} ms ahead of this machine's clock"
    return None


def _focal_mismatch(delivered: tuple[float, float], trained: tuple[float, float]) -> str | None:
    for name, has, needs in zip(("fx", "fy"), delivered, trained, strict=True):
        if abs(has / needs - 1) > FOCAL_TOLERANCE:
            return (
                f"the focal length {name} is {has:.1f} pixels, the product was trained on"
                f" {needs:.1f} (more than {FOCAL_TOLERANCE:.0%} off)"
            )
    return None
