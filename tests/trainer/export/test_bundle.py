"""`trainer export`: a bundle that a station takes and proves, or a sentence and no file at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge.bundle.archive import open_bundle
from edge.bundle.key_files import generate_key, read_public_key
from edge.bundle.manifest import Manifest
from edge.engine.onnx_cpu import OnnxCpuEngine
from edge.engine.plan import Built
from edge.errors import ConfigError, DataError, EdgeError, EngineError
from edge.frames.dataset import open_dataset
from edge.proof import certificate as certificates
from edge.proof.certificate import read_certificate
from edge.proof.golden import carried_ranks, read_golden, read_normal
from edge.proof.prove import Expected, prove_engine
from edge.proof.threshold import threshold_from_normals
from tests.support.standin import CHANNELS, HEIGHT, WIDTH, make_deployed, make_feeds
from tests.support.standin_run import LEFT, MODULE, TOP, write_product, write_standin_run
from trainer.evaluate.judged import Judged
from trainer.export import bundle, channels, own_report, precisions
from trainer.export.bundle import Exported, export_bundle
from trainer.export.certificate import parity_table
from trainer.export.normal_frames import write_normal_frames
from trainer.export.proof import Proof, gather
from trainer.export.proof_frames import feeds_of, proof_frames
from trainer.export.request import ExportRequest
from trainer.export.shown import Shown, answered, by_falling_score
from trainer.synthetic.on_frames import draw_defect, part_of
from trainer.systems import registry
from trainer.train.trained_run import load_run


@pytest.fixture(scope="module", autouse=True)
def standin_system() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.SYSTEM_MODULES, "standin", MODULE)
        yield


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_key(tmp_path_factory.mktemp("keys") / "line")[0]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("standin")
    return write_standin_run(root / "run", write_product(root / "product"))


def request_of(run: Path, key: Path, out: Path, *precisions: Any, **more: Any) -> ExportRequest:
    return ExportRequest(run, "washer", "1.0.0", precisions or ("fp16", "int8"), key, out, **more)


@pytest.fixture(scope="module")
def exported(run_folder: Path, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_bundle(
        request_of(run_folder, key, tmp_path_factory.mktemp("out") / "washer-1.0.0.bundle")
    )


@pytest.fixture(scope="module")
def opened(
    exported: Exported, key: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Manifest, Path]:
    """The bundle as a station unpacks it, signature and digests checked."""
    folder = tmp_path_factory.mktemp("unpacked") / "slot"
    folder.mkdir()
    with open_bundle(exported.path, [read_public_key(key.with_suffix(".pub"))]) as inside:
        inside.extract(folder)
        return inside.manifest, folder


@pytest.fixture
def exported_before(opened: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the float32 file from the finished bundle, and compile nothing: torch's exporter and the
    compiler are what takes long. Every file of that bundle was compiled.
    """
    known = opened[1] / "model" / "fp32.onnx"
    monkeypatch.setattr(precisions, "check_compiles", lambda _: Built(b"", None, 1, 0.0))
    monkeypatch.setattr(
        bundle, "export_checked", lambda _, path, *__, **___: shutil.copyfile(known, path)
    )


# What is in it


def test_the_manifest_says_what_the_run_was(
    opened: tuple[Manifest, Path], run_folder: Path
) -> None:
    manifest, _ = opened
    info = load_run(run_folder).info
    assert (manifest.product, manifest.version, manifest.system) == ("washer", "1.0.0", "standin")
    assert not manifest.camera.fixed_pose, "this run expects no silhouette"
    assert manifest.precisions == ("int8", "fp16", "fp32")
    exact = manifest.thresholds["fp32"]
    assert exact.value == pytest.approx(info.threshold.value, rel=1e-5)
    assert (exact.rank, exact.parts, exact.false_rejects) == (1, 24, 0.05)
    assert manifest.normal_scores["fp32"] == pytest.approx(
        sorted(info.normal_scores, reverse=True), rel=1e-5
    )
    assert (manifest.camera.crop_x, manifest.camera.crop_y) == (LEFT, TOP)
    assert (manifest.camera.crop_width, manifest.camera.crop_height) == (WIDTH, HEIGHT)
    assert manifest.presence
    assert manifest.provenance.validation_parts == 24


