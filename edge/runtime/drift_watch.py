"""The watch over slow changes of the parts' numbers while the station judges: edge/decide/drift.py,
fed after the verdict has left, in a thread of its own.

    products/PRODUCT/drift.json    what is remembered; written at most once a minute, and at the end

It changes no verdict, and no verdict waits for it: a part that finds its queue full is left out.
What is remembered belongs to one DriftKey: installing or calibrating makes another and so
begins anew; lots, restarts and other products in between do not. Parts without a verdict OK or NG,
parts of a calibration among them, are never given to it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.background import keep_running
from edge.decide.depth_noise import depth_noise_mm, mean_brightness
from edge.decide.drift import Drift
from edge.decide.drift_file import FILE_LIMIT, DriftKey, drift_from_json, drift_to_json
from edge.decide.drift_words import sentence_of
from edge.errors import ConfigError
from edge.files import is_there, read_bytes, write_atomically
from edge.files import sentence_of as sentence_of_error
from edge.line.outbox import Fields
from edge.runtime.active import ActiveBundle
from edge.runtime.current import CurrentBundle
from edge.runtime.parts import JudgedFrame
from edge.runtime.status import DRIFT_REMEDY
from edge.station.store import Store
from edge.trouble import Trouble
from edge.types import Code

log = logging.getLogger(__name__)

FILE = "drift.json"
QUEUE_LIMIT = 8  # parts with their frames, about 1.5 MB each
PASS_S = 1.0  # without a part the thread looks for another bundle or site state after this long
SAVE_S = 60.0
NICE = 10


class DriftWatch:
    """See the top of this file. `put` is called by the decision thread, start and stop by the main
    thread; `told` and `parts` may be read by any thread, each is replaced as a whole.
    """

    def __init__(
        self,
        store: Store,
        current: CurrentBundle,
        temperature_c: Callable[[], float | None],
        changed: Callable[[], None],
        save_s: float = SAVE_S,
    ) -> None:
        """Nothing is read or written before start().

        Args:
            temperature_c: of the camera. changed: called when `told` has changed.
            save_s: between two writes of the file, at least.
        """
        self._store, self._current, self._temperature_c = store, current, temperature_c
        self._changed, self._save_s = changed, save_s
        self._queue: queue.Queue[tuple[Fields, JudgedFrame] | None] = queue.Queue(QUEUE_LIMIT)
        self._stopping = threading.Event()
        self._key: DriftKey | None = None  # of what is remembered; None: nothing yet
        self._drift = Drift(secrets.randbits(63))
        self._looked_at: ActiveBundle | None = None  # whose key was compared last
        self._saved_parts, self._saved_at_s = 0, time.monotonic()
        self._saving = Trouble(log, "what is remembered of the parts is written again")
        self.told: str | None = None  # which numbers drift since when; None: none
        self.parts = 0  # watched since the last calibration
        self._queueing = Trouble(log, "the watch over drift keeps up again")
        self._thread = threading.Thread(
            target=keep_running, args=(log, self._run, self._stopping), name="drift", daemon=True
        )

    def start(self) -> None:
        """Go on with what was remembered at the last end."""
        self._thread.start()

    def put(self, fields: Fields, shown: JudgedFrame) -> None:
        """A part was decided: its record, and the frame that it rests on. Never waits.

        A part without a verdict OK or NG says nothing about the parts, and is left out; so is every
        part before start(), which is not called where files are played.
        """
        is_judged = fields["code"] in (Code.OK, Code.NG) and shown.frame is not None
        if not is_judged or not self._thread.is_alive():
            return
        try:
            self._queue.put_nowait((fields, shown))
        except queue.Full:
            self._queueing.happened("drift: parts are left out, the processor does not keep up")
            return
        if self._queue.qsize() <= 1:
            self._queueing.ended()

    def stop(self, timeout_s: float) -> None:
        """Take what waits and write the file, at most for timeout_s."""
        self._stopping.set()
        with contextlib.suppress(queue.Full):  # it looks after each part
            self._queue.put_nowait(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        self._resume()
        while not (self._stopping.is_set() and self._queue.empty()):
            try:
                item = self._queue.get(timeout=PASS_S)
                if item is not None:
                    self._take(*item)
            except queue.Empty:
                self._look_for_change()
            if time.monotonic() - self._saved_at_s >= self._save_s:
                self._save()
        self._save()

    def _take(self, fields: Fields, shown: JudgedFrame) -> None:
        key = key_of_record(fields, shown)
        if key != self._key:
            self._change_to(key)
            self._tell(is_new=False)
        values = values_of(fields, shown, self._temperature_c())
        self._drift.take(values, fields["seq"], fields["judged_at"])
        self._tell()

    def _look_for_change(self) -> None:
        """Calibrated anew, or another bundle: what is remembered is of the past, also before the
        next part.
        """
        active = self._current.get()
        if self._key is None or active is self._looked_at:
            return
        self._looked_at = active
        with contextlib.suppress(ConfigError):  # of a damaged geometry, which judging tells
            key = key_of(active, self._key.serial)
            if key != self._key:
                self._change_to(key)
                self._tell(is_new=False)

    def _resume(self) -> None:
        """At the start the camera is not known yet: it is assumed to be that of the file."""
        product = self._current.get().installed.product
        for path in drift_file(self._store, product).parent.glob(f".{FILE}.*"):
            with contextlib.suppress(OSError):  # a process that was killed has left it
                path.unlink()
        found = self._read(product)
        if found is not None:
            self._go_on(*found)
            self._tell(is_new=False)
            self._look_for_change()

    def _change_to(self, key: DriftKey) -> None:
        """Remember parts of this key from now on: go on with the file, or begin anew."""
        self._save()
        found = self._read(key.product)
        if found is not None and found[0] == key:
            self._go_on(*found)
            return
        if found is not None:
            log.info(
                "product=%s drift: bundle, camera or calibration is another, the watch begins anew",
                key.product,
            )
        self._go_on(key, Drift(secrets.randbits(63)))

    def _go_on(self, key: DriftKey, drift: Drift) -> None:
        self._key, self._drift = key, drift
        self._saved_parts, self._saved_at_s = drift.parts, time.monotonic()

    def _tell(self, is_new: bool = True) -> None:
        """`told` and `parts` as they are now; the journal hears of a begin and of an end.

        is_new: False for what was remembered.
        """
        before, told = self.told, sentence_of(self._drift.changes)
        self.told, self.parts = told, self._drift.parts
        if told == before:
            return
        if told is None:
            log.warning("drift: no warning for what is judged now; the one before was: %s", before)
        elif is_new:
            log.warning("drift: %s: %s", told, DRIFT_REMEDY)
        else:
            log.info("drift: the warning of before stays: %s", told)
        self._changed()

    def _read(self, product: str) -> tuple[DriftKey, Drift] | None:
        """What the product's file remembers; None where there is none, or it cannot be used, which
        the log says.
        """
        try:
            return read_drift(self._store, product)
        except ConfigError as error:
            log.warning("%s. The watch over drift begins anew", error)
            return None

    def _save(self) -> None:
        """Write the file if a part was watched since it was written."""
        self._saved_at_s = time.monotonic()
        key, drift = self._key, self._drift
        if key is None or drift.parts == self._saved_parts:
            return
        try:
            write_atomically(drift_file(self._store, key.product), drift_to_json(key, drift))
        except OSError as error:
            why = sentence_of_error(error)
            self._saving.happened(f"drift: {why}. A restart would forget the parts since then")
            return
        self._saved_parts = drift.parts
        self._saving.ended()


def key_of_record(fields: Fields, shown: JudgedFrame) -> DriftKey:
    """Of a part that was judged."""
    of_record = ("product", "bundle", "engine", "geometry", "model_state")
    serial = "" if shown.frame is None else shown.frame.serial
    return DriftKey(serial=serial, **{name: fields[name] for name in of_record})


def key_of(active: ActiveBundle, serial: str) -> DriftKey:
    """Of the parts that `active` judges in the view of this camera.

    Raises: ConfigError if the geometry is damaged.
    """
    return DriftKey(
        product=active.installed.product,
        serial=serial,
        bundle=active.bundle,
        engine=active.engine_name,
        geometry=active.geometry_digest(serial),
        model_state=active.model_digest,
    )


def values_of(
    fields: Mapping[str, object], shown: JudgedFrame, temperature_c: float | None
) -> dict[str, float | None]:
    """The numbers of a part that was judged, as edge.decide.drift.NUMBERS has them."""
    frame = shown.frame
    if frame is None:
        return {}
    site = shown.active.site(frame.serial)
    window = frame.cropped(*site.crop)
    return {
        **{name: _number(fields[name]) for name in ("score", "valid", "area")},
        "depth_noise": depth_noise_mm(window, site.tensors),
        "rejects": float(fields["code"] == Code.NG),
        "brightness": mean_brightness(window.color),
        "temperature": temperature_c,
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def drift_file(store: Store, product: str) -> Path:
    """Where it is remembered."""
    return store.products_folder / product / FILE


def read_drift(store: Store, product: str) -> tuple[DriftKey, Drift] | None:
    """What is remembered of a product's parts, and which parts these are; None where nothing is.

    Raises: ConfigError if the file is damaged, or of another product.
    """
    path = drift_file(store, product)
    try:
        if not is_there(path):
            return None
        key, drift = drift_from_json(read_bytes(path, limit=FILE_LIMIT))
    except OSError as error:
        raise ConfigError(sentence_of_error(error, path)) from error
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): it is not used") from error
    if key.product != product:
        raise ConfigError(f"{path} is of product {key.product}: it is not used")
    return key, drift
