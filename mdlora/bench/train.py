"""Training speed and memory: ours beside DeepCTR-Torch, and adapters beside no adapters."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mdlora.bench.deepctr import deepctr_epoch, load_deepctr
from mdlora.bench.memory import training_peak
from mdlora.bench.ours import PHASES, our_epoch
from mdlora.bench.rows import sample_rows, write_synthetic
from mdlora.config import TrainingConfig, check_number
from mdlora.data import Dataset, load_dataset
from mdlora.reports.tables import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.batches import PhaseRows
from mdlora.training.environment import describe_environment, use_threads

__all__ = ["bench_table", "run_train_bench"]

_ROWS = 150_000
_WARM_UP_ROWS = 20_480
_PEAK_BAR = 1.2
_BACKBONES = ("deepfm", "wdl")
_RIVALS = {"DeepCTR-Torch": 1e-5, "DeepCTR-Torch without L2": 0.0}

Epoch = Callable[[PhaseRows], float]


def run_train_bench(
    data: Path | None,
    *,
    runs: int = 5,
    threads: int = 1,
    rows: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure training: rows per CPU second, the cost of adapters, and peak memory.

    Each round measures every competitor once, in turn, so that a machine that gets slower hits
    all of them. An epoch counts whole, shuffle included, evaluation left out, on both sides.
    DeepCTR-Torch runs with and without its L2 penalty, and the faster of the two is compared.

    Args:
        data: a prepared data folder (MovieLens-1M by gender for the published figures); None
            makes random rows of that shape.
        runs: rounds; the medians count.
        threads: CPU threads of both sides.
        rows: training rows of a measured epoch, the same for all; default 150,000.
        progress: told of each measurement.

    Returns:
        {"cases": [...], "machine", "date", "versions", "runs", "rows", "data", "spread"}. A case
        has "case", "ours", "competitor", "competitor_value", "unit", "ratio" (ours /
        competitor_value) and "threads"; "spread" has median, min, max and all values of
        everything that was measured.

    Raises:
        MissingExtraError: DeepCTR-Torch is not installed.
        ConfigError: runs, threads or rows is below 1.
    """
    check_number("runs", runs, low=1)
    check_number("threads", threads, low=1)
    check_number("rows", rows, low=1, optional=True)
    load_deepctr()
    progress = progress or SilentProgress()
    with _folder(data, rows) as folder, use_threads(threads):
        dataset = load_dataset(folder)
        chosen = sample_rows(dataset, _ROWS if rows is None else rows)
        values = _measure(_epochs(dataset), chosen, runs, progress)
        progress.note("peak memory")
        peak = training_peak(folder)
        num_steps = -(-len(chosen.label) // TrainingConfig().batch_size)
        spread = {name: _rates(name, seconds, len(chosen.label), num_steps) for name, seconds in values.items()}
    made_with = describe_environment(threads, torch.device("cpu"))
    packages = ("torch", "numpy", "deepctr-torch")
    return {
        "cases": [{**case, "threads": threads} for case in _cases(spread, peak)],
        "machine": made_with["processor"],
        "date": made_with["date"],
        "versions": {
            "mdlora": made_with["mdlora"],
            "python": made_with["python"],
            **{name: version(name) for name in packages},
        },
        "runs": runs,
        "rows": len(chosen.label),
        "data": "synthetic" if data is None else str(data),
        "spread": spread,
    }


def bench_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    rows = [
        (
            case["case"],
            f"{case['ours']:,.4g}" if case["ours"] < 1000 else f"{case['ours']:,.0f}",
            case["competitor"],
            f"{case['competitor_value']:,.4g}"
            if case["competitor_value"] < 1000
            else f"{case['competitor_value']:,.0f}",
            case["unit"],
            f"{case['ratio']:.2f}",
        )
        for case in result["cases"]
    ]
    return Table("", ("case",), ())
