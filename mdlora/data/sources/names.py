"""What the usual names of columns in click logs mean."""

from __future__ import annotations

import re

__all__ = ["DOMAINS", "ITEMS", "LABELS", "RATINGS", "TIMES", "USERS", "WEIGHTS", "is_id", "stem"]

LABELS = (
    "label", "click", "clicked", "is_click", "is_clicked", "clk", "target", "y", "conversion",
    "converted", "is_conversion", "purchase", "purchased", "is_purchase", "buy", "bought", "like",
    "liked", "is_like", "response", "outcome", "engagement", "engaged",
)  # fmt: skip
"""Columns that say what came of a row; the first ones win."""

RATINGS = ("rating", "ratings", "rate", "star", "stars", "overall")
"""Columns of grades, which become a label above some grade."""

DOMAINS = (
    "domain", "scenario", "scene", "market", "marketplace", "theme", "country", "region", "site",
    "surface", "placement", "channel", "tab", "vertical", "store", "tenant", "category",
    "categories",
)  # fmt: skip
"""Columns that say where a row comes from; the first ones win."""

USERS = ("user", "u", "customer", "member", "visitor", "reviewer", "account", "buyer", "consumer")
ITEMS = (
    "item", "i", "movie", "product", "ad", "adgroup", "asin", "parent_asin", "sku", "video",
    "article", "news", "song", "track", "book", "goods", "offer", "creative", "poi", "restaurant",
)  # fmt: skip

TIMES = (
    "time", "timestamp", "time_stamp", "ts", "event_time", "unix_time", "unixtime", "datetime",
    "date", "created_at", "epoch", "unix_review_time",
)  # fmt: skip
WEIGHTS = ("weight", "sample_weight")

_ENDINGS = ("_id", "_name", "_code", "_key", "_no")


def stem(name: str) -> str:
    """The name in lower case with underscores, without an ending such as "_id"."""
    low = _snake(name)
    for ending in _ENDINGS:
        if low.endswith(ending) and len(low) > len(ending):
            return low.removesuffix(ending)
    short = low.removesuffix("id")
    return short if short in (*USERS, *ITEMS, *DOMAINS) else low


def is_id(name: str) -> bool:
    """Whether a name says that the column holds identifiers."""
    low = _snake(name)
    return low.endswith(("_id", "_code", "_key", "_no", "_type", "_class")) or stem(name) != low


def _snake(name: str) -> str:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[\W_]+", "_", parted).strip("_").lower()
