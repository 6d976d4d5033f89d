"""`mstkd audit`: from files to files, and each fault of what it is given in one line."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from audited import GROUPS, scored_pairs, table_of, written
from networks import save_teacher, subject
from test_page import Page
from typer.testing import CliRunner

import mstkd
from mstkd.artifacts.lineage import lineage
from mstkd.artifacts.records import read_record
from mstkd.cli.app import app
from mstkd.config import EvaluationSettings
from mstkd.data.pack import open_pack
from mstkd.errors import InputError
from mstkd.evaluation.evaluate import evaluate
from mstkd.evaluation.scorefiles import read_scores, write_scores
from mstkd.report.audit import AuditRecord

ROOT = Path(__file__).parent.parent
FILES = {
    "measures.csv",
    "measures.csv.provenance.json",
    "comparisons.csv",
    "comparisons.csv.provenance.json",
    "audit.json",
    "audit.html",
}


def audit(*arguments, output):
    told = CliRunner().invoke(app, ["audit", *map(str, arguments), "--output", str(output)])
    assert told.exit_code == 0, told.output
    return pd.read_csv(output / "measures.csv", keep_default_na=False, na_values=[""])


def fault(tmp_path, *arguments):
    """The one line that tells what is wrong."""
    output = tmp_path / "out"
    told = CliRunner().invoke(app, ["audit", *map(str, arguments), "--output", str(output)])
    assert told.exit_code == 2, told.output
    assert not (output / "measures.csv").exists()
    [line] = told.output.strip().splitlines()
    return line.removeprefix("mstkd: error: ").replace(f"{tmp_path}/", "")


@pytest.fixture(scope="module")
def frame():
    return scored_pairs()


# ---------------------------------------------------------------- from files to files


def test_scores_in_files_out(tmp_path, frame):
    path, output = written(tmp_path, frame), tmp_path / "audit"
    rows = audit(path, "--threshold", "0.3", "--fmr", "0.05", output=output)
    assert {one.name for one in output.iterdir()} == FILES
    assert list(rows.columns) == [
        "system",
        "group",
        "measure",
        "at",
        "value",
        "low",
        "high",
        "confidence",
        "method",
        "genuine",
        "impostor",
        "note",
    ]
    assert set(rows["system"]) == {"scores"}
    assert set(rows["group"].dropna()) == set(GROUPS)
    assert set(rows["at"]) == {"own", "shared", "threshold=0.3", "fmr=0.05"}
    accuracy = rows.query("measure == 'global_accuracy' and at == 'own'").iloc[0]
    assert accuracy.low < accuracy.value < accuracy.high and 80 < accuracy.value < 100

    record = read_record(AuditRecord, output / "audit.json")
    assert record.systems == ["scores"] and record.folds == 5 and record.left_out == 0
    assert [one.genuine for one in record.groups] == [200] * 3
    assert f"{accuracy.value:.2f} %" in record.answer
    for name in FILES - {"measures.csv.provenance.json", "comparisons.csv.provenance.json"}:
        own = lineage(output / name).results[0]
        assert own.step == "audit" and own.unchanged is not False
        assert own.settings["thresholds"] == [0.3]
        assert [source.path for source in own.sources] == [str(path)]
        assert own.sources[0].state in ("as it was", "no record")


def test_the_same_scores_give_the_same_bytes(tmp_path, frame):
    path = written(tmp_path, frame)
    for name in ("a", "b"):
        audit(path, output=tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_page_says_what_the_files_say(tmp_path, frame):
    random = np.random.default_rng(5)
    other = frame.assign(similarity=frame["similarity"] + random.normal(0.05, 0.1, len(frame)))
    paths = [written(tmp_path, one, f"<{name}>.csv") for one, name in ((frame, "a"), (other, "b"))]
    output = tmp_path / "audit"
    rows = audit(*paths, "--fmr", "0.05", output=output)
    text = (output / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open, "every tag is closed"
    assert all(address.startswith("data:image/png") for address in page.loaded) and page.loaded
    assert "<a>" not in text, "names are escaped"
    assert read_record(AuditRecord, output / "audit.json").answer in page.text
    for row in rows.query("measure == 'accuracy'").itertuples():
        assert f"{row.value:.2f}" in page.text
        assert f"{row.low:.2f} to {row.high:.2f}" in page.text
    std = rows.query("measure == 'std' and at == 'own'").iloc[0]
    assert f"{std.value:.2f} {std.low:.2f} to {std.high:.2f} 0 " in page.text
    differences = pd.read_csv(output / "comparisons.csv")
    one = differences.query("measure == 'global_accuracy' and at == 'own'").iloc[0]
    assert f"{one.value:+.2f}".replace("-", "−") in page.text
    assert "on these pairs, of these two systems" in page.text
    assert "better" not in page.text


def test_columns_make_groups_and_their_product(tmp_path, frame):
    given = frame.drop(columns="group").assign(
        ethnicity=frame["group"], sex=np.where(np.arange(len(frame)) // 2 % 2, "f", "m")
    )
    rows = audit(written(tmp_path, given), "--group", "ethnicity,sex", output=tmp_path / "out")
    assert set(rows["group"].dropna()) == {f"{one}/{sex}" for one in GROUPS for sex in "fm"}
    rows = audit(written(tmp_path, given), "--group", "sex", output=tmp_path / "out")
    assert set(rows["group"].dropna()) == {"f", "m"}


def test_a_hundred_megabytes_of_libraries_are_not_loaded(tmp_path, frame):
    code = f"""
