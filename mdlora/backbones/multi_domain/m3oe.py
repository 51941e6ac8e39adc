"""Experts of all, of each domain and of the task, fused at two levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mdlora.backbones.base import Inputs, tower_input
from mdlora.backbones.multi_domain.base import MultiDomainBackbone
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.layers import MLP, DomainLinear, DomainMLP, DomainRows, ExpertMLP, StarLinear
from mdlora.types import Embedded

__all__ = ["M3oE"]

_LEAST_HIDDEN = 3


class M3oE(MultiDomainBackbone):
    """M3oE (Zhang et al. 2024, arXiv:2404.18465) for one task.

    With all fields and numbers x of a row of domain d, and three kinds of experts, all of them
    towers of one shape on one representation e:

        e = bottom(star_d(x)) + skip(x)                  domain representation
        D = b E_d + (1 - b) mean of the other E_j        first level: domain experts
        S = sum_k g_k E_k, g = softmax(gate_d stop(e))   first level: shared experts
        logit = tower_d(S + w D + v T)                   second level, T the task's one expert

    star_d is a `StarLinear`; stop(.) lets no gradient through. b, w and v are sigmoids of learned
    numbers, as in the authors' code. Widths: `hidden[0]` leaves star, `hidden[1]` is e's, the
    experts have `hidden[2:]`, and a domain's tower has one layer as wide as they end.

    Differences: the authors learn b, w and v by turns on validation rows (AutoML, with an
    optimizer of their own); here all weights learn together on the training rows. With one task
    there is nothing to balance T with. The authors' code has a layer normalisation after each
    linear map; here there is none, as in the library's other towers.

    A row of an unknown domain meets the mean of all domains' stars, and gets the mean of the
    logits that the gates, experts' shares and towers of each domain make of the rest.

    Every row meets all domain experts, which costs memory of rows x domains x width.

    Adapters reach `skip`, `bottom`, and the experts' first layers (`experts.first`).

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths, three at least, as said above.
        dropout: chance of dropping a hidden unit.
        num_shared: how many shared experts there are.
    """

    adapter_targets = "skip,bottom,experts"
    paper = "Zhang et al. 2024, arXiv:2404.18465"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        num_shared: int = 4,
    ) -> None:
        check_count("backbone.options.num_shared", num_shared, low=1)
        if len(hidden) < _LEAST_HIDDEN:
            raise ConfigError(
                f"backbone.hidden={list(hidden)} has {len(hidden)} widths; M3oE needs three at "
                "least: of its star layer, of its representation, and of its experts, say "
                "[256, 128, 64]."
            )
        super().__init__(inputs)
        num, (star, width, *expert) = inputs.num_domains, hidden
        self.num_shared = num_shared
        self.star = StarLinear(num, inputs.width, star)
        self.bottom = MLP(star, (width,), dropout=dropout)
        self.skip = MLP(inputs.width, (width,), dropout=dropout)
        self.experts = ExpertMLP(num_shared + num + 1, width, expert, dropout=dropout)
        self.gate = DomainLinear(num, width, num_shared)
        self.balance = nn.Parameter(torch.ones(()))
        self.domain_weight = nn.Parameter(torch.ones(()))
        self.task_weight = nn.Parameter(torch.ones(()))
        self.tower = DomainMLP(num, expert[-1], (expert[-1],), dropout=dropout)
        self.head = DomainLinear(num, expert[-1], 1)

    def shared(self, x: Embedded) -> tuple[Tensor, ...]:
        """The representation e, and all experts' outputs on it."""
        flat, known = tower_input(x), (x.domain - 1).clamp(min=0)
        star: Tensor = self.star(flat, DomainRows(known, self.num_domains))
        unknown = x.domain == 0
        if not torch.compiler.is_compiling() and bool(unknown.any()):
            star = torch.where(unknown.unsqueeze(1), self._mean_star(flat), star)
        e = self.bottom(star) + self.skip(flat)
        return e, self.experts(e)

    def _mean_star(self, flat: Tensor) -> Tensor:
        weight = self.star.weight * self.star.own_weight.mean(0)
        return torch.addmm(self.star.bias + self.star.own_bias.mean(0), flat, weight)

    def logits(self, parts: tuple[Tensor, ...], rows: DomainRows) -> Tensor:
        """The logit of each row."""
        e, made = parts
        shared = torch.softmax(self.gate(e.detach(), rows), 1)
        own, other = self._domain_shares()
        domains = other.expand(e.shape[0], self.num_domains)
        domains = domains.scatter(1, rows.index.unsqueeze(1), own.expand(e.shape[0], 1))
        task = torch.sigmoid(self.task_weight).expand(e.shape[0], 1)
        shares = torch.cat((shared, torch.sigmoid(self.domain_weight) * domains, task), 1)
        fused = torch.einsum("bk,bkh->bh", shares, made)
        logits: Tensor = self.head(self.tower(fused, rows), rows).squeeze(1)
        return logits

    def _domain_shares(self) -> tuple[Tensor, Tensor]:
        """Shares of the row's own domain expert, and of each other one."""
        own = torch.sigmoid(self.balance)
        return own, (1 - own) / max(self.num_domains - 1, 1)
