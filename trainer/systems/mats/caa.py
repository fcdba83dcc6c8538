"""Cross-modal anomaly amplifier (CAA), MATS section 2.2, equations 1 to 3.

Settled here, because the paper leaves it open:

- Resolution: CAA works on the feature grid. Depth enters pixel-unshuffled (64 channels for d = 8),
  so the 64 outputs of the decoder of the depth side *are* the unshuffled amplified depth image.
- Channels: the paper narrows the auxiliary modality back to its own width c. Equation 3 adds it to
  the target, whose width differs (112 or 304 color channels, 64 of depth): the narrowing
  convolution goes to the target's width.
- Weights: equations 1 and 2 apply a matrix to every position's features, so a weight exists per
  position and channel ("position", the default): an anomaly changes the mixture where it is and
  nowhere else. The text speaks of fully connected layers over global features: "channel" pools
  first and gives one weight per channel for the whole image, at the price that a defect in one
  corner moves every position's features. In both each weight sees its own modality, as the
  equations have it.
- Decoder: one 1x1 convolution. The paper says no more than that there is one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

WeightsOver = Literal["position", "channel"]


class InvertedBottleneck(nn.Module):
    """Inverted bottleneck projection: IBP(F) = Conv3x3(Conv1x1(F)), c -> 2c -> target channels,
    zero padded.

    The paper puts nothing between the two convolutions, and the first has no bias here: so they are
    one 3x3 convolution at run time, with half the work (`folded`).
    """

    def __init__(self, channels: int, target_channels: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, 2 * channels, kernel_size=1, bias=False)
        self.compress = nn.Conv2d(2 * channels, target_channels, kernel_size=3, padding=1)

    def forward(self, auxiliary: Tensor) -> Tensor:
        """(N, c, H, W) -> (N, target channels, H, W)."""
        projected: Tensor = self.compress(self.expand(auxiliary))
        return projected

    def folded(self) -> nn.Conv2d:
        """Return the one 3x3 convolution that computes the same."""
        kernel = torch.einsum(
            "oeyx,ei->oiyx", self.compress.weight.double(), self.expand.weight.double()[:, :, 0, 0]
        )
        single = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel_size=3, padding=1).to(
            self.compress.weight
        )
        single.load_state_dict(self.compress.state_dict() | {"weight": kernel.to(single.weight)})
        return single


class CAA(nn.Module):
    """Amplify a target modality B by an auxiliary modality A (equations 1 to 3).

    w1 = sigmoid(W1 relu(F_B)), w2 = sigmoid(W2 relu(IBP(F_A))),
    F = Decoder((exp(w1) F_B + exp(w2) IBP(F_A)) / (exp(w1) + exp(w2))).
    Since w1 and w2 lie in 0..1, either modality's share stays within 27 to 73 %.

    Args:
        target_channels: channels of F_B and of the result.
        auxiliary_channels: channels of F_A.
        weights_over: "position" or "channel", see the module's text.
    """

    def __init__(
        self, target_channels: int, auxiliary_channels: int, weights_over: WeightsOver = "position"
    ) -> None:
        super().__init__()
        self.weights_over = weights_over
        self.project: InvertedBottleneck | nn.Conv2d = InvertedBottleneck(
            auxiliary_channels, target_channels
        )
        self.target_weight = nn.Conv2d(target_channels, target_channels, kernel_size=1, bias=False)
        self.auxiliary_weight = nn.Conv2d(
            target_channels, target_channels, kernel_size=1, bias=False
        )
        self.decoder = nn.Conv2d(target_channels, target_channels, kernel_size=1)

    def forward(self, target: Tensor, auxiliary: Tensor) -> Tensor:
        """(N, target channels, H, W), (N, auxiliary channels, H, W) -> (N, target channels,
        H, W).
        """
        decoded: Tensor = self.decoder(self.fuse(target, self.project(auxiliary)))
        return decoded

    def fuse(self, target: Tensor, projected: Tensor) -> Tensor:
        """Equation 3 before the decoder; both arguments and the result (N, target channels, H, W).

        Written as target + share (projected - target) with share = e^w2 / (e^w1 + e^w2) =
        sigmoid(w2 - w1): the same value with one exponential and no division.
        """
        share = torch.sigmoid(
            self._weight(self.auxiliary_weight, projected)
            - self._weight(self.target_weight, target)
        )
        return target + share * (projected - target)

    @torch.no_grad()
    def start_as_identity(self) -> None:
        """Set the weights so that the result is the target: the auxiliary projection is zero, both
        shares are one half, the decoder is twice the identity.
        """
        project = self.project
        last = project.compress if isinstance(project, InvertedBottleneck) else project
        for layer in (last, self.target_weight, self.auxiliary_weight, self.decoder):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        self.decoder.weight.copy_(2 * torch.eye(self.decoder.out_channels)[:, :, None, None])

    def _weight(self, matrix: nn.Conv2d, features: Tensor) -> Tensor:
        """Equations 1 and 2: (N, c, H, W) -> (N, c, H, W) or, over channels, (N, c, 1, 1), in
        0..1.
        """
        active = torch.relu(features)
        if self.weights_over == "channel":
            active = active.mean(dim=(2, 3), keepdim=True)
        return torch.sigmoid(matrix(active))

    def fold(self) -> None:
        """Replace the inverted bottleneck by its single convolution: for export, and only once
        trained.
        """
        if isinstance(self.project, InvertedBottleneck):
            self.project = self.project.folded()
