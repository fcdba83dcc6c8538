"""VMPFD-AD with depth: what its branches see of it, what is trained in which order, that a dent
which color does not show is found by either branch, and that color alone is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import ConfigError
from tests.support.detectors import (
    COLOR_ONLY,
    WITH_DEPTH,
    answer_to,
    deployed_graph,
    digest_of_training,
    moved,
    neutral_feeds,
    quiet,
    sensor_bytes,
    stained,
    state,
    striped_part,
    training_images,
)
from tests.support.site_inputs import check_adaptation_stays_float32, other_site
from tests.trainer.systems.vmpfd.test_system import SMALL as COLOR_SMALL
from trainer.export.onnx_file import export_checked
from trainer.fit import Curves, FitControl
from trainer.graph.prepared import Prepared
from trainer.layers.height import HeightEncoder
from trainer.layers.typed import required
from trainer.systems.common.foreground import rows_of
from trainer.systems.seam import BuildRequest, FitRequest
from trainer.systems.vmpfd.checkpoint import write_pdn
from trainer.systems.vmpfd.depth_side import SPREADS, HeightChannel, ReliefDescriptors
from trainer.systems.vmpfd.detector import VmpfdDetector, foreground_at, scaled
from trainer.systems.vmpfd.fit import Training, cached_views, encoder_phases, split_views
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.preset import COMPACT, COMPACT_RGBD, PRESETS
from trainer.systems.vmpfd.system import Vmpfd
from trainer.systems.vmpfd.teacher import RECIPES

SMALL = replace(
    COLOR_SMALL, views=12, depth=replace(required(COMPACT_RGBD.depth), encoder_epochs=2)
)
IMAGES = 6
DENT = 1e-3  # m: half of the part's height, ten times the sensor's noise


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(SMALL, depth=None))
    monkeypatch.setitem(PRESETS, "small-rgbd", SMALL)
    monkeypatch.setitem(
        RECIPES, "compact", replace(RECIPES["compact"], steps_per_epoch=2, batch_size=4)
    )


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file as `trainer pretrain pdn` writes it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "descriptors.pdn"
    write_pdn(path, PatchDescriptors("compact"), "compact", 3)
    return path


@pytest.fixture(scope="module")
def trained(descriptors: Path) -> VmpfdDetector:
    """Trained long enough to know its parts, with a relief that is right from the beginning."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small-rgbd", replace(SMALL, epochs=25))
        detector = built(descriptors)
        required(detector.relief).encoder = Informed()
        fit(detector)
    return detector


class Informed(HeightEncoder):
    """The depth's encoder, told the height over a flat part: on images this small it would learn
    for minutes.
    """

    def forward(self, height: Tensor, foreground: Tensor, color: Tensor) -> tuple[Tensor, Tensor]:
        relief, tint = super().forward(height, foreground, color)
        return relief + (height - self.mean) / self.sigma * foreground, tint


def built(pretrained: Path | None = None, preset: str = "small-rgbd") -> VmpfdDetector:
    return Vmpfd().build(BuildRequest(preset, WITH_DEPTH, pretrained=pretrained))


def fit(
    detector: VmpfdDetector, cache: Path | None = None, control: FitControl | None = None
) -> Curves:
    request = FitRequest("small-rgbd", None, 0, "cpu", control or quiet())
    return Vmpfd().fit(detector, training_images(cache=cache, count=IMAGES), request)


def dented(part: Prepared, depth: float = DENT) -> Prepared:
    """The same color, and a dent of 6x6 cells of the depth image."""
    height = required(part.height).clone()
    height[..., 14:20, 14:20] -= depth
    return part._replace(height=height)


def raw(detector: VmpfdDetector, part: Prepared) -> dict[str, Tensor]:
    with torch.no_grad():
        return detector.raw_maps(part)


def test_height_becomes_a_channel_in_deviations_of_normal_parts_and_nothing_outside() -> None:
    channel = HeightChannel(2)
    foreground = torch.zeros(2, 1, 4, 4)
    foreground[..., :3] = 1
    height = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 5
    channel.measure(height, foreground)
    inside = height[foreground > 0].double().numpy()
    assert float(channel.center) == pytest.approx(inside.mean(), rel=1e-6)
    assert float(channel.spread) == pytest.approx(inside.std(), rel=1e-6)
    high = height.clone()
    high[0, 0, 0, 0], high[0, 0, 1, 1] = 1e3, -1e3
    given = channel(high, foreground)
    assert given.shape == (2, 1, 8, 8)
    assert torch.equal(given[..., 6:], torch.zeros(2, 1, 8, 2))
    assert (float(given[0, 0, 1, 1]), float(given[0, 0, 2, 3])) == (1, -1)
    wanted = (height[1, 0, 2, 0] - inside.mean()) / (SPREADS * inside.std())
    assert given[1, 0, 4:6, :2].numpy() == pytest.approx(np.full((2, 2), float(wanted)), abs=1e-5)


