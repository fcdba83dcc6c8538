"""Point-MAE's encoder: the published layout, and every part against a computation that is not
ours.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from trainer.systems.m3dm.pointmae import Block, PointTransformer, Tokenizer

# Names and shapes of the encoder in the published pretrain.pth, MAE_encoder. left off; %d: blocks 0
# to 11.
PUBLISHED = """
encoder.first_conv.0.weight 128 3 1         encoder.first_conv.0.bias 128
encoder.first_conv.1.weight 128             encoder.first_conv.1.bias 128
encoder.first_conv.1.running_mean 128       encoder.first_conv.1.running_var 128
encoder.first_conv.1.num_batches_tracked    encoder.first_conv.3.weight 256 128 1
encoder.first_conv.3.bias 256               encoder.second_conv.0.weight 512 512 1
encoder.second_conv.0.bias 512              encoder.second_conv.1.weight 512
encoder.second_conv.1.bias 512              encoder.second_conv.1.running_mean 512
encoder.second_conv.1.running_var 512       encoder.second_conv.1.num_batches_tracked
encoder.second_conv.3.weight 384 512 1      encoder.second_conv.3.bias 384
pos_embed.0.weight 128 3                    pos_embed.0.bias 128
pos_embed.2.weight 384 128                  pos_embed.2.bias 384
blocks.blocks.%d.norm1.weight 384           blocks.blocks.%d.norm1.bias 384
blocks.blocks.%d.norm2.weight 384           blocks.blocks.%d.norm2.bias 384
blocks.blocks.%d.attn.qkv.weight 1152 384   blocks.blocks.%d.attn.proj.weight 384 384
blocks.blocks.%d.attn.proj.bias 384         blocks.blocks.%d.mlp.fc1.weight 1536 384
blocks.blocks.%d.mlp.fc1.bias 1536          blocks.blocks.%d.mlp.fc2.weight 384 1536
blocks.blocks.%d.mlp.fc2.bias 384           norm.weight 384
norm.bias 384
"""


def published_layout() -> dict[str, tuple[int, ...]]:
    layout: dict[str, tuple[int, ...]] = {}
    words = PUBLISHED.split()
    starts = [number for number, word in enumerate(words) if not word.isdigit()]
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        for block in range(12 if "%d" in words[start] else 1):
            layout[words[start].replace("%d", str(block))] = tuple(map(int, words[start + 1 : end]))
    return layout


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        state = PointTransformer((128, 256, 512), 384, 12, 6, (4, 8, 12)).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == published_layout()


def trained(module: nn.Module) -> nn.Module:
    """With statistics and weights that no initialization gives."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.4
            tensor.copy_(drawn.abs() + 0.5 if "var" in name else drawn)
    return module.eval()


def groups(count: int = 2, many: int = 5, size: int = 7) -> Tensor:
    return torch.randn(
        count, many, size, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def as_published(tokenizer: Tokenizer, points: Tensor) -> Tensor:
    """The maximum repeated beside every point's features, through plain 1-D convolutions."""
    rows = points.flatten(0, 1).transpose(1, 2)
    features = tokenizer.first_conv(rows)
    whole = features.max(dim=2, keepdim=True).values.repeat(1, 1, rows.shape[2])
    return (
        tokenizer.second_conv(torch.cat([whole, features], dim=1))
        .max(dim=2)
        .values.reshape(*points.shape[:2], -1)
    )


@pytest.mark.parametrize("training", [False, True])
def test_tokens_are_those_of_the_published_convolutions(training: bool) -> None:
    tokenizer = trained(Tokenizer((6, 8, 10), 4).double()).train(training)
    assert isinstance(tokenizer, Tokenizer)
    expected = as_published(copy.deepcopy(tokenizer), groups())
    torch.testing.assert_close(tokenizer(groups()), expected, rtol=1e-10, atol=1e-10)


def test_folded_it_is_the_same_function() -> None:
    tokenizer = trained(Tokenizer((6, 8, 10), 4).double())
    assert isinstance(tokenizer, Tokenizer)
    folded = copy.deepcopy(tokenizer)
    folded.fold()
    assert not any(isinstance(module, nn.BatchNorm1d) for module in folded.modules())
    torch.testing.assert_close(folded(groups()), tokenizer(groups()), rtol=1e-10, atol=1e-10)


def test_a_block_is_torchs_pre_norm_transformer_layer() -> None:
    block = trained(Block(12, 3).double())
    layer = nn.TransformerEncoderLayer(
        12, 3, 48, 0.0, "gelu", norm_first=True, batch_first=True
    ).double()
    state = block.state_dict()
    names = {
        "self_attn.in_proj_weight": "attn.qkv.weight",
        "self_attn.out_proj.weight": "attn.proj.weight",
        "self_attn.out_proj.bias": "attn.proj.bias",
        "linear1.weight": "mlp.fc1.weight",
        "linear1.bias": "mlp.fc1.bias",
        "linear2.weight": "mlp.fc2.weight",
        "linear2.bias": "mlp.fc2.bias",
        "norm1.weight": "norm1.weight",
        "norm1.bias": "norm1.bias",
        "norm2.weight": "norm2.weight",
        "norm2.bias": "norm2.bias",
    }
    zeros = torch.zeros(36, dtype=torch.float64)
    layer.load_state_dict(
        {**{mine: state[theirs] for mine, theirs in names.items()}, "self_attn.in_proj_bias": zeros}
    )
    tokens = torch.randn(2, 9, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(block(tokens), layer.train()(tokens), rtol=1e-9, atol=1e-9)


def test_features_are_normed_outputs_of_the_tapped_blocks_with_the_position_before_each() -> None:
    net = trained(PointTransformer((6, 8, 10), 12, 3, 3, (0, 1, 3)).double())
    assert isinstance(net, PointTransformer)
    centers = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    tokens, position = net.encoder(groups()), net.pos_embed(centers)
    outputs = [tokens]
    for block in net.blocks.blocks:
        tokens = block(tokens + position)
        outputs.append(tokens)
    expected = torch.cat([net.norm(outputs[tap]) for tap in (0, 1, 3)], dim=2)
    torch.testing.assert_close(net(groups(), centers), expected)
    torch.testing.assert_close(net.encode(groups(), centers), expected[:, :, 24:])


def test_the_order_of_groups_and_of_their_members_does_not_matter() -> None:
    net = trained(PointTransformer((6, 8, 10), 12, 2, 3, (2,)).double())
    centers = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    order, members = torch.tensor([3, 1, 4, 0, 2]), torch.tensor([6, 0, 5, 1, 4, 2, 3])
    shuffled = net(groups()[:, order][:, :, members], centers[:, order])
    torch.testing.assert_close(shuffled, net(groups(), centers)[:, order])
