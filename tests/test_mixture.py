"""Training images of several sources: who is drawn, under which name, and who knows of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packs import SIZE, settings_of, write_rfw
from PIL import Image
from refusals import refused_in_one_line
from runs import TINY, edited, planned, snakemake

from mstkd.artifacts.findings import Finding
from mstkd.bench.work import Count, count_images
from mstkd.config import CheckSettings, Config, PackSettings, validate
from mstkd.data.checks.check_data import find
from mstkd.data.mixture import draw, most, parts
from mstkd.data.pack import open_pack
from mstkd.data.packing import pack_heldout, pack_train, pack_verification
from mstkd.data.splits import read_split
from mstkd.data.watched import watched
from mstkd.errors import InputError
from mstkd.report.data_card import describe_data

# ---------------------------------------------------------------- how many of each, and who


@st.composite
def shares(draw: Any) -> dict[str, float]:
    """Of two to five sources, in hundredths."""
    cuts = sorted(draw(st.sets(st.integers(1, 99), min_size=1, max_size=4)))
    widths = np.diff([0, *cuts, 100])
    return {f"s{n}": int(width) / 100 for n, width in enumerate(widths)}


@given(shares(), st.integers(1, 5000))
def test_each_source_gives_its_share_to_the_nearest_identity(
    of: dict[str, float], identities: int
) -> None:
    counts = parts(of, identities)
    assert sum(counts.values()) == identities
    exact = {name: Fraction(round(100 * share), 100) * identities for name, share in of.items()}
    assert all(abs(counts[name] - exact[name]) < 1 for name in of)
    if len(of) == 2 and all(2 * one % 2 != 1 for one in exact.values()):
        assert counts == {name: round(one) for name, one in exact.items()}


def test_shares_are_what_is_written_and_not_its_binary_neighbour() -> None:
    assert parts({"a": 0.7, "b": 0.3}, 10_000) == {"a": 7000, "b": 3000}
    assert parts({"a": 0.29, "b": 0.71}, 100) == {"a": 29, "b": 71}
    assert most({"a": 0.7, "b": 0.3}, {"a": 7000, "b": 9000}) == 10_000
    assert parts({"a": 0.5, "b": 0.5}, 5) == {"a": 3, "b": 2}  # the first named


@given(shares(), st.data())
def test_the_most_identities_are_the_most(of: dict[str, float], data: Any) -> None:
    counts = {name: data.draw(st.integers(1, 300)) for name in of}
    total = most(of, counts)
    assert all(needed <= counts[name] for name, needed in parts(of, total).items())
    exact = {name: Fraction(round(100 * share), 100) for name, share in of.items()}
    assert any(exact[name] * (total + 1) > counts[name] for name in of)


NAMES = {"real": [f"{n:03}" for n in range(70)], "drawn": [f"{n:03}" for n in range(50)]}


def drawn(names: Mapping[str, Any] = NAMES, share: float = 0.7, **changes: Any) -> Any:
    told = {"identities": None, "seed": 0, "group": "A"} | changes
    return draw(names, {"real": share, "drawn": 1 - share}, **told)


def test_a_larger_number_takes_what_a_smaller_one_takes_and_more() -> None:
    few, many = drawn(identities=50), drawn(identities=60)
    assert {name: len(own) for name, own in few.items()} == {"real": 35, "drawn": 15}
    assert all(few[name] < many[name] for name in few)
    # And whatever is taken of the other source, as where another share is asked for.
    other = drawn(identities=50, share=0.5)
    assert other["real"] < few["real"] and other["drawn"] > few["drawn"]


def test_each_seed_group_and_source_is_drawn_apart() -> None:
    plain = drawn(identities=50)
    assert drawn(identities=50, seed=1) != plain != drawn(identities=50, group="B")
    alike = {"real": NAMES["real"], "drawn": NAMES["real"]}
    halves = drawn(alike, 0.5, identities=60)
    assert halves["real"] != halves["drawn"]
    turned = {name: own[::-1] for name, own in reversed(NAMES.items())}
    assert drawn(turned, identities=50) == plain


def test_the_shuffle_stays_what_it_was() -> None:
    """Another shuffle would be another data set: raise the recipe of PackSettings then."""
    names = {"real": list("abcdefgh"), "drawn": list("ijklmnop")}
    assert drawn(names, 0.5, identities=6) == {
        "real": frozenset("ade"),
        "drawn": frozenset("lmn"),
    }


def test_as_many_as_the_shares_allow_unless_a_number_is_given() -> None:
    assert {name: len(own) for name, own in drawn().items()} == {"real": 70, "drawn": 30}


@pytest.mark.parametrize(
    ("identities", "share", "message"),
    [
        (
            120,
            0.7,
            "data.train.real: group A: found 70 identities; expected 84 or more, 70 % of 120",
        ),
        (
            20,
            0.99,
            "data.train.drawn: group A: found a share of none, 1 % of 20; "
            "expected one identity or more",
        ),
    ],
)
def test_a_source_that_has_too_few_says_what_it_needs(
    identities: int, share: float, message: str
) -> None:
    with pytest.raises(InputError) as error:
        draw(
            NAMES,
            {"real": share, "drawn": round(1 - share, 2)},
            identities=identities,
            seed=0,
            group="A",
        )
    assert str(error.value) == message


# ---------------------------------------------------------------- packs


def write(folder: Path, identities: int, *, shade: int, group: str = "A") -> Path:
    """Identities 0, 1, … of three images each, whose colour says who they are."""
    for number in range(identities):
        place = folder / group / f"{number}"
        place.mkdir(parents=True, exist_ok=True)
        for image in range(3):
            colour = (shade, 10 * number, 80 * image)
            Image.new("RGB", (SIZE, SIZE), colour).save(place / f"{image}.png")
    return folder


def as_listing(folder: Path) -> Path:
    """A CSV of a folder's images, beside them."""
    lines = ["path,identity,group"]
    for path in sorted(folder.rglob("*.png")):
        group, identity, _ = path.relative_to(folder).parts
        lines.append(f"{path.relative_to(folder)},{identity},{group}")
    (folder / "images.csv").write_text("\n".join(lines) + "\n")
    return folder / "images.csv"


