"""torch.export of every backbone, for any number of rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from mdlora.backbones import BACKBONES
from mdlora.types import Embedded, EmbeddedList

# Half a second each: those made of parts that another one here has too are left to the slow tests.
ALIKE = (
    *("adasparse", "afm", "dcn", "deepfm", "epnet", "fibinet", "fwfm", "gdcn", "hamur", "mlp"),
    *("nfm", "pepnet", "pnn", "ppnet", "shared-bottom"),
    *("din", "star-shared", "wdl"),  # with adapters
)
EVERY = [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else ()) for name in BACKBONES]


def check_exported(model: nn.Module, contract: Any, num_domains: int, with_ids: bool) -> None:
    """The graph scores other rows, and more and fewer of them, as the module does.

    Rows of unknown domains are among them where a graph takes these.
    """
    network = model.module if with_ids else model
    any_number = {0: Dim.AUTO}
    shapes: dict[str, Any] = {
        "x": Embedded(*[any_number] * 4, (EmbeddedList(any_number, any_number),))
    }
    if with_ids:
        shapes = {"args": (shapes["x"],), "domain": any_number}

    def given(rows: int) -> tuple[tuple[Embedded], dict[str, Any]]:
        x = contract.rows(rows, num_domains, seed=rows, least=contract.least(network))
        return (x,), {"domain": x.domain} if with_ids else {}

    args, kwargs = given(20)
    graph = torch.export.export(model, args, kwargs, dynamic_shapes=shapes).module()
    for rows in (20, 7, 90):
        args, kwargs = given(rows)
        want = model(*args, **kwargs).detach()
        scale = float(want.abs().max())
        torch.testing.assert_close(graph(*args, **kwargs), want, rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.parametrize("name", EVERY)
def test_backbones(name: str, contract: Any):
    check_exported(contract.build(name, 3), contract, 3, with_ids=False)


@pytest.mark.slow
def test_options_and_many_domains(case: str, num_domains: int, contract: Any):
    check_exported(contract.build(case, num_domains), contract, num_domains, with_ids=False)


def check_adapted(case: str, num_domains: int, name: str, contract: Any, *routes: str) -> None:
    adapted = contract.adapt(
        contract.build(case, num_domains),
        contract.adapters[name],
        num_domains=num_domains,
        targets=contract.targets(case, num_domains),
    )
    contract.shake(adapted)
    for route in routes or contract.routes(adapted):
        adapted.route_mode = route
        check_exported(adapted, contract, num_domains, with_ids=True)


# A tower, items of lists, a host's hooks with gates, and parts of each domain; the rest is slow.
@pytest.mark.parametrize(
    ("name", "adapters", "route"),
    [
        ("wdl", "mlora", "own"),
        ("din", "full-finetuned", "own"),
        ("ppnet", "moe-mlora, gate on the input", "gate"),
        ("star-shared", "moe-mlora", "gate"),
    ],
)
def test_with_adapters(name: str, adapters: str, route: str, contract: Any):
    check_adapted(name, 3, adapters, contract, route)


@pytest.mark.slow
def test_with_all_adapters(reachable: str, num_domains: int, contract: Any):
    few, many = ("mlora", "moe-mlora, gate on the input"), ("moe-mlora", "full-finetuned")
    for name in few if num_domains < 10 else many:
        check_adapted(reachable, num_domains, name, contract)


def test_the_check_sees_a_number_of_rows_that_is_built_in(contract: Any):
    class Fixed(nn.Module):
        def forward(self, x: Embedded) -> torch.Tensor:
            return x.fields.sum((1, 2)) / len(x.fields)

    with pytest.raises(AssertionError, match=r"size\(\)\[0\] == 20"):
        check_exported(Fixed(), contract, 3, with_ids=False)
