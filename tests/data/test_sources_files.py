from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdlora.data.sources import Files, list_files, read_footers, to_table
from mdlora.errors import DataError, MissingExtraError

ROWS = pa.table({"k": [1, 2]})


def write(path: Path, table: pa.Table = ROWS, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


def names(files: Files, root: Path) -> list[str]:
    return [str(Path(file.name).relative_to(root)) for file in files]


def test_a_folder_is_listed_with_its_folders_in_order(tmp_path: Path):
    for name in ("b.parquet", "a/c.parquet", "a/b.PQ", "_temporary/x.parquet", ".x.parquet"):
        write(tmp_path / name)
    for name in ("_SUCCESS", "notes.txt", "a/part.parquet.crc"):
        (tmp_path / name).write_text("x")
    files = list_files(tmp_path)
    assert names(files, tmp_path) == ["a/b.PQ", "a/c.parquet", "b.parquet"]
    ignored = [str(Path(name).relative_to(tmp_path)) for name in files.ignored]
    assert ignored == ["a/part.parquet.crc", "notes.txt"]
    assert files.format == "parquet"
    assert (len(files), files.partition_types) == (3, {})
    assert [footer.rows for footer in read_footers(files)] == [2, 2, 2]


def test_globs_and_lists(tmp_path: Path):
    for name in ("x1.csv", "x2.csv.gz", "y.csv"):
        (tmp_path / name).write_text("k\n1\n")
    assert names(list_files(tmp_path / "x*"), tmp_path) == ["x1.csv", "x2.csv.gz"]
    both = list_files([tmp_path / "y.csv", str(tmp_path / "x1.csv")])
    assert names(both, tmp_path) == ["y.csv", "x1.csv"]  # a list keeps its order
    only = list_files(tmp_path, suffixes=(".csv.gz",))
    assert names(only, tmp_path) == ["x2.csv.gz"]


def test_a_name_with_brackets_is_itself_before_it_is_a_glob(tmp_path: Path):
    write(tmp_path / "x[1].parquet")
    assert names(list_files(tmp_path / "x[1].parquet"), tmp_path) == ["x[1].parquet"]


def hive(root: Path, *folders: str) -> Path:
    for folder in folders:
        write(root / folder / "part-0.parquet")
    return root


def test_hive_folders_become_columns(tmp_path: Path):
    hive(tmp_path, "day=10/market=de", "day=9/market=a%2Fb%20c")
    table = to_table(tmp_path)
    assert table.schema == pa.schema(
        [("k", pa.int64()), ("day", pa.int64()), ("market", pa.string())]
    )
    assert table.to_pydict() == {
        "k": [1, 2, 1, 2], "day": [10, 10, 9, 9], "market": ["de", "de", "a/b c", "a/b c"]
    }  # fmt: skip
    assert to_table(tmp_path, ["day"]).to_pydict() == {"day": [10, 10, 9, 9]}
    assert to_table(tmp_path, ["market", "k"]).column_names == ["market", "k"]
    assert to_table(tmp_path / "day=9").column_names == ["k", "market"]
    assert to_table(tmp_path / "day=*" / "*").column_names == ["k", "day", "market"]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (("1", "-20"), [-20, 1]),
        (("1", "x"), ["1", "x"]),
        (("1", "02"), ["02", "1"]),  # a code: 02 and 2 would become one
        (("1", "9223372036854775807"), [1, 2**63 - 1]),
        (("1", "9223372036854775808"), ["1", "9223372036854775808"]),
        (("1.5", "1"), ["1", "1.5"]),
        (("1", "__HIVE_DEFAULT_PARTITION__"), [1, None]),
        (("__HIVE_DEFAULT_PARTITION__",), [None]),
    ],
)
def test_partition_values(values: tuple[str, ...], wanted: list[Any], tmp_path: Path):
    hive(tmp_path, *(f"p={value}" for value in values))
    assert to_table(tmp_path, ["p"]).column("p").to_pylist()[::2] == wanted


def test_a_partition_column_that_stands_in_the_file_too(tmp_path: Path):
    rows = pa.table({"day": pa.array([3, 3], pa.int32()), "k": [1, 2]})
    write(tmp_path / "day=3" / "x.parquet", rows)
    table = to_table(tmp_path)
    assert table.schema.types == [pa.int64(), pa.int64()]
    assert table.column("day").to_pylist() == [3, 3]
    write(tmp_path / "day=4" / "x.parquet", rows)
    with pytest.raises(DataError, match=r"day=4.x\.parquet: column 'day' stands in the file and"):
        to_table(tmp_path)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("day=1", "hour=1"), r"hour=1.*give the columns hour, those of .*give day"),
        (("day=1", "x"), r"give the columns none"),
        (("day=1/day=2",), "stands twice"),
    ],
)
def test_folders_that_disagree(folders: tuple[str, ...], message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        list_files(hive(tmp_path, *folders))


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(DataError, match=r"no file or folder .*nope\. In .*: nothing\."):
        list_files(tmp_path / "nope")
    with pytest.raises(DataError, match="It is empty"):
        list_files(tmp_path)
    with pytest.raises(DataError, match="No file matches"):
        list_files(tmp_path / "*.csv")
    with pytest.raises(DataError, match="list of files to read is empty"):
        list_files([])
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match=r"Only: .*x\.txt\. .*must end in \.parquet"):
        list_files(tmp_path)
    with pytest.raises(DataError, match=r"Only: .*x\.txt"):
        list_files(tmp_path / "x.txt")


def test_parquet_and_csv_do_not_mix(tmp_path: Path):
    write(tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("k\n1\n")
    with pytest.raises(DataError, match=r"a\.parquet, .*b\.csv"):
        list_files(tmp_path)
    assert len(list_files(tmp_path / "*.csv")) == 1


@pytest.fixture
def memory() -> Any:
    fsspec = pytest.importorskip("fsspec")
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_urls(tmp_path: Path, memory: Any):
    hive(tmp_path, "day=1/c=x", "day=2/c=y")
    for path in tmp_path.rglob("*.parquet"):
        memory.pipe(f"/logs/{path.relative_to(tmp_path)}", path.read_bytes())
    memory.pipe("/logs/_SUCCESS", b"")
    table = to_table("memory://logs")
    assert table.equals(to_table(tmp_path))
    assert to_table("memory://logs/day=*/*/*.parquet").equals(table)
    one = list_files("memory://logs/day=2/c=y/part-0.parquet")
    assert [file.name.partition("://")[0] for file in one] == ["memory"]
    assert one.partition_types == {}
    memory.pipe("/x.csv", b"a,b\n1,x\n")
    assert to_table("memory://x.csv").to_pydict() == {"a": [1], "b": ["x"]}
    memory.pipe("/bad.parquet", b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"memory://.*bad\.parquet: .*cut short or damaged"):
        to_table("memory://bad.parquet")
    with pytest.raises(DataError, match="no file at memory://nope"):
        list_files("memory://nope")
    with pytest.raises(DataError, match="foo://x cannot be reached"):
        list_files("foo://x")


def test_a_url_without_fsspec(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "fsspec":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=r"pip install 'mdlora\[remote\]'"):
        list_files("s3://bucket/x.parquet")
