from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.errors import SchemaError
from mdlora.schema import (
    COLUMN_KINDS,
    Categorical,
    Column,
    Domain,
    Hashed,
    Label,
    MultiValued,
    Numeric,
    Schema,
    Time,
    Vector,
    Vocabulary,
    Weight,
)

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**53, 2**53 + 1, 0, 1, 2])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
NUMBERS = st.none() | st.floats(-1e6, 1e6) | st.just(float("nan"))
INT_LISTS = st.none() | st.lists(INTEGERS, max_size=4)
TEXT_LISTS = st.none() | st.lists(TEXTS, max_size=4)
PAIRS = st.tuples(st.sampled_from("abc"), st.integers(0, 3))

CASES: dict[str, tuple[Column, Any, pa.DataType]] = {
    "integers": (Categorical("x", role="user"), INTEGERS, pa.int64()),
    "texts": (Categorical("x"), TEXTS, pa.string()),
    "common": (Categorical("x", min_count=2), st.integers(0, 5), pa.int64()),
    "booleans": (Categorical("x"), st.booleans(), pa.bool_()),
    "hashed integers": (Hashed("x", 13), INTEGERS, pa.int64()),
    "hashed texts": (Hashed("x", 2**40), TEXTS, pa.large_string()),
    "buckets": (Numeric("x", num_buckets=4), NUMBERS, pa.float64()),
    "edges": (Numeric("x", edges=(-1, 0.5)), NUMBERS, pa.float64()),
    "scaled": (Numeric("x", encoding="scaled"), NUMBERS, pa.float64()),
    "lists": (MultiValued("x", max_length=2), INT_LISTS, pa.list_(pa.int64())),
    "text lists": (MultiValued("x", pooling="sum"), TEXT_LISTS, pa.large_list(pa.string())),
    "split lists": (MultiValued("x", separator=","), st.none() | TEXTS, pa.string()),
    "hashed lists": (MultiValued("x", num_buckets=7), TEXT_LISTS, pa.list_(pa.string())),
    "keyed": (Vector("v", width=2, key="x", values=(0, 2, 1)), INTEGERS, pa.int64()),
    "vectors": (
        Vector("x"),
        st.lists(st.floats(-9, 9, width=32), min_size=3, max_size=3),
        pa.list_(pa.float32(), 3),
    ),
    "domain": (Domain("x"), INTEGERS, pa.int64()),
    "crossed": (
        Domain("m", columns=("x", "x2")),
        PAIRS,
        pa.struct([("x", pa.string()), ("x2", pa.int64())]),
    ),
    "label": (Label("x"), st.integers(0, 1), pa.int8()),
    "rating": (Label("x", at_least=2.5), st.floats(0, 5), pa.float32()),
    "weight": (Weight("x"), st.floats(0, 9, width=32), pa.float32()),
    "time": (Time("x"), st.integers(-(2**40), 2**40), pa.int64()),
}


def table_of(values: list[Any], kind: pa.DataType) -> pa.Table:
    """Rows whose column x (and x2, of structures) holds `values`."""
    n = len(values)
    if pa.types.is_struct(kind):
        first, second = ([v[i] for v in values] for i in (0, 1))
        x = {"x": pa.array(first, kind.field(0).type), "x2": pa.array(second, kind.field(1).type)}
    else:
        x = {"x": pa.array(values, kind)}
    return pa.table({**x, "d": ["a"] * n, "y": pa.array([0] * n)})


def arrays(schema: Schema, table: pa.Table) -> dict[str, Any]:
    """What a table is encoded to, by name: ids of lists as lists."""
    rows = schema.encode(table)
    found = {n: rows.categories[:, i].tolist() for i, n in enumerate(schema.field_names)}
    for column, (values, offsets) in zip(schema.lists, rows.lists, strict=True):
        found[column.name] = [values[a:b].tolist() for a, b in pairwise(offsets)]
    parts = {"dense": rows.dense, "label": rows.label, "weight": rows.weight, "time": rows.time}
    return found | {n: None if a is None else a.tolist() for n, a in parts.items()}


def test_every_kind_is_grown():
    assert {case[0].kind for case in CASES.values()} == set(COLUMN_KINDS)


