"""What every backbone's tests ask of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mdlora.adapters import adapt, merge_domain
from mdlora.backbones import Backbone
from mdlora.config import MLoRA
from mdlora.types import Embedded


class Sound:
    """Checks of a backbone `net` on rows x, all with numbers of the same type."""

    def adapts(self, net: Backbone, x: Embedded, targets: str | None) -> tuple[str, ...]:
        """Adapters of 2 domains change what they should, as merged ones do; names of targets."""
        domain = torch.tensor([1, 2, 1, 0, 2, 2, 1])
        before = net(x)
        adapted = adapt(net, MLoRA(num_domains=2, rank=1), targets=targets)
        assert torch.equal(adapted(x, domain=domain), before)
        for bank in adapted.banks:
            nn.init.normal_(bank.up, std=0.5)
            nn.init.normal_(bank.bias, std=0.5)
        scores = adapted(x, domain=domain)
        for d in (0, 1, 2):
            chosen = domain == d
            merged = merge_domain(adapted, d)(x)
            torch.testing.assert_close(scores[chosen], merged[chosen], rtol=1e-10, atol=1e-10)
            assert torch.equal(scores[chosen], before[chosen]) == (d == 0)
        return adapted.target_names

    def ignores_batch_mates(self, net: Backbone, x: Embedded) -> None:
        """A row's score in evaluation is that of the row alone."""
        net.eval()
        alone = [net(Embedded(*(part[i : i + 1] for part in x[:4]))) for i in range(7)]
        torch.testing.assert_close(torch.cat(alone), net(x), rtol=1e-12, atol=1e-13)

    def drops_while_training(self, net: Backbone, x: Embedded, *, drops: bool = True) -> None:
        """Dropout changes scores in training, and never in evaluation."""
        assert torch.equal(net(x), net(x)) != drops
        net.eval()
        assert torch.equal(net(x), net(x))

    def learns_everywhere(self, net: Backbone, x: Embedded) -> None:
        """Every weight has a gradient."""
        net(x).square().sum().backward()
        assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]

    def exports(self, net: Backbone, few: Embedded, more: Embedded) -> None:
        """A graph exported with few rows serves more."""
        net.eval()
        num = torch.export.Dim("rows")
        sizes = Embedded({0: num}, {0: num}, {0: num}, {0: num})
        graph = torch.export.export(net, (few,), dynamic_shapes=(sizes,), strict=False).module()
        torch.testing.assert_close(graph(more), net(more))


@pytest.fixture(scope="session")
def sound() -> Sound:
    """The checks."""
    return Sound()
