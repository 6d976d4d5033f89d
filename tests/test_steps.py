"""The three training steps on tiny packs: what they write, refuse, and that a seed decides all."""

import fcntl
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from networks import BACKBONE, DIM, save_teacher, subject, teacher_settings
from packs import bin_pack

from mstkd.artifacts.records import ModelRecord, read_record
from mstkd.artifacts.told import told_by
from mstkd.config import AdaptorSettings, CacheSettings, StudentSettings
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.errors import InputError
from mstkd.models.weights import load_adaptor, load_backbone
from mstkd.training import step
from mstkd.training.adaptor import train_adaptor
from mstkd.training.checkpoint import fingerprint
from mstkd.training.student import Student, train_student, train_students
from mstkd.training.teacher import train_teacher

TWO_EPOCHS = {"epochs": 2, "batch_size": 8, "milestones": [2], "schedule_epochs": 2}


def adaptor_settings(name="SL"):
    return AdaptorSettings.model_validate(
        {
            "embedding_dim": DIM,
            "adaptor": {"architecture": name},
            "optimiser": TWO_EPOCHS,
            "head": {"margin_std": 0.0125},
        }
    )


def student_settings(kd_weight=10000.0, classification=True):
    return StudentSettings.model_validate(
        {
            "embedding_dim": DIM,
            "backbone": BACKBONE,
            "loss": {"classification": classification, "kd_weight": kd_weight},
            "optimiser": TWO_EPOCHS,
            "selection": {"folds": 2},
        }
        | ({"head": {}} if classification else {})
    )


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("split") / "T-A.csv"
    path.write_text("group,identity\n" + "".join(f"A,A{i}\n" for i in range(5)))
    return path


@pytest.fixture(scope="module")
def fused(tmp_path_factory, packs):
    """A cache of two teachers and an adaptor trained on it."""
    folder = tmp_path_factory.mktemp("fused")
    teachers = [
        save_teacher(folder, subject("T-A"), packs[:1], weights_seed=1),
        save_teacher(folder, subject("T-B"), packs[1:], weights_seed=2),
    ]
    cache = folder / "cache.h5"
    cache_embeddings(CacheSettings(), teachers=teachers, packs=packs, output=cache, device="cpu")
    adaptor = folder / "SL" / "model.safetensors"
    train_adaptor(
        adaptor_settings(),
        subject=subject("SL", kind="adaptor"),
        cache=cache,
        output=adaptor,
        device="cpu",
    )
    return cache, adaptor


def student(folder, packs, verification_packs, cache, adaptor, settings=None, **who):
    output = folder / "model.safetensors"
    train_student(
        settings or student_settings(),
        subject=subject("SL", kind="student", loss="EAF-KD", **who),
        packs=packs,
        selection=verification_packs,
        cache=cache,
        adaptor=adaptor,
        output=output,
        device="cpu",
    )
    return output


def rows_of(model):
    lines = model.with_name("history.csv").read_text().splitlines()
    return [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]


def teacher(folder, packs, verification_packs, split, seed=0, **settings):
    output = folder / "model.safetensors"
    train_teacher(
        teacher_settings(**settings),
        subject=subject("T-A", seed=seed),
        packs=packs[:1],
        selection=verification_packs[:1],
        split=split,
        output=output,
        device="cpu",
    )
    return output


def test_what_auto_came_to_stands_in_the_records(tmp_path, packs, verification_packs, split, fused):
    made = [
        teacher(tmp_path / "t", packs, verification_packs, split),
        teacher(tmp_path / "h", packs, verification_packs, split, engine={"precision": "bfloat16"}),
        fused[1],
    ]
    records = [read_record(ModelRecord, path.with_name("model.json")) for path in made]
    told = [(record.settings["engine"]["precision"], record.precision) for record in records]
    assert told == [("auto", "float32"), ("bfloat16", "bfloat16"), ("auto", "float32")]
    cache = told_by(fused[0]).made
    assert (cache.settings["precision"], cache.precision) == ("auto", "float32")


class FittedError(Exception):
    """Stands for a training."""


