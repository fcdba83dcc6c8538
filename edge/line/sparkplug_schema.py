"""The Protocol Buffers of Sparkplug B, as far as a station needs them.

Fields and numbers: Sparkplug 3.0.0, section 6.4.2 (Google Protocol Buffer Schema, proto2). The
messages are made at run time from the tables below, so that every protobuf from 6 on will do and no
generated code has to fit it. What is left out (data sets, templates, properties, metadata,
extensions) is an unknown field to a reader, which skips it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from edge.optional import optional_module

PACKAGE = "edge.sparkplug"
REMEDY = (
    "Install it: pip install 'rgbd-inspection[sparkplug]', or set enabled = false in [sparkplug]"
)


class DataType(IntEnum):
    """What the field `datatype` of a metric says; those that a station uses."""

    INT64 = 4
    UINT8 = 5
    UINT16 = 6
    UINT64 = 8
    FLOAT = 9
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATE_TIME = 13  # UTC, milliseconds since 1970


# The member of the oneof `value` that has a metric of this type. UInt32 is not used:
# implementations disagree whether it is an int_value, as the specification says, or a long_value.
VALUE_FIELD = {
    DataType.INT64: "long_value",
    DataType.UINT8: "int_value",
    DataType.UINT16: "int_value",
    DataType.UINT64: "long_value",
    DataType.FLOAT: "float_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
    DataType.DATE_TIME: "long_value",
}

Fields = Sequence[tuple[str, int, str]]  # name, number, type of Protocol Buffers

PAYLOAD: Fields = (
    ("timestamp", 1, "uint64"),
    ("metrics", 2, "metric"),
    ("seq", 3, "uint64"),
    ("uuid", 4, "string"),
    ("body", 5, "bytes"),
)
METRIC: Fields = (
    ("name", 1, "string"),
    ("alias", 2, "uint64"),
    ("timestamp", 3, "uint64"),
    ("datatype", 4, "uint32"),
    ("is_historical", 5, "bool"),
    ("is_transient", 6, "bool"),
    ("is_null", 7, "bool"),
)
METRIC_VALUE: Fields = (  # the oneof `value`
    ("int_value", 10, "uint32"),
    ("long_value", 11, "uint64"),
    ("float_value", 12, "float"),
    ("double_value", 13, "double"),
    ("boolean_value", 14, "bool"),
    ("string_value", 15, "string"),
    ("bytes_value", 16, "bytes"),
)


@functools.cache
def payload_class() -> Any:
    """The message class Payload.

    Raises: MissingDependency if protobuf is not installed.
    """
    descriptors = optional_module("google.protobuf.descriptor_pb2", REMEDY)
    pools = optional_module("google.protobuf.descriptor_pool", REMEDY)
    factory = optional_module("google.protobuf.message_factory", REMEDY)
    file = descriptors.FileDescriptorProto(
        name="edge/sparkplug.proto", package=PACKAGE, syntax="proto2"
    )
    payload = file.message_type.add(name="Payload")
    _add(payload, PAYLOAD)
    metric = payload.nested_type.add(name="Metric")
    _add(metric, METRIC)
    metric.oneof_decl.add(name="value")
    _add(metric, METRIC_VALUE, oneof_index=0)
    pool = pools.DescriptorPool()
    pool.Add(file)
    return factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.Payload"))


def _add(message: Any, fields: Fields, **more: int) -> None:
    """Declare the fields in a DescriptorProto."""
    for name, number, kind in fields:
        is_metric = kind == "metric"
        message.field.add(
            name=name,
            number=number,
            label="LABEL_REPEATED" if is_metric else "LABEL_OPTIONAL",
            type="TYPE_MESSAGE" if is_metric else f"TYPE_{kind.upper()}",
            type_name=f".{PACKAGE}.Payload.Metric" if is_metric else None,
            **more,
        )
