from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mdlora.cli.main import main
from mdlora.data import load_dataset
from mdlora.data.prepare import prepare_clicks
from mdlora.data.prepare.given_vectors import click_vectors
from mdlora.errors import ConfigError, DataError, RunError
from mdlora.schema import Categorical, Vector

SPLITS = ("train", "validation", "test")


def log(num_users: int = 60, clicks: int = 10) -> list[tuple[int, int, str]]:
    """Distinct (user, item, domain): 2 domains with 40 items each."""
    rng = np.random.default_rng(5)
    return [
        (user, 1000 * d + int(item), "ab"[d])
        for user in range(num_users)
        for d in (0, 1)
        for item in rng.choice(40, clicks // 2, replace=False)
    ]


def write_csv(path: Path, rows: list[Any], header: str = "user_id,item_id,domain") -> Path:
    text = "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def read(out: Path, split: str) -> list[tuple[Any, ...]]:
    return pl.read_parquet(out / f"{split}.parquet").rows()


def everything(out: Path) -> list[tuple[Any, ...]]:
    return [row for split in SPLITS for row in read(out, split)]


def test_clicks_and_negatives_by_hand(tmp_path: Path):
    # Ratio 0.5: each of the 60 users has 5 clicks in each domain, so int(5 / 0.5) = 10 negatives
    # there of 40 - 5 = 35 items: 600 clicks and 1,200 negatives. Three clicks are repeated.
    rows = log()
    raw = write_csv(tmp_path / "clicks.csv.gz", [*rows, *rows[:2], rows[0]])
    summary = prepare_clicks(raw, out=tmp_path / "out", ratio=(0.5, 0.5))
    table = pl.read_parquet(tmp_path / "out" / "train.parquet")
    assert table.columns == ["user_id", "item_id", "domain", "label"]
    assert table.schema["user_id"] == pl.Int64
    found = everything(tmp_path / "out")
    assert len(found) == len(set(found)) == 1800
    assert {row[:3] for row in found if row[3] == 1} == set(rows)
    negatives = [row[:3] for row in found if row[3] == 0]
    assert not set(negatives) & set(rows)
    assert Counter((u, d) for u, _, d in negatives) == dict.fromkeys(
        ((u, d) for u in range(60) for d in "ab"), 10
    )
    assert all((item >= 1000) == (d == "b") for _, item, d in negatives)  # the domain's items
    about = summary["sampling"]
    assert (about["clicks"], about["repeated_clicks"]) == (603, 3)
    assert (about["negatives"], about["shortfall"]) == (1200, 0)
    figures = {"negatives": 600, "shortfall": 0, "ratio": 0.5}
    assert about["domains"] == {  # the repeated clicks are the first ones, of domain a
        "a": {"clicks": 303, "repeated_clicks": 3, **figures},
        "b": {"clicks": 300, "repeated_clicks": 0, **figures},
    }
    # 3:1:1 of 300 clicks and of 600 negatives in each domain.
    assert [summary["splits"][s]["rows"] for s in SPLITS] == [1080, 360, 360]
    assert {summary["splits"][s]["click_rate"] for s in SPLITS} == {1 / 3}
    data = load_dataset(tmp_path / "out")
    assert data.schema.field_of("user") == "user_id"
    assert data.schema.field_names == ("user_id", "item_id", "domain")
    assert data.summary == json.loads(json.dumps(summary))


def test_the_released_rule_and_a_shortfall(tmp_path: Path):
    # At ratio 0.1 each user is to get 50 of 35 items in each domain: all 35, and 15 short.
    # Of 35 negatives of a user in a domain 7 are for testing and 7 for validation.
    raw = write_csv(tmp_path / "clicks.csv", log())
    out = tmp_path / "out"
    summary = prepare_clicks(raw, out=out, ratio=(0.1, 0.1), split_rule="released", seed=2)
    assert [d["shortfall"] for d in summary["sampling"]["domains"].values()] == [900, 900]
    assert summary["sampling"]["shortfall"] == 1800
    for split, each in zip(SPLITS, (21, 7, 7), strict=True):
        counts = Counter((u, d) for u, _, d, y in read(out, split) if not y)
        assert counts == dict.fromkeys(((u, d) for u in range(60) for d in "ab"), each)


def test_text_ids_stay_text(tmp_path: Path):
    # "007" and "7" are two users, so the whole column is text; a byte-order mark is no part of
    # the first name; other columns are ignored.
    names = {7: "7", 8: "007"}
    clicks = [(names.get(u, str(u)), f"i{i}", d) for u, i, d in log()]
    lines = [(*(f'"{value}"' for value in row), "x") for row in clicks]
    raw = write_csv(tmp_path / "clicks.csv", lines, "\ufeffwho,what,where,note")
    out = tmp_path / "out"
    prepare_clicks(raw, out=out, user="who", item="what", domain="where")
    assert {row[:3] for row in everything(out) if row[3]} == set(clicks)
    users = load_dataset(out).schema.columns[0]
    assert isinstance(users, Categorical)
    assert {"007", "7"} < set(users.values)


def test_any_kind_of_file_gives_the_same_rows(tmp_path: Path):
    rows = log()
    columns = dict(zip(("user_id", "item_id", "domain"), zip(*rows, strict=True), strict=True))
    prepare_clicks(write_csv(tmp_path / "clicks.csv", rows), out=tmp_path / "csv")
    parts = tmp_path / "parts"
    for d in "ab":
        (parts / f"domain={d}").mkdir(parents=True)
        mine = pl.DataFrame(columns).filter(pl.col("domain") == d).drop("domain")
        mine.write_parquet(parts / f"domain={d}" / "part.parquet")
    frame = pl.DataFrame(columns).sort("domain", maintain_order=True)
    frame.write_csv(tmp_path / "sorted.csv", separator=";")
    prepare_clicks(tmp_path / "sorted.csv", out=tmp_path / "one")
    prepare_clicks(parts, out=tmp_path / "many")
    for split in SPLITS:  # integers are integers in both, domains come from folders' names
        assert read(tmp_path / "many", split) == read(tmp_path / "one", split)
    assert set(everything(tmp_path / "one")) == set(everything(tmp_path / "csv"))
    texts = pl.DataFrame({**columns, "user_id": [str(row[0]) for row in rows]})
    texts.write_parquet(tmp_path / "texts.parquet")
    prepare_clicks(tmp_path / "texts.parquet", out=tmp_path / "texts")
    assert {type(row[0]) for row in everything(tmp_path / "texts")} == {str}  # as they stood
    pl.DataFrame({**columns, "user_id": 0.5}).write_parquet(tmp_path / "floats.parquet")
    with pytest.raises(DataError, match=r"floats\.parquet: Column 'user_id' holds double values"):
        prepare_clicks(tmp_path / "floats.parquet", out=tmp_path / "floats")


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_given_vectors(tmp_path: Path, rule: Any):
    raw = write_csv(tmp_path / "clicks.csv", log())
    options: dict[str, Any] = {"ratio": (0.5, 0.5), "split_rule": rule}
    plain = prepare_clicks(raw, out=tmp_path / "plain", **options)
    summary = prepare_clicks(
        raw, out=tmp_path / "out", vectors="svd:5", vector_share=0.25, linear=True, **options
    )
    # Validation and test are the same rows; a quarter of the training clicks and of the training
    # negatives left.
    for split in ("validation", "test"):
        assert read(tmp_path / "out", split) == read(tmp_path / "plain", split)
    before, after = set(read(tmp_path / "plain", "train")), set(read(tmp_path / "out", "train"))
    assert after < before
    for d in "ab":
        for y in (0, 1):
            size = sum(row[2:] == (d, y) for row in before)
            assert abs(sum(row[2:] == (d, y) for row in before - after) - size / 4) < 1
    rates = [s["splits"]["train"]["click_rate"] for s in (plain, summary)]
    assert rates[0] == pytest.approx(rates[1], abs=0.002)
    # The vectors are those of the clicks that left, all of them and no others.
    used = np.array(sorted(row[:2] for row in before - after if row[3] == 1))
    about = summary["sampling"]["vectors"]
    assert about["clicks_used"] == len(used)
    assert about["negatives_left_out"] == len(before - after) - len(used)
    made = click_vectors(used[:, 0], used[:, 1], width=5, seed=1)
    data = load_dataset(tmp_path / "out")
    for name, key, role, table in (
        ("user_vector", "user_id", "user", made.user),
        ("item_vector", "item_id", "item", made.item),
    ):
        column = next(c for c in data.schema.columns if c.name == name)
        assert isinstance(column, Vector)
        assert (column.key, column.width, column.trained, column.linear) == (key, 5, False, True)
        assert data.schema.field_of(role) == name  # type: ignore[arg-type]
        assert column.values == tuple(table.ids.tolist())
        np.testing.assert_allclose(data.vectors[name], table.vectors, atol=1e-5)
        assert about[f"{role}s"] == len(table.ids)
    assert summary["total"]["users"] == 60


def test_rows_without_a_vector(tmp_path: Path):
    # A small share, so that many items and users have no click in it.
    raw = write_csv(tmp_path / "clicks.csv", log())
    options: dict[str, Any] = {"vectors": "svd:2", "vector_share": 0.1}
    kept = prepare_clicks(raw, out=tmp_path / "zero", **options)
    users, items = (
        set(c.values)
        for c in load_dataset(tmp_path / "zero").schema.columns
        if isinstance(c, Vector)
    )
    dropped = prepare_clicks(raw, out=tmp_path / "drop", without_vector="drop", **options)
    for split in SPLITS:
        rows = read(tmp_path / "zero", split)
        counts = {
            "user": sum(u not in users for u, *_ in rows),
            "item": sum(i not in items for _, i, *_ in rows),
            "either": sum(u not in users or i not in items for u, i, *_ in rows),
        }
        assert min(counts.values()) > 0
        for summary in (kept, dropped):
            assert summary["sampling"]["vectors"]["rows_without"][split] == counts
        assert kept["splits"][split]["rows"] == len(rows)
        left = [row for row in rows if row[0] in users and row[1] in items]
        assert read(tmp_path / "drop", split) == left
    ids = load_dataset(tmp_path / "zero").split("test").categories[:, 0]
    assert int((ids == 0).sum()) == kept["sampling"]["vectors"]["rows_without"]["test"]["user"]


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_one_seed_makes_the_same_files(tmp_path: Path):
    raw = write_csv(tmp_path / "clicks.csv", log())
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare_clicks(raw, out=tmp_path / name, vectors="svd:3", seed=seed)
    first = folder_bytes(tmp_path / "a")
    assert first == folder_bytes(tmp_path / "b")
    other = folder_bytes(tmp_path / "c")
    assert all(first[name] != other[name] for name in first)


def refuse(raw: Path, words: str, error: type[Exception] = DataError, **options: Any) -> None:
    before = sorted(raw.parent.rglob("*"))
    with pytest.raises(error, match=words):
        prepare_clicks(raw, out=raw.parent / "out", **options)
    assert sorted(raw.parent.rglob("*")) == before


HEAD = b"user_id,item_id,domain\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (HEAD, r"clicks\.csv has no rows"),
        (HEAD + b"1,2,a\n", r"validation split is empty \(1 row in all\)"),
        (b"user_id,domain\n1,2\n", r"column 'item_id' is missing\. Columns there: user_id, domain"),
        (b"user_id,item_id,domain,user_id\n1,2,3,4\n", "2 columns are called 'user_id'"),
        (HEAD + b"1,2,a\n1,3\n", "line 3: 2 cells, but the first line names 3 columns: '1,3'"),
        (
            HEAD + b"1,2,a\n\n1,3,\n",
            r"clicks\.csv: column 'domain' has no value in line 4 \(1 such row in all\)",
        ),
        (HEAD + b"1,2,a\n,3,a\n,3,a\n", r"'user_id' has no value in line 3 \(2 such rows"),
        (HEAD + b'1,2,a\n1,"",a\n', "'item_id' has no value in line 3"),
        (HEAD + b"1,2,a\n1,2,a\n1,2,a,b\n", "line 4: 4 cells, but the first line names 3"),
        (HEAD + b"1,2,a\n1,\xff,a\n", "line 3: .* is not UTF-8"),
        (
            HEAD + b'1,2,a\n1,"2,a\n1,2,a\n',
            "clicks.csv, line 3: a cell that begins here with a quote",
        ),
    ],
)
def test_bad_files(tmp_path: Path, data: bytes, words: str):
    raw = tmp_path / "clicks.csv"
    raw.write_bytes(data)
    refuse(raw, words)


