"""Taobao's Cloud Theme Click data: a domain is a theme, users and items come with given vectors.

The data is that of Du et al. 2019 (arXiv:1906.00391), files at
https://tianchi.aliyun.com/dataset/9716; `taobao_files` says which columns are read. A click is a
positive row. Clicks whose user or item has no vector are dropped, then N themes are chosen, then a
user's repeated clicks on one item of a theme; negatives are drawn from the items that anyone
clicked in the theme (as in the papers; the theme's pool of items is not used).

The published code takes the first N themes of the log, as `pick="first"` does, and gives users and
items no weights in the linear part, as `linear=False` does, the default of `split_rule="released"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from mdlora.data.prepare.impressions import Impressions, Recipe, make_impressions
from mdlora.data.prepare.negatives import CLICK_RATIO, SplitRule
from mdlora.data.prepare.progress import PrepareProgress, silent
from mdlora.data.prepare.taobao_files import CloudThemeFiles, ThemeClicks
from mdlora.data.write import prepare_rows, write_dataset
from mdlora.errors import ConfigError, DataError
from mdlora.files import check_new_directory
from mdlora.schema import Domain, Label, Role, Vector
from mdlora.seeds import derive_seed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ThemePick", "prepare_taobao"]

ThemePick: TypeAlias = Literal["first", "random"]
Ids = npt.NDArray[np.int64]

_SIDES: tuple[Role, Role] = ("user", "item")


def prepare_taobao(
    raw: str | Path,
    *,
    out: str | Path,
    themes: int = 10,
    pick: ThemePick = "first",
    ratio: Sequence[float] = CLICK_RATIO,
    split_rule: SplitRule = "paper",
    linear: bool | None = None,
    seed: int = 1,
    progress: PrepareProgress | None = None,
) -> dict[str, Any]:
    """Write the Cloud Theme Click data as a data folder and return its summary.

    Its columns are user_id and item_id (which only select the vectors `user_vector` and
    `item_vector`, never trained), theme_id (the domain) and label. The summary's `sampling` says
    what became of each click of the log and of each theme, and how many negatives were drawn.

    Args:
        raw: the folder of the files, plain or gzipped.
        out: the folder to make.
        themes: how many themes; the papers have 10, 20 and 30.
        pick: "first": the first to appear in the log among those that have clicks left; "random":
            drawn by `seed` from these.
        ratio: each theme's clicks over its negatives is drawn uniformly from this range.
        split_rule: "paper" (once, stratified by theme and label) or "released" (as the published
            code splits: the test split has a lower click rate).
        linear: whether a model's linear part has a weight for each user and item; by default
            under the rule "paper" and not under "released".
        seed: of the themes, the negatives and the split.
        progress: called as the work goes on.

    Raises:
        ConfigError: an option is not one of those allowed, or there are not so many themes.
        DataError: a file is missing, damaged or wrong, or no click has vectors.
        RunError: `out` is there already or cannot be written.
    """
    _check_options(themes, pick)
    recipe = Recipe(ratio=ratio, split_rule=split_rule, seed=seed)
    linear = split_rule == "paper" if linear is None else linear
    check_new_directory(out)
    report = progress or silent
    files = CloudThemeFiles(Path(raw))
    report("reading clicks", 0.0)
    log = files.clicks()
    report("reading which users and items have vectors", 0.1)
    chosen = _choose(log, files, themes, pick, seed)
    report("sampling negatives", 0.4)
    names = [str(theme) for theme in chosen.themes.tolist()]
    rows = make_impressions(chosen.domain, chosen.user, chosen.item, names, recipe)
    report("reading vectors", 0.5)
    columns: list[Vector] = []
    vectors: dict[str, npt.NDArray[np.float32]] = {}
    repeated: dict[str, int] = {}
    for side, given in zip(_SIDES, (rows.user, rows.item), strict=True):
        ids = np.unique(given)
        table = files.vectors(side, ids)
        name, width = f"{side}_vector", table.vectors.shape[1]
        keys = tuple(ids.tolist())
        columns.append(Vector(name, width, key=f"{side}_id", values=keys, linear=linear, role=side))
        vectors[name] = table.vectors
        repeated[f"{side}s"] = table.repeated
    report("writing", 0.8)
    prepared = prepare_rows(
        _table(rows, chosen.themes),
        rows.codes,
        [*columns, Domain("theme_id", tuple(chosen.themes.tolist())), Label("label")],
        source=f"Taobao Cloud Theme Click, {themes} themes ({raw})",
        options={"themes": themes, "pick": pick, "linear": linear, **recipe.to_json()},
        vectors=vectors,
    )
    sampling = {**chosen.left_out, **rows.sampling, "vectors_given_again": repeated}
    prepared = replace(prepared, summary={**prepared.summary, "sampling": sampling})
    summary = write_dataset(out, prepared)
    report("writing", 1.0)
    return summary


class _Chosen(NamedTuple):
    """Clicks of the chosen themes that have vectors, (N,) each, and what was left out."""

    domain: Ids
    """Places in `themes`."""
    user: Ids
    item: Ids
    themes: Ids
    left_out: dict[str, int]


def _choose(log: ThemeClicks, files: CloudThemeFiles, themes: int, pick: str, seed: int) -> _Chosen:
    with_user = np.isin(log.user, files.vector_ids("user"))
    with_item = np.isin(log.item, files.vector_ids("item"))
    has_both = with_user & with_item
    if not has_both.any():
        raise DataError(
            f"{files.raw}: none of the {log.user.size} clicks has vectors of both its user and its "
            "item. The log and the vectors must be of one release."
        )
    known, first, theme = np.unique(log.theme, return_index=True, return_inverse=True)
    in_order = np.argsort(first)  # by first appearance in the log, vectors or not
    has_clicks = np.bincount(theme[has_both], minlength=known.size) > 0
    candidates = in_order[has_clicks[in_order]]
    if candidates.size < themes:
        raise ConfigError(
            f"themes={themes}, but the log has {candidates.size} themes with clicks whose user and "
            f"item have vectors. Choose at most {candidates.size}."
        )
    places = candidates[:themes]
    if pick == "random":
        rng = np.random.default_rng(derive_seed(seed, "themes"))
        places = candidates[np.sort(rng.choice(candidates.size, themes, replace=False))]
    domain_of = np.full(known.size, -1, dtype=np.int64)
    domain_of[places] = np.arange(themes)
    domain = domain_of[theme]
    keep = has_both & (domain >= 0)
    return _Chosen(
        domain[keep],
        log.user[keep],
        log.item[keep],
        known[places],
        {
            "log_clicks": int(log.user.size),
            "without_user_vector": int(np.count_nonzero(~with_user)),
            "without_item_vector": int(np.count_nonzero(~with_item)),
            "without_vectors": int(np.count_nonzero(~has_both)),
            "of_other_themes": int(np.count_nonzero(has_both & (domain < 0))),
            "log_themes": int(known.size),
            "empty_themes": int(known.size - candidates.size),
        },
    )


def _table(rows: Impressions, themes: Ids) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {
            "user_id": rows.user,
            "item_id": rows.item,
            "theme_id": themes[rows.domain],
            "label": rows.label,
        }
    )


def _check_options(themes: int, pick: str) -> None:
    if isinstance(themes, bool) or not isinstance(themes, int) or themes < 2:
        raise ConfigError(
            f"themes={themes!r} must be a whole number, at least 2: with one there is no domain "
            "to tell from another."
        )
    if pick not in get_args(ThemePick):
        raise ConfigError(f"pick={pick!r} is not known: choose first or random.")