@pytest.mark.parametrize("case", CASES)
def test_old_ids_stay(case: str, tmp_path_factory: pytest.TempPathFactory):
    column, values, kind = CASES[case]
    others = [c for c in (Domain("d"), Label("y")) if c.kind != column.kind]
    path = tmp_path_factory.mktemp("grown") / "schema.json"

    @settings(deadline=None, derandomize=True, max_examples=25)
    @given(st.lists(values, min_size=1, max_size=12), st.lists(values, max_size=12))
    def check(train: list[Any], new: list[Any]) -> None:
        if isinstance(column, Numeric) and all(v is None or v != v for v in train):
            train = [*train, 1.0]
        old_table, new_table = table_of(train, kind), table_of(new, kind)
        schema = Schema.fit(old_table, [column, *others])
        schema.save(path)
        loaded = Schema.load(path)
        assert loaded == schema
        before = arrays(schema, old_table)
        assert arrays(loaded, old_table) == before
        grown = loaded.grow(new_table)
        grown.save(path)
        grown = Schema.load(path)
        assert arrays(grown, old_table) == _with_new_words(before, loaded, grown, train)
        _check_new(loaded, grown, arrays(loaded, new_table), arrays(grown, new_table))
        assert grown.grow(new_table) == grown
        assert Schema.from_json(schema.to_json()).grow(old_table) == schema or (
            getattr(column, "min_count", 1) > 1
        )

    check()


def _with_new_words(before: dict[str, Any], old: Schema, new: Schema, train: list[Any]) -> Any:
    """Ids of training rows after growth: as before, except for rare values that became known."""
    column = new.columns[0]
    if not (isinstance(column, Categorical) and column.min_count > 1):
        return before
    known = {v: i + 1 for i, v in enumerate(column.values)}
    ids = [known.get(v, 0) for v in train]
    old_ids = before[column.name]
    assert all(a in (0, b) for a, b in zip(old_ids, ids, strict=True))  # only 0 may change
    return before | {column.name: ids}


def _check_new(old: Schema, new: Schema, before: dict[str, Any], after: dict[str, Any]) -> None:
    """New rows: an id that was known stays, and one that was not is behind all old ones."""
    for name, first in before.items():
        if name in ("dense", "label", "weight", "time"):
            assert after[name] == first
            continue
        column = next(c for c in old.columns if c.name == name)
        grows = isinstance(column, Categorical | MultiValued | Domain)
        last = len(column.values) if isinstance(column, Categorical | Domain | MultiValued) else 0
        flat = _flatten(first), _flatten(after[name])
        for was, now in zip(*flat, strict=True):
            if was or not grows:
                assert now == was
            elif getattr(column, "min_count", 1) == 1:
                assert now > last
            else:
                assert now == 0 or now > last
    for was, now in zip(old.columns, new.columns, strict=True):
        kept = getattr(was, "values", ())
        assert getattr(now, "values", ())[: len(kept)] == kept
        added = list(getattr(now, "values", ())[len(kept) :])
        assert added == sorted(set(added))


def _flatten(values: list[Any]) -> list[int]:
    return [i for v in values for i in (v if isinstance(v, list) else [v])]


def test_growth_by_hand():
    table = pa.table({"u": [5, 9], "g": [["b"], []], "d": ["x", "y"], "y": [0, 1]})
    schema = Schema.fit(table, [Categorical("u"), MultiValued("g"), Domain("d"), Label("y")])
    new = pa.table({"u": [7, 1, 9], "g": [["c", "a"], None, ["b"]], "d": ["x", "a", "x"]})
    grown = schema.grow(new)  # no label is needed
    assert [getattr(c, "values", None) for c in grown.columns] == [
        (5, 9, 1, 7),
        ("b", "a", "c"),
        ("x", "y", "a"),
        None,
    ]
    found = grown.encode(new, with_label=False)
    assert found.categories.tolist() == [[4, 1], [3, 3], [2, 1]]
    assert found.lists[0].values.tolist() == [3, 2, 1]
    assert schema.columns[0] == Categorical("u", values=(5, 9))  # the old one is as it was


