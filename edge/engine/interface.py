"""The interface of an ONNX file: inputs, outputs and opset, read without a runtime or the weights.

A runtime that loads a graph allocates and runs what the file says, which is not yet trusted here.
Only the outermost fields of the protocol buffer are read (onnx.proto of ONNX 1.17: ModelProto,
GraphProto, ValueInfoProto); the rest is skipped by its length.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BundleError

# fields of a file at the two outermost levels; an exported graph has some thousands
FIELDS_LIMIT = 1 << 20
EXTERNAL = 1  # TensorProto.DataLocation
ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
}

Field = tuple[int, "int | memoryview"]  # number, and a varint's value or a message's bytes


@dataclass(frozen=True)
class Tensor:
    """A graph input or output. shape: 0 where the file gives no fixed size."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphInterface:
    """ir_version and opset (of the domain ai.onnx) say which runtimes can load the file."""

    ir_version: int
    opset: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_interface(path: Path) -> GraphInterface:
    """The interface of the graph in an ONNX file.

    Raises: BundleError if it cannot be read, is not an ONNX graph, or keeps weights in other files.
    """
    try:
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        with path.open("rb") as file:
            # unmapped when its last view is gone
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _Reader().model(memoryview(data))
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error.strerror}): install the bundle again"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} cannot be loaded: {error}. Export the bundle again") from error


class _Reader:
    """Reads one file; counts its fields.

    Raises: ValueError, saying why, for anything that is not an ONNX graph.
    """

    def __init__(self) -> None:
        self._left = FIELDS_LIMIT

    def model(self, data: memoryview) -> GraphInterface:
        ir_version, opset, graph = 0, 0, None
        for number, value in self._fields(data):
            if number == 1 and isinstance(value, int):
                ir_version = value
            elif number == 7 and isinstance(value, memoryview):
                graph = value
            elif number == 8 and isinstance(value, memoryview):
                opset = max(opset, self._opset(value))
        if graph is None or not ir_version or not opset:
            raise ValueError("it is not an ONNX graph")
        return self._graph(graph, ir_version, opset)

    def _graph(self, data: memoryview, ir_version: int, opset: int) -> GraphInterface:
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        weights: set[str] = set()
        for number, value in self._fields(data):
            if number not in (5, 11, 12) or isinstance(value, int):
                continue
            if number == 5:
                weights.add(self._weight(value))
            else:
                (inputs if number == 11 else outputs).append(self._tensor(value))
        # before IR 4 weights were inputs too
        given = tuple(tensor for tensor in inputs if tensor.name not in weights)
        return GraphInterface(ir_version, opset, given, tuple(outputs))

    def _opset(self, data: memoryview) -> int:
        """The version of the operators that have no domain, or ai.onnx; 0 for others."""
        fields = dict(self._fields(data))
        domain, version = _text(fields.get(1)), fields.get(2, 0)
        return version if domain in ("", "ai.onnx") and isinstance(version, int) else 0

    def _weight(self, data: memoryview) -> str:
        fields = {number: value for number, value in self._fields(data) if number in (8, 13, 14)}
        name = _text(fields.get(8))
        if 13 in fields or fields.get(14) == EXTERNAL:
            raise ValueError(
                f"its weight {name!r} lies in another file, a bundle's graph is one file"
            )
        return name

    def _tensor(self, data: memoryview) -> Tensor:
        fields = dict(self._fields(data))
        tensor = dict(self._fields(_message(dict(self._fields(_message(fields.get(2)))).get(1))))
        shape = [
            dict(self._fields(_message(dim))).get(1, 0)
            for number, dim in self._fields(_message(tensor.get(2)))
            if number == 1
        ]
        kind = tensor.get(1, 0)
        dtype = (
            ELEMENT_TYPES.get(kind, f"of type {kind}") if isinstance(kind, int) else "of no type"
        )
        return Tensor(
            _text(fields.get(1)),
            dtype,
            tuple(size if isinstance(size, int) else 0 for size in shape),
        )

    def _fields(self, data: memoryview) -> Iterator[Field]:
        """The fields of one message; numbers of fixed width are skipped."""
        place = 0
        while place < len(data):
            self._left -= 1
            if self._left < 0:
                raise ValueError(f"it has more than {FIELDS_LIMIT} fields")
            key, place = _varint(data, place)
            number, wire = key >> 3, key & 7
            if wire == 0:
                value, place = _varint(data, place)
                yield number, value
            elif wire == 2:
                size, place = _varint(data, place)
                if size > len(data) - place:
                    raise ValueError("it is not an ONNX graph, or cut short")
                yield number, data[place : place + size]
                place += size
            elif wire in (1, 5):
                place += 8 if wire == 1 else 4
            else:
                raise ValueError("it is not an ONNX graph")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """(the number at `place`, where the next one begins)."""
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("it is not an ONNX graph, or cut short")


def _message(value: int | memoryview | None) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")


def _text(value: int | memoryview | None) -> str:
    return bytes(_message(value)[:256]).decode(errors="replace")
