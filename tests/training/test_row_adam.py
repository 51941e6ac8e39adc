from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.training.row_adam import RowAdam

ROWS, WIDTH = 12, 3


def table() -> nn.Parameter:
    make = torch.Generator().manual_seed(1)
    return nn.Parameter(torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=make))


def loss_of(found: Tensor, step: int) -> Tensor:
    """Depends on the weights that are read, so that a row read too early shows."""
    target = torch.sin(torch.arange(found.numel(), dtype=torch.float64).view_as(found) + step)
    return ((found - target).square() * (1 + step % 3)).sum() / found.shape[0]


def touched(steps: int, seed: int) -> list[Tensor]:
    """Rows of each step, repeats among them: some always, some seldom, some never; row 1 is
    away from step 3 to the step before the last."""
    make = torch.Generator().manual_seed(seed)
    chance = torch.tensor([1.0, 0.0, 0.5, 0.2, 0.05, 0.02, 0.01, 0.005, 0.3, 0.1, 0.003, 0.0])
    found = []
    for step in range(steps):
        rows = (torch.rand(ROWS, generator=make) < chance).nonzero().flatten()
        if step in (0, 1, 2, steps - 1):
            rows = torch.cat([rows, torch.tensor([1])])
        found.append(torch.cat([rows, rows[:2]]))
    return found


def penalty(weights: Tensor, rows: Tensor, l2: float) -> Tensor:
    return l2 * weights[torch.unique(rows)].square().sum()


def run_rows(batches: list[Tensor], *, settle_every: int = 0, **settings: Any) -> nn.Parameter:
    weights = table()
    ours = RowAdam(weights, **settings)
    for step, rows in enumerate(batches):
        ours.before_reading(rows)
        ours.zero_grad()
        loss_of(F.embedding(rows, weights, sparse=True), step).backward()
        ours.step()
        if settle_every and step % settle_every == 0:
            ours.settle()
    ours.settle()
    return weights


def run_dense(batches: list[Tensor], *, l2: float = 0.0, **settings: Any) -> nn.Parameter:
    weights = table()
    adam = torch.optim.Adam([weights], **settings)
    for step, rows in enumerate(batches):
        adam.zero_grad()
        (loss_of(F.embedding(rows, weights), step) + penalty(weights, rows, l2)).backward()
        adam.step()
    return weights


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_lazy_is_sparse_adam(l2: float):
    # SparseAdam adds eps before the bias correction and Adam, as here, after it: make it nothing.
    batches = touched(300, seed=4)
    mine = run_rows(batches, lr=0.02, betas=(0.9, 0.99), eps=1e-30, l2=l2)
    weights = table()
    adam = torch.optim.SparseAdam([weights], lr=0.02, betas=(0.9, 0.99), eps=1e-30)
    for step, rows in enumerate(batches):
        loss = loss_of(F.embedding(rows, weights), step) + penalty(weights, rows, l2)
        (grad,) = torch.autograd.grad(loss, weights)
        distinct = torch.unique(rows)
        weights.grad = torch.sparse_coo_tensor(distinct.unsqueeze(0), grad[distinct], grad.shape,
                                               check_invariants=True)  # fmt: skip
        adam.step()
    torch.testing.assert_close(mine.detach(), weights.detach(), rtol=1e-12, atol=1e-12)
    assert torch.equal(mine[11], table()[11])  # never touched, never moved


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_catch_up_is_dense_adam_also_after_long_absences(seed: int, l2: float):
    batches = touched(800, seed)
    mine = run_rows(batches, lr=0.02, l2=l2, catch_up=True)
    dense = run_dense(batches, lr=0.02, l2=l2)
    torch.testing.assert_close(mine.detach(), dense.detach(), rtol=1e-12, atol=1e-12)
    # Lazy differs, so the comparison can fail.
    lazy = run_rows(batches, lr=0.02, l2=l2)
    assert (lazy - dense).abs().max() > 1e-3


@pytest.mark.parametrize("betas", [(0.9, 0.5), (0.0, 0.999), (0.5, 0.9), (0.99, 0.999)])
def test_catch_up_is_dense_adam_for_other_decay_rates(betas: tuple[float, float]):
    batches = touched(300, seed=5)
    mine = run_rows(batches, lr=0.02, betas=betas, catch_up=True)
    dense = run_dense(batches, lr=0.02, betas=betas)
    torch.testing.assert_close(mine.detach(), dense.detach(), rtol=1e-12, atol=1e-12)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    batches=st.lists(
        st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=5), min_size=1, max_size=40
    ),
    settle_every=st.integers(0, 7),
)
def test_settling_at_any_time_changes_nothing(batches: list[list[int]], settle_every: int):
    rows = [torch.tensor(batch) for batch in batches]
    mine = run_rows(rows, settle_every=settle_every, lr=0.05, catch_up=True)
    dense = run_dense(rows, lr=0.05)
    torch.testing.assert_close(mine.detach(), dense.detach(), rtol=1e-12, atol=1e-12)


def test_a_row_is_behind_until_it_is_read_or_settled():
    """Why settle must come before a save: without it the table is not dense Adam's."""
    weights = table()
    ours = RowAdam(weights, lr=0.1, catch_up=True)
    for step, rows in enumerate([torch.tensor([0, 1]), torch.tensor([0]), torch.tensor([0])]):
        ours.before_reading(rows)
        ours.zero_grad()
        loss_of(F.embedding(rows, weights, sparse=True), step).backward()
        ours.step()
    behind = weights[1].detach().clone()
    ours.before_reading(torch.tensor([[1, 1]]))
    assert not torch.equal(weights[1], behind)
    caught_up = weights.detach().clone()
    ours.settle()
    assert torch.equal(weights, caught_up)
