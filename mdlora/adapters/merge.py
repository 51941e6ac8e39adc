"""One domain's adapters as plain weights."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from mdlora.adapters.adapted import AdaptedModel
from mdlora.adapters.checks import is_whole
from mdlora.adapters.routes import Route
from mdlora.adapters.state import Routing
from mdlora.errors import AdapterError

__all__ = ["domain_weights", "merge_domain"]


@torch.no_grad()
def domain_weights(adapted: AdaptedModel, index: int) -> Tensor:
    """Weights (D + 1, K) that the rows of each domain give to the adapters of target `index`.

    Row 0 is the unknown domain.

    Raises:
        AdapterError: the gate sees the input, so the weights differ from row to row.
    """
    like = next(adapted.bank_of(index).parameters())
    every = torch.arange(adapted.num_domains + 1, device=like.device)
    if adapted.route_mode == "none":
        return like.new_zeros(len(every), adapted.num_experts)
    if adapted.route_mode == "gate":
        gate = adapted.gate_of(index)
        if gate.sees_input:
            raise AdapterError(
                "This model's gate sees the layer's input, so every row mixes the adapters "
                "differently and no one weight matrix equals them. Serve it as it is, or train "
                "with adapter.gate=domain."
            )
        route: Route = gate(every, like.new_zeros(0))
        return route.mixture(like.dtype)
    routing = Routing(every, None, adapted.num_domains, adapted.config.experts_in_a_domain)
    return routing.own().mixture(like.dtype)


@torch.no_grad()
def merge_domain(adapted: AdaptedModel, domain: int) -> nn.Module:
    """A plain copy of the module that scores one domain as the adapted model does.

    W becomes W + sum_k g_k A_k B_k and b becomes b + sum_k g_k c_k, where g is the domain's
    route; a layer without bias gains one for c. The adapted model is left as it is.

    Args:
        adapted: the adapted model.
        domain: 1..D, or 0 for what an unknown domain gets.

    Raises:
        AdapterError: no such domain; the adapters were taken off; the gate sees the input; a
            target's weight is computed from others (weight norm, parametrizations); or passes have
            run and never called a target.
    """
    adapted.refuse_unwrapped()
    adapted.refuse_uncalled()
    if not is_whole(domain):
        raise AdapterError(
            f"domain={domain!r} is a {type(domain).__name__}; give one whole number: 1 to "
            f"{adapted.num_domains}, or 0 for unknown."
        )
    if not 0 <= domain <= adapted.num_domains:
        raise AdapterError(
            f"domain={domain} is not there: give 1 to {adapted.num_domains}, or 0 for unknown."
        )
    for name, layer in zip(adapted.target_names, adapted.target_layers, strict=True):
        if "weight" not in layer._parameters:
            raise AdapterError(
                f"The weight of {name} is computed from other tensors (weight norm or another "
                "parametrization), so nothing can be added to it: make it plain first, say by "
                "torch.nn.utils.parametrize.remove_parametrizations."
            )
    weights = [domain_weights(adapted, index)[domain] for index in range(len(adapted.banks))]
    plain = copy.deepcopy(adapted, _without_graphs(adapted))
    layers = plain.target_layers
    module = plain.unwrap()
    uses = Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    for index, layer in enumerate(layers):
        weight, bias = adapted.bank_of(index).merged_update(weights[index])
        _add(layer, "weight", weight, shared=uses[id(layer.weight)] > 1)
        if bias is not None:
            _add(layer, "bias", bias, shared=uses[id(layer.bias)] > 1)
    return module


def _add(layer: nn.Linear, name: str, update: Tensor, *, shared: bool) -> None:
    """Add to a parameter: in place, or to one of the layer's own if it has none or shares it."""
    own: Tensor | None = getattr(layer, name)
    if own is not None and not shared:
        own += update
    else:
        made = update.clone() if own is None else own + update
        setattr(layer, name, nn.Parameter(made))


def _without_graphs(adapted: AdaptedModel) -> dict[int, Any]:
    """For `deepcopy`: results that modules keep of their last pass, copied without the graph."""
    kept = [x for module in adapted.modules() for x in vars(module).values()]
    return {id(x): x.detach().clone() for x in kept if isinstance(x, Tensor) and not x.is_leaf}
