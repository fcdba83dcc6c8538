"""python -m trainer.gpu_check: see scripts/gpu_check.sh and docs/gpu.md."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

from trainer.gpu_check.bench import Bench
from trainer.gpu_check.checks import find_check
from trainer.gpu_check.child import answer_with, execute
from trainer.gpu_check.run import BUDGET_S, check_gpu


def main() -> int:
    """0 unless a check failed, or 1."""
    asked = _parser().parse_args()
    if asked.check:
        logging.basicConfig(level=logging.WARNING)
        bench = Bench(asked.work, asked.device)
        answer_with(execute(find_check(asked.check), bench), asked.answer)
        return 0
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        report = check_gpu(Bench(Path(folder), asked.device), asked.out, asked.seconds)
    return 1 if report.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check.sh",
        description="Check on an NVIDIA GPU what only a GPU can show, and write one JSON file.",
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), metavar="FILE")
    parser.add_argument("--seconds", type=float, default=BUDGET_S, help="for everything")
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu rehearses the checks without a GPU; the file says so and proves nothing",
    )
    for hidden in ("--check", "--work", "--answer"):  # a child's
        kind = str if hidden == "--check" else Path
        parser.add_argument(hidden, type=kind, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
