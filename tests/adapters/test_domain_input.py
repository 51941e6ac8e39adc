"""Domains that come with a module's own inputs, for trainers that know nothing of adapters."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError, checkpoint

from mdlora.adapters import AdaptedModel, adapt, merge_domain
from mdlora.config import MLoRA, MoEMLoRA
from mdlora.errors import AdapterError

Trained = Callable[[AdaptedModel], AdaptedModel]
X = torch.randn(6, 9, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([1, 2, 3, 0, 2, 1])
CODES = {7: 1, -4: 2, 300: 3}
RAW = torch.tensor([7, -4, 300, 5, -4, 7])  # the codes of IDS; 5 is nobody's


class Tower(nn.Module):
    """A tower 9 -> 8 -> 6 -> 1 with a norm; the same weights each time."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(4)
            norm = nn.BatchNorm1d(8)
            self.mlp = nn.Sequential(nn.Linear(9, 8), norm, nn.Tanh(), nn.Linear(8, 6), nn.Tanh())
            self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mlp(x)).squeeze(1)


class TakesDict(Tower):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return super().forward(batch["x"])


class TakesArgument(Tower):
    def forward(self, x: Tensor, market: Tensor, *, scale: float = 1.0) -> Tensor:
        return super().forward(x) * scale


class TakesKeyword(Tower):
    def forward(self, x: Tensor, *, market: Tensor | None = None) -> Tensor:
        return super().forward(x)


class TakesDomain(Tower):
    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        return super().forward(x) + 0 * domain


class TakesMatrix(Tower):
    """As models of DeepCTR-Torch: one matrix, and where in it each column is."""

    feature_index = {"market": (9, 10), "x": (0, 9)}  # noqa: RUF012

    def forward(self, matrix: Tensor) -> Tensor:
        return super().forward(matrix[:, :9])


def matrix(column: Tensor) -> Tensor:
    return torch.cat((X, column.to(X.dtype).view(-1, 1)), 1)


# For each kind of model its class, and how it is called with a column of domains.
KINDS: dict[str, tuple[type[Tower], Callable[[nn.Module, Tensor], Tensor]]] = {
    "entry of a dict": (TakesDict, lambda m, d: m({"x": X, "market": d})),
    "entry of a dict by keyword": (TakesDict, lambda m, d: m(batch={"market": d, "x": X})),
    "argument": (TakesArgument, lambda m, d: m(X, d)),
    "argument by keyword": (TakesArgument, lambda m, d: m(scale=1.0, market=d, x=X)),
    "keyword": (TakesKeyword, lambda m, d: m(X, market=d)),
    "column": (TakesMatrix, lambda m, d: m(matrix(d))),
}


def want() -> Tensor:
    """The scores of X in domains IDS, by ids that are given outright."""
    adapted = shake(adapt(Tower(), MLoRA(num_domains=3, rank=2), targets="mlp"))
    return adapted.eval()(X, domain=IDS)


def shake(adapted: AdaptedModel) -> AdaptedModel:
    make = torch.Generator().manual_seed(5)
    for p in adapted.adapter_parameters():
        p.data = torch.randn(p.shape, generator=make) * 0.5
    return adapted


def routed(kind: type[Tower] = TakesDict, **options: Any) -> AdaptedModel:
    options = {"domain_input": "market", "targets": "mlp", **options}
    return shake(adapt(kind(), MLoRA(num_domains=3, rank=2), **options)).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("form", [torch.int64, torch.int8, torch.float32, torch.float64])
def test_the_module_itself_routes_by_its_input(
    form: torch.dtype, shape: tuple[int, ...], kind: str
):
    model, call = KINDS[kind]
    adapted = routed(model)
    assert torch.equal(call(adapted.module, IDS.to(form).view(shape)), want())
    assert torch.equal(call(adapted, IDS.to(form).view(shape)), want())
    assert not torch.equal(call(adapted.module, torch.ones(shape, dtype=form)), want())


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_mapped_to_ids_and_others_are_unknown_and_counted(kind: str):
    model, call = KINDS[kind]
    adapted = routed(model, domain_ids=CODES)
    assert adapted.domain_input is not None
    assert torch.equal(call(adapted.module, RAW), want())
    assert adapted.domain_input.unknown_rows == 1
    call(adapted.module, torch.full((6,), 10**6))
    assert adapted.domain_input.unknown_rows == 7


def test_values_and_ids_may_be_whole_numbers_of_numpy():
    adapted = routed(domain_ids={np.int64(7): 1, -4: np.int8(2), np.int16(300): np.int32(3)})
    assert torch.equal(adapted.module({"x": X, "market": RAW}), want())
    first = routed().module({"x": X, "market": torch.ones_like(IDS)})
    least = routed(domain_ids={np.int8(-128): 1})  # int8 has no 128
    assert torch.equal(least.module({"x": X, "market": torch.full((6,), -128)}), first)