def test_relief_is_described_where_it_lies_with_its_sign_and_its_magnitude() -> None:
    describe = ReliefDescriptors(2, (2, 2))
    relief, tint = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4)
    relief[0, 0, 4:6, 2:4] = -6.0  # a quarter of the lower left cell
    tint[0, 0, 1, 3] = 3.0  # lower right of the upper right cell

    class Amplified(nn.Module):
        def forward(self, *_: Tensor) -> tuple[Tensor, Tensor]:
            return relief, tint

    describe.encoder = Amplified()  # type: ignore[assignment]  # gives what is known
    given = describe(striped_part(0))
    wanted = torch.zeros(1, 9, 2, 2)
    wanted[0, 1, 1, 0], wanted[0, 8, 1, 0], wanted[0, 7, 0, 1] = -6.0, 1.5, 3.0
    assert given.shape[1] == describe.channels
    assert torch.equal(given, wanted)


def test_the_branches_see_four_channels_and_the_mixture_nine_more_values(descriptors: Path) -> None:
    detector, color = built(descriptors), built(descriptors, "small")
    part = striped_part(3)
    with torch.no_grad():
        seen, plain = detector.seen(part), color.seen(part)
    assert torch.equal(required(seen.descriptors), required(plain.descriptors))
    assert plain.relief is None
    assert required(seen.relief).shape == (1, 9, 8, 8)
    assert required(seen.target).shape == (1, 4, 16, 16)
    assert torch.equal(required(seen.target)[:, :3], required(plain.target))
    with torch.no_grad():
        assert detector.reconstruct(seen.tokens).shape == (1, 4, 16, 16)
        y = required(detector.local).described(required(seen.descriptors), seen.relief)
    assert y.shape == (1, 6 + 9, 8, 8)
    answer = answer_to(detector, part)
    assert required(answer.moments).shape == (1, 2, 96 + 9 + 16 + 4)
    assert detector.site_inputs[0].shape == (96 + 9 + 16 + 4,)


def test_a_color_detector_is_as_it_was_and_looks_at_no_height(descriptors: Path) -> None:
    detector, part = built(descriptors, "small"), striped_part(3)
    assert detector.height is None
    assert detector.relief is None
    assert not [name for name in detector.state_dict() if "relief" in name or "height" in name]
    first, second = answer_to(detector, part).map, answer_to(detector, dented(part)).map
    assert torch.equal(first, second)
    with torch.no_grad():
        image = detector.image(part.color, part.height, part.foreground)
    assert torch.equal(image, scaled(part.color))


def test_depth_is_measured_and_its_encoder_learns_before_the_branches_do() -> None:
    detector = built()
    before = {name: one for name, one in state(detector).items() if "teacher" not in name}
    curves = fit(detector)
    assert list(curves) == ["descriptors", "depth", "training", "training, held out"]
    heads = {".".join(name.split(".")[:2]) for name in moved(before, detector)}
    assert {"height.center", "height.spread", "relief.encoder", "local.relief_axes"} <= heads
    encoder = required(detector.relief).encoder
    assert float(encoder.sigma) == pytest.approx(1e-4, rel=0.3), "the noise of striped parts"
    assert float(required(detector.height).center) == pytest.approx(2e-3, rel=0.1)


def test_the_depth_side_learns_nothing_of_held_out_images(descriptors: Path) -> None:
    views = cached_views(training_images(count=IMAGES), SMALL, 1, 0)
    train, held = split_views(IMAGES, 1, 0)
    views["height"][held] = 1e3  # whoever looks at it shows it
    detector = built(descriptors)
    training = Training(detector, views, train, held, "cpu")
    training.measure_height()
    assert float(required(detector.height).center) < 1e-2
    (phase,) = encoder_phases(training, None)
    assert phase.begin() == len(train)
    assert float(required(detector.relief).encoder.mean) < 1e-2
    losses = [phase.loss(torch.arange(4), torch.Generator().manual_seed(0)) for _ in range(2)]
    views["height"][held] = 0.0
    losses.append(phase.loss(torch.arange(4), torch.Generator().manual_seed(0)))
    assert len({float(loss.detach()) for loss in losses}) == 1


