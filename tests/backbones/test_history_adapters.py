"""Adapters on DIN's attention: each item meets those of its own row's domain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, adapt, merge_domain
from mdlora.backbones import Inputs, ListInput, build_backbone
from mdlora.config import BackboneConfig, DomainAdapters, FullFinetuning, MLoRA, MoEMLoRA
from mdlora.errors import AdapterError
from mdlora.layers import rows_of
from mdlora.types import Embedded, EmbeddedList

E = 4
INPUTS = Inputs(
    field_names=("user", "item", "market", "seen"),
    embed_dim=E,
    num_domains=3,
    domain_field=2,
    item_field=1,
    lists=(ListInput(name="seen", field=3),),
)
BOTH = "attention,tower"
METHODS: list[DomainAdapters] = [
    MLoRA(num_domains=3, rank=1),
    MoEMLoRA(num_domains=3, rank=1),
    MoEMLoRA(num_domains=3, rank=1, experts_per_domain=2, top_k=2, gate="input"),
    FullFinetuning(num_domains=3),
]
EVERY = pytest.mark.parametrize("method", METHODS, ids=["mlora", "moe", "moe-input", "full"])
LENGTHS = (2, 0, 3, 1, 0, 1, 4)
DOMAINS = torch.tensor([3, 1, 1, 0, 2, 2, 3])


def history(*lengths: int, kind: torch.dtype = torch.float64) -> Embedded:
    """Rows with lists of these lengths."""
    make = torch.Generator().manual_seed(5)
    count = len(lengths)
    sizes = ((count, 4, E), (count,), (count, 0), (sum(lengths), E))
    *parts, items = (torch.randn(size, dtype=kind, generator=make) for size in sizes)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.ones(count, dtype=torch.int64)
    return Embedded(*parts, ids, (EmbeddedList(items, offsets),))


def alone(x: Embedded, i: int) -> Embedded:
    (items,) = x.lists
    start, end = items.offsets[i : i + 2].tolist()
    mine = EmbeddedList(items.values[start:end], torch.tensor([0, end - start]))
    return Embedded(*(part[i : i + 1] for part in x[:4]), (mine,))


def adapted_din(
    method: DomainAdapters, targets: str = BOTH, kind: torch.dtype = torch.float64
) -> AdaptedModel:
    """As if trained."""
    options = {"attention_hidden": [8]}
    config = BackboneConfig(name="din", hidden=(8, 4), dropout=0.0, options=options)
    adapted = adapt(build_backbone(config, INPUTS).to(kind), method, targets=targets).eval()
    for weight in adapted.parameters():
        nn.init.normal_(weight, std=0.5)
    return adapted


@pytest.mark.parametrize("targets", [BOTH, "attention"])
@pytest.mark.parametrize(
    "method", [METHODS[0], METHODS[1], METHODS[3]], ids=["mlora", "moe", "full"]
)
def test_rows_score_as_the_merged_models_of_their_domains(method: DomainAdapters, targets: str):
    adapted, x = adapted_din(method, targets), history(*LENGTHS)
    scores = adapted(x, domain=DOMAINS)
    for domain in range(4):
        plain = merge_domain(adapted, domain)(x)
        torch.testing.assert_close(
            scores[domain == DOMAINS], plain[domain == DOMAINS], rtol=1e-12, atol=1e-12
        )
    assert not torch.allclose(scores, merge_domain(adapted, 0)(x), rtol=1e-3)


@EVERY
def test_rows_score_alone_as_they_do_among_mates(method: DomainAdapters):
    adapted, x = adapted_din(method), history(*LENGTHS)
    scores = adapted(x, domain=DOMAINS)
    for i in range(len(LENGTHS)):
        one = adapted(alone(x, i), domain=DOMAINS[i : i + 1])
        torch.testing.assert_close(one, scores[i : i + 1], rtol=1e-12, atol=1e-12)


@EVERY
def test_batches_without_a_single_item_are_scored(method: DomainAdapters):
    adapted = adapted_din(method)
    assert adapted(history(0, 0), domain=torch.tensor([1, 2])).isfinite().all()
    assert adapted(history(), domain=torch.tensor([], dtype=torch.int64)).shape == (0,)


def test_adapters_of_the_attention_learn_from_the_items_of_their_own_rows():
    adapted, x = adapted_din(METHODS[0]), history(*LENGTHS)
    adapted(x, domain=DOMAINS).sum().backward()
    names = adapted.target_names
    banks = [bank for name, bank in zip(names, adapted.banks, strict=True) if "attention" in name]
    assert len(banks) == 2
    for bank in banks:
        assert (bank.bias.grad.abs().sum(1) > 0).all()
    adapted.zero_grad()
    adapted(history(2, 0, 3), domain=torch.tensor([3, 2, 3])).sum().backward()  # 2: no items
    for bank in banks:
        assert (bank.bias.grad.abs().sum(1) > 0).tolist() == [False, False, True]


def test_an_expert_named_for_a_row_serves_its_items():
    adapted, x = adapted_din(METHODS[0]), history(*LENGTHS)
    expert = torch.tensor([0, 1, 2, -1, 0, 1, 2])
    scores = adapted(x, domain=DOMAINS, expert=expert)
    expected = adapted(x, domain=expert + 1)
    torch.testing.assert_close(scores, expected, rtol=1e-12, atol=1e-12)


def test_experts_that_gates_chose_for_items_count_as_used():
    """Adapters on the attention alone: their gates see items, so no row's route knows of them."""
    method = MoEMLoRA(num_domains=3, rank=1, top_k=1, gate="domain", gate_own_weight=0.9)
    adapted = adapted_din(method, "attention").train()
    for gate in adapted.gates:  # as fresh ones: each domain chooses its own
        nn.init.zeros_(gate.linear.weight)
        nn.init.zeros_(gate.linear.bias)
    adapted(history(2, 0, 3), domain=torch.tensor([1, 2, 3]))
    used = adapted.experts_used()
    assert used is not None
    assert used.tolist() == [True, False, True]


