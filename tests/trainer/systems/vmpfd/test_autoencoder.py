"""The decoder's sizes, the code that everything global has to pass, the convolutional encoder in
ViM's place.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainer.systems.vmpfd.autoencoder import LAYERS, CnnEncoder, Code, Decoder


@pytest.mark.parametrize("doublings", [0, 2, 3, 5, 6])
def test_six_transposed_convolutions_double_the_tokens_so_often(doublings: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder((12, 10, 8, 8, 6, 6), doublings).eval()
    convolutions = [layer for layer in decoder.layers if isinstance(layer, nn.ConvTranspose2d)]
    assert len(convolutions) == LAYERS == 6
    assert sum(layer.stride == (2, 2) for layer in convolutions) == doublings
    between = [type(layer) for layer in decoder.layers if not isinstance(layer, nn.ConvTranspose2d)]
    assert between == [nn.BatchNorm2d, nn.ReLU] * 5 + [nn.Tanh]
    with torch.no_grad():
        given = decoder(50 * torch.randn(2, 12, 2, 3))
    assert given.shape == (2, 3, 2 * 2**doublings, 3 * 2**doublings)
    assert float(given.abs().max()) <= 1


def test_no_more_than_the_code_passes() -> None:
    torch.manual_seed(0)
    code = Code(6, (2, 4), 5).double()
    tokens = torch.randn(64, 6, 2, 4, dtype=torch.float64)
    with torch.no_grad():
        given = code(tokens).flatten(1)
    assert given.shape == (64, 48)
    assert int(torch.linalg.matrix_rank(given - given.mean(dim=0))) == 5


def test_every_token_of_the_image_is_in_the_code() -> None:
    torch.manual_seed(0)
    code, tokens = Code(6, (2, 4), 5), torch.randn(1, 6, 2, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(code(tokens)[0, :, 1, 2].square().sum(), tokens)
    assert float(slope.abs().sum(dim=1).min()) > 0


def test_the_convolutional_encoder_gives_the_same_tokens_grid() -> None:
    torch.manual_seed(0)
    encoder = CnnEncoder((4, 8, 12)).eval()
    with torch.no_grad():
        assert encoder(torch.randn(2, 3, 32, 48)).shape == (2, 12, 4, 6)
    assert not isinstance(encoder.layers[-1], nn.ReLU), "tokens may be negative"
