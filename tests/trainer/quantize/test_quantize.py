"""FP16 and INT8 of a graph that holds the contract: types, placement, multiply-accumulates, limits,
planted faults.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import trainer.quantize.precisions as quantizing
from edge.errors import EngineError
from edge.proof.compare import Responses, compare_maps, rank_correlation
from edge.proof.threshold import threshold_from_normals
from tests.support.site_inputs import half_in_adaptation, quantized_everywhere
from tests.support.standin import CHANNELS, Feeds, export, load, make_deployed, make_feeds
from trainer.quantize import (
    Evidence,
    EvidenceFrame,
    Quantized,
    blocks,
    certify,
    count_macs,
    quantize,
)
from trainer.quantize.bench import Bench, QuickLook, cost_of, lost_rank
from trainer.quantize.blocks import Block, blocks_of, int8_candidates, low_precision_nodes
from trainer.quantize.calibrate import best_scale
from trainer.quantize.convert import converted, quantized_inputs, quantized_weight, storable_scale
from trainer.quantize.evidence import Kind, rule_of
from trainer.quantize.search import Task, assigned
from trainer.quantize.session import responses_of, session_of
from trainer.quantize.view import prepared, scope_of, view_of

NORMAL, GOOD, DEFECTS = 16, 8, 8
KINDS: list[Kind] = ["normal"] * NORMAL + ["good"] * GOOD + ["drawn"] * DEFECTS
FRAMES: list[Feeds] = [
    make_feeds(seed, 0.0 if seed < NORMAL + GOOD else 0.1 * (seed - 22)) for seed in range(32)
]
CALIBRATION: list[Feeds] = [make_feeds(seed) for seed in range(100, 112)]


def sources_of(frames: Sequence[Feeds]) -> list[Any]:
    return [lambda feeds=feeds: feeds for feeds in frames]


def mask_of(seed: int) -> NDArray[np.bool_]:
    """Where the frames of this seed differ, with and without the defect."""
    return (FRAMES[seed]["color"] != make_feeds(seed)["color"])[0].any(axis=2)


def evidence_of(deployed: Any) -> Evidence:
    reference = Responses.of(deployed.run(feeds) for feeds in FRAMES)
    normal = reference.scores[:NORMAL]
    rule = rule_of(threshold_from_normals(normal), normal)
    sources = sources_of(FRAMES)
    frames = [
        EvidenceFrame(sources[seed], KINDS[seed], mask_of(seed), KINDS[seed] != "good")
        for seed in range(len(FRAMES))
    ]
    return Evidence(frames, reference, 8, rule)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return load(export(make_deployed(), tmp_path_factory.mktemp("quiet") / "fp32.onnx"))


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return evidence_of(make_deployed())


@pytest.fixture(scope="module")
def made(model: onnx.ModelProto, evidence: Evidence) -> dict[Any, Quantized]:
    return quantize(model, ["fp32", "fp16", "int8"], CALIBRATION, evidence)


def interface(model: onnx.ModelProto) -> list[tuple[str, int, list[int]]]:
    values = [*model.graph.input, *model.graph.output]
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


# What is shipped


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_passes_and_keeps_the_interface(
    precision: Any, made: dict[Any, Quantized], model: onnx.ModelProto
) -> None:
    assert made[precision].section.passed, made[precision].section.reasons
    onnx.checker.check_model(made[precision].model, full_check=True)
    assert interface(made[precision].model) == interface(model)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_shipped_file_computes_what_was_measured(
    precision: Any, made: dict[Any, Quantized], evidence: Evidence
) -> None:
    measured = compare_maps(
        evidence.reference, responses_of(made[precision].model, sources_of(FRAMES))
    )
    assert measured.mean_map_error <= 1.5 * made[precision].section.mean_map_error + 1e-4


def test_sensor_bytes_to_height_masks_and_score_stay_float32(made: dict[Any, Quantized]) -> None:
    for precision in ("fp16", "int8"):
        view = view_of(made[precision].model)
        for node in view.nodes:
            if scope_of(node).split(".")[0] in {"preprocess", "mask", "score"}:
                assert all(view.types[name] != TensorProto.FLOAT16 for name in node.output), (
                    node.name
                )
    half = view_of(made["fp16"].model)
    assert sum(half.types[node.output[0]] == TensorProto.FLOAT16 for node in half.nodes) > 20


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_shift_scale_and_moments_stay_float32(precision: Any, made: dict[Any, Quantized]) -> None:
    assert half_in_adaptation(view_of(made[precision].model)) == []


def test_but_for_their_module_they_would_not(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert half_in_adaptation(view_of(quantized_everywhere(model))) == []
    monkeypatch.setattr(blocks, "ADAPTATION", "of another name")
    assert half_in_adaptation(view_of(quantized_everywhere(model)))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_every_precision_follows_the_site_as_float32_does(
    precision: Any, made: dict[Any, Quantized]
) -> None:
    """Its moments are float32's, but for the rounding of the features; shift and scale do the
    same.
    """
    exact, other = (session_of(made[name].model) for name in ("fp32", precision))
    site = {
        "shift": np.linspace(-0.5, 0.5, CHANNELS, dtype=np.float32),
        "scale": np.linspace(0.6, 1.6, CHANNELS, dtype=np.float32),
    }
    for feeds in FRAMES[:3]:
        (wanted,), (moments,) = (run.run(["moments"], feeds) for run in (exact, other))
        deviation = np.sqrt(wanted[0, 1]) + 1e-3
        assert np.abs(moments[0, 0] - wanted[0, 0]).max() < 0.1 * deviation.max()
        assert np.abs(np.sqrt(moments[0, 1]) - deviation).max() < 0.1 * deviation.max()
        (plain,), (wanted,), (map_,) = (
            run.run(["map"], {**feeds, **more})
            for run, more in ((exact, {}), (exact, site), (other, site))
        )
        assert np.abs(map_ - wanted).max() < 0.2 * np.abs(wanted - plain).max()


def test_int8_is_explicit_symmetric_and_per_channel(made: dict[Any, Quantized]) -> None:
    view = view_of(made["int8"].model)
    assert {entry.version for entry in view.model.opset_import if entry.domain == ""} == {19}
    for node in view.nodes:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            assert not numpy_helper.to_array(view.constants[node.input[2]]).any()
            assert view.types[node.input[1]] == TensorProto.FLOAT16
        if node.op_type != "Conv" or view.producer[node.input[0]].op_type != "DequantizeLinear":
            continue
        weight = view.producer[node.input[1]]
        assert view.types[weight.input[0]] == TensorProto.INT8
        assert view.shapes[weight.input[1]] == (view.shapes[weight.input[0]][0],)
        assert all(reader.op_type != "QuantizeLinear" for reader in view.consumers[node.output[0]])


def test_a_residual_addition_has_qdq_on_its_identity_only(made: dict[Any, Quantized]) -> None:
    view = view_of(made["int8"].model)
    additions = [node for node in view.nodes if node.op_type == "Add" and "trunk" in scope_of(node)]
    assert len(additions) == 2
    for node in additions:
        makers = sorted(view.producer[name].op_type for name in node.input)
        assert makers == ["Conv", "DequantizeLinear"]


@pytest.mark.parametrize("total", ["fp16", "fp32"])
@pytest.mark.parametrize("chosen", [{"left"}, {"right"}, {"left", "right"}])
def test_the_scales_of_everything_serve_every_smaller_plan(chosen: set[str], total: Any) -> None:
    """A sum of two products: whichever of them stays float16 is the identity then, and needs a
    scale.

    In float32 the sum reads both as float32: TensorRT adds no halves to floats.
    """
    weights = {name: np.full((4, 3, 1, 1), 0.5, np.float32) for name in ("wl", "wr")}
    nodes = [
        helper.make_node("Conv", ["x", "wl"], ["l"], name="left"),
        helper.make_node("Conv", ["x", "wr"], ["r"], name="right"),
        helper.make_node("Add", ["l", "r"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 8, 8))],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    view = view_of(
        prepared(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        )
    )
    scales = dict.fromkeys(
        quantized_inputs(view, {"left": "int8", "right": "int8", "sum": total}), 0.05
    )
    plan: dict[str, Any] = {
        "left": "fp16",
        "right": "fp16",
        "sum": total,
        **dict.fromkeys(chosen, "int8"),
    }
    onnx.checker.check_model(converted(view, plan, scales), full_check=True)
    model = converted(view, plan, scales, emulate=True)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)
    (y,) = session_of(model).run(None, {"x": x})
    np.testing.assert_allclose(y, np.repeat(x.sum(axis=1, keepdims=True), 4, axis=1), atol=0.15)


def test_no_path_of_the_exporting_machine_is_in_the_file(
    made: dict[Any, Quantized], model: onnx.ModelProto
) -> None:
    here = str(Path(__file__).resolve().parents[3]).encode()
    assert here in model.SerializeToString()  # the exporter's stack traces
    for precision in ("fp32", "fp16", "int8"):
        assert here not in made[precision].model.SerializeToString()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_tensorrt_rtx_compiles_it_strongly_typed(
    precision: Any, made: dict[Any, Quantized]
) -> None:
    trt = pytest.importorskip(
        "tensorrt_rtx", reason="pip install rgbd-inspection[rtx] to compile without a GPU"
    )
    if precision == "int8" and trt.__version__.startswith("1.6."):
        pytest.skip("tensorrt_rtx 1.6 refuses INT8 without a GPU")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(made[precision].model.SerializeToString())
    assert parsed, [str(parser.get_error(i)) for i in range(parser.num_errors)]
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None


# What is measured


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    return load(export(make_deployed(loud=True), tmp_path_factory.mktemp("loud") / "fp32.onnx"))


def test_squares_beyond_float16_become_a_float32_island(loud: onnx.ModelProto) -> None:
    loud_evidence = evidence_of(make_deployed(loud=True))
    view = view_of(prepared(loud))
    everything = dict.fromkeys(low_precision_nodes(view), "fp16")
    rounded = converted(view, everything, {}, emulate=True)  # type: ignore[arg-type]
    forced = responses_of(rounded, sources_of(FRAMES))
    assert not np.isfinite(forced.maps).all()
    result = quantize(loud, ["fp16"], CALIBRATION, loud_evidence)["fp16"]
    assert result.section.passed, result.section.reasons
    island = {
        node.name
        for node in view.nodes
        if scope_of(node) == "detector.distance" and node.op_type == "Mul"
    }
    half = view_of(result.model)
    squares = [node for node in half.nodes if node.name in island]
    assert squares
    assert all(half.types[name] == TensorProto.FLOAT for node in squares for name in node.input)
    assert result.section.macs.fp16 > 0.5


def test_onnxruntimes_own_float16_would_have_hidden_it(loud: onnx.ModelProto) -> None:
    """Why measuring emulates the rounding: the CPU runs the shipped flavor in float32 and sees no
    overflow.
    """
    view = view_of(prepared(loud))
    everything = dict.fromkeys(low_precision_nodes(view), "fp16")
    model = converted(view, everything, {})  # type: ignore[arg-type]
    deployed = responses_of(model, sources_of(FRAMES[:2]))
    assert np.isfinite(deployed.maps).all()


def test_what_cannot_be_int8_is_refused_with_its_reason(
    model: onnx.ModelProto, evidence: Evidence
) -> None:
    """Scales from frames that show nothing of what they are to scale."""
    # 0 at the first layer
    gray = [{**feeds, "color": np.full_like(feeds["color"], 128)} for feeds in CALIBRATION[:2]]
    section = quantize(model, ["int8"], gray, evidence)["int8"].section
    assert not section.passed
    assert any("limit" in reason for reason in section.reasons)


def test_the_certificate_tells_the_change_of_pixels_too(made: dict[Any, Quantized]) -> None:
    change = made["int8"].section.change
    assert change.p_auroc is not None
    assert change.aupro is not None
    assert abs(change.p_auroc) < 2
    assert abs(made["fp32"].section.change.aupro or 0) < 0.05


def test_the_certificate_names_its_arithmetic(made: dict[Any, Quantized]) -> None:
    assert all(entry.section.runtime.startswith("onnxruntime") for entry in made.values())


# Multiply-accumulates


def conv_graph() -> onnx.ModelProto:
    weights = [
        numpy_helper.from_array(np.ones(shape, np.float32), name)
        for name, shape in {"dense": (8, 3, 3, 3), "deep": (8, 1, 3, 3), "matrix": (8, 5)}.items()
    ]
    weights.append(numpy_helper.from_array(np.array([-1, 8]), "rows"))
    nodes = [
        helper.make_node("Conv", ["x", "dense"], ["a"], name="dense", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "deep"], ["b"], name="deep", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Reshape", ["b", "rows"], ["c"], name="reshape"),
        helper.make_node("MatMul", ["c", "matrix"], ["y"], name="product"),
    ]
    nodes[0].metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'detector', 'detector.trunk', 'conv2d']"
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 6, 4))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (24, 5))]
    graph = helper.make_graph(nodes, "convolutions", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def test_multiply_accumulates_are_those_worked_out_by_hand() -> None:
    view = view_of(prepared(conv_graph()))
    assert [view.macs(node) for node in view.nodes] == [24 * 8 * 27, 24 * 8 * 9, 0, 24 * 8 * 5]


def test_shares_follow_the_types_and_the_backbone_is_found_by_its_module() -> None:
    view = view_of(prepared(conv_graph()))
    model = converted(view, {"dense": "int8", "deep": "fp16"}, {"x": 0.1})
    whole, backbone = count_macs(model)
    total = 27 + 9 + 5
    assert (whole.int8, whole.fp16, whole.fp32) == pytest.approx((27 / total, 9 / total, 5 / total))
    assert backbone is not None
    assert backbone.int8 == 1


def test_blocks_hold_every_node_once_and_split_where_the_work_is(model: onnx.ModelProto) -> None:
    view = view_of(prepared(model))
    names = low_precision_nodes(view)
    blocks = blocks_of(view, names, most=8)
    assert sorted(name for block in blocks for name in block.nodes) == sorted(names)
    assert sum(block.macs for block in blocks) == sum(
        view.macs(node) for node in view.nodes if node.name in set(names)
    )
    assert len(blocks) >= 5
    assert any(block.name.startswith("detector.trunk.") for block in blocks)


@pytest.mark.parametrize("error", [0.01, 0.05, 0.2])
def test_the_rank_lost_on_a_few_frames_is_what_all_frames_lose(error: float) -> None:
    """Against Spearman's correlation itself, over many draws of scores that are all alike in
    distribution.
    """
    generator = np.random.default_rng(0)
    lost, wanted = [], []
    for _ in range(200):
        reference = generator.random(60)
        candidate = reference + error * generator.standard_normal(60)
        rows = generator.choice(60, size=8, replace=False)
        lost.append(lost_rank(reference, reference[rows], candidate[rows]))
        wanted.append(1 - rank_correlation(reference, candidate))
    assert np.mean(lost) == pytest.approx(np.mean(wanted), rel=0.25)
    assert lost_rank(reference, reference[rows], reference[rows]) == 0


def test_an_error_that_reorders_normal_parts_costs_though_it_is_nothing_beside_a_defect() -> None:
    """Ten normal scores around 1 and ten defects in the hundreds: noise of 0.2 is a thousandth of
    the range.
    """
    reference = np.concatenate([np.linspace(1.0, 1.3, 10), np.linspace(100, 300, 10)]).astype(
        np.float32
    )
    candidate = reference + np.where(reference < 2, 0.2 * (-1.0) ** np.arange(20), 0).astype(
        np.float32
    )
    maps = np.zeros((20, 2, 2), np.float32)
    maps[-1] = 300
    measured = compare_maps(Responses(maps, reference), Responses(maps, candidate))
    assert (
        cost_of(QuickLook(measured, 0.0, lost_rank(reference, reference, reference)), "int8") < 0.01
    )
    assert cost_of(QuickLook(measured, 0.0, lost_rank(reference, reference, candidate)), "int8") > 1


def test_noise_costs_and_a_shift_of_all_scores_does_not(
    evidence: Evidence, model: onnx.ModelProto
) -> None:
    """The threshold shifts with the scores, so only what a line does not explain may change a
    verdict.
    """
    maps = np.zeros((1, 2, 2), np.float32)
    measured = compare_maps(
        Responses(maps, np.zeros(1, np.float32)), Responses(maps, np.zeros(1, np.float32))
    )
    assert cost_of(QuickLook(measured, 0.35, 0.0), "int8") == pytest.approx(1)
    assert cost_of(QuickLook(measured, 0.07, 0.0), "int8") == pytest.approx(0.04)
    bench = Bench.on(view_of(prepared(model)), evidence.for_search())
    assert {str(kind) for kind in bench.evidence.kinds[bench.quick_rows]} == {"normal", "drawn"}
    shifted = 2 * evidence.reference.scores + np.float32(3)
    assert evidence.noise(Responses(evidence.reference.maps, shifted)).rms < 1e-4


class Costs:
    """A bench on which every block alone has a map error of its own, in limits."""

    def __init__(self, errors: dict[str, float], noises: dict[str, float] | None = None) -> None:
        self.errors, self.noises = errors, noises or {}

    def quick(self, plan: Any) -> QuickLook:
        (name,) = plan
        maps = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 2, 2)
        answer = Responses(maps, np.array([0, 1], np.float32))
        off = Responses(maps + np.float32(0.01 * self.errors[name]), answer.scores)
        return QuickLook(compare_maps(answer, off), 0.0, 0.0)

    def noise(self, plan: Any) -> float:
        """Of blocks whose noises are independent, in s."""
        return float(np.sqrt(sum(self.noises.get(name, 0.0) ** 2 for name in plan)))


def kept_higher(
    blocks: Sequence[Block],
    errors: dict[str, float],
    limit: float,
    hopeless: Any,
    noises: dict[str, float] | None = None,
) -> set[str]:
    task = Task(
        Costs(errors, noises),  # type: ignore[arg-type]  # only `quick` and `noise` are asked
        "int8",
        lambda chosen: dict.fromkeys((block.name for block in chosen), "int8"),
        lambda plan: () if sum(errors[name] for name in plan) <= limit else ("too far",),
        hopeless,
    )
    plan, reasons = assigned(task, blocks)
    assert reasons == ()
    return {block.name for block in blocks} - set(plan)


@pytest.mark.parametrize(("needed", "higher"), [("none", {"dear"}), ("dear", {"middle"})])
def test_a_block_that_the_precision_needs_stays_and_the_next_dearest_goes(
    needed: str, higher: set[str]
) -> None:
    blocks = [Block(name, (name,), 1) for name in ("cheap", "middle", "dear")]
    errors = {"cheap": 0.0, "middle": 0.5, "dear": 2.0}
    assert (
        kept_higher(blocks, errors, 2.0, lambda plan: needed != "none" and needed not in plan)
        == higher
    )


def test_small_blocks_do_not_use_up_what_pays_for_a_large_one() -> None:
    """All three small ones cost more for what they compute; without them the large one could not go
    any more.
    """
    blocks = [Block("large", ("large",), 10), *(Block(name, (name,), 1) for name in "abc")]
    errors = {"large": 2.0, "a": 0.8, "b": 0.8, "c": 0.8}
    macs = {block.name: block.macs for block in blocks}
    higher = kept_higher(blocks, errors, 1.9, lambda plan: sum(macs[name] for name in plan) < 2)
    assert len(higher) == 2
    assert "large" in higher


@pytest.mark.parametrize(
    ("noises", "needed", "higher"),
    [
        # without it a sixth of the noise is left
        ({"dear": 0.3, "middle": 0.05}, "none", {"dear"}),
        ({"dear": 0.3, "middle": 0.05}, "dear", set()),  # the precision needs it
        ({"dear": 0.2, "middle": 0.2}, "none", set()),  # it would not be halved
        ({"dear": 0.09}, "none", set()),  # little enough as it is
    ],
)
def test_a_plan_within_its_limits_gives_up_a_block_more_where_that_halves_the_noise(
    noises: dict[str, float], needed: str, higher: set[str]
) -> None:
    blocks = [Block(name, (name,), 1) for name in ("cheap", "middle", "dear")]
    errors = {"cheap": 0.0, "middle": 0.1, "dear": 0.2}
    assert (
        kept_higher(
            blocks, errors, 2.0, lambda plan: needed != "none" and needed not in plan, noises
        )
        == higher
    )


def test_every_plan_that_is_run_is_counted(model: onnx.ModelProto, evidence: Evidence) -> None:
    tried = []
    few = replace(
        evidence, frames=evidence.frames[:2], reference=evidence.reference.take(slice(0, 2))
    )
    bench = Bench(view_of(prepared(model)), few, [0], {}, lambda: tried.append(1))
    bench.responses({})
    bench.responses({})
    assert len(tried) == 1, "known answers are not computed again"


def test_scales_are_chosen_anew_for_the_blocks_that_stay(
    monkeypatch: pytest.MonkeyPatch, model: onnx.ModelProto, evidence: Evidence
) -> None:
    """What had to leave INT8 wanted coarse scales; what stays fails with those and is best served
    by fine ones.
    """
    ways = {"coarse": {"x": 2.0}, "fine": {"x": 1.0}, "odd": {"x": 3.0}}
    monkeypatch.setattr(quantizing, "activation_scales", lambda *_: ways)
    monkeypatch.setattr(Bench, "quick", lambda bench, plan: (bench.scales["x"], len(plan)))
    everything = len(
        int8_candidates(view_of(prepared(model)), low_precision_nodes(view_of(prepared(model))))
    )
    best = {everything: 2.0, 3: 1.0}
    monkeypatch.setattr(quantizing, "cost_of", lambda look, _: abs(look[0] - best[look[1]]))
    searched = []

    def search(task: Task, _: object) -> tuple[dict[str, str], tuple[str, ...]]:
        scale = task.bench.scales["x"]
        searched.append(scale)
        return dict.fromkeys("abc", "int8"), ("too far",) if scale == 2.0 or never else ()

    monkeypatch.setattr(quantizing, "assigned", search)
    never = False
    maker = quantizing.Maker(view_of(prepared(model)), CALIBRATION, evidence)
    half = dict.fromkeys(low_precision_nodes(maker.view), "fp32")
    monkeypatch.setattr(quantizing, "int8_candidates", lambda view, _: int8_candidates(view, half))
    assert maker.int8_plan({}) == dict.fromkeys("abc", "int8")
    assert searched == [2.0, 1.0]
    assert maker.bench.scales == ways["fine"]
    never = True  # no scales help: the search ends, it does not go round
    searched.clear()
    maker.int8_plan({})
    assert searched == [2.0, 1.0]


def test_a_weight_that_is_reshaped_at_run_time_is_still_a_weight() -> None:
    flat = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "flat")
    nodes = [
        helper.make_node("Reshape", ["flat", "kernel_shape"], ["kernel"], name="reshape"),
        helper.make_node("Conv", ["x", "kernel"], ["y"], name="conv"),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 2, 2))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 2, 2))]
    shape = numpy_helper.from_array(np.array([4, 3, 1, 1]), "kernel_shape")
    graph = helper.make_graph(nodes, "late", inputs, outputs, [flat, shape])
    view = view_of(
        prepared(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        )
    )
    assert int8_candidates(view, ["conv"]) == ["conv"]
    assert view.shapes["kernel"] == (4, 3, 1, 1)


@pytest.mark.parametrize("emulate", [False, True])
def test_a_constant_output_stays(emulate: bool) -> None:
    """valid of a color-only graph is 1 whatever the image: the exporter makes it an initializer."""
    model = conv_graph()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "valid"))
    model.graph.output.append(helper.make_tensor_value_info("valid", TensorProto.FLOAT, (1,)))
    made = converted(
        view_of(prepared(model)), {"dense": "int8", "deep": "fp16"}, {"x": 0.1}, emulate=emulate
    )
    onnx.checker.check_model(made, full_check=True)
    outputs = session_of(made).run(["valid", "y"], {"x": np.ones((1, 3, 6, 4), np.float32)})
    assert outputs[0] == 1


def test_a_dynamic_graph_is_refused() -> None:
    model = conv_graph()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "cells"
    with pytest.raises(EngineError, match="export the graph with fixed sizes"):
        view_of(prepared(model))


# Arithmetic


@given(arrays(np.float32, 20, elements=st.floats(0, 100, width=32, allow_subnormal=False)))
def test_a_stored_scale_is_a_float16_not_below_the_wanted_one(scale: NDArray[np.float32]) -> None:
    stored = storable_scale(scale)
    assert (stored >= scale).all()
    assert (stored == stored.astype(np.float16).astype(np.float32)).all()
    assert (stored <= scale * 1.001 + 6e-8).all()


WEIGHTS = arrays(
    np.float32, (4, 3, 2, 2), elements=st.floats(-2, 2, width=32, allow_subnormal=False)
)


@given(WEIGHTS, st.sampled_from([0, 1]))
def test_a_quantized_weight_is_within_half_a_step_per_channel(
    weight: NDArray[np.float32], axis: int
) -> None:
    levels, scale = quantized_weight(weight, axis)
    shape = [-1 if i == axis else 1 for i in range(4)]
    steps = scale.reshape(shape)
    assert np.abs(levels.astype(int)).max() <= 127
    assert (np.abs(levels * steps - weight) <= 0.501 * steps).all()


def test_the_scale_gives_up_a_rare_outlier_for_the_mass() -> None:
    values = np.abs(np.random.default_rng(0).normal(size=100_000)).astype(np.float32)
    assert best_scale(values, float(values.max())) < values.max() / 127
    even = np.linspace(0, 1, 1000, dtype=np.float32)
    assert best_scale(even, 1.0) == pytest.approx(1 / 127)


# Planted faults


def faulty(model: onnx.ModelProto, fault: str) -> onnx.ModelProto:
    """A copy of an INT8 graph with one thing wrong."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    view = view_of(copy)
    products = [
        node
        for node in view.nodes
        if node.op_type == "Conv" and view.producer[node.input[0]].op_type == "DequantizeLinear"
    ]
    if fault == "constant output":
        maker = next(node for node in copy.graph.node if "map" in node.output)
        maker.output[list(maker.output).index("map")] = "map_lost"
        copy.graph.initializer.append(numpy_helper.from_array(np.float32(0), "nothing"))
        copy.graph.node.append(helper.make_node("Mul", ["map_lost", "nothing"], ["map"]))
    elif fault == "swapped channels":
        change(copy, view.producer[products[0].input[1]].input[0], lambda weight: weight[:, ::-1])
    elif fault == "weight scale times 4":
        change(copy, view.producer[products[-1].input[1]].input[1], lambda scale: scale * 4)
    elif fault in ("activation scale times 4", "scale times 2 in the head"):
        last = fault.endswith("head")
        dequantize = view.producer[products[-1 if last else 1].input[0]]
        value = numpy_helper.to_array(view.constants[dequantize.input[1]])
        wrong = np.asarray(value * (2 if last else 4), value.dtype)
        copy.graph.initializer.append(numpy_helper.from_array(wrong, "wrong_scale"))
        next(node for node in copy.graph.node if node.name == dequantize.name).input[1] = (
            "wrong_scale"
        )
    return copy


