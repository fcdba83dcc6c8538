"""The command: every check has its own process and its time, and the file says what was done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from edge.errors import DataError
from trainer.gpu_check.bench import Bench, CheckFailed, Done, NotExecuted
from trainer.gpu_check.checks import Check, find_check
from trainer.gpu_check.child import execute, in_child
from trainer.gpu_check.report import CheckResult, GpuReport, read_report, write_report
from trainer.gpu_check.run import check_gpu

ROOT = Path(__file__).resolve().parents[3]
CHECK = Check("it", lambda _: Done("was done", {"a_s": 1.0}), limit_s=60, least_s=10)


def script(*words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [ROOT / "scripts/gpu_check.sh", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_without_a_gpu_nothing_is_executed_and_the_exit_code_is_0(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: scripts/gpu_check.sh executes the checks")
    done = script("--out", tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    assert "no NVIDIA GPU can be used" in done.stdout
    assert "nothing executed; written to" in done.stdout
    report = read_report(tmp_path / "gpu.json")
    assert {check.outcome for check in report.checks} == {"not executed"}
    assert report.headline == "nothing executed"
    assert not report.proves
    assert report.versions["torch"].startswith("2.")


def test_a_python_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [ROOT / "scripts/gpu_check.sh"],
        env={**os.environ, "PYTHON": str(tmp_path / "python")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "make install" in done.stderr


def test_a_rehearsed_check_runs_in_a_process_and_proves_nothing(tmp_path: Path) -> None:
    """The real child: it compiles the kernels where nvcc is, and compares the stage."""
    out, checks = tmp_path / "gpu.json", [find_check("stage kernels")]
    report = check_gpu(Bench(tmp_path, "cpu"), out, 600, lambda _: None, checks)
    assert report.checks[0].outcome == ("passed" if shutil.which("nvcc") else "not executed")
    assert report.is_rehearsal
    assert not report.proves


def test_a_check_that_needs_more_time_than_is_left_is_not_begun(tmp_path: Path) -> None:
    begun = []

    def slow(check: Check, bench: Bench, left_s: float) -> CheckResult:
        begun.append(left_s)
        time.sleep(0.2)
        return CheckResult(name=check.name, outcome="failed", said="planted")

    out = tmp_path / "gpu.json"
    checks = [CHECK, CHECK, CHECK]
    report = check_gpu(Bench(tmp_path, "cpu"), out, 10.1, lambda _: None, checks, slow)
    assert [one.outcome for one in report.checks] == ["failed", "not executed", "not executed"]
    assert "no time left" in report.checks[1].said
    assert len(begun) == 1
    assert report.failed == ("it",)
    assert read_report(out) == report


def acts(error: Exception) -> Check:
    def act(_: Bench) -> Done:
        raise error

    return Check("it", act, 60, 10)


@pytest.mark.parametrize(
    ("error", "outcome", "said"),
    [
        (NotExecuted("no nvcc"), "not executed", "no nvcc"),
        (CheckFailed("they differ"), "failed", "they differ"),
        (ZeroDivisionError("by 0"), "failed", "ZeroDivisionError: by 0"),
        (RuntimeError("CUDA error:\n launch failed"), "failed", "RuntimeError: CUDA error: launch"),
    ],
)
def test_whatever_a_check_raises_is_its_result(error: Exception, outcome: str, said: str) -> None:
    result = execute(acts(error), Bench(Path("nowhere"), "cpu"))
    assert result.outcome == outcome
    assert result.said.startswith(said)


def child(program: str, answer: Path, limit_s: float = 60.0, left_s: float = 60.0) -> CheckResult:
    command = [sys.executable, "-c", program]
    return in_child(Check("it", CHECK.act, limit_s, 0), command, answer, left_s)


def test_a_check_that_dies_takes_no_other(tmp_path: Path) -> None:
    died = child("import os; print('out of it', flush=True); os.abort()", tmp_path / "a.json")
    assert (died.outcome, died.said) == ("failed", "it crashed (signal 6): out of it")
    left = child("raise SystemExit(3)", tmp_path / "b.json")
    assert (left.outcome, left.said) == ("failed", "it crashed (exit code 3)")
    half = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('{')"
    command = [sys.executable, "-c", half, str(tmp_path / "c.json")]
    assert in_child(CHECK, command, tmp_path / "c.json", 60).outcome == "failed"


def test_a_check_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time, pathlib\n"
        "one = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(one.pid))\n"
        "time.sleep(600)"
    )
    hung = child(program, tmp_path / "a.json", limit_s=5)
    assert (hung.outcome, hung.said) == ("failed", "it did not end within 5 s")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)
    short = child(program, tmp_path / "b.json", limit_s=60, left_s=0.5)
    assert short.outcome == "not executed", "the whole time was over, which is no fault of it"
    assert "no time left" in short.said


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def report_of(outcome: str, gpu: str = "NVIDIA H200", is_rehearsal: bool = False) -> GpuReport:
    check = CheckResult.model_validate({"name": "it", "outcome": outcome, "said": ""})
    return GpuReport(
        is_rehearsal=is_rehearsal, machine="", gpu=gpu, driver="", versions={}, began="",
        budget_s=1, checks=(check,),
    )  # fmt: skip


def test_only_what_passed_on_a_gpu_proves_anything() -> None:
    assert report_of("passed").proves == {"it"}
    assert report_of("passed", is_rehearsal=True).proves == frozenset()
    assert report_of("passed", gpu="").proves == frozenset()
    assert report_of("failed").proves == report_of("not executed").proves == frozenset()


def test_a_report_that_was_touched_up_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    write_report(path, report_of("failed"))
    assert read_report(path).failed == ("it",)
    path.write_text(path.read_text().replace('"failed"', '"passed"'))
    with pytest.raises(DataError, match="was changed"):
        read_report(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="is no report"):
        read_report(path)


@pytest.mark.long
def test_the_whole_rehearsal_passes(tmp_path: Path) -> None:
    """All five systems are trained twice at their own sizes; minutes on two cores."""
    done = script("--device", "cpu", "--seconds", "7200", "--out", tmp_path / "gpu.json")
    report = read_report(tmp_path / "gpu.json")
    assert report.failed == (), done.stdout
    executed = [check.name for check in report.checks if check.outcome == "passed"]
    assert len([name for name in executed if name.startswith("train ")]) == 5, done.stdout