@pytest.fixture
def mixed(tmp_path: Path) -> PackSettings:
    """Half of a folder of 8 and half of a CSV of 6, of which both have persons of one name."""
    real, listed = write(tmp_path / "real", 8, shade=0), write(tmp_path / "drawn", 6, shade=200)
    sources = {
        "real": {"share": 0.5, "root": real},
        "drawn": {"share": 0.5, "root": as_listing(listed)},
    }
    return settings_of({"sources": sources, "seed": 3})  # type: ignore[arg-type]


def test_a_pack_of_two_sources_has_the_drawn_identities_of_each(
    mixed: PackSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack_train(mixed, output=tmp_path / "A.h5")
    assert "A: identities by source: 6 of 8 of real, 6 of 6 of drawn" in capsys.readouterr().err
    pack = open_pack(tmp_path / "A.h5", "train")
    assert pack.sources == ("real", "drawn")
    homes = Counter(pack.source_of(name)[0] for name in pack.identity_names)
    assert homes == {"real": 6, "drawn": 6}
    assert len(pack.images) == 36 and pack.found == (36, 12)
    for row, number in enumerate(pack.identity):
        source, name = pack.source_of(pack.identity_names[number])
        assert pack.paths[row].startswith(f"{source}/A/{name}/")
        assert pack.images[row][0, 0, 0] == (0 if source == "real" else 200)
        assert pack.images[row][0, 0, 1] == 10 * int(name)
    again = tmp_path / "again" / "A.h5"
    pack_train(mixed, output=again)
    assert again.read_bytes() == (tmp_path / "A.h5").read_bytes()


def test_what_is_watched_are_both_sources(mixed: PackSettings, tmp_path: Path) -> None:
    assert watched(mixed) == [tmp_path / "real" / "A", tmp_path / "drawn"]


def test_identities_are_held_out_of_the_mixture(mixed: PackSettings, tmp_path: Path) -> None:
    held = {"share": 0.34, "seed": 0, "pairs": 8, "folds": 2}
    settings = PackSettings.model_validate(mixed.model_dump() | {"heldout": held})
    pack_heldout(settings, output=tmp_path / "heldout.h5")
    pack_train(settings, output=tmp_path / "train.h5")
    kept, trained = open_pack(tmp_path / "heldout.h5"), open_pack(tmp_path / "train.h5")
    assert len(kept.identity_names) + len(trained.identity_names) == 12
    assert not {*kept.identity_names} & {*trained.identity_names}
    # A name of another source is another person's there too.
    findings = found(tmp_path / "train.h5", tmp_path / "heldout.h5")
    assert bare(kept) & bare(trained)
    assert told(findings, "identity overlap") == ["None found."]


def bare(pack: Any) -> set[str]:
    return {pack.source_of(name)[1] for name in pack.identity_names}


def found(train: Path, verification: Path) -> list[Finding]:
    opened = [[open_pack(path)] for path in (train, verification)]
    return find(CheckSettings(folds=2), train=opened[0], verification=opened[1])


def told(findings: list[Finding], check: str) -> list[str]:
    return [one.message for one in findings if one.check == check]


def of_verification(mixed: PackSettings, tmp_path: Path) -> PackSettings:
    """RFW's layout with the persons m.0a and m.0b; the real source has the first too."""
    (tmp_path / "real/A/0").rename(tmp_path / "real/A/m.0a")
    return write_rfw(tmp_path / "rfw")


def test_checks_compare_names_without_the_source_and_say_it(
    mixed: PackSettings, tmp_path: Path
) -> None:
    pack_verification(of_verification(mixed, tmp_path), output=tmp_path / "test.h5")
    pack_train(mixed, output=tmp_path / "A.h5")
    pack = open_pack(tmp_path / "A.h5")
    assert "real/m.0a" in pack.identity_names, "of this seed"
    findings = found(tmp_path / "A.h5", tmp_path / "test.h5")
    overlap = next(one for one in findings if one.check == "identity overlap")
    assert "share 1 identity (3 training images)" in overlap.message
    assert overlap.examples == ("m.0a (training: A from real; verification: A)",)
    both = {
        name for name in bare(pack) if {f"real/{name}", f"drawn/{name}"} <= {*pack.identity_names}
    }
    assert told(findings, "sources") == [
        "Training images: 6 identities (18 images) of real, 6 identities (18 images) of drawn.",
        f"In two sources or more, taken for different persons: {len(both)} names.",
    ]


def test_identities_of_the_verification_data_are_left_out_before_the_draw(
    mixed: PackSettings, tmp_path: Path
) -> None:
    of_verification(mixed, tmp_path)
    settings = mixed.model_copy(update={"exclude": tmp_path / "rfw"})
    pack_train(settings, output=tmp_path / "A.h5")
    names = open_pack(tmp_path / "A.h5").identity_names
    assert "real/m.0a" not in names
    assert Counter(name.partition("/")[0] for name in names) == {"real": 6, "drawn": 6}


def test_a_bad_image_is_named_with_its_source(mixed: PackSettings, tmp_path: Path) -> None:
    (tmp_path / "drawn/A/5/2.png").write_bytes(b"")
    with pytest.raises(InputError) as error:
        pack_train(mixed, output=tmp_path / "A.h5")
    lines = str(error.value).splitlines()
    assert lines[:2] == [
        "data.train: found 1 bad image of 36",
        "  drawn/A/5/A/5/2.png: an empty file",
    ]
    listed = (tmp_path / "A.h5.bad.txt").read_text()
    assert listed == f"{tmp_path}/drawn/A/5/2.png\tan empty file\n"


def test_the_data_card_counts_by_source(mixed: PackSettings, tmp_path: Path) -> None:
    pack_train(mixed, output=tmp_path / "A.h5")
    settings = config(FOLDERS).data_card_settings("train")
    describe_data(settings, packs=[tmp_path / "A.h5"], output=tmp_path / "train.jsonld")
    (groups,) = json.loads((tmp_path / "train.jsonld").read_text())["recordSet"]
    assert (
        groups["data"][0]
        | {
            "groups/identities_of_real": 6,
            "groups/images_of_real": 18,
            "groups/identities_of_drawn": 6,
            "groups/images_of_drawn": 18,
        }
        == groups["data"][0]
    )
    assert {field["name"] for field in groups["field"]} == {
        name.removeprefix("groups/") for name in groups["data"][0]
    }


# ---------------------------------------------------------------- the config

FOLDERS: dict[str, Any] = {
    "real": {"share": 0.7, "path": "real.rec", "groups": "real.lst"},
    "drawn": {"share": 0.3, "path": "drawn"},
}
DRAWN: dict[str, Any] = {
    "plain": {"share": 0.7},
    "harder": {"share": 0.3, "synthetic": {"seed": 1, "difficulty": {"A": 2}}},
}


def config(train: Any, **data: Any) -> Config:
    of = {"train": train, "verification": "verification", **data}
    return validate(Config, edited(TINY, {"data": of, "splits": {"seed": 5}}), "config")


def of_draws(train: Any, **data: Any) -> Config:
    made = edited(TINY, {"data.train": train, **{f"data.{key}": one for key, one in data.items()}})
    return validate(Config, made, "config")


def test_one_source_is_to_the_byte_what_its_path_is(tmp_path: Path) -> None:
    """Settings, and so splits and all that is compared as text; and the pack itself."""
    root = write(tmp_path / "faces", 4, shade=9)
    data = {"image_size": SIZE, "heldout": {}}
    plain = config(str(root), **data)
    only = config({"mine": {"share": 1, "path": str(root)}}, **data)
    for group in TINY["groups"]:
        for method in ("train_pack_settings", "heldout_pack_settings"):
            settings = [getattr(one, method)(group).dump() for one in (plain, only)]
            assert settings[0] == settings[1]
            assert 'share":0.05' in settings[0] and "sources" not in settings[0]
    for one, name in ((plain, "plain.h5"), (only, "only.h5")):
        settings = one.train_pack_settings("A").model_copy(update={"heldout": None})
        pack_train(settings, output=tmp_path / name[:-3] / "A.h5")
    packs = [tmp_path / name / "A.h5" for name in ("plain", "only")]
    assert packs[0].read_bytes() == packs[1].read_bytes()
    assert open_pack(packs[0]).identity_names == ("0", "1", "2", "3")
    assert open_pack(packs[0]).sources == ()
    records = config({"mine": {**FOLDERS["real"], "share": 1}}).train_pack_settings("A")
    expected = config("real.rec", train_groups="real.lst").train_pack_settings("A")
    assert records.dump() == expected.dump()
    assert expected.dump() == (
        '{"recipe":1,"image_size":112,"on_bad_image":"error","storage":"pixels",'
        '"root":"real.rec","group":"A","groups":"real.lst"}'
    )


def test_several_sources_are_in_the_settings_of_training_packs_alone() -> None:
    made = config(FOLDERS, train_identities=20)
    settings = made.train_pack_settings("A")
    assert json.loads(settings.dump())["root"] == {
        "sources": {
            "real": {"share": 0.7, "root": "real.rec", "groups": "real.lst"},
            "drawn": {"share": 0.3, "root": "drawn"},
        },
        "seed": 5,
        "identities": 20,
    }
    plain = config("real.rec", train_groups="real.lst")
    for method in ("verification_pack_settings", "split_settings"):
        assert getattr(made, method)("baseline" if "split" in method else "A") == getattr(
            plain, method
        )("baseline" if "split" in method else "A")
    assert made.check_settings() == plain.check_settings()


def test_drawn_sources_lie_apart_and_differ_where_they_say_so(tmp_path: Path) -> None:
    made = of_draws(DRAWN)
    sources = json.loads(made.train_pack_settings("A").dump())["root"]["sources"]
    assert {name: one["root"] for name, one in sources.items()} == {
        "plain": "results/data/train",
        "harder": "results/data/sources/harder/train",
    }
    base, other = made.synthesize_settings(), made.synthesize_settings("harder")
    assert base == validate(Config, TINY, "config").synthesize_settings()
    assert other == base.model_copy(update={"seed": 1, "difficulty": {"A": 2}})
    # 6 identities of each: 0.7 of 8, and 0.3.
    assert count_images(made, tmp_path).train["A"] == Count(images=8 * 6, identities=8)
    more = {**DRAWN["harder"]["synthetic"], "images_per_identity": 10}
    uneven = of_draws({**DRAWN, "harder": {"share": 0.3, "synthetic": more}})
    assert count_images(uneven, tmp_path).train["A"] == Count(images=6 * 6 + 2 * 10, identities=8)
    plain = validate(Config, TINY, "config")
    assert count_images(plain, tmp_path).train["A"] == Count(images=36, identities=6)


@pytest.mark.parametrize(
    ("train", "data", "message"),
    [
        ({}, {}, "data.train: found {}; expected"),
        ({"real": {"path": "x"}}, {}, "data.train.real.share: found nothing; expected a value"),
        ({"real": {"path": "x", "share": 1, "shre": 1}}, {}, "did you mean 'share'?"),
        (edited(FOLDERS, {"real.share": 0.6}), {}, "train: shares that sum to 1, not 0.9"),
        (edited(FOLDERS, {"real.share": 0}), {}, "data.train.real.share: found 0; expected"),
        (edited(FOLDERS, {"Real": FOLDERS["real"]}), {}, "each once, whatever its capitals"),
        (edited(FOLDERS, {"drawn.path": None}), {}, "a path alone in train.drawn"),
        ({"a": {**DRAWN["harder"], "share": 1}}, {}, "a path alone in train.a"),
        (edited(FOLDERS, {"drawn.groups": "x"}), {}, "train.drawn.groups with a .rec in path"),
        (edited(FOLDERS, {"real.groups": None}), {}, "train.real.groups with a .rec in path"),
        (FOLDERS, {"train_groups": "x"}, "train_groups with a .rec in train"),
        (FOLDERS, {"train_alignment": {"landmarks": "x.csv"}}, "train_alignment with one source"),
        (FOLDERS, {"expected": "bupt-rfw"}, "expected with one source in train"),
        ("real", {"train_identities": 3}, "train_identities with several sources in train"),
    ],
)
def test_what_is_no_mixture_is_refused_in_one_line(
    train: Any, data: dict[str, Any], message: str
) -> None:
    with refused_in_one_line(message):
        config(train, **data)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (FOLDERS, "either synthetic or folders of your own"),
        (edited(DRAWN, {"harder.synthetic.seed": 0}), "train.harder.synthetic with a seed of its"),
        ({"a": {"share": 0.5}, "b": {"share": 0.5}}, "in one source, not in a and b"),
        (
            edited(DRAWN, {"harder.synthetic.difficulty": {"C": 1}}),
            "harder.synthetic.difficulty: no",
        ),
    ],
)
def test_drawn_sources_that_cannot_be_are_refused_in_one_line(train: Any, message: str) -> None:
    with refused_in_one_line(message):
        of_draws(train)


