"""What a new user gets wrong first: each is told what to do, and no file is lost or left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdlora.errors import SchemaError
from mdlora.schema import Categorical, Domain, Label, Schema

Call = Callable[..., tuple[int, str, str]]

ROWS = "user_id,page,price,clicked\n" + "".join(
    f"{i % 7},{'ab'[i % 2]},{i}.5,{i // 2 % 2}\n" for i in range(40)
)
SCHEMA = """columns:
- {kind: categorical, name: user_id}
- {kind: domain, name: page}
- {kind: numeric, name: price}
- {kind: label, name: clicked}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("clicks.csv").write_text(ROWS)
    Path("schema.yaml").write_text(SCHEMA)
    return tmp_path


def test_an_edited_schema_is_never_overwritten(here: Path, mdlora: Call) -> None:
    code, _, err = mdlora("schema", "infer", "clicks.csv", "--out", "schema.yaml")
    assert (code, "--out=schema.yaml is there already" in err) == (2, True)
    assert (here / "schema.yaml").read_text() == SCHEMA


def test_scores_neither_replace_the_rows_nor_are_called_csv(
    trained: Path, folder: Path, here: Path, mdlora: Call
) -> None:
    table = pq.read_table(folder / "test.parquet")
    pq.write_table(table, here / "rows.parquet")
    code, _, err = mdlora("predict", trained, "rows.parquet", "--out", "./rows.parquet")
    assert (code, "is the file of the rows themselves" in err) == (2, True)
    assert pq.read_table(here / "rows.parquet") == table
    code, _, err = mdlora("predict", trained, "rows.parquet", "--out", "scores.csv")
    assert (code, "scores are written as Parquet. End its name in .parquet." in err) == (2, True)
    assert not (here / "scores.csv").exists()


@pytest.mark.parametrize(
    ("rows", "schema", "message"),
    [
        (ROWS, SCHEMA.replace("domain", "categorical"),
         "schema.yaml: A schema has exactly one domain column, got none. Give one"),
        (ROWS, SCHEMA.replace("page", "pages"), "page, price, clicked. Did you mean 'page'?"),
        (ROWS.split("\n")[0] + "\n", SCHEMA, "clicks.csv: There are no rows to prepare."),
        (ROWS.replace("\n3,b,3.5", "\n3,b,NA"), SCHEMA,
         "line 5: column 'price' is 'NA', which is not a number. Correct it, or say that it means "
         "no value (--empty), or that the column is text (--text)."),
        (ROWS.replace("\n3,b,", '\n3,"b,'), SCHEMA,
         "line 5: a cell that begins here with a quote does not end. Close it, and double"),
    ],
    ids=["no domain", "a column's name", "no rows", "NA", "open quote"],
)  # fmt: skip
def test_mistakes_in_rows_and_schema(
    rows: str, schema: str, message: str, here: Path, mdlora: Call
) -> None:
    (here / "clicks.csv").write_text(rows)
    (here / "schema.yaml").write_text(schema)
    code, _, err = mdlora(
        "prepare", "table", "clicks.csv", "--schema", "schema.yaml", "--out", "data"
    )
    assert (code, message in err) == (1, True), err
    assert sorted(path.name for path in here.iterdir()) == ["clicks.csv", "schema.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["clicks.csv", "--out", "data"], 2, "Give --schema.\n"),
        (["--schema", "schema.yaml", "--out", "data"], 2, "Give ROWS.\n"),
        (["clicks.csv", "--schema", "schema.yaml", "--out", "data", "--ratio", "3:1:1"], 2,
         "--ratio='3:1:1' is not a list of numbers with commas between."),
        (["click.csv", "--schema", "schema.yaml", "--out", "data"], 1,
         "There is no file or folder click.csv. Did you mean 'clicks.csv'?"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(
    arguments: list[str], code: int, message: str, here: Path, mdlora: Call
) -> None:
    found, _, err = mdlora("prepare", "table", *arguments)
    assert (found, message in err) == (code, True), err


def test_a_switch_is_true_or_false(here: Path, mdlora: Call) -> None:
    code, _, err = mdlora("train", "synthetic", "--out", "run", "--data.stream", "maybe")
    assert (code, "--data.stream: Expected true or false. Got value: maybe" in err) == (2, True)


def test_integers_with_nulls_may_be_amounts(here: Path, mdlora: Call) -> None:
    ages = [str(18 + i % 30) if i % 5 else "" for i in range(200)]
    (here / "clicks.csv").write_text(
        "x,age\n" + "".join(f"{i % 3},{a}\n" for i, a in enumerate(ages))
    )
    _, said, _ = mdlora("schema", "infer", "clicks.csv")
    assert "drop these rows, or if they are amounts set kind: numeric." in said


def test_a_schema_says_how_to_make_an_arrow_table() -> None:
    rows = {"user": [1, 2], "page": ["a", "b"], "click": [0, 1]}
    columns = [Categorical("user"), Domain("page"), Label("click")]
    schema = Schema.fit(pa.table(rows), columns)
    for call in (schema.grow, schema.encode):
        with pytest.raises(
            SchemaError, match=r"but a dict\. mdlora\.data\.sources\.to_table makes"
        ):
            call(rows)  # type: ignore[arg-type]
