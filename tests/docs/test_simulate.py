"""The pages about the played PLC and Node-RED name the options and topics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer

from edge.cli import app
from edge.simulate.mqtt import LISTENED

DOCS = Path(__file__).resolve().parents[2] / "docs"
FLOW: list[dict[str, Any]] = json.loads((DOCS / "node-red/flow.json").read_text())
PREFIX = "edge/plant/line/cell7/"


def test_every_option_is_on_the_page_and_no_other() -> None:
    command: Any = typer.main.get_command(app)
    options = {
        parameter.opts[0] for parameter in command.commands["simulate"].commands["plc"].params
    }
    named = set(re.findall(r"`(--[a-z-]+)`", (DOCS / "simulate.md").read_text()))
    assert named == options


def test_the_flow_speaks_the_topics_of_a_plc() -> None:
    topics = {node["type"]: set() for node in FLOW if node["type"].startswith("mqtt ")}
    for node in FLOW:
        if node["type"] in topics:
            assert node["topic"].startswith(PREFIX)
            topics[node["type"]].add(node["topic"].removeprefix(PREFIX))
    assert topics == {"mqtt in": set(LISTENED), "mqtt out": {"trigger"}}


def test_the_flow_is_whole() -> None:
    known = {node["id"] for node in FLOW}
    wired = {to for node in FLOW for out in node.get("wires", []) for to in out}
    assert wired < known
    assert len(known) == len(FLOW)
    (plc,) = (node["func"] for node in FLOW if node.get("name") == "PLC")
    for constant in ("DEADLINE_MS = 1000", "NETWORK_MS = 100", "ACK_MS = 100", "SILENT_MS = 3000"):
        assert f"const {constant};" in plc
    assert (DOCS / "node-red/panel.png").stat().st_size < 100_000
