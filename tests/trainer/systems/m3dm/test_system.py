"""M3DM wired: which bank sees what, what learns and what stays, the station's own rows, export and
switches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import ConfigError, DataError
from tests.support.detectors import (
    answer_to,
    deployed_graph,
    digest_of_training,
    moved,
    neutral_feeds,
    quiet,
    sensor_bytes,
    stained,
    state,
    training_images,
)
from tests.support.site_inputs import check_adaptation_stays_float32, other_site
from trainer.data.augment import Augmentation
from trainer.export.onnx_file import export_checked
from trainer.fit import Curves, FitControl
from trainer.graph.prepared import Prepared
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import build_any_trunk, named_backbone
from trainer.systems.m3dm import fit as training
from trainer.systems.m3dm.checkpoint import write_pointmae
from trainer.systems.m3dm.detector import SPARE, M3dmDetector
from trainer.systems.m3dm.point_features import PointSpec
from trainer.systems.m3dm.preset import COMPACT, PRESETS
from trainer.systems.m3dm.pretraining import PretrainPlan
from trainer.systems.m3dm.system import M3dm
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, FitRequest

SMALL = replace(
    COMPACT,
    side=64,
    points=PointSpec(32, 16, 4, 0, 12, 6, (8, 16, 16), 24, 2, 3, (1, 2), True, "curve"),
    pretraining=PretrainPlan(2, 8, 1e-3, 1),
    coreset=0.2,
    fused=None,
    views=12,
    augmentation=Augmentation(5.0, 0.02, 0.02, 0.05, 3.0),
    fusion_epochs=3,
    distil_epochs=3,
    encoder_epochs=3,
    steps_per_epoch=4,
    distil_batch=128,
    distil_rate=2e-2,
    map_side=16,
)
CROP = (64, 64)
WITH_DEPTH, COLOR_ONLY = WorkingSizes(CROP, (32, 32), CROP), WorkingSizes(CROP, None, CROP)
BANKS = ["rgb", "points", "fused"]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setattr(training, "LEAST_ROWS", 16)


def image(number: int, depth: bool = True) -> Prepared:
    """A striped, ribbed square part, 3 mm high, on a dark table that a camera sees from 0.3 m
    above.
    """
    generator = torch.Generator().manual_seed(number)
    foreground = torch.zeros(1, 1, 64, 64)
    foreground[..., 12:52, 12:52] = 1
    stripes = 60 * torch.sin(torch.arange(64) / 2.0).view(1, 1, 1, 64)
    color = 20 + foreground * (100 + stripes) + 4 * torch.randn(1, 3, 64, 64, generator=generator)
    one = torch.ones(1)
    if not depth:
        return Prepared(color.clamp(0, 255), None, torch.ones(1, 1, 64, 64), None, one, one)
    small = nn.functional.avg_pool2d(foreground, 2)
    ribs = 3e-3 + 3e-4 * torch.sin(torch.arange(32) / 2.0).view(1, 1, 1, 32)
    height = (ribs + 5e-5 * torch.randn(1, 1, 32, 32, generator=generator)) * small
    intrinsics, plane = (
        torch.tensor([[60.0, 60.0, 31.5, 31.5]]),
        torch.tensor([[0.0, 0.0, 1.0, 0.3]]),
    )
    return Prepared(color.clamp(0, 255), height, small, small, one, one, intrinsics, plane)


def built(
    sizes: WorkingSizes = WITH_DEPTH, pretrained: Path | None = None, **switches: bool
) -> M3dmDetector:
    return M3dm().build(BuildRequest("small", sizes, switches=switches, pretrained=pretrained))


def fit(
    detector: M3dmDetector,
    epochs: int | None = None,
    cache: Path | None = None,
    control: FitControl | None = None,
) -> Curves:
    images = training_images(detector.points is not None, cache, image)
    return M3dm().fit(detector, images, FitRequest("small", epochs, 0, "cpu", control or quiet()))


def dented(part: Prepared) -> Prepared:
    assert part.height is not None
    height = part.height.clone()
    height[..., 12:20, 12:20] += 4e-3
    return part._replace(height=height)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[M3dmDetector]:
    """One training for the tests that only look."""
    patch = pytest.MonkeyPatch()
    patch.setitem(PRESETS, "small", SMALL)
    patch.setattr(training, "LEAST_ROWS", 16)
    detector = built()
    fit(detector, cache=tmp_path_factory.mktemp("cache"))
    yield detector
    patch.undo()


def test_training_moves_points_fusion_and_banks_and_nothing_else() -> None:
    detector = built()
    before = state(detector)
    curves = fit(detector)
    names = moved(
        {name: tensor for name, tensor in before.items() if not name.startswith("banks")}, detector
    )
    transformer = detector.points.features.transformer
    learned = {
        name
        for name, _ in transformer.named_parameters()
        if ".norm1" not in name and ".norm2" not in name
    }
    assert {f"points.features.transformer.{name}" for name in learned} <= names
    assert {
        f"fusion.{name}" for name, _ in detector.fusion.named_parameters() if "head" not in name
    } <= names
    assert not [name for name in names if name.startswith("color.trunk")]
    assert list(curves) == ["depth", "points", "fusion", "bank rgb", "bank points", "bank fused"]
    assert all(curves[f"bank {name}"][-1] < curves[f"bank {name}"][0] for name in BANKS)
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def test_a_distilled_bank_has_a_quarter_of_the_rows_and_its_own_ones(trained: M3dmDetector) -> None:
    whole = built(distilled=False)
    curves = fit(whole)
    assert not [name for name in curves if name.startswith("bank")]
    for (name, small), (_, large) in zip(trained.named_banks(), whole.named_banks(), strict=True):
        assert len(small) == max(16, round(0.25 * len(large))), name
        assert not torch.allclose(small.rows, large.rows[: len(small)], atol=1e-3)


def test_each_bank_sees_its_own_modality(trained: M3dmDetector) -> None:
    def distances(part: Prepared) -> list[float]:
        with torch.no_grad():
            parts = trained.parts(trained.features(part))
            mask = trained.grid_mask(part.foreground)
            maps = [bank(parts[name]) * mask for name, bank in trained.named_banks()]
        return [float(one[0, 0, 3:5, 3:5].sum()) for one in maps]

    good, dent, stain = (
        distances(part) for part in (image(20), dented(image(20)), stained(image(20)))
    )
    assert [name for name, _ in trained.named_banks()] == BANKS
    assert dent[0] == good[0]
    assert dent[1] > 3 * good[1]
    assert stain[0] > 3 * good[0]
    assert dent[2] > 1.2 * good[2]
    assert stain[2] > 1.2 * good[2]


@pytest.mark.parametrize("change", [dented, stained])
def test_an_unusual_part_scores_higher_than_a_normal_one(trained: M3dmDetector, change) -> None:
    good, bad = answer_to(trained, image(21)).map, answer_to(trained, change(image(21))).map
    assert good.shape == (1, 1, *trained.map_size) == (1, 1, 16, 16)
    assert float(good.min()) >= 0
    inside = (slice(None), slice(None), slice(4, 12), slice(4, 12))
    assert float(bad[inside].max()) > 1.2 * float(good[inside].max())


def test_color_only_has_one_bank_and_no_points() -> None:
    detector = built(COLOR_ONLY)
    curves = fit(detector)
    assert [name for name, _ in detector.named_banks()] == ["rgb"]
    assert list(curves) == ["bank rgb"]
    part = image(20, depth=False)
    assert float(answer_to(detector, stained(part)).map.max()) > 1.2 * float(
        answer_to(detector, part).map.max()
    )


def test_a_stations_own_rows_are_normal_to_every_bank(trained: M3dmDetector) -> None:
    part = stained(image(22))
    before = answer_to(trained, part)
    own = before.features[0].flatten(2 - 1).T  # (positions, C)
    spare, valid = torch.zeros(SPARE, trained.channels), torch.zeros(SPARE)
    assert len(own) == 64
    spare[:64] = own
    unset = answer_to(trained, part, spare=spare, spare_valid=valid)
    torch.testing.assert_close(unset.map, before.map)
    known = answer_to(trained, part, spare=spare, spare_valid=torch.ones(SPARE))
    assert float(known.map.max()) < 0.1 * float(before.map.max())
    torch.testing.assert_close(known.features, before.features)


def test_features_are_shifted_and_scaled_before_anything_else(trained: M3dmDetector) -> None:
    part = image(23)
    plain = answer_to(trained, part)
    shift = torch.linspace(-1, 1, trained.channels)
    scale = torch.linspace(2, 0.5, trained.channels)
    shifted = answer_to(trained, part, shift=shift, scale=scale)
    torch.testing.assert_close(shifted.features, plain.features)
    torch.testing.assert_close(shifted.moments, plain.moments)
    with torch.no_grad():
        parts = trained.parts((plain.features - shift.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1))
        squared = {name: bank(parts[name]) for name, bank in trained.named_banks()}
        expected = trained.to_map(trained.fused(squared), trained.grid_mask(part.foreground))
    torch.testing.assert_close(shifted.map, expected)
    assert not torch.allclose(shifted.map, plain.map)


def test_the_map_is_the_weighted_sum_of_the_banks_distances(trained: M3dmDetector) -> None:
    squared = {name: torch.full((1, 1, 8, 8), 4.0 + number) for number, name in enumerate(BANKS)}
    wanted = sum(float(w) * (4.0 + number) ** 0.5 for number, w in enumerate(trained.map_weights))
    assert float(trained.fused(squared)[0, 0, 0, 0]) == pytest.approx(wanted, rel=1e-5)
    assert (trained.map_weights > 0).all()


@pytest.mark.parametrize("sizes", [WITH_DEPTH, COLOR_ONLY], ids=["with depth", "color only"])
def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(
    sizes: WorkingSizes, tmp_path: Path
) -> None:
    def weights(name: str, *stops: int) -> str:
        def fit_again(detector: M3dmDetector, control: FitControl) -> Curves:
            return fit(detector, cache=tmp_path / "cache", control=control)

        return digest_of_training(lambda: built(sizes), fit_again, tmp_path / name, stops)

    whole = weights("whole")
    assert weights("again") == whole
    assert weights("parts", *([1, 3, 5] if sizes is WITH_DEPTH else [1])) == whole


def test_switches_choose_the_banks_that_judge() -> None:
    assert list(built(fused=False).banks) == ["rgb", "points"]
    assert list(built(rgb=False, points=False).banks) == ["fused"]
    assert built(fused=False).fusion is None
    without = built(relief=False)
    assert without.points.encoder is None
    assert without.points.channels == built().points.channels - 4**2 - 2**2
    with pytest.raises(ConfigError, match="no bank is left of rgb, points, fused"):
        built(rgb=False, points=False, fused=False)


def test_a_pretrained_file_replaces_the_first_phase(tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = built()
    nn.init.normal_(source.points.features.transformer.norm.weight)
    write_pointmae(tmp_path / "points.pth", source.points.features.transformer)
    detector = built(pretrained=tmp_path / "points.pth")
    before = state(detector.points.features.transformer)
    torch.testing.assert_close(
        before["norm.weight"], source.points.features.transformer.norm.weight
    )
    assert "points" not in fit(detector, epochs=1)
    assert moved(before, detector.points.features.transformer) == set()
    with pytest.raises(ConfigError, match="without depth m3dm has no point features"):
        built(COLOR_ONLY, pretrained=tmp_path / "points.pth")


def test_any_timm_backbone_serves_with_its_weights(tmp_path: Path) -> None:
    weights = timm.create_model("vit_tiny_patch16_224", pretrained=False).state_dict()
    torch.save(weights, tmp_path / "vit.pth")
    request = BuildRequest(
        "small", COLOR_ONLY, tmp_path / "vit.pth", backbone="vit_tiny_patch16_224"
    )
    detector = M3dm().build(request)
    assert (detector.color.channels, detector.color.grid) == (192, (4, 4))
    loaded = detector.color.trunk.model.state_dict()["blocks.3.attn.qkv.weight"]
    torch.testing.assert_close(loaded, weights["blocks.3.attn.qkv.weight"])
    fit(detector, epochs=1)
    assert answer_to(detector, image(3, depth=False)).map.shape == (1, 1, 16, 16)
    with pytest.raises(ConfigError, match="--weights"):
        M3dm().build(replace(request, weights=None))
    with pytest.raises(DataError, match=r"does not fit resnet18: .* the first is conv1.weight"):
        M3dm().build(replace(request, backbone="resnet18"))
    with pytest.raises(ConfigError, match="timm has no such model"):
        named_backbone("no_such_net")


def test_a_general_trunk_gives_timms_own_features() -> None:
    spec = named_backbone("resnet18")
    assert (spec.channels, spec.strides) == ((128, 256), (8, 16))
    trunk = build_any_trunk(spec, None, (64, 64), random=True)
    color = 255 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    model.load_state_dict(trunk.model.state_dict(), strict=False)
    mean, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.scale))
    with torch.no_grad():
        wanted = model.forward_intermediates((color - mean) / scale, intermediates_only=True)[2:4]
        for one, other in zip(trunk(color), wanted, strict=True):
            torch.testing.assert_close(one, other)
    assert not trunk.train().training
    with pytest.raises(ConfigError, match="cells of 16 px, into which 40x64"):
        build_any_trunk(named_backbone("vit_tiny_patch16_224"), None, (64, 40), random=True)


def test_the_paper_preset_is_dino_and_the_published_point_mae() -> None:
    system = find_system("m3dm")
    sizes = system.sizes("paper", 800, 800, True)
    assert sizes == WorkingSizes((224, 224), (224, 224), (800, 800))
    preset = PRESETS["paper"]
    assert (preset.backbone.channels, preset.points.groups, preset.points.channels) == (
        (768,),
        1024,
        1152,
    )
    assert preset.own_score
    with pytest.raises(ConfigError, match="--weights"):
        system.build(BuildRequest("paper", sizes))


@pytest.mark.parametrize(
    "sizes",
    # color alone, with a score of its own, is exported by the test of PatchCore's score
    [WITH_DEPTH, pytest.param(COLOR_ONLY, marks=pytest.mark.long)],
    ids=["with depth", "color only"],
)
def test_it_exports_agrees_and_compiles(sizes: WorkingSizes, tmp_path: Path) -> None:
    detector = built(sizes)
    fit(detector, epochs=1)
    deployed = deployed_graph(detector, sizes)
    feeds = sensor_bytes(sizes.depth is not None, noise=3)
    site = {
        **other_site(detector),
        "spare": (
            np.random.default_rng(1).normal(size=(SPARE, detector.channels)).astype(np.float32)
        ),
        "spare_valid": (np.arange(SPARE) < 3).astype(np.float32),
    }
    neutral = neutral_feeds(detector)
    report = export_checked(
        deployed, tmp_path / "fp32.onnx", [{**feeds, **neutral}, {**feeds, **site}]
    )
    assert report.agreement.map < 1e-4
    assert report.layers
    check_adaptation_stays_float32(tmp_path / "fp32.onnx")
    if sizes.depth is not None:
        empty = {**feeds, **neutral, "lift": np.array([9.0], np.float32)}
        outputs = OnnxCpuEngine(tmp_path / "fp32.onnx").run(empty)
        assert (outputs["score"], outputs["area"]) == (0, 0)
        assert all(np.isfinite(values).all() for values in outputs.values())


def test_patchcores_score_replaces_the_maps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(SMALL, own_score=True))
    detector = built()
    fit(detector, epochs=1)
    good, bad = answer_to(detector, image(20)), answer_to(detector, stained(dented(image(20))))
    assert good.score is not None
    assert float(bad.score) > 1.2 * float(good.score)
    with torch.no_grad():
        parts = detector.parts(good.features)
        mask = detector.grid_mask(image(20).foreground)
        banks = detector.named_banks()
        scores = [
            detector.reweighted(bank, parts[name], bank(parts[name]), mask) for name, bank in banks
        ]
    assert float(good.score) == pytest.approx(
        float(torch.stack(scores)[:, 0] @ detector.score_weights), rel=1e-5
    )
    color = built(COLOR_ONLY)
    fit(color, epochs=1)
    deployed = deployed_graph(color, COLOR_ONLY)
    report = export_checked(
        deployed, tmp_path / "fp32.onnx", [{**sensor_bytes(depth=False), **neutral_feeds(color)}]
    )
    assert report.agreement.score < 1e-4
