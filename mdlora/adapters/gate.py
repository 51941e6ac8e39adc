"""The gate of MoE-MLoRA."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mdlora.adapters.routes import ExpertRoute, MixtureRoute, Route
from mdlora.config import MoEMLoRA, counted
from mdlora.errors import AdapterError

__all__ = ["Gate"]


class Gate(nn.Module):
    """g = softmax(V z + prior[d]), the weights of K adapters for each row.

    z is the gate's own embedding of the domain, alone or beside the layer's input. V starts at
    zero; `prior` is fixed and gives the domain's own adapters `gate_own_weight` at the start (or
    is zero, for an even start), whatever the number of domains.

    With `top_k`, the k largest weights are renormalised and the others are exactly zero.
    Unknown domains (id 0) have zero weights, or the gate's, as `unknown_domain` says.

    A shared gate makes one route for the whole pass, another one for each call of its layer.

    Shapes (B rows, I in, K adapters, D domains): domain (B,) int64 in 0..D, x (B, ..., I).
    """

    prior: Tensor

    def __init__(self, config: MoEMLoRA, num_domains: int, like: nn.Linear) -> None:
        super().__init__()
        num_experts = num_domains * config.experts_per_domain
        self.top_k = None if config.top_k is None else min(config.top_k, num_experts)
        self.sees_input = config.gate == "input"
        self.detach = config.gate_detach
        self.shared = config.gate_shared
        self.serves_unknown = config.unknown_domain == "gate"
        self.embedding = nn.Embedding(num_domains + 1, config.gate_embed_dim)
        width = config.gate_embed_dim + (like.in_features if self.sees_input else 0)
        self.linear = nn.Linear(width, num_experts)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0  # an unknown domain: the gate is its bias
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("prior", _prior(config, num_domains))
        self.to(like.weight)

    def weights(self, domain: Tensor, x: Tensor | None = None) -> Tensor:
        """The softmax (B, K), before `top_k`."""
        z, prior = self.embedding(domain), self.prior[domain]
        if self.sees_input:
            assert x is not None
            x = x.flatten(1, -2).mean(1) if x.dim() > 2 else x
            if x.shape[1] + z.shape[1] != self.linear.in_features:
                wanted = counted(self.linear.in_features - z.shape[1], "input")
                raise AdapterError(
                    f"A shared gate was built for a layer of {wanted}, but the first layer that "
                    f"the forward pass calls has {x.shape[1]}. "
                    "Choose a gate for each layer: gate_shared=False."
                )
            z = torch.cat((z, x.detach() if self.detach else x), 1)
        return self._softmax(z, prior, domain)

    def _softmax(self, z: Tensor, prior: Tensor, domain: Tensor) -> Tensor:
        weights = torch.softmax(self.linear(z) + prior, -1)
        return weights if self.serves_unknown else weights * (domain > 0).unsqueeze(1)

    def forward(self, domain: Tensor, x: Tensor) -> Route:
        """The route of each row."""
        if self.sees_input:
            weights = self.weights(domain, x)
        else:  # one softmax a domain, not one a row
            every = torch.arange(self.embedding.num_embeddings, device=domain.device)
            weights = self._softmax(self.embedding.weight, self.prior, every)
            if self.top_k is None:
                return MixtureRoute(weights.index_select(0, domain))
        if self.top_k is None:
            return MixtureRoute(weights)
        kept, experts = weights.topk(self.top_k, -1)
        total = kept.sum(-1, keepdim=True)
        kept = kept / torch.where(total > 0, total, torch.ones_like(total))
        if not self.sees_input:
            kept, experts = kept.index_select(0, domain), experts.index_select(0, domain)
        return ExpertRoute(experts, self.linear.out_features, kept)


def _prior(config: MoEMLoRA, num_domains: int) -> Tensor:
    """(D + 1, K) fixed logits; row 0, the unknown domain, is even."""
    m = config.experts_per_domain
    others = (num_domains - 1) * m
    prior = torch.zeros(num_domains + 1, num_domains * m, dtype=torch.float64)
    if config.gate_init == "own" and others:
        share = config.gate_own_weight
        lift = math.log(share / m) - math.log((1 - share) / others)
        for first in range(m):
            own = torch.arange(num_domains)
            prior[own + 1, first * num_domains + own] = lift
    return prior
