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
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from mdlora.config.checks import counted
from mdlora.data.prepare.click_folder import IdColumn, write_impressions
from mdlora.data.prepare.click_groups import ClickGroups, Clicks, group_clicks
from mdlora.data.prepare.click_splits import SplitRule
from mdlora.data.prepare.given_vectors import VectorTable
from mdlora.data.prepare.impressions import Recipe, make_impressions
from mdlora.data.prepare.negatives import CLICK_RATIO
from mdlora.data.prepare.pieces import Codes, code_type, count_codes, slices, without_gaps
from mdlora.data.prepare.progress import PrepareProgress, silent
from mdlora.data.prepare.taobao_files import CloudThemeFiles, ThemeClicks
from mdlora.errors import ConfigError, DataError
from mdlora.files import check_new_directory
from mdlora.schema import Role
from mdlora.seeds import derive_seed

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
    Memory is bounded as that of `prepare_clicks`; all clicks of the log count.

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
    import polars as pl

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
    del log
    report("sampling negatives", 0.4)
    names = [str(theme) for theme in chosen.themes.tolist()]
    rows = make_impressions(chosen.clicks, names, recipe)
    report("reading vectors", 0.5)
    columns: dict[str, IdColumn] = {}
    repeated: dict[str, int] = {}
    for side, ids in zip(_SIDES, (chosen.users, chosen.items), strict=True):
        table = files.vectors(side, ids)
        given = VectorTable(np.arange(ids.size), table.vectors)
        columns[side] = IdColumn(side, pl.Series(f"{side}_id", ids), given, linear)
        repeated[f"{side}s"] = table.repeated
    return write_impressions(
        out,
        rows,
        columns["user"],
        columns["item"],
        pl.Series("theme_id", chosen.themes),
        source=f"Taobao Cloud Theme Click, {themes} themes ({raw})",
        options={"themes": themes, "pick": pick, "linear": linear, **recipe.to_json()},
        sampling={**chosen.left_out, **rows.sampling, "vectors_given_again": repeated},
        progress=lambda text, share: report(text, 0.8 + 0.2 * share),
    )


class _Chosen(NamedTuple):
    """Distinct clicks of the chosen themes that have vectors, and what was left out."""

    clicks: ClickGroups
    """Their codes are places in `themes`, `users` and `items`."""
    themes: Ids
    users: Ids
    items: Ids
    """Sorted, as are the users."""
    left_out: dict[str, int]


def _choose(log: ThemeClicks, files: CloudThemeFiles, themes: int, pick: str, seed: int) -> _Chosen:
    with_user, with_item = (
        files.with_vector(side, column.values.to_numpy())[column.codes]
        for side, column in zip(_SIDES, (log.user, log.item), strict=True)
    )
    has_both = with_user & with_item
    if not has_both.any():
        raise DataError(
            f"{files.raw}: of {counted(has_both.size, 'click')} none has vectors of both its user "
            "and its item. The log and the vectors must be of one release."
        )
    theme = log.theme.codes
    in_order = np.argsort(_first_places(theme, log.theme.num_values))  # vectors or not
    has_clicks = count_codes(theme[has_both], log.theme.num_values) > 0
    candidates = in_order[has_clicks[in_order]]
    if candidates.size < themes:
        raise ConfigError(
            f"themes={themes}, but the log has {counted(candidates.size, 'theme')} with clicks "
            f"whose user and item have vectors. Choose at most {candidates.size}."
        )
    places = candidates[:themes]
    if pick == "random":
        rng = np.random.default_rng(derive_seed(seed, "themes"))
        places = candidates[np.sort(rng.choice(candidates.size, themes, replace=False))]
    is_chosen = np.zeros(log.theme.num_values, dtype=bool)
    is_chosen[places] = True
    keep = has_both & is_chosen[theme]
    domain_of = np.zeros(log.theme.num_values, dtype=code_type(themes))
    domain_of[places] = np.arange(themes)
    user, users = without_gaps(log.user.codes[keep], log.user.num_values)
    item, items = without_gaps(log.item.codes[keep], log.item.num_values)
    return _Chosen(
        group_clicks(Clicks(domain_of[theme[keep]], user, item)),
        log.theme.values.to_numpy()[places],
        log.user.values.to_numpy()[users],
        log.item.values.to_numpy()[items],
        {
            "log_clicks": keep.size,
            "without_user_vector": int(np.count_nonzero(~with_user)),
            "without_item_vector": int(np.count_nonzero(~with_item)),
            "without_vectors": int(np.count_nonzero(~has_both)),
            "of_other_themes": int(np.count_nonzero(has_both & ~keep)),
            "log_themes": log.theme.num_values,
            "empty_themes": log.theme.num_values - candidates.size,
        },
    )


def _first_places(codes: Codes, num: int) -> Ids:
    """Where each code below `num` stands first, (num,); all are there."""
    first = np.full(num, codes.size)
    for part in slices(codes.size):
        there, place = np.unique(codes[part], return_index=True)
        first[there] = np.minimum(first[there], part.start + place)
    return first


def _check_options(themes: int, pick: str) -> None:
    if isinstance(themes, bool) or not isinstance(themes, int) or themes < 2:
        raise ConfigError(
            f"themes={themes!r} must be a whole number, at least 2: with one there is no domain "
            "to tell from another."
        )
    if pick not in get_args(ThemePick):
        raise ConfigError(f"pick={pick!r} is not known: choose first or random.")
