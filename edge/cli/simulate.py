"""`edge simulate`: what stands around a station, played against a running one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from edge.cli.options import root_option
from edge.usage import GROUP, example

if TYPE_CHECKING:
    from edge.simulate.link import StationAddress

EXAMPLE = example(
    "edge simulate plc --parts 500 --rate 5",
    "edge simulate plc --host 10.0.0.5 --names plant/line1/cell7 --expect parts.csv",
)
app = typer.Typer(**GROUP, help="Play the plant around a running station.", epilog=EXAMPLE)


@app.command(short_help="A PLC with conveyor, encoder and reject gate.", epilog=EXAMPLE)
def plc(
    root: Path = root_option("; its station.toml says where the station is"),
    dialect: str = typer.Option("mqtt", help="mqtt, modbus or opcua.", metavar="NAME"),
    parts: int | None = typer.Option(
        None, min=1, help="How many; default: 100, or those of --expect.", metavar="N"
    ),
    rate: float = typer.Option(2.0, min=0.01, max=100.0, help="Parts a second.", metavar="HZ"),
    deadline_ms: int = typer.Option(
        1000, min=50, max=600_000, help="Asked of the station.", metavar="MS"
    ),
    network_ms: int = typer.Option(
        100, min=0, help="More than the deadline, for the PLC's own timer.", metavar="MS"
    ),
    ack_ms: int = typer.Option(
        100, min=1, help="A later acknowledgment rejects the part.", metavar="MS"
    ),
    delay_ms: int = typer.Option(
        0, min=0, max=60_000, help="From the sensor to the camera.", metavar="MS"
    ),
    frames: int = typer.Option(1, min=1, max=30, help="Judged together.", metavar="N"),
    gate: int | None = typer.Option(
        None,
        min=1,
        help="Encoder counts from the sensor to the reject gate; default: behind the PLC's timer.",
        metavar="COUNTS",
    ),
    counts_per_s: float = typer.Option(
        1000.0, min=1.0, help="Of the encoder: the speed of the belt.", metavar="HZ"
    ),
    jitter: float = typer.Option(
        0.2, min=0.0, max=0.9, help="Of the distance between two parts.", metavar="SHARE"
    ),
    seed: int = typer.Option(0, help="Of the jitter.", metavar="N"),
    expect: Path | None = typer.Option(
        None, help="CSV part,code: what is right (1 OK, 2 NG).", readable=False, metavar="FILE"
    ),
    host: str | None = typer.Option(
        None, help="Of broker or station, instead of station.toml's.", metavar="NAME"
    ),
    port: int | None = typer.Option(None, min=1, max=65535, help="Its port.", metavar="N"),
    names: str | None = typer.Option(
        None, help="Its three names, instead of station.toml's.", metavar="SITE/LINE/STATION"
    ),
    username: str | None = typer.Option(
        None, help="The PLC's own at the broker, instead of the station's.", metavar="NAME"
    ),
    password_file: Path | None = typer.Option(
        None, help="Its first line is the password.", readable=False, metavar="FILE"
    ),
    wait_s: float = typer.Option(
        30.0, min=0.1, help="For a station that is not ready.", metavar="S"
    ),
    verbose: bool = typer.Option(False, "--verbose", help="A line for each part at the gate."),
    json_file: Path | None = typer.Option(
        None, "--json", help="Write the summary and each part there.", metavar="FILE"
    ),
) -> None:
    """Play a PLC against a station that runs in triggered mode, and print what became of each part.

    The PLC follows the rules of docs/mqtt.md. Exit code 1 if a part was answered twice, for the
    wrong part, or acted on late, if the station was not ready for too long, or if no part got a
    verdict.
    """
    from edge.simulate.conveyor import Belt
    from edge.simulate.plc import Rules
    from edge.simulate.run import Run, simulate

    address = _address(root, host, port, names, username, password_file)
    verdict_ms = deadline_ms + network_ms
    behind = round((verdict_ms + 100) / 1000.0 * counts_per_s)
    run = Run(
        dialect,
        address,
        Rules(deadline_ms, verdict_ms, gate or behind, ack_ms, delay_ms, frames),
        Belt(rate, jitter, counts_per_s),
        parts,
        seed,
        expect,
        wait_s,
    )
    problems = simulate(run, print if verbose else None, json_file, print)
    for problem in problems:
        typer.echo(f"edge: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def _address(
    root: Path, host: str | None, port: int | None, names: str | None, username: str | None,
    password_file: Path | None,
) -> StationAddress:  # fmt: skip
    """The station that the options name: as its station.toml has it, where they say nothing."""
    from edge.simulate.address import address_of

    return address_of(root, host, port, names, username, password_file)
