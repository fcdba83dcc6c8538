"""FastKAN (Li 2024) and the student network made of it, MATS section 2.4.

A FastKAN layer is a Kolmogorov-Arnold layer whose splines are Gaussians on a fixed grid. Everything works per position:
a pixel's result depends on that pixel alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FastKANLayer(nn.Module):
    """y = W_s phi(LayerNorm(x)) + W_b silu(x) + b, per position.

    phi_g(u) = exp(-((u - c_g) / h)^2) for every channel and every centre c_g of an even grid; h is the distance of two
    centres. LayerNorm runs over the channels of a position, with learnable scale and shift.
    Both products are one 1x1 convolution of the concatenation, G + 1 times as wide as x.

    Args:
        inputs: channels of x.
        outputs: channels of y.
        grid: G, the number of centres, at least 2.
        limits: first and last centre; LayerNorm leaves most values within -2..2.
    """

    centres: Tensor

    def __init__(
        self, inputs: int, outputs: int, grid: int = 8, limits: tuple[float, float] = (-2.0, 2.0), epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        self.grid = grid
        self.inverse_width = (grid - 1) / (limits[1] - limits[0])
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(1, inputs, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, inputs, 1, 1))
        self.linear = nn.Conv2d(inputs * (grid + 1), outputs, kernel_size=1)
        centres = torch.linspace(*limits, grid) * self.inverse_width  # in widths, as `basis` needs them
        self.register_buffer("centres", centres.reshape(1, grid, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y: Tensor = self.linear(torch.cat([self.basis(x), x * torch.sigmoid(x)], dim=1))
        return y

    def basis(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, G inputs, H, W) in 0..1; channel g * inputs + c is centre g of channel c."""
        count, channels, height, width = x.shape
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        # 1 / h is folded into scale and shift: one pass less over the wide tensor below.
        normed = centred / torch.sqrt(variance + self.epsilon) * (self.scale * self.inverse_width)
        normed = normed + self.shift * self.inverse_width
        distance = normed.unsqueeze(1) - self.centres  # (N, G, inputs, H, W)
        return torch.exp(-(distance * distance)).reshape(count, self.grid * channels, height, width)


class ResidualBlock(nn.Module):
    """Two FastKAN layers with BatchNorm and LeakyReLU and a way around them, as AST's residual block."""

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.first = FastKANLayer(channels, channels, grid)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = FastKANLayer(channels, channels, grid)
        self.second_norm = nn.BatchNorm2d(channels)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, channels, H, W)."""
        inner = self.activation(self.first_norm(self.first(x)))
        y: Tensor = self.activation(x + self.second_norm(self.second(inner)))
        return y


class StudentFastKAN(nn.Module):
    """The student: a FastKAN layer into the hidden width, residual blocks, a FastKAN layer to the teacher's width.

    Args:
        inputs: channels of the features with the position encoding concatenated.
        hidden: width of the blocks.
        outputs: channels of the teacher's output.
        blocks: residual blocks; the paper has 4.
        grid: Gaussians per channel.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, blocks: int = 4, grid: int = 8) -> None:
        super().__init__()
        self.enter = FastKANLayer(inputs, hidden, grid)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden, grid) for _ in range(blocks)))
        self.leave = FastKANLayer(hidden, outputs, grid)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y: Tensor = self.leave(self.blocks(self.enter(features)))
        return y
