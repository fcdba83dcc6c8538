#!/usr/bin/env bash
# Check on an NVIDIA GPU what only a GPU can show, in at most 8 minutes, and write gpu_check.json:
# docs/gpu.md. Without a GPU nothing is executed, and the exit code is 0; 1 if a check failed.
# PYTHON names another Python than the one of `make install`.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
command -v "$python" >/dev/null || { echo "$python is not there: run \`make install\`, or name a Python that has the trainer with PYTHON=" >&2; exit 2; }
PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m trainer.gpu_check "$@"
