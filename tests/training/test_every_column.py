"""A model with a column of every kind at once: trained, frozen, saved, resumed, scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mdlora.config import BackboneConfig, MoEMLoRA, Phase, RunConfig, TrainingConfig
from mdlora.data import Dataset, Rows
from mdlora.evaluation import mean_gate_weights, score_rows
from mdlora.model import CTRModel
from mdlora.training import load_run, resume, train_config
from mdlora.training.batches import PhaseRows, hide_values
from mdlora.training.build import build_model
from mdlora.training.optimizers import PhaseOptimizer
from mdlora.training.phase import PhaseRunner
from mdlora.training.plan import make_plan
from mdlora.training.progress import SilentProgress

TinyConfig = Callable[..., RunConfig]
EMBEDDINGS = {
    "embeddings.table",
    "embeddings.vectors.0.linear",
    "embeddings.vectors.0.projection.weight",
    "embeddings.vectors.1.table",
    "embeddings.projections.0.weight",
}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())


@pytest.mark.parametrize("optimizer", ["dense", "lazy", "catch_up"])
def test_each_phase_moves_what_it_trains_and_nothing_else(
    optimizer: str, every_kind: Dataset, tiny_config: TinyConfig
):
    config = tiny_config(training={"embedding_optimizer": optimizer}, data={"oov_rate": 0.1})
    model = build_model(config, every_kind.schema, every_kind.vectors)
    given = {name: table.clone() for name, table in every_kind.vectors.items()}
    for phase in make_plan(config):
        before = {name: t.clone() for name, t in model.state().items()}
        runner = PhaseRunner(
            model, phase, config, PhaseRows.with_expert(every_kind.split("train")),
            every_kind.split("validation"), record=lambda _: None, progress=SilentProgress(),
            checkpoint=lambda _: None, should_stop=lambda: False,
        )  # fmt: skip
        runner.start()
        runner.run()
        changed = {n for n, t in runner.last.items() if not torch.equal(t, before[n])}
        if phase.name == "backbone":
            assert {n for n in changed if n.startswith("embeddings.")} == EMBEDDINGS
        elif phase.name == "experts":
            assert changed
            assert all(name.startswith("adapted.banks.") for name in changed)
        else:
            assert changed
            assert all(name.startswith("adapted.gates.") for name in changed)
        # The digests of what is frozen cover the given vectors.
        assert "embeddings.vectors.0.table" in runner.position.frozen
        frozen = runner.position.frozen.keys()
        assert ("embeddings.vectors.1.table" in frozen) == (phase.name != "backbone")
    state = model.state()
    assert torch.equal(state["embeddings.vectors.0.table"][1:], given["item_vectors"])
    assert not torch.equal(state["embeddings.vectors.1.table"][1:], given["user_vectors"])
    for place in (0, 1):  # what has no vector has zeros
        assert state[f"embeddings.vectors.{place}.table"][0].eq(0).all()


def test_a_run_is_saved_loaded_and_scores_alike(
    every_kind: Dataset, every_kind_table: Any, tiny_config: TinyConfig, tmp_path: Path
):
    config = tiny_config(data={"path": str(every_kind.path)})
    run = train_config(config, every_kind, tmp_path / "run")
    test = every_kind.split("test")
    logits = score_rows(run.model, test)
    for which in ("best", "last"):
        loaded = load_run(tmp_path / "run", which)
        if which == "best":
            assert same(loaded.model.state(), run.model.state())
            assert torch.equal(score_rows(loaded.model, test), logits)
    assert load_run(tmp_path / "run").evaluate("test") == run.evaluate("test", every_kind)
    table = every_kind_table(50, 8).drop_columns(["click", "weight", "when"])
    pq.write_table(table, tmp_path / "new.parquet")
    counts = run.predict_file(tmp_path / "new.parquet", tmp_path / "scored.parquet")
    encoded = every_kind.schema.encode(table, with_label=False)
    assert counts == {
        "rows": 50, "unseen": encoded.unseen, "missing": encoded.missing, "cut": encoded.cut,
    }  # fmt: skip
    assert counts["missing"]["age"] > 0
    assert counts["cut"]["tags"] > 0
    scores = pq.read_table(tmp_path / "scored.parquet").column("score").to_numpy()
    want = torch.sigmoid(score_rows(run.model, Rows.of(encoded)))
    np.testing.assert_array_equal(scores, want.numpy())


class _Stop(SilentProgress):
    """Ctrl-C after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, rows: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("optimizer", "steps"), [("dense", 3), ("catch_up", 7), ("lazy", 9)])
