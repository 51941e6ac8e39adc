"""DIN: which list and which item, its errors, lists of any length, adapters, export."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from mdlora.adapters import adapt, hold_statistics, linear_names
from mdlora.backbones import Backbone, Inputs, ListInput, build_backbone
from mdlora.config import BackboneConfig, MLoRA
from mdlora.errors import ConfigError
from mdlora.types import Embedded, EmbeddedList

E, N = 3, 2
ONE = Inputs(
    field_names=("user", "item", "market", "seen"),
    embed_dim=E,
    num_dense=N,
    num_domains=2,
    domain_field=2,
    user_field=0,
    item_field=1,
    lists=(ListInput(name="seen", field=3),),
)
TWO = replace(
    ONE,
    field_names=("user", "item", "market", "tags", "seen"),
    lists=(ListInput(name="tags", field=3), ListInput(name="seen", field=4)),
)
MODELS: list[dict[str, Any]] = [
    {},
    {"activation": "dice", "softmax": True},
    {"activation": "relu", "attention_hidden": [5, 4], "target": "user"},
    {"activation": "sigmoid", "softmax": True},
]
EVERY = pytest.mark.parametrize("options", MODELS)


def made(inputs: Inputs = ONE, dropout: float = 0.0, **options: Any) -> Backbone:
    config = BackboneConfig(name="din", hidden=(6, 5), dropout=dropout, options=options)
    return build_backbone(config, inputs)


def drawn(net: Backbone) -> Backbone:
    for weight in net.double().parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return net


def rows(*histories: int, inputs: Inputs = ONE) -> Embedded:
    """Rows with lists of these lengths; each list column has its own vectors."""
    make = torch.Generator().manual_seed(5)
    num, items = len(histories), sum(histories)
    sizes = ((num, inputs.num_fields, E), (num,), (num, N))
    parts = (torch.randn(size, dtype=torch.float64, generator=make) for size in sizes)
    offsets = torch.tensor([0, *histories]).cumsum(0)
    lists = tuple(
        EmbeddedList(torch.randn(items, E, dtype=torch.float64, generator=make), offsets)
        for _ in inputs.lists
    )
    return Embedded(*parts, torch.ones(num, dtype=torch.int64), lists)


def row(x: Embedded, i: int) -> Embedded:
    """One row with its own history."""
    spans = [(part.values, part.offsets[i : i + 2].tolist()) for part in x.lists]
    lists = [EmbeddedList(v[a:b], torch.tensor([0, b - a])) for v, (a, b) in spans]
    return Embedded(*(part[i : i + 1] for part in x[:4]), tuple(lists))


def test_the_named_history_is_seen_from_the_named_field():
    net, x = drawn(made(TWO, history="seen", target="user")), rows(2, 1, inputs=TWO)
    before = net(x)

    def moved(**parts: Any) -> bool:
        return not torch.equal(net(x._replace(**parts)), before)

    def with_field(place: int) -> dict[str, Any]:
        fields = x.fields.clone()
        fields[:, place] += 1
        return {"fields": fields}

    tags, seen = x.lists
    assert not moved(lists=(EmbeddedList(tags.values + 1, tags.offsets), seen))
    assert moved(lists=(tags, EmbeddedList(seen.values + 1, seen.offsets)))
    assert moved(**with_field(3))  # the pooled tags stay
    assert not moved(**with_field(4))  # the pooled history does not
    # Without its own tower weight, a field is felt through the attention alone.
    with torch.no_grad():
        net.tower.linears[0].weight[:, : 2 * E] = 0.0
    before = net(x)
    assert moved(**with_field(0))
    assert not moved(**with_field(1))


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (
            replace(ONE, field_names=ONE.field_names[:3], lists=()),
            {},
            r"'din' looks into a list .* no list column. Add one, .*multi_valued, .*like: item",
        ),
        (
            replace(ONE, item_field=None),
            {},
            r"no column .*role of the item. .*\{role: item\}.*options\.target.*user, item, market",
        ),
        (TWO, {}, r"2 list columns: tags, seen. Say by backbone\.options\.history which"),
        (TWO, {"history": "sen"}, r"history names 'sen', .*Did you mean 'seen'\? .*: tags, seen"),
        (TWO, {"history": "item"}, "history names 'item', which is no list column"),
        (ONE, {"target": "itm"}, r"target names 'itm', .*no field. Did you mean 'item'\?"),
        (ONE, {"target": "seen"}, "target='seen' is the history itself"),
        (ONE, {"attention_hidden": []}, r"attention_hidden is empty; .*\[36\]"),
        (ONE, {"attention_hidden": [0]}, r"backbone\.options\.attention_hidden=0 is out of range"),
        (ONE, {"activation": "tanh"}, "activation='tanh' is not of type"),
        (ONE, {"softmax": "maybe"}, "softmax='maybe' is not of type bool"),
    ],
)
def test_what_it_needs_and_refuses(inputs: Inputs, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        made(inputs, **options)


def test_a_named_target_stands_in_for_a_role():
    assert made(replace(ONE, item_field=None), target="item").target == 1


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, 4 * E * 36 + 36 + 36 + 36 + 1),  # one layer, its slopes, and the output
        ({"activation": "dice"}, 4 * E * 36 + 36 + 36 + 36 + 1),
        ({"activation": "relu", "attention_hidden": [5, 4]}, 4 * E * 5 + 5 + 5 * 4 + 4 + 4 + 1),
    ],
)
def test_number_of_weights(options: dict[str, Any], more: int):
    tower = (4 * E + N) * 6 + 6 + 6 * 5 + 5 + 5 + 1
    assert sum(p.numel() for p in made(**options).parameters()) == tower + more


@EVERY
@pytest.mark.parametrize("histories", [(0, 0, 0), (1,), (0,), (3, 0, 2, 9, 1, 1)])
def test_a_rows_score_ignores_its_batch_mates(histories: tuple[int, ...], options: dict[str, Any]):
    net, x = drawn(made(dropout=0.5, **options)).eval(), rows(*histories)
    alone = torch.cat([net(row(x, i)) for i in range(len(histories))])
    torch.testing.assert_close(alone, net(x), rtol=1e-12, atol=1e-13)


@EVERY
def test_every_weight_learns_and_dropout_is_on_while_training_only(options: dict[str, Any]):
    net, x = drawn(made(dropout=0.5, **options)), rows(*range(20))
    first = net(x)
    first.square().sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not torch.equal(net(x), first)
    net.eval()
    assert torch.equal(net(x), net(x))


def test_training_survives_batches_without_a_history():
    for activation in ("dice", "prelu"):
        net = made(activation=activation, softmax=True).double()
        net(rows(0, 0)).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_running_means_are_held_with_a_frozen_backbone():
    net = made(activation="dice").double().train()
    hold_statistics(net)
    before = {name: b.clone() for name, b in net.named_buffers()}
    net(rows(3, 4))
    assert all(torch.equal(b, before[name]) for name, b in net.named_buffers())


def test_a_softmax_survives_large_logits():
    net = made(softmax=True).double()
    net.attention.head.bias.data.fill_(1e4)
    x = rows(2, 0, 3)
    items, offsets = x.lists[0]
    weights = net.attention.weights(x.fields[:, 1], items, offsets)
    sums = [weights[a:b].sum() for a, b in ((0, 2), (2, 5))]
    torch.testing.assert_close(torch.stack(sums), torch.ones(2, dtype=torch.float64))


def test_adapters_reach_the_tower_and_if_told_so_the_attention():
    x, domain = rows(2, 0, 1), torch.tensor([1, 2, 0])
    net = drawn(made()).eval()
    before = net(x)
    adapted = adapt(net, MLoRA(num_domains=2, rank=1))
    assert list(adapted.target_names) == ["tower.linears.0", "tower.linears.1"]
    assert torch.equal(adapted(x, domain=domain), before)
    for bank in adapted.banks:
        torch.nn.init.normal_(bank.up)
    assert (adapted(x, domain=domain) != before).tolist() == [True, True, False]
    net = adapted.unwrap()
    assert linear_names(net, "attention") == ["attention.linears.0", "attention.head"]
    adapted = adapt(net, MLoRA(num_domains=2, rank=1), targets="attention")
    assert torch.equal(adapted(x, domain=domain), before)
    for bank in adapted.banks:
        torch.nn.init.normal_(bank.up)
    # Three items, three rows: but the items are of rows 0, 0 and 2, and row 2 has no domain.
    assert (adapted(x, domain=domain) != before).tolist() == [True, False, False]


@pytest.mark.parametrize("options", MODELS[:2])
def test_exported_for_any_number_of_rows_and_items(options: dict[str, Any]):
    net = drawn(made(**options)).eval()
    auto = torch.export.Dim.AUTO
    sizes = Embedded(*({0: auto} for _ in range(4)), (EmbeddedList({0: auto}, {0: auto}),))
    exported = torch.export.export(net, (rows(2, 0, 4),), dynamic_shapes=(sizes,), strict=False)
    for x in (rows(0, 5, 1, 3, 0), rows(7, 2)):
        torch.testing.assert_close(exported.module()(x), net(x), rtol=1e-12, atol=1e-13)
