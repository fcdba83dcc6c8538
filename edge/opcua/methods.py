"""What the methods do: each takes its arguments, asks the station, and answers with Error and
Reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from asyncua import ua

from edge.line.commands import Verb
from edge.line.inbound import KEYS, N_LIMIT
from edge.opcua.names import (
    MACHINE,
    METHODS,
    MODE,
    OF_VERDICT,
    RECIPES,
    RESULTS,
    Signature,
    error_of,
)
from edge.opcua.sessions import Method, caller, for_operators
from edge.opcua.system import COMMAND_ANSWER_S, Answer, VisionSystem

TEXT_LIMIT = 64  # characters of an argument
PARAMETERS_LIMIT = 16
GIVEN_ELSEWHERE = ("part",)  # keys of a trigger that are no parameters


class Methods:
    """The methods of one vision system."""

    def __init__(self, system: VisionSystem) -> None:
        """system: is asked."""
        self._system = system

    def by_path(self) -> Mapping[str, Method]:
        """What carries each of edge.opcua.names.METHODS out."""
        look: dict[str, Method] = {
            f"{RESULTS}/GetLatestResult": self._get_latest,
            f"{RESULTS}/GetResultById": self._get_by_id,
        }
        operate: dict[str, Method] = {
            f"{MODE}/StartSingleJob": self._start_single_job,
            f"{MODE}/StartContinuous": self._start_continuous,
            f"{MODE}/Stop": self._stop,
            f"{MACHINE}/SelectModeAutomatic": self._select_automatic,
            f"{MACHINE}/Reset": self._reset,
            f"{RECIPES}/PrepareProduct": self._prepare_product,
            "Command": self._command,
        }
        guarded = {path: for_operators(method) for path, method in operate.items()}
        return {
            path: _checked(METHODS[path], method) for path, method in {**look, **guarded}.items()
        }

    async def _start_single_job(
        self, _: Any, meas_id: str, part: str, recipe: str, product: str, parameters: Sequence[str]
    ) -> Any:
        answer = self._refusal(recipe, product)
        if answer is None:
            request = trigger_of(part, meas_id, parameters, self._system.deadline_ms)
            if isinstance(request, Answer):
                answer = request
            else:
                answer = await self._system.ask("trigger", meas_id, request=request)
        job = "" if answer.seq is None else str(answer.seq)
        return [
            ua.Variant(job, ua.VariantType.String),
            ua.Variant(error_of(answer.reason), ua.VariantType.Int32),
            ua.Variant(answer.sentence, ua.VariantType.String),
        ]

    def _refusal(self, recipe: str, product: str) -> Answer | None:
        """Nobody is to get a verdict by another recipe than the one that was asked for."""
        for asked, active in ((recipe, self._system.bundle), (product, self._system.product)):
            if asked and asked != active:
                return Answer("wrong_product", f"{active or 'none'} is active")
        return None

    async def _start_continuous(self, _: Any) -> Any:
        return await self._continuous(Verb.RESUME)

    async def _stop(self, _: Any) -> Any:
        return await self._continuous(Verb.PAUSE)

    async def _continuous(self, verb: Verb) -> Any:
        if self._system.mode == "triggered":
            return _answered(Answer("wrong_mode", "parts are triggered by StartSingleJob"))
        return await self._do(verb.value)

    async def _select_automatic(self, _: Any) -> Any:
        """There is no other mode."""
        return await self._do(Verb.RESUME.value)

    async def _reset(self, _: Any) -> Any:
        return await self._do(Verb.RESET.value)

    async def _prepare_product(self, _: Any, product: str) -> Any:
        return await self._do(Verb.SELECT.value, product)

    async def _command(self, _: Any, verb: str, product: str, number: int, what: str) -> Any:
        if verb not in [one.value for one in Verb]:
            return _answered(Answer("bad_request", "Do"))
        return await self._do(verb, product, number if number > 0 else None, what)

    async def _do(
        self, verb: str, product: str = "", number: int | None = None, what: str = ""
    ) -> Any:
        asked = {"do": verb, "product": product, "number": number, "what": what}
        request = {key: value for key, value in asked.items() if value not in ("", None)}
        who = f"opcua:{caller.get().name}"
        answer = await self._system.ask(
            "command", limit_s=COMMAND_ANSWER_S, who=who, request=request
        )
        return _answered(answer)

    async def _get_latest(self, _: Any) -> Any:
        return _result(self._system.latest)

    async def _get_by_id(self, _: Any, name: str) -> Any:
        return _result(self._system.results.get(name))


def trigger_of(
    part: str, meas_id: str, parameters: Sequence[str], deadline_ms: int
) -> Mapping[str, Any] | Answer:
    """The trigger as the station reads it, or what is wrong with it.

    Args:
        meas_id: becomes `n` if it is a number and no parameter says another.
        parameters: "key=number" each, the keys of an MQTT trigger but for `part`.
        deadline_ms: where no parameter says another.
    """
    if len(parameters) > PARAMETERS_LIMIT:
        return Answer("bad_request", "Parameters")
    request: dict[str, Any] = {"part": part, "deadline_ms": deadline_ms}
    if re.fullmatch(r"[0-9]{1,10}", meas_id) and int(meas_id) <= N_LIMIT:
        request["n"] = int(meas_id)
    named: set[str] = set()
    for one in parameters:
        key, _, value = (one or "").replace(" ", "").partition("=")
        if key not in KEYS or key in GIVEN_ELSEWHERE or key in named:
            return Answer("bad_request", key[:TEXT_LIMIT] or "Parameters")
        if not re.fullmatch(r"[0-9]{1,10}", value):
            return Answer("bad_request", key)
        named.add(key)
        request[key] = int(value)
    return request


def _answered(answer: Answer) -> list[Any]:
    return [
        ua.Variant(error_of(answer.reason), ua.VariantType.Int32),
        ua.Variant(answer.sentence, ua.VariantType.String),
    ]


def _result(result: Mapping[str, Any] | None) -> list[Any]:
    error = ua.Variant(0 if result is not None else error_of("no_result"), ua.VariantType.Int32)
    if result is None:
        return [error, *(ua.Variant(None) for _ in OF_VERDICT)]
    kinds = OF_VERDICT.items()
    return [error, *(ua.Variant(result[name], ua.VariantType[kind]) for name, kind in kinds)]


def _checked(signature: Signature, method: Method) -> Method:
    """The method, given plain values of the right number, types and lengths."""

    async def called(parent: Any, *given: Any) -> Any:
        if len(given) != len(signature.inputs):
            few = len(given) < len(signature.inputs)
            codes = ua.StatusCodes
            return ua.StatusCode(codes.BadArgumentsMissing if few else codes.BadTooManyArguments)
        values = [_plain(one, kind) for one, (_, kind) in zip(given, signature.inputs, strict=True)]
        if None in values:
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        return await method(parent, *values)

    return called


def _plain(given: Any, kind: str) -> Any:
    """The value of an argument; None if it is of another type or too long. A text that is null is
    empty, and so is an array.
    """
    value = given.Value
    if kind == "String[]":
        texts = [] if value is None else value
        fits = isinstance(texts, list) and all(
            _plain(ua.Variant(one), "String") is not None for one in texts
        )
        return texts if fits else None
    if kind == "String":
        text = "" if value is None else value
        return text if isinstance(text, str) and len(text) <= TEXT_LIMIT else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= TEXT_LIMIT)
