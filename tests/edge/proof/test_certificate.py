"""The certificate: each limit fails alone, exactly at the limits passes, and its file survives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import BundleError
from edge.proof.certificate import (
    AccuracyChange,
    BoardSection,
    Certificate,
    MacShares,
    PrecisionSection,
    Verdicts,
    board_failures,
    failures,
    map_error_limit,
    most_unlike,
    read_certificate,
)
from edge.proof.measures import Count, MapComparison, Noise
from edge.proof.threshold import threshold_from_normals

ALL_INT8 = MacShares(fp32=0, fp16=0, int8=1)
THRESHOLD = threshold_from_normals(np.linspace(0, 1, 20))


def maps_with(**changes: Any) -> MapComparison:
    perfect: dict[str, Any] = {
        "frames": 20,
        "finite": True,
        "mean_map_error": 0,
        "largest_map_error": 0,
        "rank_correlation": 1,
    }
    return MapComparison(**{**perfect, **changes})


def noise_with(**changes: Any) -> Noise:
    return Noise(
        **{"frames": 40, "slope": 1, "offset": 0, "rms": 0, "shift": 0, "spread": 0.3, **changes}
    )


def verdicts_with(**changes: Any) -> Verdicts:
    none = Count(count=0, of=0)
    fine: dict[str, Any] = {
        "good": None,
        "expected": 0.05,
        "real": none,
        "drawn": none,
        "unlike": Count(count=0, of=100),
        "near": none,
        "furthest": 0,
    }
    return Verdicts(**{**fine, **changes})


def reasons(precision: Any, **parts: Any) -> tuple[str, ...]:
    return failures(
        parts.get("measured", maps_with()),
        precision,
        parts.get("noise", noise_with()),
        parts.get("repeat", noise_with()),
        parts.get("verdicts", verdicts_with()),
        AccuracyChange(i_auroc=parts.get("change")),
        parts.get("macs", ALL_INT8),
        parts.get("backbone"),
    )


@pytest.mark.parametrize(
    ("precision", "parts", "sentence"),
    [
        ("int8", {"measured": maps_with(mean_map_error=0.0101)}, "mean map error"),
        ("fp16", {"measured": maps_with(mean_map_error=0.0021)}, "mean map error"),
        ("fp32", {"measured": maps_with(mean_map_error=0.0002)}, "mean map error"),
        ("int8", {"measured": maps_with(rank_correlation=0.9899)}, "rank correlation"),
        ("fp16", {"measured": maps_with(finite=False)}, "not finite"),
        ("int8", {"change": -0.51}, "I-AUROC"),
        ("fp16", {"change": 0.21}, "I-AUROC"),
        ("int8", {"noise": noise_with(rms=0.36)}, "noise of the normal scores 0.36 s"),
        (
            "int8",
            {"repeat": noise_with(shift=0.11)},
            "in another arithmetic scores at the threshold are +0.11 s off",
        ),
        ("fp16", {"noise": noise_with(rms=0.11)}, "noise of the normal scores 0.11 s"),
        ("int8", {"noise": noise_with(slope=0.49)}, "scores are 0.49 times"),
        ("int8", {"noise": noise_with(slope=2.01)}, "scores are 2.01 times"),
        ("int8", {"noise": noise_with(spread=0)}, "every normal part has the same score"),
        (
            "int8",
            {"verdicts": verdicts_with(unlike=Count(count=3, of=100))},
            "3 of 100 verdicts differ",
        ),
        (
            "int8",
            {"verdicts": verdicts_with(unlike=Count(count=7, of=300))},
            "7 of 300 verdicts differ",
        ),
        (
            "int8",
            {"verdicts": verdicts_with(furthest=1.01)},
            "a verdict differs 1.01 s from the threshold",
        ),
        ("int8", {"macs": MacShares(fp32=0, fp16=0.41, int8=0.59)}, "59.0% of all"),
        ("int8", {"backbone": MacShares(fp32=0, fp16=0.21, int8=0.79)}, "79.0% of the backbone"),
    ],
)
def test_each_limit_fails_alone(precision: Any, parts: dict[str, Any], sentence: str) -> None:
    failed = reasons(precision, **parts)
    assert len(failed) == 1
    assert sentence in failed[0]


def test_exactly_at_the_limits_passes() -> None:
    assert (
        reasons(
            "int8",
            measured=maps_with(mean_map_error=0.01, rank_correlation=0.99),
            noise=noise_with(rms=0.35, slope=2),
            verdicts=verdicts_with(unlike=Count(count=2, of=100), furthest=1.0),
            change=-0.5,
            macs=MacShares(fp32=0, fp16=0.4, int8=0.6),
            backbone=MacShares(fp32=0, fp16=0.2, int8=0.8),
        )
        == ()
    )


def test_a_shift_under_its_own_threshold_costs_nothing_and_near_frames_may_change() -> None:
    assert reasons("int8", noise=noise_with(shift=3.0, offset=5.0)) == ()
    assert reasons("int8", verdicts=verdicts_with(near=Count(count=9, of=12), furthest=0.9)) == ()


def test_one_verdict_in_fifty_may_differ_and_always_two() -> None:
    assert [most_unlike(frames) for frames in (0, 20, 100, 150, 300)] == [2, 2, 2, 3, 6]


# A board


def section_with(**changes: Any) -> PrecisionSection:
    given: dict[str, Any] = {
        **maps_with().model_dump(),
        "precision": "int8",
        "runtime": "onnxruntime",
        "threshold": THRESHOLD,
        "verdicts": verdicts_with(),
        "noise": noise_with(),
        "repeat": noise_with(),
        "golden_map_error": 0.002,
        "change": AccuracyChange(),
        "macs": ALL_INT8,
        "backbone_macs": None,
        "passed": True,
        "reasons": (),
    }
    return PrecisionSection(**{**given, **changes})


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"measured": maps_with(mean_map_error=0.0041)}, "mean map error 0.410%"),
        ({"measured": maps_with(finite=False)}, "not finite"),
        ({"distance": 1.01}, "a reference frame changes its verdict 1.01 s"),
        ({"noise": noise_with(slope=1.051)}, "scores are 1.051 times the certificate's"),
        ({"noise": noise_with(slope=0.949)}, "scores are 0.949 times the certificate's"),
        ({"noise": noise_with(shift=0.101)}, "scores at the threshold are +0.10 s off"),
        ({"noise": noise_with(shift=-0.101)}, "scores at the threshold are -0.10 s off"),
        ({"noise": noise_with(rms=0.36)}, "noise of the normal scores"),
    ],
)
def test_each_limit_of_a_board_fails_alone(parts: dict[str, Any], sentence: str) -> None:
    measured, noise = parts.get("measured", maps_with()), parts.get("noise", noise_with())
    failed = board_failures(measured, parts.get("distance", 0.0), noise, section_with())
    assert len(failed) == 1
    assert sentence in failed[0]


def test_a_board_at_the_limits_is_proven() -> None:
    noise = noise_with(slope=1.0499, shift=-0.1, rms=0.35)
    assert board_failures(maps_with(mean_map_error=0.004), 1.0, noise, section_with()) == ()


def test_against_float32_scale_and_shift_are_free_and_noise_is_not() -> None:
    measured, noise = maps_with(), noise_with(slope=1.4, shift=2.0)
    assert board_failures(measured, 0.0, noise, section_with(), same_precision=False) == ()
    assert board_failures(measured, 0.0, noise_with(rms=0.4), section_with(), same_precision=False)


def test_a_board_sums_in_another_order_than_an_exact_certificate() -> None:
    assert map_error_limit(section_with(golden_map_error=0.0)) > 0


# Files


def board_with(**changes: Any) -> BoardSection:
    given: dict[str, Any] = {
        **maps_with().model_dump(),
        "precision": "int8",
        "runtime": "tensorrt 10.3.0",
        "board": "a board",
        "model_sha256": "",
        "threshold": THRESHOLD,
        "golden_unlike": Count(count=0, of=8),
        "furthest": 0,
        "noise": noise_with(),
        "time_ms": 3.2,
        "proven_at": "2026-01-01T00:00:00+00:00",
        "passed": True,
        "reasons": (),
    }
    return BoardSection(**{**given, **changes})


@pytest.fixture
def certificate() -> Certificate:
    counts = dict.fromkeys(
        ("normal_frames", "good_frames", "real_frames", "drawn_frames", "near_frames"), 20
    )
    return Certificate(
        note="test",
        spread=0.3,
        map_low=0,
        map_high=1,
        golden_frames=8,
        sections=(section_with(),),
        **counts,
    )


def test_the_certificate_survives_its_file(tmp_path: Path, certificate: Certificate) -> None:
    path = tmp_path / "parity.json"
    path.write_text(certificate.to_json())
    assert read_certificate(path) == certificate
    assert read_certificate(path).provisional
    completed = certificate.with_boards((board_with(),))
    path.write_text(completed.to_json())
    assert read_certificate(path) == completed


def test_it_is_provisional_until_a_board_has_passed(certificate: Certificate) -> None:
    failed, passed = board_with(passed=False, reasons=("planted",)), board_with()
    assert certificate.with_boards((failed,)).provisional
    both = certificate.with_boards((failed, passed))
    assert not both.provisional
    assert both.boards == (failed, passed)
    assert both.sections == certificate.sections


def test_missed_defects_are_real_and_drawn_ones() -> None:
    verdicts = verdicts_with(
        real=Count(count=1, of=10), drawn=Count(count=2, of=30), near=Count(count=5, of=6)
    )
    assert str(verdicts.missed) == "3 of 40"


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1}', "[1]"])
def test_a_damaged_certificate_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "parity.json").write_text(text)
    with pytest.raises(BundleError, match=r"parity\.json: .*export again"):
        read_certificate(tmp_path / "parity.json")


def test_a_missing_certificate_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        read_certificate(tmp_path / "parity.json")


def test_a_precision_without_a_section_is_named(certificate: Certificate) -> None:
    with pytest.raises(BundleError, match="no fp16, only int8"):
        certificate.section("fp16")
