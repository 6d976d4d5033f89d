"""The checks of the data: each on packs that have the fault and on packs that have not."""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from packs import bin_pack as shared_bin_pack
from PIL import Image

from mstkd.artifacts.findings import Finding, Findings
from mstkd.artifacts.records import read_record
from mstkd.config import CheckSettings, PackSettings
from mstkd.data.checks import check_data as checks
from mstkd.data.checks import evidence, known
from mstkd.data.checks.check_data import check_data, find
from mstkd.data.checks.known import Count, Known
from mstkd.data.pack import Pack, open_pack
from mstkd.data.packing import pack_train, pack_verification
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import check_pairs

SIZE = 16
Faces = Mapping[str, Sequence[int]]  # identity -> a number for each image; equal numbers, copies
PAIRS = ["p 1 2", "p 1 q 1", "r 1 2", "r 1 s 1"]  # two folds, nobody in both
VERIFICATION: Faces = {"p": [900, 901], "q": [902], "r": [903, 904], "s": [905]}


def draw(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def write(folder: Path, faces: Faces) -> None:
    for identity, numbers in faces.items():
        (folder / identity).mkdir(parents=True)
        for position, number in enumerate(numbers, start=1):
            path = folder / identity / f"{identity}_{position:04}.png"
            Image.fromarray(draw(number)).save(path)


def settings_of(root: Path, group: str) -> PackSettings:
    return PackSettings(root=root, group=group, image_size=SIZE, on_bad_image="skip")


def train(folder: Path, group: str, faces: Faces, bad: Sequence[str] = ()) -> Path:
    """A training pack; the files `bad`, below the group's folder, are no images."""
    root = folder / "train"
    write(root / group, faces)
    for name in bad:
        (root / group / name).parent.mkdir(exist_ok=True)
        (root / group / name).write_bytes(b"no image")
    output = folder / f"train-{group}.h5"
    pack_train(settings_of(root, group), output=output)
    return output


def verification(
    folder: Path, group: str, faces: Faces = VERIFICATION, pairs: Sequence[str] = PAIRS
) -> Path:
    root = folder / "verification"
    write(root / "data" / group, faces)
    file = root / "txts" / group / f"{group}_pairs.txt"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(pairs) + "\n")
    output = folder / f"verification-{group}.h5"
    pack_verification(settings_of(root, group), output=output)
    return output


def renamed(faces: Faces, mark: str, shift: int) -> Faces:
    """The same faces under other names and as other pictures."""
    return {mark + name: [n + shift for n in numbers] for name, numbers in faces.items()}


def other_verification(folder: Path, group: str) -> Path:
    pairs = ["xp 1 2", "xp 1 xq 1", "xr 1 2", "xr 1 xs 1"]
    return verification(folder, group, renamed(VERIFICATION, "x", 50), pairs)


def opened(*paths: Path) -> list[Pack]:
    return [open_pack(path) for path in paths]


def found(
    check: str, *, trained: Sequence[Path], tested: Sequence[Path], overlap: str = "error"
) -> list[Finding]:
    settings = CheckSettings.model_validate({"overlap": overlap, "folds": 2})
    all_ = find(settings, train=opened(*trained), verification=opened(*tested))
    return [finding for finding in all_ if finding.check == check]


