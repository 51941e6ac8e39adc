from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.config import BackboneConfig, MLoRA, MoEMLoRA, Phase, TrainingConfig
from mdlora.data import Dataset
from mdlora.model import CTRModel
from mdlora.training.optimizers import PhaseOptimizer
from mdlora.types import Batch

NET = BackboneConfig(name="wdl", embed_dim=3, hidden=(5,), dropout=0.0)
BACKBONE = Phase(name="backbone", train="backbone", route="none")


def model_of(data: Dataset, adapter: MLoRA | None = None) -> CTRModel:
    return CTRModel(data.schema, NET, adapter).double()


def batches(data: Dataset, count: int, size: int = 20) -> list[Batch]:
    train = data.split("train")
    label = train.label.double()
    return [
        Batch(*(t[i * size : (i + 1) * size] for t in (train.categories, train.domain, label)))
        for i in range(count)
    ]


def loss_of(model: CTRModel, batch: Batch) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(batch), batch.label)


def run(model: CTRModel, data: Dataset, steps: int, **settings: Any) -> PhaseOptimizer:
    optimizer = PhaseOptimizer(model, BACKBONE, TrainingConfig(lr=0.02, **settings))
    for batch in batches(data, steps):
        optimizer.before_forward(batch)
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(batch, None)
    optimizer.settle()
    return optimizer


def with_penalty(model: CTRModel, batch: Batch, l2: float) -> Tensor:
    """Mean loss plus l2 times the sum of squares of the distinct rows of the batch."""
    starts = model.embeddings.offsets.tolist()
    rows = [
        categories + start for categories, start in zip(batch.categories.T, starts, strict=True)
    ]
    distinct = torch.unique(torch.cat(rows))
    return loss_of(model, batch) + l2 * model.embeddings.table[distinct].square().sum()


def by_autograd(model: CTRModel, data: Dataset, steps: int, l2: float, *, lazy: bool) -> None:
    table = model.embeddings.table
    rest = list(model.backbone.parameters())
    sparse = torch.optim.SparseAdam([table], lr=0.02, eps=1e-30)
    adam = torch.optim.Adam(rest if lazy else [table, *rest], lr=0.02, eps=1e-30 if lazy else 1e-8)
    for batch in batches(data, steps):
        grads = torch.autograd.grad(with_penalty(model, batch, l2), [table, *rest])
        for p, grad in zip([table, *rest], grads, strict=True):
            p.grad = grad
        if lazy:
            touched = torch.unique(model.embeddings.rows(batch.categories))
            table.grad = torch.sparse_coo_tensor(
                touched.unsqueeze(0), grads[0][touched], grads[0].shape, check_invariants=True
            )
            sparse.step()
        adam.step()


def assert_same(a: CTRModel, b: CTRModel) -> None:
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("l2", [0.0, 0.05])
@pytest.mark.parametrize("how", ["dense", "catch_up"])
def test_dense_and_catch_up_are_adam_on_loss_plus_penalty(how: str, l2: float, tiny_data: Dataset):
    mine, theirs = model_of(tiny_data), model_of(tiny_data)
    run(mine, tiny_data, 30, l2=l2, embedding_optimizer=how)
    by_autograd(theirs, tiny_data, 30, l2, lazy=False)
    assert_same(mine, theirs)


@pytest.mark.parametrize("l2", [0.0, 0.05])
def test_lazy_is_sparse_adam_on_loss_plus_penalty(l2: float, tiny_data: Dataset):
    mine, theirs = model_of(tiny_data), model_of(tiny_data)
    run(mine, tiny_data, 30, l2=l2, embedding_optimizer="lazy", eps=1e-30)
    by_autograd(theirs, tiny_data, 30, l2, lazy=True)
    assert_same(mine, theirs)


def test_the_penalty_matters_and_spares_rows_outside_the_batch(tiny_data: Dataset):
    models = [model_of(tiny_data) for _ in range(2)]
    for model, l2 in zip(models, (0.0, 0.05), strict=True):
        run(model, tiny_data, 1, l2=l2)
    table, other = (m.embeddings.table.detach() for m in models)
    touched = torch.zeros(len(table), dtype=torch.bool)
    touched[models[0].embeddings.rows(batches(tiny_data, 1)[0].categories)] = True
    assert 0 < int(touched.sum()) < len(table)
    assert not torch.equal(table[touched], other[touched])
    assert torch.equal(table[~touched], other[~touched])


@pytest.mark.parametrize(
    ("train", "route"), [("experts", "own"), ("gate", "gate"), ("targets", "none")]
)
def test_no_penalty_and_no_table_optimizer_where_embeddings_are_frozen(
    train: Any, route: Any, tiny_data: Dataset
):
    model = model_of(tiny_data, MoEMLoRA())
    phase = Phase(name="x", train=train, route=route)
    config = TrainingConfig(l2=0.5, embedding_optimizer="lazy")
    optimizer = PhaseOptimizer(model, phase, config)
    assert optimizer.l2 == 0
    assert optimizer.rows == []
    assert not model.embeddings.sparse_gradients


def test_a_phases_learning_rate_goes_before_the_sections(tiny_data: Dataset):
    # Adam's first step moves a weight by lr * sign(gradient).
    for lr, want in ((None, 0.02), (0.3, 0.3)):
        model = model_of(tiny_data, MLoRA())
        phase = Phase(name="x", train="experts", route="own", lr=lr)
        optimizer = PhaseOptimizer(model, phase, TrainingConfig(lr=0.02))
        (batch,) = batches(tiny_data, 1, 300)
        bank = model.adapted.banks[0]
        loss_of(model, batch).backward()
        optimizer.step(batch, None)
        # c starts at zero; its gradient is not small.
        moved = bank.bias.detach().abs()
        torch.testing.assert_close(
            moved.max(), torch.tensor(want, dtype=torch.float64), rtol=1e-4, atol=0
        )


def started(data: Dataset, adapter: MLoRA) -> CTRModel:
    """A model whose adapters add something, so that the gate has a gradient."""
    model = model_of(data, adapter)
    make = torch.Generator().manual_seed(4)
    for p in model.group("experts"):
        p.data = torch.randn(p.shape, dtype=p.dtype, generator=make)
    return model


@pytest.mark.parametrize("how", ["dense", "lazy", "catch_up"])
@pytest.mark.parametrize("train", ["all", "backbone", "experts", "gate"])
def test_state_there_and_back_goes_on_bit_for_bit(how: str, train: Any, tiny_data: Dataset):
    adapter = MoEMLoRA(experts_per_domain=2)
    phase = Phase(name="x", train=train, route="none" if train == "backbone" else "gate")
    config = TrainingConfig(lr=0.02, embedding_optimizer=how, l2=0.01)
    runs = []
    for interrupted in (False, True):
        model = started(tiny_data, adapter)
        model.adapted.route_mode = phase.route
        optimizer = PhaseOptimizer(model, phase, config)
        for step, batch in enumerate(batches(tiny_data, 8)):
            if interrupted and step == 4:
                state = {name: t.clone() for name, t in optimizer.tensors().items()}
                optimizer = PhaseOptimizer(model, phase, config)
                optimizer.load_tensors(state)
            optimizer.before_forward(batch)
            loss = loss_of(model, batch)
            model.zero_grad()
            loss.backward()
            optimizer.step(batch, None)
        optimizer.settle()
        runs.append(model.state())
    start = started(tiny_data, adapter).state()
    assert any(not torch.equal(start[name], runs[0][name]) for name in start)
    for name in start:
        assert torch.equal(runs[0][name], runs[1][name]), name
