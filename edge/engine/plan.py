"""One builder for `tensorrt` (10.3 to 11, on the device) and `tensorrt_rtx` (on any x86 machine,
with or without a GPU).

It uses the API that the two share; hasattr finds what only some versions have. Networks are
strongly typed: the graph sets the precision (float16 tensors, Q/DQ), not a flag of the builder. A
plan is executable code for one TensorRT version and one GPU model, so that plans are built on the
device, cached under an EngineKey and never shipped.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from edge.errors import EngineError
from edge.files import make_folder, sha256_of, write_atomically
from edge.optional import optional_module
from edge.schema import Precision

log = logging.getLogger(__name__)
trt_log = logging.getLogger("tensorrt")

Library = Literal["tensorrt", "tensorrt_rtx"]
REMEDIES = {
    "tensorrt": (
        "JetPack brings it: apt install nvidia-jetpack; the virtual environment needs"
        " --system-site-packages"
    ),
    "tensorrt_rtx": "pip install tensorrt-rtx (x86-64)",
}
# `intrinsics` is an input of every graph, also of systems that do not use it
EXPECTED = ("Unused Input:", "[RemoveDeadLayers]")
# with a dot before and a second suffix: a file whose writing was cut short
PLAN_NAME = re.compile(r"\.?([0-9a-f]{16})-.+\.plan(\..+)?")
# of an Orin Nano's 8 GB; tactics that want more are skipped, with a warning
WORKSPACE_BYTES = 512 << 20
LEVELS = {  # a build says hundreds of INFO lines
    "INTERNAL_ERROR": logging.CRITICAL,
    "ERROR": logging.ERROR,
    "WARNING": logging.WARNING,
    "INFO": logging.DEBUG,  # a build logs hundreds of them
    "VERBOSE": logging.DEBUG,
}


@dataclass(frozen=True)
class EngineKey:
    """What a plan depends on.

    digest: hex SHA-256 of the ONNX file. sm: compute capability such as "87".
    """

    digest: str
    precision: Precision
    tensorrt: str
    sm: str
    board: str

    @property
    def stem(self) -> str:
        """Name of the plan's file in the cache, without suffix."""
        machine = hashlib.sha256(self.board.encode()).hexdigest()[:8]
        return f"{self.digest[:16]}-{self.precision}-trt{self.tensorrt}-sm{self.sm}-{machine}"

    @property
    def timing_stem(self) -> str:
        """Name of the timing cache, valid for every graph with the same board, GPU and TensorRT."""
        return "timing-" + self.stem.split("-", 2)[2]


@dataclass(frozen=True, eq=False)
class Built:
    """A plan and the results of its build.

    timing_cache: bytes for the next build, None if the library keeps none.
    """

    plan: bytes
    timing_cache: bytes | None
    layers: int
    seconds: float


def load_library(name: Library) -> ModuleType:
    """The TensorRT library of that name. Raises: MissingDependency with the remedy."""
    return optional_module(name, REMEDIES[name])


@lru_cache(maxsize=2)
def bridge_logger(trt: ModuleType) -> Any:
    """A TensorRT logger that passes messages to logging and collects errors in `errors`, for an
    exception to quote.

    One for the whole process: TensorRT keeps the first logger that it gets and ignores later ones.
    """

    # the base is a class of a module known at run time
    class Bridge(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            # not super(): pybind11 aborts if its own __init__ was not called
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            level = (
                logging.DEBUG
                if message.startswith(EXPECTED)
                else LEVELS.get(severity.name, logging.WARNING)
            )
            trt_log.log(level, "%s", message)
            if level >= logging.ERROR:
                self.errors.append(message)

    return Bridge()


def build_plan(
    trt: ModuleType,
    onnx_path: Path,
    workspace_bytes: int = WORKSPACE_BYTES,
    timing_cache: bytes | None = None,
) -> Built:
    """Parse and compile one ONNX file: minutes on a device; seconds with tensorrt_rtx, which
    finishes at the first run.

    Raises: EngineError with the operator's name and the parser's own message, or the builder's last
        error.
    """
    start = time.perf_counter()
    logger = bridge_logger(trt)
    logger.errors.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt))
    parse_onnx(trt, network, logger, onnx_path)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_bytes)
    # no-ops there
    cache = None if trt.__name__ == "tensorrt_rtx" else attach_timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = logger.errors[-1].strip() if logger.errors else "no reason given; see the log"
        raise EngineError(
            f"{onnx_path}: {trt.__name__} {trt.__version__} parsed but cannot compile the graph:"
            f" {why}"
        )
    return Built(
        bytes(plan), timing_bytes(config, cache), network.num_layers, time.perf_counter() - start
    )


