"""The expert phase with a stop for each expert in one pass, beside a run for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from mdlora.bench.case import BenchCase
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.ours import OurTraining
from mdlora.bench.results import cases_table, compare_spreads, describe_run
from mdlora.bench.rows import MOVIES, USERS
from mdlora.bench.timing import Epoch, step_times, time_rounds
from mdlora.config import check_count
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import use_threads

__all__ = ["CASE", "experts_table", "run_experts_bench", "stop"]

_BACKBONE = "wdl"
_EPOCHS = 4
_ONE_PASS, _APART, _TOGETHER = "one pass", "a run for each expert", "one stop for all"
_BARS = {10: 2.0, 100: 10.0}
_TOGETHER_BAR = 1.2


def run_experts_bench(
    *,
    domains: tuple[int, ...] = (10, 100),
    rows: int = 16_384,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure training every domain's expert to a stop of its own.

    Stops are given, 1 to 4 epochs, as many experts with each. A run for each expert takes the same
    batches and passes over the rows of all others, so it makes the same steps, and has the same
    weights in the end. One stop for all is 4 epochs for everybody. Evaluations are left out.

    Args:
        domains: how many, all equally large.
        rows: of an epoch.
        runs: rounds; the medians count.
        threads: CPU threads.
        progress: told of each measurement.

    Returns:
        As `run_train_bench`.

    Raises:
        ConfigError: a number is below 1.
    """
    for num in domains:
        check_count("domains", num, low=1)
    check_count("rows", rows, low=1)
    check_count("runs", runs, low=1)
    check_count("threads", threads, low=1)
    progress = progress or SilentProgress()
    with use_threads(threads):
        found = {num: _measure(num, rows, runs, progress) for num in domains}
    return {
        "cases": [{**case, "threads": threads} for case in _cases(found)],
        **describe_run(threads, "torch", "numpy"),
        "runs": runs,
        "rows": rows,
        "spread": {
            f"{num} domains {name}": spread
            for num, by_name in found.items()
            for name, spread in by_name.items()
        },
    }


def experts_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Experts with stops of their own: medians of {result['runs']} runs "
        f"({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _measure(num: int, rows: int, runs: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Seconds of all training by name."""
    schema = make_schema([USERS, MOVIES], domains=num)
    chosen = make_rows(schema, rows, skewed=False)
    training = OurTraining("mlora finetune", _BACKBONE, schema, chosen)
    stops = torch.arange(num) % _EPOCHS + 1  # the epoch with which each expert stops

    def train(stopping: Tensor) -> None:
        """Train as many epochs as any expert needs."""
        for epoch in range(int(stopping.max())):
            stop(training, stopping <= epoch)
            training.epoch.run()

    def apart() -> None:
        for expert in range(num):
            alone = torch.zeros_like(stops)
            alone[expert] = stops[expert]
            train(alone)

    ways: dict[str, Callable[[], None]] = {
        _ONE_PASS: lambda: train(stops),
        _APART: apart,
        _TOGETHER: lambda: train(torch.full_like(stops, _EPOCHS)),
    }
    epochs = {name: Epoch(way, 1, 1) for name, way in ways.items()}
    progress.note(f"{num} domains")
    training.epoch.run()  # kernels are compiled, memory is there
    seconds = time_rounds(epochs, runs, progress)
    return {name: step_times(epochs[name], took, 1.0) for name, took in seconds.items()}


def stop(training: OurTraining, stopped: Tensor) -> None:
    """Let these experts (K,) bool, and no others, stand still from the next epoch on."""
    stopper = training.runner.stopper
    assert stopper.patience is not None, "the phase's own default"
    stopper.bad = stopped * stopper.patience


def _cases(found: Mapping[int, Mapping[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for num, by_name in found.items():
        bar = _BARS.get(num)
        own = by_name[_ONE_PASS]
        yield compare_spreads(
            f"{_APART}, {num} domains",
            by_name[_APART],
            _ONE_PASS,
            own,
            "CPU s",
            bar=None if bar is None else ("at_least", bar),
        )
        yield compare_spreads(
            f"{_ONE_PASS}, {num} domains",
            own,
            _TOGETHER,
            by_name[_TOGETHER],
            "CPU s",
            bar=("at_most", _TOGETHER_BAR),
        )


CASE = BenchCase(
    about="The expert phase with a stop for each expert in one pass, beside a run for each expert "
    "to the same stop, and beside one stop for all.",
    example="mdlora bench experts --domains 10 --json experts.json",
    run=run_experts_bench,
    table=experts_table,
    options={
        "domains": "domains",
        "rows": "rows of an epoch",
        "runs": "rounds; medians count",
        "threads": "CPU threads",
    },
    small={"domains": (3,), "rows": 256, "runs": 1},
)
