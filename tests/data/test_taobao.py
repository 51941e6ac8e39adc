from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mdlora.cli.main import main
from mdlora.data import load_dataset
from mdlora.data.prepare import prepare_taobao
from mdlora.errors import ConfigError, DataError, RunError

HEADER = "user_id,theme_id,item_id,leaf_cate_id,cate_level1_id,clk_cnt,reach_time"
LOG = "theme_click_log.csv"

# Themes in the log's order: 70 (only clicks without vectors), 50, 90, 60. The user 2^62 + 1 shows
# that ids do not pass through floats. Users 8 and items 308 and 309 have no vector.
BIG = 2**62 + 1
USERS = [1, 2, 3, 4, 5, 6, BIG]
EMPTY = [(8, 70, 301), (1, 70, 308)]
GOOD = {
    50: [(u, 50, 300 + i) for u in USERS for i in (1, 2, 3, 4, 5) if (u + i) % 3],
    90: [(u, 90, 300 + i) for u in USERS for i in (3, 4, 6, 7) if (u + i) % 4 != 1],
    60: [(u, 60, 300 + i) for u in USERS for i in (1, 2, 7)],
}
WITHOUT = [(8, 50, 302), (8, 50, 309), (2, 60, 309)]
AGAIN = [GOOD[50][0], GOOD[50][0], GOOD[90][3]]
CLICKS = [*EMPTY, GOOD[50][0], *GOOD[90], *WITHOUT, *GOOD[50][1:], *GOOD[60], *AGAIN]
ITEMS = range(301, 308)


def user_vector(user: int) -> list[float]:
    return [user % 8 / 4, -0.5, 1e-3 * (user % 10)]


def item_vector(item: int) -> list[float]:
    return [(item - 300) / 8, 2.0]


def log_lines(clicks: list[tuple[int, int, int]] = CLICKS) -> str:
    rows = [f"{u},{t},{i},{i // 2},7,1,20181207{n:06d}" for n, (u, t, i) in enumerate(clicks)]
    return "\n".join([HEADER, *rows]) + "\n"


def vector_lines(key: str, vectors: dict[int, list[float]], separator: str = ",") -> str:
    quote = '"' if separator == "," else ""
    rows = [f"{k},{quote}{separator.join(map(repr, v))}{quote}" for k, v in vectors.items()]
    return "\n".join([f"{key}_id,emb", *rows]) + "\n"


def write_raw(folder: Path, **change: str) -> Path:
    """The five files as published: quoted vectors, users and items that nobody clicked."""
    users = {u: user_vector(u) for u in [*reversed(USERS), 77]}
    items = {i: item_vector(i) for i in [399, *ITEMS]}
    files = {
        "theme_click_log": log_lines(),
        "user_embedding": vector_lines("user", users),
        "item_embedding": vector_lines("item", items, " "),
        "theme_item_pool": "theme_id,item_id\n50,301\n",
        "user_item_purchase_log": "user_id,item_id,paytime\n1,301,20181101\n",
    }
    folder.mkdir(exist_ok=True)
    for name, text in (files | change).items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def all_rows(out: Path) -> pl.DataFrame:
    parts = [
        pl.read_parquet(out / f"{name}.parquet").with_columns(split=pl.lit(code))
        for code, name in enumerate(("train", "validation", "test"))
    ]
    return pl.concat(parts)


def test_clicks_negatives_and_counts(tmp_path: Path):
    out = tmp_path / "out"
    summary = prepare_taobao(write_raw(tmp_path / "raw"), out=out, themes=2)
    rows = all_rows(out)
    assert rows.columns == ["user_id", "item_id", "theme_id", "label", "split"]
    clicks = rows.filter(pl.col("label") == 1).select("user_id", "theme_id", "item_id").rows()
    expected = [*GOOD[50], *GOOD[90]]
    assert sorted(clicks) == sorted(expected)  # each once, none of themes 60 and 70

    about = summary["sampling"]
    negatives = rows.filter(pl.col("label") == 0).select("user_id", "theme_id", "item_id").rows()
    assert len(set(negatives)) == len(negatives)
    assert not set(negatives) & set(expected)
    drawn = Counter((u, t) for u, t, _ in negatives)
    short = 0
    for theme in (50, 90):
        pool = {i for _, _, i in GOOD[theme]}
        assert {i for _, t, i in negatives if t == theme} <= pool
        for user, own in Counter(u for u, _, _ in GOOD[theme]).items():
            asked = int(own / about["domains"][str(theme)]["ratio"])
            assert drawn[user, theme] == min(asked, len(pool) - own)
            short += asked - drawn[user, theme]
    assert sum(drawn.values()) == about["negatives"]

    assert about["shortfall"] == short
    # EMPTY and WITHOUT lack vectors: 3 of them that of user 8, 3 that of an item, one both.
    assert about["log_clicks"] == len(CLICKS)
    assert about["without_vectors"] == 5
    assert about["without_user_vector"] == 3
    assert about["without_item_vector"] == 3
    assert about["of_other_themes"] == len(GOOD[60])
    assert about["clicks"] == len(expected) + 3
    assert about["repeated_clicks"] == 3
    assert about["domains"]["50"]["repeated_clicks"] == 2
    assert (about["log_themes"], about["empty_themes"]) == (4, 1)
    assert summary["domains"] == ["50", "90"]
    assert summary["total"] == {"rows": len(rows), "users": len(USERS), "items": 7}


