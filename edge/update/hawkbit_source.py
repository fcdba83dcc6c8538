"""A fleet server that speaks hawkBit's DDI API (hawkBit, goosebit), as a source of updates.

The station asks; the server never reaches the station. It gives an order ("action") for one bundle,
which stays open until the station has reported success or failure. Integrity never comes from here:
the bundle's own signature says whether it is taken (edge/update/apply.py).
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from edge.config import PLACE, read_config
from edge.credential import secret_place
from edge.errors import ConfigError, StorageError, UpdateError
from edge.files import read_text, remove_tree
from edge.install.install import SPARE_BYTES
from edge.sections import StationConfig
from edge.station.installed import Installed
from edge.station.store import Store
from edge.update.ddi import (
    ANSWER_LIMIT,
    Cancel,
    Order,
    Ordered,
    Poll,
    bundle_of,
    parse_answer,
    path_below,
)
from edge.update.reach import NotThere
from edge.update.source import Offer, Outcome
from edge.update.swu import is_swu, unwrap
from edge.update.web import WebReach
from edge.update_sections import UpdateConfig

log = logging.getLogger(__name__)

# What goosebit compares with a .swu's hardware-compatibility: a bundle is for every machine.
BOARD, REVISION = "edge-station", "default"
COLON = ":"
TOKEN_LIMIT = 4 << 10  # bytes of token_file
DETAIL_LIMIT = 400  # characters of one sentence; hawkBit takes 512
CLOSED: Mapping[Outcome, str] = {
    "installed": "success",
    "refused": "failure",
    "rolled_back": "failure",
}


def make_hawkbit_source(store: Store, config: UpdateConfig) -> HawkbitSource:
    """From [update] and [station] of station.toml.

    Raises: ConfigError if the station has no name, or token_file cannot be used.
    """
    ca_file = store.root / config.ca_file if config.ca_file else None
    secret = _secret(store.root, config)
    if secret and not config.url.startswith("https://"):
        log.warning("update.token_file: the token crosses the network in clear: use https in url")
    return HawkbitSource(station_id(store.root), config.url, ca_file, secret)


def station_id(root: Path) -> str:
    """This station on the server: SITE:LINE:STATION, as no name has a colon in it.

    Raises: ConfigError if it has no name yet.
    """
    names = read_config(root).station
    if names.station == StationConfig().station:
        raise ConfigError(
            f"{root / PLACE}: this station has no name yet, by which the fleet server would know"
            " it: set site, line and station in [station]"
        )
    return f"{names.site}:{names.line}:{names.station}"


def _secret(root: Path, config: UpdateConfig) -> str:
    """The value of the header Authorization; empty where the server wants none."""
    if not config.token_file:
        return ""
    path = secret_place(config.token_file, root, "update.token_file")
    try:
        words = read_text(path, limit=TOKEN_LIMIT).partition("\n")[0].split()
    except ConfigError as error:
        raise ConfigError(f"update.token_file: {error}") from error
    is_plain = all(word.isascii() and word.isprintable() for word in words)
    if not is_plain or len(words) not in (1, 2):
        raise ConfigError(
            f"update.token_file: the first line of {path} is no token: write the token there, for a"
            " gateway's `GatewayToken` and the token"
        )
    return " ".join(words if len(words) == 2 else ["TargetToken", *words])


class HawkbitSource:
    """See edge.update.source.Source."""

    name = "hawkbit"

    def __init__(
        self, station: str, address: str, ca_file: Path | None = None, secret: str = ""
    ) -> None:
        """station: its id on the server. address: with the tenant. secret: of the header
        Authorization. Nothing is asked yet.
        """
        self._station, self._address, self._ca_file = station, address, ca_file
        base = f"{address.rstrip('/')}/controller/v1/"
        self._root = WebReach(base, ca_file, secret)
        self._own = WebReach(base + quote(station, safe=COLON), ca_file, secret)
        self._orders: dict[str | None, Ordered] = {}

    def find(self, current: Mapping[str, Installed]) -> Sequence[Offer]:
        """As Source.find: the order that the server has for this station."""
        links = self._poll()
        if "configData" in links:
            self._introduce(links["configData"], current)
            links = self._poll()  # it may have an order, now that it knows the station
        if "cancelAction" in links:
            self._accept_cancel(links["cancelAction"])
            links = self._poll()
        if "deploymentBase" not in links:
            return []
        order = parse_answer(Order, self._read(links["deploymentBase"]), self._address)
        bundle = bundle_of(order)
        if isinstance(bundle, str):
            self._tell(order.id, "closed", "failure", [bundle])
            return []
        self._orders[bundle.action] = bundle
        return [_offer(bundle, order.deployment.is_kept_back)]

    def fetch(self, offer: Offer, folder: Path) -> Path:
        """As Source.fetch, for an offer that `find` gave. What an interrupted call left is gone on
        with.
        """
        order = self._orders[offer.action]
        self._tell(order.action, "proceeding", "none", [f"{offer.words}: fetched now"])
        target = folder / f"{offer.product}-{offer.version}.bundle"
        digest = _digest_of(order)[1]
        half = folder / f"{digest or order.action}.part"
        if order.is_plain and digest and target.is_file():  # it could not be installed before
            target.rename(half)
        for other in [path for path in folder.iterdir() if path != half]:
            remove_tree(other)
        _require_room(order, half)
        self._download(order, half)
        if not is_swu(half):
            return half.rename(target)
        try:
            unwrap(half, target)
        finally:
            half.unlink()
        return target

    def report(self, offer: Offer, outcome: Outcome, details: Sequence[str]) -> None:
        """As Source.report. `failed` leaves the order open: it is tried again. An order that the
        server has closed meanwhile takes no report.
        """
        if offer.action is None:
            return
        result = CLOSED.get(outcome)
        execution = "proceeding" if result is None else "closed"
        try:
            self._tell(offer.action, execution, result or "none", details)
        except NotThere:
            log.warning("%s: the fleet server has closed this order itself", offer.words)

    # --- the server's own addresses ---

    def _poll(self) -> dict[str, str]:
        """Links by name."""
        try:
            data = self._root.read(quote(self._station, safe=COLON), ANSWER_LIMIT)
        except NotThere as error:
            raise UpdateError(
                f"{self._address} knows no station {self._station}, or does not accept its token:"
                " add it there, or correct token_file in [update]"
            ) from error
        answer = parse_answer(Poll, data, self._address)
        return {name: link.href for name, link in answer.links.items()}

    def _introduce(self, href: str, current: Mapping[str, Installed]) -> None:
        """Tell what this station is, as the server asks for it."""
        versions = {product: one.manifest.version for product, one in sorted(current.items())}
        data = {
            "hw_boardname": BOARD,
            "hw_revision": REVISION,
            "sw_version": next(iter(versions.values()), "none"),
            **{f"product.{product}": version for product, version in versions.items()},
        }
        self._send(self._path(href), "PUT", {"mode": "merge", "data": data})

    def _accept_cancel(self, href: str) -> None:
        """Nothing of an order is begun between two checks, so each can be withdrawn."""
        cancel = parse_answer(Cancel, self._read(href), self._address)
        self._orders.pop(cancel.cancel.stop_id, None)
        details = [f"order {cancel.cancel.stop_id} is withdrawn; what is installed stays"]
        path = f"cancelAction/{quote(cancel.id)}/feedback"
        self._send(path, "POST", _feedback(cancel.id, "closed", "success", details))

    def _tell(self, action: str, execution: str, result: str, details: Sequence[str]) -> None:
        path = f"deploymentBase/{quote(action)}/feedback"
        self._send(path, "POST", _feedback(action, execution, result, details))

    def _read(self, href: str) -> bytes:
        return self._own.read(self._path(href), ANSWER_LIMIT)

    def _send(self, path: str, method: str, value: Mapping[str, object]) -> None:
        self._own.send(path, method, json.dumps(value).encode())

    def _path(self, href: str) -> str:
        path = path_below(href, self._station)
        if path is None:
            raise UpdateError(
                f"{self._address} sends this station elsewhere ({href!r}): nothing is taken from it"
            )
        return path

    # --- the file ---

    def _download(self, order: Ordered, half: Path) -> None:
        """Copy the file of an order to `half`, and compare it with what the server says of it."""
        path = path_below(order.artifact.link, self._station)
        reach = self._own
        if path is None:  # a store beside the server, which gets no token
            folder, _, path = order.artifact.link.rpartition("/")
            if urlsplit(folder).scheme not in ("http", "https"):
                raise UpdateError(f"{order.artifact.link!r} is no address: look at the server")
            reach = WebReach(folder, self._ca_file)
        reach.copy(path, half, order.artifact.size)
        kind, wanted = _digest_of(order)
        if wanted and _hash(half, kind) != wanted:
            half.unlink()  # the next call begins anew
            raise UpdateError(
                f"{order.artifact.filename} came damaged from {self._address}: tried again at the"
                " next check"
            )


def _require_room(order: Ordered, half: Path) -> None:
    """Raises: StorageError if the disk would be full with the rest of the file and, where it is
    wrapped, with the bundle in it.
    """
    size, there = order.artifact.size, half.stat().st_size if half.exists() else 0
    needed = SPARE_BYTES + size - min(there, size) + (0 if order.is_plain else size)
    free = shutil.disk_usage(half.parent).free
    if free < needed:
        raise StorageError(
            f"{half.parent} needs {needed / 1e6:.0f} MB for {order.artifact.filename},"
            f" {free / 1e6:.0f} MB are free: make room"
        )


def _offer(order: Ordered, halt: bool) -> Offer:
    """size and digest are of the bundle, so they are not known of one that is wrapped."""
    artifact, is_plain = order.artifact, order.is_plain
    digest = artifact.hashes.sha256.lower() if artifact.hashes.sha256 and is_plain else None
    size = artifact.size if is_plain else None
    return Offer(order.product, order.version, size, digest, order.action, halt)


def _digest_of(order: Ordered) -> tuple[str, str]:
    """The kind of digest that the server gives, and the digest; two empty texts where it gives
    none.
    """
    hashes = order.artifact.hashes
    if hashes.sha256:
        return "sha256", hashes.sha256.lower()
    return ("sha1", hashes.sha1.lower()) if hashes.sha1 else ("", "")


def _hash(path: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _feedback(
    action: str, execution: str, result: str, details: Sequence[str]
) -> dict[str, object]:
    told = [text[:DETAIL_LIMIT] for text in details]
    status = {"execution": execution, "result": {"finished": result}, "details": told}
    return {"id": action, "status": status}
