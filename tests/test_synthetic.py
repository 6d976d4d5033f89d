from __future__ import annotations

import csv
import itertools
import math
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from processes import STUCK_SECONDS
from scripts import scripts

from mstkd.config import SynthesizeSettings
from mstkd.data.faces import FACTORS, NUISANCE_COLUMNS, group_look, render
from mstkd.data.synthetic import (
    INFORMATIVE,
    MARKER,
    faces,
    identity_latents,
    identity_nuisances,
    informative_factors,
    sample_sheet,
    synthesize,
    verification_pairs,
)
from mstkd.errors import InputError

SMALL = SynthesizeSettings(
    groups=("A", "B"),
    image_size=32,
    identities=5,
    images_per_identity=3,
    verification_identities=7,
    verification_images=4,
    folds=2,
    pairs_per_fold=9,
)
GROUPS = tuple("ABCD")
FOUR = SMALL.model_copy(update={"groups": GROUPS})
NEUTRAL = np.zeros((1, len(NUISANCE_COLUMNS)))


def changed(**update: object) -> SynthesizeSettings:
    return SynthesizeSettings.model_validate(SMALL.model_dump() | update)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("synthetic") / "set"
    synthesize(SMALL, output=output)
    return output


# ---------------------------------------------------------------- what is drawn


def test_seed_decides_every_pixel() -> None:
    first = faces(SMALL, "A", part="train", identities=range(3))
    assert first.shape == (3, 3, 32, 32, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, faces(SMALL, "A", part="train", identities=range(3)))
    for of_seed in (identity_latents, identity_nuisances):
        draws = of_seed(SMALL, "A", part="train", identities=range(3))
        others = of_seed(changed(seed=1), "A", part="train", identities=range(3))
        assert not np.isclose(draws[..., :9], others[..., :9]).any()


def test_faces_do_not_depend_on_how_many_others_there_are() -> None:
    few = faces(SMALL, "B", part="train", identities=range(2))
    more_groups = changed(groups=("A", "B", "C"), identities=90)
    assert np.array_equal(few, faces(more_groups, "B", part="train", identities=range(6))[:2])
    assert np.array_equal(few[1], faces(SMALL, "B", part="train", identities=[1])[0])


def test_identities_of_the_two_parts_and_of_two_groups_are_others() -> None:
    latents = [
        identity_latents(SMALL, group, part=part, identities=range(5))
        for group in ("A", "B")
        for part in ("train", "verification")
    ]
    rows = np.concatenate(latents).round(9)
    assert len(np.unique(rows, axis=0)) == 20


@pytest.mark.parametrize("seed", [-3, 0, 2**70])
def test_any_seed_serves(seed: int) -> None:
    assert faces(changed(seed=seed), "A", part="train", identities=[0]).std() > 10


def test_the_four_sets_share_out_all_factors() -> None:
    names = list(itertools.chain(*INFORMATIVE))
    assert len(names) == len(set(names)) == len(FACTORS)
    assert set(names) == set(FACTORS)


@pytest.mark.parametrize("count", [1, 6, 7])
def test_first_four_groups_have_disjoint_sets(count: int) -> None:
    settings = FOUR.model_copy(update={"informative_factors": count})
    sets = [informative_factors(settings, group) for group in GROUPS]
    assert [len(names) for names in sets] == [count] * 4
    assert len(set().union(*sets)) == 4 * count


def test_later_groups_draw_their_set() -> None:
    names = tuple(f"g{number}" for number in range(16))
    settings = changed(groups=names)
    sets = [informative_factors(settings, name) for name in names]
    assert all(len(set(drawn)) == 6 and set(drawn) <= set(FACTORS) for drawn in sets)
    assert len(set(sets)) == 16
    longer = changed(groups=names[:9])
    assert informative_factors(longer, "g8") == sets[8]


@pytest.mark.parametrize("group", GROUPS)
def test_identities_vary_most_in_their_groups_factors(group: str) -> None:
    latents = identity_latents(FOUR, group, part="train", identities=range(400))
    spread = dict(zip(FACTORS, latents.std(axis=0), strict=True))
    own = informative_factors(FOUR, group)
    assert all(0.85 < spread[name] < 1.15 for name in own)
    assert all(0.1 < spread[name] < 0.3 for name in FACTORS if name not in own)


