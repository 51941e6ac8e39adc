"""One pass over mixed batches equals separate trainings of each expert."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.config import BackboneConfig, MoEMLoRA, RunConfig
from mdlora.data import Dataset
from mdlora.model import CTRModel
from mdlora.training.batches import PhaseRows, epoch_order
from mdlora.training.expert_rows import assign_rows
from mdlora.training.phase import PhaseRunner
from mdlora.training.plan import make_plan
from mdlora.training.progress import SilentProgress
from mdlora.types import Batch

NET = BackboneConfig(name="deepfm", embed_dim=4, hidden=(8, 6), dropout=0.0)
EPOCHS, SIZE = 3, 64


def model_of(data: Dataset, m: int) -> CTRModel:
    model = CTRModel(data.schema, NET, MoEMLoRA(experts_per_domain=m, rank=2)).double()
    model.adapted.route_mode = "own"
    with torch.no_grad():  # far from the small start, so that gradients are not small
        make = torch.Generator().manual_seed(1)
        table = model.embeddings.table
        table.copy_(torch.randn(table.shape, dtype=table.dtype, generator=make))
        for bank in model.adapted.banks:
            bank.up.copy_(torch.randn(bank.up.shape, dtype=torch.float64, generator=make) * 0.1)
    model.train_only("experts")
    return model


def epochs(data: Dataset, m: int) -> list[tuple[Batch, Tensor]]:
    train = data.split("train")
    config = MoEMLoRA(experts_per_domain=m)
    _, expert = assign_rows(train.domain, train.categories, config, None, num_domains=3, seed=1)
    found = []
    for epoch in range(EPOCHS):
        for rows in epoch_order(len(train), epoch).split(SIZE):
            label = train.label[rows].double()
            found.append((Batch(train.categories[rows], train.domain[rows], label), expert[rows]))
    return found


def sgd(model: CTRModel, batches: list[tuple[Batch, Tensor]], only: int | None) -> None:
    """Plain descent; the loss is a sum over the rows that are used, over the full batch's rows."""
    parameters = model.group("experts")
    for batch, expert in batches:
        size = len(expert)
        if only is not None:
            mine = expert == only
            if not bool(mine.any()):
                continue
            batch, expert = Batch(*(t[mine] for t in batch[:3])), expert[mine]
        logits = model(batch, expert)
        loss = F.binary_cross_entropy_with_logits(logits, batch.label, reduction="sum") / size
        grads = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, grad in zip(parameters, grads, strict=True):
                p -= 0.5 * grad


@pytest.mark.parametrize("m", [1, 2])
def test_a_mixed_pass_equals_trainings_one_by_one(m: int, tiny_data: Dataset):
    start, batches = model_of(tiny_data, m), epochs(tiny_data, m)
    mixed = copy.deepcopy(start)
    sgd(mixed, batches, None)
    for k in range(3 * m):
        alone = copy.deepcopy(start)
        sgd(alone, batches, k)
        for p, q, first in zip(*(x.group("experts") for x in (mixed, alone, start)), strict=True):
            torch.testing.assert_close(p[k], q[k], rtol=1e-12, atol=1e-12)
            assert (p[k] - first[k]).abs().max() > 1e-3
            others = [other for other in range(3 * m) if other != k]
            assert torch.equal(q[others], first[others])


@pytest.mark.parametrize("m", [1, 2])
def test_the_experts_phase_equals_torchs_adam_for_each_expert_alone(
    m: int, tiny_data: Dataset, tiny_config: Callable[..., RunConfig]
):
    """The real phase, early stop off, against torch.optim.Adam on each expert's own rows."""
    config = tiny_config(
        backbone={"name": "deepfm", "dropout": 0.0},
        adapter={"experts_per_domain": m, "rank": 2},
        training={"batch_size": SIZE, "lr": 0.01},
        plan={"max_epochs": EPOCHS, "patience": 100},
    )
    phase = make_plan(config)[1]
    start = model_of(tiny_data, m)
    mixed = copy.deepcopy(start)
    train = tiny_data.split("train")
    orders: list[Tensor] = []
    runner = PhaseRunner(
        mixed, phase, config, PhaseRows(train.categories, train.domain, train.label),
        tiny_data.split("validation"), record=lambda _: None, progress=SilentProgress(),
        checkpoint=lambda _: None, should_stop=lambda: False,
    )  # fmt: skip
    rules = runner.source.rules
    hide = rules.hide
    rules.hide = lambda rows, *at: orders.append(rows) or hide(rows, *at)  # the epoch's, in order
    runner.start()
    runner.run()
    assert len(orders) == EPOCHS
    for k in range(3 * m):
        alone = copy.deepcopy(start)
        mine = [p.detach()[k].clone().requires_grad_() for p in alone.group("experts")]
        adam = torch.optim.Adam(mine, lr=0.01)
        for rows in orders:
            for index in torch.arange(len(rows.domain)).split(SIZE):
                index = index[rows.expert[index] == k]
                if not len(index):
                    continue
                with torch.no_grad():
                    for p, q in zip(alone.group("experts"), mine, strict=True):
                        p[k] = q
                batch = Batch(rows.categories[index], rows.domain[index])
                logits = alone(batch, rows.expert[index])
                loss = F.binary_cross_entropy_with_logits(
                    logits, rows.label[index], reduction="sum"
                )
                size = min(SIZE, len(rows.domain) - int(index[0]) // SIZE * SIZE)
                grads = torch.autograd.grad(loss / size, alone.group("experts"))
                for q, grad in zip(mine, grads, strict=True):
                    q.grad = grad[k]
                adam.step()
        names = [n for n, p in mixed.named_parameters() if n.startswith("adapted.banks")]
        for name, q in zip(names, mine, strict=True):
            torch.testing.assert_close(
                runner.last[name][k], q.detach(), rtol=1e-11, atol=1e-12,
                msg=lambda text, where=f"{name}[{k}]": f"{where}: {text}",
            )  # fmt: skip