def test_what_another_process_has_trained_is_not_trained_again(
    tmp_path, packs, verification_packs, split, monkeypatch
):
    def fit(*of, **options):
        with (tmp_path / ".model.safetensors.lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise FittedError

    def contents():
        return {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}

    output = teacher(tmp_path, packs, verification_packs, split)
    before = contents()
    assert set(before) == {"model.safetensors", "model.json", "history.csv"}
    (tmp_path / "checkpoint.pt").touch()  # as if killed just before it was removed
    monkeypatch.setattr("mstkd.training.step.fit", fit)
    teacher(tmp_path, packs, verification_packs, split)
    assert contents() == before

    for edit in ({"seed": 1}, {"recipe": 7}):
        with pytest.raises(FittedError):
            teacher(tmp_path, packs, verification_packs, split, **edit)
    for name in before:
        damaged = bytearray(before[name])
        damaged[-3] ^= 1
        output.with_name(name).write_bytes(damaged)
        with pytest.raises(FittedError):
            teacher(tmp_path, packs, verification_packs, split)
        output.with_name(name).write_bytes(before[name])
    fewer = tmp_path / "fewer" / split.name
    fewer.parent.mkdir()
    fewer.write_text(split.read_text().replace("A,A4\n", ""))
    with pytest.raises(FittedError):
        teacher(tmp_path, packs, verification_packs, fewer)
    assert contents() == before


def test_a_teacher_is_weights_record_and_history(tmp_path, packs, verification_packs, split):
    output = teacher(tmp_path, packs, verification_packs, split)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".kept",
        "events",
        "history.csv",
        "model.json",
        "model.safetensors",
    ]
    record = read_record(ModelRecord, output.with_suffix(".json"))
    assert record.subject == subject("T-A")
    assert record.inputs == {"A": open_pack(packs[0]).sha256}
    rows = rows_of(output)
    accuracies = [float(row["accuracy"]) for row in rows]
    assert record.chosen_epoch == 1 + accuracies.index(max(accuracies))
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([0.1 / 64, 0.01 / 64])
    model, _ = load_backbone(output)
    assert torch.all(model.features.weight == 1), "the last scale is frozen (D31)"


def test_a_teacher_that_stops_early_has_the_schedule_of_the_whole(
    tmp_path, packs, verification_packs, split
):
    """And its last epoch is looked at, though it is not one of every three."""
    whole = teacher_settings().optimiser.model_dump() | {"epochs": 4, "schedule_epochs": 4}
    looks = {"optimiser": whole | {"milestones": [2, 4]}, "selection": {"folds": 3}}
    long = teacher(tmp_path / "long", packs, verification_packs, split, **looks)
    rare = {**looks, "selection": {"folds": 3, "every_epochs": 3}}
    short = teacher(tmp_path / "short", packs, verification_packs, split, stop_after=2, **rare)
    assert len(rows_of(long)) == 4
    for first, row in zip(rows_of(long), rows_of(short), strict=False):
        assert (row["learning_rate"], row["loss"]) == (first["learning_rate"], first["loss"])
    assert [row["accuracy"] for row in rows_of(short)] == ["", rows_of(long)[1]["accuracy"]]
    record = read_record(ModelRecord, short.with_suffix(".json"))
    assert (record.chosen_epoch, record.settings["stop_after"]) == (2, 2)
    assert "stop_after" not in read_record(ModelRecord, long.with_suffix(".json")).settings


def test_a_seed_decides_every_byte(tmp_path, packs, verification_packs, split):
    made = [
        teacher(tmp_path / name, packs, verification_packs, split, seed=seed).read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0] == made[1]
    assert made[0] != made[2]


@pytest.fixture
def bound(monkeypatch):
    """What the checkpoint of a step is bound to; the step ends there."""

    class Stopped(Exception):  # noqa: N818
        pass

    runs = []

    def opened(output, run):
        runs.append(run)
        raise Stopped

    monkeypatch.setattr(step, "Checkpoint", opened)

    def bound(train, *given, **named):
        with pytest.raises(Stopped):
            train(*given, **named)
        return runs[-1]

    return bound


def test_a_teacher_s_checkpoint_is_of_all_that_it_is_made_from(
    tmp_path, packs, verification_packs, split, bound
):
    of, (a, b) = packs[:1], verification_packs
    (tmp_path / "fewer.csv").write_text("group,identity\nA,A0\nA,A1\n")
    runs = [
        bound(teacher, tmp_path, of, [a], split),
        bound(teacher, tmp_path, of, [b], split),
        bound(teacher, tmp_path, of, [a], tmp_path / "fewer.csv"),
        bound(teacher, tmp_path, of, [a], split, seed=1),
        bound(teacher, tmp_path, of, [a], split, head={"margin": 0.4}),
    ]
    assert len({*runs}) == len(runs)
    assert bound(teacher, tmp_path / "elsewhere", of, [a], split) == runs[0]


