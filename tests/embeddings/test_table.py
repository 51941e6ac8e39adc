from __future__ import annotations

import pytest
import torch

from mdlora.embeddings import Embeddings
from mdlora.types import Batch


def lookup(ids: list[list[int]]) -> Batch:
    categories = torch.tensor(ids)
    return Batch(categories, categories[:, -1])


def test_vectors_and_linear_weights_by_hand():
    table = Embeddings((3, 2), 2, first_order=True)
    with torch.no_grad():
        table.table.copy_(torch.arange(15.0).view(5, 3))
    # Rows: column 0 owns 0..2, column 1 owns 3..4. Ids (2, 1) are rows 2 = (6,7|8) and
    # 4 = (12,13|14); ids (0, 0) are rows 0 = (0,1|2) and 3 = (9,10|11).
    out = table(lookup([[2, 1], [0, 0]]))
    assert out.fields.tolist() == [[[6.0, 7.0], [12.0, 13.0]], [[0.0, 1.0], [9.0, 10.0]]]
    assert out.first_order.tolist() == [22.0, 13.0]
    assert out.domain.tolist() == [1, 0]
    assert out.dense.shape == (2, 0)


def test_without_a_linear_part_its_sum_is_zero():
    table = Embeddings((3, 2), 2, first_order=False)
    assert table.table.shape == (5, 2)
    assert table(lookup([[2, 1], [1, 1]])).first_order.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("first_order", [True, False])
def test_out_of_vocabulary_rows_start_at_zero_and_others_do_not(first_order: bool):
    table = Embeddings((200, 300), 8, first_order=first_order, init_std=0.5)
    oov = torch.zeros(500, dtype=torch.bool)
    oov[[0, 200]] = True
    assert table.table[oov].eq(0).all()
    assert table.table[~oov].ne(0).all()
    n = 498 * table.table.shape[1]  # a standard deviation from n draws is off by std / sqrt(2 n)
    assert abs(table.table[~oov].std() - 0.5) < 5 * 0.5 / (2 * n) ** 0.5


def test_unlearned_rows_take_the_mean_of_their_own_column():
    table = Embeddings((3, 3, 1), 2, first_order=True)
    with torch.no_grad():
        table.table.copy_(torch.arange(21.0).view(7, 3))
    assert table.fill_unlearned([False, True, False]) == [0]  # column 2 has nothing to average
    assert table.table[0].tolist() == [4.5, 5.5, 6.5]  # the mean of (3,4,5) and (6,7,8)
    assert table.table[3].tolist() == [9.0, 10.0, 11.0]
    assert table.table[6].tolist() == [18.0, 19.0, 20.0]


def test_sparse_and_dense_gradients_agree():
    table = Embeddings((4, 3), 2, first_order=True).double()
    batch = lookup([[1, 2], [1, 0], [3, 2]])
    grads = []
    for sparse in (False, True):
        table.sparse_gradients = sparse
        table.zero_grad()
        out = table(batch)
        (
            out.fields.sin().sum() + (out.first_order * torch.tensor([1.0, 2.0, 3.0])).sum()
        ).backward()
        grads.append(table.table.grad)
    assert grads[1].is_sparse
    torch.testing.assert_close(grads[1].to_dense(), grads[0], rtol=1e-15, atol=0)
    assert grads[0][2].eq(0).all()  # id 2 of column 0 is not in the batch