CLEAN: Faces = {"a": [1, 2], "b": [3, 4, 5]}
CLEAN_TOO: Faces = {"c": [6, 7], "d": [8, 9, 10]}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Training packs and verification packs of groups A and B without any fault."""
    folder = tmp_path_factory.mktemp("clean")
    trained = [train(folder, "A", CLEAN), train(folder, "B", CLEAN_TOO)]
    return trained, [verification(folder, "A"), other_verification(folder, "B")]


# ---------------------------------------------------------------- nothing to find


def test_each_check_of_clean_data_says_that_it_found_nothing(
    clean: tuple[list[Path], list[Path]],
) -> None:
    trained, tested = clean
    settings = CheckSettings(folds=2)
    first, *others = find(settings, train=opened(*trained), verification=opened(*tested))
    assert first.message.startswith("Not compared")
    assert [finding.check for finding in (first, *others)] == [
        "known counts",
        "identity overlap",
        "image overlap",
        "copies of two identities",
        "copies of one identity",
        "bad images",
        "uneven groups",
        "identities of one image",
        "identities in two groups",
        "unbalanced folds",
        "repeated pairs",
    ]
    assert {finding.severity for finding in (first, *others)} == {"note"}
    told = {finding.check: finding.message for finding in others}
    # A picture that was saved again has other pixels, and is not seen.
    assert told.pop("image overlap") == "No identical pixels found."
    assert set(told.values()) == {"None found."}


# ---------------------------------------------------------------- persons in two places


@pytest.mark.parametrize(("overlap", "severity"), [("error", "fatal"), ("warn", "warning")])
def test_identities_trained_and_tested_are_named_within_and_across_groups(
    tmp_path: Path, overlap: str, severity: str
) -> None:
    trained = [
        train(tmp_path, "A", {"p": [1, 2, 3], "a": [4]}),
        train(tmp_path, "B", {"q": [5, 6], "b": [7]}),
    ]
    tested = [verification(tmp_path, "A")]
    (finding,) = found("identity overlap", trained=trained, tested=tested, overlap=overlap)
    assert finding.severity == severity
    assert finding.message == (
        "Training and verification share 2 identities (5 training images), 1 of them under another "
        "group only."
    )
    assert finding.examples == (
        "p (training: A; verification: A)",
        "q (training: B; verification: A)",
    )
    # Rows by sorted name: A has a, p; B has b, q; verification has p, p, q, r, r, s.
    assert finding.pictures == (
        (trained[0], 1), (tested[0], 0), (trained[1], 1), (tested[0], 2)
    )  # fmt: skip


def bin_pack(
    folder: Path, group: str, first: int, numbers: Sequence[int] = tuple(range(8))
) -> Path:
    """Two genuine and two impostor pairs of eight pictures, in a file that names nobody."""
    images = []
    for number in (first + number for number in numbers):
        data = io.BytesIO()
        Image.fromarray(draw(number)).save(data, "PNG")
        images.append(data.getvalue())
    root = folder / f"{group}_test.bin"
    root.write_bytes(pickle.dumps((images, [True, False] * 2)))
    output = folder / f"verification-{group}.h5"
    pack_verification(settings_of(root, group), output=output)
    return output


def test_made_up_identities_of_bin_files_are_nobody(tmp_path: Path) -> None:
    """Two files name identities alike, and a person may by chance be called so."""
    tested = [bin_pack(tmp_path, "A", 0), bin_pack(tmp_path, "B", 100)]
    (pack, _) = opened(*tested)
    trained = [train(tmp_path, "A", {pack.identity_names[0]: [200, 201], "a": [202, 107]})]
    for check in ("identity overlap", "identities in two groups"):
        (none,) = found(check, trained=trained, tested=tested)
        assert none.message == "None found."
    (copies,) = found("image overlap", trained=trained, tested=tested)
    assert copies.severity == "fatal"


def test_verification_identities_under_two_groups_are_all_named(tmp_path: Path) -> None:
    shared = {f"m.{number:02}": [number, 100 + number] for number in range(13)}
    pairs = [f"{name} 1 2" for name in shared] + ["m.00 1 m.01 1"]
    tested = [
        verification(tmp_path, group, renamed_pixels, pairs)
        for group, renamed_pixels in (("A", shared), ("B", renamed(shared, "", 500)))
    ]
    trained = [train(tmp_path, "A", {"a": [1000]})]
    (finding,) = found("identities in two groups", trained=trained, tested=tested)
    assert finding.severity == "note"
    assert finding.message == "Under two groups or more: 13 verification identities."
    assert finding.examples == ("A and B: " + ", ".join(shared),)
    assert finding.pictures[:2] == ((tested[0], 0), (tested[1], 0))
    assert len(finding.pictures) == 8


# ---------------------------------------------------------------- copies


@pytest.mark.parametrize(("overlap", "severity"), [("error", "fatal"), ("warn", "warning")])
def test_images_of_verification_in_training_are_found_by_their_pixels(
    tmp_path: Path, overlap: str, severity: str
) -> None:
    trained = [
        train(tmp_path, "A", {"a": [1, 903], "b": [2, 3]}),
        train(tmp_path, "B", {"c": [903, 4], "d": [905, 5]}),
    ]
    tested = [verification(tmp_path, "A")]
    (finding,) = found("image overlap", trained=trained, tested=tested, overlap=overlap)
    assert finding.severity == severity
    assert finding.message == (
        "2 verification images and 3 training images are copies of each other, pixel for pixel."
    )
    assert finding.examples == (
        "A/a/a_0002.png = data/A/r/r_0001.png",
        "B/d/d_0001.png = data/A/s/s_0001.png",
    )
    assert finding.pictures == (
        (trained[0], 1), (tested[0], 3), (trained[1], 2), (tested[0], 5)
    )  # fmt: skip


def test_copies_under_two_identities_are_told_from_copies_of_one(tmp_path: Path) -> None:
    trained = [
        train(tmp_path, "A", {"a": [1, 1, 2, 4], "b": [3, 3, 3], "c": [2]}),
        train(tmp_path, "B", {"a": [4, 5], "d": [6, 7]}),
    ]
    tested = [verification(tmp_path, "A")]
    (two,) = found("copies of two identities", trained=trained, tested=tested)
    assert two.severity == "warning"
    assert two.message == (
        "4 training images are copies of each other (2 pictures) under two identities or more."
    )
    assert two.examples == (
        "A/a/a_0003.png = A/c/c_0001.png",
        "A/a/a_0004.png = B/a/a_0001.png",  # one name in two groups is two identities
    )
    (one,) = found("copies of one identity", trained=trained, tested=tested)
    assert one.severity == "note"
    assert one.message == (
        "Copies of another image of the same identity, pixel for pixel: 3 training images."
    )
    assert one.examples == (
        "A/a/a_0001.png = A/a/a_0002.png",
        "A/b/b_0001.png = A/b/b_0002.png",
    )


def test_an_example_of_two_identities_shows_two(tmp_path: Path) -> None:
    trained = [train(tmp_path, "A", {"a": [1, 1], "b": [1, 2]})]
    (two,) = found(
        "copies of two identities", trained=trained, tested=[verification(tmp_path, "A")]
    )
    assert two.examples == ("A/a/a_0001.png = A/b/b_0001.png",)
    assert two.message.startswith("3 training images are copies of each other (1 picture)")


def test_examples_and_pictures_are_few_however_many_faults(tmp_path: Path) -> None:
    trained = [train(tmp_path, "A", {f"a{n:02}": [n, n] for n in range(12)})]
    (one,) = found("copies of one identity", trained=trained, tested=[verification(tmp_path, "A")])
    assert one.message.endswith(": 12 training images.")
    assert (len(one.examples), len(one.pictures)) == (10, 8)
    (single,) = checks.single_images(
        *opened(train(tmp_path, "B", {f"b{n:02}": [100 + n] for n in range(12)}))
    )
    assert single.message == "One image only: 12 of 12 identities."
    assert (len(single.examples), len(single.pictures)) == (10, 8)


# ---------------------------------------------------------------- groups that cannot be compared


def many(mark: str, identities: int, first: int) -> Faces:
    """Identities of 30 images each."""
    return {f"{mark}{i}": range(first + 30 * i, first + 30 * (i + 1)) for i in range(identities)}


def test_losses_that_differ_by_group_are_a_warning(tmp_path: Path) -> None:
    trained = [
        train(tmp_path, "A", many("a", 2, 0), bad=["a0/x.png", "a0/y.jpg", "a1/z.png"]),
        train(tmp_path, "B", many("b", 2, 100), bad=["b0/x.png"]),
        train(tmp_path, "C", many("c", 2, 200)),
    ]
    (finding,) = found("bad images", trained=trained, tested=[verification(tmp_path, "A")])
    assert finding.severity == "warning"
    assert finding.message == (
        "Bad training images were left out: 3 of A (4.76 %), 1 of B (1.64 %), 0 of C (0.00 %); "
        "losses that differ bias a comparison of groups."
    )
    root = tmp_path / "train"
    reason = "not a JPEG, PNG or WebP image"
    assert finding.examples == (
        f"{root}/A/a0/x.png: {reason}",
        f"{root}/A/a0/y.jpg: {reason}",
        f"{root}/A/a1/z.png: {reason}",
        f"{root}/B/b0/x.png: {reason}",
    )


@pytest.mark.parametrize(
    ("bad", "severity"),
    [((2, 1), "note"), ((3, 1), "warning"), ((0, 0), "note")],
    ids=["twice", "more than twice", "none"],
)
def test_losses_alike_are_a_note(
    clean: tuple[list[Path], list[Path]], tmp_path: Path, bad: tuple[int, int], severity: str
) -> None:
    packs = []
    for source, lost in zip(clean[0], bad, strict=True):
        copy = tmp_path / source.name
        copy.symlink_to(source)
        lines = "".join(f"x/{n}.jpg\tan empty file\n" for n in range(lost))
        copy.with_name(f"{copy.name}.bad.txt").write_text(lines)
        packs.append(copy)
    (finding,) = found("bad images", trained=packs, tested=clean[1])
    assert finding.severity == severity
    assert (finding.message == "None found.") == (bad == (0, 0))


def test_a_tenth_of_a_percent_lost_is_a_note(tmp_path: Path) -> None:
    class Whole:
        kind, images = "train", range(1000)

        def __init__(self, group: str) -> None:
            self.group, self.path = group, tmp_path / f"{group}.h5"

    listing = tmp_path / "A.h5.bad.txt"
    packs = [Whole("A"), Whole("B")]
    for lines, severity in ((1, "note"), (2, "warning")):
        listing.write_text("x.jpg\tan empty file\n" * lines)
        (finding,) = checks.left_out_images(packs)  # type: ignore[arg-type]
        assert finding.severity == severity


def test_a_list_of_bad_images_that_is_none_is_named_with_its_line(
    clean: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    copy = tmp_path / "A.h5"
    copy.symlink_to(clean[0][0])
    listing = tmp_path / "A.h5.bad.txt"
    listing.write_text("x.jpg\tdamaged\ny.jpg\n")
    with pytest.raises(InputError, match=r"A\.h5\.bad\.txt:2: found a line without a tab"):
        found("bad images", trained=[copy], tested=clean[1])
    listing.write_bytes(b"\xff\tdamaged\n")
    with pytest.raises(InputError, match=r"A\.h5\.bad\.txt: .*expected a list of bad images"):
        found("bad images", trained=[copy], tested=clean[1])


def test_groups_are_uneven_above_eleven_to_ten(tmp_path: Path) -> None:
    ten, eleven, twelve = (
        train(tmp_path, group, {f"{group}{n}": [1000 * shift + n] for n in range(number)})
        for shift, (group, number) in enumerate((("A", 10), ("B", 11), ("C", 12)))
    )
    tested = [verification(tmp_path, "A")]
    (even,) = found("uneven groups", trained=[ten, eleven], tested=tested)
    assert even.message == "None found."
    images, identities = found("uneven groups", trained=[eleven, ten, twelve], tested=tested)
    assert images.severity == identities.severity == "warning"
    assert images.message == "Uneven training images: 12 of C, 1.20 times the 10 of A."
    assert identities.message == "Uneven training identities: 12 of C, 1.20 times the 10 of A."


def test_images_and_identities_are_compared_apart(tmp_path: Path) -> None:
    trained = [
        train(tmp_path, "A", {"a": [1, 2], "b": [3, 4]}),
        train(tmp_path, "B", {"c": [5, 6, 7], "d": [8, 9]}),
    ]
    (finding,) = found("uneven groups", trained=trained, tested=[verification(tmp_path, "A")])
    assert finding.message == "Uneven training images: 5 of B, 1.25 times the 4 of A."


def test_identities_of_one_image_are_named_by_group(tmp_path: Path) -> None:
    trained = [
        train(tmp_path, "A", {"a": [1, 2], "b": [3], "c": [4]}),
        train(tmp_path, "B", CLEAN_TOO),
    ]
    (finding,) = found(
        "identities of one image", trained=trained, tested=[verification(tmp_path, "A")]
    )
    assert (finding.severity, finding.group) == ("note", "A")
    assert finding.message == "One image only: 2 of 3 identities."
    assert finding.examples == ("b", "c")
    assert finding.pictures == ((trained[0], 2), (trained[0], 3))


# ---------------------------------------------------------------- pairs


def test_folds_of_unlike_counts_and_with_shared_identities(tmp_path: Path) -> None:
    pairs = ["p 1 2", "p 1 q 1", "p 2 q 1", "r 1 2", "r 1 s 1", "r 1 p 1"]
    pairs += ["r 1 q 1", "r 2 q 1", "s 1 q 1"]
    tested = [verification(tmp_path, "B", pairs=pairs)]
    trained = [train(tmp_path, "A", CLEAN)]
    counts, shared = found("unbalanced folds", trained=trained, tested=tested)
    assert (counts.severity, counts.group) == ("warning", "B")
    assert counts.message == "Not balanced: 2 of 2 contiguous folds."
    # Nine pairs in two folds: five and four.
    assert counts.examples == ("fold 1: 2 genuine, 3 impostor", "fold 2: 0 genuine, 4 impostor")
    assert (shared.severity, shared.group) == ("note", "B")
    assert shared.message == "In two folds or more: 4 of 4 identities."
    assert shared.examples == ("p", "q", "r", "s")


def test_only_the_odd_fold_is_named(tmp_path: Path) -> None:
    pairs = ["p 1 2", "p 1 q 1", "r 1 2", "r 1 s 1", "p 2 q 1", "p 1 s 1"]
    (pack,) = opened(verification(tmp_path, "A", pairs=pairs))
    counts, shared = checks.fold_balance(pack, 3)
    assert counts.message == "Not balanced: 1 of 3 contiguous folds."
    assert counts.examples == ("fold 3: 0 genuine, 2 impostor",)
    assert shared.message == "In two folds or more: 3 of 4 identities."
    assert shared.examples == ("p", "q", "s")


def test_fewer_pairs_than_folds_are_fatal(tmp_path: Path) -> None:
    (pack,) = opened(verification(tmp_path, "A"))
    assert checks.fold_balance(pack, 4)[0].severity == "warning"
    (finding,) = checks.fold_balance(pack, 5)
    assert finding.severity == "fatal"
    assert finding.message == "4 pairs cannot make 5 folds."


def test_fewer_pairs_than_the_folds_that_choose_epochs_are_fatal(tmp_path: Path) -> None:
    trained, tested = opened(train(tmp_path, "A", CLEAN)), opened(verification(tmp_path, "A"))
    settings = CheckSettings(folds=2, selection_folds=5)
    (finding,) = [
        one
        for one in find(settings, train=trained, verification=tested)
        if one.check == "unbalanced folds"
    ]
    assert (finding.severity, finding.group) == ("fatal", "A")
    assert finding.message == "4 pairs cannot make 5 folds."


@pytest.mark.parametrize("kind", ["genuine", "impostor"])
def test_pairs_of_one_class_are_fatal(tmp_path: Path, kind: str) -> None:
    pairs = [pair for pair in PAIRS if (len(pair.split()) == 3) == (kind == "genuine")]
    (finding,) = found(
        "unbalanced folds",
        trained=[train(tmp_path, "A", CLEAN)],
        tested=[verification(tmp_path, "A", pairs=pairs)],
    )
    assert (finding.severity, finding.group) == ("fatal", "A")
    assert finding.message == f"Only {kind} pairs: no threshold can be chosen on them."


def test_an_image_with_itself_is_fatal(tmp_path: Path) -> None:
    """Which only a .bin file can have, where equal bytes are one image."""
    tested = [bin_pack(tmp_path, "A", 0, numbers=[0, 1, 2, 3, 4, 4, 6, 7])]
    trained = [train(tmp_path, "A", renamed(CLEAN, "", 50))]
    (finding,) = found("repeated pairs", trained=trained, tested=tested)
    assert (finding.severity, finding.group) == ("fatal", "A")
    assert finding.message == "An image with itself: 1 pair."
    assert finding.examples == ("A_test.bin/00004",)


def test_pairs_that_repeat_are_found_in_either_order(tmp_path: Path) -> None:
    pairs = [*PAIRS, "q 1 p 1", "p 1 q 1", "r 2 1", "r 2 s 1"]
    tested = [verification(tmp_path, "A", pairs=pairs)]
    trained = [train(tmp_path, "A", CLEAN)]
    (finding,) = found("repeated pairs", trained=trained, tested=tested)
    assert (finding.severity, finding.group) == ("warning", "A")
    assert finding.message == "Listed again, in either order: 3 of 8 pairs."
    assert finding.examples == (
        "data/A/p/p_0001.png and data/A/q/q_0001.png",
        "data/A/r/r_0001.png and data/A/r/r_0002.png",
    )
    assert finding.pictures == tuple((tested[0], row) for row in (0, 2, 3, 4))


# ---------------------------------------------------------------- known counts

FOUR = {"p": [1, 2, 3], "a": [4, 5, 6], "b": [7, 8, 9], "c": [10, 11, 12]}


def test_counts_are_those_of_the_packs_where_a_data_set_is_expected(tmp_path: Path) -> None:
    trained = opened(train(tmp_path, "Asian", CLEAN))
    tested = opened(verification(tmp_path, "Asian"))
    settings = CheckSettings(expected="bupt-rfw", folds=2)
    findings = find(settings, train=trained, verification=tested)
    known = [one for one in findings if one.check == "known counts"]
    assert [one.severity for one in known] == ["fatal"] * 8
    bupt, rfw = (one.message for one in known if one.group == "Asian")
    assert bupt.startswith("BUPT-Balancedface: 5 images of 2 identities,")
    assert rfw.startswith("RFW: 6 images of 4 identities,")


@pytest.mark.parametrize(
    "left_out",
    [{"exclude": "verification"}, {"heldout": {"share": 0.5, "folds": 2}}],
    ids=["excluded identities", "held-out identities"],
)
def test_what_is_left_out_on_purpose_is_no_cut_off_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_out: dict[str, object]
) -> None:
    published = Known("Small", {"all": {"A": Count(12, 4)}})
    monkeypatch.setattr(known, "KNOWN", {"bupt-rfw": {"train": published}})
    tested = [verification(tmp_path, "A")]  # it has p too
    train(tmp_path, "A", FOUR)
    if "exclude" in left_out:
        left_out = {"exclude": tmp_path / "verification"}
    given = settings_of(tmp_path / "train", "A").model_dump() | left_out
    output = tmp_path / "some.h5"
    pack_train(PackSettings.model_validate(given), output=output)
    assert len(open_pack(output).images) < 12
    findings = checks.known_counts("bupt-rfw", opened(output), opened(*tested))
    assert [one.severity for one in findings] == ["note"]
    assert "12 images of 4 identities, exactly" in findings[0].message


def test_bad_images_are_missing_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken download has its files, but they are bad."""
    published = Known("Small", {"all": {"A": Count(13, 4)}})
    monkeypatch.setattr(known, "KNOWN", {"bupt-rfw": {"train": published}})
    trained = opened(train(tmp_path, "A", FOUR, bad=["a/x.png"]))
    findings = checks.known_counts("bupt-rfw", trained, opened(verification(tmp_path, "A")))
    assert [one.severity for one in findings] == ["fatal"]
    assert "12 images of 4 identities" in findings[0].message


