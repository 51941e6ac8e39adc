from __future__ import annotations

from contextlib import nullcontext

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.compiled import plain_only
from mdlora.data import Dataset
from mdlora.training.batches import PhaseRows, epoch_bounds, epoch_order, phase_rows, sort_within


def test_order_is_a_permutation_that_the_seed_decides():
    first = epoch_order(1000, 1)
    assert torch.equal(first.sort().values, torch.arange(1000))
    assert torch.equal(first, epoch_order(1000, 1))
    assert not torch.equal(first, epoch_order(1000, 2))
    assert not torch.equal(first, torch.arange(1000))


def test_mixed_batches_are_slices_of_the_order():
    order = epoch_order(10, 3)
    got, bounds = epoch_bounds(torch.ones(10, dtype=torch.int64), order, 4, by_domain=False, seed=1)
    assert torch.equal(got, order)
    assert list(bounds) == [(0, 4), (4, 8), (8, 10)]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    domain=st.lists(st.integers(0, 5), min_size=1, max_size=80),
    size=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_batches_by_domain_hold_every_row_once_and_one_domain_each(
    domain: list[int], size: int, seed: int
):
    ids = torch.tensor(domain)
    order = epoch_order(len(ids), seed)
    places, bounds = epoch_bounds(ids, order, size, by_domain=True, seed=seed)
    seen = []
    for start, end in bounds:
        batch = places[start:end]
        assert 0 < len(batch) <= size
        assert len(ids[batch].unique()) == 1
        seen += batch.tolist()
    assert sorted(seen) == list(range(len(ids)))
    # No more batches than needed: ceil(rows / size) for each domain.
    counts = torch.bincount(ids).tolist()
    assert len(bounds) == sum(-(-count // size) for count in counts)


def test_batches_by_domain_come_in_random_order():
    ids = torch.arange(6).repeat_interleave(40)
    firsts = []
    for seed in range(3):
        places, bounds = epoch_bounds(ids, epoch_order(240, 1), 10, by_domain=True, seed=seed)
        firsts.append([int(ids[places[start]]) for start, _ in bounds])
        assert firsts[-1] != sorted(firsts[-1])
    assert firsts[0] != firsts[1]


def test_held_out_rows_and_seen_rows_share_out_the_training_rows(tiny_data: Dataset):
    train = tiny_data.split("train")
    seen = phase_rows(train, "seen", 0.25, seed=1)
    held = phase_rows(train, "held_out", 0.25, seed=1)
    assert sorted([*seen.tolist(), *held.tolist()]) == list(range(len(train)))
    # Stratified: each (domain, label) cell gives up a quarter, within one row.
    for domain in range(1, 4):
        for label in (0, 1):
            cell = (train.domain == domain) & (train.label == label)
            assert abs(int(cell[held].sum()) - 0.25 * int(cell.sum())) <= 1
    assert torch.equal(held, phase_rows(train, "held_out", 0.25, seed=1))
    assert not torch.equal(held, phase_rows(train, "held_out", 0.25, seed=2))
    for rows, share in (("all", 0.25), ("seen", None)):
        assert torch.equal(phase_rows(train, rows, share, seed=1), torch.arange(len(train)))


def test_picking_rows():
    rows = PhaseRows(
        torch.tensor([[1], [2], [3]]), torch.tensor([4, 5, 6]), torch.tensor([0, 1, 0])
    )
    picked = rows.pick(torch.tensor([2, 0, 2]))
    assert picked.categories.tolist() == [[3], [1], [3]]
    assert picked.domain.tolist() == [6, 4, 6]
    assert picked.label.tolist() == [0, 0, 0]
    assert picked.expert is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    key=st.lists(st.integers(-1, 5), min_size=1, max_size=80),
    size=st.integers(1, 9),
    by_domain=st.booleans(),
    plain=st.booleans(),
)
def test_rows_are_sorted_within_their_own_batch(
    key: list[int], size: int, by_domain: bool, plain: bool
):
    keys = torch.tensor(key)
    domain = keys.clamp(min=0)
    order, bounds = epoch_bounds(domain, torch.arange(len(key)), size, by_domain=by_domain, seed=1)
    ordered = keys[order]
    with plain_only() if plain else nullcontext():
        places = sort_within(ordered, bounds)
    for start, end in bounds:
        of_batch = places[start:end].tolist()
        assert of_batch == sorted(range(start, end), key=lambda i: (int(ordered[i]), i))