def test_vectors_are_attached_by_key(tmp_path: Path):
    out = tmp_path / "out"
    prepare_taobao(write_raw(tmp_path / "raw"), out=out, themes=2)
    data = load_dataset(out)
    user, item = (next(c for c in data.schema.columns if c.name == f"{s}_vector")
                  for s in ("user", "item"))  # fmt: skip
    for column, key, ids, vector_of in (
        (user, "user_id", sorted(USERS), user_vector),
        (item, "item_id", list(ITEMS), item_vector),
    ):
        assert (column.key, column.values) == (key, tuple(ids))  # only what the rows need
        assert (column.trained, column.linear) == (False, True)
        expected = np.array([vector_of(i) for i in ids], dtype=np.float32)
        np.testing.assert_array_equal(data.vectors[column.name].numpy(), expected)
    assert data.schema.field_names == ("user_vector", "item_vector", "theme_id")
    assert data.schema.field_of("user") == "user_vector"
    # The ids select the rows of the tables.
    raw = pl.read_parquet(out / "train.parquet")
    ids = data.split("train").categories.numpy()
    np.testing.assert_array_equal(np.array(sorted(USERS))[ids[:, 0] - 1], raw["user_id"])
    np.testing.assert_array_equal(np.array(ITEMS)[ids[:, 1] - 1], raw["item_id"])


@pytest.mark.parametrize(
    ("options", "linear"),
    [
        ({}, True),
        ({"split_rule": "released"}, False),
        ({"linear": False}, False),
        ({"split_rule": "released", "linear": True}, True),
    ],
)
def test_linear_weights_by_rule_and_by_option(
    options: dict[str, Any], linear: bool, tmp_path: Path
):
    prepare_taobao(write_raw(tmp_path / "raw"), out=tmp_path / "out", themes=2, **options)
    columns = load_dataset(tmp_path / "out").schema.columns
    assert [c.linear for c in columns if c.kind == "vector"] == [linear, linear]


