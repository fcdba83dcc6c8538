"""ViM: a block by its definition, token by token, in float64; which tokens see which; its initial
steps.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from trainer.systems.vmpfd.vim import CONVOLVED, Direction, VimBlock, VimEncoder

Array = NDArray[np.float64]
WIDTH, LENGTH, INNER, STATES = 6, 10, 8, 3


def block(seed: int = 0) -> VimBlock:
    torch.manual_seed(seed)
    made = VimBlock(WIDTH, LENGTH, INNER, STATES).double()
    with torch.no_grad():
        for parameter in made.parameters():  # no zero, no one is left as it started
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def tokens(seed: int = 1) -> torch.Tensor:
    return torch.randn(
        2, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def scanned(way: Direction, x: Array) -> Array:
    """(L, D) through the convolution and the state space model of one direction, a token at a
    time.
    """
    named = {name: tensor.detach().numpy() for name, tensor in way.state_dict().items()}
    hidden, out = np.zeros((STATES, INNER)), []
    for token in range(len(x)):
        mixed = named["offset"].copy()
        for back in range(CONVOLVED):
            if token - back >= 0:
                mixed += named["taps"][CONVOLVED - 1 - back] * x[token - back]
        chosen = silu(mixed)
        selected = named["select.weight"] @ chosen
        low, enter, leave = np.split(selected, [way.rank, way.rank + STATES])
        step = np.log1p(np.exp(named["to_step.weight"] @ low + named["to_step.bias"]))
        hidden = (
            np.exp(-step * np.exp(named["log_decay"])) * hidden + step * chosen * enter[:, None]
        )
        out.append(leave @ hidden + named["skip"] * chosen)
    return np.array(out)


def test_a_block_is_figure_1c() -> None:
    made, given = block(), tokens()
    with torch.no_grad():
        output = made(given).numpy()
    norm, to_x, to_gate, leave = (
        [tensor.detach().numpy() for tensor in part.parameters()]
        for part in (made.norm, made.to_x, made.to_gate, made.leave)
    )
    for number, row in enumerate(given.numpy()):
        centered = row - row.mean(axis=1, keepdims=True)
        normed = (
            centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + made.norm.eps) * norm[0]
            + norm[1]
        )
        x, gate = normed @ to_x[0].T, silu(normed @ to_gate[0].T)
        both = gate * scanned(made.forwards, x) + gate * scanned(made.backwards, x[::-1])[::-1]
        assert np.abs(output[number] - (row + both @ leave[0].T)).max() < 1e-9


def test_every_token_sees_every_other_one() -> None:
    made, given = block(), tokens().requires_grad_()
    for token in (0, 4, LENGTH - 1):
        (slope,) = torch.autograd.grad(made(given)[:, token].square().sum(), given)
        assert float(slope.abs().sum(dim=(0, 2)).min()) > 0


def test_without_the_backward_direction_nothing_later_is_seen() -> None:
    made, given = block(), tokens().requires_grad_()
    with torch.no_grad():
        made.backwards.skip.zero_()
        made.backwards.select.weight.zero_()  # B and C are 0: its states are never read
    (slope,) = torch.autograd.grad(made(given)[:, 4].square().sum(), given)
    assert float(slope[:, 5:].abs().max()) == 0
    assert float(slope[:, :5].abs().sum(dim=(0, 2)).min()) > 0


def test_initial_steps_are_mambas() -> None:
    torch.manual_seed(0)
    way = Direction(256, 4)
    steps = torch.nn.functional.softplus(way.to_step.bias.detach())
    assert 1e-3 * 0.99 < float(steps.min()) < 2e-3
    assert 0.05 < float(steps.max()) < 0.1 * 1.01
    assert (-way.log_decay.exp()).detach()[:, 0].tolist() == pytest.approx([-1.0, -2.0, -3.0, -4.0])


def test_an_unusual_token_stays_as_unusual_as_it_is() -> None:
    """A norm of the single token would give all the same size."""
    torch.manual_seed(0)
    encoder = VimEncoder((2, 2), 8, 12, 24, 4, 1)
    images = torch.randn(16, 3, 16, 16)
    encoder.train()
    with torch.no_grad():
        tokens = encoder(images)
        assert tokens.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.0] * 12, abs=1e-5)
        assert tokens.var(dim=(0, 2, 3), unbiased=False).tolist() == pytest.approx(
            [1.0] * 12, rel=1e-3
        )
        for _ in range(200):
            encoder(images)
        encoder.eval()
        usual, unusual = encoder(images), encoder(torch.cat([images[:1] + 20, images[1:]]))
    assert torch.equal(usual[1:], unusual[1:]), "of itself alone"
    assert float(unusual[0].square().mean()) > 10 * float(usual[0].square().mean())


def test_the_encoder_keeps_tokens_on_their_patches_and_knows_their_places() -> None:
    torch.manual_seed(0)
    encoder = VimEncoder((3, 4), 8, 12, 24, 4, 2).eval()
    image = torch.randn(2, 3, 24, 32)
    with torch.no_grad():
        given = encoder(image)
        assert given.shape == (2, 12, 3, 4)
        changed = image.clone()
        changed[:, :, 8:16, 24:32] += 1.0
        moved = (encoder(changed) - given).abs().sum(dim=1)
        alike = encoder(torch.ones(1, 3, 24, 32))[0].flatten(1)
    assert torch.equal(moved.flatten(1).argmax(dim=1), torch.tensor([7, 7]))
    assert len({tuple(column.tolist()) for column in alike.T}) == 12, (
        "patches alike differ by their position"
    )
