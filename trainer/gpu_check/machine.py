"""Which machine this is: its GPU, driver and what takes part in the checks."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib import metadata

PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "onnxruntime", "tensorrt", "tensorrt_rtx",
    "torch-tensorrt", "torch-tensorrt-rtx", "pycuda", "cuda-bindings",
)  # fmt: skip
PATIENCE_S = 20


def find_gpu() -> tuple[str, str, str]:
    """(name, driver, why none can be used) of torch's first GPU; two of them are empty."""
    import torch

    try:
        torch.empty(1, device="cuda")
        name = torch.cuda.get_device_name()
    except (RuntimeError, AssertionError) as error:  # no driver, no card; a torch without CUDA
        return "", "", str(error).partition(". ")[0].partition("\n")[0] or "torch gives no reason"
    return name, driver_version(), ""


def driver_version() -> str:
    """By nvidia-smi; empty where it does not say."""
    told = _told(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return told.splitlines()[0].strip() if told else ""


def versions() -> dict[str, str]:
    """Of Python, the packages that are installed, and nvcc."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    release = [line for line in _told(["nvcc", "--version"]).splitlines() if "release" in line]
    return found | ({"nvcc": release[0].strip()} if release else {})


def _told(command: Sequence[str]) -> str:
    """What a program prints; empty where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
