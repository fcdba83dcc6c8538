"""What a fleet server says in hawkBit's Direct Device Integration (DDI) API, read without trust.

The server says WHICH bundle a station should run; its links and lengths are bounded here, and its
digests only tell a broken download from a whole one.
Source: hawkBit, "DDI API" (rest-api/rollouts, deployments, cancel actions); goosebit speaks a part
of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.bundle.tar import TOTAL_LIMIT
from edge.errors import UpdateError
from edge.schema import NAME, parse_json

ANSWER_LIMIT = 1 << 20  # bytes of one answer
SWU = ".swu"
BUNDLE = ".bundle"
PACKAGE = ".deb"
WRAPPED_LIMIT = TOTAL_LIMIT + (1 << 20)  # bytes of a file with a bundle in it
ACTION = r"^[A-Za-z0-9._-]{1,64}$"


class _Told(BaseModel):
    """Keys that this station does not need may be there."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Link(_Told):
    """One link of the server."""

    href: str = Field(max_length=4096)


class Hashes(_Told):
    """Of a file. goosebit gives sha1 only."""

    sha256: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{64}$")
    sha1: str | None = Field(default=None, pattern=r"^[0-9a-fA-F]{40}$")


class Artifact(_Told):
    """One file of an order."""

    filename: str = Field(max_length=256)
    hashes: Hashes = Hashes()
    size: int = Field(ge=0, le=WRAPPED_LIMIT)
    links: dict[str, Link] = Field(alias="_links", default_factory=dict)

    @property
    def link(self) -> str:
        """Where it is: over https where the server says so. Empty where it says nothing."""
        kinds = ("download", "download-http")
        return next((self.links[kind].href for kind in kinds if kind in self.links), "")


class Chunk(_Told):
    """A module of software. version: as the server names it."""

    name: str = Field(default="", max_length=256)
    version: str = Field(default="", max_length=256)
    artifacts: tuple[Artifact, ...] = Field(default=(), max_length=64)


class Deployment(_Told):
    """skip: the server wants nothing done now."""

    download: str = "forced"
    update: str = "forced"
    window: str | None = Field(default=None, alias="maintenanceWindow")
    chunks: tuple[Chunk, ...] = Field(default=(), max_length=64)

    @property
    def is_kept_back(self) -> bool:
        """Whether nothing is to be taken now."""
        return "skip" in (self.download, self.update) or self.window == "unavailable"


class Order(_Told):
    """deploymentBase. id: the server's name of the order."""

    id: str = Field(pattern=ACTION)
    deployment: Deployment


class Stop(_Told):
    """What is to be stopped."""

    stop_id: str = Field(alias="stopId", pattern=ACTION)


class Cancel(_Told):
    """cancelAction."""

    id: str = Field(pattern=ACTION)
    cancel: Stop = Field(alias="cancelAction")


class Poll(_Told):
    """The server's first answer."""

    links: dict[str, Link] = Field(alias="_links", default_factory=dict)


def parse_answer(model: type[Any], data: bytes, where: str) -> Any:
    """Raises: UpdateError if it is not what the API says."""
    try:
        return model.model_validate(parse_json(data))
    except (ValidationError, ValueError) as error:
        raise UpdateError(
            f"{where} does not answer as a hawkBit server does: check the address in [update], with"
            " its tenant"
        ) from error


@dataclass(frozen=True)
class Ordered:
    """The bundle of an order, as its file is named: PRODUCT-VERSION.bundle, or .swu."""

    action: str
    product: str
    version: str
    artifact: Artifact

    @property
    def is_plain(self) -> bool:
        """Whether the file is the bundle itself."""
        return self.artifact.filename.endswith(BUNDLE)


def bundle_of(order: Order) -> Ordered | str:
    """The bundle of an order; a sentence for the server where there is none, or more than one."""
    found = [
        (chunk, artifact)
        for chunk in order.deployment.chunks
        for artifact in chunk.artifacts
        if artifact.filename.endswith((BUNDLE, SWU))
    ]
    names = [one.filename for chunk in order.deployment.chunks for one in chunk.artifacts]
    if not found and any(name.endswith(PACKAGE) for name in names):
        return (
            "the order is a package (.deb): from a fleet server stations take bundles alone, and"
            " the package from a repository of `trainer release` or by apt"
        )
    if len(found) != 1:
        return f"the order has {len(found)} bundles (PRODUCT-VERSION.bundle or .swu): give one"
    chunk, artifact = found[0]
    stem = artifact.filename.rpartition(".")[0]
    product = stem.removesuffix(f"-{chunk.version}")
    version = chunk.version
    if product == stem:  # the server has a version of its own
        product, _, version = stem.rpartition("-")
    if not re.fullmatch(NAME, product) or not re.fullmatch(NAME, version):
        return f"{artifact.filename} is not named PRODUCT-VERSION.bundle or .swu: name it so"
    if not artifact.link:
        return f"{artifact.filename} has no link to download it: look at the server"
    return Ordered(order.id, product, version, artifact)


def path_below(href: str, station: str) -> str | None:
    """The path of a link below this station's own address, whatever host, scheme and prefix a
    proxy gave it; None for a link to somewhere else.

    station: its id on the server.
    """
    parts = urlsplit(href)
    _, found, tail = unquote(parts.path).rpartition(f"/controller/v1/{station}/")
    if not found or not tail:
        return None
    return quote(tail) + (f"?{parts.query}" if parts.query else "")