def test_a_value_may_be_mapped_to_unknown_without_being_counted():
    adapted = routed(domain_ids={**CODES, 5: 0})
    assert torch.equal(adapted.module({"x": X, "market": RAW}), want())
    assert adapted.domain_input is not None
    assert adapted.domain_input.unknown_rows == 0


def test_ids_given_outright_go_first():
    adapted, wrong = routed(), torch.ones_like(IDS)
    assert torch.equal(adapted({"x": X, "market": wrong}, domain=IDS), want())
    assert torch.equal(adapted({"x": X}, domain=IDS), want())  # and the entry may be missing
    with adapted.routing(IDS):
        assert torch.equal(adapted.module({"x": X, "market": wrong}), want())
    assert torch.equal(adapted.module({"x": X, "market": IDS}), want())


def test_an_argument_called_domain_is_the_modules_own():
    adapted = routed(TakesDomain, domain_input="domain", domain_ids=CODES)
    for out in (adapted(X, domain=RAW), adapted(X, RAW), adapted.module(X, domain=RAW)):
        assert torch.equal(out, want())


def test_experts_need_ids_that_are_given_outright():
    adapted = routed()
    with pytest.raises(AdapterError, match="call it with domain=ids"):
        adapted({"x": X, "market": IDS}, expert=IDS - 1)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (TakesDict, IDS.tolist(), "'market' is a list; give a tensor"),
        (TakesDict, IDS.view(2, 3), r"shape \(2, 3\) and type torch.int64; give one whole number"),
        (TakesDict, IDS > 0, "type torch.bool; give one whole number"),
        (TakesDict, IDS + 0.5, "has values that are not whole numbers"),
        (TakesDict, IDS * torch.nan, "has values that are not whole numbers"),
        (
            TakesDict,
            IDS + 1,
            r"run from 1 to 4; they must be in 0 to 3. They came as 'market': say",
        ),
        (TakesDict, IDS[:4], "mlp.0 got 6 rows but 4 domain ids"),
        (TakesKeyword, None, "'market' is a NoneType"),
    ],
)
def test_wrong_values_are_refused_and_leave_no_route(kind: type[Tower], value: Any, says: str):
    adapted = routed(kind)
    call = KINDS["keyword" if kind is TakesKeyword else "entry of a dict"][1]
    with pytest.raises(AdapterError, match=says):
        call(adapted.module, value)
    with pytest.raises(AdapterError, match="no domain ids are set"):
        adapted.module.mlp(X)
    assert torch.equal(call(adapted.module, IDS), want())


@pytest.mark.parametrize(
    ("kind", "call", "says"),
    [
        (
            TakesDict,
            lambda m: m({"x": X, "price": X}),
            r"'market': .*; its dict has: x, price\. Add",
        ),
        (
            TakesDict,
            lambda m: m(X),
            "'market': it has no argument of that name, and no dict among 1",
        ),
        (
            TakesKeyword,
            lambda m: m(X),
            "TakesKeyword was called without its argument 'market', the",
        ),
        (TakesArgument, lambda m: m(X, scale=2.0), "called without its argument 'market', the dom"),
        (TakesDict, lambda m: m({"market": IDS}, {"market": IDS}), "2 of the dicts"),
    ],
)
def test_a_missing_input_is_named(
    kind: type[Tower], call: Callable[[nn.Module], Tensor], says: str
):
    with pytest.raises(AdapterError, match=says):
        call(routed(kind).module)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"domain_input": "shop"}, "'shop' is not a column of TakesMatrix, which has: market, x"),
        ({"domain_input": "x"}, "'x' is 9 columns wide in TakesMatrix; a row has one domain"),
        ({"domain_ids": {"de": 1}}, "maps 'de' to 1; map whole numbers to ids, 1 to 3"),
        ({"domain_ids": {1: 4}}, "maps 1 to 4"),
        ({"domain_ids": {1: -1}}, "maps 1 to -1"),
        ({"domain_ids": {True: 1}}, "maps True to 1"),
        ({"domain_ids": {1: True}}, "maps 1 to True"),
        ({"domain_ids": {1: 1.0}}, "maps 1 to 1.0"),
        ({"domain_ids": {np.float64(1): 1}}, r"maps np.float64\(1.0\) to 1"),
        ({"domain_ids": {}}, "maps no value to a domain"),
        ({"domain_ids": {5: 0}}, "maps no value to a domain"),
        ({"domain_input": None, "domain_ids": CODES}, "name it, domain_input=..."),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], says: str):
    with pytest.raises(AdapterError, match=says):
        routed(TakesMatrix, **options)


