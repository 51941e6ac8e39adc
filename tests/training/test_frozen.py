from __future__ import annotations

import pytest
import torch

from mdlora.errors import FrozenTensorChanged
from mdlora.training.frozen import check_frozen, digest


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_any_change_of_bits_is_seen(kind: torch.dtype):
    tensors = {"still": torch.ones(3, 4, dtype=kind), "moves": torch.ones(2, dtype=kind)}
    before = {name: digest(t) for name, t in tensors.items()}
    check_frozen(before, {name: t.clone() for name, t in tensors.items()}, "gate")
    tensors["moves"][1] = 0
    with pytest.raises(FrozenTensorChanged, match="Phase 'gate' had frozen moves, and yet"):
        check_frozen(before, tensors, "gate")


def test_one_ulp_a_sign_of_zero_a_shape_and_a_type_count():
    one = torch.ones(4)
    seen = {
        digest(t)
        for t in (
            one, torch.nextafter(one, one + 1), torch.zeros(4), -torch.zeros(4), one.view(2, 2),
            torch.zeros(4, dtype=torch.int32), torch.tensor(1.0), torch.empty(0),
        )
    }  # fmt: skip
    assert len(seen) == 8


def test_layout_does_not_count():
    x = torch.arange(6.0).view(2, 3)
    assert digest(x) == digest(x.T.contiguous().T)
