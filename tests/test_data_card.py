"""Data cards: read by the tool of those who wrote the specification, true to the packs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import mlcroissant
import pytest
from packs import bin_pack
from reporting import write_pack

from mstkd.artifacts.told import told_by
from mstkd.config import DataCardSettings, OriginSettings
from mstkd.data.pack import open_pack
from mstkd.errors import InputError
from mstkd.report.data_card import describe_data
from mstkd.report.data_card_told import read_data_card

OWNED = OriginSettings(
    licence='"research" only</script>',
    creator="Ünïversity",
    url="https://example.org/faces",
    published="2020-05-01",
    citation="@misc{faces}",
)


def card_of(folder: Path, packs: list[Path], **settings: object) -> Path:
    given = DataCardSettings.model_validate({"part": "train", "procedural": False} | settings)
    output = folder / "cards" / f"{given.part}.jsonld"
    output.parent.mkdir(parents=True, exist_ok=True)
    describe_data(given, packs=packs, output=output)
    return output


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("packs")
    written = (("A", 8, 3), ("no", 5, 2))
    return [
        write_pack(folder / f"{group}.h5", group, identities=people, images=images)
        for group, people, images in written
    ]


def test_croissants_own_reader_finds_counts_files_and_no_fault(
    tmp_path: Path, train: list[Path]
) -> None:
    card = card_of(tmp_path, train, origin=OWNED)
    dataset = mlcroissant.Dataset(jsonld=str(card))  # raises where the specification is not kept
    assert not dataset.metadata.issues.errors
    # Of what it recommends, a version alone is not told: the hashes say which data these are.
    (warning,) = dataset.metadata.issues.warnings
    assert "https://schema.org/version" in warning
    records = {row["groups/group"]: row for row in dataset.records("groups")}
    for group, people, images in ((b"A", 8, 24), (b"no", 5, 10)):
        row = records.get(group) or records[group.decode()]
        assert (row["groups/identities"], row["groups/images"]) == (people, images)
        assert (row["groups/images_found"], row["groups/image_size"]) == (images, 32)
    for path, file in zip(train, dataset.metadata.distribution, strict=True):
        assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (card.parent / file.content_url).resolve() == path.resolve()
        assert file.content_size == f"{path.stat().st_size} B"
        assert open_pack(path).sha256 in file.description
    metadata = dataset.metadata
    assert metadata.license == [OWNED.licence] and metadata.url == OWNED.url
    assert metadata.cite_as == OWNED.citation and metadata.creators[0].name == OWNED.creator
    assert str(metadata.date_published)[:10] == OWNED.published


def test_pairs_are_counted(tmp_path: Path) -> None:
    pack = bin_pack(tmp_path, "A", same=(True, False, True, True))
    card = card_of(tmp_path, [pack], part="verification")
    (row,) = mlcroissant.Dataset(jsonld=str(card)).records("groups")
    assert (row["groups/genuine_pairs"], row["groups/impostor_pairs"]) == (3, 1)


@pytest.mark.parametrize("procedural", [True, False])
def test_what_is_to_be_known_and_who_owns_it(
    tmp_path: Path, train: list[Path], procedural: bool
) -> None:
    told = json.loads(card_of(tmp_path, train, procedural=procedural).read_text())
    assert ("drawings made by a program" in told["description"]) == procedural
    assert told["rai:dataLimitations"] in told["description"]
    assert ("rai:personalSensitiveInformation" in told) != procedural
    assert ("creator" in told) == procedural
    assert ("Apache-2.0" if procedural else "ask the owner") in told["license"]
    own = json.loads(card_of(tmp_path, train, procedural=procedural, origin=OWNED).read_text())
    assert own["license"] == OWNED.licence and own["creator"]["name"] == OWNED.creator


def test_a_card_says_what_made_it_and_that_it_was_edited(tmp_path: Path, train: list[Path]) -> None:
    card = card_of(tmp_path, train)
    told = told_by(card)
    assert told is not None and told.unchanged and told.made.step == "describe-data"
    names = [os.path.relpath(path, card.parent) for path in train]
    assert [one.path for one in told.made.sources] == names
    assert [one.sha256 for one in told.made.sources] == [open_pack(path).sha256 for path in train]
    first = card.read_bytes()
    assert card_of(tmp_path, train).read_bytes() == first
    card.write_bytes(first.replace(b"24", b"25"))
    edited = told_by(card)
    assert edited is not None and edited.unchanged is False


def test_it_is_read_again_and_what_is_no_card_is_refused(tmp_path: Path, train: list[Path]) -> None:
    card = card_of(tmp_path, train, origin=OWNED)
    told = read_data_card(card)
    assert (told.part, told.licence, told.creator) == ("train", OWNED.licence, OWNED.creator)
    assert told.columns[:3] == ("group", "images", "identities")
    assert told.rows == (("A", "24", "8", "24", "8", "32"), ("no", "10", "5", "10", "5", "32"))
    assert [name for name, _ in told.files] == ["A.h5", "no.h5"]
    for text in ("{", "[]", "{}", '{"recordSet": 3}', '{"recordSet": [[]], "name": 1}'):
        card.write_text(text)
        with pytest.raises(InputError, match="expected a data card of mstkd"):
            read_data_card(card)
    with pytest.raises(InputError, match=r"expected \.jsonld"):
        describe_data(
            DataCardSettings(part="train", procedural=True), packs=train, output=Path("a.json")
        )
