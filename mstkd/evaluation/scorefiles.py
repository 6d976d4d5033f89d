"""Tables of scored pairs, read from and written to CSV (plain or .gz) and HDF5.

`docs/scores.md` describes the files. What is wrong with one is told in one line that names file,
line, column, what was found and what was expected. Shapes: P pairs.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mstkd.artifacts.atomic import replacing
from mstkd.artifacts.contents import ATTRIBUTE, attribute
from mstkd.artifacts.records import Provenance
from mstkd.artifacts.sealed import (
    DAMAGE,
    Sealed,
    attribute_of,
    create,
    reading,
    writing,
)
from mstkd.config import ScoreKind
from mstkd.data.formats.columns import TextColumns, frame_columns, read_text_columns
from mstkd.data.formats.layouts import composed, tell_united
from mstkd.data.formats.pairlists import identity_of_image, with_own_names
from mstkd.errors import InputError, anew, printable
from mstkd.evaluation.foreign import SCORE_KINDS, similarities, with_attributes
from mstkd.evaluation.scores import (
    Attribute,
    ScoreTable,
    TooFewPairsError,
    combined,
    stratified_folds,
)

if TYPE_CHECKING:
    import pandas as pd

FORMAT, VERSION = "mstkd-scores", 2
WHOLE = "a whole table of scores"
GROUP_PAIR = ("group1", "group2")
SCORES = ("similarity", "distance")
FOLDS = 10  # of a file that has none: RFW's and LFW's number
MOST = int(np.iinfo(np.int16).max)  # groups, and folds
# Rows without image names that agree to the last digit are one pair twice, if scores have so many
# digits that two pairs hardly ever share them all.
FINE = 0.99  # distinct scores, of rows that are not alike
# A system no better than chance has its genuine pairs below its impostor pairs half the time.
SURELY = 2.0  # standard errors


# ---------------------------------------------------------------- reading


def read_scores(
    path: Path | pd.DataFrame,
    *,
    group: Sequence[str] | None = None,
    score: str | None = None,
    kind: ScoreKind | None = None,
    attributes: Path | None = None,
    folds: int = FOLDS,
    ours: bool = False,
    name: str = "frame",
) -> ScoreTable:
    """A table of scored pairs from CSV, .csv.gz, HDF5 or a data frame, checked.

    A CSV has the columns `same`, `similarity` or `distance`, and, by the names of `docs/scores.md`,
    those of groups, identities, images, folds and whatever else. What is not there is taken from
    what is: identities from the images' names, `same` from the identities, folds from the order.

    Args:
        path: the file; or a data frame with the columns of a CSV.
        group: the columns that make the groups, each `X` or `X1` and `X2`; of several, every
            combination that occurs is a group; of none, all pairs are one, "all". Unless told,
            it is the column `group` if there is one.
        score: the column of scores, if it is neither `similarity` nor `distance`.
        kind: what the scores are; needed where the column's name does not say.
        attributes: a CSV of further columns, a row an image or a row a pair.
        folds: how many, where the file has no column `fold`.
        ours: an HDF5 file of this pipeline: it is not tried out in a process of its own first,
            which takes 20 ms, and its scores may all be equal, as a network may have come to that.
        name: what messages call a data frame.

    Raises:
        InputError: any fault of the file, and pairs that nothing can be measured on: of one class
            only, a group without genuine or impostor pairs, a score that tells nothing or is a
            distance under a similarity's name, a pair twice or of one image.
    """
    if isinstance(path, Path) and path.is_file() and h5py.is_hdf5(path):
        table = _read_hdf5(path, tried=not ours)
        if group is not None:
            unknown = [name for name in group if name not in ("group", *table.attributes)]
            if unknown:
                raise _no_column(str(path), unknown[0], ["group", *table.attributes])
            table = table.grouped_by(group)
        _check_classes(table, str(path))
        if not ours:
            check_telling(table, f"{path}: column 'similarity'")
        return table
    file = read_text_columns(path) if isinstance(path, Path) else frame_columns(path, name)
    file = _columns(file, attributes, score)
    return _table_of(file, _grouping(file) if group is None else tuple(group), score, kind, folds)


def score_pairs(
    path: Path,
    scores: Callable[[TextColumns], NDArray[np.float64]],
    *,
    group: Sequence[str] | None = None,
    attributes: Path | None = None,
    folds: int = FOLDS,
) -> ScoreTable:
    """A table of the pairs of a CSV with similarities that a function gives, checked.

    Args:
        path: a CSV as `read_scores` takes; scores in it are passed over.
        scores: gives the similarities (P,) of its rows, which have `image1` and `image2`.
        group: as `read_scores`.
        attributes: as `read_scores`.
        folds: as `read_scores`.

    Raises:
        InputError: as `read_scores`, a list without images' names, or a fault that `scores` finds.
    """
    file = _columns(read_text_columns(path), attributes, None)
    for name in ("image1", "image2"):
        if name not in file:
            raise _no_column(file.header, name, list(file.columns), "image1 and image2")
    kept = {name: values for name, values in file.columns.items() if name not in SCORES}
    scored = replace(file, columns=kept | {"similarity": scores(file).astype(object)})
    grouping = _grouping(scored) if group is None else tuple(group)
    return _table_of(scored, grouping, None, None, folds)


def _columns(file: TextColumns, attributes: Path | None, score: str | None) -> TextColumns:
    file = with_own_names(file, score)
    if attributes is None:
        return file
    return with_attributes(file, with_own_names(read_text_columns(attributes)))


def _grouping(file: TextColumns) -> tuple[str, ...]:
    """The column `group` if there is one, and no column that may have been meant for it."""
    if "group" in file or {"group1", "group2"} <= set(file.columns):
        return ("group",)
    if difflib.get_close_matches("group", [name.rstrip("12") for name in file.columns], n=1):
        raise _no_column(file.header, "group", list(file.columns), "group")
    return ()


def _table_of(
    file: TextColumns,
    group: tuple[str, ...],
    score: str | None,
    kind: ScoreKind | None,
    folds: int,
) -> ScoreTable:
    header = file.header
    column, kind = _score_column(file, score, kind, header)
    similarity = similarities(file.numbers(column), kind)
    images = _codes(file, "image") if "image1" in file or "image2" in file else None
    identities, same = _identities(file, images)
    made = [_group_codes(file, name, header) for name in group]
    if made:
        names, (first, second) = combined(made)
    else:
        names, first, second = ("all",), *np.zeros((2, len(file)), np.int32)
    if len(names) > MOST:
        found = f"{len(names):,} groups of {', '.join(group)}"
        raise InputError(header, found=found, expected=f"{MOST:,} at most")
    used = {column, "same", "fold", "group"}
    used |= {f"{stem}{side}" for stem in ("group", "identity", "image") for side in "12"}
    further = {
        stem: _side_codes(first_side, second_side)
        for stem, (first_side, second_side) in _stems(file, used).items()
    }
    table = ScoreTable(
        similarity=similarity,
        same=same,
        fold=np.zeros(len(file), np.int16),
        group1=first.astype(np.int16),
        group2=second.astype(np.int16),
        groups=names,
        identity1=identities.first,
        identity2=identities.second,
        identities=identities.names,
        image1=None if images is None else images.first,
        image2=None if images is None else images.second,
        images=() if images is None else images.names,
        attributes=further,
    )
    _check_pairs(table, file)
    _check_classes(table, str(file.path))
    _check_scores(table, file, column, kind)
    return replace(table, fold=_folds(table, file, folds))


def _score_column(
    file: TextColumns, score: str | None, kind: ScoreKind | None, header: str
) -> tuple[str, ScoreKind]:
    """The column of scores and what they are."""
    if score is not None:
        if score not in file:
            raise _no_column(header, score, list(file.columns))
        says: ScoreKind | None = (
            "similarity" if score == "similarity" else "distance" if score == "distance" else None
        )
        if kind is None and says is None:
            found = f"scores in the column {score!r}"
            raise InputError(header, found=found, expected=f"their kind: {', '.join(SCORE_KINDS)}")
        return score, kind or says or "similarity"
    there = [name for name in SCORES if name in file]
    if len(there) != 1:
        found = "both similarity and distance" if there else f"the columns {_some(file.columns)}"
        raise InputError(header, found=found, expected="a column similarity, or one distance")
    if there == ["similarity"]:
        return "similarity", kind or "similarity"
    if kind == "similarity":
        found = "a column 'distance' said to be a similarity"
        raise InputError(header, found=found, expected=f"one of {', '.join(SCORE_KINDS[1:])}")
    return "distance", kind or "distance"


def _identities(file: TextColumns, images: Attribute | None) -> tuple[Attribute, NDArray[np.bool_]]:
    """The identities and which pairs are genuine, which must agree."""
    header = file.header
    named = "identity1" in file or "identity2" in file
    if named:
        identities = _united(_codes(file, "identity"), file.path)
    elif images is not None:
        of_image = np.array([identity_of_image(name) for name in images.names], object)
        identities = _side_codes(of_image[images.first], of_image[images.second])
        identities = _united(identities, file.path)
    else:
        found = f"the columns {_some(file.columns)}"
        raise InputError(header, found=found, expected="identity1 and identity2, or image1, image2")
    alike = identities.first == identities.second
    if "same" not in file:
        return identities, alike
    same = file.truths("same")
    wrong = np.flatnonzero(same != alike)
    if len(wrong):
        row = int(wrong[0])
        one, other = (identities.names[code[row]] for code in identities[:2])
        told = "" if named else ", by the images' names"
        found = f"same {file.columns['same'][row]} of the identities {one!r} and {other!r}{told}"
        expected = "1 where they are equal, else 0"
        expected += "" if named else "; columns identity1 and identity2 where names do not tell"
        raise InputError(file.at(row), found=found, expected=expected)
    return identities, same


def _folds(table: ScoreTable, file: TextColumns, folds: int) -> NDArray[np.int16]:
    if "fold" not in file:
        try:
            return stratified_folds(table.same, table.group1, table.group2, folds)
        except TooFewPairsError as error:
            found = f"{error.pairs} {error.kind} pairs of group {table.groups[error.group]!r}"
            expected = f"{folds} at least, one a fold; or a column fold"
            raise InputError(file.path, found=found, expected=expected) from None
    numbers = file.numbers("fold")
    odd = np.flatnonzero((numbers % 1 != 0) | (numbers < 0))
    if len(odd):
        raise file.fault("fold", int(odd[0]), "a whole number of at least 0")
    used, fold = np.unique(numbers, return_inverse=True)
    if len(used) < 2:
        found = f"one fold, {used[0]:g}"
        raise InputError(f"{file.path}: column 'fold'", found=found, expected="two at least")
    sizes = np.bincount(table.group1[table.within], minlength=len(table.groups))
    small = int(np.argmin(sizes))
    if len(used) > min(MOST, int(sizes[small])):
        found = f"{len(used):,} folds for {sizes[small]:,} pairs of group {table.groups[small]!r}"
        where = f"{file.path}: column 'fold'"
        raise InputError(where, found=found, expected="no more folds than pairs")
    return fold.astype(np.int16)


# ---------------------------------------------------------------- columns to codes


def _group_codes(file: TextColumns, name: str, header: str) -> Attribute:
    if name in file:
        values = file.texts(name)
        return _side_codes(values, values)
    if f"{name}1" in file and f"{name}2" in file:
        return _codes(file, name)
    raise _no_column(header, name, list(file.columns), f"{name}, or {name}1 and {name}2")


def _codes(file: TextColumns, stem: str) -> Attribute:
    for name in (f"{stem}1", f"{stem}2"):
        if name not in file:
            header = file.header
            raise _no_column(header, name, list(file.columns), f"{stem}1 and {stem}2")
    return _side_codes(file.texts(f"{stem}1"), file.texts(f"{stem}2"))


def _side_codes(first: NDArray[np.object_], second: NDArray[np.object_]) -> Attribute:
    """Codes of two columns, in the order in which the values come, row by row."""
    import pandas as pd

    if first is second:
        codes, names = pd.factorize(first)
        return Attribute(codes.astype(np.int32), codes.astype(np.int32), tuple(names))
    codes, names = pd.factorize(np.stack([first, second], axis=1).ravel())
    sides = codes.astype(np.int32).reshape(-1, 2)
    return Attribute(sides[:, 0].copy(), sides[:, 1].copy(), tuple(names))


def _united(identities: Attribute, where: Path) -> Attribute:
    """With one code for the spellings of a name that differ in Unicode's form alone."""
    if all(map(str.isascii, identities.names)):
        return identities
    import pandas as pd

    tell_united(where, identities.names)
    codes, names = pd.factorize(np.array(list(map(composed, identities.names)), object))
    one, other = (codes.astype(np.int32)[side] for side in identities[:2])
    return Attribute(one, other, tuple(names))


