"""What a data folder of clicks and negatives holds, counted block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mdlora.config.checks import counted
from mdlora.data.layout import SPLIT_NAMES
from mdlora.data.leakage import Leakage, count_leakage
from mdlora.data.prepare.impressions import LEFT_OUT, Impressions
from mdlora.data.prepare.pieces import Codes, count_at, num_codes
from mdlora.errors import DataError

__all__ = ["ImpressionCounts", "find_leakage"]


class ImpressionCounts:
    """Rows of each split by domain, user and item (S splits; D domains, U users, V items)."""

    def __init__(self, rows: Impressions) -> None:
        codes = rows.clicks.clicks
        self._domains = _zeros(codes.domain, 2)  # (S, D, 2) by label
        self._ids = {"user": _zeros(codes.user), "item": _zeros(codes.item)}  # (S, U), (S, V)
        for block in rows.blocks():
            kept = block.pick(block.split != LEFT_OUT)
            count_at(self._domains, kept.split, kept.domain, kept.label)
            count_at(self._ids["user"], kept.split, kept.user)
            count_at(self._ids["item"], kept.split, kept.item)

    def domains(self) -> npt.NDArray[np.intp]:
        """The domains that have rows, ascending."""
        return np.flatnonzero(self._domains.any(axis=(0, 2)))

    def trained(self, side: str) -> npt.NDArray[np.intp]:
        """The users (`side` "user") or items ("item") that have training rows, ascending."""
        return np.flatnonzero(self._ids[side][0])

    def check(self, names: Sequence[Any]) -> None:
        """Refuse an empty split, and domains (their `names`) without training rows.

        Raises:
            DataError: the message names the split or the domain.
        """
        sizes = self._domains.sum(axis=2)
        for split, rows in zip(SPLIT_NAMES, sizes.sum(axis=1), strict=True):
            if not rows:
                raise DataError(
                    f"The {split} split is empty ({counted(int(sizes.sum()), 'row')} in all). "
                    "Each split needs rows: use more data or another ratio."
                )
        for split, own in zip(SPLIT_NAMES, sizes, strict=True):
            unseen = np.flatnonzero((own > 0) & (sizes[0] == 0))
            if unseen.size:
                num = int(own[unseen].sum())
                more = f"{split} rows are of such domains"
                raise DataError(
                    f"Domain {names[unseen[0]]!r} has rows in {split} but no training rows "
                    f"({counted(num, f'{split} row is of such a domain', more)}). "
                    "Drop these rows, or split again so that each domain has training rows."
                )

    def to_json(
        self, names: Mapping[str, str], domains: Sequence[str], known: Mapping[str, Codes]
    ) -> dict[str, Any]:
        """`total` and `splits` as in summary.json.

        Args:
            names: the fields "user", "item" and "domain".
            domains: the names of `domains()`.
            known: the users and items that are in the schema's vocabulary.
        """
        there = self.domains()
        splits: dict[str, Any] = {}
        for code, split in enumerate(SPLIT_NAMES):
            rows, clicks = self._domains[code].sum(axis=1), self._domains[code, :, 1]
            unseen = {
                names[side]: int(counts[code].sum() - counts[code, known[side]].sum())
                for side, counts in self._ids.items()
            }
            splits[split] = {
                "rows": int(rows.sum()),
                **{f"{s}s": int(np.count_nonzero(n[code])) for s, n in self._ids.items()},
                "click_rate": _rate(clicks.sum(), rows.sum()),
                "unseen": {**unseen, names["domain"]: 0},
                "missing": {},
                "cut": {},
                "domains": {
                    name: {"rows": int(rows[d]), "click_rate": _rate(clicks[d], rows[d])}
                    for name, d in zip(domains, there, strict=True)
                },
            }
        ids = {f"{s}s": int(np.count_nonzero(n.any(axis=0))) for s, n in self._ids.items()}
        return {"total": {"rows": int(self._domains.sum()), **ids}, "splits": splits}


def find_leakage(rows: Impressions, names: Sequence[str]) -> Leakage:
    """Rows of one user, item and domain (the columns `names`) in two splits."""
    found = (
        count_leakage((block.user, block.item, block.domain), block.split, names=names)
        for block in rows.by_key()
    )
    return sum(found, start=next(found))


def _zeros(codes: Codes, *more: int) -> npt.NDArray[np.int64]:
    return np.zeros((len(SPLIT_NAMES), num_codes(codes), *more), dtype=np.int64)


def _rate(clicks: int, rows: int) -> float | None:
    return int(clicks) / int(rows) if rows else None
