"""The engineer's page: what another threshold would have done, drift, what judges, data sets."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from edge.install.install import install_bundle
from edge.page import engineer
from edge.page.roles import Role
from edge.station.store import Store
from tests.support.page_client import page_client
from tests.support.recorded import DRIFT, add_record, label_parts, record_parts, with_drift
from tests.support.root import Bundles

PARTS = 200


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("station")
    label_parts(root, record_parts(root, PARTS, pictured=60))
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[TestClient]:
    with page_client(root, Role.CALIBRATE) as client:
        yield client


def page_of(client: TestClient, path: str = "/engineer", language: str = "en") -> str:
    answer = client.get(path, headers={"accept": "text/html", "accept-language": language})
    assert answer.status_code == 200, answer.text
    return answer.text


def count_of(text: str, name: str) -> int:
    found = re.search(rf'data-count="{name}">(\d+)<', text)
    assert found is not None, name
    return int(found[1])


def test_the_page_begins_at_the_threshold_that_judged(client: TestClient) -> None:
    text = page_of(client)
    assert 'name="at" inputmode="decimal" maxlength="40" autocomplete="off" value="2"' in text
    assert count_of(text, "newly_rejected") == count_of(text, "newly_accepted") == 0
    assert count_of(text, "rejected-good") > 0, "false rejects, as people said"
    assert "The slider only tries out." in text


@pytest.mark.parametrize("at", [0.5, 1.0, 2.5, 1e9])
def test_page_and_interface_count_what_a_threshold_would_have_done(
    client: TestClient, at: float
) -> None:
    said = client.get(f"/api/v1/scores?at={at}").json()
    text = page_of(client, f"/engineer?at={at}")
    rejected = [part for part in said["parts"] if part["score"] > at]
    assert sum(said["effect"]["rejected"].values()) == len(rejected)
    assert said["effect"]["newly_rejected"] == sum(part["code"] == 1 for part in rejected)
    for label, count in said["effect"]["rejected"].items():
        assert count_of(text, f"rejected-{label}") == count
        assert count_of(text, f"accepted-{label}") == said["effect"]["accepted"][label]
    assert count_of(text, "newly_rejected") == said["effect"]["newly_rejected"]
    assert count_of(text, "newly_accepted") == said["effect"]["newly_accepted"]


def test_only_the_newest_thousand_are_compared(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engineer, "JUDGED", 50)
    seqs = [part["seq"] for part in client.get("/api/v1/scores").json()["parts"]]
    assert len(seqs) == 50
    assert seqs == sorted(seqs, reverse=True)
    assert seqs[0] == PARTS


def test_looking_changes_nothing(root: Path, client: TestClient) -> None:
    before = client.get("/api/v1/parts?limit=200").json()
    page_of(client, "/engineer?at=0.01")
    assert client.get("/api/v1/parts?limit=200").json() == before
    assert client.get("/api/v1/audit").json() == []
    assert client.post("/engineer", headers={"origin": "http://localhost"}).status_code == 405


def test_without_a_bundle_the_page_says_so(client: TestClient) -> None:
    assert "no bundle is installed under" in page_of(client)
    assert "no bundle is installed under" in client.get("/api/v1/engine").json()["problem"]


def test_an_installed_bundle_shows_its_certificate(store: Store, bundles: Bundles) -> None:
    install_bundle(bundles(), store.root)
    with page_client(store.root) as client:
        text = page_of(client)
        said = client.get("/api/v1/engine").json()
    assert said["problem"] == ""
    assert said["product"] == "washer"
    (judge,) = [one for one in said["engines"] if one["judges"]]
    assert judge["proven"]
    assert judge["guarantee"]
    assert judge["name"] in text
    own = [one for one in said["certificate"] if one["board"] is not None]
    assert own, "what this machine gave stands beside what the bundle brought"
    assert own[0]["board"] in text
    assert said["calibration"] is None
    assert "For accounts that may calibrate." in text


def test_latency_comes_from_the_records_and_from_the_running_station(client: TestClient) -> None:
    said = client.get("/api/v1/latency").json()
    assert said["stages"] == {"engine": 41.25, "commit": 3.5}
    assert 100 <= said["judge_p50"] < said["judge_p99"] < 150
    text = page_of(client)
    assert f"p50 {said['judge_p50']:.0f} ms, p99 {said['judge_p99']:.0f} ms" in text


def test_drift_is_not_watched_until_there_is_a_file(client: TestClient) -> None:
    assert "Not watched yet." in page_of(client)
    assert client.get("/api/v1/drift").json() is None


def test_drift_shows_what_changed_since_when(tmp_path: Path) -> None:
    with_drift(tmp_path, json.dumps(DRIFT))
    with page_client(tmp_path) as client:
        text, german = page_of(client), page_of(client, language="de")
        said = client.get("/api/v1/drift").json()
    assert "<b>Score higher</b>" in " ".join(text.split())
    assert "at the same time: Brightness lower" in " ".join(text.split())
    assert '<a href="/history/150">150</a>' in text
    assert text.count("<polyline") == 3
    assert "180 parts since the last calibration" in text
    assert "Wert höher" in german
    assert "Helligkeit niedriger" in german
    assert said["series"]["score"][-1] == 1.8
    assert said["seqs"][0] == 1


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "NaN", '{"parts": 1e999}', json.dumps({**DRIFT, "points": [[1, [0.0]]]})],
)
def test_a_damaged_drift_file_is_named_and_breaks_nothing(tmp_path: Path, text: str) -> None:
    with_drift(tmp_path, text)
    with page_client(tmp_path) as client:
        assert "drift.json" in page_of(client)


def test_a_data_set_of_chosen_parts(client: TestClient) -> None:
    answer = client.get(f"/engineer/dataset.zip?seq={PARTS}&seq={PARTS - 1}&seq=1&seq=-4")
    assert answer.headers["content-type"] == "application/zip"
    about = json.loads(zipfile.ZipFile(io.BytesIO(answer.content)).read("dataset.json"))
    assert [one["seq"] for one in about["parts"]] == [PARTS, PARTS - 1]
    assert (about["who"], about["station"]) == ("quality", "station")


def test_a_data_set_of_a_filter(client: TestClient) -> None:
    answer = client.get("/api/v1/dataset.zip?label=good&label=bad")
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert {name.partition("/")[0] for name in names} <= {"good", "defective", "dataset.json"}
    assert len(names) > 1


def test_no_images_is_a_sentence(client: TestClient) -> None:
    answer = client.get("/engineer/dataset.zip?seq=1")
    assert answer.status_code == 400
    assert "no images of these parts are kept" in answer.text


def test_one_data_set_at_a_time_and_then_the_next(client: TestClient) -> None:
    assert engineer._sending.acquire(blocking=False)
    try:
        assert client.get("/engineer/dataset.zip").status_code == 429
    finally:
        engineer._sending.release()
    for _ in range(2):
        assert client.get(f"/engineer/dataset.zip?seq={PARTS}").status_code == 200
        assert client.get("/engineer/dataset.zip?seq=1").status_code == 400


def test_parts_judged_otherwise_are_said_to_be_left_out(tmp_path: Path) -> None:
    record_parts(tmp_path, 10, pictured=0)
    add_record(tmp_path, bundle="2.0.0-ffffffffffff")
    with page_client(tmp_path) as client:
        text = page_of(client)
    assert "10 parts among the newest 1,000 were judged under another calibration" in text
