"""What any backbone is: a network that embeds faces.

Shapes: B batch, H side of the image in pixels, D embedding dimension.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.flop_counter import FlopCounterMode

from mstkd.artifacts.records import NetworkSize
from mstkd.config import InputSettings
from mstkd.config.inference import mean_and_std

HALF_RANGE = 127.5  # a pixel of 0 to 255 is that many times 1 + its value in [-1, 1]


class Preprocessing(nn.Module):
    """What another program did to images before its network saw them.

    Takes this package's images (B, 3, H, H) in [-1, 1] and RGB; one of the usual things is to do
    nothing but what was done already.

    Args:
        mean: of R, G and B, pixels of 0 to 255, subtracted.
        std: of the same, divided by.
        bgr: whether its channels come in the order of OpenCV.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, bgr: bool) -> None:
        super().__init__()
        means, stds = (torch.tensor(one, dtype=torch.float64)[:, None, None] for one in (mean, std))
        self.bgr = bgr
        # Not of the state dict: they are no weights, and stand in the record.
        self.register_buffer("scale", (HALF_RANGE / stds).float(), persistent=False)
        self.register_buffer("offset", ((HALF_RANGE - means) / stds).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        seen = images * self.get_buffer("scale") + self.get_buffer("offset")
        return seen.flip(1) if self.bgr else seen


class Backbone(nn.Module):
    """Images (B, 3, H, H) in [-1, 1], RGB, to embeddings (B, D), not yet normalised."""

    fc: nn.Linear  # whose outputs the embeddings are, but for their normalisation

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing: nn.Module = nn.Identity()  # but of networks that others trained

    @property
    def embedding_dim(self) -> int:
        return self.fc.out_features

    def show(self, seen: InputSettings) -> None:
        """From now on, show it the same images in its own colours and range."""
        mean, std = mean_and_std(seen.normalisation)
        foreign = Preprocessing(mean, std, bgr=seen.colours == "bgr")
        self.preprocessing = foreign if seen.is_foreign() else nn.Identity()

    def fuse_norms(self) -> None:
        """From now on, normalise and activate in one operation where there is one for it."""

    def fold(self) -> None:
        """Make batch normalisations part of the convolutions before them, where that can be."""


AnyBackbone = TypeVar("AnyBackbone", bound=Backbone)


def folded(model: AnyBackbone) -> AnyBackbone:
    """A copy in evaluation mode that computes the same in less time, but for rounding."""
    model = copy.deepcopy(model).eval()
    model.fold()
    return model


def fold_pair(holder: nn.Module, convolution: str, normalisation: str) -> None:
    """Make a module's batch normalisation part of its convolution, and put nothing in its place.

    That of a convolution's output, not of its input: padding is zeros only after the latter.
    """
    before, after = holder.get_submodule(convolution), holder.get_submodule(normalisation)
    assert isinstance(before, nn.Conv2d), "a convolution"
    assert isinstance(after, nn.modules.batchnorm._BatchNorm), "a batch normalisation"
    holder.add_module(convolution, fuse_conv_bn_eval(before, after))
    holder.add_module(normalisation, nn.Identity())


def flops(module: nn.Module, *inputs: Tensor) -> int:
    """Floating-point operations of one forward pass in evaluation mode; a product counts 2."""
    training = module.training
    module.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    module.train(training)
    return int(counter.get_total_flops())


def parameters_of(module: nn.Module) -> int:
    """How many numbers a module has that training may change."""
    return sum(parameter.numel() for parameter in module.parameters())


def size_of(model: Backbone, image_size: int) -> NetworkSize:
    """What a network weighs, and takes on images of that size."""
    operations = flops(model, torch.zeros(1, 3, image_size, image_size))
    return NetworkSize(parameters=parameters_of(model), multiply_adds=operations // 2)
