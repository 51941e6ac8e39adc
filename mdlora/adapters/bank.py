"""The adapters of one layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mdlora.adapters.kernels import merged, update
from mdlora.adapters.low_rank import BankArrays, LowRankUpdate, can_add
from mdlora.adapters.mixed import MixedUpdate
from mdlora.adapters.rank import RankChoice, choose_rank
from mdlora.adapters.routes import ExpertRoute, MixtureRoute, Route
from mdlora.adapters.updated import CompiledUpdate, adapted_linear, updated
from mdlora.compiled import is_array
from mdlora.config import DomainAdapters, MLoRA, counted
from mdlora.errors import AdapterError
from mdlora.layers import domain_product

__all__ = ["AdapterBank", "Bank", "FullBank", "make_bank"]


class Bank(nn.Module, ABC):
    """What K adapters add to one linear layer.

    Shapes (B rows, I in, O out, K adapters; "..." any middle axes): x (B, ..., I) -> (B, ..., O).
    """

    bias: Tensor | None

    sparse_gradients: bool = False
    """Whether gradients may be sparse: then what learns from them must know such."""

    @property
    @abstractmethod
    def num_experts(self) -> int:
        """K."""

    def forward(
        self, x: Tensor, route: Route, output: Tensor | None = None, *, in_place: bool = False
    ) -> Tensor:
        """What the adapters add for x, or `output` (B, ..., O) with it added.

        Args:
            x: the layer's input.
            route: how much of each adapter a row gets.
            output: the layer's output.
            in_place: `output` may be overwritten: nobody else has it.

        Raises:
            AdapterError: x has another number of rows than the route.
        """
        if x.shape[0] != route.num_rows:
            raise AdapterError(
                f"The layer got {counted(x.shape[0], 'row')} but "
                f"{counted(route.num_rows, 'domain id')}: give one domain id for each row of the "
                "batch."
            )
        if x.dim() == 2:  # no views: they keep autograd from adding gradients of x in place
            return self.update(x, route, output, in_place)
        route = route.repeat(x.shape[1:-1].numel())
        if output is not None:
            output = output.flatten(0, -2)
        total = self.update(x.flatten(0, -2), route, output, in_place)
        return total.view(*x.shape[:-1], total.shape[-1])

    @abstractmethod
    def update(
        self, x: Tensor, route: Route, output: Tensor | None, in_place: bool = False
    ) -> Tensor:
        """As `forward`, for x (B, I) whose rows are those of the route."""

    @abstractmethod
    def merged_update(self, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights (K,) mixture as a plain update: weight (O, I), and bias (O,) or None."""

    def _mixed_bias(self, weights: Tensor) -> Tensor | None:
        return None if self.bias is None else weights @ self.bias