def test_a_student_s_checkpoint_is_of_all_that_it_is_made_from(
    tmp_path, packs, verification_packs, fused, bound
):
    cache, adaptor = fused
    alone = student_settings(kd_weight=0.0)
    runs = [
        bound(student, tmp_path, packs, verification_packs, cache, adaptor),
        bound(student, tmp_path, packs, verification_packs[:1], cache, adaptor),
        bound(student, tmp_path, packs[::-1], verification_packs, None, None, alone),
        bound(student, tmp_path, packs, verification_packs, None, None, alone),
        bound(student, tmp_path, packs, verification_packs, cache, adaptor, student_settings(1.0)),
        bound(student, tmp_path, packs, verification_packs, cache, adaptor, set_="baseline"),
    ]
    assert len({*runs}) == len(runs)
    assert bound(student, tmp_path / "x", packs, verification_packs, cache, adaptor) == runs[0]


@pytest.mark.parametrize("kept", ["head", "classification"])
def test_a_head_goes_with_classification(kept):
    settings = student_settings().model_dump()
    if kept == "head":
        settings["loss"]["classification"] = False
    else:
        del settings["head"]
    with pytest.raises(ValueError, match="head where the loss has classification, and nowhere"):
        StudentSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("same", "message"),
    [
        ((True, False), "found 2 pairs; expected 3 folds"),
        ((True,) * 3, "found genuine pairs only; expected genuine and impostor pairs"),
    ],
)
def test_pairs_that_no_epoch_can_be_chosen_by_are_refused_before_the_first(
    tmp_path, packs, split, same, message
):
    chosen = bin_pack(tmp_path, "A", same)
    with pytest.raises(InputError, match=message):
        teacher(tmp_path / "t", packs, [chosen], split, selection={"folds": 3})
    assert not list((tmp_path / "t").rglob("*.pt"))


def test_last_looks_at_no_pair(tmp_path, packs, split):
    output = teacher(tmp_path, packs, [], split, selection={"rule": "last"})
    record = read_record(ModelRecord, output.with_suffix(".json"))
    assert (record.chosen_epoch, record.chosen_by) == (2, "the last epoch")


@pytest.mark.parametrize("name", ["SL", "DuL", "DLDP"])
def test_an_adaptor_keeps_its_epoch_of_lowest_loss(tmp_path, fused, name):
    output = tmp_path / "model.safetensors"
    train_adaptor(
        adaptor_settings(name),
        subject=subject(name, kind="adaptor"),
        cache=fused[0],
        output=output,
        device="cpu",
    )
    record = read_record(ModelRecord, output.with_suffix(".json"))
    losses = [float(row["loss"]) for row in rows_of(output)]
    assert record.chosen_epoch == 1 + losses.index(min(losses))
    cache = open_cache(fused[0])
    assert record.inputs == {
        "embeddings": cache.sha256,
        "teachers": fingerprint(*cache.weights),
    }
    model, _ = load_adaptor(output, teachers=2)
    assert model(torch.zeros(3, 2 * DIM)).shape == (3, DIM)


def test_the_logged_loss_is_equation_5(tmp_path, packs, verification_packs, fused):
    output = student(tmp_path, packs, verification_packs, *fused)
    for row in rows_of(output):
        head, kd, loss = (float(row[name]) for name in ("head", "kd", "loss"))
        assert loss == pytest.approx(head + 10000 * kd, rel=1e-5)
        # Equation 4 on unit vectors: the mean over D of squares is 2 / D * (1 - cosine).
        assert kd == pytest.approx(2 / DIM * (1 - float(row["cosine_to_target"])), rel=1e-3)


def test_students_trained_together_are_those_trained_alone(
    tmp_path, packs, verification_packs, fused
):
    cache, adaptor = fused
    kinds = {"EAF-KD": student_settings(), "a-KD": student_settings(classification=False)}
    jobs = [
        Student(
            settings,
            subject("SL", kind="student", loss=loss),
            adaptor,
            tmp_path / "together" / loss / "model.safetensors",
        )
        for loss, settings in kinds.items()
    ]
    shared = {"packs": packs, "selection": verification_packs, "cache": cache, "device": "cpu"}
    train_students(jobs, **shared)
    for job in jobs:
        alone = tmp_path / "alone" / job.subject.loss / "model.safetensors"
        train_student(job.settings, subject=job.subject, adaptor=adaptor, output=alone, **shared)
        for name in ("model.safetensors", "model.json"):
            assert job.output.with_name(name).read_bytes() == alone.with_name(name).read_bytes()
    other = student_settings().model_copy(
        update={"optimiser": jobs[0].settings.optimiser.model_copy(update={"epochs": 3})}
    )
    strangers = [jobs[0], replace(jobs[1], settings=other)]
    with pytest.raises(InputError, match=r"SL a-KD: optimiser: found .*epochs=3"):
        train_students(strangers, **shared)


