"""The plain ways that ours are compared with, written straight from their descriptions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mstkd.models.iresnet import IResNet, PReLU


class TextbookHead(nn.Module):
    """Equation 3 written straight down: unit copies of both sides, a (B, C) matrix of margins,
    and arccos and cos of every logit."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(dim, classes))
        nn.init.normal_(self.kernel, std=0.01)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        unit = embeddings / torch.norm(embeddings, 2, 1, True)
        kernel = self.kernel / torch.norm(self.kernel, 2, 0, True)
        cosine = torch.mm(unit, kernel).clamp(-1, 1)  # (B, C)
        rows = torch.where(labels != -1)[0]
        margins = torch.zeros(len(rows), cosine.shape[1], device=cosine.device)  # (B, C)
        drawn = torch.normal(0.5, 0.05, (len(rows), 1), device=cosine.device)
        margins.scatter_(1, labels[rows, None], drawn)
        cosine.acos_()
        cosine[rows] += margins
        return cosine.cos_().mul_(64.0)


def textbook_network(network: IResNet) -> IResNet:
    """The same network with PyTorch's own PReLU, in PyTorch's own layout (NCHW)."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PReLU):
                setattr(module, name, nn.PReLU(child.num_parameters))
    return network.to(memory_format=torch.contiguous_format)


class JpegImages(Dataset[tuple[Tensor, int]]):
    """Each image opened, decoded, flipped and normalised by itself: torchvision's transforms."""

    def __init__(self, paths: Sequence[Path], classes: int) -> None:
        self._paths, self._classes = paths, classes
        self._transform = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
            ]
        )

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self._paths[row]) as image:
            return self._transform(image.convert("RGB")), row % self._classes


class NpyEmbeddings(Dataset[tuple[Tensor, int]]):
    """A .npy file a teacher and sample, loaded and concatenated when the sample is asked for."""

    def __init__(self, folders: Sequence[Path], samples: int, classes: int) -> None:
        self._folders, self._samples, self._classes = folders, samples, classes

    def __len__(self) -> int:
        return self._samples

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        parts = [np.load(folder / f"{row}.npy") for folder in self._folders]
        return torch.from_numpy(np.concatenate(parts)), row % self._classes


def endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    return itertools.chain.from_iterable(itertools.repeat(loader))


class TextbookStep:
    """Forward, cross entropy, backward, clipping and SGD, float32 throughout."""

    def __init__(self, network: nn.Module, head: nn.Module, *, lr: float) -> None:
        self._network, self._head = network.train(), head
        parameters = [*network.parameters(), *head.parameters()]
        self._optimiser = torch.optim.SGD(
            [one for one in parameters if one.requires_grad],
            lr=lr,
            momentum=0.9,
            weight_decay=5e-4,
        )

    def __call__(self, inputs: Tensor, labels: Tensor) -> None:
        logits = self._head(self._network(inputs), labels)
        loss = nn.functional.cross_entropy(logits, labels)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), 5.0)
        self._optimiser.step()
