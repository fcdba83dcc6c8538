"""Synthetic defects on real frames of good parts, in the graph's input bytes and with their truth,
where no real defect is at hand.

Evaluations and certificates use them; nothing is trained on them. A stain and a scratch change
color, a dent and a bump change depth, dirt changes both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from trainer.graph.deploy import Deployed
from trainer.synthetic.anomalies import part_by_threshold

COLOR_KINDS = ("stain", "scratch")
DEPTH_KINDS = ("dent", "bump")
LEAST_SHARE, LARGEST_SHARE = 0.002, 0.03  # of the part's area
# height of a dent or bump, in steps of the depth noise on the part
LEAST_SIGMA, LARGEST_SIGMA = (3.0, 20.0)
MASK_LEVEL = 0.3  # the mask is where a defect has this share of its full strength

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class FrameWithDefect:
    """A frame with a synthetic defect. kind: of COLOR_KINDS, DEPTH_KINDS or "dirt". feeds: graph
    inputs. mask: (H, W) bool, the truth.
    """

    kind: str
    feeds: dict[str, NDArray[Any]]
    mask: NDArray[np.bool_]


def draw_defect(
    feeds: Feeds, part: NDArray[np.bool_], strength: float, seed: int
) -> FrameWithDefect:
    """One synthetic defect somewhere on the part; kind, place and shape follow from the seed.

    Args:
        feeds: graph inputs of a normal part; with depth, dents and bumps occur too.
        part: (H, W) bool, where the part is; all False takes the middle of the image.
        strength: 0..1 from barely visible to plain: size, contrast and height grow with it.
    """
    generator = np.random.default_rng(seed)
    kinds = (*COLOR_KINDS, *(DEPTH_KINDS if "depth" in feeds else ()), "dirt")
    kind = kinds[seed % len(kinds)]
    shape = _blob(part, strength, kind == "scratch", generator)  # (H, W) 0..1
    changed = {name: np.array(values) for name, values in feeds.items()}
    if kind in (*COLOR_KINDS, "dirt"):
        _paint(changed["color"], shape, strength, generator)
    if "depth" in feeds and kind in (*DEPTH_KINDS, "dirt"):
        sign = 1.0 if kind == "dent" else -1.0  # a dent lies further from the camera
        _shift_depth(
            changed["depth"], shape, part, sign * _between(LEAST_SIGMA, LARGEST_SIGMA, strength)
        )
    return FrameWithDefect(kind, changed, shape > MASK_LEVEL)


@torch.no_grad()
def part_of(deployed: Deployed, feeds: Feeds) -> NDArray[np.bool_]:
    """(H, W) bool: where the graph itself sees the part; without depth, which tells it, where
    thresholding sees it in the region of interest.
    """
    named = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in feeds.items()}
    prepared = deployed.prepare(named)
    foreground = prepared.in_view[0, 0].numpy()
    height, width = deployed.preprocess.size
    seen = cv2.resize(foreground, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    if prepared.height is None:
        seen &= part_by_threshold(feeds["color"][0])
    return np.asarray(seen)


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * min(max(share, 0.0), 1.0)


def _blob(
    part: NDArray[np.bool_], strength: float, thin: bool, generator: np.random.Generator
) -> NDArray[np.float32]:
    """A ragged ellipse, or a thin line, inside the part: 0..1, smooth at its rim."""
    height, width = part.shape
    inner = cv2.erode(part.astype(np.uint8), np.ones((5, 5), np.uint8), iterations=2).astype(bool)
    rows, columns = np.nonzero(inner if inner.any() else np.ones_like(part))
    pick = int(generator.integers(len(rows)))
    area = (part.sum() if part.any() else part.size) * _between(
        LEAST_SHARE, LARGEST_SHARE, strength
    )
    aspect = 12.0 if thin else float(generator.uniform(1.0, 2.5))
    radius = float(np.sqrt(area / np.pi))
    angle = float(generator.uniform(0, np.pi))
    v, u = np.mgrid[:height, :width].astype(np.float32)
    v, u = v - rows[pick], u - columns[pick]
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    distance = np.sqrt(
        (along / (radius * np.sqrt(aspect))) ** 2 + (across * np.sqrt(aspect) / radius) ** 2
    )
    coarse = generator.uniform(-1, 1, (16, 16)).astype(np.float32)
    ragged = 0.3 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    shape = np.clip((1.2 + ragged - distance) / 0.4, 0, 1)
    return np.asarray(shape * (part if part.any() else 1.0), np.float32)


def _paint(
    color: NDArray[np.uint8],
    shape: NDArray[np.float32],
    strength: float,
    generator: np.random.Generator,
) -> None:
    """Blend (1, H, W, 3) color in place towards another gray or tint, by a share that grows with
    strength.
    """
    inside = color[0][shape > MASK_LEVEL]
    mean = inside.mean(axis=0) if len(inside) else np.full(3, 128.0)
    target = np.where(mean > 127, mean * 0.2, 255 - (255 - mean) * 0.2) + generator.uniform(
        -30, 30, 3
    )
    share = (shape * _between(0.25, 0.95, strength))[..., None]
    color[0] = np.clip(color[0] * (1 - share) + target * share, 0, 255).round().astype(np.uint8)


def _shift_depth(
    depth: NDArray[np.uint8], shape: NDArray[np.float32], part: NDArray[np.bool_], sigmas: float
) -> None:
    """Move the counts of (1, H, W, 2) bytes in place by `sigmas` times the part's depth noise; 0
    stays 0.
    """
    counts = depth.view("<u2")[0, :, :, 0]
    read = (counts > 0) & (part if part.any() else True)
    values = counts.astype(np.float32)
    rough = np.abs(values - cv2.medianBlur(values, 5))[read]
    sigma = max(1.0, 1.4826 * float(np.median(rough))) if rough.size else 1.0
    moved = np.clip(np.rint(values + shape * sigmas * sigma), 1, 65535)
    counts[...] = np.where(counts > 0, moved, 0).astype("<u2")
