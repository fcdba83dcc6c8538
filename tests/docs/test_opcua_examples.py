"""docs/opcua.md names every node, method, event and error; its examples are what a client gets."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path

from edge.dialect_sections import OpcUaConfig
from edge.line.message import Triggered
from edge.opcua.methods import trigger_of
from edge.opcua.names import ERRORS, EVENTS, METHODS, NAMESPACE, OF_VERDICT, PATH, SYSTEM, VARIABLES
from edge.opcua.shown import event_of, result_of
from edge.opcua.users import PASSWORD_LENGTH
from edge.types import Code, Reason
from tests.docs.test_mqtt_examples import example

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "opcua.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```json (\S+)\n(.*?)\n```", PAGE, flags=re.DOTALL))


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), default=datetime.isoformat)


def test_the_tables_name_every_node_method_event_and_error() -> None:
    rows = re.findall(r"^\| `([^`|]+)` \|\s*([^|]*?)\s*\|", PAGE, flags=re.MULTILINE)
    errors = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert {row: kind for row, kind in rows if row in VARIABLES} == dict(VARIABLES)
    assert [row for row, _ in rows if row.startswith("LastVerdict/")] == [
        f"LastVerdict/{name}" for name in OF_VERDICT
    ]
    assert set(METHODS) | set(EVENTS) <= {row for row, _ in rows}
    assert {reason: int(number) for number, reason in errors} == dict(ERRORS)


def test_the_job_is_that_trigger() -> None:
    given = json.loads(BLOCKS["start-single-job"])
    inputs = METHODS["VisionStateMachine/AutomaticModeStateMachine/StartSingleJob"].inputs
    assert list(given) == [name for name, _ in inputs]
    trigger = trigger_of(given["PartId"], given["MeasId"], given["Parameters"], 2000)
    assert compact(trigger) == BLOCKS["start-single-job-trigger"]


def test_the_event_has_these_fields() -> None:
    fields = example(
        Code.NG, Reason.ANOMALY, 13.25, 48, 4713, part="A17", triggered=Triggered(7, Code.NG)
    )
    event = event_of(result_of(fields, "7"))
    assert compact(event) == BLOCKS["result-ready"]
    assert set(event) == set(EVENTS["ResultReadyEventType"])


def test_addresses_and_bounds_are_those_of_the_code() -> None:
    for text in (
        f"`{NAMESPACE}`",
        f"s={SYSTEM}/LastVerdict/Seq",
        f":{OpcUaConfig().port}{PATH}",
        f"{OpcUaConfig().certificates}/own/",
        "{} to {} characters".format(*PASSWORD_LENGTH),
        f"`publishing_ms`, {OpcUaConfig().publishing_ms} by default",
    ):
        assert text in PAGE, text
