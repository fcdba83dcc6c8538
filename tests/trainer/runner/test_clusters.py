"""Jobs on Ray and under SLURM, as far as this machine has them.

Of SLURM only submitit's own executor runs here: a queue that is played by processes.
"""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.errors import ConfigError, MissingDependency
from tests.support.campaigns import REPOSITORY, campaign_file, command, environment, results_of
from tests.support.tasks import Heard, python_task
from trainer.runner.factory import make_runner
from trainer.runner.work import LOG

START_S = 180.0  # of a Ray cluster on a busy machine
RUN_S = 900.0
RUNS = """
import sys
from pathlib import Path
from tests.support.tasks import Heard, python_task
from trainer.runner.factory import make_runner
root, heard = Path(sys.argv[2]), Heard()
once = (
    "import pathlib, sys; tried = pathlib.Path('{root}/tried')\\n"
    "if not tried.exists(): tried.touch(); sys.exit('once')"
)
threads = "import os; open('{place}/threads', 'w').write(os.environ['OMP_NUM_THREADS'])"
tasks = [
    python_task(root, "a", threads, threads=2 if "auto" not in sys.argv[1] else 1),
    python_task(root, "b", "import sys; print('seen'); sys.exit('torn')"),
    python_task(root, "c", once),
]
make_runner(sys.argv[1], root).run(tasks, heard)
assert heard.codes() == {"a": 0, "b": 1, "c": 0}, heard.outcomes
assert heard.outcomes["b"].reason == "torn (exit code 1)", heard.outcomes
assert sorted(heard.begun) == ["a", "b", "c"]
"""
with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed here: pip install 'rgbd-inspection[ray]'",
)
with_submitit = pytest.mark.skipif(
    importlib.util.find_spec("submitit") is None,
    reason="submitit is not installed here: pip install 'rgbd-inspection[slurm]'",
)


def run_three_tasks(runner: str, root: Path, **more: str) -> None:
    """One that succeeds, one that fails twice, one that fails once."""
    words = [sys.executable, "-c", RUNS, runner, str(root)]
    known = {**environment(), **more}
    done = subprocess.run(words, env=known, capture_output=True, text=True, timeout=START_S + RUN_S)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed here")
def test_without_ray_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"pip install 'rgbd-inspection\[ray\]'"):
        make_runner("ray://local", tmp_path).run([python_task(tmp_path, "a", "pass")], Heard())


@pytest.mark.skipif(
    importlib.util.find_spec("submitit") is not None, reason="submitit is installed here"
)
def test_without_submitit_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(MissingDependency, match=r"pip install 'rgbd-inspection\[slurm\]'"):
        make_runner("slurm://any", tmp_path).run([python_task(tmp_path, "a", "pass")], Heard())


@with_submitit
def test_without_slurm_it_says_where_to_give_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="there is no sbatch here"):
        make_runner("slurm://gpu", tmp_path).run([python_task(tmp_path, "a", "pass")], Heard())


@pytest.mark.long
@with_submitit
def test_submitits_own_executor_runs_tasks(tmp_path: Path) -> None:
    run_three_tasks("slurm://any?executor=local&jobs=2", tmp_path)
    assert (tmp_path / "a" / "threads").read_text() == "2"


@contextmanager
def two_nodes() -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """(its process, its address, the port of its client server)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, str(REPOSITORY / "tests/support/ray_nodes.py"), str(port)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    cluster = subprocess.Popen(words, env=environment(), text=True, **pipes)
    assert cluster.stdout is not None
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(round(START_S))
    try:
        address = cluster.stdout.readline().strip()
        signal.alarm(0)
        assert address, "Ray did not start"
        yield cluster, address, port
    finally:
        signal.alarm(0)
        cluster.communicate()  # the end of its input ends it


def _too_long(_number: int, _frame: object) -> None:
    pytest.skip(f"Ray did not start within {START_S:.0f} s on this machine")


@pytest.mark.long
@with_ray
def test_tasks_run_on_a_cluster_that_is_started_here(tmp_path: Path) -> None:
    run_three_tasks("ray://local", tmp_path)


@pytest.mark.long
@with_ray
def test_tasks_run_on_the_cluster_that_this_machine_belongs_to(tmp_path: Path) -> None:
    with two_nodes() as (_, address, _):
        run_three_tasks("ray://auto", tmp_path, RAY_ADDRESS=address)


@pytest.mark.long
@with_ray
def test_a_lost_nodes_jobs_run_elsewhere_and_give_the_same_bits(tmp_path: Path) -> None:
    file = campaign_file(tmp_path, ["mats"], seeds=3)
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    subprocess.run(command(file, calm, "local:1"), env=environment(), check=True)
    with two_nodes() as (cluster, _, port):
        assert cluster.stdin is not None
        assert cluster.stdout is not None
        words = command(file, rough, f"ray://127.0.0.1:{port}")
        head = subprocess.Popen(words, env=environment())
        deadline = time.monotonic() + RUN_S
        while len(training(rough)) < 2:  # one on each node
            assert time.monotonic() < deadline
            assert head.poll() is None
            time.sleep(0.1)
        cluster.stdin.write("kill\n")
        cluster.stdin.flush()
        assert cluster.stdout.readline() == "killed\n"
        assert head.wait(RUN_S) == 0
    assert results_of(rough) == results_of(calm)
    starts = [log.read_text().count("$ -m trainer train") for log in rough.rglob(LOG)]
    assert sorted(starts) == [1, 1, 2]


def training(out: Path) -> list[Path]:
    """Logs of jobs that train now."""
    logs = {log: log.read_text() for log in out.glob(f"jobs/*/*.part/{LOG}")}
    return [log for log, text in logs.items() if "trainer train" in text and "evaluate" not in text]
