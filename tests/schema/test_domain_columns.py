from __future__ import annotations

import datetime
from typing import Any

import pyarrow as pa
import pytest

from mdlora.errors import ConfigError, DataError, SchemaError
from mdlora.schema import Categorical, Domain, Label, Schema

CROSSED = Domain("market", columns=("country", "site"))


def rows(country: list[Any], site: list[Any]) -> pa.Table:
    return pa.table({"country": country, "site": site, "y": [0] * len(site)})


def test_crossed_columns_by_hand():
    table = rows(["de", "br", "de", "de"], [2, 10, 10, 2])
    schema = Schema.fit(table, [CROSSED, Categorical("site"), Label("y")])
    assert schema.domain_names == ("br / 10", "de / 10", "de / 2")
    assert schema.field_names == ("site", "market")
    found = schema.encode(rows(["de", "br", "fr"], [2, 2, 10]))
    assert found.domain.tolist() == [3, 0, 0]  # br / 2 was never seen, though both parts were
    assert found.unseen == {"site": 0, "market": 2}
    assert Schema.from_json(schema.to_json()) == schema


def test_crossed_columns_in_other_layouts():
    table = rows(["de", "br", "de"], [True, False, False])
    schema = Schema.fit(table, [CROSSED, Label("y")])
    assert schema.domain_names == ("br / false", "de / false", "de / true")
    words = table.set_column(0, "country", table.column("country").dictionary_encode())
    pieces = pa.concat_tables([words.slice(0, 1), words.slice(1)])
    assert schema.encode(pieces).domain.tolist() == [3, 1, 2]


def test_texts_that_would_give_two_domains_one_name():
    with pytest.raises(SchemaError, match=r"'market' joins .* row 1 .*'a / b / c'"):
        Schema.fit(rows(["x", "a / b"], ["y", "c"]), [CROSSED, Label("y")])


def test_crossed_columns_name_the_raw_column_that_is_wrong():
    with pytest.raises(SchemaError, match=r"'site' is null in row 1"):
        Schema.fit(rows(["a", "b"], ["y", None]), [CROSSED, Label("y")])
    with pytest.raises(SchemaError, match=r"'country' is missing"):
        Schema.fit(rows(["a"], ["y"]).drop_columns(["country"]), [CROSSED, Label("y")])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False], ("false", "true")),
        ([datetime.date(2020, 5, 1), datetime.date(2020, 4, 1)], ("2020-04-01", "2020-05-01")),
        (pa.array([3600, 0], pa.timestamp("s")), ("1970-01-01 00:00:00", "1970-01-01 01:00:00")),
        (pa.array(["b", "a"]).dictionary_encode(), ("a", "b")),
        (pa.array([9, 10], pa.uint8()), ("9", "10")),
    ],
)
def test_domains_of_many_types(values: Any, names: tuple[str, ...]):
    table = pa.table({"d": values, "y": [0, 1]})
    schema = Schema.fit(table, [Domain("d"), Label("y")])
    assert schema.domain_names == names
    assert sorted(schema.encode(table).domain.tolist()) == [1, 2]


def test_fractions_are_no_domains():
    with pytest.raises(SchemaError, match=r"'d' holds double values"):
        Schema.fit(pa.table({"d": [1.0, 2.0], "y": [0, 1]}), [Domain("d"), Label("y")])


def test_unknown_domains_are_an_error_if_asked():
    table = pa.table({"d": [1, 2, 1], "y": [0, 1, 1]})
    schema = Schema.fit(table, [Domain("d"), Label("y")])
    new = pa.table({"d": [1, 7, 2, 9]})
    found = schema.encode(new, with_label=False)
    assert found.domain.tolist() == [1, 0, 2, 0]
    assert found.unseen == {"d": 2}
    with pytest.raises(DataError, match=r"^new: .*'d' is 7 in row 1 .*2 such rows.* has: 1, 2\."):
        schema.encode(new, with_label=False, source="new", unknown_domain="error")
    assert schema.encode(table, unknown_domain="error").domain.tolist() == [1, 2, 1]
    with pytest.raises(ConfigError, match=r"unknown_domain is 'eror'.* Did you mean 'error'"):
        schema.encode(new, unknown_domain="eror")  # type: ignore[arg-type]
