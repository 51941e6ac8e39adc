"""Adam on the rows of a table by compiled kernels, against the plain path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.compiled import plain_only
from mdlora.training.row_adam import RowAdam

ROWS, WIDTH = 40, 9


def learn(steps: list[list[int]], *, l2: float, catch_up: bool) -> tuple[Tensor, RowAdam]:
    """A table after steps that read these rows."""
    made = torch.Generator().manual_seed(3)
    table = nn.Parameter(torch.randn(ROWS, WIDTH, generator=made))
    adam = RowAdam(table, lr=0.05, l2=l2, catch_up=catch_up)
    for number, rows in enumerate(steps):
        read = torch.tensor(rows, dtype=torch.int64)
        adam.before_reading(read)
        found = F.embedding(read, table, sparse=True)
        target = torch.sin(torch.arange(found.numel()).float().view_as(found) + number)
        adam.zero_grad()
        (found - target).square().sum().backward()
        adam.step()
    adam.settle()
    return table.detach(), adam


steps_of = st.lists(
    st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=30), min_size=1, max_size=12
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(steps=steps_of, l2=st.sampled_from([0.0, 0.01]), catch_up=st.booleans())
def test_kernels_are_the_plain_formulas(steps: list[list[int]], l2: float, catch_up: bool):
    table, adam = learn(steps, l2=l2, catch_up=catch_up)
    with plain_only():
        plain, reference = learn(steps, l2=l2, catch_up=catch_up)
    torch.testing.assert_close(table, plain, rtol=2e-5, atol=2e-5)
    for name, tensor in adam.tensors().items():
        torch.testing.assert_close(tensor, reference.tensors()[name], rtol=2e-5, atol=2e-6)


def test_catch_up_is_dense_adam_after_a_long_absence():
    steps = [[1, 2, 3, 3], *[[2, 4]] * 700, [1, 5]]
    table, _ = learn(steps, l2=0.0, catch_up=True)
    made = torch.Generator().manual_seed(3)
    dense = nn.Parameter(torch.randn(ROWS, WIDTH, generator=made).double())
    adam = torch.optim.Adam([dense], lr=0.05)
    for number, rows in enumerate(steps):
        found = dense[torch.tensor(rows)]
        target = torch.sin(torch.arange(found.numel()).float().view_as(found) + number)
        adam.zero_grad()
        (found - target).square().sum().backward()
        adam.step()
    torch.testing.assert_close(table.double(), dense.detach(), rtol=1e-4, atol=1e-4)


def test_lazy_leaves_all_other_rows_alone():
    table, adam = learn([[1, 2], [2, 7]], l2=0.1, catch_up=False)
    made = torch.Generator().manual_seed(3)
    start = torch.randn(ROWS, WIDTH, generator=made)
    others = [i for i in range(ROWS) if i not in (1, 2, 7)]
    assert torch.equal(table[others], start[others])
    assert not torch.equal(table[[1, 2, 7]], start[[1, 2, 7]])
    assert not adam.mean[others].any()
    assert not adam.square[others].any()
    places = adam._places
    assert places is not None
    assert not places.any()  # scratch is left as zeros


def test_a_gradient_added_to_another_is_summed():
    table = nn.Parameter(torch.ones(ROWS, WIDTH))
    adam = RowAdam(table, lr=0.1)
    for rows in ([0, 1], [1, 2]):
        F.embedding(torch.tensor(rows), table, sparse=True).sum().backward()
    with plain_only():
        assert table.grad is not None
        want = table.grad.coalesce()
    adam.step()
    torch.testing.assert_close(adam.mean[:3, 0], 0.1 * want.values()[:, 0])


@pytest.mark.parametrize("catch_up", [False, True])
def test_no_gradient_is_no_step_of_a_row(catch_up: bool):
    table = nn.Parameter(torch.ones(ROWS, WIDTH))
    adam = RowAdam(table, lr=0.1, catch_up=catch_up)
    adam.step()
    assert int(adam.clock) == 1
    assert torch.equal(table, torch.ones(ROWS, WIDTH))
