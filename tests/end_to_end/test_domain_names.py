"""Any text is a domain's name: it cannot leave the folder, break a page, or clash."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdlora.data import SPLIT_NAMES, load_dataset, prepare_rows, write_dataset
from mdlora.schema import Categorical, Domain, Label
from mdlora.training import load, load_domain_adapter

Call = Callable[..., tuple[int, str, str]]

LONG = "x" * 299
NAMES = [
    "US/CA",
    "..",
    "<script>alert(1)</script>",
    "日本 ü",
    LONG + "y",
    LONG + "z",
    "a|b\nc",
    "$x_1$ \\frac",
    "",
    "%2E%2E",
]


@pytest.fixture(scope="module")
def odd_folder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data with each domain cut in two by user, under odd names."""
    tables = [pq.read_table(folder / f"{name}.parquet") for name in SPLIT_NAMES]
    codes = np.repeat(np.arange(3), [table.num_rows for table in tables])
    table = pa.concat_tables(tables)
    users = table.column("user_id").to_pylist()
    halves = {user: place % 2 for place, user in enumerate(sorted(set(users)))}
    known = sorted(set(table.column("domain").to_pylist()))
    odd = [
        NAMES[2 * known.index(name) + halves[user]]
        for name, user in zip(table.column("domain").to_pylist(), users, strict=True)
    ]
    table = table.set_column(table.column_names.index("domain"), "domain", pa.array(odd))
    columns: list[Any] = [
        Categorical("user_id", role="user"),
        Categorical("item_id", role="item"),
        Domain("domain"),
        Label("click"),
    ]
    table = table.select(["user_id", "item_id", "domain", "click"])
    out = tmp_path_factory.mktemp("odd") / "data"
    write_dataset(out, prepare_rows(table, codes, columns, source="test"))
    return out


def test_odd_names_from_training_to_report(
    odd_folder: Path, tmp_path: Path, mdlora: Call, tiny_options: list[str]
) -> None:
    run = tmp_path / "run"
    options = [*tiny_options, "--plan.max_epochs=1"]
    code, _, err = mdlora("train", odd_folder, "--out", run, *options)
    assert code == 0, err
    assert not list(tmp_path.glob("*.safetensors"))
    files = sorted((run / "adapters").iterdir())
    assert [path.name[:4] for path in files] == [f"{i:04d}" for i in range(1, 11)]
    assert len({path.name.lower() for path in files}) == len(NAMES)
    for path in files:
        assert len(path.name) < 120
        assert path.name.isascii()
        assert not set(path.name) & set('/\\<>:"|?*\n ')
        assert path.name.count(".") == 1

    with (run / "domains.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["domain"] for row in rows) == sorted(NAMES)
    assert [run / row["adapter_file"] for row in rows] == files
    model = load(run)
    assert [load_domain_adapter(model, path) for path in files] == [r["domain"] for r in rows]

    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "://" not in page
    figures = tmp_path / "figures.json"
    assert mdlora("evaluate", run, "--replicates", 5, "--json", figures)[0] == 0
    told = json.loads(figures.read_text(encoding="utf-8"))
    assert [d["name"] for d in told["domains"]] == sorted(NAMES)
    scores = tmp_path / "scores.parquet"
    assert mdlora("predict", run, odd_folder / "test.parquet", "--out", scores)[0] == 0
    assert pq.read_table(scores).num_rows == len(load_dataset(odd_folder).split("test"))


def test_odd_names_in_a_comparison(
    odd_folder: Path, tmp_path: Path, mdlora: Call, tiny_options: list[str]
) -> None:
    out = tmp_path / "comparison"
    asked = ["compare", odd_folder, "--methods", "moe-mlora", "--seeds", "1", "--jobs", "1"]
    code, _, err = mdlora(*asked, "--out", out, *tiny_options, "--plan.max_epochs=1")
    assert code == 0, err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "://" not in page
    cells = json.loads((out / "results.json").read_text(encoding="utf-8"))["cells"]
    assert sorted(cells[0]["auc"]) == sorted(NAMES)
