"""The data card of a part of the data: Croissant, the JSON-LD of MLCommons (version 1.0).

A record set `groups` has the counts of each group in the card itself. The files are the packs, with
the SHA-256 of their bytes, by which whoever gets a copy can tell that it is the same.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.provenance import beside, sidecar
from mstkd.artifacts.records import file_sha256
from mstkd.artifacts.sources import provenance_of
from mstkd.config import DataCardSettings, OriginSettings
from mstkd.data.pack import Pack, open_pack
from mstkd.errors import InputError
from mstkd.report.caveats import PHOTOGRAPHS, PRIVATE, PROCEDURAL

CONFORMS_TO = ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"]
# The specification's own, word for word: tools take another for a fault.
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty"),
            *("fileObject", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key"),
            *("md5", "parentField", "path", "recordSet", "references", "regex", "repeated"),
            *("replace", "samplingRate", "separator", "source", "subField", "transform"),
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}
DRAWN = OriginSettings(licence="Apache-2.0", creator="mstkd")
WHAT = {
    "train": "Images that teachers and students learn from",
    "verification": "Images and pairs that models are verified on",
    "heldout": "Images and pairs of training identities that were kept out of training",
    "unlabelled": "Images without identities, for distillation",
}
NO_LICENCE = "none was told (data.origin): ask the owner of the images"
COUNTS = {
    "images": "Images of the group.",
    "identities": "People that they show.",
    "images_found": "Images that the data held before any was left out.",
    "identities_found": "People that the data held before any was left out.",
    "genuine_pairs": "Pairs of two images of one person.",
    "impostor_pairs": "Pairs of images of two people.",
    "image_size": "Pixels of either side of an image.",
}
OF_SOURCE = {"identities_of_": "People that are from ", "images_of_": "Images that are from "}


def describe_data(settings: DataCardSettings, *, packs: Sequence[Path], output: Path) -> None:
    """Write the data card of packs of one kind, one a group.

    Args:
        settings: which part they are, and what their owner says of them.
        packs: in the order of the groups. They are read whole, for their hashes.
        output: a .jsonld file.

    Raises:
        InputError: another suffix, or a file that is not a pack.
    """
    if output.suffix != ".jsonld":
        raise InputError(output, found=output.suffix or "no suffix", expected=".jsonld")
    opened = [open_pack(path) for path in packs]
    card = data_card(settings, opened, output.parent)
    text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    read = {pack.path: pack.sha256 for pack in opened}
    made = provenance_of("describe-data", settings, read, output)
    with replacing(sidecar(output), output) as (record, part):
        record.write_text(beside(text, made), encoding="utf-8")
        part.write_text(text, encoding="utf-8")


def data_card(settings: DataCardSettings, packs: Sequence[Pack], folder: Path) -> dict[str, Any]:
    """The card as JSON, for a file in a folder."""
    origin = _origin(settings)
    counts = [_counts(pack) for pack in packs]
    limits = PROCEDURAL if settings.procedural else PHOTOGRAPHS
    told = {
        "license": origin.licence or NO_LICENCE,
        "creator": origin.creator and {"@type": "Organization", "name": origin.creator},
        "url": origin.url,
        "datePublished": origin.published,
        "citeAs": origin.citation,
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": settings.part,
        "description": f"{WHAT[settings.part]}, as packs of mstkd: "
        f"{sum(one['images'] for one in counts):,} images in "
        f"{len(counts)} group{'' if len(counts) == 1 else 's'}. {limits}",
        **{name: value for name, value in told.items() if value},
        "rai:dataLimitations": limits,
        **({} if settings.procedural else {"rai:personalSensitiveInformation": PRIVATE}),
        "distribution": [_file(pack, folder) for pack in packs],
        "recordSet": [_groups(packs, counts)],
    }


def _origin(settings: DataCardSettings) -> OriginSettings:
    """What is told of the images; of drawn ones what is not told is the program's."""
    given = settings.origin.model_dump(exclude_none=True)
    drawn = DRAWN.model_dump(exclude_none=True) if settings.procedural else {}
    return OriginSettings.model_validate(drawn | given)


def _counts(pack: Pack) -> dict[str, int]:
    """By the names of `COUNTS`."""
    labelled = pack.kind != "unlabelled"
    found = {"images": len(pack.images)}
    if labelled:
        found["identities"] = len(np.unique(pack.identity))
    found["images_found"] = pack.found.images
    if labelled:
        found["identities_found"] = pack.found.identities
    if pack.same is not None:
        genuine = int(np.count_nonzero(pack.same))
        found |= {"genuine_pairs": genuine, "impostor_pairs": len(pack.same) - genuine}
    homes = np.array([pack.source_of(name)[0] for name in pack.identity_names])
    for source in pack.sources:
        found[f"identities_of_{source}"] = int(np.count_nonzero(homes == source))
        found[f"images_of_{source}"] = int(np.count_nonzero(homes[pack.identity] == source))
    return found | {"image_size": pack.image_size}


def _file(pack: Pack, folder: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": pack.path.name,
        "name": pack.path.name,
        "description": f"HDF5. Hash of what it holds, however it was written: {pack.sha256}",
        "contentUrl": Path(relpath(pack.path, folder)).as_posix(),
        "contentSize": f"{pack.path.stat().st_size} B",
        "encodingFormat": "application/x-hdf5",
        "sha256": file_sha256(pack.path),
    }


def _groups(packs: Sequence[Pack], counts: Sequence[dict[str, int]]) -> dict[str, Any]:
    fields = {"group": ("sc:Text", "Name of the group.")}
    told = COUNTS | {
        f"{what}{source}": f"{words}{source}, a source of several."
        for source in packs[0].sources
        for what, words in OF_SOURCE.items()
    }
    fields |= {name: ("sc:Integer", told[name]) for name in counts[0]}
    return {
        "@type": "cr:RecordSet",
        "@id": "groups",
        "name": "groups",
        "description": "A row a group.",
        "key": {"@id": "groups/group"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"groups/{name}",
                "name": name,
                "description": description,
                "dataType": kind,
            }
            for name, (kind, description) in fields.items()
        ],
        "data": [
            {"groups/group": pack.group, **{f"groups/{name}": one for name, one in count.items()}}
            for pack, count in zip(packs, counts, strict=True)
        ],
    }