def test_a_domain_that_is_tested_only(tmp_path: Path):
    # By the released rule, the only click of a domain is for testing.
    for more, words in (
        ([(1, 9, "c")], r"no training rows \(1 test row is of such a domain\)"),
        ([(1, 9, "c"), (1, 8, "d")], r"no training rows \(2 test rows are of such domains\)"),
    ):
        raw = write_csv(tmp_path / "clicks.csv", [*log(), *more])
        refuse(raw, words, split_rule="released")


def test_bad_places_and_damaged_gzip(tmp_path: Path):
    refuse(tmp_path / "no.csv", r"There is no file or folder .*no\.csv")
    (tmp_path / "folder").mkdir()
    refuse(tmp_path / "folder", "folder holds no file that can be read. It is empty")
    raw = tmp_path / "clicks.csv.gz"
    whole = write_csv(raw, log()).read_bytes()
    raw.write_bytes(whole[: len(whole) // 2])
    refuse(raw, r"gz cannot be read \(Truncated compressed stream\)\. Check it, or copy it again")
    raw.write_bytes(whole[:20] + b"\0" * 20 + whole[40:])
    refuse(raw, "cannot be read")
    write_csv(raw, log())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    refuse(raw, "is there already", RunError)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": (0.5, 0.2)}, "the lower one first"),
        ({"split_rule": "time"}, "split_rule='time' is not known"),
        ({"seed": -1}, "seed=-1"),
        ({"user": "domain"}, "user='domain': user, item and domain need a column each"),
        ({"domain": "label"}, "none may be called label"),
        ({"item": "user_vector", "vectors": "svd:2"}, "item='user_vector'"),
        ({"vectors": "svd"}, "Give svd:WIDTH"),
        ({"vectors": "svd:2", "vector_share": 1.0}, "vector_share=1.0 must lie between 0 and 1"),
        ({"vectors": "svd:2", "without_vector": "keep"}, "without_vector='keep' is not known"),
        ({"linear": True}, "there are none. Add vectors"),
        ({"vector_share": 0.2}, "there are none. Add vectors"),
        ({"without_vector": "drop"}, "there are none. Add vectors"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], words: str):
    refuse(write_csv(tmp_path / "clicks.csv", log()), words, ConfigError, **options)


def test_vectors_wider_than_the_clicks_allow(tmp_path: Path):
    raw = write_csv(tmp_path / "clicks.csv", log())
    refuse(raw, "got 60 users and [0-9]+ items. Choose narrower", vectors="svd:100")


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = log()
    raw = write_csv(tmp_path / "clicks.csv.gz", [*rows, rows[0]])
    given = f"--out {tmp_path / 'out'} --ratio 0.5,0.5 --vectors svd:4 --vector-share 0.5"
    more = f"--without-vector drop --vector-linear true --json {tmp_path / 'figures.json'}"
    code = main(["prepare", "clicks", str(raw), *given.split(), *more.split()])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    shown = " ".join(printed.out.split())
    assert "601 clicks, 1 of them repeated and dropped; 1,200 negatives drawn" in shown
    # 180 of 300 clicks of each domain train, 90 of these make vectors; 360 negatives, 180 leave.
    assert "made of 180 training clicks, which left the training rows with 360 neg" in shown
    assert "dropped: train" in shown
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["options"]["linear"] is True
    assert figures["options"]["without_vector"] == "drop"
    assert main(["prepare", "clicks", str(raw), "--out", "x", "--ratio", "a"]) == 2
    assert main(["prepare", "clicks", str(tmp_path / "no.csv"), "--out", "x"]) == 1


def test_a_cell_that_is_no_integer_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows: list[Any] = log()
    rows[5] = ("abc", *rows[5][1:])
    raw = write_csv(tmp_path / "clicks.csv", rows, "who,item_id,domain")
    given = ["prepare", "clicks", str(raw), "--user", "who", "--ratio", "0.5,0.5"]
    more = ["--out", str(tmp_path / "out"), "--json", str(tmp_path / "figures.json")]
    assert main([*given, *more]) == 0
    told = (
        "who is read as text: most of its cells are integers, but 'abc' in "
        f"{raw}, line 7, is none. Correct it, unless the column is meant to be text."
    )
    assert told in capsys.readouterr().out.splitlines()
    found = {"who": {"file": str(raw), "line": 7, "cell": "abc"}}
    assert json.loads((tmp_path / "figures.json").read_text())["read_as_text"] == found
    assert load_dataset(tmp_path / "out").summary["read_as_text"] == found
    clicks = {(str(u), i, d) for u, i, d in rows}
    assert {row[:3] for row in everything(tmp_path / "out") if row[3]} == clicks
    # The same rows with an integer there: nothing to tell.
    write_csv(raw, log(), "who,item_id,domain")
    assert main([*given, "--out", str(tmp_path / "mended")]) == 0
    assert "read as text" not in capsys.readouterr().out
    assert load_dataset(tmp_path / "mended").summary["read_as_text"] == {}


def test_one_negative(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # All users but one clicked both items, so that one of them is a negative at ratio 1.
    rows = [(u, i, "a") for u in range(6) for i in (1, 2)][:-1]
    raw = write_csv(tmp_path / "clicks.csv", rows)
    out = str(tmp_path / "out")
    assert main(["prepare", "clicks", str(raw), "--out", out, "--ratio", "1,1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "11 clicks, 0 of them repeated and dropped; 1 negative drawn, 10 fewer than" in said


def test_taobao_ad_clicks_with_vectors(tmp_path: Path, real_data: Path):
    raw = real_data / "taobao-ad-clicks.csv.gz"
    summary = prepare_clicks(raw, out=tmp_path / "out", vectors="svd:16", split_rule="released")
    rates = [summary["splits"][s]["click_rate"] for s in SPLITS]
    assert rates[0] > rates[1] > rates[2]
    about = summary["sampling"]
    # 60 % of the 373,820 clicks train, half of these make vectors, to within a row a domain.
    assert about["clicks"] == 373_820
    assert abs(about["vectors"]["clicks_used"] - 112_146) <= 8
    assert load_dataset(tmp_path / "out").vectors["user_vector"].shape[1] == 16
