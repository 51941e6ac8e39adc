from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mdlora.config import MLoRA
from mdlora.data import Dataset, Rows
from mdlora.errors import DataError, SchemaError
from mdlora.model import CTRModel


@pytest.fixture
def model(every_kind: Dataset) -> CTRModel:
    made = CTRModel(every_kind.schema, "deepfm", MLoRA(rank=1), vectors=every_kind.vectors)
    torch.nn.init.normal_(made.embeddings.table, std=0.1)
    for parameter in made.group("experts"):
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def new_rows(make: Any) -> pa.Table:
    return make(40, 9).drop_columns(["click", "weight", "when"])


def test_scores_are_those_of_the_encoded_rows(model: CTRModel, every_kind_table: Any):
    table = new_rows(every_kind_table)
    rows = Rows.of(model.schema.encode(table, with_label=False))
    with torch.no_grad():
        want = torch.sigmoid(model.eval()(rows.batch(0, 40))).numpy()
    scores = model.predict(table)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, want, rtol=1e-6)
    assert scores.std() > 0.01
    np.testing.assert_allclose(model.predict(table, batch_size=7), want, rtol=1e-5)


def test_rows_in_any_form_score_alike(model: CTRModel, every_kind_table: Any, tmp_path: Path):
    import polars as pl

    table = new_rows(every_kind_table)
    want = model.predict(table)
    pq.write_table(table, tmp_path / "rows.parquet")
    forms = {
        "path": tmp_path / "rows.parquet",
        "text": str(tmp_path / "rows.parquet"),
        "polars": pl.from_arrow(table),
        "dict": {name: table.column(name).to_pylist() for name in table.column_names},
    }
    for name, rows in forms.items():
        np.testing.assert_array_equal(model.predict(rows), want, err_msg=name)


def test_unseen_values_and_unknown_domains(
    model: CTRModel, every_kind_table: Any, caplog: pytest.LogCaptureFixture
):
    table = new_rows(every_kind_table).slice(0, 3)
    place = table.column_names.index("market")
    table = table.set_column(place, "market", pa.array(["de", "es", "es"]))
    with caplog.at_level(logging.INFO, logger="mdlora.row_scorer"):
        scores = model.predict(table)
    assert "rows: column 'market': 2 unseen" in caplog.text
    model.adapted.route_mode = "none"
    backbone = model.predict(table)
    model.adapted.route_mode = "own"
    np.testing.assert_allclose(scores[1:], backbone[1:], rtol=1e-5)
    assert abs(scores[0] - backbone[0]) > 1e-4
    with pytest.raises(DataError, match="'es'"):
        model.predict(table, unknown_domain="error")


def test_rows_that_do_not_fit(model: CTRModel, every_kind_table: Any):
    with pytest.raises((DataError, SchemaError), match="price"):
        model.predict(new_rows(every_kind_table).drop_columns(["price"]))
