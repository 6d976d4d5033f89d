"""The step that counts impostor pairs for a table's models, against a plain computation."""

import numpy as np
import pandas as pd
from networks import save_teacher, subject

from mstkd.artifacts.told import told_by
from mstkd.config import ImpostorSettings
from mstkd.data.pack import open_pack
from mstkd.evaluation import evaluate
from mstkd.evaluation.impostor_table import score_impostors
from mstkd.report.impostors import read_impostors

FMR = 0.5  # of few pairs


def embedded(model, images, device):
    """Embeddings that differ: an untrained network has nearly one for all images."""
    pixels = np.array(images).reshape(len(images), -1)
    drawn = [np.random.default_rng(list(one)).normal(size=8) for one in pixels]
    return np.array(drawn) + pixels[:, :1] / 60


def false_matches(paths):
    """False matches and pairs of every two groups, each half judged by the other's threshold."""
    vectors, person, group = [], [], []
    for number, pack in enumerate(map(open_pack, paths)):
        vectors.append(embedded(None, pack.images, None))
        person += [f"{number} {pack.identity_names[one]}" for one in pack.identity]
        group += [number] * len(pack.identity)
    vectors, person, group = np.concatenate(vectors), np.array(person), np.array(group)
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    # The people of a group are dealt in turn into two halves.
    half = np.zeros(len(person), int)
    for number in set(group):
        names = list(dict.fromkeys(person[group == number]))
        half[group == number] = [names.index(one) % 2 for one in person[group == number]]
    one, two = np.triu_indices(len(person), 1)
    kept = (person[one] != person[two]) & (half[one] == half[two])
    one, two = one[kept], two[kept]
    found = {}
    for part in (0, 1):
        own = (half[one] != part) & (group[one] == group[two])
        edges = np.arange(-1, 1 + 1 / 8192, 1 / 8192)
        rates = np.array([(cosine[one, two][own] >= edge).mean() for edge in edges])
        threshold = edges[np.argmax(rates <= FMR)]
        inside = half[one] == part
        for a in range(2):
            for b in range(a, 2):
                cell = inside & (np.minimum(group[one], group[two]) == a)
                cell &= np.maximum(group[one], group[two]) == b
                matched = int((cosine[one, two][cell] >= threshold).sum())
                before = found.get((a, b), (0, 0))
                found[a, b] = before[0] + matched, before[1] + int(cell.sum())
    return found


def test_counts_are_those_of_a_plain_computation_for_each_model(
    tmp_path, packs, verification_packs, monkeypatch
):
    monkeypatch.setattr(evaluate, "embed_with_mirror", embedded)
    teachers = [save_teacher(tmp_path / one, subject(one), packs[:1]) for one in ("T-A", "T-B")]
    output = tmp_path / "impostors-table1.csv"
    score_impostors(
        ImpostorSettings(folds=2, fmr=FMR, draws=100),
        models=teachers,
        packs=verification_packs,
        output=output,
        device="cpu",
    )
    frame = pd.read_csv(output)
    assert frame["name"].drop_duplicates().tolist() == ["T-A", "T-B"]
    models = read_impostors(output)
    assert len(models) == 2
    for rows in models.values():
        expected = false_matches(verification_packs)
        assert sum(matched for matched, _ in expected.values()) > 10
        for (a, b), (matched, pairs) in expected.items():
            row = rows["AB"[a], "AB"[b], "fmr"]
            assert (row.errors, row.pairs) == (matched, pairs)
    told = told_by(output)
    assert told is not None and told.unchanged and told.made.step == "score-impostors"
    assert len(told.made.sources) == len(teachers) + len(verification_packs)
