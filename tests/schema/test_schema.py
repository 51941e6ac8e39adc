from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlora.errors import DataError, SchemaError
from mdlora.schema import Categorical, Domain, Label, Schema

SPECS = [Categorical("user", role="user"), Domain("theme"), Categorical("item"), Label("click")]
TABLE = pa.table(
    {
        "user": [30, 10, 30, 20],
        "theme": ["sport", "art", "sport", "art"],
        "item": ["b", "ä", "a", "B"],
        "click": [0, 1, 1, 0],
    }
)


def test_ids_by_hand():
    schema = Schema.fit(TABLE, SPECS)
    assert schema.field_names == ("user", "item", "theme")  # the domain last
    assert [column.name for column in schema.columns] == ["user", "theme", "item", "click"]
    assert schema.fields[0].values == (10, 20, 30)
    assert schema.fields[1].values == ("B", "a", "b", "ä")  # by code point
    assert schema.domain_names == ("art", "sport")
    assert schema.num_ids == (4, 5, 3)
    assert schema.num_domains == 2
    assert schema.field_of("user") == "user"
    assert schema.field_of("item") is None

    rows = schema.encode(TABLE)
    assert rows.categories.tolist() == [[3, 3, 2], [1, 4, 1], [3, 2, 2], [2, 1, 1]]
    assert rows.categories.dtype == np.int64
    assert rows.domain.tolist() == [2, 1, 2, 1]
    assert rows.label is not None
    assert rows.label.dtype == np.float32
    assert rows.label.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert rows.unseen == {"user": 0, "item": 0, "theme": 0}


def test_unseen_values_are_id_zero_and_counted():
    schema = Schema.fit(TABLE, SPECS)
    new = pa.table({"user": [11, 10, 99], "item": ["b", "c", "b"], "theme": ["art", "art", "x"]})
    rows = schema.encode(new, with_label=False)
    assert rows.label is None
    assert rows.categories.tolist() == [[0, 3, 1], [1, 0, 1], [0, 3, 0]]
    assert rows.unseen == {"user": 2, "item": 1, "theme": 1}


def test_rare_values_are_left_out():
    schema = Schema.fit(TABLE, [Categorical("user", min_count=2), *SPECS[1:]])
    assert schema.fields[0].values == (30,)


def test_given_domain_order_is_kept():
    schema = Schema.fit(TABLE, [SPECS[0], Domain("theme", ("sport", "art")), *SPECS[2:]])
    assert schema.domain_names == ("sport", "art")
    assert schema.encode(TABLE).domain.tolist() == [1, 2, 1, 2]
    with pytest.raises(SchemaError, match="'music' has no training rows"):
        Schema.fit(TABLE, [Domain("theme", ("sport", "music", "art")), Label("click")])


def test_neighbours_at_64_bits_stay_apart():
    big = [2**63 - 1, 2**63 - 2, 2**53, 2**53 + 1, 16_777_216, 16_777_217, -(2**63)]
    table = pa.table({"user": big, "theme": [1] * 7, "click": [0] * 7})
    schema = Schema.fit(table, [Categorical("user"), Domain("theme"), Label("click")])
    again = Schema.from_json(schema.to_json())
    assert again.fields[0].values == tuple(sorted(big))
    assert sorted(again.encode(table).categories[:, 0].tolist()) == [1, 2, 3, 4, 5, 6, 7]


