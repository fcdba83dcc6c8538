"""`trainer benchmark`: tables by hand, carried on after an interruption, one bad category costs no
other.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import trainer.benchmark.run as running
import trainer.systems.mats.preset as mats
from edge.errors import ConfigError, DataError
from tests.support.layouts import write_mvtec3d, write_rgb
from tests.support.patience import patience_s
from trainer.benchmark.page import means_by_product
from trainer.benchmark.plan import Job, Request, plan
from trainer.benchmark.published import MVTEC_3D, known_set, published_rows
from trainer.benchmark.result import RESULT_FILE, Result, read_result
from trainer.benchmark.run import run_all
from trainer.benchmark.tables import Table, tables
from trainer.cli import app
from trainer.runner.protocol import Outcome, Task, Watch
from trainer.systems.m3dm.checkpoint import write_pointmae
from trainer.systems.m3dm.point_features import COMPACT_POINTS
from trainer.systems.m3dm.pointmae import PointTransformer

SIDE = 64


def write_category(root: Path, seed: int = 0) -> Path:
    """MVTec AD: stripes train, spots are defects; 6 images train, 3 good and 3 spotted ones
    test.
    """
    generator = np.random.default_rng(seed)

    def image(spot: bool) -> np.ndarray:
        stripes = 120 + 60 * np.sin(np.arange(SIDE) / 3)[None, :, None]
        gray = stripes + generator.normal(0, 4, (SIDE, SIDE, 3))
        if spot:
            gray[20:34, 20:34] = (250, 20, 20)
        return gray.clip(0, 255).astype(np.uint8)

    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[20:34, 20:34] = 255
    for number in range(6):
        write_rgb(root / f"train/good/{number:03d}.png", image(False))
    for number in range(3):
        write_rgb(root / f"test/good/{number:03d}.png", image(False))
        write_rgb(root / f"test/spot/{number:03d}.png", image(True))
        write_rgb(root / f"ground_truth/spot/{number:03d}_mask.png", mask)
    return root


def job(category: str = "one", system: str = "mats", seed: int = 0, **named: object) -> Job:
    fields: dict[str, object] = {
        "data": "set",
        "product": Path(category),
        "layout": "mvtec",
        "with_depth": False,
        "system": system,
        "preset": "compact",
        "seed": seed,
        "epochs": 1,
        "weights": None,
        "textures": None,
        "device": "cpu",
        "pretrained": None,
        "identity": f"{category} {system} {seed}",
    }
    return Job(**{**fields, **named})  # type: ignore[arg-type]  # test shorthand


def result(*metrics: float | None, **named: object) -> Result:
    image, pixel, overlap = metrics
    given = {"seconds": 10.0, "parameters": 2_000_000, "frames_per_s": 20.0, **named}
    return Result("", image, pixel, overlap, **given)  # type: ignore[arg-type]  # test shorthand


def row(table: Table, first: str) -> list[str]:
    return next(cells for cells in table.rows if cells[0] == first)


def test_means_are_over_seeds_and_then_over_categories() -> None:
    made, cost, _ = tables(
        {
            job("one", seed=0): result(90.0, 80.0, 70.0),
            job("one", seed=1): result(94.0, 82.0, 74.0, seconds=25.0),
            job("two", seed=0): result(60.0, 50.0, 40.0),
        }
    )
    assert made.columns == ["category", "mats"]
    assert row(made, "one") == ["one", "92.0 / 81.0 / 72.0"]
    assert row(made, "**mean**")[1] == "**76.0 / 65.5 / 56.0**"  # not 81.3, the mean over runs
    assert row(cost, "mats") == ["mats", "15", "2.0", "20.0"]


def test_every_seed_is_printed() -> None:
    runs = tables({job(seed=s): result(90.0 + s, None, None) for s in (0, 1, 2)})[2]
    assert [cells[2:4] for cells in runs.rows] == [
        [str(s), f"{90 + s}.0 / - / -"] for s in (0, 1, 2)
    ]


def test_a_mean_of_fewer_seeds_says_so_and_one_category_has_no_mean() -> None:
    made = tables(
        {
            job("one", seed=0): result(90.0, 80.0, 70.0),
            job("one", seed=1): result(94.0, 82.0, 74.0),
            job("one", "aand", seed=0): result(60.0, 50.0, 40.0),
        }
    )[0]
    assert [cells[0] for cells in made.rows] == ["one"]
    assert made.rows[0][1] == "92.0 / 81.0 / 72.0"
    assert made.rows[0][2] == "60.0 / 50.0 / 40.0 (1 of 2 seeds)"


def test_a_failed_run_is_no_zero_and_says_why() -> None:
    made = tables(
        {
            job("one"): result(90.0, 80.0, 70.0),
            job("one", seed=1): Result("", error="x.png is cut off"),
            job("two"): Result("", error="y.png is cut off"),
        }
    )
    assert row(made[0], "one")[1] == "90.0 / 80.0 / 70.0 (1 failed)"
    assert row(made[0], "two")[1] == "failed"
    assert row(made[0], "**mean**")[1] == "**90.0 / 80.0 / 70.0**"
    assert row(made[2], "two")[3:] == ["failed", "-", "y.png is cut off"]


def test_what_has_no_meaning_is_a_dash_and_never_nan() -> None:
    """A set without masks has no pixel metrics; older results may hold NaN."""
    made = tables(
        {job(): result(90.0, float("nan"), float("nan")), job("two"): result(None, None, None)}
    )
    assert row(made[0], "one")[1] == "90.0 / - / -"
    assert row(made[0], "two")[1] == "-"
    assert row(made[0], "**mean**")[1] == "**90.0 / - / -**"
    assert "nan" not in str(made)


def test_no_cell_holds_more_than_one_system_or_breaks() -> None:
    """The metrics of a cell stand in one line; only a long remark may take several."""
    systems = ["mats", "ntsnet", "aand", "m3dm", "vmpfd"]
    made = tables({job("one", system): result(100.0, 100.0, 100.0) for system in systems})
    assert made[0].columns == ["category", *systems]
    assert max(len(cell) for cells in made[0].rows for cell in cells) < 40
    page = (Path(tables.__code__.co_filename).parent / "benchmark.html").read_text()
    assert "td, th { white-space: nowrap; }" in page


def test_a_plot_shows_the_mean_of_the_seeds_of_each_product() -> None:
    found = means_by_product(
        {
            job("one", seed=0): result(90.0, None, None),
            job("one", seed=1): result(94.0, None, None),
            job("one", "aand"): result(60.0, None, None),
            job("two"): result(None, None, None),
        },
        "image_auroc",
    )
    assert found == {"set/one color": [("mats", 92.0), ("aand", 60.0)]}


def test_groups_of_synthetic_defects_have_a_table() -> None:
    made = tables(
        {
            job("one", with_depth=True, layout="mvtec3d"): result(
                1.0, 1.0, 1.0, groups={"relief": 90.0, "material": 70.0}
            ),
            job("two", with_depth=True, layout="mvtec3d"): result(
                1.0, 1.0, 1.0, groups={"relief": 80.0, "logical": 50.0}
            ),
        }
    )
    assert made[1].rows == [["relief", "85.0"], ["material", "70.0"], ["logical", "50.0"]]


def test_color_only_runs_of_a_set_with_depth_are_a_table_of_their_own() -> None:
    runs = {
        job(with_depth=d, layout="mvtec3d", identity=str(d)): result(1.0, 1.0, 1.0)
        for d in (True, False)
    }
    assert [table.title for table in tables(runs)] == [
        "set",
        "set: costs",
        "set: every run",
        "set, color only",
        "set, color only: costs",
        "set, color only: every run",
    ]


def test_published_results_stand_where_they_belong_only() -> None:
    made = tables(
        {job("screw", "ntsnet"): result(1.0, 1.0, 1.0), job("screw", "aand"): result(1.0, 1.0, 1.0)}
    )
    assert made[-1].title == "set: published"
    assert ["ntsnet", "screw", "92.1 / 98.5 / -"] in made[-1].rows
    assert ["aand", "mean", "99.5 / 98.4 / 95.0"] in made[-1].rows
    assert not any(
        "published" in table.title for table in tables({job("cookies"): result(1.0, 1.0, 1.0)})
    )
    assert known_set("mvtec3d", ["rope", "washer"], True) is None
    assert known_set("mvtec3d", ["rope"], True) is None  # a product of that name, not the data set
    assert known_set("mvtec3d", list(MVTEC_3D), False) == "MVTec 3D-AD, color only"
    assert [row.system for row in published_rows("MVTec 3D-AD", ["mats", "aand"], [])] == ["mats"]


class InThisProcess:
    """A runner for jobs that a test has changed."""

    def run(self, tasks: Sequence[Task], watch: Watch) -> None:
        for task in tasks:
            watch.started(task)
            running.run_job_file(*map(Path, task.steps[0][2:]))
            watch.finished(task, Outcome(code=0))


@pytest.fixture
def small_mats(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a benchmark does with its runs does not depend on how large they are."""
    monkeypatch.setattr("trainer.runner.factory.make_runner", lambda *_: InThisProcess())
    small = replace(mats.COMPACT, long_side=64, encoder_epochs=1, fusion_epochs=1, copies=1)
    monkeypatch.setitem(mats.PRESETS, "compact", small)


