"""Pictures of the parts that a calibration saw: for its report, and for a refusal."""

from __future__ import annotations

from calibration.shown_parts import Sight
from edge.overlay import draw_inspection
from edge.runtime.pipeline import SiteState

JPEG_QUALITY = 90


def picture_of(sight: Sight, site: SiteState, title: str) -> bytes:
    """JPEG: the view, its anomaly map, part and height, as the station sees them now.

    site: under which the frame was seen.
    """
    import cv2

    plane, lift = site.tensors.get("plane"), site.tensors.get("lift")
    expected = site.tensors.get("expected")
    drawn = draw_inspection(
        sight.window,
        sight.judgment,
        title,
        plane=None if plane is None else plane.tolist(),
        lift_m=None if lift is None else float(lift[0]),
        region=site.tensors["region"][0, :, :, 0],
        expected=None if expected is None else expected[0, :, :, 0],
    )
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    return bytes(cv2.imencode(".jpg", drawn[:, :, ::-1], quality)[1].tobytes())