def test_rare_new_values_stay_out():
    table = pa.table({"u": [5, 5], "d": ["x", "x"], "y": [0, 1]})
    schema = Schema.fit(table, [Categorical("u", min_count=2), Domain("d"), Label("y")])
    grown = schema.grow(pa.table({"u": [3, 4, 4], "d": ["x"] * 3}))
    assert grown.columns[0] == Categorical("u", values=(5, 4), min_count=2)


def test_growth_keeps_64_bit_neighbours_apart():
    table = pa.table({"u": [2**63 - 1, 2**53], "d": ["x", "x"], "y": [0, 1]})
    schema = Schema.fit(table, [Categorical("u"), Domain("d"), Label("y")])
    new = pa.table({"u": [2**63 - 2, 2**53 + 1, 2**53, -(2**63)], "d": ["x"] * 4})
    ids = schema.grow(new).encode(new, with_label=False).categories[:, 0]
    assert ids.tolist() == [5, 4, 1, 3]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (lambda t: t.set_column(0, "u", pa.array(["1"])), "^new: .*'u' holds string .*fitted on"),
        (lambda t: t.drop_columns(["u"]), "^new: Column 'u' is missing. .*: d, y"),
        (lambda t: t.set_column(0, "u", pa.array([None], pa.int64())), "'u' is null in row 0"),
    ],
)
def test_rows_that_cannot_grow_a_schema(table: Callable[[pa.Table], pa.Table], words: str):
    first = pa.table({"u": [5], "d": ["x"], "y": [0]})
    schema = Schema.fit(first, [Categorical("u"), Domain("d"), Label("y")])
    with pytest.raises(SchemaError, match=words):
        schema.grow(table(first), source="new")


def test_a_schema_from_another_data_set():
    clicks = pa.table({"user": [1], "market": ["x"], "click": [0]})
    films = pa.table({"user": ["u1"], "genre": ["x"], "rating": [3]})
    schema = Schema.fit(clicks, [Categorical("user"), Domain("market"), Label("click")])
    with pytest.raises(SchemaError, match=r"^films: Column 'user' holds string .*fit a new schema"):
        schema.encode(films, source="films")
    numbered = films.set_column(0, "user", pa.array([1]))
    with pytest.raises(
        SchemaError, match=r"^films: Column 'market' is missing. .*: user, genre, r"
    ):
        schema.encode(numbered, source="films")


def test_few_rows_are_searched_in_a_large_vocabulary():
    values = (-(2**63), 2**63 - 1, 2**62, *range(0, 2**60, 2**53), -5, 2**53 + 1)
    vocabulary = Vocabulary("u", values)  # far apart, and not in order
    new = [-5, 2**62, 2**53, 2**53 + 1, 2**53 + 2, -(2**63), 2**63 - 1, 2**63 - 2, 2**62 + 1]
    known = {value: place + 1 for place, value in enumerate(values)}
    wanted = [known.get(value, 0) for value in new]
    assert vocabulary.encode(pa.chunked_array([new])).tolist() == wanted  # 9 rows, 133 values
    assert vocabulary.encode(pa.chunked_array([new * 9])).tolist() == wanted * 9


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    near=st.integers(-(2**63), 2**63 - 1),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=15),
    others=st.lists(INTEGERS, max_size=15),
)
def test_ids_of_dense_integers_are_those_of_the_dictionary(near, steps, others):
    """Close values are looked up in a table, wherever in 64 bits they lie."""
    values = [min(near + step, 2**63 - 1) for step in steps]
    table = pa.table({"u": values, "d": ["x"] * len(values), "y": [0] * len(values)})
    schema = Schema.fit(table, [Categorical("u"), Domain("d"), Label("y")])
    edge = [2**63 - 1, -(2**63), max(near - 1, -(2**63)), min(near + 61, 2**63 - 1)]
    new = [*values, *others, *edge]
    known = {value: place + 1 for place, value in enumerate(sorted(set(values)))}
    rows = pa.table({"u": pa.array(new, pa.int64()), "d": ["x"] * len(new)})
    found = schema.encode(rows, with_label=False).categories[:, 0]
    np.testing.assert_array_equal(found, [known.get(value, 0) for value in new])
