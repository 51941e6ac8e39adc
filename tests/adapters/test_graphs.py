"""Compiled and exported graphs route new ids and other numbers of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, adapt, checks
from mdlora.config import FullFinetuning, MLoRA, MoEMLoRA

Tower = Callable[..., nn.Sequential]
Trained = Callable[[AdaptedModel], AdaptedModel]
CONFIGS = {
    "few": MLoRA(num_domains=3, rank=2),
    "many": MLoRA(num_domains=40, rank=3),
    "gate": MoEMLoRA(num_domains=3, rank=2),
    "top k of a gate on the input": MoEMLoRA(num_domains=3, rank=2, gate="input", top_k=2),
    "full": FullFinetuning(num_domains=20),
}


def some(*names: str) -> list[Any]:
    """All configurations, those that are not named as slow tests: tracing takes seconds."""
    return [
        name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS
    ]


class TakesDict(nn.Module):
    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.tower(batch["x"])


def rows_of(count: int, config: MLoRA, seed: int) -> tuple[Tensor, Tensor]:
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 9, dtype=torch.float64, generator=make)
    return x, torch.randint(0, (config.num_domains or 0) + 1, (count,), generator=make)


@pytest.fixture(autouse=True)
def _forget_graphs() -> Iterator[None]:
    yield
    torch.compiler.reset()


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", some("many"))
def test_compiled_whole_with_ids_as_an_argument(name: str, make_tower: Tower, trained: Trained):
    config = CONFIGS[name]
    adapted = trained(adapt(make_tower(), config, targets="[02]"))
    compiled = torch.compile(adapted, fullgraph=True, backend="eager")
    for count in (80, 33):
        x, domain = rows_of(count, config, count)
        close(compiled(x, domain=domain), adapted(x, domain=domain))
    with pytest.raises(RuntimeError):  # and not the ids of the rows before
        compiled(x, domain=domain[:5])


@pytest.mark.parametrize("name", some("top k of a gate on the input"))
@pytest.mark.parametrize(
    "outer",
    [
        pytest.param(True, id="adapted model"),
        pytest.param(False, id="module", marks=pytest.mark.slow),
    ],
)
def test_compiled_with_ids_among_the_inputs(
    outer: bool, name: str, make_tower: Tower, trained: Trained
):
    config = CONFIGS[name]
    ids = {7 * i: i for i in range(1, config.num_domains + 1)}
    model = TakesDict(make_tower())
    adapted = trained(
        adapt(model, config, targets="tower.[02]", domain_input="market", domain_ids=ids)
    )
    # Hooks of a compiled module itself run outside its graph; the adapted model has none.
    compiled = torch.compile(adapted if outer else model, fullgraph=True, backend="eager")
    for count in (80, 33):
        x, domain = rows_of(count, config, count)
        close(compiled({"x": x, "market": 7 * domain}), adapted({"x": x}, domain=domain))


@pytest.mark.parametrize("name", some())
def test_a_compiled_training_step_has_the_same_gradients(
    name: str, make_tower: Tower, trained: Trained
):
    config = CONFIGS[name]
    adapted = trained(adapt(make_tower(), config, targets="[02]"))
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")
    x, domain = rows_of(80, config, 1)
    parameters = list(adapted.parameters())
    got = torch.autograd.grad(compiled(x, domain=domain).square().sum(), parameters)
    want = torch.autograd.grad(adapted(x, domain=domain).square().sum(), parameters)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", some("many"))
def test_an_exported_graph_takes_new_ids_and_other_numbers_of_rows(
    name: str, make_tower: Tower, trained: Trained
):
    config = CONFIGS[name]
    adapted = trained(adapt(make_tower(), config, targets="[02]")).eval()
    x, domain = rows_of(80, config, 1)
    batch = torch.export.Dim("batch", min=2)
    shapes: dict[str, Any] = {"args": ({0: batch},), "domain": {0: batch}}
    exported = torch.export.export(adapted, (x,), {"domain": domain}, dynamic_shapes=shapes)
    for count in (80, 33, 500):
        x, domain = rows_of(count, config, count)
        close(exported.module()(x, domain=domain), adapted(x, domain=domain))


@pytest.mark.parametrize("name", some("many"))
def test_an_exported_model_with_ids_among_its_inputs(
    name: str, make_tower: Tower, trained: Trained
):
    config = CONFIGS[name]
    model = TakesDict(make_tower())
    ids = {7 * i: i for i in range(1, config.num_domains + 1)}
    adapted = trained(
        adapt(model, config, targets="tower.[02]", domain_input="market", domain_ids=ids)
    ).eval()
    x, domain = rows_of(80, config, 1)
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(
        model,
        ({"x": x, "market": 7 * domain},),
        dynamic_shapes=({"x": {0: batch}, "market": {0: batch}},),
    )
    for count in (80, 33):
        x, domain = rows_of(count, config, count)
        close(exported.module()({"x": x, "market": 7 * domain}), adapted({"x": x}, domain=domain))
    assert adapted.unwrap() is model
    with pytest.raises(KeyError):  # what was exported stays; the model is its old self
        model({"market": domain})


@pytest.mark.parametrize("name", some("few"))
def test_graphs_refuse_ids_out_of_range(name: str, make_tower: Tower, trained: Trained):
    config = CONFIGS[name]
    largest = config.num_domains or 0
    adapted = trained(adapt(make_tower(), config, targets="[02]")).eval()
    x, domain = rows_of(30, config, 1)
    exported = torch.export.export(adapted, (x,), {"domain": domain}).module()
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")
    for graph in (exported, compiled):
        close(graph(x, domain=domain), adapted(x, domain=domain))
        for wrong in (largest + 1, -1):
            bad = torch.where(torch.arange(30) == 7, wrong, domain)
            with pytest.raises(RuntimeError, match=f"domain ids must be in 0 to {largest}"):
                graph(x, domain=bad)


def test_a_graph_refuses_experts_out_of_range(make_tower: Tower, trained: Trained):
    adapted = trained(adapt(make_tower(), CONFIGS["few"], targets="[02]")).eval()
    x, domain = rows_of(30, CONFIGS["few"], 1)
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")
    close(compiled(x, domain=domain, expert=domain - 1), adapted(x, domain=domain))
    for wrong in (3, -2):
        bad = torch.where(torch.arange(30) == 7, wrong, domain - 1)
        with pytest.raises(RuntimeError, match="expert ids must be in -1 to 2"):
            compiled(x, domain=domain, expert=bad)


def test_a_graph_refuses_wrong_values_among_the_inputs(make_tower: Tower, trained: Trained):
    model = TakesDict(make_tower())
    adapted = adapt(model, CONFIGS["few"], targets="tower.[02]", domain_input="market")
    trained(adapted).eval()
    x, domain = rows_of(30, CONFIGS["few"], 1)
    market = domain.double()
    compiled = torch.compile(adapted, fullgraph=True, backend="aot_eager")
    close(compiled({"x": x, "market": market}), adapted({"x": x, "market": market}))
    for wrong, says in [
        (4.0, "domain ids must be in 0 to 3. They came as 'market'"),
        (2.5, "'market' has values that are not whole numbers"),
    ]:
        bad = torch.where(torch.arange(30) == 7, wrong, market)
        with pytest.raises(RuntimeError, match=says):
            compiled({"x": x, "market": bad})


def test_where_looking_would_stall_ids_are_checked_on_the_device(
    make_tower: Tower, trained: Trained, monkeypatch: pytest.MonkeyPatch
):
    adapted = trained(adapt(make_tower(), CONFIGS["few"], targets="[02]"))
    x, domain = rows_of(30, CONFIGS["few"], 1)
    monkeypatch.setattr(checks, "can_look", lambda _: False)  # as for a tensor on a GPU
    adapted(x, domain=domain)
    with pytest.raises(RuntimeError, match="domain ids must be in 0 to 3"):
        adapted(x, domain=domain + 3)
