"""Scoring: rows in memory, a few at a time, and files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from mdlora.bench.case import BenchCase
from mdlora.bench.deepctr import deepctr_model, load_deepctr
from mdlora.bench.foreign import silenced
from mdlora.bench.network import Network
from mdlora.bench.plain import PlainModel
from mdlora.bench.results import (
    Bar,
    cases_table,
    compare_spreads,
    describe_run,
    make_case,
)
from mdlora.bench.rows import MOVIES, USERS
from mdlora.bench.timing import Epoch, cpu_rates, time_calls, time_rounds
from mdlora.config import MLoRA, RunConfig, TrainingConfig, check_count
from mdlora.model import CTRModel
from mdlora.reports import Table
from mdlora.schema import Categorical, Domain, Label, Schema
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import use_threads
from mdlora.training.run import Run
from mdlora.training.run_folder import RunFolder
from mdlora.types import Batch

__all__ = ["CASE", "run_score_bench", "score_table"]

_BARS = {1: 0.06, 64: 0.35, 1024: 2.5}  # milliseconds
_RATE_BAR = 500_000
_RIVALS = ("our model's own pass", "plain PyTorch, no adapters", "DeepCTR-Torch, no adapters")
_CALLS = 100  # of a round
_BATCH = 16_384
_AT_MOST: Bar = ("at_most", 1)


def run_score_bench(
    *,
    batches: tuple[int, ...] = (1, 64, 1024),
    rows: int = 4_000_000,
    domains: int = 30,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure DeepFM with MLoRA, temperature 32: users, movies, domains, a tower of 256-128-64.

    Rows in memory are encoded and of mixed domains; a call's time is the median of a round. Files
    are Parquet in, three columns of integers, and Parquet out. Others have the same DeepFM
    without adapters, and get the rows encoded, in memory, in batches of 16,384.

    Args:
        batches: rows of a call.
        rows: of the file.
        domains: all equally likely.
        runs: rounds; the medians count.
        threads: CPU threads of everybody.
        progress: told of each measurement.

    Returns:
        {"cases": [...], "machine", "date", "versions", "runs", "rows", "engine", "spread"}.

    Raises:
        ConfigError: a number is below 1.
        MissingExtraError: DeepCTR-Torch is not installed.
    """
    for name, value in (("rows", rows), ("domains", domains), ("runs", runs), ("threads", threads)):
        check_count(name, value, low=1)
    for size in batches:
        check_count("batches", size, low=1)
    load_deepctr()
    progress = progress or SilentProgress()
    model = _model(domains)
    found: dict[str, dict[str, Any]] = {}
    with use_threads(threads):
        for size in batches:
            calls = _calls(model, _ids(size, domains))
            taken = time_calls(calls, runs, _CALLS, progress)
            found |= {f"{size} rows, {name}": spread for name, spread in taken.items()}
        found |= _rates(model, rows, runs, threads, progress)
    return {
        "cases": [{**case, "threads": threads} for case in _cases(batches, found, threads)],
        **describe_run(threads, "torch", "numpy", "pyarrow", "deepctr-torch"),
        "runs": runs,
        "rows": rows,
        "engine": model.fast_scorer().engine,
        "spread": found,
    }


def score_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Scoring, engine {result['engine']}: medians of {result['runs']} runs "
        f"({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _model(domains: int) -> CTRModel:
    schema = Schema(
        (
            Categorical("user_id", values=tuple(range(USERS))),
            Categorical("movie_id", values=tuple(range(MOVIES))),
            Domain("domain", values=tuple(range(domains))),
            Label("label"),
        )
    )
    model = CTRModel(schema, "deepfm", MLoRA(temperature=32)).eval()
    with torch.random.fork_rng(devices=[]):
        for parameter in model.group("experts"):  # a fresh adapter adds nothing
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def _raw(rows: int, domains: int) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    rng = np.random.default_rng(1)
    sizes = {"user_id": USERS, "movie_id": MOVIES, "domain": domains}
    return {name: rng.integers(0, size, rows) for name, size in sizes.items()}


