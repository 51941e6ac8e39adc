"""A backbone's tower with all its adapters, as compiled kernels take it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, AdapterBank, MixtureRoute
from mdlora.adapters.checks import check_ids
from mdlora.adapters.kernels import masked
from mdlora.adapters.state import Routing
from mdlora.backbones import TowerBackbone
from mdlora.errors import AdapterError

__all__ = ["Floats", "Ints", "Tower"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_FEW_ROWS = 8  # up to which one kernel for all layers beats a product for each (measured)
_FEW_EXPERTS = 4  # of a row, above which a product of all experts beats the kernel's (measured)


class _Layer(NamedTuple):
    """A dense layer and its adapters; shapes as in `mdlora.compiled.scoring`."""

    weight: Floats
    bias: Floats
    experts: Ints
    shares: Floats
    down: Floats
    up: Floats
    shift: Floats

    def alone(self) -> _Layer:
        """The layer without its adapters."""
        return self._replace(experts=self.experts[:, :0], shares=self.shares[:, :0])


class Tower:
    """The hidden layers and the head of a backbone.

    A row's route says which adapters it meets, with which shares, in all layers: routes 0..D are
    those of the domains, and where each domain has its own adapters, route D + 2 + e is adapter e
    alone (e = -1: none).

    Shapes (B rows, I in): inputs (B, I), routes (B,) -> logits (B,).
    """

    def __init__(self, backbone: TowerBackbone, adapted: AdaptedModel | None) -> None:
        self._adapted = adapted
        linears = [*backbone.tower.linears, backbone.head]
        targets = [] if adapted is None else list(map(id, adapted.target_layers))
        layers = []
        for linear in linears:
            assert isinstance(linear, nn.Linear)
            index = targets.index(id(linear)) if id(linear) in targets else None
            layers.append(_make_layer(linear, adapted, index))
        self._mixes_all = (
            adapted is not None
            and adapted.route_mode == "gate"
            and adapted.gate_of(0).top_k is None
        )
        self._mode = None if adapted is None else adapted.route_mode
        self._layers = layers
        self._columns: tuple[Any, ...] = tuple(zip(*layers, strict=True))
        self._weights = [torch.from_numpy(layer.weight) for layer in layers]

    def routes(self, domain: Tensor, expert: Tensor | None) -> Ints:
        """Each row's route, (B,).

        Raises:
            AdapterError: a domain or an adapter that is not there.
        """
        if self._adapted is None:
            return np.zeros(len(domain), np.int64)
        check_ids("domain", domain, low=0, high=self._adapted.num_domains)
        if expert is None or self._mode != "own":
            return domain.long().contiguous().numpy()
        check_ids("expert", expert, low=-1, high=self._adapted.num_experts - 1)
        if expert.shape != domain.shape:
            raise AdapterError(
                f"Got {len(expert):,} expert ids but {len(domain):,} domain ids: give one of each "
                "for each row."
            )
        return (expert.long() + (self._adapted.num_domains + 2)).numpy()

    def add(self, inputs: Floats, routes: Ints, logits: Floats) -> None:
        """Add the logit of each row's tower to `logits`."""
        from mdlora.compiled.scoring import finish_layer, score_rows

        if len(routes) != len(inputs):
            raise AdapterError(
                f"Got {len(inputs):,} rows but {len(routes):,} domain ids: give one each."
            )
        if len(inputs) <= _FEW_ROWS:
            score_rows(inputs, routes, logits, *self._columns)
            return
        x = inputs
        for place, (weight, layer) in enumerate(zip(self._weights, self._layers, strict=True), 1):
            made = torch.mm(torch.from_numpy(x), weight)
            if self._mixes_all and len(layer.down) > _FEW_EXPERTS:
                made = _add_mixture(x, made, routes, layer)
                layer = layer.alone()
            out = made.numpy()
            finish_layer(x, out, routes, *layer[1:], place < len(self._layers))
            x = out
        logits += x[:, 0]


def _add_mixture(x: Floats, out: Tensor, routes: Ints, layer: _Layer) -> Tensor:
    """Add all adapters' updates, each with the row's share, to out (B, O)."""
    shift = torch.from_numpy(layer.shift) if layer.shift.size else None
    shares = torch.from_numpy(layer.shares[routes])
    down, up = torch.from_numpy(layer.down), torch.from_numpy(layer.up)
    return masked(torch.from_numpy(x), down, up, shift, shares, out)


def _make_layer(linear: nn.Linear, adapted: AdaptedModel | None, index: int | None) -> _Layer:
    num_in, num_out = linear.in_features, linear.out_features
    weight = np.ascontiguousarray(linear.weight.detach().numpy().T)
    bias = np.zeros(num_out, np.float32) if linear.bias is None else linear.bias.detach().numpy()
    if adapted is None or index is None:
        num_routes = 1 if adapted is None else adapted.num_domains + adapted.num_experts + 3
        none = np.empty((num_routes, 0), np.int64)
        return _Layer(
            weight,
            bias,
            none,
            none.astype(np.float32),
            np.empty((0, 0, num_in), np.float32),
            np.empty((0, 0, num_out), np.float32),
            np.empty((0, num_out), np.float32),
        )
    bank = adapted.bank_of(index)
    assert isinstance(bank, AdapterBank)
    shift = np.empty((0, num_out), np.float32) if bank.bias is None else _array(bank.bias)
    down, up = _array(bank.down), _array(bank.up)
    return _Layer(weight, bias, *_routes(adapted, index), down, up, shift)


@torch.no_grad()
def _routes(adapted: AdaptedModel, index: int) -> tuple[Ints, Floats]:
    """The adapters (G, k) of target `index` that rows of each route meet, and their shares."""
    every = torch.arange(adapted.num_domains + 1)
    if adapted.route_mode == "none":
        none = np.empty((len(every), 0), np.int64)
        return none, none.astype(np.float32)
    if adapted.route_mode == "gate":
        route = adapted.gate_of(index)(every, torch.empty(0))
        if isinstance(route, MixtureRoute):
            shares = _array(route.weights)
            experts = np.tile(np.arange(adapted.num_experts), (len(shares), 1))
            return experts, shares
        return route.experts.numpy(), _array(route.weights)
    own = Routing(every, None, adapted.num_domains, adapted.config.experts_in_a_domain).own()
    alone = np.full((adapted.num_experts + 1, own.experts.shape[1]), -1)
    alone[:, 0] = np.arange(-1, adapted.num_experts)
    experts = np.concatenate((own.experts.numpy(), alone))
    shares = np.ones(experts.shape, np.float32)
    if own.weights is not None:
        shares[: len(every)] = own.weights.numpy()
    return experts, shares


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().contiguous().numpy()
