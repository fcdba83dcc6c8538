"""Real-NVP normalizing flow per position, MATS section 2.3.2, equations 9 to 13.

Settled here, because the paper leaves it open or prints it otherwise:

- Position: equation 9 concatenates the position encoding to the flow's own input. Constant channels
  have no density: the flow can shrink them without end and the likelihood grows without bound. As
  in AST, the encoding conditions the coupling subnets instead: it is concatenated to *their* input.
- Equation 11 prints s1(x1), t1(x1). Then the Jacobian is not triangular and its determinant is not
  the product of the scales. Real-NVP (and FrEIA, which AST uses) takes y1, the half already
  transformed; so do we.
- Clamp: the "alpha clamping" of the text is FrEIA's, s -> 2 alpha / pi atan(s / alpha), within
  -alpha..alpha.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainer.layers.typed import Modules


class Subnet(nn.Module):
    """Predict scale and shift of one half from the other half and the condition: convolution, ReLU,
    convolution.

    The first convolution of the concatenation [half, condition] is written as the sum of one
    convolution each, which is the same function; the condition is constant, so its share becomes a
    constant map when the graph is folded. The last convolution starts at zero: the flow starts as a
    permutation.
    """

    def __init__(self, inputs: int, condition: int, hidden: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.from_half = nn.Conv2d(inputs, hidden, kernel, padding=kernel // 2)
        self.from_condition = nn.Conv2d(condition, hidden, kernel, padding=kernel // 2, bias=False)
        self.last = nn.Conv2d(hidden, 2 * outputs, 1)
        nn.init.zeros_(self.last.weight)
        if self.last.bias is not None:
            nn.init.zeros_(self.last.bias)

    def forward(self, half: Tensor, condition: Tensor) -> Tensor:
        """(N, inputs, H, W), (1 or N, condition, H, W) -> (N, 2 outputs, H, W): raw scales, then
        shifts.
        """
        hidden = torch.relu(self.from_half(half) + self.from_condition(condition))
        predicted: Tensor = self.last(hidden)
        return predicted


class Coupling(nn.Module):
    """Fixed channel permutation, then both halves transformed, each given the other (equations 10
    and 11).
    """

    first: Tensor
    second: Tensor
    back: Tensor

    def __init__(
        self, channels: int, hidden: int, alpha: float, condition: int, kernel: int, seed: int
    ) -> None:
        super().__init__()
        half = channels // 2
        order = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("first", order[:half])
        self.register_buffer("second", order[half:])
        self.register_buffer("back", torch.argsort(order))
        self.alpha = alpha
        self.for_first = Subnet(channels - half, condition, hidden, half, kernel)
        self.for_second = Subnet(half, condition, hidden, channels - half, kernel)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> y (N, C, H, W) and the log of its scales, summed over channels, (N, 1, H,
        W).
        """
        x1, x2 = x.index_select(1, self.first), x.index_select(1, self.second)  # (N, C / 2, H, W)
        scale1, shift1 = self._scale_and_shift(self.for_first(x2, condition))
        y1 = x1 * torch.exp(scale1) + shift1
        scale2, shift2 = self._scale_and_shift(self.for_second(y1, condition))
        y2 = x2 * torch.exp(scale2) + shift2
        log_scale = scale1.sum(dim=1, keepdim=True) + scale2.sum(dim=1, keepdim=True)
        return torch.cat([y1, y2], dim=1), log_scale

    def inverse(self, y: Tensor, condition: Tensor) -> Tensor:
        """Undo `forward`: (N, C, H, W) -> (N, C, H, W)."""
        half = self.first.numel()
        y1, y2 = y[:, :half], y[:, half:]
        scale2, shift2 = self._scale_and_shift(self.for_second(y1, condition))
        x2 = (y2 - shift2) * torch.exp(-scale2)
        scale1, shift1 = self._scale_and_shift(self.for_first(x2, condition))
        x1 = (y1 - shift1) * torch.exp(-scale1)
        return torch.cat([x1, x2], dim=1).index_select(1, self.back)

    def _scale_and_shift(self, predicted: Tensor) -> tuple[Tensor, Tensor]:
        """Split a subnet's output and clamp the scales softly to -alpha..alpha."""
        raw, shift = predicted.chunk(2, dim=1)
        return (2 * self.alpha / math.pi) * torch.atan(raw * (1 / self.alpha)), shift


class RealNVP(nn.Module):
    """Map features to a standard normal, position by position, and count the volume (equation 12).

    Args:
        channels: C of the features.
        blocks: coupling blocks; the paper has 4.
        hidden: channels inside the subnets; 1024 for MVTec AD, 64 for MVTec 3D-AD.
        alpha: clamp of a block's log scales; 3 for MVTec AD, 1.9 for MVTec 3D-AD.
        condition_channels: channels of the position encoding.
        kernel: odd, of the subnets' first convolution; 1 keeps every position to itself.
        seed: of the fixed permutations, which belong to the model and saved with it.
    """

    def __init__(
        self,
        channels: int,
        blocks: int = 4,
        hidden: int = 64,
        alpha: float = 1.9,
        condition_channels: int = 32,
        kernel: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.blocks = Modules(
            Coupling(channels, hidden, alpha, condition_channels, kernel, seed + index)
            for index in range(blocks)
        )

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Transform features.

        Args:
            x: (N, C, H, W).
            condition: (1 or N, condition channels, H, W), the position encoding.
        Returns: z (N, C, H, W), and (N, 1, H, W) the log of the scales of each position; its sum
            over the positions is log |det dz/dx|.
        """
        log_det = torch.zeros_like(x[:, :1])
        for block in self.blocks:
            x, log_scale = block(x, condition)
            log_det = log_det + log_scale
        return x, log_det

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """Undo `forward`: z (N, C, H, W) -> x (N, C, H, W)."""
        for block in reversed(self.blocks):
            z = block.inverse(z, condition)
        return z


def negative_log_likelihood(z: Tensor, log_det: Tensor) -> Tensor:
    """Equation 13 per position: ||z||^2 / 2 - log |det J|, without the constant C log(2 pi) / 2.

    Args:
        z: (N, C, H, W).
        log_det: (N, 1, H, W).
    Returns: (N, 1, H, W).
    """
    return 0.5 * (z * z).sum(dim=1, keepdim=True) - log_det
