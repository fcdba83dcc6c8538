"""Point-MAE's encoder (Pang et al., ECCV 2022): a mini-PointNet makes a token of each group, a
transformer mixes them.

Module names follow the published code's, so that a state dict of its layout fits: `encoder` (the
tokenizer), `pos_embed`, `blocks.blocks.N`, `norm`. Features of several depths, each through the
final norm and side by side, are M3DM's (Wang et al., CVPR 2023, which takes blocks 4, 8 and 12 of
12).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Tokenizer(nn.Module):
    """Mini-PointNet: every point alone, their maximum, every point beside that maximum, and the
    maximum again.

    The published second perceptron sees the maximum repeated for every point; its share of the
    product is computed once a group.

    widths: (128, 256, 512) in the publication. width: of a token.
    """

    def __init__(self, widths: tuple[int, int, int], width: int) -> None:
        super().__init__()
        first, second, third = widths
        self.first_conv = PointPerceptron(3, first, second)
        self.second_conv = PointPerceptron(2 * second, third, width)

    def forward(self, groups: Tensor) -> Tensor:
        """(N, G, K, 3) relative to their centers -> (N, G, width)."""
        count, many, size, _ = groups.shape
        rows = self.first_conv.of_rows(groups.reshape(-1, 3))  # (N G K, second)
        whole = rows.reshape(count * many, size, -1).amax(dim=1)  # (N G, second)
        mix = self.second_conv.enter
        of_whole, of_point = mix.weight[:, :, 0].chunk(2, dim=1)  # (third, second) each
        shared = functional.linear(whole, of_whole, mix.bias)[:, None, :]  # (N G, 1, third)
        own = functional.linear(rows, of_point).reshape(count * many, size, -1)  # (N G, K, third)
        rows = self.second_conv.after_enter((own + shared).flatten(0, 1))  # (N G K, width)
        return rows.reshape(count, many, size, -1).amax(dim=2)  # (N, G, width)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold both BatchNorms into the layers before them: for export, in evaluation mode."""
        for perceptron in (self.first_conv, self.second_conv):
            perceptron.fold_norm()


class PointPerceptron(nn.Sequential):
    """Two layers for every point alone, with BatchNorm and ReLU between them.

    Convolutions of width one, as published, so that published weights fit; `of_rows` computes the
    same as products over the rows of all points.
    """

    def __init__(self, channels: int, hidden: int, given: int) -> None:
        super().__init__(
            nn.Conv1d(channels, hidden, 1),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Conv1d(hidden, given, 1),
        )

    @property
    def enter(self) -> nn.Conv1d:
        """The first layer."""
        return cast(nn.Conv1d, self[0])

    @property
    def leave(self) -> nn.Conv1d:
        """The second layer."""
        return cast(nn.Conv1d, self[3])

    def of_rows(self, rows: Tensor) -> Tensor:
        """(M, channels) -> (M, given)."""
        return self.after_enter(_at_points(self.enter, rows))

    def after_enter(self, rows: Tensor) -> Tensor:
        """What follows the first layer: (M, hidden) -> (M, given)."""
        return _at_points(self.leave, torch.relu(self[1](rows)))

    def fold_norm(self) -> None:
        """Fold the BatchNorm into the first layer; a second call changes nothing."""
        norm = self[1]
        if isinstance(norm, nn.BatchNorm1d):
            self[0] = fuse_conv_bn_eval(self.enter, norm)
            self[1] = nn.Identity()


def _at_points(convolution: nn.Conv1d, rows: Tensor) -> Tensor:
    """A convolution of width one on rows (M, C)."""
    return functional.linear(rows, convolution.weight[:, :, 0], convolution.bias)


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values without a bias, as published."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, G, width) -> (N, G, width)."""
        count, many, width = tokens.shape
        query, key, value = (
            self.qkv(tokens)
            .reshape(count, many, 3, self.heads, -1)
            .permute(2, 0, 3, 1, 4)
            .unbind(0)
        )  # (N, heads, G, width / heads) each
        scores = (query * query.shape[3] ** -0.5) @ key.transpose(2, 3)  # (N, heads, G, G)
        mixed = (torch.softmax(scores, dim=3) @ value).transpose(1, 2)  # (N, G, heads, ...)
        answer: Tensor = self.proj(mixed.reshape(count, many, width))
        return answer


class Mlp(nn.Module):
    """Two linear layers, the inner four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, G, width) -> (N, G, width)."""
        answer: Tensor = self.fc2(functional.gelu(self.fc1(tokens)))
        return answer


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, G, width) -> (N, G, width)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        answer: Tensor = tokens + self.mlp(self.norm2(tokens))
        return answer


class Blocks(nn.Module):
    """The transformer: the position is added before every block, as published, not once."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))

    def forward(self, tokens: Tensor, position: Tensor) -> list[Tensor]:
        """Tokens and position (N, G, width) -> the output of every block."""
        outputs = []
        for block in self.blocks:
            tokens = block(tokens + position)
            outputs.append(tokens)
        return outputs


class PointTransformer(nn.Module):
    """Point-MAE's encoder.

    tokenizer: widths of the mini-PointNet. taps: numbers of the blocks (from 1) whose outputs are
    features; 0 is the token itself, before any attention.
    """

    def __init__(
        self,
        tokenizer: tuple[int, int, int],
        width: int,
        depth: int,
        heads: int,
        taps: Sequence[int],
    ) -> None:
        super().__init__()
        self.taps = tuple(taps)
        self.encoder = Tokenizer(tokenizer, width)
        self.pos_embed = position_embedding(width)
        self.blocks = Blocks(width, depth, heads)
        self.norm = nn.LayerNorm(width)
        self.apply(_publish_start)

    def forward(self, groups: Tensor, centers: Tensor) -> Tensor:
        """Groups (N, G, K, 3) relative to centers (N, G, 3) -> features of all taps, (N, G, taps x
        width).
        """
        tokens = self.encoder(groups)  # (N, G, width)
        outputs = [tokens, *self.blocks(tokens, self.pos_embed(centers))]
        return torch.cat([self.norm(outputs[tap]) for tap in self.taps], dim=2)

    def encode(self, groups: Tensor, centers: Tensor) -> Tensor:
        """The last block's output alone, (N, V, width), of the V groups that a masked autoencoder
        leaves visible.
        """
        output: Tensor = self.norm(self.blocks(self.encoder(groups), self.pos_embed(centers))[-1])
        return output


def position_embedding(width: int) -> nn.Sequential:
    """Of a center: (N, G, 3) -> (N, G, width)."""
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))


def _publish_start(module: nn.Module) -> None:
    """Initial values as published: deviation 0.02, no bias."""
    if isinstance(module, (nn.Linear, nn.Conv1d)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
