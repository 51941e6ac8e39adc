"""Clicks are worked on a piece at a time; the outcome is that of all rows at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.data import load_dataset, prepare_rows, splits, stratified_split, write_dataset
from mdlora.data.prepare import (
    category_files,
    click_folder,
    pieces,
    prepare_amazon,
    prepare_clicks,
    prepare_taobao,
)
from mdlora.data.prepare.click_groups import Clicks, group_clicks
from mdlora.data.prepare.click_splits import split_codes
from mdlora.data.prepare.impressions import Recipe, make_impressions
from mdlora.data.prepare.negatives import sample_negatives
from mdlora.errors import DataError
from mdlora.schema import Categorical, Domain, Label, Vector
from mdlora.seeds import derive_seed

SPLITS = ("train", "validation", "test")
Rows = list[tuple[int, int, int]]

few = st.integers(0, 5)
clicks_of = st.lists(st.tuples(st.integers(0, 2), few, st.integers(0, 8)), min_size=1, max_size=80)
piece_sizes = st.sampled_from([1, 4, 25, 1 << 20])


@contextmanager
def cut(size: int) -> Iterator[None]:
    """Work on pieces of this many rows."""
    before = pieces.PIECE, splits._PIECE
    pieces.PIECE = splits._PIECE = size
    try:
        yield
    finally:
        pieces.PIECE, splits._PIECE = before


def drawn_plainly(rows: Rows, ratio: tuple[float, float], seed: int) -> Rows:
    """The negatives, drawn one by one: each round goes through all users of all domains.

    Where more than half of the candidates are wanted, those to leave out are drawn.
    """
    rng = np.random.default_rng(seed)
    domains = sorted({d for d, _, _ in rows})
    ratios = dict(zip(domains, rng.uniform(*ratio, len(domains)), strict=True))
    owners = sorted({(d, u) for d, u, _ in rows})
    num = Counter((d, u) for d, u, _ in set(rows))
    items = {d: {i for e, _, i in rows if e == d} for d in domains}
    own = {o: {i for d, u, i in rows if (d, u) == o} for o in owners}
    left = {o: sorted(items[o[0]] - own[o]) for o in owners}
    wanted = {o: min(int(num[o] / ratios[o[0]]), len(left[o])) for o in owners}
    turned = {o for o in owners if 2 * wanted[o] > len(left[o])}
    to_draw = {o: len(left[o]) - wanted[o] if o in turned else wanted[o] for o in owners}
    drawn: dict[tuple[int, int], set[int]] = {o: set() for o in owners}
    while missing := {o: n - len(drawn[o]) for o, n in to_draw.items() if n > len(drawn[o])}:
        for owner, count in missing.items():
            drawn[owner].update(int(rng.integers(0, len(left[owner]))) for _ in range(count))
    return [
        (*owner, item)
        for owner in owners
        for rank, item in enumerate(left[owner])
        if (rank in drawn[owner]) != (owner in turned)
    ]


@settings(deadline=None, derandomize=True, max_examples=80)
@given(rows=clicks_of, low=st.floats(0.1, 3), seed=st.integers(0, 99), size=piece_sizes)
def test_negatives_are_those_drawn_one_by_one(rows: Rows, low: float, seed: int, size: int):
    with cut(size):
        found = sample_negatives(*np.array(rows).T, ratio=(low, 2 * low), seed=seed)
    got = list(zip(*(c.tolist() for c in (found.domain, found.user, found.item)), strict=True))
    assert got == drawn_plainly(rows, (low, 2 * low), seed)


def released_plainly(group: list[int], seed: int) -> list[int]:
    """Of each group's n rows in random order, the last ceil(0.4 n) are held out, half for tests."""
    codes = [0] * len(group)
    shuffled = np.random.default_rng(seed).permutation(len(group)).tolist()
    for own in set(group):
        rows = [row for row in shuffled if group[row] == own]
        held_out = -(-2 * len(rows) // 5)
        for place, row in enumerate(reversed(rows)):
            codes[row] = 2 if place < -(-held_out // 2) else int(place < held_out)
    return codes


@settings(deadline=None, derandomize=True, max_examples=80)
@given(rows=clicks_of, seed=st.integers(0, 99), size=piece_sizes)
def test_splits_are_those_of_all_rows_at_once(rows: Rows, seed: int, size: int):
    # As codes, of which each is there.
    numbers = [np.unique(c, return_inverse=True)[1].astype(np.uint8) for c in np.array(rows).T]
    names = [str(d) for d in range(int(numbers[0].max()) + 1)]
    made = {}
    with cut(size):
        groups = group_clicks(Clicks(*numbers))
        for rule in ("paper", "released"):
            recipe = Recipe(split_rule=rule, ratio=(0.3, 0.6), seed=seed)  # type: ignore[arg-type]
            made[rule] = make_impressions(groups, names, recipe)
        blocks = list(made["paper"].blocks())
        keyed = list(made["paper"].by_key())
    domain, user, item, label, split = (np.concatenate(c) for c in zip(*blocks, strict=True))
    clicks = list(dict.fromkeys(zip(*(c.tolist() for c in numbers), strict=True)))
    drawn = drawn_plainly(clicks, (0.3, 0.6), derive_seed(seed, "negatives"))
    assert list(zip(domain, user, item, strict=True)) == [*clicks, *drawn]
    assert label.tolist() == [1] * len(clicks) + [0] * len(drawn)
    split_seed = derive_seed(seed, "split")
    assert split.tolist() == stratified_split(domain, label, seed=split_seed).tolist()
    user_groups = np.where(label == 1, 0, 1 + user.astype(int)) + 10 * domain
    released = released_plainly(user_groups.tolist(), split_seed)
    assert made["released"].split.tolist() == released
    # In the other order, the rows are the same, and those of one user and domain in one block.
    columns = (np.concatenate(c) for c in zip(*keyed, strict=True))
    everything = sorted(zip(domain, user, item, label, split, strict=True))
    assert sorted(zip(*columns, strict=True)) == everything
    owners = [o for block in keyed for o in set(zip(block.domain, block.user, strict=True))]
    assert len(owners) == len(set(owners))


def test_parts_of_other_shares():
    # 7 rows of group 0 and 5 of group 1, dealt to four parts: 3, 1, 2, 1 and 0, 2, 0, 3 rows.
    group = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0])
    ends = np.array([[3, 4, 6], [0, 2, 2]])
    shuffled = np.array([11, 0, 4, 3, 9, 2, 6, 1, 8, 10, 5, 7])
    codes = splits.deal_out(group, 2, ends.__getitem__, shuffled)
    assert codes[[11, 0, 9, 2, 6, 8, 5]].tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert codes[[4, 3, 1, 10, 7]].tolist() == [1, 1, 3, 3, 3]
    with pytest.raises(ValueError, match="must have 3 parts"):
        split_codes("paper", group, np.array([7, 5]), ratio=(1, 1, 1, 1), seed=1)


