"""Gates on the embeddings by domain, and on the hidden layers by user and item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mdlora.backbones.base import Inputs, tower_input
from mdlora.backbones.fields import find_fields
from mdlora.backbones.multi_domain.hosted import HostedBackbone, TowerMethod, domain_place
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.layers import GateUnit
from mdlora.types import Embedded

__all__ = ["EPNet", "PEPNet", "PPNet"]


class _EmbeddingGate(nn.Module):
    """O = gate([E(domain), stop(E)]) * E, where E is all that enters a backbone (section 2.2.2)."""

    def __init__(self, inputs: Inputs, hidden: int | None) -> None:
        super().__init__()
        self.place = domain_place(inputs, "EPNet")
        self.unit = GateUnit(inputs.embed_dim + inputs.width, inputs.width, hidden=hidden)

    def forward(self, x: Embedded) -> Embedded:
        """The same rows, fields and numbers scaled."""
        flat = tower_input(x)
        domain = x.fields[:, self.place]
        scale: Tensor = self.unit(torch.cat((domain, flat.detach()), 1))
        of_fields, of_dense = scale.split([flat.shape[1] - x.dense.shape[1], x.dense.shape[1]], 1)
        return x._replace(fields=x.fields * of_fields.view_as(x.fields), dense=x.dense * of_dense)


class _HiddenGates(nn.Module):
    """gate_l([prior, stop(O)]) for each hidden layer l (section 2.2.3); prior: some fields of E."""

    def __init__(
        self, inputs: Inputs, widths: Sequence[int], prior: Sequence[str], hidden: int | None
    ) -> None:
        super().__init__()
        self.places = _prior_places(inputs, prior)
        width = len(self.places) * inputs.embed_dim + inputs.width
        self.units = nn.ModuleList(GateUnit(width, units, hidden=hidden) for units in widths)

    def known(self, x: Embedded, scaled: Embedded) -> Tensor:
        """What all gates see of the rows: their prior fields, and what enters the host."""
        prior = [x.fields[:, place] for place in self.places]
        return torch.cat((*prior, tower_input(scaled).detach()), 1)

    def forward(self, layer: int, hidden: Tensor, known: Tensor) -> Tensor:
        """The hidden layer's output (B, H), scaled."""
        scaled: Tensor = hidden * self.units[layer](known)
        return scaled


def _prior_places(inputs: Inputs, prior: Sequence[str]) -> tuple[int, ...]:
    if prior:
        return find_fields(inputs, "prior", prior)
    found = tuple(i for i in (inputs.user_field, inputs.item_field) if i is not None)
    if not found:
        raise ConfigError(
            "PPNet gates hidden layers by the user's and the item's fields, but no column has the "
            "role user or item. Name the fields that it shall see in backbone.options.prior, of: "
            f"{', '.join(inputs.field_names)}."
        )
    return found


class EPNet(HostedBackbone):
    """The embedding half of PEPNet (Chang et al. 2023, arXiv:2302.01115), on any backbone.

    All fields and numbers E become 2 sigmoid(MLP([E(domain), stop(E)])) * E before they enter the
    host: the domain says which of them count. stop(.) lets no gradient through. The linear part
    and the vectors inside lists are not scaled (pooled lists are: they are fields).

    The paper's domain-side features are the domain's field; counts by domain, which it also
    uses, are not in general data. A row of an unknown domain has the embedding of id 0.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the host's layers.
        dropout: chance of dropping a hidden unit.
        on: the host: a backbone by name.
        host: the host's own options, backbone.options.host.KEY; `mdlora models HOST` lists them.
        gate_hidden: width of the gate's hidden layer; default: as many as it scales.
    """

    paper = "Chang et al. 2023, arXiv:2302.01115"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
        gate_hidden: int | None = None,
    ) -> None:
        check_count("backbone.options.gate_hidden", gate_hidden, low=1, optional=True)
        super().__init__(inputs, hidden=hidden, dropout=dropout, on=on, host=host)
        self.embedding_gate = _EmbeddingGate(inputs, gate_hidden)

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        logits: Tensor = self.host(self.embedding_gate(x))
        return logits


class PPNet(TowerMethod[Tensor]):
    """The parameter half of PEPNet (Chang et al. 2023, arXiv:2302.01115), on any deep tower.

    The output h of each hidden layer becomes 2 sigmoid(MLP([prior, stop(E)])) * h, with a gate of
    its own for each layer; the prior are the user's and the item's fields (the paper's author
    too, where `prior` names such a field), E is all that enters the host. stop(.) lets no
    gradient through. With one task there is one tower.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the host's layers.
        dropout: chance of dropping a hidden unit.
        on: the host: a backbone with a tower, by name.
        host: the host's own options, backbone.options.host.KEY; `mdlora models HOST` lists them.
        prior: names of the fields that the gates see; default: the user's and the item's.
        gate_hidden: width of a gate's hidden layer; default: as many as it scales.
    """

    paper = "Chang et al. 2023, arXiv:2302.01115"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
        prior: tuple[str, ...] = (),
        gate_hidden: int | None = None,
    ) -> None:
        check_count("backbone.options.gate_hidden", gate_hidden, low=1, optional=True)
        super().__init__(inputs, hidden=hidden, dropout=dropout, on=on, host=host)
        self.gates = _HiddenGates(inputs, hidden, prior, gate_hidden)

    def change(self, layer: int, hidden: Tensor, known: Tensor) -> Tensor:
        """The hidden layer's output, scaled."""
        scaled: Tensor = self.gates(layer, hidden, known)
        return scaled

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        return self.run(x, self.gates.known(x, x))


class PEPNet(PPNet):
    """PEPNet (Chang et al. 2023, arXiv:2302.01115): EPNet below, PPNet above, on any deep tower.

    EPNet scales all fields and numbers E to O by the domain; PPNet's gates see the prior fields
    and stop(O), and scale the hidden layers. See `EPNet` and `PPNet`.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the host's layers.
        dropout: chance of dropping a hidden unit.
        on: the host: a backbone with a tower, by name.
        host: the host's own options, backbone.options.host.KEY; `mdlora models HOST` lists them.
        prior: names of the fields that PPNet's gates see; default: the user's and the item's.
        gate_hidden: width of a gate's hidden layer; default: as many as it scales.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
        prior: tuple[str, ...] = (),
        gate_hidden: int | None = None,
    ) -> None:
        super().__init__(
            inputs,
            hidden=hidden,
            dropout=dropout,
            on=on,
            host=host,
            prior=prior,
            gate_hidden=gate_hidden,
        )
        self.embedding_gate = _EmbeddingGate(inputs, gate_hidden)

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        scaled = self.embedding_gate(x)
        return self.run(scaled, self.gates.known(x, scaled))
