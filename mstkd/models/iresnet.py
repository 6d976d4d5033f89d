"""IResNet, the backbone of the paper's teachers and students (section 4.2).

The improved residual network of ArcFace (Deng et al., 2019, section 3.1): a 3x3 stem without
pooling, blocks BN-conv-BN-PReLU-conv-BN, and the embedding as batch-normalised output of one
fully connected layer. Parameters carry the names of the public implementations, so their
weights load. Shapes: B batch, H side of the image in pixels, D embedding dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from mstkd.models import fused_norm
from mstkd.models.backbone import Backbone, fold_pair

# Of the public implementations: blocks per stage of the named networks.
BLOCKS = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
}
WIDTHS = (64, 128, 256, 512)
DOWNSCALING = 16
BATCH_NORM_EPS = 1e-5  # of PyTorch and of all public implementations


class PReLU(nn.PReLU):
    """PReLU whose backward pass on a CPU does without branches; the same numbers."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return super().forward(x)
        return _BranchlessPReLU.apply(x, self.weight)


class _BranchlessPReLU(torch.autograd.Function):
    """PyTorch's own backward pass branches on each sign, which a processor cannot foresee."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.prelu(x, slope)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(grad, x, 0)  # 0 where x <= 0
        below = grad - above
        of_slope = (below * x).sum((0, 2, 3))
        return above.addcmul_(below, slope[:, None, None]), of_slope


class BatchNorm2d(nn.BatchNorm2d):
    """PyTorch's, but for the count of batches, which `IResNet` adds to all of its own at once."""

    def forward(self, x: Tensor) -> Tensor:
        return _normalised(self, x)


class BatchNorm1d(nn.BatchNorm1d):
    """As `BatchNorm2d`, of (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return _normalised(self, x)


def _normalised(layer: BatchNorm2d | BatchNorm1d, x: Tensor) -> Tensor:
    return functional.batch_norm(
        x,
        layer.running_mean,
        layer.running_var,
        layer.weight,
        layer.bias,
        layer.training,
        layer.momentum or 0.0,
        layer.eps,
    )


def _activated(norm: nn.Module, prelu: nn.PReLU, x: Tensor, *, fused: bool) -> Tensor:
    """PReLU of the normalised x, by one operation where that is asked for and x is one for it."""
    # Neither one that ranks share nor one that has been folded away.
    if fused and isinstance(norm, BatchNorm2d) and fused_norm.takes(x):
        return fused_norm.norm_prelu(x, norm, prelu)
    activated: Tensor = prelu(norm(x))
    return activated


class Block(nn.Module):
    """One residual block; the second convolution carries the stride."""

    fused_norm = False

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(outputs)
        self.prelu = PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn3 = BatchNorm2d(outputs)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv1(self.bn1(x))
        x = _activated(self.bn2, self.prelu, x, fused=self.fused_norm)
        return self.bn3(self.conv2(x)) + shortcut


class IResNet(Backbone):
    """Images (B, 3, H, H) in [-1, 1] to embeddings (B, D), not yet normalised.

    Args:
        blocks: blocks in each of the four stages.
        widths: channels of each of the four stages.
        embedding_dim: D.
        dropout: probability before the fully connected layer.
        image_size: H in pixels, a multiple of 16.

    Raises:
        ValueError: `image_size` is not a positive multiple of 16.
    """

    fused_norm = False

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        widths: Sequence[int] = WIDTHS,
        embedding_dim: int = 512,
        dropout: float = 0.0,
        image_size: int = 112,
    ) -> None:
        super().__init__()
        if image_size < DOWNSCALING or image_size % DOWNSCALING:
            raise ValueError(f"image_size {image_size} is not a positive multiple of {DOWNSCALING}")
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(widths[0])
        self.prelu = PReLU(widths[0])
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layers = [Block(inputs, width, stride=2)]
            layers += [Block(width, width, stride=1) for _ in range(count - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
            inputs = width
        self.bn2 = BatchNorm2d(inputs)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs * (image_size // DOWNSCALING) ** 2, embedding_dim)
        self.features = BatchNorm1d(embedding_dim)
        # As in the public implementations: the scale of the last normalisation stays at one,
        # since the embedding's length carries no identity.
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.1)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            # One operation where the layers' own would be one each.
            layers = [m for m in self.modules() if isinstance(m, BatchNorm2d | BatchNorm1d)]
            counts = [m.num_batches_tracked for m in layers if m.num_batches_tracked is not None]
            if counts:  # those that ranks share count by themselves
                torch._foreach_add_(counts, 1)
        x = self.conv1(self.preprocessing(images))  # (B, widths[0], H, H)
        x = _activated(self.bn1, self.prelu, x, fused=self.fused_norm)
        x = self.get_submodule("layer1")(x)  # each stage halves the side
        x = self.get_submodule("layer2")(x)
        x = self.get_submodule("layer3")(x)
        x = self.get_submodule("layer4")(x)
        x = self.dropout(self.bn2(x))  # (B, widths[3], H / 16, H / 16)
        return self.features(self.fc(torch.flatten(x, 1)))  # (B, D)

    def fuse_norms(self) -> None:
        """Large tensors are normalised and activated by `fused_norm`, stem and blocks."""
        for module in self.modules():
            if isinstance(module, IResNet | Block):
                module.fused_norm = True

    def fold(self) -> None:
        """Batch normalisations of convolutions' outputs go; those of their inputs stay."""
        fold_pair(self, "conv1", "bn1")
        for block in [module for module in self.modules() if isinstance(module, Block)]:
            fold_pair(block, "conv1", "bn2")
            fold_pair(block, "conv2", "bn3")
            if block.downsample is not None:
                fold_pair(block.downsample, "0", "1")


def iresnet18(embedding_dim: int = 512, dropout: float = 0.0) -> IResNet:
    """IResNet-18 for 112x112 images, 24.0 million parameters."""
    return IResNet(BLOCKS["iresnet18"], embedding_dim=embedding_dim, dropout=dropout)


def iresnet34(embedding_dim: int = 512, dropout: float = 0.0) -> IResNet:
    """IResNet-34 for 112x112 images, 34.1 million parameters; the paper's student."""
    return IResNet(BLOCKS["iresnet34"], embedding_dim=embedding_dim, dropout=dropout)


def iresnet50(embedding_dim: int = 512, dropout: float = 0.0) -> IResNet:
    """IResNet-50 for 112x112 images, 43.6 million parameters; the public code uses dropout 0.4."""
    return IResNet(BLOCKS["iresnet50"], embedding_dim=embedding_dim, dropout=dropout)


def iresnet100(embedding_dim: int = 512, dropout: float = 0.0) -> IResNet:
    """IResNet-100 for 112x112 images, 65.2 million parameters."""
    return IResNet(BLOCKS["iresnet100"], embedding_dim=embedding_dim, dropout=dropout)
