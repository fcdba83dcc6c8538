"""Frozen backbones: levels equal timm's own, and a user's weights reach them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from trainer.layers.backbone import LITE0_LEVELS, RESNET18, WIDE_RESNET50, BackboneSpec, build_trunk


@pytest.mark.parametrize(
    "spec", [LITE0_LEVELS, RESNET18, WIDE_RESNET50], ids=lambda spec: spec.timm_name
)
def test_levels_are_timms_own(spec: BackboneSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(spec.timm_name, pretrained=False, features_only=True).eval()
    classifier = timm.create_model(spec.timm_name, pretrained=False)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    whole.load_state_dict(classifier.state_dict(), strict=False)
    trunk = build_trunk(spec, tmp_path / "weights.pth")
    color = torch.rand(1, 3, 64, 64) * 255
    mean, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.scale))
    with torch.no_grad():
        expected, got = whole((color - mean) / scale)[1:4], trunk(color)
    assert [level.shape[1] for level in got] == list(spec.channels)
    assert [64 // level.shape[2] for level in got] == list(spec.strides)
    for first, second in zip(expected, got, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
