from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mdlora.cli.main import main
from mdlora.data import load_dataset
from mdlora.data.prepare import category_files, prepare_amazon
from mdlora.data.prepare.amazon_files import read_reviews
from mdlora.errors import ConfigError, DataError, RunError

USERS = [f"A{n}USER{n * 7919:08d}" for n in range(8)]
ITEMS = [f"B00{n:03d}GAME" for n in range(9)]
MUSIC = [(u, ITEMS[i]) for n, u in enumerate(USERS) for i in range(6) if (n + i) % 3]
GAMES = [(u, ITEMS[i]) for n, u in enumerate(USERS[2:]) for i in range(3, 9) if (n * i) % 4 < 2]


def review(user: str, item: str, stars: float = 5.0) -> dict[str, Any]:
    """As in the release of 2018, with a text and an attribute that only some reviews have."""
    style: dict[str, Any] = {"style": {"Color:": " Red"}} if stars > 3 else {}
    return {
        "overall": stars,
        "verified": True,
        "reviewTime": "03 11, 2014",
        "reviewerID": user,
        "asin": item,
        **style,
        "reviewerName": "Ané, of \"X\"",
        "reviewText": "good,\n{not} bad\tat all",
        "unixReviewTime": 1394496000,
    }  # fmt: skip


def json_lines(pairs: list[tuple[str, str]]) -> bytes:
    lines = [json.dumps(review(*pair, stars=1 + n % 5)) for n, pair in enumerate(pairs)]
    return "".join(f"{line}\n" for line in lines).encode()


def csv_lines(pairs: list[tuple[str, str]], item_first: bool = False) -> bytes:
    order = -1 if item_first else 1
    rows = [",".join(pair[::order]) + f",{1 + n % 5}.0,{n}" for n, pair in enumerate(pairs)]
    return ("\n".join(rows) + "\n").encode()


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_raw(folder: Path) -> dict[str, Path]:
    folder.mkdir()
    music = json_lines([*MUSIC, MUSIC[0], MUSIC[3], MUSIC[0]])
    return category_files(
        [
            write(folder / "Musical_Instruments_5.json.gz", music),
            write(folder / "ratings_Video_Games.csv", csv_lines(GAMES)),
        ]
    )


def all_rows(out: Path) -> pl.DataFrame:
    parts = [
        pl.read_parquet(out / f"{name}.parquet").with_columns(split=pl.lit(code))
        for code, name in enumerate(("train", "validation", "test"))
    ]
    strings = pl.selectors.by_name("user_id", "item_id", "category").cast(pl.String)
    return pl.concat([part.with_columns(strings) for part in parts])


def test_reviews_negatives_and_counts(tmp_path: Path):
    out = tmp_path / "out"
    summary = prepare_amazon(write_raw(tmp_path / "raw"), out=out)
    rows = all_rows(out)
    expected = {(*p, "Musical Instruments") for p in MUSIC} | {(*p, "Video Games") for p in GAMES}
    clicks = rows.filter(pl.col("label") == 1).select("user_id", "item_id", "category").rows()
    assert sorted(clicks) == sorted(expected)  # every star a click, each pair once

    about = summary["sampling"]
    negatives = rows.filter(pl.col("label") == 0).select("user_id", "item_id", "category").rows()
    assert len(set(negatives)) == len(negatives) == about["negatives"]
    assert not set(negatives) & expected
    drawn = Counter((u, c) for u, _, c in negatives)
    for name, pairs in (("Musical Instruments", MUSIC), ("Video Games", GAMES)):
        pool = {item for _, item in pairs}
        assert {i for _, i, c in negatives if c == name} <= pool
        of = about["domains"][name]
        short = 0
        for user, own in Counter(u for u, _ in pairs).items():
            asked = int(own / of["ratio"])
            assert drawn[user, name] == min(asked, len(pool) - own)
            short += asked - drawn[user, name]
        assert of["shortfall"] == short
        assert (of["clicks"] - of["repeated_clicks"], of["bad_lines"]) == (len(pairs), 0)
    assert about["domains"]["Musical Instruments"]["repeated_clicks"] == 3
    assert about["clicks"] == len(MUSIC) + len(GAMES) + 3
    assert summary["total"] == {"rows": len(rows), "users": len(USERS), "items": len(ITEMS)}
    assert summary["domains"] == ["Musical Instruments", "Video Games"]

    data = load_dataset(out)
    assert data.schema.field_names == ("user_id", "item_id", "category")
    assert (data.schema.field_of("user"), data.schema.field_of("item")) == ("user_id", "item_id")
    values = {c.name: c.values for c in data.schema.fields}
    train = rows.filter(pl.col("split") == 0)
    assert values["item_id"] == tuple(sorted(train["item_id"].unique()))


