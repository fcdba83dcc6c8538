"""The digests by which a record names the site state that was applied, `geometry` and
`model_state`: the first 12 digits of the SHA-256 of the state as JSON.

An audit row holds the whole state, so that whoever has a record can find who calibrated it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from edge.station.site import CameraGeometry, ModelState

DIGITS = 12
BESIDE = {"product", "serial"}  # what an audit row says besides the state

State = TypeVar("State", bound=BaseModel)


def geometry_digest(record: CameraGeometry) -> str:
    """Of a geometry. Without the camera's calibration where it is not known: so the digest of a
    geometry stays what it was before that was asked for.
    """
    without = {"calibration"} if record.calibration is None else None
    return _digest(record.model_dump_json(exclude=without))


def model_digest(state: ModelState) -> str:
    """Of a model state."""
    return _digest(state.model_dump_json())


def digest_in_row(act: str, detail: Mapping[str, Any]) -> str | None:
    """The digest of the state that an audit row has set; None for a row of another kind, or one
    that cannot be read.
    """
    if act in ("calibrate geometry", "calibrate expected"):
        geometry = _state_in(CameraGeometry, detail)
        return None if geometry is None else geometry_digest(geometry)
    if act in ("calibrate model", "calibrate undo"):
        state = _state_in(ModelState, detail)
        return None if state is None else model_digest(state)
    return None


def _state_in(model: type[State], detail: Mapping[str, Any]) -> State | None:
    fields = {key: value for key, value in detail.items() if key not in BESIDE}
    try:
        return model.model_validate_json(json.dumps(fields))
    except (ValidationError, ValueError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
