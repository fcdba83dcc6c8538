"""Distilling patch descriptors: what teaches, what learns, which images, and the file that comes of
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from edge.errors import ConfigError, DataError
from tests.support.tiny_product import write_tiny_product
from trainer.cli import app
from trainer.fit import Curves, FitControl, Interrupted, fit_phases
from trainer.layers.backbone import LITE0, weights_digest
from trainer.systems.vmpfd import distillation, image_files
from trainer.systems.vmpfd.checkpoint import read_pdn
from trainer.systems.vmpfd.distillation import Distillation, disturbed
from trainer.systems.vmpfd.image_files import normal_images
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.pretrain_command import PdnOptions, pretrain_pdn
from trainer.systems.vmpfd.teacher import RECIPES, Teacher

RECIPE = replace(RECIPES["compact"], epochs=2, steps_per_epoch=3, batch_size=4)
QUIET = FitControl(tell=lambda _: None)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(RECIPES, "compact", RECIPE)
    monkeypatch.setattr(image_files, "SIDE", 64)
    monkeypatch.setattr(distillation, "TEXTURES", 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def colors(count: int = 6) -> Tensor:
    """Images of soft blobs, 64x64."""
    generator = torch.Generator().manual_seed(0)
    coarse = 255 * torch.rand(count, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=64, mode="bicubic").clamp(0, 255)


def distilled(epochs: int) -> tuple[Distillation, Curves]:
    torch.manual_seed(0)
    student = PatchDescriptors("compact")
    images = colors()
    made = Distillation(
        student,
        Teacher(RECIPE, None, 8, 96),
        lambda batch, _: images[batch].clone(),
        len(images),
        (64, 64),
        "cpu",
    )
    return made, fit_phases(
        student, [made.phase(RECIPE, epochs)], 0, FitControl(tell=lambda _: None)
    )


def test_the_teacher_gives_the_backbones_levels_normalized_on_their_principal_axes() -> None:
    teacher, images = Teacher(RECIPE, None, 8, 96), colors()
    teacher.fit_scales([images[:3], images[3:]])
    with torch.no_grad():
        given = teacher(images).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
        fine, coarse = teacher.trunk(images)
    fine = torch.nn.functional.adaptive_avg_pool2d(fine, 8) if fine.shape[2] > 8 else fine
    coarse = torch.nn.functional.interpolate(coarse, size=(8, 8), mode="bilinear")
    raw = torch.cat([fine, coarse], dim=1).permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    assert raw.shape[1] == sum(LITE0.channels)
    deviation = raw.std(axis=0)
    normalized = (raw - raw.mean(axis=0)) / np.sqrt(deviation**2 + 1e-6 * (deviation**2).mean())
    values = np.linalg.eigvalsh(np.cov(normalized.T, bias=True))[-96:]
    assert np.abs(given.mean(axis=0)).max() < 1e-3
    assert np.cov(given.T, bias=True) == pytest.approx(np.diag(values), abs=2e-3 * values.max())
    assert values.sum() > 0.9 * np.trace(np.cov(normalized.T, bias=True))


def test_the_student_learns_and_the_teacher_stays() -> None:
    made, curves = distilled(30)
    assert curves["descriptors"][-1] < 0.9 * curves["descriptors"][0]
    made.student.requires_grad_(requires_grad=True).zero_grad()
    before = weights_digest(made.teacher)
    made.loss(torch.arange(4), torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]  # torch
    assert all(parameter.grad is not None for parameter in made.student.parameters())
    assert all(parameter.grad is None for parameter in made.teacher.parameters())
    assert weights_digest(made.teacher) == before


def test_half_of_a_batch_is_disturbed_in_patches_and_neither_image_is_changed_in_place() -> None:
    images, others = colors(8), torch.zeros(2, 3, 64, 64)
    kept = images.clone()
    given = disturbed(images, others, torch.Generator().manual_seed(0))
    assert torch.equal(images, kept)
    differs = (given != images).any(dim=1).flatten(1).float().mean(dim=1)
    assert 0 < float(differs.mean()) < 0.4
    torch.manual_seed(0)
    made = Distillation(
        PatchDescriptors("compact"),
        Teacher(RECIPE, None, 8, 96),
        lambda batch, _: images[batch].clone(),
        8,
        (64, 64),
        "cpu",
    )
    drawn = made.images(torch.arange(8), torch.Generator().manual_seed(3))
    mirrored = [[image.flip(axes) for axes in ([], [1], [2], [1, 2])] for image in images]
    whole = [
        any(torch.equal(one, way) for way in ways)
        for one, ways in zip(drawn, mirrored, strict=True)
    ]
    assert whole[1::2] == [True] * 4
    assert not all(whole[::2])


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_product(tmp_path_factory.mktemp("parts") / "disc")


def test_of_a_product_it_takes_normal_training_parts_and_of_a_folder_every_image(
    product: Path, tmp_path: Path
) -> None:
    taken = normal_images([product.parent])
    assert len(taken) == 6
    assert all("train" in path.parts for path in taken)
    for name in ("a.png", "deep/b.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.zeros((80, 100, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    assert [path.name for path in normal_images([tmp_path])] == ["a.png", "b.jpg"]
    assert len(normal_images([tmp_path, product, product.parent])) == 8, "each once"


def test_what_cannot_be_done_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    out = tmp_path / "w.pdn"
    with pytest.raises(ConfigError, match="pdn has no preset 'tiny': choose one of paper, compact"):
        pretrain_pdn([tmp_path], out, PdnOptions(preset="tiny"), QUIET)
    with pytest.raises(ConfigError, match="--epochs 0"):
        pretrain_pdn([tmp_path], out, PdnOptions(epochs=0), QUIET)
    with pytest.raises(DataError, match="holds no images"):
        pretrain_pdn([tmp_path], out, PdnOptions(), QUIET)
    with pytest.raises(DataError, match="is not a folder"):
        pretrain_pdn([tmp_path / "none"], out, PdnOptions(), QUIET)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((80, 100, 3), np.uint8))
    with pytest.raises(ConfigError, match="--weights"):
        pretrain_pdn([tmp_path], out, PdnOptions(preset="paper"), QUIET)
    assert not out.exists()


def test_the_command_writes_a_file_that_comes_back(product: Path, tmp_path: Path) -> None:
    out = tmp_path / "weights" / "patches.pdn"
    done = CliRunner().invoke(
        app, ["pretrain", "pdn", str(product), "--out", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "6 images" in done.output.splitlines()[-1]
    network = PatchDescriptors("compact")
    network.load_state_dict(read_pdn(out, "compact"))
    assert [path.name for path in out.parent.iterdir()] == ["patches.pdn"]
    with pytest.raises(DataError, match="trainer pretrain pdn --preset paper"):
        read_pdn(out, "paper")


def test_interrupted_it_goes_on_to_the_same_file(product: Path, tmp_path: Path) -> None:
    options = PdnOptions(seed=4)
    pretrain_pdn([product], tmp_path / "whole.pdn", options, FitControl(tell=lambda _: None))
    with pytest.raises(Interrupted):
        pretrain_pdn(
            [product], tmp_path / "b.pdn", options, FitControl(tell=lambda _: None, stop_after=1)
        )
    assert not (tmp_path / "b.pdn").exists()
    with pytest.raises(DataError, match="a training with other data or options"):
        pretrain_pdn(
            [product], tmp_path / "b.pdn", PdnOptions(seed=5), FitControl(tell=lambda _: None)
        )
    pretrain_pdn([product], tmp_path / "b.pdn", options, FitControl(tell=lambda _: None))
    first, second = (read_pdn(tmp_path / f"{name}.pdn", "compact") for name in ("whole", "b"))
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_a_file_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_pdn(tmp_path / "none.pdn", "compact")
    (tmp_path / "text.pdn").write_text("no weights")
    with pytest.raises(DataError, match=r"written neither by torch\.save nor by safetensors"):
        read_pdn(tmp_path / "text.pdn", "compact")
    torch.save({"conv.weight": torch.ones(3)}, tmp_path / "other.pdn")
    with pytest.raises(DataError, match="not a file of `trainer pretrain pdn`"):
        read_pdn(tmp_path / "other.pdn", "compact")
