from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from mdlora.bench import run_stream_bench, stream_table
from mdlora.bench.stream_apart import WAYS, read_apart, share_statistic
from mdlora.bench.stream_rows import COLUMNS, DOMAIN_SHARES, write_stream_files
from mdlora.cli.bench import run
from mdlora.errors import ConfigError, RunError

ROWS = 40_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rows")
    write_stream_files(out, ROWS, 500)
    return out


def test_the_files_are_sorted_by_domain_and_have_its_shares(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    assert len(paths) == 20
    for path in paths[:2]:
        with pq.ParquetFile(path) as file:
            assert file.num_row_groups == 4
            assert file.metadata.row_group(0).column(0).compression == "ZSTD"
            table = file.read()
        assert table.column_names == list(COLUMNS)
        assert {str(column.type) for column in table.columns} == {"int64"}
        domain = table["domain"].to_numpy()
        assert (np.diff(domain) >= 0).all()
        np.testing.assert_array_equal(np.bincount(domain), np.array(DOMAIN_SHARES) * 2000)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_rows(folder: Path, way: str) -> None:
    batches = list(WAYS[way](str(folder)))
    assert all(tuple(batch) == COLUMNS for batch in batches)
    sums = {name: sum(int(batch[name].sum()) for batch in batches) for name in COLUMNS}
    table = pq.read_table(folder)
    assert sums == {name: table[name].to_numpy().sum() for name in COLUMNS}
    assert sum(len(batch["user"]) for batch in batches) == ROWS


def test_a_way_is_measured_in_its_own_process(folder: Path) -> None:
    result = read_apart("mdlora", folder)
    assert result["rows"] == ROWS
    assert 0 < result["cpu_seconds"] < 60
    assert result["wall_seconds"] > 0
    assert 1 < result["megabytes"] < 300


def test_a_way_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="no space left\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(RunError, match="Reading by mdlora failed:\nno space left"):
        read_apart("mdlora", tmp_path)


def test_the_shares_of_batches_are_those_of_the_files(folder: Path) -> None:
    total, degrees = share_statistic(folder, 2)
    assert degrees == 18
    assert total < 48  # chi-square of 18 degrees of freedom is above 47 once in 5000 draws


def measured(way: str, _: Path) -> dict[str, float]:
    place = list(WAYS).index(way) + 1
    return {"rows": 1200, "cpu_seconds": place, "wall_seconds": place / 2, "megabytes": 10 * place}


def test_cases_compare_medians_with_each_rival_and_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdlora.bench.stream.read_apart", measured)
    result = run_stream_bench(rows=20_019, runs=2)
    assert (result["rows"], result["runs"], result["group_rows"]) == (20_000, 2, 63)
    cases = [(c["competitor"], c["unit"], c["ratio"]) for c in result["cases"]]
    # Way n needs n CPU seconds for the same rows, so that ours, the first, is n times as fast.
    assert cases[:3] == [
        (way, "rows per CPU second", pytest.approx(n))
        for n, way in enumerate(list(WAYS)[1:], start=2)
    ]
    assert cases[6] == ("bar", "rows per CPU second", pytest.approx(1200 / 1_500_000))
    assert cases[7] == ("bar", "MB above imports", pytest.approx(10 / 300))
    assert cases[8][0] == "chance"
    assert result["spread"]["mdlora: rows per second"]["values"] == [2400, 2400]
    assert len(stream_table(result).rows) == len(cases)
    assert stream_table(result).caption.startswith("Streaming: medians of 2 runs over 20,000 rows")


def test_the_verb_prints_and_writes_the_result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mdlora.bench.stream.read_apart", measured)
    out = tmp_path / "stream.json"
    run(["stream", "--rows", "20000", "--group-rows", "400", "--runs", "1", "--json", str(out)])
    assert "DataLoader, 2 workers" in capsys.readouterr().out
    assert json.loads(out.read_text())["group_rows"] == 400


@pytest.mark.parametrize("wrong", [{"rows": 19_999}, {"runs": 0}, {"group_rows": 0}])
def test_counts_that_are_too_small_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        run_stream_bench(**wrong)
