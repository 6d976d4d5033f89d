"""Small models on disk, as a training step would leave them."""

import torch

from mstkd.artifacts.records import Subject
from mstkd.config import BackboneSettings, TeacherSettings
from mstkd.data.pack import open_pack
from mstkd.models.weights import build_backbone, save_model

DIM = 8
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
