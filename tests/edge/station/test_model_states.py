"""Going back to the model state before, and the evidence of a calibration with parts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from edge.errors import CalibrationError, StorageError
from edge.files import write_atomically
from edge.install.install import install_bundle
from edge.station import model_states
from edge.station.audit import read_audit
from edge.station.commissioning import (
    Challenge,
    Commissioning,
    Picture,
    keep_commissioning,
    keep_refused,
    pictures_folder,
    read_commissioning,
)
from edge.station.site import ModelState, ShownParts
from edge.station.store import Store
from tests.support.root import Bundles, trusting_root
from tests.support.tiny_bundle import KeyPair

ENGINE = ("fp32", "onnxruntime 1")
SHOWN = ShownParts(
    scores=(1.0, 2.5), is_proven=False, serial="S1", who="anna", when="2026-01-31T12:00:00.000Z"
)


@pytest.fixture
def store(tmp_path: Path, key: KeyPair, bundles: Bundles) -> Store:
    store = trusting_root(tmp_path / "station", key)
    install_bundle(bundles("washer", "1.0.0"), store.root)
    return store


def save(store: Store, threshold: float, **more: object) -> ModelState:
    return store.save_model_state(
        store.active(), *ENGINE, 2, threshold, f"at {threshold}", **more  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_state_before_comes_back_whole_under_a_new_version(store: Store) -> None:
    shift = {"shift": np.float32([1, 2])}
    first = save(store, 1.0, tensors=shift, rank=2, shown=SHOWN)
    save(store, 2.0)
    now = store.undo_model_state(store.active(), who="bert")
    assert now == first.model_copy(update={"version": 3, "who": "bert", "when": now.when})
    assert store.model_state(store.active(), *ENGINE) == now
    row = read_audit(store.root)[-1]
    assert (row.act, row.who, row.detail["threshold"]) == ("calibrate undo", "bert", 1.0)


def test_it_goes_one_step_back_and_never_forth(store: Store) -> None:
    for threshold in (1.0, 2.0, 3.0):
        save(store, threshold)
    assert store.undo_model_state(store.active()).threshold == 2.0
    with pytest.raises(CalibrationError, match="what version 4 of the calibration of"):
        store.undo_model_state(store.active())
    save(store, 5.0)
    assert store.undo_model_state(store.active()).threshold == 2.0


def test_the_latest_state_of_any_engine_is_taken_back(store: Store) -> None:
    bundle = store.active()
    save(store, 1.0)
    store.save_model_state(bundle, "int8", "tensorrt 10", 2, 7.0)
    state = store.undo_model_state(bundle)
    assert (state.precision, state.is_set) == ("int8", False)
    assert [one.precision for one in store.model_states(bundle)] == ["fp32"]
    assert store.model_state(bundle, "int8", "tensorrt 10") is None
    with pytest.raises(CalibrationError, match="cannot be undone"):
        store.undo_model_state(bundle)  # not that of the other engine instead
    assert store.model_state(bundle, *ENGINE) is not None


def test_a_file_of_before_says_that_the_state_is_not_kept(store: Store) -> None:
    save(store, 1.0)
    path = store.model_file("washer", store.active().digest)
    file = json.loads(path.read_text())
    del file["replaced"]
    path.write_text(json.dumps(file))
    assert store.model_state(store.active(), *ENGINE) is not None
    with pytest.raises(CalibrationError, match="replaced is not kept"):
        store.undo_model_state(store.active())


def test_an_undo_that_never_took_effect_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 1.0)
    save(store, 2.0)

    def pulled(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(model_states, "write_state", pulled)
        with pytest.raises(KeyboardInterrupt):
            store.undo_model_state(store.active())
    state = store.model_state(store.active(), *ENGINE)
    assert state is not None
    assert state.threshold == 2.0
    assert store.undo_model_state(store.active()).threshold == 1.0
    assert [row.act for row in read_audit(store.root)][-3:] == [
        "calibrate undo",
        "calibrate undo not in effect",
        "calibrate undo",
    ]


# --- the evidence ---


def evidence(store: Store, **changes: object) -> Commissioning:
    bundle = store.active()
    fields: dict[str, object] = {
        "product": "washer",
        "bundle": bundle.slot,
        "digest": bundle.digest,
        "engine": ENGINE[1],
        "precision": ENGINE[0],
        "serial": "S1",
        "who": SHOWN.who,
        "when": SHOWN.when,
        "count": 2,
        "false_rejects": 0.05,
        "is_proven": False,
        "channels": 3,
        "threshold": 2.5,
        "rank": 1,
        "proven": 0.78,
        "on_average": 0.33,
        "expected": 0.05,
        "guarantee": "so it is",
        "next_parts": "so many",
        "to_prove": "more",
        "parts": [
            Picture(number=n, role="scored", score=n, frame_number=n, picture=f"0{n}.jpg")
            for n in (1, 2)
        ],
        **changes,
    }
    return Commissioning.model_validate(fields)


def test_evidence_comes_back_and_replaces_the_pictures_before(store: Store) -> None:
    assert read_commissioning(store, "washer") is None
    pictures = {"01.jpg": b"one", "02.jpg": b"two"}
    keep_commissioning(store, evidence(store), {**pictures, "03.jpg": b"not named"})
    folder = pictures_folder(store, "washer")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == pictures
    assert keep_refused(store, "washer", b"refused") == folder / "refused.jpg"
    challenged = Picture(
        number=1, role="missed", score=9, frame_number=1, picture="challenge-01.jpg"
    )
    challenge = Challenge(
        version=1, threshold=2.5, caught=0, detection=0, sentence="", parts=(challenged,),
        who="anna", when=SHOWN.when,
    )  # fmt: skip
    record = evidence(store, challenge=challenge)
    keep_commissioning(store, record, {"challenge-01.jpg": b"missed"})
    assert read_commissioning(store, "washer") == record
    assert sorted(path.name for path in folder.iterdir()) == [
        "01.jpg",
        "02.jpg",
        "challenge-01.jpg",
    ]


def test_it_belongs_to_the_state_that_rests_on_the_same_parts(store: Store) -> None:
    record = evidence(store)
    assert not record.is_of(None)
    assert not record.is_of(save(store, 1.0))
    state = save(store, 2.5, shown=SHOWN)
    assert record.is_of(state)
    assert record.is_of(save(store, 9.0, shown=SHOWN))  # another rate, of the same parts
    assert not record.is_of(
        store.undo_model_state(store.active()).model_copy(update={"shown": None})
    )
    other = SHOWN.model_copy(update={"when": "2026-02-01T12:00:00.000Z"})
    assert not record.is_of(save(store, 2.5, shown=other))
    assert not record.is_of(state.model_copy(update={"precision": "int8"}))


@pytest.mark.skipif(os.geteuid() != 0, reason="a user's own links are that user's affair")
def test_pictures_never_leave_the_station(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = pictures_folder(store, "washer")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="is a link where a folder of the station belongs"):
        keep_refused(store, "washer", b"refused")
    assert list(elsewhere.iterdir()) == []


def test_the_text_of_a_state_without_parts_is_what_it_was(store: Store) -> None:
    """Its digest stands in records."""
    state = save(store, 1.0)
    text = json.loads(state.model_dump_json())
    assert set(text) == {
        "version", "digest", "precision", "runtime", "threshold", "rank", "guarantee", "tensors",
        "parts", "who", "when",
    }  # fmt: skip
    shown = json.loads(save(store, 1.0, shown=SHOWN).model_dump_json())["shown"]
    assert shown["scores"] == [1.0, 2.5]
    path = store.model_file("washer", store.active().digest)
    write_atomically(path, path.read_bytes())
    found = store.model_state(store.active(), *ENGINE)
    assert found is not None
    assert found.shown == SHOWN
