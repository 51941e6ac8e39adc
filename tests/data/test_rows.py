from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.data import Rows, concatenate
from mdlora.schema import EncodedRows, ListIds
from mdlora.types import Jagged


def lists_of(part: Jagged) -> list[list[int]]:
    ends = part.offsets.tolist()
    assert ends[0] == 0
    assert ends[-1] == len(part.values)
    return [part.values[a:b].tolist() for a, b in pairwise(ends)]


def rows_of(lists: list[list[int]]) -> Rows:
    """Row i has i in every column, and its list twice, once reversed."""
    number = np.arange(len(lists))

    def ids(parts: list[list[int]]) -> ListIds:
        offsets = np.cumsum([0, *map(len, parts)])
        return ListIds(np.array([i for p in parts for i in p], dtype=np.int64), offsets)

    return Rows.of(
        EncodedRows(
            categories=np.stack([number, number], 1),
            domain=number,
            label=number.astype(np.float32),
            unseen={},
            dense=np.stack([number, number, number], 1).astype(np.float32),
            lists=(ids(lists), ids([part[::-1] for part in lists])),
            weight=number.astype(np.float32),
            time=number + 10,
            missing={},
            cut={},
        )
    )


def check(rows: Rows, numbers: list[int], lists: list[list[int]]) -> None:
    assert len(rows) == len(numbers)
    assert rows.categories.tolist() == [[i, i] for i in numbers]
    assert rows.domain.tolist() == numbers
    assert rows.label.tolist() == rows.weight.tolist() == numbers
    assert rows.dense.tolist() == [[i] * 3 for i in numbers]
    assert rows.time.tolist() == [i + 10 for i in numbers]
    assert lists_of(rows.lists[0]) == [lists[i] for i in numbers]
    assert lists_of(rows.lists[1]) == [lists[i][::-1] for i in numbers]


LISTS = st.lists(st.lists(st.integers(0, 99), max_size=4), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(lists=LISTS, data=st.data())
def test_rows_are_picked_sliced_and_joined_like_lists(lists: list[list[int]], data: Any):
    rows, every = rows_of(lists), list(range(len(lists)))
    check(rows, every, lists)
    index = data.draw(st.lists(st.sampled_from(every), max_size=10))
    check(rows.pick(torch.tensor(index, dtype=torch.int64)), index, lists)
    start = data.draw(st.integers(0, len(lists)))
    end = data.draw(st.integers(start, len(lists)))
    check(rows.slice(start, end), every[start:end], lists)
    cut = [rows.slice(0, start), rows.slice(start, end), rows.slice(end, len(lists))]
    check(concatenate(cut), every, lists)
    check(rows.slice(start, end).to("cpu"), every[start:end], lists)
    batch = rows.batch(start, end)
    assert batch.categories.tolist() == [[i, i] for i in every[start:end]]
    assert lists_of(batch.lists[0]) == lists[start:end]
    assert batch.weight.tolist() == batch.label.tolist() == every[start:end]
    assert batch.dense.shape == (end - start, 3)


def test_a_slice_shares_memory():
    rows = rows_of([[1], [2, 3], []])
    part = rows.slice(1, 3)
    assert part.dense.data_ptr() == rows.dense[1:].data_ptr()
    assert part.lists[0].values.data_ptr() == rows.lists[0].values[1:].data_ptr()


def test_rows_without_the_other_columns():
    ids = torch.tensor([[1], [2]])
    rows = Rows(ids, ids[:, 0])
    for some in (rows, rows.pick(torch.tensor([0, 1])), rows.slice(0, 2), concatenate([rows])):
        assert (some.label, some.dense, some.lists, some.weight, some.time) == (
            None, None, (), None, None,
        )  # fmt: skip
    assert rows.batch(0, 1).label is None
    assert concatenate([rows, rows]).categories.tolist() == [[1], [2], [1], [2]]


def test_rows_are_joined_on_their_own_device():
    # The device "meta" has shapes only, and refuses to meet tensors of the CPU.
    part = Jagged(torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 3]))
    rows = Rows(torch.zeros(2, 1), torch.zeros(2), lists=(part,)).to("meta")
    whole = concatenate([rows, rows])
    assert whole.lists[0].offsets.device.type == whole.domain.device.type == "meta"
    assert whole.lists[0].offsets.shape == (5,)


def test_arrays_that_cannot_be_written_are_copied():
    label = np.ones(2, dtype=np.float32)
    label.flags.writeable = False
    ids = np.ones((2, 1), dtype=np.int64)
    rows = Rows.of(EncodedRows(ids, ids[:, 0], label, {}, None, (), None, None, {}, {}))
    rows.label[0] = 0
    assert label.tolist() == [1.0, 1.0]
