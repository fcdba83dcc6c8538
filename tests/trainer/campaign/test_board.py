"""The page of a campaign: what a product is called stays text, and what failed can be read."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from tests.support.tasks import python_task
from trainer.campaign.board import Board
from trainer.campaign.plan import Job
from trainer.runner.protocol import Outcome, Used

NAMES = ("<script>alert(1)</script>", "say \"hi\" & 'bye'", "x" * 120)
USED = Used(seconds=60, cpu_s=50, peak_mb=900, read_mb=1, written_mb=1)


class Seen(HTMLParser):
    """Tags, their attributes, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def board_of(out: Path, told: list[str]) -> tuple[Board, list[Job]]:
    jobs = [
        Job(
            name, "mats", 0, python_task(out, f"{number}", "pass").model_copy(update={"name": name})
        )
        for number, name in enumerate(NAMES)
    ]
    return Board(jobs, out, "trainer campaign '<b>.toml' --out x", told.append), jobs


def finish(job: Job, board: Board, rows: list[dict[str, float | None]]) -> None:
    (job.landing / "run").mkdir(parents=True)
    (job.landing / "run/evaluate.json").write_text(json.dumps({"rows": rows}))
    board.finished(job.task, Outcome(code=0, used=(USED,), machine="node7"))


def test_names_stay_text_and_run_nothing(tmp_path: Path) -> None:
    board, jobs = board_of(tmp_path, [])
    finish(jobs[0], board, [])
    torn = Outcome(code=1, reason="<i>torn</i>", tail=("$ python -m <x>", "torn"), used=(USED,))
    board.finished(jobs[1].task, torn)
    board.write(ended=True)
    seen = Seen()
    seen.feed((tmp_path / "campaign.html").read_text())
    assert not {"script", "i", "b"} & {tag for tag, _ in seen.tags}
    policies = [given["content"] for tag, given in seen.tags if "Security" in str(given)]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    assert all(text in "".join(seen.texts) for text in (*NAMES, "<i>torn</i>", "$ python -m <x>"))


def test_what_failed_stays_open_when_the_page_renews_itself(tmp_path: Path) -> None:
    board, jobs = board_of(tmp_path, [])
    board.finished(jobs[0].task, Outcome(code=1, reason="torn", tail=("torn",), used=(USED,)))
    seen = Seen()
    seen.feed((tmp_path / "campaign.html").read_text())
    assert ("details", {"open": None}) in seen.tags
    assert any(given.get("http-equiv") == "refresh" for _, given in seen.tags)


def test_long_names_wrap(tmp_path: Path) -> None:
    """Else they push every result out of the window."""
    board, _ = board_of(tmp_path, [])
    board.write()
    page = (tmp_path / "campaign.html").read_text()
    assert page.count(f'<td class="name">{NAMES[2]}</td>') == 2  # of the table and of the jobs


def test_the_terminal_names_the_metrics_and_a_product_without_defects_has_none(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    board, jobs = board_of(tmp_path, told)
    finish(jobs[0], board, [{"image_auroc": 0.5, "pixel_auroc": None, "aupro_30": 0.25}])
    finish(jobs[1], board, [])
    assert told[0].endswith(": I-AUROC / P-AUROC / AUPRO 50.0 / - / 25.0, 60 s")
    assert told[1].endswith(
        ": trained and evaluated, there are no defective parts to compare, 60 s"
    )
