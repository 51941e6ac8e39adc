from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.errors import DataError, SchemaError
from mdlora.schema import Column, Domain, Hashed, Label, MultiValued, Schema


def rows(values: Any, kind: pa.DataType | None = None) -> pa.Table:
    column = values if isinstance(values, pa.ChunkedArray) else pa.array(values, kind)
    return pa.table({"x": column, "d": ["a"] * len(column), "y": [0] * len(column)})


def fit(table: pa.Table, column: Column) -> Schema:
    return Schema.fit(table, [column, Domain("d"), Label("y")])


TAGS = [["b", "a"], [], None, ["c", "a", "a", "b"]]


def test_lists_by_hand():
    schema = fit(rows(TAGS), MultiValued("x", max_length=3))
    # the last list keeps c, a, a
    assert schema.lists[0].values == ("a", "b", "c")
    assert schema.field_names == ("d",)
    found = schema.encode(rows([*TAGS, ["z", "b"]]))
    (ids,) = found.lists
    assert ids.values.tolist() == [2, 1, 3, 1, 1, 0, 2]
    assert ids.offsets.tolist() == [0, 2, 2, 2, 5, 7]
    assert ids.values.dtype == ids.offsets.dtype == np.int64
    assert found.unseen == {"d": 0, "x": 1}
    assert found.cut == {"x": 1}


def test_what_is_cut_is_not_in_the_vocabulary():
    assert fit(rows(TAGS), MultiValued("x", max_length=1)).lists[0].values == ("b", "c")


def test_rare_items_are_left_out():
    assert fit(rows(TAGS), MultiValued("x", min_count=3)).lists[0].values == ("a",)


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_list(pa.int16()),
        pa.list_(pa.uint64()),
        pa.list_view(pa.int64()),
        pa.large_list_view(pa.int32()),
    ],
)
def test_other_list_layouts(kind: pa.DataType):
    values = [[3, 1], None, [], [2]]
    table = rows(pa.chunked_array([pa.array(values, kind), pa.array([[1]], kind)]))
    found = fit(table, MultiValued("x")).encode(table.slice(0, 4)).lists[0]
    assert found.values.tolist() == [3, 1, 2]
    assert found.offsets.tolist() == [0, 2, 2, 2, 3]
    found = fit(table, MultiValued("x")).encode(table.slice(2)).lists[0]
    assert found.values.tolist() == [2, 1]
    assert found.offsets.tolist() == [0, 0, 1, 2]


def test_lists_of_dictionary_words():
    words = pa.array(["b", "a", "b", "c"]).dictionary_encode()
    lists = pa.ListArray.from_arrays(pa.array([0, 3, 3, 4], pa.int32()), words)
    found = fit(rows(lists), MultiValued("x")).encode(rows(lists)).lists[0]
    assert found.values.tolist() == [2, 1, 2, 3]
    assert found.offsets.tolist() == [0, 3, 3, 4]


def test_fixed_size_lists_with_null_rows():
    table = rows([[5, 6], None, [6, 7]], pa.list_(pa.int64(), 2))
    found = fit(table, MultiValued("x")).encode(table).lists[0]
    assert found.values.tolist() == [1, 2, 2, 3]
    assert found.offsets.tolist() == [0, 2, 2, 4]


def test_a_separator_splits():
    spec = MultiValued("x", separator="|")
    table = rows(["b|a", "", None, "a", "a||b"])
    schema = fit(table, spec)
    assert schema.lists[0].values == ("", "a", "b")
    found = schema.encode(table).lists[0]
    assert found.values.tolist() == [3, 2, 2, 2, 1, 3]
    assert found.offsets.tolist() == [0, 2, 2, 2, 3, 6]
    same = schema.encode(rows(table.column("x").dictionary_encode())).lists[0]
    assert same.values.tolist() == found.values.tolist()
    with pytest.raises(SchemaError, match=r"'x' holds int64 values, but its separator '\|'"):
        fit(rows([1]), spec)
    with pytest.raises(SchemaError, match=r"'x' holds string values. .*or give the separator"):
        fit(rows(["a|b"]), MultiValued("x"))


def test_hashed_items_have_the_ids_of_a_hashed_column():
    schema = fit(rows(TAGS), MultiValued("x", num_buckets=1000, max_length=2))
    assert schema.lists[0].holds == "strings"
    found = schema.encode(rows(TAGS))
    single = rows(["b", "a", "c", "a"])
    same = fit(single, Hashed("x", 1000)).encode(single).categories[:, 0]
    assert found.lists[0].values.tolist() == same.tolist()
    assert found.unseen["x"] == 0
    assert found.cut["x"] == 1
    with pytest.raises(SchemaError, match=r"'x' holds int64 .*fitted on string"):
        schema.encode(rows([[1, 2]]))


@pytest.mark.parametrize("spec", [MultiValued("x"), MultiValued("x", num_buckets=7)])
def test_blocks_of_empty_lists_have_no_type(spec: MultiValued):
    schema = fit(rows(TAGS), spec)
    for table in (rows([[], []]), rows([None, None]), rows([[], None], pa.list_(pa.int64()))):
        found = schema.encode(table).lists[0]
        assert found.values.tolist() == []
        assert found.offsets.tolist() == [0, 0, 0]
    assert schema.encode(rows(TAGS).slice(0, 0)).lists[0].offsets.tolist() == [0]
    assert fit(rows([[], None]), spec).lists[0] == spec


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    lists=st.lists(st.none() | st.lists(st.integers(0, 9), max_size=6), min_size=1, max_size=12),
    max_length=st.integers(1, 6),
    cut=st.integers(0, 12),
)
def test_lists_are_those_of_the_plain_loop(lists, max_length, cut):
    column = pa.chunked_array([lists[:cut], lists[cut:]], type=pa.list_(pa.int64()))
    schema = fit(rows(column), MultiValued("x", max_length=max_length))
    kept = [(items or [])[:max_length] for items in lists]
    values = sorted({item for items in kept for item in items})
    assert schema.lists[0].values == tuple(values)
    found = schema.encode(rows(column))
    ids, offsets = found.lists[0]
    again = [ids[a:b].tolist() for a, b in pairwise(offsets)]
    assert again == [[values.index(item) + 1 for item in items] for items in kept]
    assert found.cut["x"] == sum(len(items or []) > max_length for items in lists)


def test_a_null_in_a_list_names_its_row():
    column = pa.chunked_array([[[1], []], [None, [2, None], [None]]])
    with pytest.raises(DataError, match=r"f: .*'x' has a list with a null in row 3 .*2 such"):
        Schema.fit(rows(column), [MultiValued("x"), Domain("d"), Label("y")], source="f")


def test_items_of_other_types():
    schema = fit(rows(TAGS), MultiValued("x"))
    with pytest.raises(SchemaError, match=r"'x' holds int64 values, .*fitted on string"):
        schema.encode(rows([[1]]))
    with pytest.raises(SchemaError, match=r"'x' holds double values"):
        fit(rows([[1.5]]), MultiValued("x"))
    with pytest.raises(SchemaError, match=r"'x' holds int64 values. Store a list"):
        schema.encode(rows([1]))
