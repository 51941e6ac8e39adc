"""In evaluation a row's score is its own: whoever else is in the batch, and in whichever order."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mdlora.backbones import BACKBONES
from mdlora.backbones.multi_domain import MultiDomainBackbone
from mdlora.errors import AdapterError

OPTIONS_BY_DEFAULT = ("test_of_a_backbone",)


def check_alone(model: nn.Module, contract: Any, num_domains: int, with_ids: bool) -> None:
    x = contract.rows(24, num_domains)
    x = x._replace(domain=x.domain.index_fill(0, torch.tensor([0, 5]), 0))  # of no known domain

    def score(part: Any) -> torch.Tensor:
        return model(part, domain=part.domain) if with_ids else model(part)

    whole = score(x).detach()
    assert whole.shape == (24,)
    assert torch.isfinite(whole).all()
    scale = float(whole.abs().max())
    for places in ([0], [7], [5, 9], list(range(24))[::-1], list(range(3, 20, 2))):
        part = score(contract.pick(x, places))
        torch.testing.assert_close(part, whole[places], rtol=1e-10, atol=1e-12 * scale)
    assert score(contract.pick(x, [])).shape == (0,)


def test_of_a_backbone(case: str, num_domains: int, contract: Any):
    check_alone(contract.build(case, num_domains), contract, num_domains, with_ids=False)


def test_with_adapters_on_all_layers(reachable: str, num_domains: int, contract: Any):
    """On those that they reach by default, where there are many domains."""
    network = contract.build(reachable, num_domains)
    targets = contract.targets(reachable, num_domains)
    for name in ("mlora", "moe-mlora, gate on the input", "full-finetuned"):
        adapted = contract.adapt(
            network, contract.adapters[name], num_domains=num_domains, targets=targets
        )
        contract.shake(adapted)
        for route in contract.routes(adapted):
            adapted.route_mode = route
            check_alone(adapted, contract, num_domains, with_ids=True)
        adapted.unwrap()


@pytest.mark.parametrize("rows", [3, 130])
def test_ids_of_no_domain_are_refused_where_ids_matter(backbone: str, rows: int, contract: Any):
    network, x = contract.build(backbone, 3), contract.rows(rows, 3)
    known = network(x)
    matter = not torch.equal(network(x._replace(domain=torch.ones_like(x.domain))), known)
    assert matter or not issubclass(BACKBONES[backbone], MultiDomainBackbone)
    for wrong in (4, -1, 1 << 40):
        other = x._replace(domain=x.domain.index_fill(0, torch.tensor([rows - 1]), wrong))
        if matter:
            least, most = other.domain.aminmax()
            with pytest.raises(AdapterError, match=f"ids run from {least} to {most}; .* 0 to 3"):
                network(other)
        else:  # it knows a row's domain by the domain's field, if at all
            assert torch.equal(network(other), known)


def test_the_check_sees_a_batch_mate(contract: Any):
    class Centred(nn.Module):
        def forward(self, x: Any) -> torch.Tensor:
            sums: torch.Tensor = x.fields.sum((1, 2))
            return sums - sums.mean()

    with pytest.raises(AssertionError, match="not close"):
        check_alone(Centred(), contract, 3, with_ids=False)
