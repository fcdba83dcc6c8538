"""The selective scan of a state space model (Mamba, Gu and Dao, 2023): a linear recurrence over
tokens.

    h_t = a_t h_(t-1) + b_t,  h_0 = 0

`recurrence` is that definition, one token after the other. `prefix` gives the same states in as
many rounds as L has binary digits, each a few operations over all tokens at once: the device runs
this form, since its graph has no loops. Two neighbors (a, b), (a', b') combine to one step (a' a,
a' b + b'). Paired tokens make a sequence of half the length, whose states are those of every second
token; the state of each other token is one step after its neighbor's (Blelloch, 1990). Nothing
overflows: every factor is a product of decays, which lie in 0..1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def recurrence(decay: Tensor, drive: Tensor) -> Tensor:
    """States (N, L, M) of decay a and drive b, both (N, L, M), token by token."""
    state = torch.zeros_like(drive[:, 0])
    states = []
    for token in range(drive.shape[1]):
        state = decay[:, token] * state + drive[:, token]
        states.append(state)
    return torch.stack(states, dim=1)


def prefix(decay: Tensor, drive: Tensor) -> Tensor:
    """The same states (N, L, M) in parallel, for any L >= 1."""
    count, length, width = drive.shape
    if length == 1:
        return drive
    pairs = length // 2
    first_a, second_a = _neighbors(decay, pairs)  # (N, pairs, M) each
    first_b, second_b = _neighbors(drive, pairs)
    second = prefix(second_a * first_a, second_a * first_b + second_b)  # (N, pairs, M)
    first = torch.cat([first_b[:, :1], first_a[:, 1:] * second[:, :-1] + first_b[:, 1:]], dim=1)
    states = torch.stack([first, second], dim=2).reshape(count, 2 * pairs, width)
    if length == 2 * pairs:
        return states
    return torch.cat([states, decay[:, -1:] * states[:, -1:] + drive[:, -1:]], dim=1)


def _neighbors(tokens: Tensor, pairs: int) -> tuple[Tensor, Tensor]:
    """Tokens 0, 2, 4, ... and 1, 3, 5, ... of (N, L, M), (N, pairs, M) each."""
    paired = tokens[:, : 2 * pairs].reshape(tokens.shape[0], pairs, 2, tokens.shape[2])
    return paired[:, :, 0], paired[:, :, 1]


def selective_scan(
    x: Tensor, step: Tensor, decay: Tensor, enter: Tensor, leave: Tensor, skip: Tensor
) -> Tensor:
    """State space models whose step, entry and exit depend on the token (Mamba, equation 2, as its
    code discretizes).

    With a_t = exp(step_t decay) and b_t = step_t x_t enter_t, every channel has S states h_t, and
    y_t = sum over the states of leave_t h_t + skip x_t. G models of the same size run side by side.

    Args:
        x, step: (G, N, L, D), step >= 0. decay: (G, S, D) < 0, per state and channel. enter, leave:
            (G, N, L, S).
        skip: (G, D).
    Returns: (G, N, L, D).
    """
    a = torch.exp(step.unsqueeze(3) * decay[:, None, None])  # (G, N, L, S, D)
    b = (step * x).unsqueeze(3) * enter.unsqueeze(4)  # (G, N, L, S, D)
    flat = prefix(a.flatten(3).flatten(0, 1), b.flatten(3).flatten(0, 1))  # (G N, L, S D)
    states = flat.reshape(b.shape)  # (G, N, L, S, D)
    return (states * leave.unsqueeze(4)).sum(dim=3) + skip[:, None, None] * x
