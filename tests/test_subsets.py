"""`adaptors.fused` and `adaptors.width`: who is fused into what, its name, and what is asked.

What a subset is made from is reckoned in the test in double precision from the cache's own columns.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from imagecounts import a_hundred_of_each
from networks import DIM, TEACHERS, save_teachers, subject
from refusals import refused_in_one_line
from reporting import errors, verification_pairs, write_scored
from runs import TINY, edited, planned, snakemake
from test_foreign_share import PLAIN
from test_fused import plain_blocks, traced

from mstkd.artifacts.records import ModelRecord, Subject, read_record
from mstkd.bench.work import experiment
from mstkd.config import (
    AdaptorSettings,
    Config,
    GridSettings,
    StudentSettings,
    files,
    validate,
)
from mstkd.config.models import every_model, models_of, tables
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import open_cache, write_cache
from mstkd.embeddings.tracing import embedding_shares, fused_parts, shapley, worths
from mstkd.errors import InputError
from mstkd.evaluation.scorefiles import read_scores
from mstkd.evaluation.shares import Share, Tracing
from mstkd.evaluation.traced import Fusion, trace_images
from mstkd.models.adaptors import ADAPTORS
from mstkd.models.weights import load_adaptor
from mstkd.report.estimates import rows_told
from mstkd.report.grid import grid_panels
from mstkd.report.judgements import RowTold
from mstkd.report.paper import labels_of, paper_claims
from mstkd.report.scored import read_scored
from mstkd.report.tables import table_frame, table_rows
from mstkd.report.tracing import draw_shares, shares_frame, shares_message
from mstkd.training.adaptor import train_adaptor
from mstkd.training.student import _fused_targets

LEFT_OUT = [list("ABCD"), list("BCD"), list("ACD"), list("ABD"), list("ABC")]
NAMES = ["A.B.C.D", "B.C.D", "A.C.D", "A.B.D", "A.B.C"]


def config(fused: Any = None, **edits: Any) -> Config:
    given = edits if fused is None else {"adaptors.fused": fused, **edits}
    return validate(Config, edited(PLAIN, given), "config")


# ---------------------------------------------------------------- names, settings and files


def test_without_subsets_and_widths_all_is_as_before_there_were_any() -> None:
    """To the byte: settings that a record holds are compared as text."""
    made = config()
    assert made.adaptor_variants() == ("SL", "DuL")
    for set_ in ("specialized", "baseline"):
        text = made.adaptor_settings(set_, "SL").dump()  # type: ignore[arg-type]
        assert text.endswith(
            '"engine":{"precision":"auto","compile":"auto","deterministic":false}}'
        )
        assert text.startswith('{"recipe":1,"embedding_dim":512,"adaptor":{"architecture":"SL",')
    assert "fused" not in made.dump() + made.page_settings().dump()
    assert "width" not in json.dumps(json.loads(made.dump())["adaptors"])
    assert validate(Config, json.loads(made.dump()), "config") == made


def test_a_list_of_subsets_makes_variants_of_every_adaptor() -> None:
    made = config(LEFT_OUT)
    assert made.adaptor_variants() == tuple(
        f"{name}+fused={subset}" for name in ("SL", "DuL") for subset in NAMES
    )
    rows = models_of(made, tables(made)["table2"])
    assert [row.name for row in rows if row.set == "baseline"] == list(made.adaptor_variants())
    found = Counter((model.kind, model.set) for model in every_model(made))
    plain = Counter((model.kind, model.set) for model in every_model(config()))
    for key, count in plain.items():
        of_adaptors = key[0] == "students" and key[1] in ("specialized", "baseline")
        assert found[key] == count * (5 if of_adaptors else 1)
    again = validate(Config, json.loads(made.dump()), "config")
    assert again == made and again.adaptor_variants() == made.adaptor_variants()
    assert made.grids() == ()  # no curve along what is no number
    assert made.page_settings().fused_counts == (3, 4)


def test_the_teachers_of_a_subset_are_those_of_its_groups_or_places() -> None:
    made = config(LEFT_OUT, groups=["D", "B", "A", "C"])
    teachers = {
        set_: made.adaptor_settings(set_, "SL+fused=A.B.D").teachers  # type: ignore[arg-type]
        for set_ in ("specialized", "baseline")
    }
    assert teachers == {"specialized": ("T-D", "T-B", "T-A"), "baseline": ("BT-1", "BT-2", "BT-3")}
    assert made.adaptor_settings("baseline", "SL+fused=A.B.C.D") == config(
        groups=["D", "B", "A", "C"]
    ).adaptor_settings("baseline", "SL")


def test_a_subset_shares_cache_and_teachers_with_all_others() -> None:
    made = config(LEFT_OUT)
    one = "SL+fused=B.C.D"
    assert files.student_cache(made, "small", "specialized", "a-KD") == files.student_cache(
        config(), "small", "specialized", "a-KD"
    )
    assert files.student_adaptor(made, "small", "specialized", one) == [
        f"results/adaptors/small/specialized/{one}/seed{{seed}}/model.safetensors"
    ]
    asked = {"set": "specialized", "backbone": "small"}
    assert made.settings_of("train-adaptor", name=one, **asked) == made.adaptor_settings(
        "specialized", one
    )
    assert made.settings_of("train-adaptor", name="SL", **asked) is None
    assert made.cache_settings() == config().cache_settings()


def test_one_subset_bears_its_name_whichever_way_it_is_written() -> None:
    for written in (["C", "B"], ["B", "C"], [["C", "B"]]):
        made = config(written)
        assert made.adaptor_variants() == ("SL+fused=B.C", "DuL+fused=B.C")
        assert made.page_settings().fused_counts == (2,)


def test_students_are_as_wide_as_the_space_that_they_are_taught() -> None:
    made = config(**{"adaptors.width": [64, 512]})
    narrow, wide = "DuL+width=64", "DuL+width=512"
    assert made.adaptor_variants()[2:] == (narrow, wide)
    settings = made.adaptor_settings("specialized", narrow)
    assert (settings.embedding_dim, settings.teacher_dim, settings.teachers) == (64, 512, None)
    plain = config()
    assert made.adaptor_settings("specialized", wide) == plain.adaptor_settings(
        "specialized", "DuL"
    )
    for name, dim in ((narrow, 64), (wide, 512)):
        assert made.student_settings("baseline", "a-KD", name).embedding_dim == dim
    # The controls, whatever an adaptor is called.
    for set_, name in (("single", "direct"), ("none", "none")):
        loss = "none" if set_ == "none" else "a-KD"
        assert made.student_settings(set_, loss, name).embedding_dim == 512  # type: ignore[arg-type]
    assert made.grids() == ("adaptors-width",)
    assert made.grid_settings("adaptors-width").section == "adaptors"
    alone = config(**{"adaptors.width": 64})
    assert alone.adaptor_variants() == ("SL", "DuL")
    assert alone.adaptor_settings("specialized", "DuL") == settings


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"adaptors.fused": ["A", "Z"]}, "adaptors.fused: 'Z' is not one of B, A, C, D"),
        ({"adaptors.fused": []}, "adaptors.fused: found []; expected a value or more"),
        ({"adaptors.fused": [["A"], []]}, "adaptors.fused: found []; expected"),
        (
            {"adaptors.fused": [["A", "B"], ["B", "A"]]},
            "adaptors.fused: found [['A', 'B'], ['B', 'A']]; expected each value once",
        ),
        ({"adaptors.fused": ["A", "A"]}, "adaptors.fused: found ['A', 'A']; expected each once"),
        ({"adaptors.fused": [["A"], "B"]}, "adaptors.fused: found 'B'; expected"),
        ({"adaptors.fused": [["A"], None]}, "expected values, and no null"),
        ({"adaptors.fused": "A"}, "adaptors.fused: found 'A'; expected"),
        ({"adaptors.width": [64, "64"]}, "adaptors.width: found [64, '64']; expected each value"),
        ({"adaptors.width": [64, 0]}, "adaptors.width: found 0; expected"),
        ({"adaptors.width": 1.5}, "adaptors.width: found 1.5; expected"),
        (
            {
                "adaptors.width": [64, 512],
                "students.from_checkpoint": {"path": "model.safetensors"},
            },
            "students.from_checkpoint: adaptors.width of 512, as is given",
        ),
        (
            {"adaptors.width": [64, 128], "students.together": True},
            "students.together with one value of adaptors.width",
        ),
    ],
)
def test_what_is_no_subset_or_width_is_refused_in_one_line(
    edits: dict[str, Any], message: str
) -> None:
    with refused_in_one_line(message):
        config(**edits)


def test_a_subset_of_so_many_groups_that_no_file_can_bear_its_name_is_refused() -> None:
    names = [f"Group-{number:02}-of-a-long-name" for number in range(16)]
    fits = config([names[:4]], groups=names)
    assert len(fits.adaptor_variants()[0]) > 80
    with pytest.raises(InputError, match=r"shorter names or fewer lists than make a log's name of"):
        config([names], groups=names)


def test_what_an_experiment_costs_counts_a_subset_as_an_adaptor_of_its_own() -> None:
    counts = a_hundred_of_each("ABCD")
    plain, listed = (
        {load.part: load for load in experiment(made, counts)}
        for made in (config(), config(LEFT_OUT))
    )
    assert listed["SL adaptors"].jobs == 5 * plain["SL adaptors"].jobs == 10
    assert listed["SL adaptors"].images == 5 * plain["SL adaptors"].images
    assert listed["small teachers"] == plain["small teachers"]
    # Of 2 sets and 2 adaptors; a control of one teacher and one of none.
    assert (plain["small students"].jobs, listed["small students"].jobs) == (4 + 2, 20 + 2)


# ---------------------------------------------------------------- columns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, packs: list[Path]) -> tuple[list[Path], Path]:
    """Weights of two teachers, and their cache."""
    return save_teachers(tmp_path_factory.mktemp("subsets"), packs)


def adaptor_settings(name: str = "SL", **edits: Any) -> AdaptorSettings:
    two_epochs = {"epochs": 2, "batch_size": 8, "milestones": [2], "schedule_epochs": 2}
    given = {"embedding_dim": DIM, "adaptor": {"architecture": name}, "optimiser": two_epochs}
    return AdaptorSettings.model_validate({**given, "head": {}, **edits})


def trained(folder: Path, cache: Path, settings: AdaptorSettings, name: str = "SL") -> Path:
    output = folder / name / "seed0/model.safetensors"
    who = subject(name, kind="adaptor")
    train_adaptor(settings, subject=who, cache=cache, output=output, device="cpu")
    return output


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def rewritten(path: Path, cache: Path, columns: slice, **changed: Any) -> Path:
    """A cache of some columns of another, or of the same columns with other numbers."""
    held = open_cache(cache)
    told = {"teachers": held.teachers, "weights": held.weights, "packs": held.packs}
    told |= {"subject": held.subject, **changed}
    numbers = np.ascontiguousarray(told.pop("numbers", held.embeddings)[:, columns])
    write_cache(
        path,
        {name: json.dumps(one) for name, one in told.items()},
        held.labels,
        [numbers],
        sizes=[len(numbers)],
        columns=numbers.shape[1],
        dtype="float32",
    )
    return path


@pytest.mark.parametrize("architecture", ADAPTORS)
@pytest.mark.parametrize("place", [0, 1])
def test_an_adaptor_of_a_subset_is_that_of_a_cache_of_its_columns_alone(
    tmp_path: Path, made: tuple[list[Path], Path], architecture: str, place: int
) -> None:
    _, cache = made
    one = TEACHERS[place]
    settings = adaptor_settings(architecture, teachers=[one])
    columns = slice(place * DIM, (place + 1) * DIM)
    held = open_cache(cache)
    alone = rewritten(
        tmp_path / "alone.h5", cache, columns, teachers=[one], weights=[held.weights[place]]
    )
    noise = held.embeddings.copy()
    noise[:, (1 - place) * DIM : (2 - place) * DIM] = 7
    noisy = rewritten(tmp_path / "noisy.h5", cache, slice(None), numbers=noise)
    name = f"{architecture}+fused={one[-1]}"
    found = weights_of(trained(tmp_path / "found", cache, settings, name))
    plain = adaptor_settings(architecture)
    for other, given in ((alone, plain), (noisy, settings)):
        expected = weights_of(trained(tmp_path / other.stem, other, given, name))
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=0, atol=0)
    other_columns = adaptor_settings(architecture, teachers=[TEACHERS[1 - place]])
    differs = weights_of(trained(tmp_path / "differs", cache, other_columns, name))
    assert any(not torch.equal(found[key], differs[key]) for key in found)


def test_a_subset_of_all_teachers_is_trained_as_without_a_list(
    tmp_path: Path, made: tuple[list[Path], Path]
) -> None:
    plain = trained(tmp_path / "plain", made[1], adaptor_settings())
    listed = trained(tmp_path / "listed", made[1], adaptor_settings(), "SL+fused=A.B")
    assert plain.read_bytes() == listed.read_bytes()


@pytest.mark.parametrize("width", [3, 8, 12])
@pytest.mark.parametrize("subset", [("T-A",), ("T-B",), TEACHERS])
@pytest.mark.parametrize("architecture", ["SL", "DuL"])
def test_a_students_target_is_the_fused_embedding_of_its_teachers_columns(
    tmp_path: Path,
    made: tuple[list[Path], Path],
    packs: list[Path],
    architecture: str,
    subset: tuple[str, ...],
    width: int,
) -> None:
    _, cache = made
    settings = adaptor_settings(
        architecture,
        embedding_dim=width,
        teacher_dim=None if width == DIM else DIM,
        teachers=None if subset == TEACHERS else subset,
    )
    adaptor = trained(tmp_path, cache, settings)
    student = StudentSettings.model_validate(
        {
            "embedding_dim": width,
            "backbone": {"blocks": [1, 1, 1, 1], "widths": [4, 4, 4, 4]},
            "loss": {"classification": False},
            "optimiser": settings.optimiser.model_dump(),
            "selection": {"folds": 2},
        }
    )
    opened = [open_pack(path) for path in packs]
    target, _ = _fused_targets(student, [cache], adaptor, opened, torch.device("cpu"))
    rows = torch.tensor([31, 0, 17])
    held = open_cache(cache).embeddings[rows].astype(np.float64)
    x = np.hstack([held[:, TEACHERS.index(name) * DIM :][:, :DIM] for name in subset])
    weights = {key: tensor.double().numpy() for key, tensor in weights_of(adaptor).items()}
    first = "fc" if architecture == "SL" else "fc1"
    assert weights[f"{first}.weight"].shape == (width, len(subset) * DIM)
    z = x @ weights[f"{first}.weight"].T + weights[f"{first}.bias"]
    if architecture == "DuL":
        z = np.where(z < 0, 0.01 * z, z) @ weights["fc2.weight"].T + weights["fc2.bias"]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(target({"rows": rows}).numpy(), z, atol=1e-5)
    other = student.model_copy(update={"embedding_dim": width + 1})
    with pytest.raises(InputError, match=f"targets of {width} dimensions; expected {width + 1}"):
        _fused_targets(other, [cache], adaptor, opened, torch.device("cpu"))


def test_a_teacher_that_the_cache_has_not_is_refused_in_one_line(
    tmp_path: Path, made: tuple[list[Path], Path]
) -> None:
    message = r"cache\.h5: found no teacher T-C; expected one of T-A, T-B"
    with pytest.raises(InputError, match=message):
        trained(tmp_path, made[1], adaptor_settings(teachers=["T-A", "T-C"]))
    held = open_cache(made[1])
    assert held.of(None) is held and held.of(TEACHERS[::-1]) is held
    chosen = held.of(["T-B"])
    assert (chosen.teachers, chosen.weights) == (("T-B",), held.weights[1:])
    assert chosen.sha256 == held.sha256
    np.testing.assert_array_equal(chosen.embeddings, held.embeddings[:, DIM:])


def test_a_record_says_who_is_fused_and_is_held_to_it(
    tmp_path: Path, made: tuple[list[Path], Path]
) -> None:
    output = trained(tmp_path, made[1], adaptor_settings(teachers=["T-B"]), "SL+fused=B")
    record = read_record(ModelRecord, output.with_name("model.json"))
    assert record.settings["teachers"] == ["T-B"]
    network, _ = load_adaptor(output, teachers=2)
    assert (network.teachers, network(torch.zeros(2, DIM)).shape) == (1, (2, DIM))


# ---------------------------------------------------------------- fused spaces, traced


@pytest.mark.parametrize("architecture", ["SL", "DuL"])
def test_a_fused_space_of_a_subset_is_scored_and_traced_by_its_columns(
    tmp_path: Path,
    made: tuple[list[Path], Path],
    verification_packs: list[Path],
    architecture: str,
) -> None:
    teachers, cache = made
    every = trained(tmp_path, cache, adaptor_settings(architecture), f"{architecture}+fused=A.B")
    settings = adaptor_settings(architecture, embedding_dim=5, teacher_dim=DIM, teachers=["T-B"])
    subset = trained(tmp_path, cache, settings, f"{architecture}+fused=B")
    outputs, tracing = traced(tmp_path, made, [every, subset], verification_packs)
    shares: dict[str, list[Share]] = {}
    for one in tracing.shares:
        shares.setdefault(one.adaptor, []).append(one)
    of_all, of_subset = (shares[f"{architecture}+fused={name}"] for name in ("A.B", "B"))
    assert {one.teacher for one in of_all} == {"T-A", "T-B", "none"}
    assert {one.teacher for one in of_subset} == {"T-B", "none"}
    network = ADAPTORS[architecture](1, 5, teacher_dim=DIM)
    network.load_state_dict(weights_of(subset))
    network = network.double().eval()
    absent = torch.from_numpy(open_cache(cache).embeddings[:, DIM:].mean(0, dtype=np.float64))
    for pack in map(open_pack, verification_packs):
        blocks = plain_blocks(teachers, pack)[:, DIM:]
        fused = network(blocks).detach()
        fused = fused / fused.norm(dim=1, keepdim=True)
        pairs = torch.from_numpy(np.array(pack.pairs)).long()
        expected = (fused[pairs[:, 0]] * fused[pairs[:, 1]]).sum(1).numpy()
        table = read_scores(outputs[1].with_name("scores.h5"))
        here = table.group1 == table.groups.index(pack.group)
        # The step's teachers compute in single precision.
        np.testing.assert_allclose(table.similarity[here], expected, atol=3e-4)
        jacobians = torch.stack(
            [torch.autograd.functional.jacobian(network, row) for row in blocks]
        )  # (N, D, E)
        raw = network(blocks).detach()
        terms = torch.einsum("nde,ne->nd", jacobians, blocks)
        share = ((terms * raw).sum(1) / (raw * raw).sum(1)).mean().item()
        chosen = [
            one
            for one in of_subset
            if (one.measure, one.group, one.teacher) == ("embedding", pack.group, "T-B")
        ]
        by_method = {one.method: one.value for one in chosen}
        assert by_method["projection"] == pytest.approx(share, abs=3e-4)
        without = network(absent[None]).detach()
        alike = torch.nn.functional.cosine_similarity(without, raw).mean().item()
        assert by_method["Shapley"] == pytest.approx(1 - alike, abs=3e-4)


def test_images_are_traced_to_the_teachers_of_a_subset(
    tmp_path: Path, made: tuple[list[Path], Path], packs: list[Path]
) -> None:
    from PIL import Image

    teachers, cache = made
    settings = adaptor_settings(embedding_dim=12, teacher_dim=DIM, teachers=["T-A"])
    adaptor = trained(tmp_path, cache, settings, "SL+fused=A")
    faces = [tmp_path / f"{number}.png" for number in range(2)]
    images = open_pack(packs[0]).images
    for number, path in enumerate(faces):
        Image.fromarray(np.array(images[number])).save(path)
    told = trace_images(faces, Fusion(adaptor, cache, list(teachers)), device="cpu")
    assert told.teachers == ["T-A"]
    weights = {key: tensor.double() for key, tensor in weights_of(adaptor).items()}
    blocks = plain_blocks(teachers, open_pack(packs[0]))[:2, :DIM]
    term = blocks @ weights["fc.weight"].T
    fused = term + weights["fc.bias"]
    assert told.pair is not None
    cosine = torch.nn.functional.cosine_similarity(fused[:1], fused[1:]).item()
    assert told.pair.similarity == pytest.approx(cosine, abs=3e-4)
    for row, one in enumerate(told.images):
        share = (term[row] @ fused[row] / (fused[row] @ fused[row])).item()
        assert one.projection == pytest.approx({"T-A": share, "none": 1 - share}, abs=3e-4)


@pytest.mark.parametrize("architecture", ADAPTORS)
@pytest.mark.parametrize(("teachers", "width"), [(1, 5), (3, 5), (2, 24), (4, 8)])
def test_terms_of_other_widths_sum_to_the_fused_embedding(
    architecture: str, teachers: int, width: int
) -> None:
    torch.manual_seed(3)
    adaptor = ADAPTORS[architecture](teachers, width, teacher_dim=DIM).double().eval()
    blocks = torch.randn(6, teachers * DIM, dtype=torch.float64)
    parts = fused_parts(adaptor, blocks)
    assert parts.teachers.shape == (6, teachers, width)
    exact = {"rtol": 1e-11, "atol": 1e-12}
    torch.testing.assert_close(parts.fused, adaptor(blocks).detach(), **exact)
    torch.testing.assert_close(
        embedding_shares(parts).sum(1), torch.ones(6, dtype=torch.float64), **exact
    )
    absent = torch.randn(teachers * DIM, dtype=torch.float64)
    found = worths(adaptor, blocks, absent, torch.tensor([[0, 1]]))
    for worth in found:
        torch.testing.assert_close(shapley(worth).sum(0), worth[-1] - worth[0], **exact)
    for silent in range(teachers):  # a block that is the absent one gives nothing
        still = blocks.reshape(6, teachers, DIM).clone()
        still[:, silent] = absent.reshape(teachers, DIM)[silent]
        values = shapley(worths(adaptor, still.reshape(6, -1), absent, torch.empty(0, 2).long())[0])
        assert values[silent].abs().max() < 1e-12


# ---------------------------------------------------------------- claims


def students(subsets: list[str], names: tuple[str, ...] = ("SL", "DuL")) -> list[Subject]:
    groups = PLAIN["groups"]
    of_sets = itertools.product(("specialized", "baseline"), names, subsets, ("a-KD",))
    return [
        *(subject(f"T-{group}", backbone="small") for group in groups),
        *(subject(f"BT-{n}", set_="baseline", backbone="small") for n in (1, 2, 3, 4)),
        *(
            subject(
                f"{name}+fused={subset}", kind="student", set_=set_, backbone="small", loss=loss
            )
            for set_, name, subset, loss in of_sets
        ),
        subject("T-all", set_="single", backbone="small"),
        subject("direct", kind="student", set_="single", backbone="small", loss="a-KD"),
        subject("none", kind="student", set_="none", backbone="small", loss="none"),
    ]


ADDED = "On a group, students of its own teacher and others are ahead of those of these others"
AMONG = "On a group, students of its own teacher and others are ahead of those of as many others"


def claims_of(every: list[Subject]) -> dict[str, Any]:
    return {one.text: one for one in paper_claims(every, PLAIN["groups"])}


def planted(every: list[Subject], cell: Any, own: float, count: float) -> float:
    """What a cell says where each fused teacher gives `count`, and a group's own `own` besides."""
    (row,) = cell.weights.values()
    groups = PLAIN["groups"]
    rates = np.zeros((len(every), len(groups)))
    for place, one in enumerate(every):
        if one.kind == "student" and one.set in ("specialized", "baseline"):
            fused = one.name.partition("fused=")[2].split(".")
            rates[place] = count * len(fused)
            rates[place] += [own * (group in fused) for group in groups]
    weights = row if row.ndim == 2 else np.repeat(row[:, None], len(groups), 1) / len(groups)
    return float((weights * rates).sum())


