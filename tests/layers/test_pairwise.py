from __future__ import annotations

from itertools import combinations
from types import ModuleType

import torch

from mdlora.layers import PairwiseInteraction


def test_pairs_by_hand():
    # (1,2).(3,4) + (1,2).(5,6) + (3,4).(5,6) = 11 + 17 + 39 = 67.
    fields = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    assert PairwiseInteraction()(fields).tolist() == [67.0]


def test_pairs_equal_the_double_sum_and_so_do_gradients():
    fields = torch.randn(5, 6, 3, dtype=torch.float64, requires_grad=True)
    copy = fields.detach().clone().requires_grad_()
    total = sum((copy[:, i] * copy[:, j]).sum(1) for i, j in combinations(range(6), 2))
    out = PairwiseInteraction()(fields)
    torch.testing.assert_close(out, total, rtol=1e-12, atol=1e-13)
    grad = torch.randn(5, dtype=torch.float64)
    out.backward(grad)
    total.backward(grad)
    torch.testing.assert_close(fields.grad, copy.grad, rtol=1e-12, atol=1e-13)


def test_pairs_equal_deepctrs_fm(deepctr_layers: ModuleType):
    fields = torch.randn(9, 7, 4, dtype=torch.float64)
    expected = deepctr_layers.FM()(fields).squeeze(1)
    torch.testing.assert_close(PairwiseInteraction()(fields), expected, rtol=1e-12, atol=1e-13)