def change(model: onnx.ModelProto, name: str, how: Any) -> None:
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(
        numpy_helper.from_array(np.ascontiguousarray(how(values)).astype(values.dtype), name)
    )


def judged(evidence: Evidence, candidate: Responses, section: Any, **more: Any) -> Any:
    """The candidate in INT8's place, its own repeat."""
    repeat = candidate.scores[evidence.rows("normal")]
    return certify(evidence, candidate, repeat, "int8", section.macs, section.backbone_macs, **more)


@pytest.mark.parametrize(
    "fault",
    [
        "constant output",
        "swapped channels",
        "weight scale times 4",
        "activation scale times 4",
        "scale times 2 in the head",
    ],
)
def test_a_planted_fault_in_the_graph_fails_the_certificate(
    fault: str, made: dict[Any, Quantized], evidence: Evidence
) -> None:
    section = made["int8"].section
    candidate = responses_of(faulty(made["int8"].model, fault), evidence.sources)
    assert judged(evidence, candidate, section).reasons


def test_a_swapped_depth_byte_order_fails_the_certificate(
    made: dict[Any, Quantized], evidence: Evidence
) -> None:
    swapped = [
        {**feeds, "depth": np.ascontiguousarray(feeds["depth"][..., ::-1])} for feeds in FRAMES
    ]
    section = made["int8"].section
    candidate = responses_of(made["int8"].model, sources_of(swapped))
    assert judged(evidence, candidate, section).reasons


