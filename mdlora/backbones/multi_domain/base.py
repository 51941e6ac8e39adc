"""What multi-domain methods share: whose parts a row meets, and what unknown domains get."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from mdlora.adapters.checks import check_ids
from mdlora.backbones.base import Backbone, Inputs
from mdlora.layers import DomainRows
from mdlora.types import Embedded

__all__ = ["MultiDomainBackbone", "check_domains"]


class MultiDomainBackbone(Backbone):
    """A network with parts of its own for each of D domains.

    A method says what it makes of a row whatever its domain (`shared`), and then with the parts
    of one domain (`logits`). A row of an unknown domain passes the first once, and gets the mean
    of the logits that it would have in each of the D domains. A traced graph (torch.export,
    torch.compile) takes known domains only, and checks it.

    Args:
        inputs: what it is built for.

    Raises:
        AdapterError: when called, a domain id is not in 0..D; see `check_domains`.
    """

    is_multi_domain: ClassVar[bool] = True

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.num_domains = inputs.num_domains

    @abstractmethod
    def shared(self, x: Embedded) -> tuple[Tensor, ...]:
        """What is made once of each row, whatever its domain: parts (B, ...) for `logits`."""

    @abstractmethod
    def logits(self, parts: tuple[Tensor, ...], rows: DomainRows) -> Tensor:
        """The logit of each row, (n,).

        Args:
            parts: what `shared` made of n rows.
            rows: the domain whose own parts each meets, as an index in 0..D - 1.
        """

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row, (B,)."""
        check_domains(x.domain, self.num_domains)
        return self.over_domains(x.domain, self.shared(x))

    def over_domains(self, domain: Tensor, parts: tuple[Tensor, ...]) -> Tensor:
        """The logit of each row, (B,): the mean over all domains where the domain is unknown.

        Rows of unknown domains are taken some at a time, so that with one copy for each domain
        they are never many more than the rows of the batch.

        Args:
            domain: ids (B,), 0 for unknown and 1..D else.
            parts: what `logits` needs of the rows, each (B, ...).
        """
        if torch.compiler.is_compiling():  # known ones only
            return self.logits(parts, DomainRows(domain - 1, self.num_domains))
        unknown = (domain == 0).nonzero().squeeze(1)
        if not len(unknown):
            return self.logits(parts, DomainRows(domain - 1, self.num_domains))
        known = domain.nonzero().squeeze(1)
        made = []
        if len(known):
            rows = DomainRows(domain[known] - 1, self.num_domains)
            made.append(self.logits(_pick(parts, known), rows))
        every = torch.arange(self.num_domains, device=domain.device)
        for some in unknown.split(max(len(domain) // self.num_domains, 1)):
            picked = _pick(parts, some.repeat_interleave(self.num_domains))
            rows = DomainRows(every.repeat(len(some)), self.num_domains)
            made.append(self.logits(picked, rows).view(-1, self.num_domains).mean(1))
        together = torch.cat(made)
        return together.new_zeros(len(domain)).index_put((torch.cat((known, unknown)),), together)


def check_domains(domain: Tensor, num_domains: int, *, traced_from: int = 1) -> None:
    """Refuse rows of other domains than 0 (unknown) and 1..D.

    Args:
        domain: ids (B,).
        num_domains: D.
        traced_from: least id in a traced graph: 0 where it serves unknown domains too.

    Raises:
        AdapterError: an id is outside. A traced graph, or a GPU, raises RuntimeError when it runs.
    """
    low = traced_from if torch.compiler.is_compiling() else 0
    hint = f" This network was built for {num_domains} domains."
    check_ids("domain", domain, low=low, high=num_domains, hint=hint)


def _pick(parts: tuple[Tensor, ...], index: Tensor) -> tuple[Tensor, ...]:
    return tuple(part[index] for part in parts)
