"""Without a GPU: a training step waits for none, copies nothing to or from it, and stays short."""

from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from tracedsteps import CPU, CUDA, Trace, traced

from mstkd.losses import heads

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")


def test_a_trace_sees_transfers_waits_and_kernels():
    with FakeTensorMode(), Trace(CUDA) as trace:
        here, there = torch.ones(3), torch.ones(3, device=CUDA)
        here.to(CUDA)
        there.copy_(here, non_blocking=True)
        there.cpu()
        there.add_(2.5)
        there.view(3, 1)
    assert len(trace.transfers) == 3
    assert trace.kernels["add_"] == 1
    assert not trace.kernels["view"]
    with FakeTensorMode(), Trace(CPU) as trace, pytest.raises(DataDependentOutputException):
        torch.ones(3).sum().item()
    assert trace.waits == ["_local_scalar_dense"]


@pytest.mark.parametrize("what", ["teacher", "adaptor", "student"])
def test_a_step_makes_no_transfer_and_no_wait(what):
    trace = traced(what, CUDA)
    assert trace.kernels["_fused_sgd_"] == 1
    assert trace.transfers == []
    assert trace.waits == []


# Of 867 once, and an adaptor's 408, at 28,000 identities; a GPU is asked for them one by one only
# where the step is not captured. Of a teacher's, 270 are its layers and what adds their gradients.
@pytest.mark.parametrize(("what", "most"), [("teacher", 378), ("adaptor", 114), ("student", 415)])
def test_a_step_takes_no_more_operations_than_it_did(what, most):
    trace = traced(what, CPU, classes=28_000)
    assert trace.waits == []
    assert sum(trace.kernels.values()) <= most, trace.kernels
    assert trace.kernels["_fused_sgd_"] == 1


@torch.no_grad()
def test_the_way_back_through_a_head_makes_no_transfer():
    """Its own functions, which the engine cannot call on fake CUDA tensors."""
    with FakeTensorMode(), torch.device(CUDA):
        batch, classes, dim = 8, 50, 16
        unit, weight = torch.empty(batch, dim), torch.empty(classes, dim)
        columns, here = torch.zeros(batch, 1, dtype=torch.int64), torch.ones(batch) > 0
        saved = unit, weight, columns, here, torch.empty(classes)
        context = SimpleNamespace(saved_tensors=saved, scale=64.0, needs_input_grad=(True, True))
        placed = SimpleNamespace(saved_tensors=(columns, here))
        of_logits = torch.empty(batch, classes)
        with Trace(CUDA) as trace:
            of_logits, of_cosine, *_ = heads._Place.backward(placed, of_logits)
            of_unit, of_weight, *_ = heads._ScaledCosines.backward(context, of_logits, of_cosine)
    assert (of_unit.shape, of_weight.shape) == ((batch, dim), (classes, dim))
    assert trace.kernels["addcmul_"] == 1  # all classes at once
    assert trace.transfers == []
    assert trace.waits == []
