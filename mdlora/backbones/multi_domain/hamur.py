"""Adapter cells that a network shared by all domains fills, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from mdlora.backbones.base import Inputs, tower_input
from mdlora.backbones.multi_domain.base import check_domains
from mdlora.backbones.multi_domain.hosted import TowerMethod
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.layers import MLP, HyperAdapter, dense
from mdlora.types import Embedded

__all__ = ["HAMUR"]


class _Pass(NamedTuple):
    """Each row's matrix (B, K, K) and domain (B,)."""

    matrix: Tensor
    domain: Tensor


class HAMUR(TowerMethod[_Pass]):
    """HAMUR (Li et al. 2023, arXiv:2309.06217): hyper-adapter cells in a backbone's tower.

    A hyper-network, shared by all domains, makes of all fields and numbers of a row a matrix M
    (rank x rank); a `HyperAdapter` with M and with the row's own domain's normalisation follows
    each of the last `cells` hidden layers. The paper's experiments have one cell in a tower of
    two layers, and two in one of seven.

    A row of an unknown domain is normalised as the domains do in the mean, see `PartitionedNorm`.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the host's layers.
        dropout: chance of dropping a hidden unit, in the hyper-network too.
        on: the host: a backbone with a tower, by name.
        host: the host's own options, backbone.options.host.KEY; `mdlora models HOST` lists them.
        cells: how many hidden layers, from the last one, have a cell.
        rank: K, of the matrices.
        bottleneck: width inside a cell.
        hyper_hidden: widths of the hyper-network's hidden layers.
    """

    paper = "Li et al. 2023, arXiv:2309.06217"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
        cells: int = 1,
        rank: int = 35,
        bottleneck: int = 32,
        hyper_hidden: tuple[int, ...] = (64,),
    ) -> None:
        for name, value in (("cells", cells), ("rank", rank), ("bottleneck", bottleneck)):
            check_count(f"backbone.options.{name}", value, low=1)
        for width in hyper_hidden:
            check_count("backbone.options.hyper_hidden", width, low=1)
        if cells > len(hidden):
            raise ConfigError(
                f"backbone.options.cells={cells} but there are {len(hidden)} hidden layers: choose "
                f"1 to {len(hidden)}."
            )
        super().__init__(inputs, hidden=hidden, dropout=dropout, on=on, host=host)
        self.rank, self.num_domains = rank, inputs.num_domains
        self.hyper = MLP(inputs.width, hyper_hidden, dropout=dropout)
        self.hyper_head = dense((inputs.width, *hyper_hidden)[-1], rank * rank)
        self.first = len(hidden) - cells
        self.cells = nn.ModuleList(
            HyperAdapter(inputs.num_domains, units, rank=rank, bottleneck=bottleneck)
            for units in hidden[self.first :]
        )

    def change(self, layer: int, hidden: Tensor, known: _Pass) -> Tensor:
        """The hidden layer's output, with what its cell adds."""
        if layer < self.first:
            return hidden
        adapted: Tensor = self.cells[layer - self.first](hidden, known.matrix, known.domain)
        return adapted

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        check_domains(x.domain, self.num_domains, traced_from=0)
        flat: Tensor = self.hyper_head(self.hyper(tower_input(x)))
        return self.run(x, _Pass(flat.unflatten(1, (self.rank, self.rank)), x.domain))