def scores_with(fault: str, evidence: Evidence) -> NDArray[np.float32]:
    f, s = evidence.reference.scores.astype(np.float64), evidence.rule.spread
    noise = np.random.default_rng(5).normal(size=len(f))
    return {
        "noise of 1 s": f + s * noise,
        "constant": np.full(len(f), f[0]),
        "times 0.1 plus noise": 0.1 * f + 0.1 * s * noise,
        "normal to everything": np.minimum(f, evidence.rule.threshold),
        "slope 3": 3 * f,
    }[fault].astype(np.float32)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("noise of 1 s", "noise of the normal scores"),
        ("constant", "every normal part has the same score"),
        ("times 0.1 plus noise", "times float32's, limit 0.5 to 2"),
        ("normal to everything", "verdicts differ from float32's"),
        ("slope 3", "3.00 times float32's"),
    ],
)
def test_a_planted_fault_in_the_scores_fails_the_certificate(
    fault: str, sentence: str, made: dict[Any, Quantized], evidence: Evidence
) -> None:
    section = made["int8"].section
    candidate = Responses(evidence.reference.maps, scores_with(fault, evidence))
    reasons = judged(evidence, candidate, section).reasons
    assert any(sentence in reason for reason in reasons), reasons


def test_scores_shifted_by_3_s_pass_with_their_own_threshold_and_fail_with_float32s(
    made: dict[Any, Quantized], evidence: Evidence
) -> None:
    """What the certificate once let through: 97 of 100 good parts rejected, rank correlation and
    AUROC untouched.
    """
    section = made["int8"].section
    shifted = Responses(
        evidence.reference.maps, evidence.reference.scores + np.float32(3 * evidence.rule.spread)
    )
    assert judged(evidence, shifted, section).passed
    foreign = evidence.threshold(evidence.reference)
    refused = judged(evidence, shifted, section, threshold=foreign)
    assert refused.verdicts.good is not None
    assert refused.verdicts.good.count >= refused.verdicts.good.of / 2
    assert any("verdicts differ" in reason for reason in refused.reasons)


