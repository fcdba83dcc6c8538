"""FastKAN (Li 2024) and the student network made of it, MATS section 2.4.

A FastKAN layer is a Kolmogorov-Arnold layer whose splines are Gaussians on a fixed grid. Everything
works per position: a pixel's result depends on that pixel alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class FastKANLayer(nn.Module):
    """y = W_s phi(LayerNorm(x)) + W_b silu(x) + b, per position.

    phi_g(u) = exp(-((u - c_g) / h)^2) for every channel and every center c_g of an even grid; h is
    the distance of two centers. LayerNorm runs over the channels of a position, with learnable
    scale and shift. Positions are rows here, (M, channels), and the products plain matrix products:
    the layer does the same at every position and the wide tensor of Gaussians then needs no
    reordering between operations.

    Args:
        inputs: channels of x.
        outputs: channels of y.
        grid: G, the number of centers, at least 2.
        limits: first and last center; LayerNorm leaves most values within -2..2.
    """

    centers: Tensor

    def __init__(
        self, inputs: int, outputs: int, grid: int = 8, limits: tuple[float, float] = (-2.0, 2.0)
    ) -> None:
        super().__init__()
        self.inverse_width = (grid - 1) / (limits[1] - limits[0])
        self.norm = nn.LayerNorm(inputs)
        self.spline = nn.Linear(grid * inputs, outputs, bias=False)
        self.base = nn.Linear(inputs, outputs)
        # In widths, as `basis` needs them.
        centers = torch.linspace(*limits, grid) * self.inverse_width
        self.register_buffer("centers", centers[:, None], persistent=False)  # (G, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(M, inputs) -> (M, outputs)."""
        y: Tensor = self.spline(self.basis(x)) + self.base(x * torch.sigmoid(x))
        return y

    def basis(self, x: Tensor) -> Tensor:
        """(M, inputs) -> (M, G inputs) in 0..1; column g * inputs + c is center g of channel c."""
        # 1 / h is folded into LayerNorm's scale and shift: one pass less over the wide tensor.
        scale, shift = self.norm.weight * self.inverse_width, self.norm.bias * self.inverse_width
        in_widths = functional.layer_norm(
            x, self.norm.normalized_shape, scale, shift, self.norm.eps
        )
        distance = in_widths.unsqueeze(1) - self.centers  # (M, G, inputs)
        return torch.exp(-(distance * distance)).flatten(1)  # (M, G inputs)


class ResidualBlock(nn.Module):
    """Two FastKAN layers with BatchNorm and LeakyReLU, and a skip connection, as AST's residual
    block.
    """

    def __init__(self, channels: int, grid: int) -> None:
        super().__init__()
        self.first = FastKANLayer(channels, channels, grid)
        self.first_norm: nn.Module = nn.BatchNorm1d(channels)
        self.second = FastKANLayer(channels, channels, grid)
        self.second_norm: nn.Module = nn.BatchNorm1d(channels)
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        """(M, channels) -> (M, channels)."""
        inner = self.activation(self.first_norm(self.first(x)))
        y: Tensor = self.activation(x + self.second_norm(self.second(inner)))
        return y

    def fold(self) -> None:
        """Put both BatchNorms, as they stand, into the layers before them: the same function in
        eval mode only.
        """
        for layer, norm in ((self.first, self.first_norm), (self.second, self.second_norm)):
            if isinstance(norm, nn.BatchNorm1d):
                _fold_norm(layer, norm)
        self.first_norm = self.second_norm = nn.Identity()


class StudentFastKAN(nn.Module):
    """The student: a FastKAN layer into the hidden width, residual blocks, a FastKAN layer to the
    teacher's width.

    Args:
        inputs: channels of the features with the position encoding concatenated.
        hidden: width of the blocks.
        outputs: channels of the teacher's output.
        blocks: residual blocks; the paper has 4.
        grid: Gaussians per channel.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, blocks: int = 4, grid: int = 8
    ) -> None:
        super().__init__()
        self.enter = FastKANLayer(inputs, hidden, grid)
        self.blocks = nn.Sequential(*(ResidualBlock(hidden, grid) for _ in range(blocks)))
        self.leave = FastKANLayer(hidden, outputs, grid)

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return _by_position(self.positions, features)

    def positions(self, rows: Tensor) -> Tensor:
        """(M, inputs) -> (M, outputs): any positions, for instance those of the foreground alone
        while training.
        """
        y: Tensor = self.leave(self.blocks(self.enter(rows)))
        return y


class StudentOfWindows(nn.Module):
    """The same student where a cell is told together with its neighbors: a convolution into the
    hidden width, and a depthwise one before each residual block, whose result is added.

    Args:
        window: side of both, in cells, odd. The others as for StudentFastKAN.
    """

    def __init__(
        self, inputs: int, hidden: int, outputs: int, blocks: int, grid: int, window: int
    ) -> None:
        super().__init__()
        near = window // 2
        self.gather = nn.Conv2d(inputs, hidden, window, padding=near)
        self.student = StudentFastKAN(hidden, hidden, outputs, blocks, grid)
        self.mix = nn.ModuleList(
            nn.Conv2d(hidden, hidden, window, padding=near, groups=hidden) for _ in range(blocks)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        student = self.student
        x = _by_position(student.enter, self.gather(features))
        for mix, block in zip(self.mix, student.blocks, strict=True):
            x = _by_position(block, x + mix(x))
        return _by_position(student.leave, x)


def _by_position(layer: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """A layer of rows on every position: (N, C, H, W) -> (N, C', H, W)."""
    count, channels, height, width = features.shape
    rows = layer(features.permute(0, 2, 3, 1).reshape(-1, channels))  # (N H W, C')
    return rows.reshape(count, height, width, -1).permute(0, 3, 1, 2)


@torch.no_grad()
def _fold_norm(layer: FastKANLayer, norm: nn.BatchNorm1d) -> None:
    """Scale and shift `layer`'s weights as `norm` with its running statistics would its output."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded")
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    layer.spline.weight.mul_(scale[:, None])
    layer.base.weight.mul_(scale[:, None])
    layer.base.bias.copy_((layer.base.bias - norm.running_mean) * scale + norm.bias)
