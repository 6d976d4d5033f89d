"""Equations 4 to 6 against closed forms and finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mstkd.losses.distillation import cosine_to_target, kd_loss, student_loss


def rows(seed, count=6, dim=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, generator=generator, dtype=dtype) * 4


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 32))
def test_equation_4_of_unit_vectors(seed, count, dim):
    student, target = rows(seed, count, dim).double(), rows(seed + 1, count, dim).double()
    total = 0.0
    for one, other in zip(student.tolist(), target.tolist(), strict=True):
        lengths = math.hypot(*one), math.hypot(*other)
        total += sum(
            (a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(one, other, strict=True)
        )
    assert kd_loss(student, target).item() == pytest.approx(total / count / dim, abs=1e-12)


@pytest.mark.parametrize("angle", [0, 30, 90, 120, 180])
def test_weight_10000_at_512_dimensions_is_39_times_one_minus_cosine(angle):
    """D14: 10000 * 2 / 512 = 39.0625."""
    student, target = torch.zeros(2, 3, 512)
    target[:, 0] = 5
    student[:, 0] = 0.3 * math.cos(math.radians(angle))
    student[:, 7] = 0.3 * math.sin(math.radians(angle))
    expected = 39.0625 * (1 - math.cos(math.radians(angle)))
    assert 10000 * kd_loss(student, target).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    cosine = cosine_to_target(student, target).item()
    assert cosine == pytest.approx(math.cos(math.radians(angle)), abs=1e-6)


@given(st.integers(0, 10_000))
def test_loss_is_a_mean_of_samples_blind_to_length(seed):
    student, target = rows(seed), rows(seed + 1)
    each = torch.stack([kd_loss(student[i : i + 1], target[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(kd_loss(student, target), each.mean())
    torch.testing.assert_close(kd_loss(student * 7, target * 0.01), kd_loss(student, target))
    expected = 2 / 8 * (1 - cosine_to_target(student, target))
    torch.testing.assert_close(kd_loss(student, target), expected)


def test_gradient_by_finite_differences():
    student, target = rows(0, dtype=torch.float64), rows(1, dtype=torch.float64)
    student.requires_grad_()
    target.requires_grad_()
    assert kd_loss(student, target).dtype == torch.float64
    assert torch.autograd.gradcheck(kd_loss, (student, target))


def test_gradient_is_finite_where_student_and_target_agree():
    student = rows(0).requires_grad_()
    loss = kd_loss(student, 3 * student.detach())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.abs().max().item() == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_single_precision_for_halves_and_under_autocast(dtype):
    student, target = rows(0).to(dtype), rows(1).to(dtype)
    expected = kd_loss(student.float(), target.float())
    assert kd_loss(student, target).dtype == torch.float32
    assert torch.equal(kd_loss(student, target), expected)
    assert torch.equal(kd_loss(student, target.float()), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kd_loss(student, target), expected)
        assert cosine_to_target(student, target).dtype == torch.float32
    large = torch.full((2, 512), 4e4, dtype=torch.float16)  # its norm overflows half precision
    assert kd_loss(large, large).item() == pytest.approx(0, abs=1e-12)


def test_cosine_has_no_gradient():
    student = rows(0).requires_grad_()
    assert not cosine_to_target(student, rows(1)).requires_grad
    assert kd_loss(student, rows(1)).requires_grad


def test_equations_5_and_6():
    kd, head = torch.tensor(0.002, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    assert student_loss(kd, head, 10000).item() == pytest.approx(23)
    assert student_loss(kd, None, 10000).item() == pytest.approx(20)
    gradients = torch.autograd.grad(student_loss(kd, head, 10000), (kd, head))
    assert [g.item() for g in gradients] == [10000, 1]


@pytest.mark.parametrize("measure", [kd_loss, cosine_to_target])
@pytest.mark.parametrize(
    ("student", "target"),
    [((4, 8), (4, 1)), ((4, 8), (1, 8)), ((8,), (8,)), ((2, 2, 2), (2, 2, 2))],
)
def test_shapes_are_not_broadcast(measure, student, target):
    with pytest.raises(ValueError, match=r"not \(B, D\) twice"):
        measure(torch.ones(student), torch.ones(target))