def _stems(
    file: TextColumns, used: set[str]
) -> dict[str, tuple[NDArray[np.object_], NDArray[np.object_]]]:
    """Further columns: `X1` and `X2` are the sides of `X`, any other is one for both sides."""
    found = {}
    for name, values in file.columns.items():
        stem, side = name[:-1], name[-1]
        if name in used:
            continue
        if side == "1" and f"{stem}2" in file and stem not in file:
            found[stem] = (values, file.columns[f"{stem}2"])
        elif not (side == "2" and f"{stem}1" in file and stem not in file):
            found[name] = (values, values)
    return found


def _no_column(
    header: str, name: str, columns: Sequence[str], expected: str | None = None
) -> InputError:
    near = difflib.get_close_matches(name, [*columns, *(one.rstrip("12") for one in columns)], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    found = f"the columns {_some(columns)}"
    return InputError(header, found=found, expected=f"a column {expected or name}{hint}")


def _some(names: Any) -> str:
    listed = list(names)
    return printable(", ".join(listed[:20])) + (", ..." if len(listed) > 20 else "")


# ---------------------------------------------------------------- what nothing can be measured on


def _check_pairs(table: ScoreTable, file: TextColumns) -> None:
    """Refuse a pair of an image with itself, and pairs that occur twice."""
    if table.image1 is not None and table.image2 is not None:
        selves = np.flatnonzero(table.image1 == table.image2)
        if len(selves):
            row = int(selves[0])
            found = f"the image {table.images[table.image1[row]]!r} paired with itself"
            raise InputError(file.at(row), found=found, expected="two images")
        ends = np.sort(np.stack([table.image1, table.image2], axis=1), axis=1)
        keys = ends[:, 0].astype(np.int64) * len(table.images) + ends[:, 1]
    else:
        import pandas as pd

        everything = pd.MultiIndex.from_arrays(list(file.columns.values()))
        keys, once = pd.factorize(everything)
        if len(np.unique(table.similarity)) < FINE * len(once):
            return
    _, firsts, place = np.unique(keys, return_index=True, return_inverse=True)
    again = np.flatnonzero(firsts[place] != np.arange(len(table)))
    if len(again):
        row = int(again[0])
        first = file.line(int(firsts[place[row]]))
        found = f"the pair of {first} again ({len(again):,} such rows)"
        raise InputError(file.at(row), found=found, expected="every pair once")


def _check_classes(table: ScoreTable, where: str) -> None:
    """Refuse pairs of one class only, in all or in a group."""
    if table.same.all() or not table.same.any():
        kind = "genuine" if len(table) and table.same[0] else "impostor"
        raise InputError(where, found=f"{kind} pairs only", expected="genuine and impostor pairs")
    counts = np.zeros((len(table.groups), 2), np.int64)
    np.add.at(counts, (table.group1[table.within], table.same[table.within].astype(int)), 1)
    for name, (impostor, genuine) in zip(table.groups, counts, strict=True):
        if not impostor or not genuine:
            missing = "impostor" if not impostor else "genuine"
            found = f"no {missing} pairs within group {name!r}"
            raise InputError(where, found=found, expected="pairs of both kinds in each group")


def check_telling(table: ScoreTable, where: str, told: object = None) -> None:
    """Refuse scores that are all equal.

    Args:
        table: at least one pair.
        where: what messages call the scores.
        told: the score as it was written, where it was not a similarity.

    Raises:
        InputError: so they are.
    """
    if np.ptp(table.similarity) == 0:
        found = f"{f'{table.similarity[0]:g}' if told is None else told} for every pair"
        raise InputError(where, found=found, expected="scores that tell pairs apart")


def _check_scores(table: ScoreTable, file: TextColumns, column: str, kind: ScoreKind) -> None:
    """Refuse scores that are all equal, and distances taken for similarities or the reverse."""
    where = f"{file.path}: column {column!r}"
    check_telling(table, where, told=file.columns[column][0])
    genuine, impostor = table.similarity[table.same], table.similarity[~table.same]
    gap = genuine.mean() - impostor.mean()
    error = np.sqrt(genuine.var() / len(genuine) + impostor.var() / len(impostor))
    if gap < -SURELY * error:
        raw = file.numbers(column)
        means = f"{raw[table.same].mean():.4g} and {raw[~table.same].mean():.4g}"
        is_similarity = kind == "similarity"
        found = f"means of genuine and impostor pairs {means}, read as a {kind}"
        expected = (
            "the genuine above; or a column named 'distance', or its kind said"
            if is_similarity
            else "the genuine below; or a column named 'similarity', or its kind said"
        )
        raise InputError(where, found=found, expected=expected)


# ---------------------------------------------------------------- writing


def write_scores(table: ScoreTable, path: Path, made: Provenance | None = None) -> None:
    """Write a table, whole or not at all: CSV, gzip-compressed CSV or HDF5, by the name's ending.

    Args:
        table: what to write.
        path: ends in .csv, .csv.gz or .h5.
        made: what made it; CSV has no room for it.

    Raises:
        ValueError: another ending.
    """
    with replacing(path) as (part,):
        if path.suffix == ".h5":
            write_hdf5(table, part, made)
        elif path.name.endswith((".csv", ".csv.gz")):
            data = as_frame(table).to_csv(index=False, lineterminator="\n").encode()
            part.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
        else:
            raise ValueError(f"{path.name} ends in neither .csv, .csv.gz nor .h5")


def as_frame(table: ScoreTable) -> pd.DataFrame:
    """The table as a data frame with the columns of the CSV, `same` as 1 and 0."""
    import pandas as pd

    columns: dict[str, NDArray[Any]] = {}

    def add(stem: str, names: tuple[str, ...], first: Any, second: Any, apart: bool) -> None:
        texts = np.array(names, object)
        if apart or not np.array_equal(first, second):
            columns.update({f"{stem}1": texts[first], f"{stem}2": texts[second]})
        else:
            columns[stem] = texts[first]

    add("group", table.groups, table.group1, table.group2, False)
    add("identity", table.identities, table.identity1, table.identity2, True)
    columns["same"] = table.same.astype(np.int8)
    columns["similarity"] = table.similarity
    columns["fold"] = table.fold
    if table.image1 is not None:
        add("image", table.images, table.image1, table.image2, True)
    for name, one in table.attributes.items():
        add(name, one.names, one.first, one.second, False)
    return pd.DataFrame(columns)


def write_hdf5(table: ScoreTable, path: Path, made: Provenance | None = None) -> None:
    """Write a table as HDF5 to a file that the caller renames."""
    datasets: dict[str, NDArray[Any]] = {
        name: getattr(table, name)
        for name in ("similarity", "same", "fold", "identity1", "identity2")
    }
    if table.within.all():
        datasets["group"] = table.group1
    else:
        datasets |= {name: getattr(table, name) for name in GROUP_PAIR}
    datasets |= {"groups": _bytes(table.groups), "identities": _bytes(table.identities)}
    if table.image1 is not None and table.image2 is not None:
        datasets |= {"image1": table.image1, "image2": table.image2}
        datasets["images"] = _bytes(table.images)
    for number, one in enumerate(table.attributes.values()):
        parts = {"first": one.first, "second": one.second, "names": _bytes(one.names)}
        datasets |= {f"attribute{number}_{part}": values for part, values in parts.items()}
    attributes = {
        "format": FORMAT,
        "version": VERSION,
        "attributes": json.dumps(list(table.attributes)),
        "sha256": _sha256(datasets),
    }
    if made is not None:
        attributes[ATTRIBUTE] = attribute(made)
    with writing(path, "w") as file:
        create(file, attributes, datasets)


def _sha256(datasets: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(datasets):
        values = datasets[name]
        digest.update(json.dumps([name, values.dtype.str, values.shape]).encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def _read_hdf5(path: Path, *, tried: bool) -> ScoreTable:
    try:
        with reading(path, tried=tried) as file:
            kind, version = (attribute_of(file, name) for name in ("format", "version"))
            if kind != FORMAT or version != VERSION:
                found = f"HDF5 of format {kind!r}, version {version}"
                expected = f"{FORMAT!r}, version {VERSION}"
                raise InputError(path, found=found, expected=anew(expected, path))
            sealed = Sealed(path, file)
        sealed.compare()
        held = sealed.datasets
        group = [held[name] for name in (("group",) * 2 if "group" in held else GROUP_PAIR)]
        return ScoreTable(
            similarity=held["similarity"],
            same=held["same"],
            fold=held["fold"],
            group1=group[0],
            group2=group[1],
            groups=_texts(held["groups"]),
            identity1=held["identity1"],
            identity2=held["identity2"],
            identities=_texts(held["identities"]),
            image1=held.get("image1"),
            image2=held.get("image2"),
            images=_texts(held["images"]) if "images" in held else (),
            attributes={
                name: Attribute(
                    held[f"attribute{number}_first"],
                    held[f"attribute{number}_second"],
                    _texts(held[f"attribute{number}_names"]),
                )
                for number, name in enumerate(json.loads(sealed.attributes["attributes"]))
            },
        )
    except DAMAGE as error:
        found = f"a damaged file ({' '.join(str(error).split())})"
        raise InputError(path, found=found, expected=anew(WHOLE, path)) from None


def _bytes(texts: Sequence[str]) -> NDArray[np.bytes_]:
    """Texts as UTF-8 of one length (N,), so that whoever reads the file reads them."""
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    return np.array(encoded, f"S{max(1, *map(len, encoded), 1)}")


def _texts(stored: NDArray[np.bytes_]) -> tuple[str, ...]:
    return tuple(text.decode("utf-8", "surrogateescape") for text in stored.tolist())
