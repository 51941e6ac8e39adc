"""Looking up few strings in a large vocabulary gives the ids that a dictionary gives."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlora.schema import Vocabulary, vocabulary
from mdlora.schema.hashing import text_hashes

TEXTS = st.text(max_size=6)


def by_dictionary(values: tuple[str, ...], texts: list[str]) -> list[int]:
    known = {value: place for place, value in enumerate(values, 1)}
    return [known.get(text, 0) for text in texts]


@settings(deadline=None, derandomize=True, max_examples=100)
@given(
    others=st.lists(TEXTS, max_size=40),
    new=st.lists(TEXTS, max_size=8),
    picked=st.lists(st.integers(0, 199), max_size=8),
)
def test_few_strings_are_searched(others: list[str], new: list[str], picked: list[int]):
    values = tuple(dict.fromkeys([*others, *(f"value {i}" for i in range(200))]))
    texts = [*new, *(f"value {i}" for i in picked)]  # 16 at most: 8 times fewer than values
    looked_up = Vocabulary("u", values)
    half = len(texts) // 2
    for column in (pa.chunked_array([texts], pa.string()),
                   pa.chunked_array([texts[:half], texts[half:]], pa.large_string()),
                   pa.chunked_array([["no", *texts]], pa.string()).slice(1)):  # fmt: skip
        assert looked_up.encode(column).tolist() == by_dictionary(values, texts)
    many = texts * 40
    assert looked_up.encode(pa.chunked_array([many], pa.string())).tolist() == by_dictionary(
        values, many
    )


@pytest.mark.parametrize("hashes", [2, 1000])
def test_strings_of_one_hash_are_told_apart(hashes: int, monkeypatch: pytest.MonkeyPatch):
    """A poor hash: of the values, with 2 hashes many share one; of the rest, with 1000 too."""
    monkeypatch.setattr(
        vocabulary, "text_hashes",
        lambda plain: np.array([int(t[1:]) % hashes for t in plain.to_pylist()], np.uint64),
    )  # fmt: skip
    values = tuple(f"u{i}" for i in range(100))
    texts = ["u3", "u1003", "u99", "u2099", "u100"]
    found = Vocabulary("u", values).encode(pa.chunked_array([texts]))
    assert found.tolist() == [4, 0, 100, 0, 0]


def test_hashes_of_chunks_are_those_of_the_whole():
    texts = [f"t{i % 7}" for i in range(20)]
    whole = text_hashes(pa.array(texts, pa.large_string()))
    parts = pa.chunked_array([texts[:3], [], texts[3:]], pa.large_string())
    assert np.array_equal(text_hashes(parts), whole)
    assert len(set(whole.tolist())) == 7


def test_one_row_takes_no_time_to_look_up():
    """After the first call, without a hash table of all values: that takes 100 times as long."""
    values = tuple(f"user {i}" for i in range(200_000))
    looked_up = Vocabulary("u", values)
    row = pa.chunked_array([["user 123456"]])
    assert looked_up.encode(row).tolist() == [123457]
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        looked_up.encode(row)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.002
