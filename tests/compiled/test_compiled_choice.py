"""Where kernels run, and where they must not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mdlora.compiled import can_compile, plain_only


def test_plain_float32_and_integers_on_a_cpu():
    assert can_compile(torch.ones(2, 3), torch.ones(3, dtype=torch.int64))
    assert not can_compile(torch.ones(2, 3, dtype=torch.float64))
    assert not can_compile(torch.ones(2, 3, dtype=torch.bfloat16))
    assert not can_compile(torch.ones(2, 3).T)
    assert not can_compile(torch.ones(2, 3), torch.ones(2, 3, device="meta"))


def test_plain_only_holds_inside_and_ends_after_an_error():
    def fail() -> None:
        with plain_only():
            assert not can_compile(torch.ones(2))
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        fail()
    assert can_compile(torch.ones(2))


def test_a_traced_graph_has_no_kernels():
    class Asks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if can_compile(x) else x - 1

    x = torch.zeros(2)
    assert torch.export.export(Asks(), (x,)).module()(x).tolist() == [-1, -1]


@pytest.mark.parametrize(("value", "there"), [("0", "False"), ("1", "True")])
def test_the_environment_switches_them_off(value: str, there: str):
    code = (
        "import torch, mdlora.layers as l, sys; m = l.MLP(8, (8,), dropout=0.5); "
        "m(torch.ones(4, 8)); print('numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MDLORA_NUMBA": value},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == there
