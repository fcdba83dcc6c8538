"""Pictures of a report: any image file as a small JPEG inside the page."""

from __future__ import annotations

import base64
from typing import Any

from edge.optional import optional_module
from edge.report.document import COLUMNS, Picture

# (width over height from here on, columns of the page, its longest side in pixels): pictures of
# several panels side by side need more room
ROOM = ((3.0, COLUMNS, 1100), (1.9, COLUMNS // 2, 640), (0.0, COLUMNS // 3, 440))
QUALITY = 85  # of JPEG


def picture_of(data: bytes, title: str, caption: str, is_bad: bool = False) -> Picture:
    """A picture of the page, without `data` where that is no image."""
    cv2 = optional_module("cv2", "pip install opencv-python-headless")
    import numpy as np

    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if pixels is None:
        return Picture("", title, caption, is_bad)
    height, width = pixels.shape[:2]
    columns, longest = next(room for least, *room in ROOM if width >= least * height)
    share = min(1.0, longest / max(height, width))
    if share < 1:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return Picture(_jpeg_address(cv2, pixels), title, caption, is_bad, columns)


def _jpeg_address(cv2: Any, pixels: Any) -> str:
    encoded, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    text = base64.b64encode(packed.tobytes()).decode("ascii")
    return f"data:image/jpeg;base64,{text}" if encoded else ""
