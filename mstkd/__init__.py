"""Fair face recognition by multi-teacher knowledge distillation (MST-KD).

The names of `__all__` are imported when they are first asked for: `import mstkd` loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mstkd.config import read_config
    from mstkd.data.pack import open_pack
    from mstkd.embeddings.embed import embed_with_mirror
    from mstkd.errors import InputError
    from mstkd.evaluation.auditing.audit import audit
    from mstkd.evaluation.fairness import summarize
    from mstkd.evaluation.verification import kfold_accuracy
    from mstkd.inference.loading import load
    from mstkd.inference.model import FaceModel
    from mstkd.losses.distillation import kd_loss
    from mstkd.losses.heads import ElasticArcFace
    from mstkd.models.adaptors import DLDP, SL, DuL
    from mstkd.models.iresnet import iresnet34
    from mstkd.models.weights import load_backbone

__version__ = "0.1.0"
__all__ = [
    "DLDP",
    "SL",
    "DuL",
    "ElasticArcFace",
    "FaceModel",
    "InputError",
    "audit",
    "embed_with_mirror",
    "iresnet34",
    "kd_loss",
    "kfold_accuracy",
    "load",
    "load_backbone",
    "open_pack",
    "read_config",
    "summarize",
]
_MODULES = {
    "DLDP": "models.adaptors",
    "SL": "models.adaptors",
    "DuL": "models.adaptors",
    "ElasticArcFace": "losses.heads",
    "FaceModel": "inference.model",
    "InputError": "errors",
    "audit": "evaluation.auditing.audit",
    "embed_with_mirror": "embeddings.embed",
    "iresnet34": "models.iresnet",
    "kd_loss": "losses.distillation",
    "kfold_accuracy": "evaluation.verification",
    "load": "inference.loading",
    "load_backbone": "models.weights",
    "open_pack": "data.pack",
    "read_config": "config",
    "summarize": "evaluation.fairness",
}


if not TYPE_CHECKING:  # a checker would take any name for one that is there

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