class AdapterBank(Bank):
    """K low-rank adapters of one linear layer (arXiv:2408.08913, eq. 5, 9).

    Adapter k adds x A_k B_k + c_k to the layer's own x W + b. `down[k]` is A_k transposed,
    N(0, 1 / I) at the start; `up[k]` is B_k and `bias[k]` is c_k, both zero at the start, so that
    a fresh adapter adds exactly nothing. There is no alpha / r factor.

    Shapes (B rows, I in, O out, K adapters, R rank; "..." any middle axes):
        down (K, R, I), up (K, R, O), bias (K, O); x (B, ..., I) -> (B, ..., O).
    """

    def __init__(self, layer: nn.Linear, num_experts: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        new = layer.weight.new_zeros
        self.down = nn.Parameter(new(num_experts, rank, layer.in_features))
        self.up = nn.Parameter(new(num_experts, rank, layer.out_features))
        self.register_parameter(
            "bias", nn.Parameter(new(num_experts, layer.out_features)) if bias else None
        )
        nn.init.normal_(self.down, std=layer.in_features**-0.5)
        self._arrays = BankArrays()

    @property
    def num_experts(self) -> int:
        """K."""
        return self.down.shape[0]

    @property
    def rank(self) -> int:
        """R."""
        return self.down.shape[1]

    def update(
        self, x: Tensor, route: Route, output: Tensor | None, in_place: bool = False
    ) -> Tensor:
        """As `forward`, for x (B, I) whose rows are those of the route."""
        mine = self.down, self.up, self.bias
        if not can_add(route, x, *mine, output):
            return update(x, *mine, route, output)
        if output is None:
            output, in_place = x.new_zeros(len(x), self.up.shape[2]), True
        return updated(output, x, self.compiled_update(route), in_place=in_place)

    def can_take_over(self, x: Tensor, layer: nn.Linear, route: Route) -> bool:
        """Whether `taken_over` can stand in for calls of the layer itself."""
        tensors = self.down, self.up, self.bias, layer.weight, layer.bias
        return not self._is_hooked and can_add(route, x, *tensors)

    def has_update(self, route: ExpertRoute | None) -> bool:
        """Whether `compiled_update` can serve where kernels can run; None: a gate's route."""
        mine = [t for t in self._matrices() if t is not None]
        of_route = route is None or is_array(route.experts)
        return not self._is_hooked and all(map(is_array, mine)) and of_route

    @property
    def _is_hooked(self) -> bool:
        """Whether somebody must see calls of the bank itself, as torch's pruning must."""
        return bool(self._forward_pre_hooks or self._forward_hooks)

    def _matrices(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """down, up, bias."""
        parts: Any = self._parameters
        try:
            return parts["down"], parts["up"], parts["bias"]  # a tenth of the attributes' time
        except KeyError:  # somebody has parametrised or pruned one
            return self.down, self.up, self.bias

    def taken_over(self, x: Tensor, layer: nn.Linear, route: Route) -> Tensor:
        """The layer's output (B, O) with what the adapters add, as one node of the graph."""
        return adapted_linear(x, layer, self.compiled_update(route))

    def compiled_update(self, route: Route) -> CompiledUpdate:
        """The update by compiled kernels, where they can run."""
        mine = self._matrices()
        if isinstance(route, MixtureRoute):
            return MixedUpdate(*mine, route)
        return LowRankUpdate(*mine, route, sparse=self.sparse_gradients, arrays=self._arrays)

    def merged(self, x: Tensor, layer: nn.Linear, route: ExpertRoute) -> Tensor:
        """The layer's output (B, O) with what the adapters add, where `can_merge` allows it."""
        return merged(x, layer.weight, layer.bias, self.down, self.up, self.bias, route)

    @torch.no_grad()
    def merged_update(self, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights (K,) mixture as a plain update: weight (O, I), and bias (O,) or None."""
        scaled = self.up * weights[:, None, None]
        weight = scaled.flatten(0, 1).T @ self.down.flatten(0, 1)
        return weight, self._mixed_bias(weights)


class FullBank(Bank):
    """K whole updates of one linear layer: adapter k adds x D_k + c_k, both zero at the start.

    To finetune D_k beside a frozen W is to finetune a copy of W, step for step. Where each row has
    one adapter the product is `domain_product`, which in float32 on a CPU has first derivatives
    only.

    Shapes (I in, O out, K adapters): delta (K, I, O), bias (K, O).
    """

    def __init__(self, layer: nn.Linear, num_experts: int, *, bias: bool) -> None:
        super().__init__()
        new = layer.weight.new_zeros
        self.delta = nn.Parameter(new(num_experts, layer.in_features, layer.out_features))
        self.register_parameter(
            "bias", nn.Parameter(new(num_experts, layer.out_features)) if bias else None
        )

    @property
    def num_experts(self) -> int:
        """K."""
        return self.delta.shape[0]

    def update(
        self, x: Tensor, route: Route, output: Tensor | None, in_place: bool = False
    ) -> Tensor:
        """As `forward`, for x (B, I) whose rows are those of the route."""
        if isinstance(route, ExpertRoute) and route.experts.shape[1] == 1:
            delta = domain_product(x, self.delta, self.bias, route.rows())
            weights = route.flat_weights(x.dtype)
            delta = delta if weights is None else delta * weights.unsqueeze(1)
        else:
            every = torch.einsum("bi,kio->bko", x, self.delta)
            every = every if self.bias is None else every + self.bias
            delta = (every * route.mixture(x.dtype).unsqueeze(2)).sum(1)
        return delta if output is None else output + delta.to(output.dtype)

    @torch.no_grad()
    def merged_update(self, weights: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weights (K,) mixture as a plain update: weight (O, I), and bias (O,) or None."""
        return torch.einsum("k,kio->oi", weights, self.delta), self._mixed_bias(weights)


def make_bank(
    config: DomainAdapters, layer: nn.Linear, name: str, num_experts: int
) -> tuple[Bank, RankChoice]:
    """The adapters that a configuration asks for on one layer, and their rank.

    Raises:
        AdapterError: a rank given for the layer does not fit it.
    """
    if isinstance(config, MLoRA):
        choice = choose_rank(config, layer.in_features, layer.out_features, name)
        return AdapterBank(layer, num_experts, choice.rank, bias=config.bias), choice
    whole = min(layer.in_features, layer.out_features)
    return FullBank(layer, num_experts, bias=config.bias), RankChoice(whole, None, False)
