from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mdlora.errors import DataError
from mdlora.schema import Column, Domain, EncodedRows, Label, Schema, Time, Weight

DAY = datetime.date(2020, 1, 2)


def encode(values: Any, *columns: Column, kind: pa.DataType | None = None) -> EncodedRows:
    """Rows whose column x holds `values`; the label is y unless x is."""
    x = values if isinstance(values, pa.Array) else pa.array(values, kind)
    table = pa.table({"x": x, "d": ["a"] * len(x), "y": [0] * len(x)})
    label = () if any(isinstance(c, Label) for c in columns) else (Label("y"),)
    return Schema.fit(table, [*columns, *label, Domain("d")], source="f").encode(table)


@pytest.mark.parametrize(
    ("values", "least", "labels"),
    [
        ([1, 3, 4, 5], 4, [0, 0, 1, 1]),
        ([1.0, 3.4, 3.5, math.pi], 3.5, [0, 0, 1, 0]),
        ([3, 4], 3.5, [0, 1]),
        ([2**53, 2**53 + 1], float(2**53), [1, 1]),
        ([2**53 - 1, 2**53, 2**53 + 1], 2**53 + 1, [0, 0, 1]),  # no rounding to floats
        ([True, False], 1, [1, 0]),
        ([-3, 0], -2, [0, 1]),
        (pa.array(np.array([3, 3.5], np.float16)), 3.5, [0, 1]),
    ],
)
def test_a_rating_becomes_a_label(values: Any, least: float, labels: list[int]):
    found = encode(values, Label("x", at_least=least)).label
    assert found is not None
    assert found.dtype == np.float32
    assert found.tolist() == labels


@pytest.mark.parametrize(
    ("values", "column", "words"),
    [
        ([DAY], Label("x"), r"'x' holds date32\[day\] values. Store 0 for no click"),
        ([DAY], Label("x", at_least=3), "'x' holds date32.* It is compared with 3"),
        ([datetime.datetime(2020, 1, 1)], Label("x"), "'x' holds timestamp"),
        (["0", "1"], Label("x"), "'x' holds string"),
        ([[1], [0]], Label("x"), "'x' holds list"),
        ([0, None], Label("x"), r"^f: .*'x' is null in row 1 \(counted from 0\)"),
        ([0, 5], Label("x"), "'x' is 5 in row 1 .*give at_least for ratings"),
        ([0.0, math.nan], Label("x"), "'x' is nan in row 1"),
        ([5, None], Label("x", at_least=4), "'x' is null in row 1 .*A rating must be"),
        ([5.0, math.nan], Label("x", at_least=4), "'x' is nan in row 1"),
        ([math.inf, 1.0], Label("x", at_least=4), "'x' is inf in row 0"),
        (["1"], Weight("x"), "Weight column 'x' holds string"),
        ([1.0, None], Weight("x"), "'x' is null in row 1"),
        ([1.0, math.nan], Weight("x"), "'x' is nan in row 1"),
        ([1.0, math.inf], Weight("x"), "'x' is inf in row 1"),
        ([1.0, -0.5], Weight("x"), r"'x' is -0.5 in row 1 .*from 0 on"),
        ([1.0, 1e39], Weight("x"), r"'x' is 1e\+39 in row 1"),
        (["2020-01-01"], Time("x"), "Time column 'x' holds string"),
        ([1.5], Time("x"), "'x' holds double .*seconds since 1970"),
        ([DAY, None], Time("x"), "'x' is null in row 1"),
        (pa.array([2**64 - 1], pa.uint64()), Time("x"), "'x' does not fit 64 bits"),
    ],
)
def test_values_that_are_none(values: Any, column: Column, words: str):
    with pytest.raises(DataError, match=words):
        encode(values, column)
    name = column.name
    good = pa.table({name: [0, 1], "d": ["a", "a"], "y": [0, 1]})
    label = () if isinstance(column, Label) else (Label("y"),)
    schema = Schema.fit(good, [column, *label, Domain("d")])
    bad = pa.table({name: values, "d": ["a"] * len(values), "y": [0] * len(values)})
    with pytest.raises(DataError, match=words):
        schema.encode(bad, source="f")
    assert schema.encode(bad, with_label=False).domain.tolist() == [1] * len(values)


def test_labels_of_16_bits():
    found = encode(pa.array(np.array([0, 1, 1], np.float16)), Label("x")).label
    assert found is not None
    assert found.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match="'x' is null in row 1"):
        encode([0.0, None], Label("x"), kind=pa.float16())


def test_weights():
    found = encode([0, 2.5, 7], Weight("x"))
    assert found.weight is not None
    assert found.weight.dtype == np.float32
    assert found.weight.tolist() == [0, 2.5, 7]
    assert found.time is None
    assert found.missing == {}
    assert found.cut == {}
    assert encode([1, 2], Weight("x"), kind=pa.uint8()).weight is not None


# 2020-01-02 is 18263 days after 1970-01-01: 50 years of 365 days, 12 leap days, and 1 day more.
SECONDS = (50 * 365 + 12 + 1) * 86400


@pytest.mark.parametrize(
    ("values", "kind", "seconds"),
    [
        ([SECONDS, -1], pa.int64(), [SECONDS, -1]),
        ([5, 6], pa.uint32(), [5, 6]),
        ([DAY, datetime.date(1969, 12, 31)], pa.date32(), [SECONDS, -86400]),
        ([DAY, datetime.date(1969, 12, 31)], pa.date64(), [SECONDS, -86400]),
        ([SECONDS, 3], pa.timestamp("s"), [SECONDS, 3]),
        ([1999, -1], pa.timestamp("ms"), [1, -1]),  # rounded down on both sides of 1970
        ([SECONDS * 10**6 + 999_999, 0], pa.timestamp("us"), [SECONDS, 0]),
        ([SECONDS * 10**9 - 1, 0], pa.timestamp("ns", tz="Asia/Tokyo"), [SECONDS - 1, 0]),
    ],
)
def test_times(values: Any, kind: pa.DataType, seconds: list[int]):
    found = encode(values, Time("x"), kind=kind)
    assert found.time is not None
    assert found.time.dtype == np.int64
    assert found.time.tolist() == seconds
    assert found.weight is None
