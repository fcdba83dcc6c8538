"""VMPFD-AD wired: what learns and what stays, what each branch sees, the quantiles, export and
switches.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, distributions, nn

from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import ConfigError, DataError
from edge.proof.compare import Responses
from edge.proof.threshold import threshold_from_normals
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
    state,
    training_images,
)
from tests.support.site_inputs import check_adaptation_stays_float32, other_site
from trainer.data.augment import Augmentation
from trainer.data.source import TrainingImages
from trainer.export.onnx_file import check_compiles, export_checked, export_onnx
from trainer.fit import Curves, FitControl
from trainer.graph.deploy import Deployed
from trainer.graph.prepared import Prepared
from trainer.graph.preprocess import Preprocess
from trainer.graph.sizes import WorkingSizes
from trainer.layers.backbone import weights_digest
from trainer.quantize import Evidence, EvidenceFrame, quantize
from trainer.quantize.evidence import Feeds, Kind, rule_of
from trainer.systems.common.whitening import BOUND, PrincipalAxes
from trainer.systems.registry import find_system
from trainer.systems.seam import BuildRequest, FitRequest
from trainer.systems.vmpfd.checkpoint import write_pdn
from trainer.systems.vmpfd.detector import ERROR_SCALE, LEAST_SPAN, VmpfdDetector, foreground_at
from trainer.systems.vmpfd.fit import Training, cached_views, split_views
from trainer.systems.vmpfd.pdn import PatchDescriptors
from trainer.systems.vmpfd.preset import COMPACT, PAPER, PRESETS
from trainer.systems.vmpfd.ssim import ssim_map
from trainer.systems.vmpfd.system import Vmpfd
from trainer.systems.vmpfd.teacher import RECIPES
from trainer.systems.vmpfd.vim import VimEncoder

SMALL = replace(
    COMPACT,
    long_side=64,
    map_side=16,
    image_side=16,
    width=16,
    inner=24,
    states=2,
    blocks=2,
    code=8,
    decoder=(16, 16, 16, 16, 16),
    dims=6,
    hidden=16,
    adapter=8,
    distil_epochs=2,
    views=24,
    augmentation=Augmentation(5.0, 0.02, 0.02, 0.05, 3.0),
    epochs=3,
    steps_per_epoch=4,
    batch_size=8,
)
IMAGES = 8


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "small", SMALL)
    monkeypatch.setitem(
        RECIPES, "compact", replace(RECIPES["compact"], steps_per_epoch=2, batch_size=4)
    )


def image(number: int, depth: bool = True) -> Prepared:
    """A square part with a red square above a blue one on it, on a dark table."""
    generator = torch.Generator().manual_seed(number)
    foreground = torch.zeros(1, 1, 64, 64)
    foreground[..., 8:56, 8:56] = 1
    color = 20 + 100 * foreground.repeat(1, 3, 1, 1)
    color[..., 12:28, 20:44] = torch.tensor([220.0, 60, 60]).view(1, 3, 1, 1)
    color[..., 36:52, 20:44] = torch.tensor([60.0, 60, 220]).view(1, 3, 1, 1)
    color = (color + 4 * torch.randn(1, 3, 64, 64, generator=generator)).clamp(0, 255)
    one = torch.ones(1)
    if not depth:
        return Prepared(color, None, torch.ones(1, 1, 64, 64), None, one, one)
    small = nn.functional.avg_pool2d(foreground, 2)
    return Prepared(color, 2e-3 * small, small, small, one, one)


def swapped(part: Prepared) -> Prepared:
    """The squares have changed places."""
    color = part.color.clone()
    color[..., 12:28, 20:44], color[..., 36:52, 20:44] = (
        part.color[..., 36:52, 20:44],
        part.color[..., 12:28, 20:44],
    )
    return part._replace(color=color)


def stained(part: Prepared) -> Prepared:
    color = part.color.clone()
    color[..., 26:38, 26:38] = torch.tensor([250.0, 250.0, 10.0]).view(1, 3, 1, 1)
    return part._replace(color=color)


def images(cache: Path | None = None, depth: bool = True) -> TrainingImages:
    return training_images(depth, cache, image, IMAGES)


@pytest.fixture(scope="module")
def descriptors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file as `trainer pretrain pdn` writes it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "descriptors.pdn"
    write_pdn(path, PatchDescriptors("compact"), "compact", 3)
    return path


def built(
    pretrained: Path | None = None,
    sizes: WorkingSizes = WITH_DEPTH,
    preset: str = "small",
    **switches: bool,
) -> VmpfdDetector:
    return Vmpfd().build(BuildRequest(preset, sizes, switches=switches, pretrained=pretrained))


def fit(
    detector: VmpfdDetector,
    epochs: int | None = None,
    cache: Path | None = None,
    control: FitControl | None = None,
    depth: bool = True,
) -> Curves:
    request = FitRequest("small", epochs, 0, "cpu", control or quiet())
    return Vmpfd().fit(detector, images(cache, depth), request)


def trainer_of(detector: VmpfdDetector) -> Training:
    """As fit makes it, begun."""
    views = cached_views(images(), SMALL, 2, 0)
    made = Training(detector, views, *split_views(IMAGES, 2, 0), "cpu")
    assert made.begin() == len(made.train)
    return made


def raw(detector: VmpfdDetector, part: Prepared) -> dict[str, Tensor]:
    with torch.no_grad():
        return detector.raw_maps(part)


def test_the_teacher_stays_and_the_descriptors_learn_from_it_alone() -> None:
    detector = built()
    assert detector.teacher is not None
    teacher, before = detector.teacher, weights_digest(detector.descriptors)
    trunk = weights_digest(teacher.trunk)
    curves = fit(detector, epochs=2)
    assert set(curves) == {"descriptors", "training", "training, held out"}
    assert weights_digest(teacher.trunk) == trunk
    assert weights_digest(detector.descriptors) != before
    assert detector.teacher is None, "nothing of the teacher is shipped"
    assert not any(parameter.requires_grad for parameter in detector.parameters())


def test_given_descriptors_stay_as_they_are_and_all_else_learns(descriptors: Path) -> None:
    detector = built(descriptors)
    before = state(detector)
    curves = fit(detector)
    assert set(curves) == {"training", "training, held out"}
    assert {name.split(".")[0] for name in moved(before, detector)} == {
        "encoder",
        "code",
        "decoder",
        "gain",
        "local",
        "_extra_state",
    }


def test_the_loss_reaches_everything_that_learns_and_nothing_else(descriptors: Path) -> None:
    detector = built(descriptors)
    trainer = trainer_of(detector)
    detector.train().zero_grad()
    trainer.loss(torch.arange(6), torch.Generator()).backward()  # type: ignore[no-untyped-call]  # torch leaves it so
    without = {name for name, parameter in detector.named_parameters() if parameter.grad is None}
    assert without == {f"descriptors.{name}" for name, _ in detector.descriptors.named_parameters()}


def test_likelihood_trains_no_decoder_and_reconstruction_no_mixture(
    descriptors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = built(descriptors)
    trainer = trainer_of(detector)
    assert detector.decoder is not None
    assert detector.local is not None
    for zeroed, silent, learning in (
        (("masked", "log_likelihood"), (detector.local,), (detector.decoder, detector.encoder)),
        (
            ("ssim_map", "masked"),
            (detector.decoder, detector.code),
            (detector.local, detector.encoder),
        ),
    ):
        detector.zero_grad()
        with monkeypatch.context() as patch:
            if "log_likelihood" in zeroed:
                patch.setattr(trainer, "log_likelihood", lambda *_: torch.zeros(()))
                loss = trainer.loss(torch.arange(4), torch.Generator())
            else:
                loss = -trainer.log_likelihood(
                    trainer.train[:4], detector.encoder(trainer.images(trainer.train[:4]))
                )
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        for part in silent:
            assert part is not None
            assert all(parameter.grad is None for parameter in part.parameters())
        for part in learning:
            assert all(parameter.grad is not None for parameter in part.parameters())


@pytest.mark.parametrize(
    ("joint", "switches", "taught"),
    [
        (False, {}, False),
        (True, {}, True),
        (False, {"global": False}, True),
        (False, {"as_published": True}, True),
    ],
    ids=["compact", "joint", "without a reconstruction", "as published"],
)
def test_whether_the_likelihood_teaches_the_encoder(
    joint: bool,
    switches: dict[str, bool],
    taught: bool,
    descriptors: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(SMALL, joint=joint))
    detector = built(descriptors, **switches)
    trainer = trainer_of(detector)
    if detector.decoder is not None:
        monkeypatch.setattr(
            detector.decoder, "forward", lambda tokens: torch.zeros(len(tokens), 3, 16, 16)
        )
    torch.autograd.backward(trainer.loss(torch.arange(4), torch.Generator()))
    assert detector.local is not None
    assert all(parameter.grad is not None for parameter in detector.local.parameters())
    assert {parameter.grad is not None for parameter in detector.encoder.parameters()} == {taught}


def test_the_loss_is_equation_eight_over_the_foreground(descriptors: Path) -> None:
    detector = built(descriptors)
    trainer = trainer_of(detector)
    batch = torch.arange(3)
    with torch.no_grad():
        given = float(trainer.loss(batch, torch.Generator()))
        seen = trainer.images(trainer.train[batch])
        tokens = detector.encoder(seen)
        back, wanted = detector.reconstruct(tokens).double(), detector.target(seen).double()
        likelihood = float(trainer.log_likelihood(trainer.train[batch], tokens))
        similar = ssim_map(back, wanted)
    inside = nn.functional.max_pool2d(trainer.foreground[trainer.train[batch]].float(), 2)[
        :, 0
    ].bool()
    squared = ((back - wanted) ** 2).permute(0, 2, 3, 1)[inside].mean()
    alike = similar.permute(0, 2, 3, 1)[inside].mean()
    assert 0 < float(inside.float().mean()) < 1
    assert given == pytest.approx(float(-likelihood + 5 * squared + 1 - alike), abs=1e-5)


def test_axes_whiten_normal_descriptors_and_keep_the_least_variable() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 3.0
    axes = PrincipalAxes(6, 4)
    axes.fit(rows, 0.0)
    given = axes(rows.T[None, :, :, None])[0, :, :, 0].T.double().numpy()
    bounded = np.abs(given).max(axis=1) < BOUND
    assert bounded.mean() > 0.99
    assert np.cov(given[bounded].T, bias=True) == pytest.approx(np.eye(4), abs=0.05)
    values = np.linalg.eigvalsh(np.cov(rows.double().numpy().T, bias=True))
    # of a whitening row: 1 / eigenvalue
    lengths = 1 / axes.matrix.double().square().sum(dim=1).numpy()
    assert lengths == pytest.approx(values[:4], rel=1e-3)
    axes.fit(rows, 0.5)
    assert 1 / axes.matrix.double().square().sum(dim=1).numpy() == pytest.approx(
        values[:4] + 0.5 * values.mean(), rel=1e-3
    )


@pytest.mark.parametrize(
    "sources", [{}, {"vim_features": False}, {"pdn_features": False}], ids=["both", "pdn", "vim"]
)
def test_every_descriptor_has_the_mixture_of_the_patch_it_lies_on(
    descriptors: Path, sources: dict[str, bool]
) -> None:
    local = built(descriptors, **sources).local
    assert local is not None
    local = local.double()
    local.mixture.shapes.data.normal_()
    torch.manual_seed(0)
    y, tokens = (
        torch.randn(2, 6, 8, 8, dtype=torch.float64),
        torch.randn(2, 16, 2, 2, dtype=torch.float64),
    )
    with torch.no_grad():
        given = local.log_density(y, tokens)
        parts = [tokens] if sources.get("vim_features", True) else []
        if sources.get("pdn_features", True):
            pooled = y.reshape(2, 6, 2, 4, 2, 4).mean(dim=(3, 5))
            parts.append(local.adapter(pooled).clamp(min=0))
        for number, row, column in np.ndindex(2, 8, 8):
            x = torch.cat([part[number, :, row // 4, column // 4] for part in parts])[None, None]
            mixture = local.mixture(x)
            factor = mixture.scale[0, 0].unsqueeze(2) * mixture.shape
            normals = distributions.MultivariateNormal(
                mixture.mean[0, 0], precision_matrix=factor.transpose(1, 2) @ factor
            )
            weights = distributions.Categorical(logits=mixture.log_weights[0, 0])
            wanted = (
                distributions.MixtureSameFamily(weights, normals).log_prob(
                    y[number, :, row, column]
                )
                / 6
            )
            assert float(given[number, 0, row, column]) == pytest.approx(float(wanted), abs=1e-9)


def test_fusion_is_equations_seventeen_and_twenty_and_follows_the_site(descriptors: Path) -> None:
    detector = built(descriptors)
    fit(detector)
    part = image(20)
    maps = {name: one.double().numpy() for name, one in raw(detector, part).items()}
    assert list(maps) == ["local", "global"]
    own = dict(detector.quantiles)
    assert set(own) == {"local_start", "local_end", "global_start", "global_end"}
    assert own["local_end"] > own["local_start"] > 0
    # no span, no division by 0
    other = {"local_start": 0.1, "local_end": 0.7, "global_start": 2.0, "global_end": 2.0}
    for site in (own, other):
        total = sum(
            (one - site[f"{name}_start"])
            / max(site[f"{name}_end"] - site[f"{name}_start"], LEAST_SPAN)
            for name, one in maps.items()
        )
        given = answer_to(
            detector, part, **{name: torch.tensor([value]) for name, value in site.items()}
        )
        assert given.map.numpy() == pytest.approx(np.logaddexp(0, total), rel=1e-3, abs=1e-4)
        assert given.features is not None
        assert np.array_equal(
            given.features.numpy(), np.concatenate(list(raw(detector, part).values()), axis=1)
        )


def test_quantiles_are_of_the_held_out_foreground(
    descriptors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = built(descriptors)
    made: list[Training] = []
    settle = Training.settle

    def noted(self: Training) -> None:
        made.append(self)
        settle(self)

    monkeypatch.setattr(Training, "settle", noted)
    fit(detector)
    _, held = split_views(IMAGES, 2, 0)
    assert torch.equal(made[0].held, held)
    parts = [image(int(number) // 3) for number in held]
    inside = np.concatenate(
        [(nn.functional.max_pool2d(part.foreground, 2) > 0).numpy().ravel() for part in parts]
    )
    for branch in ("local", "global"):
        cells = np.concatenate([raw(detector, part)[branch].numpy().ravel() for part in parts])[
            inside
        ]
        for name, share in (("start", 0.9), ("end", 0.995)):
            wanted = np.quantile(cells.astype(np.float64), share, method="nearest")
            # views are float16
            assert detector.quantiles[f"{branch}_{name}"] == pytest.approx(wanted, rel=2e-2)


def test_errors_are_relative_to_what_is_usual_in_their_cell(
    descriptors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(SMALL, image_side=32))  # two pixels a cell
    detector, plain = built(descriptors), built(descriptors, plain_error=True)
    published = built(descriptors, as_published=True)
    trainers = trainer_of(detector), trainer_of(plain), trainer_of(published)
    for trainer in trainers:
        trainer.settle()
    for other in (plain, published):
        assert torch.equal(other.gain, torch.full((1, 1, 16, 16), ERROR_SCALE))
    views = trainers[0].train
    with torch.no_grad():
        image = trainers[0].images(views)
        given, wanted = detector.reconstruct(detector.encoder(image)), detector.target(image)
    squared = (
        ((given - wanted).double().numpy() ** 2)
        .mean(axis=1)
        .reshape(len(views), 16, 2, 16, 2)
        .mean(axis=(2, 4))
    )
    inside = (
        trainers[0].foreground[views, 0].numpy().reshape(len(views), 16, 2, 16, 2).max(axis=(2, 4))
        > 0
    )
    overall = squared[inside].mean()
    assert 0 < inside.mean() < 1
    for row, column in np.ndindex(16, 16):
        here = squared[:, row, column][inside[:, row, column]]
        usual = here.mean() if len(here) else 0.0
        assert float(detector.gain[0, 0, row, column]) == pytest.approx(
            1 / (usual + overall), rel=1e-4
        )
    with torch.no_grad():
        error = detector.error(image, given)[:, 0].double().numpy()
    assert error == pytest.approx(
        np.minimum(squared * detector.gain[0, 0].double().numpy(), 400), rel=1e-3
    )


@pytest.mark.parametrize(("count", "held"), [(1, 1), (2, 1), (3, 1), (8, 2), (60, 6)])
def test_held_out_images_are_never_learned_from(count: int, held: int) -> None:
    train, out = split_views(count, 3, 0)
    assert len(out) == held
    assert set((out % 4).tolist()) == {0}, "as they are, not augmented"
    own, others = set((train // 4).tolist()), set((out // 4).tolist())
    assert own | others == set(range(count))
    assert own & others == (set() if count > 1 else {0})
    assert len(train) == 4 * len(own)


def test_few_images_are_seen_in_many_views(
    descriptors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", replace(SMALL, views=1024))
    told: list[str] = []
    fit(built(descriptors), epochs=1, control=FitControl(tell=told.append))
    assert told[0] == "8 images, 32 views each"


def test_the_likelihood_of_held_out_images_is_kept_every_epoch_and_rises(descriptors: Path) -> None:
    curves = fit(built(descriptors), epochs=30)
    held = curves["training, held out"]
    assert len(held) == len(curves["training"]) == 30
    assert held[-1] > held[0] + 0.05
    assert np.isfinite([*held, *curves["training"]]).all()


def test_images_that_are_all_the_same_are_no_singularity(descriptors: Path) -> None:
    detector = built(descriptors)
    same = TrainingImages(
        lambda _: image(0)._replace(color=torch.full((1, 3, 64, 64), 90.0)), IMAGES, "same", None
    )
    curves = Vmpfd().fit(detector, same, FitRequest("small", 6, 0, "cpu", quiet()))
    assert np.isfinite([value for curve in curves.values() for value in curve]).all()
    assert bool(torch.isfinite(answer_to(detector, stained(image(3))).map).all())


@pytest.mark.parametrize("depth", [True, False], ids=["with depth", "color only"])
def test_each_branch_and_both_find_a_stain(depth: bool, descriptors: Path) -> None:
    detector = built(descriptors, WITH_DEPTH if depth else COLOR_ONLY)
    fit(detector, epochs=25, depth=depth)
    good, bad = image(30, depth), stained(image(30, depth))
    for branch in ("local", "global"):
        assert float(raw(detector, bad)[branch].max()) > 1.2 * float(
            raw(detector, good)[branch].max()
        ), branch
    first, second = answer_to(detector, good).map, answer_to(detector, bad).map
    assert float(first.min()) >= 0
    assert float(second.max()) > 1.2 * float(first.max())
    row, column = divmod(int(second[0, 0].argmax()), 16)
    assert 5 <= row <= 10
    assert 5 <= column <= 10


def test_the_global_branch_sees_that_parts_have_changed_places(descriptors: Path) -> None:
    detector = built(descriptors, local=False)
    fit(detector, epochs=40)
    good, bad = raw(detector, image(31))["global"], raw(detector, swapped(image(31)))["global"]
    assert float(bad.max()) > 3 * float(good.max())


def test_a_branch_that_is_off_is_neither_trained_nor_asked(descriptors: Path) -> None:
    part = image(22)
    for off, own, missing in (
        ("local", "global", ("descriptors", "local")),
        ("global", "local", ("code", "decoder")),
    ):
        detector = built(descriptors, **{off: False})
        curves = fit(detector)
        assert ("training, held out" in curves) == (own == "local")
        names = [spec.name for spec in detector.site_inputs]
        assert names == ["shift", "scale", f"{own}_start", f"{own}_end"]
        assert list(raw(detector, part)) == [own]
        assert not [name for name in detector.state_dict() if name.split(".")[0] in missing]


def test_the_background_neither_teaches_nor_shows(descriptors: Path) -> None:
    detector = built(descriptors)
    trainer = trainer_of(detector)
    outside = foreground_at(trainer.foreground.float(), detector.grid) == 0
    assert bool(outside.any())
    assert detector.local is not None
    detector.local.adapter.weight.data.zero_()  # it alone looks beyond the foreground
    views = trainer.train[:3]
    noise = torch.randn(trainer.y.shape, generator=torch.Generator().manual_seed(0)).half()
    with torch.no_grad():
        tokens = detector.encoder(trainer.images(views))
        first = trainer.log_likelihood(views, tokens)
        trainer.y = torch.where(outside, noise, trainer.y)
        assert torch.equal(trainer.log_likelihood(views, tokens), first)
        trainer.y = torch.where(outside, trainer.y, noise)
        assert not torch.equal(trainer.log_likelihood(views, tokens), first)


def test_switches_choose_encoder_and_patches(descriptors: Path) -> None:
    whole, plain, fine = (
        built(descriptors),
        built(descriptors, cnn_encoder=True),
        built(descriptors, patch16=True),
    )
    assert isinstance(whole.encoder, VimEncoder)
    assert not isinstance(plain.encoder, VimEncoder)
    assert whole.tokens == plain.tokens == (2, 2)
    assert fine.tokens == (4, 4)
    for detector in (plain, fine):
        fit(detector, epochs=1)
        assert {name: one.shape for name, one in raw(detector, image(1)).items()} == dict.fromkeys(
            ("local", "global"), (1, 1, 16, 16)
        )


def test_published_the_tokens_reach_the_decoder_as_they_are(descriptors: Path) -> None:
    detector, tokens = built(descriptors, as_published=True), torch.randn(1, 16, 2, 2)
    assert detector.code is None
    assert built(descriptors).code is not None
    assert detector.decoder is not None
    with torch.no_grad():
        assert torch.equal(detector.reconstruct(tokens), detector.decoder(tokens))


def test_nothing_left_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="no branch that judges is left: switch at least one of local, global on"
    ):
        built(**{"local": False, "global": False})
    with pytest.raises(ConfigError, match="no source of features is left"):
        built(vim_features=False, pdn_features=False)


def test_descriptors_of_another_preset_are_refused(tmp_path: Path) -> None:
    write_pdn(tmp_path / "paper.pdn", PatchDescriptors("paper"), "paper", 3)
    with pytest.raises(DataError, match="trainer pretrain pdn --preset compact"):
        built(tmp_path / "paper.pdn")


def test_training_repeats_bit_for_bit_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def weights(name: str, *stops: int) -> tuple[str, dict[str, float]]:
        made: list[VmpfdDetector] = []

        def build() -> VmpfdDetector:
            made.append(built())
            return made[-1]

        def fit_again(detector: VmpfdDetector, control: FitControl) -> Curves:
            return fit(detector, cache=tmp_path / "cache", control=control)

        digest = digest_of_training(build, fit_again, tmp_path / name, stops)
        return digest, made[-1].quantiles

    whole = weights("whole")
    assert weights("again") == whole
    # in the distillation, in the training, after its end
    assert weights("parts", 1, 2, 2) == whole


def test_a_state_dict_brings_everything_that_was_measured(
    descriptors: Path, tmp_path: Path
) -> None:
    detector = built(descriptors)
    fit(detector)
    torch.save(detector.state_dict(), tmp_path / "model.pt")
    again = Vmpfd().build(BuildRequest("small", WITH_DEPTH, random_backbone=True))
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert again.site_inputs == detector.site_inputs
    part = stained(image(25))
    assert torch.equal(answer_to(again, part).map, answer_to(detector, part).map)


@pytest.mark.parametrize(
    ("sizes", "switches"),
    [(WITH_DEPTH, {}), pytest.param(COLOR_ONLY, {"patch16": True}, marks=pytest.mark.long)],
    ids=["with depth", "color only, patch 16"],
)
def test_it_exports_agrees_and_compiles(
    sizes: WorkingSizes, switches: dict[str, bool], descriptors: Path, tmp_path: Path
) -> None:
    detector = built(descriptors, sizes, **switches)
    fit(detector, epochs=1, depth=sizes.depth is not None)
    deployed = deployed_graph(detector, sizes)
    feeds = sensor_bytes(sizes.depth is not None)
    own = neutral_feeds(detector)
    quantiles = {
        name: np.array([value], np.float32)
        for name, value in zip(detector.quantiles, (0.5, 0.9, 3.0, 3.0), strict=True)
    }
    other = {**other_site(detector), **quantiles}
    report = export_checked(
        deployed, tmp_path / "fp32.onnx", [{**feeds, **own}, {**feeds, **other}]
    )
    assert report.agreement.map < 1e-4
    assert report.layers
    check_adaptation_stays_float32(tmp_path / "fp32.onnx")
    if sizes.depth is not None:
        empty = {**feeds, **own, "lift": np.array([9.0], np.float32)}
        outputs = OnnxCpuEngine(tmp_path / "fp32.onnx").run(empty)
        assert (outputs["score"], outputs["area"]) == (0, 0)
        assert all(np.isfinite(values).all() for values in outputs.values())


def frame_of(part: Prepared) -> Feeds:
    color = part.color.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()
    return {"color": color, "region": np.ones((1, 64, 64, 1), np.uint8)}


@pytest.mark.long
def test_float16_and_int8_keep_the_certificates_limits_and_compile(
    descriptors: Path, tmp_path: Path
) -> None:
    detector = built(descriptors, COLOR_ONLY)
    fit(detector, epochs=25, depth=False)
    deployed = (
        Deployed(Preprocess(64, 64, (64, 64), None), detector, 0.03).requires_grad_(False).eval()
    )
    good = [  # under a lamp that flickers: the spread of normal scores is what noise is measured by
        part._replace(color=part.color * (1 + 0.01 * (number % 6)))
        for number in range(12)
        for part in [image(100 + number, depth=False)]
    ]
    # a little of either defect, and more and more of it: normal parts alone have no ranks but
    # noise's
    bad = [
        part._replace(color=part.color.lerp(change(part).color, 0.2 * step))
        for step in range(1, 6)
        for number, change in enumerate((stained, swapped))
        for part in [image(200 + 2 * step + number, depth=False)]
    ]
    own = neutral_feeds(detector)
    frames = [{**frame_of(part), **own} for part in (*good, *bad)]
    reference = Responses.of(deployed.run(feeds) for feeds in frames)
    truths = [
        (part.color - image(0).color).abs().amax(dim=1)[0].numpy() > 40 for part in (*good, *bad)
    ]
    kinds: list[Kind] = ["normal"] * len(good) + ["drawn"] * len(bad)
    rule = rule_of(threshold_from_normals(reference.scores[:12]), reference.scores[:12])
    shown = [
        EvidenceFrame(lambda feeds=feeds: feeds, kind, truth)
        for feeds, kind, truth in zip(frames, kinds, truths, strict=True)
    ]
    evidence = Evidence(shown, reference, 6, rule)
    model = onnx.load(str(export_onnx(deployed, tmp_path / "fp32.onnx")))
    calibration = [{**frame_of(image(300 + number, depth=False)), **own} for number in range(8)]
    for name, result in quantize(model, ["fp16", "int8"], calibration, evidence).items():
        assert result.section.passed, f"{name}: {result.section.reasons}"
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(result.model.SerializeToString())
        assert check_compiles(path).layers


def test_the_paper_preset_has_the_papers_sizes(descriptors: Path) -> None:
    system = find_system("vmpfd")
    sizes = system.sizes("paper", 800, 800, False)
    assert sizes == WorkingSizes((256, 256), None)
    detector = system.build(BuildRequest("paper", sizes, random_backbone=True))
    assert isinstance(detector, VmpfdDetector)
    assert detector.tokens == (8, 8)
    assert isinstance(detector.encoder, VimEncoder)
    assert len(detector.encoder.blocks) == 4
    assert detector.grid == (64, 64)
    with torch.no_grad():
        assert detector.reconstruct(torch.zeros(1, 192, 8, 8)).shape == (1, 3, 256, 256)
    preset = PAPER
    assert (preset.rate, preset.batch_size, preset.epochs, preset.weight_decay) == (
        1e-3,
        48,
        200,
        1e-4,
    )
    with pytest.raises(ConfigError, match="--weights"):
        system.build(BuildRequest("paper", sizes))