def test_the_released_split(tmp_path: Path):
    out = tmp_path / "out"
    prepare_taobao(write_raw(tmp_path / "raw"), out=out, themes=3, split_rule="released")
    rows = all_rows(out)
    negatives = rows.filter(pl.col("label") == 0)
    groups = negatives.group_by("user_id", "theme_id").agg(
        n=pl.len(), train=(pl.col("split") == 0).sum(), test=(pl.col("split") == 2).sum()
    )
    assert groups["n"].n_unique() > 1
    for _, _, n, train, test in groups.rows():
        later = -(-2 * n // 5)  # two cuts, each rounding the later part up
        assert (train, test) == (n - later, -(-later // 2))


def test_random_themes(tmp_path: Path):
    raw = write_raw(tmp_path / "raw")

    def domains(seed: int) -> list[str]:
        out = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
        return prepare_taobao(raw, out=out, themes=2, pick="random", seed=seed)["domains"]

    seen = {tuple(domains(seed)) for seed in range(12)}
    assert seen == {("50", "90"), ("50", "60"), ("90", "60")}  # in the log's order, never 70
    assert domains(3) == domains(3)


def test_one_seed_gives_one_data_set(tmp_path: Path):
    raw = write_raw(tmp_path / "raw")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare_taobao(raw, out=tmp_path / name, themes=2, seed=seed)
    a, b, c = (all_rows(tmp_path / name) for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


@pytest.mark.parametrize("form", ["no header", "gzip", "other columns", "brackets", "windows"])
def test_other_forms_of_the_files(tmp_path: Path, form: str):
    raw = write_raw(tmp_path / "raw")
    before = prepare_taobao(raw, out=tmp_path / "a", themes=2)
    for name in (LOG, "user_embedding.csv", "item_embedding.csv"):
        path = raw / name
        text = path.read_text()
        if form == "no header":
            path.write_text(text.partition("\n")[2])
        elif form == "gzip":
            path.with_name(f"{name}.gz").write_bytes(gzip.compress(text.encode()))
            path.unlink()
        elif form == "windows":
            path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        elif form == "brackets" and name.startswith("user"):
            path.write_text(text.replace(',"', ',"[').replace('"\n', ']"\n').replace(",-", ", -"))
        elif form == "other columns" and name == LOG:
            rows = "".join(f"{t},x,{i},{u}\n" for u, t, i in CLICKS)
            path.write_text("theme_id,note,item_id,user_id\n" + rows)
    after = prepare_taobao(raw, out=tmp_path / "b", themes=2)
    assert after["sampling"] == before["sampling"]
    assert all_rows(tmp_path / "a").equals(all_rows(tmp_path / "b"))
    tables = [load_dataset(tmp_path / name).vectors for name in "ab"]
    for name in tables[0]:
        np.testing.assert_array_equal(tables[0][name].numpy(), tables[1][name].numpy())


def test_the_last_of_two_vectors_counts(tmp_path: Path):
    raw = write_raw(tmp_path / "raw")
    with (raw / "item_embedding.csv").open("a") as file:
        file.write("303,9 8\n399,1 1\n")
    summary = prepare_taobao(raw, out=tmp_path / "out", themes=2)
    assert summary["sampling"]["vectors_given_again"] == {"users": 0, "items": 1}
    table = load_dataset(tmp_path / "out").vectors["item_vector"]
    assert table[2].tolist() == [9, 8]


def test_wide_vectors_in_many_blocks(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("mdlora.data.prepare.taobao_csv._BLOCK_BYTES", 4096)
    rng = np.random.default_rng(5)
    wide = rng.normal(size=(len(USERS) + 200, 128)).astype(np.float32)
    ids = [*range(1000, 1200), *USERS]
    text = vector_lines("user", {u: [float(x) for x in v] for u, v in zip(ids, wide, strict=True)})
    raw = write_raw(tmp_path / "raw", user_embedding=text)
    prepare_taobao(raw, out=tmp_path / "good", themes=2)
    table = load_dataset(tmp_path / "good").vectors["user_vector"].numpy()
    order = np.argsort(USERS)
    np.testing.assert_array_equal(table, wide[200:][order])

    # A row is named by its place in the file, not in its block.
    raw = write_raw(tmp_path / "raw", user_embedding=text.rsplit(",", 1)[0] + ',?"\n')
    refuse(tmp_path, raw, rf"user_embedding\.csv: the vector in line {len(wide) + 1} holds '\?'")
    (raw / "user_embedding.csv").write_text(text + "8\n")
    refuse(tmp_path, raw, rf"csv, line {len(wide) + 2}: Expected 2 columns, got 1")
    (raw / "user_embedding.csv").write_text(text + ",1 2\n")
    refuse(tmp_path, raw, rf"csv: line {len(wide) + 2} has no user_id")


def refuse(tmp_path: Path, raw: Path, words: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=words):
        prepare_taobao(raw, out=tmp_path / "out", themes=2)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("theme_click_log", "", "is empty"),
        ("theme_click_log", HEADER + "\n", r"theme_click_log\.csv has no rows"),
        ("theme_click_log", "user_id,item_id\n1,301\n", "Expected columns user_id, theme_id, item"),
        ("theme_click_log", "1,2\n", "without a header, in the order user_id,theme_id,item_id"),
        ("theme_click_log", HEADER + "\n1,50,301,1,7,1,9\n1,50,x,1,7,1,9\n",
         "item_id is 'x' in line 3, expected a whole number"),
        ("theme_click_log", "1,50,301.0,1,7,1,9\n", r"item_id is '301\.0' in line 1,"),
        ("theme_click_log", f"1,50,{2**63},1,7,1,9\n", f"item_id is '{2**63}' in line 1,"),
        ("theme_click_log", "1,50,301,1,7,1,9\n\n1,,301,1,7,1,9\n", "line 3 has no theme_id"),
        ("theme_click_log", HEADER + "\n1,50,301,1,7,1,9\n1,50,301\n",
         "csv, line 3: Expected 7 columns, got 3"),
        ("theme_click_log", log_lines(EMPTY), "of 2 clicks none has vectors"),
        ("user_embedding", "item_id,emb\n1,1 2\n", "Expected user_id,emb"),
        ("user_embedding", "user_id,emb\n1,1,2\n", r"line 2: Expected 2 columns, got 3\. Quote"),
        ("theme_click_log", log_lines(EMPTY[:1]), "of 1 click none has vectors"),
        ("user_embedding", "1,1,2\n", "first line has 3 columns: 1, 1, 2"),
        ("user_embedding", "1\n", "first line has 1 column: 1"),
        ("user_embedding", '1,"1,2"\n2,"1,2,3"\n', "the vector in line 2 has 3 numbers, "),
        ("user_embedding", '1,"1,2"\n2,"1,two"\n', "line 2 holds 'two' where a finite number"),
        ("user_embedding", '1,"1,nan"\n', "line 1 holds 'nan' where a finite number"),
        ("user_embedding", '1,"1,2\n2,3"\n', r"line 1 holds '2\\n2'"),
        ("user_embedding", "1,\n", "line 1 holds '' where a finite number"),
    ],
)  # fmt: skip
def test_wrong_files(tmp_path: Path, file: str, text: str, words: str):
    refuse(tmp_path, write_raw(tmp_path / "raw", **{file: text}), words)


def test_missing_and_damaged_files(tmp_path: Path):
    refuse(tmp_path, tmp_path / "none", r"There is no folder .*none\. Give the folder")
    raw = write_raw(tmp_path / "raw")
    (raw / "user_embedding.csv").unlink()
    refuse(tmp_path, raw, r"holds no user_embedding\.csv\. Files there: item_embedding\.csv")
    long = log_lines(CLICKS * 50).encode()
    (raw / LOG).unlink()
    (raw / f"{LOG}.gz").write_bytes(gzip.compress(long)[:-20])
    refuse(tmp_path, raw, r"theme_click_log\.csv\.gz cannot be read .*Download it again")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"themes": 1}, "themes=1 must be a whole number, at least 2"),
        ({"themes": 4}, "themes=4, but the log has 3 themes with clicks .* at most 3"),
        ({"pick": "last"}, "pick='last' is not known: choose first or random"),
        ({"split_rule": "mine"}, "split_rule='mine'"),
        ({"ratio": (0.5, 0.2)}, "the lower one first"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, object], words: str):
    raw = write_raw(tmp_path / "raw")
    with pytest.raises(ConfigError, match=words):
        prepare_taobao(raw, out=tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_an_old_folder_is_kept(tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(RunError, match="is there already"):
        prepare_taobao(tmp_path / "never read", out=tmp_path / "out")


def test_the_verb_says_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    code = main(["prepare", "taobao", str(raw), "--themes", "2", "--out", str(out)])
    said = capsys.readouterr().out
    assert code == 0
    assert f"{len(CLICKS)} clicks in the log. 5 dropped for want of a vector" in said
    assert "(of the user: 3, of the item: 3); 21 are of other themes" in said
    assert "4 themes in the log, 1 of them without a click that has vectors; 2 chosen" in said
    assert "3 of them repeated and dropped" in said
    assert load_dataset(out).schema.domain_names == ("50", "90")


def test_one_of_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # In each of the first two themes all users but one clicked both items, at ratio 1.
    clicks = [(u, t, i) for t in (50, 90) for u in USERS for i in (301, 302)]
    clicks = [c for c in clicks if c != (2, 50, 302)] + [(1, 60, 303)]
    raw = write_raw(tmp_path / "raw", theme_click_log=log_lines(clicks))
    with (raw / "user_embedding.csv").open("a") as file:
        file.write('1,"9,8,7"\n')
    asked = ["prepare", "taobao", str(raw), "--themes", "2", "--ratio", "1,1"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "of the item: 0); 1 is of another theme." in said
    assert "1 negative drawn, 26 fewer than asked for" in said
    assert "1 line gives vectors of users again; the last one counts." in said
    one = write_raw(tmp_path / "one", theme_click_log=log_lines(clicks[:1]))
    assert main(["prepare", "taobao", str(one), "--out", str(tmp_path / "no")]) == 2
    assert "but the log has 1 theme with clicks" in " ".join(capsys.readouterr().err.split())