def write_clicks(path: Path, *, texts: bool, num: int = 700) -> Path:
    rng = np.random.default_rng(3)
    user, item, domain = (rng.integers(0, n, num) for n in (40, 30, 3))
    start = "é" if texts else ""  # so that users are texts, or whole numbers
    lines = [f"{start}{u - 9},{i},d{d}" for u, i, d in zip(user, item, domain, strict=True)]
    path.write_text("\n".join(["user_id,item_id,domain", *lines]) + "\n", encoding="utf-8")
    return path


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"split_rule": "released"},
        {"vectors": "svd:3", "vector_share": 0.2},
        {"vectors": "svd:3", "vector_share": 0.1, "without_vector": "drop", "linear": True},
    ],
)
@pytest.mark.parametrize("texts", [True, False])
def test_the_folder_is_that_of_all_rows_in_memory(
    options: dict[str, Any], texts: bool, tmp_path: Path
):
    """Byte for byte what `prepare_rows` and `write_dataset` make of the rows that were written."""
    raw = write_clicks(tmp_path / "clicks.csv", texts=texts)
    with cut(50):
        summary = prepare_clicks(raw, out=tmp_path / "out", **options)
    data = load_dataset(tmp_path / "out")
    tables = [pq.read_table(tmp_path / "out" / f"{split}.parquet") for split in SPLITS]
    codes = np.repeat(np.arange(3), [table.num_rows for table in tables])
    ids: list[Any] = [Categorical("user_id", role="user"), Categorical("item_id", role="item")]
    if "vectors" in options:
        ids = [c for c in data.schema.columns if isinstance(c, Vector)]
        assert [len(c.values) for c in ids] == [
            summary["sampling"]["vectors"][what] for what in ("users", "items")
        ]
    wanted = prepare_rows(
        pa.concat_tables(tables),
        codes,
        [*ids, Domain("domain"), Label("label")],
        source=summary["source"],
        options=summary["options"],
        vectors={name: table.numpy() for name, table in data.vectors.items()},
    )
    wanted.summary.update({"read_as_text": {}, "sampling": summary["sampling"]})
    write_dataset(tmp_path / "wanted", wanted)
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "wanted")
    assert json.dumps(summary) == json.dumps(wanted.summary)  # in the same order too
    if "vectors" in options:
        lacking = sum(s["unseen"]["user_vector"] for s in summary["splits"].values())
        assert (lacking == 0) == (options.get("without_vector") == "drop")


