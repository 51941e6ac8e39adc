"""Calls that cannot be meant say what is wrong with them, and change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, adapt, merge_domain
from mdlora.config import FullFinetuning, MLoRA, MoEMLoRA
from mdlora.errors import AdapterError

Tower = Callable[..., nn.Sequential]
Trained = Callable[[AdaptedModel], AdaptedModel]
X = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([1, 2, 3, 0, 2, 1])
CONFIGS = {
    "mlora": MLoRA(num_domains=3, rank=2),
    "moe": MoEMLoRA(num_domains=3, rank=2),
    "full": FullFinetuning(num_domains=3),
}


class TakesDict(nn.Module):
    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.tower(batch["x"])
        return out


@pytest.mark.parametrize(
    ("ids", "kind"),
    [(IDS.tolist(), "list"), (IDS.numpy(), "ndarray"), (2, "int"), ("1", "str")],
)
def test_ids_that_are_no_tensor_are_refused_by_the_name_of_their_type(
    ids: Any, kind: str, make_tower: Tower
):
    adapted = adapt(make_tower(), MLoRA(num_domains=3), targets="*")
    says = f"ids are of type {kind}; give a one-dimensional tensor of integers, one for each row"
    with pytest.raises(AdapterError, match=f"domain {says}"):
        adapted(X, domain=ids)
    with pytest.raises(AdapterError, match=f"domain {says}"), adapted.routing(ids):
        pass
    with pytest.raises(AdapterError, match=f"expert {says}"):
        adapted(X, domain=IDS, expert=ids)


@pytest.mark.parametrize(
    ("domain", "says"),
    [
        ("a", "domain='a' is a str; give one whole number"),
        (None, "domain=None is a NoneType"),
        (1.0, "domain=1.0 is a float"),
        (True, "domain=True is a bool"),
        (torch.tensor(1), r"domain=tensor\(1\) is a Tensor"),
    ],
)
def test_a_domain_to_merge_that_is_no_whole_number_is_refused(
    domain: Any, says: str, make_tower: Tower
):
    adapted = adapt(make_tower(), MLoRA(num_domains=3), targets="*")
    with pytest.raises(AdapterError, match=says):
        merge_domain(adapted, domain)


def test_a_domain_to_merge_may_be_a_whole_number_of_numpy(make_tower: Tower, trained: Trained):
    adapted = trained(adapt(make_tower(), MLoRA(num_domains=3, rank=2), targets="[02]"))
    got, want = (merge_domain(adapted, d)(X) for d in (np.int64(2), 2))
    assert torch.equal(got, want)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("by_input", [False, True])
def test_a_model_whose_adapters_were_taken_off_says_so(
    by_input: bool, name: str, make_tower: Tower, trained: Trained
):
    module = TakesDict(make_tower())
    before = module({"x": X})
    options = {"domain_input": "market"} if by_input else {}
    adapted = trained(adapt(module, CONFIGS[name], targets="tower.[02]", **options))
    batch = {"x": X, "market": IDS}
    adapted(batch, domain=IDS)
    adapted.unwrap()
    says = r"adapters were taken off this model, by unwrap\(\)"
    with pytest.raises(AdapterError, match=says):
        adapted(batch, domain=IDS)
    with pytest.raises(AdapterError, match=says):
        adapted(batch)
    with pytest.raises(AdapterError, match=says), adapted.routing(IDS):
        pass
    with pytest.raises(AdapterError, match=says):
        merge_domain(adapted, 1)
    assert torch.equal(adapted.unwrap()(batch), before)  # again, and the module is what it was
    again = adapt(module, CONFIGS[name], targets="tower.[02]", **options)
    assert torch.equal(again(batch, domain=IDS), before)


@pytest.mark.parametrize("name", CONFIGS)
def test_only_modes_that_the_model_has_can_be_set(name: str, make_tower: Tower, trained: Trained):
    adapted = trained(adapt(make_tower(), CONFIGS[name], targets="[02]"))
    has = ["none", "own", "gate"] if name == "moe" else ["none", "own"]
    before = adapted(X, domain=IDS)
    wrong: list[Any] = [mode for mode in ("gate", "bogus", None, 1) if mode not in has]
    for mode in wrong:
        with pytest.raises(AdapterError, match=rf"route_mode={mode!r} .* choose {', '.join(has)}"):
            adapted.route_mode = mode
    assert adapted.route_mode == has[-1]
    assert torch.equal(adapted(X, domain=IDS), before)
    for mode in has:
        adapted.route_mode = mode  # type: ignore[assignment]
        assert adapted.route_mode == mode
