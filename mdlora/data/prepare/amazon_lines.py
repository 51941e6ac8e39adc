"""What both forms of Amazon's review files share: blocks of lines, and pairs of user and item."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mdlora.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Blocks", "Pair", "checked_pair", "checked_pairs", "read_blocks"]

Pair: TypeAlias = tuple[str, str]
"""A user and an item."""

Blocks: TypeAlias = Iterator[tuple[int, bytes]]
"""Whole lines, and the number of the first one, counted from 1."""

_BLOCK_BYTES = 1 << 24
_LONGEST_LINE = 1 << 26
_ID = re.compile(r"[^\s\[\]{}\",]+")


def read_blocks(path: Path) -> Blocks:
    """A plain or gzipped file in blocks of about 16 MiB.

    Raises:
        DataError: it is damaged or cut short, or a line is over 64 MiB long.
    """
    line, rest = 1, b""
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            while data := file.read(_BLOCK_BYTES):
                cut = data.rfind(b"\n") + 1
                if not cut and len(rest) + len(data) > _LONGEST_LINE:
                    raise DataError(f"{path}, line {line} is over 64 MiB long: not a review file.")
                if not cut:
                    rest += data
                    continue
                block, rest = rest + data[:cut], data[cut:]
                yield line, block
                line += block.count(b"\n")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read from line {line} on: it is damaged or was cut short ({error}). "
            "Download it again."
        ) from error
    if rest:
        yield line, rest


def checked_pairs(pairs: pl.DataFrame) -> pl.DataFrame | None:
    """The columns `user` and `item` as they are, or None where a value is no id."""
    import polars as pl

    whole = pl.all().str.contains(f"^{_ID.pattern}$").fill_null(False).all()
    return pairs if all(pairs.select(whole).row(0)) else None


def checked_pair(user: str, item: str) -> Pair | str:
    """The pair, or what is expected in its place."""
    if not (_ID.fullmatch(user) and _ID.fullmatch(item)):
        return "expected ids without spaces, quotes or brackets"
    return user, item
