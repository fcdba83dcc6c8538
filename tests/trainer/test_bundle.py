"""`trainer export`: a bundle that a station takes and proves, or a sentence and no file at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge.bundle.archive import open_bundle
from edge.bundle.manifest import Manifest
from edge.bundle.signature import generate_key, read_public_key
from edge.engine import parity
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.errors import ConfigError, DataError, EngineError
from tests.support.standin import HEIGHT, WIDTH, make_deployed, make_feeds
from tests.support.standin_run import LEFT, MODULE, TOP, write_product, write_standin_run
from trainer import bundle
from trainer.bundle import Exported, ExportRequest, export_bundle, parity_table
from trainer.drawn import draw_defect
from trainer.proof import Shown, gather, part_of
from trainer.run import load_run
from trainer.systems import base


@pytest.fixture(scope="module", autouse=True)
def standin_system() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(base.SYSTEM_MODULES, "standin", MODULE)
        yield


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_key(tmp_path_factory.mktemp("keys") / "line")[0]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("standin")
    return write_standin_run(root / "run", write_product(root / "product"))


def request_of(run: Path, key: Path, out: Path, *precisions: Any) -> ExportRequest:
    return ExportRequest(run, "washer", "1.0.0", precisions or ("fp16", "int8"), key, out)


@pytest.fixture(scope="module")
def exported(run_folder: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_bundle(request_of(run_folder, key, tmp_path_factory.mktemp("out") / "washer-1.0.0.bundle"))


@pytest.fixture(scope="module")
def opened(exported: Exported, key: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, Path]:
    """The bundle as a station unpacks it, signature and digests checked."""
    folder = tmp_path_factory.mktemp("unpacked") / "slot"
    folder.mkdir()
    with open_bundle(exported.path, [read_public_key(key.with_suffix(".pub"))]) as inside:
        inside.extract(folder)
        return inside.manifest, folder


# What is in it


def test_the_manifest_says_what_the_run_was(opened: tuple[Manifest, Path], run_folder: Path) -> None:
    manifest, _ = opened
    info = load_run(run_folder).info
    assert (manifest.product, manifest.version, manifest.system) == ("washer", "1.0.0", "standin")
    assert manifest.precisions == ("int8", "fp16", "fp32")
    assert manifest.threshold.value == info.threshold.value == max(info.normal_scores)
    assert manifest.normal_scores == tuple(info.normal_scores)
    assert (manifest.camera.crop_x, manifest.camera.crop_y) == (LEFT, TOP)
    assert (manifest.camera.crop_width, manifest.camera.crop_height) == (WIDTH, HEIGHT)
    assert manifest.presence
    assert manifest.provenance.validation_parts == 24


def test_the_manifests_tensors_are_the_graphs(opened: tuple[Manifest, Path]) -> None:
    manifest, folder = opened
    for precision in manifest.precisions:
        graph = onnx.load(str(folder / "model" / f"{precision}.onnx")).graph
        for specs, values in ((manifest.inputs, graph.input), (manifest.outputs, graph.output)):
            found = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
            assert found == {spec.name: list(spec.shape) for spec in specs}
    defaults = {spec.name: spec.default for spec in manifest.inputs}
    assert defaults["lift"] == pytest.approx(0.008)
    assert defaults["plane"] is None   # only a calibration may give it


def test_golden_frames_are_complete_answered_by_torch_and_half_of_them_defective(
    opened: tuple[Manifest, Path], run_folder: Path
) -> None:
    manifest, folder = opened
    frames = parity.read_golden(folder / "golden")
    deployed = load_run(run_folder).deployed
    assert len(frames) >= 8
    assert sum(frame.score[0] > np.float32(manifest.threshold.value) for frame in frames) >= 4
    assert all(frame.score[0] != np.float32(manifest.threshold.value) for frame in frames)   # either side, never on it
    for frame in frames:
        assert set(frame.feeds) == {spec.name for spec in manifest.inputs}
        answer = deployed.run(frame.feeds)
        np.testing.assert_array_equal(frame.map, answer["map"])
        np.testing.assert_array_equal(frame.score, answer["score"])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_shipped_precision_proves_itself_on_the_golden_frames(
    precision: Any, opened: tuple[Manifest, Path]
) -> None:
    _, folder = opened
    certificate = parity.read_certificate(folder / "parity.json")
    engine = OnnxCpuEngine(folder / "model" / f"{precision}.onnx")
    section = parity.prove_on_golden(engine, folder / "golden", certificate, precision)
    assert section.passed, section.reasons


def test_another_precisions_file_with_a_fault_does_not(opened: tuple[Manifest, Path], tmp_path: Path) -> None:
    _, folder = opened
    model = onnx.load(str(folder / "model" / "int8.onnx"))
    product = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(node for node in model.graph.node if product.input[1] in node.output)
    levels = next(tensor for tensor in model.graph.initializer if tensor.name == weight.input[0])
    values = onnx.numpy_helper.to_array(levels)
    levels.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[:, ::-1]), levels.name))
    onnx.save(model, str(tmp_path / "int8.onnx"))
    certificate = parity.read_certificate(folder / "parity.json")
    section = parity.prove_on_golden(OnnxCpuEngine(tmp_path / "int8.onnx"), folder / "golden", certificate, "int8")
    assert not section.passed


def test_the_certificate_counts_its_frames_and_says_whose_figures_they_are(exported: Exported) -> None:
    certificate = exported.certificate
    assert certificate.provisional
    assert certificate.golden_frames >= 8
    assert certificate.normal_frames == 24
    assert 8 <= certificate.drawn_frames <= certificate.defect_frames
    assert "onnxruntime" in certificate.note
    table = "\n".join(parity_table(certificate))
    for word in ("int8", "fp16", "fp32", "map error", "in the bundle", "onnxruntime's arithmetic"):
        assert word in table


def test_every_file_was_compiled_where_the_compiler_is(exported: Exported) -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install rgbd-inspection[rtx] to compile without a GPU")
    assert exported.compiler is not None
    assert exported.compiler.startswith("tensorrt_rtx")


# What is refused


@pytest.fixture
def exported_before(opened: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the float32 file from the finished bundle: torch's exporter is what takes long."""
    known = opened[1] / "model" / "fp32.onnx"
    monkeypatch.setattr(bundle, "export_checked", lambda _, path, *__, **___: shutil.copyfile(known, path))


