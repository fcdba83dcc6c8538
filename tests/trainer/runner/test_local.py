"""Jobs in processes: attempts, memory, cards, and what is left when somebody is killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.errors import ConfigError
from tests.support.patience import HANG_S
from tests.support.tasks import Heard, python_task
from trainer.runner.local import LocalRunner
from trainer.runner.memory import Memory, free_mb, taken_mb
from trainer.runner.protocol import Task
from trainer.runner.work import DONE, LOG

REPOSITORY = Path(__file__).resolve().parents[3]
SPAN = "import time; began = time.time(); {}; open('{}', 'w').write(f'{{began}} {{time.time()}}')"


def run(tasks: Sequence[Task], slots: int = 2, available_mb: float = 1e6) -> Heard:
    heard = Heard()
    LocalRunner(slots, Memory(lambda: available_mb)).run(tasks, heard)
    return heard


def spans(folder: Path) -> list[tuple[float, float]]:
    return sorted(
        (float(began), float(ended))
        for began, ended in (path.read_text().split() for path in folder.glob("*.span"))
    )


def overlaps(folder: Path) -> bool:
    found = spans(folder)
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(found))


def test_a_task_lands_with_its_files_and_a_marker(tmp_path: Path) -> None:
    task = python_task(tmp_path, "one", "open('{place}/out', 'w').write('x')", "print('second')")
    heard = run([task])
    landed = tmp_path / "one"
    assert heard.codes() == {"one": 0}
    assert (landed / "out").read_text() == "x"
    assert "second" in (landed / LOG).read_text()
    marker = json.loads((landed / DONE).read_text())
    assert marker["identity"] == "id of one"
    assert len(marker["used"]) == 2
    assert marker["used"][0]["peak_mb"] > 1
    assert marker["used"][0]["cpu_s"] > 0
    assert not task.place.exists()


def test_a_task_that_dies_is_tried_once_more_and_its_finished_steps_are_not(tmp_path: Path) -> None:
    count = "open('{place}/first', 'a').write('x')"
    once = (
        "import os, pathlib, signal; here = pathlib.Path('{place}/tried'); "
        "here.exists() or (here.touch(), os.kill(os.getpid(), signal.SIGKILL))"
    )
    heard = run([python_task(tmp_path, "one", count, once)])
    assert heard.codes() == {"one": 0}
    assert (tmp_path / "one" / "first").read_text() == "x"


def test_a_task_that_fails_twice_is_told_with_the_tail_of_its_log(tmp_path: Path) -> None:
    script = "import sys; open('{place}/tries', 'a').write('x'); print('before'); sys.exit('torn')"
    heard = run([python_task(tmp_path, "bad", script), python_task(tmp_path, "good", "pass")])
    assert heard.codes() == {"bad": 1, "good": 0}
    assert heard.outcomes["bad"].reason == "torn (exit code 1)"
    first, *rest = heard.outcomes["bad"].tail
    assert first.startswith("$ python -c ")
    assert rest == ["before", "torn"]  # of the second attempt alone
    assert (tmp_path / "bad.part" / "tries").read_text() == "xx"
    assert not (tmp_path / "bad").exists()


def test_memory_lets_fewer_run_than_slots(tmp_path: Path) -> None:
    script = SPAN.format("time.sleep(0.4)", f"{tmp_path}/{{name}}.span")
    tasks = [python_task(tmp_path, name, script, memory_mb=600) for name in "abc"]
    run(tasks, slots=3, available_mb=1000)
    assert len(spans(tmp_path)) == 3
    assert not overlaps(tmp_path)


def test_what_fits_runs_at_once(tmp_path: Path) -> None:
    """The second waits for the first, so that they can only both end if both run."""
    meet = (
        "import pathlib, time; pathlib.Path('{root}/{name}.here').touch()\n"
        "while len(list(pathlib.Path('{root}').glob('*.here'))) < 2: time.sleep(0.01)"
    )
    heard = run([python_task(tmp_path, name, meet, memory_mb=400) for name in "ab"])
    assert heard.codes() == {"a": 0, "b": 0}


def test_the_first_of_a_kind_is_measured_before_a_second_starts(tmp_path: Path) -> None:
    """Each takes some 200 MB; nobody said so, and two do not fit."""
    held = "held = bytearray(200 << 20); time.sleep(0.4)"
    script = SPAN.format(held, f"{tmp_path}/{{name}}.span")
    memory = Memory(lambda: 350.0)
    LocalRunner(3, memory).run([python_task(tmp_path, name, script) for name in "abc"], Heard())
    assert not overlaps(tmp_path)
    expected = memory.expected_mb(python_task(tmp_path, "d", "pass"))
    assert expected is not None
    assert 200 < expected < 320


def test_a_task_that_is_killed_runs_alone_the_second_time(tmp_path: Path) -> None:
    """The first of the others still runs when it dies, and more wait."""
    dies = (
        "import os, pathlib, signal; tried = pathlib.Path('{root}/tried')\n"
        "if not tried.exists(): tried.touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    waits = (
        "import pathlib, time\n"
        "while not pathlib.Path('{root}/tried').exists(): time.sleep(0.01)\n"
        "time.sleep(1)"
    )
    tasks = [python_task(tmp_path, "a", dies)]
    tasks += [python_task(tmp_path, name, waits, kind="calm", memory_mb=1) for name in "bc"]
    heard = run(tasks, slots=2)
    assert heard.codes() == {"a": 0, "b": 0, "c": 0}
    assert heard.begun.count("a") == 2
    assert heard.beside["a"] == set()


def test_each_task_sees_one_card_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    script = SPAN.format("time.sleep(0.2)", f"{tmp_path}/{{name}}.span") + (
        "; import os; open('{place}/card', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])"
    )
    heard = run(
        [python_task(tmp_path, name, script, gpus=1, memory_mb=1) for name in "abcd"], slots=8
    )
    assert set(heard.codes().values()) == {0}
    cards = {name: (tmp_path / name / "card").read_text() for name in "abcd"}
    assert set(cards.values()) <= {"4", "6"}
    for card in ("4", "6"):
        own = sorted(
            tuple(map(float, (tmp_path / f"{name}.span").read_text().split()))
            for name, seen in cards.items()
            if seen == card
        )
        assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(own))


def test_cards_that_are_not_there_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ConfigError, match="no graphics card"):
        run([python_task(tmp_path, "a", "pass", gpus=1)])


def test_threads_do_not_depend_on_the_slots(tmp_path: Path) -> None:
    script = "import os; open('{place}/threads', 'w').write(os.environ['OMP_NUM_THREADS'])"
    for slots in (1, 2):
        name = f"of-{slots}"
        run([python_task(tmp_path, name, script, threads=3)], slots)
        assert (tmp_path / name / "threads").read_text() == "3"


def test_what_is_measured_here_is_plausible() -> None:
    assert 10 < free_mb() < 1e8
    assert 5 < taken_mb(os.getpid()) < 1e5


HEAD = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from tests.support.tasks import Heard, python_task
from trainer.runner.local import LocalRunner
root = Path({root!r})
wait = (
    "import os, pathlib, time; "
    "pathlib.Path('{{root}}/{{name}}.pid').write_text(str(os.getpid())); time.sleep(600)"
)
LocalRunner(2).run([python_task(root, name, wait, memory_mb=1) for name in "ab"], Heard())
"""


