from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mdlora.adapters import AdaptedModel


@pytest.fixture
def trained() -> Callable[[AdaptedModel], AdaptedModel]:
    """Gives every adapter and gate random values, as if trained."""

    def shake(adapted: AdaptedModel) -> AdaptedModel:
        make = torch.Generator().manual_seed(5)
        for p in [*adapted.banks.parameters(), *adapted.gates.parameters()]:
            p.data = torch.randn(p.shape, dtype=p.dtype, generator=make) * 0.5
        return adapted

    return shake


@pytest.fixture
def make_tower() -> Callable[..., nn.Sequential]:
    """Makes a float64 tower 9 -> 8 -> 6 -> 1 with tanh; the same weights each time."""

    def make(*, bias: bool = True) -> nn.Sequential:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            layers = (nn.Linear(9, 8, bias=bias), nn.Tanh(), nn.Linear(8, 6, bias=bias), nn.Tanh())
            return nn.Sequential(*layers, nn.Linear(6, 1)).double()

    return make
