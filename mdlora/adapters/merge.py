"""One domain's adapters as plain weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from mdlora.adapters.adapted import AdaptedModel
from mdlora.adapters.routes import Route
from mdlora.errors import AdapterError

__all__ = ["domain_weights", "merge_domain"]


@torch.no_grad()
def domain_weights(adapted: AdaptedModel, index: int) -> Tensor:
    """Weights (D + 1, K) that the rows of each domain give to the adapters of target `index`.

    Row 0 is the unknown domain.

    Raises:
        AdapterError: the gate sees the input, so the weights differ from row to row.
    """
    like = adapted.bank_of(index).down
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
    with adapted.routing(every) as routing:
        routing.called.update(range(len(adapted.banks)))
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
        AdapterError: no such domain, or the gate sees the input.
    """
    if not 0 <= domain <= adapted.num_domains:
        raise AdapterError(
            f"domain={domain} is not there: give 1 to {adapted.num_domains}, or 0 for unknown."
        )
    weights = [domain_weights(adapted, index)[domain] for index in range(len(adapted.banks))]
    plain = copy.deepcopy(adapted)
    layers = plain.target_layers
    module = plain.unwrap()
    for index, layer in enumerate(layers):
        weight, bias = adapted.bank_of(index).merged_update(weights[index])
        layer.weight += weight
        if bias is not None:
            own: Tensor | None = layer.bias
            layer.bias = nn.Parameter(bias.clone() if own is None else own + bias)
    return module
