"""SharedBottom, MMoE, PLE, STAR and AdaptDHM as backbones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, hold_statistics, linear_names
from mdlora.backbones import Backbone, Inputs, build_backbone
from mdlora.config import BackboneConfig, MLoRA
from mdlora.errors import AdapterError, ConfigError
from mdlora.layers import RunningState
from mdlora.types import Embedded

D, FIELDS, E, NUMBERS = 4, 3, 5, 2
I = FIELDS * E + NUMBERS  # noqa: E741 - the width of the input
SHARED = ["shared-bottom", "mmoe", "ple"]
STARS = ["star", "star-shared"]
NAMES = [*SHARED, *STARS, "adaptdhm"]


def build(name: str, *, dropout: float = 0.0, domains: int = D, **options: Any) -> Backbone:
    inputs = Inputs.of_fields(FIELDS, E, num_dense=NUMBERS, num_domains=domains)
    config = BackboneConfig(name=name, hidden=(8, 6, 4), dropout=dropout, options=options)
    return build_backbone(config, inputs).double()


def batch(rows: int = 40, *, unknown: bool = False) -> Embedded:
    domain = torch.randint(0 if unknown else 1, D + 1, (rows,))
    fields = torch.randn(rows, FIELDS, E).double()
    return Embedded(fields, torch.zeros(rows), torch.randn(rows, NUMBERS).double(), domain)


def used(name: str, **options: Any) -> Backbone:
    """In evaluation mode, after a few training passes, biases and all else drawn."""
    net = build(name, **options)
    for _ in range(3):
        net(batch(300))
    for p in net.parameters():
        nn.init.normal_(p, std=0.4)
    return net.eval()


# Weights and biases, written out: d domains or clusters, k experts.
SIZES: dict[str, Callable[[], int]] = {
    "shared-bottom": lambda: (I + 1) * 8 + (8 + 1) * 6 + D * ((6 + 1) * 4 + 4 + 1),
    "mmoe": lambda: 8 * ((I + 1) * 8 + (8 + 1) * 6) + D * (I * 8 + (6 + 1) * 4 + 4 + 1),
    "ple": lambda: (
        (D + 1) * ((I + 1) * 8 + (8 + 1) * 6)  # an expert of each domain and a shared one, twice
        + D * 2 * (I + 8)  # their gates
        + (D + 1) * I  # the shared gate of the first layer
        + D * ((6 + 1) * 4 + 4 + 1)
    ),
    "star": lambda: (
        (D + 1) * (2 * I + (I + 1) * 8 + (8 + 1) * 6 + (6 + 1) * 4 + 4 + 1) + (I + 1) * 32 + 32 + 1
    ),
    "star-shared": lambda: (
        (D + 1) * 2 * I
        + (I + 1) * 8 + (8 + 1) * 6 + (6 + 1) * 4 + 4 + 1
        + (I + 1) * 32 + 32 + 1
    ),
    "adaptdhm": lambda: (3 + 1) * ((I + 1) * 8 + (8 + 1) * 6 + (6 + 1) * 4 + 4 + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_as_many_as_the_formula_counts(name: str):
    assert sum(p.numel() for p in build(name).parameters()) == SIZES[name]()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("shared-bottom", {"tower_layers": 3}, "tower_layers=3 leaves none of the 3 layers"),
        ("mmoe", {"tower_layers": -1}, "tower_layers=-1 is out of range"),
        ("mmoe", {"experts": 0}, "options.experts=0 is out of range"),
        ("ple", {"shared_experts": 0}, "options.shared_experts=0 is out of range"),
        ("ple", {"domain_experts": 0}, "options.domain_experts=0 is out of range"),
        ("star", {"auxiliary_hidden": [4, 0]}, "options.auxiliary_hidden=0 is out of range"),
        ("star-shared", {"norm_min_rows": 1}, "options.norm_min_rows=1 is out of range"),
        ("adaptdhm", {"clusters": 0}, "options.clusters=0 is out of range"),
        ("adaptdhm", {"rounds": 0}, "options.rounds=0 is out of range"),
        ("adaptdhm", {"momentum": 1.0}, "options.momentum=1 is out of range"),
        ("adaptdhm", {"temperature": 0.0}, "options.temperature=0 is out of range"),
    ],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


def test_stars_need_the_domains_field():
    inputs = Inputs(field_names=("a", "b"), embed_dim=2, num_domains=2)
    for name in STARS:
        with pytest.raises(ConfigError, match="the domain's own field, which the inputs lack"):
            build_backbone(BackboneConfig(name=name), inputs)


def test_options_say_which_layers_are_whose():
    assert len(build("shared-bottom").bottom.linears) == 2
    assert len(build("shared-bottom", tower_layers=0).towers.linears) == 0
    assert len(build("ple", tower_layers=2).levels) == 1
    assert build("mmoe", experts=3).gates.weight.shape == (D, I, 3)
    assert len(build("star", auxiliary_hidden=[]).auxiliary.linears) == 0
    assert build("star", norm_min_rows=7).norm.min_rows == 7
    assert build("adaptdhm", clusters=5).router.centres.shape == (5, I)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns_and_dropout_is_on_in_training_alone(name: str):
    net, x = build(name, dropout=0.5), batch(300)
    first, second = net(x), net(x)
    assert not torch.allclose(first, second)
    first.square().sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_rows_score_ignores_its_mates_and_its_place(name: str):
    net, x = used(name), batch(unknown=True)
    whole = net(x)
    assert 0 < int((x.domain == 0).sum()) < len(whole)
    for i in range(len(whole)):
        row = Embedded(*(part[i : i + 1] for part in x[:4]))
        torch.testing.assert_close(net(row)[0], whole[i], rtol=1e-10, atol=1e-11)
    none = net(Embedded(*(part[:0] for part in x[:4])))
    assert none.shape == (0,)


@pytest.mark.parametrize("name", SHARED)
def test_unknown_domains_get_the_mean_over_all(name: str):
    net, x = used(name), batch(9)
    each = [net(x._replace(domain=torch.full((9,), d))) for d in range(1, D + 1)]
    unknown = net(x._replace(domain=torch.zeros(9, dtype=torch.int64)))
    torch.testing.assert_close(unknown, sum(each) / D, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", STARS)
def test_stars_give_unknown_domains_an_average_domain_field(name: str):
    net, x = used(name), batch(9)
    own = slice((FIELDS - 1) * E, FIELDS * E)  # the domain's field comes last
    flat = torch.cat((x.fields.flatten(1), x.dense), 1)
    beside = net.auxiliary_head(net.auxiliary(flat)).squeeze(1)
    normed, logits = [], []
    for d in range(1, D + 1):
        ids = torch.full((9,), d)
        like = flat.clone()
        like[:, own] = net.norm.running_mean[d - 1, own]
        normed.append(net.norm(like, ids))
        if name == "star":
            from mdlora.layers import DomainRows

            logits.append(net.main(normed[-1], DomainRows(ids - 1, D)))
    if name == "star":
        expected = sum(logits) / D
    else:
        expected = net.head(net.tower(sum(normed) / D)).squeeze(1)
    unknown = net(x._replace(domain=torch.zeros(9, dtype=torch.int64)))
    torch.testing.assert_close(unknown, expected + beside, rtol=1e-10, atol=1e-11)


def test_many_unknown_rows_are_taken_some_at_a_time(monkeypatch: pytest.MonkeyPatch):
    net, sizes = used("shared-bottom", domains=20), []
    real = net.own
    monkeypatch.setattr(
        net, "own", lambda parts, rows: sizes.append(len(rows.index)) or real(parts, rows)
    )
    net(batch(100)._replace(domain=torch.zeros(100, dtype=torch.int64)))
    assert sizes == [100] * 20  # five rows at a time, each in 20 domains


def test_adaptdhm_knows_domains_by_their_field_alone():
    net, x = used("adaptdhm"), batch(unknown=True)
    assert torch.equal(net(x), net(x._replace(domain=torch.ones_like(x.domain))))
    other = x.fields.clone()
    other[:, -1] += 1
    assert not torch.allclose(net(x), net(x._replace(fields=other)))


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("shared-bottom", ["bottom.linears.0", "bottom.linears.1"]),
        ("mmoe", ["experts.first"]),
        ("ple", ["levels.0.shared", "levels.1.shared"]),
        ("star-shared", ["tower.linears.0", "tower.linears.1", "tower.linears.2"]),
    ],
)
def test_adapters_reach_what_domains_share(name: str, targets: list[str]):
    net, x = used(name), batch(unknown=True)
    assert linear_names(net, net.adapter_targets) == targets
    before: Tensor = net(x)
    adapted = AdaptedModel(net, MLoRA(num_domains=D, rank=2))
    assert torch.equal(adapted(x, domain=x.domain), before)
    for bank in adapted.banks:
        nn.init.normal_(bank.up)
    changed = adapted(x, domain=x.domain)
    known = x.domain > 0
    moved = ~torch.isclose(changed[known], before[known])  # not where all units are off
    assert moved.double().mean() > 0.8
    torch.testing.assert_close(changed[~known], before[~known])


@pytest.mark.parametrize("name", ["star", "adaptdhm"])
@pytest.mark.parametrize("targets", [None, "tower.*"])
def test_adapters_cannot_reach_products_and_say_what_to_take(name: str, targets: str | None):
    with pytest.raises(AdapterError, match=r"its tower are products .* star-shared"):
        AdaptedModel(build(name), MLoRA(num_domains=D), targets=targets)


@pytest.mark.parametrize("name", [*STARS, "adaptdhm"])
def test_frozen_statistics_stay_and_are_saved_with_the_weights(name: str):
    net = build(name)
    start = {n: kept.clone() for n, kept in net.named_buffers()}
    net(batch(300))
    learned = {n: kept.clone() for n, kept in net.named_buffers()}
    assert all(not torch.equal(kept, start[n]) for n, kept in learned.items())
    assert learned.keys() <= net.state_dict().keys()
    hold_statistics(net)
    net(batch(300))
    assert all(torch.equal(kept, learned[n]) for n, kept in net.named_buffers())
    layers = [m for m in net.modules() if isinstance(m, RunningState)]
    assert len(layers) == 1
    assert net.training
    twin = build(name)
    twin.load_state_dict(net.state_dict())
    x = batch(unknown=True)
    assert torch.equal(twin.eval()(x), net.eval()(x))


@pytest.mark.parametrize("name", ["mmoe", "star-shared"])
def test_a_graph_for_any_number_of_rows_takes_known_domains_only(name: str):
    net = used(name)
    num = torch.export.Dim("rows")
    sizes = Embedded({0: num}, {0: num}, {0: num}, {0: num}, ())
    graph = torch.export.export(net, (batch(5),), dynamic_shapes=(sizes,), strict=False).module()
    x = batch(11)
    torch.testing.assert_close(graph(x), net(x), rtol=1e-10, atol=1e-11)
    for other in (0, D + 1, -1):
        with pytest.raises(RuntimeError, match=f"domain ids must be in 1 to {D}"):
            graph(x._replace(domain=torch.full_like(x.domain, other)))


@pytest.mark.parametrize("name", NAMES)
def test_one_domain_and_one_layer_are_enough(name: str):
    inputs = Inputs.of_fields(2, 3)
    net = build_backbone(BackboneConfig(name=name, hidden=(4,)), inputs)
    x = Embedded(torch.randn(6, 2, 3), torch.zeros(6), torch.zeros(6, 0), torch.ones(6).long())
    net(x).sum().backward()
    assert torch.isfinite(net(x)).all()
