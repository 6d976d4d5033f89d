"""The gate of published counts, on counts alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mstkd.data.checks.known import BUPT, RFW, Count, compare_with_known

LST = dict(BUPT.variants["the .lst and .rec"])
ALIGNED = dict(BUPT.variants["MST-KD's aligned images"])
PAIRED = dict(RFW.variants["the images of its pairs"])


def compared(
    group: str, train: Mapping[str, Count] = LST, verification: Mapping[str, Count] = PAIRED
) -> list[tuple[str, str]]:
    findings = compare_with_known("bupt-rfw", {"train": train, "verification": verification})
    return [(one.severity, one.message) for one in findings if one.group == group]


def test_published_sums_are_those_of_the_groups() -> None:
    sums = {
        variant: tuple(map(sum, zip(*groups.values(), strict=True)))
        for variant, groups in (*BUPT.variants.items(), *RFW.variants.items())
    }
    assert sums == {
        "the JPG tree": (1_251_430, 28_000),
        "the .lst and .rec": (1_251_416, 27_999),
        "MST-KD's aligned images": (1_248_932, 27_997),
        "the images of its pairs": (40_607, 11_429),
    }


def test_exact_counts_are_notes_that_name_the_variants() -> None:
    assert compared("African") == [
        (
            "note",
            "BUPT-Balancedface: 324,376 images of 7,000 identities, exactly as in the JPG tree "
            "and the .lst and .rec.",
        ),
        (
            "note",
            "RFW: 10,415 images of 2,995 identities, exactly as in the images of its pairs.",
        ),
    ]
    assert compared("Indian", ALIGNED)[0] == (
        "note",
        "BUPT-Balancedface: 274,554 images of 6,997 identities, exactly as in MST-KD's aligned "
        "images.",
    )


@pytest.mark.parametrize(
    ("group", "count", "severity"),
    [
        # 99.5 % of the smallest variant, MST-KD's: 274,554 * 0.995 = 273,181.23
        ("Indian", Count(273_182, 6_997), "warning"),
        ("Indian", Count(273_181, 6_997), "fatal"),
        ("Indian", Count(274_554, 6_996), "fatal"),
        ("Indian", Count(275_063, 7_000), "warning"),
        ("Indian", Count(400_000, 9_000), "warning"),
        ("African", Count(324_376, 6_999), "fatal"),
        ("African", Count(324_377, 7_000), "warning"),
    ],
)
def test_other_counts_of_bupt_warn_and_short_ones_are_fatal(
    group: str, count: Count, severity: str
) -> None:
    found_severity, message = compared(group, {**LST, group: count})[0]
    assert found_severity == severity
    assert str(count) in message
    assert "MST-KD's aligned images: " + str(ALIGNED[group]) in message
    assert ("was a download cut off?" in message) == (severity == "fatal")


@pytest.mark.parametrize(
    ("count", "severity"),
    [
        (Count(9_687, 2_492), "warning"),
        (Count(9_640, 2_492), "warning"),  # 9,688 * 0.995 = 9,639.56
        (Count(9_639, 2_492), "fatal"),
        (Count(9_688, 2_491), "fatal"),
        (Count(9_689, 2_492), "warning"),
    ],
)
def test_other_counts_of_rfw_warn_and_short_ones_are_fatal(count: Count, severity: str) -> None:
    assert compared("Asian", LST, {**PAIRED, "Asian": count})[1][0] == severity


def test_missing_groups_are_fatal_and_others_a_warning() -> None:
    without = {group: count for group, count in LST.items() if group != "Asian"}
    severity, message = compared("Asian", without)[0]
    assert severity == "fatal"
    assert message.startswith("The group of BUPT-Balancedface is missing (the JPG tree: 325,475")
    assert compared("Other", {**LST, "Other": Count(1, 1)}) == [
        (
            "warning",
            "No group of BUPT-Balancedface, whose groups are African, Asian, Caucasian, Indian.",
        )
    ]


@pytest.mark.parametrize(
    ("images", "severity", "end"),
    [
        (9_688, "note", "9,688 images, exactly as in the images of its pairs."),
        (9_689, "warning", "the images of its pairs: 9,688 images of 2,492 identities."),
        (9_639, "fatal", "was a download cut off?"),
    ],
)
def test_images_alone_are_compared_where_identities_are_not_known(
    images: int, severity: str, end: str
) -> None:
    found_severity, message = compared("Asian", LST, {**PAIRED, "Asian": Count(images, None)})[1]
    assert found_severity == severity
    assert message.startswith(f"RFW: {images:,} images")
    assert message.endswith(end)
