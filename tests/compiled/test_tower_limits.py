"""Where a tower must not run as one step, and what such a step must leave alone."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from mdlora.adapters import AdaptedModel, ExpertRoute, adapt
from mdlora.adapters.low_rank import LowRankUpdate
from mdlora.compiled import has_numba, plain_only
from mdlora.config import MLoRA
from mdlora.errors import AdapterError
from mdlora.layers import MLP, ReLUDropout

pytestmark = pytest.mark.skipif(not has_numba(), reason="numba is not installed")


def draw_again(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, ReLUDropout):
            part.generator = torch.Generator().manual_seed(5)


def adapted_tower() -> AdaptedModel:
    torch.manual_seed(0)
    config = MLoRA(num_domains=7, rank=4)
    adapted = adapt(MLP(16, (24, 12), dropout=0.5), config, targets="*").train()
    for parameter in adapted.parameters():
        nn.init.normal_(parameter, std=0.2)
    return adapted


@pytest.mark.parametrize("rows", [5, 3000])
def test_layers_whose_weights_were_cut_run_as_they_are(rows: int):
    mlp = MLP(8, (32, 16), dropout=0.5).train()
    last = mlp.linears[1]
    assert isinstance(last, nn.Linear)
    last.weight = nn.Parameter(last.weight[:10].detach().clone())
    last.bias = nn.Parameter(last.bias[:10].detach().clone())
    x, found = torch.randn(rows, 8), []
    draw_again(mlp)
    found.append(mlp(x))
    with plain_only():
        draw_again(mlp)
        found.append(mlp(x))
    assert found[0].shape == (rows, 10)
    torch.testing.assert_close(*found)


def test_a_bias_of_another_shape_is_not_read_beyond_its_end():
    mlp = MLP(8, (32,), dropout=0.5).train()
    mlp.linears[0].bias = nn.Parameter(torch.ones(1))
    x = torch.randn(50, 8)
    draw_again(mlp)
    got = mlp(x)
    with plain_only():
        draw_again(mlp)
        torch.testing.assert_close(got, mlp(x))


def test_threads_may_go_back_through_one_graph_at_once():
    adapted = adapted_tower()
    domain = torch.randint(0, 8, (3000,))
    loss = adapted(torch.randn(3000, 16), domain=domain).square().sum()
    parameters = list(adapted.parameters())
    want = torch.autograd.grad(loss, parameters, retain_graph=True)
    wrong: list[int] = []

    def go_back() -> None:
        for _ in range(8):
            got = torch.autograd.grad(loss, parameters, retain_graph=True)
            pairs = zip(got, want, strict=True)
            wrong.extend(i for i, (a, b) in enumerate(pairs) if not torch.equal(a, b))

    threads = [threading.Thread(target=go_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("training", [False, True])
def test_a_tower_of_no_layers_gives_its_input(training: bool):
    x = torch.randn(4, 8)
    assert torch.equal(MLP(8, ()).train(training)(x), x)


def test_an_evaluated_tower_can_be_traced_symbolically():
    mlp = MLP(8, (6, 4), dropout=0.5).eval()
    x = torch.randn(3, 8)
    torch.testing.assert_close(torch.fx.symbolic_trace(mlp)(x), mlp(x))


class _Some(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = MLP(8, (6, 4), dropout=0.5)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        return self.mlp(x[keep])


def test_rows_may_be_as_many_as_the_data_says_in_an_exported_graph():
    module = _Some().eval()
    graph = torch.export.export(module, (torch.randn(9, 8), torch.rand(9) > 0.5)).module()
    x, keep = torch.randn(9, 8), torch.arange(9) > 2
    torch.testing.assert_close(graph(x, keep), module(x, keep))


def test_a_bias_may_change_before_the_way_back():
    mlp = MLP(8, (32, 16), dropout=0.5).train()
    loss = mlp(torch.randn(5, 8)).sum()
    for linear in mlp.linears:
        assert isinstance(linear, nn.Linear)
        with torch.no_grad():
            linear.bias.add_(1)
    loss.backward()


def test_adapters_may_be_pruned():
    from torch.nn.utils import prune

    adapted = adapted_tower()
    prune.l1_unstructured(adapted.bank_of(0), "up", 0.5)
    domain = torch.arange(9) % 4
    optimizer = torch.optim.SGD(adapted.parameters(), 0.1)
    for _ in range(2):  # the pruned matrix is made anew in each pass
        optimizer.zero_grad()
        adapted(torch.randn(9, 16), domain=domain).sum().backward()
        optimizer.step()


def test_each_adapter_of_a_row_needs_its_weight():
    down, up = torch.randn(3, 2, 4), torch.randn(3, 2, 5)
    route = ExpertRoute(torch.zeros(6, 2, dtype=torch.int64), 3, torch.ones(6, 1))
    with pytest.raises(AdapterError, match="one for each adapter of a row"):
        LowRankUpdate(down, up, None, route, sparse=False)


def test_somebodys_hook_with_names_like_ours_is_called():
    class Hook:
        is_idle = False
        calls = 0

        def can_fuse(self, *_: object) -> bool:
            return True

        def __call__(self, *_: object) -> None:
            self.calls += 1

    mlp, hook = MLP(8, (6, 4), dropout=0.5).train(), Hook()
    mlp.activations[0].register_forward_hook(hook)
    mlp.linears[1].register_forward_hook(hook)
    mlp(torch.randn(3, 8))
    assert hook.calls == 2
