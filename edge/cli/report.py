"""`edge report`: signed pages for the quality file, and who signed one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import product_option, root_option
from edge.cli.records import since_option, until_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from edge.report.document import Kind
    from edge.station.store import Store

app = typer.Typer(
    help="Signed reports for the quality file: one HTML file each, to keep and to print.",
    **GROUP,
    epilog=example(
        "edge report commissioning",
        "edge report lot lot-17.html --since 2026-11-29T06:00 --until 2026-11-29T14:00",
        "edge report verify lot-17.html",
    ),
)
ROOT = root_option()
TO_WRITE = typer.Argument(
    None,
    help="File to write; default: a name with station and time, in this folder.",
    readable=False,
    metavar="FILE",
)


@app.command(
    short_help="On what this station's verdicts rest.",
    epilog=example("edge report commissioning", "edge report commissioning washer.html"),
)
def commissioning(
    file: Path | None = TO_WRITE, product: str | None = product_option(), root: Path = ROOT
) -> None:
    """On what the verdicts rest: camera, bundle, certificate, plane, the parts shown on site with
    their pictures, threshold, challenge, latency, and who did what when.

    What was never measured is said to be so.
    """
    from edge.report.reports import commissioning_report
    from edge.station.store import Store

    store = Store(root)
    chosen = product if product is not None else store.active().product
    _require_target(file)
    with store.acting():  # SQLite changes the owner of files beside a database that it reads
        page = commissioning_report(store, chosen)
    _write(store, "commissioning", file, page)


@app.command(
    short_help="What was judged in a time.",
    epilog=example("edge report lot --since 2026-11-29", "edge report lot --since"
                   " 2026-11-29T06:00 --until 2026-11-29T14:00 --product washer"),
)  # fmt: skip
def lot(
    file: Path | None = TO_WRITE,
    since: str | None = since_option(),
    until: str | None = until_option(),
    product: str | None = typer.Option(None, help="Judged as this product.", metavar="PRODUCT"),
    root: Path = ROOT,
) -> None:
    """What was judged in a time: counts, scores, false rejects by what people said, the thresholds
    in force, and the parts that were not OK with their pictures.
    """
    from edge.archive.filters import RecordFilter, parse_moment
    from edge.report.reports import lot_report
    from edge.station.store import Store

    asked = RecordFilter(
        since=None if since is None else parse_moment(since, "--since"),
        until=None if until is None else parse_moment(until, "--until", is_end=True),
        product=product,
    )
    store = Store(root)
    _require_target(file)
    with store.acting():  # SQLite changes the owner of files beside a database that it reads
        page = lot_report(store, asked)
    _write(store, "lot", file, page)


@app.command(
    short_help="Whether a report is as it was signed.",
    epilog=example("edge report verify lot.html", "edge report verify lot.html --key cell7.pub"),
)
def verify(
    file: Path = typer.Argument(..., help="A report.", readable=False, metavar="FILE"),
    key: Path | None = typer.Option(
        None,
        help="Its station's key, as `edge report key` prints it; default: this station's own.",
        readable=False,
        metavar="KEY",
    ),
    root: Path = ROOT,
) -> None:
    """Whether a report is as its station signed it, to the last byte, and who made it when."""
    from edge.report.verify import verify_file

    for line in verify_file(file, key, root):
        print(line)


@app.command("key", short_help="The key of this station.", epilog=example("edge report key"))
def print_key(root: Path = ROOT) -> None:
    """The public key with which this station's reports are verified elsewhere: `edge report key >
    cell7.pub`. It is made if there is none yet.
    """
    from edge.station.station_key import open_signer, public_key_of
    from edge.station.store import Store

    store = Store(root)
    store.active()  # before anything is made under a root that may be mistyped
    print(public_key_of(open_signer(store)).to_json().decode(), end="")


def _require_target(file: Path | None) -> None:
    from edge.files import require_file_target

    if file is not None:
        require_file_target(file)


def _write(store: Store, kind: Kind, file: Path | None, page: bytes) -> None:
    from edge.files import write_atomically
    from edge.report.reports import report_name
    from edge.report.seal import verify_report

    about = verify_report(page).about
    path = file if file is not None else Path(report_name(store.root, kind, about.when))
    write_atomically(path, page)
    print(f"{path}: {about.title}, signed; `edge report verify {path}` finds a changed byte")
