"""Masked autoencoding: what is hidden stays hidden, what is learned goes into a file that fits, and
comes back.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import trainer.systems.m3dm.pretrain_command as from_products
from edge.errors import ConfigError, DataError
from tests.support.tiny_product import write_tiny_product
from trainer.cli import app
from trainer.fit import FitControl, Interrupted, fit_phases
from trainer.systems.m3dm.checkpoint import load_pointmae, write_pointmae
from trainer.systems.m3dm.point_features import (
    COMPACT_POINTS,
    DepthImages,
    Groups,
    PointFeatures,
    PointSpec,
)
from trainer.systems.m3dm.pointmae import PointTransformer
from trainer.systems.m3dm.pretrain_command import PretrainOptions, pretrain_pointmae
from trainer.systems.m3dm.pretraining import (
    COMPACT_PLAN,
    MaskedAutoencoder,
    pretrain_phase,
    reconstruction_error,
    rotated,
)

SMALL = replace(
    COMPACT_POINTS,
    groups=20,
    group_size=8,
    tokenizer=(8, 12, 16),
    width=12,
    depth=2,
    heads=2,
    taps=(2,),
)
PLAN = replace(COMPACT_PLAN, epochs=6, batch_size=4, decoder_depth=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.set_num_threads(1)
    return


def encoder(spec: PointSpec = SMALL, seed: int = 0) -> PointTransformer:
    torch.manual_seed(seed)
    return PointTransformer(spec.tokenizer, spec.width, spec.depth, spec.heads, spec.taps)


def groups(count: int = 6, seed: int = 0) -> Groups:
    """Groups of domes: what is hidden follows from its place."""
    generator = torch.Generator().manual_seed(seed)
    centers = 2 * torch.rand(count, 20, 2, generator=generator) - 1
    around = 0.3 * torch.randn(count, 20, 8, 2, generator=generator)
    places = torch.cat([centers[:, :, None], centers[:, :, None] + around], dim=2)
    points = torch.cat([places, (places * places).sum(dim=3, keepdim=True)], dim=3)
    return Groups(
        points[:, :, 1:] - points[:, :, :1],
        points[:, :, 0],
        torch.zeros(count, 20, dtype=torch.int64),
    )


def depth_images(count: int = 5) -> DepthImages:
    generator = torch.Generator().manual_seed(0)
    foreground = torch.zeros(count, 1, 64, 64)
    foreground[..., 8:56, 12:52] = 1
    height = 0.01 + 3e-4 * torch.randn(count, 1, 64, 64, generator=generator)
    rows = (torch.tensor([[200.0, 200, 96, 96]]), torch.tensor([[0.0, 0, 1, 0.4]]))
    return DepthImages(height * foreground, foreground, *(row.expand(count, -1) for row in rows))


def test_sixty_percent_are_hidden_and_the_encoder_never_sees_them() -> None:
    autoencoder = MaskedAutoencoder(encoder(), SMALL, PLAN).eval()
    assert autoencoder.visible == 8
    seen: list[Tensor] = []
    autoencoder.transformer.encoder.register_forward_pre_hook(
        lambda _, given: seen.append(given[0])
    )
    members, centers, _ = groups(1)
    autoencoder(members, centers, torch.Generator().manual_seed(3))
    shown = (seen[0].flatten(2)[0][:, None] == members.flatten(2)[0][None]).all(dim=2).any(dim=0)
    assert int(shown.sum()) == 8
    other = members.clone()
    other[:, ~shown] += 5.0
    same = [
        autoencoder.transformer.encode(part[:, shown], centers[:, shown])
        for part in (members, other)
    ]
    torch.testing.assert_close(*same)
    drawn = [
        autoencoder(members, centers, torch.Generator().manual_seed(seed)).item()
        for seed in range(6)
    ]
    assert len(set(drawn)) == 6, "each call hides others"


def test_gradients_reach_encoder_and_decoder_but_not_the_points() -> None:
    autoencoder = MaskedAutoencoder(encoder(), SMALL, PLAN)
    autoencoder(*groups()[:2], torch.Generator().manual_seed(0)).backward()
    without = [name for name, parameter in autoencoder.named_parameters() if parameter.grad is None]
    assert without == []
    assert groups().members.grad is None


def test_a_rotation_is_about_the_third_axis() -> None:
    points = torch.tensor([[[1.0, 0.0, 5.0]], [[0.0, 2.0, 7.0]]])
    expected = torch.tensor([[[0.0, 1.0, 5.0]], [[0.0, -2.0, 7.0]]])
    torch.testing.assert_close(
        rotated(points, torch.tensor([math.pi / 2, math.pi])), expected, rtol=0, atol=1e-6
    )


def fit_small(
    epochs: int, checkpoint: Path | None = None, stop_after: int | None = None
) -> tuple[PointFeatures, float]:
    """(trained point features, loss of the groups of their images)."""
    torch.manual_seed(0)
    points = PointFeatures(SMALL, (192, 192), (64, 64), (8, 8)).eval()
    phase = pretrain_phase(points, depth_images(), replace(PLAN, epochs=epochs), "cpu")
    fit_phases(
        points, [phase], 0, FitControl(checkpoint, tell=lambda _: None, stop_after=stop_after)
    )
    assert isinstance(phase.module, MaskedAutoencoder)
    return points, reconstruction_error(phase.module, points.all_groups(depth_images()))


def test_pretraining_measures_the_scale_and_lowers_the_loss() -> None:
    before, after = fit_small(1), fit_small(40)
    assert float(after[0].length) != 1.0
    assert after[1] < 0.5 * before[1]
    assert not after[0].training


def test_pretraining_stopped_and_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole, _ = fit_small(4)
    with pytest.raises(Interrupted):
        fit_small(4, tmp_path / "c.pt", stop_after=2)
    resumed, _ = fit_small(4, tmp_path / "c.pt")
    first, second = whole.state_dict(), resumed.state_dict()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def published(path: Path, state: dict[str, Tensor], prefix: str) -> Path:
    """As Point-MAE's own training saves: with an optimizer, a metric of numpy, and a decoder."""
    base = {prefix + name: tensor for name, tensor in state.items()}
    base[prefix.removesuffix("MAE_encoder.") + "MAE_decoder.norm.weight"] = torch.ones(3)
    optimizer = {
        "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
        "param_groups": [{"lr": 1e-3}],
    }
    metrics = {"acc": np.float64(0.93)}
    torch.save({"base_model": base, "optimizer": optimizer, "epoch": 300, "metrics": metrics}, path)
    return path