ids = st.integers(-(2**63), 2**63 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(
    train=st.lists(st.tuples(ids, names, names), min_size=1, max_size=30),
    new=st.lists(st.tuples(ids, names, names), max_size=30),
)
def test_round_trip(tmp_path_factory, train, new):
    def table(rows):
        user, item, theme = (list(c) for c in zip(*rows, strict=True)) if rows else ([], [], [])
        types = {"user": pa.int64(), "item": pa.string(), "theme": pa.string(), "click": pa.int8()}
        columns = {"user": user, "item": item, "theme": theme, "click": [0] * len(rows)}
        return pa.table(columns, schema=pa.schema(types.items()))

    schema = Schema.fit(table(train), SPECS)
    path = tmp_path_factory.mktemp("s") / "schema.json"
    schema.save(path)
    again = Schema.load(path)
    assert again == schema
    assert again.fingerprint() == schema.fingerprint()
    rows, encoded = train + new, again.encode(table(train + new))
    np.testing.assert_array_equal(encoded.categories, schema.encode(table(rows)).categories)
    for column, field in enumerate((0, 1, 2)):
        values = schema.fields[column].values
        for row, id_ in zip(rows, encoded.categories[:, column].tolist(), strict=True):
            known = row[field] in {r[field] for r in train}
            assert (values[id_ - 1] == row[field]) if known else id_ == 0


def test_the_fingerprint_sees_every_part():
    schema = Schema.fit(TABLE, SPECS)
    others = [
        Schema.fit(TABLE.slice(1), SPECS),
        Schema.fit(TABLE, SPECS[::-1]),
        Schema.fit(TABLE, [Categorical("user"), *SPECS[1:]]),
    ]
    prints = {schema.fingerprint(), *(other.fingerprint() for other in others)}
    assert len(prints) == 4
    assert schema.fingerprint() == Schema.fit(TABLE, SPECS).fingerprint()


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint16(), pa.uint64()])
def test_narrow_integers_fit(kind):
    schema = Schema.fit(TABLE, SPECS)
    narrow = TABLE.set_column(0, "user", TABLE.column("user").cast(kind))
    np.testing.assert_array_equal(schema.encode(narrow).categories, schema.encode(TABLE).categories)


def test_other_string_layouts_fit():
    schema = Schema.fit(TABLE, SPECS)
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()):
        other = TABLE.set_column(2, "item", TABLE.column("item").cast(kind))
        np.testing.assert_array_equal(
            schema.encode(other).categories, schema.encode(TABLE).categories
        )


def changed(name: str, values: list[object]) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (changed("user", ["1", "2", "3", "4"]), SchemaError, "'user' holds string .* 64-bit integ"),
        (changed("item", [1, 2, 3, 4]), SchemaError, "'item' holds int64 .* fitted on string"),
        (changed("user", [1.0, 2.0, 3.0, 4.0]), SchemaError, "'user' holds double"),
        (changed("user", [1, None, 3, None]), SchemaError, "'user' is null in row 1 .*2 null"),
        (TABLE.drop_columns(["item"]), SchemaError, "'item' is missing. .*: user, theme, click"),
        (changed("click", [0, 1, 2, 1]), DataError, "f.parquet: .*'click' is 2 in row 2"),
        (changed("click", [0, None, 1, 1]), DataError, "'click' is null in row 1"),
        (changed("click", [0.0, 1.0, 1.0, 0.5]), DataError, "'click' is 0.5 in row 3"),
        (changed("click", ["a", "b", "c", "d"]), DataError, "'click' holds string"),
    ],
)
def test_rows_that_do_not_fit(table, error, words):
    with pytest.raises(error, match=words):
        Schema.fit(TABLE, SPECS).encode(table, source="f.parquet")


def test_unsigned_beyond_64_bits():
    table = TABLE.set_column(0, "user", pa.array([2**64 - 1, 1, 2, 3], pa.uint64()))
    with pytest.raises(SchemaError, match="not a valid 64-bit integer"):
        Schema.fit(table, SPECS)


def test_boolean_and_float_labels():
    for values in ([False, True, True, False], [0.0, 1.0, 1.0, 0.0]):
        rows = Schema.fit(TABLE, SPECS).encode(changed("click", values))
        assert rows.label is not None
        assert rows.label.tolist() == [0.0, 1.0, 1.0, 0.0]


def test_no_rows_to_fit_on():
    with pytest.raises(SchemaError, match="No rows to fit on"):
        Schema.fit(TABLE.slice(0, 0), SPECS)