def run_command(out: Path, data: Path, *more: str) -> object:
    arguments = [
        "benchmark",
        "--out",
        out,
        "--data",
        f"set={data}",
        "--systems",
        "mats",
        "--epochs",
        "1",
        *more,
    ]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("small_mats")
def test_it_trains_evaluates_and_writes_three_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_category(tmp_path / "data" / "stripes")
    answer = run_command(tmp_path / "out", tmp_path / "data", "--seeds", "3")
    assert answer.exit_code == 0, answer.output
    page = (tmp_path / "out" / "benchmark.md").read_text()
    stored = json.loads((tmp_path / "out" / "benchmark.json").read_text())["runs"]
    assert [(one["category"], one["seed"], one["system"]) for one in stored] == [
        ("stripes", 3, "mats")
    ]
    assert (
        f"{stored[0]['image_auroc']:.1f} / {stored[0]['pixel_auroc']:.1f} /"
        f" {stored[0]['aupro']:.1f}" in page
    )
    assert stored[0]["frames_per_s"] > 0
    assert stored[0]["parameters"] > 1e6
    html = (tmp_path / "out" / "benchmark.html").read_text()
    assert "src=" not in html
    assert html.count("<svg") >= 3
    HTMLParser().feed(html)
    # Nothing is left: the same command trains nothing.
    monkeypatch.setattr(running, "train", lambda *_: pytest.fail("trained again"))
    assert run_command(tmp_path / "out", tmp_path / "data", "--seeds", "3").exit_code == 0