def test_the_manifests_tensors_are_the_graphs(opened: tuple[Manifest, Path]) -> None:
    manifest, folder = opened
    for precision in manifest.precisions:
        graph = onnx.load(str(folder / "model" / f"{precision}.onnx")).graph
        for specs, values in ((manifest.inputs, graph.input), (manifest.outputs, graph.output)):
            found = {
                value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
                for value in values
            }
            assert found == {spec.name: list(spec.shape) for spec in specs}
    defaults = {spec.name: spec.default for spec in manifest.inputs}
    assert defaults["lift"] == pytest.approx(0.008)
    assert defaults["plane"] is None  # only a calibration may give it


def test_the_manifest_says_where_the_features_of_training_parts_lie(
    opened: tuple[Manifest, Path], run_folder: Path
) -> None:
    """Of all training parts and of no other, pooled in float64."""
    run = load_run(run_folder)
    samples = {sample.name: sample for sample in open_dataset(Path(run.info.data)).samples}
    answers = [run.deployed.run(feeds_of(run, samples[name])) for name in run.info.train]
    mean, variance = np.concatenate([one["moments"] for one in answers]).astype("f8").swapaxes(0, 1)
    told = opened[0].channels
    assert told is not None
    assert len(told.mean) == CHANNELS
    np.testing.assert_allclose(told.mean, mean.mean(axis=0), rtol=1e-4, atol=1e-6)
    pooled = np.sqrt(variance.mean(axis=0) + ((mean - mean.mean(axis=0)) ** 2).mean(axis=0))
    np.testing.assert_allclose(told.deviation, pooled, rtol=1e-4, atol=1e-6)


