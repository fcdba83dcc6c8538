"""The manifest's statistics of the channels that a station may shift and scale."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from edge.bundle.manifest import ChannelStatistics, parse_manifest
from edge.errors import BundleError
from tests.support.tiny_bundle import manifest_fields

SITE = [
    {"name": "shift", "dtype": "float32", "shape": [3], "default": 0},
    {"name": "scale", "dtype": "float32", "shape": [3], "default": 1},
]
MOMENTS = {"name": "moments", "dtype": "float32", "shape": [1, 2, 3]}
CHANNELS = {"mean": [0.5, -1.0, 2.0], "deviation": [1.0, 0.0, 0.25]}
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    """The manifest of a bundle whose graph has no such site inputs, as every bundle of before."""
    fields = manifest_fields(tmp_path_factory.mktemp("bundle"))
    del fields["channels"]
    return fields


def with_channels(before: Fields, **changes: Any) -> bytes:
    """The manifest with site inputs, moments and statistics of three channels, then changed."""
    fields = {
        **before,
        "inputs": [*before["inputs"], *SITE],
        "outputs": [*before["outputs"], MOMENTS],
        "channels": CHANNELS,
    }
    return json.dumps({**fields, **changes}).encode()


def test_a_bundle_of_before_has_none_and_is_read_as_before(before: Fields) -> None:
    assert parse_manifest(json.dumps(before).encode()).channels is None


def test_statistics_are_read_with_the_inputs_that_they_belong_to(before: Fields) -> None:
    channels = parse_manifest(with_channels(before)).channels
    assert channels == ChannelStatistics(mean=(0.5, -1.0, 2.0), deviation=(1.0, 0.0, 0.25))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda _: {"channels": {**CHANNELS, "deviation": [1, 1]}}, "means of 3 channels, dev"),
        (lambda _: {"channels": {**CHANNELS, "deviation": [1, 1, -1]}}, "greater than or equal"),
        (lambda _: {"channels": {"mean": [], "deviation": []}}, "channels.mean"),
        (lambda _: {"channels": {**CHANNELS, "mean": [1, 2, 1e999]}}, "Infinity is no number"),
        (
            lambda _: {"channels": {"mean": [1, 2], "deviation": [1, 2]}},
            r"channels has 2 channels, but shift has the shape \(3,\), not \(2,\)",
        ),
        (
            lambda fields: {"inputs": [*fields["inputs"], SITE[0]]},
            r"channels has 3 channels, but scale is missing, not \(3,\)",
        ),
        (
            lambda fields: {"outputs": [*fields["outputs"], {**MOMENTS, "shape": [1, 2, 4]}]},
            r"moments has the shape \(1, 2, 4\), not \(1, 2, 3\)",
        ),
    ],
    ids=["lengths", "negative", "none", "infinite", "another graph's", "no scale", "moments"],
)
def test_statistics_that_cannot_be_this_graphs_are_refused(
    before: Fields, changed: Callable[[Fields], Fields], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        parse_manifest(with_channels(before, **changed(before)))
