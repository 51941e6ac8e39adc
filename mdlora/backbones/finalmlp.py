"""Two towers, gated and brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mdlora.backbones.base import Backbone, Inputs, tower_input
from mdlora.backbones.fields import find_fields
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.layers import MLP, BilinearFusion, GateUnit
from mdlora.types import Embedded

__all__ = ["FinalMLP"]

_STREAMS = ("first", "second")
_INIT_STD = 0.01  # as embeddings, in whose place it stands


class FinalMLP(Backbone):
    """FinalMLP (Mao et al. 2023, arXiv:2304.00902): two gated streams and their fusion.

    Each stream is a tower on the flat input x times a gate 2 sigmoid(MLP(c)), one factor for each
    unit, so that the streams see different features. c is the stream's context: the embeddings of
    some fields, or a learned vector. (The authors' code embeds the context's fields once more;
    here the gate sees the embeddings that the towers see.) The logit is
    b + w' (o_1, o_2) + o_1' W o_2, where with several heads W is block-diagonal.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).
    Both streams are in `tower`. Adapters on "gates" and "fusion" reach all but W.

    Args:
        inputs: what it is built for.
        hidden: widths of the first stream's layers.
        dropout: chance of dropping a hidden unit of either stream.
        second_hidden: widths of the second stream's layers; None for those of the first.
        gating: whether the streams' inputs are gated.
        first_context: names of the fields that the first gate sees; none for a learned vector.
        second_context: names of the fields that the second gate sees.
        gate_hidden: width of a gate's hidden layer.
        heads: parts that the streams' outputs are cut into; both last widths must be multiples.
    """

    paper = "Mao et al. 2023, arXiv:2304.00902"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        second_hidden: tuple[int, ...] | None = None,
        gating: bool = True,
        first_context: tuple[str, ...] = (),
        second_context: tuple[str, ...] = (),
        gate_hidden: int = 64,
        heads: int = 1,
    ) -> None:
        other = hidden if second_hidden is None else second_hidden
        _check(hidden, other, gate_hidden, heads)
        named = {"first_context": first_context, "second_context": second_context}
        places = [find_fields(inputs, option, names) for option, names in named.items()]
        if not gating and (first_context or second_context):
            raise ConfigError(
                "backbone.options.gating is false, so contexts have no effect: leave "
                "backbone.options.first_context and second_context out."
            )
        super().__init__()
        self.tower = nn.ModuleDict(
            {
                name: MLP(inputs.width, widths, dropout=dropout)
                for name, widths in zip(_STREAMS, (hidden, other), strict=True)
            }
        )
        self.gates = nn.ModuleDict()
        if gating:
            for name, chosen in zip(_STREAMS, places, strict=True):
                self.gates[name] = _ContextGate(inputs, chosen, gate_hidden)
        self.fusion = BilinearFusion(hidden[-1], other[-1], heads=heads)

    @classmethod
    def width_multiple(cls, options: Mapping[str, Any]) -> int:
        """Heads cut the last width into equal parts."""
        heads: int = options["heads"]
        return heads

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        inputs = tower_input(x)
        streams = []
        for name in _STREAMS:
            gated = inputs * self.gates[name](x.fields) if self.gates else inputs
            streams.append(self.tower[name](gated))
        logits: Tensor = self.fusion(*streams)
        return logits


class _ContextGate(nn.Module):
    """A gate on the flat input, from the embeddings of some fields or a learned vector."""

    places: Tensor
    context: Tensor | None

    def __init__(self, inputs: Inputs, places: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        chosen = torch.tensor(places, dtype=torch.int64)
        self.register_buffer("places", chosen, persistent=False)
        self.register_parameter("context", None)
        if not places:
            self.context = nn.Parameter(torch.empty(1, inputs.embed_dim))
            nn.init.normal_(self.context, std=_INIT_STD)
        width = inputs.embed_dim * max(len(places), 1)
        self.unit = GateUnit(width, inputs.width, hidden=hidden)

    def forward(self, fields: Tensor) -> Tensor:
        """The factors (B, I) from the fields (B, G, E)."""
        if self.context is not None:  # one row each, so that adapters know whose it is
            context = self.context.expand(fields.shape[0], -1)
        else:
            context = fields.index_select(1, self.places).flatten(1)
        factors: Tensor = self.unit(context)
        return factors


def _check(hidden: Sequence[int], other: Sequence[int], gate_hidden: int, heads: int) -> None:
    if not other:
        raise ConfigError(
            "backbone.options.second_hidden is empty; give at least one width, say [64], or leave "
            "it out for the widths of backbone.hidden."
        )
    for width in other:
        check_count("backbone.options.second_hidden", width, low=1)
    check_count("backbone.options.gate_hidden", gate_hidden, low=1)
    check_count("backbone.options.heads", heads, low=1)
    if hidden[-1] % heads or other[-1] % heads:
        raise ConfigError(
            f"backbone.options.heads={heads} cannot cut the streams' last layers, of {hidden[-1]} "
            f"and {other[-1]} units, into equal parts: choose a divisor of both."
        )
