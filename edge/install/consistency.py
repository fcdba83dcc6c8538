"""Whether everything in a bundle speaks of one and the same model.

A signature says who made a bundle, not that it was made with care: the manifest, the graphs, the
frames and the certificate are compared here before an engine is opened, so that a contradiction is
a sentence at the installation and never a station that stops.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NoReturn

from edge.bundle.manifest import Manifest
from edge.camera.contract import CameraContract
from edge.engine.interface import GraphInterface, Tensor, read_interface
from edge.errors import BundleError, on_one_line
from edge.install.proof_data import ProofData, read_proof_data
from edge.proof.certificate import Certificate
from edge.proof.threshold import expected_rate, rate_bound
from edge.schema import Precision, TensorSpec
from edge.station.store import Installed

GOLDEN_ABOVE = 4  # at least this many reference frames are above float32's threshold
SIDE_LIMIT = 16384  # pixels of a camera's image
SAME = 1e-6  # probabilities that were computed twice

Shape = tuple[int, ...]


def checked_proof_data(bundle: Installed) -> ProofData:
    """What the bundle carries for its proof, after everything in it was compared with its manifest;
    graphs are read, none is loaded.

    Raises: BundleError naming the first contradiction.
    """
    m = bundle.manifest
    check_manifest(m)
    proof_data = read_proof_data(bundle)
    graphs = {precision: read_interface(bundle.model(precision)) for precision in m.precisions}
    check_bundle_agrees(proof_data, graphs)
    return proof_data


def check_bundle_agrees(proof_data: ProofData, graphs: Mapping[Precision, GraphInterface]) -> None:
    """Manifest, graphs, certificate, reference and normal frames speak of the same model and the
    same decision.

    graphs: what each precision's file says of itself. Raises: BundleError naming the first
    contradiction.
    """
    m = proof_data.bundle.manifest
    for problem in (
        *(
            problem
            for precision, graph in graphs.items()
            for problem in _graph_problems(m, precision, graph)
        ),
        *_certificate_problems(m, proof_data.certificate, len(proof_data.golden)),
        *_frame_problems(m, proof_data),
    ):
        _contradiction(m, problem)


def check_manifest(manifest: Manifest) -> None:
    """The manifest alone: a graph that a station can feed, and a camera that can exist.

    Raises: BundleError naming the first contradiction.
    """
    for problem in (
        *_text_problems(manifest),
        *_camera_problems(manifest.camera),
        *_tensor_problems(manifest),
        *_threshold_problems(manifest),
    ):
        _contradiction(manifest, problem)


def _contradiction(manifest: Manifest, what: str) -> NoReturn:
    raise BundleError(f"{manifest.product} {manifest.version}: {what}: export the bundle again")


# --- the manifest alone ---


def contract_inputs(manifest: Manifest) -> dict[str, tuple[str, Shape]]:
    """Type and shape of the inputs that every graph of this kind has (docs/graph-and-bundle.md)."""
    height, width = manifest.camera.crop_height, manifest.camera.crop_width
    color: dict[str, tuple[str, Shape]] = {
        "color": ("uint8", (1, height, width, 3)),
        "region": ("uint8", (1, height, width, 1)),
    }
    depth: dict[str, tuple[str, Shape]] = {
        "depth": ("uint8", (1, height, width, 2)),
        "unit": ("float32", (1,)),
        "intrinsics": ("float32", (4,)),
        "plane": ("float32", (4,)),
        "lift": ("float32", (1,)),
        "expected": ("uint8", (1, height, width, 1)),
    }
    return {**color, **depth} if manifest.presence else color


SCALARS: dict[str, Shape] = {"score": (1,), "area": (1,), "valid": (1,), "place": (1, 6)}
# what the frame or the station gives; every other input needs a default
BY_FRAME_OR_SITE = ("color", "depth", "unit", "intrinsics", "region", "plane")


def _tensor_problems(m: Manifest) -> Iterator[str]:
    for kind, specs in (("input", m.inputs), ("output", m.outputs)):
        names = [spec.name for spec in specs]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"its manifest names the {kind} {name} twice"
    if len(set(m.precisions)) != len(m.precisions):
        yield "its manifest names a precision twice"
    inputs, outputs = (
        {spec.name: spec for spec in m.inputs},
        {spec.name: spec for spec in m.outputs},
    )
    for name, (dtype, shape) in contract_inputs(m).items():
        yield from _spec_problems("input", name, inputs.get(name), dtype, shape)
    for name, shape in SCALARS.items():
        yield from _spec_problems("output", name, outputs.get(name), "float32", shape)
    if "map" not in outputs or len(outputs["map"].shape) != 4 or outputs["map"].shape[:2] != (1, 1):
        yield "its manifest has no output map of shape (1, 1, h, w)"
    if not m.presence and "depth" in inputs:
        yield "its manifest has an input depth, and says that the graph measures no presence"
    for spec in m.inputs:
        if spec.default is None and spec.name not in BY_FRAME_OR_SITE:
            yield f"its input {spec.name} has no default, and no camera or station gives it"


def _spec_problems(
    kind: str, name: str, spec: TensorSpec | None, dtype: str, shape: Shape
) -> Iterator[str]:
    if spec is None:
        yield f"its manifest has no {kind} {name}, which this software needs"
    elif (spec.dtype, spec.shape) != (dtype, shape):
        yield (
            f"its manifest says that the {kind} {name} is {spec.dtype} {spec.shape}, not {dtype}"
            f" {shape}"
        )


def _text_problems(m: Manifest) -> Iterator[str]:
    """What is shown on terminals, and written into station.toml, holds no line end and nothing that
    moves a cursor.
    """
    about = {
        **m.camera.model_dump(),
        **m.provenance.model_dump(exclude={"packages"}),
        **m.provenance.packages,
    }
    for name, text in about.items():
        if isinstance(text, str) and not text.isprintable():
            yield (
                f"its {on_one_line(name)} holds a line end or another control character:"
                f" {text[:40]!a}"
            )


def _camera_problems(c: CameraContract) -> Iterator[str]:
    if not (1 <= c.width <= SIDE_LIMIT and 1 <= c.height <= SIDE_LIMIT):
        yield f"its camera has {c.width}x{c.height} pixels"
    for name, start, size, whole in (
        ("wide", c.crop_x, c.crop_width, c.width),
        ("high", c.crop_y, c.crop_height, c.height),
    ):
        if size < 1 or start < 0 or start + size > whole:
            yield f"its crop is {size} pixels {name} from {start} on, the camera's image {whole}"
    if c.min_area > c.max_area or c.max_area == 0:
        yield (
            f"its parts cover at least {c.min_area:g} and at most {c.max_area:g} of the region"
            " of interest, which no part can"
        )
    if c.intrinsics is not None and min(c.intrinsics[:2]) <= 0:
        yield f"its camera has focal lengths of {c.intrinsics[0]:g} and {c.intrinsics[1]:g} pixels"
    if c.unit is not None and c.unit <= 0:
        yield f"its camera counts depth in {c.unit:g} m"
    if c.fps is not None and c.fps < 1:
        yield f"its camera takes {c.fps} images a second"
    if c.color_bits is not None and not 9 <= c.color_bits <= 16:
        yield f"its 16-bit color images hold {c.color_bits} bits"


def _threshold_problems(m: Manifest) -> Iterator[str]:
    for precision, t in m.thresholds.items():
        expected, bound = expected_rate(t.parts, t.rank), rate_bound(t.parts, t.rank, t.confidence)
        if abs(t.expected - expected) > SAME or abs(t.bound - bound) > SAME:
            yield (
                f"its threshold of {precision} promises {t.expected:.3%} and at most {t.bound:.3%}"
                f" of false rejects, rank {t.rank} of {t.parts} parts gives {expected:.3%} and"
                f" {bound:.3%}"
            )
        if t.left_out != len(m.normal.left_out):
            yield (
                f"its threshold of {precision} leaves out {t.left_out} parts, the manifest names "
                f"{len(m.normal.left_out)}"
            )


# --- against the manifest ---


def _graph_problems(m: Manifest, precision: Precision, graph: GraphInterface) -> Iterator[str]:
    for kind, specs, tensors in (
        ("input", m.inputs, graph.inputs),
        ("output", m.outputs, graph.outputs),
    ):
        yield from _difference(f"model/{precision}.onnx", kind, specs, tensors)


def _difference(
    file: str, kind: str, specs: Sequence[TensorSpec], tensors: Sequence[Tensor]
) -> Iterator[str]:
    stated = {spec.name: (spec.dtype, spec.shape) for spec in specs}
    found = {tensor.name: (tensor.dtype, tensor.shape) for tensor in tensors}
    for name in sorted(stated.keys() - found.keys()):
        yield f"{file} has no {kind} {name!r}, which its manifest names"
    for name in sorted(found.keys() - stated.keys()):
        yield f"{file} has an {kind} {name!r} that its manifest does not name"
    for name, (dtype, shape) in stated.items():
        if found.get(name, (dtype, shape)) != (dtype, shape):
            has = " ".join(str(word) for word in found[name])
            yield f"{file} has the {kind} {name!r} as {has}, its manifest says {dtype} {shape}"


def _certificate_problems(m: Manifest, certificate: Certificate, golden: int) -> Iterator[str]:
    named = [section.precision for section in certificate.sections]
    if len(set(named)) != len(named):
        yield "its certificate has a precision twice"
    for precision, threshold in m.thresholds.items():
        section = certificate.section(precision)
        stated = section.threshold
        if not section.passed:
            yield f"its own certificate says that {precision} failed"
        if section.verdicts != m.verdicts[precision]:
            yield f"the certificate counts other verdicts of {precision} than the manifest"
        if stated != threshold:
            yield (
                f"the certificate's threshold of {precision} is {stated.value}, the manifest's"
                f" {threshold.value}"
                + ("" if stated.value != threshold.value else ", and what they promise differs")
            )
    if certificate.golden_frames != golden:
        yield (
            f"its certificate counts {certificate.golden_frames} reference frames, there are"
            f" {golden}"
        )
    if certificate.normal_frames != m.normal.parts:
        yield (
            f"its certificate counts {certificate.normal_frames} normal parts, the manifest"
            f" {m.normal.parts}"
        )
    if certificate.map_low > certificate.map_high:
        yield (
            f"its certificate says that maps reach from {certificate.map_low:g} to"
            f" {certificate.map_high:g}"
        )


def _frame_problems(m: Manifest, proof_data: ProofData) -> Iterator[str]:
    index, exact = proof_data.normal.index, m.thresholds["fp32"]
    if (index.parts, index.highest) != (m.normal.parts, m.normal.highest):
        yield (
            f"its normal frames are the {index.highest} highest of {index.parts}, the manifest says"
            f" {m.normal.highest} of {m.normal.parts}"
        )
    if exact.rank > index.largest_rank:
        yield (
            f"its thresholds take rank {exact.rank}, its normal frames allow at most"
            f" {index.largest_rank}"
        )
    above = sum(float(frame.score[0]) > exact.value for frame in proof_data.golden)
    if above < GOLDEN_ABOVE:
        yield (
            f"{above} reference frames are above the threshold, at least {GOLDEN_ABOVE} are needed"
        )
