"""What the manifest says of the judges beside the detector."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.bundle.manifest import parse_manifest
from edge.errors import BundleError
from tests.support.tiny_bundle import manifest_fields

HEIGHTS = {"name": "heights", "dtype": "float32", "limit": 6.5, "most": 0.25}
OUTLINE = {"name": "outline", "limit": 3.0, "most": 0.5}
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """The manifest of a bundle of before, which does not say."""
    fields = manifest_fields(tmp_path_factory.mktemp("bundle"))
    fields.pop("judges", None)
    return fields


def test_a_bundle_of_before_is_read_and_does_not_say(before: Fields) -> None:
    manifest = parse_manifest(json.dumps(before).encode())
    assert manifest.judges is None
    assert manifest.judged_by == (
        "detector; a bundle of before does not say whether others judge beside it"
    )


def test_judges_are_read_and_told(before: Fields) -> None:
    both = {**before, "presence": True, "judges": [OUTLINE, HEIGHTS]}
    manifest = parse_manifest(json.dumps(both).encode())
    assert manifest.judges is not None
    assert [(judge.name, judge.dtype) for judge in manifest.judges] == [
        ("outline", "float32"),
        ("heights", "float32"),
    ]
    told = "detector, outline (float32, adds at most 0.5), heights (float32, adds at most 0.25)"
    assert manifest.judged_by == told
    alone = parse_manifest(json.dumps({**before, "judges": []}).encode())
    assert alone.judged_by == "detector"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"judges": [{**HEIGHTS, "dtype": "float16"}]}, "judges.0.dtype"),
        ({"judges": [{**HEIGHTS, "limit": 0}]}, "judges.0.limit"),
        ({"judges": [HEIGHTS, HEIGHTS]}, "each judges once"),
        ({"judges": [HEIGHTS], "presence": False}, "which take depth, and presence is false"),
    ],
)
def test_what_cannot_be_is_refused(before: Fields, changes: Fields, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        parse_manifest(json.dumps({**before, "presence": True, **changes}).encode())
