"""The depth modality's encoder: an amplified depth image, in which what does not belong to the part
stands out.

MATS speaks of the depth's "encoded features" and of an anomaly-amplified depth image that is
unshuffled (section 2.2), and names no encoder; docs/systems/mats.md says why raw heights do not
serve. This small U-shaped network sees height, foreground and color around each position and is
trained to tell synthetic dents, bumps and stains (trainer.layers.height_anomalies) from the part's
own relief and print and from the sensor's noise. Its targets are the relief and the tint that were
added, zero where nothing was: what it gives for a normal part is what it cannot explain, and no
scale of it can grow or vanish without being wrong. Both modalities serve both answers, which is the
amplifier's idea: a groove that the color shows is no dent, a shadow that the height explains is no
stain. Trained on normal images with synthetic anomalies, never on defects.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT_SIGMAS = 8.0  # heights enter divided by so many sigma of the sensor's noise
COLOR_MEAN, COLOR_SCALE = 128.0, 64.0


class HeightEncoder(nn.Module):
    """Height, foreground and color to the amplified depth image, in sigma of the depth noise.

    Half resolution, then a quarter with dilated 3x3 convolutions (a view of some 70 cells of the
    depth image), and back.

    Args:
        finer: side of the color image over that of the depth image.
        fine: channels at half resolution. coarse: at a quarter. dilations: of the residual
            convolutions there.
    """

    mean: Tensor
    sigma: Tensor

    def __init__(
        self,
        finer: int = 2,
        fine: int = 24,
        coarse: int = 48,
        dilations: tuple[int, ...] = (1, 2, 4, 1),
    ) -> None:
        super().__init__()
        self.finer = finer
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("sigma", torch.ones(()))
        # 3x3 cells of unshuffled pixels each, without the transposed copy that unshuffling costs a
        # CPU.
        self.enter = nn.Conv2d(2, fine, kernel_size=3 * 2, stride=2, padding=2)
        self.enter_color = nn.Conv2d(
            3, fine, kernel_size=6 * finer, stride=2 * finer, padding=2 * finer, bias=False
        )
        self.down = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(coarse, coarse, 3, padding=d, dilation=d),
                nn.BatchNorm2d(coarse),
                nn.ReLU(),
            )
            for d in dilations
        )
        self.up = nn.Conv2d(coarse, 4 * fine, 1)
        self.refine = nn.Conv2d(fine, 16, 3, padding=1)
        self.leave = nn.Conv2d(16, 4 + 1, 1)
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, height: Tensor, foreground: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        """Amplify.

        Args:
            height: (N, 1, h, w) meters over the background. foreground: (N, 1, h, w), 0 or 1.
            color: (N, 3, finer h, finer w), 0..255. h and w multiples of 4.
        Returns: relief (N, 1, h, w) in sigma of the depth noise, 0 outside the foreground, and tint
            (N, 1, h/2, w/2).
        """
        relative = (height - self.mean) * (foreground / (INPUT_SIGMAS * self.sigma))
        depth = torch.cat([relative, foreground], dim=1)  # (N, 2, h, w)
        shades = (color - COLOR_MEAN) / COLOR_SCALE
        fine = torch.relu(self.enter(depth) + self.enter_color(shades))  # (N, fine, h/2, w/2)
        coarse = torch.relu(self.down(fine))  # (N, coarse, h/4, w/4)
        for block in self.blocks:
            coarse = coarse + block(coarse)
        raised = functional.pixel_shuffle(self.up(coarse), 2)  # (N, fine, h/2, w/2)
        answer = self.leave(torch.relu(self.refine(torch.relu(raised + fine))))  # (N, 5, h/2, w/2)
        relief = functional.pixel_shuffle(answer[:, :4], 2) * foreground  # (N, 1, h, w)
        return relief, answer[:, 4:] * half(foreground)

    @torch.no_grad()
    def measure(self, height: Tensor, foreground: Tensor) -> None:
        """Take mean height and noise from normal images (N, 1, h, w).

        The noise is the median absolute second difference along rows, which a smooth relief hardly
        has, over sqrt(6).
        """
        self.mean.copy_((height * foreground).sum() / foreground.sum().clamp(min=1))
        left, middle, right = height[..., :-2], height[..., 1:-1], height[..., 2:]
        inside = foreground[..., :-2] * foreground[..., 1:-1] * foreground[..., 2:] > 0
        bends = (left - 2 * middle + right)[inside].abs()
        if len(bends):
            self.sigma.copy_((1.4826 * bends.median() / math.sqrt(6)).clamp(min=1e-6))


def half(image: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, h/2, w/2), averaged."""
    return functional.avg_pool2d(image, 2)


def enlarged(image: Tensor, factor: int) -> Tensor:
    """(N, C, h, w) -> (N, C, factor h, factor w), every value repeated."""
    return functional.interpolate(image, scale_factor=factor, mode="nearest")
