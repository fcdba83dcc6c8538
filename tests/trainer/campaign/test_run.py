"""A campaign goes on from what has landed, whatever was killed; two heads never share a folder."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edge.errors import BusyError, DataError
from tests.support.campaigns import campaign_file, command, environment, results_of
from tests.support.patience import HANG_S
from tests.support.tasks import python_task
from trainer.campaign.plan import Job
from trainer.campaign.run import run_campaign
from trainer.runner.head import LOCK, SIGN, only_head
from trainer.runner.local import LocalRunner
from trainer.runner.memory import Memory
from trainer.runner.work import DONE

REPOSITORY = Path(__file__).resolve().parents[3]
HEADS = 4  # that are killed
SUMMARY = (
    "import json, pathlib; run = pathlib.Path('{place}/run'); run.mkdir(exist_ok=True)\n"
    "rows = [{'image_auroc': 0.5, 'pixel_auroc': 0.25, 'aupro_30': None}]\n"
    "(run / 'evaluate.json').write_text(json.dumps({'rows': rows}))\n"
    "with open('{root}/log', 'a') as log: log.write('{name} ')\n"
)


def jobs_of(root: Path, *names: str, script: str = SUMMARY) -> list[Job]:
    """Jobs that take no time: a product for each name."""
    (root / "jobs").mkdir(exist_ok=True, parents=True)
    made = []
    for name in names:
        task = python_task(root / "jobs", name, script.replace("{root}", str(root)), memory_mb=1)
        made.append(Job(name, "mats", 0, task))
    return made


def run(jobs: Sequence[Job], root: Path, told: list[str]) -> None:
    run_campaign(jobs, root, LocalRunner(2, Memory()), "trainer campaign x", told.append)


def test_what_has_landed_is_not_done_again_and_a_failure_is(tmp_path: Path) -> None:
    torn = "import sys; sys.exit('0.png <is> torn')"
    jobs = [*jobs_of(tmp_path, "one"), *jobs_of(tmp_path, "two", script=torn)]
    told: list[str] = []
    with pytest.raises(DataError, match="1 of 2 jobs failed, the first is two"):
        run(jobs, tmp_path, told)
    page = (tmp_path / "campaign.html").read_text()
    HTMLParser().feed(page)
    assert "50.0 / 25.0 / -" in page
    assert "0.png &lt;is&gt; torn" in page
    assert "refresh" not in page
    assert any("0.png <is> torn" in line for line in told)
    again = [*jobs_of(tmp_path, "one"), *jobs_of(tmp_path, "two", "three")]
    run(again, tmp_path, told)
    assert sorted((tmp_path / "log").read_text().split()) == ["one", "three", "two"]
    assert json.loads((tmp_path / "campaign.json").read_text())["counts"]["done"] == 3


def test_the_page_renews_itself_while_jobs_run(tmp_path: Path) -> None:
    script = SUMMARY + f"text = pathlib.Path('{tmp_path}/campaign.html').read_text()\n"
    script += f"pathlib.Path('{tmp_path}/seen').write_text(text)"
    run(jobs_of(tmp_path, "one", script=script), tmp_path, [])
    seen = (tmp_path / "seen").read_text()
    assert '<meta http-equiv="refresh"' in seen
    assert "0 done" in seen


def test_the_page_shows_a_job_that_runs_while_nothing_else_happens(tmp_path: Path) -> None:
    """Though it began right after the page was written."""
    seen = tmp_path / "seen"
    script = SUMMARY + (
        "import time\n"
        f"page, end = pathlib.Path('{tmp_path}/campaign.html'), time.monotonic() + {HANG_S}\n"
        "while '1 handed over' not in page.read_text() and time.monotonic() < end:\n"
        "    time.sleep(0.05)\n"
        f"pathlib.Path('{seen}').write_text(page.read_text())"
    )
    run(jobs_of(tmp_path, "one", script=script), tmp_path, [])
    assert "1 handed over" in seen.read_text()
    assert 'href="jobs/one.part/task.log"' in seen.read_text()


def test_the_page_opens_reports_of_what_is_done_and_logs_of_what_failed(tmp_path: Path) -> None:
    torn = jobs_of(tmp_path, "two", script="import sys; sys.exit('no')")
    with pytest.raises(DataError):
        run([*jobs_of(tmp_path, "50% new"), *torn], tmp_path, [])
    page = (tmp_path / "campaign.html").read_text()
    assert re.findall(r'href="([^"]*)"', page) == [
        "jobs/50%25%20new/run/report.html",
        "jobs/two.part/task.log",
    ]
    assert (tmp_path / "jobs/two.part/task.log").is_file()


def test_a_page_that_cannot_be_written_ends_no_job(tmp_path: Path) -> None:
    """As on a disk that is full for a moment."""
    blocked = SUMMARY + (
        f"page = pathlib.Path('{tmp_path}/campaign.html')\n"
        "while not page.is_dir():\n"  # the head may write it again at any moment
        "    page.unlink(missing_ok=True)\n"
        "    try: page.mkdir()\n"
        "    except FileExistsError: pass\n"
        "(page / 'x').touch()"
    )
    told: list[str] = []
    run(jobs_of(tmp_path, "one", "two", script=blocked), tmp_path, told)
    assert sorted((tmp_path / "log").read_text().split()) == ["one", "two"]
    said = [line for line in told if "the page is out of date" in line]
    assert len(said) == 1
    assert "campaign.html" in said[0]


STOPPED_HEAD = """
import sys
from pathlib import Path
from tests.support.tasks import python_task
from trainer.campaign.plan import Job
from trainer.campaign.run import run_campaign
from trainer.runner.local import LocalRunner
root, epoch_s = Path(sys.argv[1]), sys.argv[2]
ends = f'''
import pathlib, signal, sys, time
asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
pathlib.Path('{{root}}/here').touch()
while not asked: time.sleep(0.01)
time.sleep({epoch_s}); pathlib.Path('{{root}}/in_peace').touch(); sys.exit(130)
'''
jobs = [Job(n, "mats", 0, python_task(root / "jobs", n, ends, memory_mb=1)) for n in "ab"]
run_campaign(jobs, root, LocalRunner(1), "x", lambda line: print(line, flush=True))
"""


@pytest.mark.parametrize(("times", "epoch_s"), [(1, 0.2), (2, 600)])
def test_ctrl_c_says_what_happens_and_the_page_that_nothing_runs(
    tmp_path: Path, times: int, epoch_s: float
) -> None:
    """Once: every job ends in its own way, which can take an epoch; twice: at once."""
    (tmp_path / "jobs").mkdir()
    words = [sys.executable, "-c", STOPPED_HEAD, str(tmp_path), str(epoch_s)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        words, env=environment(), text=True, stdout=subprocess.PIPE, stderr=quiet
    ) as head:
        assert head.stdout is not None
        assert head.stdout.readline().startswith("0 of 2 jobs are done, 2 are left; open")
        wait_until((tmp_path / "jobs/here").exists)
        head.send_signal(signal.SIGINT)
        assert "stopping: 1 running" in head.stdout.readline()
        if times > 1:
            head.send_signal(signal.SIGINT)
        rest, _ = head.communicate(timeout=HANG_S)
    assert rest.splitlines()[-1] == "stopped: the same command goes on from here"
    assert head.returncode == -signal.SIGINT
    assert (tmp_path / "jobs/in_peace").exists() == (times == 1)
    wait_until(lambda: not workers_of(tmp_path))
    states = [job["state"] for job in json.loads((tmp_path / "campaign.json").read_text())["jobs"]]
    assert states == ["not finished", "waiting"]
    assert "refresh" not in (tmp_path / "campaign.html").read_text()


HEAD = "import sys, time; from pathlib import Path; from trainer.runner.head import only_head\n"


def test_a_second_head_is_refused_and_a_killed_one_leaves_no_lock(tmp_path: Path) -> None:
    text = HEAD + (
        f"with only_head(Path({str(tmp_path)!r}), 'a head'):\n"
        "    print('here', flush=True); time.sleep(600)"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", text], stdout=subprocess.PIPE, env=environment()
    )
    assert first.stdout is not None
    assert first.stdout.readline() == b"here\n"
    try:
        with (
            pytest.raises(BusyError, match=f"{LOCK} is held by process {first.pid}"),
            only_head(tmp_path, "trainer campaign"),
        ):
            pytest.fail("two heads")
    finally:
        first.kill()
        first.communicate()
    with only_head(tmp_path, "trainer campaign"):
        pass


def test_a_head_on_another_machine_is_refused_while_it_lives(tmp_path: Path) -> None:
    """Whose lock this machine does not see: the file system does not pass it on."""
    sign = tmp_path / SIGN
    text = (
        "import json, pathlib, time\n"
        "for beat in range(100000):\n"
        f"    pathlib.Path({str(sign)!r}).write_text(json.dumps("
        "{'machine': 'node7 boot', 'process': 7, 'beat': beat}))\n"
        "    beat or print('here', flush=True)\n"
        "    time.sleep(0.05)"
    )
    other = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    try:
        with (
            pytest.raises(BusyError, match="process 7 on node7: wait until"),
            only_head(tmp_path, "trainer campaign", lease_s=HANG_S),
        ):
            pytest.fail("two heads")
    finally:
        other.kill()
        other.communicate()
    with only_head(tmp_path, "trainer campaign", lease_s=0.3):  # its sign no longer changes
        pass


@pytest.mark.long
def test_the_results_are_the_same_whatever_runs_beside(tmp_path: Path) -> None:
    file = campaign_file(tmp_path, ["mats"], seeds=2)
    found = []
    for runner in ("local:1", "local:2"):
        out = tmp_path / runner.replace(":", "")
        done = subprocess.run(
            command(file, out, runner), env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found.append(results_of(out))
    assert len(found[0]) == 2
    assert found[0] == found[1]


@pytest.mark.long
def test_kills_of_heads_and_workers_lose_nothing_that_was_finished(tmp_path: Path) -> None:
    """SIGKILL at random moments, then one command in peace: the same bits as undisturbed."""
    generator = random.Random(19)
    file = campaign_file(tmp_path, ["mats"], seeds=3)
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    subprocess.run(command(file, calm, "local:2"), env=environment(), check=True)
    landed: dict[Path, bytes] = {}
    for _ in range(HEADS):
        head = subprocess.Popen(command(file, rough, "local:2"), env=environment())
        wait_until(lambda head=head: workers_of(rough) or head.poll() is not None)
        time.sleep(generator.uniform(0, 10))
        if workers := workers_of(rough):
            with suppress(ProcessLookupError):
                os.kill(generator.choice(workers), signal.SIGKILL)
        time.sleep(generator.uniform(0, 20))
        head.kill()
        head.wait()
        wait_until(lambda: not workers_of(rough))
        for marker in landed_in(rough):
            assert landed.setdefault(marker, marker.read_bytes()) == marker.read_bytes()
    subprocess.run(command(file, rough, "local:2"), env=environment(), check=True)
    assert all(marker.read_bytes() == content for marker, content in landed.items())
    assert not list(rough.glob("jobs/*/*.part"))
    assert len(landed_in(rough)) == 3
    assert results_of(rough) == results_of(calm)


def landed_in(out: Path) -> list[Path]:
    """Done-markers of folders that have their final name."""
    markers = out.glob(f"jobs/*/*/{DONE}")
    return [marker for marker in markers if marker.parent.suffix != ".part"]


def workers_of(out: Path) -> list[int]:
    """Processes that work on jobs of this campaign, and their commands."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if re.search(rf"{out}/jobs/", words):
            found.append(int(folder.name))
    return found


def wait_until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
