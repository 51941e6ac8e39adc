"""Amazon's review files, one a category, read block by block.

Two forms, each plain or gzipped:

* JSON lines (`reviews_Video_Games_5.json.gz`, `Video_Games_5.json.gz`): of each review the user
  (`reviewerID`, in the release of 2023 `user_id`) and the item (`asin`, there `parent_asin`) are
  read.
* Ratings (`ratings_Video_Games.csv`, `Video_Games.csv`): without a header the columns are
  user,item,rating,timestamp in the release of 2014 and item,user,rating,timestamp in that of 2018;
  which of the two is told from the items, whose ids all have 10 characters. With a header (2023)
  they are found by name.

The fast path parses a block at once; only if a check fails are its lines walked through, to say
which one is wrong or to leave it out.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mdlora.config.checks import counted
from mdlora.data.prepare.amazon_lines import Pair, checked_pair, checked_pairs, read_blocks
from mdlora.data.prepare.amazon_ratings import ITEM_NAMES, USER_NAMES, CsvOrder, find_layout
from mdlora.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Reviews", "read_reviews"]


class Reviews(NamedTuple):
    """Columns `user` and `item` (strings), a row a review, in the file's order; lines left out."""

    rows: pl.DataFrame
    bad_lines: int


def read_reviews(
    path: Path, *, csv_order: CsvOrder = "auto", skip_bad_lines: bool = False
) -> Iterator[Reviews]:
    """All reviews of one file, block by block.

    Args:
        path: a file of one of the two forms; `.json` or `.csv` (and `.gz`) in its name say which.
        csv_order: the first two columns of ratings without a header.
        skip_bad_lines: leave out lines that are no review, and count them.

    Raises:
        DataError: no such file, it is cut short, holds no review, or a line is no review.
    """
    form = _form(path)
    blocks = read_blocks(path)
    if form == "json":
        parse, walk = _parse_json, _pair_of_json
    else:
        layout, blocks = find_layout(path, blocks, csv_order)
        parse, walk = layout.parse, layout.pair
    num_rows = bad_lines = 0
    for first_line, block in blocks:
        rows, bad = parse(block), 0
        if rows is None:
            rows, bad = _walk(path, first_line, block, walk, skip_bad_lines)
        num_rows += rows.height
        bad_lines += bad
        yield Reviews(rows, bad)
    if not num_rows:
        more = f" ({counted(bad_lines, 'bad line')})" if bad_lines else ""
        raise DataError(f"{path} holds no reviews{more}. A category needs some: leave it out.")


def _form(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"There is no file {path}{' (it is a folder)' if path.is_dir() else ''}.")
    name = path.name.removesuffix(".gz")
    if name.endswith((".json", ".jsonl")):
        return "json"
    if name.endswith(".csv"):
        return "csv"
    raise DataError(
        f"{path}: the name ends neither in .json nor in .csv (with or without .gz), so it cannot "
        "be told whether it holds reviews as JSON lines or ratings. Rename it."
    )


def _walk(
    path: Path, first_line: int, block: bytes, pair_of: Callable[[bytes], Pair | str], skip: bool
) -> tuple[pl.DataFrame, int]:
    """The reviews of a block line by line; a bad line is counted or refused."""
    import polars as pl

    pairs: list[Pair] = []
    bad = 0
    for number, line in enumerate(block.split(b"\n"), first_line):
        if not line.strip():
            continue
        pair = pair_of(line)
        if not isinstance(pair, str):
            pairs.append(pair)
        elif skip:
            bad += 1
        else:
            shown = line.decode("utf-8", "replace").strip()
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            raise DataError(
                f"{path}, line {number}: {pair}, got {shown!r}. Mend or remove the line, or leave "
                "out such lines and have them counted: --skip-bad-lines."
            )
    schema = {"user": pl.String, "item": pl.String}
    return pl.DataFrame(pairs, schema=schema, orient="row"), bad


def _parse_json(block: bytes) -> pl.DataFrame | None:
    """The pairs of a block, or None where a line is bad."""
    import polars as pl

    try:
        table = pl.read_ndjson(
            io.BytesIO(block), schema=dict.fromkeys((*USER_NAMES, *ITEM_NAMES), pl.String)
        )
    except (pl.exceptions.PolarsError, UnicodeDecodeError):
        return None
    return checked_pairs(table.select(user=pl.coalesce(*USER_NAMES), item=pl.coalesce(*ITEM_NAMES)))


def _pair_of_json(line: bytes) -> Pair | str:
    try:
        review = json.loads(line)
    except (ValueError, RecursionError):
        return "expected a review as one JSON object"
    if not isinstance(review, dict):
        return "expected a review as one JSON object"
    user, item = (
        next((review[key] for key in keys if review.get(key) is not None), None)
        for keys in (USER_NAMES, ITEM_NAMES)
    )
    if not all(isinstance(value, str | int) for value in (user, item)):
        return "expected a review with reviewerID and asin"
    return checked_pair(str(user), str(item))
