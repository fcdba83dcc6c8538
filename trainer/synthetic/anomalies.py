"""Synthetic anomalies on prepared images of normal parts, with the mask of where they are: what
systems train on. Nothing is evaluated with them.

The recipe is DRAEM's (Zavrtanik et al., ICCV 2021, section 3.3), which AAND trains its first stage
with (section III-B, Anomaly synthesis): a Perlin mask on the part, a texture blended in with random
opacity. Real scratches and stains have the part's own colors and real parts lose pieces, so two
kinds are added: a third of the anomalies paste a piece of the image itself, moved as CutPaste does
(Li et al., CVPR 2021), or smoothed or changed in light; and in some the background shows. With
depth, there are dents and bumps.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from trainer.graph.prepared import Prepared
from trainer.synthetic.noise import Image
from trainer.synthetic.perlin import Mask, anomaly_mask
from trainer.synthetic.textures import Textures

OPACITY = (0.2, 1.0)
OWN_CHANCE = 1 / 3  # of an anomaly that is made of the image itself
MISSING_CHANCE = 0.15  # of an anomaly that shows the background, where there is one
# gray levels, mean over mask and channels: below it the mask would call a normal look abnormal
LEAST_CHANGE = 10.0
TRIES = 4
RELIEF_SIGMAS = (2.0, 10.0)
EDGE_CELLS = (1.0, 6.0)  # width of a dent's rim
PART_SHARES = (0.05, 0.95)  # of the image that thresholding may call the part
# of the largest piece of the part: smaller ones are dust, glare or the edge of something else
SPECK = 0.1


def corrupted(
    image: Prepared, textures: Textures, depth_sigma: float | None, seed: int, number: int
) -> tuple[Prepared, Tensor]:
    """Anomaly `number` on an image (batch 1): the same for the same seed and number, in whatever
    order they are made.

    With depth, an anomaly is seen in color, in depth or in both, with equal chance. Where it is
    seen in depth, its mask consists of whole cells of the depth image. Height stays at or above the
    background. An image without any part in its region of interest is returned unchanged, with an
    empty mask.

    Args:
        depth_sigma: noise of the height in meters; None leaves height as it is.
    Returns: the image with the anomaly; area, valid, read and foreground are the normal image's.
        And the mask, (1, 1, h, w) float32, 1 on the anomaly, at the color working size.
    """
    rng = np.random.default_rng((seed % (1 << 63), number % (1 << 63)))
    color = np.ascontiguousarray(image.color[0].permute(1, 2, 0).cpu().numpy())
    in_color, in_depth = ((True, False), (False, True), (True, True))[int(rng.integers(3))]
    if image.height is None or depth_sigma is None:
        in_color, in_depth = True, False
    cells = image.foreground[0, 0].cpu().numpy() > 0
    height = image.height
    if in_depth and height is not None and depth_sigma is not None:
        part = _enlarged(cells, color.shape[:2])
        mask = anomaly_mask(cells, rng)
        relief = _relief(mask, rng) * np.float32(depth_sigma)
        height = (height + torch.from_numpy(relief)[None, None].to(height)).clamp(
            min=0
        ) * image.foreground
        mask = _enlarged(mask, color.shape[:2])
    else:
        part = _enlarged(cells, color.shape[:2])
        if image.height is None:
            part &= part_by_threshold(color)
        mask = anomaly_mask(part, rng)
    pasted = _pasted(color, mask, part, textures, rng) if in_color and mask.any() else color
    changed = torch.from_numpy(pasted).permute(2, 0, 1)[None].contiguous().to(image.color)
    truth = torch.from_numpy(mask.astype(np.float32))[None, None].to(image.color)
    return image._replace(color=changed, height=height), truth


def part_by_threshold(color: Image) -> Mask:
    """The part on a color-only image (h, w, 3), (h, w) bool: grayscale thresholding (AAND, section
    IV-B), by Otsu.

    The part is the class with fewer pixels on the image's border, without specks: pieces below a
    tenth of its largest. Where the class is under 5 % or over 95 % of the image there is no plain
    background, and everything is the part.
    """
    gray = cv2.medianBlur(cv2.cvtColor(color.astype(np.uint8), cv2.COLOR_RGB2GRAY), 5)
    _, classes = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    bright = classes > 0
    border = np.concatenate([bright[0], bright[-1], bright[1:-1, 0], bright[1:-1, -1]])
    part = bright if border.mean() < 0.5 else ~bright
    if not PART_SHARES[0] <= part.mean() <= PART_SHARES[1]:
        return np.ones_like(part)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.isin(labels, 1 + np.flatnonzero(areas >= SPECK * areas.max()))


def _enlarged(cells: Mask, size: tuple[int, int]) -> Mask:
    """(hd, wd) -> (h, w): every pixel that a marked cell covers."""
    whole = functional.adaptive_max_pool2d(
        torch.from_numpy(cells.astype(np.float32))[None, None], size
    )
    return np.asarray(whole[0, 0].numpy() > 0)


def _pasted(
    color: Image, mask: Mask, part: Mask, textures: Textures, rng: np.random.Generator
) -> Image:
    """The color image (h, w, 3) with something visibly different inside the mask."""
    before: Image = color[mask]
    missing, own = rng.uniform() < MISSING_CHANCE and not part.all(), rng.uniform() < OWN_CHANCE
    for _ in range(TRIES):
        if missing:
            texture, opacity = _background(color, part, rng), np.float32(1.0)
        else:
            texture = (
                _own_texture(color, mask, rng)
                if own
                else textures.draw(color.shape[0], color.shape[1], rng)
            )
            opacity = np.float32(rng.uniform(*OPACITY))
        after = np.clip(opacity * texture[mask] + (1 - opacity) * before, 0, 255)
        if np.abs(after - before).mean() >= LEAST_CHANGE:
            break
    else:
        after = np.where(
            before.mean() > 127, before * np.float32(0.6), before * np.float32(0.6) + 102
        )
    pasted: Image = color.copy()
    pasted[mask] = after
    return pasted


def _background(color: Image, part: Mask, rng: np.random.Generator) -> Image:
    """What is seen behind the part: pixels from around it, in any order."""
    pixels: Image = color[~part]
    return pixels[rng.integers(len(pixels), size=part.shape)]


def _own_texture(color: Image, mask: Mask, rng: np.random.Generator) -> Image:
    """The image itself (h, w, 3), changed in one of five ways."""
    way = int(rng.integers(5))
    if way == 0:
        return _moved(color, mask, rng)
    if way == 1:
        sigma = float(rng.uniform(0.01, 0.03)) * max(mask.shape)
        return cast(Image, cv2.GaussianBlur(color, (0, 0), sigma))
    if way == 2:
        return cast(Image, color * np.float32(rng.uniform(0.1, 0.6)))
    if way == 3:
        return cast(Image, 255 - (255 - color) * np.float32(rng.uniform(0.1, 0.6)))
    gain, offset = (
        rng.uniform(0.5, 1.5, 3).astype(np.float32),
        rng.uniform(-50, 50, 3).astype(np.float32),
    )
    return cast(Image, color * gain + offset)


def _moved(color: Image, mask: Mask, rng: np.random.Generator) -> Image:
    """The image turned and shifted so that another place of it, any, comes to lie on the mask's
    center.
    """
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    source = float(rng.uniform(0.1, 0.9) * width), float(rng.uniform(0.1, 0.9) * height)
    move = cv2.getRotationMatrix2D(source, float(rng.uniform(-180, 180)), 1.0)
    move[:, 2] += (columns.mean() - source[0], rows.mean() - source[1])
    return cast(
        Image, cv2.warpAffine(color, move, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    )


def _relief(mask: Mask, rng: np.random.Generator) -> Image:
    """One bump or dent (hd, wd) in sigma, 0 outside the mask: every connected piece rises to it
    over a smooth rim.
    """
    count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    inwards = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deepest = np.ones(count, np.float32)
    np.maximum.at(deepest, labels.ravel(), inwards.ravel())
    rim = np.minimum(deepest, np.float32(rng.uniform(*EDGE_CELLS)))[labels]
    share = np.minimum(inwards / rim, 1)
    smooth = share * share * (3 - 2 * share)
    return cast(Image, np.float32(rng.choice((-1.0, 1.0)) * rng.uniform(*RELIEF_SIGMAS)) * smooth)
