"""A calibration that a person is guided through by the page: what is asked of the station, and how
far it is. Pure, and without numpy: the page speaks this too.

The station starts `edge calibrate guided` for each step, hands it what is asked as JSON lines, and
reads the state of the step from it, one JSON object on each line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from edge.schema import Strict

FOLDER = Path("guide")  # below var/lib/edge: the pictures of the step, and what it is
BEGUN = "begun.json"  # there while a step is at work
PICTURE = r"^[a-z0-9-]{1,32}\.jpg$"
LEAST_PARTS, MOST_PARTS = 3, 99

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\x20-\x7e]+$")]
Step = Literal["plane", "parts", "challenge", "threshold", "undo"]
Order = Literal["sign", "stop", "leave_out", "keep"]
Phase = Literal["opening", "showing", "deciding", "signing", "done", "refused", "ended"]
OVER: tuple[Phase, ...] = ("done", "refused", "ended")
Share = Annotated[float, Field(ge=0, le=1)]
Pixel = Annotated[int, Field(ge=0, le=16384)]
Told = str | int | float | bool | None


class GuideBegin(Strict):
    """Begin a step. who: for the audit. count: parts to show. false_rejects: accepted rate.

    split: half of the parts fit, the other half prove. region: of interest, for the plane: left,
    top, width and height as shares of the crop; None: as it is now. crop: its top left corner, for
    the plane, x and y in pixels of the whole image; None: where it is now.
    """

    do: Literal["guide.begin"] = "guide.begin"
    what: Step
    who: Label
    count: int = Field(default=10, ge=1, le=MOST_PARTS)
    false_rejects: float = Field(default=0.05, gt=0, le=0.5)
    split: bool = False
    region: tuple[Share, Share, Share, Share] | None = None
    crop: tuple[Pixel, Pixel] | None = None


class GuideOrder(Strict):
    """What a person decides in the step that is at work.

    order: sign: save it; stop: change nothing; leave_out, keep: the parts that stand apart are not
    normal, or are.
    """

    do: Literal["guide.tell"] = "guide.tell"
    order: Order
    who: Label


class GuideLook(Strict):
    """How far is the step, and what is calibrated?"""

    do: Literal["guide.look"] = "guide.look"


class Refusal(Strict):
    """Why something was refused: a part, which may be shown again, or the step.

    why: as calibration.shown_parts.PartRefused has it, "failed", or the name of an error. text: the
    sentence. numbers: of the parts that it is about. picture: of the first of them; empty: none.
    """

    why: str
    text: str
    numbers: tuple[int, ...] = ()
    picture: str = ""


class PartTold(Strict):
    """One part that was shown. role: "shown", "caught" or "missed"."""

    number: int = Field(ge=1)
    picture: str = Field(pattern=PICTURE)
    role: str = "shown"
    score: float | None = None


class GuideState(Strict):
    """How far a step is.

    who: has begun it. count: parts that are shown in it, 0: none. refusal: of the last part, or of
    the step. result: what is to be signed, or was saved, by names that the page knows. why: an
    ended step was "stopped", "left" by everybody, or "interrupted" by the end of the station.
    version: grows with each change.
    """

    what: Step
    who: str
    phase: Phase = "opening"
    count: int = 0
    shown: tuple[PartTold, ...] = ()
    refusal: Refusal | None = None
    result: dict[str, Told] = Field(default_factory=dict)
    why: str = ""
    version: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.phase in OVER


class Signed(Strict):
    """One thing that is calibrated: when and by whom, and what it says in a sentence.

    before: when the plane, crop, region or silhouette changed after it, so that it is to be done
    again; empty: it stands.
    """

    who: str
    when: str
    said: str = ""
    count: int = 0
    before: str = ""


class SiteTold(Strict):
    """What is calibrated under the camera of the station, for the bundle that judges.

    needs_plane: the product has depth. region: the smallest rectangle around what is judged,
    as GuideBegin has it. crop: left, top, width and height of the crop; image: width and height of
    the whole color image, pixels. threshold: from the site's own parts or rate; None where the
    bundle's judges. challenge: of known-bad parts, under what judges now.
    """

    product: str
    bundle: str
    serial: str
    needs_plane: bool
    region: tuple[Share, Share, Share, Share] = (0.0, 0.0, 1.0, 1.0)
    crop: tuple[Pixel, Pixel, Pixel, Pixel]
    image: tuple[Pixel, Pixel]
    plane: Signed | None = None
    parts: Signed | None = None
    threshold: Signed | None = None
    challenge: Signed | None = None
