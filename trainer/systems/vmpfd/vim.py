"""Vision Mamba (ViM, Zhu et al., ICML 2024): VMPFD-AD's bidirectional state space block, section
2.1.1, figure 1(c).

The image is cut into patches, each patch is embedded as a token, and the tokens are read from the
first to the last and from the last to the first: a block normalizes them, projects them to x and to
a gate z, runs a causal convolution and a selective scan over x in either direction, gates both
results with z, adds them, projects back and adds its input.

Settled here, because the paper leaves it open: the norm is LayerNorm (ViM has RMSNorm); S, the
number of states of a channel, and the inner width are the preset's; the position of a token is
learned; initial steps, decays and projections are those of Mamba's code (steps log-uniform in
0.001..0.1, decays -1..-S). After the last block comes BatchNorm, where ViM normalizes each token by
itself. That would give every token the same magnitude, and hide from the decoder and the mixture
that a token is larger than any of a normal part.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.systems.vmpfd.scan import selective_scan

CONVOLVED = 4  # tokens that the causal convolution sees: the current one and those before
STEPS = (1e-3, 1e-1)  # range of the initial steps


class Direction(nn.Module):
    """What one direction of a block has of its own: convolution, projections of x' to B, C and
    step, decay and skip.

    Args:
        inner: D, channels of x. states: S.
    """

    def __init__(self, inner: int, states: int) -> None:
        super().__init__()
        self.states, self.rank = states, math.ceil(inner / 16)
        self.taps = nn.Parameter(torch.empty(CONVOLVED, inner).uniform_(-0.5, 0.5))
        self.offset = nn.Parameter(torch.zeros(inner))
        self.select = nn.Linear(inner, self.rank + 2 * states, bias=False)
        self.to_step = nn.Linear(self.rank, inner)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log()[:, None].repeat(1, inner))
        self.skip = nn.Parameter(torch.ones(inner))
        low, high = (math.log(step) for step in STEPS)
        steps = torch.exp(low + (high - low) * torch.rand(inner))
        with torch.no_grad():
            nn.init.uniform_(self.to_step.weight, -(self.rank**-0.5), self.rank**-0.5)
            # the inverse of softplus: the bias alone gives the initial step
            self.to_step.bias.copy_(steps + torch.log(-torch.expm1(-steps)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Tokens (N, L, D) in this direction's order -> x', step (N, L, D), B and C (N, L, S) of
        the scan.
        """
        length = x.shape[1]
        padded = functional.pad(x, (0, 0, CONVOLVED - 1, 0))  # (N, L + 3, D)
        mixed = self.offset + sum(
            self.taps[tap] * padded[:, tap : tap + length] for tap in range(CONVOLVED)
        )
        chosen = functional.silu(mixed)  # (N, L, D)
        selected = self.select(chosen)  # (N, L, rank + 2 S)
        step, enter, leave = selected.split([self.rank, self.states, self.states], dim=2)
        return chosen, functional.softplus(self.to_step(step)), enter, leave


class VimBlock(nn.Module):
    """One bidirectional block over tokens (N, L, width).

    Args:
        width: E of a token. length: L. inner: D. states: S.
    """

    reverse: Tensor

    def __init__(self, width: int, length: int, inner: int, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.to_x = nn.Linear(width, inner, bias=False)
        self.to_gate = nn.Linear(width, inner, bias=False)
        self.forwards, self.backwards = Direction(inner, states), Direction(inner, states)
        self.leave = nn.Linear(inner, width, bias=False)
        # Read backwards by a constant order of tokens: not every runtime has slices with a negative
        # step.
        self.register_buffer("reverse", torch.arange(length - 1, -1, -1), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, E) -> (N, L, E)."""
        normed = self.norm(tokens)
        x, gate = self.to_x(normed), functional.silu(self.to_gate(normed))  # (N, L, D)
        backwards_x = x.index_select(1, self.reverse)
        read = zip(self.forwards(x), self.backwards(backwards_x), strict=True)
        # both directions at once: (2, N, L, D) twice, (2, N, L, S) twice
        chosen, step, enter, leave = (torch.stack(pair) for pair in read)
        ways = (self.forwards, self.backwards)
        decay = torch.stack([-way.log_decay.exp() for way in ways])  # (2, S, D)
        skip = torch.stack([way.skip for way in ways])  # (2, D)
        forwards, backwards = selective_scan(chosen, step, decay, enter, leave, skip).unbind(0)
        both = forwards + backwards.index_select(1, self.reverse)  # (N, L, D)
        return tokens + cast(Tensor, self.leave(both * gate))


class VimEncoder(nn.Module):
    """Patches to tokens, learned positions, blocks, then BatchNorm.

    Args:
        grid: (h, w) patches. patch: side of one, px. width, inner, states: see VimBlock. blocks:
            how many. channels: C of the image.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        patch: int,
        width: int,
        inner: int,
        states: int,
        blocks: int,
        channels: int = 3,
    ) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, grid[0] * grid[1], width))
        self.blocks = nn.ModuleList(
            VimBlock(width, grid[0] * grid[1], inner, states) for _ in range(blocks)
        )
        self.norm = nn.BatchNorm2d(width)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) in -1..1 -> (N, E, h, w): the tokens on the grid of patches."""
        embedded = self.embed(image)  # (N, E, h, w)
        tokens = embedded.flatten(2).transpose(1, 2) + self.position  # (N, L, E)
        for block in self.blocks:
            tokens = block(tokens)
        return cast(Tensor, self.norm(tokens.transpose(1, 2).reshape(embedded.shape)))
