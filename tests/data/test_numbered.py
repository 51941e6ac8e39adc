"""Ids of CSV: integers if all are, and else text, with the first cell that is none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.data.prepare import pieces
from mdlora.data.prepare.numbered import read_numbered
from mdlora.data.sources import MixedColumn

LARGE = 300_000  # rows of some 5 MB: more than a block, and than four batches


def write(path: Path, cells: list[str]) -> Path:
    """A file of one column of ids."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["id", *cells]) + "\n", encoding="utf-8")
    return path


def plain(cell: str) -> bool:
    """Whether a cell is a 64-bit integer as programs write it."""
    try:
        return str(int(cell)) == cell and -(2**63) <= int(cell) < 2**63
    except ValueError:
        return False


@pytest.mark.parametrize(
    "cell", ["abc", "007", "+1", "-0", "1.0", "1e3", '" 1"', "1_0", str(2**63), str(-(2**63) - 1)]
)
def test_a_cell_that_is_no_integer(cell: str, tmp_path: Path):
    path = write(tmp_path / "x.csv", ["3", "2", cell, "zzz", "1", "4", "5"])
    column = read_numbered(path, ["id"])["id"]
    assert column.mixed == MixedColumn("id", str(path), 4, cell.strip('"'))
    assert str(column.values.dtype) == "String"


@pytest.mark.parametrize("cells", [["1", "x"], ["x", "y"], ["1", "1", "x", "y"]])
def test_no_more_integers_than_others(cells: list[str], tmp_path: Path):
    assert read_numbered(write(tmp_path / "x.csv", cells), ["id"])["id"].mixed is None
    # Rows count, and not different values.
    column = read_numbered(write(tmp_path / "y.csv", [*cells, *["1"] * 3]), ["id"])["id"]
    assert column.mixed is not None
    assert column.mixed.line == 2 + next(n for n, cell in enumerate(cells) if cell != "1")


def test_lines_and_not_rows_are_named(tmp_path: Path):
    # A blank line is no row; a cell in quotes may take two lines.
    path = tmp_path / "x.csv"
    path.write_text('note,id\na,1\n\n"two\nlines",2\nb,x\nc,3\n')
    column = read_numbered(path, ["id", "note"])
    assert column["id"].mixed == MixedColumn("id", str(path), 6, "x")
    assert column["note"].mixed is None


@pytest.mark.parametrize("row", [0, 5, 65_536, 2 * 65_536 - 1, LARGE - 1])
def test_a_large_file(row: int, tmp_path: Path):
    cells = [f"{n % 97:015d}".replace("0", "1") for n in range(LARGE)]
    cells[row], cells[LARGE - 1] = "abc", "the last one"
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["id", *cells]).encode(), compresslevel=1))
    column = read_numbered(path, ["id"])["id"]
    assert column.mixed == MixedColumn("id", str(path), row + 2, cells[row])
    assert column.values[int(column.codes[row])] == cells[row]


def test_columns_that_are_text_by_themselves(tmp_path: Path):
    # Parquet says what its columns hold, and the names of folders are no cells.
    texts = pa.table({"id": ["1", "2", "x"], "part": ["1", "2", "3"]})
    pq.write_table(texts, tmp_path / "x.parquet")
    columns = read_numbered(tmp_path / "x.parquet", ["id", "part"])
    assert [column.mixed for column in columns.values()] == [None, None]
    assert {str(column.values.dtype) for column in columns.values()} == {"String"}
    for part in ("1", "2", "x"):
        write(tmp_path / "csv" / f"part={part}" / "y.csv", ["7", "8"])
    columns = read_numbered(tmp_path / "csv", ["id", "part"])
    assert columns["id"].values.to_list() == [7, 8]
    assert columns["part"].values.to_list() == ["1", "2", "x"]
    assert columns["part"].mixed is None


cells_of = st.lists(st.sampled_from(["1", "2", "30", "-4", "05", "x", "é"]), min_size=1, max_size=9)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(parts=st.lists(cells_of, min_size=1, max_size=4), size=st.sampled_from([1, 3, 1 << 20]))
def test_files_by_one_rule(
    parts: list[list[str]], size: int, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.mktemp("ids")
    names = [str(write(folder / f"{n}.csv", cells)) for n, cells in enumerate(parts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", size)
        column = read_numbered(folder, ["id"])["id"]
    every = [cell for cells in parts for cell in cells]
    others = [
        MixedColumn("id", name, line, cell)
        for name, cells in zip(names, parts, strict=True)
        for line, cell in enumerate(cells, 2)
        if not plain(cell)
    ]
    told = others and 2 * len(others) < len(every)
    assert column.mixed == (others[0] if told else None)
    found = [column.values[int(code)] for code in column.codes]
    assert found == (every if others else list(map(int, every)))