def test_the_own_teacher_is_told_apart_from_one_teacher_more() -> None:
    every = students(NAMES)
    claims = claims_of(every)
    assert {claims[text].topic for text in (ADDED, AMONG)} == {"own teacher"}
    # Of each of 2 adaptors, 4 groups: of all four teachers less three, and of three less three.
    for text, expected in ((ADDED, 5 + 0.5), (AMONG, 5.0)):
        cells = claims[text].cells
        assert len(cells) == 2 * 4 and claims[text].of_own_groups
        assert [planted(every, cell, 5, 0.5) for cell in cells] == pytest.approx([expected] * 8)
    labels = [cell.label for cell in claims[ADDED].cells]
    assert labels[1] == "specialized SL (fused=A.B.C.D), a-KD and without A, on A"
    assert claims[AMONG].cells[1].label == "specialized SL, a-KD, of 3 with A or without, on A"


def test_the_number_of_teachers_is_asked_of_the_mean_over_subsets() -> None:
    every = students([*NAMES, "A.B", "C.D", "A", "B", "C", "D"])
    claims = claims_of(every)
    asked = [one for one in claims.values() if one.topic == "number of teachers"]
    assert [one.text for one in asked] == [
        "Students of 4 teachers are ahead of those of 3 teachers",
        "Students of 3 teachers are ahead of those of 2 teachers",
        "Students of 2 teachers are ahead of those of 1 teacher",
    ]
    for one in asked:
        assert len(one.cells) == 4  # two sets, two adaptors
        # A teacher more gives 0.5 to each group, and its own group, one of four, 8 besides.
        found = [planted(every, cell, 8, 0.5) for cell in one.cells]
        assert found == pytest.approx([0.5 + 8 / 4] * 4)
    assert asked[0].cells[0].label == "specialized SL, a-KD, 4 and 3"


