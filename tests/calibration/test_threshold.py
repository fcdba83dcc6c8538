"""Another operating point: the rank for a rate of all n parts, on the judging engine's own
scores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.threshold import require_rank, threshold_for_rate
from edge.errors import CalibrationError
from edge.install.install import install_bundle
from edge.install.proof_file import read_proof
from edge.proof.golden import NormalEntry, NormalIndex
from edge.proof.threshold import threshold_at
from edge.station.audit import read_audit
from edge.station.store import Store
from tests.support.planted import plant_times
from tests.support.root import run_edge, snapshot, trusting_root
from tests.support.tiny_bundle import KeyPair, make_key, make_tiny_bundle


def index_of(parts: int, highest: int) -> NormalIndex:
    entries = tuple(
        NormalEntry(name=f"p{rank}", rank=rank, inputs={}) for rank in range(1, highest + 1)
    )
    return NormalIndex(parts=parts, highest=highest, frames=entries)


def test_the_rank_counts_all_parts_and_not_the_carried_ones() -> None:
    scores = np.linspace(9, 1, 48).astype(np.float32)
    own = threshold_for_rate(scores[::-1], index_of(200, 48), 0.05)
    assert (own.rank, own.parts) == (10, 200)
    assert own == threshold_at(scores, 10, 0.05, 200)


def test_a_rate_whose_rank_was_not_carried_is_refused_with_what_to_do() -> None:
    assert require_rank(index_of(200, 48), 0.084) == 16
    with pytest.raises(CalibrationError) as refused:
        require_rank(index_of(200, 48), 0.1)
    assert (
        str(refused.value)
        == "10% of 200 normal parts takes the 20th highest score, the bundle carries enough for the"
        " 16th: ask for at most 7.96%, or export it with --false-rejects 10%"
    )
    assert require_rank(index_of(48, 48), 0.5) == 24  # all are carried: any rank


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def store(tmp_path: Path, key: KeyPair) -> Store:
    return trusting_root(tmp_path / "station", key)


def calibrate(store: Store, rate: str, capsys, monkeypatch, *more: object) -> tuple[int, str]:
    words = ["calibrate", "threshold", "--false-rejects", rate, "--root", store.root, *more]
    answer = run_edge(capsys, monkeypatch, *words)
    return answer.code, answer.out + answer.err


def test_the_engine_that_judges_gets_it_and_it_is_audited(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    plant_times(monkeypatch, {"fp32": 10.0, "int8": 5.0})
    install_bundle(make_tiny_bundle(tmp_path, key, precisions={"int8": (1.1, 12.0)}), store.root)
    code, said = calibrate(store, "25%", capsys, monkeypatch)
    assert code == 0
    installed = store.active()
    judge = read_proof(store, installed).judge(installed.manifest)
    state = store.model_state(installed, "int8", judge.runtime)
    expected = sorted(installed.manifest.normal_scores["int8"])[-2]
    assert state.threshold == pytest.approx(expected, rel=1e-5)
    assert (state.parts, state.rank) == (8, 2)
    assert "2nd highest of 8 normal parts" in state.guarantee
    assert state.guarantee in said
    row = read_audit(store.root)[-1]
    assert (row.act, row.detail["threshold"], row.detail["rank"]) == (
        "calibrate model",
        state.threshold,
        2,
    )
    assert store.model_state(installed, "fp32", judge.runtime) is None


def test_site_tensors_stay_and_are_set_while_it_measures(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    installed = store.active()
    runtime = read_proof(store, installed).judge(installed.manifest).runtime
    tensors = {"lift": np.float32([1.0])}  # nothing is a part: every score is 0
    store.save_model_state(installed, "fp32", runtime, parts=0, tensors=tensors)
    assert calibrate(store, "5%", capsys, monkeypatch)[0] == 0
    state = store.model_state(installed, "fp32", runtime)
    assert (state.version, state.threshold) == (2, 0.0)
    np.testing.assert_array_equal(state.arrays()["lift"], tensors["lift"])


def test_a_rate_that_was_not_carried_changes_nothing(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key, parts=100), store.root)
    before = snapshot(store.root)
    code, said = calibrate(store, "5%", capsys, monkeypatch)
    assert code == 1
    assert (
        "takes the 5th highest score, the bundle carries enough for the 2nd: ask for at most 1.98%"
        in said
    )
    assert snapshot(store.root) == before
    assert calibrate(store, "2%", capsys, monkeypatch)[0] == 0


@pytest.mark.parametrize("rate", ["5", "0", "-1%", "many"])
def test_a_rate_that_nobody_can_mean(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch, rate
) -> None:
    install_bundle(make_tiny_bundle(tmp_path, key), store.root)
    code, said = calibrate(store, rate, capsys, monkeypatch)
    assert code == 1
    assert "write a rate above 0" in said


def test_the_product_can_be_named(
    store: Store, key: KeyPair, tmp_path: Path, capsys, monkeypatch
) -> None:
    for product in ("washer", "screw"):
        install_bundle(make_tiny_bundle(tmp_path, key, product=product), store.root)
    assert "screw 1.0.0" in calibrate(store, "25%", capsys, monkeypatch, "--product", "screw")[1]
    assert store.model_states(store.installed("washer")) == ()
    assert len(store.model_states(store.installed("screw"))) == 1
