"""A station's root with records as the outbox commits them and pictures as the keeper has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.archive.labels import add_label
from edge.line.message import Record, record_fields, utc_ms
from edge.line.outbox import Outbox
from edge.runtime.kept_files import Images, image_files, overlay_png
from edge.runtime.kept_folders import write_folder
from edge.types import Code, Frame, Intrinsics, Reason

STATION, PRODUCT, BUNDLE = "cell7", "washer", "1.0.0-0123456789ab"
BEGIN = datetime(2026, 11, 20, 6, 0, tzinfo=timezone.utc)
EVERY = timedelta(minutes=6)  # 1,000 parts are a little more than four days
LIMIT = 2.0  # the threshold
HEIGHT, WIDTH, FOCAL = 240, 320, 300.0
CROP = (60, 20, 200, 200)
DATA = Path("var/lib/edge")
PICTURED = 24  # the newest parts of `record_parts` that have pictures
SINCE = {"part": 120, "seq": 150, "at": "2026-11-20T21:00:00.000Z"}
# products/PRODUCT/drift.json, as far as the page reads it
DRIFT: dict[str, Any] = {
    "schema": 1,
    "key": {},
    "parts": 180,
    "numbers": {"score": {"pool": ""}, "area": {"pool": ""}, "brightness": {}},
    "changes": [
        {
            "number": "score",
            "says": "higher",
            "since": SINCE,
            "seen": {**SINCE, "seq": 170},
            "before": 0.98,
            "after": 1.61,
            "with_": ["brightness lower"],
        }
    ],
    "points": [[seq, [seq / 100, -0.2, 0.0]] for seq in range(1, 181)],
    "stride": 1,
}


def record_parts(root: Path, count: int = 1000, pictured: int = PICTURED) -> list[dict[str, Any]]:
    """Records of `count` parts, oldest first: mostly OK, some NG, few UNKNOWN; the newest have
    pictures.
    """
    outbox = Outbox(root / DATA / "line.sqlite")
    try:
        made = [
            outbox.commit(lambda seq: fields_of(seq, has_pictures=seq > count - pictured))
            for _ in range(count)
        ]
    finally:
        outbox.close()
    for fields in made:
        if fields["images"] is not None:
            keep_pictures(root, fields)
    return made


def add_record(root: Path, **changed: Any) -> dict[str, Any]:
    """One more record, with these fields in place of its own, whatever they are."""
    outbox = Outbox(root / DATA / "line.sqlite")
    try:
        return outbox.commit(lambda seq: {**fields_of(seq), **changed, "seq": seq})
    finally:
        outbox.close()


def fields_of(seq: int, has_pictures: bool = False) -> dict[str, Any]:
    """The record of one part: its score follows from its number."""
    rng = np.random.default_rng(seq)
    score = np.float32(rng.lognormal(0.0, 0.3))
    if seq % 23 == 0:
        score = np.float32(LIMIT * rng.uniform(1.05, 3.0))
    is_judged = seq % 61 != 0
    at = BEGIN + seq * EVERY
    code = (Code.NG if score > LIMIT else Code.OK) if is_judged else Code.UNKNOWN
    reasons = {Code.OK: Reason.NORMAL, Code.NG: Reason.ANOMALY, Code.UNKNOWN: Reason.NO_DEPTH}
    record = Record(
        part=f"P{seq}",
        code=code,
        reason=reasons[code],
        score=score if is_judged else None,
        threshold=np.float32(LIMIT),
        ms=100 + seq % 50,
        area=0.31,
        valid=0.98 if is_judged else 0.2,
        frames=5,
        product=PRODUCT,
        bundle=BUNDLE,
        geometry="89ab01234567",
        model_state=None,
        captured_at=utc_ms(at.timestamp() - 0.1),
        judged_at=utc_ms(at.timestamp()),
        clock_synced=True,
        engine="onnxruntime 1.32.0 fp32",
        threshold_from="bundle",
        threshold_parts=60,
        guarantee="With 95% confidence at most 10.1% of normal parts are rejected",
        images=f"parts/{at:%Y-%m-%d}/{STATION}-{seq}" if has_pictures else None,
        images_sha256="0" * 64 if has_pictures else None,
    )
    return record_fields(record, STATION, seq)


def keep_pictures(root: Path, fields: Mapping[str, Any], serial: str = "A1") -> Path:
    """The folder of one part, as the keeper writes it."""
    is_bad, seq = fields["code"] == Code.NG, int(fields["seq"])
    heat = None if fields["code"] == Code.UNKNOWN else _heat(is_bad)
    images = Images(fields["images"], _frame(seq, is_bad, serial), heat, fields, CROP)
    _, day, name = fields["images"].split("/")
    files = {**image_files(images), "overlay.png": overlay_png(images)}
    return write_folder(root / DATA / "parts", day, name, files)


def label_parts(root: Path, made: list[dict[str, Any]]) -> dict[str, int]:
    """Every second NG part is good, the others are bad, but for the last, which nobody looked at;
    one OK part is bad. Returns what that makes of them.
    """
    rejected = [fields["seq"] for fields in made if fields["code"] == Code.NG][:-1]
    for place, seq in enumerate(rejected):
        add_label(root, seq, "bad" if place % 2 else "good", who="quality")
    missed = next(fields["seq"] for fields in made if fields["code"] == Code.OK)
    add_label(root, missed, "bad", "a crack", who="quality")
    return {"false_rejects": len(rejected[::2]), "misses": 1, "missed": missed}


def with_drift(root: Path, text: str) -> None:
    """The text as the drift watch's file of the active product."""
    folder = root / DATA / "products/washer"
    folder.mkdir(parents=True, exist_ok=True)
    (root / DATA / "active").write_text("washer\n")
    (folder / "drift.json").write_text(text)


def _frame(seq: int, is_bad: bool, serial: str) -> Frame:
    """A disc on a table; a defective one has a scratch."""
    rng = np.random.default_rng(seq)
    color: NDArray[np.uint8] = np.full((HEIGHT, WIDTH, 3), (58, 64, 70), np.uint8)
    depth: NDArray[np.uint16] = np.full((HEIGHT, WIDTH), 5000, np.uint16)
    middle = (160 + int(rng.integers(-6, 7)), 120 + int(rng.integers(-6, 7)))
    cv2.circle(color, middle, 74, (168, 172, 176), -1, cv2.LINE_AA)
    cv2.circle(color, middle, 26, (58, 64, 70), -1, cv2.LINE_AA)
    cv2.circle(depth, middle, 74, 4800, -1)
    if is_bad:
        cv2.line(color, (middle[0] + 30, middle[1] - 40), (middle[0] + 58, middle[1] - 8),
                 (92, 60, 50), 3, cv2.LINE_AA)  # fmt: skip
    color = np.clip(color + rng.normal(0, 4, color.shape), 0, 255).astype(np.uint8)
    lens = Intrinsics(WIDTH, HEIGHT, FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    return Frame(color, depth, 0.0001, lens, serial, seq, 0, exposure_us=8000.0)


def _heat(is_bad: bool) -> NDArray[np.float32]:
    heat = np.full((50, 50), 0.4, np.float32)
    if is_bad:
        heat[14:26, 32:42] = 3.0 * LIMIT
    return heat
