"""Untrained adapters change nothing, to the bit; where they reach nothing, they say so."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import linear_names
from mdlora.config import FullFinetuning, MLoRA, MoEMLoRA
from mdlora.errors import AdapterError
from mdlora.types import Embedded

CONFIGS = {
    "full": FullFinetuning(),
    "mlora": MLoRA(temperature=2),
    "mlora, no bias": MLoRA(bias=False),
    "moe": MoEMLoRA(temperature=2),
    "moe, m=3": MoEMLoRA(experts_per_domain=3),
    "moe, top 2, input": MoEMLoRA(gate="input", top_k=2),
    "moe, unknown by gate": MoEMLoRA(unknown_domain="gate"),
}
WITH_MANY = ("full", "moe, top 2, input")
OPTIONS_BY_DEFAULT = ("test_a_layer_is_reached_if_and_only_if_mdlora_models_says_so",)


def bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(torch.int64)


def test_untrained_adapters_change_no_bit(reachable: str, num_domains: int, contract: Any):
    network = contract.build(reachable, num_domains)
    targets = contract.targets(reachable, num_domains)
    batches = [contract.rows(rows, num_domains) for rows in (1, 150)]
    before = [bits(network(x)) for x in batches]
    for name in CONFIGS if num_domains < 10 else WITH_MANY:
        config = CONFIGS[name]
        adapted = contract.adapt(network, config, num_domains=num_domains, targets=targets)
        for route in contract.routes(adapted):
            adapted.route_mode = route
            for x, want in zip(batches, before, strict=True):
                assert torch.equal(bits(adapted(x, domain=x.domain)), want), (name, route)
        contract.shake(adapted)  # the comparison can fail
        assert not torch.equal(bits(adapted(batches[1], domain=batches[1].domain)), before[1])
        adapted.unwrap()
        assert torch.equal(bits(network(batches[1])), before[1])


@pytest.mark.parametrize("adapters", ["mlora", "moe-mlora", "full-finetuned"])
def test_where_adapters_reach_nothing_they_say_what_to_do(
    unreachable: str, adapters: str, contract: Any
):
    network, kind = contract.build(unreachable, 3), contract.kind(unreachable)
    with pytest.raises(AdapterError) as caught:
        contract.adapt(network, contract.adapters[adapters], num_domains=3)
    assert "matches no Linear layer" in str(caught.value)
    assert len(kind.adapter_hint) > 20
    assert kind.adapter_hint in str(caught.value)
    with pytest.raises(AttributeError):  # nothing is left behind
        _ = network.domain_adapters


def changes(network: nn.Module, layer: str, x: Embedded, contract: Any) -> bool:
    """Whether adapters on a layer change a score, once they are not fresh."""
    before = bits(network(x))
    adapted = contract.adapt(network, MLoRA(rank=1), num_domains=3, targets=layer)
    assert torch.equal(bits(adapted(x, domain=x.domain)), before), layer
    contract.shake(adapted)
    changed = not torch.equal(bits(adapted(x, domain=x.domain)), before)
    adapted.unwrap()
    return changed


def test_a_layer_is_reached_if_and_only_if_mdlora_models_says_so(case: str, contract: Any):
    facts = contract.facts(case)
    assert facts.problem is None
    network, x = contract.build(case, 3), contract.rows(40, 3)
    assert [layer.name for layer in facts.layers] == (
        linear_names(network, "*") if facts.layers else []
    )
    for layer in facts.layers:
        if layer.reached:  # in some of a few networks: all of a narrow layer's ReLUs may be off
            others = (contract.build(case, 3) for _ in range(9))
            assert any(changes(net, layer.name, x, contract) for net in chain([network], others))
            continue
        adapted = contract.adapt(network, MLoRA(rank=1), num_domains=3, targets=layer.name)
        with pytest.raises(AdapterError, match=r"but 40 domain ids|never called"):
            adapted(x, domain=x.domain)
        adapted.unwrap()
    if facts.other_targets:
        named = linear_names(network, ",".join(facts.other_targets))
        reached = [layer.name for layer in facts.layers if layer.reached and not layer.default]
        assert named == reached