def test_the_released_split(tmp_path: Path):
    out = tmp_path / "out"
    prepare_amazon(write_raw(tmp_path / "raw"), out=out, split_rule="released")
    negatives = all_rows(out).filter(pl.col("label") == 0)
    groups = negatives.group_by("user_id", "category").agg(
        n=pl.len(), train=(pl.col("split") == 0).sum(), test=(pl.col("split") == 2).sum()
    )
    assert groups["n"].n_unique() > 1
    for _, _, n, train, test in groups.rows():
        later = -(-2 * n // 5)  # two cuts, each rounding the later part up
        assert (train, test) == (n - later, -(-later // 2))


def test_one_seed_gives_one_data_set(tmp_path: Path):
    raw = write_raw(tmp_path / "raw")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare_amazon(raw, out=tmp_path / name, seed=seed)
    a, b, c = (all_rows(tmp_path / name) for name in "abc")
    assert a.equals(b)
    assert not a.equals(c)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("reviews_Musical_Instruments_5.json.gz", "Musical Instruments"),
        ("x/Patio_Lawn_and_Garden_5.json", "Patio Lawn and Garden"),
        ("ratings_Toys_and_Games.csv", "Toys and Games"),
        ("Prime_Pantry.csv.gz", "Prime Pantry"),
        ("Video_Games.jsonl", "Video Games"),
        ("Toys & more=Video_Games.jsonl", "Toys & more"),
    ],
)
def test_names_of_categories(text: str, name: str):
    assert category_files([text]) == {name: Path(text.rpartition("=")[2])}


def test_a_file_name_may_hold_an_equals_sign(tmp_path: Path):
    path = write(tmp_path / "a=b.csv", b"")
    assert category_files([str(path)]) == {"a=b": path}


def test_names_that_clash():
    with pytest.raises(ConfigError, match=r"a_5\.json\.gz and .*are both the category 'a'"):
        category_files(["a_5.json.gz", "ratings_a.csv"])
    for text in ("=x.csv", "x="):
        with pytest.raises(ConfigError, match="is no category"):
            category_files([text])


def read_all(path: Path, **options: Any) -> tuple[list[tuple[str, str]], int]:
    """The pairs of all blocks, and how many bad lines were left out."""
    blocks = list(read_reviews(path, **options))
    return [row for block in blocks for row in block.rows.rows()], sum(b.bad_lines for b in blocks)


PAIRS = MUSIC[:4]
NEW = {"user_id": "AGKASBHYZPGTEPO6LWZPVJWB2BVA", "asin": "B0CHILD000", "parent_asin": "B0PARENT00"}


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a_5.json.gz", json_lines(PAIRS), PAIRS),
        ("a.json", json_lines(PAIRS).replace(b"\n", b"\r\n\n")[:-3], PAIRS),
        ("a.jsonl", json.dumps(NEW).encode(), [(NEW["user_id"], NEW["parent_asin"])]),
        ("ratings_a.csv", csv_lines(PAIRS), PAIRS),
        ("a.csv", csv_lines(PAIRS, item_first=True), PAIRS),
        ("a.csv.gz", csv_lines(PAIRS, item_first=True), PAIRS),
        ("a.csv", csv_lines(PAIRS).replace(b"\n", b"\r\n\r\n"), PAIRS),
        ("a.csv", b"user_id,parent_asin,rating,timestamp\nAB,B01,3.0,158861585", [("AB", "B01")]),
        ("a.csv", b"\xef\xbb\xbfrating,asin,user_id\n3,B01,AB\n", [("AB", "B01")]),
        ("a.csv", b"\xef\xbb\xbf" + csv_lines(PAIRS), PAIRS),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block_bytes", [1 << 24, 50])
def test_forms_of_files(
    tmp_path: Path, monkeypatch, name: str, data: bytes, expected: object, block_bytes: int
):
    monkeypatch.setattr("mdlora.data.prepare.amazon_lines._BLOCK_BYTES", block_bytes)
    assert read_all(write(tmp_path / name, data)) == (expected, 0)


def test_the_order_of_columns_can_be_said(tmp_path: Path):
    path = write(tmp_path / "a.csv", b"ABCDEFGHIJ,B000000001,5.0,1\n")
    with pytest.raises(DataError, match=r"cannot tell users from items.*--csv-order user-item"):
        read_all(path)
    assert read_all(path, csv_order="user-item") == ([("ABCDEFGHIJ", "B000000001")], 0)
    assert read_all(path, csv_order="item-user") == ([("B000000001", "ABCDEFGHIJ")], 0)


A_REVIEW = json.dumps(review(USERS[0], ITEMS[0])).encode()
BAD_JSON = [
    (A_REVIEW[:40], "expected a review as one JSON object"),
    (A_REVIEW + A_REVIEW, "expected a review as one JSON object"),
    (b"null", "expected a review as one JSON object"),
    (b"[1]", "expected a review as one JSON object"),
    (b"\xff\xfe\x00", "expected a review as one JSON object"),
    (b'{"asin": "B0"}', "expected a review with reviewerID and asin"),
    (b'{"asin": "B0", "reviewerID": null}', "expected a review with reviewerID and asin"),
    (b'{"asin": "B0", "reviewerID": ["A"]}', "expected a review with reviewerID and asin"),
    (b'{"asin": "", "reviewerID": "A"}', "expected ids without spaces, quotes or brackets"),
    (b'{"asin": "B 0", "reviewerID": "A"}', "expected ids without spaces, quotes or brackets"),
]
BAD_CSV = [
    (b"B000000001", "expected 4 values with commas between, got 'B000000001'"),
    (b"A1USER,B000000001,5.0", "expected 4 values"),
    (b"A1USER,B000000001,5.0,1,2", "expected 4 values"),
    (b"A1USER,B000000001,five,1", r"expected a number as the rating \(value 3\)"),
    (b"A1USER,,5.0,1", "expected ids without spaces"),
    (b"\xffUSER,B000000001,5.0,1", "expected UTF-8 text"),
]


@pytest.mark.parametrize("block_bytes", [1 << 24, 300])
@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [("a_5.json.gz", *case) for case in BAD_JSON] + [("ratings_a.csv", *case) for case in BAD_CSV],
)
def test_a_bad_line_is_named_or_counted(
    tmp_path: Path, monkeypatch, name: str, bad: bytes, words: str, block_bytes: int
):
    monkeypatch.setattr("mdlora.data.prepare.amazon_lines._BLOCK_BYTES", block_bytes)
    lines = (json_lines if "json" in name else csv_lines)(MUSIC).splitlines()
    lines[17:17] = [bad]
    path = write(tmp_path / name, b"\n".join(lines))
    with pytest.raises(DataError, match=rf"{name}, line 18: {words}"):
        read_all(path)
    assert read_all(path, skip_bad_lines=True) == (MUSIC, 1)


