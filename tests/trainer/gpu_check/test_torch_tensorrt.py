"""torch-tensorrt takes the frozen backbones whole, as one engine: its front end, without a GPU.

Compiled only: the dry run lowers and partitions the graph; no engine is built or run. Without a
driver the library does not even import, so that its questions about the card are answered for it.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import sys, torch
torch.cuda.get_device_capability = lambda *_, **__: (8, 6)
torch.cuda.current_device = lambda: 0
torch.cuda.mem_get_info = lambda *_, **__: (8 << 30, 8 << 30)
torch.cuda.empty_cache = lambda: None
import torch_tensorrt
from trainer.layers import backbone
trunk = backbone.build_trunk(getattr(backbone, sys.argv[1]), None, random=True)
color = torch.rand(1, 3, 256, 256)
program = torch.export.export(trunk, (color,))
torch_tensorrt.dynamo.compile(program, arg_inputs=(color,), dryrun=True, min_block_size=1)
"""


@pytest.mark.long
@pytest.mark.parametrize("spec", ["LITE0_LEVELS", "RESNET18", "WIDE_RESNET50", "B5"])
def test_a_backbone_is_one_engine(spec: str) -> None:
    if importlib.util.find_spec("torch_tensorrt") is None:
        pytest.skip("torch_tensorrt is not installed: pip install '.[tensorrt]'")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, spec],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    assert "operators are supported, 100.0% coverage" in said
    assert "TRT Engine #1" in said
    assert "TRT Engine #2" not in said
