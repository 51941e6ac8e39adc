"""Models and settings that cannot be adapted say why, and are left as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mdlora.adapters import adapt, merge_domain
from mdlora.config import MLoRA
from mdlora.errors import AdapterError, ConfigError, MdloraError

Tower = Callable[..., nn.Sequential]
X = torch.randn(6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
IDS = torch.tensor([1, 2, 3, 0, 2, 1])


class Fused(nn.Module):
    """Reads a layer's weight without calling the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.Linear(9, 4).double()
        self.read = nn.Linear(4, 2).double()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.called(x), self.read.weight, self.read.bias)


class TwoTowers(nn.Module):
    """Runs one branch or both."""

    def __init__(self) -> None:
        super().__init__()
        self.user, self.item = nn.Linear(9, 4).double(), nn.Linear(9, 4).double()
        self.mode: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "user":
            return self.user(x)
        return (self.user(x) * self.item(x)).sum(1)


@pytest.mark.parametrize(
    ("model", "settings", "targets", "error", "says"),
    [
        (nn.Linear(9, 1), {}, "*", AdapterError, "of Linear, which is one itself. Wrap it"),
        (nn.Sequential(nn.Tanh()), {}, "*", AdapterError, "none at all. Adapters work on the nn.L"),
        (Fused(), {}, "tower", AdapterError, "'tower' matches no Linear .* has: called, read"),
        (Fused(), {"rank": 5}, "called", AdapterError, "rank=5 does not fit a layer of 9 inputs"),
        (Fused(), {"num_domains": 0}, "called", ConfigError, "num_domains"),
        (nn.Sequential(nn.LazyLinear(4)), {}, "0", AdapterError, "0 has no shape yet: run the mod"),
        (
            nn.Sequential(nn.TransformerEncoderLayer(9, 3, 8)),
            {},
            "*.linear1",
            AdapterError,
            r"0\.linear1 sees the steps of sequences first .* batch_first=True",
        ),
    ],
)
def test_what_cannot_be_adapted_says_why_and_keeps_no_hook(
    model: nn.Module, settings: dict[str, int], targets: str, error: type[MdloraError], says: str
):
    with pytest.raises(error, match=says):
        adapt(model, MLoRA(**{"num_domains": 3, **settings}), targets=targets)
    hooks = [h for m in model.modules() for h in (*m._forward_hooks.values(),)]
    assert not [hook for hook in hooks if "mdlora" in type(hook).__module__]
    assert all(not hasattr(m, "domain_adapters") for m in model.modules())


def test_a_transformer_with_the_batch_first_may_be_adapted():
    layer = nn.TransformerEncoderLayer(9, 3, 8, batch_first=True, dropout=0.0).double()
    x = X.unsqueeze(1).expand(6, 4, 9)
    before = layer(x)
    adapted = adapt(nn.Sequential(layer), MLoRA(num_domains=3, rank=1), targets="*.linear[12]")
    assert torch.equal(adapted(x, domain=IDS), before)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_and_it_says_how_to_do_without():
    def scored(*, nested: bool) -> Tensor:
        layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=nested)
        adapted = adapt(encoder, MLoRA(num_domains=3, rank=1), targets="*.linear[12]").eval()
        padded = torch.tensor([[False, False, True]]).expand(6, 3)
        with torch.no_grad():  # where torch packs sequences
            return adapted(torch.ones(6, 3, 8), src_key_padding_mask=padded, domain=IDS)

    with pytest.raises(AdapterError, match=r"linear1 got a nested tensor, .*nested_tensor=False"):
        scored(nested=True)
    assert scored(nested=False).shape == (6, 3, 8)


def test_wrapping_twice_is_refused(make_tower: Tower):
    net = make_tower()
    first = adapt(net, MLoRA(num_domains=3), targets="0")
    with pytest.raises(AdapterError, match="Layer 0 already has adapters"):
        adapt(net, MLoRA(num_domains=3), targets="*")
    with pytest.raises(AdapterError, match=r"AdaptedModel already: adapt its \.module"):
        adapt(first, MLoRA(num_domains=3), targets="module.2")
    assert first(X, domain=IDS).shape == (6, 1)


def test_a_layer_that_no_pass_called_cannot_be_merged_either():
    adapted = adapt(Fused(), MLoRA(num_domains=3), targets="*")
    with pytest.raises(AdapterError, match="Fused never called read, so adapters"):
        adapted(X, domain=IDS)
    nn.init.ones_(adapted.banks[1].bias)  # else merging would add nothing
    with pytest.raises(AdapterError, match="Fused never called read, so adapters"):
        merge_domain(adapted, 1)


def test_one_branch_of_a_model_runs_on_a_plain_copy():
    model = TwoTowers()
    adapted = adapt(model, MLoRA(num_domains=3, rank=1), targets="*")
    for bank in adapted.banks:
        nn.init.ones_(bank.up)
    adapted(X, domain=IDS)
    model.mode = "user"
    with pytest.raises(
        AdapterError, match=r"never called item, .* one of two towers, .* merge_dom"
    ):
        adapted(X, domain=IDS)
    want = model.user.weight + adapted.banks[0].up[1].T @ adapted.banks[0].down[1]
    merged = merge_domain(adapted, 2)
    torch.testing.assert_close(merged(X), X @ want.T + model.user.bias)
