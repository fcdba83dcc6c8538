"""A bundle whose graph judges outline and heights beside the detector: INT8 is proven, the manifest
names the judges, and what a station calibrates on site leaves their judgment alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trainer.quantize.precisions as quantized
import trainer.train.pose as posing
from edge.bundle.archive import open_bundle
from edge.bundle.key_files import generate_key, read_public_key
from edge.bundle.manifest import Manifest
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.plan import Built
from edge.frames.dataset import open_dataset
from edge.proof import certificate as certificates
from edge.proof.certificate import read_certificate
from edge.proof.golden import read_golden, read_normal
from edge.proof.prove import Expected, prove_engine
from edge.proof.threshold import threshold_from_normals
from tests.support.standin import HEIGHT, WIDTH, Feeds, make_feeds
from tests.support.standin_run import MODULE, write_product, write_standin_run
from trainer.export import precisions
from trainer.export.bundle import export_bundle
from trainer.export.request import ExportRequest
from trainer.systems import registry
from trainer.train.heights import fit_heights
from trainer.train.outline import fit_outline, scale_judges
from trainer.train.trained_run import TrainedRun, load_run, write_run

Unpacked = tuple[TrainedRun, Manifest, Path]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run whose graph has both judges."""
    root = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
        # round parts, moved and not turned: that they are hardly more alike in one pose is ignored
        patch.setattr(posing, "ALIKE", 1e9)
        run = load_run(write_standin_run(root / "run", write_product(root / "product")))
        add_judges(run)
        yield load_run(run.folder)


@pytest.fixture(scope="module")
def unpacked(judged: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(the run, the manifest, the folder) of its bundle, as a station unpacks it."""
    root = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        # so small a detector has less arithmetic than its judges, which are never INT8
        patch.setattr(certificates, "INT8_MACS", 0.2)
        patch.setattr(quantized, "INT8_MACS", 0.2)
        patch.setattr(precisions, "check_compiles", lambda _: Built(b"", None, 1, 0.0))
        key = generate_key(root / "line")[0]
        out = root / "washer-1.0.0.bundle"
        export_bundle(ExportRequest(judged.folder, "washer", "1.0.0", ("fp16", "int8"), key, out))
        folder = root / "slot"
        folder.mkdir()
        with open_bundle(out, [read_public_key(key.with_suffix(".pub"))]) as inside:
            inside.extract(folder)
            yield judged, inside.manifest, folder


def add_judges(run: TrainedRun) -> None:
    """Fit them to the run's normal parts, and write the run anew with the scores that follow."""
    deployed, dataset = run.deployed, open_dataset(Path(run.info.data))
    normal = [run.feeds(sample) for sample in dataset.split("train")]
    deployed.preprocess.pose = posing.fit_pose(deployed.preprocess, normal).pose
    assert deployed.preprocess.pose is not None
    deployed.preprocess.pose.turns.fill_(0.0)
    fit_heights(deployed, normal)
    fit_outline(deployed, normal, 0)
    before = [deployed.run(feeds) for feeds in normal]
    highest = [float(outputs["map"].max()) for outputs in before]
    scale_judges(deployed, highest, [float(outputs["score"][0]) for outputs in before])
    judged = [deployed.run(run.feeds(sample)) for sample in dataset.split("validation")]
    scores = [float(outputs["score"][0]) for outputs in judged]
    found = {"normal_scores": scores, "threshold": threshold_from_normals(scores)}
    write_run(run.folder, run.info.model_copy(update=found), deployed, {})


def dented(seed: int) -> Feeds:
    """A good part with a dent of 6 mm in its middle, seen by depth alone."""
    feeds = make_feeds(seed)
    counts = feeds["depth"].view("<u2")[0, :, :, 0].copy()
    counts[32:64, 48:80] += 60
    return {**feeds, "depth": counts.view(np.uint8).reshape(1, HEIGHT, WIDTH, 2)}


def calibrated(feeds: Feeds) -> Feeds:
    """As on a site whose features lie elsewhere."""
    moved = {"shift": feeds["shift"] + np.float32(0.05), "scale": feeds["scale"] * np.float32(1.2)}
    return {**feeds, **moved}


@pytest.mark.long
def test_int8_is_proven_and_the_manifest_names_who_judges(unpacked: Unpacked) -> None:
    run, manifest, folder = unpacked
    assert manifest.precisions == ("int8", "fp16", "fp32")
    assert manifest.judges is not None
    assert [(judge.name, judge.dtype) for judge in manifest.judges] == [
        ("outline", "float32"),
        ("heights", "float32"),
    ]
    normal_scores = np.array(manifest.normal_scores["int8"])
    expected = Expected(normal_scores, manifest.thresholds["int8"], manifest.thresholds["fp32"])
    section = prove_engine(
        OnnxCpuEngine(folder / "model" / "int8.onnx"),
        "int8",
        read_golden(folder / "golden", manifest.inputs, manifest.outputs),
        read_normal(folder / "normal", manifest.inputs),
        read_certificate(folder / "parity.json"),
        expected,
    )
    assert section.passed, section.reasons
    shares = run.deployed.run_apart(dented(3))[1]
    for judge in manifest.judges:
        assert shares[judge.name] <= judge.most * (1 + 1e-6)


@pytest.mark.long
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_judges_add_float32s_share_in_every_file(unpacked: Unpacked, precision: str) -> None:
    """What a dent in depth alone adds to a score, before and after a calibration on site."""
    run, _, folder = unpacked
    engine = OnnxCpuEngine(folder / "model" / f"{precision}.onnx")
    for feeds in (dict[str, Any], calibrated):
        flat, bad = feeds(make_feeds(3)), feeds(dented(3))
        added = float(engine.run(bad)["score"][0] - engine.run(flat)["score"][0])
        assert added == pytest.approx(beside(run, bad) - beside(run, flat), rel=0.02)
    engine.close()


def beside(run: TrainedRun, feeds: Feeds) -> float:
    """What the judges add to a score, by float32 torch."""
    shares = run.deployed.run_apart(feeds)[1]
    return sum(share for name, share in shares.items() if name != "detector")


def test_shift_and_scale_leave_the_judges_alone(judged: TrainedRun) -> None:
    before = judged.deployed.run_apart(dented(3))[1]
    after = judged.deployed.run_apart(calibrated(dented(3)))[1]
    assert before["heights"] > before["detector"]
    assert after["detector"] != before["detector"]
    assert (after["heights"], after["outline"]) == (before["heights"], before["outline"])
