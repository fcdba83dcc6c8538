"""The nodes of the server by name: what a PLC programmer finds below `VisionSystem`. Pure.

The names are those of OPC 40100-1 (Machine Vision, Part 1), in a namespace of our own: its nodeset
is not used, and docs/opcua.md says what of it is there. A node's id is its path as a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge.sections import StationConfig

NAMESPACE = "urn:rgbd-inspection:opcua"
PATH = "/rgbd-inspection"  # of the endpoint's URL
SYSTEM = "VisionSystem"
MACHINE = "VisionStateMachine"
MODE = f"{MACHINE}/AutomaticModeStateMachine"
RESULTS, RECIPES, LAST, COUNTERS = "ResultManagement", "RecipeManagement", "LastVerdict", "Counters"

# states of both machines, and their numbers here
MACHINE_STATES: Mapping[str, int] = MappingProxyType(
    {"Preoperational": 1, "Halted": 2, "Error": 3, "Operational": 4}
)
MODE_STATES: Mapping[str, int] = MappingProxyType(
    {"Initialized": 1, "Ready": 2, "SingleExecution": 3, "ContinuousExecution": 4}
)

OBJECTS = (MACHINE, MODE, RESULTS, RECIPES, LAST, COUNTERS)
COUNTED: Mapping[str, str] = MappingProxyType(  # name -> key of the station's state
    {
        "Ok": "ok",
        "Ng": "ng",
        "Unknown": "unknown",
        "TriggersAccepted": "triggers_accepted",
        "TriggersRefused": "triggers_refused",
        "TriggersIgnored": "triggers_ignored",
        "VerdictsUnsent": "verdicts_unsent",
        "RecordsWaiting": "records_waiting",
    }
)
OF_VERDICT: Mapping[str, str] = MappingProxyType(  # what one result has, flat
    {
        "PartId": "String",
        "N": "UInt32",
        "MeasId": "String",
        "JobId": "String",
        "ResultId": "String",
        "Code": "Int32",
        "Reason": "String",
        "Score": "Float",
        "Threshold": "Float",
        "ProductId": "String",
        "InternalRecipeId": "String",
        "CreationTime": "DateTime",
        "Text": "String",
        "Seq": "UInt32",  # the last that is written: whoever waits for it finds the others new
    }
)
# the values that a station gives: path below VisionSystem -> type
VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "Ready": "Boolean",
        "Busy": "Boolean",
        "Heartbeat": "UInt32",
        "State": "String",
        "StateReason": "String",
        "DiagnosticLevel": "UInt16",
        "Drift": "String",
        f"{MACHINE}/CurrentState": "LocalizedText",
        f"{MODE}/CurrentState": "LocalizedText",
        f"{RECIPES}/ActiveRecipe": "String",
        f"{RECIPES}/ActiveProduct": "String",
        **{f"{COUNTERS}/{name}": "UInt32" for name in COUNTED},
        **{f"{LAST}/{name}": kind for name, kind in OF_VERDICT.items()},
    }
)


@dataclass(frozen=True)
class Signature:
    """A method's arguments: (name, type). An array's type ends with []."""

    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = (("Error", "Int32"), ("Reason", "String"))


JOB_INPUTS = (
    ("MeasId", "String"),
    ("PartId", "String"),
    ("RecipeId", "String"),
    ("ProductId", "String"),
    ("Parameters", "String[]"),
)
RESULT = (("Error", "Int32"), *OF_VERDICT.items())
METHODS: Mapping[str, Signature] = MappingProxyType(
    {
        f"{MODE}/StartSingleJob": Signature(
            JOB_INPUTS, (("JobId", "String"), ("Error", "Int32"), ("Reason", "String"))
        ),
        f"{MODE}/StartContinuous": Signature(),
        f"{MODE}/Stop": Signature(),
        f"{MACHINE}/SelectModeAutomatic": Signature(),
        f"{MACHINE}/Reset": Signature(),
        f"{RESULTS}/GetLatestResult": Signature((), RESULT),
        f"{RESULTS}/GetResultById": Signature((("ResultId", "String"),), RESULT),
        f"{RECIPES}/PrepareProduct": Signature((("ProductId", "String"),)),
        "Command": Signature(
            (("Do", "String"), ("Product", "String"), ("Number", "Int32"), ("What", "String"))
        ),
    }
)

RESULT_READY, JOB_STARTED, STATE_CHANGED = (
    "ResultReadyEventType",
    "JobStartedEventType",
    "StateChangedEventType",
)
EVENTS: Mapping[str, Mapping[str, str]] = MappingProxyType(  # their own fields
    {
        RESULT_READY: {
            **OF_VERDICT,
            "IsPartial": "Boolean",
            "IsSimulated": "Boolean",
            "ResultState": "Int32",
            "ExternalRecipeId": "String",
            "ResultContent": "String",
        },
        JOB_STARTED: {"JobId": "String", "PartId": "String", "MeasId": "String", "N": "UInt32"},
        STATE_CHANGED: {"FromState": "String", "ToState": "String"},
    }
)

COMPLETED, FAILED = 1, 4  # ResultState: judged, or UNKNOWN

# Error: what a method says beside its Reason. 0: carried out
ERRORS: Mapping[str, int] = MappingProxyType(
    {
        "bad_request": 1,
        "not_ready": 2,
        "busy": 3,
        "storage": 4,
        "no_station": 5,  # `edge run` is not there, or has not answered
        "wrong_product": 6,  # RecipeId or ProductId is not what judges now
        "not_allowed": 7,
        "unknown_product": 8,
        "failed": 9,
        "wrong_mode": 10,  # StartContinuous or Stop with mode = "triggered"
        "no_result": 11,
    }
)


def application_uri(station: StationConfig) -> str:
    """Of a station's server; it stands in the server's certificate, too."""
    return f"urn:rgbd-inspection:{station.site}:{station.line}:{station.station}"


def error_of(reason: str) -> int:
    """The number of a reason; 0 for none, and that of `failed` for one that is not listed."""
    return ERRORS.get(reason, ERRORS["failed"]) if reason else 0
