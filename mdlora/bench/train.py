"""Training speed and memory: ours beside others' loops, and adapters beside no adapters."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mdlora.bench.case import BenchCase
from mdlora.bench.memory import training_peak
from mdlora.bench.network import Network
from mdlora.bench.ours import PHASES, OurTraining
from mdlora.bench.peers import PACKAGES, PEERS, load_peers
from mdlora.bench.results import Bar, cases_table, compare_spreads, describe_run, make_case
from mdlora.bench.rows import sample_rows, write_synthetic
from mdlora.bench.timing import Epoch, Seconds, cpu_rates, step_times, time_rounds, wall_rates
from mdlora.config import check_count
from mdlora.data import Dataset, load_dataset
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.batches import PhaseRows
from mdlora.training.environment import use_threads

__all__ = ["CASE", "bench_table", "run_train_bench"]

_ROWS = 150_000
_WARM_UP_ROWS = 20_480
_PEAK_BAR = 1.2
_BACKBONES = ("deepfm", "wdl")
_BARS: dict[str, Bar] = {
    "DeepCTR-Torch": ("at_least", 4.0),
    "torch-rechub": ("at_least", 4.0),
    "plain PyTorch loop": ("at_least", 2.5),
}
"""Of rows per CPU second with one thread."""

_RATE, _WALL_RATE, _STEP = "rows per CPU second", "rows per second", "CPU microseconds"

Build = Callable[[PhaseRows], Epoch]


def run_train_bench(
    data: str | Path | None = None,
    *,
    runs: int = 5,
    threads: int = 1,
    rows: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure training: rows per CPU second, the cost of adapters, and, of one thread, peak memory.

    DeepFM against DeepFM and WDL against WDL, with the protocol's settings. Each round measures
    every competitor once, in turn, so that a machine that gets slower hits all of them. An epoch
    counts whole, shuffle included, evaluation left out. Others run with their penalty on weights
    and with none, and the faster of the two is compared. With several threads, rows per second
    by the clock on the wall are compared too.

    Args:
        data: a prepared data folder (MovieLens-1M by gender for the published figures); None
            makes random rows of that shape.
        runs: rounds; the medians count.
        threads: CPU threads of everybody.
        rows: training rows of a measured epoch, the same for all; default 150,000.
        progress: told of each measurement.

    Returns:
        {"cases": [...], "machine", "date", "versions", "runs", "rows", "data", "spread"}. A case
        has "case", "ours", "competitor", "competitor_value", "unit", "ratio" (ours /
        competitor_value) and "threads"; "ratio_range" where rounds are paired, and "bar" and
        "met" where it has a bar. "spread" has median, min, max and all values of everything that
        was measured.

    Raises:
        MissingExtraError: DeepCTR-Torch or torch-rechub is not installed.
        ConfigError: runs, threads or rows is below 1.
    """
    check_count("runs", runs, low=1)
    check_count("threads", threads, low=1)
    check_count("rows", rows, low=1, optional=True)
    load_peers()
    progress = progress or SilentProgress()
    with _folder(data, rows) as folder, use_threads(threads):
        dataset = load_dataset(folder)
        chosen = sample_rows(dataset, _ROWS if rows is None else rows)
        builds = _builds(dataset)
        few = PhaseRows.with_expert(chosen.slice(0, _WARM_UP_ROWS))
        for build in builds.values():
            build(few).run()
        epochs = {name: build(chosen) for name, build in builds.items()}
        seconds = time_rounds(epochs, runs, progress)
        cases = []
        if threads == 1:
            progress.note("peak memory")
            peak, bar = training_peak(folder), _PEAK_BAR
            cases = [make_case("peak memory mlora", peak, "bar", bar, "GB", bar=("at_most", 1.0))]
    spread = {name: _summary(name, epochs[name], took) for name, took in seconds.items()}
    cases = [*_train_cases(spread, _RATE, barred=threads == 1), *_step_cases(spread), *cases]
    if threads > 1:
        wall = {name: wall_rates(epochs[name], took) for name, took in seconds.items()}
        cases += _train_cases(wall, _WALL_RATE, barred=False)
        spread |= {f"{name}: {_WALL_RATE}": found for name, found in wall.items()}
    return {
        "cases": [{**case, "threads": threads} for case in cases],
        **describe_run(threads, "torch", "numpy", *PACKAGES),
        "runs": runs,
        "rows": len(chosen),
        "data": "synthetic" if data is None else str(data),
        "spread": spread,
    }


def bench_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    threads = result["cases"][0]["threads"]
    caption = (
        f"Training speed and memory: medians of {result['runs']} runs over {result['rows']:,} "
        f"rows, threads: {threads} ({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


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


def _builds(dataset: Dataset) -> dict[str, Build]:
    """What a round measures, by name: makes an epoch over the given rows."""

    def ours(step: str, backbone: str) -> Build:
        return lambda rows: OurTraining(step, backbone, dataset.schema, rows).epoch

    def theirs(build: Callable[[Network, PhaseRows], Epoch], network: Network) -> Build:
        return lambda rows: build(network, rows)

    builds: dict[str, Build] = {}
    for backbone in _BACKBONES:
        network = Network(schema=dataset.schema, backbone=backbone)
        builds[f"{backbone} mdlora"] = ours("base", backbone)
        for settings in PEERS.values():
            for name, build in settings.items():
                builds[f"{backbone} {name}"] = theirs(build, network)
    for step in PHASES:
        builds[f"step {step}"] = ours(step, "wdl")
    return builds


def _summary(name: str, epoch: Epoch, seconds: list[Seconds]) -> dict[str, Any]:
    """Rows per CPU second, or microseconds of a step where the name says so."""
    return (
        step_times(epoch, seconds, 1e6) if name.startswith("step ") else cpu_rates(epoch, seconds)
    )


def _train_cases(spread: Mapping[str, Any], unit: str, *, barred: bool) -> Iterator[dict[str, Any]]:
    for backbone in _BACKBONES:
        for peer, settings in PEERS.items():
            rival = max(settings, key=lambda name: spread[f"{backbone} {name}"]["median"])
            yield compare_spreads(
                f"train {backbone}",
                spread[f"{backbone} mdlora"],
                rival,
                spread[f"{backbone} {rival}"],
                unit,
                bar=_BARS[peer] if barred else None,
            )


def _step_cases(spread: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    base = spread["step base"]
    for step in PHASES:
        if step != "base":
            yield compare_spreads(
                f"step {step}", spread[f"step {step}"], "our base step", base, _STEP
            )


CASE = BenchCase(
    about="Interleaved runs of the same model on the same rows, ours, DeepCTR-Torch's, "
    "torch-rechub's and a plain PyTorch loop's, one thread each by default.",
    example="mdlora bench train --data data/ml-gender --json benchmarks/train.json",
    run=run_train_bench,
    table=bench_table,
    options={
        "data": "a data folder (default: made-up rows of ML-1M's shape)",
        "runs": "rounds; medians count",
        "threads": "CPU threads of everybody",
        "rows": "training rows of a run (default: 150,000)",
    },
    lines=({}, {"threads": 2}),
    small={"runs": 1, "rows": 3000},
)