def started_head(root: Path) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A head with two tasks that sleep, and their processes."""
    text = HEAD.format(repository=str(REPOSITORY), root=str(root))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    head = subprocess.Popen([sys.executable, "-c", text], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + HANG_S
    while True:
        pids = [path.read_text() for path in root.glob("*.pid")]
        if len(pids) == 2 and all(pids):
            return head, [int(pid) for pid in pids]
        assert time.monotonic() < deadline
        assert head.poll() is None, head.stderr and head.stderr.read()
        time.sleep(0.02)


def wait_until_gone(pids: Sequence[int]) -> None:
    deadline = time.monotonic() + HANG_S
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_runs_on_when_the_head_ends(tmp_path: Path, number: int) -> None:
    head, pids = started_head(tmp_path)
    head.send_signal(number)
    head.communicate(timeout=HANG_S)
    wait_until_gone(pids)
    assert head.returncode != 0


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Not the command is killed here, but the process above it, which would tell of it."""
    script = (
        "import os, pathlib, time; tried = pathlib.Path('{root}/tried')\n"
        "if not tried.exists(): tried.write_text(str(os.getppid())); time.sleep(600)"
    )

    def kill() -> None:
        tried = tmp_path / "tried"
        while not (tried.exists() and tried.read_text()):
            time.sleep(0.02)
        os.kill(int(tried.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    heard = run([python_task(tmp_path, "one", script)])
    killer.join()
    assert heard.codes() == {"one": 0}