def test_channels_are_measured_on_a_few_parts_that_show_something(
    opened: tuple[Manifest, Path], run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, exact = load_run(run_folder), opened[1] / "model" / "fp32.onnx"
    dataset, asked, empty = open_dataset(Path(run.info.data)), list[str](), set[str]()

    def feeds_of_some(run: Any, sample: Any) -> Any:
        asked.append(sample.name)
        feeds = feeds_of(run, sample)
        return {**feeds, "region": feeds["region"] * 0} if sample.name in empty else feeds

    monkeypatch.setattr(channels, "feeds_of", feeds_of_some)
    monkeypatch.setattr(channels, "MOST_PARTS", 3)
    whole = channels.channel_statistics(run, dataset, exact)
    train = run.info.train
    assert asked == [train[0], train[4], train[-1]]
    empty.add(train[4])
    fewer = channels.channel_statistics(run, dataset, exact)
    assert whole is not None
    assert fewer is not None
    assert fewer != whole
    assert min(fewer.deviation) > 0.3 * min(whole.deviation), "an empty view is no part of 0"
    empty.update(train)
    assert channels.channel_statistics(run, dataset, exact) is None
    monkeypatch.setattr(type(run.deployed.detector), "has_moments", False)
    assert channels.channel_statistics(run, dataset, exact) is None


def test_every_precision_has_a_threshold_of_its_own_scores(opened: tuple[Manifest, Path]) -> None:
    manifest, _ = opened
    assert set(manifest.thresholds) == set(manifest.normal_scores)
    assert set(manifest.thresholds) == set(manifest.normal_spread) == {"fp32", "fp16", "int8"}
    for precision, threshold in manifest.thresholds.items():
        scores = sorted(manifest.normal_scores[precision], reverse=True)
        assert threshold.value == scores[threshold.rank - 1]
        assert "normal parts are rejected, 4.0% on average" in threshold.guarantee
        assert manifest.normal_spread[precision].median == pytest.approx(float(np.median(scores)))
    assert manifest.thresholds["int8"].value != manifest.thresholds["fp32"].value
    assert [point.threshold.rank for point in manifest.operating_points][:4] == [1, 2, 3, 4]


def test_the_normal_frames_are_carried_losslessly_with_every_input(
    opened: tuple[Manifest, Path], run_folder: Path
) -> None:
    manifest, folder = opened
    run = load_run(run_folder)
    samples = {sample.name: sample for sample in open_dataset(Path(run.info.data)).samples}
    frames = read_normal(folder / "normal", manifest.inputs)
    assert frames.index.parts == frames.index.highest == len(frames) == 24
    for entry, feeds in zip(frames.index.frames, frames.feeds(), strict=True):
        wanted = feeds_of(run, samples[entry.name])
        assert set(feeds) == {spec.name for spec in manifest.inputs} == set(wanted)
        for name, values in wanted.items():
            np.testing.assert_array_equal(feeds[name], values)
            assert feeds[name].dtype == values.dtype
    ranked = [manifest.normal_scores["fp32"][rank - 1] for rank in frames.ranks]
    engine = OnnxCpuEngine(folder / "model" / "fp32.onnx")
    np.testing.assert_allclose(
        [engine.run(feeds)["score"][0] for feeds in frames.feeds()], ranked, rtol=1e-4
    )


def test_golden_frames_are_complete_answered_by_torch_and_half_of_them_defective(
    opened: tuple[Manifest, Path], run_folder: Path
) -> None:
    manifest, folder = opened
    frames = read_golden(folder / "golden", manifest.inputs, manifest.outputs)
    deployed = load_run(run_folder).deployed
    threshold, spread = manifest.thresholds["fp32"].value, manifest.normal_spread["fp32"].spread
    assert len(frames) >= 8
    assert sum(frame.score[0] > np.float32(threshold) for frame in frames) >= 4
    # either side, never near it
    assert all(abs(float(frame.score[0]) - threshold) > spread for frame in frames)
    for frame in frames:
        assert set(frame.feeds) == {spec.name for spec in manifest.inputs}
        answer = deployed.run(frame.feeds)
        np.testing.assert_array_equal(frame.map, answer["map"])
        np.testing.assert_array_equal(frame.score, answer["score"])


def test_float32_on_onnxruntime_decides_every_golden_frame_as_torch_does(
    opened: tuple[Manifest, Path], run_folder: Path
) -> None:
    """The frame that set the threshold was golden once, and rounding alone flipped it."""
    manifest, folder = opened
    torchs = load_run(run_folder).info.threshold.value
    engine = OnnxCpuEngine(folder / "model" / "fp32.onnx")
    own = manifest.thresholds["fp32"].value
    for frame in read_golden(folder / "golden", manifest.inputs, manifest.outputs):
        score = engine.run(frame.feeds)["score"][0]
        assert (score > np.float32(own)) == (frame.score[0] > np.float32(torchs))


def proven(opened: tuple[Manifest, Path], precision: Any, model: Path | None = None) -> Any:
    manifest, folder = opened
    engine = OnnxCpuEngine(model or folder / "model" / f"{precision}.onnx")
    expected = Expected(
        np.array(manifest.normal_scores[precision]),
        manifest.thresholds[precision],
        manifest.thresholds["fp32"],
    )
    normal = read_normal(folder / "normal", manifest.inputs)
    certificate = read_certificate(folder / "parity.json")
    golden = read_golden(folder / "golden", manifest.inputs, manifest.outputs)
    return prove_engine(engine, precision, golden, normal, certificate, expected)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_shipped_precision_proves_itself_on_the_carried_frames(
    precision: Any, opened: tuple[Manifest, Path]
) -> None:
    section = proven(opened, precision)
    assert section.passed, section.reasons
    spread = opened[0].normal_spread[precision].spread
    assert abs(section.threshold.value - opened[0].thresholds[precision].value) < 0.1 * spread


def test_another_precisions_file_with_a_fault_does_not(
    opened: tuple[Manifest, Path], tmp_path: Path
) -> None:
    _, folder = opened
    model = onnx.load(str(folder / "model" / "int8.onnx"))
    product = next(node for node in model.graph.node if node.op_type == "Conv")
    weight = next(node for node in model.graph.node if product.input[1] in node.output)
    levels = next(tensor for tensor in model.graph.initializer if tensor.name == weight.input[0])
    values = onnx.numpy_helper.to_array(levels)
    levels.CopyFrom(
        onnx.numpy_helper.from_array(np.ascontiguousarray(values[:, ::-1]), levels.name)
    )
    onnx.save(model, str(tmp_path / "int8.onnx"))
    assert not proven(opened, "int8", tmp_path / "int8.onnx").passed


def test_the_certificate_counts_verdicts_and_says_whose_figures_they_are(
    exported: Exported,
) -> None:
    certificate = exported.certificate
    assert certificate.provisional
    assert certificate.golden_frames >= 8
    assert (certificate.normal_frames, certificate.good_frames, certificate.real_frames) == (
        24,
        2,
        4,
    )
    assert certificate.drawn_frames >= 8
    assert certificate.near_frames >= 4
    for section in certificate.sections:
        assert section.verdicts.good is not None
        # test/good, which neither threshold nor search has seen
        assert section.verdicts.good.of == 2
        assert section.verdicts.real.of == 4
        assert section.noise.frames == 24
    assert "onnxruntime" in certificate.note
    table = "\n".join(parity_table(certificate))
    for word in (
        "int8",
        "good rejected",
        "defects missed",
        "noise",
        "0 of 4 real",
        "in the bundle",
        "onnxruntime's arithmetic",
    ):
        assert word in table


def test_manifest_and_report_count_the_same_verdicts(opened: tuple[Manifest, Path]) -> None:
    manifest, folder = opened
    certificate = read_certificate(folder / "parity.json")
    page = (folder / "report.html").read_text()
    assert "By precision" in page
    for precision in manifest.precisions:
        assert manifest.verdicts[precision] == certificate.section(precision).verdicts
        assert f"<td>{precision}</td>" in page
    assert str(manifest.verdicts["int8"].good) in page
    assert "0 of 4 real" in page


# The operating point


def test_another_rate_takes_another_rank(
    run_folder: Path, key: Path, tmp_path: Path, exported_before: None
) -> None:
    done = export_bundle(
        request_of(run_folder, key, tmp_path / "w.bundle", "fp32", false_rejects=0.2)
    )
    threshold = done.manifest.thresholds["fp32"]
    assert (threshold.rank, threshold.false_rejects) == (5, 0.2)
    assert threshold.value == done.manifest.normal_scores["fp32"][4]


def test_a_part_left_out_sets_no_threshold_and_is_counted(
    run_folder: Path, key: Path, tmp_path: Path, exported: Exported, exported_before: None
) -> None:
    highest = max(
        zip(
            load_run(run_folder).info.normal_scores,
            load_run(run_folder).info.validation,
            strict=True,
        )
    )[1]
    done = export_bundle(
        request_of(run_folder, key, tmp_path / "w.bundle", "fp32", left_out=(highest,))
    )
    threshold = done.manifest.thresholds["fp32"]
    assert done.manifest.normal.left_out == (highest,)
    assert (threshold.parts, threshold.left_out) == (23, 1)
    assert threshold.value == pytest.approx(exported.manifest.normal_scores["fp32"][1])
    assert "8.0% on average if the 1 left out were normal" in threshold.guarantee


@pytest.mark.parametrize("option", ["left_out", "kept"])
def test_a_name_that_is_no_validation_part_is_refused(
    run_folder: Path, key: Path, tmp_path: Path, option: str
) -> None:
    with pytest.raises(ConfigError, match="train/good/000: no normal validation part"):
        export_bundle(
            request_of(
                run_folder, key, tmp_path / "w.bundle", "fp32", **{option: ("train/good/000",)}
            )
        )


def test_an_outlier_stops_the_export_until_somebody_says_what_it_is(
    run_folder: Path,
    key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exported_before: None,
) -> None:
    """One normal part scores three times the highest of the others."""
    own = OnnxCpuEngine.run
    odd = "validation/good/007"
    run = load_run(run_folder)
    sample = next(one for one in open_dataset(Path(run.info.data)).samples if one.name == odd)
    color = feeds_of(run, sample)["color"]

    def lifted(engine: OnnxCpuEngine, feeds: Any) -> Any:
        outputs = own(engine, feeds)
        if np.array_equal(feeds["color"], color):
            outputs["score"] = np.float32([0.5])
        return outputs

    monkeypatch.setattr(OnnxCpuEngine, "run", lifted)
    with pytest.raises(
        DataError, match=f"{odd} scores 0.5, the next .*--leave-out {odd}.*--keep {odd}"
    ):
        export_bundle(request_of(run_folder, key, tmp_path / "w.bundle", "fp32"))
    assert list(tmp_path.iterdir()) == []
    done = export_bundle(
        request_of(run_folder, key, tmp_path / "w.bundle", "fp32", left_out=(odd,))
    )
    assert done.manifest.thresholds["fp32"].value < 0.1


def standin_proof(parts: int) -> Proof:
    deployed = make_deployed()
    normal = by_falling_score(answered(deployed.run, shown(range(parts))))
    threshold = threshold_from_normals([frame.value for frame in normal])
    return gather(deployed, deployed.run, normal, [], [], threshold)


def shown(seeds: Any) -> list[Shown]:
    return [
        Shown(f"validation/good/{seed}", lambda seed=seed: make_feeds(seed), "normal", None)
        for seed in seeds
    ]


def test_without_test_parts_a_fifth_of_the_validation_parts_is_set_aside(run_folder: Path) -> None:
    run = load_run(run_folder)
    dataset = open_dataset(Path(run.info.data))
    alone = replace(
        dataset, samples=tuple(sample for sample in dataset.samples if sample.split != "test")
    )
    validation = tuple(alone.split("validation"))
    judged = Judged(dataset.root, alone, True, validation, stand_in=True)
    frames = proof_frames(run, judged, ())
    assert frames.set_aside
    assert (len(frames.normal), len(frames.good)) == (20, 4)
    assert not {frame.name for frame in frames.normal} & {frame.name for frame in frames.good}
    few = proof_frames(run, judged, tuple(run.info.validation[:5]))
    assert (len(few.normal), len(few.good), few.set_aside) == (19, 0, False)


def test_fewer_than_eight_validation_parts_ship_float32_alone(
    run_folder: Path, key: Path, tmp_path: Path, exported_before: None
) -> None:
    told: list[str] = []
    validation = load_run(run_folder).info.validation
    request = request_of(run_folder, key, tmp_path / "w.bundle", left_out=tuple(validation[7:]))
    assert export_bundle(request, told.append).shipped == ("fp32",)
    assert any("only fp32: 7 normal validation parts are too few" in line for line in told)


def test_two_validation_parts_make_a_bundle_and_one_is_refused_before_anything_is_read(
    run_folder: Path, key: Path, tmp_path: Path, exported_before: None
) -> None:
    validation = load_run(run_folder).info.validation
    out = tmp_path / "w.bundle"
    done = export_bundle(request_of(run_folder, key, out, left_out=tuple(validation[2:])))
    assert done.manifest.thresholds["fp32"].parts == 2
    out.unlink()
    request = request_of(run_folder, key, out, left_out=tuple(validation[1:]))
    with pytest.raises(DataError, match=r"has 1 normal validation part to set .* at least 2, "):
        export_bundle(request, pytest.fail)
    assert not out.exists()


def test_more_parts_are_carried_where_a_precision_orders_them_otherwise(tmp_path: Path) -> None:
    """Of 100 parts the 48 highest and 16 more are carried; INT8's highest is float32's 60th."""
    frames = [
        replace(frame, name=f"validation/good/{seed:03d}")
        for seed, frame in enumerate(shown([0]) * 100)
    ]
    exact = np.linspace(2, 1, 100, dtype=np.float32)
    other = exact.copy()
    other[59] = 3
    inputs = make_deployed().inputs
    alone = write_normal_frames(tmp_path / "alone", frames, {"fp32": exact}, 1, inputs)
    assert (alone.highest, len(alone.frames), alone.largest_rank) == (48, 64, 16)
    both = write_normal_frames(tmp_path / "both", frames, {"fp32": exact, "int8": other}, 1, inputs)
    assert 60 in {entry.rank for entry in both.frames}
    assert carried_ranks(64, 3) == (list(range(1, 65)), 64)


def test_every_file_was_compiled_where_the_compiler_is(exported: Exported) -> None:
    pytest.importorskip(
        "tensorrt_rtx", reason="pip install rgbd-inspection[rtx] to compile without a GPU"
    )
    assert exported.compiler is not None
    assert exported.compiler.startswith("tensorrt_rtx")


# What is refused


@pytest.mark.usefixtures("exported_before")
def test_a_precision_beyond_its_limits_is_left_out_and_says_why(
    run_folder: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(certificates.LIMITS, "fp16", certificates.Limits(1e-9, 0.99, 0.2, 0.1))
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

    monkeypatch.setattr(precisions, "check_compiles", refuse)
    monkeypatch.setattr(precisions.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(EngineError, match="operator Mystery"):
        export_bundle(request_of(run_folder, key, tmp_path / "washer.bundle", "fp32"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A product and its run, for one test that changes them."""
    product = write_product(tmp_path / "product")
    return product, write_standin_run(tmp_path / "run", product)


@pytest.mark.usefixtures("exported_before")
def test_a_report_is_made_once_and_again_where_other_defects_count(
    own: tuple[Path, Path], key: Path, tmp_path: Path
) -> None:
    product, run = own
    bad = tmp_path / "bad"
    for kind in ("rgb", "xyz", "gt"):
        shutil.copytree(product / f"test/spot/{kind}", bad / f"test/dent/{kind}")
    shutil.copy(product / "camera.json", bad)
    shutil.rmtree(product / "test")
    told: list[str] = []
    without = export_bundle(request_of(run, key, tmp_path / "w.bundle", "fp32"), told.append)
    assert sum("the run has no report of them" in line for line in told) == 1
    assert without.certificate.real_frames == 0
    told.clear()
    export_bundle(request_of(run, key, tmp_path / "w.bundle", "fp32"), told.append)
    assert not any("the run has no report" in line for line in told)
    with_them = export_bundle(
        request_of(run, key, tmp_path / "w.bundle", "fp32", defects=bad), told.append
    )
    assert f"4 defective images (dent 4) of {bad} count" in told
    assert with_them.certificate.real_frames == 4
    assert with_them.certificate.sections[-1].verdicts.real.of == 4
    assert json.loads((run / "evaluate.json").read_text())["defects"] == str(bad)
    again = export_bundle(request_of(run, key, tmp_path / "w.bundle", "fp32"))
    assert again.certificate.real_frames == 4, "as the report counts them"


def test_data_that_changed_since_the_training_gets_no_bundle(
    own: tuple[Path, Path], key: Path, tmp_path: Path
) -> None:
    product, run = own
    shutil.copytree(product, tmp_path / "as it was")
    shutil.copy(product / "validation/good/rgb/000.png", product / "validation/good/rgb/001.png")
    with pytest.raises(
        DataError, match=r"has changed since the training \(validation/good/001 is another image\)"
    ):
        export_bundle(request_of(run, key, tmp_path / "w.bundle", "fp32"))
    shutil.copytree(product, tmp_path / "changed")
    with pytest.raises(DataError, match=r"changed is not the data of this run .*--data"):
        export_bundle(
            request_of(run, key, tmp_path / "w.bundle", "fp32", data=tmp_path / "changed")
        )
    assert not (tmp_path / "w.bundle").exists()


@pytest.mark.usefixtures("exported_before")
def test_data_that_moved_is_found_with_data_from_any_folder(
    own: tuple[Path, Path], key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    product, run = own
    product.rename(tmp_path / "renamed")
    with pytest.raises(
        DataError, match=r"product, which the run was trained on, is gone: name .* with --data"
    ):
        export_bundle(request_of(run, key, tmp_path / "w.bundle", "fp32"))
    monkeypatch.chdir(tmp_path)
    export_bundle(request_of(run, key, tmp_path / "w.bundle", "fp32", data=Path("renamed")))
    assert (tmp_path / "w.bundle").is_file()


@pytest.mark.usefixtures("exported_before")
def test_the_manifest_says_how_images_are_read_and_a_plane_for_each_is_told(
    own: tuple[Path, Path], key: Path, tmp_path: Path
) -> None:
    _, run = own
    stored = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**stored, "fixed": False, "color_bits": 12}))
    told: list[str] = []
    camera = export_bundle(
        request_of(run, key, tmp_path / "w.bundle", "fp32"), told.append
    ).manifest.camera
    assert (camera.fixed, camera.letterbox, camera.color_bits) == (False, False, 12)
    assert any(
        "a station judges with the one that `edge calibrate plane` measures" in line
        for line in told
    )
    assert (
        "160x120 pixels; of 16-bit color 12 bits hold the values"
        in (run / "report.html").read_text()
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": "none.key"}, "none.key .*trainer keygen"),
        ({"key": "."}, "trainer keygen"),
        ({"out": "."}, "--out .* is a folder where a file is needed: name the file to write"),
        ({"out": "missing/w.bundle"}, "--out .*missing/w.bundle: there is no folder .*missing"),
        ({"data": "gone"}, "gone does not exist"),
        ({"defects": "gone"}, "--defects .*gone does not exist"),
        ({"left_out": ("nobody",)}, "--leave-out nobody: no normal validation part"),
        ({"kept": ("nobody",)}, "--keep nobody: no normal validation part"),
        ({"version": "1/2"}, "--version"),
    ],
)
def test_mistakes_are_found_before_the_run_or_an_image_is_read(
    changes: dict[str, Any],
    says: str,
    run_folder: Path,
    key: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "load_run", lambda _: pytest.fail("read the run's model"))
    monkeypatch.setattr(own_report, "open_own", lambda *_: pytest.fail("read images"))
    paths = {
        name: tmp_path / value
        for name, value in changes.items()
        if name in ("key", "out", "data", "defects")
    }
    request = replace(
        request_of(run_folder, key, tmp_path / "w.bundle", "fp32"), **{**changes, **paths}
    )
    with pytest.raises(EdgeError, match=says):
        export_bundle(request)


@pytest.mark.parametrize("product", ["", "../washer", "wash er", "-washer"])
def test_a_name_that_cannot_be_is_refused(
    product: str, run_folder: Path, key: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--product"):
        export_bundle(ExportRequest(run_folder, product, "1", (), key, tmp_path / "washer.bundle"))


def test_data_that_moved_away_is_named(run_folder: Path, key: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        export_bundle(
            ExportRequest(
                run_folder, "washer", "1", (), key, tmp_path / "w.bundle", data=tmp_path / "gone"
            )
        )


def test_a_model_that_rejects_nothing_gets_no_bundle() -> None:
    deployed = make_deployed()
    normal = by_falling_score(answered(deployed.run, shown(range(8))))
    high = threshold_from_normals([1e9])
    with pytest.raises(DataError, match="rejects next to nothing"):
        gather(deployed, deployed.run, normal, [], [], high)


def test_a_model_that_tells_no_parts_apart_gets_no_bundle() -> None:
    deployed = make_deployed()
    same = answered(deployed.run, shown([0]) * 8)
    with pytest.raises(DataError, match="tells no two parts apart"):
        gather(
            deployed,
            deployed.run,
            same,
            [],
            [],
            threshold_from_normals([frame.value for frame in same]),
        )


def test_a_drawn_defect_that_float32_does_not_see_is_not_used() -> None:
    """It would tie with its own part, and any rounding would change the AUROC."""
    proof = standin_proof(12)
    before = {frame.name: frame.value for frame in proof.frames if frame.kind in ("normal", "good")}
    drawn = [frame for frame in proof.frames if frame.kind == "drawn"]
    assert drawn
    assert all(abs(frame.value - before[frame.name.split(" + ")[0]]) > 1e-6 for frame in drawn)


def test_defects_are_faded_until_they_lie_near_the_threshold() -> None:
    proof = standin_proof(24)
    near = [frame for frame in proof.frames if frame.kind == "near"]
    assert len(near) >= 4
    distances = [abs(frame.value - proof.rule.threshold) / proof.rule.spread for frame in near]
    assert max(distances) <= 1.5
    assert min(distances) < 0.5


# Drawn defects


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_defect_changes_the_part_where_its_mask_is(seed: int) -> None:
    feeds = make_feeds(3)
    feeds["depth"][0, 40:50, 60:70] = 0  # a hole in the readings
    part = part_of(make_deployed(), feeds)
    drawn = draw_defect(feeds, part, strength=1.0, seed=seed)
    assert 20 < drawn.mask.sum() < 0.15 * part.sum()
    assert not (drawn.mask & ~part).any()
    changes = [(drawn.feeds[name] != feeds[name]).any(axis=(0, 3)) for name in ("color", "depth")]
    changed = changes[0] | changes[1]
    assert changed[drawn.mask].mean() > 0.7
    assert not changed[~part].any()
    assert (drawn.feeds["depth"][0, 40:50, 60:70] == 0).all()
    assert (make_feeds(3)["color"] == feeds["color"]).all()  # the normal frame itself is left alone


def test_drawn_defects_repeat_by_seed_and_come_in_every_kind() -> None:
    feeds, part = make_feeds(3), part_of(make_deployed(), make_feeds(3))
    first, again = (draw_defect(feeds, part, 0.5, 7) for _ in range(2))
    np.testing.assert_array_equal(first.feeds["color"], again.feeds["color"])
    kinds = {draw_defect(feeds, part, 0.5, seed).kind for seed in range(5)}
    assert kinds == {"stain", "scratch", "dent", "bump", "dirt"}
    color_only = {name: feeds[name] for name in ("color", "region")}
    assert {draw_defect(color_only, part, 0.5, seed).kind for seed in range(5)} == {
        "stain",
        "scratch",
        "dirt",
    }