def network_flags(trt: ModuleType) -> int:
    """The flag for strong typing. Explicit batch is the default since TensorRT 10."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def parse_onnx(trt: ModuleType, network: Any, logger: Any, onnx_path: Path) -> None:
    """Fill `network` from the file.

    Raises: EngineError naming the file, and the operator and node that the parser refuses.
    """
    try:
        data = onnx_path.read_bytes()
    except OSError as error:
        raise EngineError(f"{onnx_path}: cannot be read ({error.strerror})") from error
    parser = trt.OnnxParser(network, logger)
    if parser.parse(data) and network.num_outputs:  # an empty file parses into an empty network
        return
    problems = [describe_error(parser.get_error(i)) for i in range(parser.num_errors)] or [
        "not an ONNX graph"
    ]
    raise EngineError(
        f"{onnx_path}: {trt.__name__} {trt.__version__} refuses the graph: {problems[0]}"
    )


def describe_error(error: Any) -> str:
    """A parser error in one line, with operator and node if this version's parser reports them."""
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    node = error.node_name() if hasattr(error, "node_name") else f"number {error.node()}"
    where = f"operator {operator} (node {node}): " if operator else ""
    return where + " ".join(error.desc().split())


def attach_timing_cache(config: Any, blob: bytes | None) -> Any:
    """Give the builder the timings of earlier builds. Returns the cache, None if this version has
    none.

    A cache of another version or GPU is ignored with a warning: the build only takes longer.
    """
    if not hasattr(config, "create_timing_cache"):
        return None
    cache = config.create_timing_cache(blob or b"")
    if cache is None or not config.set_timing_cache(cache, False):
        log.warning("the timing cache does not fit this TensorRT or GPU and is started anew")
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def timing_bytes(config: Any, cache: Any) -> bytes | None:
    """The timing cache after a build; None if there is none."""
    if cache is None:
        return None
    kept = config.get_timing_cache() if hasattr(config, "get_timing_cache") else cache
    return bytes((kept or cache).serialize())


def find_cached_plan(folder: Path, key: EngineKey) -> Path | None:
    """The path of the plan with exactly this key, None if it was not built yet."""
    path = folder / f"{key.stem}.plan"
    return path if path.is_file() else None


def remove_plans(folder: Path, digests: set[str]) -> list[str]:
    """Remove the plans of all graphs except `digests` (hex SHA-256 of ONNX files); returns the
    removed names.

    If it is interrupted, the next call removes the rest. Timing caches stay, since they serve every
    graph of the board.
    """
    wanted = {digest[:16] for digest in digests}
    removed = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        named = PLAN_NAME.fullmatch(path.name)
        if named is not None and named[1] not in wanted:
            path.unlink(
                missing_ok=True
            )  # a plan that was being written may have its final name by now
            removed.append(path.name)
    return removed


def cached_plan(
    trt: ModuleType,
    onnx_path: Path,
    folder: Path,
    key: EngineKey,
    workspace_bytes: int = WORKSPACE_BYTES,
) -> Path:
    """The plan of `onnx_path` for this key, from the cache or built now and written atomically.

    Raises: EngineError as build_plan, or if the ONNX file has another digest than the key.
    """
    found = find_cached_plan(folder, key)
    if found is not None:
        return found
    if sha256_of(onnx_path) != key.digest:
        raise EngineError(f"{onnx_path} changed since it was verified: install the bundle again")
    make_folder(folder)
    timing_path = folder / f"{key.timing_stem}.cache"
    built = build_plan(
        trt, onnx_path, workspace_bytes, timing_path.read_bytes() if timing_path.is_file() else None
    )
    if built.timing_cache is not None:
        write_atomically(timing_path, built.timing_cache)
    path = folder / f"{key.stem}.plan"
    write_atomically(path, built.plan)
    log.info(
        "built %s: %d layers, %d bytes, %.1f s",
        path.name,
        built.layers,
        len(built.plan),
        built.seconds,
    )
    return path
