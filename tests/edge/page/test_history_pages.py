"""The quality manager's pages over 1,000 records: what they show is what was recorded and said."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from edge.archive.filters import RecordFilter
from edge.archive.labels import label_history, read_labels
from edge.archive.statistics import false_rejects
from edge.page.roles import Role
from edge.station.audit import append_audit
from edge.station.site import CameraGeometry
from edge.station.site_digest import geometry_digest
from tests.support.page_client import page_client, post
from tests.support.recorded import DATA, PICTURED, add_record, label_parts, record_parts

PARTS = 1000
Made = list[dict[str, Any]]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made, dict[str, int]]:
    root = tmp_path_factory.mktemp("station")
    made = record_parts(root, PARTS)
    return root, made, label_parts(root, made)


@pytest.fixture(scope="module")
def client(station: tuple[Path, Made, dict[str, int]]) -> Iterator[TestClient]:
    with page_client(station[0]) as client:
        yield client


@pytest.fixture(scope="module")
def made(station: tuple[Path, Made, dict[str, int]]) -> Made:
    return station[1]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[Path, TestClient]]:
    """A station of its own, for tests that write."""
    record_parts(tmp_path, 30, pictured=2)
    with page_client(tmp_path) as client:
        yield tmp_path, client


def numbers_in(text: str) -> list[int]:
    return [int(seq) for seq in re.findall(r'id="part-(\d+)"', text)]


def shown(client: TestClient, path: str, language: str = "en") -> str:
    answer = client.get(path, headers={"accept": "text/html", "accept-language": language})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_history_begins_with_the_newest(client: TestClient) -> None:
    text = shown(client, "/history")
    assert numbers_in(text) == list(range(PARTS, PARTS - 50, -1))
    assert text.count("/overlay.png") == PICTURED


def test_every_part_is_reached_page_by_page_and_once(client: TestClient, made: Made) -> None:
    found, path = [], "/history?code=NG&code=UNKNOWN"
    while path:
        text = shown(client, path)
        found += numbers_in(text)
        link = re.search(r'href="(/history\?[^"]*)" rel="next"', text)
        path = link[1].replace("&amp;", "&") if link else ""
    assert found == [fields["seq"] for fields in reversed(made) if fields["code"] != 1]


def test_a_filter_shows_what_matches_and_stays_in_the_form(client: TestClient) -> None:
    text = shown(client, "/history?part=P99*&code=OK&min_score=0.5")
    assert set(numbers_in(text)) <= {99, *range(990, 1000)}
    assert numbers_in(text)
    assert 'value="P99*"' in text
    assert 'value="OK" checked' in text
    assert "No part matches." in shown(client, "/history?part=nothing")


def test_a_day_is_a_day_of_this_station(client: TestClient, made: Made) -> None:
    day = made[499]["judged_at"][:10]
    text = shown(client, f"/history?since={day}&until={day}")
    counted = client.get(f"/api/v1/counts?since={day}&until={day}").json()
    assert list(counted["by_day"]) == [day]
    assert len(numbers_in(text)) == min(50, counted["total"])


def test_one_part_is_told_in_plain_words(client: TestClient, made: Made) -> None:
    fields = next(one for one in reversed(made) if one["code"] == 2)
    text = shown(client, f"/history/{fields['seq']}")
    above = fields["score"] / fields["thr"] - 1
    for words in (
        fields["part"],
        "Deviates from normal parts",
        f"It lies {100 * above:.1f} % above the limit.",
        "set with 60 normal parts of the bundle",
        fields["guarantee"],
        fields["bundle"],
        "none: as the bundle was trained",
        "the audit table has no row of it",
    ):
        assert words in text, words
    german = shown(client, f"/history/{fields['seq']}", "de-DE,de;q=0.9")
    assert f"{100 * above:.1f}".replace(".", ",") + " % über der Grenze" in german


def test_every_field_of_the_record_is_there(client: TestClient, made: Made) -> None:
    text = shown(client, f"/history/{made[-1]['seq']}")
    raw = text.partition('class="raw"')[2]
    assert all(f"<th>{key}</th>" in raw for key in made[-1])


def test_pictures_are_those_of_the_station(
    client: TestClient, station: tuple[Path, Made, dict[str, int]]
) -> None:
    fields = station[1][-1]
    folder = station[0] / DATA / fields["images"]
    for name in ("overlay.png", "color.png"):
        answer = client.get(f"/history/{fields['seq']}/{name}")
        assert answer.content == (folder / name).read_bytes()
        assert answer.headers["content-type"] == "image/png"
    assert client.get(f"/history/{fields['seq']}/depth.png").status_code == 404
    assert client.get("/history/1/overlay.png").status_code == 404, "no images were kept"


def test_who_calibrated_is_found_by_the_records_digest(fresh: tuple[Path, TestClient]) -> None:
    root, client = fresh
    geometry = CameraGeometry(
        version=3,
        plane=(0.0, 0.0, 1.0, 0.5),
        crop_x=4,
        crop_y=2,
        intrinsics=(300.0, 300.0, 160.0, 120.0),
        stream_width=320,
        stream_height=240,
        frames=40,
        residual_m=0.0004,
        who="uschi",
        when="2026-11-19T05:00:00.000Z",
    )
    detail = {"product": "washer", "serial": "A1", **geometry.model_dump(mode="json")}
    append_audit(root, "calibrate geometry", detail, "uschi")
    append_audit(root, "calibrate geometry", {**detail, "version": 4}, "somebody later")
    add_record(root, geometry=geometry_digest(geometry))
    text = shown(client, "/history/31")
    assert "calibrated by uschi," in text
    assert "somebody later" not in text
    assert "version 3" in text


def test_a_label_is_kept_with_who_and_when_and_counted(fresh: tuple[Path, TestClient]) -> None:
    root, client = fresh
    answer = post(client, "/history/23/label", said="good", note="only a reflex", next="/history")
    assert (answer.status_code, answer.headers["location"]) == (303, "/history")
    (label,) = label_history(root, 23)
    assert (label.said, label.note, label.who) == ("good", "only a reflex", "quality (page)")
    assert "only a reflex" in shown(client, "/history/23")
    assert "False rejects: 1 of" in shown(client, "/history/counts")
    post(client, "/history/23/label", said="none")
    assert read_labels(root) == {}
    assert "only a reflex" in shown(client, "/history/23"), "what was said stays"


@pytest.mark.parametrize("origin", [None, "http://elsewhere.example", "null"])
def test_a_label_from_another_page_is_refused(
    fresh: tuple[Path, TestClient], origin: str | None
) -> None:
    root, client = fresh
    assert post(client, "/history/23/label", origin, said="good").status_code == 403
    assert read_labels(root) == {}


def test_the_rate_agrees_with_what_people_said(
    client: TestClient, station: tuple[Path, Made, dict[str, int]]
) -> None:
    root, made, truth = station
    text = shown(client, "/history/counts")
    known = false_rejects(root, RecordFilter())
    assert known.false_rejects == truth["false_rejects"] > 10
    good = sum(one["code"] == 1 for one in made) - 1 + truth["false_rejects"]
    assert f"False rejects: {truth['false_rejects']} of {good} good parts" in text
    assert "NG parts without a label: 1." in text
    assert "labeled bad): 1." in text
    said = client.get("/api/v1/false_rejects").json()
    assert said["rate"] == truth["false_rejects"] / good
    assert said["bound"] == known.bound


def test_counts_by_day_and_reason_are_those_of_the_records(client: TestClient, made: Made) -> None:
    said = client.get("/api/v1/counts").json()
    assert said["total"] == PARTS
    assert sum(sum(day.values()) for day in said["by_day"].values()) == PARTS
    assert said["by_code"]["2"] == sum(one["code"] == 2 for one in made)
    text = shown(client, "/history/counts")
    assert text.count('class="bar ok"') == len(said["by_day"]) >= 4


def test_the_csv_file_has_every_part_that_matches(client: TestClient, made: Made) -> None:
    answer = client.get("/history/records.csv?code=NG")
    assert answer.headers["content-disposition"] == 'attachment; filename="records.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [int(row["seq"]) for row in rows] == [
        one["seq"] for one in reversed(made) if one["code"] == 2
    ]
    assert np.float32(rows[0]["score"]) > 2
    every = client.get("/history/records.csv").content.decode("utf-8-sig")
    assert every.count("\n") == PARTS + 1


def test_a_lot_report_has_what_judged_and_each_rejected_part(
    client: TestClient, made: Made
) -> None:
    since, until = made[899]["judged_at"], made[-1]["judged_at"]
    text = shown(client, f"/history/lot?since={since}&until={until}")
    rejected = [one for one in made[899:-1] if one["code"] != 1]
    for one in rejected:
        assert f'href="/history/{one["seq"]}"' in text
    assert made[0]["guarantee"] in text
    assert "data-print" in text


def test_the_audit_shows_what_ok_means_and_everything_on_request(
    fresh: tuple[Path, TestClient],
) -> None:
    root, client = fresh
    append_audit(root, "installed", {"product": "washer", "version": "1.0.0"}, "otto")
    append_audit(root, "camera", {"step": "hardware reset"}, "edge")
    append_audit(root, "calibrate model not in effect", {"product": "washer"}, "uschi")
    text = shown(client, "/audit")
    assert "otto" in text
    assert "has installed a bundle" in text
    assert "hardware reset" not in text
    assert "has calibrated with parts – not in effect" in " ".join(text.split())
    assert "hardware reset" in shown(client, "/audit?every=1")
    acts = client.get("/api/v1/audit").json()
    assert next(row["act"] for row in acts) == "calibrate model not in effect"


def test_a_station_without_a_record_says_so(tmp_path: Path) -> None:
    with page_client(tmp_path) as client:
        assert "No part matches." in shown(client, "/history")
        assert "there is no rate yet" in shown(client, "/history/counts")
        assert "No part was judged yet." in shown(client, "/engineer")
        assert client.get("/api/v1/parts").json() == {"parts": [], "before": None}
        assert client.get("/history/1").status_code == 404


PLACES = [
    "/history", "/history/counts", "/history/lot", "/history/records.csv", "/history/999",
    "/history/999/overlay.png", "/audit", "/engineer", "/engineer/dataset.zip", "/api",
    "/api/v1/parts", "/api/v1/parts/999", "/api/v1/parts/999/pictures/overlay.png",
    "/api/v1/counts", "/api/v1/false_rejects", "/api/v1/audit", "/api/v1/scores", "/api/v1/drift",
    "/api/v1/engine", "/api/v1/latency", "/api/v1/dataset.zip",
]  # fmt: skip


@pytest.mark.parametrize("path", PLACES)
def test_nothing_is_shown_without_login(
    station: tuple[Path, Made, dict[str, int]], path: str
) -> None:
    with page_client(station[0], role=None) as stranger:
        answer = stranger.get(path)
        assert answer.status_code in (303, 401)
        assert "P999" not in answer.text
        said = stranger.post("/history/999/label", headers={"origin": "http://localhost"})
        assert said.status_code in (303, 401)


def test_the_interface_describes_itself(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json").json()["paths"]
    listed = shown(client, "/api")
    for path in PLACES:
        if path.startswith("/api/v1"):
            named = path.replace("999", "{seq}").replace("overlay.png", "{name}")
            assert named in described, named
            assert named in listed


def test_the_interface_pages_as_the_history_does(client: TestClient, made: Made) -> None:
    found: list[int] = []
    before: int | None = PARTS + 1
    while before is not None:
        answer = client.get(f"/api/v1/parts?limit=200&before={before}").json()
        found += [part["seq"] for part in answer["parts"]]
        before = answer["before"]
    assert found == list(range(PARTS, 0, -1))
    one = client.get(f"/api/v1/parts/{PARTS}").json()
    assert one["record"] == json.loads(json.dumps(made[-1]))
    assert client.get(one["pictures"][0]).content[:4] == b"\x89PNG"


def test_a_program_labels_over_the_interface(fresh: tuple[Path, TestClient]) -> None:
    root, client = fresh
    body, origin = {"said": "bad", "note": "burr"}, {"origin": "http://localhost"}
    assert client.post("/api/v1/parts/7/label", json=body, headers=origin).status_code == 200
    assert read_labels(root)[7].said == "bad"
    assert client.post("/api/v1/parts/7/label", json=body).status_code == 403
    wrong = client.post("/api/v1/parts/7/label", json={"said": "ugly"}, headers=origin)
    assert wrong.status_code == 422


def test_a_looker_may_not_take_a_data_set(client: TestClient) -> None:
    assert client.get("/engineer/dataset.zip").status_code == 403
    assert Role.LOOK.includes(Role.LOOK)