@pytest.mark.parametrize(
    ("slope", "offset", "passes"), [(1.0, 0.0, True), (1.0, 0.15, False), (1.08, 0.0, False)]
)
def test_a_precision_that_another_arithmetic_shifts_is_refused(
    slope: float, offset: float, passes: bool, made: dict[Any, Quantized], evidence: Evidence
) -> None:
    """A station's engine rounds elsewhere: what two arithmetics of one file disagree on, the board
    would refuse.
    """
    section, candidate = made["int8"].section, made["int8"].responses
    own = candidate.scores[evidence.rows("normal")]
    repeat = np.float32(slope) * own + np.float32(offset * section.noise.spread)
    found = certify(evidence, candidate, repeat, "int8", section.macs, section.backbone_macs)
    assert found.passed == passes
    assert passes or any("in another arithmetic" in reason for reason in found.reasons)


def test_the_search_never_looks_at_the_good_parts(evidence: Evidence) -> None:
    seen = evidence.for_search()
    assert not len(seen.rows("good"))
    assert len(seen.sources) == len(seen.kinds) == len(seen.reference) == len(FRAMES) - GOOD
    assert seen.verdicts(seen.reference, evidence.rule.threshold).good is None


def test_leave_one_out_stands_in_where_no_good_part_was_set_aside(evidence: Evidence) -> None:
    seen = evidence.for_search()
    reversed_order = seen.reference.scores.copy()
    reversed_order[:NORMAL] = (
        np.float32(2 * seen.reference.scores[:NORMAL].mean()) - reversed_order[:NORMAL]
    )
    own = seen.threshold(Responses(seen.reference.maps, reversed_order)).value
    verdicts = seen.verdicts(Responses(seen.reference.maps, reversed_order), own)
    assert verdicts.unlike.of == NORMAL + DEFECTS
    # the highest part is another one: one rejected more, one fewer
    assert verdicts.unlike.count >= 2
