"""From what the station says to what the nodes show: pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge.opcua.names import (
    COMPLETED,
    COUNTED,
    COUNTERS,
    FAILED,
    LAST,
    MACHINE,
    MODE,
    OF_VERDICT,
    RECIPES,
)
from edge.types import Code

UINT32 = (1 << 32) - 1
Values = Mapping[str, Any]


@dataclass(frozen=True)
class States:
    """Of VisionStateMachine, and of its AutomaticModeStateMachine: empty outside Operational."""

    machine: str
    mode: str = ""


UNKNOWN_YET = States("Preoperational")  # no station was there since this process started
LOST = States("Error")  # it was there and is not any more


def states_of(said: Values, mode: str, open_jobs: int) -> States:
    """said: a `state` line. mode: of [decision]. open_jobs: accepted here and not answered yet."""
    if said["state"] == "offline":
        return States("Halted")
    if not said["ready"]:
        is_paused = said["reason"] in ("paused", "calibrating")
        return States("Operational", "Initialized") if is_paused else States("Error")
    if mode == "free_run":
        return States("Operational", "ContinuousExecution")
    return States("Operational", "SingleExecution" if open_jobs else "Ready")


def state_values(said: Values, states: States) -> dict[str, Any]:
    """The variables that follow from a `state` line."""
    details = said.get("details") or {}
    return {
        "Ready": bool(said["ready"]),
        "Busy": bool(details.get("busy", False)),
        "Heartbeat": int(said["beat"]) & UINT32,
        "State": said["state"],
        "StateReason": said["reason"],
        "DiagnosticLevel": 0,
        "Drift": details.get("drift") or "",
        **machine_values(states),
        f"{RECIPES}/ActiveRecipe": details.get("bundle") or "",
        f"{RECIPES}/ActiveProduct": details.get("product") or "",
        **{
            f"{COUNTERS}/{name}": int(details.get(key) or 0) & UINT32
            for name, key in COUNTED.items()
        },
    }


def machine_values(states: States) -> dict[str, Any]:
    """Both states."""
    return {f"{MACHINE}/CurrentState": states.machine, f"{MODE}/CurrentState": states.mode}


def result_of(fields: Values, meas_id: str) -> dict[str, Any]:
    """One result, flat, from a record; in the order in which it is written. Score and Threshold are
    NaN where there is none.
    """
    seq = int(fields["seq"])
    found = {
        "PartId": fields["part"],
        "N": fields.get("n") or 0,
        "MeasId": meas_id,
        "JobId": str(seq),
        "ResultId": fields["id"],
        "Code": int(fields["code"]),
        "Reason": fields["reason"],
        "Score": _number(fields["score"]),
        "Threshold": _number(fields["thr"]),
        "ProductId": fields["product"],
        "InternalRecipeId": fields["bundle"],
        "CreationTime": moment_of(fields["captured_at"]),
        "Text": f"{fields['code']} {seq} {fields['part']}",
        "Seq": seq & UINT32,
    }
    return {name: found[name] for name in OF_VERDICT}


def last_values(result: Values) -> dict[str, Any]:
    """The variables of LastVerdict."""
    return {f"{LAST}/{name}": value for name, value in result.items()}


def event_of(result: Values) -> dict[str, Any]:
    """The fields of ResultReady."""
    is_judged = result["Code"] in (Code.OK, Code.NG)
    return {
        **result,
        "IsPartial": False,
        "IsSimulated": False,
        "ResultState": COMPLETED if is_judged else FAILED,
        "ExternalRecipeId": result["InternalRecipeId"],
        "ResultContent": result["Text"],
    }


def moment_of(iso: str) -> datetime:
    """The UTC moment in a record; 1970 where there is none."""
    try:
        read = datetime.strptime(iso, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        read = datetime(1970, 1, 1)
    return read.replace(tzinfo=timezone.utc)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
