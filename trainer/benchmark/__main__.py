"""`python -m trainer.benchmark JOB OUT`: one job of a benchmark, as a runner starts it."""

import sys
from pathlib import Path

from trainer.benchmark.run import run_job_file

if __name__ == "__main__":
    run_job_file(Path(sys.argv[1]), Path(sys.argv[2]))
