"""Patch description network (PDN, Batzner et al., EfficientAD, WACV 2024): a few convolutions that
describe patches.

It is distilled from a frozen backbone (trainer.systems.vmpfd.distillation), then frozen. A
descriptor sees a patch of the image and nothing else: 33 pixels wide in `paper`, 50 in `compact`.

`paper` is EfficientAD's PDN-S with padding, its descriptors 4 pixels apart. `compact` begins with a
stride of 2, so that its descriptors are 8 pixels apart, for a twentieth of the arithmetic.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

STRIDES = {"paper": 4, "compact": 8}
CHANNELS = {"paper": 384, "compact": 96}


class PatchDescriptors(nn.Module):
    """Color in -1..1 (N, 3, H, W) -> descriptors (N, C, H / stride, W / stride).

    Args:
        kind: paper or compact.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stride, self.channels = STRIDES[kind], CHANNELS[kind]
        self.layers = nn.Sequential(*(_paper() if kind == "paper" else _compact()))

    def forward(self, image: Tensor) -> Tensor:
        """Describe every patch."""
        return cast(Tensor, self.layers(image))


def _paper() -> list[nn.Module]:
    """EfficientAD, table 4."""
    return [
        nn.Conv2d(3, 128, 4, padding=3),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=1),
        nn.Conv2d(128, 256, 4, padding=3),
        nn.ReLU(),
        nn.AvgPool2d(2, padding=1),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, CHANNELS["paper"], 4),
    ]


def _compact() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(64, 96, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(96, CHANNELS["compact"], 3, padding=1),
    ]