@pytest.mark.usefixtures("exported_before")
def test_a_precision_beyond_its_limits_is_left_out_and_says_why(
    run_folder: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.LIMITS, "fp16", parity.Limits(1e-9, 0.99, 0.2))
    done = export_bundle(request_of(run_folder, key, tmp_path / "washer.bundle", "fp16"))
    assert done.shipped == ("fp32",)
    with open_bundle(done.path, [read_public_key(key.with_suffix(".pub"))]) as inside:
        assert inside.manifest.precisions == ("fp32",)
        assert "model/fp16.onnx" not in inside.manifest.files
    table = "\n".join(parity_table(done.certificate))
    assert "fp16 is left out: mean map error" in table


@pytest.mark.usefixtures("exported_before")
def test_an_operator_that_does_not_compile_fails_the_export_and_leaves_nothing(
    run_folder: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise EngineError(f"{path.name}: operator Mystery (node mystery_1): unknown")

    monkeypatch.setattr(bundle, "check_compiles", refuse)
    monkeypatch.setattr(bundle.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(EngineError, match="operator Mystery"):
        export_bundle(request_of(run_folder, key, tmp_path / "washer.bundle", "fp32"))
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_report_is_told_to_evaluate(run_folder: Path, key: Path, tmp_path: Path) -> None:
    (run_folder / "report.html").rename(tmp_path / "kept.html")
    try:
        with pytest.raises(DataError, match="run `trainer evaluate"):
            export_bundle(request_of(run_folder, key, tmp_path / "washer.bundle"))
    finally:
        (tmp_path / "kept.html").rename(run_folder / "report.html")


def test_a_missing_key_is_found_before_the_work(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trainer keygen"):
        export_bundle(request_of(run_folder, tmp_path / "none.key", tmp_path / "washer.bundle"))


@pytest.mark.parametrize("product", ["", "../washer", "wash er", "-washer"])
def test_a_name_that_cannot_be_is_refused(product: str, run_folder: Path, key: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--product"):
        export_bundle(ExportRequest(run_folder, product, "1", (), key, tmp_path / "washer.bundle"))


def test_data_that_moved_away_is_named(run_folder: Path, key: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        export_bundle(ExportRequest(run_folder, "washer", "1", (), key, tmp_path / "w.bundle", data=tmp_path / "gone"))


def test_a_model_that_rejects_nothing_gets_no_bundle() -> None:
    normal = [Shown(f"validation/good/{seed}", make_feeds(seed), False, None) for seed in range(4)]
    with pytest.raises(DataError, match="rejects next to nothing"):
        gather(make_deployed(), make_deployed().run, normal, [], threshold=1e9)


def test_a_drawn_defect_that_float32_does_not_see_is_not_used() -> None:
    """It would tie with its own part, and any rounding would change the AUROC."""
    deployed = make_deployed()
    normal = [Shown(f"validation/good/{seed}", make_feeds(seed), False, None) for seed in range(6)]
    proof = gather(deployed, deployed.run, normal, [], threshold=float(deployed.run(make_feeds(0))["score"][0]))
    before = {frame.name: float(frame.score[0]) for frame in proof.frames if not frame.is_defect}
    drawn = [frame for frame in proof.frames if frame.drawn]
    assert drawn
    assert all(abs(float(frame.score[0]) - before[frame.name.split(" + ")[0]]) > 1e-6 for frame in drawn)


# Drawn defects


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_defect_changes_the_part_where_its_mask_is(seed: int) -> None:
    feeds = make_feeds(3)
    feeds["depth"][0, 40:50, 60:70] = 0     # a hole in the readings
    part = part_of(make_deployed(), feeds)
    drawn = draw_defect(feeds, part, strength=1.0, seed=seed)
    assert 20 < drawn.mask.sum() < 0.15 * part.sum()
    assert not (drawn.mask & ~part).any()
    changes = [(drawn.feeds[name] != feeds[name]).any(axis=(0, 3)) for name in ("color", "depth")]
    changed = changes[0] | changes[1]
    assert changed[drawn.mask].mean() > 0.7
    assert not changed[~part].any()
    assert (drawn.feeds["depth"][0, 40:50, 60:70] == 0).all()
    assert (make_feeds(3)["color"] == feeds["color"]).all()   # the normal frame itself is left alone


def test_drawn_defects_repeat_by_seed_and_come_in_every_kind() -> None:
    feeds, part = make_feeds(3), part_of(make_deployed(), make_feeds(3))
    first, again = (draw_defect(feeds, part, 0.5, 7) for _ in range(2))
    np.testing.assert_array_equal(first.feeds["color"], again.feeds["color"])
    kinds = {draw_defect(feeds, part, 0.5, seed).kind for seed in range(5)}
    assert kinds == {"stain", "scratch", "dent", "bump", "dirt"}
    color_only = {name: feeds[name] for name in ("color", "region")}
    assert {draw_defect(color_only, part, 0.5, seed).kind for seed in range(5)} == {"stain", "scratch", "dirt"}
