"""Imports: trainer -> jetson, calibration -> edge, heavy libraries only where they are used, and a
command line that answers at once.
"""

from __future__ import annotations

import ast
import importlib.util
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.patience import patience_s

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("edge", "calibration", "jetson", "trainer")  # each may import itself and those before it
OUTERMOST = ("edge/cli/", "edge/page/")  # these alone may call the next two, inside a function
DEVICES = ("tensorrt", "tensorrt_rtx", "pycuda", "pyrealsense2")
ABSENT = {
    "edge": [*DEVICES, "google.protobuf", "torch", "onnxruntime", "onnx", "timm", "trainer"],
    "calibration": [*DEVICES, "torch", "onnxruntime", "onnx", "timm", "trainer"],
    "jetson": [*DEVICES, "torch", "onnxruntime", "onnx", "timm", "trainer", "calibration"],
    "trainer": [*DEVICES],
}
IMPORT_ALL = """
import sys
sys.modules.update(dict.fromkeys({absent}))          # None: importing it fails
import importlib, pkgutil, {package} as root
for module in pkgutil.walk_packages(root.__path__, root.__name__ + "."):
    module.name.endswith("__main__") or importlib.import_module(module.name)
"""


def python(script: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", script]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=patience_s(20))


@pytest.mark.parametrize("package", LAYERS)
def test_every_module_imports_without(package: str) -> None:
    if package == "trainer" and importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed here: a station's environment has no trainer")
    done = python(IMPORT_ALL.format(absent=ABSENT[package], package=package))
    assert done.returncode == 0, done.stderr


def imports_of(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """(package, whether the import is inside a function); imports for type checkers alone are left
    out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], inside
        elif not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield from imports_of(
                node, inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            )


def wrong_imports(path: str, source: str) -> list[str]:
    """What a module must not import, given where it lies."""
    own = LAYERS.index(path.partition("/")[0])
    wrong = []
    for package, inside in imports_of(ast.parse(source)):
        upwards = package in LAYERS and LAYERS.index(package) > own
        allowed = package in ("calibration", "jetson") and inside and path.startswith(OUTERMOST)
        if (upwards and not allowed) or (
            package == "torch" and path.startswith(("edge/", "calibration/", "jetson/"))
        ):
            wrong.append(f"{path} imports {package}")
    return wrong


def test_imports_go_downwards_only() -> None:
    files = [path for layer in LAYERS for path in (ROOT / layer).rglob("*.py")]
    assert len(files) > 50
    assert [
        line
        for path in files
        for line in wrong_imports(path.relative_to(ROOT).as_posix(), path.read_text())
    ] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("edge/runtime/service.py", "def f():\n    from calibration.plane import fit_plane"),
        ("edge/cli/calibrate.py", "from calibration.plane import fit_plane"),
        ("edge/cli/calibrate.py", "def f():\n    import trainer.train.trained_run"),
        ("calibration/plane.py", "import trainer"),
        ("edge/engine/protocol.py", "def f():\n    import torch"),
        ("calibration/plane.py", "try:\n    from torch import nn\nexcept ImportError:\n    pass"),
    ],
)
def test_a_planted_import_is_found(path: str, source: str) -> None:
    assert len(wrong_imports(path, source)) == 1


def test_calibration_may_be_called_from_the_command_line() -> None:
    assert (
        wrong_imports(
            "edge/cli/calibrate.py", "def f():\n    from calibration.plane import fit_plane"
        )
        == []
    )


def test_edge_help_answers_in_under_0_3_s() -> None:
    """The least processor time of three runs, so that other processes do not matter."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "edge", "--help"], cwd=ROOT, capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


def test_edge_takes_under_150_mb_before_a_model_is_loaded() -> None:
    done = python(
        "import edge.runtime.run, edge.camera.realsense, edge.line.mqtt\n"
        "import pathlib, re\n"  # not getrusage: its peak includes the process that was forked
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 150e6


def test_import_edge_loads_neither_torch_nor_a_camera_library() -> None:
    heavy = {"torch", "cv2", "numpy", "pyrealsense2"}
    done = python(f"import sys, edge, edge.cli; print(sorted({heavy} & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