def of_numpy_one(path: Path) -> Path:
    """The same file as if numpy 1 had pickled its numbers."""
    renamed = path.with_name(f"old-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(renamed, "w") as target:
        for name in source.namelist():
            target.writestr(
                name, source.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            )
    return renamed


def same(first: PointTransformer, second: PointTransformer) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("prefix", ["MAE_encoder.", "module.MAE_encoder.", "", "base_model."])
def test_published_checkpoints_load_whatever_wraps_them(prefix: str, tmp_path: Path) -> None:
    source, target = encoder(seed=1), encoder(seed=2)
    path = published(tmp_path / "pretrain.pth", source.state_dict(), prefix)
    for file in (path, of_numpy_one(path)):
        load_pointmae(file, target)
        assert same(source, target)
        target = encoder(seed=2)


def test_our_file_is_a_plain_state_in_the_published_layout(tmp_path: Path) -> None:
    source, target = encoder(seed=1), encoder(seed=2)
    write_pointmae(tmp_path / "points.pth", source)
    stored = torch.load(tmp_path / "points.pth", weights_only=True)
    assert set(stored) == {f"MAE_encoder.{name}" for name in source.state_dict()}
    load_pointmae(tmp_path / "points.pth", target)
    assert same(source, target)


def test_a_file_that_does_not_fit_is_one_sentence_and_changes_nothing(tmp_path: Path) -> None:
    narrow, target = encoder(replace(SMALL, width=8)), encoder(seed=2)
    before = encoder(seed=2)
    write_pointmae(tmp_path / "narrow.pth", narrow)
    with pytest.raises(
        DataError, match=r"not fit a Point-MAE encoder of width 12 and 2 blocks: \d+ of \d+ tensors"
    ):
        load_pointmae(tmp_path / "narrow.pth", target)
    torch.save({"conv1.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="does not fit"):
        load_pointmae(tmp_path / "other.pth", target)
    with pytest.raises(DataError, match=r"name Point-MAE weights .* with --pretrained"):
        load_pointmae(tmp_path / "none.pth", target)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(DataError, match=r"written neither by torch\.save nor by safetensors"):
        load_pointmae(tmp_path / "text.pth", target)
    assert same(before, target)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_product(tmp_path_factory.mktemp("parts") / "disc")


@pytest.fixture
def _small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(from_products.POINTMAE_PRESETS, "compact", (SMALL, PLAN))


@pytest.mark.usefixtures("_small_preset")
def test_the_command_writes_a_file_that_the_features_take(product: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights" / "points.pth"
    command = [
        "pretrain",
        "pointmae",
        str(product),
        str(product.parent),
        "--out",
        str(out),
        "--epochs",
        "2",
    ]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "12 parts" in done.output.splitlines()[-1], (
        "a product named, and found again in its folder"
    )
    target, untouched = encoder(seed=2), encoder(seed=2)
    load_pointmae(out, target)
    assert not same(target, untouched)
    assert [path.name for path in out.parent.iterdir()] == ["points.pth"]


@pytest.mark.usefixtures("_small_preset")
def test_the_command_interrupted_goes_on_to_the_same_file(product: Path, tmp_path: Path) -> None:
    options = PretrainOptions(epochs=3, seed=4)
    whole = pretrain_pointmae(
        [product], tmp_path / "whole.pth", options, FitControl(tell=lambda _: None)
    )
    with pytest.raises(Interrupted):
        pretrain_pointmae(
            [product], tmp_path / "b.pth", options, FitControl(tell=lambda _: None, stop_after=1)
        )
    assert not (tmp_path / "b.pth").exists()
    again = pretrain_pointmae(
        [product], tmp_path / "b.pth", options, FitControl(tell=lambda _: None)
    )
    assert again == whole
    first, second = encoder(), encoder()
    load_pointmae(tmp_path / "whole.pth", first)
    load_pointmae(tmp_path / "b.pth", second)
    assert same(first, second)


def test_impossible_wishes_are_refused_before_anything_is_read(
    tmp_path: Path, product: Path
) -> None:
    with pytest.raises(ConfigError, match="no preset 'tiny': choose one of compact, paper"):
        pretrain_pointmae([product], tmp_path / "w.pth", PretrainOptions(preset="tiny"))
    with pytest.raises(ConfigError, match="--epochs 0"):
        pretrain_pointmae([product], tmp_path / "w.pth", PretrainOptions(epochs=0))
    with pytest.raises(DataError, match="does not exist"):
        pretrain_pointmae([tmp_path / "nothing"], tmp_path / "w.pth", PretrainOptions())
    flat = write_tiny_product(tmp_path / "flat", with_depth=False)
    with pytest.raises(DataError, match="has no depth"):
        pretrain_pointmae([flat], tmp_path / "w.pth", PretrainOptions())
    assert not (tmp_path / "w.pth").exists()
