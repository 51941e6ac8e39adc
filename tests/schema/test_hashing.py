from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mdlora
from mdlora.errors import SchemaError
from mdlora.schema import Domain, Hashed, Label, Schema, expected_collisions
from mdlora.schema.hashing import fnv1a, splitmix64

MASK = 2**64 - 1


def splitmix_by_hand(value: int) -> int:
    """The published algorithm in whole numbers."""
    z = (value + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def fnv_by_hand(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def encode(values: pa.Array, num_buckets: int) -> list[int]:
    n = len(values)
    table = pa.table({"h": values, "d": ["a"] * n, "y": [0] * n})
    schema = Schema.fit(table, [Hashed("h", num_buckets), Domain("d"), Label("y")])
    rows = schema.encode(table)
    assert rows.unseen["h"] == 0
    return rows.categories[:, 0].tolist()


def test_published_values():
    # SplitMix64 from seeds 0 and 1234567: the first outputs printed with the reference code.
    # The generator's second output from 0 is the first from its increment, 2**64 less as int64.
    values = np.array([0, 1234567, 0x9E3779B97F4A7C15 - 2**64])
    assert [hex(v) for v in splitmix64(values).tolist()] == [
        "0xe220a8397b1dcdaf",
        hex(6457827717110365317),
        "0x6e789e6aa1b965f4",
    ]
    # FNV-1a 64: the test vectors of its authors (draft-eastlake-fnv)
    texts = pa.array(["", "a", "foobar"], pa.large_string())
    assert [hex(v) for v in fnv1a(texts).tolist()] == [
        "0xcbf29ce484222325",
        "0xaf63dc4c8601ec8c",
        "0x85944171f73967e8",
    ]


def test_ids_by_hand():
    # 0xe220a8397b1dcdaf % 1000 = 16294208416658607535 % 1000 = 535, and the id is one more
    assert encode(pa.array([0, 0]), 1000) == [536, 536]
    # 0xaf63dc4c8601ec8c % 1000 = 12638187200555641996 % 1000 = 996
    assert encode(pa.array(["a"]), 1000) == [997]
    assert encode(pa.array([5, -5, 2**63 - 1]), 1) == [1, 1, 1]


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    numbers=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=20),
    num_buckets=st.integers(1, 2**40),
    cut=st.integers(0, 20),
)
def test_hashes_are_those_of_the_plain_loop(numbers, texts, num_buckets, cut):
    ids = encode(pa.array(numbers, pa.int64()), num_buckets)
    assert ids == [1 + splitmix_by_hand(value) % num_buckets for value in numbers]
    chunks = pa.chunked_array([texts[:cut], texts[cut:]], type=pa.string())
    assert encode(chunks, num_buckets) == [1 + fnv_by_hand(t) % num_buckets for t in texts]
    assert encode(pa.array(texts).dictionary_encode(), num_buckets) == encode(chunks, num_buckets)


def test_long_strings_and_slices():
    texts = ["x" * 3000, "", "y", "x" * 2999]
    found = fnv1a(pa.array(["skipped", *texts], pa.large_string()).slice(1))
    assert found.tolist() == [fnv_by_hand(text) for text in texts]


def test_64_bit_neighbours_have_their_own_hashes():
    big = np.array([2**63 - 1, 2**63 - 2, 2**53, 2**53 + 1, -(2**63)])
    assert len(set(splitmix64(big).tolist())) == 5


def test_a_number_is_not_its_text():
    table = pa.table({"h": [1, 2], "d": ["a", "a"], "y": [0, 1]})
    schema = Schema.fit(table, [Hashed("h", 50), Domain("d"), Label("y")])
    schema = Schema.from_json(schema.to_json())
    texts = table.set_column(0, "h", pa.array(["1", "2"]))
    with pytest.raises(SchemaError, match=r"'h' holds string .*fitted on 64-bit integer"):
        schema.encode(texts)
    with pytest.raises(
        SchemaError, match=r"'h' holds integers, but its setting holds is 'strings'"
    ):
        Schema.fit(table, [Hashed("h", 50, holds="strings"), Domain("d"), Label("y")])


def test_expected_collisions():
    assert expected_collisions(1, 1) == expected_collisions(0, 5) == 0
    assert expected_collisions(7, 1) == 7
    # Two values in m buckets share one with probability 1/m, and then both do.
    assert expected_collisions(2, 10) == pytest.approx(0.2)
    # Three values in two buckets: (3 values) x (1 - 1/4) are not alone.
    assert expected_collisions(3, 2) == pytest.approx(2.25)
    # By simulation: 2000 values in 5000 buckets, 40 times.
    rng = np.random.default_rng(0)
    shared = []
    for _ in range(40):
        counts = np.bincount(rng.integers(0, 5000, 2000))
        shared.append(int(counts[counts > 1].sum()))
    assert np.mean(shared) == pytest.approx(expected_collisions(2000, 5000), rel=0.02)


def test_the_documented_table():
    text = (Path(mdlora.__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r'^\| `?("\w*"|\d+)`? \| `(0x\w+)` \| (\d+) \|$', text, re.MULTILINE)
    assert len(rows) == 5
    for value, wanted, id_ in rows:
        plain = json.loads(value)
        of = fnv_by_hand(plain) if isinstance(plain, str) else splitmix_by_hand(plain)
        assert (hex(of), 1 + of % 1000) == (wanted, int(id_))
        assert encode(pa.array([plain]), 1000) == [int(id_)]
