"""Any image network of timm as a backbone, by its name there (PyTorch Image Models)."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch
from torch import Tensor, nn

from mstkd.errors import InputError
from mstkd.models.backbone import Backbone


class Timm(Backbone):
    """Images (B, 3, H, H) in [-1, 1] to embeddings (B, D), not yet normalised.

    The network's pooled features go through one fully connected layer and a batch normalisation, as
    those of the other backbones do. Its weights are drawn anew: none are downloaded.

    Args:
        name: of timm's models, as `resnet18`.
        embedding_dim: D.
        dropout: probability before the fully connected layer.
        image_size: H in pixels.

    Raises:
        InputError: timm is not installed, or has no such network or none for images of that size.
    """

    def __init__(
        self, name: str, *, embedding_dim: int = 512, dropout: float = 0.0, image_size: int = 112
    ) -> None:
        super().__init__()
        try:
            timm = importlib.import_module("timm")
        except ImportError:
            expected = "timm: pip install 'mstkd[timm]'"
            raise InputError(f"timm: {name}", found="no such module", expected=expected) from None
        if name not in timm.list_models():
            expected = "a name that timm.list_models() has"
            raise InputError("timm", found=name, expected=expected)
        self.body = self._built(timm, name, image_size)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(self._features(name, image_size), embedding_dim)
        self.features = nn.BatchNorm1d(embedding_dim)

    @staticmethod
    def _built(timm: ModuleType, name: str, image_size: int) -> nn.Module:
        try:
            body: nn.Module = timm.create_model(
                name, pretrained=False, num_classes=0, img_size=image_size
            )
        except TypeError:  # a network of convolutions takes images of any size and is told none
            body = timm.create_model(name, pretrained=False, num_classes=0)
        return body

    def _features(self, name: str, image_size: int) -> int:
        """How many features the body gives; that it takes images of that size."""
        training = self.body.training
        try:
            with torch.no_grad():
                seen = next(self.body.parameters()).new_empty(1, 3, image_size, image_size)
                given = self.body.eval()(seen)
        except Exception as error:
            found = (str(error).strip() or type(error).__name__).splitlines()[0]
            expected = f"a network of images of {image_size} x {image_size} pixels"
            raise InputError(f"timm: {name}", found=found, expected=expected) from None
        self.body.train(training)
        return int(given.shape[-1])

    def forward(self, images: Tensor) -> Tensor:
        seen = self.body(self.preprocessing(images))
        embeddings: Tensor = self.features(self.fc(self.dropout(seen)))  # (B, D)
        return embeddings
