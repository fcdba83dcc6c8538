"""Views of the training images: computed once, kept as they were, anomalous where the mask says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.detectors import quiet, striped_part, training_images
from trainer.data.augment import Augmentation
from trainer.layers.backbone import LITE0_LEVELS, Trunk, build_trunk
from trainer.systems.common.views import AT_ONCE, anomalous_views, copies_for, normal_views
from trainer.systems.seam import FitRequest

PLAIN = Augmentation()


@pytest.fixture(scope="module")
def trunk() -> Trunk:
    return build_trunk(LITE0_LEVELS, None)


def test_a_view_is_its_image_with_what_the_frozen_backbone_says_of_it(trunk: Trunk) -> None:
    views = normal_views(trunk, training_images(), PLAIN, 0, 0, "cpu")
    assert len(views) == 6
    image, seen = striped_part(4), views.prepared(torch.tensor([4]), "cpu")
    assert torch.allclose(seen.color, image.color, atol=0.1)  # float16 of 0..255
    assert image.height is not None
    assert seen.height is not None
    assert torch.equal(seen.height, image.height)
    with torch.no_grad():
        levels = trunk(image.color)
    for own, cached in zip(levels, views.colors(torch.tensor([4]), "cpu"), strict=True):
        torch.testing.assert_close(cached, own, rtol=1e-2, atol=1e-2)


def test_views_come_from_the_cache_until_anything_they_depend_on_changes(
    trunk: Trunk, tmp_path: Path
) -> None:
    images = training_images(cache=tmp_path)
    first = normal_views(trunk, images, PLAIN, 0, 0, "cpu")

    def refuse(number: int) -> None:
        raise AssertionError(f"image {number} was computed again")

    cached = replace(images, load=refuse)  # type: ignore[arg-type]  # it must not be called
    again = normal_views(trunk, cached, PLAIN, 0, 0, "cpu")
    assert all(torch.equal(*pair) for pair in zip(first.levels, again.levels, strict=True))
    with pytest.raises(AssertionError, match="computed again"):
        normal_views(trunk, cached, PLAIN, 0, 1, "cpu")


def test_an_anomalous_view_differs_from_its_image_only_under_the_mask(trunk: Trunk) -> None:
    request = FitRequest("compact", None, 0, "cpu", quiet())
    views, marks = anomalous_views(trunk, training_images(depth=False), 2, None, request)
    assert len(views) == len(marks) == 12
    assert not torch.equal(marks[0], marks[1])  # each copy has its own
    assert views.image is not None
    for number in range(12):
        difference = (views.image[number].float() - striped_part(number // 2, False).color[0]).abs()
        assert float((difference * (1 - marks[number])).max()) < 0.1  # float16 of 0..255
    assert bool(marks.any())


def test_views_pass_a_few_at_a_time(trunk: Trunk) -> None:
    views = normal_views(trunk, training_images(), PLAIN, 3, 0, "cpu")
    assert [slice(0, AT_ONCE), slice(AT_ONCE, 2 * AT_ONCE)] == list(views.batches())
    assert len(views) == 24


def test_copies_fill_up_to_the_views_asked_for() -> None:
    assert [copies_for(images, 256) for images in (16, 64, 200, 300)] == [7, 3, 0, 0]
    assert copies_for(4, 0) == 0
    assert copies_for(4, 1024, most=31) == 31
