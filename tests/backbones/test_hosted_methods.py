from __future__ import annotations

import copy
import pickle
import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, linear_names
from mdlora.backbones import (
    BACKBONES,
    EPNet,
    Inputs,
    ListInput,
    PPNet,
    build_backbone,
    check_backbone,
)
from mdlora.config import BackboneConfig, MLoRA
from mdlora.errors import ConfigError
from mdlora.layers import MLP
from mdlora.types import Embedded, EmbeddedList

DOMAINS = 3
INPUTS = replace(
    Inputs.of_fields(4, 4, num_dense=2, num_domains=DOMAINS), user_field=0, item_field=1
)
METHODS = ["adasparse", "epnet", "hamur", "pepnet", "ppnet"]
ON_TOWERS = [name for name in METHODS if name != "epnet"]
HOSTS = [n for n, kind in BACKBONES.items() if not kind.is_multi_domain and not kind.uses_lists]


def host(name: str) -> nn.Module:
    kind: Any = BACKBONES[name]
    return kind(INPUTS, hidden=(6, 5))


TOWERS = [name for name in HOSTS if isinstance(getattr(host(name), "tower", None), MLP)]


def build(name: str, hidden: tuple[int, ...] = (6, 5), **options: Any) -> Any:
    small = {"rank": 2, "bottleneck": 3} if name == "hamur" else {}
    config = BackboneConfig(name=name, hidden=hidden, dropout=0.0, options=small | options)
    return build_backbone(config, INPUTS).double()


def batch(rows: int = 60) -> Embedded:
    make = torch.Generator().manual_seed(4)
    sizes = ((rows, 4, 4), (rows,), (rows, 2))
    parts = [torch.randn(size, dtype=torch.float64, generator=make) for size in sizes]
    return Embedded(*parts, torch.arange(rows) % DOMAINS + 1)


def neutral(net: nn.Module) -> None:
    """Make every gate and factor one, and every cell add nothing."""
    for name, parameter in net.named_parameters():
        if any(part in name for part in (".scale.", "gamma", "pruners")):
            nn.init.zeros_(parameter)


def loud(net: nn.Module) -> None:
    """Draw what the method adds large enough to be heard."""
    for name, parameter in net.named_parameters():
        if not name.startswith("host."):
            nn.init.normal_(parameter)


def test_most_backbones_can_be_hosts():
    assert {"mlp", "wdl", "deepfm", "dcn"} <= set(TOWERS)
    assert len(TOWERS) >= 7


PAIRS = [(name, on) for name in ("epnet", "ppnet") for on in TOWERS]
PAIRS += [(name, on) for name in ("adasparse", "hamur", "pepnet") for on in ("mlp", "deepfm")]


@pytest.mark.parametrize(("name", "on"), PAIRS)
def test_the_host_is_the_backbone_itself_with_its_inside_changed(name: str, on: str):
    torch.manual_seed(5)
    net = build(name, on=on).eval()
    torch.manual_seed(5)
    alone = host(on).double().eval()
    state = alone.state_dict()
    assert all(torch.equal(t, state[n]) for n, t in net.host.state_dict().items())
    assert net.uses_first_order == alone.uses_first_order
    x = batch()
    expected = alone(x)
    assert torch.equal(net.host(x), expected)  # called by itself, it is itself
    neutral(net)
    torch.testing.assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
    loud(net)
    assert not torch.allclose(net(x), expected, rtol=1e-3)
    assert torch.equal(net.host(x), expected)


@pytest.mark.parametrize("on", [name for name in HOSTS if name not in TOWERS])
def test_epnet_needs_no_tower_and_the_others_say_so(on: str):
    x, hidden = batch(), BackboneConfig().hidden  # where they are idle, none may be given
    net = build("epnet", hidden, on=on).eval()
    neutral(net)
    torch.testing.assert_close(net(x), net.host(x), rtol=1e-12, atol=1e-12)
    for name in ON_TOWERS:
        message = f"on={on!r} has no tower of hidden layers, which {BACKBONES[name].__name__}"
        with pytest.raises(ConfigError, match=message):
            build(name, hidden, on=on)


def test_hidden_layers_that_the_host_lacks_are_refused():
    message = (
        r"backbone.hidden=\(6, 5\) has no effect on 'epnet' .*: set backbone.options.host.deep"
    )
    with pytest.raises(ConfigError, match=message):
        build("epnet", on="afm")
    with pytest.raises(ConfigError, match=r"has no effect on 'afm'"):
        EPNet(INPUTS, hidden=(6, 5), on="afm")
    assert weights(build("epnet", on="afm", host={"deep": True}), "host.tower") > 0


@pytest.mark.parametrize("name", METHODS)
def test_hosts_have_the_options_that_they_are_given(name: str):
    net, plain = (build(name, on="dcn", host=own) for own in ({"cross_layers": 5}, None))
    assert len(list(net.host.cross.parameters())) > len(list(plain.host.cross.parameters()))
    torch.manual_seed(5)
    net = build(name, on="dcn", host={"cross_layers": 3, "linear": False})
    torch.manual_seed(5)
    config = BackboneConfig(
        name="dcn", hidden=(6, 5), dropout=0.0, options={"cross_layers": 3, "linear": False}
    )
    alone = build_backbone(config, INPUTS).double()
    x = batch()
    assert torch.equal(net.eval().host(x), alone.eval()(x))
    assert not net.uses_first_order


