from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mdlora.config import Phase, RunConfig
from mdlora.data import Dataset
from mdlora.model import CTRModel
from mdlora.training.batches import PhaseRows
from mdlora.training.build import build_model
from mdlora.training.phase import PhaseRunner
from mdlora.training.progress import SilentProgress

TinyConfig = Callable[..., RunConfig]
BACKBONE = Phase(name="backbone", train="backbone", route="none", max_epochs=1, patience=None)
EXPERTS = Phase(
    name="experts", train="experts", route="own", stop="by_domain", max_epochs=2, patience=None
)


def trained(
    config: RunConfig, phase: Phase, data: Dataset, rows: PhaseRows
) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """The weights after the last step, and the metrics."""
    model: CTRModel = build_model(config, data.schema).double()
    lines: list[dict[str, Any]] = []
    runner = PhaseRunner(
        model, phase, config, rows, data.split("validation"), record=lines.append,
        progress=SilentProgress(), checkpoint=lambda _: None, should_stop=lambda: False,
    )  # fmt: skip
    runner.start()
    runner.run()
    return runner.last, lines


def some_rows(data: Dataset, count: int, weight: Tensor | None) -> PhaseRows:
    return PhaseRows.with_expert(replace(data.split("train").slice(0, count), weight=weight))


def test_the_loss_of_a_step_by_hand(tiny_data: Dataset, tiny_config: TinyConfig):
    config = tiny_config("base", backbone={"dropout": 0.0})
    weight = torch.tensor([0.5, 2.0, 0.0, 1.5])
    rows = some_rows(tiny_data, 4, weight)
    logits = build_model(config, tiny_data.schema).double()(rows.batch(0, 4))
    _, lines = trained(config, BACKBONE, tiny_data, rows)
    losses = [
        math.log1p(math.exp(-z if y else z))
        for z, y in zip(logits.tolist(), rows.label.tolist(), strict=True)
    ]
    want = (0.5 * losses[0] + 2 * losses[1] + 1.5 * losses[3]) / 4
    assert lines[1]["train_loss"] == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("phase", [BACKBONE, EXPERTS], ids=["backbone", "experts"])
def test_a_weight_of_three_is_a_row_that_stands_there_three_times(
    phase: Phase, tiny_data: Dataset, tiny_config: TinyConfig
):
    config = tiny_config("mlora", backbone={"dropout": 0.0}, training={"batch_size": 10_000})
    counts = torch.arange(300) % 4  # 0 to 3
    weighted = some_rows(tiny_data, 300, counts.float())
    places = torch.arange(300).repeat_interleave(counts)
    repeated = some_rows(tiny_data, 300, None).pick(places)
    mine, lines = trained(config, phase, tiny_data, weighted)
    theirs, wanted = trained(config, phase, tiny_data, repeated)
    touched = mine.pop("embeddings.table", None)
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-9, atol=1e-11)
    if touched is not None:  # rows of weight 0 still bring their penalty, so a few rows differ
        close = (touched - theirs["embeddings.table"]).abs().amax(1) < 1e-9
        assert close.float().mean() > 0.9
    assert lines[1]["train_loss"] == pytest.approx(wanted[1]["train_loss"], rel=1e-9)


@pytest.mark.parametrize("phase", [BACKBONE, EXPERTS], ids=["backbone", "experts"])
def test_equal_weights_change_nothing(phase: Phase, tiny_data: Dataset, tiny_config: TinyConfig):
    config = tiny_config("mlora")
    plain, lines = trained(config, phase, tiny_data, some_rows(tiny_data, 400, None))
    for one in (1.0, 4.0):  # powers of two divide out without rounding
        weight = torch.full((400,), one)
        same, others = trained(config, phase, tiny_data, some_rows(tiny_data, 400, weight))
        assert all(torch.equal(tensor, same[name]) for name, tensor in plain.items())
        assert [line["wauc"] for line in lines] == [line["wauc"] for line in others]
        assert [line.get("train_loss") for line in lines] == [
            line.get("train_loss") for line in others
        ]


def test_rows_of_no_weight_alone_teach_nothing(tiny_data: Dataset, tiny_config: TinyConfig):
    config = tiny_config("base", training={"l2": 0.0})
    last, lines = trained(config, BACKBONE, tiny_data, some_rows(tiny_data, 300, torch.zeros(300)))
    start = build_model(config, tiny_data.schema).double().state()
    assert all(torch.equal(tensor, start[name]) for name, tensor in last.items())
    assert lines[1]["train_loss"] is None


def test_validation_figures_ignore_weights(every_kind: Dataset, tiny_config: TinyConfig):
    from mdlora.training.judging import Judge

    model = CTRModel(every_kind.schema, "wdl", vectors=every_kind.vectors)
    rows = every_kind.split("validation")
    figures = [
        Judge(model, replace(rows, weight=weight), 1000, 10, None, None, "here").figures()[0][0]
        for weight in (rows.weight, None)
    ]
    assert figures[0] == figures[1]
