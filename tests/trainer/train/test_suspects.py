"""Contaminated training sets are found, in color and in height; clean ones, turned parts and two
kinds are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

import trainer.systems.mats.preset as mats
from edge.camera.contract import CameraContract
from edge.decide.clipping import measure_brightness, normal_brightness
from edge.frames.sample import Sample
from edge.geometry import Plane
from edge.types import Frame, Intrinsics
from trainer.cli import app
from trainer.data.scene import Scene
from trainer.export.manifest import camera_of
from trainer.train.suspect_pictures import draw_suspects
from trainer.train.suspects import LEAST_IMAGES, Search, find_suspects, stand_apart, suspect_lines
from trainer.train.trained_run import load_run
from trainer.train.unusual import Comparison

HEIGHT, WIDTH, UNIT, DISTANCE = 96, 128, 1e-4, 0.4
PLANE: Plane = (0.0, 0.0, 1.0, DISTANCE)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A frame that was drawn, in the place of its files."""

    frame: Frame

    def load(self) -> Frame:
        return self.frame


def part(
    seed: int,
    scratch: bool = False,
    dent: bool = False,
    turn: float = 0.0,
    kind: tuple[int, int, int] = (190, 150, 90),
) -> Frame:
    """A disc 10 mm high on a table, with a notch; noise of 0.2 mm."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    color = np.full((HEIGHT, WIDTH, 3), (60, 66, 74), np.float32)
    disc = (u - WIDTH / 2) ** 2 + (v - HEIGHT / 2) ** 2 < 38**2
    color[disc] = kind
    color[24:40, 40:56] = (40, 90, 160)
    if scratch:
        cv2.line(color, (72, 58), (86, 68), (20, 20, 20), 3)
    z = DISTANCE - 0.010 * disc
    if dent:
        z[52:64, 70:82] += 0.003
    if turn:
        about = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), turn, 1.0)
        color = cv2.warpAffine(color, about, (WIDTH, HEIGHT), borderValue=(60, 66, 74))
    color += rng.normal(0, 4, color.shape)
    counts = np.round((z + rng.normal(0, 2e-4, z.shape)) / UNIT).astype(np.uint16)
    lens = Intrinsics(WIDTH, HEIGHT, 150.0, 150.0, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return Frame(np.clip(color, 0, 255).astype(np.uint8), counts, UNIT, lens, "drawn", seed, seed)


def samples(frames: list[Frame]) -> list[Sample]:
    return [
        Sample(
            f"train/good/{number:03d}",
            "train",
            "good",
            Drawn(frame),
            "clean",
            Path(f"{number:03d}.png"),
        )  # type: ignore[arg-type]  # Drawn
        for number, frame in enumerate(frames)
    ]


def searched(frames: list[Frame], with_depth: bool = False) -> tuple[Search, Scene, list[Sample]]:
    torch.set_num_threads(1)
    scene = Scene(
        (0, 0, WIDTH, HEIGHT),
        with_depth,
        True,
        PLANE if with_depth else None,
        0.002 if with_depth else None,
    )
    listed = samples(frames)
    return find_suspects(scene, listed), scene, listed


def found(frames: list[Frame], with_depth: bool = False) -> list[tuple[int, str]]:
    suspects = searched(frames, with_depth)[0].suspects
    return sorted((int(suspect.name[-3:]), suspect.differs) for suspect in suspects)


@pytest.mark.parametrize("bad", [[3], [1, 6, 9]])
def test_scratched_images_are_found_even_if_they_could_vouch_for_each_other(bad: list[int]) -> None:
    frames = [part(number, scratch=number in bad) for number in range(11)]
    assert found(frames) == [(number, "color") for number in bad]


def test_dents_that_only_depth_shows_are_found() -> None:
    frames = [part(number, dent=number in (2, 8)) for number in range(12)]
    assert found(frames) == []
    assert found(frames, with_depth=True) == [(2, "height"), (8, "height")]


@pytest.mark.parametrize(
    "drawing",
    [
        part,
        lambda number: part(number, turn=360 * np.random.default_rng(number).random()),
        lambda number: part(number, kind=(190, 150, 90) if number % 2 else (90, 150, 60)),
    ],
    ids=["alike", "turned", "two kinds"],
)
def test_clean_sets_have_no_suspects(drawing: Callable[[int], Frame]) -> None:
    assert found([drawing(number) for number in range(14)], with_depth=True) == []


def test_images_that_are_equal_to_the_last_bit_are_no_suspects() -> None:
    assert found([part(0)] * 8, with_depth=True) == []


def test_more_images_than_are_compared_with_are_searched_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import trainer.train.unusual as module

    monkeypatch.setattr(module, "MOST_OTHERS", 8)
    frames = [part(number, scratch=number in (7, 16)) for number in range(24)]
    assert found(frames) == [(7, "color"), (16, "color")]


def test_a_part_that_is_not_there_is_found_and_breaks_nothing() -> None:
    empty = replace(
        part(0), color=part(0).color * 0 + 60, depth=np.full((HEIGHT, WIDTH), 4000, np.uint16)
    )
    assert (5, "color") in found(
        [*(part(number) for number in range(5)), empty, *map(part, range(6, 12))], True
    )


def test_of_few_images_nothing_is_said_but_that() -> None:
    search, _, _ = searched(
        [part(number, scratch=number == 1) for number in range(LEAST_IMAGES - 1)]
    )
    assert search.suspects == []
    assert suspect_lines(search, Path("run")) == [
        "5 normal images are too few to tell whether one of them is a defect: at least 6 are"
        " compared with each other"
    ]


def test_the_search_leaves_the_training_s_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.random.get_rng_state()
    searched([part(number) for number in range(7)], with_depth=True)
    assert torch.equal(torch.random.get_rng_state(), expected)


def test_the_picture_is_hot_where_the_image_differs(tmp_path: Path) -> None:
    search, scene, listed = searched([part(number, scratch=number == 4) for number in range(9)])
    draw_suspects(tmp_path, search, scene, listed)
    picture = cv2.imread(str(tmp_path / "suspects/train-good-004.png")).astype(int)
    height, width = picture.shape[:2]
    heat = picture[:, width // 2 :]
    hot = np.abs(heat - heat.mean(axis=2, keepdims=True)).max(axis=2) > 30
    rows, columns = np.nonzero(hot)
    assert rows.mean() / height == pytest.approx(63 / HEIGHT, abs=0.1)
    assert columns.mean() / (width // 2) == pytest.approx(79 / WIDTH, abs=0.1)
    assert [path.name for path in (tmp_path / "suspects").iterdir()] == ["train-good-004.png"]


def test_a_small_change_where_images_agree_outweighs_a_large_one_where_they_never_do() -> None:
    """Left half: plain, alike to 1 % of what the right half, print, differs by from image to
    image.
    """
    generator = torch.Generator().manual_seed(0)
    scale = torch.where(torch.arange(12) < 6, 0.01, 1.0).expand(4, 12)
    features = [torch.randn(3, 4, 12, generator=generator) * scale for _ in range(12)]
    for one in features:
        one[:, :, 6:] += 10.0
    whole = torch.ones(4, 12, dtype=torch.bool)
    changed = features[0].clone()
    changed[:, 2, 3] += 0.3
    comparison = Comparison(features[1:], [whole] * 11)
    unusual = comparison.unusual(comparison.project(changed, whole)).reshape(4, 12)
    assert int(unusual.argmax()) == 2 * 12 + 3


# --- the rule ---


def usual(seed: int, count: int) -> NDArray[np.float64]:
    return np.exp(np.random.default_rng(seed).normal(0, 0.1, count))


def test_high_scores_are_found_though_they_widen_the_spread() -> None:
    scores = np.concatenate([usual(0, 8), [4.0, 4.1, 4.2]])
    assert stand_apart(scores) == [10, 9, 8]


def test_at_most_a_third_is_apart() -> None:
    assert stand_apart(np.concatenate([usual(0, 6), [4.0] * 6])) == []


def test_normally_distributed_logarithms_alarm_as_rarely_as_is_said() -> None:
    for count in (6, 12, 60):
        alarms = sum(bool(stand_apart(usual(seed, count))) for seed in range(500))
        assert alarms <= 3  # 0.25 are expected at a rate of 0.05 %


@pytest.mark.parametrize("scores", [np.ones(10), np.zeros(10), usual(0, 5) * [1, 1, 1, 1, 9.0]])
def test_equal_scores_and_few_scores_are_not_apart(scores: NDArray[np.float64]) -> None:
    assert stand_apart(scores) == []


# --- the commands ---


def test_train_names_draws_and_remembers_them_and_the_report_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(
        mats.COMPACT,
        long_side=64,
        encoder_epochs=1,
        fusion_epochs=1,
        teacher_epochs=(1, 1),
        student_epochs=(1, 1),
        fusion_steps=2,
        steps_per_epoch=2,
        batch_size=64,
        copies=1,
    )
    monkeypatch.setitem(mats.PRESETS, "compact", small)
    product, out = tmp_path / "disc", tmp_path / "run"
    for number in range(11):
        write(product / f"train/good/{number:03d}.png", part(number, scratch=number in (8, 9)))
    for number in range(2):
        write(product / f"test/good/{number:03d}.png", part(50 + number))
        write(product / f"test/scratch/{number:03d}.png", part(60 + number, scratch=True))
    trained = CliRunner().invoke(
        app, ["train", "mats", str(product), "--out", str(out)], catch_exceptions=False
    )
    for name in ("008", "009"):
        assert (
            f"suspect among the normal images: train/good/{name} differs from the others in color"
            in trained.output
        )
        assert (out / f"suspects/train-good-{name}.png").is_file()
    assert (
        "2 of 11 normal images do not look like the rest. A defect among them teaches"
        in trained.output
    )
    last = trained.output.splitlines()[-12:]
    assert any(
        line.startswith("suspect among the normal images: train/good/00")
        and line.endswith(f"look at {out}/suspects")
        for line in last
    ), "said again where the user looks after hours"
    info = load_run(out).info
    assert sorted(suspect.name for suspect in info.suspects) == ["train/good/008", "train/good/009"]
    CliRunner().invoke(app, ["evaluate", str(out), str(product)], catch_exceptions=False)
    page = (out / "report.html").read_text()
    assert "2 of the normal images do not look like the rest." in page
    assert "move it to a defect folder, then train again." in page
    assert page.count("and where it differs") == 2
    views = [part(int(name[-3:]), scratch=name[-3:] in ("008", "009")) for name in info.validation]
    expected = normal_brightness(measure_brightness(view.color) for view in views)
    assert info.brightness == expected
    contract = camera_of(info, product)
    assert isinstance(contract, CameraContract)
    assert contract.brightness == expected


def write(path: Path, frame: Frame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.ascontiguousarray(frame.color[..., ::-1]))