import sys
from typer.testing import CliRunner
from mstkd.cli.app import app
told = CliRunner().invoke(app, ["audit", {str(written(tmp_path, frame))!r}, "--output", "out"])
assert told.exit_code == 0, told.output
sys.exit("torch" in sys.modules or "snakemake" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_one_group_is_audited_without_comparing_any(tmp_path, frame):
    one = frame[frame["group"] == "west"].drop(columns="group")
    rows = audit(written(tmp_path, one), output=tmp_path / "out")
    assert {"accuracy", "auc", "fmr"} <= set(rows["measure"])
    assert not {"std", "ser", "fdr"} & set(rows["measure"])
    assert "so no groups are compared" in (tmp_path / "out/audit.html").read_text()


def test_three_hundred_folds_work(tmp_path):
    many = scored_pairs(pairs=1200).drop(columns="fold")
    audit(written(tmp_path, many), "--folds", "300", output=tmp_path / "out")
    assert read_record(AuditRecord, tmp_path / "out/audit.json").folds == 300


def test_the_example_of_the_page_prints_what_it_says(tmp_path, monkeypatch):
    page = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    [script] = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    told = re.findall(r"`mstkd audit (.*?)`[^`]*?```\n(.*?)\n```", page, re.S)
    assert len(told) == 2
    monkeypatch.chdir(tmp_path)
    exec(script, {})
    for arguments, printed in told:
        found = CliRunner().invoke(app, ["audit", *arguments.split()])
        assert found.exit_code == 0, found.output
        assert found.output.splitlines()[0] == printed


def test_the_page_names_every_measure(tmp_path, frame):
    page = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    measures = re.findall(r"`(\w+)`", page.split("| measure |")[1].split("\n\n")[0])
    rows = audit(written(tmp_path, frame), output=tmp_path / "out")
    assert set(rows["measure"]) == set(measures) - {"own", "shared"}


# ---------------------------------------------------------------- forms of others


def test_distances_are_read_as_what_they_are(tmp_path, frame):
    expected = audit(written(tmp_path, frame), output=tmp_path / "out")
    cosine = frame["similarity"]
    for name, options, values in (
        ("path1,path2,label,distance", [], -cosine),
        ("score", ["--score", "score", "--kind", "squared-euclidean"], 2 - 2 * cosine),
        ("score", ["--score", "score", "--kind", "euclidean"], np.sqrt(2 - 2 * cosine)),
    ):
        given = frame.drop(columns="similarity").assign(**{name.split(",")[-1]: values})
        if "path1" in name:
            names = {"image1": "path1", "image2": "path2", "same": "label"}
            given = given.rename(columns=names)
        found = audit(written(tmp_path, given), *options, output=tmp_path / "out")
        of_auc = [one[one["measure"] == "auc"]["value"].tolist() for one in (expected, found)]
        assert of_auc[0] == pytest.approx(of_auc[1], abs=1e-9)


def test_favfas_two_files(tmp_path, frame):
    named = frame.rename(columns={"image1": "img_1", "image2": "img_2"})
    scores = named[["img_1", "img_2", "same", "identity1", "identity2"]]
    scores = scores.assign(dist=1 - named["similarity"])
    attributes = named[["img_1", "img_2"]].assign(
        ethnicity=[f"{one} x {one}" for one in named["group"]]
    )
    rows = audit(
        written(tmp_path, scores),
        "--attributes",
        written(tmp_path, attributes, "attributes.csv"),
        "--group",
        "ethnicity",
        output=tmp_path / "out",
    )
    assert set(rows["group"].dropna()) == set(GROUPS)
    sources = lineage(tmp_path / "out/audit.json").results[0].sources
    assert [source.path.split("/")[-1] for source in sources] == ["scores.csv", "attributes.csv"]


def test_rates_without_scores(tmp_path):
    path = tmp_path / "rates.csv"
    path.write_text("system,group,fmr,fnmr\nx,a,0.01,0.02\nx,b,0.02,0.05\n")
    rows = audit(path, output=tmp_path / "out")
    assert set(rows["at"]) == {"shared"}
    ir = rows[rows["measure"] == "ir"].iloc[0]
    assert ir.value == pytest.approx(np.sqrt(5)) and "no interval" in ir.note
    page = Page((tmp_path / "out/audit.html").read_text())
    assert "2.24" in page.text and "came without scores" in page.text
    assert not page.loaded


def test_compressed_scores(tmp_path, frame):
    path = tmp_path / "scores.csv.gz"
    path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    assert set(audit(path, output=tmp_path / "out")["system"]) == {"scores"}


# ---------------------------------------------------------------- embeddings and models


@pytest.fixture
def embedded(tmp_path, frame):
    """Embeddings of the images of pairs, as .npz, and the pairs without scores."""
    random = np.random.default_rng(0)
    names = sorted({*frame["image1"], *frame["image2"]})
    vectors = random.normal(size=(len(names), 8)).astype(np.float32)
    row = {name: n for n, name in enumerate(names)}
    for one, two, same in zip(frame["image1"], frame["image2"], frame["same"], strict=True):
        if same:
            vectors[row[two]] = vectors[row[one]] + random.normal(size=8) * 0.7
    path = tmp_path / "embeddings.npz"
    np.savez(path, embeddings=vectors, images=names)
    return path, vectors, names, written(tmp_path, frame.drop(columns="similarity"), "pairs.csv")


def test_embeddings_and_pairs(tmp_path, frame, embedded):
    path, vectors, names, pairs = embedded
    output = tmp_path / "out"
    rows = audit("--embeddings", path, "--pairs", pairs, output=output)
    assert set(rows["system"]) == {"embeddings"}
    row = {name: n for n, name in enumerate(names)}
    ends = [vectors[[row[name] for name in frame[side]]] for side in ("image1", "image2")]
    expected = (ends[0] * ends[1]).sum(1) / np.prod([np.linalg.norm(e, axis=1) for e in ends], 0)
    table = read_scores(output / "scores/embeddings.h5")
    np.testing.assert_allclose(table.similarity, expected, atol=1e-6)
    told = lineage(output / "audit.json")
    assert [result.step for result in told.results] == ["audit", "audit"]
    assert {s.path for s in told.results[1].sources} == {str(path), str(pairs)}

    with h5py.File(tmp_path / "again.h5", "w") as file:
        file["embeddings"] = vectors
        file.create_dataset("images", data=names, dtype=h5py.string_dtype())
    again = audit("--embeddings", tmp_path / "again.h5", "--pairs", pairs, output=tmp_path / "b")
    assert again["value"].tolist() == pytest.approx(rows["value"].tolist(), nan_ok=True)


def plain_matrix(vectors, person, group, *, threshold):
    """Impostor pairs and false matches of every two groups, pair by pair in float64."""
    unit = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    found = {}
    for one, row in enumerate(unit @ unit.T):
        for other in range(one):
            if person[one] == person[other]:
                continue
            pairs = found.setdefault(tuple(sorted((group[one], group[other]))), [0, 0])
            pairs[0] += 1
            pairs[1] += row[other] >= threshold
    return found


def test_false_matches_are_those_of_all_pairs_of_images(tmp_path, frame, embedded):
    path, vectors, names, _ = embedded
    pairs = written(tmp_path, frame.groupby("group").head(120).drop(columns="similarity"), "p.csv")
    output = tmp_path / "out"
    given = ["--embeddings", path, "--pairs", pairs, "--threshold", "0.5", "--threshold", "0.8"]
    rows = audit(*given, "--fmr", "0.05", "--fmr", "1e-7", output=output)
    told = pd.read_csv(output / "impostors.csv", keep_default_na=False, na_values=[""])
    assert ",".join(told.columns) == (
        "system,group1,group2,measure,at,threshold,value,low,high,confidence,method,pairs,errors,"
        "note"
    )
    used = pd.read_csv(pairs)
    person = {}
    for side in "12":
        person |= dict(zip(used[f"image{side}"], used[f"identity{side}"], strict=True))
    row = {name: n for n, name in enumerate(names)}
    images = sorted(person)
    expected = plain_matrix(
        vectors[[row[name] for name in images]],
        [person[name] for name in images],
        [name.split("/")[0] for name in images],
        threshold=0.5,
    )
    fmr = told.query("measure == 'fmr' and at == 'threshold=0.5'").set_index(["group1", "group2"])
    for groups, (count, matches) in expected.items():
        one = fmr.loc[groups if groups in fmr.index else groups[::-1]]
        assert (one["pairs"], one["errors"]) == (count, matches) and matches > 100
        assert one["value"] == matches / count and one["low"] < one["value"] < one["high"]
    within = [counts for (a, b), counts in expected.items() if a == b]
    whole = fmr[fmr.index.get_level_values(0).isna()].iloc[0]
    assert (whole["pairs"], whole["errors"]) == tuple(np.sum(within, axis=0))
    # The genuine pairs are those of the list, and so is what is missed of them.
    of_list = rows.query("measure == 'fnmr' and at == 'threshold=0.8'").set_index("group")
    missed = told.query("measure == 'fnmr' and at == 'threshold=0.8'").set_index("group1")
    for group in GROUPS:
        one, other = missed.loc[group], of_list.loc[group]
        assert one["pairs"] == other["genuine"]
        if np.isfinite(other["value"]):
            assert one[["value", "low", "high"]].tolist() == pytest.approx(
                other[["value", "low", "high"]].tolist()
            )
    assert missed["value"].notna().any()

    held = told.query("at == 'fmr=0.05'")
    whole = held[held["group1"].isna() & (held["measure"] == "fmr")].iloc[0]
    assert whole["value"] == pytest.approx(0.05, rel=0.2) and "target" in whole["note"]
    groups = held.query("measure == 'fmr' and group1 == group2")
    assert np.average(groups["value"], weights=groups["pairs"]) == pytest.approx(whole["value"])
    assert {"fdr", "ir", "garbe", "fmr_max_min"} <= set(held["measure"])
    [short] = told.query("at == 'fmr=1e-07'")["note"]
    assert short.startswith("insufficient: ") and "of half of the people, 10 needed" in short

    record = read_record(AuditRecord, output / "audit.json")
    first = record.impostors[0]
    assert (first.system, first.at, first.threshold) == ("embeddings", "threshold=0.5", 0.5)
    place = {group: n for n, group in enumerate(first.groups)}
    for (a, b), (count, matches) in expected.items():
        assert first.fmr[place[a]][place[b]] == first.fmr[place[b]][place[a]] == matches / count
    assert record.impostors[-1].fmr == [] and record.impostors[-1].note == short
    page = Page((output / "audit.html").read_text())
    assert not page.open and "False matches within and across groups" in page.text
    for value in [one for row in first.fmr for one in row]:
        assert f"{value:.3g}" in page.text
    own = lineage(output / "impostors.csv").results[0]
    assert own.step == "audit" and own.unchanged is not False


def test_images_in_two_groups_are_not_paired(tmp_path, frame, embedded):
    path, *_, pairs = embedded
    used = pd.read_csv(pairs)
    used["sex"] = np.where(used.index % 2, "f", "m")
    used.loc[1, "image1"] = used.loc[0, "image1"]
    used.loc[1, "identity1"] = used.loc[0, "identity1"]
    used.loc[1, "identity2"] = used.loc[0, "identity1"]
    given = ["--embeddings", path, "--pairs", written(tmp_path, used, "p.csv"), "--group", "sex"]
    rows = audit(*given, "--fmr", "0.05", output=tmp_path / "out")
    assert rows.query("measure == 'fmr' and at == 'fmr=0.05'")["value"].notna().all()
    [told] = pd.read_csv(tmp_path / "out/impostors.csv")["note"]
    assert told == (
        f"the image {used.loc[0, 'image1']!r} is in the groups 'f' and 'm', "
        "so pairs of images are not counted"
    )
    assert told in Page((tmp_path / "out/audit.html").read_text()).text


def test_faults_of_embeddings(tmp_path, embedded):
    path, vectors, names, pairs = embedded

    def of(vectors, names):
        np.savez(path, embeddings=vectors, images=names)
        return fault(tmp_path, "--embeddings", path, "--pairs", pairs)

    row = names.index("north/0a.jpg")
    less = [n for n in range(len(names)) if n != row]
    assert of(vectors[less], [names[n] for n in less]) == (
        "pairs.csv:2: found the image 'north/0a.jpg', which "
        "embeddings.npz has not; expected an embedding of every image"
    )
    for bad, word in ((0.0, "zero"), (np.nan, "not finite")):
        broken = vectors.copy()
        broken[3] = bad
        assert of(broken, names) == (
            f"embeddings.npz: row 3 of `embeddings`, {names[3]!r}: found one that is {word}; "
            "expected a direction"
        )
    assert of(vectors[1:], names) == (
        "embeddings.npz: found embeddings float32 (2399, 8) of 2,400 images; "
        "expected floating point (N, D) of N images"
    )
    assert of(vectors, [*names[:-1], names[0]]) == (
        "embeddings.npz: found 1 of the names again; expected each image once"
    )
    np.savez(path, vectors=vectors)
    assert fault(tmp_path, "--embeddings", path, "--pairs", pairs).endswith(
        "expected an .npz or HDF5 file of `embeddings` (N, D) and their `images` (N,)"
    )
    for content in (b"", b"text", b"PK\x03\x04"):
        path.write_bytes(content)
        assert "expected an .npz or HDF5" in fault(tmp_path, "--embeddings", path, "--pairs", pairs)
    path.unlink()
    assert "no such file" in fault(tmp_path, "--embeddings", path, "--pairs", pairs)


def test_a_model_on_packs_gives_what_evaluate_gives(tmp_path, packs, verification_packs):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    scores, metrics = tmp_path / "s.h5", tmp_path / "m.json"
    evaluate(
        EvaluationSettings(folds=2),
        model=teacher,
        packs=verification_packs,
        scores=scores,
        metrics=metrics,
        device="cpu",
    )
    folder = tmp_path / "verification"
    folder.mkdir()
    for path in verification_packs:
        shutil.copy(path, folder)
    options = ["--model", teacher, "--folds", "2", "--device", "cpu", "--threshold=-1", "--pairs"]
    rows = audit(*options, folder, output=tmp_path / "out")
    told = json.loads(metrics.read_text())["own_threshold"]
    for group, one in told["groups"].items():
        [found] = rows.query(f"measure == 'accuracy' and at == 'own' and group == {group!r}")[
            "value"
        ]
        assert found == one["accuracy"]
    [table] = (tmp_path / "out/scores").iterdir()
    assert read_scores(table).similarity.tolist() == read_scores(scores).similarity.tolist()
    told = pd.read_csv(tmp_path / "out/impostors.csv").query("measure == 'fmr'")
    person = [pack.identity for pack in map(open_pack, verification_packs)]
    of = told[told["at"] == "threshold=-1"].set_index(["group1", "group2"])["pairs"]
    assert of["A", "B"] == len(person[0]) * len(person[1])
    within = len(person[0]) * (len(person[0]) - 1) // 2
    same = np.square(np.bincount(person[0])) - np.bincount(person[0])
    assert of["A", "A"] == within - same.sum() // 2
    alone = audit(*options, verification_packs[0], output=tmp_path / "alone")
    assert set(alone["group"].dropna()) == {"A"}


def test_a_model_on_a_folder_in_rfws_layout(tmp_path, packs, verification_packs):
    """The folder that the packs were made of gives their scores."""
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    folder = verification_packs[0].parent
    root = tmp_path / "rfw"
    for name in ("data", "txts"):
        shutil.copytree(folder / name, root / name)
    options = ["--model", teacher, "--folds", "2", "--device", "cpu"]
    rows = audit(*options, "--pairs", root, output=tmp_path / "out")
    assert set(rows["group"].dropna()) == {"A", "B"}
    made = [open_pack(tmp_path / f"out/packs/{group}.h5") for group in "AB"]
    assert [pack.sha256 for pack in made] == [open_pack(one).sha256 for one in verification_packs]


# ---------------------------------------------------------------- bad input


def test_faults_of_tables_are_told_in_one_line(tmp_path, frame):
    def of(changed, *options):
        return fault(tmp_path, written(tmp_path, changed), *options)

    bare = frame.drop(columns="fold")
    assert of(frame[frame["same"] == 1]) == (
        "scores.csv: found genuine pairs only; expected genuine and impostor pairs"
    )
    some = frame[(frame["same"] == 1) | (frame["group"] != "west")]
    assert of(some) == (
        "scores.csv: found no impostor pairs within group 'west'; "
        "expected pairs of both kinds in each group"
    )
    assert of(bare, "--folds", "300") == (
        "scores.csv: found 200 impostor pairs of group 'north'; "
        "expected 300 at least, one a fold; or a column fold"
    )
    assert of(frame.assign(fold=np.arange(len(frame)))) == (
        "scores.csv: column 'fold': found 1,200 folds for 400 pairs of group 'north'; "
        "expected no more folds than pairs"
    )
    nan = frame.assign(similarity=frame["similarity"].where(frame.index != 3))
    assert of(nan) == (
        "scores.csv:5: found the column 'similarity' empty; expected a finite number"
    )
    assert of(frame.assign(similarity=0.5)) == (
        "scores.csv: column 'similarity': found 0.5 for every pair; "
        "expected scores that tell pairs apart"
    )
    constant = table_of(frame)
    constant = replace(constant, similarity=np.full(len(frame), 0.5))
    write_scores(constant, tmp_path / "scores.h5")
    assert fault(tmp_path, tmp_path / "scores.h5") == (
        "scores.h5: column 'similarity': found 0.5 for every pair; "
        "expected scores that tell pairs apart"
    )
    with pytest.raises(InputError, match=r"^mine: found 0\.5 for every pair; expected scores"):
        mstkd.audit({"mine": constant})
    told = of(frame.assign(similarity=-frame["similarity"]))
    assert told.startswith("scores.csv: column 'similarity': found means of genuine and impostor")
    assert told.endswith("or a column named 'distance', or its kind said")
    assert of(pd.concat([frame, frame.head(1)])) == (
        "scores.csv:1202: found the pair of line 2 again (1 such rows); expected every pair once"
    )
    same = frame.assign(image2=frame["image2"].where(frame.index != 4, frame["image1"]))
    assert of(same) == (
        "scores.csv:6: found the image 'north/4a.jpg' paired with itself; expected two images"
    )
    told = of(frame, "--group", "grup")
    assert told.startswith("scores.csv:1: found the columns group, identity1")
    assert told.endswith("expected a column grup, or grup1 and grup2; did you mean 'group'?")
    assert of(frame, "--score", "cos").endswith("expected a column cos")


def test_faults_of_what_is_asked_for(tmp_path, frame):
    path = written(tmp_path, frame)
    assert fault(tmp_path, path, "--fmr", "2") == (
        "fmr: found 2.0; expected a fraction between 0 and 1"
    )
    assert fault(tmp_path, path, "--kind", "angle").startswith("audit: kind: found 'angle'")
    assert fault(tmp_path) == (
        "audit: found nothing; expected one of SCORES, --embeddings, --model"
    )
    assert fault(tmp_path, path, "--model", path) == (
        "audit: found SCORES and --model; expected one of SCORES, --embeddings, --model"
    )
    assert fault(tmp_path, "--model", path) == "audit: found --model alone; expected --pairs too"
    assert fault(tmp_path, path, "--pairs", path).startswith("audit: found --pairs with tables")
    assert fault(tmp_path, path, path) == (
        "scores.csv: found the same file twice; expected it once"
    )
    assert fault(tmp_path, tmp_path / "none.csv") == (
        "none.csv: found no such file; expected a CSV file of pairs"
    )
    rates = tmp_path / "rates.csv"
    rates.write_text("system,group,fmr,fnmr\nx,a,0.01,0.02\nx,b,0.02,0.05\n")
    assert fault(tmp_path, path, rates) == (
        "rates.csv: found rates by group beside other files; "
        "expected rates alone, all systems in one file"
    )


def test_systems_on_other_pairs_are_refused(tmp_path, frame):
    other = frame.assign(image1=frame["image1"].where(frame.index != 3, "stranger.jpg"))
    paths = [written(tmp_path, one, f"{name}.csv") for name, one in (("a", frame), ("b", other))]
    assert fault(tmp_path, *paths) == (
        "b.csv: found 1,200 pairs; of the first system's 1,200, 1 missing; "
        "expected the same pairs of every system"
    )
    assert fault(tmp_path, paths[0], written(tmp_path, frame.head(800), "c.csv")).startswith(
        "c.csv: found 800 pairs"
    )


def test_systems_on_pairs_of_their_own_are_told_apart(tmp_path, frame):
    other = scored_pairs(seed=3, pairs=500)
    for side in ("identity1", "identity2", "image1", "image2"):
        other[side] = "other/" + other[side]
    paths = [written(tmp_path, one, f"{name}.csv") for name, one in (("a", frame), ("b", other))]
    output = tmp_path / "out"
    rows = audit(*paths, "--fmr", "0.05", output=output)
    counts = rows.query("measure == 'global_accuracy' and at == 'own'")["genuine"].tolist()
    assert counts == [600, 750]
    record = read_record(AuditRecord, output / "audit.json")
    assert record.answer.startswith("On these 1,200 and 1,500 pairs, a less b: global accuracy")
    assert "These are other pairs: this holds each on its own pairs" in record.answer
    [further] = record.further_lists
    assert further.systems == ["b"] and [one.genuine for one in further.groups] == [250] * 3
    page = Page((output / "audit.html").read_text())
    assert not page.open
    assert "Systems that were tested on other pairs are compared as independent" in page.text
    assert "The pairs of b:" in page.text and "each on its own pairs" in page.text


def test_a_model_and_pairs_that_are_none(tmp_path, packs, verification_packs):
    teacher = save_teacher(tmp_path, subject("T-A"), packs[:1])
    path = tmp_path / "text.txt"
    path.write_text("text")
    assert fault(tmp_path, "--model", teacher, "--pairs", path).startswith(
        "text.txt: found something else; expected a verification pack or a folder of them"
    )
    assert "no such file or folder" in fault(
        tmp_path, "--model", teacher, "--pairs", tmp_path / "none"
    )
    told = fault(tmp_path, "--model", teacher, "--pairs", packs[0], "--device", "cpu")
    assert "expected a verification pack" in told
    told = fault(tmp_path, "--model", path, "--pairs", verification_packs[0], "--device", "cpu")
    assert told.startswith("text.txt: found no text.json beside it; expected colours='rgb' or")
