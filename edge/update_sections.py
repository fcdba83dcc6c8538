"""The section [update] of station.toml: where bundles come from, and when one counts as healthy."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from edge.schema import Name
from edge.sections import Section, TopicPart

ADDRESS = re.compile(r"https?://[!-~]+")  # no blanks, ASCII as in a request


class UpdateConfig(Section):
    """Section [update]."""

    source: Literal["off", "tuf", "usb", "hawkbit"] = Field(
        default="off",
        description=(
            "off: `edge update` does nothing by itself; tuf: a repository that `trainer release`"
            " keeps, over https; usb: its copy on a stick; hawkbit: a fleet server that speaks"
            " hawkBit's DDI"
        ),
    )
    url: str = Field(
        default="",
        description=(
            "tuf: address of the repository's folder, such as https://updates.example/line; usb:"
            " the folder where the stick is mounted; hawkbit: the server with its tenant, such as"
            " https://fleet.example/DEFAULT"
        ),
    )
    token_file: str = Field(
        default="",
        description=(
            "hawkbit: its first line is the token of this station, or `GatewayToken` and that of a"
            " gateway; mode 0600, owned by the user of the service"
        ),
    )
    ca_file: str = Field(
        default="", description='PEM file of the authority of an https address; "" = the system\'s'
    )
    ring: TopicPart = Field(
        default="stable",
        description="the ring of this station: what is released to it first or last",
    )
    products: tuple[Name, ...] = Field(
        default=(),
        max_length=256,
        strict=False,
        description="whose bundles are taken, also for the first time; [] = installed products",
    )
    package: bool = Field(
        default=False,
        description=(
            "take the package edge-station too, where the ring names a newer one (tuf, usb); it is"
            " on trial as a bundle is"
        ),
    )
    interval_min: int = Field(
        default=60, ge=1, le=10_080, description="minutes between two checks of the timer"
    )
    trial_parts: int = Field(
        default=20, ge=1, le=10_000, description="a new bundle is on trial for this many parts, or"
    )
    trial_min: int = Field(
        default=15,
        ge=1,
        le=1_440,
        description=(
            "minutes in which the station judged, whichever ends first; if the station is not"
            " healthy meanwhile, it goes back to the previous bundle"
        ),
    )
    max_rejected: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "share of the trial's parts that may be NG or UNKNOWN; 1: their verdicts do not count"
        ),
    )

    @model_validator(mode="after")
    def _names_its_place(self) -> UpdateConfig:
        if self.source in ("tuf", "hawkbit") and not ADDRESS.fullmatch(self.url):
            raise ValueError(
                f"source is {self.source}, and url is no address such as https://host/folder"
            )
        if self.token_file and self.source != "hawkbit":
            raise ValueError("token_file is set but source is not hawkbit")
        if self.package and self.source == "hawkbit":
            raise ValueError("package is true, and source hawkbit has bundles only: use tuf or usb")
        if self.source == "usb" and not self.url:
            raise ValueError("source is usb, and url names no folder")
        if self.ca_file and not self.url.startswith("https://"):
            raise ValueError("ca_file is set but url is no https address")
        return self
