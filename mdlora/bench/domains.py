"""What adapters and gates cost a training step, as domains grow in number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch

from mdlora.bench.case import BenchCase
from mdlora.bench.made import make_rows, make_schema
from mdlora.bench.ours import OurTraining
from mdlora.bench.results import (
    Bar,
    cases_table,
    compare_spreads,
    describe_run,
    make_case,
    spread_of,
)
from mdlora.bench.rows import MOVIES, USERS
from mdlora.bench.sweep import curves_of
from mdlora.bench.timing import step_times, time_rounds
from mdlora.config import MoEMLoRA, TrainingConfig, check_count
from mdlora.reports import Table
from mdlora.training import Progress, SilentProgress
from mdlora.training.environment import use_threads

__all__ = ["CASE", "domains_table", "run_domains_bench"]

_BACKBONE = "wdl"
_TOP_K = 2
_JOINT, _ALONE = "mlora joint", "mlora finetune"
_GATE, _TOP = "moe-mlora gate", f"moe-mlora top-{_TOP_K} gate"
_PASSES = 10
"""Passes of a step over the adapters that have rows: one there, one back, one to write the
gradient, and Adam's seven (gradient; weight and both moments, read and written)."""


class _Size(NamedTuple):
    """What is measured together."""

    domains: int
    batch: int
    steps: tuple[str, ...]
    skewed: bool

    @property
    def label(self) -> str:
        return f"{self.domains:,} domains, batch {self.batch:,}"


def run_domains_bench(
    *,
    few: tuple[int, ...] = (2, 10, 30),
    batches: tuple[int, ...] = (1024, 4096, 8192),
    many: tuple[int, ...] = (1000, 10_000),
    gates: tuple[int, ...] = (10, 100),
    rows: int = 65_536,
    runs: int = 5,
    threads: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure steps of MLoRA and MoE-MLoRA beside a step of the backbone alone.

    Rows are of MovieLens-1M's shape, the backbone is WDL, all settings are the default ones. Few
    domains are equally large; many have shares that fall as one over their rank.

    Args:
        few: numbers of domains, each with each batch.
        batches: rows of a batch.
        many: numbers of domains, with the largest batch.
        gates: numbers of domains whose adapters a gate mixes, with the smallest batch.
        rows: of an epoch, but at least those of one batch.
        runs: rounds; the medians count.
        threads: CPU threads.
        progress: told of each measurement.

    Returns:
        As `run_train_bench`, with "curves".

    Raises:
        ConfigError: a number is below 1.
    """
    for name, values in (("few", few), ("batches", batches), ("many", many), ("gates", gates)):
        for value in values:
            check_count(name, value, low=1)
    check_count("rows", rows, low=1)
    check_count("runs", runs, low=1)
    check_count("threads", threads, low=1)
    progress = progress or SilentProgress()
    sizes = [_Size(d, b, (_JOINT, _ALONE), False) for d in few for b in batches]
    sizes += [_Size(d, max(batches), (_JOINT, _ALONE), True) for d in many]
    sizes += [_Size(d, min(batches), (_GATE, _TOP), False) for d in gates]
    with use_threads(threads):
        found = [(size, _measure(size, max(rows, size.batch), runs, progress)) for size in sizes]
    return {
        "cases": [{**case, "threads": threads} for case in _cases(found)],
        **describe_run(threads, "torch", "numpy"),
        "runs": runs,
        "rows": rows,
        "spread": {
            f"{size.label} {name}": spread
            for size, by_name in found
            for name, spread in by_name.items()
        },
        "curves": curves_of(
            "domains", "domains", f"CPU ms of a step of {max(batches):,} rows", _swept(found)
        ),
    }


def domains_table(result: Mapping[str, Any]) -> Table:
    """The cases of a result, one a row."""
    caption = (
        f"Steps by domains: medians of {result['runs']} runs "
        f"({result['machine']}, {result['date']})"
    )
    return cases_table(caption, result["cases"])


def _measure(size: _Size, rows: int, runs: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """CPU milliseconds of a step by name, and megabytes of adapters that a joint step touches."""
    schema = make_schema([USERS, MOVIES], domains=size.domains)
    chosen = make_rows(schema, rows, skewed=size.skewed)
    settings = TrainingConfig(batch_size=size.batch)
    ours = {"base": OurTraining("base", _BACKBONE, schema, chosen, settings)}
    for step in size.steps:
        adapter = MoEMLoRA(top_k=_TOP_K) if step == _TOP else None
        name = _GATE if step == _TOP else step
        ours[step] = OurTraining(name, _BACKBONE, schema, chosen, settings, adapter)
    for training in ours.values():
        training.touch_state()
    progress.note(size.label)
    epochs = {name: training.epoch for name, training in ours.items()}
    seconds = time_rounds(epochs, runs, progress, warm_up=True)
    found = {name: step_times(epochs[name], took, 1e3) for name, took in seconds.items()}
    if size.skewed:
        of_one = 4e-6 * ours[_JOINT].runner.model.num_parameters("experts") / size.domains
        present = [len(torch.unique(part)) for part in chosen.domain.split(size.batch)]
        found["adapters with rows, MB"] = spread_of([_PASSES * of_one * n for n in present])
        found["all adapters, MB"] = spread_of([_PASSES * of_one * size.domains] * len(present))
    return found


def _cases(
    found: list[tuple[_Size, dict[str, dict[str, Any]]]],
) -> Iterator[dict[str, Any]]:
    for size, by_name in found:
        for step in size.steps:
            yield compare_spreads(
                f"{step}, {size.label}",
                by_name[step],
                "base step",
                by_name["base"],
                "CPU ms",
                bar=_bar(size, step),
            )
        if size.skewed:
            yield make_case(
                f"adapters a joint step moves, {size.label}",
                by_name["adapters with rows, MB"]["median"],
                "those of all domains",
                by_name["all adapters, MB"]["median"],
                "MB",
            )


def _swept(
    found: list[tuple[_Size, dict[str, dict[str, Any]]]],
) -> dict[int, dict[str, dict[str, Any]]]:
    """Steps with the largest batch, by number of domains."""
    largest = max(size.batch for size, _ in found)
    return {
        size.domains: {f"mdlora, {step}": by_name[step] for step in ("base", _JOINT, _ALONE)}
        for size, by_name in found
        if size.batch == largest and _JOINT in size.steps
    }


def _bar(size: _Size, step: str) -> Bar | None:
    if step == _ALONE:
        return None if size.skewed else ("at_most", 0.75)
    if step == _JOINT and not size.skewed:
        return "at_most", 1.2
    limits = {(_JOINT, 1000): 1.8, (_JOINT, 10_000): 3, (_GATE, 10): 1.5, (_GATE, 100): 6}
    limits[_TOP, 100] = 1.6
    limit = limits.get((step, size.domains))
    return None if limit is None else ("at_most", limit)


CASE = BenchCase(
    about="Training steps of MLoRA and MoE-MLoRA with 2 to 10,000 domains, beside a step of the "
    "backbone alone.",
    example="mdlora bench domains --few 2,30 --batches 1024 --json domains.json",
    run=run_domains_bench,
    table=domains_table,
    options={
        "few": "domains of equal size, with each batch",
        "batches": "rows of a batch",
        "many": "domains of falling size, with the largest batch",
        "gates": "domains whose adapters a gate mixes, with the smallest batch",
        "rows": "rows of an epoch; one batch at least",
        "runs": "rounds; medians count",
        "threads": "CPU threads",
    },
    small={
        "few": (2,), "batches": (64,), "many": (40,), "gates": (3,), "rows": 128, "runs": 1,
    },
)  # fmt: skip
