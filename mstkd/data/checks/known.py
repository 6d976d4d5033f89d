"""How many images and identities the data sets of the paper have, to catch cut-off downloads.

BUPT-Balancedface: the JPG tree `race_per_7000`, counted by a public audit of the distribution;
the provider's `train_balancedface.lst` with `train.rec`; and the images that MST-KD's authors
aligned, the figures in their public configuration. RFW: distinct images and identities of the
6,000 pairs of each group; every image of the distribution is in a pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mstkd.artifacts.findings import Finding, Severity

CHECK = "known counts"
WHOLE = 0.995  # of the images; alignment lost MST-KD's authors up to 0.4 % of a group


class Count(NamedTuple):
    """Images and identities of a group; None where the data do not name identities."""

    images: int
    identities: int | None

    def __str__(self) -> str:
        if self.identities is None:
            return f"{self.images:,} images"
        return f"{self.images:,} images of {self.identities:,} identities"


Kind = Literal["train", "verification"]
Counts = Mapping[str, Count]  # by group


class Known(NamedTuple):
    """A published data set; counts by variant of its distribution, then by group."""

    name: str
    variants: Mapping[str, Counts]


BUPT = Known(
    "BUPT-Balancedface",
    {
        "the JPG tree": {
            "African": Count(324_376, 7_000),
            "Asian": Count(325_475, 7_000),
            "Caucasian": Count(326_484, 7_000),
            "Indian": Count(275_095, 7_000),
        },
        "the .lst and .rec": {
            "African": Count(324_376, 7_000),
            "Asian": Count(325_493, 7_000),
            "Caucasian": Count(326_484, 7_000),
            "Indian": Count(275_063, 6_999),
        },
        "MST-KD's aligned images": {
            "African": Count(324_106, 7_000),
            "Asian": Count(324_202, 7_000),
            "Caucasian": Count(326_070, 7_000),
            "Indian": Count(274_554, 6_997),
        },
    },
)
RFW = Known(
    "RFW",
    {
        "the images of its pairs": {
            "African": Count(10_415, 2_995),
            "Asian": Count(9_688, 2_492),
            "Caucasian": Count(10_196, 2_958),
            "Indian": Count(10_308, 2_984),
        }
    },
)
KNOWN: dict[Literal["bupt-rfw"], dict[Kind, Known]] = {
    "bupt-rfw": {"train": BUPT, "verification": RFW}
}


def compare_with_known(name: Literal["bupt-rfw"], counts: Mapping[Kind, Counts]) -> list[Finding]:
    """A finding for each group of the data sets `name`, and for each group that is not of them.

    `counts` are of the data before any image was left out.

    Counts as in a variant are a note that names it. Fewer identities than in every variant,
    less than 99.5 % of the images of the smallest, or no such group at all are fatal: what a
    download that was cut off looks like. Other counts are a warning.
    """
    findings = []
    for kind, known in KNOWN[name].items():
        groups = next(iter(known.variants.values()))
        for group in groups:
            severity, sentence = _judge(known, group, counts[kind].get(group))
            findings.append(Finding(CHECK, severity, sentence, group))
        for group in counts[kind]:
            if group not in groups:
                sentence = f"No group of {known.name}, whose groups are {', '.join(groups)}."
                findings.append(Finding(CHECK, "warning", sentence, group))
    return findings


def _judge(known: Known, group: str, count: Count | None) -> tuple[Severity, str]:
    of_variant = {variant: groups[group] for variant, groups in known.variants.items()}
    published = "; ".join(f"{variant}: {one}" for variant, one in of_variant.items())
    if count is None:
        return "fatal", f"The group of {known.name} is missing ({published})."
    if count.identities is None:
        of_variant = {variant: one._replace(identities=None) for variant, one in of_variant.items()}
    alike = [variant for variant, one in of_variant.items() if one == count]
    if alike:
        return "note", f"{known.name}: {count}, exactly as in {' and '.join(alike)}."
    images = min(one.images for one in of_variant.values())
    identities = min(one.identities or 0 for one in of_variant.values())
    sentence = f"{known.name}: {count}, where the published counts are {published}"
    if (count.identities or 0) < identities or count.images < WHOLE * images:
        return "fatal", f"{sentence}; was a download cut off?"
    return "warning", f"{sentence}."