# ---------------------------------------------------------------- runs


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.workflow
def test_a_whole_run_of_two_sources(tmp_path: Path) -> None:
    made = edited(
        TINY,
        {
            "data.train": DRAWN,
            "adaptors.architectures": {"SL": {}},
            "students.losses": {"a-KD": {}},
            "controls": False,
        },
    )
    snakemake(tmp_path, made)
    results = tmp_path / "results"
    both = [read_split(results / f"splits/baseline/BT-{number}.csv") for number in (1, 2)]
    homes = Counter(name.partition("/")[0] for own in both for name in own["A"])
    assert homes == {"plain": 6, "harder": 2}
    page = " ".join((results / "report.html").read_text().split())
    assert "Of the identities trained on, 70 % of plain and 30 % of harder." in page
    assert "had been made by the config beside it" in page
    assert "not been made" not in page
    assert "2 identities (12 images) of harder" in (results / "data-report.md").read_text()
    assert planned(tmp_path, made) == {}
    shares = planned(tmp_path, edited(made, {"data.train_identities": 7}))
    assert shares["pack_train"] == len(TINY["groups"])
    assert not {"synthesize", "synthesize_source", "pack_verification"} & shares.keys()
    drawn = planned(tmp_path, edited(made, {"data.train.harder.synthetic.difficulty": {"A": 3}}))
    assert drawn["synthesize_source"] == 1 and drawn["pack_train"] == len(TINY["groups"])
    assert not {"synthesize", "pack_verification"} & drawn.keys()
    # A changed image of the other source is seen.
    image = next((results / "data/sources/harder/train/A").rglob("*.jpg"))
    Image.new("RGB", (16, 16), (200, 10, 128)).save(image)
    changed = planned(tmp_path, made)
    assert "pack_train" in changed or "synthesize_source" in changed
