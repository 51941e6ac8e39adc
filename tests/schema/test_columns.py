from __future__ import annotations

import json
import math
from typing import Any

import pytest

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
    Weight,
    columns_from_yaml,
    columns_to_yaml,
    num_ids,
    raw_names,
)

FITTED: tuple[Column, ...] = (
    Categorical("item", values=(5, 7), role="item", min_count=2),
    Hashed("user", 100, role="user", holds="strings"),
    Numeric("price", edges=(0.1, 2.5), num_buckets=3),
    Numeric("age", encoding="scaled", mean=30.5, std=2.0),
    MultiValued("genres", values=("a", "b"), pooling="sum", max_length=4, separator="|"),
    MultiValued("tags", num_buckets=8, holds="integers"),
    Vector("user_vector", width=16, key="user", values=("u", "v"), trained=True, linear=True),
    Vector("picture", width=3),
    Domain("market", values=("de / web", "br / app"), columns=("country", "site")),
    Label("stars", at_least=4),
    Weight("w"),
    Time("t"),
)


def test_every_kind_is_tried():
    assert {column.kind for column in FITTED} == set(COLUMN_KINDS)


def test_properties_by_hand():
    schema = Schema(FITTED)
    assert schema.field_names == ("item", "user", "price", "user_vector", "market")
    # 2 values, 100 buckets, 2 edges make 3 buckets, 2 keys, 2 domains; each with id 0, and the
    # numbers with an id for missing
    assert schema.num_ids == (3, 101, 5, 3, 3)
    assert [c.name for c in schema.lists] == ["genres", "tags"]
    assert [num_ids(c) for c in schema.lists] == [3, 9]
    assert [c.name for c in schema.dense] == ["age", "picture"]
    assert schema.dense_width == 1 + 3
    assert (schema.field_of("user"), schema.field_of("item")) == ("user", "item")
    assert schema.weight == Weight("w")
    assert schema.time == Time("t")
    assert schema.domain_names == ("de / web", "br / app")
    assert raw_names(schema.domain) == ("country", "site")
    fields = ["item", "user", "price", "age", "genres", "tags", "picture", "country", "site"]
    assert schema.raw_columns(with_label=False) == fields  # the vector's key is the user
    assert schema.raw_columns() == [*fields, "stars", "w", "t"]


def test_a_schema_without_extras():
    schema = Schema((Domain("d", values=(1,)), Label("y")))
    assert (schema.weight, schema.time, schema.lists, schema.dense) == (None, None, (), ())
    assert schema.dense_width == 0


def test_a_width_that_is_not_known():
    with pytest.raises(SchemaError, match="'v': the width of its vectors is not known"):
        _ = Schema((Vector("v"), Domain("d"), Label("y"))).dense_width


@pytest.mark.parametrize("column", FITTED, ids=lambda c: f"{c.kind}-{c.name}")
def test_json_there_and_back(column: Column):
    others = [c for c in (Domain("d", values=(1,)), Label("y")) if c.kind != column.kind]
    schema = Schema((column, *others))
    again = Schema.from_json(schema.to_json())
    assert again == schema
    assert again.fingerprint() == schema.fingerprint()


def test_files_of_version_1_keep_their_text_and_fingerprint():
    text = """{
  "format": "mdlora-schema",
  "version": 1,
  "columns": [
    {"kind": "categorical", "name": "u", "role": null, "min_count": 1, "values": [1]},
    {"kind": "domain", "name": "d", "values": ["a"]},
    {"kind": "label", "name": "y"}
  ]
}
"""
    schema = Schema.from_json(text)
    assert schema.to_json() == text
    # sha256 of the columns with sorted keys and no spaces, by sha256sum
    assert schema.fingerprint() == (
        "fbad66d764d6a3eafd97ec2416503760d414ee75c3518e68101615706bdbd034"
    )
    plain = json.loads(text)
    del plain["columns"][0]["min_count"]
    assert Schema.from_json(json.dumps(plain)) == schema


