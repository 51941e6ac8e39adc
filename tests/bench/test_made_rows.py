from __future__ import annotations

import math

import torch

from mdlora.bench.made import make_rows, make_schema


def test_columns_are_as_asked() -> None:
    schema = make_schema([50, 7], domains=3, numbers=2)
    assert schema.field_names == ("c1", "c2", "domain")
    assert schema.num_ids == (51, 8, 4)
    assert [column.name for column in schema.dense] == ["n1", "n2"]
    rows = make_rows(schema, 4000, skewed=False)
    assert rows.dense is not None
    assert rows.dense.shape == (4000, 2)
    assert set(rows.label.tolist()) == {0.0, 1.0}
    assert torch.equal(rows.domain, rows.categories[:, 2])
    assert rows.categories.equal(make_rows(schema, 4000, skewed=False).categories)
    for column, size in enumerate((50, 7, 3)):
        counts = rows.categories[:, column].bincount(minlength=size + 1)
        assert counts[0] == 0
        assert len(counts) == size + 1
        # Each value has 4000/size rows, give or take five standard deviations.
        assert (counts[1:] - 4000 / size).abs().max() < 5 * math.sqrt(4000 / size)


def test_shares_fall_as_one_over_the_rank() -> None:
    # P(rank <= k) = log(1 + k) / log(1 + n): of 1000 values, the first has 10.0 % of the rows and
    # the first 31 have half. A standard deviation is at most 0.4 points here.
    schema = make_schema([1000], domains=2)
    ids = make_rows(schema, 20_000, skewed=True).categories[:, 0]
    assert ids.min() == 1
    assert ids.max() <= 1000
    assert abs((ids == 1).double().mean() - math.log(2) / math.log(1001)) < 0.012
    assert abs((ids <= 31).double().mean() - math.log(32) / math.log(1001)) < 0.018
