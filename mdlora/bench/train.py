"""Training speed and memory: ours beside DeepCTR-Torch, and adapters beside no adapters."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mdlora.bench.deepctr import deepctr_epoch, load_deepctr
from mdlora.bench.memory import training_peak
from mdlora.bench.ours import PHASES, our_epoch
from mdlora.bench.results import describe_run, make_case, spread_of
from mdlora.bench.rows import sample_rows, write_synthetic
from mdlora.config import TrainingConfig, check_count
from mdlora.data import Dataset, load_dataset
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.batches import PhaseRows
from mdlora.training.environment import use_threads

__all__ = ["bench_table", "run_train_bench"]

_ROWS = 150_000
_WARM_UP_ROWS = 20_480
_PEAK_BAR = 1.2
_BACKBONES = ("deepfm", "wdl")
_RIVALS = {"DeepCTR-Torch": 1e-5, "DeepCTR-Torch without L2": 0.0}

Epoch = Callable[[PhaseRows], float]


def run_train_bench(
    data: str | Path | None,
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
    check_count("runs", runs, low=1)
    check_count("threads", threads, low=1)
    check_count("rows", rows, low=1, optional=True)
    load_deepctr()
    progress = progress or SilentProgress()
    with _folder(data, rows) as folder, use_threads(threads):
        dataset = load_dataset(folder)
        chosen = sample_rows(dataset, _ROWS if rows is None else rows)
        values = _measure(_epochs(dataset), chosen, runs, progress)
        progress.note("peak memory")
        peak = training_peak(folder)
        num_rows = len(chosen.label)
        spread = {name: _summary(name, seconds, num_rows) for name, seconds in values.items()}
    return {
        "cases": [{**case, "threads": threads} for case in _cases(spread, peak)],
        **describe_run(threads, "torch", "numpy", "deepctr-torch"),
        "runs": runs,
        "rows": num_rows,
        "data": "synthetic" if data is None else str(data),
        "spread": spread,
    }


def bench_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    rows = tuple(
        (
            case["case"],
            _number(case["ours"]),
            case["competitor"],
            _number(case["competitor_value"]),
            case["unit"],
            f"{case['ratio']:.2f}",
        )
        for case in result["cases"]
    )
    caption = (
        f"Training speed and memory: medians of {result['runs']} runs over {result['rows']:,} rows "
        f"({result['machine']}, {result['date']})"
    )
    return Table(caption, ("case", "ours", "against", "its value", "unit", "ratio"), rows)


@contextmanager
def _folder(data: str | Path | None, rows: int | None) -> Iterator[Path]:
    """The data folder, made for the time of the benchmark where none is given."""
    if data is not None:
        yield Path(data)
        return
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "data"
        write_synthetic(out, rows=None if rows is None else 2 * rows)
        yield out


def _epochs(dataset: Dataset) -> dict[str, Epoch]:
    """What a round measures, by name: seconds of an epoch over the given rows."""
    epochs: dict[str, Epoch] = {}
    for backbone in _BACKBONES:
        epochs[f"{backbone} mdlora"] = partial(our_epoch, "base", backbone, dataset)
        for rival, l2 in _RIVALS.items():
            epochs[f"{backbone} {rival}"] = partial(deepctr_epoch, backbone, dataset.schema, l2=l2)
    for step in PHASES:
        epochs[f"step {step}"] = partial(our_epoch, step, "wdl", dataset)
    return epochs


def _measure(
    epochs: Mapping[str, Epoch], rows: PhaseRows, runs: int, progress: Progress
) -> dict[str, list[float]]:
    few = PhaseRows.with_expert(rows.slice(0, _WARM_UP_ROWS))
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for epoch in epochs.values():
        epoch(few)
    for run in range(runs):
        for name, epoch in epochs.items():
            seconds[name].append(epoch(rows))
            progress.note(f"run {run + 1} of {runs}: {name}, {seconds[name][-1]:.2f} CPU s")
    return seconds


def _summary(name: str, seconds: list[float], num_rows: int) -> dict[str, Any]:
    """Rows per CPU second, or microseconds of a step where the name says so."""
    if name.startswith("step "):
        num_steps = math.ceil(num_rows / TrainingConfig().batch_size)
        values = [1e6 * s / num_steps for s in seconds]
    else:
        values = [num_rows / s for s in seconds]
    return spread_of(values)


def _cases(spread: Mapping[str, Any], peak: float) -> Iterator[dict[str, Any]]:
    for backbone in _BACKBONES:
        rival = max(_RIVALS, key=lambda name: spread[f"{backbone} {name}"]["median"])
        yield make_case(
            f"train {backbone}",
            spread[f"{backbone} mdlora"]["median"],
            rival,
            spread[f"{backbone} {rival}"]["median"],
            "rows per CPU second",
        )
    base = spread["step base"]["median"]
    for step in PHASES:
        if step != "base":
            own = spread[f"step {step}"]["median"]
            yield make_case(f"step {step}", own, "our base step", base, "CPU microseconds")
    yield make_case("peak memory mlora", peak, "bar", _PEAK_BAR, "GB")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
