"""The metrics of a station in Sparkplug B: names, aliases and types, fixed once and for all.

The edge node has the state of the station, the device the newest record. A name is the key of the
same value in the MQTT messages (docs/mqtt.md), an alias is never given to another metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edge.line.message import StationState
from edge.line.sparkplug_schema import DataType

BDSEQ, REBIRTH = "bdSeq", "Node Control/Rebirth"
BOUNDS = {
    DataType.UINT8: (1 << 8) - 1,
    DataType.UINT16: (1 << 16) - 1,
    DataType.UINT64: (1 << 64) - 1,
    DataType.DATE_TIME: (1 << 63) - 1,
}
Value = int | float | bool | str | None


@dataclass(frozen=True)
class Metric:
    """One metric. alias: None for the two that the specification names."""

    name: str
    alias: int | None
    datatype: DataType

    def value(self, found: Any) -> Value:
        """The value as this type can carry it; None, Sparkplug's null, where it cannot."""
        if self.datatype is DataType.STRING:
            return found if isinstance(found, str) else None
        if self.datatype is DataType.BOOLEAN:
            return found if isinstance(found, bool) else None
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            return None
        if self.datatype in (DataType.FLOAT, DataType.DOUBLE):
            return float(found)
        fits = isinstance(found, int) and 0 <= found <= BOUNDS[self.datatype]
        return found if fits else None


BDSEQ_METRIC = Metric(BDSEQ, None, DataType.INT64)
REBIRTH_METRIC = Metric(REBIRTH, None, DataType.BOOLEAN)

_BOOLEAN, _STRING, _COUNT = DataType.BOOLEAN, DataType.STRING, DataType.UINT64
_FLOAT, _DOUBLE, _TIME = DataType.FLOAT, DataType.DOUBLE, DataType.DATE_TIME

NODE = (
    Metric("Properties/Site", 1, _STRING),
    Metric("Properties/Line", 2, _STRING),
    Metric("Properties/Station", 3, _STRING),
    Metric("state", 4, _STRING),
    Metric("reason", 5, _STRING),
    Metric("ready", 6, _BOOLEAN),
    Metric("busy", 7, _BOOLEAN),
    Metric("link", 8, _STRING),
    Metric("product", 9, _STRING),
    Metric("bundle", 10, _STRING),
    Metric("engine", 11, _STRING),
    Metric("precision", 12, _STRING),
    Metric("ok", 13, _COUNT),
    Metric("ng", 14, _COUNT),
    Metric("unknown", 15, _COUNT),
    Metric("wait_ms", 16, _DOUBLE),
    Metric("engine_ms", 17, _DOUBLE),
    Metric("commit_ms", 18, _DOUBLE),
    Metric("publish_ms", 19, _DOUBLE),
    Metric("seq", 20, _COUNT),
    Metric("records_waiting", 21, _COUNT),
    Metric("records_dropped", 22, _COUNT),
    Metric("records_unwritten", 23, _COUNT),
    Metric("verdicts_unsent", 24, _COUNT),
    Metric("frames_dropped", 25, _COUNT),
    Metric("frame_gaps", 26, _COUNT),
    Metric("camera_restarts", 27, _COUNT),
    Metric("images_dropped", 28, _COUNT),
    Metric("camera_resets", 29, _COUNT),
    Metric("usb_resets", 30, _COUNT),
    Metric("camera_problem", 31, _STRING),
    Metric("camera_usb", 32, _STRING),
    Metric("camera_temperature_c", 33, _DOUBLE),
    Metric("triggers_accepted", 34, _COUNT),
    Metric("triggers_refused", 35, _COUNT),
    Metric("triggers_ignored", 36, _COUNT),
    Metric("parts_untriggered", 37, _COUNT),
    Metric("verdicts_overrun", 38, _COUNT),
    Metric("commands_ignored", 39, _COUNT),
    Metric("product_number", 40, _COUNT),
    Metric("paused", 41, _BOOLEAN),
    Metric("drift", 42, _STRING),
)
DEVICE = (
    Metric("id", 101, _STRING),
    Metric("seq", 102, _COUNT),
    Metric("part", 103, _STRING),
    Metric("n", 104, _COUNT),
    Metric("enc", 105, _COUNT),
    Metric("code", 106, DataType.UINT8),
    Metric("reason", 107, _STRING),
    Metric("judged_code", 108, DataType.UINT8),
    Metric("score", 109, _FLOAT),
    Metric("thr", 110, _FLOAT),
    Metric("margin", 111, _FLOAT),
    Metric("judge_ms", 112, _COUNT),
    Metric("at", 113, _TIME),
    Metric("area", 114, _DOUBLE),
    Metric("valid", 115, _DOUBLE),
    Metric("frames", 116, DataType.UINT16),
    Metric("product", 117, _STRING),
    Metric("bundle", 118, _STRING),
    Metric("geometry", 119, _STRING),
    Metric("model_state", 120, _STRING),
    Metric("engine", 121, _STRING),
    Metric("thr_from", 122, _STRING),
    Metric("thr_parts", 123, _COUNT),
    Metric("guarantee", 124, _STRING),
    Metric("captured_at", 125, _TIME),
    Metric("judged_at", 126, _TIME),
    Metric("clock_synced", 127, _BOOLEAN),
    Metric("images", 128, _STRING),
    Metric("images_sha256", 129, _STRING),
    Metric("schema", 130, _COUNT),
)
TIMES = ("captured_at", "judged_at")  # text in the record, DateTime here


def node_values(state: StationState, names: Mapping[str, str], ignored: int) -> dict[Metric, Value]:
    """Every metric of the edge node. names: of the metrics Properties/*. ignored: commands."""
    details = {} if state.details is None else state.details.as_fields()
    said = {
        **details,
        **names,
        "state": state.state,
        "reason": state.reason,
        "ready": state.ready,
        "commands_ignored": ignored,
    }
    return {metric: metric.value(said.get(metric.name)) for metric in NODE}


def device_values(record: Mapping[str, Any] | None) -> dict[Metric, Value]:
    """Every metric of the device, from a record; all null while there is none."""
    found = dict(record or {})
    found |= {name: utc_ms_of(found.get(name)) for name in TIMES}
    return {metric: metric.value(found.get(metric.name)) for metric in DEVICE}


def time_of(record: Mapping[str, Any], otherwise: int) -> int:
    """The timestamp of a record's metrics, UTC milliseconds: when its last frame was captured, by a
    clock that may not be synchronized (`clock_synced` says so).
    """
    told = record.get("at")
    found = told if isinstance(told, int) else utc_ms_of(record.get("captured_at"))
    return otherwise if found is None or found < 0 else found


def utc_ms_of(text: Any) -> int | None:
    """Milliseconds since 1970, of a time as edge.line.message.utc_ms writes it; else None."""
    try:
        moment = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        return round(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None