def test_of_bin_files_images_alone_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = Known("Small", {"all": {"A": Count(8, 99)}})
    monkeypatch.setattr(known, "KNOWN", {"bupt-rfw": {"verification": published}})
    (finding,) = checks.known_counts("bupt-rfw", [], opened(bin_pack(tmp_path, "A", 0)))
    assert (finding.severity, finding.message) == ("note", "Small: 8 images, exactly as in all.")


# ---------------------------------------------------------------- the step


def test_findings_file_has_counts_findings_by_gravity_and_pictures(tmp_path: Path) -> None:
    trained = [train(tmp_path, "A", {"a": [1, 900], "b": [2]}, bad=["b/x.png"])]
    tested = [verification(tmp_path, "A")]
    output = tmp_path / "findings.json"
    settings = CheckSettings(overlap="warn", folds=2)
    check_data(settings, train=trained, verification=tested, output=output)
    record = read_record(Findings, output)
    first, second = (pack.model_dump(exclude={"sha256"}) for pack in record.packs)
    assert first == {
        "kind": "train", "group": "A", "images": 3, "identities": 2,
        "images_found": 4, "identities_found": 2, "left_out": 1, "genuine": None, "impostor": None,
    }  # fmt: skip
    assert second == {
        "kind": "verification", "group": "A", "images": 6, "identities": 4,
        "images_found": 6, "identities_found": 4, "left_out": 0, "genuine": 2, "impostor": 2,
    }  # fmt: skip
    assert record.packs[0].sha256 == open_pack(trained[0]).sha256
    severities = [one.severity for one in record.findings]
    assert severities == ["warning"] + ["note"] * 10
    copies = record.findings[0]
    assert [picture.name for picture in copies.pictures] == [
        "A/a/a_0002.png",
        "data/A/p/p_0001.png",
    ]
    for picture in copies.pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture.png))) as image:
            assert image.format == "PNG"
            np.testing.assert_array_equal(np.asarray(image), draw(900))