def test_one_gate_for_all_layers_serves_items_and_rows():
    method = MoEMLoRA(num_domains=3, rank=1, gate_shared=True)
    adapted, x = adapted_din(method), history(*LENGTHS)
    assert len(adapted.gates) == 1
    scores = adapted(x, domain=DOMAINS)
    for domain in range(4):
        plain = merge_domain(adapted, domain)(x)
        torch.testing.assert_close(
            scores[domain == DOMAINS], plain[domain == DOMAINS], rtol=1e-12, atol=1e-12
        )


def test_sorted_rows_leave_the_order_of_items_alone():
    """As many items as rows, in a batch large enough for merged products of rows."""
    lengths = [2, 0] * 64 + [0, 3, 0] * 32 + [1] * 32
    assert sum(lengths) == len(lengths) == 256
    domain = (torch.arange(256) // 86) + 1
    method = MLoRA(num_domains=3, temperature=2)
    adapted = adapted_din(method, kind=torch.float32).train()
    x = history(*lengths, kind=torch.float32)
    plain = adapted(x, domain=domain)
    with adapted.routing(domain, sorted_rows=True):
        assert torch.allclose(adapted.module(x), plain, rtol=1e-4, atol=1e-4)


def test_other_numbers_of_ids_or_owners_are_refused():
    adapted, x = adapted_din(METHODS[0]), history(*LENGTHS)
    with pytest.raises(AdapterError, match=r"got 11 rows, and 2 domain ids .* a batch of 7: give"):
        adapted(x, domain=torch.tensor([1, 2]))
    net = adapt(nn.Sequential(nn.Linear(3, 2)), METHODS[0], targets="0")
    with (
        pytest.raises(AdapterError, match=r"0 got 5 rows, and 2 domain ids .* for 4 rows of"),
        rows_of(torch.tensor([0, 0, 1, 1]), 2),
    ):
        net(torch.randn(5, 3), domain=torch.tensor([1, 2]))


def test_anybodys_layers_on_items_can_say_whose_they_are():
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(3, 2)

        def forward(self, items: Tensor, row: Tensor, num_rows: int) -> Tensor:
            with rows_of(row, num_rows):
                return self.map(items)

    adapted = adapt(Pooled().double(), METHODS[0], targets="map")
    nn.init.normal_(adapted.banks[0].up)
    items, row = torch.randn(5, 3, dtype=torch.float64), torch.tensor([1, 0, 0, 1, 2])
    made = adapted(items, row, 3, domain=torch.tensor([2, 0, 3]))
    for j, domain in enumerate([0, 2, 2, 0, 3]):
        plain = merge_domain(adapted, domain).map(items[j])
        torch.testing.assert_close(made[j], plain, rtol=1e-12, atol=1e-12)


def exported(adapted: AdaptedModel, x: Embedded) -> Callable[[Embedded, Tensor], Tensor]:
    auto = torch.export.Dim.AUTO
    sizes = Embedded(*({0: auto} for _ in range(4)), (EmbeddedList({0: auto}, {0: auto}),))
    shapes = {"args": (sizes,), "domain": {0: auto}}
    ids = {"domain": DOMAINS}
    graph = torch.export.export(adapted, (x,), ids, dynamic_shapes=shapes, strict=False).module()
    return lambda rows, domain: graph(rows, domain=domain)


def compiled(adapted: AdaptedModel, x: Embedded) -> Callable[[Embedded, Tensor], Tensor]:
    torch._dynamo.reset()
    graph = torch.compile(adapted, backend="eager", fullgraph=True)
    return lambda rows, domain: graph(rows, domain=domain)


@pytest.mark.parametrize(("traced", "method"), [(exported, METHODS[2]), (compiled, METHODS[3])])
def test_traced_graphs_score_as_the_module_does(
    traced: Callable[..., Callable[[Embedded, Tensor], Tensor]], method: DomainAdapters
):
    adapted, x = adapted_din(method), history(*LENGTHS)
    graph = traced(adapted, x)
    for rows, domain in ((x, DOMAINS), (history(1, 5), torch.tensor([3, 1]))):
        expected = adapted(rows, domain=domain)
        torch.testing.assert_close(graph(rows, domain), expected, rtol=1e-12, atol=1e-12)
