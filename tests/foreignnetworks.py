"""Networks as other programs have them, written from their papers: what imports are compared with.

None of it shares a line with `mstkd.models`: PyTorch's own layers, in the order in which ArcFace's
IResNet and AdaFace's IR have them, under the names that their checkpoints hold.
"""

import torch
from torch import nn

BLOCKS, WIDTHS, DIM, SIDE = (2, 1, 3, 1), (4, 6, 8, 10), 12, 32


class ArcFaceBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(n) for n in (inputs, outputs, outputs))
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        return self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))) + shortcut


class ArcFace(nn.Module):
    """iresnet of insightface's arcface_torch, as ElasticFace and MST-KD took it over."""

    def __init__(self, blocks=BLOCKS, widths=WIDTHS, dim=DIM, side=SIDE):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(widths[0]), nn.PReLU(widths[0])
        before = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
            steps = [ArcFaceBlock(before, width, 2)]
            steps += [ArcFaceBlock(width, width, 1) for _ in range(count - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(*steps))
            before = width
        self.bn2, self.dropout = nn.BatchNorm2d(before), nn.Dropout(0.4)
        self.fc, self.features = nn.Linear(before * (side // 16) ** 2, dim), nn.BatchNorm1d(dim)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.dropout(torch.flatten(self.bn2(x), 1))))


class AdaFaceBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return self.res_layer(x) + self.shortcut_layer(x)


class AdaFace(nn.Module):
    """IR of AdaFace's net.py; embeddings of unit length and their norms."""

    def __init__(self, blocks=BLOCKS, widths=WIDTHS, dim=DIM, side=SIDE):
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, widths[0], 3, 1, 1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.PReLU(widths[0]),
        )
        steps, before = [], widths[0]
        for count, width in zip(blocks, widths, strict=True):
            for number in range(count):
                steps.append(AdaFaceBlock(before, width, 1 if number else 2))
                before = width
        self.body = nn.Sequential(*steps)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(before * (side // 16) ** 2, dim),
            nn.BatchNorm1d(dim, affine=False),
        )

    def forward(self, x):
        x = self.output_layer(self.body(self.input_layer(x)))
        norm = torch.norm(x, 2, 1, True)
        return x / norm, norm


class SingleLayer(nn.Module):
    """MST-KD's FC_mapping."""

    def __init__(self, teachers=4, dim=DIM):
        super().__init__()
        self.fc = nn.Linear(teachers * dim, dim)

    def forward(self, x):
        return self.fc(x)


class DualLayer(nn.Module):
    """MST-KD's DualLayer_Adaptor, with the attention that it registers and does not use."""

    def __init__(self, teachers=4, dim=DIM, batch=128):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(teachers * dim, dim), nn.Linear(dim, dim)
        self.attention = nn.MultiheadAttention(dim, 1)
        self.key_vector = nn.Parameter(torch.randn(batch, dim))
        self.value_vector = nn.Parameter(torch.randn(batch, dim))
        self.drop = nn.Dropout(0.2)

    def forward(self, x):
        return self.fc2(nn.functional.leaky_relu(self.drop(self.fc1(x)), 0.01))


def trained(network, seed=0):
    """The network in evaluation mode, with numbers everywhere as training leaves them."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                uniform(module.running_mean, -0.5, 0.5)
                uniform(module.running_var, 0.5, 2)
                module.num_batches_tracked.fill_(1000)
                if module.affine:
                    uniform(module.weight, 0.5, 1.5)
                    uniform(module.bias, -0.5, 0.5)
            elif isinstance(module, nn.PReLU):
                uniform(module.weight, -0.2, 0.5)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                uniform(module.weight, -0.5, 0.5)
    return network.eval()