def test_pictures_are_small() -> None:
    data = base64.b64decode(evidence._png(np.zeros((448, 448, 3), np.uint8)))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (112, 112)


def test_a_fatal_finding_stops_the_run_and_leaves_a_file_that_no_rule_deletes(
    tmp_path: Path,
) -> None:
    trained = [train(tmp_path, "A", {"p": [1, 2], "a": [900, 3]})]
    tested = [verification(tmp_path, "A", pairs=PAIRS[:3])]
    output, failed = tmp_path / "findings.json", tmp_path / "findings.failed.json"
    with pytest.raises(InputError) as error:
        check_data(CheckSettings(folds=4), train=trained, verification=tested, output=output)
    assert error.value.where == str(failed)
    assert error.value.found == (
        "3 fatal findings\n"
        "  identity overlap: Training and verification share 1 identity (2 training images), 0 of "
        "them under another group only.\n"
        "  image overlap: 1 verification image and 1 training image are copies of each other, "
        "pixel for pixel.\n"
        "  unbalanced folds, A: 3 pairs cannot make 4 folds.\n"
    )
    assert failed.read_bytes() == output.read_bytes()
    pairs = read_record(Findings, failed).packs[1]
    assert (pairs.genuine, pairs.impostor) == (2, 1)
    check_data(
        CheckSettings(overlap="warn", folds=3), train=trained, verification=tested, output=output
    )
    assert not failed.exists()  # it would tell of faults that are mended