def test_the_papers_claims_are_judged_by_students_of_the_most_teachers() -> None:
    every, alone = students(NAMES), students(["A.B.C.D"])
    plain = [
        one.model_copy(update={"name": one.name.partition("+")[0]}) for one in students(["A.B.C.D"])
    ]
    own = {"own teacher", "number of teachers"}
    found = [one for one in claims_of(every).values() if one.topic not in own]
    for others in (alone, plain):
        expected = list(claims_of(others).values())
        assert [one.text for one in found] == [one.text for one in expected]
        for one, other in zip(found, expected, strict=True):
            assert len(one.cells) == len(other.cells)
            for cell, twin in zip(one.cells, other.cells, strict=True):
                assert _who(every, cell) == _who(others, twin)


def _who(every: list[Subject], cell: Any) -> dict[tuple[str, ...], list[float]]:
    (row,) = cell.weights.values()
    row = row.reshape(len(every), -1)
    return {
        (one.kind, one.set, one.name.partition("+")[0]): row[place].tolist()
        for place, one in enumerate(every)
        if row[place].any()
    }


def test_students_of_a_subset_are_held_against_the_teachers_that_taught_them() -> None:
    every = students(["B.C", "A.D"])
    for set_, names in (
        ("specialized", {"B.C": "T-B T-C", "A.D": "T-A T-D"}),
        ("baseline", {"B.C": "BT-1 BT-3", "A.D": "BT-2 BT-4"}),  # groups are B, A, C, D
    ):
        claim = claims_of(every)[
            f"Students of {set_} teachers are ahead of the mean of their teachers"
        ]
        assert len(claim.cells) == 4
        for cell in claim.cells:
            (row,) = cell.weights.values()
            (student,) = (every[place] for place in np.flatnonzero(row > 0))
            taught = {every[place].name for place in np.flatnonzero(row < 0)}
            assert taught == set(names[student.name.partition("fused=")[2]].split())
            assert set(row[row < 0]) == {-0.5}


