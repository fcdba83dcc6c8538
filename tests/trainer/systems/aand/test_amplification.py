"""Gate, generator and their losses against equations 2 to 8 of AAND, position by position, in
float64.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.systems.aand.amplification import (
    ResidualGate,
    ResidualGenerator,
    amplification_loss,
    focal_loss,
    sampled_rows,
)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def _mlp(layers: torch.nn.Sequential, x: np.ndarray) -> np.ndarray:
    first, last = (
        (layer.weight[:, :, 0, 0].detach().numpy(), layer.bias.detach().numpy())
        for layer in (layers[0], layers[2])
    )
    return np.asarray(last[0] @ np.maximum(first[0] @ x + first[1], 0) + last[1])


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_gate_is_the_share_of_abnormal_memory(temperature: float) -> None:
    torch.manual_seed(0)
    position = torch.randn(1, 6, 2, 3)
    gate = ResidualGate(6, position, 5, temperature).double()
    features = torch.randn(2, 6, 2, 3, dtype=torch.float64)
    got = gate(features).detach().numpy()
    normal, abnormal = gate.normal.detach().numpy(), gate.abnormal.detach().numpy()
    for n, v, u in np.ndindex(2, 2, 3):
        query = _mlp(gate.project, (features[n, :, v, u] + position[0, :, v, u]).numpy())
        weights = [np.exp(_cosine(query, item) / temperature) for item in (*normal, *abnormal)]
        assert got[n, 0, v, u] == pytest.approx(sum(weights[5:]) / sum(weights), abs=1e-5)


def test_without_a_temperature_the_gate_cannot_close() -> None:
    """Why equation 3 as printed is not taken: cosines in -1..1 leave w between 1 / (1 + e^2) and
    its mirror image.
    """
    gate = ResidualGate(4, torch.zeros(1, 4, 1, 1), 1, 1.0)
    with torch.no_grad():
        gate.normal.copy_(torch.tensor([[1.0, 0, 0, 0]]))
        gate.abnormal.copy_(torch.tensor([[-1.0, 0, 0, 0]]))
        gate.project = torch.nn.Sequential(torch.nn.Identity())
    weight = gate(torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1)).detach()
    assert float(weight) == pytest.approx(1 / (1 + np.e**2), abs=1e-5)


def test_the_generator_scales_every_channel_by_less_than_one() -> None:
    torch.manual_seed(0)
    generator = ResidualGenerator(4).double()
    features = 10 * torch.randn(1, 4, 2, 2, dtype=torch.float64)
    got = generator(features).detach().numpy()
    for v, u in np.ndindex(2, 2):
        x = features[0, :, v, u].numpy()
        np.testing.assert_allclose(
            got[0, :, v, u], np.tanh(_mlp(generator.scaling, x)) * x, rtol=1e-9
        )


def test_the_focal_loss_is_that_of_its_paper_inside_the_mask() -> None:
    weight = torch.tensor([0.9, 0.2, 0.7, 0.5], dtype=torch.float64).view(1, 1, 2, 2)
    abnormal = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64).view(1, 1, 2, 2)
    mask = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64).view(1, 1, 2, 2)
    expected = np.mean([0.1**2 * -np.log(0.9), 0.2**2 * -np.log(0.8), 0.7**2 * -np.log(0.3)])
    assert float(focal_loss(weight, abnormal, mask)) == pytest.approx(expected, abs=1e-9)


def test_a_gate_that_is_certain_and_wrong_gives_a_finite_loss() -> None:
    ones = torch.ones(1, 1, 2, 2)
    assert torch.isfinite(focal_loss(0 * ones, ones, ones))


def test_the_amplification_loss_is_a_mean_over_pairs_with_a_floor_of_their_own() -> None:
    generator = np.random.default_rng(0)
    before, normal = generator.normal(size=(3, 4)), generator.normal(size=(5, 4))
    after = before + generator.normal(size=before.shape)
    pairs = [
        max(_cosine(after[i], normal[j]), _cosine(before[i], normal[j]) - 0.3)
        for i in range(3)
        for j in range(5)
    ]
    got = amplification_loss(
        torch.from_numpy(after), torch.from_numpy(before), torch.from_numpy(normal), 0.3
    )
    assert float(got) == pytest.approx(np.mean(pairs), abs=1e-9)


def test_rows_are_sampled_without_repetition_and_again_the_same() -> None:
    rows = torch.arange(100.0)[:, None]
    first, second = (sampled_rows(rows, torch.Generator().manual_seed(3), 10) for _ in range(2))
    assert torch.equal(first, second)
    assert len(first.unique()) == 10
    assert torch.equal(sampled_rows(rows[:4], torch.Generator(), 10), rows[:4])
