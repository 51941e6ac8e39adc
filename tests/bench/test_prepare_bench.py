from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pytest

from mdlora.bench import prepare_bench_table, run_prepare_bench
from mdlora.bench.prepare_rows import COLUMNS, write_clicks
from mdlora.cli.main import main
from mdlora.errors import ConfigError, RunError
from mdlora.schema import Schema

CASE_KEYS = {"case", "ours", "competitor", "competitor_value", "unit", "ratio", "threads"}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("bench") / "prepare.json"
    assert main(["bench", "prepare", "--rows", "2000", "--json", str(path)]) == 0
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_what_is_measured(result: dict[str, Any]):
    wall, peak = result["cases"]
    assert (wall["case"], wall["unit"]) == ("prepare table, wall time", "seconds")
    assert (peak["case"], peak["unit"]) == ("prepare table, peak memory", "GB")
    for case in (wall, peak):
        assert set(case) == CASE_KEYS | {"bar", "met"}
        assert case["ratio"] == pytest.approx(case["ours"] / case["competitor_value"])
        assert case["threads"] == 2
    # 90 s for 10,000,000 rows are 0.018 s for 2,000.
    assert wall["competitor_value"] == pytest.approx(0.018)
    assert peak["competitor_value"] == 3
    assert (result["rows"], result["users"]) == (2000, 200)
    assert result["wall_seconds"] == wall["ours"] > 0
    assert 0.05 < result["peak_gigabytes"] < 3
    assert result["cpu_seconds"] > 0
    assert {"machine", "date", "versions"} <= set(result)


def test_the_table_has_one_row_a_case(result: dict[str, Any]):
    table = prepare_bench_table(result)
    assert [row[0] for row in table.rows] == [case["case"] for case in result["cases"]]
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert "2,000 rows of CSV, 200 users" in table.caption


def test_the_rows_are_as_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mdlora.bench.prepare_rows._CHUNK", 700)
    assert write_clicks(tmp_path / "rows.csv", 2000) == 200
    table = pa_csv.read_csv(tmp_path / "rows.csv")
    assert table.num_rows == 2000
    assert table.column_names == Schema(COLUMNS).raw_columns()
    assert len(table.column_names) == 12
    assert pc.count_distinct(table["user_id"]).as_py() == 200
    assert table["user_id"].type == pa.int64()
    assert pc.count_distinct(table["market"]).as_py() == 20
    assert 0.15 < pc.mean(table["click"]).as_py() < 0.25  # 0.2, with a standard error of 0.009
    write_clicks(tmp_path / "again.csv", 2000)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "rows.csv").read_bytes()


def test_a_failure_says_why(monkeypatch: pytest.MonkeyPatch):
    def fail(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "No space left.\n")

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(RunError, match=r"that is measured failed:\nNo space left\.$"):
        run_prepare_bench(rows=1000)


@pytest.mark.parametrize("wrong", [{"rows": 999}, {"threads": 0}])
def test_counts_too_low_are_refused(wrong: dict[str, int]):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        run_prepare_bench(**wrong)
