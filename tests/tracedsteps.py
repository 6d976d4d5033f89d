"""A training step on PyTorch's fake tensors: all that it asks a device for, and nothing computed.

    python tests/tracedsteps.py     how many operations of each kind

On a build without CUDA the autograd engine cannot walk back over fake CUDA tensors. So a step is
traced twice: on fake CUDA tensors with made-up gradients in place of the backward pass, which shows
every transfer and every wait of the rest, and on fake CPU tensors as a whole, in the operations
that a GPU is asked for, which counts them and shows the waits of the backward pass.
"""

import collections
import contextlib
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mstkd.config import (
    AdaptorArchitecture,
    BackboneSettings,
    EngineSettings,
    HeadSettings,
    OptimiserSettings,
)
from mstkd.losses import heads
from mstkd.losses.distillation import cosine_to_target, kd_loss, student_loss
from mstkd.losses.head_loss import build_head_loss
from mstkd.models import iresnet
from mstkd.models.adaptors import build_adaptor
from mstkd.models.weights import build_backbone
from mstkd.training import weight_casts
from mstkd.training.engine import Embedder
from mstkd.training.learner import Learner, Run

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
SETTINGS = OptimiserSettings(epochs=2, lr=0.1, milestones=(2,), schedule_epochs=2)
# Change how a tensor is looked at, or make room for one: no kernel runs.
NO_KERNEL = {
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "permute",
    "slice",
    "select",
    "detach",
    "alias",
    "expand",
    "unsqueeze",
    "squeeze",
    "as_strided",
    "split",
    "split_with_sizes",
    "reshape",
    "_reshape_alias",
    "lift_fresh",
    "unbind",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "device",
}
WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique"}


class Trace(TorchDispatchMode):
    """Counts kernels by name, and names what crosses between host and device or waits for it."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.kernels = collections.Counter()
        self.waits = []
        self.transfers = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        if name in WAITS:
            self.waits.append(name)
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if torch.is_tensor(leaf)]
        kinds = {tensor.device.type for tensor in tensors}
        # One number of the host's goes along with a kernel's launch.
        if len({t.device.type for t in tensors if t.ndim or t.device.type != "cpu"}) > 1 or (
            name in ("_to_copy", "copy_") and len(kinds) > 1
        ):
            self.transfers.append(f"{name} {sorted(kinds)}")
        if name not in NO_KERNEL and self.device.type in kinds:
            self.kernels[name] += 1
        return out


def learner(what, device, *, classes=7000, batch=128):
    """The network of `what`, teacher, adaptor or student, under its loss, and a batch for it."""
    with device:  # fake parameters cannot be moved
        if what == "adaptor":
            body = build_adaptor(AdaptorArchitecture(architecture="DuL"), 4, 512)
            seen = torch.empty(batch, 2048)
        else:
            settings = BackboneSettings(architecture="iresnet34")
            body = build_backbone(settings, embedding_dim=512, image_size=112)
            for module in body.modules():
                if isinstance(module, nn.Conv2d):  # as `place` lays them out
                    kernel = module.weight.detach().contiguous(memory_format=torch.channels_last)
                    module.weight = nn.Parameter(kernel)
            seen = torch.empty(batch, 112, 112, 3).permute(0, 3, 1, 2)
        head = build_head_loss(HeadSettings(), 512, classes, None)
        target = torch.empty(batch, 512, dtype=torch.float16)
        labels = torch.zeros(batch, dtype=torch.int64)
    engine = EngineSettings(precision="bfloat16")
    embed = Embedder(body, engine.model_copy(update={"compile": "off"}), device)

    def objective(batch):
        embeddings = embed(batch["seen"])
        loss = head(embeddings, batch["labels"])
        if what != "student":
            return {"loss": loss}
        kd = kd_loss(embeddings, target.float())
        cosine = cosine_to_target(embeddings, target.float())
        return {"loss": student_loss(kd, loss, 1e4), "head": loss, "kd": kd, "cosine": cosine}

    trained = nn.ModuleDict({"network": body, "head": head})
    made = Learner(
        trained,
        objective,
        kept=body,
        score=lambda epoch, parts: None,
        score_name=None,
        generators=[],
        label=what,
        random={},
        embed=embed,
    )
    return made, {"seen": seen, "labels": labels}


@contextlib.contextmanager
def made_up_gradients(trained):
    """In place of the backward pass."""

    def backward(loss):
        for parameter in trained.parameters():
            parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None

    with mock.patch.object(torch.Tensor, "backward", backward):
        yield


@torch.library.register_fake("aten::_fused_sgd_.tensor_lr")
def _sgd_writes_in_place(*args, **options):
    """It has none of its own."""


@contextlib.contextmanager
def with_autocast():
    """Which PyTorch switches off where there is no GPU."""
    with (
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
        mock.patch("torch.cuda.is_bf16_supported", return_value=True),
    ):
        yield


@contextlib.contextmanager
def as_on_a_gpu():
    """On CPU tensors, the operations that a GPU is asked for."""
    whole = torch.optim.SGD

    def sgd(parameters, **options):
        return whole(parameters, **{**options, "fused": True, "foreach": False})

    with (
        mock.patch.object(iresnet.PReLU, "forward", nn.PReLU.forward),
        mock.patch.object(heads, "ROWS", 1 << 30),
        mock.patch.object(torch.optim, "SGD", sgd),
        mock.patch.object(weight_casts, "CAST", {"cpu": weight_casts.CAST["cuda"]}),
    ):
        yield


def traced(what, device, **options):
    """The second step: the first makes momenta and sums."""
    with FakeTensorMode(), contextlib.ExitStack() as entered:
        if device.type == "cpu":
            entered.enter_context(as_on_a_gpu())
        made, batch = learner(what, device, **options)
        if device.type == "cuda":
            entered.enter_context(with_autocast())
            entered.enter_context(made_up_gradients(made.trained))
        run = Run(made, SETTINGS, alone=True)
        run._rate_on_device = True
        run.begin_epoch()
        run.step(batch, 0.1, 0)
        with Trace(device) as trace:
            run.step(batch, 0.1, 1)
    return trace


# Of the network: what no step of it goes without, launched one by one.
LAYERS = {
    "convolutions": ("convolution", "convolution_backward"),
    "batch normalisations": ("native_batch_norm", "native_batch_norm_backward"),
    "PReLUs": ("_prelu_kernel", "_prelu_kernel_backward"),
    "casts": ("_to_copy", "_foreach_copy_"),
    "clipping and SGD": ("_foreach_norm", "_foreach_mul_", "_fused_sgd_"),
}


def main():
    for what in ("teacher", "adaptor", "student"):
        left = traced(what, CPU, classes=28_000).kernels
        total = sum(left.values())
        for kind, names in LAYERS.items():
            print(f"{what}, {kind}: {sum(left.pop(name, 0) for name in names)}")
        print(f"{what}, all: {total}; the others: {dict(left.most_common())}")


if __name__ == "__main__":
    main()