def test_relief_has_unit_variance_on_its_own_axes(descriptors: Path) -> None:
    detector = built(descriptors)
    nn.init.normal_(required(detector.relief).encoder.leave.weight, std=0.5)
    views = cached_views(training_images(count=IMAGES), SMALL, 1, 0)
    training = Training(detector, views, *split_views(IMAGES, 1, 0), "cpu")
    training.measure_height()
    training.begin()
    assert training.y.shape == (2 * IMAGES, 6 + 9, 8, 8)
    mask = foreground_at(training.foreground[training.train].float(), detector.grid)
    rows = rows_of(training.y[training.train].float(), mask)[:, 6:]
    assert float(rows.mean(dim=0).abs().max()) < 0.2
    assert 0.1 < float(rows.var(dim=0).max()) < 1.1


def test_a_dent_that_color_does_not_show_is_found_by_either_branch(trained: VmpfdDetector) -> None:
    good, bad = striped_part(40), dented(striped_part(40))
    assert torch.equal(good.color, bad.color)
    for branch in ("local", "global"):
        normal, odd = raw(trained, good)[branch], raw(trained, bad)[branch]
        assert float(odd.max()) > 1.3 * float(normal.max()), branch
        row, column = divmod(int((odd - normal)[0, 0].argmax()), 16)
        assert 6 <= row <= 10, branch
        assert 6 <= column <= 10, branch
    first, second = answer_to(trained, good).map, answer_to(trained, bad).map
    assert float(second.max()) > 1.3 * float(first.max())


def test_a_stain_is_still_found(trained: VmpfdDetector) -> None:
    first, second = (
        answer_to(trained, one).map for one in (striped_part(42), stained(striped_part(42)))
    )
    assert float(second.max()) > 1.2 * float(first.max())


def test_shift_and_scale_act_on_relief_and_on_the_height_of_the_target(
    trained: VmpfdDetector,
) -> None:
    part = striped_part(43)
    neutral = answer_to(trained, part)
    groups = {"relief": slice(96, 105), "height": slice(124, 125)}
    for name, channels in groups.items():
        shift = torch.zeros(125)
        shift[channels] = 0.5
        moved_by = answer_to(trained, part, shift=shift)
        assert not torch.equal(moved_by.map, neutral.map), name
        assert torch.equal(required(moved_by.moments), required(neutral.moments)), name
    with torch.no_grad():
        seen = trained.seen(part)
    inside = foreground_at(part.foreground, trained.grid)
    wanted = rows_of(required(seen.relief), inside).mean(dim=0)
    assert required(neutral.moments)[0, 0, 96:105].numpy() == pytest.approx(
        wanted.numpy(), abs=1e-5
    )


def test_color_alone_is_refused_in_one_sentence() -> None:
    for refused in (
        lambda: Vmpfd().sizes("small-rgbd", 64, 64, False),
        lambda: Vmpfd().build(BuildRequest("small-rgbd", COLOR_ONLY)),
    ):
        with pytest.raises(
            ConfigError, match="leaves out: train with --preset compact, or with depth"
        ):
            refused()
    assert Vmpfd().sizes("small", 64, 64, False).depth is None


def test_the_preset_differs_from_compact_in_depth_alone() -> None:
    assert replace(PRESETS["compact-rgbd"], depth=None) == COMPACT
    assert COMPACT.depth is None


def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def weights(name: str, *stops: int) -> str:
        return digest_of_training(
            built,
            lambda detector, control: fit(detector, tmp_path / "cache", control),
            tmp_path / name,
            stops,
        )

    # in the distillation, in the depth's encoder, in the training
    assert weights("parts", 1, 2, 2) == weights("whole")


def test_it_exports_agrees_and_stays_finite_without_a_part(
    trained: VmpfdDetector, tmp_path: Path
) -> None:
    deployed, feeds = deployed_graph(trained, WITH_DEPTH), sensor_bytes(True, noise=1)
    own, other = neutral_feeds(trained), other_site(trained)
    path = tmp_path / "fp32.onnx"
    report = export_checked(deployed, path, [{**feeds, **own}, {**feeds, **other}])
    assert report.agreement.map < 1e-4
    assert report.layers
    check_adaptation_stays_float32(path)
    outputs = OnnxCpuEngine(path).run({**feeds, **own, "lift": np.array([9.0], np.float32)})
    assert not outputs["score"].any()
    assert not outputs["area"].any()
    assert all(np.isfinite(values).all() for values in outputs.values())
