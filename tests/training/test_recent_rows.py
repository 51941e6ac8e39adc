from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mdlora.config import Phase, PlanConfig, RunConfig, held_out_share, recent_days
from mdlora.data import Dataset, Rows
from mdlora.errors import ConfigError
from mdlora.training import train_config
from mdlora.training.batches import phase_rows
from mdlora.training.build import build_model
from mdlora.training.plan import check_plan, make_plan

TinyConfig = Callable[..., RunConfig]
DAY = 86400


def test_recent_rows_by_hand():
    latest = 1_700_000_000  # float32 could not tell seconds apart here
    ages = torch.tensor([0, DAY - 1, DAY, DAY + 1, 3 * DAY, 10 * DAY, 5])
    ids = torch.ones(7, 1, dtype=torch.int64)
    rows = Rows(ids, ids[:, 0], time=latest - ages)
    # A day back from the latest row: up to, not including, the row exactly a day older.
    assert phase_rows(rows, "recent:1", None, seed=1).tolist() == [0, 1, 6]
    assert phase_rows(rows, "recent:3.5", None, seed=1).tolist() == [0, 1, 2, 3, 4, 6]
    assert phase_rows(rows, "recent:0.00001", None, seed=1).tolist() == [0]
    assert phase_rows(rows, "recent:100", 0.5, seed=1).tolist() == list(range(7))


def test_days():
    assert recent_days("recent:21") == 21
    assert recent_days("recent:0.5") == 0.5
    assert held_out_share("recent:21") is None
    for text in ("all", "held_out:0.2", "recent", "recent:", "recent:0", "recent:-1", "recent:nan",
                 "recent:inf", "recent:x"):  # fmt: skip
        assert recent_days(text) is None
    for text in ("recent", "recent:0", "recent:x"):
        with pytest.raises(ConfigError, match=rf"plan\.rows='{text}'.*recent:21"):
            PlanConfig(rows=text)
        with pytest.raises(ConfigError, match=rf"'odd' has rows '{text}'.*recent:21"):
            Phase(name="odd", train="backbone", route="none", rows=text)


def test_recent_rows_go_to_the_finetune_phases(tiny_config: TinyConfig):
    rows = [phase.rows for phase in make_plan(tiny_config(plan={"rows": "recent:21"}))]
    assert rows == ["all", "recent:21", "recent:21"]
    mine = Phase(name="a", train="backbone", route="none", rows="recent:2")
    assert PlanConfig(phases=(mine,)).phases == (mine,)
    with pytest.raises(ConfigError, match=r"plan\.rows=recent:3 has no effect beside"):
        PlanConfig(phases=(mine,), rows="recent:3")


def test_without_a_time_column_recent_rows_are_refused(
    tiny_data: Dataset, every_kind: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    config = tiny_config("mlora", plan={"rows": "recent:21"})
    with pytest.raises(ConfigError, match=r"'experts' has rows 'recent:21'.*no time column"):
        train_config(config, tiny_data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    model = build_model(config, every_kind.schema, every_kind.vectors)
    check_plan(make_plan(config), model)


def test_phases_train_on_recent_rows_alone(
    every_kind: Dataset, tiny_config: TinyConfig, tmp_path: Path
):
    seen: dict[str, int] = {}

    class Spy:
        def phase(self, name: str, epoch: int, total: int, done: int) -> None:
            seen[name] = total

        def advance(self, rows: int) -> None: ...

        def note(self, text: str) -> None: ...

    config = tiny_config("mlora", plan={"rows": "recent:30"})
    train_config(config, every_kind, tmp_path / "run", progress=Spy())
    time = every_kind.split("train").time
    recent = int((time > time.max() - 30 * DAY).sum())
    assert seen == {"backbone": len(time), "experts": recent}
    assert 0 < recent < len(time) / 2
