"""The files that are kept of one part: from its frame, map and record to bytes.

    color.png          RGB, the whole frame that the camera delivered, not the crop that was judged
    depth.png          16 bit counts, aligned to color, of the same size; absent from a color-only
                       camera
    intrinsics.json    width, height, depth_unit_m (meters per count), fx, fy, cx, cy: of the whole
                       frame
    camera.json        serial, width, height, and exposure_us and gain where the camera tells them
    map.npz            `map`, (h, w) float32, raw units, of the crop; absent where nothing was
                       judged, as map.png is
    map.png            the same to look at
    record.json        the committed record
    overlay.png        what was judged, to look at: the crop, and beside it the heatmap with an
                       outline where the map is above the threshold; absent if it cannot be drawn

Color, depth and the two camera files are the very frame that the station judged
(edge.frames.archive reads them).

The record carries the SHA-256 of the raw bytes (color, then depth, then map, each row by row,
little endian) and not of the files: it is committed, and may be sent, before anything is encoded,
and whoever decodes the lossless files can check it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.optional import optional_module
from edge.overlay import draw_kept
from edge.types import Code, Frame

HEAT_FULL = 2.0  # map.png is white at this many thresholds


@dataclass(frozen=True, eq=False)
class Images:
    """What is kept of one part.

    folder: relative to var/lib/edge. frame: the whole stream's. record: the committed fields. crop:
    x, y, width, height of what was judged, which the map covers; None where nothing was.
    """

    folder: str
    frame: Frame
    map: NDArray[np.float32] | None
    record: Mapping[str, Any]
    crop: tuple[int, int, int, int] | None = None


def sha256_of_images(frame: Frame, heat: NDArray[np.float32] | None) -> str:
    """Hex SHA-256 over the raw bytes of color, depth and map, whichever there are."""
    digest = hashlib.sha256(np.ascontiguousarray(frame.color).data)
    if frame.depth is not None:
        digest.update(np.ascontiguousarray(frame.depth, "<u2").data)
    if heat is not None:
        digest.update(np.ascontiguousarray(heat, "<f4").data)
    return digest.hexdigest()


def image_files(images: Images) -> dict[str, bytes]:
    """One part's files but the overlay, by name. Raises: OSError for what cannot be encoded."""
    files = {"color.png": _png_of(images.frame.color[:, :, ::-1])}
    if images.frame.depth is not None:
        files["depth.png"] = _png_of(images.frame.depth)
    files |= {name: _json_of(content) for name, content in _camera_files(images.frame).items()}
    if images.map is not None:
        packed = io.BytesIO()
        np.savez_compressed(packed, map=images.map)
        full = HEAT_FULL * (images.record["thr"] or 1.0)
        heat = np.clip(np.nan_to_num(images.map) / full, 0, 1) * 255
        files |= {"map.npz": packed.getvalue(), "map.png": _png_of(heat.astype(np.uint8))}
    return {**files, "record.json": _json_of(images.record)}


def overlay_png(images: Images) -> bytes:
    """The picture to look at. Raises: whatever drawing raises."""
    x, y, width, height = images.crop or (
        0,
        0,
        images.frame.intrinsics.width,
        images.frame.intrinsics.height,
    )
    color = images.frame.cropped(x, y, width, height).color
    record = images.record
    code, score, threshold = Code(record["code"]), record["score"], record["thr"]
    title = f"{record['id']}  {code.name} {record['reason']}"
    if score is not None and threshold is not None:
        title += f"  score {score:.4g} (limit {threshold:.4g})"
    picture = draw_kept(color, images.map if images.crop else None, threshold, title, code)
    return _png_of(picture[:, :, ::-1])


def _camera_files(frame: Frame) -> dict[str, dict[str, Any]]:
    """The camera as edge.frames.camera_info reads it, by file name."""
    i = frame.intrinsics
    size = {"width": i.width, "height": i.height}
    settings = {"exposure_us": frame.exposure_us, "gain": frame.gain}
    told = {name: float(value) for name, value in settings.items() if value is not None}
    lens = {"depth_unit_m": frame.unit, "fx": i.fx, "fy": i.fy, "cx": i.cx, "cy": i.cy}
    lens = {name: float(value) for name, value in lens.items()}
    return {
        "intrinsics.json": {**size, **lens},
        "camera.json": {"serial": frame.serial, **size, **told},
    }


def _json_of(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode("ascii")


def _png_of(pixels: NDArray[Any]) -> bytes:
    cv2 = optional_module("cv2", "pip install opencv-python-headless")
    encoded, data = cv2.imencode(
        ".png", np.ascontiguousarray(pixels), [cv2.IMWRITE_PNG_COMPRESSION, 1]
    )
    if not encoded:
        raise OSError("the image cannot be encoded as PNG")
    return bytes(data.tobytes())
