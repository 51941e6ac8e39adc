"""A star of networks: a shared one in the middle, one of each domain around it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mdlora.backbones.base import Inputs, tower_input
from mdlora.backbones.multi_domain.base import MultiDomainBackbone, check_domains
from mdlora.backbones.multi_domain.hosted import domain_place
from mdlora.config import check_count
from mdlora.layers import MLP, DomainRows, PartitionedNorm, StarLinear, StarMLP, dense
from mdlora.types import Embedded

__all__ = ["Star", "StarShared"]


class _NormedByDomain(MultiDomainBackbone):
    """What both stars have: partitioned normalisation below, the auxiliary network beside.

    Within a domain the domain's own field never varies, so its normalised value is that of the
    domain's mean. A row of an unknown domain is given the same there: its own would lie far
    outside of what training saw.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        auxiliary_hidden: Sequence[int],
        norm_min_rows: int,
        dropout: float,
    ) -> None:
        for width in auxiliary_hidden:
            check_count("backbone.options.auxiliary_hidden", width, low=1)
        check_count("backbone.options.norm_min_rows", norm_min_rows, low=2)
        super().__init__(inputs)
        start = domain_place(inputs, type(self).__name__) * inputs.embed_dim
        self.domain_columns = slice(start, start + inputs.embed_dim)
        self.norm = PartitionedNorm(self.num_domains, inputs.width, min_rows=norm_min_rows)
        self.auxiliary = MLP(inputs.width, auxiliary_hidden, dropout=dropout)
        self.auxiliary_head = dense([inputs.width, *auxiliary_hidden][-1], 1)

    @abstractmethod
    def main(self, normed: Tensor, rows: DomainRows) -> Tensor:
        """The main network's part of the logit, (B,), from normalised rows (B, I)."""

    def shared(self, x: Embedded) -> tuple[Tensor, ...]:
        """The input, the auxiliary network's part of the logit, and the rows' domains."""
        flat = tower_input(x)
        beside: Tensor = self.auxiliary_head(self.auxiliary(flat))
        return flat, beside.squeeze(1), x.domain

    def logits(self, parts: tuple[Tensor, ...], rows: DomainRows) -> Tensor:
        """The logit of each row."""
        return self.both(parts, rows.index + 1, rows)

    def both(self, parts: tuple[Tensor, ...], met: Tensor, rows: DomainRows) -> Tensor:
        """The logits (n,) of rows that are normalised as those of the domains `met` (n,) are."""
        flat, beside, domain = parts
        normed = self.norm(flat, met, domain)
        unknown = domain == 0
        if not torch.compiler.is_compiling() and bool(unknown.any()):
            own = torch.arange(flat.shape[1], device=flat.device)
            own = (own >= self.domain_columns.start) & (own < self.domain_columns.stop)
            normed = torch.where(unknown.unsqueeze(1) & own, self.norm.centre(met), normed)
        return self.main(normed, rows) + beside


class Star(_NormedByDomain):
    """STAR (Sheng et al. 2021, arXiv:2101.11427): each domain's network is a product with a shared.

    Partitioned normalisation of the input (`PartitionedNorm`), layers with weights W * W_d and
    biases b + b_d (`StarLinear`), the one-unit output layer too, and an auxiliary network on the
    fields as they come, among them the domain's own: logit = s_main + s_auxiliary.

    The paper trains on batches of one domain; these may mix domains (decision 19). Initial values
    and the auxiliary network's size are ours: W_d starts at one, so that all domains start as
    the shared network, and the auxiliary network has one hidden layer.

    Adapters cannot reach the tower, whose weights are products: `StarShared` has a plain tower in
    its place, on which adapters are the domains' own part.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the tower's layers.
        dropout: chance of dropping a hidden unit.
        auxiliary_hidden: widths of the auxiliary network's hidden layers.
        norm_min_rows: how many rows of a domain a batch must hold, at least 2, to be normalised
            by themselves; fewer have the domain's running statistics.
    """

    paper = "Sheng et al. 2021, arXiv:2101.11427"
    adapter_hint = (
        "The weights of its tower are products of a shared matrix and one of each domain, which "
        "adapters cannot reach: take backbone star-shared, where they stand for the domains' own."
    )

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        auxiliary_hidden: tuple[int, ...] = (32,),
        norm_min_rows: int = 32,
    ) -> None:
        super().__init__(
            inputs, auxiliary_hidden=auxiliary_hidden, norm_min_rows=norm_min_rows, dropout=dropout
        )
        self.tower = StarMLP(self.num_domains, inputs.width, hidden, dropout=dropout)
        self.head = StarLinear(self.num_domains, hidden[-1], 1)

    def main(self, normed: Tensor, rows: DomainRows) -> Tensor:
        """The star's part of the logit."""
        logits: Tensor = self.head(self.tower(normed, rows), rows)
        return logits.squeeze(1)


class StarShared(_NormedByDomain):
    """STAR (Sheng et al. 2021, arXiv:2101.11427) without the domains' own matrices and biases.

    Partitioned normalisation and the auxiliary network are those of `Star`; the tower and its
    head are one plain network for all. With adapters on it (MLoRA, MoE-MLoRA) this is the two
    papers' STAR+MLoRA, where each domain's own layer has the low-rank form.

    A row of an unknown domain passes the tower once: its normalisation scales and shifts as those
    of all domains do in the mean.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the tower's layers.
        dropout: chance of dropping a hidden unit.
        auxiliary_hidden: widths of the auxiliary network's hidden layers.
        norm_min_rows: how many rows of a domain a batch must hold, at least 2, to be normalised
            by themselves; fewer have the domain's running statistics.
    """

    paper = "Sheng et al. 2021, arXiv:2101.11427"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        auxiliary_hidden: tuple[int, ...] = (32,),
        norm_min_rows: int = 32,
    ) -> None:
        super().__init__(
            inputs, auxiliary_hidden=auxiliary_hidden, norm_min_rows=norm_min_rows, dropout=dropout
        )
        self.tower = MLP(inputs.width, hidden, dropout=dropout)
        self.head = dense(hidden[-1], 1)

    def main(self, normed: Tensor, rows: DomainRows) -> Tensor:
        """The tower's part of the logit."""
        logits: Tensor = self.head(self.tower(normed))
        return logits.squeeze(1)

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        check_domains(x.domain, self.num_domains)
        return self.both(self.shared(x), x.domain, DomainRows(x.domain, self.num_domains + 1))
