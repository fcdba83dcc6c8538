"""What an acceptance has found so far: one JSON file, signed with the station's key after each
step, so that it survives a pulled plug and shows it if it is changed by hand.

    {"report": {...}, "key": {...}, "signature": "..."}

Signed are DOMAIN and the report in its one spelling. It proves that the file is as the station
wrote it, not that the station told the truth: whoever may work as its account may sign.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from edge.bundle.curve import is_sound_point
from edge.bundle.key_files import PublicKey, key_id
from edge.bundle.signature import Hex64
from edge.errors import DataError
from edge.files import read_bytes, write_atomically
from edge.schema import Strict, canonical_json, parse_json
from edge.station.station_key import public_key_of

DOMAIN = b"edge acceptance, schema 1\n"  # nothing else that this key signs passes for this file
LIMIT = 1 << 20  # bytes
CUTS = 10  # power cuts that an acceptance asks for
CHANGED = "it was changed since the station wrote it: name another file and begin anew"

Outcome = Literal["passed", "failed", "left out"]


class StepResult(Strict):
    """One step. said: what was found, or why it failed or was left out. numbers: by name, with
    their unit at the end of it. at: its end, UTC.
    """

    name: str
    outcome: Outcome
    said: str
    at: str
    seconds: float = Field(ge=0)
    numbers: dict[str, float] = Field(default_factory=dict)


class BeforeCut(Strict):
    """What was so before somebody pulled the plug. boot: of the kernel. seq: of the newest record
    on disk, 0 for none. slot: of the active bundle.
    """

    boot: str
    seq: int = Field(ge=0)
    slot: str
    at: str


class Cut(Strict):
    """One power cut. lost: what did not survive it, in sentences; empty where all did."""

    before: BeforeCut
    lost: tuple[str, ...]
    at: str


class Acceptance(Strict):
    """The report. is_target: it was written on a running Jetson, of which alone it says something.

    board: the model. system: JetPack or distribution. version: of this software.
    """

    schema_: Literal[1] = Field(alias="schema", default=1)
    is_target: bool
    board: str
    system: str
    version: str
    station: str
    began: str
    steps: tuple[StepResult, ...] = ()
    cuts: tuple[Cut, ...] = ()
    pending: BeforeCut | None = None

    def with_step(self, result: StepResult) -> Acceptance:
        """With this result in the place of an earlier one of the same step."""
        others = tuple(one for one in self.steps if one.name != result.name)
        return self.model_copy(update={"steps": (*others, result)})

    def has_passed(self, name: str) -> bool:
        """Whether that step is done."""
        return any(one.name == name and one.outcome == "passed" for one in self.steps)

    @property
    def proves(self) -> frozenset[str]:
        """The steps that passed on the target: nothing on any other machine."""
        passed = frozenset(one.name for one in self.steps if one.outcome == "passed")
        return passed if self.is_target else frozenset()


class Sealed(Strict):
    """The file."""

    report: Acceptance
    key: PublicKey
    signature: Hex64


def write_acceptance(path: Path, report: Acceptance, signer: Any) -> None:
    """Replace the file; it is on disk when this returns. signer: of the station's key.

    Raises: OSError if the disk refuses.
    """
    told = {
        "report": report.model_dump(by_alias=True, mode="json"),
        "key": public_key_of(signer).model_dump(exclude_none=True),
        "signature": signer.sign(_signed(report)).signature,
    }
    write_atomically(path, canonical_json(told))


def read_acceptance(path: Path) -> Sealed:
    """A file that is exactly as a station wrote it.

    Raises: DataError if it is no such file, or was changed.
    """
    try:
        sealed = Sealed.model_validate(parse_json(read_bytes(path, DataError, LIMIT)))
    except (ValidationError, ValueError) as error:
        raise DataError(f"{path} is no acceptance of a station: name another file") from error
    public = sealed.key.keyval.public
    is_sound = key_id(public) == sealed.key.keyid and is_sound_point(bytes.fromhex(public))
    if not is_sound or not _is_signed(sealed):
        raise DataError(f"{path}: {CHANGED}")
    return sealed


def _is_signed(sealed: Sealed) -> bool:
    from securesystemslib.exceptions import UnverifiedSignatureError
    from securesystemslib.signer import Signature, SSlibKey

    key = sealed.key
    signing = SSlibKey(key.keyid, key.keytype, key.scheme, {"public": key.keyval.public})
    try:
        signing.verify_signature(Signature(key.keyid, sealed.signature), _signed(sealed.report))
    except UnverifiedSignatureError:
        return False
    return True


def _signed(report: Acceptance) -> bytes:
    return DOMAIN + canonical_json(report.model_dump(by_alias=True, mode="json"))
