"""Part of the training clicks is set apart, and makes the vectors of users and items."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mdlora.data.layout import SPLIT_NAMES
from mdlora.data.prepare.given_vectors import ClickVectors, click_vectors
from mdlora.data.prepare.impressions import Impressions
from mdlora.data.splits import stratified_split
from mdlora.seeds import derive_seed

__all__ = ["SetApart", "set_apart"]


class SetApart(NamedTuple):
    """What `set_apart` makes of rows, by its `share`."""

    vectors: ClickVectors
    rows: Impressions
    figures: dict[str, Any]
    """Counts for a summary: clicks used, negatives left out, users and items that have a vector,
    and for each split the rows that lack the user's, the item's, or either vector."""


def set_apart(rows: Impressions, *, width: int, share: float, drop: bool, seed: int) -> SetApart:
    """Vectors of a share of each domain's training clicks, and the rows that stay.

    With the clicks leaves the same share of each domain's training negatives, drawn at random.

    Args:
        rows: clicks and negatives with their split codes.
        width: of the vectors.
        share: of the training clicks, between 0 and 1.
        drop: also drop rows, of all splits, whose user or item has no vector.
        seed: of the share and of the vectors.

    Raises:
        DataError: there are too few clicks for vectors of this width.
    """
    train = np.flatnonzero(rows.codes == 0)
    parts = stratified_split(
        rows.domain[train],
        rows.label[train],
        ratio=(share, 1 - share),
        seed=derive_seed(seed, "vector share"),
    )
    leaving = train[parts == 0]
    used = leaving[rows.label[leaving] == 1]
    made = click_vectors(
        rows.user[used], rows.item[used], width=width, seed=derive_seed(seed, "vectors")
    )
    stay = np.ones(len(rows.label), dtype=bool)
    stay[leaving] = False
    left = _pick(rows, stay)
    no_user = ~np.isin(left.user, made.user.ids)
    no_item = ~np.isin(left.item, made.item.ids)
    lacking = {"user": no_user, "item": no_item, "either": no_user | no_item}
    figures = {
        "width": width,
        "clicks_used": len(used),
        "negatives_left_out": len(leaving) - len(used),
        "users": len(made.user.ids),
        "items": len(made.item.ids),
        "rows_without": {
            name: {what: int(mask[left.codes == code].sum()) for what, mask in lacking.items()}
            for code, name in enumerate(SPLIT_NAMES)
        },
    }
    return SetApart(made, _pick(left, ~lacking["either"]) if drop else left, figures)


def _pick(rows: Impressions, keep: npt.NDArray[np.bool_]) -> Impressions:
    return replace(
        rows,
        domain=rows.domain[keep],
        user=rows.user[keep],
        item=rows.item[keep],
        label=rows.label[keep],
        codes=rows.codes[keep],
    )