def test_an_option_can_give_a_host_its_tower():
    for name in ON_TOWERS:
        with pytest.raises(ConfigError, match=r"Set backbone.options.host.deep to true, or choose"):
            build(name, on="fwfm")
        assert build(name, on="fwfm", host={"deep": True}).host.tower is not None
        with pytest.raises(ConfigError, match=r"changes\. Choose a backbone with one"):
            build(name, on="finalmlp")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"layers": 3}, r"backbone\.options\.host\.layers: backbone 'dcn' has no option 'layers'"),
        ({"cross_layers": "two"}, r"^backbone\.options\.host\.cross_layers='two' is not of type"),
        ({"cross_layers": 0}, r"^backbone\.options\.host\.cross_layers=0 is out of range"),
        ("dcn", r"^backbone\.options\.host='dcn' is not of type dict"),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_options_that_do_not_fit_the_host_are_refused_by_their_full_name(
    name: str, host: Any, message: str
):
    with pytest.raises(ConfigError, match=message):
        build(name, on="dcn", host=host)


@pytest.mark.parametrize("name", METHODS)
def test_a_hosts_options_are_checked_before_there_are_inputs(name: str):
    for host in ({"layers": 3}, {"cross_layers": "two"}):
        with pytest.raises(ConfigError, match=r"backbone\.options\.host\."):
            check_backbone(BackboneConfig(name=name, options={"on": "dcn", "host": host}))


@pytest.mark.parametrize("name", METHODS)
def test_methods_cannot_be_hosts_nor_strangers(name: str):
    for on in ("pepnet", "sarnet", "mlpp"):
        with pytest.raises(ConfigError, match=rf"No backbone.options.on {on!r}.*Known: .*mlp"):
            build(name, on=on)


@pytest.mark.parametrize("name", METHODS)
def test_copies_and_saved_weights_stand_on_their_own(name: str):
    x, net = batch(), build(name).eval()
    loud(net)
    before = net(x)
    other = copy.deepcopy(net)
    again = pickle.loads(pickle.dumps(net))
    third = build(name).eval()
    third.load_state_dict(net.state_dict())
    assert all(torch.equal(each(x), before) for each in (other, again, third))
    loud(other)
    assert not torch.allclose(other(x), before)
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("name", ["adasparse", "hamur"])
def test_exported_graphs_score_as_the_module_does(name: str):
    net, x = build(name, on="wdl").eval(), batch()
    loud(net)
    graph = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(graph(x), net(x), rtol=1e-12, atol=1e-12)


def test_compiled_graphs_score_as_the_module_does():
    net, x = build("pepnet", on="wdl").eval(), batch()
    loud(net)
    expected = net(x)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ON_TOWERS)
