"""Sparkplug B payloads: births with names, aliases and types, data with aliases alone, deaths; and
what a command says.

Sparkplug 3.0.0, section 6.4. Times are UTC in milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.line.sparkplug_metrics import BDSEQ_METRIC, REBIRTH, REBIRTH_METRIC, Metric, Value
from edge.line.sparkplug_schema import VALUE_FIELD, payload_class

COMMAND_LIMIT_BYTES = 16 << 10
Values = Mapping[Metric, Value]


def node_birth(values: Values, bdseq: int, seq: int, now_ms: int) -> bytes:
    """NBIRTH."""
    payload = _new(seq, now_ms)
    _add(payload, {BDSEQ_METRIC: bdseq, REBIRTH_METRIC: False}, now_ms, is_birth=True)
    _add(payload, values, now_ms, is_birth=True)
    return _bytes(payload)


def device_birth(values: Values, seq: int, now_ms: int, at_ms: int) -> bytes:
    """DBIRTH. at_ms: when the values were measured."""
    payload = _new(seq, now_ms)
    _add(payload, values, at_ms, is_birth=True)
    return _bytes(payload)


def data(values: Values, seq: int, now_ms: int, at_ms: int, is_historical: bool = False) -> bytes:
    """NDATA or DDATA. at_ms: when the values were measured."""
    payload = _new(seq, now_ms)
    _add(payload, values, at_ms, is_historical=is_historical)
    return _bytes(payload)


def node_death(bdseq: int, now_ms: int) -> bytes:
    """NDEATH: the last will, and what precedes a goodbye. It has no `seq`."""
    payload = payload_class()(timestamp=now_ms)
    _add(payload, {BDSEQ_METRIC: bdseq}, now_ms, is_birth=True)
    return _bytes(payload)


def device_death(seq: int, now_ms: int) -> bytes:
    """DDEATH."""
    return _bytes(_new(seq, now_ms))


def asks_for_rebirth(payload: bytes) -> bool:
    """Whether an NCMD asks for births: `Node Control/Rebirth` is true in it. False for anything
    else, whatever its bytes are.
    """
    if len(payload) > COMMAND_LIMIT_BYTES:
        return False
    command = payload_class()()
    try:
        command.ParseFromString(payload)
    # protobuf's DecodeError has no other base; bytes of a stranger must not end the thread
    except Exception:  # noqa: BLE001
        return False
    return any(
        metric.name == REBIRTH and metric.WhichOneof("value") == "boolean_value" and
        metric.boolean_value and not metric.is_null
        for metric in command.metrics
    )  # fmt: skip


def _new(seq: int, now_ms: int) -> Any:
    return payload_class()(timestamp=now_ms, seq=seq)


def _bytes(payload: Any) -> bytes:
    written: bytes = payload.SerializeToString()
    return written


def _add(
    payload: Any, values: Values, at_ms: int, is_birth: bool = False, is_historical: bool = False
) -> None:
    for metric, value in values.items():
        one = payload.metrics.add(timestamp=at_ms)
        if is_birth:
            one.name, one.datatype = metric.name, int(metric.datatype)
        if metric.alias is not None:
            one.alias = metric.alias
        if is_historical:
            one.is_historical = True
        if value is None:
            one.is_null = True
        else:
            setattr(one, VALUE_FIELD[metric.datatype], value)