def json_with(**change: object) -> str:
    plain = json.loads(Schema.fit(TABLE, SPECS).to_json())
    plain.update(change)
    return json.dumps(plain)


DOMAIN = {"kind": "domain", "name": "d", "values": [1]}
LABEL = {"kind": "label", "name": "y"}
USER = {"kind": "categorical", "name": "u", "role": None, "min_count": 1, "values": [1]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": ', "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"format": "other"}', '"format": "mdlora-schema"'),
        (json_with(version=99), "version 99"),
        (json_with(columns=3), 'no list "columns"'),
        (json_with(columns=[LABEL]), "exactly one domain column, got none"),
        (json_with(columns=[DOMAIN]), "exactly one label column, got none"),
        (json_with(columns=[DOMAIN, DOMAIN | {"name": "e"}, LABEL]), "one domain .* 'd', 'e'"),
        (json_with(columns=[USER, USER, DOMAIN, LABEL]), "2 columns are called 'u'"),
        (json_with(columns=[USER | {"kind": "sound"}, DOMAIN, LABEL]), "unknown kind 'sound'"),
        (json_with(columns=[USER | {"size": 3}, DOMAIN, LABEL]), "unknown key 'size'"),
        (json_with(columns=[{"kind": "domain", "name": "d"}, LABEL]), "no key 'values'"),
        (json_with(columns=[USER | {"values": [1, "a"]}, DOMAIN, LABEL]), "got: int, str"),
        (json_with(columns=[USER | {"values": [1.5]}, DOMAIN, LABEL]), "got: float"),
        (json_with(columns=[USER | {"values": [True]}, DOMAIN, LABEL]), "got: bool"),
        (json_with(columns=[USER | {"values": [2**63]}, DOMAIN, LABEL]), "64-bit"),
        (json_with(columns=[USER | {"values": [7, 7]}, DOMAIN, LABEL]), "value 7 stands twice"),
        (json_with(columns=[USER | {"values": "ab"}, DOMAIN, LABEL]), "must be a JSON list"),
        (json_with(columns=[USER | {"role": "x"}, DOMAIN, LABEL]), "role is 'x'"),
        (json_with(columns=[USER | {"min_count": 0}, DOMAIN, LABEL]), "min_count is 0"),
        (json_with(columns=[USER | {"name": ""}, DOMAIN, LABEL]), "needs a name"),
        (json_with(columns=["user", DOMAIN, LABEL]), "must be a JSON object"),
    ],
)
def test_bad_json_says_what_is_wrong(tmp_path, text, words):
    (tmp_path / "schema.json").write_text(text)
    with pytest.raises(SchemaError, match=r"schema\.json: .*" + words):
        Schema.load(tmp_path / "schema.json")


def test_missing_file_and_bad_bytes(tmp_path):
    with pytest.raises(SchemaError, match=r"no\.json: No such file"):
        Schema.load(tmp_path / "no.json")
    (tmp_path / "bad.json").write_bytes(b"\xff\xfe")
    with pytest.raises(SchemaError, match=r"bad\.json: .*utf-8"):
        Schema.load(tmp_path / "bad.json")


def test_one_role_only():
    with pytest.raises(SchemaError, match="2 columns have the role 'user'"):
        Schema((Categorical("a", role="user"), Categorical("b", role="user"), *SPECS[1::2]))


def test_encoding_is_fast():
    rng = np.random.default_rng(0)
    columns = {f"c{i}": rng.integers(0, 50_000, 200_000) for i in range(14)}
    table = pa.table(columns | {"d": rng.integers(0, 9, 200_000), "y": np.zeros(200_000)})
    schema = Schema.fit(table, [*(Categorical(n) for n in columns), Domain("d"), Label("y")])
    schema.encode(table.slice(0, 1))  # builds the lookup tables
    start = time.process_time()
    schema.encode(table)
    assert time.process_time() - start < 2.0  # about 0.2; row by row it would be 10 times more
