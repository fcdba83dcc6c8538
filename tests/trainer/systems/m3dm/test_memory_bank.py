"""Nearest distances, reweighting, distillation and fusion of banks, against their definitions in
float64.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.linear_model import SGDOneClassSVM
from torch import Tensor

from trainer.systems.m3dm.distilled import DistilledBank, nearest_distance
from trainer.systems.m3dm.memory_bank import FAR, MemoryBank
from trainer.systems.m3dm.one_class import fused_weights
from trainer.systems.m3dm.reweighting import Reweighted


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 4


def bank_of(rows: Tensor, radius: Tensor | None = None) -> MemoryBank:
    bank = MemoryBank(rows.shape[1])
    bank.fill(rows, radius)
    return bank


def definition(features: Tensor, rows: Tensor, radius: Tensor | None = None) -> np.ndarray:
    """Equation 2, every position and row by itself: (N, C, h, w) -> (N, h, w)."""
    positions = features.permute(0, 2, 3, 1).double().numpy()
    squared = ((positions[..., None, :] - rows.double().numpy()) ** 2).sum(axis=-1)
    return np.maximum(
        (squared - (0 if radius is None else radius.double().numpy())).min(axis=-1), 0
    )


@pytest.mark.parametrize(
    "radius", [None, 3 * torch.rand(20, generator=torch.Generator().manual_seed(2))]
)
def test_it_is_the_distance_to_the_nearest_row(radius: Tensor | None) -> None:
    features, rows = drawn(2, 5, 3, 4), drawn(20, 5, seed=1)
    got = bank_of(rows, radius)(features)
    assert got.shape == (2, 1, 3, 4)
    assert got[:, 0].numpy() == pytest.approx(definition(features, rows, radius), abs=1e-4)
    assert bank_of(rows, radius).rows.numpy() == pytest.approx(rows.numpy(), abs=1e-5)


def test_the_weights_of_a_run_from_before_the_spelling_load() -> None:
    bank, loaded = bank_of(drawn(20, 5)), MemoryBank(5)
    older = {name.replace("center", "centre"): value for name, value in bank.state_dict().items()}
    loaded.load_state_dict(older)
    assert torch.equal(loaded.rows, bank.rows)
    assert "centre" in older, "what the caller gave stays as it was"


def test_a_stations_row_is_known_once_it_is_set() -> None:
    features, rows, spare = drawn(1, 5, 3, 4), drawn(20, 5, seed=1), drawn(3, 5, seed=2)
    spare[1] = features[0, :, 2, 3]
    bank = bank_of(rows)
    unset = bank(features, spare, torch.zeros(3))
    assert torch.equal(unset, bank(features))
    known = bank(features, spare, torch.tensor([0.0, 1.0, 0.0]))
    assert known[0, 0].numpy() == pytest.approx(
        definition(features, torch.cat([rows, spare[1:2]]))[0], abs=1e-4
    )
    assert known[0, 0, 2, 3] < 1e-4 < unset[0, 0, 2, 3]
    assert np.isfinite(np.float16(FAR))


def test_a_loaded_bank_has_as_many_rows_as_were_saved() -> None:
    saved, fresh = bank_of(drawn(20, 5), torch.rand(20)), MemoryBank(5)
    fresh.load_state_dict(saved.state_dict())
    features = drawn(1, 5, 2, 2, seed=3)
    assert len(fresh) == 20
    assert torch.equal(fresh(features), saved(features))
    with pytest.raises(RuntimeError, match="size mismatch"):
        MemoryBank(6).load_state_dict(saved.state_dict())


def test_the_exported_bank_agrees(tmp_path: Path) -> None:
    bank = bank_of(drawn(20, 5)).eval()
    given = (drawn(1, 5, 3, 4, seed=1), drawn(3, 5, seed=2), torch.tensor([0.0, 1.0, 0.0]))
    torch.onnx.export(
        bank, given, str(tmp_path / "bank.onnx"), dynamo=True, opset_version=18, verbose=False
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "bank.onnx"))
    feeds = {
        node.name: tensor.numpy() for node, tensor in zip(session.get_inputs(), given, strict=True)
    }
    assert session.run(None, feeds)[0] == pytest.approx(bank(*given).numpy(), abs=1e-4)


def reweighted_by_definition(features: Tensor, rows: Tensor, mask: Tensor, neighbors: int) -> float:
    """PatchCore's equations 6 and 7 for one image (1, C, h, w)."""
    positions = features[0].flatten(1).T.double().numpy()[mask.flatten() > 0]
    stored = rows.double().numpy()
    distances = np.linalg.norm(positions[:, None] - stored[None], axis=2)
    star = distances.min(axis=1).argmax()
    nearest = distances[star].argmin()
    around = np.linalg.norm(stored - stored[nearest], axis=1).argsort()[:neighbors]
    largest = distances[star, nearest]
    return float((1 - np.exp(largest) / np.exp(distances[star, around]).sum()) * largest)


