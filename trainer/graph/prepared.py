"""What the graph's preprocessing gives and a detector sees."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Prepared(NamedTuple):
    """What a detector sees of N images; (h, w) color and (hd, wd) depth working size; color-only:
    hd, wd = h, w.
    """

    color: Tensor  # (N, 3, h, w) float32, RGB, 0..255
    # (N, 1, hd, wd) float32 meters over the background, holes filled, 0 outside the foreground
    height: Tensor | None
    foreground: Tensor  # (N, 1, hd, wd) float32, 0 or 1
    # (N, 1, hd, wd) float32, 1 where at least half of the cell's pixels had a reading
    read: Tensor | None
    area: Tensor  # (N,) foreground share of the region
    # (N,) share of foreground pixels that had a reading; 0 without foreground, 1 without depth
    valid: Tensor
    intrinsics: Tensor | None = None  # (N, 4) fx, fy, cx, cy of the crop; None without depth
    # (N, 4) alpha, beta, gamma, delta of the background; None without depth
    plane: Tensor | None = None
    # (N, 6) of the foreground, see Place; None in views made up for a training
    place: Tensor | None = None
    # What the outline is judged on (trainer.graph.outline), (N, 1, hd, wd) each; None without depth
    # and in views made up for a training. silhouette: 0 to 1, the height of the foreground over
    # RAMP times `lift`. seen: 1 where the outline can be trusted. absent: 1 where material is
    # expected and a reading shows none.
    silhouette: Tensor | None = None
    seen: Tensor | None = None
    absent: Tensor | None = None
    # Where color, height, foreground and read are in the normal pose (trainer.graph.pose): (N, 4)
    # turn, center and zoom of the part, and the foreground as the camera sees it, (N, 1, hd, wd).
    pose: Tensor | None = None
    shown: Tensor | None = None

    @property
    def in_view(self) -> Tensor:
        """Foreground where the camera sees it, (N, 1, hd, wd)."""
        return self.foreground if self.shown is None else self.shown