@pytest.mark.parametrize("side", ["train", "verification"])
def test_two_packs_of_a_group_or_none_are_refused(
    clean: tuple[list[Path], list[Path]], tmp_path: Path, side: str
) -> None:
    given = dict(zip(("train", "verification"), clean, strict=True))
    output = tmp_path / "findings.json"
    twice = {**given, side: [*given[side], given[side][0]]}
    with pytest.raises(InputError, match="found group A again; expected a pack a group"):
        check_data(CheckSettings(), **twice, output=output)
    with pytest.raises(InputError, match=f"{side}: found no pack"):
        check_data(CheckSettings(), **{**given, side: []}, output=output)
    other = "verification" if side == "train" else "train"
    with pytest.raises(InputError, match=f"found a {other} pack; expected a {side} pack"):
        check_data(CheckSettings(), **{**given, side: given[other]}, output=output)
    assert not output.exists()


# ---------------------------------------------------------------- names that mean nothing


def test_equal_names_may_be_said_to_mean_nothing(tmp_path: Path) -> None:
    """Both sets count their people from 0; an image in both is an overlap all the same."""
    trained = [train(tmp_path, "A", {"p": [900, 2], "q": [5, 6]})]
    tested = [verification(tmp_path, "A")]
    packs = opened(*trained), opened(*tested)
    for names, severity in ((None, "fatal"), ("unrelated", "note")):
        settings = CheckSettings(folds=2, same_names=names)
        findings = {one.check: one for one in find(settings, train=packs[0], verification=packs[1])}
        assert findings["identity overlap"].severity == severity
        assert findings["image overlap"].severity == "fatal"


