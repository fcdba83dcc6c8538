"""An offer becomes the bundle that judges, or leaves everything as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.errors import BusyError, ConfigError, StorageError, UpdateError
from edge.install.install import SPARE_BYTES, install_bundle
from edge.station.audit import read_audit
from edge.station.lock import CHANGE, locked
from edge.station.store import Store
from edge.update import apply as apply_module
from edge.update.apply import Decided, preview, update_once
from edge.update.forgetting import forget
from edge.update.reach import Refused
from edge.update.source import Offer, Outcome
from edge.update.state import LOCK, REFUSED_LIMIT, is_due, read_update_state, update_folder
from edge.update_sections import UpdateConfig
from tests.support.offered import FileSource
from tests.support.root import Bundles, snapshot
from tests.support.tiny_bundle import KeyPair, make_key, make_tiny_bundle

CONFIG = UpdateConfig(trial_parts=5, trial_min=1)


@pytest.fixture
def source() -> FileSource:
    return FileSource()


@pytest.fixture
def first(store: Store, bundles: Bundles) -> str:
    """The slot of washer 1.0.0, which is installed."""
    return install_bundle(bundles("washer", "1.0.0"), store.root).slot


def update(store: Store, source: FileSource, config: UpdateConfig = CONFIG) -> list[Decided]:
    return update_once(store, source, config, lambda _: None)


def outcomes(decided: list[Decided]) -> list[Outcome | None]:
    return [one.outcome for one in decided]


@contextmanager
def at_work(monkeypatch: pytest.MonkeyPatch, store: Store, **said: Any) -> Iterator[dict[str, Any]]:
    """A station that says in its status what the test says; it takes up every bundle at once and
    judges a part with each look.
    """
    told = {"state": "online", "reason": "", "ready": True, "pid": 7, "uptime_s": 1, "ok": 0}
    told |= {"ng": 0, "unknown": 0, **said}

    def look(_: Store) -> dict[str, Any]:
        told["uptime_s"] += 1
        told["ok" if told.get("good", True) else "ng"] += 1
        return {"bundle": store.link("washer", "current"), **told}

    monkeypatch.setattr("edge.update.watch.said_now", look)
    monkeypatch.setattr(apply_module, "said_now", look)
    monkeypatch.setattr("edge.update.watch.LOOK_S", 0.0)
    yield told


def test_a_new_bundle_is_installed_and_accepted_when_the_station_is_healthy(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    with at_work(monkeypatch, store):
        (decided,) = update(store, source)
    assert decided.outcome == "installed"
    assert "healthy" in decided.why
    assert store.active().manifest.version == "2.0.0"
    assert store.link("washer", "previous") == first
    assert source.told == [("2.0.0", "installed")]
    acts = [row.act for row in read_audit(store.root)]
    assert acts[-5:] == ["update", "threshold", "install", "installed", "update installed"]
    assert not (update_folder(store) / "fetched").exists()
    with at_work(monkeypatch, store):
        assert update(store, source) == []  # what is installed is not taken again
    assert source.fetched == 1


def test_it_is_rolled_back_when_parts_are_rejected_and_never_taken_again(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    with at_work(monkeypatch, store, good=False):
        (decided,) = update(store, source)
    assert decided.outcome == "rolled_back"
    assert "NG or UNKNOWN" in decided.why
    assert store.link("washer", "current") == first
    assert source.told == [("2.0.0", "rolled_back")]
    acts = [row.act for row in read_audit(store.root)]
    assert acts[-3:] == ["rollback", "rolled back", "update rolled back"]
    with at_work(monkeypatch, store):
        assert update(store, source) == []
        assert store.link("washer", "current") == first
        assert [one.version for one in forget(store, "washer")] == ["2.0.0"]
        assert outcomes(update(store, source)) == ["installed"]


@pytest.mark.parametrize("reason", ["engine", "bundle", "camera_mismatch"])
def test_it_is_rolled_back_when_the_station_is_in_a_fault_that_it_can_be_the_cause_of(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch, reason: str
) -> None:
    monkeypatch.setattr("edge.update.trial.TROUBLE_S", 0.0)
    source.offer(bundles("washer", "2.0.0"))

    with at_work(monkeypatch, store) as told:
        install = apply_module.install_bundle

        def breaks(path: Path, root: Path) -> None:
            install(path, root)
            told.update(state="fault", reason=reason, ready=False, why="a sentence")

        monkeypatch.setattr(apply_module, "install_bundle", breaks)
        (decided,) = update(store, source)
    assert decided.outcome == "rolled_back"
    assert f"reason {reason}: a sentence" in decided.why
    assert store.link("washer", "current") == first


def test_without_a_running_station_the_trial_waits_and_goes_on_later(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    assert outcomes(update(store, source)) == [None]
    assert store.link("washer", "current").startswith("2.0.0")
    assert is_due(read_update_state(store), 3600)
    source.offer(bundles("washer", "3.0.0"))
    assert outcomes(update(store, source)) == [None]  # one at a time
    with at_work(monkeypatch, store):
        assert outcomes(update(store, source)) == ["installed", "installed"]
    assert source.told == [("2.0.0", "installed"), ("3.0.0", "installed")]


def test_what_somebody_took_back_by_hand_is_not_taken_again(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    update(store, source)
    store.rollback("washer")
    assert outcomes(update(store, source)) == ["rolled_back"]
    assert update(store, source) == []
    source.offer(bundles("washer", "3.0.0"))
    with at_work(monkeypatch, store):
        assert outcomes(update(store, source)) == ["installed"]
        store.rollback("washer")  # after its trial
        assert update(store, source) == []
    assert store.link("washer", "current") == first


def test_a_bundle_of_an_unknown_key_is_refused_once(
    store: Store, source: FileSource, first: str, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path, "stranger")
    source.offer(make_tiny_bundle(tmp_path, stranger, version="2.0.0"))
    before = store.token()
    (decided,) = update(store, source)
    assert decided.outcome == "refused"
    assert "does not trust" in decided.why
    assert update(store, source) == []
    assert source.fetched == 1
    assert store.token() == before


def test_a_bundle_whose_engine_is_not_proven_is_refused(
    store: Store, source: FileSource, first: str, key: KeyPair, tmp_path: Path, monkeypatch
) -> None:
    source.offer(make_tiny_bundle(tmp_path, key, version="2.0.0"))
    from edge.errors import ParityError

    def not_proven(path: Path, root: Path) -> None:
        raise ParityError("no engine decides as the trained model did")

    monkeypatch.setattr(apply_module, "install_bundle", not_proven)
    assert outcomes(update(store, source)) == ["refused"]
    assert source.told == [("2.0.0", "refused")]
    assert read_update_state(store).trial is None
    assert store.link("washer", "current") == first


def test_another_bundle_than_was_offered_is_refused(
    store: Store, bundles: Bundles, source: FileSource, first: str
) -> None:
    offer = source.offer(bundles("washer", "2.0.0"))
    source.offers = {offer: bundles("washer", "3.0.0")}
    (decided,) = update(store, source)
    assert decided.outcome == "refused"
    assert "gave washer 3.0.0" in decided.why


@pytest.mark.parametrize("error", [UpdateError("no way there"), OSError(28, "No space left")])
def test_what_is_no_fault_of_the_bundle_is_tried_again(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch, error: Exception
) -> None:
    source.offer(bundles("washer", "2.0.0"))

    def fails(*_: object) -> Path:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(source, "fetch", fails)
        assert outcomes(update(store, source)) == ["failed"]
    assert source.told == [("2.0.0", "failed")]
    assert store.link("washer", "current") == first
    with at_work(monkeypatch, store):
        assert outcomes(update(store, source)) == ["installed"]


def test_versions_only_go_up_and_halted_or_unlisted_products_are_left_alone(
    store: Store, bundles: Bundles, source: FileSource, first: str
) -> None:
    before = snapshot(store.data / "products")
    for offer in (
        lambda: source.offer(bundles("washer", "0.9.0")),
        lambda: source.offer(bundles("washer", "2.0.0"), halt=True),
        lambda: source.offer(bundles("screw", "1.0.0")),
    ):
        offer()
        assert update(store, source) == []
    assert source.fetched == 0
    assert snapshot(store.data / "products") == before
    source.offer(bundles("screw", "1.0.0"), action="17")
    assert outcomes(update(store, source)) == ["refused"]  # who waits for an answer gets one
    listed = UpdateConfig(products=("washer", "screw"))
    assert outcomes(update(store, source, listed)) == ["installed"]
    assert store.active_product() == "washer"


@pytest.mark.parametrize(("product", "version"), [("../washer", "2.0.0"), ("washer", "2\n0")])
def test_an_offer_that_names_no_bundle_is_refused_in_one_line(
    store: Store, source: FileSource, first: str, product: str, version: str
) -> None:
    source.offers = {Offer(product, version, action="1"): Path("/nowhere")}
    with pytest.raises(UpdateError, match="names no bundle") as refusal:
        update(store, source)
    assert "\n" not in str(refusal.value)
    assert source.told == []


def test_a_report_that_is_not_taken_is_told_again(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    source.is_deaf = True
    with at_work(monkeypatch, store):
        update(store, source)
        assert source.told == []
        source.is_deaf = False
        update(store, source)
    assert source.told == [("2.0.0", "installed")]


def test_a_report_that_is_refused_is_dropped_in_the_end_and_said_once(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    def refuse(*_: object) -> None:
        raise Refused("the server answers 400")

    monkeypatch.setattr(source, "report", refuse)
    source.offer(bundles("washer", "0.9.0"), action="1")
    told: list[str] = []
    update_once(store, source, CONFIG, told.append)
    source.offers = {}
    for _ in range(REFUSED_LIMIT):
        update_once(store, source, CONFIG, told.append)
    assert read_update_state(store).waiting == ()
    assert [line.count("it is told again") for line in told if "answers 400" in line] == [1, 0]
    assert read_audit(store.root)[-1].act == "update report dropped"


def test_a_report_that_cannot_be_sent_waits_and_is_said_once(
    store: Store, bundles: Bundles, source: FileSource, first: str
) -> None:
    source.offer(bundles("washer", "0.9.0"), action="1")
    source.is_deaf = True
    told: list[str] = []
    update_once(store, source, CONFIG, told.append)
    source.offers = {}
    for _ in range(REFUSED_LIMIT + 1):
        update_once(store, source, CONFIG, told.append)
    assert len(read_update_state(store).waiting) == 1
    assert sum("nobody listens" in line for line in told) == 1


def test_a_product_that_is_damaged_is_named_and_the_others_are_taken(
    store: Store, bundles: Bundles, source: FileSource, first: str
) -> None:
    install_bundle(bundles("nut", "1.0.0"), store.root)
    (store.products_folder / "washer" / "slots" / first / "manifest.json").write_text("{")
    offers = [source.offer(bundles(name, "2.0.0")) for name in ("nut", "washer")]
    paths = [bundles(name, "2.0.0") for name in ("nut", "washer")]
    source.offers = dict(zip(offers, paths, strict=True))
    shown = preview(store, source, CONFIG)
    assert sum(line.startswith("washer is damaged: ") for line in shown) == 1
    damaged = update(store, source)[-1]
    assert store.installed("nut").manifest.version == "2.0.0"
    assert (damaged.offer.product, damaged.outcome) == ("washer", "failed")
    assert "manifest.json" in damaged.why


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_around_the_installation_loses_nothing(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch, moment: str
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    install = apply_module.install_bundle

    def killed(path: Path, root: Path) -> None:
        if moment == "after":
            install(path, root)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(apply_module, "install_bundle", killed)
        with pytest.raises(Killed):
            update(store, source)
    with at_work(monkeypatch, store):
        assert outcomes(update(store, source)) == ["installed"]
    assert source.fetched == (1 if moment == "after" else 2)
    assert store.active().manifest.version == "2.0.0"


def test_a_process_killed_at_a_rollback_ends_it_next_time(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    rollback = Store.rollback

    def killed(*arguments: Any) -> None:
        rollback(*arguments)
        raise Killed

    with at_work(monkeypatch, store, good=False):
        with monkeypatch.context() as patch:
            patch.setattr(Store, "rollback", killed)
            with pytest.raises(Killed):
                update(store, source)
        assert outcomes(update(store, source)) == ["rolled_back"]
        assert update(store, source) == []
    assert store.link("washer", "current") == first


def test_a_rollback_by_hand_at_the_same_moment_is_not_undone(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    rollback = Store.rollback

    def by_hand_first(*arguments: Any) -> Any:
        monkeypatch.setattr(Store, "rollback", rollback)
        store.rollback("washer")
        return rollback(*arguments)

    monkeypatch.setattr(Store, "rollback", by_hand_first)
    with at_work(monkeypatch, store, good=False):
        assert outcomes(update(store, source)) == ["rolled_back"]
    assert store.link("washer", "current") == first


def test_a_damaged_bundle_to_go_back_to_ends_the_trial_too(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"), action="1")
    damaged = next((store.products_folder / "washer" / "slots" / first).rglob("*.onnx"))
    damaged.write_bytes(b"")
    with at_work(monkeypatch, store, good=False):
        (decided,) = update(store, source)
        assert decided.outcome == "failed"
        assert "it stays: " in decided.why
        assert read_update_state(store).trial is None
        source.offer(bundles("washer", "3.0.0"))
        assert outcomes(update(store, source)) == ["rolled_back"]
    assert store.link("washer", "current").startswith("2.0.0")


def test_an_installation_that_fails_behind_its_switch_is_on_trial(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    install = apply_module.install_bundle

    def fails(path: Path, root: Path) -> None:
        install(path, root)
        raise StorageError("no space left")

    monkeypatch.setattr(apply_module, "install_bundle", fails)
    with at_work(monkeypatch, store, good=False):
        assert outcomes(update(store, source)) == ["rolled_back"]
    assert store.link("washer", "current") == first


def test_it_goes_back_to_what_somebody_installed_while_it_was_fetched(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    install = apply_module.install_bundle

    def second(path: Path, root: Path) -> None:
        install(bundles("washer", "1.5.0"), root)
        install(path, root)

    monkeypatch.setattr(apply_module, "install_bundle", second)
    with at_work(monkeypatch, store, good=False):
        assert outcomes(update(store, source)) == ["rolled_back"]
    assert store.active().manifest.version == "1.5.0"


def test_what_took_the_place_of_a_bundle_is_not_its_success(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    with monkeypatch.context() as patch:
        patch.setattr(apply_module, "install_bundle", killed_at_once)
        with pytest.raises(Killed):
            update(store, source)
    install_bundle(bundles("washer", "3.0.0"), store.root)
    assert update(store, source) == []  # it was never installed
    assert source.told == []
    source.offer(bundles("washer", "4.0.0"))
    assert outcomes(update(store, source)) == [None]
    install_bundle(bundles("washer", "5.0.0"), store.root)
    (decided,) = update(store, source)
    assert decided.outcome == "rolled_back"
    assert "took its place" in decided.why


def killed_at_once(*_: object) -> None:
    raise Killed


def test_a_bundle_that_is_to_be_rolled_back_is_so_also_beside_another_product(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    install_bundle(bundles("screw", "1.0.0"), store.root)
    with at_work(monkeypatch, store, good=False):
        with monkeypatch.context() as patch:
            patch.setattr(Store, "rollback", killed_at_once)
            with pytest.raises(Killed):
                update(store, source)
        store.select("screw")
        assert outcomes(update(store, source)) == ["rolled_back"]
    assert store.link("washer", "current") == first


def test_what_somebody_installed_and_took_back_by_hand_is_not_taken_until_it_is_forgotten(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    install_bundle(bundles("washer", "2.0.0"), store.root)
    store.rollback("washer")
    source.offer(bundles("washer", "2.0.0"))
    assert update(store, source) == []
    assert store.link("washer", "current") == first
    source.offer(bundles("washer", "2.0.0"), action="1")
    (decided,) = update(store, source)
    assert decided.outcome == "refused"
    assert "somebody went back from it to 1.0.0" in decided.why
    forget(store, "washer")
    with at_work(monkeypatch, store):
        assert outcomes(update(store, source)) == ["installed"]


def test_only_the_latest_report_about_an_order_waits(
    store: Store, bundles: Bundles, source: FileSource, first: str
) -> None:
    source.is_deaf = True
    for version in ("0.9.0", "0.8.0"):
        for _ in range(3):
            source.offer(bundles("washer", version), action=version)
            update(store, source)
    assert [one.offer.action for one in read_update_state(store).waiting] == ["0.9.0", "0.8.0"]


def test_what_is_fetched_already_needs_no_room_again(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    offer = source.offer(bundles("washer", "2.0.0"))
    with locked(store.data, CHANGE, "test"):
        assert outcomes(update(store, source)) == ["failed"]
    free = SimpleNamespace(free=SPARE_BYTES + (offer.size or 0) // 2)
    monkeypatch.setattr("edge.update.apply.shutil.disk_usage", lambda _: free)
    monkeypatch.setattr("edge.install.install._check_space", lambda *_: None)
    assert outcomes(update(store, source)) == [None]


def test_two_updates_at_once_and_a_damaged_memory_are_refused(
    store: Store, bundles: Bundles, source: FileSource, first: str
) -> None:
    source.offer(bundles("washer", "2.0.0"))
    with locked(update_folder(store), LOCK, "test"), pytest.raises(BusyError, match="is held by"):
        update(store, source)
    (update_folder(store) / "state.json").write_text("{}}")
    with pytest.raises(ConfigError, match="is damaged: see"):
        update(store, source)
    assert store.link("washer", "current") == first


def test_a_disk_that_is_full_stops_it_with_one_sentence(
    store: Store, bundles: Bundles, source: FileSource, first: str, monkeypatch
) -> None:
    source.offer(bundles("washer", "2.0.0"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.update.ledger.write_update_state", full)
    with pytest.raises(StorageError, match="no space left"):
        update(store, source)
    assert store.link("washer", "current") == first