@pytest.mark.parametrize(
    ("form", "codes", "fits"),
    [
        (torch.float32, {2**24: 1}, True),
        (torch.float32, {2**24 + 1: 1}, False),
        (torch.float64, {2**24 + 1: 1}, True),
        (torch.bfloat16, {-256: 1}, True),
        (torch.bfloat16, {-257: 1}, False),
    ],
)
def test_numbers_too_coarse_for_the_values_are_refused(
    form: torch.dtype, codes: dict[int, int], fits: bool
):
    adapted = routed(domain_ids=codes)
    (code,) = codes
    call = KINDS["entry of a dict"][1]
    if fits:
        call(adapted.module, torch.full((6,), code).to(form))
        assert adapted.domain_input is not None
        assert adapted.domain_input.unknown_rows == 0
    else:
        with pytest.raises(AdapterError, match=rf"cannot tell whole numbers above .* {abs(code)}"):
            call(adapted.module, torch.full((6,), code).to(form))


def test_the_route_is_cleared_after_an_error_inside_the_forward_pass():
    adapted = routed()

    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    handle = adapted.module.head.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="boom"):
        adapted.module({"x": X, "market": IDS})
    with pytest.raises(AdapterError, match="no domain ids are set"):
        adapted.module.mlp(X)
    handle.remove()
    assert torch.equal(adapted.module({"x": X, "market": IDS}), want())


def test_what_an_interrupted_pass_leaves_behind_is_not_used():
    adapted = routed()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = adapted.module.head.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        adapted.module({"x": X, "market": torch.ones_like(IDS)})
    handle.remove()
    assert torch.equal(adapted.module({"x": X, "market": IDS}), want())


def test_the_ids_are_read_before_other_hooks_change_the_inputs():
    net = TakesDict()
    net.register_forward_pre_hook(lambda _, args: ({"x": args[0]["x"]},))
    adapted = shake(adapt(net, MLoRA(num_domains=3, rank=2), targets="mlp", domain_input="market"))
    assert torch.equal(adapted.eval().module({"x": X, "market": IDS}), want())


def test_two_threads_route_each_their_own_rows():
    adapted = routed()
    columns = [torch.full((6,), 1), torch.full((6,), 3)]
    alone = [adapted.module({"x": X, "market": d}) for d in columns]
    meet = threading.Barrier(2, timeout=30)

    def wait(*_: Any) -> None:
        meet.wait()

    adapted.module.mlp[1].register_forward_hook(wait)  # both are between two adapted layers

    def score(domain: Tensor) -> list[Tensor]:
        return [adapted.module({"x": X, "market": domain}) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(score, columns))
    assert all(torch.equal(x, one) for xs, one in zip(both, alone, strict=True) for x in xs)


GATED = [
    MLoRA(num_domains=3, rank=2),
    MoEMLoRA(num_domains=3, rank=2),
    MoEMLoRA(num_domains=3, rank=2, gate_shared=True),
    MoEMLoRA(num_domains=3, rank=2, gate="input", top_k=2),
]


@pytest.mark.parametrize("config", GATED)
def test_the_module_holds_the_adapters_until_it_is_unwrapped(config: MLoRA):
    plain, net = Tower().eval(), TakesDict()
    before = list(net.state_dict())
    adapted = shake(adapt(net, config, targets="mlp", domain_input="market")).eval()
    mine = {id(p) for p in adapted.adapter_parameters()}
    assert mine <= {id(p) for p in net.parameters()}
    added = set(net.state_dict()) - set(before)
    assert {name.split(".domain_adapters.")[0] for name in added} == {"mlp.0", "mlp.3"}
    # Saved and loaded strictly, under the names of either; none stands there twice.
    assert sorted(adapted.state_dict()) == sorted(f"module.{name}" for name in net.state_dict())
    again = adapt(TakesDict(), config, targets="mlp", domain_input="market").eval()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    again.module.load_state_dict(torch.load(file, weights_only=True), strict=True)
    batch = {"x": X, "market": IDS}
    assert torch.equal(again.module(batch), net(batch))
    adapted.double()
    assert {p.dtype for p in adapted.adapter_parameters()} == {torch.float64}
    adapted.float()
    assert adapted.unwrap() is net
    assert list(net.state_dict()) == before
    assert not net._forward_hooks
    assert not net._forward_pre_hooks
    assert not any("domain_adapters" in dir(layer) for layer in net.modules())
    assert torch.equal(net(batch), plain(X))


