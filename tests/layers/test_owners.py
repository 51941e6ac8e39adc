from __future__ import annotations

import threading

import pytest
import torch

from mdlora.layers import RowOwners, row_owners, rows_of


def test_owners_hold_inside_and_come_back_after_errors():
    outer, inner = torch.tensor([0, 0, 1]), torch.tensor([1, 0])
    assert row_owners() is None
    with rows_of(outer, 2):
        with rows_of(inner, 3):
            assert row_owners() == RowOwners(inner, 3)
        assert row_owners() == RowOwners(outer, 2)
        with pytest.raises(IndexError), rows_of(inner, 3):
            inner[9]
        assert row_owners() == RowOwners(outer, 2)
    assert row_owners() is None


def test_another_thread_has_its_own():
    seen: list[RowOwners | None] = []
    with rows_of(torch.tensor([0]), 1):
        thread = threading.Thread(target=lambda: seen.append(row_owners()))
        thread.start()
        thread.join()
    assert seen == [None]