@pytest.mark.usefixtures("small_mats")
def test_a_category_that_cannot_be_read_costs_no_other(tmp_path: Path) -> None:
    write_category(tmp_path / "data" / "good")
    write_category(tmp_path / "data" / "torn")
    (tmp_path / "data" / "torn" / "test" / "spot" / "001.png").write_bytes(b"torn")
    answer = run_command(tmp_path / "out", tmp_path / "data", "--seeds", "0")
    assert isinstance(answer.exception, DataError)
    assert "1 of 2 runs failed" in str(answer.exception)
    page = (tmp_path / "out" / "benchmark.md").read_text()
    assert "001.png" in page
    assert "| good | " in page


def test_a_result_of_other_options_or_data_is_never_reused(tmp_path: Path) -> None:
    product = write_category(tmp_path / "data" / "stripes")

    def planned(**named: object) -> Job:
        fields = {
            "data": {"set": tmp_path / "data"},
            "systems": ["mats"],
            "preset": "compact",
            "seeds": [0],
            "depth": "with",
            "epochs": 1,
        }
        return plan(Request(**{**fields, **named}))[0]  # type: ignore[arg-type]  # test shorthand

    first = planned()
    folder = first.folder(tmp_path / "out")
    folder.mkdir(parents=True)
    (folder / RESULT_FILE).write_text(json.dumps({"identity": first.identity, "image_auroc": 1.0}))
    assert read_result(planned(), tmp_path / "out") == Result(first.identity, 1.0)
    former = {"identity": first.identity, "groups": {"depth": 9.0, "color": 8.0}}
    (folder / RESULT_FILE).write_text(json.dumps(former))
    named = Result(first.identity, groups={"relief": 9.0, "color": 8.0})
    assert read_result(planned(), tmp_path / "out") == named
    assert read_result(planned(epochs=2), tmp_path / "out") is None
    assert read_result(planned(seeds=[1]), tmp_path / "out") is None
    write_rgb(product / "train/good/000.png", np.zeros((SIDE, SIDE, 3), np.uint8))
    assert read_result(planned(), tmp_path / "out") is None