# ---------------------------------------------------------------- tables and figures


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[RowTold]]:
    """Students of two subsets and two widths of each set, and a control; all differ."""
    folder = tmp_path_factory.mktemp("scored")
    pairs = verification_pairs(("A", "B"))
    models = [
        {"name": f"SL+fused={fused}+width={width}", "set": set_}
        for set_ in ("specialized", "baseline")
        for fused in ("A.B", "B")
        for width in (8, 16)
    ]
    models.append({"name": "direct", "set": "single"})
    metrics = []
    for place, who in enumerate(models):
        wrong = errors(pairs, {"A": 95 - place, "B": 80 + place}, seed=place)
        metrics.append(write_scored(folder, pairs, wrong, loss="a-KD", backbone="small", **who))
    found = read_scored(metrics)
    return metrics, rows_told(found, found.rates(["own"]), 200)


def test_the_curve_of_a_width_has_a_panel_for_each_subset(
    scored: tuple[list[Path], list[RowTold]],
) -> None:
    _, told = scored
    settings = GridSettings(section="adaptors", key="width", draws=200)
    panels = [panel for row in grid_panels(told, settings, ("A", "B")) for panel in row]
    of_accuracy = [panel for panel in panels if panel.measure == "global_accuracy"]
    assert [panel.title for panel in of_accuracy] == [
        "SL, a-KD, adaptor fused=A.B",
        "SL, a-KD, adaptor fused=B",
    ]
    known = {(row.subject.set, row.subject.name): row.global_accuracy for row in told}
    for panel, fused in zip(of_accuracy, ("A.B", "B"), strict=True):
        for line, set_ in zip(panel.lines, ("specialized", "baseline"), strict=True):
            assert line.points == tuple(
                (float(width), known[set_, f"SL+fused={fused}+width={width}"]) for width in (8, 16)
            )


