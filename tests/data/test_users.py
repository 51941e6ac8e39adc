"""Who the user of each row is, for drawing users again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.data import load_dataset, prepare_rows, read_split, write_dataset
from mdlora.data.users import UserCodes
from mdlora.errors import DataError
from mdlora.schema import Categorical, Domain, Hashed, Label, Schema, Time, Vector, Weight

VECTOR = Vector("u", key="user", values=(1, 2), width=2, role="user")
KINDS = [Categorical("user", values=(1, 2), role="user"), Hashed("user", 1, role="user"), VECTOR]


def rows(users: Any, **more: Any) -> pa.Table:
    n = len(users)
    return pa.table({"user": users, "d": ["a", "b"] * (n // 2) + ["a"] * (n % 2),
                     "click": [i % 2 for i in range(n)], **more})  # fmt: skip


def same_users(codes: torch.Tensor, users: list[Any]) -> bool:
    """Whether equal codes stand exactly where equal users stand."""
    wanted = np.unique(np.array(users, dtype=str), return_inverse=True)[1]
    pairs = set(zip(codes.tolist(), wanted.tolist(), strict=True))
    return len(pairs) == len(set(codes.tolist())) == len(set(wanted.tolist()))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_users_without_an_id_of_their_own_stay_apart(kind: Any, tmp_path: Path):
    """Users 7 and 8 are unseen, have no vector, or share the one bucket with all others."""
    schema = Schema((kind, Domain("d", values=("a", "b")), Label("click")))
    if isinstance(kind, Hashed):
        schema = Schema.fit(rows([1, 2]), schema.columns)
    users = [7, 1, 8, 7, 2, 8, 8, 1]
    pq.write_table(rows(users), tmp_path / "new.parquet")
    split = read_split(tmp_path / "new.parquet", schema)
    assert split.users is not None
    assert split.users.dtype == torch.int64
    assert same_users(split.users, users)


def test_without_a_column_of_users_there_are_no_codes(tmp_path: Path):
    schema = Schema((Categorical("user", values=(1,)), Domain("d", values=("a", "b")),
                     Label("click")))  # fmt: skip
    pq.write_table(rows([1, 2]), tmp_path / "new.parquet")
    assert read_split(tmp_path / "new.parquet", schema).users is None


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    parts=st.lists(
        st.tuples(st.lists(st.integers(-3, 9) | st.just(2**62), max_size=9), st.booleans()),
        min_size=1,
    ),
    text=st.booleans(),
)
def test_codes_of_parts_are_those_of_the_whole(parts: list[Any], text: bool):
    schema = Schema((VECTOR, Domain("d"), Label("click")))
    codes, users = UserCodes(schema), []
    for some, as_dictionary in parts:
        values = pa.array([f"u{u}" for u in some], pa.string()) if text else pa.array(
            some, pa.int64()
        )  # fmt: skip
        codes.add(pa.table({"user": values.dictionary_encode() if as_dictionary else values}))
        users += some
    found = codes.codes()
    assert found is not None
    assert len(found) == len(users)
    assert same_users(found, users)


def test_every_split_of_a_data_folder_has_its_users(tmp_path: Path):
    users = ["x", "y", "z", "x", "y", "q", "q", "x"]
    prepared = prepare_rows(
        rows(users), np.array([0, 0, 0, 0, 1, 1, 1, 2]),
        [Categorical("user", role="user"), Domain("d"), Label("click")], source="x",
    )  # fmt: skip
    write_dataset(tmp_path / "d", prepared)
    train = tmp_path / "d" / "train"
    train.mkdir()
    table = pq.read_table(tmp_path / "d" / "train.parquet")
    (tmp_path / "d" / "train.parquet").unlink()
    for i, start in enumerate((0, 1, 3)):
        pq.write_table(table.slice(start, 1 + (i == 1)), train / f"part-{i}.parquet")
    data = load_dataset(tmp_path / "d")
    for name in ("train", "validation"):
        split = data.split(name)
        own = users[:4] if name == "train" else users[4:7]
        assert split.users is not None
        assert same_users(split.users, own)
        assert data.encoded_by(Schema(data.schema.columns)).split(name).users is not None


class TestReadSplit:
    """Labelled rows from anywhere."""

    schema = Schema((VECTOR, Weight("w"), Time("t"), Domain("d", values=("a", "b")),
                     Label("click")))  # fmt: skip

    def test_any_kind_of_file(self, tmp_path: Path):
        users = [1, 5, 5, 2, 9, 1]
        table = rows(users, oracle_probability=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], note=["x"] * 6)
        pq.write_table(table, tmp_path / "a.parquet")
        whole = read_split(tmp_path / "a.parquet", self.schema)
        assert whole.name == "a.parquet"
        pa_csv.write_csv(table, tmp_path / "a.csv")
        folder = tmp_path / "folder"
        folder.mkdir()
        pq.write_table(table.slice(0, 4), folder / "0.parquet")
        pq.write_table(table.slice(4).drop_columns(["note"]), folder / "1.parquet")
        for path in ("a.csv", "folder", "folder/*.parquet"):
            split = read_split(tmp_path / path, self.schema)
            for name in ("categories", "domain", "label", "oracle", "users"):
                assert torch.equal(getattr(split, name), getattr(whole, name)), (path, name)
            assert split.unseen == whole.unseen == {"u": 3, "d": 0}
        assert (whole.weight, whole.time) == (None, None)

    def test_wrong_rows(self, tmp_path: Path):
        folder = tmp_path / "folder"
        folder.mkdir()
        pq.write_table(rows([1, 2]), folder / "0.parquet")
        pq.write_table(rows([1, 2], oracle_probability=[0.5, 0.5]), folder / "1.parquet")
        with pytest.raises(DataError, match=r"0\.parquet has no column 'oracle_probability'"):
            read_split(folder, self.schema)
        pq.write_table(rows([1, 2]).drop_columns(["click"]), folder / "1.parquet")
        with pytest.raises(DataError, match=r"1\.parquet: column 'click' is missing"):
            read_split(folder, self.schema)
        pq.write_table(rows([1, 2]).slice(0, 0), tmp_path / "empty.parquet")
        with pytest.raises(DataError, match=r"empty\.parquet has no rows"):
            read_split(tmp_path / "empty.parquet", self.schema)
        strange = rows([1, 2]).set_column(1, "d", pa.array(["a", "c"]))
        pq.write_table(strange, tmp_path / "new.parquet")
        assert read_split(tmp_path / "new.parquet", self.schema).domain.tolist() == [1, 0]
        with pytest.raises(DataError, match=r"new\.parquet: Column 'd' is 'c' in row 1"):
            read_split(tmp_path / "new.parquet", self.schema, unknown_domain="error")
