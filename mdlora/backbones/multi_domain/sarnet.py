"""Experts of all domains and of each, after a scale of each domain's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mdlora.backbones.base import Inputs, tower_input
from mdlora.backbones.multi_domain.base import MultiDomainBackbone
from mdlora.config import check_count
from mdlora.layers import DomainLinear, DomainMLP, DomainRows, ExpertMLP, dense
from mdlora.types import Embedded

__all__ = ["SARNet"]


class SARNet(MultiDomainBackbone):
    """SAR-Net (Shen et al. 2021, arXiv:2110.06475): scale by domain, then shared and own experts.

    With all fields and numbers e of a row of domain d, S shared and K own experts:

        f = scale_d * e + shift_d                          scenario-specific transform
        y_k = head_k(tower_k(f)), k = 1..S + K             experts, the last K of d's own
        logit = sum_k g_k y_k, g = softmax(gate f)         multi-scenario gate

    scale starts at one and shift at zero. Left out, since general data have nothing to feed it:
    the attention over a user's behaviours in all scenarios (it needs the scenario of each
    behaviour), and in the "debias" experts the bias net, which sees how much an item was promoted
    by hand and is taken off when the model serves. What is left of an expert is its main net.

    A row of an unknown domain has the mean of all scales and shifts, and gets the mean of the
    logits that it has with the own experts of each domain.

    Adapters reach the first layers of the shared experts (`shared_experts.first`), and `gate`.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of each expert's layers.
        dropout: chance of dropping a hidden unit.
        num_shared: S, experts that all domains share.
        num_own: K, experts that each domain has of its own.
    """

    adapter_targets = "shared_experts"
    paper = "Shen et al. 2021, arXiv:2110.06475"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        num_shared: int = 4,
        num_own: int = 2,
    ) -> None:
        check_count("backbone.options.num_shared", num_shared, low=1)
        check_count("backbone.options.num_own", num_own, low=1)
        super().__init__(inputs)
        self.num_own = num_own
        own = inputs.num_domains * num_own
        self.scale = nn.Parameter(torch.ones(inputs.num_domains, inputs.width))
        self.shift = nn.Parameter(torch.zeros(inputs.num_domains, inputs.width))
        self.shared_experts = ExpertMLP(num_shared, inputs.width, hidden, dropout=dropout)
        self.shared_heads = DomainLinear(num_shared, hidden[-1], 1)
        self.own_experts = DomainMLP(own, inputs.width, hidden, dropout=dropout)
        self.own_heads = DomainLinear(own, hidden[-1], 1)
        self.gate = dense(inputs.width, num_shared + num_own)

    def shared(self, x: Embedded) -> tuple[Tensor, ...]:
        """The scaled input, the shared experts' logits (B, S), and the gate's (B, S + K)."""
        scale, shift = (
            torch.cat((part.mean(0, keepdim=True), part))[x.domain]
            for part in (self.scale, self.shift)
        )
        f = tower_input(x) * scale + shift
        return f, self.shared_heads.each(self.shared_experts(f)).squeeze(2), self.gate(f)

    def logits(self, parts: tuple[Tensor, ...], rows: DomainRows) -> Tensor:
        """The logit of each row."""
        f, of_shared, gate = parts
        places = torch.arange(self.num_own, device=f.device)
        experts = rows.index.unsqueeze(1) * self.num_own + places
        own = DomainRows(experts.flatten(), self.num_domains * self.num_own)
        made = self.own_experts(f.repeat_interleave(self.num_own, 0), own)
        of_own = self.own_heads(made, own).view(-1, self.num_own)
        return (torch.softmax(gate, 1) * torch.cat((of_shared, of_own), 1)).sum(1)
