"""Training speed with many columns: Criteo's shape, and more and more columns of ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdlora.bench.case import BenchCase
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.network import Network
from mdlora.bench.peers import FASTEST, PACKAGES, load_peers
from mdlora.bench.results import Bar, cases_table, compare_spreads, describe_run
from mdlora.bench.sweep import (
    BACKBONE,
    DEFAULT,
    WAYS,
    curves_of,
    our_way,
    spread_by,
    time_beside,
)
from mdlora.bench.timing import Epoch, cpu_rates, time_rounds
from mdlora.config import check_count
from mdlora.errors import ConfigError
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.batches import PhaseRows
from mdlora.training.environment import use_threads

__all__ = ["CASE", "columns_table", "run_columns_bench"]

_BATCH = 4096
_IDS, _NUMBERS = 26, 13
_SMALLEST, _LARGEST = 10, 1_000_000
_SWEPT_VALUES = 10_000
_BARS: dict[str, Bar] = {"DeepCTR-Torch": ("at_least", 4.0), "torch-rechub": ("at_least", 3.0)}


def run_columns_bench(
    *,
    rows: int = 1_000_000,
    peer_rows: int = 40_960,
    columns: tuple[int, ...] = (3, 10, 30, 100),
    swept_rows: int = 40_960,
    largest: int = _LARGEST,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure DeepFM on 26 columns of ids and 13 of numbers, and on 3 to 100 columns of ids.

    Batches are of 4096 rows, embeddings 8 wide, towers 256-128-64 with dropout 0.5. Of the 26
    columns the smallest has 10 values, the next ones more in equal ratios; shares of values fall
    as one over their rank. Swept columns have 10,000 values each. Ours counts the whole epoch,
    and bringing rarely touched rows up to date at its end where the optimizer puts that off.

    Args:
        rows: of an epoch of ours.
        peer_rows: the first of them, at most all, which the others and our dense optimizer train
            on: their steps cost the same in every part of an epoch.
        columns: how many columns of ids are swept, the domain among them; 2 at least.
        swept_rows: rows of an epoch of the sweep.
        largest: values of the largest of the 26 columns.
        runs: rounds; the medians count.
        threads: CPU threads of everybody.
        progress: told of each measurement.

    Returns:
        As `run_train_bench`, with "rows" of the epoch and "curves" of the sweep.

    Raises:
        MissingExtraError: DeepCTR-Torch or torch-rechub is not installed.
        ConfigError: a number is too small.
    """
    for name, value in (("rows", rows), ("peer_rows", peer_rows), ("swept_rows", swept_rows),
                        ("runs", runs), ("threads", threads)):  # fmt: skip
        check_count(name, value, low=1)
    check_count("largest", largest, low=_SMALLEST)
    for number in columns:
        check_count("columns", number, low=2)
    if peer_rows > rows:
        raise ConfigError(f"peer_rows={peer_rows} is above rows={rows}; give fewer.")
    load_peers()
    progress = progress or SilentProgress()
    with use_threads(threads):
        wide = _measure_wide(rows, peer_rows, largest, runs, progress)
        swept = {number: _measure_swept(number, swept_rows, runs, progress) for number in columns}
    spread: dict[str, Any] = {f"criteo {name}": found for name, found in wide.items()}
    spread |= spread_by("{} columns", swept)
    return {
        "cases": [{**case, "threads": threads} for case in _cases(wide, barred=threads == 1)],
        **describe_run(threads, "torch", "numpy", *PACKAGES),
        "runs": runs,
        "rows": rows,
        "batch_size": _BATCH,
        "spread": spread,
        "curves": curves_of(
            "columns", "columns of ids", f"CPU ms of a step of {_BATCH:,} rows", swept
        ),
    }


def columns_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"{_IDS} columns of ids and {_NUMBERS} of numbers: medians of {result['runs']} runs, "
        f"{result['rows']:,} rows ({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _measure_wide(
    rows: int, peer_rows: int, largest: int, runs: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Rows per CPU second by name, on Criteo's shape."""
    growth = (largest / _SMALLEST) ** (1 / (_IDS - 1))
    smallest, *others = (round(_SMALLEST * growth**i) for i in range(_IDS))
    schema = make_schema(others, domains=smallest, numbers=_NUMBERS)
    progress.note(f"making {rows:,} rows")
    every = make_rows(schema, rows, skewed=True)
    few = PhaseRows.with_expert(every.slice(0, peer_rows))
    epochs: dict[str, Epoch] = {}
    for way in WAYS:
        training = our_way(way, schema, few if way == "mdlora dense" else every, _BATCH)
        epochs[way] = training.settled_epoch
    network = Network(schema=schema, backbone=BACKBONE, batch_size=_BATCH)
    epochs |= {name: build(network, few) for name, build in FASTEST.items()}
    seconds = time_rounds(epochs, runs, progress, warm_up=True)
    return {name: cpu_rates(epochs[name], took) for name, took in seconds.items()}


def _measure_swept(
    number: int, rows: int, runs: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of a step by name, with so many columns of ids."""
    schema = make_schema([_SWEPT_VALUES] * (number - 1), domains=2)
    chosen = make_rows(schema, rows, skewed=True)
    ours = {way: our_way(way, schema, chosen, _BATCH).settled_epoch for way in WAYS}
    progress.note(f"{number} columns")
    return time_beside(ours, schema, chosen, _BATCH, runs, progress)


def _cases(wide: Mapping[str, Any], *, barred: bool) -> Iterator[dict[str, Any]]:
    for way in sorted(WAYS, key=lambda way: way != DEFAULT):
        for peer in FASTEST:
            yield compare_spreads(
                f"criteo {way}",
                wide[way],
                peer,
                wide[peer],
                "rows per CPU second",
                bar=_BARS.get(peer) if barred and way == DEFAULT else None,
            )


CASE = BenchCase(
    about="DeepFM on 26 columns of ids with 10 to a million values and 13 of numbers, batches of "
    "4096 rows, beside DeepCTR-Torch, torch-rechub and a plain PyTorch loop; then on more and "
    "more columns of ids.",
    example="mdlora bench columns --columns 3,30,100 --json columns.json",
    run=run_columns_bench,
    table=columns_table,
    options={
        "rows": "rows of an epoch of ours",
        "peer_rows": "the first of them, for competitors, whose steps all cost the same",
        "columns": "how many columns of ids are swept",
        "swept_rows": "rows of an epoch of the sweep",
        "largest": "values of the largest of the 26 columns",
        "runs": "rounds; medians count",
        "threads": "CPU threads of everybody",
    },
    small={
        "rows": 4096,
        "peer_rows": 4096,
        "columns": (3, 4),
        "swept_rows": 4096,
        "largest": 100,
        "runs": 1,
    },
)