def test_bad_lines_of_a_category_are_counted(tmp_path: Path):
    raw = write_raw(tmp_path / "raw")
    path = raw["Musical Instruments"]
    write(path, b"not json\n" + json_lines(MUSIC) + b"{\n")
    with pytest.raises(DataError, match=r"5\.json\.gz, line 1: .*got 'not json'\. .*--skip-bad-l"):
        prepare_amazon(raw, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    about = prepare_amazon(raw, out=tmp_path / "out", skip_bad_lines=True)["sampling"]
    assert about["bad_lines"] == about["domains"]["Musical Instruments"]["bad_lines"] == 2
    assert about["clicks"] == len(MUSIC) + len(GAMES)


@pytest.mark.parametrize("skip", [False, True])
def test_damaged_and_useless_files(tmp_path: Path, skip: bool):
    whole = gzip.compress(json_lines(MUSIC))
    for name, data, words in (
        ("cut.json.gz", whole[: len(whole) // 2], r"cannot be read from line 1 on: .*Download it"),
        ("odd.json.gz", whole[:60] + bytes(40) + whole[100:], "is damaged or was cut short"),
        ("none.json", b"", "holds no reviews"),
        ("none.csv", b"", "holds no reviews"),
        ("blank.json", b"\n\n", "holds no reviews"),
        ("head.csv", b"user_id,asin,rating\n", "holds no reviews"),
        ("other.csv", b"name,price\nx,1\n", "line 1: got 'name,price', expected user,item,rating"),
        ("a.txt", b"x", r"the name ends neither in \.json nor in \.csv"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=words):
            read_all(tmp_path / name, skip_bad_lines=skip)
    with pytest.raises(DataError, match=r"There is no file .*gone\.csv"):
        read_all(tmp_path / "gone.csv", skip_bad_lines=skip)


def test_a_file_of_bad_lines_alone(tmp_path: Path):
    for data, words in ((b"x\ny\n", r"\(2 bad lines\)"), (b"x\n", r"\(1 bad line\)")):
        path = write(tmp_path / "a.json", data)
        with pytest.raises(DataError, match=f"holds no reviews {words}"):
            read_all(path, skip_bad_lines=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"csv_order": "item"}, "csv_order='item' is not known: choose auto, user-item, item-user"),
        ({"split_rule": "mine"}, "split_rule='mine'"),
        ({"ratio": (0, 1)}, "must be two numbers"),
        ({"seed": -1}, "seed=-1"),
        ({"categories": {"a": "a.csv"}}, "two or more categories, got 1"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], words: str):
    given = {"categories": {"a": "a.csv", "b": "b.csv"}} | options
    with pytest.raises(ConfigError, match=words):
        prepare_amazon(given.pop("categories"), out=tmp_path / "out", **given)


def test_an_old_folder_is_kept(tmp_path: Path):
    write(tmp_path / "out", b"mine")
    with pytest.raises(RunError, match="is there already"):
        prepare_amazon({"a": "a.csv", "b": "b.csv"}, out=tmp_path / "out")


def test_the_verb_says_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    raw, out = write_raw(tmp_path / "raw"), tmp_path / "out"
    music = write(tmp_path / "m.json", b"?\n" + json_lines([*MUSIC, MUSIC[0]]))
    given = [f"Music={music}", str(raw["Video Games"])]
    code = main(["prepare", "amazon", *given, "--skip-bad-lines", "--out", str(out)])
    said = capsys.readouterr().out
    assert code == 0
    assert f"Music: 1 bad line left out, {len(MUSIC) + 1} reviews, 1 of them repeated" in said
    assert f"Video Games: {len(GAMES)} reviews, 0 of them repeated" in said
    assert load_dataset(out).schema.domain_names == ("Music", "Video Games")


def test_one_review_and_one_negative(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # Seven users have both items, the eighth one of them; Music has a single review.
    games = [(u, i) for u in USERS for i in ITEMS[:2]][:-1]
    write(tmp_path / "Music.json", json_lines(MUSIC[:1]))
    write(tmp_path / "Games.json", json_lines(games))
    files = [str(tmp_path / f"{name}.json") for name in ("Music", "Games")]
    code = main(["prepare", "amazon", *files, "--ratio", "1,1", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert code == 0
    assert "Music: 1 review, 0 of them repeated and dropped; 0 negatives drawn, 1 fewer" in said
    assert "Games: 15 reviews, 0 of them repeated and dropped; 1 negative drawn, 14 fewer" in said