@pytest.mark.parametrize("factor", FACTORS)
def test_each_factor_shows(factor: str) -> None:
    latents = np.zeros((2, len(FACTORS)))
    latents[:, list(FACTORS).index(factor)] = -1.5, 1.5
    low, high = render(latents, NEUTRAL.repeat(2, axis=0), look=group_look(0), size=32).astype(int)
    assert np.abs(low - high).max() > 20


@pytest.mark.parametrize("nuisance", [name for name in NUISANCE_COLUMNS if name != "grain"])
def test_each_nuisance_shows(nuisance: str) -> None:
    column = NUISANCE_COLUMNS.index(nuisance)
    plain = NEUTRAL.copy()
    if nuisance.startswith("patch_"):
        plain[0, NUISANCE_COLUMNS.index("patch")] = 1
    other = plain.copy()
    other[0, column] = 1 if nuisance == "patch" else 0.1
    latents = np.zeros((2, len(FACTORS)))
    first, second = render(latents, np.concatenate((plain, other)), look=group_look(0), size=48)
    assert np.abs(first.astype(int) - second).max() > 5


@pytest.mark.parametrize("position", range(4))
def test_a_face_is_the_same_at_every_size(position: int) -> None:
    group = GROUPS[position]
    latents = identity_latents(FOUR, group, part="train", identities=range(12))
    nuisances = identity_nuisances(FOUR, group, part="train", identities=range(12))[:, 0]
    nuisances[:, NUISANCE_COLUMNS.index("noise")] = 0
    small = render(latents, nuisances, look=group_look(position), size=32)
    large = render(latents, nuisances, look=group_look(position), size=64)
    halved = large.reshape(12, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    for one, other in zip(small, halved, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97
        assert np.abs(one - other).mean() < 4


@pytest.mark.parametrize("size", [32, 112])
def test_outlines_are_as_wide_as_a_pixel(size: int) -> None:
    face = render(np.zeros((1, len(FACTORS))), NEUTRAL, look=group_look(0), size=size)[0]
    steps = np.abs(np.diff(face.astype(float).mean(axis=2), axis=1))
    assert 100 < steps.max() < 190  # wider outlines have smaller steps, hard ones larger


def test_drawing_in_chunks_changes_nothing() -> None:
    latents = identity_latents(SMALL, "A", part="train", identities=range(70))
    nuisances = identity_nuisances(SMALL, "A", part="train", identities=range(70))[:, 0]
    together = render(latents, nuisances, look=group_look(0), size=32)
    alone = render(latents[60:61], nuisances[60:61], look=group_look(0), size=32)
    assert np.abs(together[60].astype(int) - alone[0]).max() <= 1


@pytest.mark.parametrize("group", GROUPS)
def test_identity_is_in_the_picture_but_not_on_its_face(group: str) -> None:
    settings = FOUR.model_copy(update={"images_per_identity": 16})
    drawn = faces(settings, group, part="train", identities=range(30)) / 255.0
    halves = drawn.reshape(30, 2, 8, -1).mean(axis=2)
    halves -= halves.mean(axis=0)
    distance = np.linalg.norm(halves[:, None, 0] - halves[None, :, 1], axis=-1)
    assert np.diag(distance).mean() < 0.85 * distance.mean()

    flat = drawn.reshape(480, -1)
    products = flat @ flat.T
    squares = np.diag(products)
    apart = squares[:, None] + squares - 2 * products
    row, column = np.triu_indices(480, 1)
    same = row // 16 == column // 16
    order = apart[row, column].argsort().argsort()  # ranks: the AUC by Mann and Whitney
    genuine, impostor = same.sum(), (~same).sum()
    auc = 1 - (order[same].sum() - genuine * (genuine - 1) / 2) / (genuine * impostor)
    assert 0.52 < auc < 0.75


def test_difficulty_scales_one_groups_nuisances() -> None:
    settings = changed(difficulty={"B": 2.0})
    plain, harder = (
        identity_nuisances(each, "B", part="train", identities=range(60))
        for each in (SMALL, settings)
    )
    assert np.allclose(harder[..., :-2], 2 * plain[..., :-2])
    patched, more_patched = plain[..., -2].mean(), harder[..., -2].mean()
    assert 0 < patched < more_patched < 0.5
    same = identity_nuisances(settings, "A", part="train", identities=range(3))
    assert np.array_equal(same, identity_nuisances(SMALL, "A", part="train", identities=range(3)))


@pytest.mark.parametrize("size", [16, 112])
def test_the_hardest_faces_are_still_pictures(size: int) -> None:
    settings = changed(difficulty={"A": 4.0}, image_size=size, images_per_identity=20)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        drawn = faces(settings, "A", part="train", identities=range(5))
    spread = drawn.reshape(100, -1).std(axis=1)
    assert (spread > 5).mean() > 0.95


def test_group_looks_are_apart_and_unlike_skin() -> None:
    hues = [group_look(position).skin_hue for position in range(16)]
    assert min(abs(a - b) for a, b in itertools.combinations(hues, 2)) > 0.01
    assert min(abs(a - b) for a, b in itertools.combinations(hues[:4], 2)) > 0.1
    # Red, orange, yellow and pink, with what an identity adds, are what people have.
    assert all(hue - 0.06 > 0.19 and hue + 0.06 < 0.89 for hue in hues)


def test_each_group_is_drawn_in_its_own_colours() -> None:
    means = [
        faces(FOUR, group, part="train", identities=range(5)).mean(axis=(0, 1)) for group in GROUPS
    ]
    cheeks = [mean[16:22, 12:20].mean(axis=(0, 1)) for mean in means]
    for one, other in itertools.combinations(cheeks, 2):
        assert np.abs(one - other).max() > 20


def test_sample_sheet_has_two_rows_a_group() -> None:
    sheet = sample_sheet(FOUR, per_group=3, size=48)
    assert sheet.shape == (4 * 2 * 48, 3 * 48, 3)
    settings = FOUR.model_copy(update={"image_size": 48, "verification_images": 2})
    second = faces(settings, "C", part="verification", identities=[1])[0]
    assert np.array_equal(sheet[4 * 48 : 5 * 48, 48:96], second[0])
    assert np.array_equal(sheet[5 * 48 : 6 * 48, 48:96], second[1])


# ---------------------------------------------------------------- pairs


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    folds=st.integers(2, 5),
    per_fold=st.integers(2, 5),
    left_over=st.integers(0, 4),
    images=st.integers(2, 5),
    share=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_pairs_keep_their_promises(
    folds: int, per_fold: int, left_over: int, images: int, share: float, seed: int
) -> None:
    names = [f"i{number}" for number in range(folds * per_fold + min(left_over, folds - 1))]
    possible = min(per_fold * math.comb(images, 2), math.comb(per_fold, 2) * images**2)
    wanted = max(1, round(share * possible))
    pairs = verification_pairs(
        names,
        images=images,
        folds=folds,
        pairs_per_fold=wanted,
        generator=np.random.default_rng(seed),
    )
    assert len(pairs) == 2 * wanted * folds
    ends = [((p.first, p.first_image), (p.second, p.second_image)) for p in pairs]
    assert len({frozenset(pair) for pair in ends}) == len(pairs)
    assert all(first != second for first, second in ends)
    assert {name for pair in ends for name, _ in pair} <= set(names)
    assert all(1 <= image <= images for pair in ends for _, image in pair)
    fold_of: dict[str, int] = {}
    for place, ((first, _), (second, _)) in enumerate(ends):
        fold, within = divmod(place, 2 * wanted)
        assert (first == second) == (within < wanted)
        assert fold_of.setdefault(first, fold) == fold_of.setdefault(second, fold) == fold
    with pytest.raises(InputError, match=f"found {possible + 1}; expected at most {possible}:"):
        verification_pairs(
            names,
            images=images,
            folds=folds,
            pairs_per_fold=possible + 1,
            generator=np.random.default_rng(seed),
        )


def test_all_pairs_are_reached() -> None:
    seen: Counter[str] = Counter()
    for seed in range(60):
        pairs = verification_pairs(
            ["a", "b", "c", "d"],
            images=2,
            folds=2,
            pairs_per_fold=2,
            generator=np.random.default_rng(seed),
        )
        seen.update(pair.line() for pair in pairs)
    genuine = {f"{name}\t1\t2" for name in "abcd"}
    impostor = {f"{x}\t{i}\t{y}\t{j}" for x, y in ("ab", "cd") for i in (1, 2) for j in (1, 2)}
    assert set(seen) == genuine | impostor


# ---------------------------------------------------------------- files


def test_layout_on_disk(written: Path) -> None:
    files = set(tree(written))
    expected = {MARKER, "index.csv", "index.csv.provenance.json"}
    for group in ("A", "B"):
        for number, image in itertools.product(range(5), range(3)):
            expected.add(f"train/{group}/{group}.t{number:05}/{image:03}.jpg")
        for number, image in itertools.product(range(7), range(1, 5)):
            name = f"{group}.v{number:05}"
            expected.add(f"verification/data/{group}/{name}/{name}_{image:04}.jpg")
        for kind in ("pairs", "people", "images"):
            expected.add(f"verification/txts/{group}/{group}_{kind}.txt")
    assert files == expected


def test_images_are_the_faces_in_order(written: Path) -> None:
    drawn = faces(SMALL, "B", part="verification", identities=range(7))
    for number, image in itertools.product((0, 6), range(4)):
        name = f"B.v{number:05}"
        path = written / f"verification/data/B/{name}/{name}_{image + 1:04}.jpg"
        with Image.open(path) as file:
            assert file.size == (32, 32)
            assert file.layer[1][1:3] == (1, 1)  # type: ignore[attr-defined]  # colour not halved
            read = np.asarray(file.convert("RGB")).astype(int)
        assert np.abs(read - drawn[number, image]).mean() < 4


def test_pair_files_have_rfws_form(written: Path) -> None:
    for group in ("A", "B"):
        text = (written / f"verification/txts/{group}/{group}_pairs.txt").read_text()
        lines = [line.split("\t") for line in text.splitlines()]
        assert [len(line) for line in lines] == ([3] * 9 + [4] * 9) * 2
        for line in lines:
            images = [(line[0], line[1]), (line[0] if len(line) == 3 else line[2], line[-1])]
            for name, number in images:
                assert str(int(number)) == number
                file = f"{name}_{int(number):04}.jpg"
                assert (written / "verification/data" / group / name / file).is_file()


def test_people_and_images_files(written: Path) -> None:
    folder = written / "verification/txts/A"
    people = (folder / "A_people.txt").read_text().splitlines()
    assert people == [f"A.v{number:05}\t4" for number in range(7)]
    images = (folder / "A_images.txt").read_text().splitlines()
    assert len(images) == 28
    assert images[5] == "A.v00001_0002.jpg\t1"


def test_index_lists_every_image_in_order(written: Path) -> None:
    with (written / "index.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["part", "group", "identity", "path"]
    assert rows == sorted(rows)
    assert {row[3] for row in rows} == {name for name in tree(written) if name.endswith(".jpg")}
    assert Counter((part, group) for part, group, _, _ in rows) == {
        ("train", "A"): 15,
        ("train", "B"): 15,
        ("verification", "A"): 28,
        ("verification", "B"): 28,
    }
    for part, group, identity, path in rows:
        assert Path(path).parent.name == identity
        assert f"/{group}/" in path
        assert path.startswith(part + "/")


def test_same_bytes_from_two_processes_and_no_stale_file(written: Path, tmp_path: Path) -> None:
    output = tmp_path / "set"
    synthesize(changed(groups=("A", "B", "C"), identities=6, seed=5), output=output)
    other = tree(output)
    synthesize(SMALL, output=output, workers=2)
    assert tree(output) == tree(written)
    shared = set(other) & set(tree(written)) - {MARKER}
    pairs = "verification/txts/A/A_pairs.txt"
    assert {"train/A/A.t00000/000.jpg", pairs} < shared
    assert all(
        other[name] != (written / name).read_bytes()
        for name in shared
        if name.endswith("jpg") or name == pairs
    )


KILLED = """
import contextlib, os, signal, sys
from pathlib import Path
from mstkd.config import SynthesizeSettings
from mstkd.data import synthetic

@contextlib.contextmanager
def progress(*of):
    yield lambda count: os.kill(os.getpid(), signal.SIGKILL)

synthetic.progress = progress
settings = SynthesizeSettings.model_validate_json(sys.argv[1])
synthetic.synthesize(settings, output=Path(sys.argv[2]), workers=2)
"""


def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, SMALL.model_dump_json(), tmp_path / "set"]
    done = subprocess.run(command, capture_output=True, timeout=STUCK_SECONDS, check=False)
    # The workers hold the pipe, so they have ended too.
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_index_goes_first_and_comes_last(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesize(SMALL, output=tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("disk full")

    monkeypatch.setattr("mstkd.data.synthetic._write_lists", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        synthesize(SMALL, output=tmp_path)
    assert not (tmp_path / "index.csv").exists()
    monkeypatch.undo()
    synthesize(SMALL, output=tmp_path)
    assert tree(tmp_path) == tree(written)


@pytest.mark.parametrize("name", ["train", "verification", "index.csv"])
def test_files_of_others_are_left_alone(name: str, tmp_path: Path) -> None:
    foreign = tmp_path / name / "precious.txt" if name != "index.csv" else tmp_path / name
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("mine")
    with pytest.raises(InputError, match=f"{name}: found something that mstkd did not write"):
        synthesize(SMALL, output=tmp_path)
    assert tree(tmp_path) == {foreign.relative_to(tmp_path).as_posix(): b"mine"}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.txt").write_text("mine")
    output = tmp_path / "set"
    synthesize(changed(identities=1), output=output)
    (output / "train").rename(output / "moved")
    (output / "train").symlink_to(elsewhere)
    with pytest.raises(InputError, match="train: found something"):
        synthesize(SMALL, output=output)
    assert (elsewhere / "precious.txt").read_text() == "mine"


def test_too_many_pairs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        synthesize(changed(pairs_per_fold=19), output=tmp_path / "set")
    assert str(caught.value) == (
        "data.synthetic.pairs_per_fold: found 19; expected at most 18: "
        "7 verification_identities in 2 folds, 4 verification_images each"
    )
    assert not (tmp_path / "set").exists()


def test_fewer_identities_than_two_a_fold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at most 0"):
        synthesize(changed(folds=4, pairs_per_fold=1), output=tmp_path / "set")


def test_the_default_set_asks_for_all_genuine_pairs() -> None:
    settings = SynthesizeSettings(groups=GROUPS, image_size=32)
    pairs = verification_pairs(
        [str(number) for number in range(settings.verification_identities)],
        images=settings.verification_images,
        folds=settings.folds,
        pairs_per_fold=settings.pairs_per_fold,
        generator=np.random.default_rng(0),
    )
    assert sum(pair.first == pair.second for pair in pairs) == 600


# ---------------------------------------------------------------- two at once


DRAWING = """
import sys
from pathlib import Path
from mstkd.config import SynthesizeSettings
from mstkd.data import synthetic

def draw_and_wait(*of, **options):
    print("drawing", flush=True)
    sys.stdin.read()
    return draw(*of, **options)

draw, synthetic._write = synthetic._write, draw_and_wait
settings = SynthesizeSettings.model_validate_json(sys.argv[1])
synthetic.synthesize(settings, output=Path(sys.argv[2]))
"""


def test_two_that_draw_the_same_faces_do_not_clear_away_each_others(
    tmp_path: Path, written: Path
) -> None:
    output = tmp_path / "set"
    with scripts() as start:
        first = start(DRAWING, SMALL.model_dump_json(), output)
        assert first.says() == "drawing"
        second = start(DRAWING, SMALL.model_dump_json(), output)
        assert "waiting for process" in second.complains()
        first.end()
        assert second.complains().endswith("another process has drawn the same faces meanwhile")
        second.end()
    assert tree(output) == tree(written)