def write_amazon(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(4)
    for name in ("one", "two"):
        pairs = [f"A{u:012d},B{i:09d},5.0,1" for u, i in rng.integers(0, 30, (300, 2)).tolist()]
        (folder / f"{name}.csv").write_text("\n".join(pairs) + "\n")
    return category_files([folder / "one.csv", folder / "two.csv"])


def write_taobao(folder: Path) -> Path:
    rng = np.random.default_rng(5)
    log = [f"{u},{t},{i},1,1,1,1" for u, t, i in rng.integers(0, (40, 4, 30), (600, 3)).tolist()]
    (folder / "theme_click_log.csv").write_text("\n".join(log) + "\n")
    for side, num in (("user", 35), ("item", 28)):
        vectors = [f"{k},{k / 7:.4f} {-k}" for k in rng.permutation(num).tolist()]
        (folder / f"{side}_embedding.csv").write_text("\n".join(vectors) + "\n")
    return folder


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_pieces_make_no_difference(rule: Any, tmp_path: Path):
    clicks = write_clicks(tmp_path / "clicks.csv", texts=True)
    amazon, taobao = write_amazon(tmp_path), write_taobao(tmp_path)
    for name, size in (("whole", 1 << 20), ("cut", 13)):
        with cut(size):
            prepare_clicks(
                clicks,
                out=tmp_path / name / "clicks",
                split_rule=rule,
                vectors="svd:3",
                without_vector="drop",
            )
            prepare_amazon(amazon, out=tmp_path / name / "amazon", split_rule=rule)
            prepare_taobao(taobao, out=tmp_path / name / "taobao", split_rule=rule, themes=3)
    for kind in ("clicks", "amazon", "taobao"):
        whole = folder_bytes(tmp_path / "whole" / kind)
        assert whole == folder_bytes(tmp_path / "cut" / kind)
        assert len(whole) == (5 if kind == "amazon" else 6)


def test_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    raw = write_clicks(tmp_path / "clicks.csv", texts=True)
    whole = prepare_clicks(raw, out=tmp_path / "whole")
    monkeypatch.setattr(click_folder, "_GROUP_ROWS", 64)
    prepare_clicks(raw, out=tmp_path / "groups")
    monkeypatch.setattr(click_folder, "_GROUP_BYTES", 1000)  # of rows of 30 bytes
    prepare_clicks(raw, out=tmp_path / "wide")
    for split in SPLITS:
        rows = whole["splits"][split]["rows"]
        sizes = {}
        for name in ("whole", "groups", "wide"):
            about = pq.read_metadata(tmp_path / name / f"{split}.parquet")
            sizes[name] = [about.row_group(g).num_rows for g in range(about.num_row_groups)]
            table = pl.read_parquet(tmp_path / name / f"{split}.parquet")
            assert table.equals(pl.read_parquet(tmp_path / "whole" / f"{split}.parquet"))
        assert sizes["whole"] == [rows]
        assert sizes["groups"] == [64] * (rows // 64) + [rows % 64] * (rows % 64 > 0)
        assert 20 < sizes["wide"][0] < 50
        assert len(set(sizes["wide"][:-1])) == 1


def test_values_missing_in_a_later_file_are_counted_over_all_files(tmp_path: Path):
    columns = {"item_id": [1, 2, 3], "domain": ["x", "x", "y"]}
    (tmp_path / "clicks").mkdir()
    users = (["a", "b", "c"], ["c", "a", "b"], ["a", "", None], ["b", "c", None])
    for part, some in enumerate(users):
        table = pa.table({**columns, "user_id": some})
        pq.write_table(table, tmp_path / "clicks" / f"{part}.parquet")
    words = r"2\.parquet: column 'user_id' has no value in row 1 .*3 such rows in all"
    with pytest.raises(DataError, match=words):
        prepare_clicks(tmp_path / "clicks", out=tmp_path / "out")


def test_integers_are_sorted_by_size_and_texts_by_code_point(tmp_path: Path):
    # "10" < "9" as texts; "é" is behind all of ASCII.
    lines = [f"{u},{i},d" for u in (10, 9, -3) for i in ("é", "z", "A10", "A9")]
    raw = tmp_path / "clicks.csv"
    raw.write_text("\n".join(["user_id,item_id,domain", *lines * 3]) + "\n", encoding="utf-8")
    prepare_clicks(raw, out=tmp_path / "out")
    user, item = load_dataset(tmp_path / "out").schema.columns[:2]
    assert isinstance(user, Categorical)
    assert isinstance(item, Categorical)
    assert user.values == (-3, 9, 10)
    assert item.values == ("A10", "A9", "z", "é")
