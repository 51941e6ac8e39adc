"""Amazon's ratings as CSV: which columns hold the user, the item and the rating."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from mdlora.data.prepare.amazon_lines import Blocks, Pair, checked_pair, checked_pairs
from mdlora.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["ITEM_NAMES", "USER_NAMES", "CsvLayout", "CsvOrder", "find_layout"]

CsvOrder: TypeAlias = Literal["auto", "user-item", "item-user"]

USER_NAMES = ("reviewerID", "user_id")
ITEM_NAMES = ("parent_asin", "asin")
"""Names that the releases give to users and items; the first one that is there counts."""

_ITEM_LENGTH = 10


@dataclass(frozen=True)
class CsvLayout:
    """Where the user, the item and the rating stand, and how many columns there are."""

    user: int
    item: int
    rating: int
    columns: int

    def parse(self, block: bytes) -> pl.DataFrame | None:
        """The pairs of a block, or None where a line is bad."""
        import polars as pl

        names = [f"column {place}" for place in range(self.columns)]
        try:
            table = pl.read_csv(
                io.BytesIO(block),
                has_header=False,
                quote_char=None,
                schema=dict.fromkeys(names, pl.String),
                raise_if_empty=False,
            )
        except (pl.exceptions.PolarsError, UnicodeDecodeError):
            return None
        last = pl.col(names[-1]).str.strip_suffix("\r")
        table = table.with_columns(last)
        ratings = table[names[self.rating]].cast(pl.Float64, strict=False)
        too_short = block.count(b",") != (self.columns - 1) * table.height
        if too_short or ratings.null_count() or not ratings.is_finite().all():
            return None
        return checked_pairs(table.select(user=names[self.user], item=names[self.item]))

    def pair(self, line: bytes) -> Pair | str:
        """The pair of one line, or what is expected in its place."""
        try:
            cells = line.decode("utf-8").rstrip("\r").split(",")
        except UnicodeDecodeError:
            return "expected UTF-8 text"
        if len(cells) != self.columns:
            return f"expected {self.columns} values with commas between"
        if not _is_number(cells[self.rating]):
            return f"expected a number as the rating (value {self.rating + 1})"
        return checked_pair(cells[self.user], cells[self.item])


def find_layout(path: Path, blocks: Blocks, order: CsvOrder) -> tuple[CsvLayout, Blocks]:
    """The layout, told from the first block, and the blocks without a header.

    Raises:
        DataError: the first line is neither a rating nor a header with the names needed, or `order`
            is "auto" and it cannot be told users from items.
    """
    first_line, block = next(blocks, (1, b""))
    if not block:
        return CsvLayout(0, 1, 2, 4), blocks
    block = block.removeprefix(b"\xef\xbb\xbf")
    head, _, after = block.partition(b"\n")
    cells = [cell.strip() for cell in head.decode("utf-8", "replace").split(",")]
    rest = _chain((first_line, block), blocks)
    if len(cells) == 4 and _is_number(cells[2]):
        if order == "auto":
            order = _guess_order(path, block)
        user = 0 if order == "user-item" else 1
        return CsvLayout(user, 1 - user, 2, 4), rest
    user, item, rating = (
        next((cells.index(name) for name in names if name in cells), -1)
        for names in ((*USER_NAMES, "user"), (*ITEM_NAMES, "item"), ("rating", "overall"))
    )
    if min(user, item, rating) < 0:
        raise DataError(
            f"{path}, line 1: got {','.join(cells)!r:.80}, expected user,item,rating,timestamp or "
            "item,user,rating,timestamp, or a header with user_id, parent_asin (or asin) and "
            "rating."
        )
    layout = CsvLayout(user, item, rating, len(cells))
    return layout, _chain((first_line + 1, after), blocks)


def _guess_order(path: Path, block: bytes) -> CsvOrder:
    """Items have ids of 10 characters, and users others."""
    lines = [line.split(b",", 2) for line in block.split(b"\n", 1000)[:1000]]
    pairs = [line for line in lines if len(line) == 3]
    shares = [sum(len(p[side]) == _ITEM_LENGTH for p in pairs) / len(pairs) for side in (0, 1)]
    if max(shares) < 0.9 or min(shares) > 0.5:
        raise DataError(
            f"{path}: cannot tell users from items: of the first two columns, one should hold ids "
            "of 10 characters (the items) and the other longer ones. Say which it is: "
            "--csv-order user-item or --csv-order item-user."
        )
    return "item-user" if shares[0] > shares[1] else "user-item"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", text) is not None


def _chain(first: tuple[int, bytes], rest: Blocks) -> Blocks:
    if first[1]:
        yield first
    yield from rest