def test_a_row_bears_the_adaptors_name_and_its_values_beside(
    scored: tuple[list[Path], list[RowTold]],
) -> None:
    rows = table_rows(scored[0], ["A", "B"])
    frame = table_frame(rows, ("A", "B"))
    assert list(frame["name"]) == ["SL"] * 8 + ["direct"]
    assert list(frame["variant"][:2]) == [
        "adaptor fused=A.B, width=8",
        "adaptor fused=A.B, width=16",
    ]
    assert rows[3].title == "SL (adaptor fused=B, width=16)" and rows[-1].title == "single teacher"
    assert labels_of([row.subject for row in rows])[3] == (
        "specialized SL (fused=B, width=16), a-KD"
    )


def test_the_figure_of_shares_has_a_column_for_each_teacher_that_is_fused() -> None:
    shares = [
        Share(
            adaptor=f"{name}+fused={fused}",
            measure="embedding",
            method="projection",
            group=group,
            teacher=teacher,
            value=value,
            low=value,
            high=value,
        )
        for name in ("SL", "DuL")
        for fused, parts in (
            ("A.B", {"T-A": 0.5, "T-B": 0.4, "none": 0.1}),
            ("B", {"T-B": 0.95, "none": 0.05}),
        )
        for group in "AB"
        for teacher, value in parts.items()
    ]
    counts = {"A": 3, "B": 3}
    told = Tracing(
        backbone="small",
        set="specialized",
        seed=0,
        groups=["A", "B"],
        teachers=["T-A", "T-B"],
        adaptors=["SL+fused=A.B", "SL+fused=B", "DuL+fused=A.B", "DuL+fused=B"],
        faces=counts,
        identities=counts,
        pairs=counts,
        absent="the mean",
        shares=shares,
    )
    frame = shares_frame([told])
    figure = draw_shares(frame, ["A", "B"], "embedding")
    columns = {
        axes.get_title("left"): [label.get_text() for label in axes.get_xticklabels()]
        for axes in figure.axes
    }
    assert columns == {
        f"Specialized, {name} (fused={fused})": names
        for fused, names in (("A.B", ["T-A", "T-B", "none"]), ("B", ["T-B", "none"]))
        for name in ("SL", "DuL")
    }
    assert list(columns)[:2] == ["Specialized, SL (fused=A.B)", "Specialized, DuL (fused=A.B)"]
    assert "50 or 100 would be an even share." in " ".join(figure._supxlabel.get_text().split())  # type: ignore[attr-defined]
    assert shares_message(frame, "embedding") == (
        "Largest share on average over adaptors: Specialized: of A T-A with 50, of B T-A with 50 "
        "percent."
    )