@pytest.mark.parametrize("config", GATED[:3])
def test_merging_leaves_neither_hooks_nor_adapters(config: MLoRA):
    adapted = shake(adapt(TakesDict(), config, targets="mlp", domain_input="market")).eval()
    merged = merge_domain(adapted, 2)
    assert list(merged.state_dict()) == list(Tower().state_dict())
    out = merged({"x": X})  # and nothing asks for domains
    torch.testing.assert_close(out, adapted({"x": X, "market": torch.full((6,), 2)}))
    assert adapted.module({"x": X, "market": IDS}).shape == (6,)


def copied(adapted: AdaptedModel) -> nn.Module:
    return copy.deepcopy(adapted.module)


def pickled(adapted: AdaptedModel) -> nn.Module:
    file = io.BytesIO()
    torch.save(adapted.module, file)
    file.seek(0)
    made: nn.Module = torch.load(file, weights_only=False)
    return made


@pytest.mark.parametrize("twin_of", [copied, pickled])
def test_a_twin_of_the_module_routes_by_itself(twin_of: Callable[[AdaptedModel], nn.Module]):
    adapted = routed(domain_ids=CODES)
    twin = twin_of(adapted)
    batch = {"x": X, "market": RAW}
    assert torch.equal(twin(batch), want())
    assert adapted.domain_input is not None
    assert adapted.domain_input.unknown_rows == 0  # the twin counts its own
    for p in twin.parameters():
        nn.init.zeros_(p)
    assert twin(batch).eq(0).all()
    assert torch.equal(adapted.module(batch), want())
    adapted.unwrap()
    assert any(layer._forward_hooks for layer in twin.modules())  # and stays adapted
    twin({"x": X, "market": RAW})


def loop(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """A trainer that knows nothing of adapters."""
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.softplus(model({"x": X, "market": IDS})).sum().backward()
        optimizer.step()


def test_a_foreign_trainer_moves_the_adapters_of_a_frozen_module_and_nothing_else():
    adapted = adapt(TakesDict(), MLoRA(num_domains=4, rank=2), targets="mlp", domain_input="market")
    adapted.freeze("module")
    before = copy.deepcopy(adapted.module.state_dict())
    loop(adapted.module, torch.optim.Adam(adapted.module.parameters()), 3)
    after = adapted.module.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    banks = {f"mlp.{i}.domain_adapters.bank.{w}" for i in (0, 3) for w in ("down", "up", "bias")}
    assert moved == banks  # no running statistics either, although the trainer called train()
    for bank in adapted.banks:
        still = [i for i in range(4) if not bank.up[i].any()]
        assert still == [3]  # the fourth domain had no rows


def test_an_optimizer_without_the_adapters_is_noticed():
    net = TakesDict()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)  # made too early
    adapted = adapt(net, MLoRA(num_domains=3), targets="mlp", domain_input="market")
    loop(net, optimizer, 100)
    with pytest.raises(
        AdapterError, match="100 training passes, but none has moved: the optimizer"
    ):
        loop(net, optimizer, 1)
    adapted.freeze("experts")  # now they are not to learn
    loop(net, optimizer, 1)


@pytest.mark.parametrize("frozen", [(), ("experts",)])
def test_adapters_that_learn_or_are_not_to_are_no_cause_for_alarm(frozen: tuple[Any, ...]):
    net = TakesDict()
    adapted = adapt(net, MLoRA(num_domains=3), targets="mlp", domain_input="market")
    adapted.freeze(*frozen)
    loop(net, torch.optim.SGD(net.parameters(), lr=1e-3), 102)


class Checkpoints(TakesDict):
    reentrant: bool | None = None

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        x = batch["x"].clone().requires_grad_()
        if self.reentrant is None:
            out: Tensor = self.head(self.mlp(x)).squeeze(1)
        else:
            out = self.head(checkpoint(self.mlp, x, use_reentrant=self.reentrant)).squeeze(1)
        return out


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("config", GATED)
def test_gradient_checkpointing_needs_the_ids_in_backward_too(config: MLoRA, reentrant: bool):
    gradients = []
    for way in (None, reentrant):
        adapted = shake(adapt(Checkpoints(), config, targets="mlp", domain_input="market")).eval()
        adapted.module.reentrant = way
        if way is not None and getattr(config, "gate_shared", False):  # one route for all layers
            error = AdapterError if way else CheckpointError
            says = "gate_shared=False" if way else "different number of tensors"
            with pytest.raises(error, match=says), adapted.routing(IDS):
                adapted.module({"x": X}).sum().backward()
            return
        with adapted.routing(IDS):
            adapted.module({"x": X}).sum().backward()
        gradients.append([p.grad for p in adapted.adapter_parameters()])
    for a, b in zip(*gradients, strict=True):
        assert a is not None
        torch.testing.assert_close(b, a)
    with pytest.raises(AdapterError, match="no domain ids are set"):
        adapted.module({"x": X, "market": IDS}).sum().backward()
