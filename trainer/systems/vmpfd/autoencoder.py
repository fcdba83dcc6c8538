"""How VMPFD-AD reconstructs the image from tokens (section 2.1.2), and the plain encoder that its
own is compared with (table 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn

LAYERS = 6


class Code(nn.Module):
    """All tokens of an image to one short vector, and tokens from it again.

    Without it each token can describe its own patch to the decoder, whatever lies elsewhere: a
    component that is intact but in the wrong place is reconstructed as well as any other. One
    vector for the whole image has room only for what differs between normal images; what never
    differs takes no room in it and is reconstructed as it always was (docs/systems/vmpfd.md).

    Args:
        width: of a token. grid: (h, w) of them. size: of the vector.
    """

    def __init__(self, width: int, grid: tuple[int, int], size: int) -> None:
        super().__init__()
        tokens = width * grid[0] * grid[1]
        self.enter, self.leave = nn.Linear(tokens, size), nn.Linear(size, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, E, h, w) -> (N, E, h, w)."""
        code = self.enter(tokens.flatten(1))  # (N, size)
        return cast(Tensor, self.leave(code)).reshape(tokens.shape)  # (N, E, h, w)


class Decoder(nn.Module):
    """Six transposed convolutions from tokens to the image: BatchNorm and ReLU between them, tanh
    at the end.

    The last `doublings` layers have 4x4 kernels and stride 2; those before have 3x3 kernels and
    stride 1, so that they work at the resolution of the tokens.

    Args:
        channels: of the tokens, and outputs of each layer but the last, six in all. doublings: at
            most six. image: C of the image.
    """

    def __init__(self, channels: Sequence[int], doublings: int, image: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise((*channels, image))):
            size, stride = (4, 2) if number >= LAYERS - doublings else (3, 1)
            last = number == LAYERS - 1
            layers.append(
                nn.ConvTranspose2d(before, after, size, stride=stride, padding=1, bias=last)
            )
            layers += [nn.Tanh()] if last else [nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, E, h, w) -> (N, C, 2^doublings h, 2^doublings w) in -1..1."""
        return cast(Tensor, self.layers(tokens))


class CnnEncoder(nn.Module):
    """A plain convolutional encoder to the same tokens: every layer halves the image.

    Args:
        channels: outputs of each layer, the last those of a token. image: C of the image.
    """

    def __init__(self, channels: Sequence[int], image: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((image, *channels)):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in -1..1 -> tokens (N, E, H / 2^n, W / 2^n)."""
        return cast(Tensor, self.layers(image))