def test_threads_keep_their_passes_apart(name: str):
    net, x = build(name).eval(), batch(40)
    loud(net)
    parts = [Embedded(*(part[i::4] for part in x[:4])) for i in range(4)]
    expected = [net(part) for part in parts]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if not torch.equal(net(parts[i]), expected[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pass_that_fails_leaves_nothing_behind():
    net, x = build("ppnet").eval(), batch()
    with pytest.raises(RuntimeError):
        net(x._replace(dense=torch.zeros(60, 9, dtype=torch.float64)))
    alone = net.host(x)
    loud(net)
    assert torch.equal(net.host(x), alone)


@pytest.mark.parametrize("name", METHODS)
def test_adapters_reach_the_hosts_hidden_layers(name: str):
    net = build(name, on="deepfm").eval()
    layers = ["host.tower.linears.0", "host.tower.linears.1"]
    assert linear_names(net, net.adapter_targets) == layers
    x = batch()
    before = net(x)
    adapted = AdaptedModel(net, MLoRA(num_domains=DOMAINS, rank=2))
    assert torch.equal(adapted(x, domain=x.domain), before)
    for bank in adapted.banks:
        nn.init.ones_(bank.up)
    assert not torch.allclose(adapted(x, domain=x.domain), before)
    assert torch.equal(adapted.unwrap()(x), before)


@pytest.mark.parametrize("name", METHODS)
def test_unknown_domains_are_scored_and_mates_do_not_matter(name: str):
    net = build(name).eval()
    loud(net)
    x = batch(9)
    x = x._replace(domain=torch.arange(9) % (DOMAINS + 1))
    whole = net(x)
    assert torch.isfinite(whole).all()
    for i in range(9):
        alone = net(Embedded(*(part[i : i + 1] for part in x[:4])))
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_no_rows_are_no_logits(name: str):
    x = Embedded(*(part[:0] for part in batch()[:4]))
    assert build(name).eval()(x).shape == (0,)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_reads_the_domain_needs_its_field(name: str):
    config = BackboneConfig(name=name, hidden=(6, 5))
    inputs = replace(INPUTS, domain_field=None)
    if name in ("epnet", "pepnet", "adasparse"):
        with pytest.raises(ConfigError, match=r"by the domain's own field, which the inputs lack"):
            build_backbone(config, inputs)
    else:
        build_backbone(config, inputs)


def weights(net: nn.Module, prefix: str = "") -> int:
    return sum(p.numel() for n, p in net.named_parameters() if n.startswith(prefix))


def test_parameters_are_as_many_as_the_formulas_say():
    width, e, hidden = 18, 4, (6, 5)
    tower = width * 6 + 6 + 6 * 5 + 5 + 5 + 1
    ep = (e + width) * width + width + width * width + width
    pp = sum((2 * e + width) * h + h + h * h + h for h in hidden)
    cell = 5 * 2 + 2 * 3 + 3 + 3 * 2 + 2 * 5 + 5 + 2 * (DOMAINS + 1) * 5
    hyper = width * 64 + 64 + 64 * 4 + 4
    added = {
        "epnet": ep,
        "ppnet": pp,
        "pepnet": ep + pp,
        "adasparse": sum((e + h) * h for h in hidden),
        "hamur": cell + hyper,
    }
    for name, count in added.items():
        net = build(name)
        assert weights(net, "host.") == tower
        assert weights(net) == tower + count


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("epnet", {"gate_hidden": 0}, "gate_hidden=0 is out of range"),
        ("ppnet", {"gate_hidden": 0}, "gate_hidden=0 is out of range"),
        ("ppnet", {"prior": ("field 9",)}, r"backbone.options.prior names 'field 9'.*field 0, fie"),
        ("pepnet", {"prior": ("field 1", "field 1")}, r"options.prior is .*; name each field once"),
        ("adasparse", {"factor": "fusio"}, "is not of type"),
        ("adasparse", {"beta": 0.5}, r"beta=0.5 is out of range"),
        ("adasparse", {"epsilon": 1.0}, r"epsilon=1 is out of range; choose a number in \[0, 1\)"),
        ("adasparse", {"epsilon": 0.5, "factor": "binarization"}, r"in \[0, 0.5\)"),
        ("adasparse", {"alpha": 0.0}, "alpha=0 is out of range"),
        ("adasparse", {"alpha": 6.0}, r"alpha_max=5 is out of range; choose a number in \[6,"),
        ("adasparse", {"min_sparsity": 0.5}, r"max_sparsity=0.25 is out of range"),
        ("adasparse", {"sparsity_weight": -1.0}, "sparsity_weight=-1 is out of range"),
        ("hamur", {"cells": 3}, "cells=3 but there are 2 hidden layers: choose 1 to 2"),
        ("hamur", {"rank": 0}, "rank=0 is out of range"),
        ("hamur", {"hyper_hidden": (0,)}, "hyper_hidden=0 is out of range"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


def test_ppnet_without_user_and_item_says_what_to_name():
    inputs = replace(INPUTS, user_field=None, item_field=None)
    with pytest.raises(ConfigError, match=r"no column has the role user or item.*field 0, field 1"):
        PPNet(inputs, hidden=(6,))
    one = PPNet(replace(INPUTS, item_field=None), hidden=(6,))
    assert one.gates.places == (0,)
    assert PPNet(inputs, hidden=(6,), prior=("field 2",)).gates.places == (2,)


def test_gates_see_some_fields_and_learn_nothing_of_the_rest():
    net, x = build("pepnet"), batch()
    fields = x.fields.clone().requires_grad_()
    scaled = net.embedding_gate(x._replace(fields=fields))
    known: Tensor = net.gates.known(x._replace(fields=fields), scaled)
    known.sum().backward()
    assert (fields.grad.abs().sum((0, 2)) > 0).tolist() == [True, True, False, False]
    assert all(p.grad is None for p in net.embedding_gate.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_host_may_look_into_lists(name: str):
    inputs = replace(INPUTS, lists=(ListInput(name="field 2", field=2),))
    kind: Any = BACKBONES[name]
    net = kind(inputs, hidden=(6, 5), on="din").double().eval()
    assert net.uses_lists
    x = batch(2)
    values = torch.randn(5, 4, dtype=torch.float64)
    with_lists = x._replace(lists=(EmbeddedList(values, torch.tensor([0, 2, 5])),))
    changed = values.clone()
    changed[0] += 1
    other = x._replace(lists=(EmbeddedList(changed, torch.tensor([0, 2, 5])),))
    assert net(with_lists)[0] != net(other)[0]
    assert net(with_lists)[1] == net(other)[1]


def test_list_vectors_are_not_scaled_and_reach_the_host():
    seen: list[Embedded] = []
    net = EPNet(INPUTS, hidden=(6,)).double()
    net.host.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = batch()
    lists = (object(),)
    net(x._replace(lists=lists))
    assert seen[0].lists is lists
    assert seen[0].first_order is x.first_order
    assert not torch.equal(seen[0].fields, x.fields)
