"""Hashes of raw values, the same on every machine and in every version.

Integers: SplitMix64 (Steele, Lea and Flood 2014), the first output of a generator that starts at
the value, taken as 64 unsigned bits. Strings: FNV-1a with 64 bits (Fowler, Noll and Vo) of the
UTF-8 bytes.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mdlora.schema.arrow import Ids

__all__ = ["Hashes", "bucket_ids", "expected_collisions", "fnv1a", "splitmix64", "text_hashes"]

Hashes: TypeAlias = npt.NDArray[np.uint64]

_BLOCK = 1 << 16  # rows whose hashes stay in the cache while their bytes go by


def bucket_ids(plain: Any, num_buckets: int) -> Ids:
    """Ids from 1 to `num_buckets` of plain values (N,), int64 or large_string without nulls."""
    whole = plain.type == pa.int64()
    hashes = splitmix64(plain.to_numpy()) if whole else text_hashes(plain)
    return (hashes % np.uint64(num_buckets)).astype(np.int64) + 1


def text_hashes(plain: Any) -> Hashes:
    """FNV-1a of strings (N,), an array of large_string or a chunked one, without nulls."""
    chunks = plain.chunks if isinstance(plain, pa.ChunkedArray) else [plain]
    return np.concatenate([np.empty(0, np.uint64), *map(fnv1a, chunks)])


def splitmix64(values: npt.NDArray[np.int64]) -> Hashes:
    """SplitMix64 of integers (N,)."""
    mixed = values.astype(np.uint64)  # two's complement, a copy
    mixed += np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def fnv1a(texts: pa.LargeStringArray) -> Hashes:
    """FNV-1a of the UTF-8 bytes of strings (N,), without nulls."""
    unique = texts.dictionary_encode()  # most columns repeat few strings: each is hashed once
    words = unique.dictionary
    lengths = pc.binary_length(words).to_numpy()
    _, places, data = words.buffers()
    first = np.frombuffer(places, dtype=np.int64)[words.offset : words.offset + len(words)]
    text = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, np.uint8)
    hashes = np.full(len(words), 0xCBF29CE484222325, dtype=np.uint64)
    order = np.argsort(-lengths, kind="stable")  # those with a byte at position p come first
    for start in range(0, len(words), _BLOCK):
        rows = order[start : start + _BLOCK]
        hashes[rows] = _hash_block(text, first[rows], lengths[rows])
    result: Hashes = hashes[unique.indices.to_numpy()]
    return result


def _hash_block(text: npt.NDArray[np.uint8], first: Ids, lengths: Ids) -> Hashes:
    """Hashes of strings that begin at `first`, the longest first: one byte of all at a time."""
    hashes = np.full(len(first), 0xCBF29CE484222325, dtype=np.uint64)
    longest = int(lengths[0])
    reach = np.searchsorted(-lengths, -np.arange(longest), side="left")
    for position in range(longest):
        some = hashes[: reach[position]]
        some ^= text[first[: reach[position]] + position]
        some *= np.uint64(0x100000001B3)
    return hashes


def expected_collisions(num_values: int, num_buckets: int) -> float:
    """How many of `num_values` distinct values are expected to share a bucket with another.

    With n values in m buckets, each of the other n - 1 misses a value's bucket with probability
    1 - 1/m, so that n (1 - (1 - 1/m)^(n - 1)) values are not alone.
    """
    if num_values < 2:
        return 0.0
    if num_buckets == 1:
        return float(num_values)
    return -num_values * math.expm1((num_values - 1) * math.log1p(-1 / num_buckets))
