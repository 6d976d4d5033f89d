"""Small models on disk, as a training step would leave them."""

import numpy as np
import torch

from mstkd.artifacts.records import Subject
from mstkd.config import BackboneSettings, CacheSettings, TeacherSettings
from mstkd.data.pack import open_pack
from mstkd.embeddings.cache import cache_embeddings, open_cache
from mstkd.models.adaptors import ADAPTORS
from mstkd.models.weights import build_backbone, load_backbone, save_model

DIM = 8
TEACHERS = ("T-A", "T-B")  # whose adaptors `save_adaptor` makes
BACKBONE = BackboneSettings(blocks=(1, 1, 1, 1), widths=(4, 4, 4, 4))


def subject(name, *, kind="teacher", set_="specialized", backbone="tiny", seed=0, loss=None):
    return Subject(kind=kind, backbone=backbone, set=set_, name=name, seed=seed, loss=loss)


def save_teacher(folder, who, packs, *, dim=DIM, size=16, weights_seed=None):
    """A randomly initialised teacher of the given packs; gives its path."""
    torch.manual_seed(hash(who.name) % 1000 if weights_seed is None else weights_seed)
    model = build_backbone(BACKBONE, embedding_dim=dim, image_size=size)
    # Running statistics other than 0 and 1, else evaluation mode would hide a mistake.
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    output = folder / who.set / who.name / f"seed{who.seed}" / "model.safetensors"
    save_model(
        output,
        state=model.state_dict(),
        history=[{"epoch": 1, "learning_rate": 0.1, "loss": 1.0, "accuracy": 50.0}],
        subject=who,
        settings={
            "embedding_dim": dim,
            "backbone": BACKBONE.model_dump(mode="json", exclude_none=True),
        },
        image_size=size,
        inputs={pack.group: pack.sha256 for pack in map(open_pack, packs)},
        chosen_epoch=1,
        chosen_by="the last epoch",
    )
    return output


def teacher_settings(**edits):
    """Two epochs of a tiny teacher."""
    return TeacherSettings.model_validate(
        {
            "embedding_dim": DIM,
            "backbone": BACKBONE,
            "optimiser": {"epochs": 2, "batch_size": 8, "milestones": [2], "schedule_epochs": 2},
            "head": {},
            "selection": {"folds": 2},
        }
        | edits
    )


def save_adaptor(folder, name, cache, *, planted=None, **who):
    """An adaptor with random weights, or one that reads the block of one teacher alone."""
    torch.manual_seed(7)
    adaptor = ADAPTORS[name](len(TEACHERS), DIM)
    first = adaptor.fc if name == "SL" else adaptor.fc1
    if planted is not None:
        with torch.no_grad():
            first.weight.reshape(DIM, len(TEACHERS), DIM)[:, 1 - planted] = 0
            for layer in (first, getattr(adaptor, "fc2", first)):
                layer.bias.zero_()
    output = folder / name / "seed0/model.safetensors"
    save_model(
        output,
        state=adaptor.state_dict(),
        history=[{"epoch": 1, "learning_rate": 0.1, "loss": 1.0}],
        subject=subject(name, kind="adaptor", **who),
        settings={
            "embedding_dim": DIM,
            "adaptor": {"architecture": name},
            "optimiser": {"epochs": 1, "lr": 0.1, "milestones": [], "schedule_epochs": 1},
            "head": {},
        },
        image_size=None,
        inputs={"embeddings": open_cache(cache).sha256},
        chosen_epoch=1,
        chosen_by="the only epoch",
        sources={cache: open_cache(cache).sha256},
    )
    return output


def tell_apart(path, pack):
    """Let a random network's embeddings spread: it sees all faces nearly alike."""
    model, record = load_backbone(path)
    images = torch.from_numpy(np.array(open_pack(pack).images)).permute(0, 3, 1, 2) / 127.5 - 1
    seen = []
    model.features.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(images)
    model.features.running_mean.copy_(seen[0].mean(dim=0))
    model.features.running_var.copy_(seen[0].var(dim=0))
    kept = {name: getattr(record, name) for name in ("subject", "settings", "image_size", "inputs")}
    history = [{"epoch": 1, "learning_rate": 0.1, "loss": 1.0, "accuracy": 50.0}]
    chosen = {"chosen_epoch": 1, "chosen_by": "the last epoch"}
    save_model(path, state=model.state_dict(), history=history, **kept, **chosen)
    return path


def save_teachers(folder, packs):
    """Weights of `TEACHERS`, of a pack each, whose embeddings spread, and their float32 cache."""
    teachers = [
        tell_apart(
            save_teacher(folder, subject(name), packs[place : place + 1], weights_seed=place),
            packs[0],
        )
        for place, name in enumerate(TEACHERS)
    ]
    cache = folder / "cache.h5"
    settings = CacheSettings(dtype="float32")
    cache_embeddings(settings, teachers=teachers, packs=packs, output=cache, device="cpu")
    return teachers, cache
