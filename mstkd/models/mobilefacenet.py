"""MobileFaceNet, a backbone for devices without much room (Chen et al., 2018, Table 1).

A twentieth of IResNet-34's parameters and multiply-adds. Each channel is convolved by itself
between convolutions of single pixels, and the last map is weighed pixel by pixel, since the corners
of a face tell less than its middle. Shapes: B batch, H side of the image in pixels, D embedding
dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from mstkd.models.backbone import Backbone, fold_pair
from mstkd.models.iresnet import PReLU

DOWNSCALING = 16
LAST = 512  # channels of the last map


class Stage(NamedTuple):
    """Bottlenecks of one width, the first of which may halve the side."""

    expansion: int
    width: int
    blocks: int
    stride: int


STEM = 64
STAGES = (
    Stage(2, 64, 5, 2),
    Stage(4, 128, 1, 2),
    Stage(2, 128, 6, 1),
    Stage(4, 128, 1, 2),
    Stage(2, 128, 2, 1),
)


class Convolution(nn.Module):
    """Convolution, batch normalisation and, unless it is linear, PReLU.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: side of the kernel.
        stride: as of a convolution.
        padding: likewise.
        alone: whether each channel is convolved by itself.
        linear: whether there is no PReLU.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        alone: bool = False,
        linear: bool = False,
    ) -> None:
        super().__init__()
        groups = inputs if alone else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.prelu = nn.Identity() if linear else PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.prelu(self.bn(self.conv(x)))
        return out


class Bottleneck(nn.Module):
    """Expansion, convolution of each channel, and a linear projection; with a shortcut."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.layers = nn.Sequential(
            Convolution(inputs, inner),
            Convolution(inner, inner, 3, stride=stride, padding=1, alone=True),
            Convolution(inner, outputs, linear=True),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return x + out if self.shortcut else out


class MobileFaceNet(Backbone):
    """Images (B, 3, H, H) in [-1, 1] to embeddings (B, D), not yet normalised.

    Args:
        embedding_dim: D.
        dropout: probability before the last layer.
        image_size: H in pixels, a multiple of 16.

    Raises:
        ValueError: `image_size` is not a positive multiple of 16.
    """

    def __init__(
        self, *, embedding_dim: int = 512, dropout: float = 0.0, image_size: int = 112
    ) -> None:
        super().__init__()
        if image_size < DOWNSCALING or image_size % DOWNSCALING:
            raise ValueError(f"image_size {image_size} is not a positive multiple of {DOWNSCALING}")
        layers: list[nn.Module] = [
            Convolution(3, STEM, 3, stride=2, padding=1),
            Convolution(STEM, STEM, 3, padding=1, alone=True),
        ]
        inputs = STEM
        for expansion, width, blocks, stride in STAGES:
            layers.append(Bottleneck(inputs, width, expansion, stride))
            layers += [Bottleneck(width, width, expansion, 1) for _ in range(blocks - 1)]
            inputs = width
        self.layers = nn.Sequential(
            *layers,
            Convolution(inputs, LAST),
            Convolution(LAST, LAST, image_size // DOWNSCALING, alone=True, linear=True),
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(LAST, embedding_dim, bias=False)
        self.features = nn.BatchNorm1d(embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.flatten(self.layers(self.preprocessing(images)), 1)  # (B, 512)
        embeddings: Tensor = self.features(self.fc(self.dropout(x)))  # (B, D)
        return embeddings

    def fold(self) -> None:
        """Every batch normalisation but the last becomes part of the convolution before it."""
        for module in self.modules():
            if isinstance(module, Convolution):
                fold_pair(module, "conv", "bn")
