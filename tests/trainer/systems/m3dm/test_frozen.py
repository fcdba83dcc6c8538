"""The frozen features of M3DM: which views the banks are made of, and when they are computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.support.detectors import COLOR_ONLY, striped_part, training_images
from trainer.systems.common.views import Views, normal_views
from trainer.systems.m3dm.frozen import FrozenFeatures, split_views
from trainer.systems.m3dm.preset import COMPACT, PRESETS
from trainer.systems.m3dm.system import M3dm
from trainer.systems.seam import BuildRequest


def test_banks_are_fused_and_distilled_on_views_that_they_were_not_made_of() -> None:
    """A view that is in the bank is at distance 0: weights from such views would say nothing about
    new parts.
    """
    banked, unseen = split_views(15, 4)  # three images, each followed by four augmented copies
    assert banked.tolist() == [0, 1, 5, 6, 10, 11]
    assert unseen.tolist() == [2, 3, 4, 7, 8, 9, 12, 13, 14]


def test_features_are_computed_once_and_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(COMPACT, side=64, map_side=16))
    detector = M3dm().build(BuildRequest("small", COLOR_ONLY))
    images = training_images(depth=False, image=striped_part)
    trunk, augmentation = detector.color.trunk, COMPACT.augmentation
    normal, other = (normal_views(trunk, images, augmentation, 1, seed, "cpu") for seed in (0, 1))
    frozen = FrozenFeatures(detector, normal, other, 1, "cpu")
    with pytest.raises(KeyError):
        _ = frozen.normal
    assert float(detector.color.gain) == 1.0
    frozen.compute()
    gain, features = detector.color.gain.clone(), frozen.normal.features
    assert float(gain) != 1.0
    frozen.compute()
    assert frozen.normal.features is features
    torch.testing.assert_close(detector.color.gain, gain, rtol=0, atol=0)
    mean_square = frozen.normal.rows("rgb", frozen.banked, "cpu").float().square().mean()
    assert float(mean_square) == pytest.approx(1.0, rel=1e-3)


def test_views_are_told_apart_by_name_even_where_both_are_the_same_object(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(COMPACT, side=64, map_side=16))
    detector = M3dm().build(BuildRequest("small", COLOR_ONLY))
    images = training_images(depth=False, image=striped_part)
    views: Views = normal_views(detector.color.trunk, images, COMPACT.augmentation, 1, 0, "cpu")
    frozen = FrozenFeatures(detector, views, views, 1, "cpu")
    frozen.compute()
    assert frozen.normal is not frozen.synthetic
    assert torch.equal(frozen.normal.features, frozen.synthetic.features)
