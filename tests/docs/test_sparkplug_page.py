"""docs/sparkplug.md says what a station publishes: metrics, bytes, fields."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge.line.sparkplug import payload, topics_of
from edge.line.sparkplug_host import PrimaryHost
from edge.line.sparkplug_metrics import DEVICE, NODE, Metric
from edge.line.sparkplug_schema import METRIC, METRIC_VALUE, PAYLOAD, Fields
from tests.support.sparkplug import config_with, rebirth

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "sparkplug.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(?:json|text|proto) (\S+)\n(.*?)\n```", PAGE, flags=re.DOTALL))
NOW_MS = 1795366800000


def table(metrics: Sequence[Metric]) -> str:
    rows = [f"| `{one.name}` | {one.alias} | {type_name(one)} |" for one in metrics]
    return "\n".join(("| metric | alias | type |", "|---|---|---|", *rows))


def type_name(metric: Metric) -> str:
    name = "".join(word.capitalize() for word in metric.datatype.name.split("_"))
    return name.replace("Uint", "UInt")


def fields(found: Fields, indent: str, label: str = "optional ") -> list[str]:
    return [
        f"{indent}{'repeated Metric' if kind == 'metric' else label + kind} {name} = {number};"
        for name, number, kind in found
    ]


def schema() -> str:
    inner = fields(METRIC, " " * 4)
    value = ["    oneof value {", *fields(METRIC_VALUE, " " * 6, label=""), "    }"]
    lines = ['syntax = "proto2";', "message Payload {", "  message Metric {", *inner, *value, "  }"]
    return "\n".join([*lines, *fields(PAYLOAD, "  "), "}"])


@pytest.mark.parametrize("metrics", [NODE, DEVICE], ids=["node", "device"])
def test_the_page_has_every_metric(metrics: Sequence[Metric]) -> None:
    assert f"\n{table(metrics)}\n\n" in PAGE


def test_the_examples_are_byte_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.sparkplug.time.time", lambda: NOW_MS / 1e3)
    assert bytes.fromhex(BLOCKS["NDEATH"]) == payload.node_death(0, NOW_MS)
    assert bytes.fromhex(BLOCKS["NCMD"]) == rebirth()
    assert payload.asks_for_rebirth(bytes.fromhex(BLOCKS["NCMD"]))
    host = PrimaryHost("scada")
    host.hear(BLOCKS["state"].encode())
    assert host.is_online


def test_the_fields_are_those_of_the_schema() -> None:
    assert BLOCKS["sparkplug"] == schema()


def test_the_default_names_are_those_of_the_page() -> None:
    topics = topics_of(config_with())
    assert (topics.group, topics.node, topics.device) == ("plant", "line:cell7", "inspection")
    assert "| device id | `device` | `inspection` |" in PAGE
