"""Folders have floors: imports run down, never up, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (  # from the ground up; folders of one floor do not import each other
    ("edge",),
    ("edge/frames", "edge/decide", "edge/line"),
    ("edge/camera", "edge/engine", "edge/opcua"),
    ("edge/proof",),
    ("edge/bundle",),
    ("edge/station",),
    ("edge/provision", "edge/archive", "edge/control"),
    ("edge/board",),
    ("edge/install",),
    ("edge/runtime", "edge/simulate"),
    ("edge/api", "edge/report", "edge/update", "edge/backup"),
    ("calibration", "jetson", "edge/doctor"),
    ("edge/page",),
    ("edge/cli",),
    ("trainer",),
    ("trainer/graph", "trainer/runner"),
    ("trainer/layers", "trainer/synthetic", "trainer/quantize"),
    ("trainer/synthetic/meshes", "trainer/data"),
    ("trainer/synthetic/products",),
    ("trainer/systems",),
    ("trainer/systems/common",),
    (
        "trainer/systems/mats",
        "trainer/systems/ntsnet",
        "trainer/systems/aand",
        "trainer/systems/m3dm",
        "trainer/systems/vmpfd",
    ),
    ("trainer/train",),
    ("trainer/evaluate/report",),
    ("trainer/evaluate",),
    ("trainer/export", "trainer/benchmark", "trainer/release"),
    ("trainer/campaign",),
    ("trainer/api",),
    ("trainer/gpu_check",),
    ("trainer/cli",),
)
FLOOR_OF = {folder: number for number, floor in enumerate(FLOORS) for folder in floor}
PACKAGES = ("edge", "calibration", "jetson", "trainer")
Imports = Mapping[str, Set[str]]  # module -> modules of ours that it imports


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


# `__main__` is left out: a command starts at the top whatever folder it lies in.
FILES = {
    module_of(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__main__.py"
}


def folder_of(module: str) -> str:
    """The folder that a module lies in; a package's own `__init__` lies in the package."""
    is_package = FILES[module].name == "__init__.py"
    return (module if is_package else module.rpartition(".")[0]).replace(".", "/")


def imported(source: str) -> Iterator[str]:
    """Modules of ours that a text imports: at the top, inside functions, and for type checkers."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in FILES:
                    yield inner
                elif node.module in FILES:
                    yield node.module


@pytest.fixture(scope="module")
def imports() -> Imports:
    return {name: set(imported(path.read_text("utf-8"))) - {name} for name, path in FILES.items()}


def wrong_arrows(imports: Imports) -> list[str]:
    """Imports that do not run down, as "folder -> folder (module imports module)"."""
    wrong = []
    for module, others in imports.items():
        own = folder_of(module)
        for other in sorted(others):
            target = folder_of(other)
            if target != own and FLOOR_OF[target] >= FLOOR_OF[own]:
                wrong.append(f"{own} -> {target} ({module} imports {other})")
    return wrong


def find_circle(graph: Imports) -> list[str]:
    """The first circle of modules, empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_every_folder_has_its_floor() -> None:
    assert len(FILES) > 200
    assert {folder_of(module) for module in FILES} == set(FLOOR_OF)


def test_imports_run_down(imports: Imports) -> None:
    assert wrong_arrows(imports) == []


def test_no_modules_import_each_other_in_a_circle(imports: Imports) -> None:
    assert find_circle(imports) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("edge.engine.order", "from edge.bundle.manifest import Manifest"),
        ("edge.line.message", "def f():\n    from edge.runtime.service import Service"),
        ("edge.camera.protocol", "from edge.engine.protocol import Engine"),
        ("trainer.layers.height", "from trainer.systems.mats import caa"),
        ("trainer.data.normal", "import trainer.systems.seam"),
    ],
)
def test_a_planted_arrow_is_found(imports: Imports, module: str, line: str) -> None:
    planted = {**imports, module: {*imports[module], *imported(line)}}
    assert len(wrong_arrows(planted)) == len(wrong_arrows(imports)) + 1


def test_a_planted_circle_is_found(imports: Imports) -> None:
    planted = imported("from edge.camera.factory import make_camera")
    graph = {**imports, "edge.camera.protocol": {*imports["edge.camera.protocol"], *planted}}
    assert {"edge.camera.protocol", "edge.camera.factory"} <= set(find_circle(graph))