def test_names_in_two_spellings_are_one_person(tmp_path: Path) -> None:
    """Packs hold names as their files have them; Unicode writes an é in two ways."""
    composed, decomposed = "Zo\u00eb", "Zoe\u0308"
    (tmp_path / "faces.csv").write_text(
        f"path,identity,group\n1.png,{decomposed},A\n2.png,{decomposed},A\n"
    )
    for number in (1, 2):
        Image.fromarray(draw(90 + number)).save(tmp_path / f"{number}.png")
    pack_train(settings_of(tmp_path / "faces.csv", "A"), output=tmp_path / "train.h5")
    pairs = [f"{composed} 1 2", f"{composed} 1 q 1", "q 1 2", f"{composed} 2 q 2"]
    tested = [verification(tmp_path, "A", {composed: [1, 2], "q": [3, 4]}, pairs)]
    (finding,) = found("identity overlap", trained=[tmp_path / "train.h5"], tested=tested)
    assert finding.severity == "fatal" and "share 1 identity" in finding.message
    assert len(finding.pictures) == 2


# ---------------------------------------------------------------- all genuine pairs first


@pytest.mark.parametrize("first", ["genuine", "impostor"])
def test_one_kind_of_pairs_first_is_fatal(tmp_path: Path, first: str) -> None:
    pairs = ["p 1 2", "r 1 2", "p 1 q 1", "r 1 s 1"]
    pairs = pairs if first == "genuine" else pairs[::-1]
    (pack,) = opened(verification(tmp_path, "A", pairs=pairs))
    (finding,) = checks.fold_balance(pack, 2)
    assert finding.severity == "fatal"
    assert finding.message.startswith(f"All {first} pairs come first")
    same = [True] * 5 + [False] * 5
    (pack,) = opened(shared_bin_pack(tmp_path, "C", same if first == "genuine" else same[::-1]))
    with pytest.raises(InputError, match="all pairs of one kind, then those of the other"):
        check_pairs(pack, 2)
