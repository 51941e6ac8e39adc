"""A data folder from a table of clicks alone: negatives are sampled, vectors made if asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from mdlora.data.prepare.click_folder import LABEL, IdColumn, write_impressions
from mdlora.data.prepare.click_groups import ClickGroups, Clicks, group_clicks
from mdlora.data.prepare.click_splits import SplitRule
from mdlora.data.prepare.given_vectors import parse_vectors
from mdlora.data.prepare.impressions import Recipe, make_impressions
from mdlora.data.prepare.negatives import CLICK_RATIO
from mdlora.data.prepare.numbered import read_numbered
from mdlora.data.prepare.progress import PrepareProgress, silent
from mdlora.data.prepare.vector_share import set_apart
from mdlora.data.sources import MixedColumn
from mdlora.errors import ConfigError
from mdlora.files import check_new_directory

if TYPE_CHECKING:
    import polars as pl

__all__ = ["WithoutVector", "prepare_clicks"]

WithoutVector: TypeAlias = Literal["zero", "drop"]

_VECTORS = ("user_vector", "item_vector")
_SHARE = 0.5


def prepare_clicks(
    path: str | Path,
    *,
    out: str | Path,
    user: str = "user_id",
    item: str = "item_id",
    domain: str = "domain",
    ratio: Sequence[float] = CLICK_RATIO,
    split_rule: SplitRule = "paper",
    seed: int = 1,
    vectors: str | None = None,
    vector_share: float = _SHARE,
    without_vector: WithoutVector = "zero",
    linear: bool = False,
    progress: PrepareProgress | None = None,
) -> dict[str, Any]:
    """Write a table of clicks and sampled negatives as a data folder; return its summary.

    Each user of a domain gets `int(clicks / ratio)` items of the domain that the user did not
    click there (`sample_negatives`); repeated clicks are dropped and counted first. The rows are
    split 3:1:1 by `split_rule` (`split_codes`).

    With `vectors`, models are given vectors of users and items in place of trained embeddings:

    1. Rows are drawn and split as without vectors, so validation and test rows are the same.
    2. Of each domain's training clicks a share, drawn at random, is set apart; the vectors are made
       of these alone (`click_vectors`), all domains together.
    3. Those clicks leave the training rows, and so does the same share of each domain's training
       negatives, drawn at random: the click rate stays. (What a vector was made of is no longer to
       be predicted, neither in training nor in testing, and no negative is an item that its user
       clicked in that domain, set apart or not.)
    4. A user or item without a click in the share has no vector: zeros, or its rows are dropped.

    A CSV column that is text though most of its cells are integers stands in the summary under
    "read_as_text", with the first other cell, its file and its line (for which the file is read
    once more, up to that line).

    The files are read once, batch by batch. Memory, beside the 0.4 GB of Python and its libraries,
    is at most 0.4 GB, 45 bytes for each click, 15 for each negative, 200 for each different user
    and item, and 40 for each number of a vector.

    Args:
        path: Parquet or CSV, a row is a click: a file (CSV gzipped or not), a folder, a glob or a
            URL.
        out: the folder to make.
        user: the column of users, whole numbers or text.
        item: the column of items, likewise.
        domain: the column of domains, likewise.
        ratio: each domain's clicks over its negatives is drawn uniformly from this range.
        split_rule: "paper" (once, stratified by domain and label) or "released" (as the papers'
            authors published it: the test split has a lower click rate).
        seed: of all that is drawn.
        vectors: "svd:WIDTH", or None for ids whose embeddings are trained.
        vector_share: the share of the training clicks that the vectors are made of.
        without_vector: "zero" keeps rows whose user or item has no vector, "drop" drops them from
            every split; either way they are counted by split.
        linear: with vectors, whether a model's linear part has a weight for each user and item.
        progress: called as the work goes on.

    Raises:
        ConfigError: an option is not one of those allowed, or needs `vectors`.
        DataError: a file is missing, damaged or wrong, a split or a domain's training split is
            empty, or there are too few clicks for vectors of this width.
        MissingExtraError: a URL needs fsspec.
        RunError: `out` is there already or cannot be written.
    """
    names = {"user": user, "item": item, "domain": domain}
    recipe = Recipe(split_rule=split_rule, ratio=ratio, seed=seed)
    options: dict[str, Any] = {**names, **recipe.to_json()}
    _check_vector_options(vectors, vector_share, without_vector, linear)
    if vectors is not None:
        options |= {
            "vectors": vectors,
            "vector_share": vector_share,
            "without_vector": without_vector,
            "linear": linear,
        }
    _check_names(names, vectors is not None)
    check_new_directory(out)

    report = progress or silent
    report("reading clicks", 0.0)
    values, groups, mixed = _read_clicks(path, names)
    report("sampling negatives", 0.3)
    domains = [str(value) for value in values["domain"].to_list()]
    rows = make_impressions(groups, domains, recipe)
    sampling: dict[str, Any] = rows.sampling
    user_column, item_column = IdColumn("user", values["user"]), IdColumn("item", values["item"])
    if vectors is not None:
        report("making vectors", 0.5)
        made, rows, figures = set_apart(
            rows,
            width=parse_vectors(vectors),
            share=vector_share,
            drop=without_vector == "drop",
            seed=seed,
        )
        sampling = {**sampling, "vectors": figures}
        user_column = replace(user_column, vectors=made.user, linear=linear)
        item_column = replace(item_column, vectors=made.item, linear=linear)
    return write_impressions(
        out,
        rows,
        user_column,
        item_column,
        values["domain"],
        source=f"clicks of {path}",
        options=options,
        sampling=sampling,
        read_as_text={column.name: column.to_json() for column in mixed},
        progress=lambda text, share: report(text, 0.7 + 0.3 * share),
    )


def _read_clicks(
    path: str | Path, names: Mapping[str, str]
) -> tuple[dict[str, pl.Series], ClickGroups, list[MixedColumn]]:
    """The different ids, the distinct clicks as codes of them, and what a few cells make text."""
    columns = read_numbered(path, list(names.values()))
    parts = Clicks(*(columns[names[part]].codes for part in Clicks._fields))
    values = {part: columns[name].values for part, name in names.items()}
    return values, group_clicks(parts), [c.mixed for c in columns.values() if c.mixed]


def _check_names(names: Mapping[str, str], with_vectors: bool) -> None:
    taken = [*names.values(), LABEL, *(_VECTORS if with_vectors else ())]
    for part, name in names.items():
        if taken.count(name) > 1:
            raise ConfigError(
                f"{part}={name!r}: user, item and domain need a column each, and none may be "
                f"called {', '.join(taken[3:])}. Rename the column."
            )


def _check_vector_options(
    vectors: str | None, vector_share: float, without_vector: str, linear: bool
) -> None:
    if without_vector not in get_args(WithoutVector):
        raise ConfigError(f"without_vector={without_vector!r} is not known: choose zero or drop.")
    if not 0 < vector_share < 1:
        raise ConfigError(
            f"vector_share={vector_share} must lie between 0 and 1: "
            "the share of the training clicks that vectors are made of."
        )
    if vectors is not None:
        parse_vectors(vectors)
    elif vector_share != _SHARE or without_vector != "zero" or linear:
        raise ConfigError(
            "vector_share, without_vector and linear say what to do with vectors, "
            "but there are none. Add vectors, for example svd:64, or leave these out."
        )