# ---------------------------------------------------------------- runs

ONE_OF_EACH = {
    "adaptors.architectures": {"SL": {}},
    "students.losses": {"a-KD": {}},
    "controls": False,
}


@pytest.mark.workflow
def test_a_subset_more_trains_no_teacher_and_embeds_nothing(finished: Path) -> None:
    for value, count in (([["A", "B"], ["B"]], 2), (["A"], 1)):
        jobs = planned(finished, edited(TINY, {"adaptors.fused": value}))
        assert jobs["train_adaptor"] == 2 * 3 * count  # of two sets, three adaptors
        assert jobs["train_student"] == 2 * 3 * 2 * count
        assert not {"train_teacher", "train_single_teacher", "cache_embeddings"} & jobs.keys()
        assert not [rule for rule in jobs if rule.startswith(("split", "pack"))]


@pytest.mark.usefixtures("quick_jobs")
@pytest.mark.workflow
def test_a_whole_run_of_subsets_and_widths(tmp_path: Path) -> None:
    subsets = {**ONE_OF_EACH, "adaptors.fused": [["A", "B"], ["B"]]}
    made = edited(TINY, {**subsets, "adaptors.width": [16, 32]})
    snakemake(tmp_path, made)
    results = tmp_path / "results"
    for set_, names in (("specialized", ["T-A", "T-B"]), ("baseline", ["BT-1", "BT-2"])):
        cache = open_cache(results / f"embeddings/tiny/{set_}/seed0.h5")
        assert list(cache.teachers) == names
        for fused, width in itertools.product(("A.B", "B"), (16, 32)):
            name = f"SL+fused={fused}+width={width}"
            path = results / f"adaptors/tiny/{set_}/{name}/seed0/model.safetensors"
            record = read_record(ModelRecord, path.with_name("model.json"))
            chosen = [names["AB".index(group)] for group in fused.split(".")]
            assert record.settings.get("teachers", names) == chosen
            assert weights_of(path)["fc.weight"].shape == (width, 32 * len(chosen))
            student = results / f"students/tiny/{set_}/{name}/a-KD/seed0"
            told = read_record(ModelRecord, student / "model.json")
            assert told.inputs["adaptor"] == record.weights_sha256
            assert told.settings["embedding_dim"] == width
            card = (student / "README.md").read_text()
            assert f"through the adaptor SL (fused={fused}, width={width})" in card
    table = (results / "tables/table2.csv").read_text()
    assert 'specialized,SL,"adaptor fused=B, width=16"' in table
    judged = json.loads((results / "claims.json").read_text())["claims"]
    topics = {one["claim"]: one["topic"] for one in judged}
    assert topics[ADDED] == "own teacher"
    assert topics["Students of 2 teachers are ahead of those of 1 teacher"] == "number of teachers"
    page = " ".join((results / "report.html").read_text().split())
    assert "An adaptor fuses 1 or 2 teachers" in page
    assert "judged by students of the most" in page
    shares = (results / "figures/tracing-tiny.csv").read_text()
    assert "SL+fused=B+width=16,embedding,projection,A,T-B" in shares
    assert "SL+fused=B+width=16,embedding,projection,A,T-A" not in shares
    assert (results / "figures/grid-adaptors-width.png").exists()
    assert planned(tmp_path, made) == {}
    more = edited(made, {"adaptors.fused": [["A", "B"], ["A"], ["B"]]})
    jobs = planned(tmp_path, more)
    assert (jobs["train_adaptor"], jobs["train_student"]) == (4, 4)
    assert "train_teacher" not in jobs and "cache_embeddings" not in jobs
