"""A sparse structure of each domain, cut out of one tower."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from mdlora.backbones.base import Inputs
from mdlora.backbones.multi_domain.hosted import PerThread, TowerMethod, domain_place
from mdlora.config import check_choice, check_number
from mdlora.layers import Pruner, PrunerFactor, TrainingSteps
from mdlora.types import Embedded

__all__ = ["AdaSparse"]


class _Pass:
    """What the pruners of one pass are given, and which units each of them kept."""

    def __init__(self, domain: Tensor, alpha: Tensor) -> None:
        self.domain = domain
        self.alpha = alpha
        self.kept: list[Tensor] = []


class AdaSparse(TowerMethod[_Pass]):
    """AdaSparse (Yang et al. 2022, arXiv:2206.13108): domains prune the units of a tower.

    The output h of each hidden layer is multiplied by factors that a `Pruner` of that layer makes
    of the domain's embedding and of h. In training, alpha grows by `alpha_growth` a step, up to
    `alpha_max`, so factors come closer to zero or one.

    Regularisation: a row of layer l prunes the share r of its units. Where r is outside
    [min_sparsity, max_sparsity], whose middle is m, the loss gains w |r - m|, with a weight
    w = sparsity_weight (alpha / alpha at the start) |r - m| that gets no gradient; the mean over
    rows and layers is taken. The paper states it for binarization; here r is the share of pruned
    units for all three factors. The paper lets the weight grow without saying how: here it grows
    as alpha does.

    A row of an unknown domain has the embedding of id 0.

    Shapes (B rows, G fields, E width, N numbers): x.fields (B, G, E), x.dense (B, N) -> (B,).

    Args:
        inputs: what it is built for.
        hidden: widths of the host's layers.
        dropout: chance of dropping a hidden unit.
        on: the host: a backbone with a tower, by name.
        host: the host's own options, backbone.options.host.KEY; `mdlora models HOST` lists them.
        factor: how units are weighed: binarization, scaling or fusion.
        epsilon: up to which size a factor is zero.
        beta: largest factor of scaling and fusion.
        alpha: sharpness of binarization and fusion at the start.
        alpha_growth: what a training step adds to it.
        alpha_max: where it stops.
        min_sparsity: least share of pruned units that costs nothing.
        max_sparsity: largest share of pruned units that costs nothing.
        sparsity_weight: of the regularisation; 0 for none.
    """

    paper = "Yang et al. 2022, arXiv:2206.13108"

    def __init__(
        self,
        inputs: Inputs,
        *,
        hidden: Sequence[int] = (256, 128, 64),
        dropout: float = 0.0,
        on: str = "mlp",
        host: dict[str, Any] | None = None,
        factor: PrunerFactor = "fusion",
        epsilon: float = 0.25,
        beta: float = 2.0,
        alpha: float = 1.0,
        alpha_growth: float = 1e-4,
        alpha_max: float = 5.0,
        min_sparsity: float = 0.15,
        max_sparsity: float = 0.25,
        sparsity_weight: float = 0.01,
    ) -> None:
        check_choice("backbone.options.factor", factor, get_args(PrunerFactor))
        for name, value, low, high in (
            ("beta", beta, 1, 1e6),
            ("alpha", alpha, 1e-6, 1e6),
            ("alpha_growth", alpha_growth, 0, 1e6),
            ("alpha_max", alpha_max, alpha, 1e6),
            ("min_sparsity", min_sparsity, 0, 1),
            ("max_sparsity", max_sparsity, min_sparsity, 1),
            ("sparsity_weight", sparsity_weight, 0, 1e6),
        ):
            check_number(f"backbone.options.{name}", value, low=low, high=high)
        start = 0.5 if factor == "binarization" else beta / 2  # epsilon above it prunes everything
        check_number("backbone.options.epsilon", epsilon, low=0, high=start, high_open=True)
        super().__init__(inputs, hidden=hidden, dropout=dropout, on=on, host=host)
        self.place = domain_place(inputs, "AdaSparse")
        self.pruners = nn.ModuleList(
            Pruner(inputs.embed_dim, units, factor=factor, epsilon=epsilon, beta=beta)
            for units in hidden
        )
        self.steps = TrainingSteps()
        self.alpha, self.alpha_growth, self.alpha_max = alpha, alpha_growth, alpha_max
        self.min_sparsity, self.max_sparsity = min_sparsity, max_sparsity
        self.sparsity_weight = sparsity_weight
        self._penalty: PerThread[Tensor] = PerThread()

    def change(self, layer: int, hidden: Tensor, known: _Pass) -> Tensor:
        """The hidden layer's output times its factors."""
        factor: Tensor
        factor, kept = self.pruners[layer](known.domain, hidden, known.alpha)
        known.kept.append(kept)
        return hidden * factor

    def forward(self, x: Embedded) -> Tensor:
        """The logit of each row."""
        domain = x.fields[:, self.place]
        sharpness = self.alpha + self.alpha_growth * self.steps().to(domain.dtype)
        known = _Pass(domain, sharpness.clamp(max=self.alpha_max))
        logits = self.run(x, known)
        learns = self.training and torch.is_grad_enabled() and self._weight.requires_grad
        self._penalty.value = self._sparsity(known) if learns and self.sparsity_weight else None
        return logits

    @property
    def _weight(self) -> Tensor:
        first = self.pruners[0]
        assert isinstance(first, Pruner)
        return first.weigh.weight

    def extra_loss(self) -> Tensor | None:
        """The regularisation of this thread's last training pass, once; None if frozen."""
        penalty = self._penalty.value
        self._penalty.value = None
        return penalty

    def _sparsity(self, known: _Pass) -> Tensor:
        share = torch.stack([1 - kept.mean(1) for kept in known.kept])  # (L, B)
        middle = (self.min_sparsity + self.max_sparsity) / 2
        away = (share - middle).abs()
        outside = (share < self.min_sparsity) | (share > self.max_sparsity)
        weight = self.sparsity_weight * (known.alpha / self.alpha) * away.detach()
        return (weight * outside * away).mean()
