"""The address space: built once from edge/opcua/names.py, then written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from asyncua import Server, ua

from edge.opcua.names import (
    EVENTS,
    MACHINE,
    MACHINE_STATES,
    METHODS,
    MODE,
    MODE_STATES,
    NAMESPACE,
    OBJECTS,
    SYSTEM,
    VARIABLES,
    Signature,
)

EMPTY: Mapping[str, Any] = {
    "Boolean": False,
    "String": "",
    "Float": 0.0,
    "LocalizedText": ua.LocalizedText(""),
    "DateTime": datetime(1970, 1, 1, tzinfo=timezone.utc),
    "NodeId": ua.NodeId(),
}
STATES = {MACHINE: MACHINE_STATES, MODE: MODE_STATES}
MAY_BE_READ = ua.AccessLevel.CurrentRead
EVENT_SEVERITY = 100  # of 1000: information


class Nodes:
    """The nodes below VisionSystem, by their paths."""

    def __init__(self, server: Server, index: int) -> None:
        """Made by `build`. index: of NAMESPACE on this server."""
        self._server, self._index = server, index
        self._events: dict[str, Any] = {}

    @classmethod
    async def build(cls, server: Server, methods: Mapping[str, Any]) -> Nodes:
        """methods: by path, what carries each of METHODS out."""
        nodes = cls(server, await server.register_namespace(NAMESPACE))
        await nodes._build_objects()
        for path, kind in VARIABLES.items():
            await nodes._add_variable(path, kind)
        for machine, states in STATES.items():
            await nodes._build_machine(machine, states)
        for path, signature in METHODS.items():
            await nodes._add_method(path, signature, methods[path])
        for name, fields in EVENTS.items():
            await nodes._build_event(name, fields)
        await nodes.blank(ua.StatusCodes.BadWaitingForInitialData)
        return nodes

    def id_of(self, path: str) -> Any:
        """The NodeId of a path below VisionSystem; empty: of VisionSystem itself."""
        return ua.NodeId(f"{SYSTEM}/{path}".rstrip("/"), self._index)

    async def write(self, values: Mapping[str, Any]) -> None:
        """Write these variables, in this order, with one time stamp.

        No request of a client comes in between: nothing here waits for anything.
        """
        now = datetime.now(timezone.utc)
        for path, value in values.items():
            await self._write(path, VARIABLES[path], value, now)
            if (states := STATES.get(path.rpartition("/")[0])) is not None:
                await self._write(f"{path}/Number", "UInt32", states.get(value, 0), now)
                of_state = self.id_of(f"{path.rpartition('/')[0]}/{value}")
                await self._write(f"{path}/Id", "NodeId", of_state if value else ua.NodeId(), now)

    async def blank(self, code: int) -> None:
        """All variables bad, but for the states, which say why."""
        now = datetime.now(timezone.utc)
        bad = ua.DataValue(None, StatusCode=ua.StatusCode(code), SourceTimestamp=now)
        for path in VARIABLES:
            if not path.endswith("CurrentState"):
                await self._server.write_attribute_value(self.id_of(path), bad)

    async def fire(self, name: str, fields: Mapping[str, Any], message: str) -> None:
        """An event of that type, from VisionSystem and from Server: clients listen to either."""
        event = self._events[name]
        for field, value in fields.items():
            setattr(event, field, value)
        now = datetime.now(timezone.utc)
        event.Time = event.ReceiveTime = now
        event.EventId = uuid.uuid4().bytes
        event.Message = ua.LocalizedText(message)
        for source in (self.id_of(""), ua.NodeId(ua.ObjectIds.Server)):
            event.emitting_node = source
            await self._server.iserver.subscription_service.trigger_event(event)

    async def _write(self, path: str, kind: str, value: Any, now: datetime) -> None:
        if kind == "LocalizedText":
            value = ua.LocalizedText(value)
        written = ua.DataValue(ua.Variant(value, ua.VariantType[kind]), SourceTimestamp=now)
        await self._server.write_attribute_value(self.id_of(path), written)

    async def _build_objects(self) -> None:
        top = await self._server.nodes.objects.add_object(self.id_of(""), self._name(SYSTEM))
        await top.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        for path in OBJECTS:
            await self._parent_of(path).add_object(self.id_of(path), self._name(path))

    async def _build_machine(self, machine: str, states: Mapping[str, int]) -> None:
        """CurrentState's own parts, and an object for each state."""
        for part, kind in (("Id", "NodeId"), ("Number", "UInt32")):
            await self._add_variable(f"{machine}/CurrentState/{part}", kind, is_property=True)
        for state, number in states.items():
            path = f"{machine}/{state}"
            node = await self._parent_of(path).add_object(
                self.id_of(path), self._name(path), ua.ObjectIds.StateType
            )
            for child in await node.get_properties():
                await child.write_value(number, ua.VariantType.UInt32)

    async def _add_variable(self, path: str, kind: str, is_property: bool = False) -> None:
        parent = self._parent_of(path)
        add = parent.add_property if is_property else parent.add_variable
        empty = EMPTY.get(kind, 0)
        await add(self.id_of(path), self._name(path), empty, ua.VariantType[kind])

    async def _add_method(self, path: str, signature: Signature, carry_out: Any) -> None:
        arguments = [
            [_argument(name, kind) for name, kind in some]
            for some in (signature.inputs, signature.outputs)
        ]
        await self._parent_of(path).add_method(
            self.id_of(path), self._name(path), carry_out, *arguments
        )

    async def _build_event(self, name: str, fields: Mapping[str, str]) -> None:
        kinds = [(field, ua.VariantType[kind]) for field, kind in fields.items()]
        made = await self._server.create_custom_event_type(self._index, name, properties=kinds)
        generator = await self._server.get_event_generator(made, self.id_of(""))
        generator.event.Severity = EVENT_SEVERITY
        self._events[name] = generator.event

    def _parent_of(self, path: str) -> Any:
        return self._server.get_node(self.id_of(path.rpartition("/")[0]))

    def _name(self, path: str) -> Any:
        return ua.QualifiedName(path.rpartition("/")[2], self._index)


def _argument(name: str, kind: str) -> Any:
    is_array = kind.endswith("[]")
    argument = ua.Argument()
    argument.Name = name
    argument.DataType = ua.NodeId(getattr(ua.ObjectIds, kind.removesuffix("[]")))
    argument.ValueRank = 1 if is_array else -1
    argument.ArrayDimensions = [0] if is_array else []
    return argument
