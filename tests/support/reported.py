"""A station whose commissioning can be reported: parts shown, a challenge, records, labels."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.install.proof_file import read_proof
from edge.station.site import ShownParts
from edge.station.store import Store

SHOWN_AT = "2026-11-30T10:00:00.000Z"
VOID = {"meta", "link", "img", "br", "hr", "line", "rect", "circle"}


def jpeg(level: int, side: int = 64) -> bytes:
    """A picture of one gray level."""
    return bytes(cv2.imencode(".jpg", np.full((side, side, 3), level, np.uint8))[1].tobytes())


def png(level: int, width: int = 900, height: int = 300) -> bytes:
    """A wide picture of one gray level."""
    return bytes(cv2.imencode(".png", np.full((height, width, 3), level, np.uint8))[1].tobytes())


def show_parts(store: Store, product: str = "washer", **changed: Any) -> dict[str, Any]:
    """As a calibration with four normal parts and a challenge with three bad ones leaves it: the
    evidence, and the model state that rests on it.

    changed: keys of commissioning.json.
    """
    bundle = store.installed(product)
    proof = read_proof(store, bundle)
    assert proof is not None
    judge = proof.judge(bundle.manifest)
    parts = [
        {"number": n, "role": "scored", "score": float(n), "frame_number": n,
         "picture": f"{n:02d}.jpg"}
        for n in range(1, 5)
    ]  # fmt: skip
    bad = [
        {"number": n, "role": "missed" if n == 3 else "caught", "score": 10.0 * n,
         "frame_number": n, "picture": f"challenge-{n:02d}.jpg"}
        for n in range(1, 4)
    ]  # fmt: skip
    shown = {
        "schema": 1, "product": product, "bundle": bundle.slot, "digest": bundle.digest,
        "engine": judge.runtime, "precision": judge.precision, "serial": "virtual-washer",
        "who": "anna", "when": SHOWN_AT, "count": 4, "false_rejects": 0.05, "is_proven": False,
        "channels": 96, "spare_rows": 0, "threshold": 4.0, "rank": 1, "proven": 0.527,
        "on_average": 0.2, "expected": 0.031, "guarantee": "few are rejected",
        "next_parts": "31 of the next 1000", "to_prove": "59 parts would prove 5%",
        "parts": parts, "geometry_version": 1, "plane_residual_m": 0.0004,
        "challenge": {
            "version": 1, "threshold": 4.0, "caught": 2, "detection": 0.135,
            "sentence": "2 of 3 known-bad parts were caught", "parts": bad, "who": "bert",
            "when": SHOWN_AT, "geometry_version": 1,
        },
        **changed,
    }  # fmt: skip
    folder = store.site_folder(product) / "commissioning"
    folder.mkdir(parents=True)
    for one in [*parts, *bad]:
        (folder / str(one["picture"])).write_bytes(jpeg(40 * int(str(one["number"]))))
    (store.site_folder(product) / "commissioning.json").write_text(json.dumps(shown))
    behind = ShownParts(
        scores=(1.0, 2.0, 3.0, 4.0), is_proven=False, serial="virtual-washer", who="anna",
        when=SHOWN_AT,
    )  # fmt: skip
    store.save_model_state(
        bundle, judge.precision, judge.runtime, 4, 4.0, "few are rejected", who="anna", rank=1,
        shown=behind,
    )  # fmt: skip
    return shown


class Page(HTMLParser):
    """What a page shows and what it asks for."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.unclosed: list[str] = []
        self.feed(page.decode("utf-8"))
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self._open or self._open.pop() != tag):
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All that it shows, with single spaces."""
        return " ".join(" ".join(self.texts).split())


def read_page(page: bytes) -> Page:
    """A page that is whole, and needs nothing from elsewhere."""
    read = Page(page)
    assert read.unclosed == []
    assert [link for link in read.links if not link.startswith("data:image/jpeg;base64,")] == []
    assert "script" not in read.tags
    return read


def station_pub(root: Path) -> Path:
    """The station's public key."""
    return root / "var/lib/edge/station.pub"