def test_a_resumed_run_ends_bit_for_bit_as_one_never_stopped(
    optimizer: str, steps: int, every_kind: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    config = tiny_config(
        "mlora-joint", data={"path": str(every_kind.path), "oov_rate": 0.1},
        training={"embedding_optimizer": optimizer, "checkpoint_seconds": 0.0},
    )  # fmt: skip
    whole = train_config(config, every_kind, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train_config(config, every_kind, tmp_path / "b", progress=_Stop(steps))
    again = resume(tmp_path / "b")
    assert same(whole.model.state(), again.model.state())


@pytest.mark.parametrize("name", ["mlp", "wdl", "deepfm"])
def test_a_rows_score_ignores_its_batch_mates(name: str, every_kind: Dataset):
    net = BackboneConfig(name=name, embed_dim=4, hidden=(8, 6))
    model = CTRModel(
        every_kind.schema, net, MoEMLoRA(gate="input"), vectors=every_kind.vectors
    ).double()
    for parameter in model.group("experts"):
        torch.nn.init.normal_(parameter)
    rows = every_kind.split("test")
    whole = score_rows(model, rows)
    shuffled = torch.randperm(len(rows))
    for size in (1, 7, 1000):
        scores = score_rows(model, rows.pick(shuffled), batch_size=size)
        torch.testing.assert_close(scores, whole[shuffled], rtol=1e-12, atol=1e-12)


def test_every_column_reaches_the_score(every_kind: Dataset):
    model = CTRModel(every_kind.schema, "wdl", vectors=every_kind.vectors).double()
    torch.nn.init.normal_(model.embeddings.table)
    rows = every_kind.split("test").slice(0, 60)
    before = score_rows(model, rows)
    for place, field in enumerate(every_kind.schema.fields):
        changed = rows.pick(torch.arange(60))
        changed.categories[:, place] = changed.categories[:, place] % 2 + 1
        moved = changed.categories[:, place] != rows.categories[:, place]
        assert bool(moved.any()), field.name
        assert (score_rows(model, changed) != before).equal(moved), field.name
    for column in range(rows.dense.shape[1]):
        changed = rows.pick(torch.arange(60))
        changed.dense[:, column] += 1
        assert (score_rows(model, changed) != before).all()
    for place in range(len(rows.lists)):
        changed = rows.pick(torch.arange(60))
        changed.lists[place].values.copy_(changed.lists[place].values % 3 + 1)
        assert (score_rows(model, changed) != before).sum() > 20


def test_weights_and_times_never_reach_a_score(every_kind: Dataset):
    model = CTRModel(every_kind.schema, "wdl", vectors=every_kind.vectors)
    rows = every_kind.split("test")
    blind = replace(rows, weight=rows.weight * 3, time=rows.time + 5)
    assert torch.equal(score_rows(model, rows), score_rows(model, blind))


def by_autograd(model: CTRModel, rows: PhaseRows, steps: int, l2: float) -> None:
    """Adam on the mean loss plus l2 times the squares of the distinct rows that a batch reads."""
    parameters = list(model.parameters())
    adam = torch.optim.Adam(parameters, lr=0.02)
    for i in range(steps):
        batch = rows.batch(20 * i, 20 * i + 20)
        logits = model(batch)
        loss = F.binary_cross_entropy_with_logits(logits, batch.label.double())
        own, tables = model.embeddings, model.embeddings.row_tables()
        first = len(own.num_ids)
        lists = [part.values + own.starts[first + j] for j, part in enumerate(batch.lists)]
        ids = own.rows(batch.categories).flatten()
        keys = [batch.categories[:, place] for place in own.vector_fields]
        # Item vectors are frozen and have a linear weight; user vectors learn and have none.
        for table, read in zip(tables, [torch.cat([ids, *lists]), *keys], strict=True):
            loss = loss + l2 * table[read.unique()].square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()


@pytest.mark.parametrize("how", ["dense", "catch_up"])
def test_every_table_is_trained_with_its_penalty(how: Any, every_kind: Dataset):
    def make() -> CTRModel:
        model = CTRModel(every_kind.schema, "wdl", seed=2, vectors=every_kind.vectors)
        return model.double().eval()

    mine, theirs = make(), make()
    rows = PhaseRows.with_expert(every_kind.split("train"))
    config = TrainingConfig(lr=0.02, l2=0.05, embedding_optimizer=how)
    phase = Phase(name="backbone", train="backbone", route="none")
    optimizer = PhaseOptimizer(mine, phase, config)
    for i in range(25):
        batch = rows.batch(20 * i, 20 * i + 20)
        optimizer.before_forward(batch)
        loss = F.binary_cross_entropy_with_logits(mine(batch), batch.label.double())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(batch, None)
    optimizer.settle()
    by_autograd(theirs, rows, 25, 0.05)
    for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def test_hidden_values_are_a_share_of_those_that_can_be_unseen(every_kind: Dataset):
    rows = PhaseRows.with_expert(every_kind.split("train"))
    rows = rows.pick(torch.arange(len(rows)).repeat(4))
    hidden = hide_values(rows, every_kind.schema, 0.3, seed=1)
    names = every_kind.schema.field_names
    for place, name in enumerate(names):
        old, new = rows.categories[:, place], hidden.categories[:, place]
        kept = new == old
        assert new[~kept].eq(0).all()
        share = float((~kept)[old > 0].float().mean())
        if name in ("city", "age"):  # hashed, in buckets
            assert share == 0
        else:  # about 2,000 draws: a standard deviation of 0.01
            assert abs(share - 0.3) < 0.05
    assert torch.equal(hidden.domain, hidden.categories[:, -1])
    tags, words = (
        (new.values != old.values).float().mean()
        for new, old in zip(hidden.lists, rows.lists, strict=True)
    )
    assert abs(float(tags) - 0.3) < 0.05
    assert words == 0  # hashed
    assert torch.equal(hidden.lists[0].offsets, rows.lists[0].offsets)


def test_the_gates_weights_are_reported(every_kind: Dataset):
    net = MoEMLoRA(gate="input", rank=1)
    model = CTRModel(every_kind.schema, "mlp", net, vectors=every_kind.vectors)
    model.adapted.route_mode = "gate"
    rows = every_kind.split("validation")
    whole = mean_gate_weights(model, rows)
    by_parts = mean_gate_weights(model, rows, batch_size=9)
    for some, others in zip(whole, by_parts, strict=True):
        assert some.shape == (3, 3)
        torch.testing.assert_close(some.sum(1), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(some, others, rtol=1e-5, atol=1e-7)


def test_clusters_of_a_column_of_given_vectors(
    every_kind: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    adapter = {"experts_per_domain": 2, "expert_rows": "clusters:item_vectors"}
    run = train_config(tiny_config(adapter=adapter), every_kind, tmp_path / "run")
    assert run.metrics()[-1]["end"]
    assert run.model.adapted.num_experts == 6
