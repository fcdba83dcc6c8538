"""What only an NVIDIA GPU can show, in one command: `scripts/gpu_check.sh`, docs/gpu.md."""
