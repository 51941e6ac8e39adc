"""From clicks to labelled, split rows: what the data sets that hold clicks alone have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mdlora.data.prepare.negatives import (
    SplitRule,
    check_click_ratio,
    check_split_rule,
    distinct_rows,
    sample_negatives,
    split_codes,
)
from mdlora.errors import ConfigError
from mdlora.seeds import derive_seed

__all__ = ["Impressions", "Recipe", "make_impressions"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How negatives are sampled and rows are split.

    Raises:
        ConfigError: a value is not one of those allowed.
    """

    split_rule: SplitRule
    """"paper": all rows once, by domain and label; "released": as the papers' authors published."""

    ratio: Sequence[float]
    """Each domain draws its clicks over negatives from this range."""

    seed: int
    """Of the ratios, the negatives and the split."""

    def __post_init__(self) -> None:
        check_split_rule(self.split_rule)
        check_click_ratio(self.ratio)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed={self.seed!r} must be a whole number, at least 0.")

    def to_json(self) -> dict[str, Any]:
        """The settings as plain values, for a summary."""
        return {"ratio": list(self.ratio), "split_rule": self.split_rule, "seed": self.seed}


@dataclass(frozen=True, eq=False)
class Impressions:
    """N rows, the distinct clicks first (in their order), then the sampled negatives."""

    domain: Ids
    user: Ids
    item: Ids

    label: npt.NDArray[np.int8]
    """(N,) 1 for a click."""

    codes: npt.NDArray[np.int8]
    """(N,) 0 train, 1 validation, 2 test."""

    sampling: dict[str, Any]
    """Counts for a summary: clicks, repeated ones (dropped), negatives, and those that are short
    of the recipe; of each domain its clicks, repeated ones, negatives, shortfall and ratio."""


def make_impressions(
    domain: Ids, user: Ids, item: Ids, names: Sequence[str], recipe: Recipe
) -> Impressions:
    """Drop repeated clicks, draw negatives, split 3:1:1.

    Args:
        domain: (N,) indices into `names`; each domain has clicks.
        user: (N,) ids.
        item: (N,) ids.
        names: the domains.
        recipe: how to draw and split.
    """
    first = distinct_rows(domain, user, item)
    clicks = (domain[first], user[first], item[first])
    drawn = sample_negatives(
        *clicks, ratio=recipe.ratio, seed=derive_seed(recipe.seed, "negatives")
    )
    both = zip(clicks, (drawn.domain, drawn.user, drawn.item), strict=True)
    rows = [np.concatenate(pair) for pair in both]
    label = np.zeros(rows[0].size, dtype=np.int8)
    label[: clicks[0].size] = 1
    codes = split_codes(
        recipe.split_rule, rows[0], rows[1], label, seed=derive_seed(recipe.seed, "split")
    )
    given, kept, negatives = (
        np.bincount(part, minlength=len(names)).tolist()
        for part in (domain, clicks[0], drawn.domain)
    )
    sampling = {
        "clicks": sum(given),
        "repeated_clicks": sum(given) - sum(kept),
        "negatives": sum(negatives),
        "shortfall": sum(drawn.shortfall.values()),
        "domains": {
            name: {
                "clicks": given[place],
                "repeated_clicks": given[place] - kept[place],
                "negatives": negatives[place],
                "shortfall": drawn.shortfall[place],
                "ratio": drawn.ratios[place],
            }
            for place, name in enumerate(names)
        },
    }
    return Impressions(rows[0], rows[1], rows[2], label, codes, sampling)