@pytest.mark.parametrize("optimisation", [{"precision": "bfloat16"}, {"compile": "default"}])
def test_another_engine_computes_nearly_the_same(
    tmp_path, packs, verification_packs, split, optimisation, monkeypatch
):
    if "compile" in optimisation and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    # Else PyTorch's own worker processes stay until this one ends.
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # Else what an earlier run of the tests compiled is taken, and a compiler that fails unseen.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    plain = teacher(tmp_path / "plain", packs, verification_packs, split)
    other = teacher(tmp_path / "other", packs, verification_packs, split, engine=optimisation)
    assert plain.read_bytes() != other.read_bytes(), "the engine was not used"
    for row, expected in zip(rows_of(other), rows_of(plain), strict=True):
        assert float(row["loss"]) == pytest.approx(float(expected["loss"]), rel=0.02)
    weights = safetensors.torch.load_file(other)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32, torch.int64}
    for name, tensor in safetensors.torch.load_file(plain).items():
        torch.testing.assert_close(weights[name], tensor, atol=0.02, rtol=0.02)


def test_the_target_is_the_fused_embedding_of_the_same_image(packs, fused):
    from mstkd.training.student import _fused_targets

    cache, adaptor = fused
    opened = [open_pack(path) for path in packs]
    target, _ = _fused_targets(student_settings(), [cache], adaptor, opened, torch.device("cpu"))
    weights = safetensors.torch.load_file(adaptor)
    rows = torch.tensor([31, 0, 17])
    block = torch.from_numpy(open_cache(cache).embeddings).double()[rows]
    expected = block @ weights["fc.weight"].double().T + weights["fc.bias"].double()
    expected /= expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(target({"rows": rows}).double(), expected, atol=1e-3, rtol=0)


def test_controls_learn_without_adaptor_or_without_teacher(tmp_path, packs, verification_packs):
    alone = student(
        tmp_path / "alone",
        packs,
        verification_packs,
        None,
        None,
        student_settings(kd_weight=0.0),
        set_="none",
    )
    assert set(rows_of(alone)[0]) == {
        "epoch",
        "learning_rate",
        "loss",
        "head",
        "accuracy",
    }
    one = save_teacher(tmp_path, subject("T-all", set_="single"), packs)
    cache = tmp_path / "single.h5"
    cache_embeddings(CacheSettings(), teachers=[one], packs=packs, output=cache, device="cpu")
    settings = student_settings(classification=False)
    taught = student(
        tmp_path / "one", packs, verification_packs, cache, None, settings, set_="single"
    )
    assert "head" not in rows_of(taught)[0]


def test_a_student_of_things_that_do_not_belong_together(
    tmp_path, packs, verification_packs, fused
):
    cache, adaptor = fused
    cases = [
        (None, adaptor, packs, "--cache: found nothing"),
        (cache, None, packs, "targets of 16 dimensions; expected 8"),
        (cache, adaptor, packs[::-1], "stale or of other data"),
    ]
    for given_cache, given_adaptor, given_packs, message in cases:
        with pytest.raises(InputError, match=message):
            student(tmp_path, given_packs, verification_packs, given_cache, given_adaptor)
    other = tmp_path / "other.h5"
    teachers = [
        save_teacher(tmp_path, subject("T-A"), packs[:1], weights_seed=3),
        save_teacher(tmp_path, subject("T-B"), packs[1:], weights_seed=4),
    ]
    cache_embeddings(CacheSettings(), teachers=teachers, packs=packs, output=other, device="cpu")
    with pytest.raises(InputError, match="an adaptor of other embeddings"):
        student(tmp_path, packs, verification_packs, other, adaptor)


def test_a_diverging_run_leaves_its_checkpoint(tmp_path, packs, verification_packs, split):
    optimiser = TWO_EPOCHS | {"lr": 1e30, "lr_scaling": "none", "gradient_norm": 1e30}
    with pytest.raises(InputError, match=r"a loss that is not finite in step \d+ \(epoch 1; "):
        teacher(tmp_path, packs, verification_packs, split, optimiser=optimiser)
    assert not (tmp_path / "model.safetensors").exists()