def test_a_pretrained_encoder_goes_to_the_runs_that_can_use_it(tmp_path: Path) -> None:
    write_mvtec3d(tmp_path / "data" / "bagel")
    first, second = tmp_path / "first.pth", tmp_path / "second.pth"
    spec = COMPACT_POINTS
    for path in (first, second):  # of other random values each
        write_pointmae(
            path, PointTransformer(spec.tokenizer, spec.width, spec.depth, spec.heads, spec.taps)
        )

    def planned(**pretrained: Path) -> dict[tuple[str, bool], Job]:
        request = Request(
            {"set": tmp_path / "data"},
            ["mats", "m3dm"],
            "compact",
            [0],
            "both",
            pretrained=pretrained,
        )
        return {(one.system, one.with_depth): one for one in plan(request)}

    without, one, other = planned(), planned(m3dm=first), planned(m3dm=second)
    assert {key: value.pretrained for key, value in one.items()} == {
        ("mats", True): None,
        ("mats", False): None,
        ("m3dm", True): first,
        ("m3dm", False): None,
    }
    changed = {
        key for key in one if len({plans[key].identity for plans in (without, one, other)}) > 1
    }
    assert changed == {("m3dm", True)}
    assert len({plans["m3dm", True].identity for plans in (without, one, other)}) == 3


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_it_ends_soon_and_carries_on_with_what_is_left(
    tmp_path: Path, workers: int
) -> None:
    # more than are trained at once, with some to spare
    names = ["one", "two", "three", "four"][: 2 * workers]
    for name in names:
        write_category(tmp_path / "data" / name)
    command = [
        sys.executable,
        "-m",
        "trainer",
        "benchmark",
        "--out",
        str(tmp_path / "out"),
        "--data",
        f"set={tmp_path / 'data'}",
        "--systems",
        "mats",
        "--epochs",
        "1",
        "--seeds",
        "0",
        "--workers",
        str(workers),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + patience_s(60)
    while not (finished := list((tmp_path / "out").rglob(RESULT_FILE))):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=patience_s(20))
    assert process.returncode != 0
    kept = {path: path.read_bytes() for path in finished}
    assert len(list((tmp_path / "out").rglob(RESULT_FILE))) < len(names)
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert f"0 of {len(names)} runs are done" not in again.stdout
    assert len(list((tmp_path / "out").rglob(RESULT_FILE))) == len(names)
    for path, content in kept.items():
        before, after = json.loads(content), json.loads(path.read_text())
        assert {**after, "frames_per_s": None} == {**before, "frames_per_s": None}, "trained again"


class Dies:
    """A runner whose jobs all die."""

    def run(self, tasks: Sequence[Task], watch: Watch) -> None:
        for task in tasks:
            watch.started(task)
            watch.finished(task, Outcome(code=-9, reason="killed by SIGKILL"))


def test_a_job_that_died_is_a_failed_run_that_says_why(tmp_path: Path) -> None:
    one, told = job(identity="x"), list[str]()
    run_all([one], tmp_path, Dies(), told.append, lambda: None)
    stored = read_result(one, tmp_path)
    assert stored is not None
    assert stored.error == "killed by SIGKILL"
    assert "failed: killed by SIGKILL" in told[-1]


def test_failed_runs_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    one = job(identity="x")
    folder = one.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / RESULT_FILE).write_text(json.dumps({"identity": "x", "error": "disk full"}))
    monkeypatch.setattr(
        running,
        "run_job",
        lambda what, _: seen.append(what.identity) or Result("x", 1.0, seconds=1.0),
    )
    run_all([one], tmp_path, InThisProcess(), lambda _: None, lambda: None)
    assert seen == ["x"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", "nothing"], "NAME=FOLDER"),
        (["--data", "a={data}", "--data", "a={data}"], "each name once"),
        (["--data", "a={empty}"], "there is no product"),
        (["--data", "a={data}", "--systems", "mats,rust"], "no system 'rust'"),
        (["--data", "a={data}", "--preset", "huge"], "no preset 'huge'"),
        (["--data", "a={data}", "--seeds", "one"], "whole numbers"),
        (["--data", "a={data}", "--seeds", "1,1"], "each seed once"),
        (["--data", "a={data}", "--depth", "maybe"], "with, without or both"),
        (["--data", "a={data}", "--runner", "local:0"], "--runner 'local:0'"),
        (["--data", "a={data}", "--runner", "local", "--workers", "2"], "leave --workers out"),
        (["--data", "a={data}", "--runner", "slurm://gpu?cards=1"], "no option 'cards'"),
        (["--data", "a={data}", "--pretrained", "file.pth"], "SYSTEM=FILE"),
        (
            ["--data", "a={data}", "--pretrained", "mats=file.pth"],
            "mats is not among the systems, or has nothing",
        ),
        (["--data", "a={data}", "--pretrained", "m3dm=nothing.pth"], "nothing.pth"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path: Path, arguments: list[str], named: str) -> None:
    write_category(tmp_path / "data" / "stripes")
    (tmp_path / "empty").mkdir()
    filled = [
        argument.format(data=tmp_path / "data", empty=tmp_path / "empty") for argument in arguments
    ]
    answer = CliRunner().invoke(app, ["benchmark", "--out", str(tmp_path / "out"), *filled])
    assert isinstance(answer.exception, ConfigError)
    assert named in str(answer.exception)
    assert "\n" not in str(answer.exception)