def test_yaml_there_and_back():
    text = columns_to_yaml(FITTED)
    assert columns_from_yaml(text) == FITTED
    specs = (Categorical("user", role="user"), Domain("d"), Label("y"))
    assert columns_to_yaml(specs) == (
        "columns:\n- kind: categorical\n  name: user\n  role: user\n"
        "- kind: domain\n  name: d\n- kind: label\n  name: y\n"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("columns: [", "not YAML"),
        ("- kind: label", "a mapping with the list 'columns'"),
        ("colums: []", "Is it called 'colums'"),
        ("columns: []\nname: x", "unknown key 'name' beside"),
        ("columns: [user]", r"column 0 .* is 'user'; give a mapping"),
        ("columns: [{kind: categorial, name: u}]", "kind 'categorial'. Did you mean 'categorical'"),
        ("columns: [{kind: hashed, name: u, num_bucket: 3}]", "Did you mean 'num_buckets'"),
        ("columns: [{kind: hashed, name: u}]", "no key 'num_buckets'"),
        ("columns: [{kind: label}]", "no key 'name'"),
        ("columns: [{kind: label, name: yes}]", "needs a name, got True"),
        ("columns: [{kind: numeric, name: a, edges: 3}]", "edges must be a list"),
        ("columns: [{kind: numeric, name: a, encoding: bucket}]", "Did you mean 'buckets'"),
    ],
)
def test_bad_yaml_says_what_is_wrong(text: str, words: str):
    with pytest.raises(SchemaError, match="^spec.yaml: .*" + words):
        columns_from_yaml(text, where="spec.yaml")


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        (Hashed, {"num_buckets": 0}, "num_buckets is 0; .*at least 1"),
        (Hashed, {"num_buckets": 2.0}, "num_buckets is 2.0"),
        (Hashed, {"num_buckets": True}, "num_buckets is True"),
        (Hashed, {"num_buckets": 3, "role": "usr"}, "Did you mean 'user'"),
        (Hashed, {"num_buckets": 3, "holds": "floats"}, "holds is 'floats'"),
        (Numeric, {"num_buckets": 1}, "num_buckets is 1; .*at least 2"),
        (Numeric, {"encoding": "log"}, "encoding is 'log'"),
        (Numeric, {"edges": (1, 1)}, "each above the one before"),
        (Numeric, {"edges": (1, math.inf)}, "finite"),
        (Numeric, {"edges": ("a",)}, "finite"),
        (Numeric, {"edges": (1,), "encoding": "scaled"}, "edges belong to encoding 'buckets'"),
        (Numeric, {"mean": 1.0, "std": 1.0}, "mean and std to 'scaled'"),
        (Numeric, {"mean": 1.0, "encoding": "scaled"}, "give both"),
        (Numeric, {"mean": 1.0, "std": 0.0, "encoding": "scaled"}, "std above 0"),
        (Numeric, {"mean": math.nan, "std": 1.0, "encoding": "scaled"}, "mean is nan"),
        (MultiValued, {"pooling": "max"}, "pooling is 'max'"),
        (MultiValued, {"max_length": 0}, "max_length is 0"),
        (MultiValued, {"separator": ""}, "separator is ''"),
        (MultiValued, {"num_buckets": 3, "values": (1,)}, "both values and num_buckets"),
        (MultiValued, {"values": (1, "a")}, "got: int, str"),
        (MultiValued, {"min_count": 0}, "min_count is 0"),
        (Vector, {"width": 0}, "width is 0"),
        (Vector, {"values": (1,)}, "need a key"),
        (Vector, {"trained": True}, "need a key"),
        (Vector, {"key": "u", "linear": 1}, "linear is 1; choose true or false"),
        (Vector, {"key": ""}, "key is ''"),
        (Domain, {"columns": ("a",)}, "two or more different columns"),
        (Domain, {"columns": ("a", "a")}, "two or more different columns"),
        (Domain, {"columns": "ab", "values": (1,)}, "values are texts"),
        (Label, {"at_least": "4"}, "at_least is '4'"),
        (Label, {"at_least": True}, "at_least is True"),
        (Weight, {"name": ""}, "weight column needs a name"),
        (Time, {"name": 3}, "time column needs a name"),
    ],
)
def test_bad_settings(kind: Any, settings: dict[str, Any], words: str):
    with pytest.raises(SchemaError, match=words):
        kind(**{"name": "x", **settings})


@pytest.mark.parametrize("kind", [Weight, Time])
def test_at_most_one(kind: Any):
    with pytest.raises(SchemaError, match=f"at most one {kind.kind} column, got 'a', 'b'"):
        Schema((kind("a"), kind("b"), Domain("d"), Label("y")))


def test_one_role_over_all_kinds():
    with pytest.raises(SchemaError, match="2 columns have the role 'user'"):
        Schema((Categorical("a", role="user"), Hashed("b", 9, role="user"), *FITTED[8:10]))
