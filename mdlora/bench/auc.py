"""AUC by domain, beside scikit-learn's over rows brought together by domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mdlora.bench.case import BenchCase
from mdlora.bench.results import cases_table, compare_spreads, describe_run, make_case, spread_of
from mdlora.bench.timing import Epoch, time_rounds
from mdlora.config import check_count
from mdlora.errors import MissingExtraError
from mdlora.metrics import grouped_auc
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress

__all__ = ["CASE", "auc_table", "run_auc_bench"]

_SECONDS_BAR, _BAR_ROWS = 2.5, 10_000_000
_CLICKS = 0.3


def run_auc_bench(
    *,
    rows: int = 10_000_000,
    domains: int = 1000,
    runs: int = 5,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure the AUC of every domain, from random float32 scores in random order.

    scikit-learn gets the rows of one domain at a time; sorting rows by domain, by a stable radix
    sort where ids have 16 bits, counts for both.

    Args:
        rows: of all domains.
        domains: all equally likely.
        runs: rounds; the medians count.
        progress: told of each measurement.

    Returns:
        {"cases": [...], "machine", "date", "versions", "runs", "rows", "domains", "spread"}. The
        bar is 2.5 CPU seconds for 10 million rows, in proportion to `rows`.

    Raises:
        ConfigError: a number is below 1.
        MissingExtraError: scikit-learn is not installed.
    """
    for name, value in (("rows", rows), ("domains", domains), ("runs", runs)):
        check_count(name, value, low=1)
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise MissingExtraError(
            "The comparison needs scikit-learn. Install it with: pip install mdlora[bench]"
        ) from error
    rng = np.random.default_rng(1)
    scores = rng.normal(size=rows).astype(np.float32)
    groups = rng.integers(0, domains, rows)
    labels = (rng.random(rows) < _CLICKS).astype(np.float32)
    ids = groups.astype(np.uint16 if domains <= 1 << 16 else np.int64)

    def by_us() -> object:
        return grouped_auc(
            torch.from_numpy(scores), torch.from_numpy(labels), torch.from_numpy(groups), domains
        )

    def theirs() -> list[float]:
        order = np.argsort(ids, kind="stable")
        ends = np.cumsum(np.bincount(ids, minlength=domains))
        parts = zip(
            np.split(labels[order], ends[:-1]), np.split(scores[order], ends[:-1]), strict=True
        )
        return [roc_auc_score(y, s) for y, s in parts if 0 < y.sum() < y.size]

    epochs = {
        "mdlora": Epoch(by_us, rows, rows),
        "scikit-learn": Epoch(theirs, rows, rows),
    }
    taken = time_rounds(epochs, runs, progress or SilentProgress())
    spread = {name: spread_of([took.cpu for took in found]) for name, found in taken.items()}
    ours, unit = spread["mdlora"], "CPU seconds"
    limit = _SECONDS_BAR * rows / _BAR_ROWS
    name = f"grouped AUC, {rows:,} rows, {domains:,} domains"
    cases = [
        make_case(name, ours["median"], "bar", limit, unit, bar=("at_most", 1)),
        compare_spreads(
            name, ours, "scikit-learn", spread["scikit-learn"], unit, bar=("at_most", 0.5)
        ),
    ]
    return {
        "cases": [{**case, "threads": 1} for case in cases],
        **describe_run(1, "torch", "numpy", "scikit-learn"),
        "runs": runs,
        "rows": rows,
        "domains": domains,
        "spread": spread,
    }


def auc_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"AUC by domain: medians of {result['runs']} runs ({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


CASE = BenchCase(
    about="The AUC of every domain, beside scikit-learn over rows grouped by domain.",
    example="mdlora bench auc --rows 10000000 --domains 1000 --json auc.json",
    run=run_auc_bench,
    table=auc_table,
    options={
        "rows": "rows of all domains",
        "domains": "how many domains",
        "runs": "rounds; medians count",
    },
    small={"rows": 2000, "domains": 5, "runs": 1},
)