@pytest.mark.parametrize("neighbors", [3, 9])
def test_the_reweighted_score_is_patchcores(neighbors: int) -> None:
    features, rows = drawn(2, 5, 3, 4), drawn(20, 5, seed=1)
    mask = torch.ones(2, 1, 3, 4)
    mask[0, 0, 0] = 0
    bank = bank_of(rows)
    got = Reweighted(neighbors)(bank, features, bank(features), mask)
    wanted = [
        reweighted_by_definition(features[n : n + 1], rows, mask[n], neighbors) for n in range(2)
    ]
    assert got.tolist() == pytest.approx(wanted, rel=1e-4)
    assert Reweighted()(bank, features, bank(features), torch.zeros_like(mask)).tolist() == [0, 0]


def test_reweighting_far_distances_does_not_overflow() -> None:
    bank = bank_of(drawn(20, 5))
    features = 1e4 * drawn(1, 5, 3, 4, seed=1)
    score = Reweighted()(bank, features, bank(features), torch.ones(1, 1, 3, 4))
    assert torch.isfinite(score).all()
    assert score > 1e3


def distilled(rows: int, steps: int) -> tuple[MemoryBank, MemoryBank, Tensor]:
    """A large bank of a curve in space, a small one distilled from it, and features near the
    curve.
    """
    angle = torch.linspace(0, 6.28, 200)
    curve = torch.stack([angle.cos(), angle.sin(), (3 * angle).cos()], dim=1) + 5
    large = bank_of(curve[torch.randperm(200, generator=torch.Generator().manual_seed(0))])
    features = curve.repeat(10, 1) + 0.3 * (drawn(2000, 3, seed=1) - 4)
    wanted = nearest_distance(large, features)
    small = DistilledBank(3, rows)
    small.start(large)
    optimizer = torch.optim.Adam(small.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        small.loss(features, wanted, 0.01).backward()
        optimizer.step()
    bank = MemoryBank(3)
    small.fill(bank)
    return large, bank, features


def test_a_distilled_bank_gives_the_large_ones_distances() -> None:
    large, start, features = distilled(20, 0)
    _, trained, _ = distilled(20, 150)
    wanted = nearest_distance(large, features).sqrt()
    before, after = (
        (nearest_distance(bank, features).sqrt() - wanted).square().mean()
        for bank in (start, trained)
    )
    assert len(trained) == 20
    assert after < 0.3 * before


def test_distillation_teaches_rows_and_radii_alike_and_starts_from_the_large_banks_first() -> None:
    large = bank_of(drawn(30, 4))
    small = DistilledBank(4, 6)
    small.start(large)
    small.start(bank_of(drawn(30, 4, seed=9)))
    assert (small.rows + small.center).detach().numpy() == pytest.approx(
        large.rows[:6].numpy(), abs=1e-5
    )
    features = drawn(50, 4, seed=2)
    small.loss(features, nearest_distance(large, features), 0.1).backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0
        for parameter in small.parameters()
    )


def test_nearest_distances_come_block_by_block() -> None:
    bank, features = bank_of(drawn(30, 4)), drawn(50, 4, seed=2)
    whole = definition(features.T[None, :, :, None], bank.rows)[0, :, 0]
    assert nearest_distance(bank, features, block=7).numpy() == pytest.approx(whole, abs=1e-4)


def normal_distances() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    base = torch.rand(3000, 1, generator=generator)
    return (1 + base + 0.2 * torch.rand(3000, 3, generator=generator)) * torch.tensor(
        [1.0, 10.0, 0.1]
    )


def test_the_fused_distance_is_the_one_class_machines() -> None:
    distances = normal_distances()
    weights = fused_weights(distances, seed=0)
    scaled = distances.double() / distances.double().mean(dim=0)
    # its usual rate
    machine = SGDOneClassSVM(nu=0.5, max_iter=2000, tol=None, random_state=1).fit(scaled.numpy())
    expected = machine.score_samples(scaled.numpy())
    got = (distances @ weights).numpy()
    assert np.corrcoef(got, expected)[0, 1] > 0.999
    assert got.mean() == pytest.approx(1, abs=0.02)
    assert (weights > 0).all()


def test_a_single_bank_is_only_scaled() -> None:
    assert fused_weights(torch.tensor([[2.0], [4.0]]), seed=0).tolist() == pytest.approx([1 / 3])
