"""Small changes of pose and light that a normal part may show, applied to the prepared image.

They act after the preprocessing, where height is already measured from the plane: turning or
shifting a raw depth image would also need its plane turned. Color and height move together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from trainer.graph.prepared import Prepared

# how exactly a part lies in the normal pose, with room
POSED_TURN_DEG, POSED_SHIFT = 2.0, 0.01


@dataclass(frozen=True)
class Augmentation:
    """How far a copy may differ, uniformly drawn.

    turn_deg: rotation about the image center. shift: of the image's size. scale: relative size of
    the part.
    gain, offset: of the color values, offset in gray levels of 255.
    """

    turn_deg: float = 0.0
    shift: float = 0.0
    scale: float = 0.0
    gain: float = 0.0
    offset: float = 0.0

    def in_pose(self, turns: bool) -> Augmentation:
        """For parts moved, and turned if `turns`, into one pose: what that leaves over."""
        turn_deg = min(self.turn_deg, POSED_TURN_DEG) if turns else self.turn_deg
        return replace(self, turn_deg=turn_deg, shift=min(self.shift, POSED_SHIFT))


def augmented(image: Prepared, limits: Augmentation, seed: int, number: int) -> Prepared:
    """Copy `number` of an image (batch 1).

    The same for the same seed and number, in whatever order copies are made.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + number) % (1 << 63))
    draws = 2 * torch.rand(6, generator=generator, dtype=torch.float64) - 1
    turn, scale = (
        math.radians(limits.turn_deg) * float(draws[0]),
        1 + limits.scale * float(draws[1]),
    )
    shift = (limits.shift * float(draws[2]), limits.shift * float(draws[3]))
    light = (1 + limits.gain * float(draws[4]), limits.offset * float(draws[5]))
    color = moved(image.color, turn, scale, shift, "bilinear", "border") * light[0] + light[1]
    masks = moved(image.foreground, turn, scale, shift, "nearest", "zeros")
    height = (
        None
        if image.height is None
        else moved(image.height, turn, scale, shift, "nearest", "zeros")
    )
    read = None if image.read is None else moved(image.read, turn, scale, shift, "nearest", "zeros")
    return image._replace(color=color.clamp(0, 255), height=height, foreground=masks, read=read)


def moved(
    image: Tensor,
    turn_rad: float,
    scale: float,
    shift: tuple[float, float],
    mode: str,
    padding: str,
) -> Tensor:
    """(N, C, H, W) turned about its center, scaled and shifted (shares of width and height); pixels
    stay square.
    """
    height, width = image.shape[2:]
    cosine, sine = math.cos(turn_rad) / scale, math.sin(turn_rad) / scale
    aspect = height / width
    rows = [[cosine, sine * aspect, -2 * shift[0]], [-sine / aspect, cosine, -2 * shift[1]]]
    matrix = torch.tensor([rows], dtype=image.dtype, device=image.device).expand(
        image.shape[0], -1, -1
    )
    grid = functional.affine_grid(matrix, list(image.shape), align_corners=False)
    return functional.grid_sample(image, grid, mode=mode, padding_mode=padding, align_corners=False)