def _ids(rows: int, domains: int) -> torch.Tensor:
    columns = [torch.from_numpy(column) for column in _raw(rows, domains).values()]
    return torch.stack(columns, 1) + 1


def _calls(model: CTRModel, ids: torch.Tensor) -> dict[str, Callable[[], object]]:
    """What scores all rows, by name."""
    batch = Batch(ids, ids[:, -1].contiguous())
    network = Network(schema=model.schema, backbone="deepfm")
    scorer, plain = model.fast_scorer(), PlainModel(network).eval()
    theirs = deepctr_model(network, l2=0.0)
    inputs = {name: ids[:, i].numpy() for i, name in enumerate(model.schema.field_names)}

    def own_pass() -> object:
        with torch.no_grad():
            parts = zip(ids.split(_BATCH), batch.domain.split(_BATCH), strict=True)
            return [model(Batch(*part)) for part in parts]

    def plain_pass() -> object:
        with torch.no_grad():
            return [plain(part, None) for part in ids.split(_BATCH)]

    def deepctr() -> object:
        with silenced():
            return theirs.predict(inputs, batch_size=_BATCH)

    rivals = zip(_RIVALS, (own_pass, plain_pass, deepctr), strict=True)
    return {"mdlora": lambda: scorer(batch), **dict(rivals)}


def _rates(
    model: CTRModel, rows: int, runs: int, threads: int, progress: Progress
) -> dict[str, dict[str, Any]]:
    """Rows per CPU second: of files for us, of encoded rows in memory for others."""
    domains = model.schema.num_domains
    calls = _calls(model, _ids(rows, domains))
    del calls["mdlora"]
    training = TrainingConfig(device="cpu", threads=threads, eval_batch_size=_BATCH)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = Run(RunFolder(folder), RunConfig(method="mlora", training=training), model)
        pq.write_table(pa.table(_raw(rows, domains)), folder / "rows.parquet")

        def files() -> None:
            (folder / "scores.parquet").unlink(missing_ok=True)
            run.predict_file(folder / "rows.parquet", folder / "scores.parquet")

        epochs = {name: Epoch(call, rows, _BATCH) for name, call in calls.items()}
        epochs["mdlora"] = Epoch(files, rows, _BATCH)
        taken = time_rounds(epochs, runs, progress, warm_up=True)
    return {f"file, {name}": cpu_rates(epochs[name], took) for name, took in taken.items()}


def _cases(
    batches: tuple[int, ...], found: Mapping[str, Mapping[str, Any]], threads: int
) -> Iterator[dict[str, Any]]:
    for size in batches:
        ours, name = found[f"{size} rows, mdlora"], f"score {size:,} rows"
        if size in _BARS and threads == 1:
            yield make_case(name, ours["median"], "bar", _BARS[size], "ms, median", bar=_AT_MOST)
        for rival in _RIVALS:
            yield compare_spreads(name, ours, rival, found[f"{size} rows, {rival}"], "ms, median")
    ours, name, unit = found["file, mdlora"], "score a Parquet file", "rows per CPU second"
    bar: Bar = ("at_least", 1)
    yield make_case(name, ours["median"], "bar", _RATE_BAR, unit, bar=bar)
    for rival in _RIVALS:
        yield compare_spreads(name, ours, rival, found[f"file, {rival}"], unit)


CASE = BenchCase(
    about="Milliseconds to score rows in memory, and rows of a file per CPU second, beside "
    "DeepCTR-Torch's predict and a plain PyTorch pass.",
    example="mdlora bench score --json score.json",
    run=run_score_bench,
    table=score_table,
    options={
        "batches": "rows of a call",
        "rows": "rows of the file",
        "domains": "how many domains",
        "runs": "rounds; medians count",
        "threads": "CPU threads of everybody",
    },
    small={"batches": (1, 64), "rows": 2000, "runs": 1},
)
