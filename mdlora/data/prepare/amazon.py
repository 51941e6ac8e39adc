"""Amazon's reviews: a domain is a category of products, and every review counts as a click.

The data is that of Ni, Li and McAuley 2019 (https://nijianmo.github.io/amazon) and of its older and
newer releases; `amazon_files` says which forms are read. The papers' Amazon-6 is made of the files
`*_5.json.gz` (users and items with five reviews or more) of Musical Instruments, Office Products,
Patio Lawn and Garden, Prime Pantry, Toys and Games, and Video Games. Whatever stars a review gives,
it is a positive row; a user's further reviews of one item in a category are dropped and counted
(the published code keeps those with other stars, so the same row could be trained and tested on).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mdlora.data.prepare.amazon_files import read_reviews
from mdlora.data.prepare.amazon_ratings import CsvOrder
from mdlora.data.prepare.impressions import Recipe, make_impressions
from mdlora.data.prepare.negatives import CLICK_RATIO, SplitRule
from mdlora.data.prepare.progress import PrepareProgress, silent
from mdlora.data.write import prepare_rows, write_dataset
from mdlora.errors import ConfigError
from mdlora.files import check_new_directory
from mdlora.schema import Categorical, Domain, Label

__all__ = ["category_files", "prepare_amazon"]

_PREFIX = re.compile(r"^(reviews|ratings)_")
_SUFFIX = re.compile(r"(_\d+)?\.(jsonl?|csv)(\.gz)?$")


def category_files(files: Sequence[str | Path]) -> dict[str, Path]:
    """Categories by name from `NAME=FILE`, or from file names alone, in the order given.

    `reviews_Musical_Instruments_5.json.gz`, `ratings_Musical_Instruments.csv` and
    `Musical_Instruments.csv` are all "Musical Instruments".

    Raises:
        ConfigError: two files of one category, or an empty name.
    """
    named: dict[str, Path] = {}
    for text in map(str, files):
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            path = text
            name = _PREFIX.sub("", _SUFFIX.sub("", Path(text).name)).replace("_", " ")
        if not name.strip() or not path:
            raise ConfigError(f"{text!r} is no category: give FILE, or NAME=FILE.")
        if name in named:
            raise ConfigError(
                f"{named[name]} and {path} are both the category {name!r}. "
                "Name them apart: NAME=FILE."
            )
        named[name] = Path(path)
    return named


def prepare_amazon(
    categories: Mapping[str, str | Path],
    *,
    out: str | Path,
    ratio: Sequence[float] = CLICK_RATIO,
    split_rule: SplitRule = "paper",
    csv_order: CsvOrder = "auto",
    skip_bad_lines: bool = False,
    seed: int = 1,
    progress: PrepareProgress | None = None,
) -> dict[str, Any]:
    """Write reviews of two or more categories as a data folder and return its summary.

    Its columns are user_id, item_id, category (the domain) and label. The summary's `sampling`
    says for each category what became of its lines, and how many negatives were drawn.

    Args:
        categories: each category's file, by name; `category_files` makes them of file names.
        out: the folder to make.
        ratio: each category's reviews over its negatives is drawn uniformly from this range.
        split_rule: "paper" (once, stratified by category and label) or "released" (as the
            published code splits: the test split has a lower click rate).
        csv_order: which columns come first in ratings without a header; "auto" looks.
        skip_bad_lines: leave out lines that are no review and count them, rather than refuse them.
        seed: of the negatives and the split.
        progress: called as the work goes on.

    Raises:
        ConfigError: an option is not one of those allowed, or there are fewer than two categories.
        DataError: a file is missing or damaged, holds no review, or a line is no review.
        RunError: `out` is there already or cannot be written.
    """
    import polars as pl

    if csv_order not in get_args(CsvOrder):
        raise ConfigError(
            f"csv_order={csv_order!r} is not known: choose {', '.join(get_args(CsvOrder))}."
        )
    if len(categories) < 2:
        raise ConfigError(f"Give the files of two or more categories, got {len(categories)}.")
    recipe = Recipe(ratio=ratio, split_rule=split_rule, seed=seed)
    check_new_directory(out)
    report = progress or silent

    names = list(categories)
    parts: list[pl.DataFrame] = []
    bad_lines: list[int] = []
    for place, (name, path) in enumerate(categories.items()):
        report(f"reading {name}", 0.6 * place / len(names))
        reviews = read_reviews(Path(path), csv_order=csv_order, skip_bad_lines=skip_bad_lines)
        parts.append(reviews.rows)
        bad_lines.append(reviews.bad_lines)
    sizes = [part.height for part in parts]
    domain = np.repeat(np.arange(len(names)), sizes)
    every = pl.concat(parts)
    del parts
    ids, codes = {}, {}
    for side in ("user", "item"):
        values = every[side].unique().sort()
        ids[side] = values.cast(pl.Enum(values))
        codes[side] = every[side].cast(ids[side].dtype).to_physical().cast(pl.Int64).to_numpy()
    del every

    report("sampling negatives", 0.6)
    rows = make_impressions(domain, codes["user"], codes["item"], names, recipe)
    table = pl.DataFrame(
        {
            "user_id": ids["user"].gather(rows.user),
            "item_id": ids["item"].gather(rows.item),
            "category": pl.Series(names, dtype=pl.Enum(names)).gather(rows.domain),
            "label": rows.label,
        }
    )
    report("fitting the schema", 0.7)
    prepared = prepare_rows(
        table,
        rows.codes,
        [
            Categorical("user_id", role="user"),
            Categorical("item_id", role="item"),
            Domain("category", tuple(names)),
            Label("label"),
        ],
        source=f"Amazon reviews of {len(names)} categories",
        options={
            "files": {name: str(path) for name, path in categories.items()},
            "csv_order": csv_order,
            "skip_bad_lines": skip_bad_lines,
            **recipe.to_json(),
        },
    )
    del table
    for name, count in zip(names, bad_lines, strict=True):
        rows.sampling["domains"][name]["bad_lines"] = count
    sampling = {"bad_lines": sum(bad_lines), **rows.sampling}
    prepared = replace(prepared, summary={**prepared.summary, "sampling": sampling})
    report("writing", 0.8)
    summary = write_dataset(out, prepared)
    report("writing", 1.0)
    return summary
